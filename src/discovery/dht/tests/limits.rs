//! Limits, tokens, the store of peers, votes, and the state.

use super::{MINUTE, SECOND, addr, contact, id};
use crate::discovery::dht::compact::{Contact, Family};
use crate::discovery::dht::external::External;
use crate::discovery::dht::limits::{Limits, Over};
use crate::discovery::dht::state::{self, Kept};
use crate::discovery::dht::store::{MAX_ALL, MAX_PEERS, MAX_TORRENTS, PeerStore, Taken};
use crate::discovery::dht::tokens::Tokens;
use crate::metainfo::InfoHash;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const START: Duration = Duration::ZERO;
const HASH: InfoHash = InfoHash([5; 20]);

fn ip(n: u32) -> IpAddr {
    addr(n).ip()
}

fn limits() -> Limits {
    Limits::new(fastrand::Rng::with_seed(1))
}

#[test]
fn an_address_asks_so_often_and_no_more() {
    let mut limits = limits();
    let now = SECOND * 100;
    let heard = |limits: &mut Limits, now, ip| (0..100).filter(|_| limits.query(now, ip, 1).is_ok()).count();
    assert_eq!(heard(&mut limits, now, ip(1)), 50);
    assert_eq!(heard(&mut limits, now, ip(2)), 50, "another is another");
    assert_eq!(limits.query(now, ip(1), 1), Err(Over::Queries));
    // Nobody is punished.
    assert_eq!(heard(&mut limits, now + SECOND, ip(1)), 5);
    assert_eq!(heard(&mut limits, now + SECOND * 60, ip(1)), 50);
    let [a, b]: [IpAddr; 2] = ["2001:db8::1", "2001:db8::2"].map(|ip| ip.parse().unwrap());
    assert_eq!((heard(&mut limits, now, a), heard(&mut limits, now, b)), (50, 0), "one network");
}

#[test]
fn strangers_get_twice_what_they_send_and_no_more() {
    let mut limits = limits();
    assert_eq!(limits.room(START, ip(1)), 0);
    limits.query(START, ip(1), 100).unwrap();
    assert_eq!(limits.room(START, ip(1)), 200);
    limits.sent(START, ip(1), 150);
    assert_eq!(limits.room(START, ip(1)), 50);
    limits.sent(START, ip(1), 150);
    assert_eq!(limits.room(START, ip(1)), 0);
    limits.verified(START, ip(1));
    assert!(limits.room(START, ip(1)) > 10_000);
}

#[test]
fn all_together_get_so_much() {
    let mut limits = limits();
    limits.verified(START, ip(1));
    let drain = |limits: &mut Limits, now| {
        let mut sent = 0;
        while limits.room(now, ip(1)) >= 500 {
            limits.sent(now, ip(1), 500);
            sent += 500;
        }
        sent
    };
    let now = SECOND * 1000;
    assert_eq!(drain(&mut limits, now), 16_000);
    assert!((7000..=8500).contains(&drain(&mut limits, now + SECOND)));
    assert_eq!(drain(&mut limits, now + SECOND * 100), 16_000);
}

#[test]
fn addresses_are_remembered_up_to_a_number() {
    let mut limits = limits();
    limits.verified(START, ip(20_000));
    let heard = (0..10_000).filter(|n| limits.query(SECOND, ip(*n), 1).is_ok()).count();
    assert_eq!((heard, limits.addresses(), limits.displaced()), (10_000, 4096, 10_001 - 4096));
    // Whoever is there has its place before those of whom nobody knows.
    assert!(limits.is_proven(ip(20_000)));
    // The last one has its place or another has: in any case it is heard, and so is a newcomer.
    assert_eq!(limits.query(SECOND, ip(9999), 1), Ok(()));
    assert_eq!(limits.query(MINUTE, ip(10_000), 1), Ok(()));
    assert_eq!(limits.addresses(), 4096);
    // The other family has places of its own.
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    let before = limits.displaced();
    assert_eq!((limits.query(MINUTE, v6, 1), limits.addresses()), (Ok(()), 4097));
    assert_eq!(limits.displaced(), before);
    limits.sweep(MINUTE * 10 + SECOND);
    assert_eq!(limits.addresses(), 2, "of a minute ago or less");
    limits.sweep(MINUTE * 12);
    assert_eq!(limits.addresses(), 0);
}

#[test]
fn when_all_have_proven_that_they_are_there_the_least_in_debt_gives_way() {
    let mut limits = limits();
    (0..4096).for_each(|n| limits.verified(START, ip(n)));
    let owes = |n: u32| if n.is_multiple_of(2) { 10 } else { 1 };
    (0..4096).for_each(|n| (0..owes(n)).for_each(|_| limits.query(SECOND, ip(n), 1).unwrap()));
    (5000..5100).for_each(|n| limits.query(SECOND, ip(n), 1).unwrap());
    assert_eq!((limits.addresses(), limits.displaced()), (4096, 100));
    let gone: Vec<u32> = (0..4096).filter(|n| !limits.is_proven(ip(*n))).collect();
    let much = gone.iter().filter(|n| owes(**n) == 10).count();
    // Some newcomers have given way to newcomers, where they were drawn.
    assert!((70..=100).contains(&gone.len()) && much < 5, "{much} of {}", gone.len());
}

#[test]
fn a_site_of_ipv6_has_so_many_accounts_and_no_more() {
    let mut limits = limits();
    let of = |site: u16, n: u16| IpAddr::from([0x2001, 0xdb8, site, n, 0, 0, 0, 1]);
    (0..100).for_each(|site| limits.verified(START, of(site, 1)));
    let mut n = 0;
    let mut heard = |limits: &mut Limits, now| {
        let asks = (0..1000).filter(|_| {
            n += 1;
            limits.query(now, of(200, n), 1).is_ok()
        });
        asks.count()
    };
    // As many at once as of one address, and four times as many in a second.
    assert_eq!(heard(&mut limits, SECOND), 50);
    assert_eq!((2..12).map(|n| heard(&mut limits, SECOND * n)).collect::<Vec<_>>(), [20; 10]);
    assert_eq!((limits.addresses(), limits.displaced()), (100 + 64, 50 + 200 - 64));
    assert_eq!(limits.query(SECOND * 11, of(200, 1), 1), Err(Over::Site));
    assert!((0..100).all(|site| limits.is_proven(of(site, 1))));
    // Another site is another.
    assert_eq!(limits.query(SECOND * 11, of(201, 1), 1), Ok(()));
    limits.sweep(MINUTE * 12);
    assert_eq!(limits.addresses(), 0);
    assert_eq!(heard(&mut limits, MINUTE * 12), 50);
}

#[test]
fn something_is_kept_for_those_who_are_there() {
    let mut limits = limits();
    limits.verified(START, ip(1));
    limits.query(START, ip(2), 1_000_000).unwrap();
    let now = SECOND * 1000;
    assert_eq!((limits.room(now, ip(1)), limits.room(now, ip(2))), (16_000, 12_000));
    limits.sent(now, ip(2), 12_000);
    assert_eq!((limits.room(now, ip(1)), limits.room(now, ip(2))), (4000, 0));
}

#[test]
fn tokens_count_for_one_address_one_torrent_and_a_while() {
    let (tokens, others) = (Tokens::new([1; 32]), Tokens::new([2; 32]));
    let token = tokens.make(MINUTE, ip(1), HASH);
    assert!(tokens.check(MINUTE, ip(1), HASH, &token));
    assert!(tokens.check(MINUTE * 6, ip(1), HASH, &token));
    assert!(!tokens.check(MINUTE * 11, ip(1), HASH, &token));
    assert!(!tokens.check(MINUTE, ip(2), HASH, &token));
    assert!(!tokens.check(MINUTE, ip(1), InfoHash([6; 20]), &token));
    assert!(!others.check(MINUTE, ip(1), HASH, &token));
    assert!(!tokens.check(MINUTE, ip(1), HASH, &token[..7]) && !tokens.check(MINUTE, ip(1), HASH, b""));
}

#[test]
fn the_store_has_bounds() {
    let mut store = PeerStore::default();
    let mut rng = fastrand::Rng::with_seed(1);
    for n in 0..600 {
        store.announce(SECOND * n, HASH, addr(n));
    }
    assert_eq!(store.len(), (1, 500));
    let told = store.sample(SECOND * 600, HASH, Family::V4, 1000, &mut rng).0;
    assert!(told.len() == 500 && !told.contains(&addr(0)) && told.contains(&addr(599)));
    assert_eq!(store.sample(SECOND * 600, HASH, Family::V4, 50, &mut rng).0.len(), 50);
    assert_eq!(store.sample(SECOND * 600, HASH, Family::V6, 50, &mut rng).0, []);
    // One address cannot fill a torrent.
    let other = InfoHash([6; 20]);
    (1..100).for_each(|port| _ = store.announce(SECOND, other, SocketAddr::new(ip(1), port)));
    assert_eq!(store.len(), (2, 504));
    let again = store.announce(SECOND * 2, other, SocketAddr::new(ip(1), 99));
    assert_eq!(again, Taken::Again, "again is not more");
    let fifth = store.announce(SECOND * 2, other, SocketAddr::new(ip(1), 100));
    assert_eq!(fifth, Taken::InsteadOfItsOwn);
    store.announce(SECOND * 2, other, SocketAddr::new(ip(1), 99));
    assert_eq!(store.len(), (2, 504));
    // Nor can many torrents drive out one that many know.
    for n in 0..5000u32 {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&n.to_be_bytes());
        store.announce(SECOND * 3, InfoHash(hash), addr(n));
    }
    let (torrents, peers) = store.len();
    assert!(torrents <= 2000 && peers <= 2600, "{torrents} torrents, {peers} peers");
    assert_eq!(store.sample(SECOND * 600, HASH, Family::V4, 1000, &mut rng).0.len(), 500);
    store.expire(MINUTE * 60);
    assert_eq!(store.len(), (0, 0));
}

#[test]
fn a_full_store_renews_whom_it_holds() {
    let (mut store, mut rng) = (PeerStore::default(), fastrand::Rng::with_seed(1));
    let torrent = |n: usize| InfoHash([n as u8; 20]);
    for n in 0..MAX_ALL {
        assert_eq!(store.announce(SECOND, torrent(n / MAX_PEERS), addr(n as u32)), Taken::New);
    }
    assert_eq!(store.announce(MINUTE * 20, HASH, addr(MAX_ALL as u32)), Taken::Not);
    let held = addr(5 * MAX_PEERS as u32);
    assert_eq!(store.announce(MINUTE * 20, HASH, held), Taken::Again);
    store.expire(MINUTE * 40);
    assert_eq!(
        (store.len(), store.sample(MINUTE * 40, HASH, Family::V4, 9, &mut rng).0),
        ((1, 1), vec![held])
    );
}

#[test]
fn the_ports_of_one_host_drive_out_nobody() {
    // Four ports of an address; of a network of IPv6, four addresses.
    let liars: [fn(u16) -> SocketAddr; 2] =
        [|port| SocketAddr::new(ip(0), port), |n| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 9))];
    for liar in liars {
        let (mut store, mut rng) = (PeerStore::default(), fastrand::Rng::with_seed(1));
        let torrent = |n: u32| InfoHash(std::array::from_fn(|at| n.to_be_bytes()[at % 4]));
        let honest = |n: u32| (1..=2).map(move |peer| addr(peer * 10_000 + n));
        (0..200).for_each(|n| honest(n).for_each(|peer| _ = store.announce(SECOND, torrent(n), peer)));
        for n in 200..10_000 {
            (1..=4).for_each(|port| _ = store.announce(SECOND * 2, torrent(n), liar(port)));
        }
        assert_eq!(store.len(), (MAX_TORRENTS, 2 * 200 + 4 * (MAX_TORRENTS - 200)));
        let mut told = |n| store.sample(SECOND * 3, torrent(n), Family::V4, 9, &mut rng).0.len();
        assert_eq!((0..200).map(&mut told).collect::<Vec<_>>(), [2; 200]);
    }
}

#[test]
fn of_torrents_with_as_many_hosts_that_goes_which_was_heard_of_least_lately() {
    let mut store = PeerStore::default();
    let torrent = |n: u32| InfoHash(std::array::from_fn(|at| n.to_be_bytes()[at % 4]));
    let round = |store: &mut PeerStore, begin: Duration, first: u32, taken: Taken| {
        for n in first..MAX_TORRENTS as u32 {
            let now = begin + Duration::from_millis(n.into());
            assert_eq!(store.announce(now, torrent(n), addr(n)), taken);
        }
    };
    round(&mut store, SECOND, 0, Taken::New);
    // The first comes again, and the second has another host for a while.
    assert_eq!(store.announce(SECOND * 9, torrent(0), addr(0)), Taken::Again);
    assert_eq!(store.announce(SECOND, torrent(1), addr(9999)), Taken::New);
    assert_eq!(store.announce(SECOND * 9, torrent(5000), addr(9)), Taken::Instead);
    assert_eq!(store.announce(SECOND * 9, torrent(5001), addr(9)), Taken::Instead);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut gone = |store: &PeerStore, now| {
        let told = |n: &u32| store.sample(now, torrent(*n), Family::V4, 9, &mut rng).0.is_empty();
        (0..MAX_TORRENTS as u32).filter(told).collect::<Vec<_>>()
    };
    assert_eq!(gone(&store, SECOND * 9), [2, 3]);
    // The second is of one host again, and heard of least lately but for one.
    let now = MINUTE * 20;
    (0..2).for_each(|n| _ = store.announce(now + Duration::from_millis(n.into()), torrent(n), addr(n)));
    round(&mut store, now, 4, Taken::Again);
    (5000..5002).for_each(|n| _ = store.announce(now + SECOND * 9, torrent(n), addr(9)));
    assert_eq!(store.announce(MINUTE * 32, torrent(5002), addr(9)), Taken::Instead);
    assert_eq!(store.announce(MINUTE * 32, torrent(5003), addr(9)), Taken::Instead);
    assert_eq!(gone(&store, MINUTE * 32), [0, 1, 2, 3]);
}

#[test]
fn of_a_network_of_ipv6_as_many_are_stored_as_of_one_address() {
    let mut store = PeerStore::default();
    let peer = |n: u16| SocketAddr::new(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]), 9);
    let taken = [1, 2, 3, 4, 5].map(|n| store.announce(SECOND, HASH, peer(n)));
    assert_eq!(taken, [Taken::New, Taken::New, Taken::New, Taken::New, Taken::InsteadOfItsOwn]);
}

#[test]
fn votes_count_once_a_network() {
    let mut external = External::default();
    let here: IpAddr = "5.6.7.8".parse().unwrap();
    for _ in 0..50 {
        assert_eq!(external.vote(ip(1), here), None);
    }
    for n in 2..8 {
        assert_eq!(external.vote(ip(n * 256), here), None);
    }
    assert_eq!(external.vote("99.1.1.1".parse().unwrap(), here), Some(here));
}

#[test]
fn a_state_comes_back_and_nonsense_does_not() {
    let nodes: Vec<_> = (0..10).map(|n| contact(&[n], n.into())).collect();
    let v6 = vec![Contact { id: id(&[9]), addr: "[2001:db8::5]:7".parse().unwrap() }];
    let kept = [Some(Kept { id: id(&[1, 2]), nodes }), Some(Kept { id: id(&[3]), nodes: v6 })];
    let bytes = state::write(&kept);
    assert_eq!(state::read(&bytes), kept);
    for cut in 0..bytes.len() {
        assert_eq!(state::read(&bytes[..cut]), [None, None], "the first {cut} bytes");
    }
    assert_eq!(state::read(b"d2:id19:aaaaaaaaaaaaaaaaaaa5:nodes0:e"), [None, None]);
    assert_eq!(state::read(b"d2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes5:12345e"), [None, None]);
    assert_eq!(state::read(&vec![b'x'; 1 << 20]), [None, None]);
    let half = [kept[0].clone(), None];
    assert_eq!(state::read(&state::write(&half)), half);
}
