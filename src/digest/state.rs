//! Where one stream stands, of either hash: both take blocks of 64 bytes and pad alike (FIPS 180-4, sections 5.1.1 and
//! 5.2.1).

use super::stream::{Slices, Stream};

/// What is compressed at a time, in bytes.
pub(super) const BLOCK: usize = 64;
/// Bytes of the length that ends the padding.
const LENGTH: usize = 8;
/// The longest padding: it begins one byte too late to end in the same block.
const PADDING: usize = BLOCK + LENGTH;

/// What is compressed at a time.
pub(super) type Block = [u8; BLOCK];

/// The chaining value, `W` words, and the bytes that wait.
#[derive(Clone)]
pub(super) struct State<const W: usize> {
    pub(super) words: [u32; W],
    /// Bytes that went in.
    pub(super) total: u64,
    /// Starts with the last `total % BLOCK` bytes, which wait for the rest of their block.
    pub(super) partial: Block,
}

/// The bytes that end a stream.
pub(super) struct Padding {
    bytes: [u8; PADDING],
    len: usize,
}

impl<const W: usize> State<W> {
    /// The state before the first byte, from the hash's first chaining value.
    pub(super) fn new(words: [u32; W]) -> Self {
        Self { words, total: 0, partial: [0; BLOCK] }
    }

    /// How many bytes wait for the rest of their block.
    pub(super) fn held(&self) -> usize {
        (self.total % BLOCK as u64) as usize
    }

    /// What has to go in before the chaining value is the hash.
    pub(super) fn padding(&self) -> Padding {
        let held = self.held();
        let blocks = if held < BLOCK - LENGTH { 1 } else { 2 };
        let len = blocks * BLOCK - held;
        let mut bytes = [0; PADDING];
        bytes[0] = 0x80;
        bytes[len - LENGTH..len].copy_from_slice(&self.total.wrapping_mul(8).to_be_bytes());
        Padding { bytes, len }
    }

    /// The hash of all bytes that went in.
    pub(super) fn finish<const N: usize>(mut self, compress: impl Fn(&mut [u32; W], &[Block])) -> [u8; N] {
        let padding = self.padding();
        let stream = Stream::new(&mut self, Slices::one(padding.bytes()));
        stream.expect("padding fills a block").compress(compress);
        self.hash()
    }

    /// The chaining value as bytes: `N` is four times `W`.
    pub(super) fn hash<const N: usize>(&self) -> [u8; N] {
        let mut hash = [0; N];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.words) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

impl Padding {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
