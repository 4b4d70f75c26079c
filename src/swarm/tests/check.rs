//! What must hold after every step.

use super::node::Node;
use super::world::{End, World, addr};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use crate::swarm::PeerSlot;
use crate::swarm::active::{BlockState, Stage};
use std::collections::{BTreeMap, BTreeSet};

fn is_missing(block: &BlockState) -> bool {
    block.asked == 0 && block.from.is_none() && block.writer.is_none() && !block.away
}

/// Checks a node; `end` finds the ends of its connections.
pub(super) fn node<'a>(node: &mut Node, end: impl Fn(PeerSlot) -> Option<&'a End>) {
    requests(node);
    writers(node, end);
    progress(node);
    memory(node);
    totals(node);
}

/// Every open request counts for its block, and the other way round; windows are kept.
fn requests(node: &Node) {
    let mut asked: BTreeMap<Block, u8> = BTreeMap::new();
    for (slot, peer) in node.swarm.peers.iter() {
        assert!(peer.asked.len() <= 250, "{slot:?} was asked for {} blocks at once", peer.asked.len());
        let blocks: BTreeSet<Block> = peer.asked.iter().map(|asked| asked.block).collect();
        assert_eq!(blocks.len(), peer.asked.len(), "{slot:?} was asked twice for the same block");
        // One whose line to us works, and ours to it does not, asks now and then for want of hearing our choke.
        assert!(peer.offences <= 8, "{slot:?} speaks well: {} offences", peer.offences);
        let open = |block: &Block| peer.offers(block.piece);
        // Under the fast extension what it was asked for before is still to be answered.
        let may = !peer.chokes_us || peer.fast.on || blocks.iter().all(open);
        assert!(may, "{slot:?} chokes us and is asked");
        blocks.into_iter().for_each(|block| *asked.entry(block).or_default() += 1);
    }
    for (piece, active) in &node.swarm.active {
        for (index, state) in active.blocks.iter().enumerate() {
            let block = node.layout.nth_block(*piece, index);
            assert_eq!(asked.remove(&block).unwrap_or(0), state.asked, "peers asked for {block:?}");
            assert!(state.asked == 0 || state.from.is_none(), "{block:?} is here and still asked for");
        }
    }
    for (block, times) in asked {
        let errand = node.swarm.errands.contains_key(&block);
        assert!(errand && times == 1, "{block:?} is asked for {times} times without need");
    }
}

/// A block has a writer only while it is lent or in the middle; what is lent stays so.
fn writers<'a>(node: &Node, end: impl Fn(PeerSlot) -> Option<&'a End>) {
    for (piece, active) in &node.swarm.active {
        for (index, state) in active.blocks.iter().enumerate() {
            let Some(writer) = state.writer else { continue };
            let block = node.layout.nth_block(*piece, index);
            assert!(state.from.is_none(), "{block:?} is here and has a writer");
            let end = end(writer).expect("a writer is connected");
            assert!(
                end.lent.contains(&block) || end.coming.is_some_and(|(coming, ..)| coming == block),
                "{writer:?} writes {block:?}, which is neither lent to it nor coming"
            );
        }
    }
    for slot in node.ends.keys() {
        for block in end(*slot).into_iter().flat_map(|end| &end.lent) {
            let state = node.swarm.active.get(&block.piece).map(|active| &active.blocks[block.index()]);
            let held = state.is_some_and(|state| state.writer == Some(*slot));
            assert!(held, "{block:?} is lent to {slot:?} and no longer its own");
        }
    }
}

/// No missing block is overlooked, and pieces are claimed when they are fetched.
fn progress(node: &mut Node) {
    for (piece, active) in &mut node.swarm.active {
        let first = active.blocks.iter().position(is_missing);
        assert_eq!(active.next_missing(), first, "first missing block of {piece:?}");
    }
    let map = &node.host.commons.map;
    let have: BTreeSet<PieceIndex> = node.layout.pieces().filter(|piece| map.has(*piece)).collect();
    assert_eq!(have, *node.host.verified.borrow(), "what we say we have is what is good and on disk");
    for piece in node.layout.pieces() {
        let active = node.swarm.active.contains_key(&piece);
        assert!(!active || !map.is_missing(piece) && !map.has(piece), "claim of {piece:?}");
        assert!(!node.swarm.have.has(piece) || map.has(piece), "{piece:?} is told of before it is had");
    }
    let selection = &node.host.commons.selection;
    for (slot, peer) in node.swarm.peers.iter() {
        let wanted = node
            .layout
            .pieces()
            .filter(|piece| peer.has.has(*piece) && !node.swarm.have.has(*piece) && selection.wants(*piece));
        assert_eq!(wanted.count(), peer.wanted as usize, "pieces that {slot:?} has for us");
    }
}

/// Every piece is had, missing, or claimed by just one of the cores of a host.
pub(super) fn claims(cores: &[Node]) {
    for host in cores.chunk_by(|a, b| a.host.number == b.host.number) {
        let map = &host[0].host.commons.map;
        let active: usize = host.iter().map(|node| node.swarm.active.len()).sum();
        let (have, missing) = (map.have_count(), map.missing_count());
        let unchoked = host.iter().flat_map(|node| node.swarm.peers.iter()).filter(|(_, peer)| peer.unchoked);
        let (taken, limit) = host[0].host.commons.slots.taken();
        assert_eq!(unchoked.count() as u32, taken, "upload slots taken on all cores");
        assert!(taken <= limit, "{taken} upload slots of {limit}");
        let pieces = host[0].layout.piece_count();
        let selection = &host[0].host.commons.selection;
        let skipped =
            host[0].layout.pieces().filter(|piece| !selection.wants(*piece) && !map.has(*piece)).count();
        let sum = have + missing + (active + skipped) as u32;
        assert_eq!(sum, pieces, "{have} had, {missing} missing, {active} claimed, {skipped} skipped");
    }
}

/// The slabs in use are those of opened runs that are not written, no other.
fn memory(node: &Node) {
    let runs = node.swarm.active.iter().flat_map(|(piece, active)| {
        let open = (0..active.opened).filter(|run| active.runs[*run] != Stage::Written);
        open.map(|run| (*piece, run))
    });
    assert_eq!(runs.collect::<BTreeSet<_>>(), node.slabs, "runs with memory");
}

fn totals(node: &Node) {
    let totals = node.swarm.totals();
    let open: u64 = node.swarm.active.values().map(|active| active.received_bytes(&node.layout)).sum();
    assert_eq!(totals.downloaded, node.downloaded, "bytes of verified pieces");
    assert_eq!(
        totals.downloaded + totals.wasted + open,
        node.received,
        "every byte received is accounted for"
    );
    assert_eq!(totals.uploaded, node.uploaded, "bytes sent");
}

/// Requests made just now: a block that another peer has been asked for too may only be asked for when there was
/// nothing else to ask for.
pub(super) fn endgame(node: &mut Node, slot: PeerSlot, before: &BTreeSet<Block>) {
    let swarm = &mut node.swarm;
    let Some(peer) = swarm.peers.get(slot) else { return };
    let new = peer.asked.iter().map(|asked| asked.block).filter(|block| !before.contains(block));
    let twice = |block: &Block| {
        swarm.active.get(&block.piece).is_some_and(|active| active.blocks[block.index()].asked > 1)
    };
    let Some(block) = new.into_iter().find(twice) else { return };
    let free = node.plan.slabs - node.slabs.len();
    let run_len = (crate::swarm::RUN_LEN / BLOCK_LEN) as usize;
    for (piece, active) in &swarm.active {
        let missing = active.blocks.iter().position(is_missing);
        let open = missing.is_some_and(|index| index / run_len < active.opened || free > 0);
        let left = open && !active.sole && peer.offers(*piece);
        assert!(!left, "{block:?} is asked for twice while {piece:?} lacks block {missing:?}");
    }
    let picked = swarm.picker.pick_any(&peer.has, &mut fastrand::Rng::with_seed(0));
    assert!(
        picked.is_none_or(|piece| swarm.commons.map.is_suspect(piece)) || free == 0 || swarm.starved,
        "{block:?} is asked for twice while {picked:?} waits"
    );
}

/// Under the fast extension every request has been answered once, or waits for its answer. `owed` counts the requests
/// heard less the answers said.
pub(super) fn answers(node: &Node, slot: PeerSlot, owed: &BTreeMap<[u32; 3], i32>) {
    let Some(peer) = node.swarm.peers.get(slot).filter(|peer| peer.fast.on && !peer.dropped) else { return };
    let waiting = peer.uploads.waiting().chain(peer.fast.owed());
    let mut left = owed.clone();
    waiting.for_each(|request| *left.entry(request).or_default() -= 1);
    let wrong = left.iter().find(|(_, count)| **count != 0);
    assert_eq!(wrong, None, "{slot:?} is owed another number of answers");
}

impl World {
    /// Whoever sent a bad block that made a piece fail is banned by all cores of who got it.
    pub(super) fn check_liars(&self) {
        for node in self.nodes.iter().filter(|node| !node.plan.is_liar()) {
            for (conn, side) in node.host.liars.borrow().iter().copied() {
                let liar = &self.nodes[self.conns[conn][1 - side].node].host;
                let who = (addr(liar.number).ip(), liar.id);
                assert!(
                    node.host.commons.roster().is_banned(&who),
                    "host {} lied and is not banned",
                    liar.number
                );
            }
        }
    }

    pub(super) fn state(&self) -> String {
        let node = |node: &Node| {
            format!(
                "{} of {} pieces, {} slabs of {}, {:?}, active {:#?}",
                node.host.verified.borrow().len(),
                node.layout.piece_count(),
                node.slabs.len(),
                node.plan.slabs,
                node.swarm.totals(),
                node.swarm.active
            )
        };
        self.nodes.iter().map(node).collect::<Vec<_>>().join("\n")
    }
}
