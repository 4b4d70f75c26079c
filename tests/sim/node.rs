//! One who takes part: a swarm on one core, its links, and what a disk would remember.

use seedring::metainfo::{Block, Layout, PieceIndex};
use seedring::swarm::{Commons, Greeting, PeerSlot, Settings, Swarm};
use seedring::wire::PeerId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most upload slots; how many there are follows the link.
const SLOTS: usize = 50;

/// What somebody is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Bytes a second.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// Has everything at the start.
    pub(crate) seed: bool,
    /// Has this piece at the start.
    pub(crate) piece: Option<u32>,
    /// Lacks this piece at the start, and has all others.
    pub(crate) lacks: Option<u32>,
    /// Uploads nothing.
    pub(crate) rides_free: bool,
    /// Chance that a block it sends is bad.
    pub(crate) lies: f64,
    /// Seconds at which it comes, and at which it goes, done or not.
    pub(crate) comes: f64,
    pub(crate) goes: f64,
}

impl Plan {
    /// Somebody honest with nothing, on a link of this speed both ways.
    pub(crate) fn leech(speed: u64) -> Self {
        Self {
            up: speed,
            down: speed,
            seed: false,
            piece: None,
            lacks: None,
            rides_free: false,
            lies: 0.0,
            comes: 0.0,
            goes: f64::INFINITY,
        }
    }

    pub(crate) fn seed(speed: u64) -> Self {
        Self { seed: true, ..Self::leech(speed) }
    }
}

pub(crate) struct Node {
    pub(crate) plan: Plan,
    pub(crate) id: PeerId,
    pub(crate) swarm: Swarm,
    pub(crate) here: bool,
    /// When it had everything (microseconds).
    pub(crate) done: Option<u64>,
    /// The ends of its connections, and whose turn it is to send.
    pub(crate) ends: BTreeMap<PeerSlot, (usize, usize)>,
    pub(crate) turn: Option<PeerSlot>,
    pub(crate) sending: bool,
    /// When its link will have brought in all that is on it.
    pub(crate) arrives: u64,
    /// Blocks of pieces under way that are bad.
    pub(crate) bad: BTreeSet<Block>,
    /// Payload bytes sent, and the blocks among them that nobody had been sent before.
    pub(crate) sent: u64,
}

impl Node {
    pub(crate) fn new(number: usize, plan: Plan, layout: &Arc<Layout>, rng: &mut fastrand::Rng) -> Self {
        let mut id = *b"-SM0001-            ";
        id[8..12].copy_from_slice(&(number as u32).to_be_bytes());
        id[12..].copy_from_slice(&rng.u64(..).to_be_bytes());
        let commons = Arc::new(Commons::new(layout.piece_count(), 1));
        let had = |piece: &PieceIndex| {
            plan.seed
                || plan.piece == Some(piece.get())
                || plan.lacks.is_some_and(|lacks| lacks != piece.get())
        };
        layout.pieces().filter(had).for_each(|piece| commons.map.set_have(piece));
        let slots = if plan.rides_free { 0 } else { SLOTS };
        let settings = Settings {
            id: PeerId(id),
            most_peers: 200,
            slots,
            seed_slots: slots,
            // As users are told to: the client knows what its link is worth.
            upload_limit: Some(plan.up),
            hold: u32::MAX,
            greeting: Greeting { port: Some(6881), pex: true, ..Greeting::default() },
            ..Settings::default()
        };
        let swarm = Swarm::new(Arc::clone(layout), commons, 0, settings, rng.u64(..));
        Self {
            plan,
            id: PeerId(id),
            swarm,
            here: false,
            done: plan.seed.then_some(0),
            ends: BTreeMap::new(),
            turn: None,
            sending: false,
            arrives: 0,
            bad: BTreeSet::new(),
            sent: 0,
        }
    }

    /// The next end whose turn it is to send, among those that `ready` says.
    pub(crate) fn next_end(&mut self, ready: impl Fn((usize, usize)) -> bool) -> Option<(usize, usize)> {
        let after = self.turn.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let later = self.ends.range((after, std::ops::Bound::Unbounded));
        let (slot, end) = later.chain(&self.ends).find(|(_, end)| ready(**end))?;
        self.turn = Some(*slot);
        Some(*end)
    }
}
