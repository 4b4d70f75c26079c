//! What a seed makes of a simulated world: who takes part, how good the links are, what goes wrong.

use crate::metainfo::Layout;
use crate::wire::Reserved;
use std::sync::Arc;
use std::time::Duration;

/// How often each link suffers each trouble, 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trouble {
    /// One direction goes silent for ever, anywhere in the stream.
    pub(super) stall: f64,
    /// The connection breaks at some time.
    pub(super) cut: f64,
    /// A dial comes to nothing.
    pub(super) unreachable: f64,
}

/// One who takes part.
#[derive(Clone, Debug)]
pub(super) struct NodePlan {
    /// Chance that it has each piece at the start.
    pub(super) has: f64,
    /// Chance that a block it sends is bad.
    pub(super) lies: f64,
    /// Upload slots; none means that it chokes everybody for ever.
    pub(super) slots: usize,
    /// Slabs for runs.
    pub(super) slabs: usize,
    pub(super) hold: u32,
    /// Cores it works on: each has peers, slabs and claims of its own.
    pub(super) cores: usize,
    pub(super) super_seed: bool,
    /// A file that it does not want.
    pub(super) skips: Option<usize>,
    pub(super) sequential: bool,
    /// The extensions it knows.
    pub(super) reserved: Reserved,
}

impl NodePlan {
    pub(super) fn seed() -> Self {
        Self {
            has: 1.0,
            lies: 0.0,
            slots: 4,
            slabs: 64,
            hold: u32::MAX,
            cores: 1,
            super_seed: false,
            skips: None,
            sequential: false,
            reserved: Reserved::ours(false),
        }
    }

    pub(super) fn is_liar(&self) -> bool {
        self.lies > 0.0
    }
}

/// Everything that is decided before the world begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) layout: Arc<Layout>,
    pub(super) nodes: Vec<NodePlan>,
    pub(super) trouble: Trouble,
    /// All who are honest must be done by then.
    pub(super) limit: Duration,
}

impl Plan {
    /// A quiet world with these nodes.
    pub(super) fn quiet(seed: u64, piece_length: u32, total: u64, nodes: Vec<NodePlan>) -> Self {
        let layout = Arc::new(Layout::new(piece_length.into(), [total]).expect("a sound geometry"));
        let trouble = Trouble { stall: 0.0, cut: 0.0, unreachable: 0.0 };
        Self { seed, layout, nodes, trouble, limit: Duration::from_secs(1200) }
    }

    /// A world of any kind.
    pub(super) fn random(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let lengths = [16_384, 40_000, 65_536, 262_144, 300_000, 600_000, 1_000_000];
        let piece_length = *rng.choice(&lengths).expect("some");
        let pieces = rng.u32(1..=24).min(2_500_000 / piece_length);
        let total = u64::from(pieces * piece_length - rng.u32(0..piece_length));
        let mut nodes = vec![NodePlan::seed()];
        for _ in 0..rng.usize(1..=4) {
            nodes.push(NodePlan {
                has: if rng.bool() { 0.0 } else { 0.5 },
                lies: 0.0,
                slots: if rng.u8(..5) == 0 { 0 } else { rng.usize(1..=4) },
                slabs: *rng.choice(&[2, 2, 3, 8, 64]).expect("some"),
                hold: *rng.choice(&[0, 300_000, u32::MAX]).expect("some"),
                cores: *rng.choice(&[1, 1, 2, 3]).expect("some"),
                reserved: if rng.u8(..3) == 0 { Reserved::default() } else { Reserved::ours(false) },
                ..NodePlan::seed()
            });
        }
        if rng.u8(..3) == 0 {
            let lies = if rng.bool() { 1.0 } else { 0.2 };
            nodes.push(NodePlan { lies, ..NodePlan::seed() });
        }
        let mut often = || if rng.bool() { 0.0 } else { 0.2 };
        let trouble = Trouble { stall: often(), cut: often(), unreachable: often() };
        Self { nodes, trouble, ..Self::quiet(seed, piece_length, total, Vec::new()) }
    }
}
