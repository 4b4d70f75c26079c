//! Whether this core is what is slow: its thread has hardly waited of late. (One that shares its processor with others may wait for
//! them, and is not found to be slow then.)

use super::torrent::TorrentShard;
use crate::ring;
use std::cell::Cell;
use std::time::Duration;

/// It is looked no more often: in less time anything may happen.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Duration,
    /// The thread's processor time then.
    worked: Duration,
    was_busy: bool,
}

/// What was seen when it was looked last.
#[derive(Debug, Default)]
pub(super) struct Strain(Cell<Option<Look>>);

impl Strain {
    /// Whether the thread has worked for seven eighths of the time between the last two looks: the rest goes to who else wants the
    /// processor.
    fn look(&self, now: Duration) -> bool {
        self.look_at(now, || Duration::from_nanos(ring::worked()))
    }

    fn look_at(&self, now: Duration, worked: impl FnOnce() -> Duration) -> bool {
        let last = self.0.get();
        if let Some(last) = last.filter(|last| now < last.at + LOOK) {
            return last.was_busy;
        }
        let worked = worked();
        let was_busy = last.is_some_and(|last| worked.saturating_sub(last.worked) >= (now - last.at) * 7 / 8);
        self.0.set(Some(Look { at: now, worked, was_busy }));
        was_busy
    }
}

impl TorrentShard {
    /// Whether this core has no time for what peers send.
    pub(super) fn is_strained(&self, now: Duration) -> bool {
        #[cfg(test)]
        if super::faults::awaits(self.handshake.info_hash, super::faults::Place::Strain) {
            return true;
        }
        self.strain.look(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_that_hardly_waits() {
        let strain = Strain::default();
        let look = |now, worked| strain.look_at(Duration::from_millis(now), || Duration::from_millis(worked));
        assert!(!look(1000, 1000), "there is nothing to compare with");
        assert!(!look(1099, 1099), "too soon");
        assert!(look(1100, 1088));
        assert!(look(1199, 1088), "as it was");
        assert!(!look(1200, 1175));
        assert!(look(2200, 2050), "over a longer time");
    }
}
