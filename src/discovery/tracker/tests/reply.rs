use crate::discovery::tracker::{AnnounceResponse, MAX_PEERS, PeerAddr, ReplyError};
use proptest::prelude::*;
use std::net::SocketAddr;
use std::time::Duration;

fn parse(body: impl AsRef<[u8]>) -> AnnounceResponse {
    AnnounceResponse::parse(body.as_ref()).unwrap()
}

fn socket(addr: &str) -> PeerAddr {
    PeerAddr::Socket(addr.parse().unwrap())
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("{}:", bytes.len()).into_bytes();
    out.extend_from_slice(bytes);
    out
}

#[test]
fn every_field_is_read() {
    let reply = parse(
        b"d8:completei5e11:external ip4:\x01\x02\x03\x0410:incompletei7e8:intervali1800e12:min intervali900e\
          5:peers6:\x0a\x00\x00\x01\x1a\xe16:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe2\
          10:tracker id3:xyz15:warning message5:slow!e",
    );
    assert_eq!(reply.interval, Some(Duration::from_secs(1800)));
    assert_eq!(reply.min_interval, Some(Duration::from_secs(900)));
    assert_eq!(reply.peers, [socket("10.0.0.1:6881"), socket("[2001:db8::1]:6882")]);
    assert_eq!((reply.complete, reply.incomplete), (Some(5), Some(7)));
    assert_eq!(reply.tracker_id.as_deref(), Some(&b"xyz"[..]));
    assert_eq!(reply.warning.as_deref(), Some("slow!"));
    assert_eq!(reply.external_ip, Some("1.2.3.4".parse().unwrap()));
}

#[test]
fn listed_peers_may_be_literals_or_names() {
    let entry = |ip: &str, port: i64| {
        format!("d2:ip{}:{ip}7:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti{port}ee", ip.len())
    };
    let list: String = [
        entry("192.0.2.1", 1),
        entry("2001:db8::2", 2),
        entry("[2001:db8::3]", 3),
        entry("::ffff:192.0.2.4", 4),
        entry("peer.example.org", 5),
        entry("192.0.2.6", 0),
        entry("192.0.2.7", 65536),
        entry("192.0.2.8", -1),
        entry("a b", 9),
        entry("", 10),
        entry("0.0.0.0", 11),
        entry("224.0.0.1", 12),
        entry("peer.example.org", 0),
        entry(&"x".repeat(254), 13),
    ]
    .concat();
    let reply = parse(format!("d5:peersl{list}i3e3:fooled2:ip9:192.0.2.9eee"));
    let expected = [
        socket("192.0.2.1:1"),
        socket("[2001:db8::2]:2"),
        socket("[2001:db8::3]:3"),
        socket("192.0.2.4:4"),
        PeerAddr::Host("peer.example.org".into(), 5),
    ];
    assert_eq!(reply.peers, expected);
}

#[test]
fn compact_peers_that_nobody_can_dial_are_dropped() {
    let good = b"\x0a\x00\x00\x01\x1a\xe1";
    let mut peers = Vec::new();
    for entry in
        [b"\x0a\x00\x00\x01\x00\x00", b"\x00\x00\x00\x00\x1a\xe1", b"\xff\xff\xff\xff\x1a\xe1", good, good]
    {
        peers.extend_from_slice(entry);
    }
    // A rest that is no whole entry counts for nothing.
    peers.extend_from_slice(b"\x0a\x00\x00");
    let body = [b"d5:peers".to_vec(), string(&peers), b"e".to_vec()].concat();
    assert_eq!(parse(body).peers, [socket("10.0.0.1:6881")]);
}

#[test]
fn a_crowd_of_peers_is_cut() {
    let peers: Vec<u8> = (0..100_000u32)
        .flat_map(|n| [(n + 0x0a00_0000).to_be_bytes().to_vec(), vec![1, 1]].concat())
        .collect();
    let body = [b"d5:peers".to_vec(), string(&peers), b"e".to_vec()].concat();
    assert_eq!(parse(body).peers.len(), MAX_PEERS);
    let list: String = (1..=5000).map(|port| format!("d2:ip7:1.2.3.44:porti{port}ee")).collect();
    assert_eq!(parse(format!("d5:peersl{list}ee")).peers.len(), MAX_PEERS);
}

#[test]
fn neither_family_crowds_out_the_other() {
    let v4 = |count: u32| (0..count).flat_map(|n| [&(n + 0x0a00_0000).to_be_bytes()[..], &[1, 1]].concat());
    let v6 =
        |count: u32| (1..=count).flat_map(|n| [&[0x20, 1], &[0; 10][..], &n.to_be_bytes(), &[1, 1]].concat());
    let listed = |count: u32| -> String { (1..=count).map(|n| format!("d2:ip4:host4:porti{n}ee")).collect() };
    let is_v6 = |peer: &PeerAddr| matches!(peer, PeerAddr::Socket(SocketAddr::V6(_)));
    // Named of each, and taken.
    for (named, taken) in [
        ((300, 50), (150, 50)),
        ((50, 300), (50, 150)),
        ((300, 300), (100, 100)),
        ((300, 0), (200, 0)),
        ((0, 300), (0, 200)),
        ((99, 101), (99, 101)),
        ((101, 100), (100, 100)),
        ((7, 9), (7, 9)),
    ] {
        let compact = string(&v4(named.0).collect::<Vec<u8>>());
        let list = format!("l{}e", listed(named.0)).into_bytes();
        for others in [compact, list] {
            let v6 = string(&v6(named.1).collect::<Vec<u8>>());
            let reply = parse([&b"d5:peers"[..], &others, b"6:peers6", &v6, b"e"].concat());
            let of_v6 = reply.peers.iter().filter(|peer| is_v6(peer)).count();
            assert_eq!((reply.peers.len() - of_v6, of_v6), taken, "of {named:?}");
            assert_eq!(reply.peers.len() + reply.dropped, (named.0 + named.1) as usize);
            let runs = reply.peers.chunk_by(|one, next| is_v6(one) == is_v6(next)).count();
            assert!(runs <= 2, "they stay in their order");
        }
    }
}

#[test]
fn fields_of_the_wrong_type_count_as_absent() {
    let reply = parse(
        "d8:complete1:511:external ip3:abc10:incompletei-1e8:interval4:180012:min intervalle5:peersi6e6:peers6le\
         10:tracker idi1e15:warning messagelee",
    );
    assert_eq!(reply, AnnounceResponse::default());
    assert_eq!(parse("de"), AnnounceResponse::default());
    assert_eq!(parse("de\n"), AnnounceResponse::default());
}

#[test]
fn absurd_intervals_are_not_believed() {
    for (number, seconds, clamped) in [
        ("0", None, 0),
        ("-5", None, 0),
        ("-9223372036854775808", None, 0),
        ("1", Some(1), 0),
        ("86400", Some(86400), 0),
        ("86401", Some(86400), 2),
        ("9223372036854775807", Some(86400), 2),
    ] {
        let reply = parse(format!("d8:intervali{number}e12:min intervali{number}ee"));
        assert_eq!(reply.interval, seconds.map(Duration::from_secs), "{number}");
        assert_eq!(reply.min_interval, reply.interval);
        assert_eq!(reply.clamped, clamped, "both, {number}");
    }
}

#[test]
fn a_failure_reason_is_an_error_fit_to_be_shown() {
    let refused = |reason: &[u8]| {
        let body = [b"d14:failure reason".to_vec(), string(reason), b"8:intervali5ee".to_vec()].concat();
        match AnnounceResponse::parse(&body) {
            Err(ReplyError::Refused { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(b"unregistered torrent"), "unregistered torrent");
    assert_eq!(refused(b"\x1b[31mred\r\n\0\x9b"), "[31mred\u{fffd}");
    assert_eq!(refused("a\u{202e}b\u{2066}c\u{200b}\u{85}".as_bytes()), "abc");
    assert_eq!(refused("ä".repeat(100_000).as_bytes()), "ä".repeat(200));
    assert_eq!(
        AnnounceResponse::parse(b"d14:failure reasoni1ee"),
        Err(ReplyError::Refused { reason: "no reason given".into(), wait: None })
    );
}

#[test]
fn a_refusal_may_say_for_how_long_it_holds() {
    let day = Some(24 * 60 * 60);
    for (more, seconds) in [
        ("", None),
        ("8:retry ini15e", Some(15 * 60)),
        ("8:retry in2:15", Some(15 * 60)),
        ("8:retry in5:never", day),
        ("8:retry ini9223372036854775807e", day),
        ("8:retry ini0e", None),
        ("8:retry ini-3e", None),
        ("8:retry in5:later", None),
        ("8:retry inle", None),
        ("8:intervali1800e", Some(1800)),
        ("8:intervali1800e12:min intervali900e", Some(900)),
        ("8:intervali1800e12:min intervali0e", Some(1800)),
        ("8:intervali1800e8:retry ini1e", Some(60)),
        ("8:intervali1800e8:retry inlee", Some(1800)),
    ] {
        let body = format!("d14:failure reason4:busy{more}e");
        let wait = seconds.map(Duration::from_secs);
        let refused = Err(ReplyError::Refused { reason: "busy".into(), wait });
        assert_eq!(AnnounceResponse::parse(body.as_bytes()), refused, "{more}");
    }
}

#[test]
fn other_bodies_are_not_replies() {
    let deep_list = [b"l".repeat(100_000), b"e".repeat(100_000)].concat();
    let deep_dict = [b"d1:a".repeat(100_000), b"e".repeat(100_000)].concat();
    let open = b"l".repeat(1_000_000);
    let huge = b"99999999999999999999:".to_vec();
    let bodies: [&[u8]; 9] =
        [b"", b"<html>", b"le", b"i1e", b"2:de", b"d8:interval", &deep_list, &deep_dict, &huge];
    for body in bodies.into_iter().chain([&open[..]]) {
        assert_eq!(AnnounceResponse::parse(body), Err(ReplyError::NotBencode));
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body: Vec<u8>) {
        let _ = AnnounceResponse::parse(&body);
    }

    #[test]
    fn random_lists_of_peers_never_panic_and_are_dialable(v4: Vec<u8>, v6: Vec<u8>) {
        let body = [b"d5:peers".to_vec(), string(&v4), b"6:peers6".to_vec(), string(&v6), b"e".to_vec()].concat();
        for peer in parse(body).peers {
            let PeerAddr::Socket(addr) = peer else { panic!("a name in a compact list") };
            prop_assert!(addr.port() != 0 && !addr.ip().is_unspecified());
            prop_assert!(!matches!(addr, SocketAddr::V6(addr) if addr.ip().to_ipv4_mapped().is_some()));
        }
    }

    #[test]
    fn a_damaged_reply_never_panics(at in 0usize..90, byte: u8) {
        let mut body = b"d8:intervali1800e5:peersl\
            d2:ip9:192.0.2.14:porti1eed2:ip11:example.org4:porti6881eee10:tracker id3:xyze".to_vec();
        let at = at % body.len();
        body[at] = byte;
        let _ = AnnounceResponse::parse(&body);
    }
}
