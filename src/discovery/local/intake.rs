//! How many datagrams are looked at, and of whom: whoever floods the network gets no more of our time, nor of our peers',
//! than this, and nothing of what is for the other group.

use std::task::Poll;
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

/// The groups' turns to be heard, and what is looked at of each.
#[derive(Debug)]
pub(super) struct Turns {
    /// Whose turn it is.
    next: usize,
    intakes: Vec<Intake>,
}

impl Turns {
    /// Of so many groups.
    pub(super) fn new(groups: usize, now: Instant) -> Self {
        Self { next: 0, intakes: (0..groups).map(|_| Intake::new(now)).collect() }
    }

    /// The first group that is ready, by its number, and what it has; who was heard last is asked last.
    pub(super) fn poll<T>(&mut self, mut poll: impl FnMut(usize) -> Poll<T>) -> Poll<(usize, T)> {
        let groups = self.intakes.len();
        for group in (self.next..groups).chain(0..self.next) {
            if let Poll::Ready(heard) = poll(group) {
                self.next = (group + 1) % groups;
                return Poll::Ready((group, heard));
            }
        }
        Poll::Pending
    }

    /// Whether one more datagram of that group may be looked at now.
    pub(super) fn admit(&mut self, group: usize, now: Instant) -> bool {
        self.intakes[group].admit(now)
    }
}
