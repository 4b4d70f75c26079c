//! Where the peers of a magnet link may be: who has named each address, when it is dialled next, and who is kept out. All
//! addresses of the stage come by here.

use super::door::Door;
use super::room::{Newcomer, Room};
use crate::swarm::{self, Counted, IpFilter, Networks, Teller, Tellers, host, most_of_host};
use crate::wire::{canonical, lacks_link};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Addresses remembered beside what was given; those that were found without a tracker leave room for others, and what peers
/// tell of most.
const MOST_ADDRESSES: usize = 2000;
const MOST_FOUND: usize = 1500;
const MOST_TOLD: usize = 600;
/// How often an address is dialled, and the wait in between, which grows with each dial. What the user has named is dialled
/// for ever, and waits for less.
const MOST_DIALS: u32 = 20;
const REDIAL: Duration = Duration::from_secs(3);
const LONGEST_WAIT_GIVEN: Duration = Duration::from_secs(9);

/// Who has named an address. A private torrent has its peers from the first two alone (BEP 27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The user, or the link itself.
    Given,
    /// A tracker.
    Tracker,
    /// The local network or the DHT.
    Search,
    /// Another peer (BEP 11).
    Told,
}

impl Source {
    /// What it is for the swarm.
    fn in_swarm(self) -> swarm::Source {
        match self {
            Self::Given => swarm::Source::Given,
            Self::Tracker => swarm::Source::Tracker,
            Self::Search => swarm::Source::Dht,
            Self::Told => swarm::Source::Exchange,
        }
    }

    /// Most addresses in the book for one of this source more to be remembered.
    fn most(self) -> usize {
        match self {
            Self::Given => usize::MAX,
            Self::Tracker => MOST_ADDRESSES,
            Self::Search => MOST_FOUND,
            Self::Told => MOST_TOLD,
        }
    }
}

#[derive(Debug)]
struct Place {
    source: Source,
    /// By whose word alone it is here.
    teller: Option<Teller>,
    dials: u32,
    not_before: Duration,
    /// It was due and found no place, since it was last dialled;
    waited: bool,
    /// or enough peers of its host here;
    crowded: bool,
    /// or too many dials to its network had come to nothing.
    held_back: bool,
    /// Its last dial, if that counts against its network.
    counted: Option<Counted>,
    /// Who is there has lied: never dialled again.
    liar: bool,
}

impl Place {
    fn new(source: Source) -> Self {
        Self {
            source,
            teller: None,
            dials: 0,
            not_before: Duration::ZERO,
            waited: false,
            crowded: false,
            held_back: false,
            counted: None,
            liar: false,
        }
    }
}

/// The book of addresses.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// Who is kept out.
    pub(super) door: Door,
    book: BTreeMap<SocketAddr, Place>,
    /// How many of them were given.
    given: usize,
    /// Whose address was dialled last: all sources take turns.
    last: Option<Source>,
    /// Most peers of one host, if not as many as usual.
    most_of_host: Option<usize>,
    networks: Networks,
    tellers: Tellers,
    refused: u64,
    crowded: u64,
    held_back: u64,
    waited: u64,
}

impl Places {
    pub(super) fn new(filter: Option<Arc<IpFilter>>, most_of_host: Option<usize>) -> Self {
        Self { door: Door::new(filter), most_of_host, ..Self::default() }
    }

    /// Whether so many peers of a host are as many as there may be.
    pub(super) fn is_crowd(&self, ip: IpAddr, count: usize) -> bool {
        count >= most_of_host(self.most_of_host, ip)
    }

    /// Remembers an address to dial.
    pub(super) fn add(&mut self, addr: SocketAddr, source: Source) {
        let addr = canonical(addr);
        if addr.port() == 0 || lacks_link(addr) || !self.door.admit(addr.ip(), source) {
            return;
        }
        if let Some(place) = self.book.get_mut(&addr) {
            self.given += usize::from(source == Source::Given && place.source != source);
            place.source = place.source.min(source);
            if place.source < Source::Told {
                place.teller.take().into_iter().for_each(|teller| self.tellers.remove(teller));
            }
        } else if self.book.len() - self.given < source.most() {
            self.given += usize::from(source == Source::Given);
            self.book.insert(addr, Place::new(source));
        } else {
            self.refused += 1;
        }
    }

    /// Remembers an address that a peer tells of, unless that has told of enough.
    pub(super) fn add_told(&mut self, addr: SocketAddr, teller: Teller) {
        let addr = canonical(addr);
        if self.book.contains_key(&addr) {
            return;
        }
        if self.tellers.has_all(&teller) {
            self.refused += 1;
            return;
        }
        self.add(addr, Source::Told);
        if let Some(place) = self.book.get_mut(&addr) {
            place.teller = Some(teller);
            self.tellers.add(teller);
        }
    }

    /// Addresses that were not remembered because there were too many, or forgotten after too many dials.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Addresses that were due while enough peers of their host were here; each is counted once between dials.
    pub(super) fn crowded(&self) -> u64 {
        self.crowded
    }

    /// Addresses that were due when too many dials to their networks had come to nothing, likewise.
    pub(super) fn held_back(&self) -> u64 {
        self.held_back
    }

    /// Addresses that were due when there was no place, likewise.
    pub(super) fn waited(&self) -> u64 {
        self.waited
    }

    /// The next address to dial now, and the `room` that there is for it. For sources that have more addresses than there are
    /// places, it is the others' turn first.
    pub(super) fn take_due(
        &mut self,
        now: Duration,
        peers: &BTreeMap<IpAddr, usize>,
        is_connected: impl Fn(&SocketAddr) -> bool,
        room: impl Fn(Newcomer) -> Room,
    ) -> Option<(SocketAddr, Newcomer, Room)> {
        let mut full = Vec::new();
        loop {
            let (addr, source, newcomer) = self.next_due(now, (peers, &full), &is_connected)?;
            let room = room(newcomer);
            if room != Room::Full {
                self.dialled(now, addr);
                return Some((addr, newcomer, room));
            }
            // Nor is there one for those of its source that come after it.
            self.waits(addr);
            full.push(source);
        }
    }

    /// The next address that is due: of the source whose turn it is, what was dialled least. Those where somebody
    /// `is_connected` need none; of a host that has enough of `peers` already, or a network where too many dials came to
    /// nothing, only those that were given are dialled; and none of sources that there is no room for (`full`).
    fn next_due(
        &mut self,
        now: Duration,
        (peers, full): (&BTreeMap<IpAddr, usize>, &[Source]),
        is_connected: impl Fn(&SocketAddr) -> bool,
    ) -> Option<(SocketAddr, Source, Newcomer)> {
        let (liars, given, said) = (&self.door.liars, Source::Given, self.most_of_host);
        let due = self.book.iter_mut().filter(|(addr, place)| {
            let left = place.source == given || (place.dials < MOST_DIALS && !liars.shut_out(addr.ip()));
            let allowed = !place.liar && !full.contains(&place.source);
            left && allowed && place.not_before <= now && !is_connected(addr)
        });
        let (crowded, held_back, networks) = (&mut self.crowded, &mut self.held_back, &self.networks);
        let roomy = due.filter_map(|(addr, place)| {
            let count = peers.get(&host(addr.ip())).copied().unwrap_or(0);
            let crowd = place.source != given && count >= most_of_host(said, addr.ip());
            if crowd {
                *crowded += u64::from(!place.crowded);
                place.crowded = true;
                return None;
            }
            let room = networks.has_room(addr.ip(), place.source.in_swarm(), now);
            if !room {
                *held_back += u64::from(!place.held_back);
                place.held_back = true;
            }
            room.then_some((*addr, &*place))
        });
        let last = self.last;
        let first =
            |place: &Place| (last.is_some_and(|last| place.source <= last), place.source, place.dials);
        let (addr, place) = roomy.min_by_key(|(_, place)| first(place))?;
        let newcomer = match place {
            Place { source: Source::Given, .. } => Newcomer::Given,
            Place { dials: 0, .. } => Newcomer::Untried,
            Place { .. } => Newcomer::Tried,
        };
        Some((addr, place.source, newcomer))
    }

    /// The address is dialled.
    fn dialled(&mut self, now: Duration, addr: SocketAddr) {
        let Some(place) = self.book.get_mut(&addr) else { return };
        place.dials = place.dials.saturating_add(1);
        let wait = REDIAL * place.dials.min(MOST_DIALS);
        place.not_before =
            now + if place.source == Source::Given { wait.min(LONGEST_WAIT_GIVEN) } else { wait };
        (place.waited, place.crowded, place.held_back) = (false, false, false);
        place.counted = self.networks.count(addr.ip(), place.source.in_swarm(), now);
        self.last = Some(place.source);
    }

    /// Somebody was met where we dialled.
    pub(super) fn met(&mut self, addr: &SocketAddr) {
        let Some(place) = self.book.get_mut(addr) else { return };
        place.counted.take().into_iter().for_each(|counted| self.networks.take_back(counted));
        // That somebody is there is not only its teller's word any more.
        place.teller.take().into_iter().for_each(|teller| self.tellers.remove(teller));
    }

    /// The address is due, and there is no place.
    fn waits(&mut self, addr: SocketAddr) {
        if let Some(place) = self.book.get_mut(&addr) {
            self.waited += u64::from(!place.waited);
            place.waited = true;
        }
    }

    /// Forgets those where nobody was at the last dial either: whoever names them again has them tried again.
    pub(super) fn forget_dead(&mut self, now: Duration, is_connected: impl Fn(&SocketAddr) -> bool) {
        let dead = self.book.extract_if(.., |addr, place| {
            let alive = place.dials < MOST_DIALS || place.not_before > now || is_connected(addr);
            place.source != Source::Given && !place.liar && !alive
        });
        for (_, place) in dead {
            self.refused += 1;
            place.teller.into_iter().for_each(|teller| self.tellers.remove(teller));
        }
    }

    /// Who is at this address, or came from there, has alone sent wrong metadata. It is not dialled again; and its host is shut
    /// out when there were several.
    pub(super) fn ban(&mut self, addr: SocketAddr) {
        self.book.get_mut(&addr).into_iter().for_each(|place| place.liar = true);
        self.door.liars.add(addr.ip());
    }

    /// What the session goes on with: addresses, those of peers that had the metadata first, and who has named them.
    pub(super) fn into_addresses(
        self,
        good: impl Iterator<Item = SocketAddr>,
        private: bool,
    ) -> Vec<(SocketAddr, swarm::Source)> {
        let good: Vec<SocketAddr> = good.collect();
        let allowed = |addr: &&SocketAddr| match self.book.get(*addr) {
            Some(place) if private && place.source >= Source::Search => false,
            // By the word of a peer alone: that peer will say it again, and is then held to it.
            Some(place) if place.teller.is_some() => false,
            Some(place) => !place.liar && self.door.keeps_out(addr.ip(), place.source).is_none(),
            None => !private && self.door.keeps_out(addr.ip(), Source::Search).is_none(),
        };
        let named = self.book.iter().filter(|(_, place)| !place.liar).map(|(addr, _)| addr);
        let others = named.filter(|addr| !good.contains(addr));
        let all = good.iter().chain(others).filter(allowed);
        let source = |addr: &SocketAddr| {
            self.book.get(addr).map_or(swarm::Source::Itself, |place| place.source.in_swarm())
        };
        all.map(|addr| (*addr, source(addr))).collect()
    }
}

#[cfg(test)]
mod tests;
