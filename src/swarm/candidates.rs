//! Addresses where peers may be found, and when to dial them.

use super::commons::unpoisoned;
use super::known::Known;
use super::tellers::Teller;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// After this many failures in a row an address is forgotten; sooner when only peers tell of it.
const MOST_FAILURES: u32 = 8;
const MOST_FAILURES_TOLD: u32 = 3;
/// Longest wait after a failure.
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

/// Who has named an address, the most reliable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The user, or a magnet link.
    Given,
    /// A tracker.
    Tracker,
    /// Somebody on the local network (BEP 14).
    Local,
    /// The DHT.
    Dht,
    /// The peer itself, when it came to us.
    Itself,
    /// Another peer (BEP 11).
    Exchange,
}

impl Source {
    const COUNT: usize = 6;

    /// Addresses of this source that are remembered for one torrent: no source can fill the book of the others.
    const fn share(self) -> usize {
        match self {
            Self::Given => 2000,
            Self::Tracker => 1200,
            Self::Dht => 800,
            Self::Local | Self::Itself => 200,
            Self::Exchange => 600,
        }
    }
}

#[derive(Debug)]
struct Candidate {
    state: State,
    /// Of dials by whichever core, as of the last look.
    failures: u32,
    not_before: Duration,
    source: Source,
    /// The peer that has told of it, until somebody was met there.
    teller: Option<Teller>,
}

impl Candidate {
    /// Whether so many dials have failed that it is forgotten.
    fn is_hopeless(&self) -> bool {
        let most = if self.source == Source::Exchange { MOST_FAILURES_TOLD } else { MOST_FAILURES };
        self.failures > most && self.source != Source::Given && self.state != State::Banned
    }
}

/// The book of addresses of one core.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// What the other cores know, too.
    pub(super) known: Arc<Mutex<Known>>,
    book: BTreeMap<SocketAddr, Candidate>,
    /// How many of them each source has named.
    counts: [usize; Source::COUNT],
    /// The source that had the last dial when there were more to dial than room.
    last: Option<Source>,
    dialling: usize,
    given_up: u64,
    outshared: u64,
}

impl Candidates {
    /// An empty book.
    pub(super) fn new(known: Arc<Mutex<Known>>) -> Self {
        Self { known, ..Self::default() }
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        unpoisoned(&self.known)
    }

    /// Adds an address; a better source takes over one that is known. `false` when there is no room, or nobody can be there.
    pub(super) fn add(&mut self, addr: SocketAddr, source: Source) -> bool {
        self.note(addr, source, None)
    }

    /// Likewise, an address that a peer has told of; `false` also when it has told of too many.
    pub(super) fn add_told(&mut self, addr: SocketAddr, teller: Teller) -> bool {
        self.note(addr, Source::Exchange, Some(teller))
    }

    fn note(&mut self, addr: SocketAddr, source: Source, teller: Option<Teller>) -> bool {
        if let Some(known) = self.book.get(&addr).map(|candidate| candidate.source) {
            if source < known && self.counts[source as usize] < source.share() {
                self.counts[known as usize] -= 1;
                self.counts[source as usize] += 1;
                self.book.get_mut(&addr).into_iter().for_each(|candidate| candidate.source = source);
                self.release(addr);
            }
            return true;
        }
        if teller.is_some_and(|teller| self.known().tellers.has_all(&teller)) {
            self.outshared += 1;
            return false;
        }
        if addr.port() == 0 || !self.make_room(source, teller) {
            return false;
        }
        let fresh = Candidate {
            state: State::Idle,
            failures: self.known().enter(addr, teller),
            not_before: Duration::ZERO,
            source,
            teller,
        };
        self.counts[source as usize] += 1;
        teller.into_iter().for_each(|teller| self.known().tellers.add(teller));
        self.book.insert(addr, fresh);
        true
    }

    /// The address is no more in the book by the word of a peer.
    fn release(&mut self, addr: SocketAddr) {
        let teller = self.book.get_mut(&addr).and_then(|candidate| candidate.teller.take());
        teller.into_iter().for_each(|teller| self.known().tellers.remove(teller));
        self.known().confirm(&addr);
    }

    /// Whether there is room for one more of this source, and of this peer that tells of it. When the source's share is full,
    /// that of its addresses gives way which has failed most often, if one has. Peers that tell of many make way for those
    /// that tell of fewer, also with what was not tried yet, and never the other way round.
    fn make_room(&mut self, source: Source, teller: Option<Teller>) -> bool {
        if self.counts[source as usize] < source.share() {
            return true;
        }
        let known = self.known();
        let told = |teller: Option<Teller>| teller.map_or(0, |teller| known.tellers.count(&teller));
        let own = told(teller);
        let idle = self.book.iter().filter(|(_, candidate)| {
            candidate.source == source && candidate.state == State::Idle && source != Source::Given
        });
        let leaving = idle.filter_map(|(addr, candidate)| {
            let theirs = told(candidate.teller);
            let leaves = (candidate.failures > 0 && theirs >= own) || theirs > own + 1;
            leaves.then_some(((theirs, candidate.failures), *addr))
        });
        let worst = leaving.max_by_key(|(badness, _)| *badness).map(|(_, addr)| addr);
        drop(known);
        worst.inspect(|worst| self.give_up(worst)).is_some()
    }

    fn give_up(&mut self, addr: &SocketAddr) {
        if let Some(gone) = self.forget(addr) {
            let count = if gone.failures > 0 { &mut self.given_up } else { &mut self.outshared };
            *count += 1;
        }
    }

    fn forget(&mut self, addr: &SocketAddr) -> Option<Candidate> {
        self.release(*addr);
        let gone = self.book.remove(addr)?;
        self.counts[gone.source as usize] -= 1;
        self.known().leave(addr);
        Some(gone)
    }

    /// Whether an address of this host is known to any core, whatever its port.
    #[cfg(test)]
    pub(super) fn knows_host(&self, ip: std::net::IpAddr) -> bool {
        self.known().knows_host(ip)
    }

    /// Addresses to dial now, at most `room`. Seeds are left alone when `seeding`. When there are more than room, those of
    /// all sources come in turn, of what the user gave, too: no source can have the others wait. Of each, those come first
    /// that have failed least, and of these those with the greatest `rank`.
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
        let mut due = self.due(now, seeding);
        if due.len() > room {
            due.sort_by_cached_key(|(addr, source, failures)| (*source, *failures, Reverse(rank(*addr))));
            due = in_turn(&due, self.last);
            due.truncate(room);
            self.last = due.last().map(|(_, source, _)| *source).or(self.last);
        }
        let mut known = unpoisoned(&self.known);
        // Of a host that rests in between, what has failed least comes first.
        let mut turns = due.clone();
        turns.sort_by_key(|(_, _, failures)| *failures);
        turns.retain(|(addr, source, _)| known.begin(addr, *source, now));
        let begun: BTreeSet<SocketAddr> = turns.into_iter().map(|(addr, ..)| addr).collect();
        due.retain(|(addr, ..)| begun.contains(addr));
        self.dialling += due.len();
        let taken = due.into_iter().map(|(addr, ..)| addr);
        taken.inspect(|addr| _ = self.book.get_mut(addr).map(|c| c.state = State::Dialling)).collect()
    }

    /// All that may be dialled now: another core may be at it, or may have found that nobody is there.
    fn due(&mut self, now: Duration, seeding: bool) -> Vec<(SocketAddr, Source, u32)> {
        let (known, mut due, mut dead) = (unpoisoned(&self.known), Vec::new(), Vec::new());
        for (addr, candidate) in &mut self.book {
            let idle = candidate.state == State::Idle && candidate.not_before <= now;
            if !idle || (seeding && known.has_all(addr)) {
                continue;
            }
            (candidate.failures, candidate.not_before) =
                known.standing(addr, now, candidate.source == Source::Given);
            if candidate.is_hopeless() {
                dead.push(*addr);
            } else if candidate.not_before <= now && !known.rests(addr, candidate.source, now) {
                due.push((*addr, candidate.source, candidate.failures));
            }
        }
        drop(known);
        // The core whose dial was the last one has counted it.
        dead.iter().for_each(|addr| _ = self.forget(addr));
        due
    }

    /// How many are being dialled.
    pub(super) fn dialling(&self) -> usize {
        self.dialling
    }

    /// Addresses forgotten because too many tries have failed, or to make room when some had.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Addresses that were not remembered, or forgotten for others, because the peer that had told of them told of many.
    pub(super) fn outshared(&self) -> u64 {
        self.outshared
    }

    fn leave(&mut self, addr: SocketAddr, to: State) -> Option<&mut Candidate> {
        let candidate = self.book.get_mut(&addr)?;
        if candidate.state == State::Dialling {
            self.dialling -= 1;
            unpoisoned(&self.known).end(&addr);
        }
        if candidate.state != State::Banned {
            candidate.state = to;
        }
        Some(candidate)
    }

    /// The dial has become a connection.
    pub(super) fn connected(&mut self, addr: SocketAddr) {
        self.leave(addr, State::Connected);
        self.release(addr);
    }

    /// The dial has failed, or the connection has ended. A connection that was worth something (`useful`) counts as
    /// a new start.
    pub(super) fn ended(&mut self, now: Duration, addr: SocketAddr, useful: bool) {
        let Some(source) = self.leave(addr, State::Idle).map(|candidate| candidate.source) else { return };
        let longest = if source == Source::Given { LONGEST_WAIT_GIVEN } else { LONGEST_WAIT };
        let (failures, not_before) = self.known().fails(&addr, now, useful, longest);
        let Some(candidate) = self.book.get_mut(&addr) else { return };
        (candidate.failures, candidate.not_before) = (failures, not_before);
        if candidate.is_hopeless() {
            self.give_up(&addr);
        }
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
        self.known().is_seed(&addr);
    }
}

/// Orders what is sorted by source: one of each in turn. The source after the one that was `last` begins.
fn in_turn(due: &[(SocketAddr, Source, u32)], last: Option<Source>) -> Vec<(SocketAddr, Source, u32)> {
    let mut sources: Vec<_> = due.chunk_by(|a, b| a.1 == b.1).collect();
    let begins = sources.partition_point(|of_one| Some(of_one[0].1) <= last);
    let count = sources.len().max(1);
    sources.rotate_left(begins % count);
    let longest = sources.iter().map(|of_one| of_one.len()).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|at| sources.iter().filter_map(move |of_one| of_one.get(at)));
    turns.copied().collect()
}

#[cfg(test)]
mod tests {
    use super::super::known::FIRST_WAIT;
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn failures_make_it_wait_longer_and_be_forgotten_unless_given() {
        let mut book = Candidates::default();
        assert!(book.add(addr(1), Source::Tracker) && book.add(addr(2), Source::Given));
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
        (1..=100).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
        assert!(!book.add(addr(0), Source::Tracker), "nobody listens on port 0");
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
        book.add(addr(2), Source::Tracker);
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

    /// All sources but the user.
    const OTHERS: [Source; 5] =
        [Source::Tracker, Source::Local, Source::Dht, Source::Itself, Source::Exchange];

    #[test]
    fn no_source_can_fill_the_book_of_the_others() {
        let mut book = Candidates::default();
        for (at, source) in [Source::Given].into_iter().chain(OTHERS).enumerate() {
            let ip = [10, 0, 0, at as u8];
            let named = (1..=source.share() as u16 + 10).map(|port| SocketAddr::from((ip, port)));
            let added = named.filter(|addr| book.add(*addr, source)).count();
            assert_eq!(added, source.share(), "{source:?}");
        }
        assert!(OTHERS.iter().all(|source| source.share() <= 1200) && book.book.len() <= 5000);
        assert!(book.add(SocketAddr::from(([10, 0, 0, 1], 1)), Source::Exchange), "known already");
        assert!(book.knows_host([10, 0, 0, 1].into()) && !book.knows_host([127, 0, 0, 2].into()));
    }

    #[test]
    fn who_has_failed_most_gives_way_to_the_new_of_its_source() {
        let mut book = Candidates::default();
        (1..=200).for_each(|port| assert!(book.add(addr(port), Source::Local)));
        let fail = |book: &mut Candidates, port, times| {
            for _ in 0..times {
                book.ended(Duration::ZERO, addr(port), false);
            }
        };
        fail(&mut book, 7, 1);
        fail(&mut book, 8, 2);
        assert!(book.add(addr(1000), Source::Local) && book.add(addr(1001), Source::Local));
        assert!(!book.add(addr(1002), Source::Local), "the others are yet to be tried");
        assert_eq!(book.given_up(), 2);
        let due = book.take_due(LONGEST_WAIT, 999, false, |_| 0);
        assert!(due.len() == 200 && !due.contains(&addr(7)) && !due.contains(&addr(8)));
    }

    #[test]
    fn a_better_source_takes_an_address_over() {
        let mut book = Candidates::default();
        book.add(addr(1), Source::Exchange);
        (2..=700).for_each(|port| _ = book.add(addr(port), Source::Exchange));
        assert!(book.add(addr(1), Source::Given) && book.add(addr(2), Source::Dht));
        assert!(book.add(addr(2), Source::Exchange), "and keeps it");
        assert_eq!(book.take_due(Duration::ZERO, 2, false, |_| 0), [addr(1), addr(2)]);
        let room = (701..=800).filter(|port| book.add(addr(*port), Source::Exchange)).count();
        assert_eq!(room, 2);
    }

    #[test]
    fn sources_take_turns_and_of_each_the_greatest_rank_comes_first() {
        let mut book = Candidates::default();
        (1..=40).for_each(|port| assert!(book.add(addr(port), Source::Exchange)));
        (41..=44).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
        assert!(book.add(addr(50), Source::Given));
        let due = book.take_due(Duration::ZERO, 6, false, |addr| u32::from(addr.port()));
        assert_eq!(due, [50, 44, 40, 43, 39, 42].map(addr));
        let rest = book.take_due(Duration::ZERO, 4, false, |addr| u32::from(addr.port()));
        assert_eq!(rest, [38, 41, 37, 36].map(addr), "no room is left empty");
    }

    #[test]
    fn what_the_user_gave_takes_turns_with_the_others() {
        let mut book = Candidates::default();
        (1..=200).for_each(|port| assert!(book.add(addr(port), Source::Given)));
        assert!(book.add(addr(300), Source::Tracker) && book.add(addr(400), Source::Exchange));
        let due = book.take_due(Duration::ZERO, 9, false, |_| 0);
        assert_eq!(due[..4], [1, 300, 400, 2].map(addr));
        // Also of one dial at a time.
        (301..=302).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
        let mut one = || book.take_due(Duration::ZERO, 1, false, |_| 0)[0].port() / 100;
        assert_eq!([one(), one(), one()], [3, 0, 3]);
    }

    #[test]
    fn one_dial_at_a_time_goes_round_too() {
        let mut book = Candidates::default();
        for (at, source) in OTHERS.into_iter().enumerate() {
            (1..=3).for_each(|n| assert!(book.add(addr(10 * at as u16 + n), source)));
        }
        let mut one = || book.take_due(Duration::ZERO, 1, false, |_| 0)[0].port() / 10;
        assert_eq!([(); 10].map(|()| one()), [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn what_was_never_tried_comes_before_what_has_failed_and_fewer_failures_before_more() {
        let mut book = Candidates::default();
        (1..=3).for_each(|port| assert!(book.add(addr(port), Source::Tracker)));
        for (port, failures) in [(3, 2), (2, 1)] {
            (0..failures).for_each(|_| book.ended(Duration::ZERO, addr(port), false));
        }
        let due = book.take_due(LONGEST_WAIT, 2, false, |addr| u32::from(addr.port()));
        assert_eq!(due, [1, 2].map(addr));
        assert_eq!(book.take_due(LONGEST_WAIT, 2, false, |_| 0), [addr(3)]);
    }
}
