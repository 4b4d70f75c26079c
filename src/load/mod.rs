//! A load generator: many connections from many loopback addresses, each its own peer, that download from or upload
//! to one BitTorrent client of any make.
//!
//! It measures others, so it must cost less than they do: one thread, edge-triggered epoll, large receives into one
//! buffer, requests sent in batches, blocks sent from the mapped files by one gathering call. Every block that is
//! received is compared, byte for byte, with the torrent's files. It speaks the protocol of BEP 3 and no extension.
//!
//! | file | subject |
//! |---|---|
//! | `run` | the loop: who is ready, who has gone, when it ends |
//! | `connection` | one connection: handshake, bytes in and out |
//! | `download`, `upload` | what a connection asks for, and what it answers |
//! | `order` | in which order blocks are asked for |
//! | `payload` | the bytes as they should be |
//! | `report` | what is counted and told |
//! | `net` | sockets and epoll |

mod connection;
mod download;
mod net;
mod order;
mod payload;
mod report;
mod run;
mod upload;

pub use order::Order;
pub use report::Report;
pub use run::run;

use crate::storage::StorageError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Most connections of one run.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Most requests that a connection keeps in flight.
pub const MAX_REQUESTS: usize = 10_000;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder that holds the torrent's file or folder, whole and right.
    pub folder: PathBuf,
    /// How the connections come about.
    pub meeting: Meeting,
    /// Number of connections, 1 to [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// Whether it is enough that some of them are made, and last: for clients that limit their peers.
    pub allow_fewer: bool,
    /// Which way the blocks go.
    pub mode: Mode,
    /// The run ends well after this time, whatever was reached by then.
    pub duration: Option<Duration>,
    /// The run fails when it has not ended by then.
    pub timeout: Duration,
}

/// How the connections come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meeting {
    /// Connects to the client. When it is on a loopback address, connection `i` comes from 127.0.0.2 + `i`.
    Dial(SocketAddr),
    /// Waits for the client at as many addresses as there are connections: this one and those that follow it, all with
    /// the same port. Port 0 takes one that is free at the first address.
    Listen(SocketAddr),
}

/// Which way the blocks go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The client is a seed: blocks are asked for and compared.
    Download {
        /// When there is enough.
        goal: Goal,
        /// Which blocks.
        order: Order,
        /// Requests in flight on each connection, 1 to [`MAX_REQUESTS`]. They are topped up when a quarter has been
        /// answered.
        requests: usize,
    },
    /// The client is a leech: every connection is a seed and answers what it is asked. Ends when the client has
    /// everything, by what it says or by what it was sent.
    Upload,
}

/// How much is downloaded, in bytes, rounded up to whole blocks. More than the torrent has means again from its
/// beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// By each connection, which is closed when it has that much.
    Each(u64),
    /// By all connections together, whichever are served.
    Together(u64),
}

/// Why a run could not be made. What peers do in a run is in its [`Report`].
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file of the torrent is not there.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Anything else that stands in the way before or during the run, as a sentence.
    #[error("{0}")]
    Setup(String),
}
