//! Who sent which block of a piece that came out wrong. When the piece comes out right at last, the blocks that differ name
//! the liars: exactly they are banned, however many others sent the rest.

use super::Tag;
use super::camps::Quarrels;
use crate::metainfo::{Block, PieceIndex};
use std::collections::{BTreeMap, VecDeque};

/// Most statements that are remembered: of a piece of the greatest length all, thrice.
const MOST_STATEMENTS: usize = 96 * 1024;

/// What so many have sent for a block is held against what others have: honest peers quarrel with all liars soon enough.
const MOST_COMPARED: usize = 8;

/// What somebody has sent for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    /// Place of the block in its piece.
    pub(super) index: u32,
    pub(super) from: Tag,
    /// The block's fingerprint.
    pub(super) print: u64,
}

/// What was sent of a piece in tries that came out wrong, and what was disputed since.
#[derive(Debug)]
struct Case {
    piece: PieceIndex,
    said: Vec<Statement>,
    /// Peers were asked once more for each block, and those who agree believed (see `votes`).
    voted: bool,
    /// Who was not asked in the tries after that, in order (see `camps`).
    camps: Vec<Box<[Tag]>>,
    /// Somebody who had sent some of it was found out since: nothing is held against the others so far.
    cleared: bool,
}

/// What is remembered of pieces that came out wrong, the one last heard of last.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    cases: VecDeque<Case>,
    statements: usize,
}

impl Evidence {
    /// Keeps who sent what in a bad try. The oldest cases give way; says how many.
    pub(super) fn file(&mut self, piece: PieceIndex, said: impl IntoIterator<Item = Statement>) -> u64 {
        let known =
            self.cases.iter().position(|case| case.piece == piece).and_then(|at| self.cases.remove(at));
        let mut case = known.unwrap_or(Case {
            piece,
            said: Vec::new(),
            voted: false,
            camps: Vec::new(),
            cleared: false,
        });
        let before = case.said.len();
        case.said.extend(said);
        case.cleared = false;
        self.statements += case.said.len() - before;
        self.cases.push_back(case);
        let mut lost = 0;
        while self.statements > MOST_STATEMENTS
            && let Some(oldest) = self.cases.pop_front()
        {
            self.statements -= oldest.said.len();
            lost += 1;
        }
        lost
    }

    fn case(&self, piece: PieceIndex) -> Option<&Case> {
        self.cases.iter().find(|case| case.piece == piece)
    }

    /// Whether something is remembered about the piece.
    pub(super) fn holds(&self, piece: PieceIndex) -> bool {
        self.case(piece).is_some()
    }

    /// What is to be voted on: all that was said of a piece on which nobody has voted.
    pub(super) fn unvoted(&self, piece: PieceIndex) -> Option<&[Statement]> {
        self.case(piece).filter(|case| !case.voted).map(|case| &case.said[..])
    }

    /// There is a vote on the piece. The next try, if there must be one, is another's.
    pub(super) fn note_vote(&mut self, piece: PieceIndex) {
        if let Some(case) = self.cases.iter_mut().find(|case| case.piece == piece) {
            case.voted = true;
            case.camps.clear();
        }
    }

    /// Who was not asked in tries at a piece after a vote, if there was one.
    pub(super) fn camps(&self, piece: PieceIndex) -> Option<&[Box<[Tag]>]> {
        self.case(piece).filter(|case| case.voted).map(|case| &case.camps[..])
    }

    /// The next try at the piece is for all but these.
    pub(super) fn note_camp(&mut self, piece: PieceIndex, barred: Box<[Tag]>) {
        let case = self.cases.iter_mut().find(|case| case.piece == piece);
        if let Some(case) = case {
            case.camps.push(barred);
        }
    }

    /// Who have sent different bytes for a block.
    pub(super) fn quarrels(&self) -> Quarrels {
        let mut quarrels = Quarrels::new();
        for case in &self.cases {
            let mut said: BTreeMap<u32, Vec<&Statement>> = BTreeMap::new();
            for statement in &case.said {
                let others = said.entry(statement.index).or_default();
                let differ = others.iter().filter(|other| other.print != statement.print);
                quarrels.extend(
                    differ.flat_map(|other| [(other.from, statement.from), (statement.from, other.from)]),
                );
                if others.len() < MOST_COMPARED {
                    others.push(statement);
                }
            }
        }
        quarrels
    }

    /// A liar is found out: what it has said counts no more, and where it has said something there may be another vote.
    pub(super) fn forget(&mut self, liar: Tag) {
        for case in &mut self.cases {
            let before = case.said.len();
            case.said.retain(|statement| statement.from != liar);
            let lost = before - case.said.len();
            self.statements -= lost;
            if lost > 0 {
                (case.voted, case.cleared) = (false, true);
            }
        }
    }

    /// Whether somebody who had sent some of a piece was found out since it last came out wrong.
    pub(super) fn is_cleared(&self, piece: PieceIndex) -> bool {
        self.case(piece).is_some_and(|case| case.cleared)
    }

    /// Whether the block may come from a peer, as far as is known of the try that is under way: who has sent it has had its vote.
    pub(super) fn hears(&self, block: &Block, from: Tag) -> bool {
        let Some(case) = self.case(block.piece) else { return true };
        if let Some(barred) = case.camps.last() {
            return !barred.contains(&from);
        }
        let index = block.index() as u32;
        !case.said.iter().any(|statement| statement.index == index && statement.from == from)
    }

    /// The piece has come out right, its blocks having these fingerprints: gives all who sent another block, once each,
    /// and forgets the piece.
    pub(super) fn judge(&mut self, piece: PieceIndex, prints: &[u64]) -> Vec<Tag> {
        let Some(at) = self.cases.iter().position(|case| case.piece == piece) else { return Vec::new() };
        let said = self.cases.remove(at).map_or(Vec::new(), |case| case.said);
        self.statements -= said.len();
        let is_false = |said: &&Statement| prints.get(said.index as usize) != Some(&said.print);
        let mut liars: Vec<Tag> = said.iter().filter(is_false).map(|said| said.from).collect();
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

    /// A try at a whole piece.
    fn all(blocks: &[(Tag, u64)]) -> Vec<Statement> {
        let said = blocks.iter().zip(0..);
        said.map(|((from, print), index)| Statement { index, from: *from, print: *print }).collect()
    }

    #[test]
    fn who_sent_a_block_that_differs_is_named_and_nobody_else() {
        let layout = Layout::new(1, [9]).unwrap();
        let piece = |number| layout.piece(number).unwrap();
        let mut evidence = Evidence::default();
        let first = [(tag(1), 10), (tag(2), 66), (tag(1), 12)];
        let second = [(tag(3), 10), (tag(3), 11), (tag(4), 67)];
        assert_eq!(evidence.file(piece(5), all(&first)), 0);
        assert_eq!(evidence.file(piece(6), all(&[(tag(9), 0)])), 0);
        assert_eq!(evidence.file(piece(5), all(&second)), 0);
        assert_eq!(evidence.file(piece(5), [Statement { index: 1, from: tag(8), print: 68 }]), 0);
        assert_eq!(evidence.judge(piece(5), &[10, 11, 12]), [tag(2), tag(4), tag(8)]);
        assert!(!evidence.holds(piece(5)) && evidence.holds(piece(6)));
        assert_eq!(evidence.statements, 1);
        assert_eq!(evidence.judge(piece(6), &[0]), []);
    }

    #[test]
    fn a_piece_is_voted_on_once() {
        let layout = Layout::new(1, [9]).unwrap();
        let piece = layout.piece(5).unwrap();
        let block = layout.nth_block(piece, 0);
        let mut evidence = Evidence::default();
        assert!(evidence.unvoted(piece).is_none() && evidence.hears(&block, tag(1)));
        evidence.file(piece, all(&[(tag(1), 10)]));
        assert_eq!(evidence.unvoted(piece), Some(&all(&[(tag(1), 10)])[..]));
        assert!(!evidence.hears(&block, tag(1)) && evidence.hears(&block, tag(2)));
        evidence.note_vote(piece);
        evidence.file(piece, all(&[(tag(2), 11)]));
        assert!(evidence.unvoted(piece).is_none() && !evidence.hears(&block, tag(2)));
        assert_eq!(evidence.judge(piece, &[11]), [tag(1)]);
        evidence.file(piece, all(&[(tag(3), 10)]));
        assert!(evidence.unvoted(piece).is_some(), "that is another case");
    }

    #[test]
    fn once_a_liar_is_found_there_may_be_another_vote() {
        let layout = Layout::new(1, [9]).unwrap();
        let [piece, other] = [5, 6].map(|number| layout.piece(number).unwrap());
        let mut evidence = Evidence::default();
        for piece in [piece, other] {
            evidence.file(piece, all(&[(tag(1), 10), (if piece == other { tag(1) } else { tag(2) }, 11)]));
            evidence.note_vote(piece);
        }
        evidence.forget(tag(2));
        assert!(evidence.is_cleared(piece) && !evidence.is_cleared(other));
        assert_eq!(
            (evidence.unvoted(piece), evidence.unvoted(other)),
            (Some(&all(&[(tag(1), 10)])[..]), None)
        );
        assert_eq!(evidence.statements, 3);
        evidence.file(piece, all(&[(tag(1), 10)]));
        assert!(!evidence.is_cleared(piece), "it came out wrong without the liar, too");
    }

    #[test]
    fn the_oldest_cases_give_way() {
        let layout = Layout::new(1, [9]).unwrap();
        let piece = |number| layout.piece(number).unwrap();
        let mut evidence = Evidence::default();
        let half = || all(&vec![(tag(1), 1); MOST_STATEMENTS / 2]);
        assert_eq!(evidence.file(piece(0), half()) + evidence.file(piece(1), half()), 0);
        assert_eq!(evidence.file(piece(2), half()), 1);
        assert!(!evidence.holds(piece(0)) && evidence.holds(piece(1)) && evidence.holds(piece(2)));
        assert_eq!(evidence.file(piece(3), all(&vec![(tag(1), 1); MOST_STATEMENTS + 1])), 3, "nor itself");
        assert_eq!((evidence.statements, evidence.cases.len()), (0, 0));
    }
}
