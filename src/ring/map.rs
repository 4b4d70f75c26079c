//! Files as memory, only read: compared with what was received, and sent from where the page cache has them.

use super::gather::send_message;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// Parts of one send; the kernel takes no more (`UIO_MAXIOV`).
pub const MAX_PARTS: usize = 1024;

/// A whole file mapped to be read.
///
/// Its bytes are not lent out as a slice: other processes may write the file, and a slice must not change. They
/// are only compared and sent, which bears that. A file that is *cut* while it is mapped ends the program by `SIGBUS`
/// when the lost part is touched: map only files that nobody cuts.
#[derive(Debug)]
pub struct FileMap {
    /// `None` for an empty file, which cannot be mapped.
    base: Option<NonNull<u8>>,
    len: usize,
}

impl FileMap {
    /// Maps the first `len` bytes of an open file.
    ///
    /// # Errors
    /// When the kernel refuses, or `len` is more than an address can say.
    pub fn new(file: impl AsFd, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if len == 0 {
            return Ok(Self { base: None, len });
        }
        // SAFETY: a fresh mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0)?
        };
        Ok(Self { base: NonNull::new(base.cast()), len })
    }

    /// Has the kernel read all of it into the page cache and this process's page tables. Only a wish: older kernels
    /// do not know it.
    pub fn populate(&self) {
        if let Some(base) = self.base {
            // SAFETY: the range is this mapping; the advice changes no byte.
            let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), self.len, Advice::LinuxPopulateRead) };
        }
    }

    /// The address of a range, which lies inside.
    fn address(&self, range: &Range<u64>) -> (*const u8, usize) {
        assert!(range.start <= range.end && range.end <= self.len as u64, "{range:?} of {}", self.len);
        let base = self.base.map_or(std::ptr::dangling(), |base| base.as_ptr().cast_const());
        // SAFETY: the range was just found to lie in the mapping; an empty file has only the empty range.
        (unsafe { base.add(range.start as usize) }, (range.end - range.start) as usize)
    }

    /// Whether the file has these bytes from `at` on.
    ///
    /// # Panics
    /// When they would reach beyond its end.
    pub fn has(&self, at: u64, bytes: &[u8]) -> bool {
        let (address, len) = self.address(&(at..at + bytes.len() as u64));
        // SAFETY: both sides have `len` bytes that may be read. That the file's may change under it only makes the
        // answer one of several right ones: no reference to them is ever made.
        unsafe { libc::memcmp(address.cast(), bytes.as_ptr().cast(), len) == 0 }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        if let Some(base) = self.base {
            // SAFETY: `base` and `len` are what `mmap` gave; whoever points into it borrows this value.
            let _ = unsafe { rustix::mm::munmap(base.as_ptr().cast(), self.len) };
        }
    }
}

/// What one send gathers: bytes and ranges of mapped files, in order.
#[derive(Default)]
pub struct Parts<'a> {
    list: Vec<libc::iovec>,
    /// What the list points into.
    owners: PhantomData<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// Nothing yet, with room for so many parts.
    pub fn with_capacity(count: usize) -> Self {
        Self { list: Vec::with_capacity(count), owners: PhantomData }
    }

    /// Number of parts.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds bytes.
    pub fn push(&mut self, bytes: &'a [u8]) {
        self.list.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
    }

    /// Adds a range of a mapped file.
    ///
    /// # Panics
    /// When it reaches beyond the file's end.
    pub fn push_map(&mut self, map: &'a FileMap, range: Range<u64>) {
        let (address, len) = map.address(&range);
        self.list.push(libc::iovec { iov_base: address.cast_mut().cast(), iov_len: len });
    }

    /// Takes the first `count` bytes away: they have been sent.
    pub fn skip(&mut self, mut count: usize) {
        let whole = self.list.iter().take_while(|part| {
            let passed = part.iov_len <= count;
            count -= if passed { part.iov_len } else { 0 };
            passed
        });
        let whole = whole.count();
        self.list.drain(..whole);
        if let Some(first) = self.list.first_mut().filter(|_| count > 0) {
            // SAFETY: `count` is less than the part's length.
            first.iov_base = unsafe { first.iov_base.byte_add(count) };
            first.iov_len -= count;
        }
    }

    /// Number of bytes that a send offers to the socket.
    pub fn offered(&self) -> usize {
        self.list.iter().take(MAX_PARTS).map(|part| part.iov_len).sum()
    }

    /// Sends as much as the socket takes without waiting, of the first [`MAX_PARTS`] parts. The bytes go to the socket
    /// from where they lie.
    ///
    /// # Errors
    /// `WouldBlock` when it has no room; else what the kernel says.
    pub fn send(&self, socket: impl AsFd) -> io::Result<usize> {
        // SAFETY: a header of zeros is an empty one.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = self.list.as_ptr().cast_mut();
        header.msg_iovlen = self.list.len().min(MAX_PARTS) as _;
        // SAFETY: the header points to the list and the list to memory borrowed for `'a`, only read by the call.
        unsafe { send_message(socket, &header) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn map(bytes: &[u8]) -> FileMap {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let map = FileMap::new(&file, bytes.len() as u64).unwrap();
        map.populate();
        map
    }

    #[test]
    fn a_map_compares_ranges() {
        let map = map(b"0123456789");
        assert!(map.has(0, b"0123456789") && map.has(3, b"345") && map.has(10, b""));
        assert!(!map.has(3, b"346"));
    }

    #[test]
    fn an_empty_file_has_nothing() {
        let map = map(b"");
        assert!(map.has(0, b""));
    }

    #[test]
    #[should_panic(expected = "3..6 of 5")]
    fn nothing_beyond_the_end_is_looked_at() {
        map(b"01234").has(3, b"345");
    }

    #[test]
    fn parts_are_sent_in_order_from_any_byte() {
        let whole = b"head-3456-end";
        let map = map(b"0123456789");
        for skip in 0..=whole.len() {
            let (here, mut there) = UnixStream::pair().unwrap();
            let mut parts = Parts::with_capacity(3);
            parts.push(b"head-");
            parts.push_map(&map, 3..7);
            parts.push(b"-end");
            parts.skip(skip);
            assert_eq!(parts.is_empty(), skip == whole.len());
            assert_eq!(parts.send(&here).unwrap(), whole.len() - skip);
            drop(here);
            let mut got = Vec::new();
            there.read_to_end(&mut got).unwrap();
            assert_eq!(got, whole[skip..]);
        }
    }
}
