//! How many peers of all cores have a piece: what decides which is the rarest, and what a seed must know to tell who passes its
//! pieces on.

use crate::metainfo::PieceIndex;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bits of a piece's word; the others are the number of peers that have it.
const SUGGESTED: u32 = 1 << 31;
const PASSED: u32 = 1 << 30;
const PEERS: u32 = PASSED - 1;

/// One word a piece, shared by the cores of a torrent. Peers that have everything are not counted.
#[derive(Debug)]
pub(super) struct Sightings {
    words: Box<[AtomicU32]>,
    /// How often a piece was passed on for the first time.
    passes: AtomicU32,
}

impl Sightings {
    /// Nobody has any of so many pieces.
    pub(super) fn new(pieces: u32) -> Self {
        Self { words: (0..pieces).map(|_| AtomicU32::new(0)).collect(), passes: AtomicU32::new(0) }
    }

    fn word(&self, piece: PieceIndex) -> &AtomicU32 {
        &self.words[piece.as_usize()]
    }

    /// One more peer has the piece.
    pub(super) fn appear(&self, piece: PieceIndex) {
        let before = self.word(piece).fetch_add(1, Ordering::AcqRel);
        debug_assert!(before & PEERS < PEERS, "{piece:?} is had by more peers than there can be");
    }

    /// A peer that had the piece has it no more. With the last one it is forgotten that the piece was suggested and passed on: it may
    /// have to be given anew.
    pub(super) fn vanish(&self, piece: PieceIndex) {
        let before = self.word(piece).fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & PEERS > 0, "nobody had {piece:?}");
        let after = before - 1;
        if after & PEERS == 0 && after > 0 {
            // Not when another core has changed it meanwhile: then it is seen again.
            let word = self.word(piece);
            _ = word.compare_exchange(after, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// How many peers of all cores have the piece.
    pub(super) fn peers(&self, piece: u32) -> u32 {
        self.words[piece as usize].load(Ordering::Relaxed) & PEERS
    }

    /// Whether a peer of any core has the piece.
    pub(super) fn is_seen(&self, piece: PieceIndex) -> bool {
        self.word(piece).load(Ordering::Acquire) & PEERS > 0
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
    fn a_piece_is_seen_and_passed_on_as_long_as_some_peer_has_it() {
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
