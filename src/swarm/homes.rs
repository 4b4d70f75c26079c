//! Where the bytes of a block go: home, to its place in memory, which belongs to who begins the block first.

use super::active::{ActivePiece, is_whole};
use super::{DropReason, Handover, PeerSlot, Swarm};
use crate::metainfo::Block;
use std::time::Duration;

/// Where the bytes of a block that is coming belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At once into the block's place in its run.
    Home,
    /// Aside until the block is whole: its home is on another core, or another peer is in the middle of it.
    Aside,
    /// Nowhere: it is not wanted.
    Nowhere,
}

/// What becomes of a block that has come whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    /// It is taken. Was it put aside, it is to be put home now.
    Taken,
    /// It was fetched for this core, which gets it: call [`Swarm::hand_in`] there.
    Handover(usize, Handover),
    /// It came in vain.
    Vain,
}

/// Why a peer sends a block, as of its first byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Bidding {
    /// It was asked for it.
    #[default]
    Asked,
    /// It was, but that was taken back. Asked again meanwhile, it sends the block once more.
    Late,
    /// It was not.
    Unbidden,
}

impl Swarm {
    /// The blocks that the peer will send next, in order, whose places in memory nobody else may touch until
    /// [`Swarm::returned`]: at most `most`, the one that is coming already (see [`Swarm::begin`]) first. What others were
    /// asked for, too, is lent only while it is coming: its place is for who begins it first.
    pub fn lend(&mut self, slot: PeerSlot, coming: Option<Block>, most: usize) -> Vec<Block> {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.dropped) else { return Vec::new() };
        let mut lent = Vec::new();
        let expected = peer.expected().filter(|block| Some(*block) != coming);
        for block in coming.into_iter().chain(expected).take(most) {
            let Some(active) = self.active.get_mut(&block.piece) else { break };
            let state = &mut active.blocks[block.index()];
            let free = match state.writer {
                Some(writer) => writer == slot,
                None => Some(block) != coming && state.asked <= 1,
            };
            if state.is_received() || !free {
                break;
            }
            state.writer = Some(slot);
            lent.push(block);
        }
        peer.lent.clone_from(&lent);
        lent
    }

    /// The receive is over: what was lent is free again, except the block that is still `coming`.
    pub fn returned(&mut self, slot: PeerSlot, coming: Option<Block>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        for block in std::mem::take(&mut peer.lent).into_iter().filter(|block| Some(*block) != coming) {
            let Some(active) = self.active.get_mut(&block.piece) else { continue };
            let state = &mut active.blocks[block.index()];
            if state.writer == Some(slot) {
                state.writer = None;
                active.reconsider(block.index());
            }
        }
    }

    /// The head of a piece message has come: says where its payload goes, or that the numbers are wrong.
    ///
    /// # Errors
    /// When the peer is dropped for it.
    pub fn begin(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        head: [u32; 3],
    ) -> Result<(Block, Place), DropReason> {
        let [index, begin, len] = head;
        let result = self.begin_block(now, slot, self.layout.block(index, begin, len), head);
        if let Err(reason) = &result {
            self.drop_peer(slot, reason.clone());
        }
        result
    }

    /// Whether the block that is coming from the peer is one that it was not asked for.
    pub fn is_unbidden(&self, slot: PeerSlot) -> bool {
        self.peers.get(slot).is_some_and(|peer| !peer.dropped && peer.bidding == Bidding::Unbidden)
    }

    /// Bytes have come from the peer, and they leave it in the middle of a block, of which the first `filled` are here.
    pub fn trickled(&mut self, now: Duration, slot: PeerSlot, filled: u32) {
        let peer = self.peers.get_mut(slot).filter(|peer| peer.bidding != Bidding::Unbidden);
        if let Some(peer) = peer {
            peer.count_part(now, filled);
        }
    }

    fn begin_block(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        block: Option<Block>,
        [index, begin, len]: [u32; 3],
    ) -> Result<(Block, Place), DropReason> {
        let block = block.ok_or(DropReason::BadRequest { index, begin, len })?;
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.dropped) else {
            return Ok((block, Place::Nowhere));
        };
        (peer.last_heard, peer.spoke) = (now, true);
        // A late answer to a request taken back is welcome if nobody was faster; it is no offence in any case.
        peer.bidding = match peer.asked.iter().any(|asked| asked.block == block) {
            true => Bidding::Asked,
            false if peer.forgave(&block) => Bidding::Late,
            false => Bidding::Unbidden,
        };
        if peer.bidding == Bidding::Unbidden {
            self.offend_by(slot, block.len)?;
            return Ok((block, Place::Nowhere));
        }
        let tag = peer.tag;
        let whole = is_whole(&self.layout, &block);
        let Some(active) = self.active.get_mut(&block.piece).filter(|_| whole) else {
            let place = if self.errands.contains_key(&block) { Place::Aside } else { Place::Nowhere };
            return Ok((block, place));
        };
        if !active.welcomes(block.index(), slot, tag) {
            return Ok((block, Place::Nowhere));
        }
        let writer = active.blocks[block.index()].writer.filter(|writer| *writer != slot);
        if writer.is_some_and(|writer| !self.take_place(now, writer, slot, &block)) {
            return Ok((block, Place::Aside));
        }
        if let (Some(active), Some(peer)) = (self.active.get_mut(&block.piece), self.peers.get_mut(slot)) {
            (active.blocks[block.index()].writer, peer.begun) = (Some(slot), Some(now));
        }
        Ok((block, Place::Home))
    }

    /// Takes the place of a block from a peer that is in the middle of it and slower, unless a receive may be writing there: what has
    /// come of it is lost. Says whether the place is free.
    fn take_place(&mut self, now: Duration, writer: PeerSlot, slot: PeerSlot, block: &Block) -> bool {
        let gives_way = self.gives_way(now, writer, slot, block);
        let writer = self.peers.get_mut(writer).filter(|writer| gives_way && !writer.lent.contains(block));
        writer.map(|writer| writer.begun = None).is_some()
    }

    /// How many blocks the peer was asked for that have not come.
    pub fn expected(&self, slot: PeerSlot) -> usize {
        self.peers.get(slot).map_or(0, |peer| peer.asked.len())
    }

    /// Whether bytes of the block that is coming may still go to its home.
    pub fn is_home(&self, slot: PeerSlot, block: &Block) -> bool {
        let active = self.active.get(&block.piece);
        active.is_some_and(|active| active.blocks[block.index()].writer == Some(slot))
    }

    /// The last byte of a block has come.
    pub fn complete(&mut self, now: Duration, slot: PeerSlot, block: &Block, place: Place) -> Completion {
        let Some(peer) = self.peers.get_mut(slot) else { return Completion::Vain };
        self.totals.received += u64::from(block.len);
        let bidding = std::mem::take(&mut peer.bidding);
        if bidding == Bidding::Unbidden {
            // No service: it earns nothing by it, no slot and no patience.
            self.totals.wasted += u64::from(block.len);
            return Completion::Vain;
        }
        // What it was asked for since a late one began is still to come.
        let asked = peer.asked.iter().position(|asked| asked.block == *block && bidding == Bidding::Asked);
        let asked_at = asked.and_then(|at| peer.asked.remove(at)).map(|asked| asked.at);
        peer.answered = asked.unwrap_or(peer.answered);
        peer.begun = None;
        let first = peer.downloaded == 0;
        peer.count_block(now, block.len, asked_at);
        if let Some(at) = asked_at {
            self.pace.block_came(now.saturating_sub(at), peer.asked.len());
        }
        let tag = peer.tag;
        // A new batch of requests goes out when a quarter of the window is free, not one a block.
        if peer.asked.len() * 4 <= peer.window() * 3 {
            self.wake_in_turn(slot);
        }
        if first {
            self.make_known(slot);
        }
        if place == Place::Aside
            && let Some(holder) = self.errands.remove(block)
        {
            // It may have come late, from one that it was taken back from.
            self.cancel_elsewhere(block);
            return Completion::Handover(holder, Handover { block: *block, from: tag });
        }
        if asked.is_some() {
            self.release(block);
        }
        // What stood when the block began may have changed since: the piece may even be another try.
        let taken = self.active.get(&block.piece).is_some_and(|active| match place {
            Place::Home => active.blocks[block.index()].writer == Some(slot),
            Place::Aside => active.welcomes(block.index(), slot, tag) && !self.is_lent(active, block),
            Place::Nowhere => false,
        });
        let Some(active) = self.active.get_mut(&block.piece).filter(|_| taken) else {
            self.totals.wasted += u64::from(block.len);
            return Completion::Vain;
        };
        let others = active.blocks[block.index()].asked > 0;
        active.receive(block.index(), tag);
        if others {
            self.cancel_elsewhere(block);
        }
        self.wish_hash(block.piece);
        Completion::Taken
    }

    /// Whether a receive is under way that may put the block's bytes into their place. A peer that is merely in the
    /// middle of the block loses it to who has it whole: the rest of its bytes goes nowhere.
    pub(super) fn is_lent(&self, active: &ActivePiece, block: &Block) -> bool {
        let writer = active.blocks[block.index()].writer;
        writer.and_then(|writer| self.peers.get(writer)).is_some_and(|peer| peer.lent.contains(block))
    }
}
