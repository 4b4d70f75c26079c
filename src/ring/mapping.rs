//! Anonymous memory, on huge pages where the system has them.

#[cfg(not(miri))]
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::io;
use std::ptr::NonNull;

/// What the processor maps with one entry.
#[cfg_attr(miri, expect(dead_code, reason = "miri has none"))]
const HUGE_PAGE: usize = 2 * 1024 * 1024;

/// An anonymous mapping, unmapped when dropped.
pub(super) struct Mapping {
    pub(super) base: NonNull<u8>,
    pub(super) len: usize,
}

// SAFETY: the value is an address and a length, neither of which ever changes; it may be unmapped from any thread. Who may
// touch the bytes is the business of the slabs, which stay on their core.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Of `len` bytes, zero-filled; none is resident before it is used. As long as a huge page, it begins with one.
    #[cfg(not(miri))]
    pub(super) fn new(len: usize) -> io::Result<Self> {
        // Room to choose the beginning; what is too much is given back.
        let slack = if len >= HUGE_PAGE { HUGE_PAGE } else { 0 };
        // SAFETY: a fresh private anonymous mapping at an address of the kernel's choice touches no other memory.
        let all = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len + slack,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let all = NonNull::new(all.cast::<u8>()).expect("mmap never returns null");
        let before = if slack == 0 { 0 } else { all.as_ptr().align_offset(HUGE_PAGE).min(slack) };
        // SAFETY: `before` lies inside the mapping just made.
        let base = unsafe { all.add(before) };
        // SAFETY: `base + len` is at most the mapping's end.
        let end = unsafe { base.add(len) };
        for (start, len) in [(all, before), (end, slack - before)] {
            if len > 0 {
                // SAFETY: the ends of the mapping just made, which nobody else knows; whole pages.
                let _ = unsafe { rustix::mm::munmap(start.as_ptr().cast(), len) };
            }
        }
        let mapping = Self { base, len };
        // Huge pages are a wish; without them it is only slower.
        mapping.advise(Advice::LinuxHugepage);
        Ok(mapping)
    }

    #[cfg(not(miri))]
    pub(super) fn advise(&self, advice: Advice) {
        // SAFETY: the range is the mapping, and neither advice that is given changes bytes that are in use.
        let _ = unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) };
    }

    /// Miri knows neither huge pages nor advice: there, memory of the allocator.
    #[cfg(miri)]
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let layout = std::alloc::Layout::from_size_align(len, 4096).map_err(io::Error::other)?;
        // SAFETY: the length is not 0.
        let base = unsafe { std::alloc::alloc_zeroed(layout) };
        Ok(Self { base: NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }
}

impl Drop for Mapping {
    #[cfg(not(miri))]
    fn drop(&mut self) {
        // SAFETY: `base` and `len` are what is left of what `mmap` gave, and all users hold a share of this value.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }

    #[cfg(miri)]
    fn drop(&mut self) {
        let layout = std::alloc::Layout::from_size_align(self.len, 4096).expect("as in `new`");
        // SAFETY: as `new` has got it.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
    }
}
