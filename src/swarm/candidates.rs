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
/// Until an address is dialled again that could not be dialled, for want of something of our own.
const PREVENTED_WAIT: Duration = Duration::from_secs(10);
/// Until an address is dialled whose peer is connected already, when that is only what somebody says.
const CLAIMED_WAIT: Duration = Duration::from_secs(20);
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
    /// It was due, and its network had no room, since it was last dialled.
    held_back: bool,
    /// When somebody who came to us said that this is where it listens.
    claimed: Option<Duration>,
}

impl Candidate {
    fn dials(&mut self) {
        (self.state, self.held_back) = (State::Dialling, false);
    }

    /// Whether so many dials have failed that it is forgotten.
    fn is_hopeless(&self) -> bool {
        // Where somebody was met, more than a peer's word stands for it; and nobody tells of it again.
        let most = if self.teller.is_some() { MOST_FAILURES_TOLD } else { MOST_FAILURES };
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
    held_back: u64,
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
            held_back: false,
            claimed: None,
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
        taken.inspect(|addr| _ = self.book.get_mut(addr).map(Candidate::dials)).collect()
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
                if known.networks.has_room(addr.ip(), candidate.source, now) {
                    due.push((*addr, candidate.source, candidate.failures));
                } else {
                    self.held_back += u64::from(!std::mem::replace(&mut candidate.held_back, true));
                }
            }
        }
        drop(known);
        // The core whose dial was the last one has counted it.
        dead.iter().for_each(|addr| _ = self.forget(addr));
        due
    }

    /// Whether the user has named this address, or the magnet link.
    pub(super) fn is_given(&self, addr: &SocketAddr) -> bool {
        self.book.get(addr).is_some_and(|candidate| candidate.source == Source::Given)
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

    /// Addresses that were due when too many dials to their networks had come to nothing; each is counted once between dials.
    pub(super) fn held_back(&self) -> u64 {
        self.held_back
    }

    fn leave(&mut self, addr: SocketAddr, to: State, in_vain: bool) -> Option<&mut Candidate> {
        let candidate = self.book.get_mut(&addr)?;
        if candidate.state == State::Dialling {
            self.dialling -= 1;
            unpoisoned(&self.known).end(&addr, in_vain);
        }
        if candidate.state != State::Banned {
            candidate.state = to;
        }
        Some(candidate)
    }

    /// The dial has become a connection.
    pub(super) fn connected(&mut self, addr: SocketAddr) {
        self.leave(addr, State::Connected, false);
        self.release(addr);
    }

    /// The dial has failed, or the connection has ended. A connection that was worth something (`useful`) counts as
    /// a new start.
    pub(super) fn ended(&mut self, now: Duration, addr: SocketAddr, useful: bool) {
        let Some(source) = self.leave(addr, State::Idle, !useful).map(|candidate| candidate.source) else {
            return;
        };
        let longest = if source == Source::Given { LONGEST_WAIT_GIVEN } else { LONGEST_WAIT };
        let (failures, not_before) = self.known().fails(&addr, now, useful, longest);
        let Some(candidate) = self.book.get_mut(&addr) else { return };
        (candidate.failures, candidate.not_before) = (failures, not_before);
        if candidate.is_hopeless() {
            self.give_up(&addr);
        }
    }

    /// The peer there is connected otherwise: that is no failure, and it is not dialled for a while.
    pub(super) fn postpone(&mut self, now: Duration, addr: SocketAddr) {
        self.rest_until(addr, now + CONNECTED_WAIT);
    }

    /// The dial could not be made, for want of something of our own: that is no failure of whoever is there.
    pub(super) fn prevented(&mut self, now: Duration, addr: SocketAddr) {
        self.rest_until(addr, now + PREVENTED_WAIT);
    }

    fn rest_until(&mut self, addr: SocketAddr, until: Duration) {
        if let Some(candidate) = self.leave(addr, State::Idle, false) {
            candidate.not_before = until;
        }
    }

    /// Somebody who came to us says that it listens here, where the user has named somebody. It is believed for a while: anybody
    /// could say so. (For longer by a low limit of ours (`limited`): it may not have had its turn yet to show what it is worth.)
    /// Says whether it is.
    pub(super) fn believe(&mut self, now: Duration, addr: SocketAddr, limited: bool) -> bool {
        let Some(candidate) = self.book.get_mut(&addr) else { return false };
        let wait = if limited { CONNECTED_WAIT } else { CLAIMED_WAIT };
        let until = *candidate.claimed.get_or_insert(now) + wait;
        if now < until
            && let Some(candidate) = self.leave(addr, State::Idle, false)
        {
            candidate.not_before = until;
        }
        now < until
    }

    /// Never dials this address again.
    pub(super) fn ban(&mut self, addr: SocketAddr) {
        self.leave(addr, State::Banned, false);
    }

    /// The peer there has everything, or has not.
    pub(super) fn is_seed(&mut self, addr: SocketAddr, seed: bool) {
        self.known().is_seed(&addr, seed);
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
mod tests;
