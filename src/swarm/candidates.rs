//! Addresses where peers may be found, and when to dial them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Addresses remembered for one torrent.
const MOST: usize = 3000;
/// As long as fewer are remembered, peers may add to them.
const MOST_EXCHANGED: usize = 2000;
/// After this many failures in a row an address is forgotten.
const MOST_FAILURES: u32 = 8;
/// Wait after the first failure; doubled by each further one.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Until an address is dialled whose peer is connected already.
const CONNECTED_WAIT: Duration = Duration::from_secs(120);
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

/// Who has named an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The user.
    Given,
    /// A tracker, the DHT, or the peer itself when it came to us.
    Found,
    /// Another peer.
    Exchange,
}

#[derive(Debug)]
struct Candidate {
    state: State,
    failures: u32,
    not_before: Duration,
    source: Source,
    seed: bool,
    /// It is said to encrypt.
    encrypts: bool,
}

/// The book of addresses.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    book: BTreeMap<SocketAddr, Candidate>,
    dialling: usize,
    given_up: u64,
}

impl Candidates {
    /// Adds an address. `false` when there is no room, or nobody can be there.
    pub(super) fn add(&mut self, addr: SocketAddr, source: Source) -> bool {
        let known = self.book.contains_key(&addr);
        let most = if source == Source::Exchange { MOST_EXCHANGED } else { MOST };
        let room = self.book.len() < most && addr.port() != 0;
        if !known && room {
            let fresh = Candidate {
                state: State::Idle,
                failures: 0,
                not_before: Duration::ZERO,
                source,
                seed: false,
                encrypts: false,
            };
            self.book.insert(addr, fresh);
        }
        known || room
    }

    /// Whether an address of this host is known, whatever its port.
    pub(super) fn knows_host(&self, ip: IpAddr) -> bool {
        self.book.range(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX)).next().is_some()
    }

    /// Addresses to dial now, at most `room`. Seeds are left alone when `seeding`. When there are more than room, those
    /// that the user gave come first, then those that were found and those that peers named in turn, by `rank` the
    /// greatest first: no source can have the others wait.
    pub(super) fn take_due(
        &mut self,
        now: Duration,
        room: usize,
        seeding: bool,
        rank: impl Fn(SocketAddr) -> u32,
    ) -> Vec<SocketAddr> {
        if room == 0 {
            return Vec::new();
        }
        let due = self.book.iter().filter(|(_, candidate)| {
            candidate.state == State::Idle && candidate.not_before <= now && !(seeding && candidate.seed)
        });
        let mut due: Vec<(SocketAddr, Source)> = due.map(|(addr, c)| (*addr, c.source)).collect();
        if due.len() > room {
            due.sort_by_cached_key(|(addr, source)| (*source, Reverse(rank(*addr))));
            due = in_turn(due);
        }
        due.truncate(room);
        self.dialling += due.len();
        let taken = due.into_iter().map(|(addr, _)| addr);
        taken.inspect(|addr| _ = self.book.get_mut(addr).map(|c| c.state = State::Dialling)).collect()
    }

    /// How many are being dialled.
    pub(super) fn dialling(&self) -> usize {
        self.dialling
    }

    /// Addresses that were forgotten because too many tries have failed.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
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
        if candidate.failures > MOST_FAILURES
            && candidate.source != Source::Given
            && candidate.state != State::Banned
        {
            self.book.remove(&addr);
            self.given_up += 1;
            return;
        }
        let longest = if candidate.source == Source::Given { LONGEST_WAIT_GIVEN } else { LONGEST_WAIT };
        let doublings = (candidate.failures - 1).min(16);
        candidate.not_before = now + FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
    }

    /// The peer there is connected otherwise: that is no failure, and it is not dialled for a while.
    pub(super) fn put_off(&mut self, now: Duration, addr: SocketAddr) {
        if let Some(candidate) = self.leave(addr, State::Idle) {
            candidate.not_before = now + CONNECTED_WAIT;
        }
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

    /// The peer there is said to encrypt its connections.
    pub(super) fn encrypts(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.book.get_mut(&addr) {
            candidate.encrypts = true;
        }
    }

    /// Whether the peer there is said to.
    pub(super) fn is_encrypting(&self, addr: &SocketAddr) -> bool {
        self.book.get(addr).is_some_and(|candidate| candidate.encrypts)
    }
}

/// Orders what is sorted by source: what was given, then one that was found and one that peers named, in turn.
fn in_turn(due: Vec<(SocketAddr, Source)>) -> Vec<(SocketAddr, Source)> {
    let end = |last: Source| due.partition_point(|(_, source)| *source <= last);
    let (given, rest) = due.split_at(end(Source::Given));
    let (found, exchanged) = rest.split_at(end(Source::Found) - given.len());
    let longest = found.len().max(exchanged.len());
    let turns = (0..longest).flat_map(|at| [found.get(at), exchanged.get(at)]).flatten();
    given.iter().chain(turns).copied().collect()
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
        assert!(book.add(addr(1), Source::Found) && book.add(addr(2), Source::Given));
        let mut now = Duration::ZERO;
        for _ in 0..=MOST_FAILURES {
            assert_eq!(book.take_due(now, 9, false, |_| 0), [addr(1), addr(2)]);
            assert_eq!(book.take_due(now, 9, false, |_| 0), [], "both are being dialled");
            book.ended(now, addr(1), false);
            book.ended(now, addr(2), false);
            assert_eq!(book.take_due(now + FIRST_WAIT / 2, 9, false, |_| 0), []);
            now += LONGEST_WAIT;
        }
        assert_eq!((book.take_due(now, 9, false, |_| 0), book.given_up()), (vec![addr(2)], 1));
    }

    #[test]
    fn dials_are_limited_and_connections_not_dialled_again() {
        let mut book = Candidates::default();
        (1..=100).for_each(|port| assert!(book.add(addr(port), Source::Found)));
        assert!(!book.add(addr(0), Source::Found), "nobody listens on port 0");
        let first = book.take_due(Duration::ZERO, 30, false, |_| 0);
        assert_eq!((first.len(), book.dialling()), (30, 30));
        first.iter().for_each(|addr| book.connected(*addr));
        let second = book.take_due(Duration::ZERO, 5, false, |_| 0);
        assert_eq!(second.len(), 5);
        assert!(second.iter().all(|addr| !first.contains(addr)));
    }

    #[test]
    fn the_banned_stay_banned_and_seeds_leave_seeds_alone() {
        let mut book = Candidates::default();
        book.add(addr(1), Source::Given);
        book.add(addr(2), Source::Found);
        book.take_due(Duration::ZERO, 9, false, |_| 0);
        book.connected(addr(1));
        book.ban(addr(1));
        book.ended(Duration::ZERO, addr(1), true);
        book.is_seed(addr(2));
        book.ended(Duration::ZERO, addr(2), true);
        assert_eq!(book.take_due(LONGEST_WAIT, 9, true, |_| 0), []);
        assert_eq!(book.take_due(LONGEST_WAIT, 9, false, |_| 0), [addr(2)]);
    }

    #[test]
    fn who_is_connected_otherwise_is_left_alone_for_a_while_and_not_forgotten() {
        let mut book = Candidates::default();
        book.add(addr(1), Source::Exchange);
        let mut now = Duration::ZERO;
        for _ in 0..3 * MOST_FAILURES {
            assert_eq!(book.take_due(now, 9, false, |_| 0), [addr(1)]);
            book.put_off(now, addr(1));
            assert_eq!(book.take_due(now + CONNECTED_WAIT / 2, 9, false, |_| 0), []);
            now += CONNECTED_WAIT;
        }
    }

    #[test]
    fn no_more_addresses_are_remembered_than_fit() {
        let mut book = Candidates::default();
        let added = (1..=MOST as u16 + 10).filter(|port| book.add(addr(*port), Source::Found)).count();
        assert_eq!(added, MOST);
        assert!(book.add(addr(1), Source::Found), "known already");
    }

    #[test]
    fn sources_take_turns_and_of_each_the_greatest_rank_comes_first() {
        let mut book = Candidates::default();
        (1..=40).for_each(|port| assert!(book.add(addr(port), Source::Exchange)));
        (41..=44).for_each(|port| assert!(book.add(addr(port), Source::Found)));
        assert!(book.add(addr(50), Source::Given));
        let due = book.take_due(Duration::ZERO, 6, false, |addr| u32::from(addr.port()));
        assert_eq!(due, [50, 44, 40, 43, 39, 42].map(addr));
        let rest = book.take_due(Duration::ZERO, 4, false, |addr| u32::from(addr.port()));
        assert_eq!(rest, [41, 38, 37, 36].map(addr), "no room is left empty");
    }

    #[test]
    fn what_peers_name_leaves_room_for_the_rest() {
        let mut book = Candidates::default();
        let added = (1..=MOST as u16).filter(|port| book.add(addr(*port), Source::Exchange)).count();
        assert_eq!(added, MOST_EXCHANGED);
        assert!(book.add(addr(u16::MAX), Source::Found));
        assert!(book.knows_host([127, 0, 0, 1].into()) && !book.knows_host([127, 0, 0, 2].into()));
    }
}
