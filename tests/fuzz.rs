//! The fuzz targets on their seeds and on mutated ones, with the ordinary toolchain: a fixed number of inputs, or for so long
//! each (`FUZZ_SECONDS`). Each input is made by a number. The first of them is taken from the clock, and printed; it can be
//! given instead (`FUZZ_FIRST`), and so can that of a single input (`FUZZ_SEED`); `FUZZ_TARGET` names one target to run
//! alone. `scripts/fuzz` runs the same bodies under libFuzzer.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "the module belongs to another crate, too")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use targets::{Mutator, TARGETS, Target};

/// Inputs for each target when there is no time to fill: a few seconds for all of them.
const INPUTS: u64 = 20_000;
/// As many for a target whose inputs cost a hundred times as much: key exchanges.
const FEW_INPUTS: u64 = 2000;
/// Inputs between two looks at the clock.
const STRETCH: u64 = 16;
/// Targets at a time when each is given its time.
const AT_ONCE: usize = 4;
/// A target that has not had the fixed number of inputs when its time is over goes on, so many times as long at most: a run
/// that did next to nothing has found no fault, and is none.
const MOST_TIMES: u32 = 5;

/// The input of that number.
fn input(seeds: &[Vec<u8>], number: u64) -> Vec<u8> {
    Mutator::new(number, seeds).next()
}

/// Runs one input, and names it when the target finds a fault.
fn run(target: &Target, number: u64, input: &[u8]) {
    if let Err(fault) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        println!("target {}, FUZZ_SEED={number}, input {:?}", target.name, input.escape_ascii().to_string());
        resume_unwind(fault);
    }
}

/// A number that the user gives.
fn given(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// The number of the first input: another one every time, unless it is given.
fn first() -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    given("FUZZ_FIRST").unwrap_or_else(|| now() << 32)
}

/// Runs all seeds as they are, then mutated ones: until the time is over, or a fixed number.
fn try_out(target: &Target, first: u64, time: Duration) {
    let (seeds, begun) = ((target.seeds)(), Instant::now());
    seeds.iter().for_each(|seed| run(target, first, seed));
    let few = if target.name == "mse" { FEW_INPUTS } else { INPUTS };
    let inputs = (first..).take_while(|number| match number - first {
        count if !time.is_zero() && !count.is_multiple_of(STRETCH) => true,
        count => goes_on(count, begun.elapsed(), time, few),
    });
    let count = inputs.map(|number| run(target, number, &input(&seeds, number))).count() as u64;
    println!("{}: {} seeds, {count} inputs in {:?}", target.name, seeds.len(), begun.elapsed());
    assert!(count >= few, "{}: {count} inputs in {:?}", target.name, begun.elapsed());
}

/// Whether there is another input after so many, in so much of the time: until that is over, or of a fixed number.
fn goes_on(count: u64, spent: Duration, time: Duration, fixed: u64) -> bool {
    match time.is_zero() {
        true => count < fixed,
        false => spent < time || count < fixed && spent < time * MOST_TIMES,
    }
}

#[test]
fn no_target_is_through_before_it_has_done_something() {
    let [minute, moment] = [60, 1].map(Duration::from_secs);
    assert!(goes_on(19_999, minute * 9, Duration::ZERO, 20_000));
    assert!(!goes_on(20_000, moment, Duration::ZERO, 20_000));
    assert!(goes_on(1 << 40, moment, minute, 20_000), "there is time left");
    assert!(!goes_on(20_000, minute, minute, 20_000));
    assert!(goes_on(19_999, minute * 2, minute, 20_000), "it has done too little");
    assert!(!goes_on(16, minute * 5, minute, 20_000), "it gets nowhere");
}

#[test]
fn mutated_input_finds_no_fault() {
    if let Some(number) = given("FUZZ_SEED") {
        return TARGETS.iter().for_each(|target| run(target, number, &input(&(target.seeds)(), number)));
    }
    let first = first();
    println!("FUZZ_FIRST={first}");
    let time = Duration::from_secs(given("FUZZ_SECONDS").unwrap_or(0));
    let named = std::env::var("FUZZ_TARGET").ok();
    let targets: Vec<_> =
        TARGETS.iter().filter(|target| named.as_deref().is_none_or(|name| name == target.name)).collect();
    assert!(!targets.is_empty(), "no target is named {named:?}");
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            try_out(target, first, time);
        }
    };
    // Who has no time to fill takes no more threads than there is work for.
    let threads = if time.is_zero() { 1 } else { AT_ONCE };
    std::thread::scope(|scope| (0..threads).for_each(|_| _ = scope.spawn(work)));
}

/// Seeds are what each target takes as good; else fuzzing begins in the dark. With `FUZZ_CORPUS`, they are written there.
#[test]
fn seeds_are_good_and_every_target_has_its_file() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let file = fs::read_to_string(fuzz.join(format!("fuzz_targets/{}.rs", target.name))).unwrap();
        assert!(file.contains(&format!("run(\"{}\", input)", target.name)), "{}", target.name);
        assert!(manifest.contains(&format!("\nname = \"{}\"\n", target.name)), "{}", target.name);
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{}", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            run(target, number as u64, seed);
            if let Some(corpus) = std::env::var_os("FUZZ_CORPUS") {
                let folder = Path::new(&corpus).join(target.name);
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(format!("seed-{number}")), seed).unwrap();
            }
        }
    }
}
