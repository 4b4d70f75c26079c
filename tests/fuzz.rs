//! The fuzz targets on mutated seeds, with the ordinary toolchain: a fixed number of inputs, by a number that is printed
//! and can be given (`FUZZ_SEED`), or for so long each (`FUZZ_SECONDS`). `scripts/fuzz` runs the same bodies under libFuzzer.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "the module belongs to another crate, too")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use targets::{Mutator, TARGETS, Target};

/// Inputs for each target, at least: a few seconds for all of them.
const INPUTS: u64 = 20_000;
/// Targets at a time when each is given its time.
const AT_ONCE: usize = 4;
/// Without a number given, always the same inputs: a failure is the fault of what was changed.
const SEED: u64 = 4;

fn input(target: &Target, seed: u64) -> Vec<u8> {
    Mutator::new(seed, (target.seeds)()).next()
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

/// Runs so many inputs, and more until the time is over.
fn try_out(target: &Target, time: Duration) {
    let (first, begun) = (SEED << 32, Instant::now());
    let inputs = (first..).take_while(|number| *number < first + INPUTS || begun.elapsed() < time);
    let count = inputs.map(|number| run(target, number, &input(target, number))).count();
    println!("{}: {count} inputs, FUZZ_SEED={first} and those that follow", target.name);
}

#[test]
fn mutated_input_finds_no_fault() {
    if let Some(number) = given("FUZZ_SEED") {
        return TARGETS.iter().for_each(|target| run(target, number, &input(target, number)));
    }
    let time = Duration::from_secs(given("FUZZ_SECONDS").unwrap_or(0));
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(target) = TARGETS.get(next.fetch_add(1, Ordering::Relaxed)) {
            try_out(target, time);
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
