//! Torrent files: what they say, checked once, and how pieces lie across files.
//!
//! Pure: no I/O, no clock, no task.

mod ids;
mod layout;

pub use ids::{BLOCK_LEN, Block, FileIndex, InfoHash, PieceIndex};
pub use layout::{Layout, LayoutError, MAX_PIECE_LENGTH, MAX_PIECES, Span};
