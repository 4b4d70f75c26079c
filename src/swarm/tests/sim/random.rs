//! Small worlds of every kind, many seeds.

use super::plan::Plan;
use super::world::World;
use proptest::prelude::*;

fn run(plan: Plan) {
    World::new(plan).run();
}

#[test]
fn worlds_of_fixed_seeds_end_well() {
    (0..200).for_each(|seed| run(Plan::random(seed)));
}

proptest! {
    // A smaller seed is not a simpler world.
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 0, failure_persistence: None, ..Default::default() })]

    #[test]
    fn worlds_of_any_seed_end_well(seed: u64) {
        run(Plan::random(seed));
    }
}
