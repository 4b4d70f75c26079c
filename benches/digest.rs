//! Throughput of every digest engine of this machine: 1 to 16 streams at once, in slices of 16 KiB to 4 MiB, against the
//! `sha1` crate and `ring` on the same bytes.
//!
//! Time is that of the processor, so that other programs on the machine disturb as little as can be. A name is `hash/slice/engine/streams`, and an argument is a filter: `cargo bench --bench digest -- 'sha1/1 MiB/.*/16'`.

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ring::digest::{SHA256, digest};
use rustix::time::{ClockId, clock_gettime};
use seedring::digest::{Engine, HashState, Job, Sha1State, Sha256State};
use sha1::{Digest, Sha1};
use std::hint::black_box;
use std::time::Duration;

/// Time that this thread has spent on a processor.
struct CpuTime;

impl CpuTime {
    fn now() -> Duration {
        clock_gettime(ClockId::ThreadCPUTime).try_into().expect("it never runs backward")
    }
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        Self::now()
    }

    fn end(&self, start: Duration) -> Duration {
        Self::now() - start
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, time: &Duration) -> f64 {
        time.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

const KIB: usize = 1024;
const SLICES: [(usize, &str); 4] =
    [(16 * KIB, "16 KiB"), (256 * KIB, "256 KiB"), (1024 * KIB, "1 MiB"), (4096 * KIB, "4 MiB")];
const STREAMS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
/// The product's slabs begin at multiples of their length: all lanes then compete for the same lines of the cache.
const SLAB: usize = 256 * KIB;

/// Whether everything is to run once only, as a test.
fn is_test() -> bool {
    let has = |flag| std::env::args().any(|arg| arg == flag);
    has("--test") || !has("--bench")
}

/// Lengths of slices: only the shortest when it is no measurement.
fn slices() -> &'static [(usize, &'static str)] {
    if is_test() { &SLICES[..1] } else { &SLICES }
}

/// Memory for as many slices, like slabs.
fn slabs(count: usize, len: usize) -> (Vec<u8>, usize) {
    let memory = vec![7; count * len + SLAB];
    let start = memory.as_ptr().align_offset(SLAB);
    (memory, start)
}

/// Every engine, then what others offer for one stream.
fn hash<S: HashState + Clone>(
    group: &mut BenchmarkGroup<'_, CpuTime>,
    len: usize,
    other: (&str, fn(&[u8]) -> u8),
) {
    for count in STREAMS {
        let (memory, start) = slabs(count, len);
        let slices: Vec<&[u8]> = memory[start..].chunks_exact(len).take(count).collect();
        group.throughput(Throughput::Bytes((count * len) as u64));
        for engine in Engine::all() {
            // States are new each time: where SHA-256 is begun is where it stays.
            group.bench_function(BenchmarkId::new(engine.name(), count), |bencher| {
                bencher.iter(|| {
                    let mut states = vec![S::default(); count];
                    let jobs = states.iter_mut().zip(&slices).map(|(state, slice)| Job::new(state, slice));
                    engine.advance(black_box(&mut jobs.collect::<Vec<_>>()));
                    states
                });
            });
        }
        let (name, hash) = other;
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter(|| slices.iter().map(|slice| hash(slice)).fold(0, u8::wrapping_add));
        });
    }
}

fn sha1(c: &mut Criterion<CpuTime>) {
    for &(len, name) in slices() {
        let mut group = c.benchmark_group(format!("sha1/{name}"));
        hash::<Sha1State>(&mut group, len, ("sha1 crate", |slice| Sha1::digest(slice)[0]));
        group.finish();
    }
}

fn sha256(c: &mut Criterion<CpuTime>) {
    for &(len, name) in slices() {
        let mut group = c.benchmark_group(format!("sha256/{name}"));
        hash::<Sha256State>(&mut group, len, ("ring", |slice| digest(&SHA256, slice).as_ref()[0]));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .with_measurement(CpuTime)
        .without_plots()
        .nresamples(10_000)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    targets = sha1, sha256
}
criterion_main!(benches);
