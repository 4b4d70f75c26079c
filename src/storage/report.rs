//! What a check has found, of the torrent and of each of its files.

use super::{Location, Store};
use crate::metainfo::{FileIndex, FileKind, PieceIndex};

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Number of pieces of the torrent.
    pub pieces: u32,
    /// Pieces that are there and right.
    pub good_pieces: u32,
    /// Their bytes.
    pub good_bytes: u64,
    /// The other pieces, in order.
    pub bad_pieces: Vec<u32>,
    /// One a file of the torrent, in its order.
    pub files: Vec<FileReport>,
}

/// What a check has found of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Number of pieces that hold bytes of it.
    pub pieces: u32,
    /// Those of them that are right.
    pub good_pieces: u32,
    /// Whether it is there under its own name, has the right length, and all its pieces are right.
    pub good: bool,
    /// What is wrong with what lies in its place, if that could not be read, or not all of it: what could not counts as missing.
    pub fault: Option<String>,
}

impl CheckReport {
    /// Whether everything is there.
    pub fn is_good(&self) -> bool {
        self.bad_pieces.is_empty() && self.files.iter().all(|file| file.good)
    }

    /// Puts together what the cores have found: `good` has one entry a piece.
    pub fn new(store: &Store, good: &[bool]) -> Self {
        let layout = store.layout();
        let is_good = |piece: &PieceIndex| good[piece.as_usize()];
        let good_pieces: Vec<PieceIndex> = layout.pieces().filter(is_good).collect();
        Self {
            pieces: layout.piece_count(),
            good_pieces: good_pieces.len() as u32,
            good_bytes: good_pieces.iter().map(|piece| u64::from(layout.piece_len(*piece))).sum(),
            bad_pieces: layout.pieces().filter(|piece| !is_good(piece)).map(PieceIndex::get).collect(),
            files: layout.files().map(|file| FileReport::new(store, file, good)).collect(),
        }
    }
}

impl FileReport {
    fn new(store: &Store, file: FileIndex, good: &[bool]) -> Self {
        let pieces = store.layout().pieces_of(file);
        let good_pieces = pieces.clone().filter(|piece| good[*piece as usize]).count() as u32;
        let pieces = pieces.len() as u32;
        let whole = Location::Final(store.layout().file_len(file));
        let there = store.file(file).kind != FileKind::Regular || store.file(file).location() == whole;
        Self { pieces, good_pieces, good: there && pieces == good_pieces, fault: None }
    }
}
