//! Connections: how they begin and end, and what is sent on them. Blocks leave a node one after another by its link, a line
//! at a time; what is said while blocks are under way waits its turn, as bytes of a stream do.

use super::check;
use super::node::EndId;
use super::plan::Grain;
use super::world::{Event, SECOND, World};
use crate::metainfo::Block;
use crate::swarm::{DropReason, Introduction, PeerSlot, Place, Speech};
use crate::wire::{Limits, Reader, Reserved};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// Bytes under way on a line before its sender waits: what a kernel would buffer on a short one.
const WINDOW: u64 = 64 * 1024;
/// Of a block that takes longer in a coarse world parts come, about this often, and at most so many.
const TRICKLE: u64 = SECOND / 2;
const MOST_PARTS: u64 = 100;
/// Most payload bytes that are taken at once in a fine world. (One block in a coarse one.)
const TAKE: u32 = 64 * 1024;

/// One end of a connection.
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) slot: Option<PeerSlot>,
    pub(crate) closed: bool,
    pub(crate) reader: Reader,

    // What it sends.
    pub(crate) pumping: bool,
    outbox: VecDeque<Block>,
    pub(crate) under_way: u64,
    /// Blocks put on the link so far, and those that have come through; what was said between them.
    begun: u64,
    through: u64,
    behind: VecDeque<(u64, Vec<u8>)>,
    /// Requests heard less answers said.
    pub(crate) owed: BTreeMap<[u32; 3], i32>,

    // What it receives, in a fine world.
    pub(crate) inbox: Vec<u8>,
    pub(crate) receiving: bool,
    pub(crate) lent: Vec<Block>,
    /// The block in the middle of which the stream stands, its place, and whether it is bad.
    pub(crate) coming: Option<(Block, Place, bool)>,
    /// Bytes that still come before the line goes silent.
    pub(crate) budget: usize,
    /// When all that is on the line will have come.
    pub(crate) arrives: u64,

    /// Bytes that are here and not let in yet, in a coarse world.
    pub(crate) unread: u64,
}

impl End {
    fn new(node: usize, limits: Limits) -> Self {
        Self {
            node,
            slot: None,
            closed: false,
            reader: Reader::new(limits),
            pumping: false,
            outbox: VecDeque::new(),
            under_way: 0,
            begun: 0,
            through: 0,
            behind: VecDeque::new(),
            owed: BTreeMap::new(),
            inbox: Vec::new(),
            receiving: false,
            lent: Vec::new(),
            coming: None,
            budget: usize::MAX,
            arrives: 0,
            unread: 0,
        }
    }
}

/// A connection. The first end is the one that dialled.
pub(crate) struct Line {
    pub(crate) ends: [End; 2],
    latency: u64,
    /// Bytes a millisecond, in a fine world.
    pub(crate) bandwidth: u64,
}

impl World {
    pub(crate) fn end(&mut self, (line, side): EndId) -> &mut End {
        &mut self.lines[line].ends[side]
    }

    // ---- beginning and end ----

    /// Any core of a host may take a connection.
    fn core_of(&mut self, host: usize) -> usize {
        let first = self.nodes.iter().position(|node| node.host.number == host).expect("the host exists");
        let cores = self.nodes[first].plan.cores;
        if cores == 1 { first } else { first + self.rng.usize(..cores) }
    }

    pub(crate) fn dialled(&mut self, from: usize, host: usize) -> usize {
        let to = self.core_of(host);
        let lost = self.is_fine() && self.rng.f64() < self.plan.trouble.unreachable;
        self.tally.unreached += usize::from(lost);
        if lost || !self.nodes[to].here || !self.nodes[from].here {
            let now = self.time();
            self.nodes[from].swarm.dial_failed(now, self.plan.addr(host));
            return from;
        }
        let limits = Limits::for_pieces(self.plan.layout.piece_count());
        let ends = [from, to].map(|node| End::new(node, limits));
        let number = self.lines.len();
        if self.is_fine() {
            self.lay_fine(ends);
            (0..2).for_each(|side| self.soon(100_000, Event::Open((number, side))));
        } else {
            let far = ends.iter().map(|end| self.nodes[end.node].plan.far).sum::<u64>();
            let latency = self.rng.u64(5_000..100_000) + far;
            self.lines.push(Line { ends, latency, bandwidth: 0 });
            self.open((number, 0));
            self.open((number, 1));
            self.serve(from);
            self.serve(to);
        }
        from
    }

    /// A line of any kind, on which anything may go wrong.
    fn lay_fine(&mut self, mut ends: [End; 2]) {
        let latency = self.rng.u64(500..80_000);
        let bandwidth = 10u64.pow(self.rng.u32(2..=3)) * self.rng.u64(1..=5);
        for end in &mut ends {
            if self.rng.f64() < self.plan.trouble.stall {
                self.tally.stalled += 1;
                end.budget = self.rng.usize(..500_000);
            }
        }
        let number = self.lines.len();
        self.lines.push(Line { ends, latency, bandwidth });
        if self.rng.f64() < self.plan.trouble.cut {
            self.tally.cut += 1;
            let at = self.rng.u64(..20_000_000);
            (0..2).for_each(|side| self.after(at + latency * side as u64, Event::Closed((number, side))));
        }
    }

    pub(crate) fn open(&mut self, id: EndId) -> usize {
        let (now, (line, side)) = (self.time(), id);
        let (node, other) = (self.end(id).node, self.end((line, 1 - side)).node);
        let outgoing = side == 0;
        let host = self.nodes[other].host.number;
        if self.is_fine() && (self.end(id).closed || !self.nodes[node].here) {
            if outgoing {
                self.nodes[node].swarm.dial_failed(now, self.plan.addr(host));
            }
            self.hang_up(id);
            return node;
        }
        let place = self.plan.addr(host);
        let place = if outgoing { place } else { SocketAddr::new(place.ip(), 50_000) };
        let reserved = self.nodes[other].plan.reserved;
        // What one side does not know is not spoken.
        let reserved = if self.nodes[node].plan.reserved.fast() { reserved } else { Reserved::default() };
        let who = Introduction { addr: place, outgoing, id: self.nodes[other].host.id, reserved };
        match self.nodes[node].swarm.connect(now, who) {
            Ok(slot) => {
                self.end(id).slot = Some(slot);
                assert!(self.nodes[node].ends.insert(slot, id).is_none());
                self.limit_requests(id);
                self.start_receive(id);
            }
            Err(DropReason::Duplicate) => self.hang_up(id),
            Err(DropReason::Banned) if self.nodes[other].plan.is_liar() => self.hang_up(id),
            Err(reason) => panic!("node {node} refused node {other}: {reason}"),
        }
        node
    }

    /// The peer takes so many requests, whatever it was told that clients like us take.
    pub(crate) fn limit_requests(&mut self, (line, side): EndId) {
        let ends = &self.lines[line].ends;
        let (node, other) = (ends[side].node, ends[1 - side].node);
        let Some(reqq) = self.nodes[other].plan.reqq else { return };
        let peer = ends[side].slot.and_then(|slot| self.nodes[node].swarm.peers.get_mut(slot));
        if let Some(peer) = peer {
            peer.reqq = Some(reqq);
        }
    }

    /// One end closes: it learns so soon, the other later.
    pub(crate) fn hang_up(&mut self, id: EndId) {
        let line = &mut self.lines[id.0];
        if self.plan.grain == Grain::Fine {
            let latency = line.latency;
            self.soon(1000, Event::Closed(id));
            self.after(latency, Event::Closed((id.0, 1 - id.1)));
        } else if !line.ends[0].closed {
            line.ends.iter_mut().for_each(|end| end.closed = true);
            (0..2).for_each(|side| self.after(0, Event::Closed((id.0, side))));
        }
    }

    pub(crate) fn closed(&mut self, id: EndId) -> usize {
        let now = self.time();
        let end = self.end(id);
        let node = end.node;
        end.closed = true;
        end.lent.clear();
        end.coming = None;
        if let Some(slot) = end.slot.take() {
            self.nodes[node].ends.remove(&slot);
            self.nodes[node].swarm.gone(now, slot);
        }
        node
    }

    // ---- sending ----

    /// Says what there is to say, and lays out the next blocks.
    pub(crate) fn pump(&mut self, id: EndId) -> usize {
        let now = self.time();
        let most = if self.is_fine() { self.rng.u32(1..=TAKE) } else { 1 };
        let line = &mut self.lines[id.0];
        let latency = line.latency;
        let end = &mut line.ends[id.1];
        end.pumping = false;
        let number = end.node;
        let Some(slot) = end.slot.filter(|_| !end.closed) else { return number };
        let node = &mut self.nodes[number];
        let before = check::Before::of(node, slot);
        let mut bytes = Vec::new();
        let slabs = node.free_slabs();
        let mut speech = Speech { bytes: &mut bytes, slabs, opened: Vec::new(), metadata: 0 };
        node.swarm.speak(now, slot, &mut speech);
        speech.opened.into_iter().for_each(|run| node.open(run));
        check::asking(node, slot, &before);
        check::said(node, slot, &bytes, &mut end.owed);
        if end.outbox.is_empty() {
            node.swarm.take_upload(slot, most, &mut end.outbox);
            self.tally.lost += usize::from(node.read(slot, &mut end.outbox));
            end.outbox.iter().for_each(|block| check::served(node, block, &mut end.owed));
        }
        check::answers(node, slot, &end.owed);
        let waits = !end.outbox.is_empty();
        if !bytes.is_empty() {
            if end.begun > end.through {
                end.behind.push_back((end.begun, bytes));
            } else {
                self.after(latency, Event::Heard((id.0, 1 - id.1), bytes));
            }
        }
        if waits {
            self.send(number);
        }
        number
    }

    /// Puts the next block on a node's link, when that is free.
    pub(crate) fn send(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let lines = &self.lines;
        let window = WINDOW.max(2 * node.plan.up * node.plan.far / SECOND);
        let ready = |(line, side): EndId| {
            let end = &lines[line].ends[side];
            !end.closed && !end.outbox.is_empty() && end.under_way < window
        };
        if node.sending {
            return;
        }
        let Some(id) = node.next_end(ready) else { return };
        node.sending = true;
        let up = node.plan.up;
        let line = &mut self.lines[id.0];
        let (latency, end) = (line.latency, &mut line.ends[id.1]);
        let block = end.outbox.pop_front().expect("it is ready");
        end.under_way += u64::from(block.len);
        end.begun += 1;
        let time = u64::from(block.len) * SECOND / up;
        let parts = if self.is_fine() { 0 } else { (time / TRICKLE).min(MOST_PARTS) };
        for part in 1..parts {
            let filled = u64::from(block.len) * part / parts;
            self.after(time * part / parts + latency, Event::Trickled((id.0, 1 - id.1), filled as u32));
        }
        self.after(time, Event::Left(id, block));
    }

    pub(crate) fn left(&mut self, id: EndId, block: Block) -> usize {
        let now = self.time();
        let latency = self.lines[id.0].latency;
        let end = self.end(id);
        let (number, slot) = (end.node, end.slot.filter(|_| !end.closed));
        self.nodes[number].sending = false;
        if let Some(slot) = slot {
            let node = &mut self.nodes[number];
            node.uploaded += u64::from(block.len);
            node.swarm.sent(now, slot, block.len.into());
            if number == 0 {
                self.first_sent.insert(block);
            }
            let taker = self.lines[id.0].ends[1 - id.1].node;
            let chance = if self.nodes[taker].plan.alike {
                fastrand::Rng::with_seed(u64::from(block.piece.get()) << 32 | u64::from(block.begin)).f64()
            } else {
                self.rng.f64()
            };
            let bad = chance < self.nodes[number].plan.lies;
            self.after(latency, Event::Arrived((id.0, 1 - id.1), block, bad));
            self.pump(id);
        }
        self.send(number);
        self.serve(number);
        number
    }

    /// A block has come through, to this end: gives what was said after it.
    pub(crate) fn follow(&mut self, (line, side): EndId, len: u32) -> Vec<u8> {
        let sender = &mut self.lines[line].ends[1 - side];
        sender.under_way -= u64::from(len);
        sender.through += 1;
        let mut behind = Vec::new();
        while sender.behind.front().is_some_and(|(after, _)| *after <= sender.through) {
            behind.extend(sender.behind.pop_front().map(|(_, bytes)| bytes).unwrap_or_default());
        }
        behind
    }
}
