//! SHA-1 of 8 streams at once, by the instructions of AVX-512 on vectors of half the width: for batches that would leave
//! most lanes of the full width idle.
#![allow(unsafe_code)]

use super::avx2::{LANES, add, load, schedule, splat, store};
use super::lanes::{Kernel, LaneWords};
use super::state::Block;
use std::arch::x86_64::*;

/// Proof that this machine has what the kernel needs: made only by [`Avx512Vl::detect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Avx512Vl(());

impl Avx512Vl {
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl"))
        .then_some(Self(()))
    }
}

impl Kernel<5, LANES> for Avx512Vl {
    fn compress(self, words: &mut LaneWords<5, LANES>, lanes: &[&[Block]; LANES]) {
        // SAFETY: there is a value of this type only where `detect` found the features.
        unsafe { compress(words, lanes) }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn compress(words: &mut LaneWords<5, LANES>, lanes: &[&[Block]; LANES]) {
    let mut state = load(words);
    for step in 0..lanes[0].len() {
        let mut w = schedule::<'5'>(lanes, step);
        sha1_rounds!(state, w);
    }
    store(words, state);
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn rotate_left<const BITS: i32>(a: __m256i) -> __m256i {
    _mm256_rol_epi32::<BITS>(a)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn xor4(a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_xor_si256(parity(b, c, d), a)
}

// The functions of three values are one instruction each: its constant is the function's truth table.

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn choose(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_ternarylogic_epi32::<0xca>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn parity(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_ternarylogic_epi32::<0x96>(b, c, d)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn majority(b: __m256i, c: __m256i, d: __m256i) -> __m256i {
    _mm256_ternarylogic_epi32::<0xe8>(b, c, d)
}
