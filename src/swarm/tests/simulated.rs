//! Swarms against one another, many seeds.

use super::plan::Plan;
use super::world::World;
use proptest::prelude::*;

/// Prints the seed when the test fails while it is alive.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this world is {}", self.0);
        }
    }
}

fn run(plan: Plan) {
    let _seed = Seed(plan.seed);
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
