//! Nodes that are near a torrent only to name peers that do not exist.

use super::node::{HASH, START, sent};
use super::world::invented;
use super::{SECOND, id};
use crate::bencode::write_dict;
use crate::discovery::dht::compact::Contact;
use crate::discovery::dht::message::{Body, Call, parse};
use crate::discovery::dht::state::{self, Kept};
use crate::discovery::dht::{Dht, DhtConfig, NodeId};
use std::net::SocketAddr;

/// Invented peers of a reply: about as many as a datagram holds.
const MANY: usize = 160;
/// Nodes of a search: more are not asked.
const NODES: u8 = 24;

/// Those nearer to the torrent come first.
fn node(n: u8, at: [u8; 4]) -> Contact {
    let mut id = HASH.0;
    id[10] ^= n + 1;
    Contact { id: NodeId(id), addr: SocketAddr::from((at, 6881)) }
}

fn reply(transaction: &[u8], who: NodeId, values: &[[u8; 6]]) -> Vec<u8> {
    let bytes = write_dict(|root| {
        root.dict(b"r", |r| {
            r.bytes(b"id", &who.0);
            r.bytes(b"token", b"token");
            r.list(b"values", |list| values.iter().for_each(|value| list.bytes(value)));
        });
        root.bytes(b"t", transaction);
        root.bytes(b"y", b"r");
    });
    assert!(bytes.len() <= 1500, "{} bytes are a datagram", bytes.len());
    bytes
}

/// A search among nodes, the nearest of which is heard first: what was found, and how many peers were not believed.
fn search(nodes: Vec<Contact>, values: impl Fn(&Contact) -> Vec<[u8; 6]>) -> (Vec<SocketAddr>, u64) {
    let kept = state::write(&[Some(Kept { id: id(&[0xff]), nodes: nodes.clone() }), None]);
    let config = DhtConfig { families: [true, false], ..DhtConfig::default() };
    let mut dht = Dht::new(START, config, [7; 32], &kept);
    dht.search(START, HASH, [None; 2]);
    dht.tick(START);
    let mut found = Vec::new();
    loop {
        let out = sent(&mut dht);
        if out.is_empty() {
            return (found, dht.counters().over_share_limit);
        }
        for (to, bytes) in out {
            let message = parse(&bytes).unwrap();
            let who = nodes.iter().find(|node| node.addr == to).expect("nobody else was named");
            let asks = matches!(message.body, Body::Query(query) if query.call == Call::GetPeers(HASH));
            let values = if asks { values(who) } else { Vec::new() };
            dht.hear(SECOND, to, &reply(message.transaction, who.id, &values));
        }
        found.extend(std::iter::from_fn(|| dht.take_found()).flat_map(|found| found.peers));
    }
}

/// A search among so many liars, at these addresses, and honest nodes that know one peer each: how many invented peers were
/// found, and how many of the others.
fn among_liars(liars: u8, place: impl Fn(u8) -> [u8; 4]) -> (usize, usize, u64) {
    let honest = |n: u8| [99, 9, n, 9];
    let nodes = (0..NODES).map(|n| node(n, if n < liars { place(n) } else { honest(n) })).collect();
    let rng = std::cell::RefCell::new(fastrand::Rng::with_seed(1));
    let (found, left_out) = search(nodes, |who| {
        let SocketAddr::V4(addr) = who.addr else { panic!("all is IPv4 here") };
        match addr.ip().octets() {
            [99, 9, n, 9] => vec![[99, 9, n, 9, 0x1b, 0x58]],
            _ => (0..MANY).map(|_| invented(&mut rng.borrow_mut())).collect(),
        }
    });
    let of_honest = found.iter().filter(|peer| peer.port() == 7000).count();
    (found.len() - of_honest, of_honest, left_out)
}

#[test]
fn however_many_peers_liars_invent_those_of_honest_nodes_are_found() {
    for liars in [6, 12, 20] {
        let (invented, honest, left_out) = among_liars(liars, |n| [55, n, 5, 5]);
        println!("{liars} liars: {invented} invented peers, {left_out} left out");
        assert_eq!(honest, usize::from(NODES - liars), "among {liars}");
        assert_eq!(invented + left_out as usize, usize::from(liars) * MANY);
        assert!(invented <= 1000 && invented <= usize::from(liars) * 100, "{invented} of {liars}");
    }
}

#[test]
fn all_nodes_of_a_network_may_name_no_more_than_its_share() {
    let (invented, honest, left_out) = among_liars(20, |n| [55, 5, 5, n + 1]);
    assert_eq!((invented, honest, left_out), (125, 4, 20 * MANY as u64 - 125));
}

#[test]
fn of_what_many_nodes_know_nothing_is_left_out() {
    // Each knows fifty of sixty.
    let nodes = (0..NODES).map(|n| node(n, [99, 9, n, 9])).collect();
    let peer = |n: u8| [99, 9, n % 60, 9, 0x1b, 0x58];
    let knows = |who: &Contact| (0..50).map(|n| peer(who.id.0[10] + n)).collect();
    let (found, left_out) = search(nodes, knows);
    assert_eq!((found.len(), left_out), (60, 0));
}
