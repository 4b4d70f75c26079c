//! Writes that may block, on threads beside the core's.
//!
//! io_uring sends a buffered write to a worker thread on ext4, tmpfs and others, and does so after having tried in vain, with
//! one worker a file. A plain `pwrite` costs less, but it may sleep (for memory, for the journal, for a disk that does not
//! keep up), and a core that sleeps serves no peer. So a few threads, which the runtime keeps for such work, do it.

use super::arena::Slab;
use super::counters::{DiskTimer, Kind};
use super::mapping::Mapping;
use rustix::io::ReadWriteFlags;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// Threads that write for one core at the same time. Writes to one file wait for each other in the kernel anyway.
const WRITERS: usize = 2;

thread_local! {
    static TURNS: RefCell<Rc<Semaphore>> = RefCell::new(Rc::new(Semaphore::new(WRITERS)));
}

/// Whether the kernel may be able to write past its cache: see [`write_all`].
static DROPS_BEHIND: AtomicBool = AtomicBool::new(true);

const PAGE: u64 = 4096;
/// `RWF_DONTCACHE`, Linux 6.14.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// Bytes of a sealed slab, on their way to another thread, and where in the file they go.
struct Source {
    address: *const u8,
    len: usize,
    offset: u64,
    _mapping: Arc<Mapping>,
}

// SAFETY: the bytes stay mapped as long as the value lives, for it holds the mapping. Nobody writes them meanwhile: the task
// in `write_all` holds the slab until the thread has answered, and ends earlier only when the whole core does, after
// which there is nobody left to fill a slab.
unsafe impl Send for Source {}

impl Source {
    fn bytes(&self) -> &[u8] {
        // SAFETY: see above; the range was checked when the value was made.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }
}

/// Writes ranges of a slab, each at its offset of the file, through the page cache, all of them. With `drop_behind` the
/// cache is asked not to keep whole pages; those at the ends, which other runs write parts of too, it keeps.
pub(super) async fn write_all(
    file: Arc<OwnedFd>,
    slab: &Slab,
    parts: impl IntoIterator<Item = (Range<usize>, u64)>,
    drop_behind: bool,
) -> io::Result<()> {
    let source = |(range, offset): (Range<usize>, u64)| Source {
        address: slab.address(range.start),
        len: slab.bytes(range).len(),
        offset,
        _mapping: slab.mapping(),
    };
    let sources: Vec<Source> = parts.into_iter().map(source).collect();
    let len = sources.iter().map(|source| source.len).sum();
    let turns = TURNS.with_borrow(Rc::clone);
    let slab = slab.clone();
    // A task of its own, so that the slab is held to the end even when nobody waits for it any more.
    let task = super::spawn(async move {
        let _turn = turns.acquire().await.expect("never closed");
        let timer = DiskTimer::start(Kind::Write);
        let written = tokio::task::spawn_blocking(move || {
            sources
                .iter()
                .try_for_each(|source| write_pages(&file, source.bytes(), source.offset, drop_behind))
        });
        let result = written.await.expect("a write does not panic");
        drop(slab);
        result?;
        timer.stop(&Ok(len));
        Ok(())
    });
    task.await.expect("a write is not aborted")
}

fn write_pages(file: &OwnedFd, bytes: &[u8], offset: u64, drop_behind: bool) -> io::Result<()> {
    if !drop_behind {
        return write_now(file, bytes, offset, ReadWriteFlags::empty());
    }
    let head = (offset.next_multiple_of(PAGE) - offset).min(bytes.len() as u64) as usize;
    let (head, rest) = bytes.split_at(head);
    let (middle, tail) = rest.split_at(rest.len() - rest.len() % PAGE as usize);
    let middle_at = offset + head.len() as u64;
    write_now(file, head, offset, ReadWriteFlags::empty())?;
    write_now(file, middle, middle_at, DONTCACHE)?;
    write_now(file, tail, middle_at + middle.len() as u64, ReadWriteFlags::empty())
}

/// Writes in the thread that calls, all of it.
pub(super) fn write_now(
    file: &OwnedFd,
    mut bytes: &[u8],
    mut offset: u64,
    mut flags: ReadWriteFlags,
) -> io::Result<()> {
    while !bytes.is_empty() {
        if !DROPS_BEHIND.load(Ordering::Relaxed) {
            flags.remove(DONTCACHE);
        }
        match rustix::io::pwritev2(file, &[io::IoSlice::new(bytes)], offset, flags) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            // An older kernel, or a file system that cannot: it matters little.
            Err(rustix::io::Errno::OPNOTSUPP) if !flags.is_empty() => {
                DROPS_BEHIND.store(false, Ordering::Relaxed);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
