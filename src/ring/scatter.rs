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

/// One place: bytes of the scratch buffer, or of the one that was lent, or a lease.
enum Place {
    Scratch(Range<usize>),
    Buffer(Range<usize>),
    Lease(Lease),
}

/// Places for one receive. Kept and used again: it holds 16 KiB.
pub struct Scatter {
    scratch: Vec<u8>,
    /// See [`Scatter::push_buffer`].
    buffer: Vec<u8>,
    used: usize,
    capacity: usize,
    places: Vec<Place>,
    iovecs: Vec<libc::iovec>,
    /// One. In a vector, like all that the kernel is told of: a box must be the only way to what it holds, so pointers
    /// into it would not outlive its next move.
    header: Vec<libc::msghdr>,
}

impl Default for Scatter {
    fn default() -> Self {
        // SAFETY: all zeros is a valid `msghdr` (null pointers and lengths of 0).
        let header = vec![unsafe { std::mem::zeroed::<libc::msghdr>() }];
        Self {
            scratch: vec![0; SCRATCH_LEN],
            buffer: Vec::new(),
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
    #[cfg(test)]
    pub fn push_rest(&mut self) -> Range<usize> {
        self.push_scratch(SCRATCH_LEN)
    }

    /// Adds a range of a buffer of the caller's, who gets it back by [`Scatter::take_buffer`]. One a receive.
    pub fn push_buffer(&mut self, buffer: Vec<u8>, range: Range<usize>) {
        assert!(
            range.end <= buffer.len() && self.buffer.is_empty(),
            "there is one buffer, and the range lies in it"
        );
        self.buffer = buffer;
        self.capacity += range.len();
        self.places.push(Place::Buffer(range));
    }

    /// Gives the caller's buffer back. To be called after the receive.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
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

    /// Has `change` go over the first `count` bytes, in the order in which they were received: so they can be decrypted where
    /// they lie. To be called after the receive, before the places are forgotten.
    pub fn change(&mut self, mut count: usize, mut change: impl FnMut(&mut [u8])) {
        for place in &mut self.places {
            let bytes = match place {
                Place::Scratch(range) => &mut self.scratch[range.clone()],
                Place::Buffer(range) => &mut self.buffer[range.clone()],
                Place::Lease(lease) => lease.bytes(),
            };
            let len = bytes.len().min(count);
            change(&mut bytes[..len]);
            count -= len;
        }
    }

    /// Bytes of the scratch buffer.
    pub fn scratch(&self, range: Range<usize>) -> &[u8] {
        &self.scratch[range]
    }

    /// The message header for the kernel. It points into `self`'s heap and slabs, none of which move with `self`.
    pub(super) fn header(&mut self) -> *mut libc::msghdr {
        let (scratch, buffer) = (self.scratch.as_mut_ptr(), self.buffer.as_mut_ptr());
        self.iovecs.clear();
        self.iovecs.extend(self.places.iter().map(|place| {
            let (base, len) = match place {
                // SAFETY: the range lies inside the scratch buffer.
                Place::Scratch(range) => (unsafe { scratch.add(range.start) }, range.len()),
                // SAFETY: the range lies inside the buffer: that was asserted, and nobody has the buffer but us.
                Place::Buffer(range) => (unsafe { buffer.add(range.start) }, range.len()),
                Place::Lease(lease) => (lease.address(), lease.len()),
            };
            libc::iovec { iov_base: base.cast(), iov_len: len }
        }));
        self.header[0].msg_iov = self.iovecs.as_mut_ptr();
        self.header[0].msg_iovlen = self.iovecs.len();
        self.header[0].msg_control = ptr::null_mut();
        self.header[0].msg_controllen = 0;
        self.header.as_mut_ptr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Arena, SLAB_LEN};

    #[test]
    fn bytes_go_to_their_places_in_order_wherever_the_scatter_moves() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let slab = arena.take().unwrap();
        let mut scatter = Scatter::default();
        let head = scatter.push_scratch(3);
        scatter.push_lease(slab.lease(20_000..20_004).unwrap());
        scatter.push_buffer(b"......".to_vec(), 1..4);
        let rest = scatter.push_rest();
        assert_eq!((head.clone(), rest.clone()), (0..3, 3..SCRATCH_LEN));
        assert_eq!(scatter.capacity(), SCRATCH_LEN + 7);
        let header = scatter.header();
        let moved = Box::new((1, scatter));
        let mut bytes = b"abcdefgabchij".iter();
        // As the kernel fills it.
        // SAFETY: the header and what it names belong to `moved`, which nobody touches meanwhile.
        unsafe {
            for at in 0..(*header).msg_iovlen {
                let place = *(*header).msg_iov.add(at);
                for (at, byte) in (0..place.iov_len).zip(&mut bytes) {
                    place.iov_base.cast::<u8>().add(at).write(*byte);
                }
            }
        }
        let mut scatter = moved.1;
        scatter.change(11, |bytes| bytes[..1].make_ascii_uppercase());
        scatter.clear();
        assert_eq!((scatter.take_buffer(), scatter.take_buffer()), (b".Abc..".to_vec(), vec![]));
        assert_eq!(scatter.scratch(head), b"Abc");
        assert_eq!(slab.read(20_000..20_004), b"Defg");
        assert_eq!(scatter.scratch(3..6), b"Hij");
        assert!(!slab.is_leased(&(0..SLAB_LEN)));
    }

    #[test]
    fn what_was_received_can_be_changed_where_it_lies() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let mut slab = arena.take().unwrap();
        slab.write(100, b"payload");
        let mut scatter = Scatter::default();
        let head = scatter.push_scratch(4);
        scatter.push_lease(slab.lease(100..107).unwrap());
        let rest = scatter.push_rest();
        scatter.scratch[..9].copy_from_slice(b"head tail");
        let mut seen = Vec::new();
        scatter.change(4 + 7 + 2, |bytes| {
            seen.extend_from_slice(bytes);
            bytes.make_ascii_uppercase();
        });
        assert_eq!(seen, b"headpayload t");
        scatter.change(5, |bytes| bytes.make_ascii_lowercase());
        scatter.clear();
        assert_eq!(scatter.scratch(head), b"head");
        assert_eq!(slab.read(100..107), b"pAYLOAD");
        assert_eq!(scatter.scratch(rest.start..rest.start + 5), b" Tail");
    }

    #[test]
    fn scratch_bytes_have_an_end() {
        let mut scatter = Scatter::default();
        scatter.push_scratch(SCRATCH_LEN - 5);
        assert_eq!(scatter.push_scratch(13), SCRATCH_LEN - 5..SCRATCH_LEN);
        assert_eq!(scatter.push_rest(), SCRATCH_LEN..SCRATCH_LEN);
        assert_eq!(scatter.capacity(), SCRATCH_LEN);
        scatter.clear();
        assert_eq!(scatter.push_scratch(13), 0..13);
    }
}
