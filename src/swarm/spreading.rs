//! What a lone seed gives to whom first, and who passes it on.
//!
//! Peers cannot see what others are being sent, so with the rarest piece first several ask a seed for the same one, while
//! pieces that nobody has yet wait. The seed knows better: it suggests (BEP 6) each new piece to one peer. And it sees by
//! HAVEs whether that one gives the piece on; who does not has to wait until those are served who do. A few new pieces that a peer asks
//! for by itself count as suggested to it. What goes first when the link is full: see `precedence`.
//!
//! While not all is in the swarm, whatever the seed sends to who keeps it is lost time for all. So newcomers have a turn of one
//! piece, and the next when one that they were sent is seen elsewhere; those who have given lose their slot after a
//! piece when they hold too many. That is seen in time because peers tell seeds, too, what they have (`errands`). Who gets a
//! piece of whom is often a matter of two cores: what their peers have, each learns of the others by the `sightings`.

use super::bitfield::Bitfield;
use super::peer::Peer;
use super::precedence::LOOK;
use super::{PeerSlot, Swarm, Tag};
use crate::metainfo::{Block, PieceIndex};
use std::collections::HashMap;
use std::time::Duration;

/// New pieces that one peer is at, or is to fetch next: as long as there are fewer, more are suggested.
const OPEN: usize = 3;
/// Pieces that one peer got from us alone, and nobody got from it, until others come first.
pub(super) const HOARD: u32 = 2;
/// Pieces sent to one peer that are remembered until it says that it has them.
const MOST_SERVED: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Spreading {
    /// `None` before the first peer needs one.
    fresh: Option<Fresh>,
    /// Who was suggested which piece, or was the first to ask for it, until another has it.
    pub(super) first: HashMap<PieceIndex, Tag>,
    /// Some peer was suggested nothing more, for nobody else wanted anything.
    is_idle: bool,
    /// [`Sightings::passes`](super::sightings::Sightings::passes) when last looked at.
    passes: u32,
}

/// Pieces that may be suggested yet, by chance, each once; some are seen or taken by the time it is their turn.
#[derive(Debug)]
struct Fresh {
    order: Vec<PieceIndex>,
    /// The same.
    within: Bitfield,
}

impl Fresh {
    fn pop(&mut self) -> Option<PieceIndex> {
        self.order.pop().inspect(|piece| self.within.remove(*piece))
    }

    fn push(&mut self, piece: PieceIndex) {
        if self.within.insert(piece) {
            self.order.push(piece);
        }
    }
}

#[cfg(test)]
impl Spreading {
    /// Pieces that may be suggested yet.
    pub(super) fn left(&self) -> usize {
        self.fresh.as_ref().map_or(0, |fresh| fresh.order.len())
    }
}

impl Swarm {
    /// Whether we give as a seed does, and show all that we have.
    pub(super) fn spreads(&self) -> bool {
        self.have.is_full() && !self.settings.super_seed
    }

    /// Whether there is something that nobody has nor is to be given.
    pub(super) fn has_fresh(&self) -> bool {
        let sightings = &self.commons.sightings;
        let is_fresh = |piece: &PieceIndex| {
            !sightings.is_seen(*piece) && !sightings.is_suggested(*piece) && !self.lost.has(*piece)
        };
        self.spreading.fresh.as_ref().is_none_or(|fresh| fresh.order.iter().any(is_fresh))
    }

    /// Suggests pieces that nobody has to a peer with a slot.
    pub(super) fn suggest(&mut self, slot: PeerSlot) {
        if !self.spreads() {
            return;
        }
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if !peer.fast.on || !peer.unchoked || peer.dropped {
            return;
        }
        let fresh = self.spreading.fresh.get_or_insert_with(|| {
            let mut order: Vec<PieceIndex> = self.layout.pieces().collect();
            self.rng.shuffle(&mut order);
            Fresh { order, within: Bitfield::full(self.layout.piece_count()) }
        });
        let mut news = false;
        while peer.suggestions.len() < OPEN
            && let Some(piece) = fresh.pop()
        {
            let sightings = &self.commons.sightings;
            if !self.lost.has(piece) && !sightings.is_seen(piece) && sightings.suggest(piece) {
                peer.suggestions.push(piece);
                self.spreading.first.insert(piece, peer.tag);
                news |= peer.fast.suggest(piece);
            }
        }
        if news {
            self.wake(slot);
        }
    }

    /// The same in the midst of what the peer is sent. Not when it is the only one that wants something: nobody else can be at the
    /// same piece then, and a message between blocks puts what follows it into wrong places (see `shard/receive.rs`).
    fn suggest_more(&mut self, slot: PeerSlot) {
        if self.commons.slots.takers() > 1 {
            self.suggest(slot);
        } else {
            self.spreading.is_idle = true;
        }
    }

    /// Twice a second: when others want something by now, there is something to suggest to the one that was alone.
    pub(super) fn end_idleness(&mut self) {
        if self.spreading.is_idle && self.commons.slots.takers() > 1 {
            self.spreading.is_idle = false;
            let all: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
            all.into_iter().for_each(|slot| self.suggest(slot));
        }
    }

    /// The peer has lost its slot: what it was suggested and was not sent is for others.
    pub(super) fn unsuggest(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let served = &peer.served;
        for piece in peer.suggestions.extract_if(.., |piece| !served.contains(piece)) {
            self.spreading.first.remove(&piece);
            self.commons.sightings.unsuggest(piece);
            // What was asked for unsuggested is among them still.
            self.spreading.fresh.iter_mut().for_each(|fresh| fresh.push(piece));
        }
    }

    /// The peer is gone: also what it was the first to be sent is for others, unless somebody has it; first for who waits for it.
    pub(super) fn unserve(&mut self, tag: Tag) {
        let sightings = &self.commons.sightings;
        let is_lost = |piece: &PieceIndex, first: &mut Tag| *first == tag && !sightings.is_seen(*piece);
        let lost = self.spreading.first.extract_if(is_lost);
        let mut lost: Vec<PieceIndex> = lost.map(|(piece, _)| piece).collect();
        if lost.is_empty() {
            return;
        }
        // The order of a map is anybody's guess.
        lost.sort_unstable();
        for piece in &lost {
            self.commons.sightings.unsuggest(*piece);
            self.spreading.fresh.iter_mut().for_each(|fresh| fresh.push(*piece));
        }
        let is_lost = |block: &Block| lost.binary_search(&block.piece).is_ok();
        let wishes = |(slot, peer): (PeerSlot, &Peer)| {
            peer.uploads
                .iter()
                .take(LOOK)
                .filter(|block| is_lost(block))
                .map(|block| (slot, block.piece))
                .collect::<Vec<_>>()
        };
        let wanted: Vec<_> = self.peers.iter().flat_map(wishes).collect();
        wanted.into_iter().for_each(|(slot, piece)| self.note_wanted(slot, piece));
    }

    /// The peer has been sent a whole piece. If nobody has it yet, it is for this peer to pass it on, whoever was suggested
    /// it.
    pub(super) fn note_served(&mut self, slot: PeerSlot, piece: PieceIndex) {
        self.see_passed();
        let Some(peer) = self.peers.get_mut(slot).filter(|_| self.have.is_full()) else { return };
        if peer.served.len() == MOST_SERVED {
            peer.served.pop_front();
        }
        peer.served.push_back(piece);
        self.precedence.note_given();
        if self.commons.sightings.is_seen(piece) {
            return;
        }
        peer.taken += u32::from(!peer.passes_on);
        let (tag, gives_way) = (peer.tag, !peer.passes_on || peer.held >= HOARD);
        // (Of several cores, each lets its part of them in.)
        if gives_way && self.commons.slots.waiting().div_ceil(self.commons.cores() as u32) > self.leaving() {
            // At once: it is in the middle of no piece.
            self.peers.get_mut(slot).into_iter().for_each(|peer| peer.leaves = Some(Duration::ZERO));
        }
        // Nor is it for peers of other cores.
        self.commons.sightings.suggest(piece);
        if let Some(other) = self.spreading.first.insert(piece, tag).filter(|other| *other != tag)
            && let Some(other) = self.peers.find(other)
            && let Some(other) = self.peers.get_mut(other)
        {
            other.suggestions.retain(|open| *open != piece);
        }
    }

    /// Peers that are about to give their slots to others. More than wait would only get them back, and all that they were
    /// suggested and have asked for would be others' by then.
    fn leaving(&self) -> u32 {
        self.peers.iter().filter(|(_, peer)| peer.unchoked && peer.leaves.is_some()).count() as u32
    }

    /// The peer asks for a piece. If nobody has it nor was suggested it, that is as good as to have suggested it: but of a few at a
    /// time, for nobody else is suggested those.
    pub(super) fn note_wanted(&mut self, slot: PeerSlot, piece: PieceIndex) {
        let (spreads, sightings) = (self.spreads(), &self.commons.sightings);
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| spreads && peer.unchoked) else { return };
        if peer.suggestions.len() >= MOST_SERVED || sightings.is_seen(piece) || !sightings.suggest(piece) {
            return;
        }
        peer.suggestions.push(piece);
        self.spreading.first.insert(piece, peer.tag);
    }

    /// The peer says that it has a piece.
    pub(super) fn note_spread(&mut self, slot: PeerSlot, piece: PieceIndex) {
        if !self.have.is_full() {
            return;
        }
        let first = self.spreading.first.get(&piece).copied();
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if first == Some(peer.tag) {
            peer.suggestions.retain(|open| *open != piece);
            peer.held += 1;
            return self.suggest_more(slot);
        }
        let ours = peer.served.contains(&piece);
        if !ours {
            self.precedence.passed += 1;
            self.commons.sightings.pass(piece);
        }
        if let Some(first) = first {
            self.settle_first(piece, first, ours);
        }
    }

    /// Looks for what peers of other cores have got of peers of this one.
    pub(super) fn see_passed(&mut self) {
        let passes = self.commons.sightings.passes();
        if self.commons.cores() == 1 || std::mem::replace(&mut self.spreading.passes, passes) == passes {
            return;
        }
        let first = self.spreading.first.iter().map(|(piece, tag)| (*piece, *tag));
        let mut passed: Vec<_> =
            first.filter(|(piece, _)| self.commons.sightings.is_passed(*piece)).collect();
        passed.sort_unstable();
        passed.into_iter().for_each(|(piece, first)| self.settle_first(piece, first, false));
    }

    /// Another peer has the piece than the first one; `ours`: that one, too, got it from us.
    fn settle_first(&mut self, piece: PieceIndex, first: Tag, ours: bool) {
        self.spreading.first.remove(&piece);
        let Some(giver) = self.peers.find(first) else { return };
        if let Some(giver_peer) = self.peers.get_mut(giver) {
            match (giver_peer.has.has(piece), ours) {
                (true, false) => {
                    giver_peer.held = giver_peer.held.saturating_sub(1);
                    giver_peer.passes_on = true;
                }
                (true, true) => {}
                (false, _) => giver_peer.suggestions.retain(|open| *open != piece),
            }
        }
        self.suggest_more(giver);
    }
}
