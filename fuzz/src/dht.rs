//! A node of the DHT among strangers.

use super::script::Script;
use seedring::discovery::dht::{Announce, Dht, DhtConfig, MAX_DATAGRAM, MAX_STATE};
use seedring::metainfo::InfoHash;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Queries that a node has open at most, and what it sends to one address beside twice what came from there.
const MOST_ASKED: usize = 256;
const ALLOWANCE: usize = 1024;
/// An address that was silent for so long begins anew.
const FORGOTTEN: Duration = Duration::from_secs(10 * 60);
/// Nodes of a family at most: 160 buckets of 8.
const MOST_NODES: usize = 2 * 160 * 8;

/// What the node has sent and not been answered, and bytes to and from each address.
#[derive(Default)]
struct World {
    queries: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Bytes sent as answers, bytes received.
    accounts: BTreeMap<IpAddr, (usize, usize)>,
    /// Those that have answered: they are no forgeries, and may have what they ask for.
    known: BTreeSet<IpAddr>,
    began: Duration,
}

/// The input says which datagrams come from where. `TTTT` stands for the transaction id
/// of the query that is answered.
pub fn dht(input: &[u8]) {
    let mut script = Script(input);
    let kind = script.byte();
    let config =
        DhtConfig { families: [true, kind & 1 == 0], read_only: kind & 2 != 0, ..DhtConfig::default() };
    let state_len = if kind & 4 == 0 { 0 } else { script.number().into() };
    let mut now = Duration::from_secs(100);
    let mut node = Dht::new(now, config, [kind; 32], script.bytes(state_len));
    let announce = Announce { port: 6881, implied: kind & 8 == 0 };
    node.search(now, InfoHash([7; 20]), [Some(announce); 2]);
    node.add_node(now, stranger(0));
    let mut world = World { began: now, ..World::default() };
    for _ in 0..200 {
        if script.is_over() {
            break;
        }
        let step = script.byte();
        match step % 8 {
            0 => now += Duration::from_millis(50) * u32::from(script.byte()),
            1 => node.add_node(now, stranger(script.byte())),
            2 => node.hurry(now, InfoHash([7; 20])),
            // An answer to one of our queries, from whom it was sent to.
            3 | 4 if !world.queries.is_empty() => {
                let at = usize::from(script.byte()) % world.queries.len();
                let (to, transaction) = world.queries.remove(at).expect("one of them");
                let len = usize::from(script.byte()) * 4;
                let template = script.bytes(len);
                let datagram = put_transaction(template, &transaction);
                world.known.insert(to.ip());
                hear(&mut node, now, to, &datagram, &mut world);
            }
            _ => {
                let from = stranger(script.byte());
                let len = usize::from(script.byte()) * 8;
                hear(&mut node, now, from, script.bytes(len), &mut world);
            }
        }
        node.tick(now);
        check(now, &mut node, &mut world);
    }
    let kept = node.state();
    assert!(kept.len() <= MAX_STATE);
    assert_eq!(Dht::new(now, config, [1; 32], &kept).state(), kept, "what is kept can be read");
}

fn stranger(number: u8) -> SocketAddr {
    let port = 6000 + u16::from(number % 3);
    if number.is_multiple_of(4) {
        SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1).into(), port)
    } else {
        SocketAddr::new(Ipv4Addr::new(8, 8, number, number).into(), port)
    }
}

/// The template with the transaction id in the place of its mark.
fn put_transaction(template: &[u8], transaction: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"TTTT";
    let mut bytes = template.to_vec();
    if let Some(at) = template.windows(MARK.len()).position(|window| window == MARK)
        && transaction.len() == MARK.len()
    {
        bytes[at..at + MARK.len()].copy_from_slice(transaction);
    }
    bytes
}

fn hear(node: &mut Dht, now: Duration, from: SocketAddr, datagram: &[u8], world: &mut World) {
    world.accounts.entry(from.ip()).or_default().1 += datagram.len();
    node.hear(now, from, datagram);
}

/// What a node may do whatever it is told.
fn check(now: Duration, node: &mut Dht, world: &mut World) {
    let mut sent = 0;
    while let Some((to, datagram)) = node.take_outgoing() {
        sent += 1;
        assert!(datagram.len() <= MAX_DATAGRAM && to.port() != 0 && !to.ip().is_multicast(), "{to}");
        match query(&datagram) {
            Some(transaction) => world.queries.push_back((to, transaction)),
            None => {
                let (out, into) = world.accounts.entry(to.ip()).or_default();
                *out += datagram.len();
                let times = (now - world.began).as_secs() / FORGOTTEN.as_secs() + 1;
                let allowed = 2 * *into + ALLOWANCE * times as usize;
                let known = world.known.contains(&to.ip());
                assert!(known || *out <= allowed, "{to} was sent {out} bytes for {into}");
            }
        }
    }
    assert!(sent <= 2 * MOST_ASKED, "{sent} datagrams at once");
    // Those that were not answered are out of date by now.
    while world.queries.len() > MOST_ASKED {
        world.queries.pop_front();
    }
    while let Some(found) = node.take_found() {
        assert!(found.peers.len() <= 1000);
        assert!(found.peers.iter().all(|peer| peer.port() != 0 && !peer.ip().is_multicast()));
    }
    let counters = node.counters();
    assert!(
        node.nodes() <= MOST_NODES && counters.stored_torrents <= 2000 && counters.stored_peers <= 100_000
    );
}

/// The transaction id of a datagram that is a query.
fn query(datagram: &[u8]) -> Option<Vec<u8>> {
    let dict =
        seedring::bencode::parse(datagram).expect("we send bencoding").root.dict().expect("a dictionary");
    let is_query = dict.get(b"y")?.bytes()? == b"q";
    is_query.then(|| dict.get(b"t").and_then(|id| id.bytes()).expect("it has one").to_vec())
}
