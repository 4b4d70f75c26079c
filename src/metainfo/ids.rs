//! The numbers of the protocol, each with a type of its own.

use std::fmt;

/// The unit of the wire: peers ask for blocks of at most 16 KiB (BEP 3).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// SHA-1 of the raw bytes of a v1 `info` dictionary (BEP 3): what a torrent is called on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHash(pub [u8; 20]);

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

/// A piece of one torrent. Only [`Layout`](super::Layout) makes one, so it is always below the piece count.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PieceIndex(pub(super) u32);

impl PieceIndex {
    /// The number as it goes on the wire.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number as an index into a table with one entry a piece.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A file of one torrent, in the order of its `files` list; 0 in a torrent of a single file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileIndex(pub(super) u32);

impl FileIndex {
    /// The number as an index into a table with one entry a file.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// A checked range of bytes inside one piece: what a request names. It always lies within the piece, holds at
/// least one byte and at most [`BLOCK_LEN`]. Only [`Layout`](super::Layout) makes one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Block {
    /// The piece the bytes belong to.
    pub piece: PieceIndex,
    /// Offset of the first byte from the start of the piece, in bytes.
    pub begin: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Block {
    /// Offset just behind the last byte, from the start of the piece.
    pub fn end(&self) -> u32 {
        self.begin + self.len
    }

    /// Position among the piece's 16 KiB blocks, when the range is exactly one of them as we ask for them.
    pub fn index(&self) -> usize {
        (self.begin / BLOCK_LEN) as usize
    }
}
