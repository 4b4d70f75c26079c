//! Work that may block, on threads beside the core's: writes through the page cache, and what the kernel has no thread for.
//!
//! io_uring sends a buffered write to a worker thread on ext4, tmpfs and others, and does so after having tried in vain, with
//! one worker a file. A plain `pwrite` costs less, but it may sleep (for memory, for the journal, for a disk that does not
//! keep up), and a core that sleeps serves no peer. So a few threads, which the core keeps for such work, do it.
//!
//! They are begun when there is work. A limit on threads (`TasksMax=`, a container's `pids.max`, `RLIMIT_NPROC`) may let us have
//! none: then the core does the work itself, and is slow rather than at an end. The runtime's own pool panics there.

use super::arena::Slab;
use super::counters::{DiskTimer, Kind};
use super::mapping::Mapping;
use rustix::io::ReadWriteFlags;
use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{Builder, JoinHandle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Threads that work for one core at the same time. Writes to one file wait for each other in the kernel anyway.
const HELPERS: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// The threads beside one core.
struct Helpers {
    turns: Arc<Semaphore>,
    jobs: mpsc::Sender<Job>,
    /// Whoever has nothing to do waits here for the next job.
    queue: Arc<Mutex<mpsc::Receiver<Job>>>,
    threads: Vec<JoinHandle<()>>,
}

thread_local! {
    static HELPERS_HERE: RefCell<Helpers> = RefCell::new(Helpers::none());
}

impl Helpers {
    fn none() -> Self {
        let (jobs, queue) = mpsc::channel();
        Self {
            turns: Arc::new(Semaphore::new(HELPERS)),
            jobs,
            queue: Arc::new(Mutex::new(queue)),
            threads: Vec::new(),
        }
    }

    /// Gives the job to a thread; does it here when there is none and can be none.
    fn give(&mut self, job: Job) {
        if self.threads.len() < HELPERS {
            let queue = Arc::clone(&self.queue);
            let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let work = move || {
                while let Ok(job) = next() {
                    job()
                }
            };
            self.threads.extend(Builder::new().name("disk".into()).spawn(work));
        }
        match self.threads.is_empty() {
            true => job(),
            false => self.jobs.send(job).expect("the queue lives as long as we do"),
        }
    }
}

/// The core ends: what has been begun is brought to its end, and the threads with it.
pub(super) fn leave() {
    let Helpers { jobs, threads, .. } = HELPERS_HERE.replace(Helpers::none());
    drop(jobs);
    // One that has panicked has said so.
    threads.into_iter().for_each(|thread| drop(thread.join()));
}

/// Waits for a turn: there is one for each thread.
async fn turn() -> OwnedSemaphorePermit {
    let turns = HELPERS_HERE.with_borrow(|helpers| Arc::clone(&helpers.turns));
    turns.acquire_owned().await.expect("never closed")
}

/// Does what may block, on a thread beside the core's if there can be one. Once begun it is done to the end, whether somebody
/// waits for it or not.
async fn beside<T: Send + 'static>(
    turn: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, outcome) = oneshot::channel();
    let job = Box::new(move || {
        let result = work();
        drop(turn);
        // Nobody takes it when the core has ended.
        let _ = done.send(result);
    });
    HELPERS_HERE.with_borrow_mut(|helpers| helpers.give(job));
    outcome.await.expect("the work does not panic")
}

/// A system call that may block, beside the core's thread.
pub(super) async fn call<E: Into<io::Error> + Send + 'static>(
    file: Arc<OwnedFd>,
    work: impl FnOnce(&OwnedFd) -> Result<(), E> + Send + 'static,
) -> io::Result<()> {
    beside(turn().await, move || work(&file)).await.map_err(Into::into)
}

/// Copies a range of a file to `offset` of another, through the page cache, in the thread that calls.
pub(super) fn copy(from: &OwnedFd, range: Range<u64>, to: &OwnedFd, mut offset: u64) -> io::Result<()> {
    let mut at = range.start;
    let mut buffer = vec![0; (range.end - at).min(COPY_LEN) as usize];
    while at < range.end {
        let most = (range.end - at).min(COPY_LEN) as usize;
        let count = match rustix::io::pread(from, &mut buffer[..most], at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        write_now(to, &buffer[..count], offset, ReadWriteFlags::empty())?;
        at += count as u64;
        offset += count as u64;
    }
    Ok(())
}

/// Whether the kernel may be able to write past its cache: see [`write_all`].
static DROPS_BEHIND: AtomicBool = AtomicBool::new(true);

/// Bytes that are copied from file to file at a time.
const COPY_LEN: u64 = 64 * 1024;
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
    // Sealed as long as somebody has a handle: the task below has one, even when nobody waits for it any more.
    let slab = slab.clone();
    let task = super::spawn(async move {
        let turn = turn().await;
        let timer = DiskTimer::start(Kind::Write);
        let result = beside(turn, move || {
            sources
                .iter()
                .try_for_each(|source| write_pages(&file, source.bytes(), source.offset, drop_behind))
        });
        let result = result.await;
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
