//! The peers of a magnet link: whom to dial, whom to ask for which block of the metadata, and what becomes of the answers.

use super::peer::{self, Heard, Line, Ourselves};
use super::places::{Places, Source};
use super::room::{Newcomer, Room, Standing, room_for};
use crate::swarm::{self, MetadataFetch, MetadataOutcome, Offences, PexPace, Teller, host, is_usable};
use crate::wire::extended::{Extension, ExtensionIds, MetadataMessage, PexMessage};
use crate::wire::{at_port, canonical};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A peer that has not said how long the metadata is after so long gives its place to another; one that may tell of others
/// has longer, for some clients do that after a minute and a half.
const SILENCE: Duration = Duration::from_secs(30);
const SILENCE_OF_TELLERS: Duration = Duration::from_secs(120);
/// Messages of one peer that should not have come: handshakes after the first, requests for what we do not have, rejects of what
/// nobody asked it for. Some are forgotten: who is as new as we are may ask us now and then, and some links take hours.
const MOST_OFFENCES: u32 = 50;

/// How often a limit of this stage has said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct MagnetLimits {
    /// Peers of no use because the metadata cannot be as long as they say, or they say another length than before.
    pub sizes: u64,
    /// Messages that should not have come. Peers are dropped for a block that nobody asked for or of a wrong length, and for a message
    /// about blocks that cannot be read; for others only when there are many.
    pub offences: u64,
    /// Messages in which peers tell of others that came too often, cannot be read, or have longer lists than are taken.
    pub exchange: u64,
    /// Times that all was there and had the wrong hash.
    pub wrong: u64,
    /// Peers that alone sent what had the wrong hash, and were banned for it.
    pub liars: u64,
    /// Hosts that were banned because several of their peers were.
    pub liar_hosts: u64,
    /// Liars that do not count against their hosts because there are too many.
    pub bans: u64,
    /// Connections and addresses not taken because of the user's filter.
    pub filtered: u64,
    /// Likewise, because their hosts were banned.
    pub barred: u64,
    /// Times that what had come of a length was thrown away, because there was too much of all of them.
    pub overfull: u64,
    /// Peers given up because they named no length, or sent no block, for long.
    pub silent: u64,
    /// Peers whose blocks came too late.
    pub late: u64,
    /// Blocks that were asked for and rejected.
    pub rejects: u64,
    /// Times that all was there and right, and could not be used: it breaks a limit of torrents, or is none. The error that
    /// follows says why.
    pub refused: u64,
    /// Connections not taken, and addresses not dialled when they were due, because there were too many peers.
    pub peers: u64,
    /// Likewise, because there were too many of the same host.
    pub hosts: u64,
    /// Addresses not dialled when they were due, because too many dials to their networks had come to nothing.
    pub networks: u64,
    /// Peers that gave way to others.
    pub displaced: u64,
    /// Addresses not remembered because there were too many, or given up after too many tries.
    pub addresses: u64,
}

/// A connected peer.
struct Peer {
    line: Line,
    addr: SocketAddr,
    outgoing: bool,
    /// The user or the link has named it.
    given: bool,
    /// Where it listens, as far as is known.
    listens: Option<SocketAddr>,
    ids: ExtensionIds,
    /// Whether it has said how long the metadata is.
    offered: bool,
    /// Whether it has said where its DHT node listens.
    named_node: bool,
    pex: PexPace,
    greeted: bool,
    offences: Offences,
    since: Instant,
}

impl Peer {
    /// How long it may keep its place without a word about the metadata.
    fn patience(&self) -> Duration {
        if self.ids.get(Extension::Pex).is_some() { SILENCE_OF_TELLERS } else { SILENCE }
    }
}

/// What comes of what peers say.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The metadata, complete and right.
    Metadata(Vec<u8>),
    /// A node of the DHT.
    Node(SocketAddr),
}

/// All of them.
pub(super) struct Stage {
    fetch: MetadataFetch,
    ourselves: Ourselves,
    places: Places,
    peers: BTreeMap<u64, Peer>,
    next_peer: u64,
    heard: mpsc::Sender<(u64, Heard)>,
    tasks: JoinSet<()>,
    begun: Instant,
    limits: MagnetLimits,
}

impl Stage {
    pub(super) fn new(ourselves: Ourselves, places: Places, heard: mpsc::Sender<(u64, Heard)>) -> Self {
        Self {
            fetch: MetadataFetch::new(ourselves.handshake.info_hash),
            ourselves,
            places,
            peers: BTreeMap::new(),
            next_peer: 0,
            heard,
            tasks: JoinSet::new(),
            begun: Instant::now(),
            limits: MagnetLimits::default(),
        }
    }

    /// How often limits have said no.
    pub(super) fn limits(&self) -> MagnetLimits {
        let door = &self.places.door;
        MagnetLimits {
            late: self.fetch.late(),
            rejects: self.fetch.rejects(),
            liars: door.liars.all,
            liar_hosts: door.liars.shut_out,
            bans: door.liars.forgotten,
            filtered: door.filtered,
            barred: door.barred,
            overfull: self.fetch.overfull(),
            peers: self.limits.peers + self.places.waited(),
            hosts: self.limits.hosts + self.places.crowded(),
            networks: self.places.held_back(),
            addresses: self.places.refused(),
            ..self.limits
        }
    }

    /// Bytes of the metadata that are here, and the number of peers.
    pub(super) fn standing(&self) -> (usize, usize) {
        (self.fetch.held(), self.peers.len())
    }

    /// Whether somebody here gives it, or may be about to: one that has not been here for long.
    pub(super) fn is_served(&self) -> bool {
        let now = self.begun.elapsed();
        let promises = |peer: &Peer| peer.offered && peer.since.elapsed() < SILENCE;
        self.peers.iter().any(|(number, peer)| promises(peer) || self.fetch.service(now, *number).gives)
    }

    /// Runs a task that ends with the stage.
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Takes addresses to be dialled.
    pub(super) fn add(&mut self, addrs: Vec<SocketAddr>, source: Source) {
        addrs.into_iter().for_each(|addr| self.places.add(addr, source));
        self.dial();
    }

    /// Dials whom there is a place for.
    fn dial(&mut self) {
        let now = self.begun.elapsed();
        loop {
            let (peers, hosts, standings) = (&self.peers, self.hosts(), self.standings());
            let is_connected = |addr: &SocketAddr| peers.values().any(|p| p.outgoing && p.addr == *addr);
            self.places.forget_dead(now, is_connected);
            let due =
                self.places.take_due(now, &hosts, is_connected, |newcomer| room_for(newcomer, &standings));
            let Some((addr, newcomer, room)) = due else { return };
            self.make(room);
            self.begin(addr, newcomer == Newcomer::Given, None);
        }
    }

    /// How many peers of each host are here.
    fn hosts(&self) -> BTreeMap<IpAddr, usize> {
        let mut hosts = BTreeMap::new();
        self.peers.values().for_each(|peer| *hosts.entry(host(peer.addr.ip())).or_default() += 1);
        hosts
    }

    /// Takes a connection that a peer has made.
    pub(super) fn accept(&mut self, stream: TcpStream, addr: SocketAddr) {
        let addr = canonical(addr);
        if !self.places.door.lets_in(addr.ip()) {
            return;
        }
        let of_host = self.hosts().get(&host(addr.ip())).copied().unwrap_or(0);
        if self.places.is_crowd(addr.ip(), of_host) {
            self.limits.hosts += 1;
            return;
        }
        let room = room_for(Newcomer::Incoming, &self.standings());
        if room == Room::Full {
            self.limits.peers += 1;
            return;
        }
        self.make(room);
        self.begin(addr, false, Some(stream));
    }

    /// How all peers stand that are here.
    fn standings(&self) -> Vec<Standing> {
        let now = self.begun.elapsed();
        let peers = self.peers.iter().map(|(number, peer)| Standing {
            number: *number,
            outgoing: peer.outgoing,
            given: peer.given,
            age: peer.since.elapsed(),
            service: self.fetch.service(now, *number),
        });
        peers.collect()
    }

    fn make(&mut self, room: Room) {
        if let Room::After(peer) = room {
            self.limits.displaced += 1;
            self.fetch.gone(peer);
            self.peers.remove(&peer);
        }
    }

    fn begin(&mut self, addr: SocketAddr, given: bool, accepted: Option<TcpStream>) {
        let number = self.next_peer;
        self.next_peer += 1;
        let outgoing = accepted.is_none();
        let (line, outbox) = Line::new();
        let peer = Peer {
            line,
            addr,
            outgoing,
            given,
            listens: outgoing.then_some(addr),
            ids: ExtensionIds::default(),
            offered: false,
            named_node: false,
            pex: PexPace::default(),
            greeted: false,
            offences: Offences::new(self.begun.elapsed()),
            since: Instant::now(),
        };
        self.peers.insert(number, peer);
        let (ourselves, heard) = (self.ourselves.clone(), self.heard.clone());
        self.tasks.spawn(async move {
            let talk = peer::talk(addr, accepted, &ourselves, outbox, |said| {
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

    /// A peer has said something.
    pub(super) fn hear(&mut self, number: u64, heard: Heard) -> Option<News> {
        let peer = self.peers.get_mut(&number)?;
        if peer.outgoing && !matches!(heard, Heard::Gone) {
            self.places.met(&peer.addr);
        }
        match heard {
            Heard::Gone => self.remove(number),
            Heard::Hello(hello) => {
                peer.ids.update(&hello);
                let said = hello.port.map(|port| at_port(peer.addr, port));
                peer.listens = peer.listens.or(said);
                if peer.ids.get(Extension::Metadata).is_some() {
                    let offered =
                        self.fetch.offer(self.begun.elapsed(), number, peer.addr, hello.metadata_size);
                    peer.offered |= offered;
                    // Who names none may not have it yet.
                    self.limits.sizes += u64::from(!offered && hello.metadata_size.is_some());
                }
                let again = std::mem::replace(&mut peer.greeted, true);
                self.ask(number);
                if again {
                    self.offend(number);
                }
            }
            Heard::Part => self.fetch.heard(self.begun.elapsed(), number),
            Heard::Metadata(payload) => return self.hear_metadata(number, &payload).map(News::Metadata),
            Heard::Others(payload) => self.hear_others(number, &payload),
            Heard::Port(port) => {
                let (again, node) = (std::mem::replace(&mut peer.named_node, true), at_port(peer.addr, port));
                if again {
                    self.offend(number);
                }
                return (!again && port != 0).then_some(News::Node(node));
            }
        }
        None
    }

    /// A peer tells of others.
    fn hear_others(&mut self, number: u64, payload: &[u8]) {
        let Some(peer) = self.peers.get_mut(&number).filter(|_| self.ourselves.pex) else { return };
        let in_time = peer.pex.take(self.begun.elapsed());
        let Some(message) = in_time.then(|| PexMessage::parse(payload)).flatten() else {
            self.limits.exchange += 1;
            return self.offend(number);
        };
        self.limits.exchange += u64::from(message.cut);
        let (sender, teller) = (peer.addr.ip(), Teller::new(peer.addr));
        let told = message.added.into_iter().map(|(addr, _)| canonical(addr));
        told.filter(|addr| is_usable(*addr, sender)).for_each(|addr| self.places.add_told(addr, teller));
        self.dial();
    }

    fn hear_metadata(&mut self, number: u64, payload: &[u8]) -> Option<Vec<u8>> {
        match MetadataMessage::parse(payload) {
            Some(MetadataMessage::Request { block }) => {
                let peer = self.peers.get(&number)?;
                let id = peer.ids.get(Extension::Metadata)?;
                peer.line.say(id, MetadataMessage::Reject { block });
                self.offend(number);
            }
            Some(MetadataMessage::Data { block, total_size, bytes }) => {
                match self.fetch.data(self.begun.elapsed(), number, (block, total_size), bytes) {
                    MetadataOutcome::Done(metadata) => return Some(metadata),
                    MetadataOutcome::Wait => self.ask(number),
                    MetadataOutcome::Offence => {
                        self.limits.offences += 1;
                        self.remove(number);
                    }
                    MetadataOutcome::Wrong { liar } => {
                        self.limits.wrong += 1;
                        if let Some(liar) = liar {
                            let addr = self.peers.get(&liar).map(|peer| peer.addr);
                            addr.into_iter().for_each(|addr| self.places.ban(addr));
                            self.remove(liar);
                        }
                        self.ask_all();
                    }
                }
            }
            Some(MetadataMessage::Reject { block }) => {
                if self.fetch.rejected(self.begun.elapsed(), number, block) {
                    self.ask_all();
                } else {
                    self.offend(number);
                }
            }
            Some(MetadataMessage::Unknown) => {}
            None => {
                self.limits.offences += 1;
                self.remove(number);
            }
        }
        None
    }

    /// A message of the peer should not have come.
    fn offend(&mut self, number: u64) {
        self.limits.offences += 1;
        let Some(peer) = self.peers.get_mut(&number) else { return };
        if peer.offences.add(MOST_OFFENCES) {
            self.remove(number);
        }
    }

    fn ask(&mut self, number: u64) {
        let now = self.begun.elapsed();
        let Some(peer) = self.peers.get(&number) else { return };
        let Some(id) = peer.ids.get(Extension::Metadata) else { return };
        if let Some(block) = self.fetch.next_request(now, number) {
            peer.line.say(id, MetadataMessage::Request { block });
        }
    }

    fn ask_all(&mut self) {
        let numbers: Vec<u64> = self.peers.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.ask(number));
    }

    /// Gives up whoever says nothing, asks and dials.
    pub(super) fn tick(&mut self) {
        let now = self.begun.elapsed();
        self.peers.values_mut().for_each(|peer| peer.offences.tick(now));
        let late = self.fetch.tick(now);
        let silent =
            self.peers.iter().filter(|(_, peer)| !peer.offered && peer.since.elapsed() > peer.patience());
        let silent: Vec<u64> = silent.map(|(number, _)| *number).collect();
        for number in late.into_iter().chain(silent) {
            self.limits.silent += 1;
            self.remove(number);
        }
        self.ask_all();
        self.dial();
        while self.tasks.try_join_next().is_some() {}
    }

    /// Addresses that are worth dialling, and who has named them.
    pub(super) fn into_addresses(self, private: bool) -> Vec<(SocketAddr, swarm::Source)> {
        let good = self.peers.values().filter(|peer| peer.offered).filter_map(|peer| peer.listens);
        self.places.into_addresses(good, private)
    }
}

#[cfg(test)]
mod tests;
