//! Which pieces peers of all cores have: what a seed must know to tell who passes its pieces on.

use crate::metainfo::PieceIndex;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// Bits of a piece's word; the others are the number of cores with a peer that has it.
const SUGGESTED: u16 = 1 << 15;
const PASSED: u16 = 1 << 14;
const CORES: u16 = PASSED - 1;

/// One word a piece, shared by the cores of a torrent. A core touches it with its first peer that has the piece and its last,
/// not for those between. Peers that have everything are not counted.
#[derive(Debug)]
pub(super) struct Sightings {
    words: Box<[AtomicU16]>,
    /// How often a piece was passed on for the first time.
    passes: AtomicU32,
}

impl Sightings {
    /// Nobody has any of so many pieces.
    pub(super) fn new(pieces: u32) -> Self {
        Self { words: (0..pieces).map(|_| AtomicU16::new(0)).collect(), passes: AtomicU32::new(0) }
    }

    fn word(&self, piece: PieceIndex) -> &AtomicU16 {
        &self.words[piece.as_usize()]
    }

    /// The first peer of a core has the piece.
    pub(super) fn appear(&self, piece: PieceIndex) {
        let before = self.word(piece).fetch_add(1, Ordering::AcqRel);
        debug_assert!(before & CORES < CORES, "{piece:?} is seen by more cores than there are");
    }

    /// The last peer of a core that had the piece has it no more. With the last of all cores it is forgotten that the piece
    /// was suggested and passed on: it may have to be given anew.
    pub(super) fn vanish(&self, piece: PieceIndex) {
        let before = self.word(piece).fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & CORES > 0, "{piece:?} was seen by no core");
        let after = before - 1;
        if after & CORES == 0 && after > 0 {
            // Not when another core has changed it meanwhile: then it is seen again.
            let word = self.word(piece);
            _ = word.compare_exchange(after, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Whether a peer of any core has the piece.
    pub(super) fn is_seen(&self, piece: PieceIndex) -> bool {
        self.word(piece).load(Ordering::Acquire) & CORES > 0
    }

    /// Takes the piece, to suggest it to a peer; `false` when it has been suggested to another.
    pub(super) fn suggest(&self, piece: PieceIndex) -> bool {
        self.word(piece).fetch_or(SUGGESTED, Ordering::AcqRel) & SUGGESTED == 0
    }

    /// Whether it has been.
    pub(super) fn is_suggested(&self, piece: PieceIndex) -> bool {
        self.word(piece).load(Ordering::Acquire) & SUGGESTED > 0
    }

    /// The piece may be suggested again.
    pub(super) fn unsuggest(&self, piece: PieceIndex) {
        self.word(piece).fetch_and(!SUGGESTED, Ordering::AcqRel);
    }

    /// A peer has got the piece, and not of us.
    pub(super) fn pass(&self, piece: PieceIndex) {
        let word = self.word(piece);
        if word.load(Ordering::Relaxed) & PASSED == 0 && word.fetch_or(PASSED, Ordering::AcqRel) & PASSED == 0
        {
            self.passes.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether some peer got the piece of another one.
    pub(super) fn is_passed(&self, piece: PieceIndex) -> bool {
        self.word(piece).load(Ordering::Acquire) & PASSED > 0
    }

    /// Changes when [`Sightings::is_passed`] has become true of a piece.
    pub(super) fn passes(&self) -> u32 {
        self.passes.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    #[test]
    fn a_piece_is_seen_and_passed_on_as_long_as_some_core_has_a_peer_with_it() {
        let sightings = Sightings::new(2);
        let piece = Layout::new(1, [2]).unwrap().piece(1).unwrap();
        let known = || [sightings.is_seen(piece), sightings.is_passed(piece)];
        assert!(sightings.suggest(piece) && !sightings.suggest(piece));
        assert_eq!(known(), [false, false]);
        sightings.appear(piece);
        assert_eq!(known(), [true, false]);
        sightings.appear(piece);
        (0..2).for_each(|_| sightings.pass(piece));
        assert_eq!((known(), sightings.passes()), ([true, true], 1));
        sightings.vanish(piece);
        assert_eq!(known(), [true, true]);
        sightings.vanish(piece);
        assert_eq!(known(), [false, false]);
        sightings.appear(piece);
        sightings.pass(piece);
        assert_eq!((known(), sightings.passes()), ([true, true], 2), "anew");
        assert!(!sightings.is_suggested(piece) && sightings.suggest(piece), "anew, too");
        assert!(sightings.is_suggested(piece) && !sightings.suggest(piece));
        sightings.unsuggest(piece);
        assert!(!sightings.is_suggested(piece) && sightings.suggest(piece));
    }
}
