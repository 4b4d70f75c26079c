//! Little memory and many peers.

use super::sim::plan::{Grain, NodePlan, Plan};
use super::sim::world::World;
use crate::swarm::active::RUN_LEN;
use std::time::Duration;

/// What is fetched: so many runs, in pieces of so many, from seeds, so many each of links of so many bytes a second, with memory for so
/// many runs on each core.
#[derive(Clone, Copy)]
struct Scene<'a> {
    runs: u64,
    in_piece: u32,
    seeds: &'a [(usize, u64)],
    slabs: usize,
    cores: usize,
}

impl Scene<'_> {
    /// Says how much came in vain, in percent, and how long it took, in times of what the links need.
    fn fetch(self, seed: u64) -> (f64, f64) {
        let Scene { runs, in_piece, seeds, slabs, cores } = self;
        let giver =
            |speed| NodePlan { up: speed, down: 200_000_000, told: true, slots: 50, ..NodePlan::seed() };
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
            ..Plan::quiet(seed, in_piece * RUN_LEN, size, nodes)
        };
        let mut world = World::new(plan);
        world.run();
        let totals = world.nodes[..cores].iter().map(|node| node.swarm.totals());
        let (wasted, received) =
            totals.fold((0, 0), |(wasted, all), totals| (wasted + totals.wasted, all + totals.received));
        let speeds = seeds.iter().map(|(count, speed)| *count as u64 * speed);
        let bound = size as f64 / speeds.sum::<u64>() as f64;
        (100.0 * wasted as f64 / received as f64, world.time().as_secs_f64() / bound)
    }

    /// It takes no longer, in times of what the links need, and little comes in vain.
    fn takes(self, most: f64, most_wasted: f64) {
        let (wasted, time) = self.fetch(1);
        let (seeds, slabs) = (self.seeds, self.slabs);
        println!("{seeds:?}, {slabs} slabs: {time:.2} times what the links need, {wasted:.2} % in vain");
        assert!(time < most, "{seeds:?}, {slabs} slabs: it took {time} times what the links need");
        assert!(wasted < most_wasted, "{seeds:?}, {slabs} slabs: {wasted} % came in vain");
    }
}

#[test]
fn peers_that_wait_for_memory_do_not_ask_for_what_others_are_about_to_send() {
    for (seeds, slabs, cores) in [(60, 16, 1), (60, 8, 2), (100, 8, 1), (20, 4, 1)] {
        let scene = Scene { runs: 200, in_piece: 4, seeds: &[(seeds, 1_000_000)], slabs, cores };
        let wasted = (1..=3).map(|seed| scene.fetch(seed).0).sum::<f64>() / 3.0;
        assert!(wasted < 3.0, "{seeds} seeds, {slabs} slabs, {cores} cores: {wasted} % came in vain");
    }
}

/// Were each asked for what it sends in two seconds, those asked first would have all of it.
#[test]
fn scarce_memory_is_for_all_who_fill_it() {
    let scene = |runs, seeds, slabs, cores| Scene { runs, in_piece: 4, seeds, slabs, cores };
    scene(800, &[(60, 300_000)], 64, 1).takes(1.23, 0.5);
    scene(800, &[(60, 300_000)], 32, 2).takes(1.35, 0.5);
    scene(800, &[(60, 300_000)], 28, 1).takes(1.55, 0.5);
    // In half a second each sends three blocks: more than there is memory for.
    scene(256, &[(100, 100_000)], 14, 1).takes(2.0, 0.5);
    scene(256, &[(100, 100_000)], 8, 2).takes(2.0, 0.5);
}

/// Together they send much more than the one that is so much faster than each.
#[test]
fn scarce_memory_is_not_left_to_the_one_that_is_fastest() {
    for seeds in [&[(1, 2_000_000), (99, 100_000)], &[(3, 2_000_000), (90, 60_000)]] {
        Scene { runs: 256, in_piece: 4, seeds, slabs: 14, cores: 1 }.takes(2.9, 0.5);
    }
}

/// Each of them has been asked for something before it is known how slow they are. (Left to them it takes more than fifty times.)
#[test]
fn scarce_memory_is_not_left_to_those_who_hardly_send() {
    let seeds = &[(75, 3_000), (25, 2_000_000)];
    for (slabs, cores) in [(32, 1), (16, 2)] {
        Scene { runs: 800, in_piece: 4, seeds, slabs, cores }.takes(4.5, 8.0);
    }
    let seeds = &[(15, 20_000), (15, 100_000), (15, 500_000), (15, 2_000_000)];
    Scene { runs: 400, in_piece: 4, seeds, slabs: 28, cores: 1 }.takes(4.5, 3.0);
}

/// Runs of a piece are hashed in order: one that lacks a block holds up all that are full behind it.
#[test]
fn a_slow_peer_does_not_hold_up_the_runs_of_a_long_piece() {
    let seeds = &[(40, 5_000), (20, 1_000_000)];
    Scene { runs: 192, in_piece: 64, seeds, slabs: 28, cores: 1 }.takes(4.0, 5.0);
}
