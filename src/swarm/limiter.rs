//! Limits of bytes a second that all cores keep together, without a lock.
//!
//! A limiter is one number: up to when its bytes are booked. Whoever wants to move bytes books them behind all bookings so far,
//! and moves them when their time has come. So the sum is right however the cores and their peers share it, and everybody
//! who always wants more, and books, gets the same: all book small amounts in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Time that may be made up for when nobody was there to book it: a thread that wakes late, a socket that was full.
const SLACK: Duration = Duration::from_millis(30);
/// When nothing was booked for so long, those who book leave something: less than the slack, so that none of it is lost.
const IDLE: Duration = Duration::from_millis(20);
const _: () = assert!(IDLE.as_nanos() < SLACK.as_nanos());
/// Bookings a second, roughly, and their bounds in bytes.
const BOOKINGS: u64 = 100;
const SHORTEST: u64 = 128;
const LONGEST: u64 = 256 * 1024;

/// One limit.
#[derive(Debug)]
pub struct Limiter {
    /// Bytes a second, at least 1.
    rate: u64,
    /// Nanoseconds on the clock that all share: until then all is booked.
    booked: AtomicU64,
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Limiter {
    /// So many bytes a second.
    pub fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), booked: AtomicU64::new(0) }
    }

    fn cost(&self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.rate)).unwrap_or(u64::MAX)
    }

    /// Books bytes; says when they may move. Time comes from a clock that all who book share.
    fn book(&self, now: Duration, bytes: u64) -> Duration {
        let (earliest, cost) = (nanos(now.saturating_sub(SLACK)), self.cost(bytes));
        let book = |booked: u64| Some(booked.max(earliest).saturating_add(cost));
        let before = self.booked.fetch_update(Ordering::AcqRel, Ordering::Acquire, book);
        let (Ok(before) | Err(before)) = before;
        Duration::from_nanos(before.max(earliest)).max(now)
    }

    fn is_idle(&self, now: Duration) -> bool {
        self.booked.load(Ordering::Acquire) <= nanos(now.saturating_sub(IDLE))
    }

    /// Gives back bytes that were booked and not moved.
    fn unbook(&self, bytes: u64) {
        self.booked.fetch_sub(self.cost(bytes), Ordering::AcqRel);
    }
}

/// The limits that hold for something at the same time: that of a torrent, that of the program. Often none.
#[derive(Clone, Debug, Default)]
pub struct Throttle {
    limiters: Vec<Arc<Limiter>>,
}

impl Throttle {
    /// These limits together.
    pub fn new(limiters: Vec<Arc<Limiter>>) -> Self {
        Self { limiters }
    }

    /// The lowest of the limits, in bytes a second.
    pub fn rate(&self) -> Option<u64> {
        self.limiters.iter().map(|limiter| limiter.rate).min()
    }

    /// How much to book at a time, in bytes; `None` when there is no limit, and nothing to book.
    pub fn quantum(&self) -> Option<u64> {
        self.rate().map(|rate| (rate / BOOKINGS).clamp(SHORTEST, LONGEST))
    }

    /// Books bytes; says when they may move.
    pub fn book(&self, now: Duration, bytes: u64) -> Duration {
        self.limiters.iter().map(|limiter| limiter.book(now, bytes)).max().unwrap_or(now)
    }

    /// Whether there are limits, and none is made full use of.
    pub fn is_idle(&self, now: Duration) -> bool {
        !self.limiters.is_empty() && self.limiters.iter().all(|limiter| limiter.is_idle(now))
    }

    /// Gives back bytes that were booked and not moved.
    pub fn unbook(&self, bytes: u64) {
        self.limiters.iter().for_each(|limiter| limiter.unbook(bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peers that book in turn as they can, each on a thread of its own clock steps; the bytes each has moved in every second.
    fn run(rate: u64, delays: &[u64], seconds: u64) -> Vec<Vec<u64>> {
        run_under(&vec![Throttle::new(vec![Arc::new(Limiter::new(rate))]); delays.len()], delays, seconds)
    }

    /// Likewise, each under limits of its own.
    fn run_under(throttles: &[Throttle], delays: &[u64], seconds: u64) -> Vec<Vec<u64>> {
        let end = Duration::from_secs(seconds);
        let mut moved = vec![vec![0; seconds as usize]; delays.len()];
        // When each may act next, and whether it has bytes booked.
        let mut turns: Vec<(Duration, bool)> = delays.iter().map(|_| (Duration::ZERO, false)).collect();
        loop {
            let next = (0..turns.len()).min_by_key(|peer| turns[*peer].0).unwrap();
            let (now, holds) = turns[next];
            let quantum = throttles[next].quantum().unwrap();
            if now >= end {
                return moved;
            }
            if holds {
                moved[next][now.as_secs() as usize] += quantum;
                // It takes a peer some time to be ready for more.
                turns[next] = (now + Duration::from_micros(delays[next]), false);
            } else {
                // Threads wake a millisecond late.
                turns[next] = (throttles[next].book(now, quantum).max(now) + Duration::from_millis(1), true);
            }
        }
    }

    #[test]
    fn the_sum_of_uneven_peers_is_exact_within_five_in_a_hundred_of_every_second() {
        for rate in [50_000, 1_000_000, 20_000_000, 100_000_000] {
            // Some always want more, some are slow to come back.
            for delays in [&[100][..], &[100, 100, 100, 100], &[50, 100, 200_000, 900_000], &[0; 40]] {
                let moved = run(rate, delays, 10);
                for second in 1..10 {
                    let sum: u64 = moved.iter().map(|peer| peer[second]).sum();
                    let (least, most) = (rate * 95 / 100, rate * 105 / 100);
                    assert!((least..=most).contains(&sum), "{rate} a second, {delays:?}: {sum} in {second}");
                }
            }
        }
    }

    #[test]
    fn who_always_wants_more_gets_as_much_as_the_others() {
        let moved = run(1_000_000, &[0, 10, 1000, 5000, 0, 0, 0, 0], 10);
        let sums: Vec<u64> = moved.iter().map(|peer| peer.iter().sum()).collect();
        let (least, most) = (sums.iter().min().unwrap(), sums.iter().max().unwrap());
        assert!(*most <= least * 105 / 100 + 20_000, "{sums:?}");
    }

    #[test]
    fn several_limits_hold_at_once_and_what_is_given_back_is_booked_again() {
        let [global, own] = [300_000, 100_000].map(|rate| Arc::new(Limiter::new(rate)));
        let both = Throttle::new(vec![Arc::clone(&global), own]);
        assert_eq!((both.rate(), both.quantum()), (Some(100_000), Some(1000)));
        let now = Duration::from_secs(1);
        assert_eq!(both.book(now, 100_000), now);
        let next = both.book(now, 10);
        assert!(next >= Duration::from_millis(1960), "{next:?}");
        both.unbook(50_010);
        let next = both.book(now, 10);
        assert!((1460..1480).contains(&next.as_millis()), "{next:?}");
        let other = Throttle::new(vec![global]);
        assert!(
            other.book(now, 10) < Duration::from_millis(1200),
            "the torrent's limit is no concern of others"
        );
        let free = Throttle::default();
        assert_eq!((free.quantum(), free.book(now, u64::MAX)), (None, now));
    }

    #[test]
    fn the_limits_of_the_program_and_of_each_torrent_are_exact_at_once() {
        let limiter = |rate| Arc::new(Limiter::new(rate));
        // Two peers of each torrent; what all have together, which is less than the program's limit when their own are lower.
        for (limits, all) in [
            ([Some(100_000), Some(2_000_000), None], 1_000_000),
            ([Some(150_000), Some(250_000), Some(350_000)], 750_000),
            ([Some(600_000), Some(700_000), Some(800_000)], 1_000_000),
        ] {
            let global = limiter(1_000_000);
            let under = |own: &Option<u64>| {
                let own = own.map(limiter);
                Throttle::new([Some(Arc::clone(&global)), own].into_iter().flatten().collect())
            };
            let throttles: Vec<Throttle> =
                limits.iter().map(under).flat_map(|one| [one.clone(), one]).collect();
            let moved = run_under(&throttles, &[100, 1000, 0, 100, 50, 3000], 10);
            for second in 1..10 {
                let of: Vec<u64> = moved.chunks(2).map(|peers| peers[0][second] + peers[1][second]).collect();
                let sum: u64 = of.iter().sum();
                assert!((all * 95 / 100..=all * 105 / 100).contains(&sum), "{limits:?}: {of:?} in {second}");
                let is_within =
                    |(bytes, own): (&u64, &Option<u64>)| own.is_none_or(|own| *bytes <= own * 105 / 100);
                assert!(of.iter().zip(&limits).all(is_within), "{limits:?}: {of:?} in {second}");
            }
        }
    }

    #[test]
    fn a_limit_is_idle_when_nobody_has_booked_for_a_moment() {
        let [own, global] = [100_000, 300_000].map(|rate| Arc::new(Limiter::new(rate)));
        let both = Throttle::new(vec![Arc::clone(&own), Arc::clone(&global)]);
        let now = Duration::from_secs(1);
        assert!(both.is_idle(now) && !Throttle::default().is_idle(now));
        // Made up for: 30 of its 40 milliseconds.
        both.book(now, 4000);
        let times = [10, 29, 31].map(|millis| both.is_idle(now + Duration::from_millis(millis)));
        assert_eq!(times, [false, false, true]);
        // What is idle can all be used.
        let later = now + Duration::from_millis(50);
        assert_eq!(both.book(later, 2000), later);
        assert!(!both.is_idle(later));
        // The other one alone is idle by then.
        let last = later + Duration::from_millis(60);
        Throttle::new(vec![own]).book(last, 3000);
        assert!(!both.is_idle(last) && Throttle::new(vec![global]).is_idle(last));
    }

    #[test]
    fn threads_book_together() {
        let throttle = Throttle::new(vec![Arc::new(Limiter::new(1_000_000))]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| _ = throttle.book(Duration::from_secs(1), 1000)));
            }
        });
        let next = throttle.book(Duration::from_secs(1), 1);
        assert!((4960..=4980).contains(&next.as_millis()), "four million bytes are booked: {next:?}");
    }
}
