//! The descriptors of this process: places that files and connections must have before they are opened.
//!
//! The system gives a process so many descriptors and no more, and whoever it refuses one is refused work. So they are handed
//! out here: a part of them to files, the rest to connections, none to both. What finds no place waits for one. A part is
//! left to whatever else the program opens: rings, trackers, the DHT, figures.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of the places, so many eighths are for files, of which an open one takes one or two.
const FILES: usize = 3;
/// Most places for files: it costs as much to open one as to send several blocks of it.
const MOST_FILES: usize = 8192;
/// Fewest places for files and for connections, however low the limit is.
const LEAST: usize = 8;
/// What is left to the rest of the program: one in so many, and at least and at most so many.
const REST: (usize, usize, usize) = (16, 8, 128);
/// A file and a connection.
const ONE_OF_EACH: usize = 2;
/// What a core has open beside files and connections: its two rings and what wakes it, and the folders on the way to a file.
const PER_CORE: usize = 8;
/// Open descriptors of a process that cannot see its own.
const USUAL: usize = 16;
/// A limit that the system does not tell, or that is none.
const MANY: usize = 1 << 20;
/// So long after the system has refused one, no connection is begun.
const SHORT_TIME: Duration = Duration::from_millis(500);

/// A descriptor that may be open: it can be, as long as this is held.
#[must_use]
#[derive(Debug)]
pub struct Place(#[expect(dead_code, reason = "it is given back when dropped")] OwnedSemaphorePermit);

/// Places of one kind. Whoever waits is served in turn, on whatever core.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    all: AtomicUsize,
    waiting: AtomicUsize,
}

impl Places {
    fn new(all: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(all)), all: all.into(), waiting: AtomicUsize::new(0) }
    }

    /// How many there are, free or not.
    pub fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// One, if it is free and nobody waits for it.
    pub fn try_take(&self) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Place)
    }

    /// Whether there is one that nobody has or waits for.
    pub fn are_free(&self) -> bool {
        self.free.available_permits() > 0
    }

    /// One, as soon as there is one.
    pub async fn take(&self) -> Place {
        if let Some(place) = self.try_take() {
            return place;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let place = Arc::clone(&self.free).acquire_owned().await;
        Place(place.expect("places are never closed"))
    }

    /// Whether somebody waits for one.
    pub fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

/// Somebody who waits, however that ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Not a single connection has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{limit} file descriptors leave no room for a single peer: on {cores} processors at least {needed} are needed; raise the \
     limit with `ulimit -n`, `LimitNOFILE=` in a systemd unit or `--ulimit nofile=` for a container"
)]
pub struct TooFewDescriptors {
    limit: usize,
    needed: usize,
    cores: usize,
}

/// See the module.
#[derive(Debug)]
pub struct Descriptors {
    /// For files.
    pub files: Places,
    /// For connections.
    pub sockets: Places,
    /// As many as the process may have, and as many as it had at its start.
    limit: usize,
    open: usize,
    began: Instant,
    /// Until when the system is held to be short of them, in milliseconds.
    short_until: AtomicU64,
    told: Once,
}

impl Descriptors {
    /// Those of this process; one for all cores. The limit is raised as far as it goes.
    pub fn of_process() -> &'static Self {
        static ALL: LazyLock<Descriptors> = LazyLock::new(|| {
            // One of them is the look at them.
            let open =
                std::fs::read_dir("/proc/self/fd").map_or(USUAL, |open| open.count().saturating_sub(1));
            Descriptors::new(raise_limit(), open)
        });
        &ALL
    }

    /// Of a process that may have `limit`, and has `open`.
    fn new(limit: usize, open: usize) -> Self {
        let (part, least, most) = REST;
        let rest = (limit / part).clamp(least, most);
        let ours = limit.saturating_sub(open + rest);
        let files = (ours * FILES / 8).clamp(LEAST, MOST_FILES);
        let sockets = ours.saturating_sub(files).clamp(LEAST, MANY);
        Self {
            files: Places::new(files),
            sockets: Places::new(sockets),
            limit,
            open,
            began: Instant::now(),
            short_until: AtomicU64::new(0),
            told: Once::new(),
        }
    }

    /// Sets aside what so many cores need beside files and connections, at the cost of connections.
    ///
    /// # Errors
    /// When nothing is left for a connection: whoever came would be refused, again and again.
    pub fn set_aside(&self, cores: usize) -> Result<(), TooFewDescriptors> {
        let needed = self.open + REST.1 + cores * PER_CORE + ONE_OF_EACH;
        if self.limit < needed {
            return Err(TooFewDescriptors { limit: self.limit, needed, cores });
        }
        let most = self.sockets.all().saturating_sub(LEAST).min(cores * PER_CORE);
        let taken = self.sockets.free.forget_permits(most);
        self.sockets.all.fetch_sub(taken, Ordering::Relaxed);
        Ok(())
    }

    /// Somebody has to wait for a place. Says so, once.
    pub fn warn_once(&self) {
        self.told.call_once(|| {
            tracing::warn!(
                "file descriptors are short: connections and files wait for each other; raise the limit with `ulimit -n`"
            );
        });
    }

    /// The system has refused a descriptor for which there was a place: others have taken more than was left to them.
    pub fn count_refusal(&self) {
        self.warn_once();
        let until = self.began.elapsed() + SHORT_TIME;
        self.short_until.store(until.as_millis() as u64, Ordering::Relaxed);
    }

    /// Whether the system has refused one a moment ago: connections are not begun then.
    pub fn are_short(&self) -> bool {
        (self.began.elapsed().as_millis() as u64) < self.short_until.load(Ordering::Relaxed)
    }
}

/// Raises the limit on descriptors as far as it goes, and says how far that is.
pub fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    now.and_then(|most| usize::try_from(most).ok()).map_or(MANY, |most| most.min(MANY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_together_are_within_the_limit() {
        for (limit, open, cores) in [(64, 15, 1), (64, 15, 2), (128, 20, 2), (256, 16, 4), (1024, 30, 8)] {
            let all = Descriptors::new(limit, open);
            all.set_aside(cores).unwrap();
            let sum = open + cores * PER_CORE + all.files.all() + all.sockets.all();
            assert!(sum + REST.1 <= limit, "{sum} of {limit}");
            assert!(sum + limit / 8 >= limit, "{sum} of {limit}");
        }
        let few = Descriptors::new(42, 16);
        let none = few.set_aside(3).unwrap_err();
        assert_eq!(none, TooFewDescriptors { limit: 42, needed: 50, cores: 3 });
        assert_eq!(few.set_aside(2), Ok(()));
        assert_eq!((few.files.all(), few.sockets.all()), (LEAST, LEAST), "they will wait for the system");
        assert_eq!(Descriptors::new(MANY, 16).files.all(), MOST_FILES);
    }

    #[tokio::test]
    async fn who_finds_no_place_waits_for_one() {
        let places = Arc::new(Places::new(1));
        let first = places.try_take().unwrap();
        assert!(places.try_take().is_none() && !places.are_wanted());
        let other = Arc::clone(&places);
        let waiting = tokio::spawn(async move { other.take().await });
        while !places.are_wanted() {
            tokio::task::yield_now().await;
        }
        drop(first);
        let second = waiting.await.unwrap();
        assert!(places.try_take().is_none() && !places.are_wanted());
        drop(second);
        assert!(places.try_take().is_some());
    }

    #[test]
    fn a_refusal_is_remembered_for_a_moment() {
        let all = Descriptors::new(100, 10);
        assert!(!all.are_short());
        all.count_refusal();
        assert!(all.are_short());
    }
}
