//! A simulated world: swarms on links with latency and bandwidth, under virtual time. Everything that happens comes
//! from the seed.

use super::check;
use super::node::{EndId, Node, Origin};
use super::plan::Plan;
use crate::metainfo::Block;
use crate::swarm::{DropReason, Introduction, PeerSlot, Place, Speech, Wish};
use crate::wire::{Item, Limits, PieceHead, Reader};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Most bytes of one receive.
const RECEIVE: usize = 128 * 1024;
/// Most payload bytes of one send.
const SEND: u32 = 64 * 1024;

#[derive(Debug)]
enum Event {
    Tick(usize),
    Dialled {
        from: usize,
        to: usize,
    },
    /// One side of a handshake is done.
    Open(EndId),
    Arrive(EndId, Vec<u8>),
    Receive(EndId),
    Pump(EndId),
    Sent(EndId, u64),
    Hashed(usize, crate::metainfo::PieceIndex, usize),
    Written(usize, crate::metainfo::PieceIndex, usize),
    /// The end learns that the connection has ended.
    Closed(EndId),
}

/// One end of a connection.
pub(super) struct End {
    node: usize,
    slot: Option<PeerSlot>,
    closed: bool,
    reader: Reader,
    inbox: Vec<u8>,
    receiving: bool,
    pumping: bool,
    pub(super) lent: Vec<Block>,
    /// The block in the middle of which the stream stands, its place, and whether it is bad.
    pub(super) coming: Option<(Block, Place, bool)>,
    latency: u64,
    /// Bytes a millisecond.
    bandwidth: u64,
    /// Bytes that still go through before the line goes silent.
    budget: usize,
}

pub(super) struct World {
    plan: Plan,
    pub(super) rng: fastrand::Rng,
    /// Microseconds.
    now: u64,
    queue: BTreeMap<Reverse<(u64, u64)>, Event>,
    events: u64,
    pub(super) nodes: Vec<Node>,
    /// The first end of each connection is the one that dialled.
    conns: Vec<[End; 2]>,
}

fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, node as u8], 6881))
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let nodes: Vec<Node> = plan
            .nodes
            .iter()
            .enumerate()
            .map(|(number, node)| Node::new(number as u8, node.clone(), &plan.layout, &mut rng))
            .collect();
        let mut world =
            Self { plan, rng, now: 0, queue: BTreeMap::new(), events: 0, nodes, conns: Vec::new() };
        for node in 0..world.nodes.len() {
            (0..world.nodes.len())
                .filter(|other| *other != node)
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

    fn soon(&mut self, most: u64, event: Event) {
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
        for node in &self.nodes {
            assert!(node.plan.is_liar() || node.slabs.is_empty(), "slabs are left over: {:?}", node.slabs);
        }
    }

    fn state(&self) -> String {
        let node = |node: &Node| {
            format!(
                "{} of {} pieces, {} slabs of {}, {:?}, active {:#?}",
                node.verified.len(),
                node.layout.piece_count(),
                node.slabs.len(),
                node.plan.slabs,
                node.swarm.totals(),
                node.swarm.active
            )
        };
        self.nodes.iter().map(node).collect::<Vec<_>>().join("\n")
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
            Event::Hashed(node, piece, run) => {
                let verdict = self.nodes[node].hash(piece, run);
                self.nodes[node].swarm.hashed(piece, run, verdict);
                node
            }
            Event::Written(node, piece, run) => {
                self.nodes[node].end_write(piece, run);
                self.nodes[node].swarm.written(piece, run);
                node
            }
        };
        self.serve(node);
        let conns = &self.conns;
        let ends = self.nodes[node].ends.clone();
        check::node(&mut self.nodes[node], |slot| ends.get(&slot).map(|(conn, side)| &conns[*conn][*side]));
    }

    fn end(&mut self, (conn, side): EndId) -> &mut End {
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

    fn dialled(&mut self, from: usize, to: usize) -> usize {
        if self.rng.f64() < self.plan.trouble.unreachable {
            let now = self.time();
            self.nodes[from].swarm.dial_failed(now, addr(to));
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
        if self.end(id).closed {
            if outgoing {
                self.nodes[node].swarm.dial_failed(now, addr(other));
            }
            return node;
        }
        let place = if outgoing { addr(other) } else { SocketAddr::from(([10, 0, 0, other as u8], 50_000)) };
        let who = Introduction { addr: place, outgoing, id: self.nodes[other].id };
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
    fn hang_up(&mut self, id: EndId) {
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
        end.lent = self.nodes[end.node].swarm.lend(slot, end.coming.map(|(block, ..)| block), most);
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
        loop {
            let item = end.reader.next(&mut input).expect("we speak well");
            let after = bytes.len() - input.len();
            match item {
                None => break,
                Some(Item::Message(message)) => node.swarm.hear(now, slot, message),
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
                        node.received += u64::from(block.len);
                        if node.swarm.complete(now, slot, &block, place) && place == Place::Aside {
                            node.store(&block, Origin { end: id, bad });
                        }
                    }
                }
            }
        }
        node.swarm.returned(slot, end.coming.map(|(block, ..)| block));
        end.lent.clear();
        end.receiving = false;
        self.start_receive(id);
        self.end(id).node
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
        let mut blocks = Vec::new();
        node.swarm.take_upload(slot, SEND, &mut blocks);
        let mut payload = 0;
        for block in blocks {
            assert!(node.verified.contains(&block.piece), "{block:?} is served and not had");
            let (index, begin, len) = (block.piece.get(), block.begin, block.len);
            bytes.extend(PieceHead { index, begin, len }.encode());
            let bad = self.rng.f64() < node.plan.lies;
            bytes.resize(bytes.len() + len as usize, u8::from(bad));
            payload += u64::from(len);
        }
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
        let end = &mut self.conns[id.0][id.1];
        let node = end.node;
        if let Some(slot) = end.slot.filter(|_| !end.closed) {
            self.nodes[node].uploaded += payload;
            self.nodes[node].swarm.sent(slot, payload);
        }
        self.pump(id)
    }

    // ---- wishes ----

    fn serve(&mut self, node: usize) {
        let mut wishes = Vec::new();
        loop {
            let most = self.rng.usize(1..=8);
            self.nodes[node].swarm.fill(&mut wishes, most);
            assert!(wishes.len() <= most);
            if wishes.is_empty() {
                return;
            }
            wishes.drain(..).for_each(|wish| self.grant(node, wish));
        }
    }

    fn grant(&mut self, node: usize, wish: Wish) {
        match wish {
            Wish::Wake(slot) => {
                let Some(id) = self.nodes[node].ends.get(&slot).copied() else { return };
                if !std::mem::replace(&mut self.end(id).pumping, true) {
                    self.soon(2000, Event::Pump(id));
                }
            }
            Wish::Hash(piece, run) => self.soon(3000, Event::Hashed(node, piece, run)),
            Wish::Write(piece, run) => {
                self.nodes[node].begin_write(piece, run);
                self.soon(60_000, Event::Written(node, piece, run));
            }
            Wish::Done { piece, good } => self.nodes[node].settle(piece, good),
            Wish::Drop(slot, reason) => self.dropped(node, slot, reason),
            Wish::Dial(to) => {
                let SocketAddr::V4(to) = to else { unreachable!("the world is IPv4") };
                let to = usize::from(to.ip().octets()[3]);
                self.soon(150_000, Event::Dialled { from: node, to });
            }
        }
    }

    fn dropped(&mut self, node: usize, slot: PeerSlot, reason: DropReason) {
        let Some(id) = self.nodes[node].ends.get(&slot).copied() else { return };
        let other = self.end((id.0, 1 - id.1)).node;
        match reason {
            DropReason::BothSeeds | DropReason::Duplicate | DropReason::Silent => {}
            DropReason::BadPiece(_) if self.nodes[other].plan.is_liar() => {}
            reason => panic!("node {node} dropped node {other}: {reason}"),
        }
        self.nodes[node].dropped.push((slot, reason));
        self.hang_up(id);
    }
}
