//! What goes out on a connection next: small bytes and payload, from slabs or mapped files, sent in order by one SENDMSG; and
//! payload of files that are not mapped (see [`super::sendfile`]).

use super::arena::{SLAB_LEN, Slab};
use super::counters;
use super::sendfile::FileRange;
use super::view::{Cached, Window};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

/// One stretch of the outgoing stream.
enum Part {
    Small(Range<usize>),
    Payload { slab: Slab, range: Range<usize> },
    Mapped(Window),
    File(FileRange),
}

/// What one system call sends, where not all can be sent by one.
pub(super) enum Step<'a> {
    Memory(Message<'a>),
    File(&'a FileRange),
}

/// A stretch of a gather for one SENDMSG.
pub(super) struct Message<'a> {
    header: &'a libc::msghdr,
    iovecs: &'a [libc::iovec],
}

impl Message<'_> {
    /// Number of bytes.
    pub(super) fn len(&self) -> usize {
        self.iovecs.iter().map(|iovec| iovec.iov_len).sum()
    }

    /// Sends as much as the socket takes without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when it has no room; else what the kernel says.
    pub(super) fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        // SAFETY: the header names memory that the gather owns, which is borrowed as long as this lives.
        unsafe { send_message(socket, self.header) }
    }
}

/// SENDMSG, beside the ring and without waiting.
///
/// # Errors
/// What the kernel says.
///
/// # Safety
/// `header` names memory that may be read.
pub(super) unsafe fn send_message(socket: impl AsFd, header: &libc::msghdr) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the descriptor is open as long as it is borrowed; of the header, see above.
    let count = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), header, flags) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Bytes for one send, in order. Kept and used again.
pub struct Gather {
    small: Vec<u8>,
    parts: Vec<Part>,
    len: usize,
    payload_len: usize,
    iovecs: Vec<libc::iovec>,
    /// One. In a vector, like all that the kernel is told of: a box must be the only way to what it holds, so pointers
    /// into it would not outlive its next move.
    header: Vec<libc::msghdr>,
}

impl Default for Gather {
    fn default() -> Self {
        // SAFETY: all zeros is a valid `msghdr` (null pointers and lengths of 0).
        let header = vec![unsafe { std::mem::zeroed::<libc::msghdr>() }];
        Self { small: Vec::new(), parts: Vec::new(), len: 0, payload_len: 0, iovecs: Vec::new(), header }
    }
}

impl Gather {
    /// Forgets all; shares of slabs end.
    pub fn clear(&mut self) {
        self.small.clear();
        self.parts.clear();
        (self.len, self.payload_len) = (0, 0);
    }

    /// Appends small bytes.
    pub fn push_small(&mut self, bytes: &[u8]) {
        let begin = self.small.len();
        self.small.extend_from_slice(bytes);
        self.add_small(begin);
    }

    /// Appends payload.
    pub fn push_payload(&mut self, slab: Slab, range: Range<usize>) {
        self.len += range.len();
        self.payload_len += range.len();
        self.parts.push(Part::Payload { slab, range });
    }

    /// Appends payload that the page cache holds.
    pub fn push_cached(&mut self, cached: Cached) {
        self.len += cached.len();
        self.payload_len += cached.len();
        self.parts.push(match cached {
            Cached::Mapped(window) => Part::Mapped(window),
            Cached::File(range) => Part::File(range),
        });
    }

    /// Appends a copy of all that `other` holds, with `change` gone over it: payload, too, becomes small bytes, for the
    /// slabs are shared and never written. Counted as payload copied.
    ///
    /// # Panics
    /// When there is payload of a file: its bytes are the kernel's only.
    pub fn push_changed(&mut self, other: &Self, change: impl FnOnce(&mut [u8])) {
        let begin = self.small.len();
        for part in &other.parts {
            self.small.extend_from_slice(match part {
                Part::Small(range) => &other.small[range.clone()],
                Part::Payload { slab, range } => slab.bytes(range.clone()),
                Part::Mapped(_) | Part::File(_) => panic!("who changes bytes loads them into slabs"),
            });
        }
        change(&mut self.small[begin..]);
        self.add_small(begin);
        counters::count_copied(other.payload_len as u64);
    }

    /// The small bytes from `begin` on are new.
    fn add_small(&mut self, begin: usize) {
        let range = begin..self.small.len();
        self.len += range.len();
        match self.parts.last_mut() {
            _ if range.is_empty() => {}
            Some(Part::Small(last)) => last.end = range.end,
            _ => self.parts.push(Part::Small(range)),
        }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Number of bytes that are payload.
    pub(super) fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Number of slabs with payload; one that comes again after another is counted again. Payload from mapped files counts as
    /// the slabs that it would fill, that of other files as nothing.
    pub(super) fn slabs(&self) -> usize {
        let mut last = None;
        let (mut slabs, mut mapped) = (0, 0);
        for part in &self.parts {
            match part {
                Part::Payload { slab, .. } => {
                    slabs += usize::from(last.replace(slab.address(0)) != Some(slab.address(0)));
                }
                Part::Mapped(window) => mapped += window.len(),
                Part::Small(_) | Part::File(_) => {}
            }
        }
        slabs + mapped.div_ceil(SLAB_LEN)
    }

    /// Lets go of mapped files, after a send. The kernel holds the pages that it still reads, mapped or not: it took hold of each
    /// when it put it into a packet, before it said what has become of the send, and looks at no address after that.
    pub(super) fn leave_views(&mut self) {
        self.parts.retain(|part| !matches!(part, Part::Mapped(_)));
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether there is room for a head and its block in one system call, as far as it can be one.
    pub fn has_room(&self) -> bool {
        self.parts.len() + 3 <= libc::UIO_MAXIOV as usize
    }

    /// Whether one SENDMSG can send all of it.
    pub(super) fn is_memory(&self) -> bool {
        !self.parts.iter().any(|part| matches!(part, Part::File(_)))
    }

    /// The step that begins with the part `begin`, and where the next one begins; `None` at the end.
    pub(super) fn step(&mut self, begin: usize) -> Option<(Step<'_>, usize)> {
        let is_file = |part: &Part| matches!(part, Part::File(_));
        let count = match self.parts.get(begin..)? {
            [] => return None,
            [Part::File(_), ..] => 1,
            parts => parts.iter().take_while(|part| !is_file(part)).count(),
        };
        let end = begin + count;
        if !is_file(&self.parts[begin]) {
            self.fill_header(begin..end);
        }
        let step = match &self.parts[begin] {
            Part::File(range) => Step::File(range),
            _ => Step::Memory(Message { header: &self.header[0], iovecs: &self.iovecs }),
        };
        Some((step, end))
    }

    /// The message header for the kernel. It points into `self`'s heap, slabs and views, none of which move with `self`.
    ///
    /// # Panics
    /// When one SENDMSG cannot send all of it.
    pub(super) fn header(&mut self) -> *mut libc::msghdr {
        self.fill_header(0..self.parts.len());
        self.header.as_mut_ptr()
    }

    /// Makes a header for these parts.
    fn fill_header(&mut self, parts: Range<usize>) {
        self.iovecs.clear();
        self.iovecs.extend(self.parts[parts].iter().map(|part| {
            let (base, len) = match part {
                Part::Small(range) => (self.small[range.clone()].as_ptr(), range.len()),
                Part::Payload { slab, range } => (slab.address(range.start), range.len()),
                Part::Mapped(window) => (window.address(), window.len()),
                Part::File(_) => panic!("bytes that are nowhere in memory"),
            };
            libc::iovec { iov_base: base.cast_mut().cast(), iov_len: len }
        }));
        self.header[0].msg_iov = self.iovecs.as_mut_ptr();
        self.header[0].msg_iovlen = self.iovecs.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Arena, SLAB_LEN};

    #[test]
    fn small_bytes_join_and_slabs_are_given_back() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let slab = arena.take().unwrap().seal().ok().unwrap();
        let mut gather = Gather::default();
        gather.push_small(b"ab");
        gather.push_small(b"cd");
        gather.push_payload(slab, 0..100);
        gather.push_small(b"e");
        assert_eq!((gather.len(), gather.parts.len(), arena.free()), (105, 3, 1));
        assert_eq!((gather.payload_len(), gather.slabs()), (100, 1));
        gather.clear();
        assert!(gather.is_empty());
        assert_eq!((gather.payload_len(), gather.slabs()), (0, 0));
        assert_eq!(arena.free(), 2);
    }

    #[test]
    fn a_changed_copy_leaves_the_slabs_alone() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let mut filling = arena.take().unwrap();
        filling.write(1000, b"payload");
        let slab = filling.seal().ok().unwrap();
        let (mut gather, mut copy) = (Gather::default(), Gather::default());
        gather.push_small(b"head");
        gather.push_payload(slab.clone(), 1000..1007);
        gather.push_small(b"tail");
        copy.push_small(b"as is, ");
        let before = counters::counters().copied;
        copy.push_changed(&gather, |bytes| bytes.make_ascii_uppercase());
        assert_eq!(counters::counters().copied, before + 7);
        assert_eq!(copy.small, b"as is, HEADPAYLOADTAIL");
        assert_eq!((copy.len(), copy.payload_len(), copy.parts.len()), (22, 0, 1));
        assert_eq!(slab.bytes(1000..1007), b"payload");
        copy.push_changed(&Gather::default(), |bytes| assert!(bytes.is_empty()));
        assert_eq!((copy.len(), copy.parts.len()), (22, 1));
    }

    #[test]
    fn the_header_names_the_bytes_in_order_wherever_the_gather_moves() {
        let arena = Arena::new(2 * SLAB_LEN).unwrap();
        let mut filling = arena.take().unwrap();
        filling.write(1000, b"payload");
        let slab = filling.seal().ok().unwrap();
        let mut gather = Gather::default();
        gather.push_small(b"head");
        gather.push_payload(slab.clone(), 1000..1007);
        gather.push_small(b"tail");
        let header = gather.header();
        let moved = Box::new((1, gather));
        let mut seen: Vec<u8> = Vec::new();
        // As the kernel reads it.
        // SAFETY: the header and what it names belong to `moved`, which nobody touches meanwhile.
        unsafe {
            for at in 0..(*header).msg_iovlen {
                let part = *(*header).msg_iov.add(at);
                seen.extend_from_slice(std::slice::from_raw_parts(part.iov_base.cast(), part.iov_len));
            }
        }
        assert_eq!(seen, b"headpayloadtail");
        assert_eq!(slab.bytes(1000..1007), b"payload");
        assert_eq!(moved.1.len(), 15);
    }
}
