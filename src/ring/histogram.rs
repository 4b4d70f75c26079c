//! How values spread: counts in fixed buckets, for one thread.

use std::time::Duration;

const BUCKETS: usize = 12;
/// Upper bounds of times, in nanoseconds: 50 µs to 2.5 s.
const TIMES: [u64; BUCKETS] = {
    const US: u64 = 1_000;
    const MS: u64 = 1_000_000;
    [
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        100 * MS,
        500 * MS,
        2_500 * MS,
    ]
};
/// Upper bounds of sizes, in bytes: 16 KiB to 32 MiB.
const SIZES: [u64; BUCKETS] = {
    const BLOCK: u64 = 16 * 1024;
    let mut bounds = [BLOCK; BUCKETS];
    let mut at = 1;
    while at < BUCKETS {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
};

/// A histogram of whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64; BUCKETS],
    /// Values of each bucket, those of no bucket last.
    counts: [u64; BUCKETS + 1],
    sum: u64,
}

impl Histogram {
    /// For times, in nanoseconds.
    pub const fn of_times() -> Self {
        Self { bounds: &TIMES, counts: [0; BUCKETS + 1], sum: 0 }
    }

    /// For sizes, in bytes.
    pub const fn of_sizes() -> Self {
        Self { bounds: &SIZES, counts: [0; BUCKETS + 1], sum: 0 }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Counts a time.
    pub fn observe_time(&mut self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds the counts of another histogram of the same kind.
    ///
    /// # Panics
    /// When the other one counts in other buckets.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.bounds, other.bounds, "times and sizes are not added");
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// The upper bound of each bucket with the number of values up to it.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        let cumulative = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().copied().zip(cumulative)
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    pub fn sum(&self) -> u64 {
        self.sum
    }
}

/// How long batches of work took, and how large they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// Times in nanoseconds.
    pub times: Histogram,
    /// Sizes in bytes.
    pub sizes: Histogram,
}

impl Default for Batches {
    fn default() -> Self {
        Self { times: Histogram::of_times(), sizes: Histogram::of_sizes() }
    }
}

impl Batches {
    /// Counts one.
    pub fn observe(&mut self, time: Duration, bytes: u64) {
        self.times.observe_time(time);
        self.sizes.observe(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise() {
        assert!(TIMES.is_sorted() && SIZES.is_sorted());
        assert_eq!((SIZES[0], SIZES[11]), (16 << 10, 32 << 20));
    }

    #[test]
    fn a_value_counts_in_its_bucket_and_all_above() {
        let mut sizes = Histogram::of_sizes();
        [0, 16 << 10, (16 << 10) + 1, 64 << 20].into_iter().for_each(|size| sizes.observe(size));
        let buckets: Vec<_> = sizes.buckets().collect();
        assert_eq!(buckets[0], (16 << 10, 2));
        assert_eq!(buckets[1], (32 << 10, 3));
        assert_eq!(buckets[11], (32 << 20, 3));
        assert_eq!((sizes.count(), sizes.sum()), (4, (32 << 10) + 1 + (64 << 20)));
    }

    #[test]
    fn sums_of_two_are_as_if_one_had_seen_all() {
        let (mut one, mut two, mut both) =
            (Histogram::of_times(), Histogram::of_times(), Histogram::of_times());
        for (at, micros) in [1, 60, 900, 30_000, 9_000_000].into_iter().enumerate() {
            let time = Duration::from_micros(micros);
            if at % 2 == 0 {
                one.observe_time(time)
            } else {
                two.observe_time(time)
            }
            both.observe_time(time);
        }
        one.add(&two);
        assert_eq!(one, both);
    }
}
