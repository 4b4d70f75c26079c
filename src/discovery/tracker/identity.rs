//! What announces say of a torrent and of us.

use super::announcer::Told;
use crate::metainfo::InfoHash;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Byte counts that announces report, kept up to date by those who move the bytes.
#[derive(Debug, Default)]
pub struct Totals {
    /// Payload bytes sent in this session.
    pub uploaded: AtomicU64,
    /// Payload bytes received in this session.
    pub downloaded: AtomicU64,
    /// Payload bytes still missing.
    pub left: AtomicU64,
    /// Whether something is missing and yet nothing is to be fetched: a partial seed (BEP 21).
    pub paused: AtomicBool,
}

/// What does not change about a torrent while it is announced.
#[derive(Clone, Debug)]
pub struct TorrentIdentity {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our id in the handshake.
    pub peer_id: [u8; 20],
    /// The TCP port we listen on.
    pub port: u16,
    /// A random number, the same for all announces (BEP 7): see [`announce_key`].
    pub key: u32,
    /// Announce URLs (BEP 12). Those that cannot be asked are reported as failed and left out.
    pub tiers: Vec<Vec<String>>,
    /// Trackers that were told of us before, with this id, port and key: see [`Announcing::leave`](super::Announcing::leave).
    pub told: Vec<Told>,
}

/// The key by which a tracker knows us again though our address has changed (BEP 7). Nobody else can tell it; and it stays while
/// the program runs, for whoever looks up a magnet link announces once more, by the same id, when it knows the torrent.
pub fn announce_key(info_hash: InfoHash, peer_id: [u8; 20]) -> u32 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SECRET.hash_one((info_hash.0, peer_id)) as u32
}
