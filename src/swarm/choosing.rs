//! Which piece a peer is to fetch next, by the user's choice and by how far the download is.

use super::{PeerSlot, Swarm};
use crate::metainfo::{BLOCK_LEN, PieceIndex};
use std::time::Duration;

/// The first pieces are taken by chance: what is rare is slow to come, and there is nothing to trade until then. Not those
/// of seeds: of them the rarest come as fast, and are worth more to others.
const BY_CHANCE: u32 = 4;
/// In order, so many bytes ahead of the first that is lacking; behind that, the rarest come first.
const AHEAD: u32 = 32 * 1024 * 1024;
/// The same in pieces, at least.
const LEAST_AHEAD: u32 = 8;

/// With a limit of our own, so many seconds of it are asked for.
const ASKED_AHEAD: u64 = 2;

impl Swarm {
    /// What one peer's share of the download limit is worth: requests to have open with it, and the time that a block takes.
    /// What is asked beyond that would only wait, and the peer with it.
    pub(super) fn fair_share(&mut self) -> (usize, Duration) {
        let (most, turn) = self.pace.tick();
        let Some(limit) = self.settings.download_limit else { return (most, turn) };
        let givers =
            self.peers.iter().filter(|(_, peer)| !peer.dropped && !peer.chokes_us && peer.wanted > 0);
        let givers = (givers.count() * self.commons.cores()).max(1) as u64;
        let share = limit * ASKED_AHEAD / u64::from(BLOCK_LEN) / givers;
        let turn = givers.saturating_mul(u64::from(BLOCK_LEN)) / limit.max(1);
        ((share as usize).clamp(1, most), Duration::from_secs(turn))
    }

    /// A piece for the peer to fetch, that nobody on this core fetches yet. Does not take it.
    pub(super) fn pick(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let peer = self.peers.get_mut(slot)?;
        if peer.chokes_us {
            return self.picker.pick_any(peer.offered()?, &mut self.rng);
        }
        if self.settings.sequential {
            let window = (AHEAD / self.layout.piece_length()).max(LEAST_AHEAD);
            let (have, selection) = (&self.have, &self.commons.selection);
            let done = |piece| have.has(piece) || !selection.wants(piece);
            let next = self.picker.pick_in_order(&peer.has, window, &self.layout, done);
            if next.is_some() {
                return next;
            }
        } else if self.have.count() < BY_CHANCE && !peer.has.is_full() {
            return self.picker.pick_any(&peer.has, &mut self.rng);
        }
        self.picker.pick(&peer.has, peer.wanted, &mut peer.hint, &mut self.rng)
    }
}
