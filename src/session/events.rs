//! What a session tells those who watch it.

use crate::discovery::dht::{DhtCounters, DhtNote};
use crate::shard::{Progress, Snapshot};
use crate::storage::CheckReport;
use std::net::SocketAddr;

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
    /// Once a second and at the end, of each core, when the job asks for it.
    Snapshot(Box<Snapshot>),
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
    /// Something has happened to the DHT.
    Dht(DhtNote),
    /// What the DHT has counted, once a second and at the end, when the job asks for snapshots.
    DhtCounters(Box<DhtCounters>),
    /// The torrent is complete.
    Completed(Progress),
}
