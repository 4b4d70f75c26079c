//! What a session tells those who watch it.

use crate::discovery::dht::{DhtCounters, DhtNote};
use crate::discovery::local;
use crate::discovery::tracker::{Note, TrackerCounts};
use crate::shard::{Progress, Snapshot};
use crate::storage::CheckReport;
use std::net::{IpAddr, SocketAddr};

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
    /// A piece that we had cannot be read any more: we go on without it.
    PieceLost {
        /// Its number.
        piece: u32,
        /// What the disk says.
        reason: String,
    },
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
        /// What it said, or what went wrong.
        result: Result<TrackerAnswer, String>,
    },
    /// What trackers have cost and given so far: once a second, when the job asks for snapshots.
    TrackerCounts(TrackerCounts),
    /// What the search on the local network has counted, once a second and at the end, where there is one.
    Local(local::Counts),
    /// Something has happened to the DHT.
    Dht(DhtNote),
    /// What the DHT has counted, once a second and at the end, when the job asks for snapshots.
    DhtCounters(Box<DhtCounters>),
    /// The torrent is complete.
    Completed(Progress),
}

impl Event {
    /// What is to be told of an announce. Scrapes are told to who asks for them.
    pub(super) fn of_announce(note: Note) -> Option<Self> {
        let (url, result) = match note {
            Note::Announced { tracker, peers, complete, incomplete, warning, external_ip, .. } => {
                (tracker, Ok(TrackerAnswer { peers, complete, incomplete, warning, external_ip }))
            }
            Note::Failed { tracker, error, .. } => (tracker, Err(error.to_string())),
            Note::Scraped { .. } => return None,
        };
        Some(Self::Tracker { url, result })
    }
}

/// What a tracker has answered to an announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackerAnswer {
    /// Number of peers it named.
    pub peers: usize,
    /// Seeds in the swarm, when it says.
    pub complete: Option<u64>,
    /// Leeches in the swarm, when it says.
    pub incomplete: Option<u64>,
    /// Its word to the user, fit to be shown.
    pub warning: Option<String>,
    /// Our address as it sees it (BEP 24): one vote, not the truth.
    pub external_ip: Option<IpAddr>,
}
