//! SHA-1 and SHA-256 of one stream, by what every processor has.

use super::state::{BLOCK, Block};

pub(super) fn sha1(words: &mut [u32; 5], blocks: &[Block]) {
    let mut state = *words;
    for block in blocks {
        let mut w = schedule(block);
        sha1_rounds!(state, w);
    }
    *words = state;
}

pub(super) fn sha256(words: &mut [u32; 8], blocks: &[Block]) {
    let mut state = *words;
    for block in blocks {
        let mut w = schedule(block);
        sha256_rounds!(state, w);
    }
    *words = state;
}

/// The first 16 words of the message schedule.
fn schedule(block: &Block) -> [u32; BLOCK / 4] {
    let words = block.as_chunks().0;
    std::array::from_fn(|t| u32::from_be_bytes(words[t]))
}

fn splat(word: u32) -> u32 {
    word
}

fn add(a: u32, b: u32) -> u32 {
    a.wrapping_add(b)
}

fn rotate_left<const BITS: u32>(a: u32) -> u32 {
    a.rotate_left(BITS)
}

fn shift_right<const BITS: u32>(a: u32) -> u32 {
    a >> BITS
}

fn xor4(a: u32, b: u32, c: u32, d: u32) -> u32 {
    a ^ b ^ c ^ d
}

fn choose(b: u32, c: u32, d: u32) -> u32 {
    d ^ (b & (c ^ d))
}

fn parity(b: u32, c: u32, d: u32) -> u32 {
    b ^ c ^ d
}

fn majority(b: u32, c: u32, d: u32) -> u32 {
    (b & c) | (d & (b | c))
}
