//! A small mutator for the ordinary test: seeds changed by chance, all of it by one number.

/// Numbers that stand at some boundary, as they go over the wire.
const EDGES: [u32; 10] =
    [0, 1, 13, 0x3fff, 0x4000, 0x4001, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
/// Pieces of text that some parser looks for.
const WORDS: [&[u8]; 14] = [
    b"d",
    b"e",
    b"i-1e",
    b"i9223372036854775807e",
    b"i99999999999999999999e",
    b"99999999:",
    b"0:",
    b"l",
    b"\r\n",
    b"://",
    b"%00",
    b"..",
    b"/",
    b"4:info",
];
/// Longest input, in bytes.
const LONGEST: usize = 4096;

/// Makes one input after the other.
pub struct Mutator<'a> {
    random: fastrand::Rng,
    seeds: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    /// By this number, from these seeds.
    pub fn new(number: u64, seeds: &'a [Vec<u8>]) -> Self {
        Self { random: fastrand::Rng::with_seed(number), seeds }
    }

    /// The next input.
    pub fn next(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let mut input = match random.choice(self.seeds) {
            Some(seed) if random.u8(..) < 240 => seed.clone(),
            _ => (0..random.usize(..300)).map(|_| random.u8(..)).collect(),
        };
        for _ in 0..random.usize(..8) {
            let other = random.choice(self.seeds).cloned().unwrap_or_default();
            mutate(random, &mut input, &other);
        }
        input.truncate(LONGEST);
        input
    }
}

/// Changes the input once.
fn mutate(random: &mut fastrand::Rng, input: &mut Vec<u8>, other: &[u8]) {
    let at = random.usize(..=input.len());
    let some = at..(at + random.usize(..=64)).min(input.len());
    match random.u8(..10) {
        0 => input.truncate(at),
        1 => _ = input.drain(some),
        2 => {
            let copy = input[some].to_vec();
            input.splice(at..at, copy);
        }
        3 => input[some].fill_with(|| random.u8(..)),
        4 => {
            let word = WORDS[random.usize(..WORDS.len())];
            input.splice(at..at, word.iter().copied());
        }
        5 => {
            let edge = EDGES[random.usize(..EDGES.len())].to_be_bytes();
            input.splice(at..(at + 4).min(input.len()), edge);
        }
        6 => {
            let from = random.usize(..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        _ => {
            if let Some(byte) = input.get_mut(at) {
                *byte = match random.u8(..3) {
                    0 => *byte ^ 1 << random.u8(..8),
                    1 => byte.wrapping_add(random.u8(..=4)).wrapping_sub(2),
                    _ => random.u8(..),
                };
            }
        }
    }
}
