//! What one connection may send or receive now, when there is a limit.
//!
//! Bytes are booked at the limiter, moved when their time has come, and given back when they are not moved then: who has
//! saved up nothing cannot move it all at once.

use crate::metainfo::BLOCK_LEN;
use crate::swarm::Throttle;
use std::time::Duration;

/// Bytes that were booked at the limiter: those whose time has come, and those it has not.
pub(super) struct Allowance {
    throttle: Throttle,
    /// May be moved.
    credit: u64,
    /// May be moved then.
    due: Option<(Duration, u64)>,
    /// Were moved all the same, and are not booked yet.
    debt: u64,
    /// Were moved the last time.
    last: u64,
}

impl Allowance {
    pub(super) fn new(throttle: Throttle) -> Self {
        Self { throttle, credit: 0, due: None, debt: 0, last: 0 }
    }

    /// Most bytes that are booked at a time, if there is a limit.
    pub(super) fn quantum(&self) -> Option<u64> {
        self.throttle.quantum()
    }

    /// Bytes that may be moved now; more are booked when there are none, as many as are there to be moved, at most. Without a
    /// limit, any number.
    pub(super) fn get(&mut self, now: Duration, there: u64) -> u64 {
        let Some(quantum) = self.throttle.quantum() else { return u64::MAX };
        // What was waited for may have been a debt alone.
        self.mature(now);
        if self.credit == 0 && self.due.is_none() {
            // Whoever books more than it moves lets others wait in vain.
            let bytes = (self.last * 2).max(u64::from(BLOCK_LEN)).min(quantum).min(there);
            self.due = Some((self.throttle.book(now, bytes), bytes));
        }
        self.mature(now);
        self.credit
    }

    fn mature(&mut self, now: Duration) {
        if let Some((_, bytes)) = self.due.take_if(|(due, _)| *due <= now) {
            self.credit += bytes;
        }
    }

    /// Whether a limit leaves bytes that nobody takes.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.throttle.is_idle(now)
    }

    /// How long to wait for more.
    pub(super) fn wait(&self, now: Duration) -> Duration {
        self.due.map_or(Duration::ZERO, |(due, _)| due.saturating_sub(now))
    }

    /// Bytes have been moved, now, all that could be. Those that were not allowed are booked afterwards, once they are as many
    /// as one books, and are to be waited for.
    pub(super) fn spend(&mut self, now: Duration, bytes: u64) {
        let Some(quantum) = self.throttle.quantum() else { return };
        self.throttle.unbook(self.credit.saturating_sub(bytes));
        self.debt += bytes.saturating_sub(self.credit);
        self.credit = 0;
        self.last = if bytes > 0 { bytes } else { self.last };
        if self.debt >= quantum {
            self.give_back();
            self.due = Some((self.throttle.book(now, std::mem::take(&mut self.debt)), 0));
        }
    }

    /// What was booked and is not to be moved is for others.
    fn give_back(&mut self) {
        let due = self.due.take().map_or(0, |(_, bytes)| bytes);
        self.throttle.unbook(std::mem::take(&mut self.credit) + due);
    }

    /// Nothing is moved for the time being.
    pub(super) fn rest(&mut self, now: Duration) {
        self.mature(now);
        self.spend(now, 0);
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.give_back();
        // Where nobody waits it is made up for already.
        self.throttle.book(Duration::ZERO, self.debt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::Limiter;
    use std::sync::Arc;

    fn limit(rate: u64) -> Throttle {
        Throttle::new(vec![Arc::new(Limiter::new(rate))])
    }

    #[test]
    fn what_is_not_sent_is_given_back() {
        let throttle = limit(100_000);
        let now = Duration::from_secs(9);
        let mut one = Allowance::new(throttle.clone());
        assert_eq!(one.get(now, u64::MAX), 1000);
        let next = throttle.book(now, 0);
        one.spend(now, 400);
        let after = throttle.book(now, 0);
        assert!(after < next || after == now, "{next:?} {after:?}");
        let mut waiting = Allowance::new(throttle.clone());
        let mut times = 0;
        while waiting.get(now, u64::MAX) > 0 {
            waiting.spend(now, 1000);
            times += 1;
        }
        assert!((1..=4).contains(&times), "{times} times at once");
        let wait = waiting.wait(now);
        assert!(wait > Duration::ZERO && waiting.get(now + wait, u64::MAX) == 1000);
        let next = throttle.book(now, 0);
        drop(waiting);
        let after = throttle.book(now, 0);
        assert!(next > after, "{next:?} {after:?}");
        assert_eq!(Allowance::new(Throttle::default()).get(now, 1), u64::MAX);
    }

    /// Many who had their turn and did not use it, when they all want to move as much as they can; and when they go.
    #[test]
    fn nobody_saves_up() {
        let throttle = limit(1_000_000);
        let start = Duration::from_secs(9);
        let mut peers: Vec<Allowance> = (0..100).map(|_| Allowance::new(throttle.clone())).collect();
        peers.iter_mut().for_each(|peer| _ = peer.get(start, u64::MAX));
        let later = start + Duration::from_secs(5);
        peers.iter_mut().for_each(|peer| peer.rest(later));
        let at_once: u64 = peers.iter_mut().map(|peer| peer.get(later, u64::MAX)).sum();
        assert!(at_once <= 40_000, "{at_once} at once");
        let later = later + Duration::from_secs(5);
        peers.iter_mut().for_each(|peer| peer.rest(later));
        let busy = throttle.book(later, 1_000_000);
        drop(peers);
        assert_eq!(throttle.book(later, 0), busy.max(throttle.book(later, 0)));
    }

    #[test]
    fn what_was_not_allowed_is_booked_afterwards() {
        let throttle = limit(1_000_000);
        let now = Duration::from_secs(9);
        let mut one = Allowance::new(throttle.clone());
        one.spend(now, 500_000);
        let next = throttle.book(now, 0).saturating_sub(now);
        assert!((460..=500).contains(&next.as_millis()), "{next:?}");
        one.spend(now, 500_000);
        assert!(one.wait(now) >= next, "who takes more waits for what it took");
        let next = throttle.book(now, 0);
        one.spend(now, 100);
        assert_eq!(throttle.book(now, 0), next, "a short message");
        let later = now + one.wait(now);
        _ = one.get(later, u64::MAX);
        assert!(
            one.credit > 0 || one.wait(later) > Duration::ZERO,
            "who has paid waits for more, and not for ever"
        );
        // A debt takes the place of what was booked, and outlives the one who has it.
        let mut other = Allowance::new(throttle.clone());
        let now = throttle.book(later, 0).max(later);
        throttle.book(now, 100_000);
        assert_eq!(other.get(now, 10_000), 0);
        let booked = throttle.book(now, 0);
        other.spend(now, 50_000);
        let more = (throttle.book(now, 0) - booked).as_millis();
        assert!((35..=45).contains(&more), "{more} ms more: 50,000 bytes in place of 10,000");
        other.spend(now, 5000);
        let booked = throttle.book(now, 0);
        drop(other);
        let more = (throttle.book(now, 0) + Duration::from_millis(1) - booked).as_millis();
        assert!((5..=6).contains(&more), "{more} ms more");
    }
}
