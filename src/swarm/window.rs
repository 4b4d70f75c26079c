//! How many requests to keep open with a peer: what it sends in the time that a request takes to be answered, and a reserve.

use crate::metainfo::BLOCK_LEN;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Fewest requests kept open, and most, whatever the peer allows. Two keep any link busy that is slow enough to be worth no
/// more; each one more is a block that waits at a slow peer while a faster one might send it.
pub(super) const BOUNDS: RangeInclusive<usize> = 2..=2000;
/// Requests that a peer takes which has not said how many (BEP 10 has no default; clients in use take this many at least).
pub(super) const DEFAULT_MOST: usize = 250;
/// First window.
const FIRST: usize = 4;
/// The window covers this much time beyond the delay: disks and links have moods.
const RESERVE: Duration = Duration::from_secs(2);
/// Longer delays are not believed.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How often slow start looks whether more requests have brought more.
const LOOK: Duration = Duration::from_secs(1);

/// Slow start first: one request more for each block that comes, which doubles the window every round trip, until the rate
/// grows no more. Then bandwidth times delay.
#[derive(Debug)]
pub(super) struct Window {
    /// The window of slow start, until it is over.
    start: Option<usize>,
    /// When slow start looked last, and the rate then.
    looked: Option<(Duration, u64)>,
    /// The shortest time that a request took: later ones wait behind others.
    delay: Option<Duration>,
    /// Most that our own limits leave it.
    pub(super) most: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { start: Some(FIRST), looked: None, delay: None, most: *BOUNDS.end() }
    }
}

impl Window {
    /// One that begins with so many.
    #[cfg(test)]
    pub(super) fn beginning(size: usize) -> Self {
        Self { start: Some(size), ..Self::default() }
    }

    /// A block has come that was asked for then.
    pub(super) fn block_came(&mut self, now: Duration, asked: Option<Duration>) {
        self.start = self.start.map(|size| (size + 1).min(*BOUNDS.end()));
        self.looked.get_or_insert((now, 0));
        if let Some(delay) = asked.map(|asked| now.saturating_sub(asked)) {
            self.delay = Some(self.delay.map_or(delay, |least| least.min(delay)));
        }
    }

    /// The peer gives us a slot: what its last one was worth says little, so slow start begins anew.
    pub(super) fn restart(&mut self) {
        (self.start, self.looked) = (Some(FIRST), None);
    }

    /// The peer does not send what it was asked for: it begins again from few.
    pub(super) fn shrink(&mut self) {
        self.start = None;
    }

    /// Time has passed; the peer sends so many bytes a second.
    pub(super) fn tick(&mut self, now: Duration, rate: u64) {
        let Some((looked, before)) = self.looked.filter(|_| self.start.is_some()) else { return };
        if now < looked + LOOK {
            return;
        }
        // Less than an eighth more: what is asked for above this only waits at the peer.
        if before > 0 && rate < before + before / 8 {
            self.start = None;
        }
        self.looked = Some((now, rate));
    }

    /// Requests to keep open at this rate (bytes a second).
    pub(super) fn size(&self, rate: u64) -> usize {
        self.worth(rate).min(self.most.clamp(1, *BOUNDS.end()))
    }

    /// What comes in the time of the reserve, and of the delay, when that is the peer's doing: by a low limit of our own it is not.
    pub(super) fn covers(&self, rate: u64, with_delay: bool) -> usize {
        let delay = self.delay.filter(|_| with_delay);
        let time = RESERVE + delay.unwrap_or_default().min(LONGEST_DELAY);
        let bytes = u128::from(rate) * time.as_millis() / 1000;
        usize::try_from(bytes / u128::from(BLOCK_LEN)).unwrap_or(usize::MAX)
    }

    /// As many as it would be good to keep open, were there no limit.
    pub(super) fn worth(&self, rate: u64) -> usize {
        self.covers(rate, true).max(self.start.unwrap_or(0)).max(*BOUNDS.start())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer behind a link of `rate` blocks a second and that delay, asked for as much as the window says, for so long. Gives
    /// the window in the end, and the seconds it took to use nine tenths of the link.
    fn run(rate: u64, delay: Duration, most: usize, seconds: u32) -> (usize, Option<u32>) {
        let mut window = Window { most, ..Window::default() };
        let mut measured = crate::swarm::rate::Rate::default();
        let step = Duration::from_millis(10);
        let (mut open, mut arrivals) = (0, std::collections::VecDeque::new());
        let (mut free_at, mut full_at) = (Duration::ZERO, None);
        for tick in 0..seconds * 100 {
            let now = step * tick;
            while arrivals.front().is_some_and(|(at, _)| *at <= now) {
                let (_, asked) = arrivals.pop_front().unwrap();
                open -= 1;
                measured.add(BLOCK_LEN.into());
                window.block_came(now, Some(asked));
            }
            if tick % 50 == 0 {
                measured.tick(now);
                window.tick(now, measured.get());
            }
            while open < window.size(measured.get()) {
                free_at = free_at.max(now) + Duration::from_secs(1) / rate as u32;
                arrivals.push_back((free_at + delay, now));
                open += 1;
            }
            if measured.get() * 10 >= rate * 9 * u64::from(BLOCK_LEN) {
                full_at = full_at.or(Some(tick / 100));
            }
        }
        (window.size(measured.get()), full_at)
    }

    #[test]
    fn a_link_is_filled_soon_whatever_its_delay_and_not_flooded() {
        for (rate, delay, most) in [(50, 20, 2000), (400, 20, 2000), (400, 1500, 2000), (400, 300, 2000)] {
            let (size, full) = run(rate, Duration::from_millis(delay), most, 30);
            let expected = rate * (2000 + delay) / 1000;
            assert!(full.is_some_and(|second| second < 20), "{rate} {delay}: {full:?}");
            assert!(
                (expected * 9 / 10..=expected * 11 / 10 + 8).contains(&(size as u64)),
                "{rate} {delay}: {size}"
            );
        }
    }

    #[test]
    fn our_own_limits_leave_so_many() {
        assert_eq!(run(2000, Duration::from_millis(20), 250, 20).0, 250);
        assert_eq!(run(2000, Duration::from_millis(20), 10_000, 20).0, 2000);
        assert_eq!(run(2000, Duration::from_millis(20), 3, 20).0, 3);
    }
}
