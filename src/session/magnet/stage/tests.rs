use super::super::channel::Shared;
use super::*;
use crate::metainfo::InfoHash;
use crate::shard::Secrecy;
use crate::swarm::{FORGETTING, IpFilter};
use crate::wire::extended::ExtendedHandshake;
use crate::wire::mse::Encryption;
use crate::wire::{Handshake, Home, PeerId, Reserved};
use std::sync::Arc;
use tokio::net::TcpListener;

fn stage(places: Places) -> Stage {
    let info_hash = InfoHash([1; 20]);
    let handshake = Handshake { reserved: Reserved::ours(false), info_hash, peer_id: PeerId([2; 20]) };
    let shared = Shared::new(Secrecy::new(Encryption::default(), info_hash));
    let ourselves =
        Ourselves { handshake, home: Home::default(), port: 1, dht_port: None, pex: true, shared };
    Stage::new(ourselves, places, mpsc::channel(64).0)
}

#[tokio::test]
async fn who_is_kept_out_is_counted_by_the_reason() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let filter = IpFilter::parse(b"10.0.0.0/30").unwrap();
    let mut stage = stage(Places::new(Some(Arc::new(filter)), None));
    (1..=3).for_each(|port| stage.places.ban(SocketAddr::from(([11, 0, 0, 1], port))));
    for (ip, counts) in [([10, 0, 0, 1], (1, 0)), ([11, 0, 0, 1], (1, 1)), ([12, 0, 0, 1], (1, 1))] {
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stage.accept(stream, SocketAddr::from((ip, 1)));
        let limits = stage.limits();
        assert_eq!((limits.filtered, limits.barred), counts, "{ip:?}");
    }
    assert_eq!(stage.standing().1, 1);
    stage.add(
        vec![SocketAddr::from(([10, 0, 0, 2], 1)), SocketAddr::from(([11, 0, 0, 1], 9))],
        Source::Tracker,
    );
    assert_eq!((stage.limits().filtered, stage.limits().barred), (2, 2));
}

/// A peer that has come to us, from there; and its number.
async fn come(stage: &mut Stage, from: SocketAddr) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    stage.accept(stream, from);
    stage.next_peer - 1
}

#[tokio::test]
async fn peers_tell_of_others_seldom_enough_and_of_one_node_each() {
    let mut stage = stage(Places::default());
    let peer = come(&mut stage, "8.8.8.8:1".parse().unwrap()).await;
    let told = |addrs: &[&str]| {
        let added = addrs.iter().map(|addr| (addr.parse().unwrap(), Default::default())).collect();
        Heard::Others(PexMessage { added, ..PexMessage::default() }.encode())
    };
    // What is on a network of ours only somebody there can know.
    assert_eq!(stage.hear(peer, told(&["9.9.9.9:1", "127.0.0.1:80", "192.168.1.1:1", "9.9.9.9:0"])), None);
    assert_eq!((stage.peers.len(), stage.limits().exchange), (2, 0), "it is dialled at once");
    assert_eq!(stage.hear(peer, Heard::Others(b"nonsense".to_vec())), None);
    assert_eq!(stage.limits().exchange, 1);
    (0..10).for_each(|_| _ = stage.hear(peer, told(&[])));
    assert_eq!(stage.limits().exchange, 1 + 6, "six in a minute are enough");
    let node = "8.8.8.8:6881".parse().unwrap();
    let ports = [6881, 6882, 0].map(|port| stage.hear(peer, Heard::Port(port)));
    assert_eq!(ports, [Some(News::Node(node)), None, None]);
    // Who does not want to hear of others does not.
    stage.ourselves.pex = false;
    stage.hear(peer, told(&["9.9.9.8:1"]));
    assert_eq!(stage.peers.len(), 2);
}

#[tokio::test]
async fn who_says_over_and_over_what_should_not_be_said_is_dropped() {
    let hello = || {
        let mut hello = ExtendedHandshake { metadata_size: Some(1 << 25), ..ExtendedHandshake::default() };
        hello.want(Extension::Metadata);
        Heard::Hello(Box::new(hello))
    };
    let reject = || Heard::Metadata(MetadataMessage::Reject { block: 9 }.encode());
    let request = || Heard::Metadata(MetadataMessage::Request { block: 9 }.encode());
    let (port, rubbish) = (|| Heard::Port(7), || Heard::Others(b"nonsense".to_vec()));
    let floods: [&dyn Fn() -> Heard; 5] = [&hello, &reject, &request, &port, &rubbish];
    for flood in floods {
        let mut stage = stage(Places::default());
        let peer = come(&mut stage, "8.8.8.8:1".parse().unwrap()).await;
        assert_eq!(stage.hear(peer, hello()), None);
        stage.hear(peer, Heard::Port(7));
        (0..MOST_OFFENCES).for_each(|_| _ = stage.hear(peer, flood()));
        assert_eq!((stage.peers.len(), stage.limits().offences), (1, u64::from(MOST_OFFENCES)));
        stage.hear(peer, flood());
        assert_eq!(stage.peers.len(), 0);
    }
}

#[tokio::test]
async fn who_asks_for_what_we_lack_now_and_then_is_forgiven() {
    let request = || Heard::Metadata(MetadataMessage::Request { block: 0 }.encode());
    // Requests in a minute, and how many of them come in time.
    for (requests, minutes, stays) in [(1, 200, true), (2, 49, true), (2, 50, false)] {
        let mut stage = stage(Places::default());
        let peer = come(&mut stage, "8.8.8.8:1".parse().unwrap()).await;
        let mut hello = ExtendedHandshake::default();
        hello.want(Extension::Metadata);
        stage.hear(peer, Heard::Hello(Box::new(hello)));
        for _ in 0..minutes {
            (0..requests).for_each(|_| _ = stage.hear(peer, request()));
            stage.begun -= FORGETTING;
            stage.tick();
        }
        assert_eq!(stage.peers.len(), usize::from(stays), "{requests} in a minute, {minutes} minutes");
        assert_eq!(stage.limits().offences, requests * minutes);
    }
}
