//! One lookup.

use super::{SECOND, addr, contact, id};
use crate::discovery::dht::compact::Contact;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::lookup::{Hits, Lookup};
use crate::discovery::dht::message::{Body, Call, parse};
use crate::discovery::dht::{Dht, DhtConfig};
use crate::metainfo::InfoHash;
use std::time::Duration;

const START: Duration = Duration::ZERO;

#[test]
fn it_walks_toward_the_target_and_ends() {
    let mut lookup = Lookup::new(START, id(&[0]));
    lookup.start_with(None, addr(0));
    assert_eq!(lookup.next(START), Some((None, addr(0))));
    assert_eq!(lookup.next(START), None);
    assert!(!lookup.is_done(START));
    // Each names eight that are closer.
    let mut asked = 1;
    let mut under_way = vec![(contact(&[0xff], 0), 0x80)];
    let mut number = 1;
    while let Some((node, distance)) = under_way.pop() {
        let next = distance / 2;
        let nodes: Vec<_> = (0..8).map(|n| contact(&[next, n], number + u32::from(n))).collect();
        number += 8;
        lookup.answered(node, if next == 0 { &[] } else { &nodes }, Some(b"token"));
        while let Some((Some(id), addr)) = lookup.next(START) {
            asked += 1;
            under_way.push((Contact { id, addr }, id.0[0]));
        }
        assert!(under_way.len() <= 4);
    }
    assert!(lookup.is_done(START) && !lookup.is_cut());
    assert!((10..60).contains(&asked), "{asked}");
    let closest: Vec<_> = lookup.closest().collect();
    assert_eq!(closest.len(), 8);
    assert!(closest.iter().all(|(node, token)| node.id.0[0] == 1 && *token == Some(b"token".as_slice())));
}

#[test]
fn endless_lies_end() {
    let mut lookup = Lookup::new(START, id(&[0]));
    lookup.start_with(None, addr(0));
    let mut asked = 0u32;
    while let Some((known, at)) = lookup.next(START) {
        asked += 1;
        // Always closer ones, for ever.
        let closer = |n: u32| {
            let [_, a, b, c] = (0xff_ffff - asked * 8 - n).to_be_bytes();
            contact(&[a, b, c], asked * 8 + n)
        };
        let nodes: Vec<_> = (0..8).map(closer).collect();
        let id = known.unwrap_or(id(&[0xff, 0xff, 0xff, 1]));
        lookup.answered(Contact { id, addr: at }, &nodes, None);
    }
    assert_eq!(asked, 128);
    assert!(lookup.is_done(START) && lookup.is_cut());
    assert!(lookup.take_hits().left_out > 0, "there were more than are remembered");
}

#[test]
fn who_names_the_dead_is_not_believed_for_long() {
    let mut lookup = Lookup::new(START, id(&[0]));
    lookup.start_with(Some(id(&[0x80])), addr(0));
    lookup.start_with(Some(id(&[0x81])), addr(1));
    assert!(lookup.next(START).is_some() && lookup.next(START).is_some());
    let lies: Vec<_> = (0..40).map(|n| contact(&[1, n], 100 + u32::from(n))).collect();
    lookup.answered(contact(&[0x80], 0), &lies, None);
    lookup.answered(contact(&[0x81], 1), &[contact(&[2], 7)], None);
    let mut asked = Vec::new();
    while let Some((_, at)) = lookup.next(START) {
        asked.push(at);
        if at != addr(7) {
            lookup.failed(at);
        }
    }
    assert_eq!(asked, [addr(100), addr(101), addr(102), addr(7)]);
    assert_eq!(lookup.take_hits(), Hits { left_out: 40 - 8, liars: 1 });
    assert_eq!(lookup.take_hits(), Hits::default());
}

#[test]
fn slow_nodes_hold_nobody_up() {
    let mut lookup = Lookup::new(START, id(&[0]));
    (0..12).for_each(|n| lookup.start_with(Some(id(&[n + 1])), addr(n.into())));
    let first: Vec<_> = std::iter::from_fn(|| lookup.next(START)).collect();
    assert_eq!(first.len(), 4);
    lookup.slow(first[0].1);
    assert!(lookup.next(START).is_some() && lookup.next(START).is_none());
    // It may answer yet.
    lookup.answered(contact(&[1], 0), &[], Some(b"late"));
    assert_eq!(lookup.closest().next(), Some((contact(&[1], 0), Some(b"late".as_slice()))));
    assert!(!lookup.is_done(SECOND * 59));
    assert!(lookup.is_done(SECOND * 60) && lookup.next(SECOND * 60).is_none());
    assert!(lookup.is_cut());
}

#[test]
fn an_address_is_asked_once() {
    let mut lookup = Lookup::new(START, id(&[0]));
    lookup.start_with(Some(id(&[1])), "9.9.9.9:1".parse().unwrap());
    lookup.start_with(Some(id(&[2])), "9.9.9.9:2".parse().unwrap());
    lookup.start_with(Some(id(&[1])), "8.8.8.8:1".parse().unwrap());
    assert!(lookup.next(START).is_some());
    assert_eq!(lookup.next(START), None);
    // But for those of one's own machine.
    (1..4).for_each(|n| lookup.start_with(Some(id(&[0x10 + n])), ([127, 0, 0, 1], n.into()).into()));
    assert_eq!(std::iter::from_fn(|| lookup.next(START)).count(), 3);
}

#[test]
fn ids_that_nobody_may_have_do_not_hide_those_that_follow_from_addresses() {
    let mut lookup = Lookup::new(START, id(&[0]));
    let honest = |n: u32| Contact { id: NodeId::for_ip(addr(n).ip(), [7; 20]), addr: addr(n) };
    // Sixteen addresses, all as near to the target as can be.
    let forged: Vec<_> = (0..16).map(|n| contact(&[0, 0, n + 1], 100 + u32::from(n))).collect();
    assert!(forged.iter().all(|node| !node.id.fits(node.addr.ip())));
    let all = (0..30).map(honest).chain(forged.iter().copied());
    all.for_each(|node| lookup.start_with(Some(node.id), node.addr));
    let mut asked = 0;
    while let Some((Some(id), addr)) = lookup.next(START) {
        asked += 1;
        lookup.answered(Contact { id, addr }, &[], Some(b"token"));
    }
    assert!(lookup.is_done(START));
    assert_eq!(asked, 16 + 8);
    let closest: Vec<Contact> = lookup.closest().map(|(node, _)| node).collect();
    assert_eq!(closest[..8], forged[..8]);
    assert_eq!(closest[8..].len(), 8);
    assert!(closest[8..].iter().all(|node| node.id.fits(node.addr.ip())));
}

#[test]
fn what_is_searched_for_before_there_is_anybody_to_ask_is_asked_of_the_first() {
    let config = DhtConfig { families: [true, false], ..DhtConfig::default() };
    let mut dht = Dht::new(Duration::ZERO, config, [7; 32], &[]);
    let info_hash = InfoHash([5; 20]);
    dht.search(Duration::ZERO, info_hash, [None, None]);
    dht.tick(Duration::ZERO);
    assert!(dht.take_outgoing().is_none(), "it knows nobody");
    // As long as it takes to look up a name.
    let now = Duration::from_millis(20);
    dht.bootstrap(now, &[addr(1)]);
    dht.tick(now);
    let asked: Vec<Vec<u8>> = std::iter::from_fn(|| dht.take_outgoing()).map(|(_, bytes)| bytes).collect();
    let for_peers = asked.iter().filter(|bytes| match parse(bytes).unwrap().body {
        Body::Query(query) => query.call == Call::GetPeers(info_hash),
        _ => false,
    });
    assert_eq!(for_peers.count(), 1, "of {} datagrams", asked.len());
}
