//! Small worlds of every kind, many seeds.

use super::plan::{Has, NodePlan, Plan, REPLAY};
use super::world::World;
use proptest::prelude::*;

fn run(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.run();
    world
}

/// The seed that is to be run alone, if the user names one.
fn named(value: Option<&str>) -> Option<u64> {
    value.map(|seed| seed.parse().expect("a seed is a number"))
}

/// The seeds to run: those, or the one that the user names.
fn seeds(usual: impl Iterator<Item = u64>) -> Vec<u64> {
    let named = named(std::env::var(REPLAY).ok().as_deref());
    named.map_or_else(|| usual.collect(), |seed| vec![seed])
}

#[test]
fn worlds_of_fixed_seeds_end_well() {
    seeds(0..200).into_iter().for_each(|seed| drop(run(Plan::random(seed))));
}

#[test]
fn a_seed_can_be_run_again_and_gives_the_same_world() {
    assert_eq!((named(None), named(Some("17"))), (None, Some(17)));
    let trace = |seed| {
        let world = run(Plan::random(seed));
        let nodes = world.nodes.iter().map(|node| format!("{:?} {:?}", node.done, node.swarm.totals()));
        (world.now, nodes.collect::<Vec<_>>())
    };
    for seed in [3, u64::MAX - 5] {
        let replay = Plan::random(seed).replay;
        assert!(replay.starts_with(&format!("{REPLAY}={seed} ")), "{replay}");
        assert_eq!(trace(seed), trace(seed));
    }
    assert_ne!(trace(3), trace(4));
}

#[test]
fn whose_disk_fails_stops_and_the_others_complete() {
    let (mut failed, mut served) = (0, 0);
    for seed in 0..20 {
        let bad = |fails, cores| NodePlan { fails, cores, ..NodePlan::leech() };
        let half = NodePlan { has: Has::Chance(0.5), fails: 0.3, ..NodePlan::leech() };
        let nodes =
            vec![NodePlan::seed(), bad(1.0, 1), NodePlan::leech(), bad(0.3, 2), half, NodePlan::leech()];
        let world = run(Plan::quiet(seed, 65_536, 1_000_000, nodes));
        for node in &world.nodes {
            let sound = node.plan.fails == 0.0;
            assert!(node.is_complete() && !node.failed || !sound, "{}", world.state());
            assert!(!node.failed || !node.is_complete(), "what failed is not complete");
            failed += usize::from(node.failed);
            served += usize::from(node.failed && node.uploaded > 0);
        }
        assert!(world.nodes[1].failed, "its first write fails");
    }
    assert!(failed > 40 && served > 0, "{failed} failed, {served} of them had given something");
}

proptest! {
    // A smaller seed is not a simpler world.
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 0, failure_persistence: None, ..Default::default() })]

    #[test]
    fn worlds_of_any_seed_end_well(seed: u64) {
        if std::env::var_os(REPLAY).is_none() {
            run(Plan::random(seed));
        }
    }
}
