//! What a seed sends first when its link is full: what nobody has.
//!
//! Towards the end of a lone seed's work there are fewer pieces that nobody has than peers with a slot. The others then ask
//! for what is on its way to somebody already, and share the link with what all wait for. So as long as somebody asks for
//! something new, they wait a little: most get it from one another before that, and take back what they asked of us.
//!
//! Only where one core has all the peers: none knows what is on its way to those of another, nor what those leave of the link.

use super::peer::Peer;
use super::{PeerSlot, Swarm};
use crate::metainfo::Block;
use std::time::Duration;

/// So many looks at a peer, two a second, it waits for others; then it has a piece, whatever it is.
const MOST_PUT_OFF: u8 = 8;
/// So many of the requests of a peer are looked at.
pub(super) const LOOK: usize = 64;
/// Whoever has taken nothing for so long keeps nobody waiting.
const SLOW: Duration = Duration::from_secs(5);

impl Swarm {
    /// Whether nobody has the block's piece, and nobody else was the first to be given it.
    fn is_new(&self, peer: &Peer, block: &Block) -> bool {
        let first = self.spreading.first.get(&block.piece);
        !self.commons.sightings.is_seen(block.piece) && first.is_none_or(|first| *first == peer.tag)
    }

    /// Whether others are to wait for what it asks for: it must take it.
    fn keeps_waiting(&self, now: Duration, peer: &Peer) -> bool {
        (peer.up.get() > 0 || now < peer.unchoked_since + SLOW) && self.wants_new(peer)
    }

    fn wants_new(&self, peer: &Peer) -> bool {
        !peer.dropped && peer.uploads.iter().take(LOOK).any(|block| self.is_new(peer, block))
    }

    /// Whether about as much goes out as may. Without a limit that is not known.
    fn is_link_full(&self) -> bool {
        let up: u64 = self.peers.iter().map(|(_, peer)| peer.up.get()).sum();
        self.settings.upload_limit.is_some_and(|limit| up >= limit - limit / 4)
    }

    /// Looks anew who has to wait, twice a second.
    pub(super) fn look_at_precedence(&mut self, now: Duration) {
        let scarce = self.spreads()
            && self.commons.cores() == 1
            && self.is_link_full()
            && self.peers.iter().any(|(_, peer)| self.keeps_waiting(now, peer));
        if !scarce && !self.spreading.is_scarce {
            return;
        }
        self.spreading.is_scarce = scarce;
        let waiting: Vec<PeerSlot> =
            self.peers.iter().filter(|(_, peer)| !peer.uploads.is_empty()).map(|(slot, _)| slot).collect();
        for slot in waiting {
            if !self.is_put_off(slot) {
                self.wake(slot);
            } else if let Some(peer) = self.peers.get_mut(slot) {
                peer.put_off += 1;
            }
        }
    }

    /// Whether the peer has to wait until others have what is new. Not in the middle of a piece.
    pub(super) fn is_put_off(&self, slot: PeerSlot) -> bool {
        let Some(peer) = self.peers.get(slot).filter(|_| self.spreading.is_scarce) else { return false };
        peer.put_off < MOST_PUT_OFF && peer.serving.is_none() && !self.wants_new(peer)
    }

    /// Puts what is new first of what the peer asks for. Not in the middle of a piece.
    pub(super) fn prefer_new(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.get(slot).filter(|_| self.spreading.is_scarce) else { return };
        if peer.serving.is_some() || peer.uploads.iter().next().is_none_or(|next| self.is_new(peer, next)) {
            return;
        }
        let is_new = |block: &&Block| self.is_new(peer, block);
        let new: Vec<Block> = peer.uploads.iter().take(LOOK).filter(is_new).copied().collect();
        self.peers.get_mut(slot).into_iter().for_each(|peer| peer.uploads.prefer(&new));
    }
}
