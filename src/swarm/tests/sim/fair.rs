//! What may be so for a moment and not for long: that a peer lies idle while there is something to ask it for, and that one
//! keeps a slot while another has a better right to it.

use super::node::Node;
use crate::swarm::choker::{ROUND, Rule, by_chance};
use crate::swarm::choking::debt;
use crate::swarm::peer::Peer;
use crate::swarm::{PeerSlot, Swarm};
use std::collections::BTreeMap;
use std::time::Duration;

/// All who wait are woken twice a second.
const IDLE: u64 = 2_000_000;
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
    kept: BTreeMap<PeerSlot, u64>,
    /// By which rule slots were given when last looked at.
    seeding: bool,
}

/// Looks at a node at each of its ticks.
pub(crate) fn watch(node: &mut Node, now: u64) {
    let idle = idle(node, Duration::from_micros(now));
    note(&mut node.watch.idle, idle, now);
    if let Some((slot, _)) = node.watch.idle.iter().find(|(_, since)| now >= **since + IDLE) {
        let peer = node.swarm.peers.get(*slot);
        panic!(
            "{slot:?} is asked for nothing, and has what nobody is asked for: {peer:?}, {:?}",
            node.swarm.active
        );
    }
    if node.plan.cores > 1 {
        return;
    }
    let seeding = node.swarm.is_seeding();
    if std::mem::replace(&mut node.watch.seeding, seeding) != seeding {
        node.watch.kept.clear();
    }
    let kept = kept(&node.swarm, now);
    note(&mut node.watch.kept, kept, now);
    let long = node.watch.kept.iter().filter(|(_, since)| now >= **since + KEPT).count();
    // Chance may favour the same one twice.
    let lucky = if seeding { 0 } else { by_chance(node.swarm.slot_count(), Rule::Trade) };
    assert!(long <= lucky, "{long} peers keep slots that others have a better right to");
}

fn note(since: &mut BTreeMap<PeerSlot, u64>, slots: Vec<PeerSlot>, now: u64) {
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
    let offered = peer.offered();
    begun
        || free > 0
            && offered
                .and_then(|offered| swarm.picker.pick_any(offered, &mut fastrand::Rng::with_seed(0)))
                .is_some_and(|piece| {
                    let left = swarm.commons.map.is_suspect(piece) && swarm.is_barred(slot, piece);
                    swarm.commons.map.is_missing(piece) && !left
                })
}

/// Peers that have had their turn and keep their slot although others wait who owe no more (when we seed to everybody in
/// turn) or who give while these do not.
fn kept(swarm: &Swarm, now: u64) -> Vec<PeerSlot> {
    let now = Duration::from_micros(now);
    let seeding = swarm.is_seeding();
    let long = |peer: &Peer, least: Duration| now >= peer.unchoked_since + least;
    let waiting = |peer: &&Peer| peer.interested && !peer.unchoked && !peer.dropped && long(peer, ROUND);
    let waits: Vec<&Peer> = swarm.peers.iter().map(|(_, peer)| peer).filter(waiting).collect();
    let debt = |peer: &Peer| debt(now, peer, true);
    let least_debt = waits.iter().map(|peer| debt(peer)).min();
    let gives = waits.iter().any(|peer| peer.trade > 0);
    let passes_over = |peer: &Peer| {
        if seeding { least_debt.is_some_and(|least| least <= debt(peer)) } else { gives && peer.trade == 0 }
    };
    let has = swarm.peers.iter().filter(|(_, peer)| peer.unchoked && !peer.dropped && long(peer, TURN));
    has.filter(|(_, peer)| passes_over(peer)).map(|(slot, _)| slot).collect()
}
