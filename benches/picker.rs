//! Cost of choosing pieces and of HAVE, in swarms of many pieces and peers.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use seedring::metainfo::{Layout, PieceIndex};
use seedring::swarm::{Commons, Completion, Introduction, PeerSlot, Settings, Speech, Swarm, Wish};
use seedring::wire::{Message, PeerId, Reserved};
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pieces are of one block, so that every request is for a new one.
const BLOCK: u32 = 16 * 1024;
const SIZES: [(u32, usize); 5] = [(1_000, 10), (1_000, 500), (100_000, 10), (100_000, 500), (100_000, 1_000)];
const START: Duration = Duration::from_secs(1);
const NOW: Duration = Duration::from_secs(11);

/// Whether everything is to run once only, as a test.
fn is_test() -> bool {
    let has = |flag| std::env::args().any(|arg| arg == flag);
    has("--test") || !has("--bench")
}

/// Only small swarms when it is no measurement.
fn sizes() -> &'static [(u32, usize)] {
    if is_test() { &SIZES[..2] } else { &SIZES }
}

fn connect(swarm: &mut Swarm, number: usize) -> PeerSlot {
    connect_as(swarm, number, Reserved::default())
}

/// One that knows these extensions.
fn connect_as(swarm: &mut Swarm, number: usize, reserved: Reserved) -> PeerSlot {
    let mut id = [1; 20];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let who = Introduction { addr: ([10, 0, 0, 1], 1).into(), outgoing: false, id: PeerId(id), reserved };
    swarm.connect(START, who).expect("there is room")
}

/// A swarm of leeches that do not choke us and have every piece with this chance in 256.
fn swarm(pieces: u32, peers: usize, chance: u8) -> (Swarm, Vec<PeerSlot>) {
    crowd((pieces, peers), chance, false)
}

/// The same when we have everything and show it piece by piece (BEP 16).
fn super_seed(size: (u32, usize)) -> Swarm {
    let (mut swarm, slots) = crowd(size, 128, true);
    slots.into_iter().for_each(|slot| _ = speak(&mut swarm, slot, &mut Vec::new()));
    swarm
}

fn crowd((pieces, peers): (u32, usize), chance: u8, super_seed: bool) -> (Swarm, Vec<PeerSlot>) {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(pieces) * u64::from(BLOCK)]).expect("sound"));
    let commons = Arc::new(Commons::new(pieces, 1));
    layout.pieces().filter(|_| super_seed).for_each(|piece| commons.map.set_have(piece));
    let settings = Settings {
        super_seed,
        id: PeerId([0; 20]),
        most_peers: 2 * peers,
        slots: 8,
        seed_slots: 8,
        hold: u32::MAX,
        ..Settings::default()
    };
    let mut swarm = Swarm::new(layout, commons, 0, settings, 1);
    let mut rng = fastrand::Rng::with_seed(7);
    let slots = (0..peers).map(|number| {
        let slot = connect(&mut swarm, number);
        let mut bits = vec![0u8; pieces.div_ceil(8) as usize];
        (0..pieces as usize).filter(|_| rng.u8(..) < chance).for_each(|n| bits[n / 8] |= 0x80 >> (n % 8));
        swarm.hear(NOW, slot, Message::Bitfield(&bits));
        swarm.hear(NOW, slot, Message::Unchoke);
        slot
    });
    let slots = slots.collect();
    swarm.tick(NOW);
    (swarm, slots)
}

/// What is said to a peer; the runs that it was asked for.
fn speak(swarm: &mut Swarm, slot: PeerSlot, bytes: &mut Vec<u8>) -> Vec<(PieceIndex, usize)> {
    bytes.clear();
    let mut speech = Speech { bytes, slabs: 10_000, opened: Vec::new(), metadata: usize::MAX };
    swarm.speak(NOW, slot, &mut speech);
    speech.opened
}

/// Has the pieces fetched.
fn finish(swarm: &mut Swarm, slot: PeerSlot, opened: &[(PieceIndex, usize)]) {
    for (piece, _) in opened {
        let block = swarm.layout().nth_block(*piece, 0);
        let (_, place) = swarm.begin(NOW, slot, [piece.get(), 0, block.len]).expect("it was asked for");
        assert_eq!(swarm.complete(NOW, slot, &block, place), Completion::Taken);
        swarm.hashed(NOW, *piece, 0..1, Some(true));
        swarm.written(NOW, *piece, 0);
    }
    let mut wishes: Vec<Wish> = Vec::new();
    swarm.fill(&mut wishes, usize::MAX);
}

fn name((pieces, peers): (u32, usize)) -> BenchmarkId {
    BenchmarkId::from_parameter(format!("{pieces}_pieces_{peers}_peers"))
}

/// Time for `times` requests of speeches that take so long and hold so many.
fn each(times: u64, mut speech: impl FnMut() -> (Duration, usize)) -> Duration {
    let (mut spent, mut requests) = (Duration::ZERO, 0);
    while requests < times {
        let (time, count) = speech();
        spent += time;
        requests += count as u64;
    }
    spent.mul_f64(times as f64 / requests as f64)
}

/// A request, each for a new piece; the first half of a download.
fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for &size in sizes() {
        let (mut world, mut slots) = swarm(size.0, size.1, 128);
        let (mut turn, mut got, mut bytes) = (0, 0, Vec::new());
        let mut one = || {
            if got * 2 >= size.0 as usize {
                (world, slots) = swarm(size.0, size.1, 128);
                got = 0;
            }
            // Few of them take turns, so that news of pieces got in between does not fill the speech.
            turn = (turn + 1) % 10;
            let start = Instant::now();
            let opened = black_box(speak(&mut world, slots[turn], &mut bytes));
            let spent = start.elapsed();
            assert!(!opened.is_empty());
            got += opened.len();
            finish(&mut world, slots[turn], &opened);
            (spent, opened.len())
        };
        group.bench_function(name(size), |b| b.iter_custom(|times| each(times, &mut one)));
    }
    group.finish();
}

/// A look in vain: another peer is asked for the only piece that this one has.
fn pick_nothing(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick_nothing");
    for &size in sizes() {
        let (mut world, slots) = swarm(size.0, size.1, 0);
        slots.iter().for_each(|slot| world.hear(NOW, *slot, Message::Have(size.0 / 2)));
        let mut bytes = Vec::new();
        slots.iter().for_each(|slot| drop(speak(&mut world, *slot, &mut bytes)));
        let last = *slots.last().expect("there are peers");
        group.bench_function(name(size), |b| b.iter(|| speak(&mut world, black_box(last), &mut bytes)));
    }
    group.finish();
}

/// A request to a peer that lacks all the rare pieces, of which there are many: it has those that everybody has.
fn pick_common(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick_past_rare");
    for &size in sizes() {
        let make = || {
            let (mut world, slots) = swarm(size.0, size.1, 128);
            let slot = connect(&mut world, size.1);
            for other in slots.iter().chain([&slot]) {
                let last = size.0 - size.0 / 10..size.0;
                last.for_each(|piece| world.hear(NOW, *other, Message::Have(piece)));
            }
            world.hear(NOW, slot, Message::Unchoke);
            world.tick(NOW + Duration::from_secs(1));
            (world, slot)
        };
        let (mut world, mut slot) = make();
        let (mut got, mut bytes) = (0, Vec::new());
        let mut one = || {
            if got * 20 >= size.0 as usize {
                (world, slot) = make();
                got = 0;
            }
            let start = Instant::now();
            let opened = black_box(speak(&mut world, slot, &mut bytes));
            let spent = start.elapsed();
            assert!(!opened.is_empty());
            got += opened.len();
            finish(&mut world, slot, &opened);
            (spent, opened.len())
        };
        group.bench_function(name(size), |b| b.iter_custom(|times| each(times, &mut one)));
    }
    group.finish();
}

/// The requests to a peer that has just come, with half of the pieces, while we have none: chance alone decides. And to one that
/// chokes us and sends a few pieces all the same (BEP 6).
fn pick_any(c: &mut Criterion) {
    for (name_of_group, chokes) in [("first_picks", false), ("picks_while_choked", true)] {
        let mut group = c.benchmark_group(name_of_group);
        for &size in sizes() {
            let (mut world, _) = swarm(size.0, size.1, 128);
            let bits = vec![0xaa; size.0.div_ceil(8) as usize];
            let mut bytes = Vec::new();
            let mut one = || {
                let slot = connect_as(&mut world, size.1, Reserved([0, 0, 0, 0, 0, 0, 0, 4]));
                world.hear(NOW, slot, Message::Bitfield(&bits));
                if chokes {
                    let allowed = (0..10).map(|number| size.0 / 20 * 2 * number);
                    allowed.for_each(|piece| world.hear(NOW, slot, Message::AllowedFast(piece)));
                } else {
                    world.hear(NOW, slot, Message::Unchoke);
                }
                let start = Instant::now();
                let opened = black_box(speak(&mut world, slot, &mut bytes));
                let spent = start.elapsed();
                assert!(!opened.is_empty());
                world.gone(NOW, slot);
                let mut wishes: Vec<Wish> = Vec::new();
                world.fill(&mut wishes, usize::MAX);
                (spent, opened.len())
            };
            group.bench_function(name(size), |b| b.iter_custom(|times| each(times, &mut one)));
        }
        group.finish();
    }
}

/// A peer that comes with nothing and says a thousand times that it has a new piece.
fn have(c: &mut Criterion) {
    have_in(c, "have_1000", |size| swarm(size.0, size.1, 128).0);
    have_in(c, "have_1000_to_a_super_seed", super_seed);
}

fn have_in(c: &mut Criterion, what: &str, make: impl Fn((u32, usize)) -> Swarm) {
    let mut group = c.benchmark_group(what);
    for &size in sizes() {
        let mut world = make(size);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut one = || {
            let slot = connect(&mut world, size.1);
            let told: Vec<u32> = (0..1000).map(|_| rng.u32(..size.0)).collect();
            let start = Instant::now();
            told.into_iter().for_each(|piece| world.hear(NOW, slot, Message::Have(piece)));
            let spent = start.elapsed();
            world.gone(NOW, slot);
            spent
        };
        group.bench_function(name(size), |b| b.iter_custom(|times| (0..times).map(|_| one()).sum()));
    }
    group.finish();
}

/// A peer that comes with half of the pieces and goes again: what the pace of arrivals has to leave room for.
fn come_and_go(c: &mut Criterion) {
    come_and_go_in(c, "come_and_go", |size| swarm(size.0, size.1, 128).0);
    come_and_go_in(c, "come_and_go_at_a_super_seed", super_seed);
}

fn come_and_go_in(c: &mut Criterion, what: &str, make: impl Fn((u32, usize)) -> Swarm) {
    let mut group = c.benchmark_group(what);
    for &size in sizes() {
        let mut world = make(size);
        let bits = vec![0xaa; size.0.div_ceil(8) as usize];
        let mut one = || {
            let slot = connect(&mut world, size.1);
            world.hear(NOW, slot, Message::Bitfield(black_box(&bits)));
            world.gone(NOW, slot);
        };
        group.bench_function(name(size), |b| b.iter(&mut one));
    }
    group.finish();
}

criterion_group!(benches, pick, pick_common, pick_nothing, pick_any, have, come_and_go);
criterion_main!(benches);
