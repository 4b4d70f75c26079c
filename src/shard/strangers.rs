//! Accepted connections that have not said their handshake: how many there may be, and who gives way.
//!
//! Whoever has said something that nobody has read yet is never sent away: what a burst of peers says is there as soon as
//! somebody looks. Silence is judged by time. While everybody has a place, a stranger has [`HANDSHAKE_LIMIT`]; when the next
//! one waits for a place, the grace of a second; and when the queue of those who wait has not been empty for longer than
//! honest bursts last, none. So those who say nothing hold up the others for a moment, and keep nobody out.
//!
//! [`HANDSHAKE_LIMIT`]: super::connection::HANDSHAKE_LIMIT

use crate::ring::Socket;
use crate::swarm::host;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

/// How long a stranger may be silent when another one waits for its place.
const GRACE: Duration = Duration::from_secs(1);
/// How long others may wait, one or another of them, before there is no grace any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is known of a stranger.
struct Stranger<S> {
    socket: S,
    host: IpAddr,
    since: Duration,
}

/// A connection that can be sent away.
pub(super) trait Guest {
    /// Whether it has said something that nobody has read.
    fn has_spoken(&self) -> bool;
    /// Ends it.
    fn dismiss(&self);
}

impl Guest for Socket {
    fn has_spoken(&self) -> bool {
        self.unread() > 0
    }

    fn dismiss(&self) {
        self.shutdown();
    }
}

/// See the module. Times are on any clock that runs.
pub(super) struct Strangers<S = Socket> {
    /// In the order they came.
    all: BTreeMap<u64, Stranger<S>>,
    most: usize,
    next: u64,
    /// Since when somebody or other waits to be let in.
    pressed: Option<Duration>,
    /// Connections that had to give way.
    pub(super) crowded_out: u64,
}

impl<S: Guest> Strangers<S> {
    /// None, and room for `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { all: BTreeMap::new(), most, next: 0, pressed: None, crowded_out: 0 }
    }

    /// Nobody waits to be let in.
    pub(super) fn nobody_waits(&mut self) {
        self.pressed = None;
    }

    /// Whether somebody who waits may come in now. When all places are taken, one is sent away if its time is up.
    pub(super) fn has_room(&mut self, now: Duration) -> bool {
        let pressed = *self.pressed.get_or_insert(now);
        let grace = if now.saturating_sub(pressed) > PATIENCE { Duration::ZERO } else { GRACE };
        self.all.len() < self.most || now.checked_sub(grace).is_some_and(|then| self.send_away(then))
    }

    /// Sends one away because its place is needed for something else. Says whether there was any to be sent.
    pub(super) fn give_way(&mut self) -> bool {
        self.send_away(Duration::MAX)
    }

    /// Of the host that has the most, the one that has been silent longest: at least since then.
    fn send_away(&mut self, silent_since: Duration) -> bool {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        self.all.values().for_each(|one| *crowds.entry(one.host).or_default() += 1);
        let silent = |one: &Stranger<S>| one.since <= silent_since && !one.socket.has_spoken();
        let mut candidates: Vec<_> = self.all.iter().filter(|(_, one)| one.since <= silent_since).collect();
        // Stable: within a crowd, the oldest first.
        candidates.sort_by_key(|(_, one)| std::cmp::Reverse(crowds[&one.host]));
        let found = candidates.into_iter().find(|(_, one)| silent(one)).map(|(number, _)| *number);
        let Some(gone) = found.and_then(|number| self.all.remove(&number)) else { return false };
        gone.socket.dismiss();
        self.crowded_out += 1;
        true
    }

    /// Takes one in; [`Strangers::has_room`] has said that there is room.
    pub(super) fn enter(&mut self, socket: S, ip: IpAddr, now: Duration) -> u64 {
        self.next += 1;
        self.all.insert(self.next, Stranger { socket, host: host(ip), since: now });
        self.next
    }

    /// One is no stranger any more, or has gone; `false` when it had to give way before.
    pub(super) fn leave(&mut self, number: u64) -> bool {
        self.all.remove(&number).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    #[derive(Clone, Default)]
    struct Fake(Rc<(Cell<bool>, Cell<bool>)>);

    impl Fake {
        fn speaks(&self) {
            self.0.0.set(true);
        }

        fn is_gone(&self) -> bool {
            self.0.1.get()
        }
    }

    impl Guest for Fake {
        fn has_spoken(&self) -> bool {
            self.0.0.get()
        }

        fn dismiss(&self) {
            self.0.1.set(true);
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn full(hosts: &[[u8; 4]]) -> (Strangers<Fake>, Vec<Fake>) {
        let mut strangers = Strangers::new(hosts.len());
        let fakes: Vec<Fake> = hosts.iter().map(|_| Fake::default()).collect();
        for (at, (host, fake)) in hosts.iter().zip(&fakes).enumerate() {
            assert!(strangers.has_room(ms(at as u64)));
            strangers.enter(fake.clone(), (*host).into(), ms(at as u64));
        }
        strangers.nobody_waits();
        (strangers, fakes)
    }

    fn gone(fakes: &[Fake]) -> Vec<usize> {
        (0..fakes.len()).filter(|at| fakes[*at].is_gone()).collect()
    }

    #[test]
    fn whoever_is_young_or_has_spoken_stays_in_a_burst() {
        let (mut strangers, fakes) = full(&[[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 0, 3]]);
        assert!(!strangers.has_room(ms(900)), "the next one waits");
        fakes[0].speaks();
        assert!(strangers.has_room(ms(1001)));
        assert_eq!((gone(&fakes), strangers.crowded_out), (vec![1], 1));
        strangers.enter(Fake::default(), [10, 0, 0, 4].into(), ms(1001));
        assert!(!strangers.has_room(ms(1001)), "the third has come a moment later");
        assert!(strangers.has_room(ms(1002)));
        assert_eq!(gone(&fakes), [1, 2], "the first has spoken");
    }

    #[test]
    fn a_queue_that_never_ends_takes_the_grace_away() {
        let (mut strangers, fakes) = full(&[[10, 0, 0, 1], [10, 0, 0, 2]]);
        let mut now = ms(10_000);
        let mut late = Fake::default();
        for _ in 0..2000 {
            now += ms(2);
            if strangers.has_room(now) {
                late = Fake::default();
                strangers.enter(late.clone(), [10, 0, 0, 9].into(), now);
            }
        }
        assert_eq!(gone(&fakes), [0, 1]);
        assert!(strangers.crowded_out > 500, "{}", strangers.crowded_out);
        late.speaks();
        strangers.nobody_waits();
        assert!(!strangers.has_room(now), "there is grace again");
    }

    #[test]
    fn the_greatest_crowd_gives_way_first() {
        let crowd = ["2001:db8::1", "2001:db8::2", "10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap());
        let mut strangers = Strangers::new(4);
        let fakes: Vec<Fake> = crowd.iter().map(|_| Fake::default()).collect();
        let order = [2, 0, 1, 3];
        for (at, one) in order.into_iter().enumerate() {
            strangers.enter(fakes[one].clone(), crowd[one], ms(at as u64));
        }
        assert!(strangers.give_way());
        assert_eq!(gone(&fakes), [0], "of two with the same /64, the older");
        assert!(strangers.give_way() && gone(&fakes) == [0, 2], "then the oldest");
        fakes[1].speaks();
        assert!(strangers.give_way() && !strangers.give_way());
        assert_eq!(gone(&fakes), [0, 2, 3]);
        assert!(strangers.leave(3) && !strangers.leave(2), "it has given way");
        assert_eq!(strangers.all.len(), 0);
    }
}
