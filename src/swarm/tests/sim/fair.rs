//! What may be so for a moment and not for long: that a peer lies idle while there is something to ask it for, and that one
//! keeps a slot while another has a better right to it.

use super::node::{Host, Node};
use super::plan::{Grain, NodePlan, Plan};
use super::world::World;
use crate::metainfo::{Layout, PieceIndex};
use crate::swarm::choker::{ROUND, Rule, by_chance};
use crate::swarm::choking::debt;
use crate::swarm::peer::Peer;
use crate::swarm::{Introduction, PeerSlot, Swarm};
use crate::wire::{Message, PeerId, Reserved};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// All who wait are woken twice a second. (Where memory is for two pieces and seven peers wait for it, one of seven thousand worlds
/// had one of them come too late four times in a row.)
const IDLE: u64 = 4_000_000;
/// Who has sent a block in this time was not idle.
const REST: Duration = Duration::from_secs(1);
/// How long a slot is had for nothing in return, or as a seed's, when others wait for it.
const TURN: Duration = Duration::from_secs(30);
/// Until the next round, for the rest of a piece, and some seconds.
const KEPT: u64 = 45_000_000;

/// Since when (microseconds) what may not last has been so.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    idle: BTreeMap<PeerSlot, u64>,
    /// Of all cores of a host, on its first one; so is by which rule slots were given when last looked at.
    kept: BTreeMap<(usize, PeerSlot), u64>,
    seeding: bool,
}

/// Looks at a host when one of its cores, which this is, has had its tick.
pub(crate) fn watch(cores: &mut [Node], core: usize, now: u64) {
    idleness(&mut cores[core], now);
    slots(cores, now);
}

fn idleness(node: &mut Node, now: u64) {
    let idle = idle(node, Duration::from_micros(now));
    note(&mut node.watch.idle, idle, now);
    if let Some((slot, _)) = node.watch.idle.iter().find(|(_, since)| now >= **since + IDLE) {
        let peer = node.swarm.peers.get(*slot);
        panic!(
            "{slot:?} is asked for nothing, and has what nobody is asked for: {peer:?}, {:?}",
            node.swarm.active
        );
    }
}

/// The first core ranks the peers of all.
fn slots(cores: &mut [Node], now: u64) {
    let seeding = cores[0].swarm.is_seeding();
    let kept = kept(cores, seeding, now);
    // Chance may favour the same one twice.
    let lucky = if seeding { 0 } else { by_chance(cores[0].swarm.slot_count(), Rule::Trade) };
    let watch = &mut cores[0].watch;
    if std::mem::replace(&mut watch.seeding, seeding) != seeding {
        watch.kept.clear();
    }
    note(&mut watch.kept, kept, now);
    let long = watch.kept.iter().filter(|(_, since)| now >= **since + KEPT).count();
    assert!(long <= lucky, "{long} peers keep slots that others have a better right to");
}

fn note<K: Ord>(since: &mut BTreeMap<K, u64>, slots: Vec<K>, now: u64) {
    since.retain(|slot, _| slots.contains(slot));
    slots.into_iter().for_each(|slot| _ = since.entry(slot).or_insert(now));
}

/// Peers that could be asked and are not, for what nobody is asked for.
fn idle(node: &mut Node, now: Duration) -> Vec<PeerSlot> {
    let free = node.free_slabs();
    let swarm = &mut node.swarm;
    if swarm.settings.sequential || swarm.is_starved() {
        return Vec::new();
    }
    // With little memory many have no work at each tick, who have had some in between.
    let idles = |peer: &Peer| now >= peer.last_block + REST;
    let hungry = |peer: &Peer| {
        let free = peer.is_hungry() && peer.asked.is_empty() && idles(peer);
        free && !peer.snubbed && !swarm.is_to_wait(now, peer)
    };
    let peers: Vec<PeerSlot> =
        swarm.peers.iter().filter(|(_, peer)| hungry(peer)).map(|(slot, _)| slot).collect();
    peers.into_iter().filter(|slot| could_ask(swarm, *slot, free)).collect()
}

fn could_ask(swarm: &mut Swarm, slot: PeerSlot, free: usize) -> bool {
    // Memory that was short a while ago is not for who keeps it long.
    let (free, kept_from) =
        if swarm.is_kept_short(slot, None) { (0, swarm.kept_from(slot)) } else { (free, Vec::new()) };
    let Some(peer) = swarm.peers.get(slot) else { return false };
    let (peers, layout) = (&swarm.peers, &swarm.layout);
    let begun = swarm.active.values_mut().any(|active| {
        let open = active.may_ask(peer.tag, free);
        // What one alone shall send waits for who is much faster.
        let left = active.is_sole()
            && (peers.owner(active).is_some() || peers.is_outdone(slot, active.piece, layout));
        open && peer.offers(active.piece) && !left && !kept_from.contains(&active.piece)
    });
    // What is missing the map says: for what the picker has lost nobody would be asked.
    let map = &swarm.commons.map;
    let may_begin = |piece: PieceIndex| {
        let left = map.is_suspect(piece) && swarm.is_barred(slot, piece);
        map.is_missing(piece) && peer.offers(piece) && !left
    };
    begun || free > 0 && layout.pieces().any(may_begin)
}

fn peers_of(node: &Node) -> impl Iterator<Item = ((usize, PeerSlot), &Peer)> {
    node.swarm.peers.iter().map(|(slot, peer)| ((node.core, slot), peer))
}

/// Peers that have had their turn and keep their slot although others wait, on whichever core, who owe no more (when we seed to
/// everybody in turn) or who give while these do not.
fn kept(cores: &[Node], seeding: bool, now: u64) -> Vec<(usize, PeerSlot)> {
    let now = Duration::from_micros(now);
    let peers = || cores.iter().flat_map(peers_of);
    let long = |peer: &Peer, least: Duration| now >= peer.unchoked_since + least;
    let waiting = |peer: &&Peer| peer.interested && !peer.unchoked && !peer.dropped && long(peer, ROUND);
    let waits: Vec<&Peer> = peers().map(|(_, peer)| peer).filter(waiting).collect();
    let debt = |peer: &Peer| debt(now, peer, true);
    let least_debt = waits.iter().map(|peer| debt(peer)).min();
    let gives = waits.iter().any(|peer| peer.trade > 0);
    let passes_over = |peer: &Peer| {
        if seeding { least_debt.is_some_and(|least| least <= debt(peer)) } else { gives && peer.trade == 0 }
    };
    let has = peers().filter(|(_, peer)| peer.unchoked && !peer.dropped && long(peer, TURN));
    has.filter(|(_, peer)| passes_over(peer)).map(|(place, _)| place).collect()
}

/// Nobody calls for a round there.
#[test]
#[should_panic(expected = "1 peers keep slots that others have a better right to")]
fn that_a_peer_of_another_core_waits_is_seen() {
    let plan = NodePlan { cores: 2, slots: 1, ..NodePlan::seed() };
    let layout = Arc::new(Layout::new(65_536, [65_536]).expect("a sound geometry"));
    let mut rng = fastrand::Rng::with_seed(1);
    let host = Host::new(0, &plan, &layout, &mut rng);
    let mut cores = [0, 1].map(|core| Node::new(&host, core, plan.clone(), &layout, &mut rng));
    for (number, node) in (1..).zip(&mut cores) {
        let (addr, reserved) = (([11, 0, number, 7], 6881).into(), Reserved::default());
        let who = Introduction { addr, outgoing: false, id: PeerId([number; 20]), reserved };
        let slot = node.swarm.connect(Duration::ZERO, who).expect("there is room");
        node.swarm.hear(Duration::ZERO, slot, Message::Interested);
    }
    let since = TURN.as_micros() as u64;
    [0, KEPT].into_iter().for_each(|later| slots(&mut cores, since + later));
}

#[test]
fn that_nobody_is_asked_for_what_the_picker_has_lost_is_seen() {
    let layout = Arc::new(Layout::new(65_536, [65_536]).expect("a sound geometry"));
    let (plan, mut rng) = (NodePlan::leech(), fastrand::Rng::with_seed(1));
    let host = Host::new(0, &plan, &layout, &mut rng);
    let mut node = Node::new(&host, 0, plan, &layout, &mut rng);
    let (addr, reserved) = (([11, 0, 1, 7], 6881).into(), Reserved::default());
    let who = Introduction { addr, outgoing: true, id: PeerId([1; 20]), reserved };
    let slot = node.swarm.connect(Duration::ZERO, who).expect("there is room");
    node.swarm.hear(Duration::ZERO, slot, Message::Bitfield(&[0x80]));
    node.swarm.hear(Duration::ZERO, slot, Message::Unchoke);
    layout.pieces().for_each(|piece| node.swarm.picker.remove(piece));
    assert_eq!(idle(&mut node, REST), [slot]);
}

/// So long that each has several turns, of a seed and of one who downloads.
#[test]
fn slots_go_round_among_the_peers_of_all_cores() {
    for seed in 0..4 {
        let host = NodePlan { cores: 3, slots: 2, up: 200_000, ..NodePlan::seed() };
        let taker = NodePlan { slots: 0, ..NodePlan::leech() };
        let mut nodes = vec![host.clone(), NodePlan { slots: 1, ..host.clone() }];
        nodes[1].has = NodePlan::leech().has;
        nodes.extend(vec![taker; 7]);
        let plan = Plan::quiet(seed, 65_536, 4_000_000, nodes);
        World::new(Plan { grain: Grain::Coarse, ..plan }).run();
    }
}
