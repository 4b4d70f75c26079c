//! What a session is to do.

use super::dht::DhtOptions;
use super::farewell::Farewell;
use super::listen::Listen;
use crate::discovery::tracker::{AnnouncerConfig, TrackerOptions};
use crate::metainfo::Torrent;
use crate::ring::ZeroCopySend;
use crate::shard::Choices;
use crate::swarm::Source;
use crate::wire::PeerId;
use crate::wire::mse::Encryption;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How often trackers are asked.
pub type AnnounceLimits = AnnouncerConfig;

/// When a session has done its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// When the torrent is complete.
    Download,
    /// When it is told to stop.
    DownloadAndSeed,
    /// When it is told to stop; nothing is downloaded.
    Seed,
}

impl Goal {
    /// How many bytes are fetched when so many are missing. Who only seeds fetches nothing, whatever is missing.
    pub(super) fn fetches(self, left: u64) -> u64 {
        if self == Self::Seed { 0 } else { left }
    }
}

/// What a session is to do.
#[derive(Debug)]
pub struct Job {
    /// The torrent.
    pub torrent: Arc<Torrent>,
    /// The download folder.
    pub folder: PathBuf,
    /// What for.
    pub goal: Goal,
    /// Where peers connect to.
    pub listen: Listen,
    /// Peers that the user named.
    pub peers: Vec<SocketAddr>,
    /// Addresses where peers may be, and who has named them.
    pub found: Vec<(SocketAddr, Source)>,
    /// What we call ourselves; by chance when not given.
    pub id: Option<PeerId>,
    /// What trackers were told by that name before there was a torrent.
    pub farewell: Farewell,
    /// Processors to work on, at least 1.
    pub cores: usize,
    /// Bytes of payload memory, on all cores together.
    pub memory_limit: u64,
    /// When payload is sent without a copy.
    pub zero_copy_send: ZeroCopySend,
    /// How connections to peers are encrypted.
    pub encryption: Encryption,
    /// How often trackers are asked.
    pub announce: AnnounceLimits,
    /// How trackers are asked; `None` to leave them alone.
    pub trackers: Option<TrackerOptions>,
    /// Whether to look for peers on the local network (BEP 14); never done for private torrents.
    pub local_discovery: bool,
    /// How the DHT is used, if it is; never for private torrents.
    pub dht: Option<DhtOptions>,
    /// Whether peers tell each other of further ones (BEP 11); never for private torrents.
    pub pex: bool,
    /// Whether to tell all that is counted: [`super::Event::Snapshot`].
    pub snapshots: bool,
    /// What the user wants of the torrent.
    pub choices: Choices,
}

impl Job {
    /// One on a single core for this machine alone: it listens at some port of the loopback address and looks for nobody.
    pub fn alone(torrent: &Arc<Torrent>, folder: &Path, goal: Goal) -> Self {
        Self {
            torrent: Arc::clone(torrent),
            folder: folder.to_owned(),
            goal,
            listen: Listen::At((Ipv4Addr::LOCALHOST, 0).into()),
            peers: Vec::new(),
            found: Vec::new(),
            id: None,
            farewell: Farewell::default(),
            cores: 1,
            memory_limit: 32 << 20,
            zero_copy_send: ZeroCopySend::default(),
            encryption: Encryption::default(),
            announce: AnnounceLimits::default(),
            trackers: None,
            local_discovery: false,
            dht: None,
            pex: true,
            snapshots: false,
            choices: Choices::default(),
        }
    }
}
