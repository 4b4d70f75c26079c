//! How many datagrams are looked at: whoever floods the network gets no more of our time, nor of our peers', than this.

use std::time::{Duration, Instant};

/// Datagrams that may come at once.
const BURST: u32 = 100;
/// Time that each of them takes to be allowed again: a network of 1200 hosts stays within it.
const EACH: Duration = Duration::from_millis(50);

/// A bucket of leave to look at a datagram.
#[derive(Debug)]
pub struct Intake {
    /// When the bucket is full again.
    full: Instant,
}

impl Intake {
    /// A full one.
    pub fn new(now: Instant) -> Self {
        Self { full: now }
    }

    /// Whether one more may be looked at now.
    pub fn admit(&mut self, now: Instant) -> bool {
        let full = self.full.max(now) + EACH;
        let within = full - now <= EACH * BURST;
        if within {
            self.full = full;
        }
        within
    }
}
