//! Small worlds of every kind, many seeds.

use super::plan::{Has, NodePlan, Plan, REPLAY};
use super::world::{Tally, World};
use crate::wire::Reserved;
use proptest::prelude::*;
use std::process::Command;
use std::time::Duration;

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

/// Each kind of trouble comes in more than a few of them.
#[test]
fn worlds_of_fixed_seeds_end_well() {
    let tallies: Vec<Tally> = seeds(0..200).into_iter().map(|seed| run(Plan::random(seed)).tally).collect();
    let worlds = |of: fn(&Tally) -> usize| tallies.iter().filter(|tally| of(tally) > 0).count();
    let had = [
        worlds(|tally| tally.unreached),
        worlds(|tally| tally.stalled),
        worlds(|tally| tally.cut),
        worlds(|tally| tally.gone),
        worlds(|tally| tally.banned),
        worlds(|tally| tally.lost),
    ];
    println!(
        "worlds with dials in vain, silent lines, broken ones, some who left, some who were banned, pieces that a disk lost: {had:?}"
    );
    assert!(tallies.len() == 1 || had.iter().all(|worlds| *worlds >= 20), "{had:?}");
}

/// What they found: a late block that was taken for the answer to what was asked meanwhile, a suspect piece of which all cores
/// thought that another one brings it sooner, and a core that had the others fetch over and over what it had no memory for.
#[test]
fn worlds_in_which_something_went_wrong_once_end_well() {
    const ONCE: [u64; 8] = [
        1552,
        3262,
        42221,
        72348,
        2481717881419913834,
        4019479860130060410,
        14683977371294685056,
        14385298084685244697,
    ];
    seeds(ONCE.into_iter()).into_iter().for_each(|seed| _ = run(Plan::random(seed)));
}

/// Run by [`a_world_that_fails_prints_its_seed`] alone.
#[test]
#[should_panic(expected = "not done in time")]
fn a_world_with_no_time_fails() {
    run(Plan { limit: Duration::from_secs(1), ..Plan::random(3) });
}

#[test]
fn a_world_that_fails_prints_its_seed() {
    let program = std::env::current_exe().unwrap();
    let name = module_path!().split_once("::").unwrap().1;
    let args = [&format!("{name}::a_world_with_no_time_fails"), "--exact", "--nocapture"];
    let output = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the seed of this world is 3;"), "{said}");
    assert!(said.contains(&format!("{REPLAY}=3 cargo test")), "{said}");
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

/// Who speaks no extension is sent away, and comes back.
#[test]
fn what_the_disk_of_a_seed_does_not_give_back_comes_from_others() {
    let mut lost = 0;
    for seed in 0..20 {
        let frail = NodePlan { loses: Some(3), cores: 2, super_seed: seed % 4 == 3, ..NodePlan::seed() };
        let plain = NodePlan { reserved: Reserved::default(), ..NodePlan::leech() };
        let late = NodePlan { comes: 10.0, ..NodePlan::leech() };
        let slow = NodePlan { up: 300_000, ..NodePlan::seed() };
        let nodes = vec![slow, frail, NodePlan::leech(), plain, late];
        let world = run(Plan::quiet(seed, 65_536, 2_000_000, nodes));
        let totals = world.nodes.iter().map(|node| node.swarm.totals());
        assert!(totals.map(|totals| totals.lost_pieces).sum::<u64>() == world.tally.lost as u64);
        lost += world.tally.lost;
    }
    assert!(lost >= 15, "of 20 worlds somebody asked the disk for it in {lost}");
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
