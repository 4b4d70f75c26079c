//! SHA-1 of 8 streams at once, by AVX2.
#![allow(unsafe_code)]

use super::lanes::{Kernel, LaneWords};
use super::state::Block;
use std::arch::x86_64::*;

/// Streams at once.
pub(super) const LANES: usize = 8;

/// Proof that this machine has what the kernel needs: made only by [`Avx2::detect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }
}

impl Kernel<5, LANES> for Avx2 {
    fn compress(self, words: &mut LaneWords<5, LANES>, lanes: &[&[Block]; LANES]) {
        // SAFETY: there is a value of this type only where `detect` found the feature.
        unsafe { compress(words, lanes) }
    }
}

#[target_feature(enable = "avx2")]
fn compress(words: &mut LaneWords<5, LANES>, lanes: &[&[Block]; LANES]) {
    let mut state = load(words);
    for step in 0..lanes[0].len() {
        let mut w = schedule::<'2'>(lanes, step);
        sha1_rounds!(state, w);
    }
    store(words, state);
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(words: &LaneWords<5, LANES>) -> [__m256i; 5] {
    let mut state = [_mm256_setzero_si256(); 5];
    for (vector, row) in state.iter_mut().zip(words) {
        // SAFETY: 8 words are 32 bytes, as many as are read; no alignment is needed.
        *vector = unsafe { _mm256_loadu_si256(row.as_ptr().cast()) };
    }
    state
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(words: &mut LaneWords<5, LANES>, state: [__m256i; 5]) {
    for (row, vector) in words.iter_mut().zip(state) {
        // SAFETY: 8 words are 32 bytes, as many as are written; no alignment is needed.
        unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), vector) };
    }
}

/// The first 16 words of the message schedule for the block `step` of every lane: word `t` of all lanes in vector `t`.
/// (`USER` makes it a function of its own for each kernel: shared by two, it would not be inlined, and give its vectors
/// back through memory.)
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn schedule<const USER: char>(lanes: &[&[Block]; LANES], step: usize) -> [__m256i; 16] {
    let swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    let mut w = [_mm256_setzero_si256(); 16];
    for quarter in 0..4 {
        // Bytes of lane `i` in the lower half, of lane `i + 4` in the upper: then 4 × 4 words are turned in each half.
        let mut rows = [_mm256_setzero_si256(); 4];
        for (lane, row) in rows.iter_mut().enumerate() {
            let low = load_quarter(&lanes[lane][step], quarter);
            let high = load_quarter(&lanes[lane + 4][step], quarter);
            *row = _mm256_shuffle_epi8(_mm256_set_m128i(high, low), swap);
        }
        let low = [_mm256_unpacklo_epi32(rows[0], rows[1]), _mm256_unpacklo_epi32(rows[2], rows[3])];
        let high = [_mm256_unpackhi_epi32(rows[0], rows[1]), _mm256_unpackhi_epi32(rows[2], rows[3])];
        w[4 * quarter] = _mm256_unpacklo_epi64(low[0], low[1]);
        w[4 * quarter + 1] = _mm256_unpackhi_epi64(low[0], low[1]);
        w[4 * quarter + 2] = _mm256_unpacklo_epi64(high[0], high[1]);
        w[4 * quarter + 3] = _mm256_unpackhi_epi64(high[0], high[1]);
    }
    w
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_quarter(block: &Block, quarter: usize) -> __m128i {
    let bytes = &block.as_chunks::<16>().0[quarter];
    // SAFETY: these are 16 bytes, as many as are read; no alignment is needed.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn splat(word: u32) -> __m256i {
    _mm256_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn add(a: __m256i, b: __m256i) -> __m256i {
    _mm256_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left<const BITS: i32>(a: __m256i) -> __m256i {
    let (left, right) = (_mm_cvtsi32_si128(BITS), _mm_cvtsi32_si128(32 - BITS));
    _mm256_or_si256(_mm256_sll_epi32(a, left), _mm256_srl_epi32(a, right))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor4(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(parity(b, c, d), a)
}

#[inline]
#[target_feature(enable = "avx2")]
fn choose(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn parity(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_xor_si256(b, c), d)
}

#[inline]
#[target_feature(enable = "avx2")]
fn majority(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_or_si256(_mm256_and_si256(b, c), _mm256_and_si256(d, _mm256_or_si256(b, c)))
}
