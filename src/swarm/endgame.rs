//! Asking once more for a block that another peer was asked for: when nothing else is left, and for what is late.

use super::peer::{Asked, Peer};
use super::speak::Speech;
use super::{PeerSlot, Swarm};
use crate::metainfo::{Block, PieceIndex};
use std::time::Duration;

/// While memory is scarce, who was found nothing to do for is looked at again after so long. (Whenever a run is written all who
/// wait for memory are woken, and each look goes through all that was asked.)
const SEARCH: Duration = Duration::from_millis(250);

impl Swarm {
    /// Endgame: all that is left was asked of others. A peer with nothing else to do, or too little to keep its way busy until an
    /// answer comes, is asked for it once more.
    pub(super) fn once_more(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        speech: &mut Speech<'_>,
    ) -> Option<Block> {
        let peer = self.peers.get(slot)?;
        let (searched, idle) = (peer.searched, peer.asked.is_empty());
        if self.is_scarce() && searched.is_some_and(|at| now < at + SEARCH) {
            return None;
        }
        if !(idle || peer.runs_dry() && self.is_endgame()) {
            return None;
        }
        let found = self.search(now, slot, speech);
        self.peers.get_mut(slot)?.searched = Some(now).filter(|_| found.is_none());
        found
    }

    fn search(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) -> Option<Block> {
        let recalled = if self.recall(now, slot) { self.help_out(slot, speech) } else { None };
        match recalled.or_else(|| self.twice(now, slot)) {
            Some(found) => self.ask(found),
            None => self.errand_again(now, slot),
        }
    }

    /// Whether every block that is left was asked of somebody, as far as this core knows. (While blocks only wait for
    /// memory, asking for others twice would cost more than it brings.)
    pub(super) fn is_endgame(&mut self) -> bool {
        let mut active = self.active.values_mut();
        self.commons.map.missing_count() == 0 && active.all(|active| active.next_missing().is_none())
    }

    /// A block that another peer was asked for: the last one in the longest queue, if this peer is likely to bring it much
    /// sooner than any who was asked: what comes twice takes the place of what is lacking. Before the endgame it counts only
    /// when it has not come for a while.
    fn twice(&mut self, now: Duration, slot: PeerSlot) -> Option<(PieceIndex, usize)> {
        let mut endgame = self.is_endgame();
        // Memory is for others, who bring sooner what is lacking.
        if !endgame && self.is_kept_short(slot, None) {
            return None;
        }
        // What is asked for and does not come may hold the memory for the rest.
        endgame |= self.is_stuck();
        let peer = self.peers.get(slot)?;
        let own = self.seconds_for_another(peer);
        // Of what a peer was asked for, the oldest is beaten first.
        let beaten = |other: &Peer| {
            other.asked.front().is_some_and(|oldest| self.is_beaten(now, endgame, (other, oldest), own))
        };
        let queues = self.peers.iter().filter(|(other, holder)| *other != slot && beaten(holder));
        let queues: Vec<&Peer> = queues.map(|(_, holder)| holder).collect();
        if queues.is_empty() {
            return None;
        }
        let unbeaten = self.unbeaten(now, endgame, own, peer.pace().is_some());
        // Its own may be late, too.
        let is_asked = |block: &Block| peer.asked.iter().any(|asked| asked.block == *block);
        let wanted = |holder: &Peer, asked: &Asked| {
            let block = asked.block;
            let active = self.active.get(&block.piece)?;
            let state = &active.blocks[block.index()];
            let fit = state.asked < u8::MAX
                && !state.is_received()
                && !is_asked(&block)
                && !active.is_sole()
                && peer.offers(block.piece);
            let fit = fit && active.hears(block.index(), peer.tag);
            let beaten = || self.is_beaten(now, endgame, (holder, asked), own) && !unbeaten.contains(&block);
            let fit = fit && beaten();
            fit.then_some((block.piece, block.index()))
        };
        let ends = queues.into_iter().filter_map(|other| {
            let found = other.asked.iter().rev().find_map(|asked| wanted(other, asked))?;
            Some((other.backlog_seconds(), found))
        });
        ends.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, found)| found)
    }
}
