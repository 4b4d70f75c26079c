//! What one connection may send now, when there is a limit.

use crate::swarm::Throttle;
use std::time::Duration;

/// Bytes that were booked at the limiter: those whose time has come, and those it has not.
pub(super) struct Allowance {
    throttle: Throttle,
    /// May be sent.
    credit: u64,
    /// May be sent then.
    due: Option<(Duration, u64)>,
}

impl Allowance {
    pub(super) fn new(throttle: Throttle) -> Self {
        Self { throttle, credit: 0, due: None }
    }

    /// Bytes that may be sent now; more are booked when there are none. Without a limit, any number.
    pub(super) fn get(&mut self, now: Duration) -> u64 {
        let Some(quantum) = self.throttle.quantum() else { return u64::MAX };
        if self.credit == 0 && self.due.is_none() {
            self.due = Some((self.throttle.book(now, quantum), quantum));
        }
        if let Some((_, bytes)) = self.due.take_if(|(due, _)| *due <= now) {
            self.credit += bytes;
        }
        self.credit
    }

    /// How long to wait for more.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.due.map_or(Duration::ZERO, |(due, _)| due.saturating_sub(now))
    }

    /// Bytes have been sent.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.credit = self.credit.saturating_sub(bytes);
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        // For the others.
        self.throttle.unbook(self.credit + self.due.map_or(0, |(_, bytes)| bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Limiter;
    use std::sync::Arc;

    #[test]
    fn what_is_not_sent_is_given_back() {
        let throttle = Throttle::new(vec![Arc::new(Limiter::new(100_000))]);
        let now = Duration::from_secs(9);
        let mut one = Allowance::new(throttle.clone());
        assert_eq!(one.get(now), 1024);
        one.spend(1000);
        assert_eq!((one.get(now), one.wait(now)), (24, Duration::ZERO));
        let mut waiting = Allowance::new(throttle.clone());
        let mut times = 0;
        while waiting.get(now) > 0 {
            waiting.spend(1024);
            times += 1;
        }
        assert!((1..=4).contains(&times), "{times} times at once");
        let wait = waiting.wait(now);
        assert!(wait > Duration::ZERO && waiting.get(now + wait) == 1024);
        let next = throttle.book(now, 0);
        drop((one, waiting));
        let after = throttle.book(now, 0);
        assert!(next > after, "{next:?} {after:?}");
        assert_eq!(Allowance::new(Throttle::default()).get(now), u64::MAX);
    }
}
