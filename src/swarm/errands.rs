//! Cores helping each other: what is new on one is learned by the others, and a core whose peers have nothing left to
//! do fetches blocks of pieces that another has claimed.
//!
//! A core that is out of work says so in the [`Commons`](super::Commons). The others then show which blocks their
//! pieces lack, those that nobody was asked for or that are long in coming first. Whoever takes one asks a peer
//! of its own for it and hands it over: so no piece is held up by the peers of the core that claimed it.

use super::active::{ActivePiece, is_whole};
use super::fetch::LATE;
use super::{DropReason, Handover, PeerSlot, Swarm};
use crate::metainfo::{Block, PieceIndex};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// Most blocks that a core shows as lacking.
const MOST_SHOWN: usize = 256;
/// Most blocks that the cores fetch for each other at a time: their bytes lie outside the slabs until they are whole.
const MOST_ERRANDS: usize = 256;

/// What becomes of a block that another core has fetched for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandIn {
    /// It is taken: put it home. Its run needs a slab first when `opened`.
    Taken {
        /// Whether the run has no memory yet.
        opened: bool,
    },
    /// It is not needed any more, or there is no memory for it.
    Refused,
}

impl Swarm {
    /// Takes in what is new on other cores. To be called when one of them has nudged us.
    pub fn catch_up(&mut self, now: Duration) {
        if self.commons.cores() == 1 {
            return;
        }
        self.choke(now);
        let news = self.read_log() | self.regain();
        let idle = self.peers.iter().any(|(_, peer)| peer.is_hungry() && peer.asked.is_empty());
        self.commons.set_idle(self.core, idle && !self.starved);
        self.show_lacking(now);
        if news || idle {
            self.wake_hungry();
        }
    }

    /// Reads on in the log of pieces had; says whether there were any.
    pub(super) fn read_log(&mut self) -> bool {
        let before = self.have.count();
        while let Some(number) = self.commons.map.logged(self.have.count()) {
            let piece = self.layout.piece(number).expect("only pieces of this torrent are had");
            self.have.insert(piece);
            self.left -= u32::from(self.commons.selection.wants(piece));
            self.picker.remove(piece);
            self.learn(piece);
        }
        let news = self.have.count() > before;
        if news && self.is_seeding() {
            self.revise_slots();
            let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
            for slot in slots {
                if self.check_seed(slot).is_err() {
                    self.drop_peer(slot, DropReason::BothSeeds);
                }
            }
        }
        news
    }

    /// A piece is had that was not before.
    fn learn(&mut self, piece: PieceIndex) {
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let wanted = self.settings.fetch && self.commons.selection.wants(piece);
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            let has = peer.has.has(piece);
            if has && wanted {
                peer.wanted -= 1;
                peer.fast.unlearn(piece);
            }
            if !has || peer.wanted == 0 {
                self.wake(slot);
            }
        }
        self.drop_errands(piece);
    }

    /// Pieces whose claims other cores have given back are to be had again; says whether there may be any.
    fn regain(&mut self) -> bool {
        let releases = self.commons.map.releases();
        let news = std::mem::replace(&mut self.releases, releases) != releases;
        if news && self.settings.fetch {
            let lost = |piece: &PieceIndex| {
                self.commons.map.is_missing(*piece)
                    && !self.picker.holds(*piece)
                    && !self.active.contains_key(piece)
            };
            let lost: Vec<PieceIndex> = self.layout.pieces().filter(lost).collect();
            lost.into_iter().for_each(|piece| self.picker.add(piece));
        }
        news
    }

    // ---- asking for help ----

    /// A peer could be asked for more, but there is nothing to ask.
    pub(super) fn report_idle(&mut self) {
        // Want of memory is no want of work.
        if self.commons.cores() > 1 && !self.starved && !self.is_seeding() {
            self.nudge |= self.commons.set_idle(self.core, true);
        }
    }

    /// Shows the others what our pieces lack, while they have nothing better to do; pieces that we cannot go on with are
    /// given back.
    fn show_lacking(&mut self, now: Duration) {
        let wanted = self.commons.others_idle(self.core);
        if wanted {
            self.give_up_hopeless();
        }
        let blocks = if wanted { self.lacking(now) } else { Vec::new() };
        self.nudge |= self.commons.show_lacking(self.core, blocks) && wanted;
    }

    /// Gives back pieces that no peer of ours goes on with, and of which another core would not rather fetch the rest.
    fn give_up_hopeless(&mut self) {
        let hopeless = self.active.values().filter(|active| {
            let lost = active.sole || active.received_bytes(&self.layout) == 0;
            lost && active.is_idle() && !self.peers.any_goes_on(active.piece)
        });
        let hopeless: Vec<(PieceIndex, bool)> = hopeless.map(|active| (active.piece, active.sole)).collect();
        hopeless.into_iter().for_each(|(piece, suspect)| self.restart(piece, suspect));
    }

    /// Blocks that others may fetch for us: those that nobody was asked for, those that are late, and in the endgame the
    /// others from the ends of the queues.
    fn lacking(&mut self, now: Duration) -> Vec<Block> {
        let endgame = self.is_endgame();
        let mut asked: BTreeMap<Block, Duration> = BTreeMap::new();
        for ask in self.peers.iter().flat_map(|(_, peer)| &peer.asked) {
            let last = asked.entry(ask.block).or_insert(ask.at);
            *last = ask.at.max(*last);
        }
        let mut found = Vec::new();
        // Runs get their memory in order: the next one may be begun when there is some, those after it have to wait.
        let next = usize::from(!self.starved);
        for active in self.active.values().filter(|active| !active.sole) {
            for (index, state) in active.blocks.iter().enumerate() {
                let waits = ActivePiece::run_of(index) >= active.opened + next;
                let block = self.layout.nth_block(active.piece, index);
                if state.is_received()
                    || waits
                    || state.writer.is_some_and(|writer| self.goes_on(now, writer, &block))
                {
                    continue;
                }
                match asked.get(&block) {
                    None => found.push((0, Reverse(Duration::ZERO), block)),
                    Some(at) if now >= *at + LATE => found.push((1, Reverse(*at), block)),
                    Some(at) if endgame => found.push((2, Reverse(*at), block)),
                    Some(_) => {}
                }
            }
        }
        found.sort();
        found.into_iter().take(MOST_SHOWN).map(|(_, _, block)| block).collect()
    }

    /// Whether the peer, which is in the middle of a block, is not late with it; or its bytes may be on their way home just now.
    fn goes_on(&self, now: Duration, writer: PeerSlot, block: &Block) -> bool {
        let Some(peer) = self.peers.get(writer) else { return false };
        peer.lent.contains(block) || peer.begun.is_some_and(|at| now < at.max(peer.last_block) + LATE)
    }

    /// A block that another core has fetched for us is here; `slabs` are free. When it is taken, put its bytes home
    /// before the next wishes are served.
    pub fn hand_in(&mut self, now: Duration, handover: &Handover, slabs: usize) -> HandIn {
        let Handover { block, from } = handover;
        let wanted = self.active.get(&block.piece).filter(|active| {
            !active.sole && !active.blocks[block.index()].is_received() && !self.is_lent(active, block)
        });
        let past_opened =
            wanted.map(|active| (ActivePiece::run_of(block.index()) + 1).saturating_sub(active.opened));
        let taken = past_opened.is_some_and(|runs| runs == 0 || (runs == 1 && slabs > 0));
        if past_opened == Some(1) && slabs == 0 {
            self.starve();
        }
        let Some(active) =
            self.active.get_mut(&block.piece).filter(|_| taken && is_whole(&self.layout, block))
        else {
            self.totals.wasted += u64::from(block.len);
            return HandIn::Refused;
        };
        let opened = ActivePiece::run_of(block.index()) == active.opened;
        active.opened += usize::from(opened);
        let asked = active.blocks[block.index()].asked > 0;
        active.receive(block.index(), *from);
        if asked {
            self.cancel_elsewhere(block);
        }
        self.wish_hash(block.piece);
        if self.commons.is_taken(self.core) {
            self.show_lacking(now);
        }
        HandIn::Taken { opened }
    }

    // ---- helping ----

    /// A block to ask the peer for on behalf of another core.
    pub(super) fn errand(&mut self, slot: PeerSlot) -> Option<Block> {
        if self.commons.cores() == 1 || self.errands.len() >= (MOST_ERRANDS / self.commons.cores()).max(1) {
            return None;
        }
        let peer = self.peers.get(slot)?;
        let suits = |block: &Block| {
            peer.offers(block.piece)
                && !self.have.has(block.piece)
                && !self.errands.contains_key(block)
                && !self.active.contains_key(&block.piece)
        };
        let (block, holder) = self.commons.take_lacking(self.core, suits)?;
        self.errands.insert(block, holder);
        Some(block)
    }

    /// Blocks of a piece are not fetched for another core any more: it is had, or ours now.
    pub(super) fn drop_errands(&mut self, piece: PieceIndex) {
        let vain: Vec<Block> = self.errands.keys().filter(|block| block.piece == piece).copied().collect();
        vain.iter().for_each(|block| self.cancel_elsewhere(block));
    }
}
