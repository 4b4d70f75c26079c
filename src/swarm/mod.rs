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
//! | [`Swarm::lies_unread`] | bytes of a peer are here, and our own limit lets them in later |
//! | [`Swarm::piles_up`] | bytes of a peer are here, and this core has no time for them yet |
//! | [`Swarm::hashed`], [`Swarm::written`], [`Swarm::fingerprinted`] | a wish has been granted |
//! | [`Swarm::lose`], [`Swarm::cannot_send`] | the disk does not give back what we have |
//! | [`Swarm::tick`] | time has passed: at [`Swarm::next_deadline`] |
//! | [`Swarm::fill`] | standing state becomes [`Wish`]es, while the caller has room |
//! | [`Swarm::speak`], [`Swarm::take_upload`] | a connection has room: what to say and to send on it, decided that late |
//!
//! Nothing inside grows with fan-out: that a new piece is told to five hundred peers is five hundred cursors into
//! one log. Payload never comes here: only where it belongs.

mod active;
mod ahead;
mod alone;
mod bitfield;
mod camps;
mod candidates;
mod choker;
mod choking;
mod choosing;
mod commons;
mod conduct;
mod endgame;
mod entry;
mod errands;
mod evidence;
mod extended;
mod fast;
mod fetch;
mod hear;
mod helping;
mod homes;
mod in_order;
mod ip_filter;
mod known;
mod lag;
mod lateness;
mod limiter;
mod losses;
mod magnet;
mod metadata;
mod networks;
mod pace;
mod peer;
mod peers;
mod pex;
mod picker;
mod piece_map;
mod precedence;
mod priority;
mod rate;
mod reached;
mod reason;
mod roster;
mod scarcity;
mod selection;
mod settings;
mod settle;
mod shown;
mod sightings;
mod slots;
mod speak;
mod spread;
mod spreading;
mod super_seed;
mod tag;
mod tellers;
mod telling;
#[cfg(test)]
mod tests;
mod totals;
mod uplink;
mod uploads;
mod views;
mod votes;
mod window;

pub use active::RUN_LEN;
pub use bitfield::Bitfield;
pub use candidates::Source;
pub use choker::SeedChoker;
pub use commons::{Commons, Handover};
#[cfg(test)]
pub(crate) use conduct::FORGETTING;
pub use conduct::Offences;
pub use errands::HandIn;
pub use extended::Greeting;
pub use homes::{Completion, Place};
pub use ip_filter::{IpFilter, IpFilterError, UnreadLines};
pub use limiter::{Limiter, Throttle};
pub use losses::Loss;
pub use magnet::{MetadataFetch, MetadataOutcome, Service};
pub use networks::Counted;
pub use networks::Networks;
pub use networks::network;
pub use peer::Introduction;
pub use peers::PeerSlot;
pub use pex::{PexPace, is_usable};
pub use piece_map::PieceMap;
pub use reached::{is_inside, is_local, may_name, reached};
pub use reason::DropReason;
pub use roster::host;
pub use selection::{Priority, Selection};
pub use settings::{MOST_OF_HOST, Settings, most_of_host};
pub use speak::Speech;
pub use tag::Tag;
pub use tellers::{Teller, Tellers};
pub use totals::{ExchangeCounts, LimitHits, RequestCounts, Totals};
pub use views::{PeerView, Uploading};

use crate::metainfo::{Block, Layout, PieceIndex};
use active::ActivePiece;
use candidates::Candidates;
use choking::Rounds;
use errands::Board;
use losses::Lost;
use pace::Pace;
use peers::Peers;
use picker::Picker;
use precedence::Precedence;
use priority::Outside;
use scarcity::Scarcity;
use settle::Departed;
use spreading::Spreading;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use telling::Telling;
use uplink::Uplink;

/// A peer that says nothing for this long is dropped. BEP 3 has keep-alives sent once in two minutes, and they take a while.
const SILENCE: Duration = Duration::from_secs(150);
/// A peer with which there was nothing to trade for this long is dropped.
const IDLE: Duration = Duration::from_secs(600);
/// We say at least something this often.
const KEEP_ALIVE: Duration = Duration::from_secs(100);
/// A peer that sends none of what it was asked for this long is snubbed: others get the blocks.
const SNUB: Duration = Duration::from_secs(30);
/// A request that is this old is taken back, whatever else the peer sends; of a peer that is slow but goes on, when it has
/// had twice the time that all it was asked for takes it, or at the latest after the longer one.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
const LONGEST_LIMIT: Duration = Duration::from_secs(300);
/// Time between two looks at everything that waits.
const TICK: Duration = Duration::from_millis(500);

/// Something the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The peer has something to say or to be sent: call [`Swarm::speak`] when its connection has room.
    Wake(PeerSlot),
    /// Hash these runs; those before them have been hashed. Answer: [`Swarm::hashed`].
    Hash(PieceIndex, Range<usize>),
    /// Write this run. Answer: [`Swarm::written`].
    Write(PieceIndex, usize),
    /// Take a fingerprint of each block of these runs, all of which are in memory or on disk. Answer:
    /// [`Swarm::fingerprinted`].
    Fingerprint(PieceIndex, Range<usize>),
    /// The piece is verified and written; or it was bad or is given up, and will be begun anew. Its memory is free.
    Done {
        /// The piece.
        piece: PieceIndex,
        /// Whether we have it now.
        good: bool,
    },
    /// Close the connection.
    Drop(PeerSlot, DropReason),
    /// Say that one who was here would have been dropped for this.
    Mention(SocketAddr, DropReason),
    /// Connect. Answer: [`Swarm::connect`], [`Swarm::dial_failed`] or [`Swarm::dial_prevented`].
    Dial(SocketAddr),
    /// The other cores should look at what is new: call [`Swarm::catch_up`] there.
    Nudge,
    /// [`Swarm::next_deadline`] is sooner than it was.
    Deadline,
    /// Tell the connection's core to give it up for another: call [`Swarm::evict`] there.
    Evict(Tag),
    /// A peer says that a DHT node is here (BEP 5).
    DhtNode(SocketAddr),
    /// Tell the connection's core that bad blocks of this piece came by it: call [`Swarm::blame`] there.
    Blame(Tag, PieceIndex),
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
    /// Of these, what cannot be read any more, as far as this core knows.
    lost: Lost,
    /// Pieces that are wanted and not in `have`.
    left: u32,
    /// [`PieceMap::releases`] when last looked at.
    releases: u32,
    picker: Picker,
    active: BTreeMap<PieceIndex, ActivePiece>,
    /// Blocks that peers were asked for on behalf of other cores, with the core that holds the piece.
    errands: BTreeMap<Block, usize>,
    /// What others may fetch for us.
    board: Board,
    /// Connections that have ended, the latest last: one of them may turn out to have lied.
    departed: VecDeque<Departed>,
    wishes: VecDeque<Wish>,
    /// There is something new for the other cores.
    nudge: bool,
    telling: Telling,
    scarcity: Scarcity,
    /// How often slow senders of whole pieces gave way to others.
    restarts: HashMap<PieceIndex, u8>,
    rounds: Rounds,
    pace: Pace,
    /// Since when this core has looked for something to help others with.
    helps: Option<Duration>,
    spreading: Spreading,
    precedence: Precedence,
    uplink: Uplink,
    /// When a super-seed was last seen to have something to send.
    gave: Duration,
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
        let picker = Picker::new(&layout, &commons.selection, settings.fetch, Arc::clone(&commons.sightings));
        let candidates = Candidates::new(Arc::clone(&commons.known));
        let have = Bitfield::new(layout.piece_count());
        let mut swarm = Self {
            layout,
            releases: commons.map.releases(),
            left: commons.selection.wanted(),
            commons,
            core,
            settings,
            rng: fastrand::Rng::with_seed(seed),
            peers: Peers::default(),
            connections: 0,
            candidates,
            outside: Outside::default(),
            have,
            lost: Lost::default(),
            picker,
            active: BTreeMap::new(),
            errands: BTreeMap::new(),
            board: Board::default(),
            departed: VecDeque::new(),
            wishes: VecDeque::new(),
            nudge: false,
            telling: Telling::default(),
            scarcity: Scarcity::default(),
            restarts: HashMap::new(),
            rounds: Rounds::default(),
            pace: Pace::default(),
            helps: None,
            spreading: Spreading::default(),
            precedence: Precedence::default(),
            uplink: Uplink::default(),
            gave: Duration::ZERO,
            next_tick: Duration::ZERO,
            totals: Totals::default(),
        };
        swarm.read_log(Duration::ZERO);
        swarm.see_losses();
        swarm.revise_slots();
        swarm
    }

    /// The torrent's geometry.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Sums so far.
    pub fn totals(&self) -> Totals {
        let (failures, tellers) = (self.candidates.given_up(), self.candidates.outshared());
        let limits =
            LimitHits { failures, tellers, networks: self.candidates.held_back(), ..self.totals.limits };
        Totals { limits, ..self.totals }
    }

    /// Whether the piece is to be had from peers.
    fn wants(&self, piece: PieceIndex) -> bool {
        self.settings.fetch && self.commons.selection.wants(piece) && !self.have.has(piece)
    }

    /// Whether nothing is left to fetch.
    pub fn is_seeding(&self) -> bool {
        !self.settings.fetch || self.left == 0
    }

    /// Whether nothing is left to fetch although not everything is there (BEP 21).
    pub fn is_partial_seed(&self) -> bool {
        self.is_seeding() && !self.have.is_full()
    }

    /// Adds an address where a peer may be.
    pub fn add_candidate(&mut self, addr: SocketAddr, source: Source) {
        self.note_address(addr, source);
    }

    /// A dial has come to nothing.
    pub fn dial_failed(&mut self, now: Duration, addr: SocketAddr) {
        self.candidates.ended(now, addr, false);
    }

    /// A dial could not be made, for want of something of our own: descriptors, memory, a network. That says nothing of who is
    /// there.
    pub fn dial_prevented(&mut self, now: Duration, addr: SocketAddr) {
        self.candidates.prevented(now, addr);
    }

    /// Whether somebody is connected, to whichever core, who is neither on this machine nor in a network of its own.
    pub fn reaches_out(&self) -> bool {
        self.commons.neighbours().reach_out()
    }

    /// Wishes for dials, but not to where somebody is connected, on whichever core, that came to us from another port (of what the
    /// user names that is believed for a while); nor to where a liar was found, by whichever core.
    fn dial(&mut self, now: Duration, due: Vec<SocketAddr>) {
        if due.is_empty() {
            return;
        }
        let here = self.commons.neighbours().addrs();
        for addr in due {
            let given = self.candidates.is_given(&addr);
            if self.commons.roster().is_banned_at(&addr, given) {
                self.candidates.ban(addr);
                continue;
            }
            let believed = !given || self.is_seeding();
            // By a low limit of ours somebody may have had no turn yet to show what it is worth.
            let limited = self.most_ahead().is_some();
            match here.get(&addr) {
                Some(sure) if *sure || believed => self.candidates.postpone(now, addr),
                Some(_) if self.candidates.believe(now, addr, limited) => {}
                _ => self.wishes.push_back(Wish::Dial(addr)),
            }
        }
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
        self.telling.due().map_or(self.next_tick, |due| due.min(self.next_tick))
    }

    /// Looks after everything that waits. Calling it early does no harm; says whether it was not early.
    pub fn tick(&mut self, now: Duration) -> bool {
        self.tell_of_pieces(now);
        if now < self.next_tick {
            return false;
        }
        self.next_tick = now + TICK;
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        let givers = self.peers.iter().filter(|(_, peer)| peer.gives() && !peer.asked.is_empty()).count();
        let (most, turn) = self.pace.tick(givers);
        self.tell_givers();
        let share = self.fair_share();
        self.tell_ahead(now);
        self.count_leeches(now);
        self.see_passed();
        self.end_idleness();
        self.look_at_namesakes();
        self.look_at_kin(now);
        for slot in slots {
            self.look_after(now, slot, (most, share), turn);
            self.note_use(now, slot);
        }
        self.look_at_precedence(now);
        self.choke(now);
        let room = self.settings.most_peers.saturating_sub(self.commons.roster().len());
        let room = room.min(self.settings.most_dials.saturating_sub(self.candidates.dialling()));
        let (seeding, port) = (self.is_seeding(), self.settings.greeting.port);
        let rank = |addr| self.outside.rank(port, addr);
        let due = self.candidates.take_due(now, room, seeding, rank);
        self.dial(now, due);
        self.look_at_memory(now);
        self.look_at_votes(now);
        self.give_up_spoiled();
        self.catch_up(now);
        self.wake_hungry();
        true
    }

    /// `most`: requests to have open with the peer; `share`: what our limit lets in of it, in bytes a second; `turn`: how long a
    /// block of it may take for our own link.
    fn look_after(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        (most, share): (usize, Option<u64>),
        turn: Duration,
    ) {
        let (limit_turn, is_low) = (self.limit_turn(), self.most_ahead().is_some());
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.measure(now);
        peer.requests.tick(now, peer.down.get());
        if now >= peer.last_heard + SILENCE {
            return self.drop_peer(slot, DropReason::Silent);
        }
        let useless = !peer.interested && peer.wanted == 0 && !peer.dropped;
        if useless && now >= peer.last_moved.max(peer.last_useful) + IDLE {
            self.totals.limits.idle += 1;
            return self.drop_peer(slot, DropReason::Idle);
        } else if !useless {
            peer.last_useful = now;
        }
        let taken = peer.takes();
        let share = share.map_or(most, |share| peer.requests.covers(share, !is_low).clamp(1, most));
        // That our own limit leaves no more is no limit of the peer's.
        let cut = !peer.asked.is_empty() && peer.requests.worth(peer.down.get()) > taken && share > taken;
        peer.requests.most = share;
        self.totals.limits.windows += u64::from(cut);
        peer.fast.tick();
        peer.conduct.tick(now);
        let waits = now >= peer.last_said + KEEP_ALIVE;
        let oldest = peer.asked.front().map(|asked| asked.at);
        // One that stops in the middle of a block holds it, asked or not.
        let waits_since = oldest.into_iter().chain(peer.begun).min();
        let moved = peer.last_block.max(peer.trickled);
        let snub =
            waits_since.is_some_and(|at| now >= peer.waited_since(at.max(moved), limit_turn) + SNUB + turn);
        let late = oldest
            .map(|at| now.saturating_sub(peer.waited_since(at, limit_turn) + turn))
            .filter(|late| *late >= REQUEST_LIMIT);
        let late = late
            .is_some_and(|late| late >= LONGEST_LIMIT || late.as_secs_f64() >= 2.0 * peer.backlog_seconds());
        if waits || self.owes_pex(now, slot) {
            self.wake(slot);
        }
        if self.settings.super_seed {
            self.review_offers(now, slot);
        }
        if snub {
            self.snub(slot);
        } else if late {
            self.release_first(slot);
        }
    }
}
