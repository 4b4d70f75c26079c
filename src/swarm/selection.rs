//! What of a torrent is wanted: some of its files, some of them sooner.

use crate::metainfo::{FileIndex, Layout, PieceIndex};

/// How much a file, and so a piece, is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Not at all.
    Skip,
    /// After all others.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before all others.
    High,
}

/// A priority for each file, and what follows for the pieces: a piece is wanted as much as the file that wants it most, so
/// pieces that wanted files share with skipped ones are fetched.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Nothing when all are wanted alike.
    chosen: Option<Chosen>,
    pieces: u32,
    wanted: u32,
}

#[derive(Clone, Debug)]
struct Chosen {
    files: Box<[Priority]>,
    pieces: Box<[Priority]>,
}

impl Selection {
    /// Everything, of a torrent with so many pieces.
    pub fn all(pieces: u32) -> Self {
        Self { chosen: None, pieces, wanted: pieces }
    }

    /// The files with these priorities, one for each file of the torrent; where one is lacking, it is normal.
    pub fn of_files(layout: &Layout, priorities: &[Priority]) -> Self {
        let count = layout.piece_count();
        let files: Box<[Priority]> =
            layout.files().map(|file| priorities.get(file.as_usize()).copied().unwrap_or_default()).collect();
        let mut pieces = vec![Priority::Skip; count as usize];
        for file in layout.files() {
            let range = layout.pieces_of(file);
            for piece in &mut pieces[range.start as usize..range.end as usize] {
                *piece = (*piece).max(files[file.as_usize()]);
            }
        }
        let wanted = pieces.iter().filter(|piece| **piece > Priority::Skip).count() as u32;
        Self { chosen: Some(Chosen { files, pieces: pieces.into() }), pieces: count, wanted }
    }

    /// How much the file is wanted.
    pub fn file(&self, file: FileIndex) -> Priority {
        self.chosen.as_ref().map_or(Priority::Normal, |chosen| chosen.files[file.as_usize()])
    }

    /// How much the piece is wanted.
    pub fn piece(&self, piece: PieceIndex) -> Priority {
        self.chosen.as_ref().map_or(Priority::Normal, |chosen| chosen.pieces[piece.as_usize()])
    }

    /// Whether the piece is wanted.
    pub fn wants(&self, piece: PieceIndex) -> bool {
        self.piece(piece) > Priority::Skip
    }

    /// Number of pieces of the torrent.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Number of pieces that are wanted.
    pub fn wanted(&self) -> u32 {
        self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_wanted_as_much_as_the_file_that_wants_it_most() {
        // Files: 0 in pieces 0-1, 1 in 1-2, 2 empty, 3 in 2-4.
        let layout = Layout::new(10, [15, 10, 0, 20]).unwrap();
        let priorities = [Priority::High, Priority::Skip, Priority::High, Priority::Low];
        let selection = Selection::of_files(&layout, &priorities);
        let of = |n| selection.piece(layout.piece(n).unwrap());
        assert_eq!([0, 1, 2, 3, 4].map(of), {
            use Priority::{High, Low};
            [High, High, Low, Low, Low]
        });
        assert_eq!(selection.wanted(), 5);
        let selection = Selection::of_files(&layout, &[Priority::Skip, Priority::Skip, Priority::Skip]);
        assert_eq!(selection.wanted(), 3, "a file that is not named is normal");
        assert!(!selection.wants(layout.piece(1).unwrap()) && selection.wants(layout.piece(2).unwrap()));
        assert_eq!(Selection::all(7).wanted(), 7);
    }
}
