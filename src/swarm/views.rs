//! What a swarm shows of itself to whoever looks: its peers, and what they are being served.

use super::{Introduction, PeerSlot, Swarm};
use crate::metainfo::Block;

/// What is told about a connected peer.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Tells it from every other peer that this core has had.
    pub number: u64,
    /// Where it is, what it calls itself.
    pub who: Introduction,
    /// Bytes a second from it and to it.
    pub rates: (u64, u64),
    /// Payload bytes from it and to it.
    pub totals: (u64, u64),
    /// Number of pieces it has.
    pub pieces: u32,
    /// Whether its handshake was encrypted.
    pub encrypted: bool,
    /// Whether it may ask us for blocks and wants to; and whether we may ask it, and do.
    pub flows: (bool, bool),
}

/// Uploads as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uploading {
    /// Upload slots that are taken, on all cores of the torrent.
    pub slots: u32,
    /// Upload slots that there are.
    pub most_slots: u32,
    /// Requests of this core's peers that wait to be served.
    pub requests: u64,
    /// Payload bytes that they ask for.
    pub bytes: u64,
}

impl Swarm {
    /// The connected peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(_, peer)| PeerView {
            number: peer.tag.number,
            who: peer.who,
            rates: (peer.down.get(), peer.up.get()),
            totals: (peer.downloaded, peer.uploaded),
            pieces: peer.has.count(),
            encrypted: peer.encrypted,
            flows: (peer.unchoked && peer.interested, !peer.chokes_us && peer.wanted > 0),
        })
    }

    /// The block that the peer is most likely to send next.
    pub fn next_of(&self, slot: PeerSlot) -> Option<Block> {
        self.peers.get(slot)?.expected().next()
    }

    /// Peers that have a slot and want it, or wait for one: this core's share of all.
    pub fn takers(&self) -> usize {
        self.commons.slots.takers() as usize / self.commons.cores()
    }

    /// What waits to be served, and the slots.
    pub fn uploading(&self) -> Uploading {
        let (slots, most_slots) = self.commons.slots.counts();
        let asked = self.peers.iter().map(|(_, peer)| peer.uploads.asked());
        let (requests, bytes) = asked.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        Uploading { slots, most_slots, requests, bytes }
    }
}
