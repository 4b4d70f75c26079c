use crate::discovery::names::Names;
use crate::discovery::tracker::counters::Counters;
use crate::discovery::tracker::names::{PeerNames, of_peer, of_tracker};
use crate::discovery::tracker::{Count, PeerAddr, TrackerCounts};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The first of so many addresses of a net, as a resolver has them.
fn v4(count: u8) -> impl Iterator<Item = SocketAddr> {
    (1..=count).map(|n| ([192, 0, 2, n], 80).into())
}

fn v6(count: u16) -> impl Iterator<Item = SocketAddr> {
    (1..=count).map(|n| ([0x2001, 0xdb8, 0, 0, 0, 0, 0, n], 80).into())
}

#[test]
fn a_tracker_has_eight_addresses_of_each_family_at_most() {
    let eight: Vec<_> = v6(8).chain(v4(8)).collect();
    assert_eq!(of_tracker(v6(20).chain(v4(20))), eight);
    assert_eq!(of_tracker(v6(3)), v6(3).collect::<Vec<_>>());
    // Whoever writes a v4 address as a v6 one has no more of them for it.
    let mapped = |addr: SocketAddr| match addr {
        SocketAddr::V4(addr) => (addr.ip().to_ipv6_mapped(), addr.port()).into(),
        SocketAddr::V6(_) => addr,
    };
    assert_eq!(of_tracker(v4(20).map(mapped)), v4(8).collect::<Vec<_>>());
}

#[test]
fn a_peer_has_four_addresses_at_most() {
    let nobody: SocketAddr = "0.0.0.0:80".parse().unwrap();
    let found: Vec<_> = [nobody].into_iter().chain(v4(20)).collect();
    assert_eq!(of_peer(found.into_iter()), v4(4).collect::<Vec<_>>());
}

/// Whose turns no other test takes.
fn own_names() -> PeerNames {
    PeerNames(Names::new(8, Duration::from_secs(10)))
}

/// What is delivered of peers with these names, and how many names were dropped.
async fn delivered(names: PeerNames, hosts: Vec<String>) -> (Vec<SocketAddr>, u64) {
    let (all, counts) = delivered_from("127.0.0.1", names, hosts).await;
    (all, counts.get(Count::NameDropped))
}

/// Likewise, of a tracker there; and what was counted.
async fn delivered_from(
    tracker: &str,
    names: PeerNames,
    hosts: Vec<String>,
) -> (Vec<SocketAddr>, TrackerCounts) {
    let (counters, (out, mut found)) = (Arc::new(Counters::default()), mpsc::channel(100));
    let peers = hosts.into_iter().map(|host| PeerAddr::Host(host, 7)).collect();
    names.deliver(peers, Some(tracker.parse().unwrap()), out, counters.clone()).await;
    let mut all = Vec::new();
    while let Some(addrs) = found.recv().await {
        all.extend(addrs);
    }
    (all, counters.read())
}

#[tokio::test]
async fn a_name_leads_into_our_own_networks_only_when_a_tracker_there_gives_it() {
    let hosts = || vec!["localhost".to_owned()];
    let (addrs, counts) = delivered_from("192.168.1.1", own_names(), hosts()).await;
    assert!(!addrs.is_empty() && addrs.iter().all(|addr| addr.ip().is_loopback()), "{addrs:?}");
    assert_eq!(counts.get(Count::LocalPeerDropped), 0);
    let (none, counts) = delivered_from("8.8.8.8", own_names(), hosts()).await;
    assert_eq!((none, counts.get(Count::NameDropped)), (Vec::new(), 0));
    // Some systems have a name stand for an address twice.
    assert!(counts.get(Count::LocalPeerDropped) >= addrs.len() as u64);
}

#[tokio::test]
async fn of_one_reply_fifty_names_are_looked_up() {
    // Labels that are too long for DNS, so no resolver asks the network for them.
    let hosts = |count: usize| (0..count).map(|n| format!("{n}{}.invalid", "x".repeat(64))).collect();
    assert_eq!(delivered(own_names(), hosts(50)).await, (Vec::new(), 0));
    assert_eq!(delivered(own_names(), hosts(63)).await, (Vec::new(), 13));
}

#[tokio::test]
async fn eight_are_looked_up_at_once_and_others_wait_for_a_while() {
    let hosts = || vec!["localhost".to_owned()];
    for (busy, dropped) in [(7, 0), (8, 1)] {
        let names = own_names();
        let _busy = names.0.turns().acquire_many_owned(busy).await.unwrap();
        let (addrs, lost) = delivered(names, hosts()).await;
        assert_eq!((addrs.is_empty(), lost), (dropped > 0, dropped), "{busy} look-ups are under way");
    }
    let names = own_names();
    let busy = names.0.turns().acquire_many_owned(8).await.unwrap();
    let waiting = tokio::spawn(delivered(names, hosts()));
    tokio::task::yield_now().await;
    drop(busy);
    let (addrs, lost) = waiting.await.unwrap();
    assert_eq!((addrs.is_empty(), lost), (false, 0));
}
