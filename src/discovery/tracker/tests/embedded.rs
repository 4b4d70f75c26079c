use super::{Conn, request};
use crate::discovery::tracker::embedded::{EmbeddedTracker, EmbeddedTrackerConfig};
use crate::discovery::tracker::swarms::Swarms;
use crate::discovery::tracker::{AnnounceRequest, AnnounceResponse, Event, PeerAddr, ReplyError};
use crate::metainfo::InfoHash;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const INTERVAL: Duration = Duration::from_secs(60);

fn swarms() -> Swarms {
    Swarms::new(EmbeddedTrackerConfig { interval: INTERVAL, allowed: None })
}

fn query(request: &AnnounceRequest) -> String {
    request.target("/").trim_start_matches("/?").to_owned()
}

/// Announces as the peer with this number, from 10.0.0.n or 2001:db8::n.
fn peer(n: u16, left: u64) -> AnnounceRequest {
    let mut peer_id = *b"-SR0001-abcdefghijkl";
    peer_id[18..].copy_from_slice(&n.to_be_bytes());
    AnnounceRequest { peer_id, port: 1000 + n, left, ..request() }
}

fn ip(n: u16) -> IpAddr {
    IpAddr::from([10, 0, (n >> 8) as u8, n as u8])
}

fn announce(swarms: &mut Swarms, now: Instant, from: IpAddr, request: &AnnounceRequest) -> AnnounceResponse {
    AnnounceResponse::parse(&swarms.announce(now, from, &query(request))).unwrap()
}

#[test]
fn peers_are_introduced_but_not_to_themselves() {
    let (mut swarms, now) = (swarms(), Instant::now());
    assert_eq!(announce(&mut swarms, now, ip(1), &peer(1, 0)).peers, []);
    let reply = announce(&mut swarms, now, ip(2), &peer(2, 5));
    assert_eq!(reply.peers, [PeerAddr::Socket(SocketAddr::new(ip(1), 1001))]);
    assert_eq!((reply.complete, reply.incomplete, reply.interval), (Some(1), Some(1), Some(INTERVAL)));
    let reply = announce(&mut swarms, now, ip(1), &peer(1, 0));
    assert_eq!(reply.peers, [PeerAddr::Socket(SocketAddr::new(ip(2), 1002))]);
    let other = AnnounceRequest { info_hash: InfoHash([9; 20]), ..peer(3, 1) };
    assert_eq!(announce(&mut swarms, now, ip(3), &other).peers, []);
}

#[test]
fn both_families_and_both_forms() {
    let (mut swarms, now) = (swarms(), Instant::now());
    let v6: IpAddr = "2001:db8::7".parse().unwrap();
    announce(&mut swarms, now, ip(1), &peer(1, 0));
    announce(&mut swarms, now, v6, &peer(7, 0));
    announce(&mut swarms, now, "::ffff:10.0.0.2".parse().unwrap(), &peer(2, 0));
    let expected: Vec<_> =
        [(ip(1), 1001), (ip(2), 1002), (v6, 1007)].map(|a| PeerAddr::Socket(a.into())).into();
    for compact in ["compact=1", "compact=0"] {
        let body = swarms.announce(now, ip(9), &query(&peer(9, 1)).replace("compact=1", compact));
        let is_list = body.windows(8).any(|w| w == b"5:peersl");
        assert_eq!(is_list, compact == "compact=0");
        let mut peers = AnnounceResponse::parse(&body).unwrap().peers;
        peers.sort_by_key(|peer| match peer {
            PeerAddr::Socket(addr) => *addr,
            PeerAddr::Host(..) => panic!("a name"),
        });
        assert_eq!(peers, expected, "{compact}");
    }
}

#[test]
fn who_stops_or_falls_silent_is_forgotten() {
    let (mut swarms, now) = (swarms(), Instant::now());
    announce(&mut swarms, now, ip(1), &peer(1, 0));
    announce(&mut swarms, now, ip(2), &peer(2, 0));
    let stopped = AnnounceRequest { event: Some(Event::Stopped), ..peer(2, 0) };
    announce(&mut swarms, now, ip(2), &stopped);
    let later = now + INTERVAL * 2 - Duration::from_secs(1);
    assert_eq!(announce(&mut swarms, later, ip(3), &peer(3, 0)).peers.len(), 1);
    assert_eq!(announce(&mut swarms, now + INTERVAL * 2, ip(3), &peer(3, 0)).peers.len(), 0);
}

#[test]
fn as_many_peers_as_wanted_and_never_more_than_200() {
    let (mut swarms, now) = (swarms(), Instant::now());
    for n in 0..1200 {
        announce(&mut swarms, now, ip(n), &peer(n, 0));
    }
    for (num_want, expected) in [(0, 0), (7, 7), (200, 200), (u32::MAX, 200)] {
        let asker = AnnounceRequest { num_want, ..peer(2000, 1) };
        let reply = announce(&mut swarms, now, ip(2000), &asker);
        assert_eq!(reply.peers.len(), expected);
        assert_eq!((reply.complete, reply.incomplete), (Some(1000), Some(0)), "a swarm is bounded");
    }
}

#[test]
fn swarms_are_bounded() {
    let (mut swarms, now) = (swarms(), Instant::now());
    let in_swarm = |n| AnnounceRequest { info_hash: InfoHash([n; 20]), ..peer(1, 0) };
    for n in 0..100 {
        announce(&mut swarms, now, ip(1), &in_swarm(n));
    }
    let body = swarms.announce(now, ip(1), &query(&in_swarm(100)));
    assert!(matches!(AnnounceResponse::parse(&body), Err(ReplyError::Refused { .. })));
    announce(&mut swarms, now, ip(1), &in_swarm(99));
    announce(&mut swarms, now + INTERVAL * 2, ip(1), &in_swarm(100));
}

#[test]
fn a_list_of_torrents_is_kept_to() {
    let allowed = Some(vec![request().info_hash]);
    let mut swarms = Swarms::new(EmbeddedTrackerConfig { interval: INTERVAL, allowed });
    announce(&mut swarms, Instant::now(), ip(1), &request());
    let other = AnnounceRequest { info_hash: InfoHash([9; 20]), ..request() };
    let body = swarms.announce(Instant::now(), ip(1), &query(&other));
    assert!(matches!(AnnounceResponse::parse(&body), Err(ReplyError::Refused { .. })));
}

#[test]
fn bad_queries_get_a_reason() {
    let good = query(&request());
    let hash = "%C3".repeat(20);
    for bad in [
        String::new(),
        "?&=&&".into(),
        good.replace(&hash, "abc"),
        good.replace(&hash, "%C"),
        good.replace("peer_id=-SR", "peer_id=-S"),
        good.replace("port=6881", "port=0"),
        good.replace("port=6881", "port=65536"),
        good.replace("port=6881", "port="),
    ] {
        let body = swarms().announce(Instant::now(), ip(1), &bad);
        let refused = AnnounceResponse::parse(&body);
        assert!(matches!(refused, Err(ReplyError::Refused { .. })), "{bad}: {refused:?}");
    }
}

proptest! {
    #[test]
    fn random_queries_never_panic(query: String) {
        swarms().announce(Instant::now(), ip(1), &query);
    }

    #[test]
    fn random_values_never_panic(name in "info_hash|peer_id|port|left|event|numwant|compact", value: String) {
        let query = format!("{}&{name}={value}", query(&request()));
        let body = swarms().announce(Instant::now(), ip(1), &query);
        let refused = matches!(AnnounceResponse::parse(&body), Err(ReplyError::NotBencode));
        prop_assert!(!refused);
    }
}

/// What the tracker sends back for these bytes, until it closes.
async fn raw(tracker: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = Conn(TcpStream::connect(tracker).await.unwrap());
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    while let Ok(byte) = stream.read_u8().await {
        answer.push(byte);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn the_server_answers_only_announces_and_survives_the_rest() {
    let tracker =
        EmbeddedTracker::bind(([127, 0, 0, 1], 0).into(), EmbeddedTrackerConfig::default()).await.unwrap();
    let addr: SocketAddr = tracker.url()["http://".len()..].trim_end_matches("/announce").parse().unwrap();
    tokio::spawn(tracker.run());
    let huge = format!("GET /announce?{} HTTP/1.1\r\n\r\n", "x".repeat(40_000));
    for (bytes, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "404"),
        ("GET /announce HTTP/1.1\r\n\r\n", "200"),
        ("nonsense\r\n\r\n", "400"),
        (&huge, "4"),
    ] {
        let answer = raw(addr, bytes.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{bytes:.50}: {answer}");
    }
    let target = request().target("/announce");
    let answer = raw(addr, format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).await;
    assert!(answer.contains("8:intervali1800e"), "{answer}");
}
