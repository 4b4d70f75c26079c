//! The program among nodes of the DHT that answer what it asks: as somebody else, under other transactions, from elsewhere.
//! One node alone is honest, and knows the only peer.

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, one_file};
use crate::common::program::{Program, client};
use crate::common::until;
use crate::honest::Honest;
use seedring::bencode::{self, Value, write_dict};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

const LEN: usize = 60 * BLOCK as usize + 77;
/// Memory and sockets that the program may have had at the end: itself, and listeners, metrics, peers and dials.
const MOST_MEMORY: u64 = 64 << 20;
const SOCKETS: usize = 20;

/// A query that a node was asked.
struct Query {
    transaction: Vec<u8>,
    /// It is for peers, or for nodes.
    peers: bool,
    number: u64,
}

/// What a node answers: its datagrams, and whether they come from its own socket.
type Lie = fn(node: &Node, query: &Query) -> Vec<(bool, Vec<u8>)>;

struct Node {
    id: [u8; 20],
    /// Where no peer is, and where no node is: whoever is believed what it should not be is found out by them.
    peer: SocketAddr,
    victim: SocketAddr,
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else { panic!("all is IPv4 here") };
    [&addr.ip().octets()[..], &addr.port().to_be_bytes()].concat()
}

impl Node {
    /// A reply as it should be, by this id and to this transaction. To the search it has a peer.
    fn reply(&self, id: [u8; 20], transaction: &[u8], peers: bool) -> Vec<u8> {
        write_dict(|root| {
            root.dict(b"r", |r| {
                r.bytes(b"id", &id);
                r.bytes(b"nodes", b"");
                r.bytes(b"token", b"token");
                if peers {
                    r.list(b"values", |values| values.bytes(&compact(self.peer)));
                }
            });
            root.bytes(b"t", transaction);
            root.bytes(b"y", b"r");
        })
    }
}

/// What the datagram asks, if it does.
fn read(datagram: &[u8], number: u64) -> Option<Query> {
    let root = bencode::parse(datagram).ok()?.root.dict()?;
    let bytes = |key: &[u8]| root.get(key).and_then(Value::bytes);
    let transaction = bytes(b"t").filter(|_| bytes(b"y") == Some(b"q"))?.to_vec();
    Some(Query { transaction, peers: bytes(b"q") == Some(b"get_peers"), number })
}

fn honest(node: &Node, query: &Query) -> Vec<(bool, Vec<u8>)> {
    vec![(true, node.reply(node.id, &query.transaction, query.peers))]
}

/// Each bit of the transaction wrong in turn, and then none, one too many, one too few bytes of it.
fn other_transactions(node: &Node, query: &Query) -> Vec<(bool, Vec<u8>)> {
    let flipped = (0..8 * query.transaction.len()).map(|bit| {
        let mut other = query.transaction.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        other
    });
    let cut = query.transaction[1..].to_vec();
    let long = [&query.transaction[..], b"x"].concat();
    let all = flipped.chain([vec![], cut, long]);
    all.map(|transaction| (true, node.reply(node.id, &transaction, true))).collect()
}

/// The right answer, from another port.
fn from_elsewhere(node: &Node, query: &Query) -> Vec<(bool, Vec<u8>)> {
    vec![(false, node.reply(node.id, &query.transaction, true))]
}

/// The first answer as itself; then each as another node.
fn other_ids(node: &Node, query: &Query) -> Vec<(bool, Vec<u8>)> {
    let mut id = node.id;
    id[0] ^= query.number.min(255) as u8;
    let peers = query.number > 0;
    vec![(true, node.reply(id, &query.transaction, peers))]
}

/// As the program itself would be called, were it as near to the torrent as can be; with nodes by the dozen where nobody is,
/// all at one address, each nearer than the last.
fn crowds(node: &Node, query: &Query) -> Vec<(bool, Vec<u8>)> {
    let mut nodes = Vec::new();
    for number in 0..40 {
        let mut id = node.id;
        id[19] = number;
        nodes.extend([&id[..], &compact(node.victim)].concat());
    }
    let reply = write_dict(|root| {
        root.dict(b"r", |r| {
            r.bytes(b"id", &node.id);
            r.bytes(b"nodes", &nodes);
        });
        root.bytes(b"t", &query.transaction);
        root.bytes(b"y", b"r");
    });
    vec![(true, reply)]
}

/// Starts a node, and says where it is. It runs as long as the test does.
fn start(node: Node, lie: Lie) -> SocketAddr {
    let [own, other] = [0, 1].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let addr = own.local_addr().unwrap();
    thread::spawn(move || {
        let (mut number, mut datagram) = (0, [0; 2048]);
        while let Ok((len, from)) = own.recv_from(&mut datagram) {
            let Some(query) = read(&datagram[..len], number) else { continue };
            number += 1;
            for (itself, reply) in lie(&node, &query) {
                let socket = if itself { &own } else { &other };
                let _ = socket.send_to(&reply, from);
            }
        }
    });
    addr
}

#[test]
fn nodes_that_are_not_what_they_say_are_not_believed() {
    let (folder, path, torrent) = one_file(LEN, BLOCK);
    let (_giver, peer) = Honest::giver(&torrent, noise(LEN), &Arc::new(AtomicBool::new(true)));
    let trap = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let nobody = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (trapped, victim) = (trap.local_addr().unwrap(), nobody.local_addr().unwrap());
    // All are nearer to the torrent than the honest one: they are asked first.
    let near = |last: u8| {
        let mut id = torrent.info_hash.0;
        id[18] ^= last;
        id
    };
    let lies: [Lie; 4] = [other_transactions, from_elsewhere, other_ids, crowds];
    let mut doors: Vec<SocketAddr> = Vec::new();
    for (last, lie) in (1..).zip(lies) {
        doors.push(start(Node { id: near(last), peer: trapped, victim }, lie));
    }
    doors.push(start(Node { id: [0x55; 20], peer, victim }, honest));
    let doors: Vec<String> = doors.iter().map(|door| format!("--dht-bootstrap={door}")).collect();
    let state = folder.path().join("state");
    let target = folder.path().join("copy");
    let options = ["--seed", "--cores", "2", "--memory-limit", "16M", "--metrics", "127.0.0.1:0", "--state"];
    let options = options.into_iter().chain([state.to_str().unwrap()]);
    let more: Vec<&str> = options.chain(doors.iter().map(String::as_str)).collect();
    let mut command = client("download", &path, &target, &more);
    let mut program = Program::start(command.env_remove("SEEDRING_NO_DHT"));
    let metrics = program.metrics_address();
    program.until("completed");
    assert_eq!(std::fs::read(target.join("payload")).unwrap(), noise(LEN));
    until(|| {
        let samples = Samples::fetch(metrics);
        let unsolicited = samples.sum("seedring_dht_dropped_total", &["reason=\"unsolicited\""]);
        let wrong = samples.sum("seedring_dht_queries_sent_total", &["event=\"wrong_id\""]);
        // Of each wrong transaction, and of who answers from elsewhere.
        if unsolicited > 35 && wrong > 0 { Ok(()) } else { Err(format!("{unsolicited} and {wrong}")) }
    });
    let (memory, sockets) = (program.peak_memory(), program.descriptors().sockets);
    println!("{memory} bytes of memory, {sockets} sockets");
    assert!(memory <= MOST_MEMORY, "{memory} bytes of memory");
    assert!(sockets <= SOCKETS, "{sockets} sockets");
    trap.set_nonblocking(true).unwrap();
    assert!(trap.accept().is_err(), "a peer was dialled that no node has named");
    // Forty nodes at one address are one.
    nobody.set_nonblocking(true).unwrap();
    let asked = std::iter::from_fn(|| nobody.recv(&mut [0; 2048]).ok()).count();
    assert!(asked <= 10, "nobody was asked {asked} times");
}
