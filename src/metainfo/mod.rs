//! Torrent files: what they say, checked once, and how pieces lie across files.
//!
//! [`Torrent::parse`] is the door, and [`Torrent::from_metadata`] for what peers sent of a [`Magnet`] link: what comes through it holds no raw names, no impossible numbers and exactly one
//! hash a piece. [`Layout`] does the arithmetic of pieces, blocks and files; [`TorrentBuilder`] writes.
//!
//! Pure: no I/O, no clock, no task.

mod build;
mod ids;
mod layout;
mod magnet;
mod path;
mod torrent;

#[cfg(test)]
mod tests;

pub use build::{BuildError, Content, TorrentBuilder, default_piece_length};
pub use ids::{BLOCK_LEN, Block, FileIndex, InfoHash, PieceIndex};
pub use layout::{Layout, LayoutError, MAX_PIECE_LENGTH, MAX_PIECES, Span};
pub use magnet::{HostPort, MAX_MAGNET_LEN, Magnet, MagnetError};
pub use path::PART_SUFFIX;
pub use torrent::{FileEntry, FileKind, MAX_TORRENT_LEN, Torrent, TorrentError};
