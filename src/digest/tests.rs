use super::*;
use ::ring::digest::{SHA256, digest};
use ::sha1::{Digest, Sha1};
use proptest::prelude::*;

/// A hash beside somebody else's word for it.
trait Known: HashState<Hash: AsRef<[u8]>> + Clone {
    fn expected(bytes: &[u8]) -> Vec<u8>;
    fn finish(self) -> Self::Hash;
}

impl Known for Sha1State {
    fn expected(bytes: &[u8]) -> Vec<u8> {
        Sha1::digest(bytes).to_vec()
    }

    fn finish(self) -> [u8; 20] {
        self.finish()
    }
}

impl Known for Sha256State {
    fn expected(bytes: &[u8]) -> Vec<u8> {
        digest(&SHA256, bytes).as_ref().to_vec()
    }

    fn finish(self) -> [u8; 32] {
        self.finish()
    }
}

/// Bytes that do not repeat within a stream and differ between streams.
fn noise(stream: usize, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(stream as u64);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

fn streams(count: usize, len: impl Fn(usize) -> usize) -> Vec<Vec<u8>> {
    (0..count).map(|stream| noise(stream, len(stream))).collect()
}

/// Finishes the states one by one, and all together by the engine.
fn assert_hashes<S: Known>(engine: Engine, states: Vec<S>, streams: &[Vec<u8>]) {
    for (state, stream) in states.iter().zip(streams) {
        assert_eq!(
            state.clone().finish().as_ref(),
            S::expected(stream),
            "{} bytes, {engine:?}",
            stream.len()
        );
    }
    let hashes = engine.finish(states);
    assert_eq!(hashes.len(), streams.len());
    for (hash, stream) in hashes.iter().zip(streams) {
        assert_eq!(hash.as_ref(), S::expected(stream), "{} bytes at once, {engine:?}", stream.len());
    }
}

fn assert_hashed_by_all<S: Known>(streams: &[Vec<u8>]) {
    for engine in Engine::all() {
        let mut states = vec![S::default(); streams.len()];
        let jobs = states.iter_mut().zip(streams).map(|(state, stream)| Job::new(state, stream));
        engine.advance(&mut jobs.collect::<Vec<_>>());
        assert_hashes(engine, states, streams);
    }
}

fn assert_hashed(streams: &[Vec<u8>]) {
    assert_hashed_by_all::<Sha1State>(streams);
    assert_hashed_by_all::<Sha256State>(streams);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The examples of FIPS 180: the bytes and how often they are repeated, SHA-1, SHA-256.
const VECTORS: [(&[u8], usize, &str, &str); 4] = [
    (
        b"",
        1,
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    (
        b"abc",
        1,
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        1,
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (
        b"a",
        1_000_000,
        "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
    ),
];

/// Each vector alone, then all of them in every lane, in slices of a length that fits no block.
#[test]
fn published_vectors_come_out() {
    fn check<S: Known>(engine: Engine, copies: usize, expected: impl Fn(usize) -> &'static str) {
        let bytes: Vec<Vec<u8>> = VECTORS.iter().map(|(bytes, times, ..)| bytes.repeat(*times)).collect();
        let mut states = vec![S::default(); copies * VECTORS.len()];
        let jobs = states
            .iter_mut()
            .enumerate()
            .map(|(stream, state)| Job::of_slices(state, bytes[stream % VECTORS.len()].chunks(1000)));
        engine.advance(&mut jobs.collect::<Vec<_>>());
        for (stream, state) in states.into_iter().enumerate() {
            assert_eq!(hex(state.finish().as_ref()), expected(stream % VECTORS.len()), "{engine:?}");
        }
    }
    for engine in Engine::all() {
        for copies in [1, 16] {
            check::<Sha1State>(engine, copies, |vector| VECTORS[vector].2);
            check::<Sha256State>(engine, copies, |vector| VECTORS[vector].3);
        }
    }
}

/// By what the kernel says of the processor.
#[test]
#[cfg(target_arch = "x86_64")]
fn an_engine_is_there_where_its_instructions_are() {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    let flags: Vec<&str> = info.lines().find(|line| line.starts_with("flags")).unwrap().split(' ').collect();
    let has = |needed: &[&str]| needed.iter().all(|flag| flags.contains(flag));
    for (name, needed) in
        [("avx512", &["avx512f", "avx512bw", "avx512vl"][..]), ("avx2", &["avx2"]), ("shani", &["sha_ni"])]
    {
        assert_eq!(Engine::all().any(|engine| engine.name() == name), has(needed), "{name}");
    }
}

/// Shown by `cargo test -- --nocapture`, and where a test fails; on stderr whatever the harness keeps to itself.
#[test]
fn it_is_said_which_engines_are_tested_here() {
    let (ran, could_not): (Vec<&str>, Vec<&str>) =
        Engine::NAMES.into_iter().partition(|name| Engine::all().any(|engine| engine.name() == *name));
    assert_eq!(ran.len(), Engine::all().count(), "every engine has its name in the list");
    let said = format!(
        "digest engines tested: {}; not on this processor: {}\n",
        ran.join(", "),
        could_not.join(", ")
    );
    // Not `eprintln`, which the test harness hides when all is well.
    std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
}

#[test]
fn engines_are_chosen_by_name() {
    for engine in Engine::all() {
        assert_eq!(Engine::choose(Some(engine.name())), Ok(engine));
    }
    assert_eq!(Engine::choose(None), Ok(Engine::best()));
    assert_eq!(Engine::all().last().map(Engine::name), Some("portable"));
    let refused = Engine::choose(Some("abacus")).unwrap_err().to_string();
    assert!(refused.contains("abacus") && refused.contains("portable"), "{refused}");
}

#[test]
fn the_engine_of_the_program_stays() {
    let engine = Engine::current();
    assert_eq!(Engine::all().last().unwrap().set_current(), Err(Engine::all().last().unwrap()));
    assert_eq!(Engine::current(), engine);
}

#[test]
fn any_number_of_lanes_may_be_filled() {
    for count in 0..=40 {
        assert_hashed(&streams(count, |_| 1000));
    }
}

#[test]
fn padding_is_right_at_every_length() {
    assert_hashed(&streams(200, |stream| stream));
}

#[test]
fn one_long_stream_beside_fifteen_short_ones() {
    for place in [0, 7, 15] {
        assert_hashed(&streams(16, |stream| if stream == place { 100_000 } else { 64 + stream }));
    }
}

#[test]
fn a_job_is_done_once() {
    let mut state = Sha1State::new();
    let mut jobs = [Job::new(&mut state, b"once")];
    advance(&mut jobs);
    advance(&mut jobs);
    assert_eq!(state.finish().as_slice(), Sha1State::expected(b"once"));
}

#[test]
fn streams_of_sha256_begun_together_may_go_on_alone() {
    let streams = streams(16, |_| 3000);
    for engine in Engine::all() {
        let mut states = vec![Sha256State::new(); streams.len()];
        let jobs = states.iter_mut().zip(&streams).map(|(state, stream)| Job::new(state, &stream[..1000]));
        engine.advance(&mut jobs.collect::<Vec<_>>());
        for (state, stream) in states.iter_mut().zip(&streams) {
            engine.advance(&mut [Job::new(state, &stream[1000..])]);
        }
        assert_hashes(engine, states, &streams);
    }
}

/// The slices of one call: cut anywhere, some empty.
fn cut<'a>(mut bytes: &'a [u8], random: &mut fastrand::Rng) -> Vec<&'a [u8]> {
    let mut slices = Vec::new();
    while !bytes.is_empty() {
        let longest = bytes.len().min(*random.choice(&[1, 64, 200, 5000]).unwrap());
        let (slice, rest) = bytes.split_at(random.usize(0..=longest));
        slices.push(slice);
        bytes = rest;
    }
    slices
}

/// Streams of different lengths, cut in different places, do not disturb one another; each call may be done by another
/// engine.
fn hash_piecemeal<S: Known>(streams: &[Vec<u8>], seed: u64) {
    let all: Vec<_> = Engine::all().collect();
    for fixed in all.iter().copied().map(Some).chain([None]) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut states = vec![S::default(); streams.len()];
        let mut rest: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
        while rest.iter().any(|rest| !rest.is_empty()) {
            let engine = fixed.unwrap_or_else(|| all[random.usize(..all.len())]);
            let longest = random.usize(1..3000);
            let mut jobs = Vec::new();
            for (state, rest) in states.iter_mut().zip(&mut rest) {
                let (now, after) = rest.split_at(random.usize(..=longest.min(rest.len())));
                *rest = after;
                match random.u8(..3) {
                    0 => jobs.push(Job::new(state, now)),
                    _ => jobs.push(Job::of_slices(state, cut(now, &mut random))),
                }
            }
            engine.advance(&mut jobs);
        }
        assert_hashes(fixed.unwrap_or(Engine::best()), states, streams);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn streams_hash_side_by_side(lens in prop::collection::vec(0..5000usize, 0..40), seed: u64) {
        let streams = streams(lens.len(), |stream| lens[stream]);
        hash_piecemeal::<Sha1State>(&streams, seed);
        hash_piecemeal::<Sha256State>(&streams, seed);
    }
}
