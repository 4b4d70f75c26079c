//! What our link takes: what a limit says, or else what is seen of it.
//!
//! Nobody tells us what lies between us and the peers. But when those whom we serve wait for room in their connections for
//! seconds, and a piece for each of them would take seconds more, what goes out is all that our link takes, or else all that theirs
//! take. Which of the two shows when some of them are put off for others: our own link stays full then. If it does not, it
//! is not taken for full again for a while.

use std::time::Duration;

/// So many looks in a row, two a second, those whom we serve have to wait for room.
const LOOKS: u8 = 4;
/// What is left of the most that was seen, at the next look: a link may get slower.
const KEPT: f64 = 0.95;
/// What part of a link, told or seen, is taken for all of it.
pub(super) const FULL: f64 = 0.75;
/// So many looks in a row it is not full while somebody is put off: then it was taken for full in error.
const ERROR: u8 = 6;
/// How long an error is remembered.
const DOUBT: Duration = Duration::from_secs(60);
/// What is sent to a peer at first fills its buffers, however slow the link is.
pub(super) const FILLING: Duration = Duration::from_secs(3);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Uplink {
    /// Bytes a second that went out at the most of late.
    most: f64,
    /// Looks in a row at which there was no room.
    waits: u8,
    /// Looks in a row at which it was not full although somebody was put off.
    low: u8,
    /// Until when it is not taken for full.
    doubted: Duration,
}

impl Uplink {
    /// So many bytes a second go out, and whether most of those who are served `wait` for room, and have been served for longer than
    /// it takes to [fill](FILLING) their buffers. Twice a second.
    pub(super) fn look(&mut self, up: u64, wait: bool) {
        self.waits = if wait { self.waits.saturating_add(1) } else { 0 };
        self.most = if wait { (self.most * KEPT).max(up as f64) } else { self.most * KEPT };
    }

    /// Bytes a second that it takes, as long as it seems to be what all wait for.
    pub(super) fn rate(&self, now: Duration) -> Option<u64> {
        (self.waits >= LOOKS && now >= self.doubted).then_some(self.most as u64)
    }

    /// Whether so many bytes a second are about all that it takes; with whether somebody is put off now. Twice a second.
    pub(super) fn is_full(&mut self, now: Duration, up: u64, puts_off: bool) -> bool {
        let is_full = self.rate(now).is_some_and(|rate| up as f64 >= rate as f64 * FULL);
        self.low = if is_full { 0 } else { self.low + u8::from(puts_off || self.low > 0) };
        if self.low >= ERROR {
            *self = Self { doubted: now + DOUBT, ..Self::default() };
        }
        is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    #[test]
    fn a_link_is_known_when_all_have_waited_for_it() {
        let mut link = Uplink::default();
        link.look(9000, false);
        for up in [100, 300, 200] {
            link.look(up, true);
            assert_eq!(link.rate(NOW), None);
        }
        link.look(250, true);
        assert_eq!(link.rate(NOW), Some(270), "nearly the most of late");
        assert_eq!([204, 203, 202].map(|up| link.is_full(NOW, up, false)), [true, true, false]);
        link.look(250, false);
        assert!(!link.is_full(NOW, 250, false));
    }

    #[test]
    fn who_was_wrong_about_it_waits_for_a_while() {
        let mut link = Uplink::default();
        let wait = |link: &mut Uplink| (0..LOOKS).for_each(|_| link.look(100, true));
        wait(&mut link);
        for low in [ERROR - 1, ERROR - 1] {
            assert!(link.is_full(NOW, 100, true));
            assert!((0..low).all(|_| !link.is_full(NOW, 50, true)));
        }
        assert_eq!(link.rate(NOW), Some(100), "never for long");
        link.is_full(NOW, 50, true);
        wait(&mut link);
        assert_eq!((link.rate(NOW), link.rate(NOW + DOUBT)), (None, Some(100)));
    }
}
