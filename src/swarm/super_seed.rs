//! Super-seeding (BEP 16): a seed that shows each peer one piece or two at a time, and the next when another peer is seen
//! to have one of them. So nearly every byte that goes up is one that the others did not have.

use super::bitfield::Bitfield;
use super::peer::Peer;
use super::spread::Spread;
use super::{PeerSlot, Swarm};
use crate::metainfo::PieceIndex;
use std::sync::Arc;
use std::time::Duration;

/// Pieces that one peer is shown before any of them is seen elsewhere: one to fetch while the other spreads.
const OPEN: usize = 2;
/// A peer that has had a piece for this long gets the next, seen elsewhere or not: perhaps nobody wants it of that peer.
const STALL: Duration = Duration::from_secs(30);

/// A piece that was shown to a peer.
#[derive(Clone, Copy, Debug)]
struct Offer {
    piece: PieceIndex,
    /// How many had it, or had been shown it, then; this peer counted.
    spread: u32,
    /// Since when the peer has it, by its own word or because it was sent all of it.
    had: Option<Duration>,
    /// All of it was sent. Not every client tells a peer of pieces that the peer has.
    sent: bool,
}

/// What one peer has been shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// What it may ask for.
    pieces: Bitfield,
    open: Vec<Offer>,
}

impl Shown {
    pub(super) fn new(pieces: u32) -> Self {
        Self { pieces: Bitfield::new(pieces), open: Vec::new() }
    }

    /// Whether the peer may ask for the piece.
    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.pieces.has(piece)
    }

    /// Closes the offers that are not to be kept.
    fn close(&mut self, spread: &Spread, kept: impl Fn(&Offer) -> bool) {
        self.open.extract_if(.., |offer| !kept(offer)).for_each(|offer| spread.close(offer.piece));
    }
}

impl Swarm {
    /// Whether peers that come now are shown pieces one by one.
    pub(super) fn is_super_seed(&self) -> bool {
        self.settings.super_seed && self.have.is_full()
    }

    /// A peer says that it has a piece, for the first time.
    pub(super) fn see_spread(&mut self, now: Duration, slot: PeerSlot, piece: PieceIndex) {
        if !self.settings.super_seed {
            return;
        }
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let mut shown = peer.shown.as_mut().filter(|shown| shown.has(piece));
        // It was counted when it was shown the piece.
        let counted = shown.is_some();
        let offers = shown.iter_mut().flat_map(|shown| &mut shown.open);
        offers.filter(|offer| offer.piece == piece).for_each(|offer| offer.had = Some(now));
        if counted {
            self.close_had(slot);
        } else {
            self.commons.spread.gain(piece);
        }
        // Who was shown the piece may have passed it on: they get the next. (There are at most a few on this core.)
        let others = self.peers.iter().filter(|(other, peer)| {
            *other != slot
                && peer.shown.as_ref().is_some_and(|shown| shown.open.iter().any(|o| o.piece == piece))
        });
        let others: Vec<PeerSlot> = others.map(|(other, _)| other).collect();
        others.into_iter().for_each(|other| self.review_offers(now, other));
        // Or it was a peer of another core, which hears of it at once.
        self.nudge |= !counted && self.commons.spread.is_awaited(piece);
    }

    /// Looks for offers of this core that peers of others have spread.
    pub(super) fn see_others_spread(&mut self, now: Duration) {
        if !self.settings.super_seed {
            return;
        }
        let spread = &self.commons.spread;
        let has_spread = |offer: &Offer| spread.count(offer.piece) > offer.spread;
        let givers = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.shown.as_ref().is_some_and(|shown| shown.open.iter().any(has_spread)));
        let givers: Vec<PeerSlot> = givers.map(|(slot, _)| slot).collect();
        givers.into_iter().for_each(|slot| self.review_offers(now, slot));
    }

    /// The peer has gone: what it had counts no more.
    pub(super) fn forget_spread(&self, peer: &mut Peer) {
        if !self.settings.super_seed {
            return;
        }
        let spread = &self.commons.spread;
        peer.shown.iter_mut().for_each(|shown| shown.close(spread, |_| false));
        let counted = |piece: &PieceIndex| {
            peer.has.has(*piece) || peer.shown.as_ref().is_some_and(|shown| shown.has(*piece))
        };
        self.layout.pieces().filter(counted).for_each(|piece| spread.lose(piece));
    }

    /// Counts those of this core's peers that have not everything, for all cores: once a tick, not once a peer.
    pub(super) fn count_leeches(&self) {
        if self.settings.super_seed {
            let leeches = self.peers.iter().filter(|(_, peer)| !peer.has.is_full()).count();
            self.commons.tell_leeches(self.core, leeches);
        }
    }

    /// The peer was sent a whole piece. If it is alone it is shown the next at once.
    pub(super) fn note_shown_sent(&mut self, slot: PeerSlot, piece: PieceIndex) {
        let commons = Arc::clone(&self.commons);
        let alone = commons.leeches() < 2;
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        let before = shown.open.len();
        shown.open.iter_mut().filter(|offer| offer.piece == piece).for_each(|offer| offer.sent = true);
        shown.close(&commons.spread, |offer| !(alone && offer.sent));
        if shown.open.len() < before {
            self.wake(slot);
        }
    }

    /// The peer has lost interest: it has what it was shown, wherever it got it. Not every client tells a peer of pieces that the
    /// peer has.
    pub(super) fn note_had_all(&mut self, now: Duration, slot: PeerSlot) {
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        shown.open.iter_mut().for_each(|offer| _ = offer.had.get_or_insert(now));
        self.close_had(slot);
    }

    /// Closes offers of what the peer has and was not sent: it got that from another who had it or was shown it.
    fn close_had(&mut self, slot: PeerSlot) {
        let spread = &self.commons.spread;
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        let before = shown.open.len();
        shown.close(spread, |offer| offer.had.is_none() || offer.sent || spread.count(offer.piece) < 2);
        if shown.open.len() < before {
            self.wake(slot);
        }
    }

    /// Closes the offers that have done their work, and has the peer told of others.
    pub(super) fn review_offers(&mut self, now: Duration, slot: PeerSlot) {
        let commons = Arc::clone(&self.commons);
        // One that is alone, on whatever core, has nobody to give anything to.
        let alone = commons.leeches() < 2;
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        for offer in shown.open.iter_mut().filter(|offer| offer.sent) {
            offer.had.get_or_insert(now);
        }
        shown.close(&commons.spread, |offer| {
            let waited = offer.had.is_some_and(|had| alone || now >= had + STALL);
            !waited && commons.spread.count(offer.piece) <= offer.spread
        });
        if shown.open.len() < OPEN {
            self.wake(slot);
        }
    }

    /// The next piece to show the peer, of those that the fewest have.
    pub(super) fn next_offer(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let peer = self.peers.get_mut(slot)?;
        let shown = peer.shown.as_mut().filter(|shown| shown.open.len() < OPEN)?;
        let lacks = |piece: &PieceIndex| !peer.has.has(*piece) && !shown.pieces.has(*piece);
        let count = self.layout.piece_count();
        let start = self.rng.u32(..count);
        let turned = (start..count).chain(0..start).filter_map(|number| self.layout.piece(number));
        let piece = turned.filter(lacks).min_by_key(|piece| self.commons.spread.count(*piece))?;
        shown.pieces.insert(piece);
        let spread = self.commons.spread.offer(piece);
        shown.open.push(Offer { piece, spread, had: None, sent: false });
        Some(piece)
    }
}
