//! Where a torrent stands, on one core or on all.

use super::Report;
use super::snapshot::Snapshot;
use super::torrent::TorrentShard;
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

impl TorrentShard {
    /// Where the torrent stands, what this core has moved, and whom it trades with.
    pub(super) fn progress(&self) -> Progress {
        let Progress { left, skipped, pieces, good_pieces, .. } = self.crew.standing();
        let mut progress = Progress { left, skipped, pieces, good_pieces, ..self.totals() };
        for peer in self.swarm.borrow().peers() {
            progress.peers += 1;
            progress.download_rate += peer.rates.0;
            progress.upload_rate += peer.rates.1;
        }
        progress
    }

    /// What this core has moved: cheap enough for every piece.
    pub(super) fn totals(&self) -> Progress {
        let totals = self.swarm.borrow().totals();
        let (letters, lost) = self.unposted.count();
        let mut limits = *self.hits.borrow();
        limits += totals.limits;
        limits.handshakes += self.strangers.borrow().crowded_out;
        limits.descriptors += self.access.waits();
        limits.exchanges += self.secrecy.borrow().refused();
        limits.letters += letters;
        Progress {
            downloaded: totals.downloaded,
            uploaded: totals.uploaded,
            wasted: totals.wasted + lost,
            moved: self.moved.get(),
            limits,
            ..Progress::default()
        }
    }

    /// Publishes what this core has moved.
    pub(super) fn publish(&self) {
        self.crew.publish(self.core, self.progress());
    }

    /// All that this core has to show, when somebody asked for it.
    pub(super) fn snapshot(&self) -> Option<Report> {
        self.crew.snapshots.then(|| Report::Snapshot(Box::new(Snapshot::of(self))))
    }

    /// Tells, once, when everything is verified, written and has its own name.
    pub(super) fn check_complete(&self) {
        if self.crew.is_newly_complete() {
            self.publish();
            self.report(Report::Complete(self.crew.progress()));
        }
    }
}
