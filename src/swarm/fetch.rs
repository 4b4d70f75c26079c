//! Fetching: which block to ask a peer for, and how that is taken back.

use super::active::ActivePiece;
use super::peer::{Asked, Peer};
use super::speak::Speech;
use super::{PeerSlot, Swarm};
use crate::metainfo::{Block, PieceIndex};
use std::time::Duration;

/// Who needs more seconds for a whole piece has none for itself. That is long: of a piece that many have sent it is less clear
/// who has spoiled it.
const WHOLE_PIECE: f64 = 300.0;
/// The same while we have nothing: parts of pieces cannot be traded, and who gives us the first may have no second turn for us.
const FIRST_PIECE: f64 = 5.0;

impl Swarm {
    // ---- asking ----

    /// The next block to ask the peer for. Counts as asked.
    pub(super) fn next_request(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        speech: &mut Speech<'_>,
    ) -> Option<Block> {
        let peer = self.peers.get(slot).filter(|peer| peer.is_hungry())?;
        if self.is_to_wait(now, peer) {
            return None;
        }
        let idle = peer.asked.is_empty();
        let block = self.urgent(now, slot, speech).or_else(|| self.go_on(now, slot, speech));
        if block.is_none() && idle {
            if self.take_over(slot) {
                // It is to be begun once the memory of this try is given back.
                self.wake(slot);
            }
            self.report_idle();
        }
        let peer = self.peers.get_mut(slot)?;
        peer.asked.push_back(Asked { block: block?, at: now });
        peer.tried = now;
        block
    }

    /// The next block of the peer's piece, or when it was asked for all of that, of another. Counts as asked.
    fn go_on(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) -> Option<Block> {
        self.join_slow(slot, speech.slabs);
        if let Some(found) = self.current_block(slot, speech) {
            return self.ask(found);
        }
        let holds_back = self.choose_piece(now, slot, speech.slabs);
        let found = self.current_block(slot, speech).or_else(|| self.help_out(slot, speech));
        match found {
            Some(found) => self.ask(found),
            None => self
                .errand(slot, None)
                .or_else(|| if holds_back { None } else { self.once_more(now, slot, speech) }),
        }
    }

    /// The block counts as asked.
    pub(super) fn ask(&mut self, (piece, index): (PieceIndex, usize)) -> Option<Block> {
        self.active.get_mut(&piece)?.blocks[index].asked += 1;
        Some(self.layout.nth_block(piece, index))
    }

    /// The next missing block of a piece, with memory for its run.
    fn open_block(
        &mut self,
        slot: PeerSlot,
        piece: PieceIndex,
        speech: &mut Speech<'_>,
    ) -> Option<(PieceIndex, usize)> {
        if self.is_kept_short(slot, Some(piece)) {
            return None;
        }
        let tag = self.peers.get(slot)?.tag;
        let mut index = self.active.get_mut(&piece)?.next_missing_of(tag)?;
        while !self.withdraw(piece, index) {
            index = self.active.get_mut(&piece)?.next_missing_of(tag)?;
        }
        let Some(runs) = self.active.get_mut(&piece)?.open(index, speech.slabs) else {
            // Those before it may have to come from other cores first.
            if speech.slabs == 0 {
                self.starve();
            }
            return None;
        };
        speech.slabs -= runs.len();
        speech.opened.extend(runs.map(|run| (piece, run)));
        Some((piece, index))
    }

    pub(super) fn current_block(
        &mut self,
        slot: PeerSlot,
        speech: &mut Speech<'_>,
    ) -> Option<(PieceIndex, usize)> {
        let (tag, piece) = self.peers.get(slot).map(|peer| (peer.tag, peer.current))?;
        let piece = piece?;
        let active = self.active.get_mut(&piece).filter(|active| active.owner == Some(slot))?;
        if active.is_choosy() && active.next_missing_of(tag).is_none() {
            // The rest is for others to send.
            self.disown_piece(slot);
            return None;
        }
        self.open_block(slot, piece, speech)
    }

    /// Gives the peer a piece of its own: one that was begun and left, else the rarest one; in order, the earlier of that and the next.
    /// Says whether it is to begin none until it was seen whether there is something to do for other cores.
    fn choose_piece(&mut self, now: Duration, slot: PeerSlot, slabs: usize) -> bool {
        let Some(peer) = self.peers.get(slot) else { return false };
        let (starved, spared, kept_from) = (self.is_starved(), self.spared(peer), self.kept_from(slot));
        // What a seed suggests nobody else has; what was begun others can end.
        let hinted = peer.has.is_full() && self.hint(slot).is_some();
        let (peers, layout) = (&self.peers, &self.layout);
        // An owner that has gone on to another piece has left this one, or asked for all of it and lost blocks since.
        let mut open = self.active.values_mut().filter_map(|active| {
            let fit = peers.owner(active).is_none() && peer.offers(active.piece);
            let fit = fit && active.may_ask(peer.tag, slabs);
            let fit = fit && !(active.is_sole() && peers.is_outdone(slot, active.piece, layout));
            let fit = fit && !spared.contains(&active.piece) && !kept_from.contains(&active.piece);
            fit.then_some(active.piece)
        });
        let left = open.next();
        let may_begin = slabs > 0 && !starved;
        let left = left.filter(|left| !(may_begin && (hinted || self.begins_before(slot, *left))));
        let piece = if left.is_some() {
            left
        } else if slabs == 0 {
            self.starve();
            None
        } else if self.is_starved() || self.is_kept_short_of_pieces(slot) {
            // Pieces that are begun come first.
            None
        } else if self.has_its_share() && self.helps_first(slot, slabs).is_some() {
            // What is left others may begin.
            None
        } else if self.has_enough_open()
            && self.helps_first(slot, slabs).is_some_and(|it| !spared.contains(&it))
        {
            // What is begun is to be whole soon, and then to be given to others.
            None
        } else if self.leaves_it_to_others(now) {
            return true;
        } else {
            self.claim(slot)
        };
        if let Some(piece) = piece {
            self.give_piece(slot, piece);
        }
        false
    }

    /// Who would take long for a whole piece goes on with that of another slow one, the one that lacks least: else each has a piece of
    /// its own open for as long, and none of them can be given to others meanwhile. Not a seed: what it sends nobody else may have,
    /// and all of that is worth having; it keeps its own piece, too, once we have one. Nor who may be asked for nothing just now: it
    /// would only take the piece from the other.
    fn join_slow(&mut self, slot: PeerSlot, slabs: usize) {
        let has_nothing = self.have.count() == 0;
        let most = if has_nothing { FIRST_PIECE } else { WHOLE_PIECE };
        let piece_length = f64::from(self.layout.piece_length());
        let takes_long = |peer: &Peer| peer.pace().is_some_and(|pace| piece_length / pace > most);
        let may_share = |peer: &Peer| takes_long(peer) && (has_nothing || !peer.has.is_full());
        let Some(peer) = self.peers.get(slot).filter(|peer| may_share(peer)) else { return };
        let is_free = |active: &ActivePiece| !active.is_choosy() && !active.is_sole();
        let owned = peer.current.and_then(|piece| self.active.get(&piece));
        let bound = self.settings.sequential || owned.is_some_and(|active| !is_free(active));
        if bound || peer.snubbed || self.is_kept_short(slot, None) {
            return;
        }
        let peers = &self.peers;
        let open = self.active.values_mut().filter_map(|active| {
            let of_slow = peers.owner(active).is_some_and(|(_, owner)| may_share(owner));
            let fit =
                of_slow && is_free(active) && peer.offers(active.piece) && active.may_ask(peer.tag, slabs);
            fit.then(|| (active.lacks(), active.piece))
        });
        let Some((_, piece)) = open.min() else { return };
        if peer.current != Some(piece) {
            self.disown_piece(slot);
        }
        self.give_piece(slot, piece);
    }

    /// The rest of the piece is this peer's to send.
    pub(super) fn give_piece(&mut self, slot: PeerSlot, piece: PieceIndex) {
        if let (Some(active), Some(peer)) = (self.active.get_mut(&piece), self.peers.get_mut(slot)) {
            (active.owner, peer.current) = (Some(slot), Some(piece));
        }
    }

    /// Whether the peer is to have no memory for a piece that it would begin.
    fn is_kept_short_of_pieces(&mut self, slot: PeerSlot) -> bool {
        self.is_kept_short(slot, None) && {
            let next = self.pick(slot);
            self.is_kept_short(slot, next)
        }
    }

    /// Begins pieces until there is one that the peer may send.
    fn claim(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let tag = self.peers.get(slot)?.tag;
        loop {
            let piece = self.claim_next(slot)?;
            if self.active.get_mut(&piece)?.next_missing_of(tag).is_some() {
                return Some(piece);
            }
            self.wake_hungry();
        }
    }

    fn claim_next(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let mut barred = Vec::new();
        let claimed = loop {
            let Some(piece) = self.hinted(slot).or_else(|| self.pick(slot)) else { break None };
            self.picker.remove(piece);
            if self.commons.map.is_suspect(piece) && self.is_barred(slot, piece) {
                barred.push(piece);
            } else if self.commons.map.claim(piece) {
                break Some(piece);
            }
        };
        barred.into_iter().for_each(|piece| self.picker.add(piece));
        let piece = claimed?;
        let streaming = self.layout.piece_len(piece) > self.settings.hold;
        let senders = self.senders_for(slot, piece);
        self.drop_errands(piece);
        self.active.insert(piece, ActivePiece::new(&self.layout, piece, senders, streaming));
        Some(piece)
    }

    /// A piece that another peer fetches and that lacks a block nobody was asked for.
    fn may_help(&mut self, slot: PeerSlot, slabs: usize) -> Option<PieceIndex> {
        let (peer, kept_from) = (self.peers.get(slot)?, self.kept_from(slot));
        let mut open = self.active.values_mut().filter_map(|active| {
            let fit = !active.is_sole() && peer.offers(active.piece) && active.may_ask(peer.tag, slabs);
            let fit = fit && !kept_from.contains(&active.piece);
            fit.then_some(active.piece)
        });
        open.next()
    }

    /// The same, unless there is one to be begun that is played before it.
    fn helps_first(&mut self, slot: PeerSlot, slabs: usize) -> Option<PieceIndex> {
        let piece = self.may_help(slot, slabs)?;
        (!self.begins_before(slot, piece)).then_some(piece)
    }

    /// A missing block of a piece that another peer fetches: when there are no pieces left to begin.
    pub(super) fn help_out(
        &mut self,
        slot: PeerSlot,
        speech: &mut Speech<'_>,
    ) -> Option<(PieceIndex, usize)> {
        let piece = self.may_help(slot, speech.slabs)?;
        self.open_block(slot, piece, speech)
    }

    // ---- taking back ----

    pub(super) fn release(&mut self, block: &Block) {
        if let Some(active) = self.active.get_mut(&block.piece) {
            active.release(block.index());
        } else {
            self.return_errand(block);
        }
    }

    /// The rest of the piece that the peer was to fetch may be anybody's.
    pub(super) fn disown_piece(&mut self, slot: PeerSlot) {
        if let Some(piece) = self.peers.get_mut(slot).and_then(|peer| peer.current.take())
            && let Some(active) = self.active.get_mut(&piece)
        {
            active.owner = active.owner.filter(|owner| *owner != slot);
        }
    }

    /// Takes back all requests to a peer. Others are woken for them at once, but by the next tick when it was known to send nothing:
    /// it may have this done over and over.
    pub(super) fn release_all(&mut self, slot: PeerSlot) {
        self.disown_piece(slot);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let (asked, snubbed) = (std::mem::take(&mut peer.asked), peer.snubbed);
        asked.iter().for_each(|asked| peer.forgo(asked.block));
        asked.iter().for_each(|asked| self.release(&asked.block));
        if !asked.is_empty() && !snubbed {
            self.wake_hungry();
        }
    }

    /// Takes back the oldest request to a peer.
    pub(super) fn release_first(&mut self, slot: PeerSlot) {
        let Some(asked) = self.peers.get_mut(slot).and_then(|peer| {
            let asked = peer.asked.pop_front()?;
            peer.forgo(asked.block);
            Some(asked)
        }) else {
            return;
        };
        self.totals.limits.unanswered += 1;
        self.release(&asked.block);
        self.wake_hungry();
    }

    /// The peer does not send what it was asked for.
    pub(super) fn snub(&mut self, slot: PeerSlot) {
        // Without a request it was in the middle of a block that was once asked for.
        let open = self.peers.get(slot).map_or(0, |peer| peer.asked.len().max(1));
        self.totals.limits.unanswered += open as u64;
        self.release_all(slot);
        self.forget_writer(slot);
        if let Some(peer) = self.peers.get_mut(slot) {
            (peer.snubbed, peer.begun) = (true, None);
            peer.requests.shrink();
        }
    }

    /// Whatever block the peer was in the middle of is anybody's again, but not what is lent to it: a receive that
    /// is under way may write there.
    pub(super) fn forget_writer(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.get(slot) else { return };
        for active in self.active.values_mut() {
            for index in 0..active.blocks.len() {
                let block = self.layout.nth_block(active.piece, index);
                if active.blocks[index].writer == Some(slot) && !peer.lent.contains(&block) {
                    active.blocks[index].writer = None;
                    active.reconsider(index);
                }
            }
        }
    }

    /// The block is here, or given up: whoever was asked for it need not send it.
    pub(super) fn cancel_elsewhere(&mut self, block: &Block) {
        let holders: Vec<PeerSlot> = self
            .peers
            .iter_mut()
            .filter_map(|(slot, peer): (_, &mut Peer)| {
                let at = peer.asked.iter().position(|asked| asked.block == *block)?;
                peer.asked.remove(at);
                peer.forgo(*block);
                peer.cancels.push(*block);
                Some(slot)
            })
            .collect();
        for slot in holders {
            self.release(block);
            self.wake(slot);
        }
    }
}
