//! One that fetches alone, from seeds of all kinds: how long it takes, and what comes in vain.

use super::plan::{Grain, NodePlan, Plan};
use super::world::World;
use crate::swarm::active::RUN_LEN;
use std::time::Duration;

/// What is fetched: so many runs, in pieces of so many, from seeds, so many each of links of so many bytes a second, with memory for so
/// many runs on each core.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) runs: u64,
    pub(crate) in_piece: u32,
    pub(crate) seeds: &'a [(usize, u64)],
    pub(crate) slabs: usize,
    pub(crate) cores: usize,
    /// How much longer than usual the way to each seed takes, in microseconds.
    pub(crate) far: u64,
    /// Seeds beside those, of whose blocks each twentieth is bad: so many of so many bytes a second. They count for nothing.
    pub(crate) liars: (usize, u64),
    /// The liars agree.
    pub(crate) alike: bool,
    /// Bytes a second that the user lets in.
    pub(crate) limit: Option<u64>,
}

impl Scene<'_> {
    /// Plenty of memory, one core and short ways.
    pub(crate) fn plain() -> Self {
        Self {
            runs: 0,
            in_piece: 4,
            seeds: &[],
            slabs: 1 << 12,
            cores: 1,
            far: 0,
            liars: (0, 0),
            alike: false,
            limit: None,
        }
    }

    /// Says how much came in vain, in percent, and how long it took, in times of what the links need.
    pub(crate) fn fetch(self, seed: u64) -> (f64, f64) {
        let Scene { runs, in_piece, seeds, slabs, cores, far, liars, alike, limit } = self;
        let link =
            |speed| NodePlan { up: speed, down: 200_000_000, told: true, slots: 50, ..NodePlan::seed() };
        let giver = |speed| NodePlan { far, ..link(speed) };
        let mut nodes = vec![NodePlan {
            slabs,
            cores,
            disk: 10_000,
            download_limit: limit,
            alike,
            ..NodePlan { has: NodePlan::leech().has, ..link(1_000_000) }
        }];
        seeds.iter().for_each(|(count, speed)| nodes.extend(vec![giver(*speed); *count]));
        nodes.extend(vec![NodePlan { lies: 0.05, ..giver(liars.1) }; liars.0]);
        let size = u64::from(RUN_LEN) * runs;
        let plan = Plan {
            grain: Grain::Coarse,
            limit: Duration::from_secs(600),
            ..Plan::quiet(seed, in_piece * RUN_LEN, size, nodes)
        };
        let mut world = World::new(plan);
        world.run();
        let totals = world.nodes[..cores].iter().map(|node| node.swarm.totals());
        let (wasted, received) =
            totals.fold((0, 0), |(wasted, all), totals| (wasted + totals.wasted, all + totals.received));
        let speeds = seeds.iter().map(|(count, speed)| *count as u64 * speed);
        let bound = size as f64 / speeds.sum::<u64>().min(limit.unwrap_or(u64::MAX)) as f64;
        (100.0 * wasted as f64 / received as f64, world.time().as_secs_f64() / bound)
    }

    /// It takes no longer, in times of what the links need, and little comes in vain.
    pub(crate) fn takes(self, most: f64, most_wasted: f64) {
        let (wasted, time) = self.fetch(1);
        let Scene { seeds, slabs, .. } = self;
        println!("{seeds:?}, {slabs} slabs: {time:.2} times what the links need, {wasted:.2} % in vain");
        assert!(time < most, "{seeds:?}, {slabs} slabs: it took {time} times what the links need");
        assert!(wasted < most_wasted, "{seeds:?}, {slabs} slabs: {wasted} % came in vain");
    }
}
