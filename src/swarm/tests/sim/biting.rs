//! That the checks bite: what each of them is there for is planted, and found.

use super::check::{self, Before};
use super::node::{Host, Node};
use super::plan::{NodePlan, Plan};
use super::world::World;
use crate::metainfo::{Layout, PieceIndex};
use crate::swarm::peer::Asked;
use crate::swarm::{Introduction, PeerSlot, Speech};
use crate::wire::{Message, PeerId, Reserved};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1);

fn quiet() -> Plan {
    Plan::quiet(1, 65_536, 1 << 20, vec![NodePlan::seed(), NodePlan::leech()])
}

/// A leech with a peer that has everything.
fn leech() -> (Node, PeerSlot) {
    let layout = Arc::new(Layout::new(65_536, [1 << 20]).expect("a sound geometry"));
    let (plan, mut rng) = (NodePlan::leech(), fastrand::Rng::with_seed(1));
    let host = Host::new(0, &plan, &layout, &mut rng);
    let mut node = Node::new(&host, 0, plan, &layout, &mut rng);
    let who = Introduction {
        addr: ([11, 0, 2, 7], 6881).into(),
        outgoing: true,
        id: PeerId([9; 20]),
        reserved: Reserved::ours(false),
    };
    let slot = node.swarm.connect(NOW, who).expect("there is room");
    [Message::HaveAll, Message::Unchoke].into_iter().for_each(|message| node.swarm.hear(NOW, slot, message));
    check::node(&mut node, &quiet(), |_| None);
    (node, slot)
}

/// What the peer is asked for.
fn ask(node: &mut Node, slot: PeerSlot) {
    let (mut bytes, slabs) = (Vec::new(), node.free_slabs());
    let mut speech = Speech { bytes: &mut bytes, slabs, opened: Vec::new(), metadata: 0 };
    node.swarm.speak(NOW, slot, &mut speech);
    speech.opened.into_iter().for_each(|run| node.open(run));
}

/// A leech that has asked its peer, as it may; and how it stood before.
fn asked() -> (Node, PeerSlot, Before) {
    let (mut node, slot) = leech();
    let before = Before::of(&node, slot);
    ask(&mut node, slot);
    check::asking(&mut node, slot, &before);
    (node, slot, before)
}

fn first_asked(node: &Node, slot: PeerSlot) -> Asked {
    *node.swarm.peers.get(slot).and_then(|peer| peer.asked.front()).expect("it was asked")
}

fn first_piece(node: &Node) -> PieceIndex {
    node.layout.piece(0).expect("there is one")
}

#[test]
#[should_panic(expected = "and has a window of")]
fn that_a_peer_is_asked_for_more_than_its_window_is_seen() {
    let (mut node, slot, before) = asked();
    let asked = first_asked(&node, slot);
    let all = node.layout.pieces().flat_map(|piece| (0..4).map(move |index| (piece, index)));
    let blocks: Vec<_> = all.map(|(piece, index)| node.layout.nth_block(piece, index)).collect();
    let peer = node.swarm.peers.get_mut(slot).expect("it is here");
    for block in blocks {
        if peer.asked.iter().all(|other| other.block != block) {
            peer.asked.push_back(Asked { block, ..asked });
        }
    }
    check::asking(&mut node, slot, &before);
}

#[test]
#[should_panic(expected = "is asked for twice while")]
fn that_a_block_is_asked_for_twice_outside_of_an_endgame_is_seen() {
    let (mut node, slot, before) = asked();
    let block = first_asked(&node, slot).block;
    let active = node.swarm.active.get_mut(&block.piece).expect("it was begun");
    active.blocks[block.index()].asked += 1;
    check::asking(&mut node, slot, &before);
}

#[test]
#[should_panic(expected = "was asked twice for the same block")]
fn that_a_peer_is_asked_twice_for_a_block_is_seen() {
    let (mut node, slot, before) = asked();
    let asked = first_asked(&node, slot);
    node.swarm.peers.get_mut(slot).expect("it is here").asked.push_back(asked);
    check::asking(&mut node, slot, &before);
}

#[test]
#[should_panic(expected = "what we say we have is what is good and on disk")]
fn that_a_piece_is_said_to_be_had_and_is_not_is_seen() {
    let (mut node, _) = leech();
    let (had, verified) = (first_piece(&node), node.layout.piece(1).expect("there are more"));
    node.host.commons.map.claim(had);
    node.host.commons.map.set_have(had);
    node.host.verified.borrow_mut().insert(verified);
    node.swarm.picker.remove(had);
    check::node(&mut node, &quiet(), |_| None);
}

#[test]
#[should_panic(expected = "is told of piece 0, which is not had")]
fn that_a_peer_is_told_of_what_is_not_had_is_seen() {
    let (node, slot) = leech();
    let mut bytes = Vec::new();
    Message::Have(0).encode(&mut bytes);
    check::said(&node, slot, &bytes, &mut BTreeMap::new());
}

#[test]
#[should_panic(expected = "is owed another number of answers")]
fn that_a_request_is_not_answered_is_seen() {
    let (node, slot) = leech();
    check::answers(&node, slot, &BTreeMap::new());
    check::answers(&node, slot, &BTreeMap::from([([0, 0, 16_384], 1)]));
}

#[test]
#[should_panic(expected = "lied and is not banned")]
fn that_a_liar_is_not_banned_is_seen() {
    let mut world = World::new(quiet());
    world.run();
    world.check_liars();
    let end = *world.nodes[1].ends.values().next().unwrap_or(&(0, 1));
    world.nodes[1].host.liars.borrow_mut().insert(end);
    world.check_liars();
}
