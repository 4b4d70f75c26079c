//! How pieces lie across files (BEP 3): one stream of bytes, the files one behind the other, cut into pieces.

use super::ids::{BLOCK_LEN, Block, FileIndex, PieceIndex};
use std::ops::Range;

/// Largest number of pieces a torrent may have.
pub const MAX_PIECES: u32 = 1 << 21;
/// Largest piece length in bytes.
pub const MAX_PIECE_LENGTH: u32 = 512 * 1024 * 1024;

/// Why a geometry is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Piece length 0 or past [`MAX_PIECE_LENGTH`].
    #[error("piece length {0} is not between 1 and {MAX_PIECE_LENGTH} bytes")]
    PieceLength(u64),
    /// The files hold no bytes at all.
    #[error("the torrent holds no bytes")]
    Empty,
    /// More than [`MAX_PIECES`] pieces.
    #[error("the torrent has more than {MAX_PIECES} pieces")]
    TooManyPieces,
    /// The lengths of the files do not add up in 63 bits.
    #[error("the lengths of the files add up to more than any disk holds")]
    TooLarge,
}

/// Geometry of a torrent: immutable, shared by all who move its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    piece_length: u32,
    total: u64,
    /// Offset of each file in the stream, and behind the last the total: `files + 1` entries.
    starts: Box<[u64]>,
}

/// Consecutive bytes of one file, and where they lie in the run they are part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The file.
    pub file: FileIndex,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Offset in the run, in bytes.
    pub at: u32,
    /// Number of bytes, never 0.
    pub len: u32,
}

impl Layout {
    /// Lays out files of the given lengths (bytes, in order) in pieces of `piece_length` bytes.
    ///
    /// # Errors
    /// When the piece length, the total or the number of pieces is out of bounds.
    pub fn new(piece_length: u64, lengths: impl IntoIterator<Item = u64>) -> Result<Self, LayoutError> {
        let short = u32::try_from(piece_length).ok().filter(|n| (1..=MAX_PIECE_LENGTH).contains(n));
        let piece_length = short.ok_or(LayoutError::PieceLength(piece_length))?;
        let mut total = 0u64;
        let mut starts = vec![0];
        for length in lengths {
            total = total
                .checked_add(length)
                .filter(|t| i64::try_from(*t).is_ok())
                .ok_or(LayoutError::TooLarge)?;
            starts.push(total);
        }
        if total == 0 {
            return Err(LayoutError::Empty);
        }
        if total.div_ceil(u64::from(piece_length)) > u64::from(MAX_PIECES) {
            return Err(LayoutError::TooManyPieces);
        }
        Ok(Self { piece_length, total, starts: starts.into() })
    }

    /// Length of every piece but the last, in bytes.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// Sum of the lengths of all files, in bytes.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Number of pieces, at least 1.
    pub fn piece_count(&self) -> u32 {
        u32::try_from(self.total.div_ceil(u64::from(self.piece_length))).expect("checked when made")
    }

    /// Number of files.
    pub fn file_count(&self) -> usize {
        self.starts.len() - 1
    }

    /// The piece with this number, if the torrent has it.
    pub fn piece(&self, number: u32) -> Option<PieceIndex> {
        (number < self.piece_count()).then_some(PieceIndex(number))
    }

    /// All pieces, in order.
    pub fn pieces(&self) -> impl ExactSizeIterator<Item = PieceIndex> + DoubleEndedIterator + use<> {
        (0..self.piece_count()).map(PieceIndex)
    }

    /// All files, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = FileIndex> + DoubleEndedIterator + use<> {
        (0..u32::try_from(self.file_count()).expect("bounded by the torrent's size")).map(FileIndex)
    }

    /// Offset of the piece in the stream, in bytes.
    pub fn piece_start(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Length of this piece in bytes: the last one may be short.
    pub fn piece_len(&self, piece: PieceIndex) -> u32 {
        let rest = self.total - self.piece_start(piece);
        u32::try_from(rest.min(u64::from(self.piece_length))).expect("at most the piece length")
    }

    /// Number of 16 KiB blocks in the piece; the last one may be short.
    pub fn blocks_in(&self, piece: PieceIndex) -> usize {
        self.piece_len(piece).div_ceil(BLOCK_LEN) as usize
    }

    /// The `index`th 16 KiB block of the piece.
    ///
    /// # Panics
    /// When the piece has no such block.
    pub fn nth_block(&self, piece: PieceIndex, index: usize) -> Block {
        assert!(index < self.blocks_in(piece), "block {index} of {piece:?}");
        let begin = index as u32 * BLOCK_LEN;
        Block { piece, begin, len: (self.piece_len(piece) - begin).min(BLOCK_LEN) }
    }

    /// Checks the three numbers of a request or piece message.
    pub fn block(&self, piece: u32, begin: u32, len: u32) -> Option<Block> {
        let piece = self.piece(piece)?;
        let end = u64::from(begin) + u64::from(len);
        let inside = end <= u64::from(self.piece_len(piece));
        (inside && (1..=BLOCK_LEN).contains(&len)).then_some(Block { piece, begin, len })
    }

    /// Length of a file in bytes.
    pub fn file_len(&self, file: FileIndex) -> u64 {
        self.starts[file.as_usize() + 1] - self.starts[file.as_usize()]
    }

    /// The pieces that hold bytes of a file: empty for an empty file.
    pub fn pieces_of(&self, file: FileIndex) -> Range<u32> {
        let (start, end) = (self.starts[file.as_usize()], self.starts[file.as_usize() + 1]);
        let length = u64::from(self.piece_length);
        if start == end {
            return 0..0;
        }
        let number = |n: u64| u32::try_from(n).expect("below the piece count");
        number(start / length)..number(end.div_ceil(length))
    }

    /// How far behind a multiple of `unit` bytes a run has to begin in memory, so that the longest stretch of it that lies in
    /// one file (of those that `counts` holds for) lies in memory as it does in the file.
    pub fn skew(
        &self,
        piece: PieceIndex,
        begin: u32,
        len: u32,
        unit: u32,
        counts: impl Fn(FileIndex) -> bool,
    ) -> u32 {
        let spans = self.spans(piece, begin, len).filter(|span| counts(span.file));
        let longest = spans.max_by_key(|span| span.len);
        longest.map_or(0, |span| {
            let unit = u64::from(unit);
            ((span.offset % unit + unit - u64::from(span.at) % unit) % unit) as u32
        })
    }

    /// Where `len` bytes from `begin` of a piece lie in the files, in order. Empty files have no span.
    pub fn spans(&self, piece: PieceIndex, begin: u32, len: u32) -> impl Iterator<Item = Span> + '_ {
        let start = self.piece_start(piece) + u64::from(begin);
        let end = start + u64::from(len);
        debug_assert!(end <= self.total);
        let mut next = start;
        std::iter::from_fn(move || {
            let from = next;
            (from < end).then(|| {
                // The last file that starts at or before `from`: of files with the same start only the last has
                // bytes. Searched anew each time, since a hostile torrent may have any number of empty files here.
                let index = self.starts.partition_point(|s| *s <= from) - 1;
                next = self.starts[index + 1].min(end);
                Span {
                    file: FileIndex(index as u32),
                    offset: from - self.starts[index],
                    at: u32::try_from(from - start).expect("inside a piece"),
                    len: u32::try_from(next - from).expect("inside a piece"),
                }
            })
        })
    }
}
