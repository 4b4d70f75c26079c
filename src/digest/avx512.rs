//! SHA-1 and SHA-256 of 16 streams at once, by AVX-512.
#![allow(unsafe_code)]

use super::lanes::{Kernel, LaneWords};
use super::state::Block;
use std::arch::x86_64::*;

/// Streams at once.
const LANES: usize = 16;

/// Proof that this machine has what the kernel needs: made only by [`Avx512::detect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512(());

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")).then_some(Self(()))
    }
}

impl Kernel<5, LANES> for Avx512 {
    fn compress(self, words: &mut LaneWords<5, LANES>, lanes: &[&[Block]; LANES]) {
        // SAFETY: there is a value of this type only where `detect` found the features.
        unsafe { sha1(words, lanes) }
    }
}

impl Kernel<8, LANES> for Avx512 {
    fn compress(self, words: &mut LaneWords<8, LANES>, lanes: &[&[Block]; LANES]) {
        // SAFETY: there is a value of this type only where `detect` found the features.
        unsafe { sha256(words, lanes) }
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn sha1(words: &mut LaneWords<5, LANES>, lanes: &[&[Block]; LANES]) {
    let mut state = load(words);
    for step in 0..lanes[0].len() {
        let mut w = schedule::<5>(lanes, step);
        sha1_rounds!(state, w);
    }
    store(words, state);
}

#[target_feature(enable = "avx512f,avx512bw")]
fn sha256(words: &mut LaneWords<8, LANES>, lanes: &[&[Block]; LANES]) {
    let mut state = load(words);
    for step in 0..lanes[0].len() {
        let mut w = schedule::<8>(lanes, step);
        sha256_rounds!(state, w);
    }
    store(words, state);
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<const W: usize>(words: &LaneWords<W, LANES>) -> [__m512i; W] {
    let mut state = [_mm512_setzero_si512(); W];
    for (vector, row) in state.iter_mut().zip(words) {
        // SAFETY: 16 words are 64 bytes, as many as are read; no alignment is needed.
        *vector = unsafe { _mm512_loadu_si512(row.as_ptr().cast()) };
    }
    state
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const W: usize>(words: &mut LaneWords<W, LANES>, state: [__m512i; W]) {
    for (row, vector) in words.iter_mut().zip(state) {
        // SAFETY: 16 words are 64 bytes, as many as are written; no alignment is needed.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), vector) };
    }
}

/// The first 16 words of the message schedule for the block `step` of every lane: word `t` of all lanes in vector `t`.
/// (`W` makes it a function of its own for each hash: shared by two, it would not be inlined, and give its vectors back
/// through memory.)
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn schedule<const W: usize>(lanes: &[&[Block]; LANES], step: usize) -> [__m512i; 16] {
    let swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203));
    // Four lanes at a time: turns 4 × 4 words in each quarter, then the quarters. (Written out in groups of four, because
    // the compiler keeps a plain loop over 16 lanes rolled, and its rows in memory.)
    let mut quads = [_mm512_setzero_si512(); 16];
    for group in 0..4 {
        let mut r = [_mm512_setzero_si512(); 4];
        for (lane, row) in r.iter_mut().enumerate() {
            *row = _mm512_shuffle_epi8(load_block(&lanes[4 * group + lane][step]), swap);
        }
        let low = [_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpacklo_epi32(r[2], r[3])];
        let high = [_mm512_unpackhi_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[2], r[3])];
        quads[4 * group] = _mm512_unpacklo_epi64(low[0], low[1]);
        quads[4 * group + 1] = _mm512_unpackhi_epi64(low[0], low[1]);
        quads[4 * group + 2] = _mm512_unpacklo_epi64(high[0], high[1]);
        quads[4 * group + 3] = _mm512_unpackhi_epi64(high[0], high[1]);
    }
    let mut w = [_mm512_setzero_si512(); 16];
    for word in 0..4 {
        let [q0, q1, q2, q3] = [quads[word], quads[4 + word], quads[8 + word], quads[12 + word]];
        let even = [_mm512_shuffle_i32x4::<0x88>(q0, q1), _mm512_shuffle_i32x4::<0x88>(q2, q3)];
        let odd = [_mm512_shuffle_i32x4::<0xdd>(q0, q1), _mm512_shuffle_i32x4::<0xdd>(q2, q3)];
        w[word] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        w[4 + word] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        w[8 + word] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        w[12 + word] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    w
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_block(block: &Block) -> __m512i {
    // SAFETY: a block has 64 bytes, as many as are read; no alignment is needed.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn splat(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f")]
fn add(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi32(a, b)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn rotate_left<const BITS: i32>(a: __m512i) -> __m512i {
    _mm512_rol_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn shift_right<const BITS: u32>(a: __m512i) -> __m512i {
    _mm512_srli_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor4(a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_xor_si512(parity(b, c, d), a)
}

// The functions of three values are one instruction each: its constant is the function's truth table.

#[inline]
#[target_feature(enable = "avx512f")]
fn choose(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn parity(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0x96>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn majority(b: __m512i, c: __m512i, d: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xe8>(b, c, d)
}
