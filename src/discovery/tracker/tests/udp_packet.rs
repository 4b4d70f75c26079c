use super::request;
use crate::discovery::tracker::udp_packet::{Asked, Family, Response, announce, connect, parse, scrape};
use crate::discovery::tracker::{Event, MAX_PEERS, PeerAddr, Scrape};
use crate::metainfo::InfoHash;
use proptest::prelude::*;
use std::time::Duration;

fn numbers(fields: &[u32]) -> Vec<u8> {
    fields.iter().flat_map(|field| field.to_be_bytes()).collect()
}

fn be(packet: &[u8], range: std::ops::Range<usize>) -> u64 {
    packet[range].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

#[test]
fn requests_lie_as_the_table_of_bep_15_says() {
    assert_eq!(connect(7), [0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0, 0, 0, 0, 7]);
    let packet = announce(0x0102_0304_0506_0708, 9, &request(), "");
    assert_eq!(packet.len(), 98);
    let fields: Vec<u64> =
        [0..8, 8..12, 12..16, 56..64, 64..72, 72..80, 80..84, 84..88, 88..92, 92..96, 96..98]
            .map(|range| be(&packet, range))
            .into();
    assert_eq!(fields, [0x0102_0304_0506_0708, 1, 9, 2, 3, 1, 2, 0, 0xabc, 50, 6881]);
    assert_eq!((&packet[16..36], &packet[36..56]), (&[0xc3; 20][..], &b"-SR0001-abcdefghijkl"[..]));
    let hashes = [InfoHash([1; 20]), InfoHash([2; 20])];
    let packet = scrape(5, 6, &hashes);
    assert_eq!([be(&packet, 0..8), be(&packet, 8..12), be(&packet, 12..16)], [5, 2, 6]);
    assert_eq!(packet[16..], [[1; 20], [2; 20]].concat());
    assert_eq!(scrape(5, 6, &[InfoHash([1; 20]); 100]).len(), 16 + 74 * 20);
}

#[test]
fn events_have_their_numbers() {
    for (event, number) in [
        (None, 0),
        (Some(Event::Completed), 1),
        (Some(Event::Started), 2),
        (Some(Event::Stopped), 3),
        (Some(Event::Paused), 0),
    ] {
        let mut request = request();
        request.event = event;
        assert_eq!(be(&announce(1, 2, &request, ""), 80..84), number, "{event:?}");
    }
}

#[test]
fn the_url_goes_in_options() {
    // The example of BEP 41.
    let packet = announce(1, 2, &request(), "/dir?a=b&c=d");
    assert_eq!(packet[98..], [&[2, 12][..], b"/dir?a=b&c=d", &[0]].concat());
    let long = format!("/{}", "x".repeat(599));
    let packet = announce(1, 2, &request(), &long);
    let (mut at, mut found) = (98, Vec::new());
    while packet[at] == 2 {
        let len = usize::from(packet[at + 1]);
        found.extend_from_slice(&packet[at + 2..at + 2 + len]);
        at += 2 + len;
    }
    assert_eq!((found, &packet[at..]), (long.into_bytes(), &[0][..]));
}

#[test]
fn the_host_name_joins_the_url() {
    let mut request = request();
    assert_eq!(request.url_data("/a"), "/a");
    request.hostname = Some("seed-1".into());
    for (url_data, expected) in
        [("", "/?hostname=seed-1"), ("/a", "/a?hostname=seed-1"), ("/a?x=1", "/a?x=1&hostname=seed-1")]
    {
        assert_eq!(request.url_data(url_data), expected);
    }
}

#[test]
fn an_answer_is_read() {
    let connected = parse(&numbers(&[0, 7, 1, 2]), Asked::Connect, 7, Family::V4);
    assert_eq!(connected, Some(Response::Connected(1 << 32 | 2)));
    let refused = parse(&[&numbers(&[3, 7])[..], b"go\x07away"].concat(), Asked::Announce, 7, Family::V4);
    assert_eq!(refused, Some(Response::Error("goaway".into())));
    let counts = parse(&numbers(&[2, 7, 1, 2, 3, 4, 5, 6, 9]), Asked::Scrape, 7, Family::V6);
    let scrape = |complete, downloaded, incomplete| Scrape {
        complete: Some(complete),
        downloaded: Some(downloaded),
        incomplete: Some(incomplete),
        downloaders: None,
    };
    assert_eq!(counts, Some(Response::Scraped(vec![scrape(1, 2, 3), scrape(4, 5, 6)])));
}

#[test]
fn the_family_of_the_socket_decides_how_long_a_peer_is() {
    let head = numbers(&[1, 7, 1800, 3, 4]);
    let v4 = [&head[..], &[192, 0, 2, 1, 0x1a, 0xe1, 0, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0x1a, 0xe1, 9]].concat();
    let Some(Response::Announced(reply)) = parse(&v4, Asked::Announce, 7, Family::V4) else { panic!() };
    assert_eq!(reply.interval, Some(Duration::from_secs(1800)));
    assert_eq!((reply.incomplete, reply.complete), (Some(3), Some(4)));
    assert_eq!(reply.peers, [PeerAddr::Socket("192.0.2.1:6881".parse().unwrap())]);
    let mut v6 = head.clone();
    v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1a, 0xe1]);
    let Some(Response::Announced(reply)) = parse(&v6, Asked::Announce, 7, Family::V6) else { panic!() };
    assert_eq!(reply.peers, [PeerAddr::Socket("[2001:db8::1]:6881".parse().unwrap())]);
    // A whole datagram of peers is cut.
    let crowd: Vec<u8> =
        (1..=1000u16).flat_map(|port| [[1, 2, 3, 4].as_slice(), &port.to_be_bytes()].concat()).collect();
    let crowd = [head, crowd].concat();
    let Some(Response::Announced(reply)) = parse(&crowd, Asked::Announce, 7, Family::V4) else { panic!() };
    assert_eq!(reply.peers.len(), MAX_PEERS);
}

#[test]
fn intervals_that_make_no_sense_are_none() {
    for (interval, expected, clamped) in [
        (0, None, 0),
        (u32::MAX, None, 0),
        (1 << 31, None, 0),
        (1, Some(1), 0),
        (24 * 60 * 60, Some(24 * 60 * 60), 0),
        (i32::MAX as u32, Some(24 * 60 * 60), 1),
    ] {
        let packet = numbers(&[1, 7, interval, 0, 0]);
        let Some(Response::Announced(reply)) = parse(&packet, Asked::Announce, 7, Family::V4) else {
            panic!()
        };
        assert_eq!(reply.interval, expected.map(Duration::from_secs), "{interval}");
        assert_eq!(reply.clamped, clamped, "{interval}");
    }
}

#[test]
fn what_answers_nothing_is_ignored() {
    for packet in [
        vec![],
        vec![0; 7],
        numbers(&[0, 7]),
        numbers(&[0, 7, 1]),
        numbers(&[0, 8, 1, 2]),
        numbers(&[1, 7, 1, 2, 3]),
        numbers(&[2, 7, 1, 2, 3]),
        numbers(&[3, 8]),
        numbers(&[4, 7, 1, 2]),
    ] {
        assert_eq!(parse(&packet, Asked::Connect, 7, Family::V4), None, "{packet:?}");
    }
    for packet in [numbers(&[1, 7, 1800, 0]), numbers(&[0, 7, 1, 2]), numbers(&[2, 7, 1, 2, 3])] {
        assert_eq!(parse(&packet, Asked::Announce, 7, Family::V4), None, "{packet:?}");
    }
}

proptest! {
    #[test]
    fn random_datagrams_never_panic(packet: Vec<u8>, action in 0u32..4) {
        let packet = [numbers(&[action, 7]), packet].concat();
        for asked in [Asked::Connect, Asked::Announce, Asked::Scrape] {
            for family in [Family::V4, Family::V6] {
                let _ = parse(&packet, asked, 7, family);
            }
        }
    }
}
