//! What was packed with gzip (RFC 1952), within bounds: whoever packed it may mean harm.

use flate2::{Crc, Decompress, FlushDecompress, Status};

/// How a file of gzip begins.
pub const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// The only method there is.
const DEFLATE: u8 = 8;
/// Flags of a head: what follows it.
const HAS_CHECK: u8 = 1 << 1;
const HAS_EXTRA: u8 = 1 << 2;
const HAS_NAME: u8 = 1 << 3;
const HAS_COMMENT: u8 = 1 << 4;
const UNKNOWN: u8 = 0b1110_0000;
/// Room that is made at a time, in bytes.
const STEP: usize = 64 * 1024;
/// What a member counts for at least: to begin one costs, however little is in it.
const LEAST_MEMBER: usize = 1024;

/// Why something is not unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GzipError {
    /// It would be longer than allowed.
    #[error("unpacked it is longer than {0} bytes")]
    TooLong(usize),
    /// It ends before it is whole.
    #[error("what is packed in it is cut off")]
    CutOff,
    /// It is not gzip, or something in it has changed.
    #[error("what is packed in it is damaged")]
    Damaged,
}

/// Unpacks all members of a file one behind the other, at most so many bytes. What follows the last one and is no member means
/// nothing, as for gzip itself.
///
/// # Errors
/// When it is not whole, not right, or too long.
pub fn gunzip(packed: &[u8], most: usize) -> Result<Vec<u8>, GzipError> {
    let (mut out, mut rest, mut counted) = (Vec::new(), packed, 0);
    let mut engine = Decompress::new(false);
    loop {
        let begin = out.len();
        rest = member(rest, &mut out, most, &mut engine)?;
        counted += (out.len() - begin).max(LEAST_MEMBER);
        if !rest.starts_with(&GZIP_MAGIC) {
            return Ok(out);
        }
        if counted >= most {
            return Err(GzipError::TooLong(most));
        }
        engine.reset(false);
    }
}

/// Unpacks one member; gives what follows it.
fn member<'a>(
    packed: &'a [u8],
    out: &mut Vec<u8>,
    most: usize,
    engine: &mut Decompress,
) -> Result<&'a [u8], GzipError> {
    let (packed, begin) = (body(packed)?, out.len());
    loop {
        let read = usize::try_from(engine.total_in()).map_err(|_| GzipError::Damaged)?;
        // One byte more than allowed shows that it is too long.
        out.reserve(STEP.min(most.saturating_add(1).saturating_sub(out.len())));
        let before = (engine.total_in(), engine.total_out());
        let status = engine.decompress_vec(&packed[read..], out, FlushDecompress::None);
        let status = status.map_err(|_| GzipError::Damaged)?;
        if out.len() > most {
            return Err(GzipError::TooLong(most));
        }
        if status == Status::StreamEnd {
            break;
        }
        if before == (engine.total_in(), engine.total_out()) {
            return Err(GzipError::CutOff);
        }
    }
    let read = usize::try_from(engine.total_in()).map_err(|_| GzipError::Damaged)?;
    let (end, rest) = packed[read..].split_first_chunk::<8>().ok_or(GzipError::CutOff)?;
    let mut crc = Crc::new();
    crc.update(&out[begin..]);
    let expected = [crc.sum().to_le_bytes(), crc.amount().to_le_bytes()];
    if end == expected.as_flattened() { Ok(rest) } else { Err(GzipError::Damaged) }
}

/// What follows the head of a member.
fn body(packed: &[u8]) -> Result<&[u8], GzipError> {
    let (head, mut rest) = packed.split_first_chunk::<10>().ok_or(GzipError::CutOff)?;
    let [magic @ .., method, flags, _, _, _, _, _, _] = *head;
    if magic != GZIP_MAGIC || method != DEFLATE || flags & UNKNOWN != 0 {
        return Err(GzipError::Damaged);
    }
    if flags & HAS_EXTRA != 0 {
        let (len, after) = rest.split_first_chunk().ok_or(GzipError::CutOff)?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..).ok_or(GzipError::CutOff)?;
    }
    for _ in 0..(flags & (HAS_NAME | HAS_COMMENT)).count_ones() {
        let end = rest.iter().position(|byte| *byte == 0).ok_or(GzipError::CutOff)?;
        rest = &rest[end + 1..];
    }
    let check = if flags & HAS_CHECK != 0 { 2 } else { 0 };
    rest.get(check..).ok_or(GzipError::CutOff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use std::io::Write;

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// The same with everything in its head that a head can have.
    fn with_long_head(bytes: &[u8]) -> Vec<u8> {
        let plain = packed(bytes);
        let more = b"\x03\x00abcname\0comment\0\x12\x34";
        [&plain[..3], &[HAS_CHECK | HAS_EXTRA | HAS_NAME | HAS_COMMENT], &plain[4..10], more, &plain[10..]]
            .concat()
    }

    #[test]
    fn members_are_unpacked_one_behind_the_other_and_what_follows_means_nothing() {
        let (one, two) = (packed(b"one"), with_long_head(b"two"));
        assert_eq!(gunzip(&one, 3), Ok(b"one".to_vec()));
        for end in [&b""[..], b"\0\0\0", b"garbage", b"\x1f"] {
            assert_eq!(gunzip(&[&one, &two, end].concat(), 5000), Ok(b"onetwo".to_vec()), "{end:?}");
        }
        assert_eq!(gunzip(&packed(b""), 0), Ok(vec![]));
    }

    #[test]
    fn what_is_not_whole_or_not_right_is_refused() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let good = with_long_head(&bytes);
        assert_eq!(gunzip(&good, bytes.len()), Ok(bytes.clone()));
        for len in (0..good.len()).step_by(97).chain(0..60).chain(good.len() - 9..good.len()) {
            assert_eq!(gunzip(&good[..len], bytes.len()), Err(GzipError::CutOff), "{len}");
        }
        let changed = |at: usize| {
            let mut bad = packed(b"some text");
            bad[at] ^= 0xff;
            gunzip(&bad, 1000)
        };
        let len = packed(b"some text").len();
        // The magic, the method, the flags, the sum and the length.
        for at in [0, 1, 2, 3, len - 8, len - 1] {
            assert_eq!(changed(at), Err(GzipError::Damaged), "{at}");
        }
    }

    #[test]
    fn bombs_end_at_the_limit() {
        let bomb = packed(&vec![0; 64 << 20]);
        assert_eq!(gunzip(&bomb, 1 << 20), Err(GzipError::TooLong(1 << 20)));
        assert_eq!(gunzip(&packed(b"12345"), 4), Err(GzipError::TooLong(4)));
        // Nor are there members without end in which nothing is.
        assert_eq!(gunzip(&packed(b"").repeat(1000), 1 << 20), Ok(vec![]));
        assert_eq!(gunzip(&packed(b"").repeat(1030), 1 << 20), Err(GzipError::TooLong(1 << 20)));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(bytes: Vec<u8>) {
            prop_assert_eq!(gunzip(&packed(&bytes), bytes.len()), Ok(bytes));
        }

        #[test]
        fn no_bytes_are_too_strange(mut bytes: Vec<u8>, good: Vec<u8>, at: prop::sample::Index, flip: u8) {
            let _ = gunzip(&bytes, 1000);
            bytes.splice(..0, [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
            let _ = gunzip(&bytes, 1000);
            let mut bad = packed(&good);
            let at = at.index(bad.len());
            bad[at] ^= flip;
            let unpacked = gunzip(&bad, 1000);
            prop_assert!(unpacked.is_err() || unpacked == Ok(good));
        }
    }
}
