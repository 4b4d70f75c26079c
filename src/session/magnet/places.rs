//! Where the peers of a magnet link may be: who has named each address, when it is dialled next, and who is kept out. All
//! addresses of the stage come by here.

use super::door::Door;
use super::room::{Newcomer, Room};
use crate::swarm::{self, IpFilter, host, most_of_host};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Addresses remembered beside what was given; those that were found without a tracker leave room for others.
const MOST_ADDRESSES: usize = 2000;
const MOST_FOUND: usize = 1500;
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
}

#[derive(Clone, Copy, Debug)]
struct Place {
    source: Source,
    dials: u32,
    not_before: Duration,
    /// It was due and found no place, since it was last dialled;
    waited: bool,
    /// or enough peers of its host here.
    crowded: bool,
    /// Who is there has lied: never dialled again.
    liar: bool,
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
    refused: u64,
    crowded: u64,
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
        if addr.port() == 0 || !self.door.admit(addr.ip(), source) {
            return;
        }
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let most = if source == Source::Search { MOST_FOUND } else { MOST_ADDRESSES };
        if let Some(place) = self.book.get_mut(&addr) {
            self.given += usize::from(source == Source::Given && place.source != source);
            place.source = place.source.min(source);
        } else if self.book.len() - self.given < most || source == Source::Given {
            self.given += usize::from(source == Source::Given);
            let not_before = Duration::ZERO;
            let fresh = Place { source, dials: 0, not_before, waited: false, crowded: false, liar: false };
            self.book.insert(addr, fresh);
        } else {
            self.refused += 1;
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
    /// `is_connected` need none; of a host that has enough of `peers` already only those that were given are dialled; and
    /// none of sources that there is no room for (`full`).
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
        let crowded = &mut self.crowded;
        let roomy = due.filter_map(|(addr, place)| {
            let count = peers.get(&host(addr.ip())).copied().unwrap_or(0);
            let crowd = place.source != given && count >= most_of_host(said, addr.ip());
            if crowd {
                *crowded += u64::from(!place.crowded);
                place.crowded = true;
            }
            (!crowd).then_some((*addr, *place))
        });
        let last = self.last;
        let first =
            |place: &Place| (last.is_some_and(|last| place.source <= last), place.source, place.dials);
        let (addr, place) = roomy.min_by_key(|(_, place)| first(place))?;
        let newcomer = match place {
            Place { source: Source::Given, .. } => Newcomer::Given,
            Place { dials: 0, .. } => Newcomer::Untried,
            _ => Newcomer::Tried,
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
        (place.waited, place.crowded) = (false, false);
        self.last = Some(place.source);
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
            Some(place) if private && place.source == Source::Search => false,
            Some(place) => !place.liar && self.door.keeps_out(addr.ip(), place.source).is_none(),
            None => !private && self.door.keeps_out(addr.ip(), Source::Search).is_none(),
        };
        let named = self.book.iter().filter(|(_, place)| !place.liar).map(|(addr, _)| addr);
        let others = named.filter(|addr| !good.contains(addr));
        let all = good.iter().chain(others).filter(allowed);
        let source = |addr: &SocketAddr| match self.book.get(addr).map(|place| place.source) {
            Some(Source::Given) => swarm::Source::Given,
            Some(Source::Tracker) => swarm::Source::Tracker,
            Some(Source::Search) => swarm::Source::Dht,
            None => swarm::Source::Itself,
        };
        all.map(|addr| (*addr, source(addr))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::{Standing, room_for};
    use super::*;
    use crate::swarm::Service;

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1))
    }

    /// What was given, and the rest.
    fn parted(all: Vec<(SocketAddr, swarm::Source)>) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let (given, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(_, source)| *source == swarm::Source::Given);
        let addrs = |all: Vec<(SocketAddr, _)>| all.into_iter().map(|(addr, _)| addr).collect();
        (addrs(given), addrs(rest))
    }

    fn take_due(
        places: &mut Places,
        now: Duration,
        is_connected: impl Fn(&SocketAddr) -> bool,
    ) -> Option<SocketAddr> {
        let (addr, ..) = places.take_due(now, &BTreeMap::new(), is_connected, |_| Room::Free)?;
        Some(addr)
    }

    /// What would be dialled now.
    fn due(places: &mut Places, here: &BTreeMap<IpAddr, usize>) -> Option<(SocketAddr, Newcomer)> {
        let (addr, _, newcomer) = places.next_due(seconds(0), (here, &[]), |_| false)?;
        Some((addr, newcomer))
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
            let (given, found) = parted(places.into_addresses(good, private));
            assert_eq!(given, [addr(1)]);
            let all: &[u8] = if private { &[4, 3] } else { &[2, 4, 5, 3] };
            assert_eq!(found, all.iter().map(|last| addr(*last)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_in_the_filter_is_neither_dialled_nor_let_in_nor_handed_on() {
        let filter = IpFilter::parse(b"10.0.0.0/30").unwrap();
        let mut places = Places::new(Some(Arc::new(filter)), None);
        let mapped = SocketAddr::from((std::net::Ipv4Addr::new(10, 0, 0, 2).to_ipv6_mapped(), 1));
        for source in [Source::Given, Source::Tracker, Source::Search] {
            [addr(1), mapped, addr(9)].into_iter().for_each(|addr| places.add(addr, source));
        }
        assert_eq!(take_due(&mut places, seconds(0), |_| false), Some(addr(9)));
        assert_eq!(take_due(&mut places, seconds(0), |_| false), None);
        assert!(!places.door.lets_in(mapped.ip()) && places.door.lets_in(addr(9).ip()));
        assert_eq!((places.door.filtered, places.door.barred), (7, 0), "each time");
        assert_eq!(parted(places.into_addresses([addr(3)].into_iter(), false)), (vec![addr(9)], vec![]));
    }

    #[test]
    fn what_the_user_named_is_dialled_for_ever_and_the_rest_until_it_is_named_again() {
        let mut places = Places::default();
        places.add(addr(1), Source::Given);
        places.add(addr(2), Source::Tracker);
        let mut dials = [0, 0];
        for now in 0..3600 {
            places.forget_dead(seconds(now), |_| false);
            while let Some(dialled) = take_due(&mut places, seconds(now), |_| false) {
                dials[usize::from(dialled == addr(2))] += 1;
            }
        }
        assert!(dials[0] >= 400 && dials[1] == MOST_DIALS, "{dials:?}");
        places.add(addr(2), Source::Tracker);
        assert_eq!(take_due(&mut places, seconds(3600), |other| *other == addr(1)), Some(addr(2)));
    }

    #[test]
    fn who_is_connected_uses_up_no_dials_and_a_liar_is_not_dialled() {
        let mut places = Places::default();
        [1, 2].into_iter().for_each(|last| places.add(addr(last), Source::Tracker));
        for now in 0..5000 {
            assert_eq!(take_due(&mut places, seconds(now), |_| true), None);
            places.forget_dead(seconds(now), |_| true);
        }
        places.ban(addr(1));
        assert_eq!(take_due(&mut places, seconds(5000), |_| false), Some(addr(2)));
        assert_eq!(take_due(&mut places, seconds(9000), |_| false), Some(addr(2)));
        // Others at its host may be honest.
        let other = SocketAddr::new(addr(1).ip(), 9);
        places.add(other, Source::Tracker);
        places.add(addr(1), Source::Given);
        assert_eq!(take_due(&mut places, seconds(19_000), |_| false), Some(other));
        let found = vec![other, addr(2)];
        assert_eq!(parted(places.into_addresses([addr(1)].into_iter(), false)), (vec![], found));
    }

    #[test]
    fn a_host_of_several_liars_is_shut_out_but_for_what_was_given() {
        let hosts = ["10.0.0.1", "2001:db8::1", "127.0.0.1"];
        let at = |host: usize, port| SocketAddr::new(hosts[host].parse().unwrap(), port);
        let mut places = Places::default();
        for (host, name) in hosts.iter().enumerate() {
            places.add(at(host, 1), Source::Given);
            places.add(at(host, 2), Source::Tracker);
            for lies in 1..=3 {
                assert!(places.door.lets_in(at(host, 0).ip()), "{lies} of {name}");
                // Those of IPv6 have a whole net to come from.
                let ip =
                    if host == 1 { format!("2001:db8::{lies}").parse().unwrap() } else { at(host, 0).ip() };
                places.ban(SocketAddr::new(ip, 50_000 + lies));
            }
        }
        let shut =
            ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::99", "10.0.0.2", "2001:db8:0:1::1", "127.0.0.1"];
        let shut = shut.map(|ip| places.door.lets_in(ip.parse().unwrap()));
        assert_eq!(shut, [false, false, false, true, true, true]);
        // Of these the given are dialled, and of our own host all; nor are others taken into the book.
        places.add(at(0, 3), Source::Tracker);
        places.add(at(1, 3), Source::Given);
        assert_eq!((places.door.filtered, places.door.barred), (0, 4), "those and what the tracker named");
        let dialled = |places: &mut Places, now| {
            let due = std::iter::from_fn(|| take_due(places, seconds(now), |_| false));
            let mut due: Vec<SocketAddr> = due.collect();
            due.sort_unstable();
            due
        };
        let given = [at(0, 1), at(2, 1), at(2, 2), at(1, 1), at(1, 3)];
        assert_eq!(dialled(&mut places, 0), given);
        // Until one of them lies itself.
        places.ban(at(0, 1));
        assert_eq!(dialled(&mut places, 1000), given[1..]);
        let (mut to_dial, found) = parted(places.into_addresses([at(0, 9), at(1, 9)].into_iter(), false));
        to_dial.sort_unstable();
        assert_eq!((to_dial, found), (vec![at(2, 1), at(1, 1), at(1, 3)], vec![at(2, 2)]));
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
        assert_eq!(take_due(&mut places, seconds(0), |_| false), Some(addr(7)));
    }

    #[test]
    fn of_one_host_so_many_are_dialled_and_of_a_network_like_ours_or_named_by_the_user_any_number() {
        let mut places = Places::default();
        let at = |port| SocketAddr::from(([8, 8, 8, 8], port));
        (1..=3).for_each(|port| places.add(at(port), Source::Tracker));
        let here = |count| BTreeMap::from([(at(1).ip(), count), (addr(1).ip(), 99)]);
        assert_eq!(due(&mut places, &here(15)), Some((at(1), Newcomer::Untried)));
        for _ in 0..3 {
            assert_eq!(due(&mut places, &here(16)), None);
        }
        assert_eq!(places.crowded(), 3, "each once");
        places.add(addr(1), Source::Tracker);
        assert_eq!(due(&mut places, &here(16)), Some((addr(1), Newcomer::Untried)));
        places.add(at(9), Source::Given);
        assert_eq!(due(&mut places, &here(16)), Some((at(9), Newcomer::Given)));
        let strict = Places::new(None, Some(2));
        assert!(strict.is_crowd(addr(1).ip(), 2) && !strict.is_crowd(addr(1).ip(), 1));
    }

    #[test]
    fn what_finds_no_place_and_what_is_one_too_many_of_its_host_are_counted_each() {
        let mut places = Places::default();
        let at = SocketAddr::from(([8, 8, 8, 8], 1));
        places.add(at, Source::Tracker);
        let take = |places: &mut Places, count, room| {
            places.take_due(seconds(0), &BTreeMap::from([(at.ip(), count)]), |_| false, |_| room)
        };
        let counts = |places: &Places| (places.crowded(), places.waited());
        for _ in 0..2 {
            assert_eq!(take(&mut places, 16, Room::Free), None);
            assert_eq!(counts(&places), (1, 0));
        }
        for _ in 0..2 {
            assert_eq!(take(&mut places, 0, Room::Full), None);
            assert_eq!(counts(&places), (1, 1));
        }
        assert_eq!(take(&mut places, 0, Room::Free), Some((at, Newcomer::Untried, Room::Free)));
    }

    /// Addresses where nobody answers, as many of each source as said; those that get one of 40 places in so many seconds, each
    /// for five.
    fn dialled_in(duration: u64, silent: &[(Source, u16)]) -> Vec<(Source, SocketAddr)> {
        let mut places = Places::default();
        for (source, count) in silent {
            let ip = [10, 0, 1, *source as u8];
            (1..=*count).for_each(|port| places.add(SocketAddr::from((ip, port)), *source));
        }
        let (mut here, mut dialled): (Vec<Standing>, _) = (Vec::new(), Vec::new());
        for half in 0..2 * duration {
            let now = Duration::from_millis(500 * half);
            here.iter_mut().for_each(|peer| peer.age += Duration::from_millis(500));
            here.retain(|peer| peer.age < seconds(5));
            loop {
                let standings = here.clone();
                let taken =
                    places.take_due(now, &BTreeMap::new(), |_| false, |who| room_for(who, &standings));
                let Some((addr, newcomer, room)) = taken else { break };
                if let Room::After(gone) = room {
                    here.retain(|peer| peer.number != gone);
                }
                dialled.push((places.book[&addr].source, addr));
                here.push(Standing {
                    number: dialled.len() as u64,
                    outgoing: true,
                    given: newcomer == Newcomer::Given,
                    age: Duration::ZERO,
                    service: Service::default(),
                });
            }
        }
        dialled
    }

    #[test]
    fn two_hundred_of_one_source_where_nobody_answers_leave_turns_to_the_others() {
        let all = [Source::Given, Source::Tracker, Source::Search];
        for crowd in all {
            let counts = all.map(|source| (source, if source == crowd { 200 } else { 1 }));
            let dialled = dialled_in(6, &counts);
            for source in all {
                assert!(dialled.iter().any(|(of, _)| *of == source), "{source:?} behind {crowd:?}");
            }
        }
        // Nor do those that are told later wait until all others were dialled.
        let crowds = dialled_in(60, &all.map(|source| (source, 200)));
        for source in all {
            let share = crowds.iter().filter(|(of, _)| *of == source).count();
            assert!(share * 4 >= crowds.len(), "{share} of {} for {source:?}", crowds.len());
        }
    }
}
