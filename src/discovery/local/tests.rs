//! The datagram, the schedule, the intake and the interfaces as values; the task on the host's own loopback device.

use super::intake::Turns;
use super::interfaces::{v4_of, v6_of};
use super::packet::{GROUP_V4, GROUP_V6, MOST_INFO_HASHES, PACKET_LEN, PacketError, Search};
use super::{Intake, LocalSearch, Schedule};
use crate::metainfo::InfoHash;
use proptest::prelude::*;
use std::net::Ipv6Addr;
use std::task::Poll;
use std::time::{Duration, Instant};

const HASH: &str = "0123456789abcdef0123456789ABCDEF01234567";

fn hash() -> InfoHash {
    InfoHash([0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(3)[..20].try_into().unwrap())
}

fn parse(text: &str) -> Result<Search, PacketError> {
    Search::parse(text.as_bytes())
}

#[test]
fn the_datagram_is_that_of_the_bep() {
    let search = Search { port: 6881, info_hashes: vec![hash()], cookie: Some(b"abc".to_vec()) };
    let text = format!(
        "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {}\r\ncookie: abc\r\n\r\n\r\n",
        HASH.to_lowercase()
    );
    assert_eq!(String::from_utf8(search.encode(GROUP_V4.into())).unwrap(), text);
    let v6 = String::from_utf8(search.encode(GROUP_V6.into())).unwrap();
    assert!(v6.contains("\r\nHost: [ff15::efc0:988f]:6771\r\n"), "{v6}");
    assert_eq!(parse(&text), Ok(search));
}

#[test]
fn what_others_write_is_understood() {
    let libtorrent = format!(
        "BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: 6881\r\nInfohash: {HASH}\r\ncookie: 5\r\n\r\n\r\n"
    );
    let once = parse(&libtorrent).unwrap();
    assert_eq!((once.port, &once.info_hashes), (6881, &vec![hash()]));
    for other in [
        libtorrent.to_lowercase(),
        libtorrent.replace("\r\n", "\n"),
        libtorrent.replace("\r\n\r\n\r\n", "\r\n\r\n"),
        libtorrent.replace(": ", ":"),
        libtorrent.replace("cookie", "X-Other: 7\r\ncookie"),
        libtorrent.replace("Infohash", "Infohash: 1234\r\nInfohash"),
        libtorrent.replace("Infohash", &format!("Infohash: {HASH}\r\nInfohash")),
        libtorrent + "anything",
    ] {
        assert_eq!(parse(&other), Ok(once.clone()), "{other}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let good = format!("BT-SEARCH * HTTP/1.1\r\nPort: 1\r\nInfohash: {HASH}\r\n\r\n\r\n");
    let cases = [
        (String::new(), PacketError::Start),
        (good.replace("BT-SEARCH", "M-SEARCH"), PacketError::Start),
        (good.replace("Port: 1\r\n", ""), PacketError::Port),
        (good.replace("Port: 1", "Port: 0"), PacketError::Port),
        (good.replace("Port: 1", "Port: 65536"), PacketError::Port),
        (good.replace("Port: 1", "Port: +1"), PacketError::Port),
        (good.replace("Port: 1", "Port: "), PacketError::Port),
        (good.replace("Port: 1", "Port: 1\r\nPort: 2"), PacketError::Port),
        (good.replace(HASH, &HASH[1..]), PacketError::InfoHash),
        (good.replace(HASH, &HASH.replace('A', "g")), PacketError::InfoHash),
        (good.replace(HASH, &HASH.replacen("01", "+1", 1)), PacketError::InfoHash),
        (good.replace("Port", "No colon\r\nPort"), PacketError::Line),
        (good.trim_end().to_owned(), PacketError::End),
        (good.trim_end().to_owned() + "\r\n", PacketError::End),
        (good.replace("Port", &format!("cookie: {}\r\nPort", "x".repeat(65))), PacketError::Cookie),
        (good.clone() + &"x".repeat(PACKET_LEN), PacketError::TooLong),
    ];
    for (text, error) in cases {
        assert_eq!(parse(&text), Err(error), "{text}");
    }
    let cut = good.trim_end().len() + "\r\n\r\n".len();
    (0..cut).for_each(|len| assert!(parse(&good[..len]).is_err(), "cut to {len} bytes"));
}

proptest! {
    #[test]
    fn what_is_written_fits_and_is_read_again(
        port in 1..=u16::MAX,
        seeds in prop::collection::hash_set(any::<[u8; 20]>(), 1..40),
        cookie in prop::option::of("[a-zA-Z0-9-]{1,64}"),
    ) {
        let info_hashes: Vec<InfoHash> = seeds.into_iter().map(InfoHash).collect();
        let mut search = Search { port, info_hashes, cookie: cookie.map(String::into_bytes) };
        for group in [GROUP_V4.into(), GROUP_V6.into()] {
            let packet = search.encode(group);
            prop_assert!(packet.len() <= PACKET_LEN);
            search.info_hashes.truncate(MOST_INFO_HASHES);
            prop_assert_eq!(Search::parse(&packet), Ok(search.clone()));
        }
    }

    #[test]
    fn a_torrent_is_said_every_five_minutes_and_nothing_more_than_once_a_minute(
        count in 0..200u8,
        steps in prop::collection::vec(1..90u64, 1..100),
    ) {
        let begin = Instant::now();
        let mut schedule = Schedule::new((0..count).map(|n| InfoHash([n; 20])), begin);
        let mut now = begin;
        let mut last_packet: Option<Instant> = None;
        let mut last_said = vec![None; count.into()];
        for step in steps {
            let early = schedule.next_deadline().is_none_or(|at| at > now);
            let said = schedule.next(now);
            prop_assert_eq!(said.is_none(), early);
            if let Some(said) = said {
                prop_assert!((1..=MOST_INFO_HASHES).contains(&said.len()));
                prop_assert!(last_packet.is_none_or(|at| now - at >= Duration::from_secs(60)));
                last_packet = Some(now);
                for hash in said {
                    let before = last_said[usize::from(hash.0[0])].replace(now);
                    prop_assert!(before.is_none_or(|at| now - at >= Duration::from_secs(300)));
                }
            }
            now += Duration::from_secs(step);
        }
    }
}

#[test]
fn all_of_many_torrents_get_their_turn() {
    let begin = Instant::now();
    let all = || (0..4 * MOST_INFO_HASHES as u8).map(|n| InfoHash([n; 20]));
    let mut schedule = Schedule::new(all(), begin);
    let mut said = Vec::new();
    for minute in 0..4 {
        said.extend(schedule.next(begin + Duration::from_secs(60 * minute)).unwrap());
    }
    assert!(said.into_iter().eq(all()));
    assert_eq!(schedule.next(begin + Duration::from_secs(299)), None);
    assert_eq!(schedule.next_deadline(), Some(begin + Duration::from_secs(300)));
}

#[test]
fn a_flood_is_looked_at_in_part() {
    let begin = Instant::now();
    let mut intake = Intake::new(begin);
    let admitted = |intake: &mut Intake, at: u64| {
        (0..10_000).filter(|_| intake.admit(begin + Duration::from_millis(at))).count()
    };
    assert_eq!(admitted(&mut intake, 0), 100);
    assert_eq!(admitted(&mut intake, 49), 0);
    assert_eq!(admitted(&mut intake, 1000), 20);
    assert_eq!(admitted(&mut intake, 3_600_000), 100);
}

/// However many datagrams of the one wait all the time, those of the other are heard at once, and all of them looked at.
#[test]
fn a_flood_of_one_group_leaves_the_other_its_turns_and_its_intake() {
    for flooded in [0, 1] {
        let begin = Instant::now();
        let mut turns = Turns::new(2, begin);
        let (mut waits, mut heard, mut looked_at) = (0, [0; 2], [0; 2]);
        for round in 0..10_000 {
            let now = begin + Duration::from_millis(round);
            waits += u32::from(round % 100 == 0);
            let polled = turns.poll(|group| match group == flooded || waits > 0 {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let Poll::Ready((group, ())) = polled else { panic!("one is always ready") };
            waits -= u32::from(group != flooded);
            assert!(waits <= 1, "the other waits in vain");
            heard[group] += 1;
            looked_at[group] += u32::from(turns.admit(group, now));
        }
        assert_eq!((heard[1 - flooded], looked_at[1 - flooded]), (100, 100));
        assert_eq!(looked_at[flooded], 100 + 10_000 / 50 - 1);
    }
    let mut turns = Turns::new(2, Instant::now());
    assert_eq!(turns.poll(|_| Poll::<()>::Pending), Poll::Pending);
    let order: Vec<_> = (0..4).map(|_| turns.poll(|group| Poll::Ready(10 + group))).collect();
    assert_eq!(order, [0, 1, 0, 1].map(|group| Poll::Ready((group, 10 + group))));
}

#[test]
fn interfaces_are_read_as_the_kernel_lists_them() {
    let routes = "Iface\tDestination\tGateway \tFlags\n\
                  eth0\t00000000\t010011AC\t0003\neth0\t000011AC\t00000000\t0001\nwg1\t0000000A\t00000000\t0001\n";
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(v4_of(routes), (names(&["lo", "eth0", "wg1"]), 0));
    assert_eq!(v4_of(""), (names(&["lo"]), 0));
    let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                 fd000000000000000000000000000007 0a 40 00 80     eth0\n\
                 fe800000000000000000000000000001 0a 40 20 80     eth0\nrubbish\n";
    let (found, more) = v6_of(table);
    assert_eq!((found.keys().collect::<Vec<_>>(), more), (vec![&1, &10], 0));
    assert_eq!(found[&10][0], Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 7));
}

#[test]
fn twenty_interfaces_are_used_and_the_others_counted() {
    // The first line is that of titles; and there is the loopback interface.
    for (interfaces, used, unused) in [(19, 20, 0), (20, 20, 1), (100, 20, 81)] {
        let routes: String = (0..=interfaces).map(|n| format!("veth{n} 0\nveth{n} 1\n")).collect();
        let routes = routes.replacen("veth0 0\nveth0 1\n", "Iface\n", 1);
        let (names, more) = v4_of(&routes);
        assert_eq!((names.len(), more), (used, unused), "{interfaces} beside the loopback interface");
    }
    let line = |index: u32, host: u32| format!("fe80000000000000000000000000{host:04x} {index:02x} 40\n");
    let table: String = (1..=23).flat_map(|index| [line(index, 1), line(index, 2)]).collect();
    let (found, more) = v6_of(&table);
    assert_eq!((found.len(), more), (20, 3));
    assert!(found.values().all(|addrs| addrs.len() == 2));
}

/// Both on this host, so that it needs no network: each hears what the other says, and not itself.
#[tokio::test]
async fn two_on_one_host_hear_of_each_other() {
    // Random: other tests speak on this host, too.
    let ours = InfoHash(std::array::from_fn(|_| fastrand::u8(..)));
    let (early, mut found) = tokio::sync::mpsc::channel(16);
    let first = LocalSearch::start(([127, 0, 0, 1], 1001).into(), [(ours, early)]).unwrap();
    while first.counts().sent == 0 {
        tokio::task::yield_now().await;
    }
    let (late, mut nothing) = tokio::sync::mpsc::channel(16);
    let second = LocalSearch::start(([127, 0, 0, 1], 1002).into(), [(ours, late)]).unwrap();
    assert_eq!(found.recv().await, Some(vec![([127, 0, 0, 1], 1002).into()]));
    assert!(found.try_recv().is_err(), "nobody hears itself");
    // Whoever comes later has missed what was said before.
    assert!(nothing.try_recv().is_err());
    assert_eq!((first.counts().sent, second.counts().sent), (1, 1));
    assert_eq!(first.counts().peers, 1);
    drop((first, second));
}
