use super::*;
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

proptest! {
    /// Streams of different lengths, cut in different places, do not disturb one another.
    #[test]
    fn streams_hash_side_by_side(streams in prop::collection::vec(
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6), 0..20)
    ) {
        let mut states = vec![Sha1State::new(); streams.len()];
        let rounds = streams.iter().map(Vec::len).max().unwrap_or(0);
        for round in 0..rounds {
            let ready = states.iter_mut().zip(&streams);
            let mut jobs: Vec<_> = ready
                .filter_map(|(state, runs)| runs.get(round).map(|run| Job { state, run }))
                .collect();
            advance(&mut jobs);
        }
        for (state, runs) in states.into_iter().zip(&streams) {
            prop_assert_eq!(state.finish(), sha1(&runs.concat()));
        }
    }

    #[test]
    fn splits_do_not_change_sha256(runs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..6)) {
        let mut hash = Sha256::new();
        runs.iter().for_each(|run| hash.update(run));
        prop_assert_eq!(hash.finish(), sha256(&runs.concat()));
    }
}
