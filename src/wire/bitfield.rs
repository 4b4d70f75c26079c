//! The shape of a `bitfield` message (BEP 3): one bit a piece, high bit first, spare bits zero.

/// Number of bytes in the bitfield of a torrent with this many pieces.
pub fn bitfield_len(piece_count: u32) -> usize {
    piece_count.div_ceil(8) as usize
}

/// Whether the bytes are a bitfield for exactly this many pieces: the right length and no spare bit set.
pub fn bitfield_is_valid(bytes: &[u8], piece_count: u32) -> bool {
    let spare = bitfield_len(piece_count) * 8 - piece_count as usize;
    bytes.len() == bitfield_len(piece_count)
        && bytes.last().is_none_or(|last| last.trailing_zeros() as usize >= spare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_length_is_valid() {
        for (count, len) in [(1, 1), (7, 1), (8, 1), (9, 2), (16, 2), (17, 3), (1 << 21, 1 << 18)] {
            assert_eq!(bitfield_len(count), len);
            assert!(bitfield_is_valid(&vec![0; len], count));
            assert!(!bitfield_is_valid(&vec![0; len - 1], count));
            assert!(!bitfield_is_valid(&vec![0; len + 1], count));
        }
    }

    #[test]
    fn every_spare_bit_must_be_zero_and_every_other_may_be_set() {
        for count in 1u32..=24 {
            let len = bitfield_len(count);
            for bit in 0..len as u32 * 8 {
                let mut bytes = vec![0; len];
                bytes[bit as usize / 8] |= 0x80 >> (bit % 8);
                assert_eq!(bitfield_is_valid(&bytes, count), bit < count, "bit {bit} of {count} pieces");
            }
        }
    }
}
