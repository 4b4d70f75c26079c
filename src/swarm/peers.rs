//! All connected peers of a swarm, each in a place of its own.

use super::Tag;
use super::active::ActivePiece;
use super::peer::Peer;
use crate::metainfo::PieceIndex;
use std::collections::HashMap;

/// A connected peer's place in its swarm. A place that is used again gets a new generation, so an old slot never
/// names a new peer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PeerSlot {
    index: u32,
    generation: u32,
}

impl PeerSlot {
    /// The number of the place.
    pub fn index(self) -> u32 {
        self.index
    }
}

/// All connected peers of a swarm.
#[derive(Debug, Default)]
pub(super) struct Peers {
    places: Vec<(u32, Option<Peer>)>,
    free: Vec<u32>,
    /// Where each is.
    by_tag: HashMap<Tag, PeerSlot>,
    /// How often all of them were gone through.
    #[cfg(test)]
    pub(super) rounds: std::cell::Cell<usize>,
}

impl Peers {
    pub(super) fn insert(&mut self, peer: Peer) -> PeerSlot {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            self.places.len() as u32 - 1
        });
        let (generation, place) = &mut self.places[index as usize];
        let slot = PeerSlot { index, generation: *generation };
        self.by_tag.insert(peer.tag, slot);
        *place = Some(peer);
        slot
    }

    pub(super) fn remove(&mut self, slot: PeerSlot) -> Option<Peer> {
        let tag = self.get(slot)?.tag;
        self.by_tag.remove(&tag);
        let (generation, place) = &mut self.places[slot.index as usize];
        *generation += 1;
        self.free.push(slot.index);
        place.take()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_tag.len()
    }

    /// Who goes on with the piece: its owner, unless that has gone on to another.
    pub(super) fn owner(&self, active: &ActivePiece) -> Option<(PeerSlot, &Peer)> {
        let slot = active.owner?;
        self.get(slot).filter(|owner| owner.current == Some(active.piece)).map(|owner| (slot, owner))
    }

    pub(super) fn get(&self, slot: PeerSlot) -> Option<&Peer> {
        let (generation, place) = self.places.get(slot.index as usize)?;
        place.as_ref().filter(|_| *generation == slot.generation)
    }

    pub(super) fn get_mut(&mut self, slot: PeerSlot) -> Option<&mut Peer> {
        let (generation, place) = self.places.get_mut(slot.index as usize)?;
        place.as_mut().filter(|_| *generation == slot.generation)
    }

    /// The connection of that name, if it is still there.
    pub(super) fn find(&self, tag: Tag) -> Option<PeerSlot> {
        self.by_tag.get(&tag).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerSlot, &Peer)> {
        #[cfg(test)]
        self.rounds.update(|rounds| rounds + 1);
        self.places.iter().enumerate().filter_map(|(index, (generation, place))| {
            let slot = PeerSlot { index: index as u32, generation: *generation };
            place.as_ref().map(|peer| (slot, peer))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerSlot, &mut Peer)> {
        self.places.iter_mut().enumerate().filter_map(|(index, (generation, place))| {
            let slot = PeerSlot { index: index as u32, generation: *generation };
            place.as_mut().map(|peer| (slot, peer))
        })
    }

    /// Whether some peer has the piece and sends what it is asked for, as far as is known.
    pub(super) fn any_goes_on(&self, piece: PieceIndex) -> bool {
        self.iter().any(|(_, peer)| !peer.dropped && !peer.chokes_us && !peer.snubbed && peer.has.has(piece))
    }
}
