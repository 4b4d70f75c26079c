//! One core's runtime: a ring, its reactor, and the arena registered with it.

use super::entries::{self, FEWEST};
use super::panics;
use super::registration::descriptor_of;
use super::support::{CoreError, MAP, SET_UP, StartError, warn_of_unregistered};
use super::zero_copy::LastLandings;
use super::{Arena, ZeroCopy, ZeroCopySend};
use rustix::thread::CpuSet;
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// What a core gets.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of payload memory that there may be, rounded down to whole slabs.
    pub arena_len: usize,
    /// Run on this CPU only. `None`: where the system likes.
    pub cpu: Option<usize>,
    /// When payload is sent without a copy.
    pub zero_copy_send: ZeroCopySend,
    /// Cores that run at the same time, this one among them: their rings share the memory that may be locked.
    pub cores: usize,
}

impl Config {
    /// A core with so many bytes of payload memory, and nothing special.
    pub fn new(arena_len: usize) -> Self {
        Self { arena_len, cpu: None, zero_copy_send: ZeroCopySend::default(), cores: 1 }
    }
}

/// Locked memory of a process that has ended is given back some time after, within this as a rule, and looked for so often.
const GIVEN_BACK: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);

/// A running core.
#[derive(Clone)]
pub struct Core {
    /// Its payload memory.
    pub arena: Arena,
    /// Its sends without a copy.
    pub zero_copy: ZeroCopy,
}

#[cfg(test)]
impl Core {
    /// One without a ring, for what needs none: so it can be tried where there is none.
    pub(crate) fn without_ring(arena_len: usize) -> Self {
        let arena = Arena::new(arena_len).expect("there is memory");
        let zero_copy = ZeroCopy::new(ZeroCopySend::Off, arena.capacity());
        Self { arena, zero_copy }
    }
}

/// CPUs for so many threads of a program: of those that it may run on one after the other, round and round, from where the
/// system has put the program on, so that several programs with few threads each do not all sit on the first CPU; and
/// further on for whoever asks next.
pub fn next_cpus(count: usize) -> impl Iterator<Item = usize> {
    static FIRST: LazyLock<usize> = LazyLock::new(|| {
        let here = rustix::thread::sched_getcpu();
        cpus().iter().position(|cpu| *cpu == here).unwrap_or(0)
    });
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    let first = FIRST.wrapping_add(GIVEN.fetch_add(count, Ordering::Relaxed));
    let allowed = cpus();
    (0..count).map(move |number| allowed[first.wrapping_add(number) % allowed.len()])
}

/// The CPUs that this thread may run on, in order; at least one.
pub(super) fn cpus() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    let found: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    // Machines with more CPUs than the set has room for answer with an error.
    if found.is_empty() { vec![0] } else { found }
}

/// Keeps this thread on one CPU. Where that cannot be, it is only slower.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(cause) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("cannot keep a thread on CPU {cpu}: {cause}");
    }
}

/// The ring's set-up. Not `DEFER_TASKRUN`: tokio-uring never asks for completions the way that flag wants, and
/// stalls.
fn ring_flags() -> io_uring::Builder {
    let mut builder = tokio_uring::uring_builder();
    builder.setup_coop_taskrun().setup_single_issuer().setup_submit_all();
    builder
}

/// A ring, its descriptor if that is known, and the entries it has: fewer than usual where little memory may be locked.
///
/// # Errors
/// What the kernel says; that memory is short, only of the smallest ring.
fn make_ring(cores: usize) -> io::Result<(tokio_uring::Runtime, Option<RawFd>, u32)> {
    let (begun, mut entries) = (Instant::now(), entries::of_each(cores));
    let mut builder = tokio_uring::builder();
    builder.uring_builder(&ring_flags());
    loop {
        builder.entries(entries);
        match descriptor_of(|| tokio_uring::Runtime::new(&builder)) {
            Ok((runtime, ring)) => return Ok((runtime, ring, entries)),
            Err(cause) if cause.raw_os_error() != Some(libc::ENOMEM) => return Err(cause),
            Err(_) if entries > FEWEST => entries /= 2,
            Err(cause) if begun.elapsed() > GIVEN_BACK => return Err(cause),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

/// Runs `main` on this thread, with a ring and an arena of its own, until it is done; tasks that are left then are
/// dropped.
///
/// # Errors
/// When the kernel refuses the ring or the memory. An arena that cannot be registered is only warned of, once for all
/// cores ([`Arena::is_registered`] tells of each). And when something has panicked, `main` or a task: then all are dropped
/// at once; what the disk has begun by then it ends.
pub fn run<T>(config: Config, main: impl AsyncFnOnce(Core) -> T) -> Result<T, CoreError> {
    panics::forget();
    panics::caught(|| run_with_ring(config, main)).unwrap_or_else(|said| Err(CoreError::Panicked(said)))
}

/// What a core runs on, in the order in which it ends: until the ring has, the kernel may write into the memory, and until sends
/// have landed, read it.
struct Engine {
    runtime: tokio_uring::Runtime,
    _landings: LastLandings,
    arena: Arena,
}

impl Drop for Engine {
    fn drop(&mut self) {
        super::blocking::leave();
        self.arena.leave_ring();
    }
}

fn run_with_ring<T>(config: Config, main: impl AsyncFnOnce(Core) -> T) -> Result<T, CoreError> {
    // Before the memory is touched, so that it lies close to this CPU.
    if let Some(cpu) = config.cpu {
        pin(cpu);
    }
    let (runtime, ring, entries) = make_ring(config.cores).map_err(|cause| StartError::new(SET_UP, cause))?;
    tracing::debug!("a ring of {entries} entries");
    // A ring whose descriptor is not known registers all there is at once, or never.
    let make = if ring.is_some() { Arena::new } else { Arena::in_one };
    let arena = make(config.arena_len).map_err(|cause| StartError::new(MAP, cause))?;
    let zero_copy = ZeroCopy::new(config.zero_copy_send, arena.capacity());
    let engine = Engine { runtime, _landings: LastLandings(zero_copy.clone()), arena: arena.clone() };
    let result = engine.runtime.block_on(async {
        super::counters::reset(entries);
        if let Err(cause) = arena.register(ring) {
            warn_of_unregistered(arena.capacity() * super::arena::STRIDE, &cause);
        }
        let core = Core { arena: arena.clone(), zero_copy: zero_copy.clone() };
        let result = panics::unless_panicked(main(core)).await;
        tracing::debug!("sends without a copy: {:?}", zero_copy.counts());
        result
    });
    result.map_err(CoreError::Panicked)
}

/// Starts a task on this core. It counts ([`super::RingCounters::tasks`]) until all that it holds has been dropped. Should it
/// panic, that is the end of the core ([`run`]).
pub fn spawn<F: Future + 'static>(task: F) -> JoinHandle<F::Output> {
    tokio_uring::spawn(panics::Task::new(task))
}
