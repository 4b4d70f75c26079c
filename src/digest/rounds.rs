//! The rounds of SHA-1 and SHA-256, for vectors of any width and for single words.
//!
//! They are macros, because the whole must be one straight line for its registers to be kept, and because a function that
//! is generic over the vectors could not have their `target_feature`. The file that uses one brings the operations on its
//! vectors: `add`, `splat`, `rotate_left::<BITS>`, `shift_right::<BITS>`, `xor4` and the functions `choose`, `parity` and
//! `majority`.
//!
//! The constants are hidden from the optimizer: it would move the addition of a known value to the end, where all wait
//! for it (which costs an eighth of the speed of SHA-1).

/// The 80 rounds of SHA-1 (FIPS 180-4, section 6.1.2) on the chaining values `$words` (five vectors) and the message
/// schedule `$w` (sixteen vectors, used up).
#[rustfmt::skip] // It indents the inner macro once more at every run.
macro_rules! sha1_rounds {
    ($words:ident, $w:ident) => {{
        let [mut a, mut b, mut c, mut d, mut e] = $words;
        macro_rules! round {
            ($f:ident, $k:ident, $t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident) => {
                if $t >= 16 {
                    $w[$t % 16] = rotate_left::<1>(xor4(
                        $w[($t + 13) % 16],
                        $w[($t + 8) % 16],
                        $w[($t + 2) % 16],
                        $w[$t % 16],
                    ));
                }
                // The newest value, `$a`, comes in last: all else is ready before it.
                $e = add(add(add($e, add($k, $w[$t % 16])), $f($b, $c, $d)), rotate_left::<5>($a));
                $b = rotate_left::<30>($b);
            };
        }
        macro_rules! twenty_rounds {
            ($f:ident, $k:literal, $start:literal) => {
                let k = splat(std::hint::black_box($k));
                twenty_rounds!(@ $f, k, $start, 0);
                twenty_rounds!(@ $f, k, $start, 5);
                twenty_rounds!(@ $f, k, $start, 10);
                twenty_rounds!(@ $f, k, $start, 15);
            };
            (@ $f:ident, $k:ident, $start:literal, $t:literal) => {
                round!($f, $k, $start + $t, a b c d e);
                round!($f, $k, $start + $t + 1, e a b c d);
                round!($f, $k, $start + $t + 2, d e a b c);
                round!($f, $k, $start + $t + 3, c d e a b);
                round!($f, $k, $start + $t + 4, b c d e a);
            };
        }
        twenty_rounds!(choose, 0x5a82_7999, 0);
        twenty_rounds!(parity, 0x6ed9_eba1, 20);
        twenty_rounds!(majority, 0x8f1b_bcdc, 40);
        twenty_rounds!(parity, 0xca62_c1d6, 60);
        let [a0, b0, c0, d0, e0] = $words;
        $words = [add(a0, a), add(b0, b), add(c0, c), add(d0, d), add(e0, e)];
    }};
}

/// The constants of SHA-256 (FIPS 180-4, section 4.2.2).
#[rustfmt::skip] // One a line would be a page.
pub(super) const SHA256_K: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

/// The 64 rounds of SHA-256 (FIPS 180-4, section 6.2.2) on the chaining values `$words` (eight vectors) and the message
/// schedule `$w` (sixteen vectors, used up).
#[rustfmt::skip] // It indents the inner macro once more at every run.
macro_rules! sha256_rounds {
    ($words:ident, $w:ident) => {{
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = $words;
        let k: &[u32; 64] = std::hint::black_box(&$crate::digest::rounds::SHA256_K);
        macro_rules! round {
            ($t:expr, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
                if $t >= 16 {
                    let (old, new) = ($w[($t + 1) % 16], $w[($t + 14) % 16]);
                    let old = parity(rotate_left::<25>(old), rotate_left::<14>(old), shift_right::<3>(old));
                    let new = parity(rotate_left::<15>(new), rotate_left::<13>(new), shift_right::<10>(new));
                    $w[$t % 16] = add(add($w[$t % 16], $w[($t + 9) % 16]), add(old, new));
                }
                let sum = parity(rotate_left::<26>($e), rotate_left::<21>($e), rotate_left::<7>($e));
                $h = add(add(add($h, add(splat(k[$t]), $w[$t % 16])), choose($e, $f, $g)), sum);
                $d = add($d, $h);
                let sum = parity(rotate_left::<30>($a), rotate_left::<19>($a), rotate_left::<10>($a));
                $h = add($h, add(majority($a, $b, $c), sum));
            };
        }
        macro_rules! eight_rounds {
            ($t:expr) => {
                round!($t, a b c d e f g h);
                round!($t + 1, h a b c d e f g);
                round!($t + 2, g h a b c d e f);
                round!($t + 3, f g h a b c d e);
                round!($t + 4, e f g h a b c d);
                round!($t + 5, d e f g h a b c);
                round!($t + 6, c d e f g h a b);
                round!($t + 7, b c d e f g h a);
            };
        }
        eight_rounds!(0);
        eight_rounds!(8);
        eight_rounds!(16);
        eight_rounds!(24);
        eight_rounds!(32);
        eight_rounds!(40);
        eight_rounds!(48);
        eight_rounds!(56);
        let [a0, b0, c0, d0, e0, f0, g0, h0] = $words;
        $words = [
            add(a0, a), add(b0, b), add(c0, c), add(d0, d),
            add(e0, e), add(f0, f), add(g0, g), add(h0, h),
        ];
    }};
}
