//! Cost of finding where blocks, runs and pieces lie in the files.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seedring::metainfo::{Layout, PieceIndex};
use std::hint::black_box;

const KIB: u32 = 1024;
const PIECE: u32 = 1024 * KIB;
const PIECES: u64 = 10_000;

/// 10,000 pieces of 1 MiB in so many files of unequal lengths, so that pieces straddle them.
fn layout(files: u64) -> Layout {
    let total = PIECES * u64::from(PIECE);
    let mut rng = fastrand::Rng::with_seed(7);
    let mut cuts: Vec<u64> = (1..files).map(|_| rng.u64(1..total)).chain([0, total]).collect();
    cuts.sort_unstable();
    Layout::new(PIECE.into(), cuts.windows(2).map(|pair| pair[1] - pair[0])).expect("sound")
}

/// The spans of one piece after the other, cut into parts of `len` bytes; the sum keeps the work from being dropped.
fn walk(layout: &Layout, pieces: &[PieceIndex], len: u32) -> u64 {
    let parts = pieces.iter().flat_map(|piece| (0..PIECE / len).map(move |part| (*piece, part * len)));
    parts.flat_map(|(piece, begin)| layout.spans(piece, begin, len)).map(|span| span.offset).sum()
}

fn spans(c: &mut Criterion) {
    for (name, len) in [("block", 16 * KIB), ("run", 256 * KIB), ("piece", PIECE)] {
        let mut group = c.benchmark_group(format!("spans/{name}"));
        for files in [1, 1_000, 100_000] {
            let layout = layout(files);
            let mut pieces: Vec<PieceIndex> = layout.pieces().collect();
            fastrand::Rng::with_seed(3).shuffle(&mut pieces);
            pieces.truncate(100);
            group.throughput(Throughput::Elements(100 * u64::from(PIECE / len)));
            group.bench_function(BenchmarkId::from_parameter(format!("{files}_files")), |b| {
                b.iter(|| walk(black_box(&layout), &pieces, len));
            });
        }
        group.finish();
    }
}

/// The three numbers of a request, checked.
fn requests(c: &mut Criterion) {
    const COUNT: u32 = 1_000;
    let layout = layout(1);
    let mut group = c.benchmark_group("check_request");
    group.throughput(Throughput::Elements(COUNT.into()));
    group.bench_function("good", |b| {
        b.iter(|| {
            let block = |n: u32| layout.block(black_box(n), n % 64 * 16 * KIB, 16 * KIB);
            (0..COUNT).filter_map(block).map(|block| u64::from(block.end())).sum::<u64>()
        });
    });
    group.finish();
}

criterion_group!(benches, spans, requests);
criterion_main!(benches);
