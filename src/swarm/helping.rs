//! What a core fetches for others, whose peers are slow with it: see [`errands`](super::errands).

use super::commons::Lacking;
use super::errands::MOST_ERRANDS;
use super::lateness::is_longer;
use super::{PeerSlot, Swarm};
use crate::metainfo::{Block, PieceIndex};
use std::time::Duration;

impl Swarm {
    /// A block to ask the peer for on behalf of another core; of what is urgent only, when given by what (see
    /// [`Swarm::is_urgent`]).
    pub(super) fn errand(&mut self, slot: PeerSlot, urgent: Option<(f64, PieceIndex)>) -> Option<Block> {
        if self.commons.cores() == 1 || self.errands.len() >= (MOST_ERRANDS / self.commons.cores()).max(1) {
            return None;
        }
        let peer = self.peers.get(slot)?;
        // There are few of them: for all who have nothing else to do, as many as keep each sending.
        if urgent.is_none() && peer.keeps_sending() {
            return None;
        }
        let suits = |lacking: &Lacking| {
            let block = &lacking.block;
            let fit = urgent.is_none_or(|(own, next)| self.is_urgent(lacking, own, next))
                && peer.offers(block.piece)
                && self.may_fetch(peer, lacking)
                && (!peer.snubbed || !self.peers.any_goes_on(block.piece))
                && !self.have.has(block.piece)
                && !self.errands.contains_key(block)
                && !self.active.contains_key(&block.piece);
            let wait = lacking.wait.as_secs_f64();
            let worth = if lacking.whole {
                !peer.snubbed && super::alone::is_much_longer(wait, self.seconds_for(peer, block.piece))
            } else {
                is_longer(wait, peer.block_seconds())
            };
            fit && worth && (lacking.whole || self.may_send(peer, block))
        };
        let place = |piece| self.settings.sequential.then(|| self.place(piece));
        let (lacking, holder) = self.commons.take_lacking(self.core, suits, place)?;
        if lacking.whole {
            // Its holder gives it up when it sees that; then it is to be had as any other.
            self.nudge = true;
            return None;
        }
        self.helps = None;
        self.errands.insert(lacking.block, holder);
        Some(lacking.block)
    }

    /// A block that is fetched for another core by peers that are late with it, or by one that brings it much later than this one
    /// would: to be asked of this one, too.
    pub(super) fn errand_again(&self, now: Duration, slot: PeerSlot) -> Option<Block> {
        let peer = self.peers.get(slot)?;
        let own = self.seconds_for_another(peer);
        let goes_on = |block: &Block| {
            let (proven, several) = (peer.downloaded > 0, self.holders(block).nth(1).is_some());
            self.holders(block).any(|(other, holder, asked)| {
                let who = (proven, proven && several);
                other == slot || self.is_relied_on(now, who, (holder, asked), own)
            })
        };
        let fits = |block: &&Block| {
            peer.offers(block.piece)
                && (!peer.snubbed || !self.peers.any_goes_on(block.piece))
                && !goes_on(block)
                && self.may_send(peer, block)
        };
        self.errands.keys().find(fits).copied()
    }

    /// Takes back a block that another core fetches for us, for a peer of ours that has nothing else to do and would have it long
    /// since. Says whether there is one.
    pub(super) fn recall(&mut self, now: Duration, slot: PeerSlot) -> bool {
        let Some(peer) = self.peers.get(slot).filter(|peer| peer.downloaded > 0 && !peer.snubbed) else {
            return false;
        };
        let (own, turn) = (self.seconds_for_another(peer), self.limit_turn());
        let overdue = self.board.taken.iter().find(|(block, at)| {
            is_longer(now.saturating_sub(**at + turn).as_secs_f64(), own)
                && peer.offers(block.piece)
                && self.may_send(peer, block)
        });
        let Some(block) = overdue.map(|(block, _)| *block) else { return false };
        self.board.taken.remove(&block);
        self.comes_back(&block);
        true
    }

    /// A block will not be fetched for another core, which may do so itself, unless another peer of ours was asked for it.
    pub(super) fn return_errand(&mut self, block: &Block) {
        if self.peers.iter().any(|(_, peer)| peer.asked.iter().any(|asked| asked.block == *block)) {
            return;
        }
        if let Some(holder) = self.errands.remove(block) {
            self.commons.give_back(holder, *block);
            self.nudge = true;
        }
    }

    /// Blocks of a piece are not fetched for another core any more: it is had, or ours now.
    pub(super) fn drop_errands(&mut self, piece: PieceIndex) {
        let vain: Vec<Block> = self.errands.keys().filter(|block| block.piece == piece).copied().collect();
        for block in vain {
            self.errands.remove(&block);
            self.cancel_elsewhere(&block);
        }
    }
}
