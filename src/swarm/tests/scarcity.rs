//! Little memory and many peers.

use super::sim::plan::{Grain, NodePlan, Plan};
use super::sim::world::World;
use crate::swarm::active::RUN_LEN;
use std::time::Duration;

/// Bytes a second of a seed's link.
const SPEED: u64 = 1_000_000;

/// Fetches from so many seeds of equal links with memory for so many runs on each core; says how much came in vain, in percent.
fn fetch(seeds: usize, slabs: usize, cores: usize, seed: u64) -> f64 {
    let giver = NodePlan { up: SPEED, down: 200 * SPEED, told: true, slots: 50, ..NodePlan::seed() };
    let mut nodes = vec![NodePlan {
        slabs,
        cores,
        disk: 10_000,
        ..NodePlan { has: NodePlan::leech().has, ..giver.clone() }
    }];
    nodes.extend(vec![giver; seeds]);
    let size = u64::from(RUN_LEN) * 200;
    let plan = Plan {
        grain: Grain::Coarse,
        limit: Duration::from_secs(600),
        ..Plan::quiet(seed, 4 * RUN_LEN, size, nodes)
    };
    let mut world = World::new(plan);
    world.run();
    let totals = world.nodes[..cores].iter().map(|node| node.swarm.totals());
    let (wasted, received) =
        totals.fold((0, 0), |(wasted, all), totals| (wasted + totals.wasted, all + totals.received));
    100.0 * wasted as f64 / received as f64
}

#[test]
fn peers_that_wait_for_memory_do_not_ask_for_what_others_are_about_to_send() {
    for (seeds, slabs, cores) in [(60, 16, 1), (60, 8, 2), (100, 8, 1), (20, 4, 1)] {
        let wasted = (1..=3).map(|seed| fetch(seeds, slabs, cores, seed)).sum::<f64>() / 3.0;
        assert!(wasted < 3.0, "{seeds} seeds, {slabs} slabs, {cores} cores: {wasted} % came in vain");
    }
}
