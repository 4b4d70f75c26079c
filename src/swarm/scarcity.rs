//! When memory is short: runs are written as soon as they are full, what nobody goes on with is given up, and new memory
//! goes to those who soon give it back. So peers that are slow, or send a block of each run and then nothing, do not hold all
//! of it.

use super::active::BLOCKS_IN_RUN;
use super::lateness::is_longer;
use super::peer::Peer;
use super::{PeerSlot, Swarm};
use crate::metainfo::PieceIndex;

/// For so many looks at the peers, two a second, after somebody could not ask for want of memory it counts as scarce.
const SCARCE: u32 = 20;
/// When no run is written between so many looks, though somebody waits for memory, it lies with peers that send nothing.
const STUCK: u32 = 3;

/// Want of memory.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    /// Somebody could not ask since runs were last written, or looked at.
    starved: bool,
    /// Looks for which memory still counts as scarce.
    looks: u32,
    /// Looks, one after the other, between which somebody could not ask and no run was written.
    dry: u32,
}

impl Swarm {
    /// Somebody could not ask for want of memory of late.
    pub(super) fn is_scarce(&self) -> bool {
        self.scarcity.looks > 0
    }

    /// Somebody could not ask for want of memory, and none has become free since.
    pub(super) fn is_starved(&self) -> bool {
        self.scarcity.starved
    }

    /// Somebody waits for memory, for so long in vain that what others were asked for is worth asking once more.
    pub(super) fn is_stuck(&self) -> bool {
        self.scarcity.dry >= STUCK
    }

    /// Memory is short: runs are hashed and written as soon as they are full, for their slabs.
    pub(super) fn starve(&mut self) {
        self.scarcity.looks = SCARCE;
        if std::mem::replace(&mut self.scarcity.starved, true) {
            return;
        }
        self.totals.limits.memory += 1;
        self.active.values_mut().for_each(|active| active.streaming = true);
        let pieces: Vec<PieceIndex> = self.active.keys().copied().collect();
        for piece in pieces {
            self.wish_hash(piece);
            self.wish_writes(piece);
        }
    }

    /// A run has been written: its memory is free.
    pub(super) fn feed(&mut self) {
        self.scarcity.dry = 0;
        if std::mem::take(&mut self.scarcity.starved) {
            self.wake_hungry();
        }
    }

    /// Twice a second: what no peer goes on with makes room.
    pub(super) fn look_at_memory(&mut self) {
        self.scarcity.looks = self.scarcity.looks.saturating_sub(1);
        if std::mem::take(&mut self.scarcity.starved) {
            self.scarcity.dry += 1;
            self.give_up_one();
        } else {
            self.scarcity.dry = 0;
        }
    }

    /// Some memory may lie in pieces that no peer goes on with: gives up the one with the least in it.
    fn give_up_one(&mut self) {
        let goes_on = |piece| self.peers.any_goes_on(piece);
        let stuck = self.active.values().filter(|active| active.is_idle() && !goes_on(active.piece));
        let Some(active) = stuck.min_by_key(|active| active.received_bytes(&self.layout)) else { return };
        let (piece, suspect) = (active.piece, active.sole);
        self.restart(piece, suspect);
    }

    /// Whether the peer is to have no memory for another run, of that piece if it is known, because it is scarce and others who
    /// have the same fill theirs much sooner. Who alone has a piece is not made to wait with it to the end.
    pub(super) fn is_kept_short(&self, slot: PeerSlot, piece: Option<PieceIndex>) -> bool {
        let Some(peer) = self.peers.get(slot).filter(|_| self.is_scarce()) else { return false };
        self.soonest_run(piece).is_some_and(|least| peer.hoards(least))
    }

    /// Seconds in which the fastest fills a run, of those who have that piece if it is known.
    pub(super) fn soonest_run(&self, piece: Option<PieceIndex>) -> Option<f64> {
        let givers = self.peers.iter().filter(|(_, giver)| {
            giver.pace().is_some() && giver.gives() && piece.is_none_or(|piece| giver.offers(piece))
        });
        givers.map(|(_, giver)| giver.run_seconds()).min_by(f64::total_cmp)
    }
}

impl Peer {
    fn run_seconds(&self) -> f64 {
        BLOCKS_IN_RUN as f64 * self.block_seconds()
    }

    /// Whether it fills a run so much later than in `least` seconds that it is to have none while memory is scarce.
    pub(super) fn hoards(&self, least: f64) -> bool {
        // Who has sent nothing yet has its chance, once.
        let failed = self.pace().is_none() && !self.forgone.is_empty();
        failed || (self.pace().is_some() && is_longer(self.run_seconds(), least))
    }
}
