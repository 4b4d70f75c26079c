//! One open file, and the cheapest way to move a run from or to it.
//!
//! Measured on ext4 with runs of 256 KiB, in CPU seconds a GB: direct writes into allocated space 0.015, writes through the page
//! cache 0.16 (ten times that when the kernel has to find fresh memory first); direct reads 0.012, reads that fill the page cache
//! 0.07 and more, reads of what is cached 0.05. So whole pages go direct where a file allows it, what is cached is taken from
//! the cache, and the rest goes through it.
//!
//! Whether the bytes of a page are written direct follows from the geometry of run and file alone. A page that two
//! runs share is never inside of either, so it always goes through the cache: a direct write beside a cached one of the
//! same page could lose the bytes of one of them.

use super::counts::Counter;
use super::file_id::{FileId, Stamp};
use crate::ring::{Descriptors, File, FillingSlab, Place, Slab};
use rustix::fs::{Advice, AtFlags, IFlags, Mode, OFlags, SeekFrom, StatxFlags};
use std::cell::{Cell, OnceCell};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// What memory and file are cut into. The place in the slab must agree with that in the file: ext4 takes a direct write from
/// memory that is not aligned to its blocks for one that shares a block, and lets it run only alone, on a worker thread.
pub(super) const PAGE: u64 = 4096;
/// Fewer whole pages than this (bytes) go through the cache: it makes one large operation of many small ones.
pub(super) const LEAST_DIRECT: u64 = 64 * 1024;
/// File systems that are memory: io_uring reads them on a worker thread, and a plain read never waits.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// btrfs: a file of which it keeps checksums it writes direct on a worker thread only, and since Linux 6.14 through the
/// page cache even so, for the memory might change meanwhile.
const BTRFS: u64 = 0x9123_683e;
/// As long a file keeps its length: a send that was found right takes longer to go out.
const INSTANT: Duration = Duration::from_millis(1);
/// overlayfs: the kernel tells what its own page cache holds, which is nothing; the bytes are in that of the file system below.
pub(super) const OVERLAY: u64 = 0x794c_7630;

/// Whether the kernel tells what the page cache holds of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    /// It does.
    Given,
    /// Not to us, for the file is another user's.
    Withheld,
    /// It cannot.
    Unknown,
}

impl Word {
    fn of(file: &File, system: u64) -> Self {
        match file.cached(0, 1) {
            _ if system == OVERLAY => Self::Unknown,
            Ok(_) => Self::Given,
            // Of our own, something forbids us to ask at all.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_ours(file) => Self::Withheld,
            Err(_) => Self::Unknown,
        }
    }
}

/// What moves a file's bytes.
enum Way {
    /// Nothing lies behind the page cache.
    Memory,
    /// The page cache only.
    Cache,
    /// Whole units of this many bytes may go direct.
    Direct(u64),
}

/// See the module.
pub(super) struct Handle {
    file: File,
    id: FileId,
    word: Word,
    way: Way,
    /// Whether what may go direct is also written so.
    writes_direct: bool,
    flags: OFlags,
    direct: OnceCell<Option<(File, Place)>>,
    /// Whether the disk space of the whole file is reserved, or need not be.
    allocated: Cell<bool>,
    /// Its length in bytes, and when it was asked for.
    size: Cell<Option<(Instant, u64)>>,
    /// The hole that was found last.
    hole: Cell<(u64, u64)>,
    /// That of `file`, given back when it is closed.
    _place: Place,
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Handle {
    /// Takes over a descriptor that is open for reading only, or for both, and its place.
    ///
    /// # Errors
    /// When the kernel cannot tell about it.
    pub(super) fn new(fd: OwnedFd, writable: bool, place: Place) -> io::Result<Self> {
        let system = rustix::fs::fstatfs(&fd)?.f_type as u64;
        let way = if MEMORY.contains(&system) { Way::Memory } else { Way::of(&fd)? };
        let writes_direct = system != BTRFS || !has_checksums(&fd);
        let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        let id = FileId::of(&fd, system)?;
        let file = File::new(fd);
        // Where the kernel tells what it has cached, pages that it is still reading count: let none be read but what we
        // wait for.
        let word = Word::of(&file, system);
        if word == Word::Given {
            _ = rustix::fs::fadvise(file.as_fd(), 0, None, Advice::Random);
        }
        Ok(Self {
            file,
            id,
            word,
            way,
            writes_direct,
            flags,
            direct: OnceCell::new(),
            allocated: Cell::new(false),
            size: Cell::default(),
            hole: Cell::default(),
            _place: place,
        })
    }

    /// The file, to be synced or asked.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Asks the kernel to keep nothing of the file in memory that need not be written.
    pub(super) fn forget(&self) {
        _ = rustix::fs::fadvise(self.file.as_fd(), 0, None, Advice::DontNeed);
    }

    /// Which file it is: its name may be another one's by now.
    pub(super) fn id(&self) -> FileId {
        self.id
    }

    /// Its length and when it was written last; `None` where that may change by itself.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        if self.id.lasts() { Stamp::of(self.file.as_fd()).ok() } else { None }
    }

    /// Whether nothing was written into this range. Where the file system cannot tell, something was.
    pub(super) fn is_hole(&self, range: Range<u64>) -> bool {
        let (start, end) = self.hole.get();
        if start <= range.start && range.end <= end {
            return true;
        }
        let next_data = match rustix::fs::seek(self.file.as_fd(), SeekFrom::Data(range.start)) {
            Ok(next) => next,
            // There is none up to the end.
            Err(rustix::io::Errno::NXIO) => u64::MAX,
            Err(_) => return false,
        };
        if next_data < range.end {
            return false;
        }
        self.hole.set((range.start, next_data));
        true
    }

    /// Reserves the disk space of the whole file, so that direct writes need not make it longer: these would be slow, and a
    /// disk that is too small shows it now. Where that is not possible the file grows as it is written.
    ///
    /// # Errors
    /// When there is no room.
    pub(super) async fn allocate(&self, len: u64) -> io::Result<()> {
        if self.allocated.get() {
            return Ok(());
        }
        let size = u64::try_from(rustix::fs::fstat(self.file.as_fd())?.st_size).unwrap_or(0);
        if !matches!(self.way, Way::Memory) && len >= LEAST_DIRECT && size < len {
            match self.file.allocate(len).await {
                Err(error) if is_no_room(&error) => return Err(error),
                _ => {}
            }
        }
        self.allocated.set(true);
        Ok(())
    }

    /// The units that may go direct of `len` bytes at `offset`, which lie at `at` of a page in memory; with the file to use.
    fn direct(&self, offset: u64, len: usize, at: usize) -> Option<(&File, Range<u64>)> {
        let Way::Direct(unit) = self.way else { return None };
        let inner = whole_units(offset, len as u64, unit);
        if inner.end < inner.start + LEAST_DIRECT || offset % PAGE != at as u64 {
            return None;
        }
        if self.direct.get().is_none() {
            // Short of descriptors: another time perhaps.
            let place = Descriptors::of_process().files.try_take()?;
            // The same file, whatever lies under its name by now.
            let path = format!("/proc/self/fd/{}", self.file.as_fd().as_raw_fd());
            let flags = self.flags | OFlags::DIRECT | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(fd) => _ = self.direct.set(Some((File::new(fd), place))),
                Err(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {}
                Err(_) => _ = self.direct.set(None),
            }
        }
        let (direct, _) = self.direct.get()?.as_ref()?;
        Some((direct, inner))
    }

    /// Fills a range of the slab from `offset` of the file. `alone`: what lies beside the range in its first and last
    /// page may be overwritten. `keep`: what is read from the disk had better stay in the page cache.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; else what the kernel says.
    pub(super) async fn read(
        &self,
        slab: &FillingSlab,
        range: Range<usize>,
        offset: u64,
        (alone, keep): (bool, bool),
        counter: &Counter,
    ) -> io::Result<()> {
        let len = range.len();
        let lease = || slab.lease(range.clone()).expect("one read after the other");
        if matches!(self.way, Way::Memory) {
            counter.cached_read(len);
            return self.file.read_now(lease(), len, offset).map(drop);
        }
        let direct = self.direct(offset, len, slab.page_offset(range.start));
        let Some((direct, inner)) = direct.filter(|_| !keep && !self.is_cached(offset, len)) else {
            counter.cached_read(len);
            return self.file.read_exact(lease(), len, offset).await.map(drop);
        };
        if alone {
            let (pages, head) = slab.lease_pages(range.clone()).expect("one read after the other");
            let wanted = pages.len();
            let (result, _) = direct.read_direct(pages, wanted, offset - head as u64).await;
            // Anything else: the file is shorter, or wants larger units. The other way shows which.
            if result.is_ok_and(|count| count >= head + len) {
                counter.direct_read(len);
                return Ok(());
            }
        }
        let lease = self.file.read_exact(lease(), (inner.start - offset) as usize, offset).await?;
        let wanted = (inner.end - inner.start) as usize;
        let (result, lease) = direct.read_direct(lease, wanted, inner.start).await;
        let direct_len = result.or_else(|error| if refuses_direct(&error) { Ok(0) } else { Err(error) })?;
        let left = lease.len();
        if left > 0 {
            self.file.read_exact(lease, left, offset + (len - left) as u64).await?;
        }
        counter.direct_read(direct_len);
        counter.cached_read(len - direct_len);
        Ok(())
    }

    /// Whether the file is so long. Behind the end of one that was cut short its last page has zeros.
    pub(super) fn reaches(&self, end: u64) -> bool {
        let known = self.size.get().filter(|(asked, _)| asked.elapsed() < INSTANT);
        let (_, size) = known.unwrap_or_else(|| {
            let size = rustix::fs::fstat(self.file.as_fd()).map_or(0, |stat| stat.st_size as u64);
            let asked = (Instant::now(), size);
            self.size.set(Some(asked));
            asked
        });
        size >= end
    }

    /// Whether the kernel would tell what the page cache holds, were the file ours.
    pub(super) fn is_kept_from_us(&self) -> bool {
        self.word == Word::Withheld
    }

    /// Whether the page cache has all of a range, as far as the kernel tells.
    pub(super) fn is_resident(&self, range: Range<u64>) -> bool {
        let page = rustix::param::page_size() as u64;
        let pages = range.end.div_ceil(page) - range.start / page;
        let cached = || self.file.cached(range.start, (range.end - range.start) as usize);
        // Now and then, on a busy machine, the kernel counts less than there is: where there is some, it is asked once more.
        let is_whole = |count: u64| count == pages || count > 0 && cached().is_ok_and(|again| again == pages);
        self.word == Word::Given && cached().is_ok_and(is_whole)
    }

    /// Whether it is cheaper to read through the page cache, because most of it is there; or the kernel cannot tell. What it does not
    /// tell us is taken not to be there: what is read for the second time goes through the page cache all the same.
    fn is_cached(&self, offset: u64, len: usize) -> bool {
        let half = |pages: u64| pages * rustix::param::page_size() as u64 * 2 >= len as u64;
        match self.word {
            Word::Given => self.file.cached(offset, len).map_or(true, half),
            Word::Withheld => false,
            Word::Unknown => true,
        }
    }

    /// Writes a range of the slab at `offset` of the file.
    ///
    /// # Errors
    /// What the kernel says; part of the bytes may have been written then.
    pub(super) async fn write(
        &self,
        slab: &Slab,
        range: Range<usize>,
        offset: u64,
        counter: &Counter,
    ) -> io::Result<()> {
        if matches!(self.way, Way::Memory) {
            counter.cached_write(range.len());
            return self.file.write_now(slab.bytes(range), offset);
        }
        let at = slab.page_offset(range.start);
        let direct = if self.writes_direct { self.direct(offset, range.len(), at) } else { None };
        let Some((direct, inner)) = direct else {
            return self.write_cached(slab, range, offset, counter).await;
        };
        let place = |at: u64| range.start + (at - offset) as usize;
        let middle = place(inner.start)..place(inner.end);
        match direct.write_direct(slab, middle.clone(), inner.start).await {
            Ok(()) => counter.direct_write(middle.len()),
            // It said yes to the flag and no to this: then as if it had said no to both.
            Err(error) if refuses_direct(&error) => {
                return self.write_cached(slab, range, offset, counter).await;
            }
            Err(error) => return Err(error),
        }
        let mut edges = vec![(range.start..middle.start, offset), (middle.end..range.end, inner.end)];
        edges.retain(|(edge, _)| !edge.is_empty());
        if edges.is_empty() {
            return Ok(());
        }
        edges.iter().for_each(|(edge, _)| counter.cached_write(edge.len()));
        self.file.write_cached(slab, edges, false).await
    }

    async fn write_cached(
        &self,
        slab: &Slab,
        range: Range<usize>,
        offset: u64,
        counter: &Counter,
    ) -> io::Result<()> {
        counter.cached_write(range.len());
        // Large writes leave the page cache as direct ones do: what is downloaded is in our own cache, and the kernel's is
        // for what is asked for again.
        let drop_behind = range.len() as u64 >= LEAST_DIRECT;
        self.file.write_cached(slab, [(range, offset)], drop_behind).await
    }
}

impl Way {
    fn of(fd: &OwnedFd) -> io::Result<Self> {
        let asked = StatxFlags::DIOALIGN;
        let stat = match rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, asked) {
            // Not told: most file systems that can do it at all want no more than this.
            Ok(stat) if stat.stx_mask & asked.bits() == 0 => return Ok(Self::Direct(PAGE)),
            Err(rustix::io::Errno::NOSYS) => return Ok(Self::Cache),
            other => other?,
        };
        let (memory, unit) = (u64::from(stat.stx_dio_mem_align), u64::from(stat.stx_dio_offset_align));
        let can = (1..=PAGE).contains(&memory) && unit.is_power_of_two() && unit <= LEAST_DIRECT;
        Ok(if can { Self::Direct(unit.max(PAGE)) } else { Self::Cache })
    }
}

fn is_ours(file: &File) -> bool {
    rustix::fs::fstat(file.as_fd()).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw())
}

/// Whether btrfs keeps checksums of the file's bytes: all that may not be overwritten in place. Where it does not tell, it
/// does.
fn has_checksums(fd: &OwnedFd) -> bool {
    !rustix::fs::ioctl_getflags(fd).is_ok_and(|flags| flags.contains(IFlags::NOCOW))
}

fn refuses_direct(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP))
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG))
}

/// The whole units in `len` bytes at `offset`; `start..start` or less when there are none.
fn whole_units(offset: u64, len: u64, unit: u64) -> Range<u64> {
    let start = offset.next_multiple_of(unit);
    let end = offset + len;
    start..(end - end % unit).max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_units_are_inside() {
        assert_eq!(whole_units(0, 8192, 4096), 0..8192);
        assert_eq!(whole_units(1, 8192, 4096), 4096..8192);
        assert_eq!(whole_units(4095, 4097, 4096), 4096..8192);
        assert_eq!(whole_units(1, 4095, 4096), 4096..4096);
        assert!(whole_units(5, 10, 4096).is_empty());
        assert!(whole_units(4097, 10, 4096).is_empty());
    }
}
