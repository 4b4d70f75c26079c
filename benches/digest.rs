//! Throughput of every digest engine of this machine: 1 to 16 streams at once, in slices of 16 KiB to 4 MiB, against the
//! `sha1` crate on the same bytes.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seedring::digest::{Engine, Job, Sha1State};
use sha1::{Digest, Sha1};
use std::hint::black_box;

const KIB: usize = 1024;
const SLICES: [usize; 4] = [16 * KIB, 256 * KIB, 1024 * KIB, 4096 * KIB];
/// Slabs, where the product's runs lie, start at pages.
const PAGE: usize = 4 * KIB;
const STREAMS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];

fn advance(engine: Engine, states: &mut [Sha1State], runs: &[&[u8]]) {
    let mut jobs: Vec<_> = states.iter_mut().zip(runs).map(|(state, &run)| Job { state, run }).collect();
    engine.advance(black_box(&mut jobs));
}

fn engines(c: &mut Criterion) {
    for slice in SLICES {
        let mut group = c.benchmark_group(format!("sha1/{} KiB", slice / KIB));
        for count in STREAMS {
            let memory = vec![7; count * slice + PAGE];
            let start = memory.as_ptr().align_offset(PAGE);
            let runs: Vec<&[u8]> = memory[start..].chunks_exact(slice).take(count).collect();
            let mut states = vec![Sha1State::new(); count];
            group.throughput(Throughput::Bytes((count * slice) as u64));
            for engine in Engine::all() {
                group.bench_function(BenchmarkId::new(engine.name(), count), |bencher| {
                    bencher.iter(|| advance(engine, &mut states, &runs));
                });
            }
            group.bench_function(BenchmarkId::new("sha1 crate", count), |bencher| {
                bencher.iter(|| runs.iter().map(|run| Sha1::digest(run)[0]).fold(0, u8::wrapping_add));
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600));
    targets = engines
}
criterion_main!(benches);
