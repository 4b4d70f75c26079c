//! Where the peers of a magnet link may be: who has named each address, when it is dialled next, who is kept out, and who
//! gives way when there is no place for all. All addresses of the stage come by here.

use crate::swarm::IpFilter;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Addresses remembered; those that were found without a tracker leave room for others. Hosts that are banned.
const MOST_ADDRESSES: usize = 2000;
const MOST_FOUND: usize = 1500;
const MOST_BANNED: usize = 10_000;
/// How often an address is dialled, and the wait in between, which grows with each dial. What the user has named is dialled
/// for ever, and waits for less.
const MOST_DIALS: u32 = 20;
const REDIAL: Duration = Duration::from_secs(3);
const LONGEST_WAIT_GIVEN: Duration = Duration::from_secs(9);
/// Who has given nothing for so long gives way to a newcomer; one that came to us gives way to one that we go to sooner.
const SILENT: Duration = Duration::from_secs(5);
const SILENT_BEFORE_DIALS: Duration = Duration::from_secs(1);
/// Peers talked to at the same time, and how many of them may have come to us.
const MOST_PEERS: usize = 40;
const MOST_INCOMING: usize = 30;

/// Who has named an address. A private torrent has its peers from the first two alone (BEP 27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The user, or the link itself.
    Given,
    /// A tracker.
    Tracker,
    /// The local network or the DHT.
    Search,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    source: Source,
    dials: u32,
    not_before: Duration,
    /// Who is there has lied: never dialled again.
    liar: bool,
}

/// The book of addresses.
#[derive(Debug, Default)]
pub(super) struct Places {
    filter: Option<Arc<IpFilter>>,
    book: BTreeMap<SocketAddr, Place>,
    /// Hosts that alone sent wrong metadata.
    banned: BTreeSet<IpAddr>,
    refused: u64,
}

impl Places {
    pub(super) fn new(filter: Option<Arc<IpFilter>>) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Whether there may be a connection with this host.
    pub(super) fn may_connect(&self, ip: IpAddr) -> bool {
        !self.banned.contains(&ip.to_canonical())
            && !self.filter.as_ref().is_some_and(|filter| filter.contains(ip))
    }

    /// Remembers an address to dial.
    pub(super) fn add(&mut self, addr: SocketAddr, source: Source) {
        if addr.port() == 0 || !self.may_connect(addr.ip()) {
            return;
        }
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let most = if source == Source::Search { MOST_FOUND } else { MOST_ADDRESSES };
        if let Some(place) = self.book.get_mut(&addr) {
            place.source = place.source.min(source);
        } else if self.book.len() < most || source == Source::Given {
            let fresh = Place { source, dials: 0, not_before: Duration::ZERO, liar: false };
            self.book.insert(addr, fresh);
        } else {
            self.refused += 1;
        }
    }

    /// Addresses that were not remembered because there were too many, or forgotten after too many dials.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// The next address to dial now, which counts as dialled: what was given first, then what was dialled least. Those
    /// where somebody `is_connected` need none.
    pub(super) fn take_due(
        &mut self,
        now: Duration,
        is_connected: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let (banned, given) = (&self.banned, Source::Given);
        let due = self.book.iter_mut().filter(|(addr, place)| {
            let left = place.source == given || place.dials < MOST_DIALS;
            let allowed = !place.liar && !banned.contains(&addr.ip());
            left && allowed && place.not_before <= now && !is_connected(addr)
        });
        let first = |place: &Place| (place.source != Source::Given, place.dials, place.source);
        let (addr, place) = due.min_by_key(|(_, place)| first(place))?;
        place.dials = place.dials.saturating_add(1);
        let wait = REDIAL * place.dials.min(MOST_DIALS);
        place.not_before =
            now + if place.source == Source::Given { wait.min(LONGEST_WAIT_GIVEN) } else { wait };
        Some(*addr)
    }

    /// Forgets those where nobody was at the last dial either: whoever names them again has them tried again.
    pub(super) fn forget_dead(&mut self, now: Duration, is_connected: impl Fn(&SocketAddr) -> bool) {
        let before = self.book.len();
        self.book.retain(|addr, place| {
            place.source == Source::Given
                || place.liar
                || place.dials < MOST_DIALS
                || place.not_before > now
                || is_connected(addr)
        });
        self.refused += (before - self.book.len()) as u64;
    }

    /// Who is at this address has alone sent wrong metadata.
    pub(super) fn ban(&mut self, addr: SocketAddr) {
        if let Some(place) = self.book.get_mut(&addr) {
            place.liar = true;
        }
        // On one host there may be many who are honest.
        if !addr.ip().is_loopback() && self.banned.len() < MOST_BANNED {
            self.banned.insert(addr.ip());
        }
    }

    /// What the session goes on with: addresses that were given, and all others, those of peers that had the metadata
    /// first.
    pub(super) fn into_addresses(
        self,
        good: impl Iterator<Item = SocketAddr>,
        private: bool,
    ) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let good: Vec<SocketAddr> = good.collect();
        let allowed = |addr: &&SocketAddr| match self.book.get(*addr) {
            Some(place) if private => !place.liar && place.source != Source::Search,
            Some(place) => !place.liar,
            None => !private,
        };
        let named = self.book.iter().filter(|(_, place)| !place.liar).map(|(addr, _)| addr);
        let others = named.filter(|addr| !good.contains(addr));
        let all = good.iter().chain(others).filter(allowed).filter(|addr| self.may_connect(addr.ip()));
        let is_given =
            |addr: &SocketAddr| self.book.get(addr).is_some_and(|place| place.source == Source::Given);
        all.copied().partition(is_given)
    }
}

/// How a connected peer stands, for the question who gives way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) number: u64,
    pub(super) outgoing: bool,
    /// How long it has been here.
    pub(super) age: Duration,
    /// It has sent something of the metadata.
    pub(super) gives: bool,
}

/// Whether there is a place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is.
    Free,
    /// There is when this one leaves.
    After(u64),
    /// There is not.
    Full,
}

/// Looks for a place for a peer that came to us, or that we want to dial.
pub(super) fn room_for(outgoing: bool, peers: &[Standing]) -> Room {
    let incoming = peers.iter().filter(|peer| !peer.outgoing).count();
    if peers.len() < MOST_PEERS && (outgoing || incoming < MOST_INCOMING) {
        return Room::Free;
    }
    let gives_way = |peer: &&Standing| {
        let patience = if outgoing && !peer.outgoing { SILENT_BEFORE_DIALS } else { SILENT };
        !peer.gives && peer.age >= patience && (outgoing || !peer.outgoing)
    };
    let silent = peers.iter().filter(gives_way).max_by_key(|peer| (!peer.outgoing, peer.age));
    silent.map_or(Room::Full, |peer| Room::After(peer.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn of_a_private_torrent_only_what_was_given_or_came_from_a_tracker_goes_on() {
        for private in [false, true] {
            let mut places = Places::default();
            places.add(addr(1), Source::Given);
            places.add(addr(2), Source::Search);
            places.add(addr(3), Source::Tracker);
            places.add(addr(4), Source::Search);
            places.add(addr(4), Source::Tracker);
            // The last one came to us by itself.
            let good = [2, 4, 5].map(addr).into_iter();
            let (given, found) = places.into_addresses(good, private);
            assert_eq!(given, [addr(1)]);
            let all: &[u8] = if private { &[4, 3] } else { &[2, 4, 5, 3] };
            assert_eq!(found, all.iter().map(|last| addr(*last)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_in_the_filter_is_neither_dialled_nor_let_in_nor_handed_on() {
        let filter = IpFilter::parse(b"10.0.0.0/30").unwrap();
        let mut places = Places::new(Some(Arc::new(filter)));
        let mapped = SocketAddr::from((std::net::Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped(), 1));
        for source in [Source::Given, Source::Tracker, Source::Search] {
            [addr(1), mapped, addr(9)].into_iter().for_each(|addr| places.add(addr, source));
        }
        assert_eq!(places.take_due(seconds(0), |_| false), Some(addr(9)));
        assert_eq!(places.take_due(seconds(0), |_| false), None);
        assert!(!places.may_connect(mapped.ip()) && places.may_connect(addr(9).ip()));
        assert_eq!(places.into_addresses([addr(3)].into_iter(), false), (vec![addr(9)], vec![]));
    }

    #[test]
    fn what_the_user_named_is_dialled_for_ever_and_the_rest_until_it_is_named_again() {
        let mut places = Places::default();
        places.add(addr(1), Source::Given);
        places.add(addr(2), Source::Tracker);
        let mut dials = [0, 0];
        for now in 0..3600 {
            places.forget_dead(seconds(now), |_| false);
            while let Some(dialled) = places.take_due(seconds(now), |_| false) {
                dials[usize::from(dialled == addr(2))] += 1;
            }
        }
        assert!(dials[0] >= 400 && dials[1] == MOST_DIALS, "{dials:?}");
        places.add(addr(2), Source::Tracker);
        assert_eq!(places.take_due(seconds(3600), |other| *other == addr(1)), Some(addr(2)));
    }

    #[test]
    fn who_is_connected_uses_up_no_dials_and_a_liar_is_not_dialled() {
        let mut places = Places::default();
        [1, 2].into_iter().for_each(|last| places.add(addr(last), Source::Tracker));
        for now in 0..5000 {
            assert_eq!(places.take_due(seconds(now), |_| true), None);
            places.forget_dead(seconds(now), |_| true);
        }
        places.ban(addr(1));
        assert_eq!(places.take_due(seconds(5000), |_| false), Some(addr(2)));
        assert_eq!(places.take_due(seconds(9000), |_| false), Some(addr(2)));
        // One that came to us lies; where it listens was known before.
        places.add(addr(3), Source::Tracker);
        places.ban(SocketAddr::new(addr(3).ip(), 50_000));
        assert_eq!(places.take_due(seconds(19_000), |_| false), Some(addr(2)));
        assert_eq!(places.take_due(seconds(19_000), |_| false), None);
        places.add(SocketAddr::new(addr(1).ip(), 9), Source::Given);
        assert_eq!(places.into_addresses([addr(1)].into_iter(), false), (vec![], vec![addr(2)]));
    }

    #[test]
    fn searches_leave_room_for_trackers_and_both_for_what_was_given() {
        let mut places = Places::default();
        let all = (1..=4000u16).map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        all.clone().for_each(|addr| places.add(addr, Source::Search));
        assert_eq!(places.book.len(), MOST_FOUND);
        all.clone().for_each(|addr| places.add(addr, Source::Tracker));
        assert_eq!(places.book.len(), MOST_ADDRESSES);
        places.add(addr(7), Source::Given);
        assert_eq!(places.take_due(seconds(0), |_| false), Some(addr(7)));
    }

    fn crowd(outgoing: usize, incoming: usize, age: u64) -> Vec<Standing> {
        let one = |number| Standing {
            number: number as u64,
            outgoing: number < outgoing,
            age: seconds(age),
            gives: false,
        };
        (0..outgoing + incoming).map(one).collect()
    }

    #[test]
    fn silent_strangers_give_way() {
        assert_eq!(room_for(false, &crowd(5, MOST_INCOMING - 1, 0)), Room::Free);
        assert_eq!(room_for(false, &crowd(5, MOST_INCOMING, 4)), Room::Full);
        assert_eq!(room_for(true, &crowd(5, MOST_INCOMING, 0)), Room::Free, "a place is kept for dials");
        let full = |age| crowd(MOST_PEERS - MOST_INCOMING, MOST_INCOMING, age);
        assert_eq!([false, true].map(|outgoing| room_for(outgoing, &full(0))), [Room::Full; 2]);
        // Who came to us gives way first; whom we dialled never gives way to one that comes to us.
        assert!(matches!(room_for(true, &full(2)), Room::After(10..)));
        assert_eq!(room_for(false, &full(2)), Room::Full);
        assert!(matches!(room_for(false, &full(5)), Room::After(10..)));
        let ours = crowd(MOST_PEERS, 0, 9);
        assert_eq!(room_for(false, &ours), Room::Full);
        assert!(matches!(room_for(true, &ours), Room::After(_)));
        // Who gives stays, however many come.
        let mut useful = full(100);
        useful.iter_mut().for_each(|peer| peer.gives = peer.number != 20);
        assert_eq!([false, true].map(|outgoing| room_for(outgoing, &useful)), [Room::After(20); 2]);
        useful[20].gives = true;
        assert_eq!([false, true].map(|outgoing| room_for(outgoing, &useful)), [Room::Full; 2]);
    }
}
