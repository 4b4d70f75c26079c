use super::{request, response, stub};
use crate::discovery::tracker::client::merged;
use crate::discovery::tracker::udp_exchange::Question;
use crate::discovery::tracker::udp_packet::Response;
use crate::discovery::tracker::{
    AnnounceResponse, Count, MAX_PEERS, PeerAddr, ReplyError, Scrape, TrackerClient, TrackerError,
    TrackerOptions, UdpPatience,
};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    // A connection, then two announces of 98 bytes and the options.
    assert_eq!(counts.get(Count::BytesSent), 16 + 2 * (98 + 2 + 9 + 1));
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
    let TrackerError::Reply(ReplyError::Refused(reason)) = &error else { panic!("{error:?}") };
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
        assert!(matches!(answer, Ok(Response::Scraped(_))), "{answer:?}");
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
