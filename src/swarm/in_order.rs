//! Playing while downloading: pieces come in order, and one slow peer does not hold up those after it.
//!
//! Who would bring a piece long after the others is given one that is played later. And who is fast looks now and then, also
//! in the middle of a later piece, whether there is something to do at the playhead: a piece that nobody has begun, one that a
//! slow peer has, which it takes over, or blocks that another core lacks; and it is asked once more for blocks that would come
//! much later. So little comes twice: of the first pieces only, and of these what is worth waiting for least.

use super::active::ActivePiece;
use super::commons::Lacking;
use super::lateness::{LEAST_GAIN, is_longer};
use super::peer::{Asked, Peer};
use super::speak::Speech;
use super::{PeerSlot, Swarm};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use std::time::Duration;

/// So many bytes ahead of the first that is lacking; behind that, the rarest come first.
const AHEAD: u32 = 32 * 1024 * 1024;
/// The same in pieces, at least.
const LEAST_AHEAD: u32 = 8;
/// The slowest skip so many times that.
const MOST_SKIPPED: u32 = 4;
/// Seconds in which a block comes of somebody who sends nothing.
const NEVER: f64 = 1e6;
/// Unfinished pieces at the playhead that are looked at.
const HEAD: usize = 2;
/// Who found nothing to do there looks again after so long.
const LOOK: Duration = Duration::from_millis(250);

impl Swarm {
    /// Pieces between the playhead and what the peer can bring in time: as many as all peers together bring while it brings one,
    /// when that takes it much longer than the fastest.
    fn skips(&self, peer: &Peer) -> u32 {
        let (all, fastest) = self.commons.speeds();
        if fastest == 0 {
            return 0;
        }
        let (len, own) = (f64::from(self.layout.piece_length()), f64::from(BLOCK_LEN) / peer.block_seconds());
        if is_longer(len / own, len / fastest as f64) { (all as f64 / own) as u32 } else { 0 }
    }

    /// The next piece for the peer, if there is one within what is fetched in order. Does not take it.
    pub(super) fn next_in_order(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let peer = self.peers.get(slot)?;
        let window = (AHEAD / self.layout.piece_length()).max(LEAST_AHEAD);
        let skip = self.skips(peer).min(MOST_SKIPPED * window);
        let (have, selection) = (&self.have, &self.commons.selection);
        let done = |piece| have.has(piece) || !selection.wants(piece);
        loop {
            let next = self.picker.pick_in_order(&peer.has, (window, skip), &self.layout, done)?;
            if self.commons.map.is_missing(next) {
                return Some(next);
            }
            // Another core has claimed it.
            self.picker.remove(next);
        }
    }

    /// The first pieces that are begun and not all here.
    pub(super) fn heads(&self) -> Vec<PieceIndex> {
        let filling = self.active.values().filter(|active| active.is_filling());
        let mut heads: Vec<PieceIndex> = filling.map(|active| active.piece).collect();
        heads.sort_by_key(|piece| self.place(*piece));
        heads.truncate(HEAD);
        heads
    }

    /// Pieces that were begun and left, and that this peer shall not go on with. (What is put to the vote may wait for just this
    /// peer. And what one alone is to send no other core is shown: a slow one is better than none.)
    pub(super) fn spared(&self, peer: &Peer) -> Vec<PieceIndex> {
        if !self.settings.sequential || self.skips(peer) == 0 {
            return Vec::new();
        }
        let mut heads = self.heads();
        let is_others = |active: &ActivePiece| !active.is_choosy() && !active.is_sole();
        heads.retain(|piece| self.active.get(piece).is_some_and(is_others));
        heads
    }

    /// A block at the playhead that comes much later than this peer brings it, before those of a piece that is played later. Counts as
    /// asked.
    pub(super) fn urgent(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) -> Option<Block> {
        if !self.settings.sequential {
            return None;
        }
        let (tag, current, looked) =
            self.peers.get(slot).map(|peer| (peer.tag, peer.current, peer.looked))?;
        let active = current.and_then(|piece| self.active.get_mut(&piece));
        let mut active = active.filter(|active| active.owner == Some(slot));
        let going_on = active.take_if(|active| active.next_missing_of(tag).is_some());
        // What one alone shall send is not left in the middle.
        if going_on.as_ref().is_some_and(|active| active.is_sole()) {
            return None;
        }
        let current = going_on.map(|active| active.piece);
        if looked.is_some_and(|(at, then)| then == current && now < at + LOOK) {
            return None;
        }
        let peer = self.peers.get(slot)?;
        // What a slow peer takes from a slower one, nobody fast is asked for.
        let fit = !peer.chokes_us && !peer.snubbed && peer.pace().is_some() && self.skips(peer) == 0;
        let found = if fit { self.before_current(now, slot, current, speech) } else { None };
        self.peers.get_mut(slot)?.looked = Some((now, current)).filter(|_| found.is_none());
        found
    }

    /// What is more urgent than the piece that the peer goes on with, if there is one.
    fn before_current(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        current: Option<PieceIndex>,
        speech: &mut Speech<'_>,
    ) -> Option<Block> {
        let own = self.peers.get(slot).map(|peer| peer.backlog_seconds() + peer.block_seconds())?;
        let mut next = self.next_to_begin(slot);
        if current.is_some_and(|current| self.is_before(current, next)) {
            next = current;
        }
        let mut heads = self.heads();
        heads.retain(|piece| self.is_before(*piece, next));
        for piece in heads {
            // What another core has at the playhead may come before that.
            let found = self.errand(slot, Some((own, piece)));
            if found.is_some() {
                return found;
            }
            let found = if self.outdoes(slot, piece, speech.slabs) {
                self.give_piece(slot, piece);
                self.current_block(slot, speech)
            } else {
                None
            };
            if let Some(found) = found.or_else(|| self.overdue(now, slot, piece)) {
                return self.ask(found);
            }
        }
        if current.is_some() && current != next && speech.slabs > 0 && !self.is_starved() {
            // What it goes on with is played later than what nobody has begun.
            self.disown_piece(slot);
        }
        self.errand(slot, Some((own, next?)))
    }

    /// Whether a piece is played before another, if there is one.
    fn is_before(&self, piece: PieceIndex, other: Option<PieceIndex>) -> bool {
        other.is_none_or(|other| self.place(piece) < self.place(other))
    }

    /// Whether the peer is to begin a piece before it goes on with one that was left.
    pub(super) fn begins_before(&mut self, slot: PeerSlot, left: PieceIndex) -> bool {
        let asks = self.peers.get(slot).is_some_and(|peer| !peer.chokes_us && self.skips(peer) == 0);
        self.settings.sequential && asks && {
            let next = self.next_to_begin(slot);
            next.is_some_and(|next| self.is_before(next, Some(left)))
        }
    }

    /// The next piece in order that the peer may begin.
    fn next_to_begin(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let next = self.next_in_order(slot)?;
        (!self.commons.map.is_suspect(next) || !self.is_barred(slot, next)).then_some(next)
    }

    /// Whether the peer may fetch this for another core: of what is played soon and is merely slow to come it would have a block for
    /// itself alone that somebody fast brings sooner.
    pub(super) fn may_fetch(&self, peer: &Peer, lacking: &Lacking) -> bool {
        !self.settings.sequential || lacking.wait.as_secs_f64() >= NEVER || self.skips(peer) == 0
    }

    /// Where in the order the piece is.
    pub(super) fn place(&self, piece: PieceIndex) -> (u8, bool, PieceIndex) {
        self.picker.place(piece)
    }

    /// Whether what another core lacks is played before a piece, and comes much later than in `own` seconds.
    pub(super) fn is_urgent(&self, lacking: &Lacking, own: f64, next: PieceIndex) -> bool {
        let earlier = self.place(lacking.block.piece) < self.place(next);
        !lacking.whole && earlier && is_longer(lacking.wait.as_secs_f64(), own)
    }

    /// Whether blocks of the piece that nobody was asked for come by its owner much later than by this peer, or it was left.
    fn outdoes(&mut self, slot: PeerSlot, piece: PieceIndex, slabs: usize) -> bool {
        let Some(active) = self.active.get_mut(&piece).filter(|active| !active.is_sole()) else {
            return false;
        };
        let peer = self.peers.get(slot).filter(|peer| peer.offers(piece) && active.may_ask(peer.tag, slabs));
        let Some(peer) = peer else { return false };
        let (owner, blocks) = (self.peers.owner(active), active.lacks() as f64);
        let own = peer.backlog_seconds() + blocks * peer.block_seconds();
        owner.is_none_or(|(other, owner)| other != slot && is_longer(blocks * owner.block_seconds(), own))
    }

    /// The first block of the piece that whoever was asked for it brings much later than this peer would.
    fn overdue(&self, now: Duration, slot: PeerSlot, piece: PieceIndex) -> Option<(PieceIndex, usize)> {
        let (active, peer) = (self.active.get(&piece)?, self.peers.get(slot)?);
        if active.is_sole() || !peer.offers(piece) {
            return None;
        }
        let own = peer.backlog_seconds() + peer.block_seconds();
        let mut comes = vec![false; active.blocks.len()];
        for (holder, peer, asked) in self.asked_of(piece) {
            let slow = || self.is_slow(now, peer, asked, own) || self.is_late(now, peer, asked);
            comes[asked.block.index()] |= holder == slot || !slow();
        }
        let open = |index: &usize| {
            let state = &active.blocks[*index];
            let waits = state.asked > 0 && state.asked < u8::MAX && !state.is_received() && !state.away;
            waits && !comes[*index] && active.hears(*index, peer.tag)
        };
        (0..active.blocks.len()).find(open).map(|index| (piece, index))
    }

    /// All that peers were asked for of a piece.
    fn asked_of(&self, piece: PieceIndex) -> impl Iterator<Item = (PeerSlot, &Peer, &Asked)> {
        self.peers.iter().flat_map(move |(slot, peer)| {
            let asked = peer.asked.iter().filter(move |asked| asked.block.piece == piece);
            asked.map(move |asked| (slot, peer, asked))
        })
    }

    /// What other cores may fetch for us before they begin pieces that are played later: `most` blocks at the playhead, by the time in
    /// which they come.
    pub(super) fn lacking_at_playhead(&self, now: Duration, most: usize) -> Vec<Lacking> {
        if !self.settings.sequential || self.is_seeding() {
            return Vec::new();
        }
        let heads = self.heads().into_iter().filter_map(|piece| self.active.get(&piece));
        let heads = heads.filter(|active| !active.is_sole());
        heads.flat_map(|active| self.lacking_of(now, active)).take(most).collect()
    }

    /// Blocks of a piece that are long in coming: what nobody was asked for before what somebody else may bring first.
    fn lacking_of(&self, now: Duration, active: &ActivePiece) -> impl Iterator<Item = Lacking> {
        let owner = self.peers.owner(active);
        let unasked = owner.map_or(NEVER, |(_, owner)| active.lacks() as f64 * owner.block_seconds());
        let mut waits = vec![NEVER; active.blocks.len()];
        for (_, peer, asked) in self.asked_of(active.piece) {
            let gone = self.is_mute(now, peer, asked) || self.is_late(now, peer, asked);
            if !gone {
                let wait = &mut waits[asked.block.index()];
                *wait = wait.min(peer.seconds_until(&asked.block));
            }
        }
        let of = move |is_asked: bool| {
            (0..active.blocks.len()).filter(move |index| (active.blocks[*index].asked > 0) == is_asked)
        };
        let waits = of(false)
            .map(move |index| (index, unasked))
            .chain(of(true).map(move |index| (index, waits[index])));
        waits.filter(|(_, seconds)| *seconds > LEAST_GAIN).filter_map(move |(index, seconds)| {
            let block = self.layout.nth_block(active.piece, index);
            let wait = Duration::from_secs_f64(seconds.min(NEVER));
            self.may_come(now, active, &block).then_some(Lacking { block, wait, whole: false })
        })
    }
}
