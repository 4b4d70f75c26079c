//! Where the next bytes of a connection go: a list of places, filled in order by one RECVMSG.

use super::arena::Lease;
use std::ops::Range;
use std::ptr;

/// Small places together: heads of messages between blocks, and whatever else a peer says.
const SCRATCH_LEN: usize = 16 * 1024;
/// Most leases in one receive, with a head before each.
pub const MAX_LEASES: usize = 31;
/// Room for them, and for one last place behind.
const MAX_PLACES: usize = 2 * MAX_LEASES + 1;

/// One place: bytes of the scratch buffer, or a lease.
enum Place {
    Scratch(Range<usize>),
    Lease(Lease),
}

/// Places for one receive. Kept and used again: it holds 16 KiB.
pub struct Scatter {
    scratch: Box<[u8]>,
    used: usize,
    capacity: usize,
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
            capacity: 0,
            places: Vec::with_capacity(MAX_PLACES),
            iovecs: Vec::with_capacity(MAX_PLACES),
            header,
        }
    }
}

impl Scatter {
    /// Forgets all places; leases end. The scratch bytes stay until the next receive.
    pub fn clear(&mut self) {
        self.places.clear();
        (self.used, self.capacity) = (0, 0);
    }

    /// Adds a place of `len` scratch bytes, less when the scratch buffer has no more. Gives their range.
    pub fn push_scratch(&mut self, len: usize) -> Range<usize> {
        let len = len.min(SCRATCH_LEN - self.used);
        let range = self.used..self.used + len;
        self.used += len;
        self.capacity += len;
        self.places.push(Place::Scratch(range.clone()));
        range
    }

    /// Adds all scratch bytes that are left. Gives their range.
    pub fn push_rest(&mut self) -> Range<usize> {
        self.push_scratch(SCRATCH_LEN)
    }

    /// Adds a place in a slab.
    pub fn push_lease(&mut self, lease: Lease) {
        self.capacity += lease.len();
        self.places.push(Place::Lease(lease));
    }

    /// Number of bytes there is place for.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of the scratch buffer.
    pub fn scratch(&self, range: Range<usize>) -> &[u8] {
        &self.scratch[range]
    }

    /// The message header for the kernel. It points into `self`'s boxes and slabs, none of which move with `self`.
    pub(super) fn header(&mut self) -> *mut libc::msghdr {
        let scratch = self.scratch.as_mut_ptr();
        self.iovecs.clear();
        self.iovecs.extend(self.places.iter().map(|place| {
            let (base, len) = match place {
                // SAFETY: the range lies inside the scratch buffer.
                Place::Scratch(range) => (unsafe { scratch.add(range.start) }, range.len()),
                Place::Lease(lease) => (lease.address(), lease.len()),
            };
            libc::iovec { iov_base: base.cast(), iov_len: len }
        }));
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = self.iovecs.len();
        self.header.msg_control = ptr::null_mut();
        self.header.msg_controllen = 0;
        &mut *self.header
    }
}
