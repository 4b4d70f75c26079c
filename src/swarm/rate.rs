//! Bytes a second, measured.

use std::time::Duration;

/// How often a rate is brought up to date.
const SLOT: Duration = Duration::from_millis(500);
/// What is left of the weight of something after a second.
const KEPT: f64 = 0.5;

/// A rate as the mean of the last few seconds, the youngest weighing most.
#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    since: Duration,
    fresh: u64,
    mean: f64,
}

impl Rate {
    /// Counts bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.fresh += bytes;
    }

    /// Closes the slot when it is over.
    pub(super) fn tick(&mut self, now: Duration) {
        let age = now.saturating_sub(self.since);
        if age < SLOT {
            return;
        }
        let rate = self.fresh as f64 / age.as_secs_f64();
        let keep = KEPT.powf(age.as_secs_f64());
        self.mean = self.mean * keep + rate * (1.0 - keep);
        (self.since, self.fresh) = (now, 0);
    }

    /// Bytes a second.
    pub(super) fn get(&self) -> u64 {
        self.mean as u64
    }

    /// What part of a rate is shown when it began so many seconds ago.
    pub(super) fn shown_after(seconds: f64) -> f64 {
        1.0 - KEPT.powf(seconds)
    }
}

/// What somebody does in a second of work: the time in which it has nothing to do does not count. (A peer that cannot be asked for
/// anything, for want of memory, is as fast as before.) Known from its first bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Speed {
    /// Until when work is counted.
    until: Duration,
    /// Bytes, and seconds of work for them, since the last tick by which some had come: of a block that takes long, all of its time.
    fresh: (u64, f64),
    /// Those before, the youngest weighing most.
    kept: (f64, f64),
    /// Bytes a second, by all that.
    rate: u64,
}

impl Speed {
    /// One that was so high for a second.
    #[cfg(test)]
    pub(super) fn steady(rate: u64) -> Self {
        Self { kept: (rate as f64, 1.0), rate, ..Self::default() }
    }

    /// Bytes have come; since when it has had something to do, if it has.
    pub(super) fn came(&mut self, now: Duration, bytes: u64, since: Option<Duration>) {
        self.fresh.0 += bytes;
        self.count(now, since);
    }

    /// Whether bytes have come since the last tick.
    pub(super) fn has_fresh(&self) -> bool {
        self.fresh.0 > 0
    }

    /// Twice a second.
    pub(super) fn tick(&mut self, now: Duration, since: Option<Duration>) {
        let sums = self.count(now, since);
        if self.fresh.0 > 0 {
            (self.kept, self.fresh) = (sums, (0, 0.0));
        }
    }

    fn count(&mut self, now: Duration, since: Option<Duration>) -> (f64, f64) {
        self.fresh.1 += since.map_or(0.0, |since| now.saturating_sub(since.max(self.until)).as_secs_f64());
        self.until = now;
        let (bytes, seconds) = self.fresh;
        let keep = KEPT.powf(seconds);
        let (bytes, seconds) = (self.kept.0 * keep + bytes as f64, self.kept.1 * keep + seconds);
        self.rate = if seconds > 0.0 { (bytes / seconds) as u64 } else { 0 };
        (bytes, seconds)
    }

    /// Bytes a second.
    pub(super) fn get(&self) -> u64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_a_steady_stream_and_fades() {
        let mut rate = Rate::default();
        for slot in 1..=20u32 {
            rate.add(5_000);
            rate.tick(SLOT * slot);
        }
        assert!((9_900..=10_000).contains(&rate.get()), "{}", rate.get());
        rate.tick(SLOT * 40);
        assert!(rate.get() < 20, "{}", rate.get());
    }

    #[test]
    fn speed_is_that_of_work_and_known_at_once() {
        let mut speed = Speed::default();
        let at = Duration::from_millis;
        // A block of 1000 bytes in a tenth of a second, every two seconds.
        for turn in 0..10 {
            speed.came(at(turn * 2000 + 100), 1000, Some(at(turn * 2000)));
            assert!((9_900..=10_100).contains(&speed.get()), "{}", speed.get());
            (1..=4).for_each(|tick| speed.tick(at(turn * 2000 + tick * 500), None));
        }
        // One that takes five seconds.
        (0..10).for_each(|tick| speed.tick(at(20_000 + tick * 500), Some(at(20_000))));
        speed.came(at(25_000), 1000, Some(at(20_000)));
        assert!((200..=300).contains(&speed.get()), "{}", speed.get());
        // Asked for more it falls silent.
        (0..40).for_each(|tick| speed.tick(at(25_000 + tick * 500), Some(at(25_000))));
        assert_eq!(speed.get(), 0);
    }
}
