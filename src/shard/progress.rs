//! Where a torrent stands, on one core or on all.

use crate::swarm::LimitHits;

/// Where a torrent stands. Sums are payload bytes of this run; rates are bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Bytes that are still to be fetched and verified.
    pub left: u64,
    /// Bytes that are not there and not wanted.
    pub skipped: u64,
    /// Fetched and verified.
    pub downloaded: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// Received in vain.
    pub wasted: u64,
    /// Moved in memory, because it came elsewhere than was guessed.
    pub moved: u64,
    /// Connected peers.
    pub peers: u32,
    /// From peers.
    pub download_rate: u64,
    /// To peers.
    pub upload_rate: u64,
    /// Number of pieces of the torrent.
    pub pieces: u32,
    /// Pieces verified and written.
    pub good_pieces: u32,
    /// How often a limit has said no.
    pub limits: LimitHits,
}

impl Progress {
    /// Adds what another core has moved. What all cores have in common (pieces, bytes left) stays as it is.
    pub(super) fn add(&mut self, core: &Self) {
        self.downloaded += core.downloaded;
        self.uploaded += core.uploaded;
        self.wasted += core.wasted;
        self.moved += core.moved;
        self.peers += core.peers;
        self.download_rate += core.download_rate;
        self.upload_rate += core.upload_rate;
        self.limits += core.limits;
    }
}
