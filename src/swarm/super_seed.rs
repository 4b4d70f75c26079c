//! Super-seeding (BEP 16): a seed that shows each peer one piece or two at a time, and the next when another peer is seen
//! to have one of them. So nearly every byte that goes up is one that the others did not have.
//!
//! Who is alone, or gets pieces of us and for a while nothing of others, has nobody to pass anything on to as far as is seen. For
//! such a one a piece has done its work when it was sent, and twice as many are shown at a time whenever it has run dry: it may
//! ask but now and then.

use super::peer::Peer;
use super::shown::{Offer, Shown};
use super::{PeerSlot, Swarm};
use crate::metainfo::PieceIndex;
use std::time::Duration;

/// What a peer has not asked for in this time it does not want; the shorter one if there is nobody else who might.
const UNASKED: Duration = Duration::from_secs(10);
const UNASKED_ALONE: Duration = Duration::from_secs(2);
/// One that has neither asked for anything nor got anything for so long takes no part; the shorter one if it never has.
const QUIET: Duration = Duration::from_secs(30);
const QUIET_NEWCOMER: Duration = Duration::from_secs(10);
/// Who has had nothing to do for so long is shown what others have too: of them it seems to get nothing.
const LULL: Duration = Duration::from_secs(1);
/// Who has had pieces of us for so long, and none of others, is taken for one that cannot reach them.
const LONE: Duration = Duration::from_secs(2);
/// That a peer is not interested says nothing of what it was shown so late: the two may have crossed on the way.
const CROSSING: Duration = Duration::from_secs(1);

/// Whether all that a peer asked for was sent.
fn is_served(peer: &Peer) -> bool {
    peer.uploads.is_empty() && peer.leaving == 0
}

/// Since when a peer has asked for nothing, as far as it could.
fn idle_since(peer: &Peer) -> Duration {
    peer.last_asked.max(peer.unchoked_since)
}

/// Whether a peer wants a slot first.
fn waits(peer: &Peer) -> bool {
    peer.interested && !peer.unchoked
}

/// Whether others may be given what the peer gets, and it may be given what they get, as far as is seen.
fn takes_part(now: Duration, peer: &Peer) -> bool {
    if peer.has.is_full() || peer.dropped {
        return false;
    }
    let told = peer.shown.as_ref().and_then(|shown| shown.told);
    let sign = peer.last_asked.max(told.unwrap_or_default());
    let patience = if sign > peer.since { QUIET } else { QUIET_NEWCOMER };
    // The first slot may be long in coming.
    let waits = waits(peer) && peer.choked_at.is_none();
    let begun = if peer.unchoked { sign.max(peer.unchoked_since) } else { sign };
    waits || now < begun + patience || !is_served(peer)
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
        // It was counted when it was shown the piece.
        let counted = peer.shown.as_mut().is_some_and(|shown| shown.has(piece) && !shown.revive(piece));
        let offers = peer.shown.iter_mut().flat_map(|shown| &mut shown.open);
        offers.filter(|offer| offer.piece == piece).for_each(|offer| offer.had = Some(now));
        if counted {
            self.close_had(slot);
        } else {
            peer.shown.iter_mut().for_each(|shown| shown.trades());
            self.commons.spread.gain(piece);
        }
        // Most pieces nobody waits for, and all peers are looked at only for those that somebody does.
        if !self.commons.spread.is_awaited(piece) {
            return;
        }
        // Who was shown the piece may have passed it on: they get the next. (There are at most a few on this core.)
        let others = self.peers.iter().filter(|(other, peer)| {
            *other != slot && peer.shown.as_ref().is_some_and(|shown| shown.awaits(piece))
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
        let has_spread =
            |shown: &Shown| shown.open.iter().any(|offer| spread.count(offer.piece) > offer.spread);
        let givers =
            self.peers.iter().filter(|(_, peer)| peer.shown.as_ref().is_some_and(|shown| has_spread(shown)));
        let givers: Vec<PeerSlot> = givers.map(|(slot, _)| slot).collect();
        givers.into_iter().for_each(|slot| self.review_offers(now, slot));
    }

    /// The peer has gone: what it had counts no more.
    pub(super) fn forget_spread(&self, peer: &mut Peer) {
        if !self.settings.super_seed {
            return;
        }
        let spread = &self.commons.spread;
        peer.shown.iter_mut().for_each(|shown| _ = shown.close(spread, |_| false));
        let piece = |number| self.layout.piece(number);
        let had = peer.has.numbers().filter_map(piece);
        let shown = peer.shown.iter().flat_map(|shown| {
            let counted = shown.numbers().filter_map(piece).filter(|piece| shown.counts(*piece));
            counted.filter(|piece| !peer.has.has(*piece))
        });
        had.chain(shown).for_each(|piece| spread.lose(piece));
    }

    /// Counts those of this core's peers that take part, for all cores: when one comes or goes, and once a tick.
    pub(super) fn count_leeches(&mut self, now: Duration) {
        if !self.settings.super_seed {
            return;
        }
        let mut leeches = 0;
        if self.peers.iter().any(|(_, peer)| !is_served(peer)) {
            self.gave = now;
        }
        for (_, peer) in self.peers.iter_mut() {
            let counted = takes_part(now, peer);
            leeches += usize::from(counted);
            peer.shown.iter_mut().for_each(|shown| shown.counted = counted);
        }
        self.commons.tell_leeches(self.core, leeches);
    }

    /// The peer says that it has got a piece, of whomever.
    pub(super) fn note_got(&mut self, now: Duration, slot: PeerSlot) {
        if let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) {
            shown.told = Some(now);
        }
    }

    /// The peer asks for a block of a piece. Who was silent until now takes part again.
    pub(super) fn note_shown_asked(&mut self, now: Duration, slot: PeerSlot, piece: PieceIndex) {
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        if shown.revive(piece) {
            shown.offer(now, piece, &self.commons.spread);
        }
        if !shown.counted {
            self.count_leeches(now);
        }
    }

    /// The peer was sent all of a piece. If it is alone it is shown the next at once.
    pub(super) fn note_shown_sent(&mut self, slot: PeerSlot) {
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        let alone = shown.settle_alone(self.commons.has_one_leech_at_most());
        if shown.close_spread(&self.commons.spread, |offer| !(alone && offer.sent)) > 0 {
            self.wake(slot);
        }
    }

    /// Payload has gone out to the peer.
    pub(super) fn note_shown_left(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| is_served(peer)) else { return };
        let Some(shown) = peer.shown.as_mut() else { return };
        if shown.settle_alone(self.commons.has_one_leech_at_most()) {
            shown.run_dry();
            self.wake(slot);
        }
    }

    /// The peer has lost interest: it has what it was shown, wherever it got it. Not every client tells a peer of pieces that the
    /// peer has.
    pub(super) fn note_had_all(&mut self, now: Duration, slot: PeerSlot) {
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        let heard = shown.open.iter_mut().filter(|offer| now >= offer.since + CROSSING);
        heard.for_each(|offer| _ = offer.had.get_or_insert(now));
        self.close_had(slot);
    }

    /// Closes offers of what the peer has and was not sent: it got that from another who had it or was shown it.
    fn close_had(&mut self, slot: PeerSlot) {
        let spread = &self.commons.spread;
        let Some(shown) = self.peers.get_mut(slot).and_then(|peer| peer.shown.as_mut()) else { return };
        if shown.open.iter().any(|offer| offer.is_of_others() && spread.count(offer.piece) > 1) {
            shown.trades();
        }
        let kept = |offer: &Offer| offer.had.is_none() || offer.sent || spread.count(offer.piece) < 2;
        if shown.close(spread, kept) > 0 {
            self.wake(slot);
        }
    }

    /// Closes the offers that have done their work or never will, and has the peer told of others.
    pub(super) fn review_offers(&mut self, now: Duration, slot: PeerSlot) {
        let only = self.commons.has_one_leech_at_most();
        let spread = &self.commons.spread;
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let (idle, served, waits) = (idle_since(peer), is_served(peer), waits(peer));
        let Some(shown) = peer.shown.as_mut() else { return };
        shown.look_if_lone(now, LONE, only);
        let alone = shown.settle_alone(only);
        for offer in &mut shown.open {
            // Of those who had it some may have gone.
            offer.spread = offer.spread.min(spread.count(offer.piece));
            if offer.sent {
                offer.had.get_or_insert(now);
            }
        }
        shown.close_spread(spread, |offer| {
            !(alone && offer.had.is_some()) && spread.count(offer.piece) <= offer.spread
        });
        let (patience, times) = match (waits, only) {
            (true, _) => (QUIET, 1),
            (false, true) => (UNASKED_ALONE, usize::MAX),
            (false, false) => (UNASKED, 2),
        };
        let unasked = |offer: &Offer| served && now >= idle.max(offer.since) + patience;
        shown.close_vain(now, spread, self.layout.piece_length(), unasked, times);
        // What goes to one peer alone is sent once, however much: better that than a link that lies idle.
        if served && !waits && now >= self.gave.max(idle) + LULL {
            shown.hurry(now, spread, LULL);
        }
        if (shown.has_room(true) || shown.has_room(false)) && now >= shown.look {
            self.wake(slot);
        }
    }

    /// The next piece to show the peer, of those that the fewest have.
    pub(super) fn next_offer(&mut self, now: Duration, slot: PeerSlot) -> Option<PieceIndex> {
        let spread = &self.commons.spread;
        let peer = self.peers.get_mut(slot)?;
        let begun = (is_served(peer) && !waits(peer)).then(|| idle_since(peer));
        let shown = peer.shown.as_mut()?;
        let rooms = [true, false].map(|fresh| shown.has_room(fresh));
        if rooms == [false; 2] || now < shown.look {
            return None;
        }
        let lull =
            shown.alone || begun.is_some_and(|at| now >= at.max(shown.told.unwrap_or_default()) + LULL);
        let again = rooms[1] && lull;
        let lost = &self.lost;
        let lacks = |piece: &PieceIndex| !peer.has.has(*piece) && !shown.has(*piece) && !lost.has(*piece);
        let count = self.layout.piece_count();
        let start = self.rng.u32(..count);
        let turned = (start..count).chain(0..start).filter_map(|number| self.layout.piece(number));
        let rank = |piece: &PieceIndex| (spread.count(*piece), spread.is_awaited(*piece));
        let piece = turned.filter(lacks).min_by_key(rank);
        let Some(piece) = piece.filter(|piece| if spread.count(*piece) > 0 { again } else { rooms[0] })
        else {
            // What it has to look through is long, and changes little until then.
            shown.look = now + LULL / 2;
            return None;
        };
        shown.offer(now, piece, spread);
        Some(piece)
    }
}
