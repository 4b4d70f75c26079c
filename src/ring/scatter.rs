//! Where the next bytes of a connection go: a list of places, filled in order by one RECVMSG.

use super::arena::Lease;
use std::ptr;

/// Small places together: heads of messages between blocks, and whatever else a peer says.
const SCRATCH_LEN: usize = 16 * 1024;
/// Most places in one receive.
const MAX_PLACES: usize = 64;

/// One place: bytes of the scratch buffer, or a lease.
enum Place {
    Scratch { start: usize, len: usize },
    Lease(Lease),
}

impl Place {
    fn len(&self) -> usize {
        match self {
            Self::Scratch { len, .. } => *len,
            Self::Lease(lease) => lease.len(),
        }
    }
}

/// Bytes that one receive brought, in the order of the stream.
pub enum Segment<'a> {
    /// They lie in the scratch buffer.
    Scratch(&'a [u8]),
    /// That many bytes lie in the places leased, in the order in which leases were pushed.
    Leased(usize),
}

/// Places for one receive. Kept and used again: it holds 16 KiB.
pub struct Scatter {
    scratch: Box<[u8]>,
    used: usize,
    places: Vec<Place>,
    iovecs: Vec<libc::iovec>,
    header: Box<libc::msghdr>,
}

impl Default for Scatter {
    fn default() -> Self {
        // SAFETY: all zeros is a valid `msghdr` (null pointers and lengths of 0).
        let header = Box::new(unsafe { std::mem::zeroed::<libc::msghdr>() });
        Self {
            scratch: vec![0; SCRATCH_LEN].into(),
            used: 0,
            places: Vec::with_capacity(MAX_PLACES),
            iovecs: Vec::with_capacity(MAX_PLACES),
            header,
        }
    }
}

impl Scatter {
    /// Forgets all places; leases end.
    pub fn clear(&mut self) {
        self.places.clear();
        self.used = 0;
    }

    /// Room for at least one more lease with a head before it and one last place behind.
    pub fn has_room(&self) -> bool {
        self.places.len() + 3 <= MAX_PLACES
    }

    /// Adds a place of `len` scratch bytes, less when the scratch buffer has no more.
    pub fn push_scratch(&mut self, len: usize) {
        let len = len.min(SCRATCH_LEN - self.used);
        self.places.push(Place::Scratch { start: self.used, len });
        self.used += len;
    }

    /// Adds all scratch bytes that are left.
    pub fn push_rest(&mut self) {
        self.push_scratch(SCRATCH_LEN);
    }

    /// Adds a place in a slab.
    pub fn push_lease(&mut self, lease: Lease) {
        self.places.push(Place::Lease(lease));
    }

    /// Number of bytes there is place for.
    pub fn capacity(&self) -> usize {
        self.places.iter().map(Place::len).sum()
    }

    /// The first `received` bytes, in the order of the stream.
    pub fn segments(&self, received: usize) -> impl Iterator<Item = Segment<'_>> {
        let mut left = received;
        self.places.iter().map_while(move |place| {
            let len = place.len().min(left);
            left -= len;
            (len > 0).then(|| match place {
                Place::Scratch { start, .. } => Segment::Scratch(&self.scratch[*start..start + len]),
                Place::Lease(_) => Segment::Leased(len),
            })
        })
    }

    /// Takes the leases, in the order in which they were pushed: the receive is over.
    pub fn take_leases(&mut self) -> impl Iterator<Item = Lease> + '_ {
        self.places.drain(..).filter_map(|place| match place {
            Place::Lease(lease) => Some(lease),
            Place::Scratch { .. } => None,
        })
    }

    /// The message header for the kernel. It points into `self`'s boxes and slabs, none of which move with `self`.
    pub(super) fn header(&mut self) -> *mut libc::msghdr {
        let scratch = self.scratch.as_mut_ptr();
        self.iovecs.clear();
        self.iovecs.extend(self.places.iter().map(|place| {
            let base = match place {
                // SAFETY: `start` lies inside the scratch buffer.
                Place::Scratch { start, .. } => unsafe { scratch.add(*start) },
                Place::Lease(lease) => lease.address(),
            };
            libc::iovec { iov_base: base.cast(), iov_len: place.len() }
        }));
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len();
        self.header.msg_control = ptr::null_mut();
        self.header.msg_controllen = 0;
        &mut *self.header
    }
}
