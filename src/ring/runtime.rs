//! One core's runtime: a ring, its reactor, and the arena registered with it.

use super::Arena;
use super::support::{StartError, lockable};
use rustix::thread::CpuSet;
use std::future::Future;
use tokio::task::JoinHandle;

/// What a core gets.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of payload memory, rounded down to whole slabs.
    pub arena_len: usize,
}

/// Room in the submission queue. Operations are submitted together when the core runs out of work, so it should
/// hold what a busy turn makes.
const ENTRIES: u32 = 1024;

/// A running core.
#[derive(Clone)]
pub struct Core {
    /// Its payload memory.
    pub arena: Arena,
}

/// The ring's set-up. Not `DEFER_TASKRUN`: tokio-uring never asks for completions the way that flag wants, and
/// stalls.
fn ring_flags() -> io_uring::Builder {
    let mut builder = tokio_uring::uring_builder();
    builder.setup_coop_taskrun().setup_single_issuer().setup_submit_all();
    builder
}

/// Runs `main` on this thread, with a ring and an arena of its own, until it is done; tasks that are left then are
/// dropped.
///
/// # Errors
/// When the kernel refuses the ring or the memory. An arena that cannot be registered is only warned of.
pub fn run<T>(config: Config, main: impl AsyncFnOnce(Core) -> T) -> Result<T, StartError> {
    let mut builder = tokio_uring::builder();
    builder.entries(ENTRIES).uring_builder(&ring_flags());
    let arena = Arena::new(config.arena_len).map_err(|cause| StartError::new("map payload memory", cause))?;
    let runtime =
        tokio_uring::Runtime::new(&builder).map_err(|cause| StartError::new("set up io_uring", cause))?;
    Ok(runtime.block_on(async {
        super::counters::reset();
        if let Err(cause) = arena.register() {
            tracing::warn!(
                "running with unregistered buffers, at a higher CPU cost: cannot lock {} MiB of payload memory ({cause}; {}); raise \
                 it with `ulimit -l`, `LimitMEMLOCK=` in a systemd unit or `--ulimit memlock=-1` for a container",
                arena.capacity() * super::SLAB_LEN / (1024 * 1024),
                lockable()
            );
        }
        main(Core { arena }).await
    }))
}

/// Starts a task on this core.
pub fn spawn<F: Future + 'static>(task: F) -> JoinHandle<F::Output> {
    tokio_uring::spawn(task)
}

/// Binds this thread to one of the processors that the program may use: the `number`th, counted round. Where that is not
/// allowed it runs anywhere, which only costs some speed.
pub fn pin(number: usize) {
    let Ok(allowed) = rustix::thread::sched_getaffinity(None) else { return };
    let mut all = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    if let Some(cpu) = all.nth(number % allowed.count().max(1) as usize) {
        let mut only = CpuSet::new();
        only.set(cpu);
        let _ = rustix::thread::sched_setaffinity(None, &only);
    }
}
