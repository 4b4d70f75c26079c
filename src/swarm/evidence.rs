//! Who sent which block of a piece that came out wrong. When the piece comes out right at last, the blocks that differ name
//! the liars: exactly they are banned, however many others sent the rest.

use super::Tag;
use crate::metainfo::PieceIndex;
use std::collections::VecDeque;

/// Blocks of bad tries that are remembered: of a piece of the greatest length all, twice.
const MOST_BLOCKS: usize = 64 * 1024;

/// A try that came out wrong: who sent each block, and its fingerprint.
#[derive(Debug)]
struct BadTry {
    piece: PieceIndex,
    blocks: Box<[(Tag, u64)]>,
}

/// What is remembered of bad tries, the latest last.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    tries: VecDeque<BadTry>,
    blocks: usize,
}

impl Evidence {
    /// Keeps who sent what in a bad try. The oldest tries give way; says how many.
    pub(super) fn file(&mut self, piece: PieceIndex, blocks: Box<[(Tag, u64)]>) -> u64 {
        self.blocks += blocks.len();
        self.tries.push_back(BadTry { piece, blocks });
        let mut lost = 0;
        while self.blocks > MOST_BLOCKS
            && let Some(oldest) = self.tries.pop_front()
        {
            self.blocks -= oldest.blocks.len();
            lost += 1;
        }
        lost
    }

    /// Whether something is remembered about the piece.
    pub(super) fn holds(&self, piece: PieceIndex) -> bool {
        self.tries.iter().any(|bad| bad.piece == piece)
    }

    /// The piece has come out right, its blocks having these fingerprints: gives all who sent another block, once each,
    /// and forgets the piece.
    pub(super) fn judge(&mut self, piece: PieceIndex, prints: &[u64]) -> Vec<Tag> {
        let tries = std::mem::take(&mut self.tries).into_iter();
        let (about, others): (VecDeque<BadTry>, _) = tries.partition(|bad| bad.piece == piece);
        self.tries = others;
        let blocks = about.iter().flat_map(|bad| bad.blocks.iter().zip(prints));
        let mut liars: Vec<Tag> =
            blocks.filter(|((_, print), right)| print != *right).map(|((tag, _), _)| *tag).collect();
        self.blocks -= about.iter().map(|bad| bad.blocks.len()).sum::<usize>();
        liars.sort_unstable();
        liars.dedup();
        liars
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    fn tag(number: u64) -> Tag {
        Tag { core: 0, number }
    }

    #[test]
    fn who_sent_a_block_that_differs_is_named_and_nobody_else() {
        let layout = Layout::new(1, [9]).unwrap();
        let piece = |number| layout.piece(number).unwrap();
        let mut evidence = Evidence::default();
        let first = [(tag(1), 10), (tag(2), 66), (tag(1), 12)];
        let second = [(tag(3), 10), (tag(3), 11), (tag(4), 67)];
        assert_eq!(evidence.file(piece(5), first.into()), 0);
        assert_eq!(evidence.file(piece(6), [(tag(9), 0)].into()), 0);
        assert_eq!(evidence.file(piece(5), second.into()), 0);
        assert_eq!(evidence.judge(piece(5), &[10, 11, 12]), [tag(2), tag(4)]);
        assert!(!evidence.holds(piece(5)) && evidence.holds(piece(6)));
        assert_eq!(evidence.blocks, 1);
        assert_eq!(evidence.judge(piece(6), &[0]), []);
    }

    #[test]
    fn the_oldest_tries_give_way() {
        let layout = Layout::new(1, [9]).unwrap();
        let piece = |number| layout.piece(number).unwrap();
        let mut evidence = Evidence::default();
        let half = || vec![(tag(1), 1); MOST_BLOCKS / 2].into_boxed_slice();
        assert_eq!(evidence.file(piece(0), half()) + evidence.file(piece(1), half()), 0);
        assert_eq!(evidence.file(piece(2), half()), 1);
        assert!(!evidence.holds(piece(0)) && evidence.holds(piece(1)) && evidence.holds(piece(2)));
        assert_eq!(evidence.file(piece(3), vec![(tag(1), 1); MOST_BLOCKS + 1].into()), 3, "nor itself");
        assert_eq!((evidence.blocks, evidence.tries.len()), (0, 0));
    }
}
