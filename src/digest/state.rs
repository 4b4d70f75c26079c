//! Where one stream stands.

use super::Job;
use sha1::block_api::compress;

/// What SHA-1 compresses at a time, in bytes.
pub(super) const BLOCK: usize = 64;
/// Bytes of the length that ends the padding.
const LENGTH: usize = 8;

/// The chaining value of SHA-1.
pub(super) type Words = [u32; 5];
/// What SHA-1 compresses at a time.
pub(super) type Block = [u8; BLOCK];

/// SHA-1 over bytes that come in runs (BEP 3: the hash of a piece).
#[derive(Clone)]
pub struct Sha1State {
    words: Words,
    /// Bytes that went in.
    total: u64,
    /// Starts with the last `total % BLOCK` bytes, which wait for the rest of their block.
    partial: Block,
}

/// Whole blocks of one stream that remain to be compressed.
pub(super) struct Stream<'a> {
    pub(super) words: &'a mut Words,
    pub(super) blocks: &'a [Block],
}

impl Sha1State {
    /// The state before the first byte.
    pub fn new() -> Self {
        Self {
            words: [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0],
            total: 0,
            partial: [0; BLOCK],
        }
    }

    /// The hash of all bytes that went in.
    pub fn finish(mut self) -> [u8; 20] {
        let bits = self.total.wrapping_mul(8);
        let held = self.held();
        self.partial[held] = 0x80;
        self.partial[held + 1..].fill(0);
        if held + 1 > BLOCK - LENGTH {
            compress(&mut self.words, &[self.partial]);
            self.partial.fill(0);
        }
        self.partial[BLOCK - LENGTH..].copy_from_slice(&bits.to_be_bytes());
        compress(&mut self.words, &[self.partial]);
        let mut hash = [0; 20];
        for (bytes, word) in hash.chunks_exact_mut(4).zip(self.words) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        hash
    }

    /// How many bytes wait for the rest of their block.
    fn held(&self) -> usize {
        (self.total % BLOCK as u64) as usize
    }
}

impl Default for Sha1State {
    fn default() -> Self {
        Self::new()
    }
}

impl Stream<'_> {
    /// Compresses all blocks, one after the other: with the processor's SHA instructions if it has them.
    pub(super) fn compress(self) {
        compress(self.words, self.blocks);
    }
}

impl Job<'_> {
    /// Takes the run in, except for its whole blocks: these are left to the caller.
    pub(super) fn begin(&mut self) -> Stream<'_> {
        let Self { state, run } = self;
        let held = state.held();
        state.total = state.total.wrapping_add(run.len() as u64);
        let mut rest: &[u8] = run;
        if held > 0 {
            let (fill, after) = rest.split_at(rest.len().min(BLOCK - held));
            state.partial[held..held + fill.len()].copy_from_slice(fill);
            if held + fill.len() < BLOCK {
                return Stream { words: &mut state.words, blocks: &[] };
            }
            compress(&mut state.words, &[state.partial]);
            rest = after;
        }
        let (blocks, tail) = rest.as_chunks();
        state.partial[..tail.len()].copy_from_slice(tail);
        Stream { words: &mut state.words, blocks }
    }
}
