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
            let ip = if host == 1 { format!("2001:db8::{lies}").parse().unwrap() } else { at(host, 0).ip() };
            places.ban(SocketAddr::new(ip, 50_000 + lies));
        }
    }
    let shut = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::99", "10.0.0.2", "2001:db8:0:1::1", "127.0.0.1"];
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
fn what_peers_tell_leaves_room_for_all_others_and_no_peer_tells_of_many() {
    let mut places = Places::default();
    let teller = |n: u8| SocketAddr::from(([9, 9, 9, n], 1));
    let told = |n: u8| (1..=1000u16).map(move |port| SocketAddr::from(([8, 8, 8, n], port)));
    let tell = |places: &mut Places, n| {
        told(n).for_each(|addr| places.add_told(addr, Teller::new(teller(n))));
        places.book.len()
    };
    assert_eq!((tell(&mut places, 1), tell(&mut places, 1), places.refused()), (50, 50, 950 + 950));
    assert_eq!(tell(&mut places, 2), 100);
    // What others name, too, is not by its word any more; nor is what is forgotten.
    told(1).take(20).for_each(|addr| places.add(addr, Source::Tracker));
    assert_eq!(tell(&mut places, 1), 120);
    told(2).take(5).for_each(|addr| places.met(&addr));
    assert_eq!(tell(&mut places, 2), 125);
    for now in 0..10_000 {
        while take_due(&mut places, seconds(now), |_| false).is_some() {}
        places.forget_dead(seconds(now), |_| false);
    }
    assert_eq!((places.book.len(), tell(&mut places, 2)), (0, 50));
    (3..=40).for_each(|n| _ = tell(&mut places, n));
    assert_eq!(places.book.len(), MOST_TOLD);
    places.add(teller(200), Source::Search);
    assert_eq!(places.book.len(), MOST_TOLD + 1);
    let named = |places: Places, private| places.into_addresses([].into_iter(), private).len();
    let mut few = Places::default();
    few.add_told(addr(1), Teller::new(addr(2)));
    few.met(&addr(1));
    assert_eq!(named(few, true), 0, "a private torrent");
    // Of those where nobody was met it is not known that somebody is there.
    places.met(&told(9).next().unwrap());
    assert_eq!(named(places, false), 1 + 1);
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

#[test]
fn where_dials_to_a_network_come_to_nothing_so_many_are_made_and_no_more() {
    let crowd = |net: u8| (1..=200).map(move |n| SocketAddr::from(([8, 8, net, n], 1)));
    let mut places = Places::default();
    let dials = |places: &mut Places, net, source, met: bool| {
        crowd(net).for_each(|addr| places.add(addr, source));
        let mut count = 0;
        while let Some(addr) = take_due(places, seconds(0), |_| false) {
            count += 1;
            if met {
                places.met(&addr);
                places.met(&addr);
            }
        }
        (count, places.held_back())
    };
    assert_eq!(dials(&mut places, 1, Source::Search, false), (32, 168));
    assert_eq!(dials(&mut places, 2, Source::Tracker, false), (64, 168 + 136));
    assert_eq!(dials(&mut places, 3, Source::Search, true), (200, 304), "somebody was met at each");
    assert_eq!(dials(&mut places, 4, Source::Given, false).0, 200);
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
            let taken = places.take_due(now, &BTreeMap::new(), |_| false, |who| room_for(who, &standings));
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
