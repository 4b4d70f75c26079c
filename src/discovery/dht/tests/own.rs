//! What a node does of itself: it searches, and follows its own address.

use super::node::{HASH, START, answer, node, reply, sent};
use super::{MINUTE, SECOND, addr, id};
use crate::discovery::dht::compact::{Contact, put_nodes};
use crate::discovery::dht::message::{Body, Call, parse};
use crate::discovery::dht::{Announce, Dht, DhtConfig};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

#[test]
fn a_search_finds_and_announces_and_comes_again() {
    let mut dht = node();
    let who = id(&[1]);
    dht.bootstrap(START, &[addr(1)]);
    dht.search(START, HASH, [Some(Announce { port: 6881, implied: true }), None]);
    dht.tick(START);
    // The node names one of the house, who is not asked, and nobody else.
    let house = Contact { id: id(&[2]), addr: "192.168.0.1:1".parse().unwrap() };
    assert_eq!(answer(&mut dht, SECOND, addr(1), who, |_| put_nodes(&[house])), 2);
    dht.tick(SECOND);
    let out = sent(&mut dht);
    assert!(out.iter().all(|(to, _)| *to == addr(1)), "{out:?}");
    let announced = |out: &[(SocketAddr, Vec<u8>)]| {
        out.iter().any(|(_, bytes)| match parse(bytes).unwrap().body {
            Body::Query(query) => {
                query.call == Call::Announce { info_hash: HASH, port: None, token: b"secret" }
            }
            _ => false,
        })
    };
    assert!(announced(&out));
    assert_eq!(dht.counters().announces_out, 1);
    // A quarter of an hour later, and sooner when peers are missing.
    let searches = |dht: &mut Dht, from: Duration, to: Duration| {
        let before = dht.counters().announces_out;
        let mut now = from;
        while now < to {
            dht.tick(now);
            answer(dht, now, addr(1), who, |_| Vec::new());
            now += SECOND;
        }
        dht.counters().announces_out - before
    };
    assert_eq!(searches(&mut dht, SECOND * 2, MINUTE * 13), 0);
    assert_eq!(searches(&mut dht, MINUTE * 13, MINUTE * 17), 1);
    for _ in 0..100 {
        dht.hurry(MINUTE * 17, HASH);
    }
    assert_eq!(searches(&mut dht, MINUTE * 17, MINUTE * 18), 1);
    // Whoever goes on wishing is heard ever more seldom, but no more seldom than without a wish.
    let wishes = |dht: &mut Dht, from: Duration| {
        let hour = (0..60u32).map(|minute| from + MINUTE * minute);
        hour.map(|now| {
            dht.hurry(now, HASH);
            searches(dht, now, now + MINUTE)
        })
        .sum::<u64>()
    };
    let (first, second) = (wishes(&mut dht, MINUTE * 18), wishes(&mut dht, MINUTE * 78));
    assert!(
        (5..=9).contains(&first) && second <= 6,
        "{first} searches in the first hour, {second} in the second"
    );
    dht.forget(HASH);
    assert_eq!(searches(&mut dht, MINUTE * 138, MINUTE * 180), 0);
}

/// Lets so much time pass, with a wish for more peers each second or none. Says when they were searched for.
fn searches(dht: &mut Dht, from: Duration, lasts: Duration, wishes: bool) -> Vec<u64> {
    let seconds = (0..lasts.as_secs()).filter(|second| {
        let (now, asked) = (from + Duration::from_secs(*second), Cell::new(false));
        if wishes {
            dht.hurry(now, HASH);
        }
        dht.tick(now);
        answer(dht, now, addr(1), id(&[1]), |call| {
            asked.set(asked.get() || *call == Call::GetPeers(HASH));
            Vec::new()
        });
        asked.get()
    });
    seconds.collect()
}

#[test]
fn who_wishes_for_peers_anew_is_heard_as_soon_as_the_first_time() {
    let mut dht = node();
    dht.bootstrap(START, &[addr(1)]);
    dht.search(START, HASH, [None; 2]);
    let quick = [0, 40, 120];
    assert_eq!(searches(&mut dht, START, MINUTE * 4, true), [0, 20, 60, 140]);
    assert_eq!(searches(&mut dht, MINUTE * 4, MINUTE * 4, true), [60], "who goes on is heard seldom");
    // Who has had enough meanwhile is heard soon; so is who has not wished for a whole turn.
    dht.enough(HASH);
    assert_eq!(searches(&mut dht, MINUTE * 8, MINUTE * 4, true), quick);
    assert!(searches(&mut dht, MINUTE * 12, MINUTE * 40, false).len() > 1);
    assert_eq!(searches(&mut dht, MINUTE * 52, MINUTE * 4, true), quick);
}

#[test]
fn the_id_follows_the_address_that_others_see() {
    let mut dht = node();
    let here: SocketAddr = "5.6.7.8:6881".parse().unwrap();
    let doors: Vec<_> = (1..12).map(|n| addr(n * 256)).collect();
    let own = |dht: &Dht| dht.networks[0].as_ref().unwrap().table.own();
    let before = own(&dht);
    assert!(!before.fits(here.ip()));
    dht.bootstrap(START, &doors);
    dht.tick(START);
    let mut now = START;
    let mut live = |dht: &mut Dht, seconds: u32, seen: SocketAddr| {
        for _ in 0..seconds {
            for (to, bytes) in sent(dht) {
                let n = doors.iter().position(|door| *door == to).unwrap();
                let transaction = parse(&bytes).unwrap().transaction.to_vec();
                dht.hear(now, to, &reply(&transaction, id(&[n as u8 + 1]), b"", Some(seen)));
            }
            now += SECOND;
            dht.tick(now);
        }
    };
    live(&mut dht, 20, here);
    assert!(own(&dht).fits(here.ip()));
    assert!(dht.nodes() >= 8, "the nodes are kept: {}", dht.nodes());
    // The id is kept, too.
    let again = Dht::new(START, DhtConfig::default(), [8; 32], &dht.state());
    assert_eq!(own(&again), own(&dht));
    // Whoever is seen at another address all the time does not become another node all the time.
    let there: SocketAddr = "77.66.55.44:6881".parse().unwrap();
    dht.search(START, HASH, [None, None]);
    live(&mut dht, 9 * 60, there);
    assert!(own(&dht).fits(here.ip()) && !own(&dht).fits(there.ip()));
    live(&mut dht, 30 * 60, there);
    assert!(own(&dht).fits(there.ip()));
}

#[test]
fn nodes_of_a_damaged_state_where_nobody_can_be_are_left_out() {
    let node = |addr: [u8; 6]| [&[7; 20][..], &addr].concat();
    let nodes =
        [[224, 0, 0, 1, 0, 9], [8, 8, 8, 8, 0, 0], [0, 0, 0, 0, 0, 9], [8, 8, 8, 8, 0, 9]].map(node).concat();
    let state = [&b"d2:id20:aaaaaaaaaaaaaaaaaaaa5:nodes104:"[..], &nodes, b"e"].concat();
    assert_eq!(Dht::new(START, DhtConfig::default(), [8; 32], &state).doors(), 1);
}
