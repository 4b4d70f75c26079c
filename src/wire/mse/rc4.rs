//! RC4, as MSE uses it.

use std::fmt;

/// Bytes of the key stream that are thrown away: they tell of the key.
const DROPPED: usize = 1024;

/// One direction of an encrypted stream. It goes on from wherever the last call has stopped, so a stream may be cut
/// anywhere. To encrypt and to decrypt are the same.
#[derive(Clone)]
pub struct Cipher {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl fmt::Debug for Cipher {
    /// Tells nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// The cipher of a key, at the beginning of the stream: the first 1024 bytes of the key stream are behind it.
    pub(super) fn new(key: &[u8; 20]) -> Self {
        let mut cipher = Self::raw(key);
        cipher.skip(DROPPED);
        cipher
    }

    /// The cipher of a key of 1 to 256 bytes, at the beginning of its key stream.
    pub(super) fn raw(key: &[u8]) -> Self {
        let mut state: [u8; 256] = std::array::from_fn(|at| at as u8);
        let mut j = 0u8;
        for (at, key) in (0..256).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[at]).wrapping_add(*key);
            state.swap(at, j.into());
        }
        Self { state, i: 0, j: 0 }
    }

    /// The next byte of the key stream.
    #[inline]
    fn next(&mut self) -> u8 {
        self.i = self.i.wrapping_add(1);
        let a = self.state[usize::from(self.i)];
        self.j = self.j.wrapping_add(a);
        let b = self.state[usize::from(self.j)];
        self.state[usize::from(self.i)] = b;
        self.state[usize::from(self.j)] = a;
        self.state[usize::from(a.wrapping_add(b))]
    }

    /// Encrypts or decrypts the next bytes of the stream, in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte ^= self.next());
    }

    /// Passes over so many bytes of the stream.
    pub fn skip(&mut self, count: usize) {
        (0..count).for_each(|_| _ = self.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_key_stream_is_that_of_rfc_6229() {
        // Key length; the key stream at 0, 1024 and 4096.
        let cases = [
            (
                5,
                [
                    "b2396305f03dc027ccc3524a0a1118a8",
                    "30abbcc7c20b01609f23ee2d5f6bb7df",
                    "ff25b58995996707e51fbdf08b34d875",
                ],
            ),
            (
                16,
                [
                    "9ac7cc9a609d1ef7b2932899cde41b97",
                    "bdf0324e6083dcc6d3cedd3ca8c53c16",
                    "a36a4c301ae8ac13610ccbc12256cacc",
                ],
            ),
            (
                32,
                [
                    "eaa6bd25880bf93d3f5d1e4ca2611d91",
                    "7fec5bfd9f9b89ce6548309092d7e958",
                    "f3e4c0a2e02d1d01f7f0a74618af2b48",
                ],
            ),
        ];
        for (len, expected) in cases {
            let key: Vec<u8> = (1..=len).collect();
            for (at, expected) in [0, 1024, 4096].into_iter().zip(expected) {
                let mut cipher = Cipher::raw(&key);
                cipher.skip(at);
                let mut seen = [0; 16];
                cipher.apply(&mut seen);
                assert_eq!(seen[..], bytes(expected), "key of {len} bytes, at {at}");
            }
        }
    }

    #[test]
    fn mse_leaves_out_the_first_kibibyte() {
        let key = [7; 20];
        let (mut raw, mut cipher) = (Cipher::raw(&key), Cipher::new(&key));
        raw.skip(1024);
        let (mut expected, mut seen) = ([0; 100], [0; 100]);
        raw.apply(&mut expected);
        cipher.apply(&mut seen);
        assert_eq!(expected, seen);
        assert_eq!(format!("{cipher:?}"), "Cipher", "the key stays where it is");
    }

    proptest! {
        #[test]
        fn a_stream_may_be_cut_anywhere(text in prop::collection::vec(any::<u8>(), 0..600), cuts in prop::collection::vec(0usize..600, 0..6)) {
            let mut whole = text.clone();
            Cipher::new(&[3; 20]).apply(&mut whole);
            let (mut parts, mut cipher, mut from) = (text.clone(), Cipher::new(&[3; 20]), 0);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            for cut in cuts.into_iter().chain([text.len()]) {
                cipher.apply(&mut parts[from..cut]);
                from = cut;
            }
            prop_assert_eq!(&parts, &whole);
            Cipher::new(&[3; 20]).apply(&mut whole);
            prop_assert_eq!(whole, text, "the same again takes it back");
        }
    }
}
