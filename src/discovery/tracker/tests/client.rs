use super::{Conn, request, response, stub, stub_at};
use crate::discovery::tracker::client::by_family;
use crate::discovery::tracker::client::merged;
use crate::discovery::tracker::names::may_name;
use crate::discovery::tracker::udp_exchange::Question;
use crate::discovery::tracker::udp_packet::Response;
use crate::discovery::tracker::url::TrackerUrl;
use crate::discovery::tracker::{
    AnnounceResponse, Count, MAX_PEERS, PeerAddr, ReplyError, Scrape, TrackerClient, TrackerError,
    TrackerOptions, UdpPatience,
};
use crate::metainfo::InfoHash;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// What a UDP tracker says to a datagram whose action and transaction id are these.
type Answer = fn(packet: &[u8]) -> Vec<Vec<u8>>;

fn client() -> TrackerClient {
    let patience = UdpPatience { first_wait: Duration::from_millis(300), retries: 1 };
    TrackerClient::new(TrackerOptions { patience, ..TrackerOptions::default() })
}

/// A UDP tracker on loopback, of either family. Returns its URL.
async fn udp_tracker(ip: &str, answer: Answer) -> String {
    let socket = UdpSocket::bind((ip.trim_matches(['[', ']']), 0)).await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        loop {
            let (len, from) = socket.recv_from(&mut packet).await.unwrap();
            for answer in answer(&packet[..len]) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    format!("udp://{ip}:{port}/announce")
}

/// An answer: action, the transaction id of the question, and the rest.
fn reply(packet: &[u8], action: u32, rest: &[u8]) -> Vec<u8> {
    [&action.to_be_bytes()[..], &packet[12..16], rest].concat()
}

/// What a good tracker says: connection id 42, one peer, one count for each torrent.
fn good(packet: &[u8]) -> Vec<Vec<u8>> {
    let action = packet[11];
    if action == 0 {
        return vec![reply(packet, 0, &42u64.to_be_bytes())];
    }
    assert_eq!(packet[..8], 42u64.to_be_bytes());
    if action == 1 {
        let head = [900u32, 3, 4].map(u32::to_be_bytes).concat();
        return vec![reply(packet, 1, &[&head[..], &[192, 0, 2, 1, 0, 7]].concat())];
    }
    let counts: Vec<u8> =
        packet[16..].chunks(20).flat_map(|hash| [0, 0, 0, hash[0], 0, 0, 0, 2, 0, 0, 0, 3]).collect();
    vec![reply(packet, 2, &counts)]
}

#[tokio::test]
async fn announces_go_over_udp() {
    let url = udp_tracker("127.0.0.1", good).await;
    let client = client();
    for _ in 0..2 {
        let reply = client.announce(&url, &request()).await.unwrap();
        assert_eq!((reply.complete, reply.incomplete), (Some(4), Some(3)));
        assert_eq!(reply.interval, Some(Duration::from_secs(900)));
        assert_eq!(reply.peers, [PeerAddr::Socket("192.0.2.1:7".parse().unwrap())]);
    }
    let counts = client.counts();
    assert_eq!((counts.get(Count::UdpAnnounced), counts.get(Count::Peers)), (2, 2));
    // Each time a connection, then an announce of 98 bytes and the options.
    assert_eq!(counts.get(Count::BytesSent), 2 * (16 + 98 + 2 + 9 + 1));
}

#[tokio::test]
async fn over_ipv6_peers_are_of_ipv6() {
    let url = udp_tracker("[::1]", good_v6).await;
    let reply = client().announce(&url, &request()).await.unwrap();
    assert_eq!((reply.complete, reply.peers), (Some(4), vec![peer_v6()]));
}

/// What a good tracker says to who has come by IPv6.
fn good_v6(packet: &[u8]) -> Vec<Vec<u8>> {
    let mut answers = good(packet);
    if packet[11] == 1 {
        answers[0].truncate(20);
        let ip: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        answers[0].extend([&ip.octets()[..], &[0, 9]].concat());
    }
    answers
}

pub(super) fn peer_v4() -> PeerAddr {
    PeerAddr::Socket("192.0.2.1:7".parse().unwrap())
}

pub(super) fn peer_v6() -> PeerAddr {
    PeerAddr::Socket("[2001:db8::1]:9".parse().unwrap())
}

/// The address in a URL.
fn place(url: &str) -> SocketAddr {
    url.split('/').nth(2).unwrap().parse().unwrap()
}

/// A tracker of each kind: its URL, and where it is at, by IPv4 and by IPv6. Of each family it tells of another peer
/// ([`peer_v4`], [`peer_v6`]).
pub(super) async fn trackers_of_both_families() -> [(&'static str, [SocketAddr; 2]); 2] {
    let udp = [udp_tracker("127.0.0.1", good).await, udp_tracker("[::1]", good_v6).await];
    let peers: [&[u8]; 2] = [
        b"d8:intervali900e5:peers6:\xc0\0\x02\x01\0\x07e",
        b"d8:intervali900e6:peers618:\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x09e",
    ];
    let answer = |body: &'static [u8]| {
        move |_, mut stream: Conn| async move {
            stream.write_all(&response("200 OK", body)).await.unwrap();
        }
    };
    let http = [stub_at("127.0.0.1", answer(peers[0])).await, stub_at("::1", answer(peers[1])).await];
    let at = |urls: [String; 2]| urls.map(|url| place(&url));
    [("udp://t.example:1/announce", at(udp)), ("http://t.example/announce", at(http))]
}

#[tokio::test]
async fn a_tracker_of_both_families_is_told_from_both_and_both_answers_count() {
    let client = client();
    for (url, places) in trackers_of_both_families().await {
        let mut addrs = places.to_vec();
        let (url, patience) = (TrackerUrl::parse(url).unwrap(), client.options().patience);
        for _ in 0..2 {
            let told = client.announce_at(&url, addrs.clone(), &request(), patience, &|_| ()).await.unwrap();
            let mut all = told.peers;
            all.sort_by_key(|peer| *peer == peer_v6());
            assert_eq!(all, [peer_v4(), peer_v6()], "{url:?}");
            addrs.reverse();
        }
    }
}

/// By IPv6, packets vanish on their way; by IPv4, the tracker is there, but says no, or has gone for a moment.
#[tokio::test]
async fn a_family_whose_packets_vanish_does_not_hold_up_the_next_round() {
    let sink = UdpSocket::bind("[::1]:0").await.unwrap();
    let vanished = sink.local_addr().unwrap();
    let refusing = place(&udp_tracker("127.0.0.1", |packet| vec![reply(packet, 3, b"not now")]).await);
    let gone = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = TrackerUrl::parse("udp://t.example:1/announce").unwrap();
    // All of it takes ten seconds, as that of BEP 15 takes two hours; with one retry, 60 milliseconds.
    let patience = UdpPatience { first_wait: Duration::from_millis(20), retries: 8 };
    for v4 in [refusing, gone, silent.local_addr().unwrap()] {
        let client = client();
        let (addrs, request) = (vec![vanished, v4], request());
        let asked = client.announce_at(&url, addrs, &request, patience, &|_| ());
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        assert!(asked.unwrap_or_else(|_| panic!("{v4} is still waited for")).is_err());
    }
}

/// A tracker that one family alone leads to is waited for as BEP 15 has it.
#[tokio::test]
async fn an_only_address_has_all_of_our_patience() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let tracker = udp_tracker("127.0.0.1", |packet| match HEARD.fetch_add(1, Ordering::Relaxed) {
        0..3 => vec![],
        _ => good(packet),
    });
    let addrs = vec![place(&tracker.await)];
    let url = TrackerUrl::parse("udp://t.example:1/announce").unwrap();
    let patience = UdpPatience { first_wait: Duration::from_millis(20), retries: 8 };
    client().announce_at(&url, addrs, &request(), patience, &|_| ()).await.unwrap();
}

#[tokio::test]
async fn one_family_waits_for_the_other_but_not_for_long() {
    const LONG: u64 = 600_000;
    let addrs = ["192.0.2.1:1", "[2001:db8::1]:1"].map(|addr| addr.parse::<SocketAddr>().unwrap());
    let (wait, short) = (Duration::from_millis(100), Duration::from_secs(30));
    // Milliseconds until each answers, and whether it has something to say.
    for (v4, v6, told) in [
        ((0, true), (20, true), Ok(11)),
        ((20, true), (0, true), Ok(11)),
        ((0, true), (LONG, true), Ok(1)),
        ((LONG, true), (0, true), Ok(10)),
        ((0, true), (20, false), Ok(1)),
        ((0, false), (20, true), Ok(10)),
        // Who has nothing to say does not end the time of the other.
        ((0, false), (300, true), Ok(10)),
        ((20, false), (0, false), Err("v4")),
    ] {
        let ask = |addrs: Vec<SocketAddr>| async move {
            let (number, (millis, good), name): (u32, _, _) =
                if addrs[0].is_ipv4() { (1, v4, "v4") } else { (10, v6, "v6") };
            tokio::time::sleep(Duration::from_millis(millis)).await;
            if good { Ok(number) } else { Err(TrackerError::Timeout(name)) }
        };
        let heard = Mutex::new(Vec::new());
        let early = |number: &u32| heard.lock().unwrap().push(*number);
        let asked = by_family(addrs.to_vec(), wait, ask, &early, |one, other| one + other);
        let asked = tokio::time::timeout(short, asked).await.unwrap();
        // Nobody waits for what the slow one has to say to hear of the fast one's peers.
        let first = [(v4, 1), (v6, 10)].into_iter().min_by_key(|((millis, _), _)| *millis);
        let first = first.filter(|((_, good), _)| *good).map(|(_, number)| number);
        assert_eq!(heard.into_inner().unwrap(), Vec::from_iter(first), "{v4:?} {v6:?}");
        match (asked, told) {
            (Ok(number), Ok(told)) => assert_eq!(number, told, "{v4:?} {v6:?}"),
            (Err(TrackerError::Timeout(who)), Err(told)) => assert_eq!(who, told),
            (asked, _) => panic!("{asked:?}: {v4:?} {v6:?}"),
        }
    }
}

#[tokio::test]
async fn who_wants_to_be_left_alone_is_heard_over_who_only_fails() {
    let addrs = ["192.0.2.1:1", "[2001:db8::1]:1"].map(|addr| addr.parse::<SocketAddr>().unwrap());
    let hour = Some(Duration::from_secs(3600));
    for early in [true, false] {
        let ask = |addrs: Vec<SocketAddr>| async move {
            if addrs[0].is_ipv4() == early {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let busy = TrackerError::Reply(ReplyError::Refused { reason: "busy".into(), wait: hour });
            Err::<(), _>(if addrs[0].is_ipv4() { TrackerError::Timeout("answer") } else { busy })
        };
        let asked = by_family(addrs.to_vec(), Duration::ZERO, ask, &|_: &_| (), |one, _| one).await;
        assert_eq!(asked.unwrap_err().wait(), hour, "{early}");
    }
}

#[tokio::test]
async fn a_scrape_over_udp_goes_in_parts() {
    let url = udp_tracker("[::1]", good).await;
    let torrents: Vec<InfoHash> = (0..200).map(|n| InfoHash([n; 20])).collect();
    let counts = client().scrape(&url, &torrents).await.unwrap();
    let expected =
        |n| Scrape { complete: Some(n), downloaded: Some(2), incomplete: Some(3), downloaders: None };
    assert_eq!(counts, (0..200).map(|n| Some(expected(n))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_refusal_over_udp_is_an_answer() {
    let url = udp_tracker("127.0.0.1", |packet| match packet[11] {
        0 => good(packet),
        _ => vec![reply(packet, 3, b"not\x1b here")],
    })
    .await;
    let client = client();
    let error = client.announce(&url, &request()).await.unwrap_err();
    let TrackerError::Reply(ReplyError::Refused { reason, .. }) = &error else { panic!("{error:?}") };
    assert_eq!(reason, "not here");
    assert_eq!(client.counts().get(Count::UdpRefused), 1);
}

#[tokio::test]
async fn of_several_addresses_over_udp_one_that_answers_is_enough() {
    let url = udp_tracker("127.0.0.1", good).await;
    let live: SocketAddr = url.trim_start_matches("udp://").trim_end_matches("/announce").parse().unwrap();
    // The same port of another address of this machine, where nobody listens.
    let dead: SocketAddr = ([127, 0, 0, 7], live.port()).into();
    let client = client();
    for addrs in [vec![dead, live], vec![live, dead]] {
        let question = Question::Scrape(vec![request().info_hash]);
        let patience = UdpPatience { first_wait: Duration::from_millis(300), retries: 1 };
        let answer = client.ask_udp(addrs, question, patience).await;
        assert!(matches!(answer, Ok((from, Response::Scraped(_))) if from == live), "{answer:?}");
    }
}

#[tokio::test]
async fn a_datagram_that_is_lost_is_sent_again() {
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let url = udp_tracker("127.0.0.1", |packet| match HEARD.fetch_add(1, Ordering::Relaxed) {
        0 => vec![],
        _ => good(packet),
    })
    .await;
    client().announce(&url, &request()).await.unwrap();
    assert_eq!(HEARD.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn rubbish_over_udp_is_counted_and_not_believed() {
    let url = udp_tracker("127.0.0.1", |packet| {
        let mut wrong = good(packet).remove(0);
        wrong[7] ^= 1;
        vec![
            vec![],
            vec![0; 7],
            wrong,
            reply(packet, 9, &[0; 20]),
            reply(packet, packet[11].into(), b"short"),
        ]
    })
    .await;
    let client = client();
    let error = client.announce(&url, &request()).await.unwrap_err();
    assert!(matches!(error, TrackerError::Timeout(_)), "{error:?}");
    let counts = client.counts();
    assert_eq!(counts.get(Count::DatagramIgnored), 10, "five to each of two datagrams");
    assert_eq!((counts.get(Count::UdpFailed), counts.get(Count::TooSlow)), (1, 1));
}

#[tokio::test]
async fn a_stranger_who_knows_the_transaction_is_not_heard() {
    // The question is passed on to a stranger, who answers it as the tracker would.
    let tracker = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("udp://{}", tracker.local_addr().unwrap());
    let heard = tokio::spawn(async move {
        let mut packet = [0; 2048];
        let mut answered = 0;
        while let Ok((len, from)) = tracker.recv_from(&mut packet).await {
            for answer in good(&packet[..len]) {
                stranger.send_to(&answer, from).await.unwrap();
                answered += 1;
            }
            if answered == 2 {
                return packet[11];
            }
        }
        unreachable!("the socket lives")
    });
    let error = client().announce(&url, &request()).await.unwrap_err();
    assert!(matches!(error, TrackerError::Timeout(_)), "{error:?}");
    assert_eq!(heard.await.unwrap(), 0, "it still asks to connect");
}

#[tokio::test]
async fn only_so_many_ask_over_http_at_once() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let base = stub(|_, mut stream| async move {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        NOW.fetch_sub(1, Ordering::SeqCst);
        stream.write_all(&response("200 OK", b"d8:intervali900ee")).await.unwrap();
    })
    .await;
    let client = Arc::new(client());
    let mut announces = JoinSet::new();
    for _ in 0..120 {
        let (client, url) = (client.clone(), format!("{base}/announce"));
        announces.spawn(async move { client.announce(&url, &request()).await.map(drop) });
    }
    while let Some(outcome) = announces.join_next().await {
        outcome.unwrap().unwrap();
    }
    assert!(MOST.load(Ordering::SeqCst) <= 50, "{MOST:?}");
    let counts = client.counts();
    assert_eq!((counts.get(Count::HttpAnnounced), counts.get(Count::Waited)), (120, 70));
}

#[tokio::test]
async fn a_scrape_needs_a_url_that_allows_it() {
    let error = client().scrape("http://127.0.0.1:1/a", &[InfoHash([1; 20])]).await.unwrap_err();
    assert!(error.to_string().contains("cannot be scraped"), "{error}");
}

#[test]
fn answers_to_both_families_become_one() {
    let peers = |ports: std::ops::Range<u16>| {
        ports.map(|port| PeerAddr::Socket(([192, 0, 2, 1], port).into())).collect::<Vec<_>>()
    };
    let secs = |n| Some(Duration::from_secs(n));
    let one =
        AnnounceResponse { peers: peers(1..5), interval: secs(5), complete: Some(2), ..Default::default() };
    let other = AnnounceResponse {
        peers: peers(3..400),
        dropped: 7,
        interval: secs(9),
        min_interval: secs(3),
        warning: Some("w".into()),
        ..Default::default()
    };
    let both = merged(one, other);
    assert_eq!(both.peers, peers(1..1 + MAX_PEERS as u16));
    assert_eq!(both.dropped, 7 + 399 - MAX_PEERS);
    assert_eq!((both.interval, both.min_interval, both.complete), (secs(9), secs(3), Some(2)));
    assert_eq!(both.warning.as_deref(), Some("w"));
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_tracker_names_nobody_of_our_own_networks_unless_it_is_there_itself() {
    let inside =
        ["127.0.0.1", "10.1.2.3", "192.168.1.1", "169.254.1.1", "::1", "fd00::1", "64:ff9b::10.1.2.3"];
    let all = [&inside[..], &["100.64.0.1", "8.8.8.8", "2001:db8::1"]].concat();
    let peer = |text: &&str| PeerAddr::Socket((ip(text), 7).into());
    let name = PeerAddr::Host("localhost".into(), 7);
    // Whichever address this machine has to the outside, if any. Nothing is sent.
    let way = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = way.connect("198.51.100.1:9").and_then(|()| way.local_addr());
    let own = own.map_or("127.0.0.1".into(), |own| own.ip().to_string());
    for (tracker, named) in [
        (Some("8.8.8.8"), &all[8..]),
        (None, &all[8..]),
        (Some("100.64.9.9"), &all[7..]),
        (Some("127.0.0.1"), &all),
        (Some("::ffff:192.168.1.1"), &all),
        (Some("fd00::9"), &all),
        (Some(&own), &all),
    ] {
        let (client, from) = (client(), tracker.map(ip));
        let peers = all.iter().map(peer).chain([name.clone()]).collect();
        let reply = client.heard_from(from, AnnounceResponse { peers, ..Default::default() });
        assert_eq!(
            reply.peers,
            named.iter().map(peer).chain([name.clone()]).collect::<Vec<_>>(),
            "{tracker:?}"
        );
        assert_eq!(reply.from, from);
        let dropped = client.counts().get(Count::LocalPeerDropped);
        assert_eq!(dropped, (all.len() - named.len()) as u64, "{tracker:?}");
    }
    let options = TrackerOptions { any_address: true, ..TrackerOptions::default() };
    let peers = all.iter().map(peer).collect::<Vec<_>>();
    let reply = AnnounceResponse { peers: peers.clone(), ..Default::default() };
    let (client, from) = (TrackerClient::new(options), Some(ip("8.8.8.8")));
    let reply = client.heard_from(from, reply);
    assert_eq!(reply.peers, peers, "as the user says");
    assert_eq!(reply.from, from, "it is where it is");
    assert!(may_name(client.trusted_as(reply.from), ip("127.0.0.1")), "by the name of a host, too");
}

#[tokio::test]
async fn who_has_answered_is_known_whatever_the_way() {
    let udp = udp_tracker("127.0.0.1", good).await;
    let http = stub(|_, mut stream| async move {
        stream.write_all(&response("200 OK", b"d8:intervali900ee")).await.unwrap();
    });
    for url in [udp, format!("{}/announce", http.await)] {
        let reply = client().announce(&url, &request()).await.unwrap();
        assert_eq!(reply.from, Some(ip("127.0.0.1")), "{url}");
    }
}

#[test]
fn of_two_addresses_of_a_tracker_the_one_that_may_name_less_counts() {
    let [local, shared, public] = ["192.168.1.1", "100.64.0.1", "2001:db8::1"].map(|text| Some(ip(text)));
    let from = |from| AnnounceResponse { from, ..Default::default() };
    for (one, other, counts) in [
        (local, local, local),
        (local, shared, shared),
        (local, public, public),
        (shared, shared, shared),
        (shared, public, public),
        (public, public, public),
        (local, None, None),
    ] {
        let both = [merged(from(one), from(other)), merged(from(other), from(one))];
        assert_eq!(both.map(|reply| reply.from), [counts; 2], "{one:?} {other:?}");
    }
}

/// Whichever answer comes first.
#[test]
fn of_answers_to_both_families_neither_crowds_out_the_other() {
    let of = |ip: &str, count: u16| {
        let ip: IpAddr = ip.parse().unwrap();
        let peers = (1..=count).map(|port| PeerAddr::Socket((ip, port).into())).collect();
        AnnounceResponse { peers, ..Default::default() }
    };
    let (many, few) = (of("192.0.2.1", MAX_PEERS as u16), of("2001:db8::1", 50));
    for (one, other) in [(many.clone(), few.clone()), (few.clone(), many.clone())] {
        let both = merged(one, other);
        assert_eq!((both.peers.len(), both.dropped), (MAX_PEERS, 50));
        assert!(few.peers.iter().all(|peer| both.peers.contains(peer)));
    }
}
