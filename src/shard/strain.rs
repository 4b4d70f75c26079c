//! Whether this core is what is slow: its thread has hardly waited of late.

use crate::ring;
use std::cell::Cell;
use std::time::Duration;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(100);

/// When it was looked last, the thread's processor time then, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Strain(Cell<(Duration, Duration, bool)>);

impl Strain {
    /// Whether the thread has worked for seven eighths of the time between the last two looks.
    pub(super) fn look(&self, now: Duration) -> bool {
        self.look_at(now, || Duration::from_nanos(ring::worked()))
    }

    fn look_at(&self, now: Duration, worked: impl FnOnce() -> Duration) -> bool {
        let (at, before, is_busy) = self.0.get();
        let passed = now.saturating_sub(at);
        if passed < LOOK {
            return is_busy;
        }
        let worked = worked();
        let is_busy = worked.saturating_sub(before) >= passed * 7 / 8;
        self.0.set((now, worked, is_busy));
        is_busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_busy_that_hardly_waits() {
        let strain = Strain::default();
        let look = |now, worked| strain.look_at(Duration::from_millis(now), || Duration::from_millis(worked));
        assert!(!look(1000, 10));
        assert!(!look(1099, 109), "too soon");
        assert!(look(1100, 98));
        assert!(look(1199, 98), "as it was");
        assert!(!look(1200, 185));
        assert!(look(2200, 1060), "over a longer time");
    }
}
