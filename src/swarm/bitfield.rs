//! A set of pieces.

use crate::metainfo::PieceIndex;
use crate::wire;

/// One bit a piece, packed in words; on the wire the first piece is the highest bit of the first byte (BEP 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bitfield {
    words: Box<[u64]>,
    len: u32,
    count: u32,
}

impl Bitfield {
    /// The empty set, of a torrent with `len` pieces.
    pub fn new(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)].into(), len, count: 0 }
    }

    /// The set of all pieces.
    pub(super) fn full(len: u32) -> Self {
        let mut bytes = vec![0xff; wire::bitfield_len(len)];
        if let Some(last) = bytes.last_mut().filter(|_| !len.is_multiple_of(8)) {
            *last = !(0xff >> (len % 8));
        }
        Self::from_wire(&bytes, len).expect("its spare bits are 0")
    }

    /// Reads the payload of a bitfield message. `None` when its length is wrong or a spare bit is set.
    pub fn from_wire(bytes: &[u8], len: u32) -> Option<Self> {
        if !wire::bitfield_is_valid(bytes, len) {
            return None;
        }
        let mut words = vec![0u64; (len as usize).div_ceil(64)];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_be_bytes(whole);
        }
        let count = words.iter().map(|word| word.count_ones()).sum();
        Some(Self { words: words.into(), len, count })
    }

    /// The payload of a bitfield message.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.truncate(wire::bitfield_len(self.len));
        bytes
    }

    fn place(piece: PieceIndex) -> (usize, u64) {
        (piece.as_usize() / 64, 1 << (63 - piece.as_usize() % 64))
    }

    /// Whether the piece is in the set.
    pub fn has(&self, piece: PieceIndex) -> bool {
        let (word, bit) = Self::place(piece);
        self.words[word] & bit != 0
    }

    /// Adds a piece; `false` when it was there already.
    pub fn insert(&mut self, piece: PieceIndex) -> bool {
        let (word, bit) = Self::place(piece);
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.count += u32::from(new);
        new
    }

    /// Takes a piece out; nothing when it is not there.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        let (word, bit) = Self::place(piece);
        self.count -= u32::from(self.words[word] & bit != 0);
        self.words[word] &= !bit;
    }

    /// Whether some piece is in both sets.
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.words.iter().zip(&other.words).any(|(a, b)| a & b != 0)
    }

    /// The numbers of the pieces in both sets, in order.
    pub(super) fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b).enumerate();
        words.filter(|(_, word)| *word != 0).flat_map(|(at, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.leading_zeros();
                (bit < 64).then(|| {
                    word &= !(1 << (63 - bit));
                    at as u32 * 64 + bit
                })
            })
        })
    }

    /// The numbers of the pieces in the set, in order; what is not in it costs next to nothing.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.common(self)
    }

    /// How many pieces are in both sets.
    pub(super) fn count_common(&self, other: &Self) -> u32 {
        self.words.iter().zip(&other.words).map(|(a, b)| (a & b).count_ones()).sum()
    }

    /// The number of the piece in both sets that has so many of these before it.
    pub(super) fn nth_common(&self, other: &Self, mut before: u32) -> Option<u32> {
        for (at, (a, b)) in self.words.iter().zip(&other.words).enumerate() {
            let (mut word, count) = (a & b, (a & b).count_ones());
            if before < count {
                (0..before).for_each(|_| word &= !(1 << (63 - word.leading_zeros())));
                return Some(at as u32 * 64 + word.leading_zeros());
            }
            before -= count;
        }
        None
    }

    /// Number of pieces in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether every piece of the torrent is in the set.
    pub fn is_full(&self) -> bool {
        self.count == self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    #[test]
    fn what_two_sets_have_in_common_is_counted_and_found_as_one_by_one() {
        let layout = Layout::new(1, [200]).unwrap();
        let mut rng = fastrand::Rng::with_seed(4);
        for _ in 0..200 {
            let mut set = || {
                let mut set = Bitfield::new(200);
                let some = layout.pieces().filter(|_| rng.u8(..3) == 0).collect::<Vec<_>>();
                some.into_iter().for_each(|piece| _ = set.insert(piece));
                set
            };
            let (a, b) = (set(), set());
            let both: Vec<u32> = a.common(&b).collect();
            assert_eq!(a.count_common(&b) as usize, both.len());
            assert!(a.numbers().eq(layout.pieces().filter(|piece| a.has(*piece)).map(PieceIndex::get)));
            let found: Vec<u32> = (0..).map_while(|before| a.nth_common(&b, before)).collect();
            assert_eq!(found, both);
        }
        let all = Bitfield::full(200);
        assert!((0..200).all(|number| all.nth_common(&all, number) == Some(number)));
    }
}
