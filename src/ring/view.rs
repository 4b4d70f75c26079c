//! Bytes of files to be sent from where the page cache holds them, by mapping them.
//!
//! A send from a mapping copies once, from the page cache to the socket, and there is no read before it. Only the kernel
//! follows these addresses. Our own code never gets at the bytes: of a file that somebody has cut short that would end
//! the process, where the kernel answers EFAULT.

use super::File;
use super::sendfile::FileRange;
use rustix::mm::MapFlags;
use rustix::mm::ProtFlags;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of a file that one mapping shows: what one page of the processor's tables describes, so that their memory goes with
/// the mapping.
pub const VIEW_LEN: usize = 2 * 1024 * 1024;

/// A part of a file, mapped for reading until the last share is gone.
pub struct View {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the value is an address and a length, neither of which ever changes. Nobody reads there but the kernel, for any thread
// that hands it the address, and any thread may unmap it.
unsafe impl Send for View {}
// SAFETY: as above.
unsafe impl Sync for View {}

impl View {
    /// Maps `len` bytes, at most [`VIEW_LEN`], at `offset`, a multiple of the page size. Nothing is resident before it is sent.
    ///
    /// # Errors
    /// When the file cannot be mapped, or the process has too many mappings.
    pub fn new(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        Self::map(file, offset, len, MapFlags::SHARED)
    }

    /// As [`View::new`], with all pages mapped at once: one by one, as they are sent, is twice as dear. What the page cache lacks
    /// is read first, and the thread waits for it: ask before ([`File::cached`]).
    ///
    /// # Errors
    /// As [`View::new`].
    pub fn populated(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        Self::map(file, offset, len, MapFlags::SHARED | MapFlags::POPULATE)
    }

    fn map(file: &File, offset: u64, len: usize, flags: MapFlags) -> io::Result<Self> {
        assert!(len <= VIEW_LEN);
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, ProtFlags::READ, flags, file.as_fd(), offset)?
        };
        Ok(Self { base: NonNull::new(base.cast()).expect("mmap never returns null"), len })
    }

    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what `mmap` gave, and nobody has a window of it any more. What the kernel still sends
        // without a copy it holds by the page.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// One core's share of a view, which others may have, too, for all windows that are cut from one: so cores do not disturb each
/// other by counting each.
struct Share(Arc<View>);

/// Some bytes of a view, to be sent.
#[derive(Clone)]
pub struct Window {
    share: Rc<Share>,
    range: Range<usize>,
}

impl Window {
    /// These bytes of it.
    ///
    /// # Panics
    /// When it has not so many.
    pub fn new(view: Arc<View>, range: Range<usize>) -> Self {
        Self::of(Rc::new(Share(view)), range)
    }

    fn of(share: Rc<Share>, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= share.0.len, "{range:?} is not in the view");
        Self { share, range }
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Some of the bytes.
    pub fn part(&self, range: Range<usize>) -> Self {
        Self::of(Rc::clone(&self.share), self.range.start + range.start..self.range.start + range.end)
    }

    /// For the kernel.
    pub(super) fn address(&self) -> *const u8 {
        // SAFETY: inside the mapping.
        unsafe { self.share.0.base.add(self.range.start).as_ptr() }
    }
}

/// Bytes that the page cache holds.
#[derive(Clone)]
pub enum Cached {
    /// Mapped: cheapest to send.
    Mapped(Window),
    /// Not mapped: a system call for each.
    File(FileRange),
}

impl Cached {
    /// Number of bytes.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        match self {
            Self::Mapped(window) => window.len(),
            Self::File(range) => range.len(),
        }
    }

    /// Some of the bytes.
    pub fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Mapped(window) => Self::Mapped(window.part(range)),
            Self::File(file) => Self::File(file.part(range)),
        }
    }
}
