//! What must hold after every step.

use super::lines::End;
use super::node::{Host, Node};
use super::plan::{Grain, NodePlan, Plan};
use super::world::World;
use crate::metainfo::{BLOCK_LEN, Block, Layout, PieceIndex};
use crate::swarm::active::{BlockState, Stage};
use crate::swarm::peer::Peer;
use crate::swarm::window::DEFAULT_MOST;
use crate::swarm::{Bitfield, PeerSlot, Swarm};
use crate::wire::{Item, Limits, Message, Reader};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Requests less answers, by what messages name.
type Owed = BTreeMap<[u32; 3], i32>;

fn is_missing(block: &BlockState) -> bool {
    block.asked == 0 && block.from.is_none() && block.writer.is_none() && !block.away
}

/// Checks a node; `end` finds the ends of its connections.
pub(crate) fn node<'a>(node: &mut Node, plan: &Plan, end: impl Fn(PeerSlot) -> Option<&'a End>) {
    let most_offences = match plan.grain {
        // One whose line to us works, and ours to it does not, asks now and then for want of hearing our choke.
        _ if plan.trouble.stall > 0.0 => 8,
        Grain::Fine => 0,
        // Where links are slow, or all wait for a slow seed, slots change hands before a block fits into a turn: who gets eight
        // such in a row, and the last is taken back within two seconds, counts that as an offence. Of 300 that are forgiven two
        // is the most seen.
        Grain::Coarse => 4,
    };
    requests(node, most_offences);
    writers(node, end);
    progress(node);
    memory(node);
    totals(node);
}

/// Every open request counts for its block, and the other way round; windows are kept.
fn requests(node: &Node, most_offences: u32) {
    let mut asked: BTreeMap<Block, u8> = BTreeMap::new();
    for (slot, peer) in node.swarm.peers.iter() {
        let blocks: BTreeSet<Block> = peer.asked.iter().map(|asked| asked.block).collect();
        assert_eq!(blocks.len(), peer.asked.len(), "{slot:?} was asked twice for the same block");
        let offences = peer.conduct.offences();
        assert!(offences <= most_offences, "{slot:?} speaks well: {offences} offences");
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
        assert!(node.swarm.errands.contains_key(&block), "{block:?} is asked for {times} times without need");
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
    let is_lost = |piece: &PieceIndex| map.is_missing(*piece) && !node.swarm.picker.holds(*piece);
    let lost = node.layout.pieces().find(is_lost).filter(|_| !is_behind(&node.swarm));
    assert_eq!(lost, None, "a piece is missing and not to be picked");
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
    let leeches = node.swarm.peers.iter().filter(|(_, peer)| !peer.has.is_full());
    let shown: Vec<&Bitfield> = leeches.map(|(_, peer)| &peer.has).collect();
    for piece in node.layout.pieces() {
        let holders = shown.iter().filter(|has| has.has(piece)).count();
        assert_eq!(usize::from(node.swarm.picker.availability(piece)), holders, "peers that have {piece:?}");
    }
}

/// Whether another core may have given pieces back of which this one has not heard yet. Its picker has let go of what others had claimed,
/// and has it again from its next look at such news on.
fn is_behind(swarm: &Swarm) -> bool {
    swarm.commons.cores() > 1 && swarm.releases != swarm.commons.map.releases()
}

/// Every piece is had, missing, or claimed by just one of the cores of a host.
pub(crate) fn claims(cores: &[Node]) {
    for host in cores.chunk_by(|a, b| a.host.number == b.host.number) {
        let map = &host[0].host.commons.map;
        let active: usize = host.iter().map(|node| node.swarm.active.len()).sum();
        let (have, missing) = (map.have_count(), map.missing_count());
        let unchoked = host.iter().flat_map(|node| node.swarm.peers.iter()).filter(|(_, peer)| peer.unchoked);
        let (taken, limit) = host[0].host.commons.slots.counts();
        assert_eq!(unchoked.count() as u32, taken, "upload slots taken on all cores");
        assert!(taken <= limit, "{taken} upload slots of {limit}");
        for piece in host[0].layout.pieces() {
            let of_cores = host.iter().map(|node| u32::from(node.swarm.picker.availability(piece)));
            let seen = host[0].host.commons.sightings.peers(piece.get());
            assert_eq!(seen, of_cores.sum::<u32>(), "peers of all cores that have {piece:?}");
            // Who has given it back has it, at the least.
            let held = host.iter().any(|node| node.swarm.picker.holds(piece));
            assert!(held || !map.is_missing(piece), "{piece:?} is missing and no core would pick it");
        }
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

/// What the peer was asked for.
fn asked(node: &Node, slot: PeerSlot) -> BTreeSet<Block> {
    let peer = node.swarm.peers.get(slot);
    peer.into_iter().flat_map(|peer| &peer.asked).map(|asked| asked.block).collect()
}

/// How it stands before a peer is asked for more: what it was asked for, how many requests it is good for (fewer, once it is found
/// that there is no memory for them), and the first pieces where these are fetched in order.
pub(crate) struct Before {
    asked: BTreeSet<Block>,
    window: usize,
    heads: Vec<PieceIndex>,
}

impl Before {
    pub(crate) fn of(node: &Node, slot: PeerSlot) -> Self {
        let window = node.swarm.peers.get(slot).map_or(0, Peer::window);
        Self { asked: asked(node, slot), window, heads: heads(node) }
    }
}

fn heads(node: &Node) -> Vec<PieceIndex> {
    if node.swarm.settings.sequential { node.swarm.heads() } else { Vec::new() }
}

/// Most requests that the peer takes at once.
fn most_requests(peer: &Peer) -> usize {
    peer.reqq.map_or(DEFAULT_MOST, |most| most as usize).min(2000)
}

/// Requests made just now, `before` which others were.
pub(crate) fn asking(node: &mut Node, slot: PeerSlot, before: &Before) {
    let after = asked(node, slot);
    let Some(peer) = node.swarm.peers.get(slot) else { return };
    assert_eq!(after.len(), peer.asked.len(), "{slot:?} was asked twice for the same block");
    if after.is_subset(&before.asked) {
        return;
    }
    let (count, most) = (after.len(), most_requests(peer));
    assert!(count <= most, "{slot:?} was asked for {count} blocks at once and takes {most}");
    let window = before.window;
    assert!(count <= window, "{slot:?} was asked for {count} blocks at once and has a window of {window}");
    endgame(node, slot, before);
}

/// Requests made just now: a block that another peer has been asked for too may only be asked for when there was
/// nothing else to ask for; or, of pieces fetched in order, when it belongs to the first, as these were then: others may have been
/// begun since.
fn endgame(node: &mut Node, slot: PeerSlot, before: &Before) {
    let heads = [&before.heads[..], &heads(node)].concat();
    let swarm = &mut node.swarm;
    let Some(peer) = swarm.peers.get(slot) else { return };
    let new = peer.asked.iter().map(|asked| asked.block).filter(|block| !before.asked.contains(block));
    let twice = |block: &Block| {
        swarm.active.get(&block.piece).is_some_and(|active| active.blocks[block.index()].asked > 1)
    };
    let mut others = new.into_iter().filter(|block| !heads.contains(&block.piece));
    let Some(block) = others.find(twice) else { return };
    let free = node.plan.slabs - node.slabs.len();
    let run_len = (crate::swarm::RUN_LEN / BLOCK_LEN) as usize;
    for (piece, active) in &swarm.active {
        let hears = |index: &usize| is_missing(&active.blocks[*index]) && active.hears(*index, peer.tag);
        let missing = (0..active.blocks.len()).find(hears);
        let open = missing.is_some_and(|index| index / run_len < active.opened + free);
        let left = open && !active.is_sole() && peer.offers(*piece);
        assert!(!left, "{block:?} is asked for twice while {piece:?} lacks block {missing:?}");
    }
    // By what the map says: the picker is what is looked into here.
    let (map, behind) = (&swarm.commons.map, is_behind(swarm));
    let may_begin = |piece: &PieceIndex| {
        let missing = map.is_missing(*piece) && !map.is_suspect(*piece);
        missing && peer.offers(*piece) && (swarm.picker.holds(*piece) || !behind)
    };
    let waits = node.layout.pieces().find(may_begin);
    assert!(
        waits.is_none() || free == 0 || swarm.is_starved(),
        "{block:?} is asked for twice while {waits:?} waits"
    );
}

/// What is said: only what is had is told of, and rejects are answers.
pub(crate) fn said(node: &Node, slot: PeerSlot, mut bytes: &[u8], owed: &mut Owed) {
    let verified = node.host.verified.borrow();
    let count = node.layout.piece_count();
    let mut reader = Reader::new(Limits::for_pieces(count));
    while let Some(item) = reader.next(&mut bytes).expect("we speak well") {
        match item {
            Item::Message(Message::Reject { index, begin, len }) => answer(owed, [index, begin, len]),
            Item::Message(Message::Have(number)) => {
                let had = node.layout.piece(number).is_some_and(|piece| verified.contains(&piece));
                assert!(had, "{slot:?} is told of piece {number}, which is not had");
                let lost = node.swarm.lost.iter().any(|piece| piece.get() == number);
                assert!(!lost, "{slot:?} is told of piece {number}, which is lost");
            }
            Item::Message(Message::HaveAll) => {
                assert_eq!(verified.len(), count as usize, "all is told of");
                assert!(!node.swarm.has_losses(), "{slot:?} is told of what is lost");
            }
            Item::Message(Message::Bitfield(bits)) => {
                let told = Bitfield::from_wire(bits, count).expect("we speak well");
                let wrong = node.layout.pieces().find(|piece| told.has(*piece) && !verified.contains(piece));
                assert_eq!(wrong, None, "{slot:?} is told of what is not had");
                let lost = node.swarm.lost.iter().find(|piece| told.has(*piece));
                assert_eq!(lost, None, "{slot:?} is told of what is lost");
            }
            _ => {}
        }
    }
}

fn answer(owed: &mut Owed, request: [u32; 3]) {
    let count = owed.entry(request).or_default();
    *count -= 1;
    if *count == 0 {
        owed.remove(&request);
    }
}

/// A block is taken to be sent.
pub(crate) fn served(node: &Node, block: &Block, owed: &mut Owed) {
    assert!(node.host.verified.borrow().contains(&block.piece), "{block:?} is served and not had");
    assert_ne!(node.plan.loses, Some(block.piece.get()), "{block:?} is served and cannot be read");
    answer(owed, [block.piece.get(), block.begin, block.len]);
}

/// Under the fast extension every request has been answered once, or waits for its answer. `owed` counts the requests
/// heard less the answers said.
pub(crate) fn answers(node: &Node, slot: PeerSlot, owed: &Owed) {
    let Some(peer) = node.swarm.peers.get(slot).filter(|peer| peer.fast.on && !peer.dropped) else { return };
    let mut waiting = Owed::new();
    let requests = peer.uploads.waiting().chain(peer.fast.owed());
    requests.for_each(|request| *waiting.entry(request).or_default() += 1);
    assert_eq!(*owed, waiting, "{slot:?} is owed another number of answers");
}

/// What costs next to nothing to look at, after every step.
pub(crate) fn always(node: &Node) {
    let (taken, limit) = node.host.commons.slots.counts();
    assert!(taken <= limit, "{taken} upload slots of {limit}");
    let (told, had) = (node.host.commons.map.have_count() as usize, node.host.verified.borrow().len());
    assert_eq!(told, had, "pieces that we say we have, and those that are good and on disk");
    assert!(node.slabs.len() <= node.plan.slabs, "memory");
}

impl World {
    /// Whoever sent a bad block that made a piece fail is banned by all cores of who got it.
    pub(crate) fn check_liars(&self) {
        for node in self.nodes.iter().filter(|node| !node.plan.is_liar() && node.is_complete()) {
            for (line, side) in node.host.liars.borrow().iter().copied() {
                let liar = &self.nodes[self.lines[line].ends[1 - side].node].host;
                let who = (self.plan.addr(liar.number).ip(), liar.id);
                assert!(
                    node.host.commons.roster().is_banned(&who),
                    "host {} lied and is not banned",
                    liar.number
                );
            }
        }
    }

    pub(crate) fn state(&self) -> String {
        let node = |node: &Node| {
            format!(
                "host {}: {} of {} pieces, {} slabs of {}, {:?}, active {:?}",
                node.host.number,
                node.host.verified.borrow().len(),
                node.layout.piece_count(),
                node.slabs.len(),
                node.plan.slabs,
                node.swarm.totals(),
                node.swarm.active
            )
        };
        let waiting = self.nodes.iter().filter(|node| !node.is_settled());
        waiting.map(node).collect::<Vec<_>>().join("\n")
    }
}

/// Nobody would be asked for it any more.
#[test]
#[should_panic(expected = "a piece is missing and not to be picked")]
fn that_a_picker_has_lost_a_piece_is_seen() {
    let layout = Arc::new(Layout::new(65_536, [131_072]).expect("a sound geometry"));
    let (plan, mut rng) = (NodePlan::leech(), fastrand::Rng::with_seed(1));
    let host = Host::new(0, &plan, &layout, &mut rng);
    let mut leech = Node::new(&host, 0, plan, &layout, &mut rng);
    let quiet = Plan::quiet(1, 65_536, 131_072, Vec::new());
    node(&mut leech, &quiet, |_| None);
    leech.swarm.picker.remove(layout.piece(1).expect("there are two"));
    node(&mut leech, &quiet, |_| None);
}
