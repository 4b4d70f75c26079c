//! A simulated world: swarms on links with latency and bandwidth, under virtual time. Everything that happens comes
//! from the seed.

use super::check;
use super::node::{EndId, Host, Node, Origin};
use super::plan::Plan;
use crate::metainfo::{Block, PieceIndex};
use crate::swarm::{Completion, DropReason, Handover, Introduction, PeerSlot, Place, Speech, Tag};
use crate::wire::{Item, Limits, Message, PieceHead, Reader, Reserved};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Most bytes of one receive.
const RECEIVE: usize = 128 * 1024;
/// Most payload bytes of one send.
const SEND: u32 = 64 * 1024;

#[derive(Debug)]
pub(super) enum Event {
    Tick(usize),
    /// A core has dialled a host.
    Dialled {
        from: usize,
        to: usize,
    },
    CatchUp(usize),
    Evict(usize, Tag),
    Blame(usize, Tag, PieceIndex),
    HandIn(usize, Handover, Origin),
    /// One side of a handshake is done.
    Open(EndId),
    Arrive(EndId, Vec<u8>),
    Receive(EndId),
    Pump(EndId),
    Sent(EndId, u64),
    Hashed(usize, PieceIndex, Range<usize>),
    Written(usize, PieceIndex, usize),
    Printed(usize, PieceIndex),
    /// The end learns that the connection has ended.
    Closed(EndId),
}

/// One end of a connection.
pub(super) struct End {
    pub(super) node: usize,
    slot: Option<PeerSlot>,
    closed: bool,
    reader: Reader,
    inbox: Vec<u8>,
    receiving: bool,
    pub(super) pumping: bool,
    pub(super) lent: Vec<Block>,
    /// The block in the middle of which the stream stands, its place, and whether it is bad.
    pub(super) coming: Option<(Block, Place, bool)>,
    latency: u64,
    /// Bytes a millisecond.
    bandwidth: u64,
    /// Bytes that still go through before the line goes silent.
    budget: usize,
    /// Requests heard less answers said.
    owed: BTreeMap<[u32; 3], i32>,
}

pub(super) struct World {
    plan: Plan,
    pub(super) rng: fastrand::Rng,
    /// Microseconds.
    now: u64,
    queue: BTreeMap<Reverse<(u64, u64)>, Event>,
    events: u64,
    /// One a core; those of one host stand side by side.
    pub(super) nodes: Vec<Node>,
    /// The first end of each connection is the one that dialled.
    pub(super) conns: Vec<[End; 2]>,
    /// Blocks that cores have fetched for one another.
    pub(super) handed: usize,
}

/// The requests that are rejected in what is said.
fn rejects(mut said: &[u8], plan: &Plan) -> Vec<[u32; 3]> {
    let mut reader = Reader::new(Limits::for_pieces(plan.layout.piece_count()));
    let mut found = Vec::new();
    while let Some(item) = reader.next(&mut said).expect("we speak well") {
        if let Item::Message(Message::Reject { index, begin, len }) = item {
            found.push([index, begin, len]);
        }
    }
    found
}

pub(super) fn addr(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host as u8], 6881))
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let mut nodes = Vec::new();
        for (number, node) in plan.nodes.iter().enumerate() {
            let host = Host::new(number, node, &plan.layout, &mut rng);
            let core = |core| Node::new(&host, core, node.clone(), &plan.layout, &mut rng);
            nodes.extend((0..node.cores).map(core));
        }
        let mut world = Self {
            plan,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            nodes,
            conns: Vec::new(),
            handed: 0,
        };
        for node in 0..world.nodes.len() {
            // Each address is one core's to dial.
            let (host, core, cores) = {
                let node = &world.nodes[node];
                (node.host.number, node.core, node.plan.cores)
            };
            (0..world.plan.nodes.len())
                .filter(|other| *other != host && other % cores == core)
                .for_each(|other| world.nodes[node].swarm.add_candidate(addr(other), true));
            let start = world.rng.u64(..3_000_000);
            world.after(start, Event::Tick(node));
        }
        world
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn after(&mut self, micros: u64, event: Event) {
        self.events += 1;
        self.queue.insert(Reverse((self.now + micros, self.events)), event);
    }

    pub(super) fn soon(&mut self, most: u64, event: Event) {
        let micros = self.rng.u64(..most);
        self.after(micros, event);
    }

    /// Whether all who are honest have everything.
    fn is_done(&self) -> bool {
        self.nodes.iter().all(|node| node.plan.is_liar() || node.is_complete())
    }

    /// Runs until everybody honest is done. Time out is a failure.
    pub(super) fn run(&mut self) {
        while !self.is_done() {
            self.step();
            assert!(self.time() < self.plan.limit, "not done in time: {}", self.state());
        }
        // What was written to other cores arrives.
        let end = self.now + 5_000_000;
        while self.now < end {
            self.step();
        }
        self.check_liars();
        for node in &self.nodes {
            assert!(node.plan.is_liar() || node.slabs.is_empty(), "slabs are left over: {:?}", node.slabs);
        }
    }

    fn step(&mut self) {
        let (Reverse((at, _)), event) = self.queue.pop_last().expect("ticks never end");
        self.now = at;
        let node = match event {
            Event::Tick(node) => self.tick(node),
            Event::Dialled { from, to } => self.dialled(from, to),
            Event::Open(end) => self.open(end),
            Event::Arrive(end, bytes) => self.arrive(end, bytes),
            Event::Receive(end) => self.receive(end),
            Event::Pump(end) => self.pump(end),
            Event::Sent(end, payload) => self.sent(end, payload),
            Event::Closed(end) => self.closed(end),
            Event::Hashed(node, piece, runs) => {
                let verdict = runs.clone().filter_map(|run| self.nodes[node].hash(piece, run)).last();
                self.nodes[node].swarm.hashed(piece, runs, verdict);
                node
            }
            Event::Written(node, piece, run) => {
                self.nodes[node].end_write(piece, run);
                self.nodes[node].swarm.written(piece, run);
                node
            }
            Event::Printed(node, piece) => {
                let prints = self.nodes[node].prints(piece);
                self.nodes[node].swarm.fingerprinted(piece, &prints);
                node
            }
            Event::CatchUp(node) => {
                let now = self.time();
                self.nodes[node].swarm.catch_up(now);
                node
            }
            Event::Evict(node, tag) => {
                self.nodes[node].swarm.evict(tag);
                node
            }
            Event::Blame(node, tag, piece) => {
                self.nodes[node].swarm.blame(tag, piece);
                node
            }
            Event::HandIn(node, handover, origin) => self.hand_in(node, &handover, origin),
        };
        self.serve(node);
        let conns = &self.conns;
        let ends = self.nodes[node].ends.clone();
        check::node(&mut self.nodes[node], |slot| ends.get(&slot).map(|(conn, side)| &conns[*conn][*side]));
        check::claims(&self.nodes);
    }

    pub(super) fn end(&mut self, (conn, side): EndId) -> &mut End {
        &mut self.conns[conn][side]
    }

    fn tick(&mut self, node: usize) -> usize {
        let now = self.time();
        self.nodes[node].swarm.tick(now);
        let next = self.nodes[node].swarm.next_deadline().saturating_sub(now);
        self.after(next.as_micros() as u64 + 1, Event::Tick(node));
        node
    }

    // ---- connections ----

    /// Any core of a host may take a connection.
    fn core_of(&mut self, host: usize) -> usize {
        let first = self.nodes.iter().position(|node| node.host.number == host).expect("the host exists");
        first + self.rng.usize(..self.nodes[first].plan.cores)
    }

    fn dialled(&mut self, from: usize, host: usize) -> usize {
        let to = self.core_of(host);
        if self.rng.f64() < self.plan.trouble.unreachable {
            let now = self.time();
            self.nodes[from].swarm.dial_failed(now, addr(host));
            return from;
        }
        let conn = self.conns.len();
        let latency = self.rng.u64(500..80_000);
        let bandwidth = 10u64.pow(self.rng.u32(2..=3)) * self.rng.u64(1..=5);
        let ends = [from, to].map(|node| End {
            node,
            slot: None,
            closed: false,
            reader: Reader::new(Limits::for_pieces(self.plan.layout.piece_count())),
            inbox: Vec::new(),
            receiving: false,
            pumping: false,
            lent: Vec::new(),
            coming: None,
            latency,
            bandwidth,
            budget: if self.rng.f64() < self.plan.trouble.stall {
                self.rng.usize(..500_000)
            } else {
                usize::MAX
            },
            owed: BTreeMap::new(),
        });
        self.conns.push(ends);
        (0..2).for_each(|side| self.soon(100_000, Event::Open((conn, side))));
        if self.rng.f64() < self.plan.trouble.cut {
            let at = self.rng.u64(..20_000_000);
            (0..2).for_each(|side| self.after(at + latency * side as u64, Event::Closed((conn, side))));
        }
        from
    }

    fn open(&mut self, id: EndId) -> usize {
        let (now, (conn, side)) = (self.time(), id);
        let (node, other) = (self.end(id).node, self.end((conn, 1 - side)).node);
        let outgoing = side == 0;
        let host = self.nodes[other].host.number;
        if self.end(id).closed {
            if outgoing {
                self.nodes[node].swarm.dial_failed(now, addr(host));
            }
            return node;
        }
        let place = if outgoing { addr(host) } else { SocketAddr::from(([10, 0, 0, host as u8], 50_000)) };
        let reserved = self.nodes[other].plan.reserved;
        // What one side does not know is not spoken.
        let reserved = if self.nodes[node].plan.reserved.fast() { reserved } else { Reserved::default() };
        let who = Introduction { addr: place, outgoing, id: self.nodes[other].host.id, reserved };
        match self.nodes[node].swarm.connect(now, who) {
            Ok(slot) => {
                self.end(id).slot = Some(slot);
                assert!(self.nodes[node].ends.insert(slot, id).is_none());
                self.start_receive(id);
            }
            Err(DropReason::Duplicate) => self.hang_up(id),
            Err(DropReason::Banned) if self.nodes[other].plan.is_liar() => self.hang_up(id),
            Err(reason) => panic!("node {node} refused node {other}: {reason}"),
        }
        node
    }

    /// One end closes: it learns so soon, the other later.
    pub(super) fn hang_up(&mut self, id: EndId) {
        let latency = self.end(id).latency;
        self.soon(1000, Event::Closed(id));
        self.after(latency, Event::Closed((id.0, 1 - id.1)));
    }

    fn closed(&mut self, id: EndId) -> usize {
        let now = self.time();
        let end = self.end(id);
        let node = end.node;
        if std::mem::replace(&mut end.closed, true) {
            return node;
        }
        end.lent.clear();
        end.coming = None;
        let slot = end.slot;
        if let Some(slot) = slot {
            self.nodes[node].swarm.gone(now, slot);
            self.nodes[node].ends.remove(&slot);
        }
        node
    }

    // ---- receiving ----

    fn arrive(&mut self, id: EndId, bytes: Vec<u8>) -> usize {
        self.end(id).inbox.extend(bytes);
        self.start_receive(id);
        self.end(id).node
    }

    fn start_receive(&mut self, id: EndId) {
        let most = self.rng.usize(1..=16);
        let end = &mut self.conns[id.0][id.1];
        let Some(slot) = end.slot.filter(|_| !end.closed && !end.receiving && !end.inbox.is_empty()) else {
            return;
        };
        end.receiving = true;
        // As a shard does: what follows a block that does not go home is not guessed.
        let guessed = end.coming.is_none_or(|(_, place, _)| place == Place::Home);
        if guessed {
            let coming = end.coming.map(|(block, ..)| block);
            end.lent = self.nodes[end.node].swarm.lend(slot, coming, most);
        }
        self.soon(300, Event::Receive(id));
    }

    fn receive(&mut self, id: EndId) -> usize {
        let now = self.time();
        let end = &mut self.conns[id.0][id.1];
        let node = &mut self.nodes[end.node];
        let Some(slot) = end.slot.filter(|_| !end.closed) else { return end.node };
        let rest = end.inbox.split_off(end.inbox.len().min(self.rng.usize(1..=RECEIVE)));
        let bytes = std::mem::replace(&mut end.inbox, rest);
        let mut input = &bytes[..];
        let mut handovers = Vec::new();
        loop {
            let item = end.reader.next(&mut input).expect("we speak well");
            let after = bytes.len() - input.len();
            match item {
                None => break,
                Some(Item::Message(message)) => {
                    if let Message::Request { index, begin, len } = message {
                        *end.owed.entry([index, begin, len]).or_default() += 1;
                    }
                    node.swarm.hear(now, slot, message);
                }
                Some(Item::PieceHead(PieceHead { index, begin, len })) => {
                    let (block, place) =
                        node.swarm.begin(now, slot, [index, begin, len]).expect("nobody sends nonsense");
                    end.coming = Some((block, place, false));
                }
                Some(Item::Payload { len }) => {
                    let (block, place, bad) = end.coming.as_mut().expect("a head comes first");
                    *bad |= bytes[after - len..after].iter().any(|byte| *byte != 0);
                    let (block, place, bad) = (*block, *place, *bad);
                    if end.lent.contains(&block) || node.swarm.is_home(slot, &block) {
                        node.store(&block, Origin { end: id, bad });
                    }
                    if end.reader.payload_left() == 0 {
                        end.coming = None;
                        let origin = Origin { end: id, bad };
                        let completion = node.swarm.complete(now, slot, &block, place);
                        if let Completion::Handover(core, handover) = completion {
                            assert_eq!(place, Place::Aside);
                            handovers.push((core, handover, origin));
                            continue;
                        }
                        node.received += u64::from(block.len);
                        if completion == Completion::Taken && place == Place::Aside {
                            node.store(&block, origin);
                        }
                    }
                }
            }
        }
        let home = end.coming.filter(|(_, place, _)| *place == Place::Home);
        node.swarm.returned(slot, home.map(|(block, ..)| block));
        end.lent.clear();
        end.receiving = false;
        self.start_receive(id);
        let node = self.end(id).node;
        for (core, handover, origin) in handovers {
            let to = self.neighbour(node, core);
            self.soon(500, Event::HandIn(to, handover, origin));
        }
        node
    }

    // ---- sending ----

    fn pump(&mut self, id: EndId) -> usize {
        let now = self.time();
        let end = &mut self.conns[id.0][id.1];
        let node = &mut self.nodes[end.node];
        let Some(slot) = end.slot.filter(|_| !end.closed) else { return end.node };
        let asked = |node: &Node| -> BTreeSet<Block> {
            let peer = node.swarm.peers.get(slot);
            peer.into_iter().flat_map(|peer| &peer.asked).map(|asked| asked.block).collect()
        };
        let before = asked(node);
        let mut bytes = Vec::new();
        let mut speech = Speech { bytes: &mut bytes, slabs: node.free_slabs(), opened: Vec::new() };
        node.swarm.speak(now, slot, &mut speech);
        speech.opened.into_iter().for_each(|run| node.open(run));
        check::endgame(node, slot, &before);
        rejects(&bytes, &self.plan)
            .into_iter()
            .for_each(|request| *end.owed.entry(request).or_default() -= 1);
        let mut blocks = Vec::new();
        node.swarm.take_upload(slot, SEND, &mut blocks);
        let mut payload = 0;
        for block in blocks {
            assert!(node.host.verified.borrow().contains(&block.piece), "{block:?} is served and not had");
            let (index, begin, len) = (block.piece.get(), block.begin, block.len);
            *end.owed.entry([index, begin, len]).or_default() -= 1;
            bytes.extend(PieceHead { index, begin, len }.encode());
            let bad = self.rng.f64() < node.plan.lies;
            bytes.resize(bytes.len() + len as usize, u8::from(bad));
            payload += u64::from(len);
        }
        check::answers(node, slot, &end.owed);
        end.pumping = !bytes.is_empty();
        if end.pumping {
            self.send(id, bytes, payload);
        }
        self.end(id).node
    }

    /// Puts bytes on the line, in parts.
    fn send(&mut self, (conn, side): EndId, mut bytes: Vec<u8>, payload: u64) {
        let end = &mut self.conns[conn][side];
        let (latency, bandwidth) = (end.latency, end.bandwidth);
        let whole = bytes.len() <= end.budget;
        bytes.truncate(end.budget);
        if end.budget != usize::MAX {
            end.budget -= bytes.len();
        }
        let mut sent = 0;
        while !bytes.is_empty() {
            let rest = bytes.split_off(self.rng.usize(1..=bytes.len()));
            sent += bytes.len() as u64;
            let part = std::mem::replace(&mut bytes, rest);
            self.after(sent * 1000 / bandwidth + latency, Event::Arrive((conn, 1 - side), part));
        }
        if whole {
            self.after(sent * 1000 / bandwidth, Event::Sent((conn, side), payload));
        }
    }

    fn sent(&mut self, id: EndId, payload: u64) -> usize {
        let now = self.time();
        let end = &mut self.conns[id.0][id.1];
        let node = end.node;
        if let Some(slot) = end.slot.filter(|_| !end.closed) {
            self.nodes[node].uploaded += payload;
            self.nodes[node].swarm.sent(now, slot, payload);
        }
        self.pump(id)
    }
}
