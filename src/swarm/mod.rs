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
mod commons;
mod entry;
mod errands;
mod extended;
mod fast;
mod fetch;
mod hear;
mod magnet;
mod metadata;
mod peer;
mod pex;
mod picker;
mod piece_map;
mod priority;
mod rate;
mod roster;
mod settle;
mod speak;
#[cfg(test)]
mod tests;
mod uploads;

pub use active::RUN_LEN;
pub use bitfield::Bitfield;
pub use commons::{Commons, Handover};
pub use errands::HandIn;
pub use extended::Greeting;
pub use fetch::{Completion, Place};
pub use magnet::{MetadataFetch, MetadataOutcome};
pub use peer::{Introduction, PeerSlot, Tag};
pub use piece_map::PieceMap;
pub use speak::Speech;

use crate::metainfo::{Block, Layout, PieceIndex};
use crate::wire::PeerId;
use active::ActivePiece;
use candidates::{Candidates, Source};
use peer::Peers;
use picker::Picker;
use priority::Outside;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
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
    /// Most connections, on all cores together.
    pub most_peers: usize,
    /// Upload slots while there is something to fetch, on all cores together.
    pub slots: usize,
    /// Upload slots when there is not.
    pub seed_slots: usize,
    /// Pieces longer than this (bytes) are written run by run before they are verified.
    pub hold: u32,
    /// Whether missing pieces are fetched; else only what is there is served.
    pub fetch: bool,
    /// What peers are told beside pieces.
    pub greeting: Greeting,
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
    #[error("sent a message of an extension that was not agreed on")]
    NotNegotiated,
    #[error("one too many: {0} peers are connected")]
    Full(usize),
}

/// Something the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The peer has something to say or to be sent: call [`Swarm::speak`] when its connection has room.
    Wake(PeerSlot),
    /// Hash these runs; those before them have been hashed. Answer: [`Swarm::hashed`].
    Hash(PieceIndex, Range<usize>),
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
    /// The other cores should look at what is new: call [`Swarm::catch_up`] there.
    Nudge,
    /// Tell the connection's core to give it up for another: call [`Swarm::evict`] there.
    Evict(Tag),
    /// A peer says that a DHT node is here (BEP 5).
    DhtNode(SocketAddr),
    /// Tell the connection's core that this piece, all of which came by it, was bad: call [`Swarm::blame`] there.
    Blame(Tag, PieceIndex),
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
    /// Things not told to another core because its mailbox was full.
    pub letters: u64,
}

impl std::ops::AddAssign for LimitHits {
    fn add_assign(&mut self, other: Self) {
        let Self { requests, offences, peers, addresses, handshakes, reports, letters } = other;
        self.requests += requests;
        self.offences += offences;
        self.peers += peers;
        self.addresses += addresses;
        self.handshakes += handshakes;
        self.reports += reports;
        self.letters += letters;
    }
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
    /// Tells it from every other peer that this core has had.
    pub number: u64,
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
    commons: Arc<Commons>,
    /// Our place among the cores.
    core: usize,
    settings: Settings,
    rng: fastrand::Rng,
    peers: Peers,
    connections: u64,
    candidates: Candidates,
    /// Our address, as peers see it.
    outside: Outside,
    /// The pieces had, as far as this core has read the log of them.
    have: Bitfield,
    /// [`PieceMap::releases`] when last looked at.
    releases: u32,
    picker: Picker,
    active: BTreeMap<PieceIndex, ActivePiece>,
    /// Blocks that peers were asked for on behalf of other cores, with the core that holds the piece.
    errands: BTreeMap<Block, usize>,
    wishes: VecDeque<Wish>,
    /// There is something new for the other cores.
    nudge: bool,
    /// Somebody could not ask for want of memory.
    starved: bool,
    optimistic: Option<PeerSlot>,
    next_round: Duration,
    next_tick: Duration,
    totals: Totals,
}

impl Swarm {
    /// The swarm of one core, without peers. `commons` says what we have already.
    pub fn new(
        layout: Arc<Layout>,
        commons: Arc<Commons>,
        core: usize,
        settings: Settings,
        seed: u64,
    ) -> Self {
        let picker = Picker::new(&layout, |_| settings.fetch);
        let have = Bitfield::new(layout.piece_count());
        let mut swarm = Self {
            layout,
            releases: commons.map.releases(),
            commons,
            core,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            peers: Peers::default(),
            connections: 0,
            candidates: Candidates::default(),
            outside: Outside::default(),
            have,
            picker,
            active: BTreeMap::new(),
            errands: BTreeMap::new(),
            wishes: VecDeque::new(),
            nudge: false,
            starved: false,
            optimistic: None,
            next_round: Duration::ZERO,
            next_tick: Duration::ZERO,
            totals: Totals::default(),
        };
        swarm.read_log();
        swarm
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
            number: peer.tag.number,
            who: peer.who,
            rates: (peer.down.get(), peer.up.get()),
            totals: (peer.downloaded, peer.uploaded),
            pieces: peer.has.count(),
        })
    }

    /// Whether the piece is to be had from peers.
    fn wants(&self, piece: PieceIndex) -> bool {
        self.settings.fetch && !self.have.has(piece)
    }

    /// Whether nothing is left to fetch.
    pub fn is_seeding(&self) -> bool {
        !self.settings.fetch || self.have.is_full()
    }

    /// Adds an address where a peer may be; `given` when the user named it.
    pub fn add_candidate(&mut self, addr: SocketAddr, given: bool) {
        let added = self.candidates.add(addr, if given { Source::Given } else { Source::Found });
        self.totals.limits.addresses += u64::from(!added);
    }

    /// A dial has come to nothing.
    pub fn dial_failed(&mut self, now: Duration, addr: SocketAddr) {
        self.candidates.ended(now, addr, false);
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
        if std::mem::take(&mut self.nudge) && self.commons.cores() > 1 {
            self.wishes.push_back(Wish::Nudge);
        }
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
        let room = self.settings.most_peers.saturating_sub(self.commons.roster().len());
        let (seeding, port) = (self.is_seeding(), self.settings.greeting.port);
        let rank = |addr| self.outside.rank(port, addr);
        for addr in self.candidates.take_due(now, room, seeding, rank) {
            self.wishes.push_back(Wish::Dial(addr));
        }
        if std::mem::take(&mut self.starved) {
            self.give_up_one();
        }
        self.catch_up(now);
        self.wake_hungry();
    }

    fn look_after(&mut self, now: Duration, slot: PeerSlot) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.down.tick(now);
        peer.up.tick(now);
        if now >= peer.last_heard + SILENCE {
            return self.drop_peer(slot, DropReason::Silent);
        }
        peer.fast.tick();
        let waits = now >= peer.last_said + KEEP_ALIVE;
        let oldest = peer.asked.front().map(|asked| asked.at);
        // One that stops in the middle of a block holds it, asked or not.
        let waits_since = oldest.into_iter().chain(peer.begun).min();
        let snub = waits_since.is_some_and(|at| now >= at.max(peer.last_block) + SNUB);
        if waits || self.owes_pex(now, slot) {
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
        let contenders: Vec<choker::Contender> = contenders.collect();
        let slots = self.slots(contenders.len());
        let chosen = choker::round(contenders, slots, seeding, &mut self.optimistic, &mut self.rng);
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.set_unchoked(now, slot, chosen.contains(&slot)));
    }

    fn set_unchoked(&mut self, now: Duration, slot: PeerSlot, unchoked: bool) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.unchoked != unchoked) else { return };
        (peer.unchoked, peer.unchoked_since) = (unchoked, now);
        if !unchoked {
            self.clear_uploads(slot, false);
        }
        self.wake(slot);
    }

    /// Upload slots of this core, which has so many interested peers.
    fn slots(&self, contenders: usize) -> usize {
        let slots = if self.is_seeding() { self.settings.seed_slots } else { self.settings.slots };
        self.commons.share_of_slots(self.core, contenders, slots)
    }

    /// Gives free upload slots at once to those who have waited longest.
    fn fill_free_slots(&mut self, now: Duration) {
        let interested = || self.peers.iter().filter(|(_, peer)| peer.interested && !peer.dropped);
        let used = interested().filter(|(_, peer)| peer.unchoked).count();
        for _ in used..self.slots(interested().count()) {
            let waiting =
                self.peers.iter().filter(|(_, peer)| peer.interested && !peer.unchoked && !peer.dropped);
            let Some((slot, _)) = waiting.min_by_key(|(_, peer)| peer.unchoked_since) else { return };
            self.set_unchoked(now, slot, true);
        }
    }
}
