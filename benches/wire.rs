//! Cost of the wire room: reading heads out of received bytes, and writing requests, heads of blocks and HAVEs.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use seedring::wire::{Item, Limits, Message, PIECE_HEAD_LEN, PieceHead, Reader};
use std::hint::black_box;

const BLOCK: usize = 16 * 1024;
/// What one receive brings.
const RECEIVED: usize = 256 * 1024;
const PIECES: u32 = 10_000;

/// Reads everything; the sum keeps the work from being dropped.
fn read(stream: &[u8]) -> u64 {
    let mut reader = Reader::new(Limits::for_pieces(PIECES));
    let mut sum = 0;
    for part in stream.chunks(RECEIVED) {
        let mut input = part;
        while let Some(item) = reader.next(&mut input).expect("the stream is good") {
            sum += match item {
                Item::PieceHead(head) => u64::from(head.begin),
                Item::Payload { len } => len as u64,
                Item::Message(Message::Request { begin, .. }) => u64::from(begin),
                Item::Message(_) => 1,
            };
        }
    }
    sum
}

/// Places of the blocks of a torrent with pieces of 1 MiB.
fn blocks(count: u32) -> impl Iterator<Item = (u32, u32)> {
    (0..count).map(|block| (block / 64, block % 64 * BLOCK as u32))
}

fn read_pieces(c: &mut Criterion) {
    const COUNT: u32 = 1024;
    let mut stream = Vec::new();
    for (index, begin) in blocks(COUNT) {
        stream.extend(PieceHead { index, begin, len: BLOCK as u32 }.encode());
        stream.resize(stream.len() + BLOCK, 0);
    }
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(COUNT.into()));
    group.bench_function("pieces", |b| b.iter(|| read(black_box(&stream))));
}

fn requests(count: u32, out: &mut Vec<u8>) {
    for (index, begin) in blocks(count) {
        Message::Request { index, begin, len: BLOCK as u32 }.encode(out);
    }
}

fn read_requests(c: &mut Criterion) {
    const COUNT: u32 = 100_000;
    let mut stream = Vec::new();
    requests(COUNT, &mut stream);
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(COUNT.into()));
    group.bench_function("requests", |b| b.iter(|| read(black_box(&stream))));
}

fn write_requests(c: &mut Criterion) {
    const COUNT: u32 = 10_000;
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(COUNT.into()));
    group.bench_function("requests", |b| {
        let buffer = || Vec::with_capacity(COUNT as usize * 17);
        b.iter_batched_ref(buffer, |out| requests(black_box(COUNT), out), BatchSize::LargeInput);
    });
}

/// What a seed says: the head of each block that it sends.
fn write_piece_heads(c: &mut Criterion) {
    const COUNT: u32 = 10_000;
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(COUNT.into()));
    group.bench_function("piece_heads", |b| {
        let buffer = || Vec::with_capacity(COUNT as usize * PIECE_HEAD_LEN);
        let write = |out: &mut Vec<u8>| {
            for (index, begin) in blocks(black_box(COUNT)) {
                out.extend_from_slice(&PieceHead { index, begin, len: BLOCK as u32 }.encode());
            }
        };
        b.iter_batched_ref(buffer, write, BatchSize::LargeInput);
    });
}

/// What every peer is told of every piece.
fn write_haves(c: &mut Criterion) {
    let mut group = c.benchmark_group("write");
    group.throughput(Throughput::Elements(PIECES.into()));
    group.bench_function("haves", |b| {
        let buffer = || Vec::with_capacity(PIECES as usize * 9);
        let write = |out: &mut Vec<u8>| {
            (0..black_box(PIECES)).for_each(|piece| Message::Have(piece).encode(out));
        };
        b.iter_batched_ref(buffer, write, BatchSize::LargeInput);
    });
}

criterion_group!(benches, read_pieces, read_requests, write_requests, write_piece_heads, write_haves);
criterion_main!(benches);
