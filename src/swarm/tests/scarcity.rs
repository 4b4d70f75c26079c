//! Little memory and many peers.

use super::sim::plan::{Grain, NodePlan, Plan};
use super::sim::world::World;
use crate::swarm::active::RUN_LEN;
use std::time::Duration;

/// Fetches so many runs from seeds, so many each of links of so many bytes a second, with memory for so many runs on each core;
/// says how much came in vain, in percent, and how long it took, in times of what the links need.
fn fetch(runs: u64, seeds: &[(usize, u64)], slabs: usize, cores: usize, seed: u64) -> (f64, f64) {
    let giver = |speed| NodePlan { up: speed, down: 200_000_000, told: true, slots: 50, ..NodePlan::seed() };
    let mut nodes = vec![NodePlan {
        slabs,
        cores,
        disk: 10_000,
        ..NodePlan { has: NodePlan::leech().has, ..giver(1_000_000) }
    }];
    seeds.iter().for_each(|(count, speed)| nodes.extend(vec![giver(*speed); *count]));
    let size = u64::from(RUN_LEN) * runs;
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
    let bound = size as f64 / seeds.iter().map(|(count, speed)| *count as u64 * speed).sum::<u64>() as f64;
    (100.0 * wasted as f64 / received as f64, world.time().as_secs_f64() / bound)
}

#[test]
fn peers_that_wait_for_memory_do_not_ask_for_what_others_are_about_to_send() {
    for (seeds, slabs, cores) in [(60, 16, 1), (60, 8, 2), (100, 8, 1), (20, 4, 1)] {
        let wasted = |seed| fetch(200, &[(seeds, 1_000_000)], slabs, cores, seed).0;
        let wasted = (1..=3).map(wasted).sum::<f64>() / 3.0;
        assert!(wasted < 3.0, "{seeds} seeds, {slabs} slabs, {cores} cores: {wasted} % came in vain");
    }
}

/// Were each asked for what it sends in two seconds, those asked first would have all of it.
#[test]
fn scarce_memory_is_for_all_who_fill_it() {
    for (slabs, cores) in [(64, 1), (32, 2)] {
        let (wasted, time) = fetch(800, &[(60, 300_000)], slabs, cores, 1);
        assert!(wasted < 0.5, "{wasted} % came in vain");
        assert!(time < 1.45, "it took {time} times what the links need");
    }
}

/// Each of them has a run of memory before it is known how slow they are. (Left to them it takes more than fifty times.)
#[test]
fn scarce_memory_is_not_left_to_those_who_hardly_send() {
    for (slabs, cores) in [(32, 1), (16, 2)] {
        let (_, time) = fetch(800, &[(75, 3_000), (25, 2_000_000)], slabs, cores, 1);
        assert!(time < 20.0, "it took {time} times what the links need");
    }
}
