//! Little memory and many peers.

use super::sim::fetching::Scene;

#[test]
fn peers_that_wait_for_memory_do_not_ask_for_what_others_are_about_to_send() {
    for (seeds, slabs, cores) in [(60, 16, 1), (60, 8, 2), (100, 8, 1), (20, 4, 1)] {
        let scene = Scene { runs: 200, seeds: &[(seeds, 1_000_000)], slabs, cores, ..Scene::plain() };
        let wasted = (1..=3).map(|seed| scene.fetch(seed).0).sum::<f64>() / 3.0;
        assert!(wasted < 3.0, "{seeds} seeds, {slabs} slabs, {cores} cores: {wasted} % came in vain");
    }
}

/// Were each asked for what it sends in two seconds, those asked first would have all of it.
#[test]
fn scarce_memory_is_for_all_who_fill_it() {
    let scene = |runs, seeds, slabs, cores| Scene { runs, seeds, slabs, cores, ..Scene::plain() };
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
        Scene { runs: 256, seeds, slabs: 14, ..Scene::plain() }.takes(2.9, 0.5);
    }
}

/// Each of them has been asked for something before it is known how slow they are. (Left to them it takes more than fifty times.)
#[test]
fn scarce_memory_is_not_left_to_those_who_hardly_send() {
    let seeds = &[(75, 3_000), (25, 2_000_000)];
    for (slabs, cores) in [(32, 1), (16, 2)] {
        Scene { runs: 800, seeds, slabs, cores, ..Scene::plain() }.takes(4.5, 8.0);
    }
    let seeds = &[(15, 20_000), (15, 100_000), (15, 500_000), (15, 2_000_000)];
    Scene { runs: 400, seeds, slabs: 28, ..Scene::plain() }.takes(4.5, 3.0);
}

/// Runs of a piece are hashed in order: one that lacks a block holds up all that are full behind it.
#[test]
fn a_slow_peer_does_not_hold_up_the_runs_of_a_long_piece() {
    let seeds = &[(40, 5_000), (20, 1_000_000)];
    Scene { runs: 192, in_piece: 64, seeds, slabs: 28, ..Scene::plain() }.takes(4.0, 5.0);
}
