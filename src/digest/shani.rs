//! SHA-1 of a few streams at once, by the processor's SHA instructions.
//!
//! An instruction does four rounds, and the next one of the same stream has to wait for its result; meanwhile some
//! processors could begin two or four others. Streams that have nothing to do with each other fill the gaps.
#![allow(unsafe_code)]

use super::lanes::{Kernel, LaneWords};
use super::state::Block;
use std::arch::x86_64::*;

/// Rounds that one instruction does, and words of the message that it takes.
const STEP: usize = 4;

/// Proof that this machine has what the kernel needs: made only by [`ShaNi::detect`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShaNi(());

impl ShaNi {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1");
        has.then_some(Self(()))
    }

    /// Whether a few streams side by side outrun eight lanes of AVX2, as they do where one stream leaves most of the unit
    /// idle: with AMD, from the first Zen on. (Of Intel's processors one was measured, Sapphire Rapids: two streams there
    /// gain no more than a tenth on one.)
    pub(super) fn outruns_avx2(self) -> bool {
        let maker = __cpuid(0);
        let name = [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes);
        [b"AuthenticAMD", b"HygonGenuine"].iter().any(|amd| name.as_flattened() == *amd)
    }
}

impl<const N: usize> Kernel<5, N> for ShaNi {
    fn compress(self, words: &mut LaneWords<5, N>, lanes: &[&[Block]; N]) {
        // SAFETY: there is a value of this type only where `detect` found the features.
        unsafe { compress(words, lanes) }
    }
}

/// The first four chaining values of a stream, the oldest in the highest place, and the fifth alone in the highest.
#[derive(Clone, Copy)]
struct Chain {
    abcd: __m128i,
    e: __m128i,
}

#[target_feature(enable = "sha,ssse3,sse4.1")]
fn compress<const N: usize>(words: &mut LaneWords<5, N>, lanes: &[&[Block]; N]) {
    let mut chains: [Chain; N] = load(words);
    for step in 0..lanes[0].len() {
        let before = chains;
        let mut w = [[_mm_setzero_si128(); STEP]; N];
        for (w, blocks) in w.iter_mut().zip(lanes) {
            *w = message(&blocks[step]);
        }
        // `e` of a stream is not rotated yet here: it is what `a` was four rounds ago.
        macro_rules! four_rounds {
            ($t:literal, $function:literal) => {
                for (chain, w) in chains.iter_mut().zip(&mut w) {
                    if $t >= STEP {
                        let sum =
                            _mm_xor_si128(_mm_sha1msg1_epu32(w[$t % 4], w[($t + 1) % 4]), w[($t + 2) % 4]);
                        w[$t % 4] = _mm_sha1msg2_epu32(sum, w[($t + 3) % 4]);
                    }
                    let e = if $t == 0 {
                        _mm_add_epi32(chain.e, w[0])
                    } else {
                        _mm_sha1nexte_epu32(chain.e, w[$t % 4])
                    };
                    chain.e = chain.abcd;
                    chain.abcd = _mm_sha1rnds4_epu32::<$function>(chain.abcd, e);
                }
            };
        }
        macro_rules! twenty_rounds {
            ($function:literal: $($t:literal)*) => { $(four_rounds!($t, $function);)* };
        }
        twenty_rounds!(0: 0 1 2 3 4);
        twenty_rounds!(1: 5 6 7 8 9);
        twenty_rounds!(2: 10 11 12 13 14);
        twenty_rounds!(3: 15 16 17 18 19);
        for (chain, before) in chains.iter_mut().zip(before) {
            chain.abcd = _mm_add_epi32(chain.abcd, before.abcd);
            chain.e = _mm_sha1nexte_epu32(chain.e, before.e);
        }
    }
    store(words, chains);
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn load<const N: usize>(words: &LaneWords<5, N>) -> [Chain; N] {
    let mut chains = [Chain { abcd: _mm_setzero_si128(), e: _mm_setzero_si128() }; N];
    for (lane, chain) in chains.iter_mut().enumerate() {
        let [a, b, c, d, e] = words.map(|row| row[lane].cast_signed());
        *chain = Chain { abcd: _mm_set_epi32(a, b, c, d), e: _mm_set_epi32(e, 0, 0, 0) };
    }
    chains
}

#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn store<const N: usize>(words: &mut LaneWords<5, N>, chains: [Chain; N]) {
    let [a, b, c, d, e] = words;
    for (lane, chain) in chains.into_iter().enumerate() {
        a[lane] = _mm_extract_epi32::<3>(chain.abcd).cast_unsigned();
        b[lane] = _mm_extract_epi32::<2>(chain.abcd).cast_unsigned();
        c[lane] = _mm_extract_epi32::<1>(chain.abcd).cast_unsigned();
        d[lane] = _mm_extract_epi32::<0>(chain.abcd).cast_unsigned();
        e[lane] = _mm_extract_epi32::<3>(chain.e).cast_unsigned();
    }
}

/// The words of a block, four a vector, the first in the highest place.
#[inline]
#[target_feature(enable = "sha,ssse3,sse4.1")]
fn message(block: &Block) -> [__m128i; STEP] {
    let reverse = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    let mut w = [_mm_setzero_si128(); STEP];
    for (vector, bytes) in w.iter_mut().zip(block.as_chunks::<16>().0) {
        // SAFETY: these are 16 bytes, as many as are read; no alignment is needed.
        *vector = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }, reverse);
    }
    w
}
