//! From a magnet link to its torrent (BEP 9): finds peers, fetches the info dictionary from them, verifies it.
//!
//! A stage of its own before there is a swarm, on the control thread: a few small messages with a few peers. When it is
//! over its connections are closed, and the session begins with the addresses that were found.

mod channel;
mod door;
mod liars;
mod peer;
mod places;
mod room;
mod stage;

pub use stage::MagnetLimits;

use super::dht::{DhtOptions, DhtSearch};
use super::events::Event;
use super::farewell::{self, Farewell};
use super::listen::{Listen, bind};
use super::run::{SessionError, random_id};
use crate::discovery::dht::DhtSockets;
use crate::discovery::local::LocalSearch;
use crate::discovery::names::Names;
use crate::discovery::tracker::{
    AnnouncerConfig, Announcing, Note, TorrentIdentity, Totals, TrackerClient, TrackerOptions, announce_key,
};
use crate::metainfo::{HostPort, Magnet, Torrent};
use crate::shard::Secrecy;
use crate::swarm::{self, IpFilter};
use crate::wire::mse::Encryption;
use crate::wire::{Handshake, Home, PeerId, Reserved};
use channel::Shared;
use peer::Ourselves;
use places::{Places, Source};
use stage::{News, Stage};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::interval;

/// Time between two looks at everything that waits.
const TICK: Duration = Duration::from_millis(500);
/// Addresses of one host name that are taken.
const ADDRESSES_A_NAME: usize = 4;

/// What to look for, and how.
#[derive(Debug)]
pub struct MagnetJob {
    /// The link.
    pub magnet: Magnet,
    /// Where peers connect to.
    pub listen: Listen,
    /// Peers that the user named.
    pub peers: Vec<SocketAddr>,
    /// How often trackers are asked.
    pub announce: AnnouncerConfig,
    /// How trackers are asked; `None` to leave them alone.
    pub trackers: Option<TrackerOptions>,
    /// Whether to look for peers on the local network (BEP 14).
    pub local_discovery: bool,
    /// How the DHT is used, if it is.
    pub dht: Option<DhtOptions>,
    /// Whether to hear from peers of other peers (BEP 11).
    pub pex: bool,
    /// How connections to peers are encrypted.
    pub encryption: Encryption,
    /// Most connections with one host, when not as many as usual.
    pub most_of_host: Option<usize>,
    /// Addresses to have nothing to do with.
    pub filter: Option<Arc<IpFilter>>,
}

/// What came of a magnet link.
#[derive(Debug)]
pub struct Resolved {
    /// The torrent, with the link's trackers.
    pub torrent: Torrent,
    /// Where peers are, and who has named them. When the torrent is private, that is the user, the link, or a tracker.
    pub peers: Vec<(SocketAddr, swarm::Source)>,
    /// What we called ourselves to trackers and peers: the session goes on by that name.
    pub id: PeerId,
    /// Length of the info dictionary.
    pub metadata_len: usize,
    /// How often limits have said no on the way.
    pub limits: MagnetLimits,
    /// To be said when no session follows; else it is the session's.
    pub farewell: Farewell,
}

/// What happens meanwhile.
#[derive(Clone, Debug)]
pub enum MagnetEvent {
    /// So many bytes of metadata have come, from so many peers that are connected.
    Progress {
        /// Bytes held.
        bytes: usize,
        /// Peers connected.
        peers: usize,
        /// How often limits have said no.
        limits: MagnetLimits,
    },
    /// All has come, and cannot be used: it breaks a limit, or is not what a torrent says.
    Refused {
        /// Length of the metadata.
        bytes: usize,
        /// How often limits have said no, this time included.
        limits: MagnetLimits,
    },
    /// What a session tells, too: of trackers and the DHT.
    Told(Event),
}

/// Looks up a peer that the link names (`x.pe`).
async fn look_up(peer: HostPort, names: Names, out: mpsc::Sender<Vec<SocketAddr>>) {
    if let Ok(mut addrs) = names.look_up(&peer.host, peer.port).await {
        addrs.truncate(ADDRESSES_A_NAME);
        let _ = out.send(addrs).await;
    }
}

/// Finds the torrent of a magnet link. `None` when `stop` completes first. To be called inside a tokio runtime.
///
/// # Errors
/// When nobody can connect to us, or what the hash stands for is no torrent that we can work with.
pub async fn resolve(
    job: MagnetJob,
    mut watch: impl FnMut(MagnetEvent),
    stop: impl Future<Output = ()>,
) -> Result<Option<Resolved>, SessionError> {
    let MagnetJob {
        magnet,
        listen,
        peers,
        announce,
        trackers: options,
        local_discovery,
        dht,
        pex,
        encryption,
        most_of_host,
        filter,
    } = job;
    let (mut listeners, addr) = bind(listen, 1).await?;
    let port = addr.port();
    let listener = listeners.pop().expect("a listener was asked for");
    let nonblocking = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = nonblocking.map_err(|cause| SessionError::Listen { addr, cause })?;
    let id = random_id();
    // Who has named an address decides what becomes of it: each has a way of its own.
    let (names, mut named) = mpsc::channel(16);
    let (trackers, mut tracked) = mpsc::channel(16);
    let (searches, mut found) = mpsc::channel(16);
    let (tell, mut notes) = mpsc::channel(16);
    let client = options.map(|options| TrackerOptions { encryption, listen: Some(addr), ..options });
    let client = client.map(|options| Arc::new(TrackerClient::new(options)));
    let announcing =
        client.map(|client| announce_for(&magnet, client, announce, (id, port), trackers, tell.clone()));
    let sockets = dht.as_ref().map(|_| DhtSockets::bind(addr));
    let has_node = sockets.as_ref().is_some_and(|sockets| sockets.port().is_some());
    let dht = dht.as_ref().zip(sockets);
    let dht_port = dht.as_ref().and_then(|(options, sockets)| options.port(sockets));
    let mut dht = DhtSearch::start(dht, magnet.info_hash, &[], addr, filter.clone(), searches.clone());
    let _local = local_discovery.then(|| LocalSearch::start(addr, [(magnet.info_hash, searches.clone())]));
    let (heard, mut hear) = mpsc::channel(64);
    let reserved = Reserved::ours(has_node);
    let handshake = Handshake { reserved, info_hash: magnet.info_hash, peer_id: id };
    let shared = Shared::new(Secrecy::new(encryption, magnet.info_hash));
    let ourselves = Ourselves { handshake, home: Home::new(Some(addr)), port, dht_port, pex, shared };
    let mut stage = Stage::new(ourselves, Places::new(filter, most_of_host), heard);
    let (look, names) = (Names::of_a_link(), names);
    magnet.peers.iter().for_each(|peer| stage.spawn(look_up(peer.clone(), look.clone(), names.clone())));
    stage.add(peers, Source::Given);
    let mut ticks = interval(TICK);
    tokio::pin!(stop);
    let metadata = loop {
        let done = tokio::select! {
            () = &mut stop => {
                look.close();
                leave(announcing, dht).await;
                return Ok(None);
            }
            _ = ticks.tick() => {
                let (bytes, peers) = stage.standing();
                watch(MagnetEvent::Progress { bytes, peers, limits: stage.limits() });
                let is_served = stage.is_served();
                // Else the tracker's interval holds.
                let tell = if is_served { Announcing::has_peers } else { Announcing::want_peers };
                announcing.iter().for_each(tell);
                let count = if is_served { peers as u32 } else { 0 };
                dht.iter_mut().for_each(|dht| dht.progress(count, 1));
                stage.tick();
                None
            }
            Some(addrs) = named.recv() => {
                stage.add(addrs, Source::Given);
                None
            }
            Some(addrs) = tracked.recv() => {
                stage.add(addrs, Source::Tracker);
                None
            }
            Some(addrs) = found.recv() => {
                stage.add(addrs, Source::Search);
                None
            }
            note = DhtSearch::note(&mut dht) => {
                watch(MagnetEvent::Told(Event::Dht(note)));
                None
            }
            Some(note) = notes.recv() => {
                Event::of_announce(note).into_iter().for_each(|event| watch(MagnetEvent::Told(event)));
                None
            }
            Ok((stream, addr)) = listener.accept() => {
                stage.accept(stream, addr);
                None
            }
            Some((peer, heard)) = hear.recv() => match stage.hear(peer, heard) {
                Some(News::Metadata(metadata)) => Some(metadata),
                Some(News::Node(node)) => {
                    dht.iter().for_each(|dht| dht.add_node(node));
                    None
                }
                None => None,
            },
        };
        if let Some(metadata) = done {
            break metadata;
        }
    };
    look.close();
    let torrent = match Torrent::from_metadata(&metadata, &magnet.tiers()) {
        Ok(torrent) => torrent,
        Err(error) => {
            let limits = MagnetLimits { refused: 1, ..stage.limits() };
            watch(MagnetEvent::Refused { bytes: metadata.len(), limits });
            leave(announcing, dht).await;
            return Err(SessionError::Metadata(error));
        }
    };
    leave(None, dht).await;
    let (metadata_len, limits) = (metadata.len(), stage.limits());
    let peers = stage.into_addresses(torrent.private);
    let farewell = Farewell::new(addr, announcing);
    Ok(Some(Resolved { torrent, peers, id, metadata_len, limits, farewell }))
}

/// Tells trackers that we have gone, and the DHT keeps its nodes for the next time.
async fn leave(announcing: Option<Announcing>, dht: Option<DhtSearch>) {
    let dht = async {
        if let Some(dht) = dht {
            dht.stop().await;
        }
    };
    tokio::join!(farewell::stop(announcing), dht);
}

fn announce_for(
    magnet: &Magnet,
    client: Arc<TrackerClient>,
    limits: AnnouncerConfig,
    (id, port): (PeerId, u16),
    found: mpsc::Sender<Vec<SocketAddr>>,
    notes: mpsc::Sender<Note>,
) -> Announcing {
    let identity = TorrentIdentity {
        info_hash: magnet.info_hash,
        peer_id: id.0,
        port,
        key: announce_key(magnet.info_hash, id.0),
        tiers: magnet.tiers(),
        told: Vec::new(),
    };
    let totals = Arc::new(Totals::default());
    // Not known; but something is missing.
    totals.left.store(1, Ordering::Relaxed);
    Announcing::start(client, identity, limits, totals, found, notes)
}
