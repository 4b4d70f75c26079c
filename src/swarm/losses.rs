//! Pieces that we had and that the disk does not give back any more. A seed goes on with all others: nobody is served those, newcomers
//! do not hear of them, and who has heard is told that they are gone (BEP 54). Who would not understand that is sent away, and
//! hears anew when it comes back.

use super::commons::unpoisoned;
use super::hear::CROSSING;
use super::peer::Peer;
use super::speak::Speech;
use super::{DropReason, PeerSlot, Swarm};
use crate::metainfo::{Block, PieceIndex};
use crate::wire::extended::{Extension, encode_dont_have};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A disk that loses more pieces than this is no place to seed from.
const MOST_LOST: usize = 16;

/// The pieces that all cores of a torrent have lost, in the order in which they did.
#[derive(Debug, Default)]
pub(super) struct Losses {
    log: Mutex<Vec<PieceIndex>>,
    count: AtomicUsize,
}

/// What it means that a piece cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is lost: we go on without it.
    New,
    /// It was lost before.
    Known,
    /// The torrent cannot go on: it is being fetched still (the next start fetches this piece, too), or too little would be left.
    Grave,
}

impl Losses {
    /// Notes a piece; says what that means for a seed of so many.
    fn add(&self, piece: PieceIndex, had: u32) -> Loss {
        let mut log = unpoisoned(&self.log);
        if log.contains(&piece) {
            return Loss::Known;
        }
        if log.len() == MOST_LOST || log.len() + 1 >= had as usize {
            return Loss::Grave;
        }
        log.push(piece);
        self.count.store(log.len(), Ordering::Release);
        Loss::New
    }

    /// What was lost after the first so many pieces.
    fn after(&self, known: usize) -> Vec<PieceIndex> {
        if self.count.load(Ordering::Acquire) == known {
            return Vec::new();
        }
        unpoisoned(&self.log)[known..].to_vec()
    }
}

/// The pieces that a core knows to be lost, in that order: a few.
#[derive(Debug, Default)]
pub(super) struct Lost(Vec<PieceIndex>);

impl Lost {
    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.0.contains(&piece)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.0.iter().copied()
    }
}

impl Swarm {
    /// The disk does not give back a piece that we have.
    pub fn lose(&mut self, piece: PieceIndex) -> Loss {
        let loss = match self.is_seeding() {
            true => self.commons.losses.add(piece, self.have.count()),
            false => Loss::Grave,
        };
        if loss == Loss::New {
            self.totals.lost_pieces += 1;
            self.nudge = true;
        }
        self.see_losses();
        loss
    }

    /// Whether the piece was lost.
    pub fn is_lost(&self, piece: PieceIndex) -> bool {
        self.lost.has(piece)
    }

    /// Whether any was.
    pub fn has_losses(&self) -> bool {
        self.lost.len() > 0
    }

    /// Whether we have the piece, and can give it.
    pub fn gives(&self, piece: PieceIndex) -> bool {
        self.have.has(piece) && !self.is_lost(piece)
    }

    /// Looks for what this core and others have lost.
    pub(super) fn see_losses(&mut self) {
        for piece in self.commons.losses.after(self.lost.len()) {
            self.lost.0.push(piece);
            let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
            slots.into_iter().for_each(|slot| self.take_from(slot, piece));
        }
    }

    /// The peer does not get the piece any more, and is to be told.
    fn take_from(&mut self, slot: PeerSlot, piece: PieceIndex) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.dropped) else { return };
        peer.fast.forget(piece);
        peer.suggestions.retain(|other| *other != piece);
        peer.serving = peer.serving.filter(|(other, _)| *other != piece);
        let spread = &self.commons.spread;
        peer.shown.iter_mut().for_each(|shown| _ = shown.close(spread, |offer| offer.piece != piece));
        let waiting = peer.uploads.drain(|block| block.piece != piece);
        self.refuse(slot, waiting);
        self.wake(slot);
    }

    /// These blocks were taken to be sent to the peer, and cannot be read.
    pub fn cannot_send(&mut self, slot: PeerSlot, blocks: impl IntoIterator<Item = Block>) {
        let blocks: Vec<Block> = blocks.into_iter().collect();
        for block in &blocks {
            self.totals.requests.served -= 1;
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            peer.leaving = peer.leaving.saturating_sub(block.len.into());
            // All of the piece may have been taken: then it counts as given, and has perhaps cost the peer its slot.
            if let Some(at) = peer.served.iter().rposition(|served| *served == block.piece) {
                peer.served.remove(at);
                let counted = !peer.passes_on && !self.commons.sightings.is_seen(block.piece);
                peer.taken = peer.taken.saturating_sub(counted.into());
                peer.leaves = peer.leaves.filter(|at| !at.is_zero());
            }
        }
        self.refuse(slot, blocks);
    }

    /// Requests that were taken are not served.
    fn refuse(&mut self, slot: PeerSlot, blocks: Vec<Block>) {
        for block in blocks {
            self.totals.requests.refused += 1;
            if let Err(reason) = self.reject(slot, [block.piece.get(), block.begin, block.len]) {
                return self.drop_peer(slot, reason);
            }
        }
    }

    /// Tells the peer what we have lost of what it has heard that we have.
    pub(super) fn say_losses(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        // By its hello it says whether it understands the message. Without rejects it would wait for what it has asked for.
        let (fast, known) = (peer.fast.on, peer.told_lost);
        if known == self.lost.len() || fast && peer.extended.is_to_greet() {
            return;
        }
        (peer.told_lost, peer.told_lost_at) = (self.lost.len(), Some(now));
        let misses = |piece: &PieceIndex| {
            !peer.has.has(*piece) && peer.shown.as_ref().is_none_or(|shown| shown.has(*piece))
        };
        let missed: Vec<PieceIndex> = self.lost.iter().skip(known).filter(misses).collect();
        match (peer.extended.ids.get(Extension::DontHave).filter(|_| fast), missed.first()) {
            (Some(id), _) => {
                missed.iter().for_each(|piece| speech.say_extended(id, &encode_dont_have(piece.get())))
            }
            (None, Some(piece)) => self.drop_peer(slot, DropReason::Lost(*piece)),
            (None, None) => {}
        }
    }

    /// Whether the peer may not have known yet that the piece is lost when it asked for it.
    pub(super) fn has_just_lost(&self, now: Duration, peer: &Peer, piece: PieceIndex) -> bool {
        let told = || peer.told_lost_at.is_some_and(|at| now < at + CROSSING);
        self.is_lost(piece) && (peer.told_lost < self.lost.len() || told())
    }
}
