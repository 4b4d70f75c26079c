//! Nodes, the lines between them, and what happens when.

use crate::node::{Node, Plan};
use seedring::metainfo::{Block, Layout, PieceIndex};
use seedring::swarm::{Introduction, PeerSlot, Speech, Wish};
use seedring::wire::{Item, Limits, PieceHead, Reader, Reserved};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Bytes under way on a line before its sender waits: what a kernel would buffer.
const WINDOW: u64 = 64 * 1024;
/// Addresses that a tracker gives to whoever comes.
const ADDRESSES: usize = 40;
const SECOND: u64 = 1_000_000;

type EndId = (usize, usize);

enum Event {
    Comes(usize),
    Goes(usize),
    Tick(usize),
    Dialled {
        from: usize,
        to: usize,
    },
    /// Small messages have come.
    Heard(EndId, Vec<u8>),
    /// A block has left its sender's link, has reached the receiver's, has come through it.
    Sent(EndId, Block),
    Arrived(EndId, Block, bool),
    Came(EndId, Block, bool),
    Hashed(usize, PieceIndex, Range<usize>),
    Written(usize, PieceIndex, usize),
    Fingerprinted(usize, PieceIndex),
    Closed(usize),
}

struct End {
    node: usize,
    slot: Option<PeerSlot>,
    reader: Reader,
    outbox: VecDeque<Block>,
    under_way: u64,
    /// Blocks put on the link so far, and those that have come through; what was said between them waits its turn, as bytes
    /// of a stream do.
    begun: u64,
    through: u64,
    behind: VecDeque<(u64, Vec<u8>)>,
}

struct Conn {
    ends: [End; 2],
    latency: u64,
    closed: bool,
}

pub(crate) struct World {
    pub(crate) layout: Arc<Layout>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) now: u64,
    rng: fastrand::Rng,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    conns: Vec<Conn>,
    /// Blocks that the first node has sent to anybody.
    pub(crate) first_sent: BTreeSet<Block>,
}

/// Each on a network of its own: what peers may have while choked depends on that (BEP 6).
fn addr(node: usize) -> SocketAddr {
    SocketAddr::from(([11, (node / 250) as u8, (node % 250) as u8 + 1, 7], 6881))
}

fn node_at(addr: SocketAddr) -> usize {
    let SocketAddr::V4(addr) = addr else { unreachable!("only such are given") };
    let [_, high, low, _] = addr.ip().octets();
    usize::from(high) * 250 + usize::from(low) - 1
}

impl World {
    pub(crate) fn new(seed: u64, layout: Layout, plans: &[Plan]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let layout = Arc::new(layout);
        let nodes =
            plans.iter().enumerate().map(|(number, plan)| Node::new(number, *plan, &layout, &mut rng));
        let nodes: Vec<Node> = nodes.collect();
        let mut world = Self {
            layout,
            nodes,
            now: 0,
            rng,
            queue: BTreeMap::new(),
            events: 0,
            conns: Vec::new(),
            first_sent: BTreeSet::new(),
        };
        for (node, plan) in plans.iter().enumerate() {
            let early = world.rng.u64(..SECOND);
            world.after((plan.comes * SECOND as f64) as u64 + early, Event::Comes(node));
            if plan.goes.is_finite() {
                world.after((plan.goes * SECOND as f64) as u64, Event::Goes(node));
            }
        }
        world
    }

    fn after(&mut self, micros: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + micros, self.events), event);
    }

    fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// Whoever stays, is honest and gives has everything.
    fn is_done(&self) -> bool {
        self.nodes
            .iter()
            .all(|node| node.done.is_some() || node.plan.goes.is_finite() || node.plan.lies > 0.0)
    }

    /// Runs until all are done who can be.
    pub(crate) fn run(&mut self, limit: f64) {
        while !self.is_done() {
            let ((at, _), event) = self.queue.pop_first().expect("ticks never end");
            self.now = at;
            assert!((at as f64) < limit * SECOND as f64, "not done in {limit} s: {}", self.state());
            self.happen(event);
        }
    }

    fn state(&self) -> String {
        let left = self.nodes.iter().enumerate().filter(|(_, node)| node.done.is_none());
        left.map(|(number, node)| format!("{number}: {:?}; ", node.swarm.totals())).collect()
    }

    fn happen(&mut self, event: Event) {
        let now = self.time();
        match event {
            Event::Comes(node) => self.comes(node),
            Event::Goes(node) => self.goes(node),
            Event::Tick(node) => self.tick(node),
            Event::Dialled { from, to } => self.dialled(from, to),
            Event::Heard(end, bytes) => self.heard(end, &bytes),
            Event::Sent(end, block) => self.sent(end, block),
            Event::Arrived(end, block, bad) => {
                let node = &mut self.nodes[self.conns[end.0].ends[end.1].node];
                node.arrives = node.arrives.max(self.now) + u64::from(block.len) * SECOND / node.plan.down;
                let wait = node.arrives - self.now;
                self.after(wait, Event::Came(end, block, bad));
            }
            Event::Came(end, block, bad) => self.came(end, block, bad),
            Event::Hashed(node, piece, runs) => {
                let last = self.layout.piece_len(piece).div_ceil(seedring::swarm::RUN_LEN) as usize;
                let bad = self.nodes[node].bad.iter().any(|block| block.piece == piece);
                let verdict = (runs.end == last).then_some(!bad);
                self.nodes[node].swarm.hashed(piece, runs, verdict);
                self.serve(node);
            }
            Event::Written(node, piece, run) => {
                self.nodes[node].swarm.written(piece, run);
                self.note_done(node);
                self.serve(node);
            }
            Event::Fingerprinted(node, piece) => {
                let blocks =
                    (0..self.layout.blocks_in(piece)).map(|index| self.layout.nth_block(piece, index));
                let bad = &self.nodes[node].bad;
                let prints: Vec<u64> = blocks.map(|block| u64::from(bad.contains(&block))).collect();
                self.nodes[node].swarm.fingerprinted(piece, &prints);
                self.note_done(node);
                self.serve(node);
            }
            Event::Closed(conn) => {
                for side in 0..2 {
                    let end = &mut self.conns[conn].ends[side];
                    let (node, slot) = (end.node, end.slot.take());
                    let Some(slot) = slot else { continue };
                    self.nodes[node].ends.remove(&slot);
                    self.nodes[node].swarm.gone(now, slot);
                    self.serve(node);
                }
            }
        }
    }

    fn note_done(&mut self, node: usize) {
        if self.nodes[node].swarm.is_seeding() {
            self.nodes[node].done.get_or_insert(self.now);
        }
    }

    // ---- who is here ----

    fn comes(&mut self, node: usize) {
        self.nodes[node].here = true;
        let mut others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
        others.retain(|other| self.nodes[*other].here);
        self.rng.shuffle(&mut others);
        for other in others.into_iter().take(ADDRESSES) {
            self.nodes[node].swarm.add_candidate(addr(other), false);
        }
        self.tick(node);
    }

    fn goes(&mut self, node: usize) {
        self.nodes[node].here = false;
        let conns: Vec<usize> = self.nodes[node].ends.values().map(|(conn, _)| *conn).collect();
        conns.into_iter().for_each(|conn| self.close(conn));
    }

    fn tick(&mut self, node: usize) {
        if !self.nodes[node].here {
            return;
        }
        let now = self.time();
        self.nodes[node].swarm.tick(now);
        let next = self.nodes[node].swarm.next_deadline().saturating_sub(now);
        self.after(next.as_micros() as u64 + 1, Event::Tick(node));
        self.serve(node);
    }

    fn close(&mut self, conn: usize) {
        if !std::mem::replace(&mut self.conns[conn].closed, true) {
            self.after(0, Event::Closed(conn));
        }
    }

    fn dialled(&mut self, from: usize, to: usize) {
        let now = self.time();
        if !self.nodes[to].here || !self.nodes[from].here {
            self.nodes[from].swarm.dial_failed(now, addr(to));
            return self.serve(from);
        }
        let (conn, latency) = (self.conns.len(), self.rng.u64(5_000..100_000));
        let limits = Limits::for_pieces(self.layout.piece_count());
        let ends = [from, to].map(|node| {
            let reader = Reader::new(limits);
            let (outbox, behind) = (VecDeque::new(), VecDeque::new());
            End { node, slot: None, reader, outbox, under_way: 0, begun: 0, through: 0, behind }
        });
        self.conns.push(Conn { ends, latency, closed: false });
        for (side, [node, other]) in [[from, to], [to, from]].into_iter().enumerate() {
            let outgoing = side == 0;
            let place = if outgoing { addr(other) } else { SocketAddr::new(addr(other).ip(), 50_000) };
            let who = Introduction {
                addr: place,
                outgoing,
                id: self.nodes[other].id,
                reserved: Reserved::ours(false),
            };
            match self.nodes[node].swarm.connect(now, who) {
                Ok(slot) => {
                    self.conns[conn].ends[side].slot = Some(slot);
                    self.nodes[node].ends.insert(slot, (conn, side));
                }
                Err(_) => self.close(conn),
            }
        }
        self.serve(from);
        self.serve(to);
    }

    // ---- what the swarm wishes ----

    fn serve(&mut self, node: usize) {
        let mut wishes = Vec::new();
        loop {
            self.nodes[node].swarm.fill(&mut wishes, 64);
            if wishes.is_empty() {
                return;
            }
            wishes.drain(..).for_each(|wish| self.grant(node, wish));
        }
    }

    fn grant(&mut self, node: usize, wish: Wish) {
        match wish {
            Wish::Wake(slot) => {
                if let Some(end) = self.nodes[node].ends.get(&slot).copied() {
                    self.pump(end);
                }
            }
            Wish::Hash(piece, runs) => self.after(1000, Event::Hashed(node, piece, runs)),
            Wish::Write(piece, run) => self.after(2000, Event::Written(node, piece, run)),
            Wish::Done { piece, .. } => self.nodes[node].bad.retain(|block| block.piece != piece),
            Wish::Drop(slot, _) => {
                if let Some((conn, _)) = self.nodes[node].ends.get(&slot).copied() {
                    self.close(conn);
                }
            }
            Wish::Dial(addr) => self.after(100_000, Event::Dialled { from: node, to: node_at(addr) }),
            Wish::Fingerprint(piece) => self.after(3000, Event::Fingerprinted(node, piece)),
            Wish::Nudge | Wish::Evict(_) | Wish::Blame(..) | Wish::DhtNode(_) => {}
        }
    }

    // ---- lines ----

    /// Says what there is to say, and lays out the next block.
    fn pump(&mut self, (conn, side): EndId) {
        let now = self.time();
        let line = &mut self.conns[conn];
        let latency = line.latency;
        let end = &mut line.ends[side];
        let Some(slot) = end.slot.filter(|_| !line.closed) else { return };
        let node = &mut self.nodes[end.node];
        let mut bytes = Vec::new();
        let mut speech = Speech { bytes: &mut bytes, slabs: 1 << 20, opened: Vec::new() };
        node.swarm.speak(now, slot, &mut speech);
        if end.outbox.is_empty() {
            node.swarm.take_upload(slot, 1, &mut end.outbox);
        }
        let (number, waits) = (end.node, !end.outbox.is_empty());
        if !bytes.is_empty() {
            if end.begun > end.through {
                end.behind.push_back((end.begun, bytes));
            } else {
                self.after(latency, Event::Heard((conn, 1 - side), bytes));
            }
        }
        if waits {
            self.send(number);
        }
    }

    /// Puts the next block on a node's link, when that is free.
    fn send(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let conns = &self.conns;
        let ready = |(conn, side): EndId| {
            let end = &conns[conn].ends[side];
            !conns[conn].closed && !end.outbox.is_empty() && end.under_way < WINDOW
        };
        if node.sending {
            return;
        }
        let Some(id) = node.next_end(ready) else { return };
        node.sending = true;
        let micros = |block: &Block| u64::from(block.len) * SECOND / node.plan.up;
        let end = &mut self.conns[id.0].ends[id.1];
        let block = end.outbox.pop_front().expect("it is ready");
        end.under_way += u64::from(block.len);
        end.begun += 1;
        let wait = micros(&block);
        self.after(wait, Event::Sent(id, block));
    }

    fn sent(&mut self, id: EndId, block: Block) {
        let now = self.time();
        let line = &self.conns[id.0];
        let (closed, latency) = (line.closed, line.latency);
        let (number, slot) = (line.ends[id.1].node, line.ends[id.1].slot);
        let node = &mut self.nodes[number];
        node.sending = false;
        if let Some(slot) = slot.filter(|_| !closed) {
            node.sent += u64::from(block.len);
            node.swarm.sent(now, slot, block.len.into());
            if number == 0 {
                self.first_sent.insert(block);
            }
            let bad = self.rng.f64() < node.plan.lies;
            self.after(latency, Event::Arrived((id.0, 1 - id.1), block, bad));
            self.pump(id);
        }
        self.send(number);
        self.serve(number);
    }

    fn heard(&mut self, (conn, side): EndId, bytes: &[u8]) {
        let now = self.time();
        let line = &mut self.conns[conn];
        let end = &mut line.ends[side];
        let Some(slot) = end.slot.filter(|_| !line.closed) else { return };
        let (number, mut input) = (end.node, bytes);
        while let Some(item) = end.reader.next(&mut input).expect("we speak well") {
            let Item::Message(message) = item else { unreachable!("blocks go another way") };
            self.nodes[number].swarm.hear(now, slot, message);
        }
        self.serve(number);
    }

    fn came(&mut self, (conn, side): EndId, block: Block, bad: bool) {
        let now = self.time();
        let line = &mut self.conns[conn];
        let sender = &mut line.ends[1 - side];
        sender.under_way -= u64::from(block.len);
        sender.through += 1;
        let through = sender.through;
        let mut behind = Vec::new();
        while sender.behind.front().is_some_and(|(after, _)| *after <= through) {
            behind.extend(sender.behind.pop_front().map(|(_, bytes)| bytes).unwrap_or_default());
        }
        if !behind.is_empty() {
            self.queue.insert(
                (self.now, {
                    self.events += 1;
                    self.events
                }),
                Event::Heard((conn, side), behind),
            );
        }
        let sender = sender.node;
        let end = &mut line.ends[side];
        if let Some(slot) = end.slot.filter(|_| !line.closed) {
            let number = end.node;
            let node = &mut self.nodes[number];
            let head = PieceHead { index: block.piece.get(), begin: block.begin, len: block.len };
            let (block, place) =
                node.swarm.begin(now, slot, [head.index, head.begin, head.len]).expect("we speak well");
            let taken = node.swarm.complete(now, slot, &block, place);
            node.swarm.returned(slot, None);
            if taken == seedring::swarm::Completion::Taken {
                if bad {
                    node.bad.insert(block)
                } else {
                    node.bad.remove(&block)
                };
            }
            self.serve(number);
        }
        self.send(sender);
    }
}
