//! What a session tells those who watch it.

use std::net::SocketAddr;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Number of pieces of the torrent.
    pub pieces: u32,
    /// Pieces that are there and right.
    pub good_pieces: u32,
    /// Their bytes.
    pub good_bytes: u64,
    /// The other pieces, in order.
    pub bad_pieces: Vec<u32>,
    /// One a file of the torrent, in its order.
    pub files: Vec<FileReport>,
}

/// What a check has found of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Number of pieces that hold bytes of it.
    pub pieces: u32,
    /// Those of them that are right.
    pub good_pieces: u32,
    /// Whether it is there, has the right length, and all its pieces are right.
    pub good: bool,
}

/// Where a session stands. Sums are payload bytes of this run; rates are bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// Bytes that are still to be fetched and verified.
    pub left: u64,
    /// Fetched and verified.
    pub downloaded: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// Received in vain.
    pub wasted: u64,
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
}

/// Something worth telling.
#[derive(Clone, Debug)]
pub enum Event {
    /// The data on disk is being checked: so many pieces of all are done.
    Checking {
        /// Pieces looked at.
        done: u32,
        /// All pieces.
        pieces: u32,
    },
    /// The data on disk has been checked.
    Checked(CheckReport),
    /// Peers can connect here.
    Listening(SocketAddr),
    /// Once a second.
    Progress(Progress),
    /// A piece had the wrong hash.
    PieceFailed(u32),
    /// A peer was dropped for a reason of its own or ours.
    PeerDropped {
        /// Where it was.
        addr: SocketAddr,
        /// Why, after "the peer".
        reason: String,
    },
    /// A tracker has answered, or not.
    Tracker {
        /// Its URL.
        url: String,
        /// Number of peers it named, or what went wrong.
        result: Result<usize, String>,
    },
    /// The torrent is complete.
    Completed(Progress),
}
