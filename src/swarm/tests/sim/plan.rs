//! What a seed makes of a simulated world: who takes part, how good the links are, what goes wrong.

use crate::metainfo::Layout;
use crate::wire::Reserved;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Names the one seed of which the random worlds are to be made.
pub(crate) const REPLAY: &str = "SEEDRING_SIM_SEED";

/// How often each line suffers each trouble, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    /// One direction goes silent for ever, anywhere in the stream.
    pub(crate) stall: f64,
    /// The connection breaks at some time.
    pub(crate) cut: f64,
    /// A dial comes to nothing.
    pub(crate) unreachable: f64,
}

/// How closely the world is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grain {
    /// Lines have a bandwidth each, bytes come in parts of any length; everything is checked after every step.
    Fine,
    /// Blocks come whole through the links of both ends; all of a node is checked once in many of its steps.
    Coarse,
}

/// Which pieces somebody has at the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Has {
    Nothing,
    Everything,
    /// Each with this chance.
    Chance(f64),
    Only(u32),
    AllBut(u32),
}

/// One who takes part.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub(crate) has: Has,
    /// Chance that a block it sends is bad: it lies, or its disk does.
    pub(crate) lies: f64,
    /// Liars agree on what they send it: the same blocks are bad, in the same way.
    pub(crate) alike: bool,
    /// Most upload slots; none means that it chokes everybody for ever.
    pub(crate) slots: usize,
    /// Slabs for runs.
    pub(crate) slabs: usize,
    pub(crate) hold: u32,
    /// Cores it works on: each has peers, slabs and claims of its own.
    pub(crate) cores: usize,
    pub(crate) super_seed: bool,
    /// A file that it does not want.
    pub(crate) skips: Option<usize>,
    pub(crate) sequential: bool,
    /// The extensions it knows.
    pub(crate) reserved: Reserved,
    /// Most requests that it says it takes.
    pub(crate) reqq: Option<u32>,
    /// Its link, in bytes a second, and whether its client was told what that is worth.
    pub(crate) up: u64,
    pub(crate) down: u64,
    pub(crate) told: bool,
    /// How long the way to it takes beyond the usual, in microseconds; in a coarse world.
    pub(crate) far: u64,
    /// Bytes a second that its user lets in, all cores together; in a coarse world.
    pub(crate) download_limit: Option<u64>,
    /// Longest time that a write takes, in microseconds; and the chance that one fails, which ends all it does.
    pub(crate) disk: u64,
    pub(crate) fails: f64,
    /// A piece that its disk does not give back, though it has it.
    pub(crate) loses: Option<u32>,
    /// Seconds at which it comes, and at which it goes, done or not.
    pub(crate) comes: f64,
    pub(crate) goes: f64,
}

impl NodePlan {
    pub(crate) fn seed() -> Self {
        Self {
            has: Has::Everything,
            lies: 0.0,
            alike: false,
            slots: 4,
            slabs: 64,
            hold: u32::MAX,
            cores: 1,
            super_seed: false,
            skips: None,
            sequential: false,
            reserved: Reserved::ours(false),
            reqq: None,
            up: 20_000_000,
            down: 20_000_000,
            told: false,
            far: 0,
            download_limit: None,
            disk: 60_000,
            fails: 0.0,
            loses: None,
            comes: 0.0,
            goes: f64::INFINITY,
        }
    }

    pub(crate) fn leech() -> Self {
        Self { has: Has::Nothing, ..Self::seed() }
    }

    pub(crate) fn is_seed(&self) -> bool {
        self.has == Has::Everything
    }

    pub(crate) fn is_liar(&self) -> bool {
        self.lies > 0.0
    }

    /// Takes and gives nothing.
    pub(crate) fn rides_free(&self) -> bool {
        self.slots == 0
    }

    pub(crate) fn stays(&self) -> bool {
        self.goes.is_infinite()
    }
}

/// Everything that is decided before the world begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) layout: Arc<Layout>,
    pub(crate) nodes: Vec<NodePlan>,
    pub(crate) grain: Grain,
    pub(crate) trouble: Trouble,
    /// Addresses that a tracker gives to whoever comes; none: everybody knows everybody else from the start.
    pub(crate) tracker: Option<usize>,
    /// All are on one network: what peers may have while choked depends on that (BEP 6).
    pub(crate) neighbours: bool,
    /// All who are honest and stay must be done by then.
    pub(crate) limit: Duration,
    /// How to see it again.
    pub(crate) replay: String,
}

/// Begins the addresses of those who are on one network.
const NEIGHBOURS: u8 = 12;

/// Whose address that is.
pub(crate) fn host_at(addr: SocketAddr) -> usize {
    let SocketAddr::V4(addr) = addr else { unreachable!("the world is IPv4") };
    match addr.ip().octets() {
        [NEIGHBOURS, _, _, low] => usize::from(low) - 1,
        [_, high, low, _] => usize::from(high) * 250 + usize::from(low) - 1,
    }
}

impl Plan {
    pub(crate) fn addr(&self, host: usize) -> SocketAddr {
        let (high, low) = ((host / 250) as u8, (host % 250) as u8 + 1);
        let ip = if self.neighbours { [NEIGHBOURS, 0, high, low] } else { [11, high, low, 7] };
        SocketAddr::from((ip, 6881))
    }

    /// A quiet world with these nodes.
    pub(crate) fn quiet(seed: u64, piece_length: u32, total: u64, nodes: Vec<NodePlan>) -> Self {
        let layout = Arc::new(Layout::new(piece_length.into(), [total]).expect("a sound geometry"));
        let trouble = Trouble { stall: 0.0, cut: 0.0, unreachable: 0.0 };
        let limit = Duration::from_secs(1200);
        let replay = "the test that failed always takes it".to_owned();
        Self {
            seed,
            layout,
            nodes,
            grain: Grain::Fine,
            trouble,
            tracker: None,
            neighbours: false,
            limit,
            replay,
        }
    }

    /// A world of any kind.
    pub(crate) fn random(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let lengths = [16_384, 40_000, 65_536, 262_144, 300_000, 600_000, 1_000_000];
        let piece_length = *rng.choice(&lengths).expect("some");
        let pieces = rng.u32(1..=24).min(2_500_000 / piece_length);
        let total = u64::from(pieces * piece_length - rng.u32(0..piece_length));
        // Files of which some may be unwanted.
        let mut ends = [rng.u64(0..=total), rng.u64(0..=total), total];
        ends.sort_unstable();
        let files = if rng.u8(..3) == 0 { ends.len() } else { 1 };
        let starts = [0].into_iter().chain(ends);
        let lengths = ends.iter().zip(starts).map(|(end, start)| end - start);
        let lengths: Vec<u64> = if files == 1 { vec![total] } else { lengths.collect() };
        let layout = Arc::new(Layout::new(piece_length.into(), lengths).expect("a sound geometry"));
        let mut nodes = vec![NodePlan { super_seed: rng.u8(..6) == 0, ..NodePlan::seed() }];
        for _ in 0..rng.usize(1..=4) {
            nodes.push(NodePlan {
                skips: (files > 1 && rng.bool()).then(|| rng.usize(..files)),
                sequential: rng.u8(..4) == 0,
                has: if rng.bool() { Has::Nothing } else { Has::Chance(0.5) },
                slots: if rng.u8(..5) == 0 { 0 } else { rng.usize(1..=4) },
                slabs: *rng.choice(&[2, 2, 3, 8, 64]).expect("some"),
                hold: *rng.choice(&[0, 300_000, u32::MAX]).expect("some"),
                cores: *rng.choice(&[1, 1, 2, 3]).expect("some"),
                reserved: if rng.u8(..3) == 0 { Reserved::default() } else { Reserved::ours(false) },
                reqq: *rng.choice(&[None, Some(8), Some(20)]).expect("some"),
                up: *rng.choice(&[300_000, 2_000_000, 20_000_000]).expect("some"),
                disk: *rng.choice(&[2_000, 60_000, 1_500_000]).expect("some"),
                comes: if rng.u8(..4) == 0 { rng.f64() * 20.0 } else { 0.0 },
                goes: if rng.u8(..6) == 0 { rng.f64() * 40.0 } else { f64::INFINITY },
                ..NodePlan::seed()
            });
        }
        if rng.u8(..3) == 0 {
            let lies = if rng.bool() { 1.0 } else { 0.2 };
            nodes.extend(vec![NodePlan { lies, ..NodePlan::seed() }; rng.usize(1..=3)]);
            let alike = rng.bool();
            nodes.iter_mut().for_each(|node| node.alike = alike);
        }
        let mut often = || if rng.bool() { 0.0 } else { 0.2 };
        let trouble = Trouble { stall: often(), cut: often(), unreachable: often() };
        // The first one has everything, and keeps it.
        for node in &mut nodes[1..] {
            node.fails = if !node.is_liar() && rng.u8(..8) == 0 { 0.1 } else { 0.0 };
        }
        if seed % 5 == 3 && pieces > 1 {
            // By chance of its own: so the others are the same as before there was this.
            let loses = Some(fastrand::Rng::with_seed(!seed).u32(..pieces));
            nodes.push(NodePlan { loses, cores: 2, ..NodePlan::seed() });
        }
        let replay = format!("{REPLAY}={seed} cargo test --lib sim::random runs it alone");
        // The last comes after 20 seconds, and the slowest of lines takes 25 for all. A line that is silent may cost two minutes, and
        // so may the next. Of 240 worlds none took a third of it.
        // A line that goes silent is found out after 150 s; one world of seven thousand had its only giver's do so four times in a row.
        let limit = Duration::from_secs(if trouble.stall > 0.0 { 1200 } else { 90 });
        Self { layout, nodes, trouble, limit, replay, ..Self::quiet(seed, piece_length, total, Vec::new()) }
    }
}
