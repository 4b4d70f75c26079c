//! Addresses where peers may be found, and when to dial them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Addresses remembered for one torrent.
const MOST: usize = 3000;
/// Dials under way at the same time.
const MOST_DIALS: usize = 30;
/// After this many failures in a row an address is forgotten.
const MOST_FAILURES: u32 = 8;
/// Wait after the first failure; doubled by each further one.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// An address that the user gave is tried again at least this often, and never forgotten.
const LONGEST_WAIT_GIVEN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Dialling,
    Connected,
    /// Never to be dialled again.
    Banned,
}

#[derive(Debug)]
struct Candidate {
    state: State,
    failures: u32,
    not_before: Duration,
    given: bool,
    seed: bool,
}

/// The book of addresses.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    book: BTreeMap<SocketAddr, Candidate>,
    dialling: usize,
}

impl Candidates {
    /// Adds an address; `given` when the user named it. `false` when there is no room, or nobody can be there.
    pub(super) fn add(&mut self, addr: SocketAddr, given: bool) -> bool {
        let known = self.book.contains_key(&addr);
        let room = self.book.len() < MOST && addr.port() != 0;
        if !known && room {
            let fresh =
                Candidate { state: State::Idle, failures: 0, not_before: Duration::ZERO, given, seed: false };
            self.book.insert(addr, fresh);
        }
        known || room
    }

    /// Addresses to dial now, at most `room`. Seeds are left alone when `seeding`.
    pub(super) fn take_due(&mut self, now: Duration, room: usize, seeding: bool) -> Vec<SocketAddr> {
        let room = room.min(MOST_DIALS.saturating_sub(self.dialling));
        let due = self.book.iter_mut().filter(|(_, candidate)| {
            candidate.state == State::Idle && candidate.not_before <= now && !(seeding && candidate.seed)
        });
        let due: Vec<SocketAddr> = due
            .take(room)
            .map(|(addr, candidate)| {
                candidate.state = State::Dialling;
                *addr
            })
            .collect();
        self.dialling += due.len();
        due
    }

    fn leave(&mut self, addr: SocketAddr, to: State) -> Option<&mut Candidate> {
        let candidate = self.book.get_mut(&addr)?;
        self.dialling -= usize::from(candidate.state == State::Dialling);
        if candidate.state != State::Banned {
            candidate.state = to;
        }
        Some(candidate)
    }

    /// The dial has become a connection.
    pub(super) fn connected(&mut self, addr: SocketAddr) {
        self.leave(addr, State::Connected);
    }

    /// The dial has failed, or the connection has ended. A connection that was worth something (`useful`) counts as
    /// a new start.
    pub(super) fn ended(&mut self, now: Duration, addr: SocketAddr, useful: bool) {
        let Some(candidate) = self.leave(addr, State::Idle) else { return };
        candidate.failures = if useful { 1 } else { candidate.failures + 1 };
        if candidate.failures > MOST_FAILURES && !candidate.given && candidate.state != State::Banned {
            self.book.remove(&addr);
            return;
        }
        let longest = if candidate.given { LONGEST_WAIT_GIVEN } else { LONGEST_WAIT };
        let doublings = (candidate.failures - 1).min(16);
        candidate.not_before = now + FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
    }

    /// Never dials this address again.
    pub(super) fn ban(&mut self, addr: SocketAddr) {
        self.leave(addr, State::Banned);
    }

    /// The peer there has everything.
    pub(super) fn is_seed(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.book.get_mut(&addr) {
            candidate.seed = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn failures_make_it_wait_longer_and_be_forgotten_unless_given() {
        let mut book = Candidates::default();
        assert!(book.add(addr(1), false) && book.add(addr(2), true));
        let mut now = Duration::ZERO;
        for _ in 0..=MOST_FAILURES {
            assert_eq!(book.take_due(now, 9, false), [addr(1), addr(2)]);
            assert_eq!(book.take_due(now, 9, false), [], "both are being dialled");
            book.ended(now, addr(1), false);
            book.ended(now, addr(2), false);
            assert_eq!(book.take_due(now + FIRST_WAIT / 2, 9, false), []);
            now += LONGEST_WAIT;
        }
        assert_eq!(book.take_due(now, 9, false), [addr(2)]);
    }

    #[test]
    fn dials_are_limited_and_connections_not_dialled_again() {
        let mut book = Candidates::default();
        (1..=100).for_each(|port| assert!(book.add(addr(port), false)));
        assert!(!book.add(addr(0), false), "nobody listens on port 0");
        let first = book.take_due(Duration::ZERO, 100, false);
        assert_eq!(first.len(), MOST_DIALS);
        first.iter().for_each(|addr| book.connected(*addr));
        let second = book.take_due(Duration::ZERO, 5, false);
        assert_eq!(second.len(), 5);
        assert!(second.iter().all(|addr| !first.contains(addr)));
    }

    #[test]
    fn the_banned_stay_banned_and_seeds_leave_seeds_alone() {
        let mut book = Candidates::default();
        book.add(addr(1), true);
        book.add(addr(2), false);
        book.take_due(Duration::ZERO, 9, false);
        book.connected(addr(1));
        book.ban(addr(1));
        book.ended(Duration::ZERO, addr(1), true);
        book.is_seed(addr(2));
        book.ended(Duration::ZERO, addr(2), true);
        assert_eq!(book.take_due(LONGEST_WAIT, 9, true), []);
        assert_eq!(book.take_due(LONGEST_WAIT, 9, false), [addr(2)]);
    }

    #[test]
    fn no_more_addresses_are_remembered_than_fit() {
        let mut book = Candidates::default();
        let added = (1..=MOST as u16 + 10).filter(|port| book.add(addr(*port), false)).count();
        assert_eq!(added, MOST);
        assert!(book.add(addr(1), false), "known already");
    }
}
