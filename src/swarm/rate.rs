//! Bytes a second, measured.

use std::time::Duration;

/// How often a rate is brought up to date.
const SLOT: Duration = Duration::from_millis(500);

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
        // A weight of half each second of age.
        let keep = 0.5f64.powf(age.as_secs_f64());
        self.mean = self.mean * keep + rate * (1.0 - keep);
        (self.since, self.fresh) = (now, 0);
    }

    /// Bytes a second.
    pub(super) fn get(&self) -> u64 {
        self.mean as u64
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
}
