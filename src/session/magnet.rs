//! From a magnet link to its torrent (BEP 9): finds peers, fetches the info dictionary from them, verifies it.
//!
//! A stage of its own before there is a swarm, on the control thread: a few small messages with a few peers. When it is
//! over its connections are closed, and the session begins with the addresses that were found.

use super::dht::{DhtOptions, DhtSearch};
use super::magnet_channel::Shared;
use super::magnet_peer::{self, Heard, Line, Ourselves};
use super::run::{Listen, SessionError, bind, random_id};
use crate::discovery::local::LocalSearch;
use crate::discovery::tracker::{
    AnnouncerConfig, Announcing, Note, TorrentIdentity, Totals, TrackerClient, TrackerOptions,
};
use crate::metainfo::{HostPort, Magnet, Torrent};
use crate::shard::Secrecy;
use crate::swarm::{MetadataFetch, MetadataOutcome};
use crate::wire::extended::{Extension, ExtensionIds, MetadataMessage};
use crate::wire::mse::Encryption;
use crate::wire::{Handshake, PeerId, Reserved};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

/// Peers talked to at the same time; how many of them may have dialled us, so that whoever comes in crowds leaves room for
/// those that we dial; and addresses remembered.
const MOST_PEERS: usize = 40;
const MOST_ACCEPTED: usize = 20;
const MOST_ADDRESSES: usize = 2000;
/// How often an address is dialled, and the wait in between.
const MOST_DIALS: u32 = 20;
const REDIAL: Duration = Duration::from_secs(3);
/// A peer that has not said how long the metadata is after so long gives its place to another.
const SILENCE: Duration = Duration::from_secs(30);
/// Time for one look-up of a host name, and addresses of it that are taken.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
const ADDRESSES_A_NAME: usize = 4;
/// Time between two looks at everything that waits.
const TICK: Duration = Duration::from_millis(500);

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
    /// How connections to peers are encrypted.
    pub encryption: Encryption,
}

/// What came of a magnet link.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The torrent, with the link's trackers.
    pub torrent: Torrent,
    /// Where peers are.
    pub peers: Vec<SocketAddr>,
    /// What we called ourselves to trackers and peers: the session goes on by that name.
    pub id: PeerId,
    /// Length of the info dictionary.
    pub metadata_len: usize,
    /// How often limits have said no on the way.
    pub limits: MagnetLimits,
}

/// How often a limit of this stage has said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MagnetLimits {
    /// Peers of no use because the metadata cannot be as long as they say, or they say another length than before.
    pub sizes: u64,
    /// Peers dropped for a block that nobody asked for or of a wrong length, or for a message about them that cannot be read.
    pub offences: u64,
    /// Times that all was there and had the wrong hash.
    pub wrong: u64,
    /// Times that what had come of a length was thrown away, because there was too much of all of them.
    pub overfull: u64,
    /// Peers given up because they named no length, or sent no block, for long.
    pub silent: u64,
    /// Connections not taken because there were too many.
    pub peers: u64,
    /// Addresses not remembered because there were too many, or given up after too many tries.
    pub addresses: u64,
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
    /// A tracker has answered, or not.
    Tracker {
        /// Its URL.
        url: String,
        /// Number of peers it named, or what went wrong.
        result: Result<usize, String>,
    },
}

/// An address where a peer may be.
#[derive(Clone, Copy, Debug)]
struct Place {
    addr: SocketAddr,
    dials: u32,
    not_before: Instant,
}

/// A connected peer.
struct Peer {
    line: Line,
    addr: SocketAddr,
    outgoing: bool,
    /// Where it listens, as far as is known.
    listens: Option<SocketAddr>,
    ids: ExtensionIds,
    /// Whether it has said how long the metadata is.
    offered: bool,
    since: Instant,
}

struct Stage {
    fetch: MetadataFetch,
    ourselves: Ourselves,
    waiting: VecDeque<Place>,
    known: BTreeSet<SocketAddr>,
    /// Hosts that alone sent wrong metadata.
    banned: BTreeSet<IpAddr>,
    peers: BTreeMap<u64, Peer>,
    next_peer: u64,
    heard: mpsc::Sender<(u64, Heard)>,
    tasks: JoinSet<()>,
    begun: Instant,
    limits: MagnetLimits,
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
    let MagnetJob { magnet, listen, peers, announce, trackers, local_discovery, dht, encryption } = job;
    let (mut listeners, addr) = bind(listen, 1).await?;
    let port = addr.port();
    let listener = listeners.pop().expect("a listener was asked for");
    let nonblocking = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = nonblocking.map_err(|cause| SessionError::Listen { addr, cause })?;
    let id = random_id();
    let (names, mut found) = mpsc::channel(16);
    let (tell, mut notes) = mpsc::channel(16);
    let client = trackers.map(|options| TrackerOptions { encryption, ..options });
    let client = client.map(|options| Arc::new(TrackerClient::new(options)));
    let announcing =
        client.map(|client| announce_for(&magnet, client, announce, (id, port), names.clone(), tell.clone()));
    let mut dht = DhtSearch::start(dht.as_ref(), magnet.info_hash, &[], addr, names.clone());
    let _local = local_discovery.then(|| LocalSearch::start(addr, [(magnet.info_hash, names.clone())]));
    let (heard, mut hear) = mpsc::channel(64);
    let handshake = Handshake { reserved: Reserved::ours(false), info_hash: magnet.info_hash, peer_id: id };
    let shared = Shared::new(Secrecy::new(encryption, magnet.info_hash));
    let mut stage = Stage::new(Ourselves { handshake, port, shared }, heard);
    magnet.peers.iter().for_each(|peer| _ = stage.tasks.spawn(look_up(peer.clone(), names.clone())));
    stage.add(peers);
    let mut ticks = interval(TICK);
    tokio::pin!(stop);
    let metadata = loop {
        let done = tokio::select! {
            () = &mut stop => return Ok(None),
            _ = ticks.tick() => {
                let (bytes, peers) = (stage.fetch.held(), stage.peers.len());
                watch(MagnetEvent::Progress { bytes, peers, limits: stage.limits() });
                if peers == 0 {
                    announcing.iter().for_each(Announcing::want_peers);
                }
                dht.iter().for_each(|dht| dht.progress(peers as u32, 1));
                stage.tick();
                None
            }
            Some(addrs) = found.recv() => {
                stage.add(addrs);
                None
            }
            note = DhtSearch::note(&mut dht) => {
                tracing::debug!("DHT: {note:?}");
                None
            }
            Some(note) = notes.recv() => {
                event(note).into_iter().for_each(&mut watch);
                None
            }
            Ok((stream, addr)) = listener.accept() => {
                stage.accept(stream, addr);
                None
            }
            Some((peer, heard)) = hear.recv() => stage.hear(peer, heard),
        };
        if let Some(metadata) = done {
            break metadata;
        }
    };
    // Trackers are not told that we have gone: the session tells them in a moment that it is here, by the same name.
    drop(announcing);
    if let Some(dht) = dht {
        dht.stop().await;
    }
    let torrent = Torrent::from_metadata(&metadata, &magnet.tiers()).map_err(SessionError::Metadata)?;
    let (metadata_len, limits) = (metadata.len(), stage.limits());
    Ok(Some(Resolved { torrent, peers: stage.addresses(), id, metadata_len, limits }))
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
        key: fastrand::u32(..),
        tiers: magnet.tiers(),
    };
    let totals = Arc::new(Totals::default());
    // Not known; but something is missing.
    totals.left.store(1, Ordering::Relaxed);
    Announcing::start(client, identity, limits, totals, found, notes)
}

/// What is to be told of a note, if anything.
fn event(note: Note) -> Option<MagnetEvent> {
    Some(match note {
        Note::Announced { tracker, peers, .. } => MagnetEvent::Tracker { url: tracker, result: Ok(peers) },
        Note::Failed { tracker, error, .. } => {
            MagnetEvent::Tracker { url: tracker, result: Err(error.to_string()) }
        }
        Note::Scraped { .. } => return None,
    })
}

async fn look_up(peer: HostPort, out: mpsc::Sender<Vec<SocketAddr>>) {
    if let Ok(Ok(addrs)) = timeout(LOOKUP_TIME, lookup_host((peer.host.as_str(), peer.port))).await {
        let _ = out.send(addrs.take(ADDRESSES_A_NAME).collect()).await;
    }
}

impl Stage {
    fn new(ourselves: Ourselves, heard: mpsc::Sender<(u64, Heard)>) -> Self {
        Self {
            fetch: MetadataFetch::new(ourselves.handshake.info_hash),
            ourselves,
            waiting: VecDeque::new(),
            known: BTreeSet::new(),
            banned: BTreeSet::new(),
            peers: BTreeMap::new(),
            next_peer: 0,
            heard,
            tasks: JoinSet::new(),
            begun: Instant::now(),
            limits: MagnetLimits::default(),
        }
    }

    fn limits(&self) -> MagnetLimits {
        MagnetLimits { overfull: self.fetch.overfull(), ..self.limits }
    }

    /// Takes addresses to be dialled.
    fn add(&mut self, addrs: Vec<SocketAddr>) {
        for addr in addrs {
            if addr.port() == 0 || self.known.contains(&addr) {
                continue;
            }
            if self.known.len() >= MOST_ADDRESSES {
                self.limits.addresses += 1;
            } else {
                self.known.insert(addr);
                self.waiting.push_back(Place { addr, dials: 0, not_before: self.begun });
            }
        }
        self.dial();
    }

    fn dial(&mut self) {
        let now = Instant::now();
        for _ in 0..self.waiting.len() {
            if self.peers.len() >= MOST_PEERS {
                return;
            }
            let Some(place) = self.waiting.pop_front() else { return };
            if place.not_before > now {
                self.waiting.push_back(place);
            } else if !self.banned.contains(&place.addr.ip()) {
                self.begin(place.addr, None);
                // Should it come to nothing, it has another turn.
                let dials = place.dials + 1;
                if dials < MOST_DIALS {
                    self.waiting.push_back(Place { dials, not_before: now + REDIAL * dials, ..place });
                } else {
                    self.limits.addresses += 1;
                }
            }
        }
    }

    fn accept(&mut self, stream: TcpStream, addr: SocketAddr) {
        let accepted = self.peers.values().filter(|peer| !peer.outgoing).count();
        if self.peers.len() >= MOST_PEERS || accepted >= MOST_ACCEPTED {
            self.limits.peers += 1;
        } else if !self.banned.contains(&addr.ip()) {
            self.begin(addr, Some(stream));
        }
    }

    fn begin(&mut self, addr: SocketAddr, accepted: Option<TcpStream>) {
        if accepted.is_none() && self.peers.values().any(|peer| peer.outgoing && peer.addr == addr) {
            return;
        }
        let number = self.next_peer;
        self.next_peer += 1;
        let outgoing = accepted.is_none();
        let (line, outbox) = Line::new();
        let peer = Peer {
            line,
            addr,
            outgoing,
            listens: outgoing.then_some(addr),
            ids: ExtensionIds::default(),
            offered: false,
            since: Instant::now(),
        };
        self.peers.insert(number, peer);
        let (ourselves, heard) = (self.ourselves.clone(), self.heard.clone());
        self.tasks.spawn(async move {
            let talk = magnet_peer::talk(addr, accepted, &ourselves, outbox, |said| {
                let heard = heard.clone();
                async move { heard.send((number, said)).await.is_ok() }
            });
            if let Err(error) = talk.await {
                tracing::debug!("{addr}: {error}");
            }
            let _ = heard.send((number, Heard::Gone)).await;
        });
    }

    fn remove(&mut self, peer: u64) {
        self.fetch.gone(peer);
        self.peers.remove(&peer);
        self.ask_all();
        self.dial();
    }

    /// A peer has said something. Gives the metadata when it is complete.
    fn hear(&mut self, number: u64, heard: Heard) -> Option<Vec<u8>> {
        let peer = self.peers.get_mut(&number)?;
        match heard {
            Heard::Gone => self.remove(number),
            Heard::Hello(hello) => {
                peer.ids.update(&hello);
                let said = hello.port.map(|port| SocketAddr::new(peer.addr.ip().to_canonical(), port));
                peer.listens = peer.listens.or(said);
                if peer.ids.get(Extension::Metadata).is_some() {
                    let offered = self.fetch.offer(number, hello.metadata_size);
                    peer.offered |= offered;
                    // Who names none may not have it yet.
                    self.limits.sizes += u64::from(!offered && hello.metadata_size.is_some());
                }
                self.ask(number);
            }
            Heard::Metadata(payload) => return self.hear_metadata(number, &payload),
        }
        None
    }

    fn hear_metadata(&mut self, number: u64, payload: &[u8]) -> Option<Vec<u8>> {
        match MetadataMessage::parse(payload) {
            Some(MetadataMessage::Request { block }) => {
                let peer = self.peers.get(&number)?;
                let id = peer.ids.get(Extension::Metadata)?;
                peer.line.say(id, MetadataMessage::Reject { block });
            }
            Some(MetadataMessage::Data { block, total_size, bytes }) => {
                match self.fetch.data(number, block, total_size, bytes) {
                    MetadataOutcome::Done(metadata) => return Some(metadata),
                    MetadataOutcome::Wait => self.ask(number),
                    MetadataOutcome::Offence => {
                        self.limits.offences += 1;
                        self.remove(number);
                    }
                    MetadataOutcome::Wrong { liar } => {
                        self.limits.wrong += 1;
                        if let Some(liar) = liar {
                            let ip = self.peers.get(&liar).map(|peer| peer.addr.ip());
                            // On one host there may be many who are honest.
                            self.banned.extend(ip.filter(|ip| !ip.is_loopback()));
                            self.forget(liar);
                            self.remove(liar);
                        }
                        self.ask_all();
                    }
                }
            }
            Some(MetadataMessage::Reject { .. }) => {
                self.fetch.rejected(number);
                self.ask_all();
            }
            Some(MetadataMessage::Unknown) => {}
            None => {
                self.limits.offences += 1;
                self.remove(number);
            }
        }
        None
    }

    /// The address is not dialled again.
    fn forget(&mut self, number: u64) {
        if let Some(addr) = self.peers.get(&number).map(|peer| peer.addr) {
            self.waiting.retain(|place| place.addr != addr);
        }
    }

    fn ask(&mut self, number: u64) {
        let now = self.begun.elapsed();
        let Some(peer) = self.peers.get(&number) else { return };
        let Some(id) = peer.ids.get(Extension::Metadata) else { return };
        while let Some(block) = self.fetch.next_request(now, number) {
            peer.line.say(id, MetadataMessage::Request { block });
        }
    }

    fn ask_all(&mut self) {
        let numbers: Vec<u64> = self.peers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.ask(number));
    }

    fn tick(&mut self) {
        let late = self.fetch.tick(self.begun.elapsed());
        let silent = self.peers.iter().filter(|(_, peer)| !peer.offered && peer.since.elapsed() > SILENCE);
        let silent: Vec<u64> = silent.map(|(number, _)| *number).collect();
        for number in late.into_iter().chain(silent) {
            self.limits.silent += 1;
            self.remove(number);
        }
        self.ask_all();
        self.dial();
        while self.tasks.try_join_next().is_some() {}
    }

    /// Addresses worth dialling, those of peers that had the metadata first.
    fn addresses(&self) -> Vec<SocketAddr> {
        let good = self.peers.values().filter(|peer| peer.offered);
        let mut addrs: Vec<SocketAddr> = good.filter_map(|peer| peer.listens).collect();
        let others: Vec<SocketAddr> =
            self.known.iter().filter(|addr| !addrs.contains(addr)).copied().collect();
        addrs.extend(others);
        addrs.retain(|addr| !self.banned.contains(&addr.ip()));
        addrs
    }
}
