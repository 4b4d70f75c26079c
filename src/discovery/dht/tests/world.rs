//! A simulated world: many nodes of ours, liars among them, packets that are late or lost, under virtual time. Everything
//! that happens comes from the seed.

use super::addr;
use crate::bencode::{self, Value, write_dict};
use crate::discovery::dht::{Announce, Dht, DhtConfig, Family, NodeId};
use crate::metainfo::InfoHash;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

/// The address that liars send packets in the name of. Nobody is there.
pub(super) fn victim() -> SocketAddr {
    "203.0.113.9:80".parse().unwrap()
}

/// A peer that does not exist, as a reply has it.
pub(super) fn invented(rng: &mut fastrand::Rng) -> [u8; 6] {
    [rng.u8(1..9), rng.u8(..), rng.u8(..), rng.u8(1..), 0x1a, 0xe1]
}

/// Who sits at an address.
enum Host {
    Honest(Box<Dht>),
    Liar(NodeId),
    Gone,
}

enum Event {
    Arrive { from: SocketAddr, to: usize, bytes: Vec<u8> },
    Tick(usize),
    Mischief(usize),
}

/// How bad a world is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) nodes: usize,
    /// Percent of the nodes that lie, and of the packets that are lost.
    pub(super) liars: u64,
    pub(super) loss: u64,
}

pub(super) struct World {
    plan: Plan,
    rng: fastrand::Rng,
    pub(super) now: Duration,
    queue: BTreeMap<(Duration, u64), Event>,
    events: u64,
    hosts: Vec<Host>,
    by_addr: HashMap<SocketAddr, usize>,
    /// When each host wants to be woken; later than the event that does it, it is woken again.
    wake: Vec<Duration>,
    pub(super) found: HashMap<(usize, InfoHash), HashSet<SocketAddr>>,
    /// Of each honest node: bytes that came in the victim's name, and that it was sent.
    pub(super) reflected: Vec<(u64, u64)>,
    pub(super) lost: u64,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut world = Self {
            plan,
            rng: fastrand::Rng::with_seed(plan.seed),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            events: 0,
            hosts: Vec::new(),
            by_addr: HashMap::new(),
            wake: Vec::new(),
            found: HashMap::new(),
            reflected: Vec::new(),
            lost: 0,
        };
        for n in 0..plan.nodes {
            // The first ones are what others begin with.
            let liar = n >= 8 && world.rng.u64(..100) < plan.liars;
            world.add(liar);
            world.run(Duration::from_millis(100));
        }
        world
    }

    /// A new host joins.
    pub(super) fn add(&mut self, liar: bool) -> usize {
        let n = self.hosts.len();
        let host = if liar {
            let start = self.rng.u64(10..60);
            self.after(Duration::from_secs(start), Event::Mischief(n));
            let mut random = [0; 20];
            self.rng.fill(&mut random);
            Host::Liar(NodeId::for_ip(addr(n as u32).ip(), random))
        } else {
            Host::Honest(Box::new(self.start(&[])))
        };
        self.hosts.push(host);
        self.by_addr.insert(addr(n as u32), n);
        self.wake.push(Duration::MAX);
        self.reflected.push((0, 0));
        let doors: Vec<_> = (0..8.min(n)).map(|n| addr(n as u32)).collect();
        let now = self.now;
        if let Host::Honest(dht) = &mut self.hosts[n] {
            dht.bootstrap(now, &doors);
        }
        self.settle(n);
        n
    }

    fn start(&mut self, state: &[u8]) -> Dht {
        let mut secret = [0; 32];
        self.rng.fill(&mut secret);
        let config = DhtConfig { families: [true, false], ..DhtConfig::default() };
        Dht::new(self.now, config, secret, state)
    }

    /// The host vanishes without a word.
    pub(super) fn remove(&mut self, n: usize) {
        self.hosts[n] = Host::Gone;
    }

    /// The host ends and begins anew, with its state and nothing else.
    pub(super) fn restart(&mut self, n: usize) {
        let state = self.dht(n).state();
        self.hosts[n] = Host::Honest(Box::new(self.start(&state)));
        self.settle(n);
    }

    pub(super) fn dht(&mut self, n: usize) -> &mut Dht {
        match &mut self.hosts[n] {
            Host::Honest(dht) => dht,
            _ => panic!("host {n} is not an honest one"),
        }
    }

    /// The honest hosts that are there.
    pub(super) fn honest(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|n| matches!(self.hosts[*n], Host::Honest(_))).collect()
    }

    pub(super) fn search(&mut self, n: usize, info_hash: InfoHash, announce: bool) {
        let (now, announce) = (self.now, announce.then_some(Announce { port: 7000, implied: false }));
        self.dht(n).search(now, info_hash, [announce, None]);
        self.settle(n);
    }

    /// Lets so much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.happen(event);
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Tick(n) => {
                if let Host::Honest(dht) = &mut self.hosts[n] {
                    self.wake[n] = Duration::MAX;
                    dht.tick(now);
                    self.settle(n);
                }
            }
            Event::Arrive { from, to, bytes } => match &mut self.hosts[to] {
                Host::Gone => {}
                Host::Liar(id) => {
                    let id = *id;
                    self.lie(to, id, from, &bytes);
                }
                Host::Honest(dht) => {
                    if from == victim() {
                        self.reflected[to].0 += bytes.len() as u64;
                    }
                    dht.hear(now, from, &bytes);
                    self.settle(to);
                }
            },
            Event::Mischief(n) => self.mischief(n),
        }
    }

    /// Takes what a node has to say, and when it wants to be woken.
    fn settle(&mut self, n: usize) {
        let from = addr(n as u32);
        while let Host::Honest(dht) = &mut self.hosts[n]
            && let Some((to, bytes)) = dht.take_outgoing()
        {
            assert!(bytes.len() <= 1024, "a packet of {} bytes", bytes.len());
            if to == victim() {
                self.reflected[n].1 += bytes.len() as u64;
            }
            self.send(from, to, bytes);
        }
        let Host::Honest(dht) = &mut self.hosts[n] else { return };
        while let Some(found) = dht.take_found() {
            self.found.entry((n, found.info_hash)).or_default().extend(found.peers);
        }
        let due = dht.next_deadline();
        if due < self.wake[n] {
            self.wake[n] = due;
            self.after(due.saturating_sub(self.now), Event::Tick(n));
        }
    }

    fn send(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        let Some(to) = self.by_addr.get(&to).copied() else { return };
        if self.rng.u64(..100) < self.plan.loss {
            self.lost += 1;
            return;
        }
        let latency = Duration::from_millis(self.rng.u64(5..250));
        self.after(latency, Event::Arrive { from, to, bytes });
    }

    fn after(&mut self, time: Duration, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + time, self.events), event);
    }

    /// What a liar does with a packet: answers with nodes that do not exist close to what is looked for, as somebody
    /// else, with peers that do not exist, with nonsense, or twice for others.
    fn lie(&mut self, n: usize, id: NodeId, from: SocketAddr, bytes: &[u8]) {
        let Some(root) = bencode::parse(bytes).ok().and_then(|document| document.root.dict()) else { return };
        let get = |key: &[u8]| root.get(key).and_then(Value::bytes);
        let (Some(b"q"), Some(transaction)) = (get(b"y"), get(b"t")) else { return };
        let fields = root.get(b"a").and_then(Value::dict);
        let field = |key: &[u8]| fields?.get(key)?.bytes()?.try_into().ok().map(NodeId);
        let target = field(b"target").or(field(b"info_hash")).unwrap_or(id);
        let me = addr(n as u32);
        let style = self.rng.u8(..6);
        let mut random = [0; 20];
        self.rng.fill(&mut random);
        let as_who = if style == 0 { NodeId(random) } else { id };
        let mut nodes = Vec::new();
        for _ in 0..16 {
            let mut random = [0; 20];
            self.rng.fill(&mut random);
            nodes.extend(target.sibling(self.rng.usize(40..120), random).0);
            nodes.extend(invented(&mut self.rng));
        }
        let reply = write_dict(|root| {
            root.dict(b"r", |r| {
                r.bytes(b"id", &as_who.0);
                r.bytes(b"nodes", if style == 1 { &nodes[..30] } else { &nodes });
                r.bytes(b"token", b"no token");
                if style == 5 {
                    r.list(b"values", |values| {
                        (0..80).for_each(|_| values.bytes(&invented(&mut self.rng)));
                    });
                }
            });
            root.bytes(b"t", transaction);
            root.bytes(b"y", b"r");
        });
        match style {
            // Packets that somebody else seems to have sent.
            2 => (0..3).for_each(|_| {
                let other = addr(self.rng.u32(..self.hosts.len() as u32));
                self.send(other, from, reply.clone());
            }),
            3 => self.send(me, from, reply[..reply.len() - 7].to_vec()),
            _ => self.send(me, from, reply),
        }
    }

    /// What a liar does by itself: asks in the victim's name for much, and makes nodes know it.
    fn mischief(&mut self, n: usize) {
        let pause = self.rng.u64(5..30);
        self.after(Duration::from_secs(pause), Event::Mischief(n));
        let Host::Liar(id) = self.hosts[n] else { return };
        let someone = addr(self.rng.u32(..self.hosts.len() as u32));
        let query = |method: &[u8], key: &[u8], id: NodeId, value: [u8; 20]| {
            write_dict(|root| {
                root.dict(b"a", |a| {
                    a.bytes(b"id", &id.0);
                    a.bytes(key, &value);
                });
                root.bytes(b"q", method);
                root.bytes(b"t", b"xy");
                root.bytes(b"y", b"q");
            })
        };
        let mut random = [0; 20];
        self.rng.fill(&mut random);
        self.send(addr(n as u32), someone, query(b"find_node", b"target", id, random));
        for _ in 0..self.rng.u8(1..20) {
            let spoofed = query(b"get_peers", b"info_hash", NodeId(random), super::simulated::POPULAR.0);
            self.send(victim(), someone, spoofed);
        }
    }

    /// What is true at any time.
    pub(super) fn check(&self) {
        for host in &self.hosts {
            let Host::Honest(dht) = host else { continue };
            let counters = dht.counters();
            assert!(counters.nodes_v4 <= 160 * 8, "{counters:?}");
            assert!(counters.stored_peers <= 100_000 && counters.stored_torrents <= 2000, "{counters:?}");
            assert!(dht.networks[Family::V4 as usize].as_ref().unwrap().table.is_sound());
            assert!(dht.pending.len() <= 256 && dht.walks.len() <= 32);
        }
    }

    /// Whether an honest node's table holds a host.
    pub(super) fn knows(&mut self, n: usize, other: SocketAddr) -> bool {
        let network = self.dht(n).networks[Family::V4 as usize].as_ref().unwrap();
        network.table.contacts().iter().any(|contact| contact.addr == other)
    }
}
