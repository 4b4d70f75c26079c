//! The 80 rounds of SHA-1 (FIPS 180-4, section 6.1.2), for vectors of any width.

/// Runs the rounds on the chaining values `$words` (five vectors) and the message schedule `$w` (sixteen vectors, used
/// up). The file that uses it brings the operations on its vectors: `add`, `splat`, `rotate_left::<BITS>`, `xor4` and
/// the functions `choose`, `parity` and `majority`.
///
/// A macro, because the whole must be one straight line for its registers to be kept, and because a function that is
/// generic over the vectors could not have their `target_feature`.
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
                let k = splat($k);
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
