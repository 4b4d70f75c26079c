//! What to ask of whom, and whom to serve: one torrent's peers on one core, as a value.
//!
//! Pure: no I/O, no clock, no task; time and the seed of chance come in as arguments, so the same machine runs under
//! the shard and under a simulator. It has few doors:
//!
//! | door | when |
//! |---|---|
//! | [`Swarm::connect`], [`Swarm::gone`] | a peer's handshake is done; its connection has ended |
//! | [`Swarm::hear`] | a message has come |
//! | [`Swarm::lend`], [`Swarm::begin`], [`Swarm::complete`], [`Swarm::returned`] | a block is coming: where its bytes go |
//! | [`Swarm::hashed`], [`Swarm::written`] | a wish has been granted |
//! | [`Swarm::tick`] | time has passed: at [`Swarm::next_deadline`] |
//! | [`Swarm::fill`] | standing state becomes [`Wish`]es, while the caller has room |
//! | [`Swarm::speak`], [`Swarm::take_upload`] | a connection has room: what to say and to send on it, decided that late |
//!
//! Nothing inside grows with fan-out: that a new piece is told to five hundred peers is five hundred cursors into
//! one log. Payload never comes here: only where it belongs.

mod active;
mod bitfield;
mod candidates;
mod choker;
mod entry;
mod fetch;
mod hear;
mod peer;
mod picker;
mod piece_map;
mod rate;
mod settle;
mod speak;
#[cfg(test)]
mod tests;
mod uploads;

pub use active::RUN_LEN;
pub use bitfield::Bitfield;
pub use fetch::Place;
pub use peer::{Introduction, PeerSlot};
pub use piece_map::PieceMap;
pub use speak::Speech;

use crate::metainfo::{Layout, PieceIndex};
use crate::wire::PeerId;
use active::ActivePiece;
use candidates::Candidates;
use peer::{Peer, Peers};
use picker::Picker;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A peer that says nothing for this long is dropped.
const SILENCE: Duration = Duration::from_secs(120);
/// We say at least something this often.
const KEEP_ALIVE: Duration = Duration::from_secs(100);
/// A peer that sends none of what it was asked for this long is snubbed: others get the blocks.
const SNUB: Duration = Duration::from_secs(30);
/// A request that is this old is taken back, whatever else the peer sends.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at everything that waits.
const TICK: Duration = Duration::from_millis(500);

/// Limits and choices of one torrent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What we call ourselves.
    pub id: PeerId,
    /// Most connections.
    pub most_peers: usize,
    /// Upload slots.
    pub slots: usize,
    /// Pieces longer than this (bytes) are written run by run before they are verified.
    pub hold: u32,
    /// Whether missing pieces are fetched; else only what is there is served.
    pub fetch: bool,
}

/// Why a peer is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DropReason {
    #[error("sent a bitfield that does not fit the torrent")]
    BadBitfield,
    #[error("named piece {0}, which the torrent does not have")]
    NoSuchPiece(u32),
    #[error(
        "asked for {len} bytes at {begin} of piece {index}, which the torrent does not have or which is too much"
    )]
    BadRequest { index: u32, begin: u32, len: u32 },
    #[error("keeps sending or asking for what it should not")]
    Offences,
    #[error("sent a bad piece {0}")]
    BadPiece(PieceIndex),
    #[error("said nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("has everything, and so have we")]
    BothSeeds,
    #[error("is connected already")]
    Duplicate,
    #[error("is ourselves")]
    Ourselves,
    #[error("was banned for a bad piece")]
    Banned,
    #[error("one too many: {0} peers are connected")]
    Full(usize),
}

/// Something the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The peer has something to say or to be sent: call [`Swarm::speak`] when its connection has room.
    Wake(PeerSlot),
    /// Hash this run; the run before it has been hashed. Answer: [`Swarm::hashed`].
    Hash(PieceIndex, usize),
    /// Write this run. Answer: [`Swarm::written`].
    Write(PieceIndex, usize),
    /// The piece is verified and written; or it was bad or is given up, and will be begun anew. Its memory is free.
    Done {
        /// The piece.
        piece: PieceIndex,
        /// Whether we have it now.
        good: bool,
    },
    /// Close the connection.
    Drop(PeerSlot, DropReason),
    /// Connect. Answer: [`Swarm::connect`] or [`Swarm::dial_failed`].
    Dial(SocketAddr),
}

/// How often a limit has said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LimitHits {
    /// Requests not taken because too many of that peer wait already.
    pub requests: u64,
    /// Messages that should not have come: see [`DropReason::Offences`].
    pub offences: u64,
    /// Peers refused, or dropped for new ones, because too many are connected.
    pub peers: u64,
    /// Addresses not remembered because there are too many.
    pub addresses: u64,
    /// Accepted connections closed because too many had not said their handshake.
    pub handshakes: u64,
    /// Things not told to the control thread because its mailbox was full.
    pub reports: u64,
}

/// Sums over the life of the swarm, in payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Fetched and verified.
    pub downloaded: u64,
    /// Come from peers, as whole blocks: the sum of what each has sent.
    pub received: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// Received in vain: came twice, unasked, or in a bad piece.
    pub wasted: u64,
    /// Pieces that came out wrong.
    pub failed_pieces: u64,
    /// Limits met. Those of handshakes and reports are met elsewhere: here they are 0.
    pub limits: LimitHits,
}

/// What is told about a connected peer.
#[derive(Clone, Debug)]
pub struct PeerView {
    /// Tells it from every other peer this swarm has had.
    pub tag: u32,
    /// Where it is, what it calls itself.
    pub who: Introduction,
    /// Bytes a second from it and to it.
    pub rates: (u64, u64),
    /// Payload bytes from it and to it.
    pub totals: (u64, u64),
    /// Number of pieces it has.
    pub pieces: u32,
}

/// One torrent's peers on one core.
#[derive(Debug)]
pub struct Swarm {
    layout: Arc<Layout>,
    map: Arc<PieceMap>,
    settings: Settings,
    rng: fastrand::Rng,
    peers: Peers,
    next_tag: u32,
    candidates: Candidates,
    /// Hosts and ids that sent a bad piece: they may not dial us.
    banned: HashSet<(IpAddr, PeerId)>,
    picker: Picker,
    active: BTreeMap<PieceIndex, ActivePiece>,
    /// Pieces that came out wrong and must next come from one peer alone.
    failed: BTreeSet<PieceIndex>,
    /// Pieces we got since the start, in order: what peers are told from.
    log: Vec<PieceIndex>,
    wishes: VecDeque<Wish>,
    /// Somebody could not ask for want of memory.
    starved: bool,
    optimistic: Option<PeerSlot>,
    next_round: Duration,
    next_tick: Duration,
    totals: Totals,
}

impl Swarm {
    /// A swarm without peers. `map` says what we have already.
    pub fn new(layout: Arc<Layout>, map: Arc<PieceMap>, settings: Settings, seed: u64) -> Self {
        let picker = Picker::new(&layout, |piece| settings.fetch && map.is_missing(piece));
        Self {
            layout,
            map,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            peers: Peers::default(),
            next_tag: 0,
            candidates: Candidates::default(),
            banned: HashSet::new(),
            picker,
            active: BTreeMap::new(),
            failed: BTreeSet::new(),
            log: Vec::new(),
            wishes: VecDeque::new(),
            starved: false,
            optimistic: None,
            next_round: Duration::ZERO,
            next_tick: Duration::ZERO,
            totals: Totals::default(),
        }
    }

    /// The torrent's geometry.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Sums so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The connected peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> {
        self.peers.iter().map(|(_, peer)| PeerView {
            tag: peer.tag,
            who: peer.who,
            rates: (peer.down.get(), peer.up.get()),
            totals: (peer.downloaded, peer.uploaded),
            pieces: peer.has.count(),
        })
    }

    /// Whether the piece is to be had from peers.
    fn wants(&self, piece: PieceIndex) -> bool {
        self.settings.fetch && !self.map.has(piece)
    }

    /// Whether nothing is left to fetch.
    fn is_seeding(&self) -> bool {
        !self.settings.fetch || self.map.is_complete()
    }

    /// Adds an address where a peer may be; `given` when the user named it.
    pub fn add_candidate(&mut self, addr: SocketAddr, given: bool) {
        let added = self.candidates.add(addr, given);
        self.totals.limits.addresses += u64::from(!added);
    }

    /// A dial has come to nothing.
    pub fn dial_failed(&mut self, now: Duration, addr: SocketAddr) {
        self.candidates.ended(now, addr, false);
    }

    /// A peer's handshake is done.
    ///
    /// # Errors
    /// When it is not wanted; close the connection then, there will be no [`Swarm::gone`].
    pub fn connect(&mut self, now: Duration, who: Introduction) -> Result<PeerSlot, DropReason> {
        let refusal = self.refusal(now, &who);
        if who.outgoing {
            match refusal {
                None => self.candidates.connected(who.addr),
                Some(DropReason::Ourselves | DropReason::Banned) => self.candidates.ban(who.addr),
                Some(_) => self.candidates.ended(now, who.addr, false),
            }
        }
        if let Some(reason) = refusal {
            return Err(reason);
        }
        let peer = Peer::new(now, who, self.next_tag, self.layout.piece_count(), self.log.len());
        self.next_tag += 1;
        let slot = self.peers.insert(peer);
        self.wake(slot);
        Ok(slot)
    }

    /// The peer's connection has ended; its slot is void from now on.
    pub fn gone(&mut self, now: Duration, slot: PeerSlot) {
        self.returned(slot, None);
        self.release_all(slot);
        self.forget_writer(slot);
        let Some(peer) = self.peers.remove(slot) else { return };
        if !peer.has.is_full() {
            self.layout
                .pieces()
                .filter(|piece| peer.has.has(*piece))
                .for_each(|piece| self.picker.lose(piece));
        }
        for piece in self.active.values_mut() {
            piece.owner = piece.owner.filter(|owner| *owner != slot);
        }
        if peer.who.outgoing {
            self.candidates.ended(now, peer.who.addr, peer.downloaded + peer.uploaded > 0);
        }
        self.fill_free_slots(now);
        self.wake_hungry();
    }

    /// Closes the connection to a peer; [`Swarm::gone`] follows when it is closed.
    fn drop_peer(&mut self, slot: PeerSlot, reason: DropReason) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.dropped) else { return };
        peer.dropped = true;
        peer.uploads.clear();
        self.wishes.push_back(Wish::Drop(slot, reason));
    }

    fn wake(&mut self, slot: PeerSlot) {
        if let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.woken && !peer.dropped) {
            peer.woken = true;
            self.wishes.push_back(Wish::Wake(slot));
        }
    }

    fn wake_hungry(&mut self) {
        let mut hungry: Vec<PeerSlot> =
            self.peers.iter().filter(|(_, peer)| peer.is_hungry()).map(|(slot, _)| slot).collect();
        // By chance, so that nobody can arrange to be always the first.
        self.rng.shuffle(&mut hungry);
        hungry.into_iter().for_each(|slot| self.wake(slot));
    }

    /// Moves wishes into `out` until it holds `most`. When some are left, call again after serving these.
    pub fn fill(&mut self, out: &mut Vec<Wish>, most: usize) {
        let room = most.saturating_sub(out.len()).min(self.wishes.len());
        out.extend(self.wishes.drain(..room));
    }

    /// When to call [`Swarm::tick`].
    pub fn next_deadline(&self) -> Duration {
        self.next_tick
    }

    /// Looks after everything that waits. Calling it early does no harm.
    pub fn tick(&mut self, now: Duration) {
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.look_after(now, slot));
        if now >= self.next_round {
            self.next_round = now + choker::ROUND;
            self.choke_round(now);
        }
        let room = self.settings.most_peers.saturating_sub(self.peers.len());
        for addr in self.candidates.take_due(now, room, self.is_seeding()) {
            self.wishes.push_back(Wish::Dial(addr));
        }
        if std::mem::take(&mut self.starved) {
            self.give_up_one();
        }
        self.wake_hungry();
    }

    fn look_after(&mut self, now: Duration, slot: PeerSlot) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.down.tick(now);
        peer.up.tick(now);
        if now >= peer.last_heard + SILENCE {
            return self.drop_peer(slot, DropReason::Silent);
        }
        let waits = now >= peer.last_said + KEEP_ALIVE;
        let oldest = peer.asked.front().map(|asked| asked.at);
        let snub = oldest.is_some_and(|at| now >= at.max(peer.last_block) + SNUB);
        if waits {
            self.wake(slot);
        }
        if snub {
            self.snub(slot);
        } else if oldest.is_some_and(|at| now >= at + REQUEST_LIMIT) {
            self.release_first(slot);
        }
    }

    fn choke_round(&mut self, now: Duration) {
        let seeding = self.is_seeding();
        let contenders = self.peers.iter().filter(|(_, peer)| peer.interested && !peer.dropped);
        let contenders = contenders.map(|(slot, peer)| choker::Contender {
            peer: slot,
            rate: peer.down.get(),
            unchoked: peer.unchoked,
            since: now.saturating_sub(peer.unchoked_since),
            age: now.saturating_sub(peer.since),
        });
        let contenders = contenders.collect();
        let chosen =
            choker::round(contenders, self.settings.slots, seeding, &mut self.optimistic, &mut self.rng);
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.set_unchoked(now, slot, chosen.contains(&slot)));
    }

    fn set_unchoked(&mut self, now: Duration, slot: PeerSlot, unchoked: bool) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.unchoked != unchoked) else { return };
        (peer.unchoked, peer.unchoked_since) = (unchoked, now);
        if !unchoked {
            peer.uploads.clear();
        }
        self.wake(slot);
    }

    /// Gives free upload slots at once to those who have waited longest.
    fn fill_free_slots(&mut self, now: Duration) {
        let used = self.peers.iter().filter(|(_, peer)| peer.unchoked && peer.interested).count();
        for _ in used..self.settings.slots {
            let waiting =
                self.peers.iter().filter(|(_, peer)| peer.interested && !peer.unchoked && !peer.dropped);
            let Some((slot, _)) = waiting.min_by_key(|(_, peer)| peer.unchoked_since) else { return };
            self.set_unchoked(now, slot, true);
        }
    }
}
