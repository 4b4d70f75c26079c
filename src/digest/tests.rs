use super::*;
use ::sha1::{Digest, Sha1};
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut state = Sha1State::new();
    advance(&mut [Job { state: &mut state, run: bytes }]);
    state.finish()
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// The examples of FIPS 180.
const VECTORS: [(&[u8], &str, &str); 3] = [
    (
        b"",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ),
    (
        b"abc",
        "a9993e364706816aba3e25717850c26c9cd0d89d",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
];

#[test]
fn published_vectors_come_out() {
    for (bytes, expected_sha1, expected_sha256) in VECTORS {
        assert_eq!(hex(&sha1(bytes)), expected_sha1);
        assert_eq!(hex(&sha256(bytes)), expected_sha256);
    }
}

#[test]
fn a_million_letters_in_runs_of_a_thousand() {
    let mut state = Sha1State::new();
    for _ in 0..1000 {
        advance(&mut [Job { state: &mut state, run: &[b'a'; 1000] }]);
    }
    assert_eq!(hex(&state.finish()), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
}

/// What the `sha1` crate makes of it.
fn reference(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

/// Bytes that do not repeat within a stream and differ between streams.
fn noise(stream: usize, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(stream as u64);
    std::iter::repeat_with(|| random.u8(..)).take(len).collect()
}

fn assert_hashes(engine: Engine, states: Vec<Sha1State>, streams: &[Vec<u8>]) {
    for (number, (state, stream)) in states.into_iter().zip(streams).enumerate() {
        assert_eq!(state.finish(), reference(stream), "stream {number}, {} bytes, {engine:?}", stream.len());
    }
}

fn assert_hashed_at_once(streams: &[Vec<u8>]) {
    for engine in Engine::all() {
        let mut states = vec![Sha1State::new(); streams.len()];
        let runs = states.iter_mut().zip(streams);
        engine.advance(&mut runs.map(|(state, run)| Job { state, run }).collect::<Vec<_>>());
        assert_hashes(engine, states, streams);
    }
}

#[test]
fn engines_are_chosen_by_name() {
    for engine in Engine::all() {
        assert_eq!(Engine::choose(Some(engine.name())), Ok(engine));
    }
    assert_eq!(Engine::choose(None), Ok(Engine::best()));
    assert_eq!(Engine::all().last().map(Engine::name), Some("single"));
    let refused = Engine::choose(Some("abacus")).unwrap_err().to_string();
    assert!(refused.contains("abacus") && refused.contains("single"), "{refused}");
}

#[test]
fn any_number_of_lanes_may_be_filled() {
    for count in 0..=40 {
        assert_hashed_at_once(&(0..count).map(|stream| noise(stream, 1000)).collect::<Vec<_>>());
    }
}

#[test]
fn padding_is_right_at_every_length() {
    assert_hashed_at_once(&(0..200).map(|len| noise(len, len)).collect::<Vec<_>>());
}

#[test]
fn one_long_stream_beside_fifteen_short_ones() {
    for place in [0, 7, 15] {
        let len = |stream| if stream == place { 100_000 } else { 64 + stream };
        assert_hashed_at_once(&(0..16).map(|stream| noise(stream, len(stream))).collect::<Vec<_>>());
    }
}

proptest! {
    /// Streams of different lengths, cut in different places, do not disturb one another; each advance may be done by
    /// another engine.
    #[test]
    fn streams_hash_side_by_side(streams in prop::collection::vec(0..5000usize, 0..40), seed: u64) {
        let streams: Vec<_> = streams.into_iter().enumerate().map(|(stream, len)| noise(stream, len)).collect();
        let all: Vec<_> = Engine::all().collect();
        for fixed in all.iter().copied().map(Some).chain([None]) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut states = vec![Sha1State::new(); streams.len()];
            let mut rest: Vec<&[u8]> = streams.iter().map(Vec::as_slice).collect();
            while rest.iter().any(|rest| !rest.is_empty()) {
                let engine = fixed.unwrap_or_else(|| all[random.usize(..all.len())]);
                let longest = random.usize(1..3000);
                let mut jobs = Vec::new();
                for (state, rest) in states.iter_mut().zip(&mut rest) {
                    let (run, after) = rest.split_at(random.usize(..=longest.min(rest.len())));
                    *rest = after;
                    jobs.push(Job { state, run });
                }
                engine.advance(&mut jobs);
            }
            for (state, stream) in states.into_iter().zip(&streams) {
                prop_assert_eq!(state.finish(), reference(stream), "{:?}", fixed);
            }
        }
    }

    #[test]
    fn splits_do_not_change_sha256(runs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
        let mut hash = Sha256::new();
        runs.iter().for_each(|run| hash.update(run));
        prop_assert_eq!(hash.finish(), sha256(&runs.concat()));
    }
}
