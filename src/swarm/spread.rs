//! How far each piece has spread while we super-seed, and whether a peer's next piece waits for that.

use crate::metainfo::PieceIndex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One more offer, in a piece's word; below that it counts peers.
const OFFER: u64 = 1 << 32;

/// One word a piece, shared by the cores of a torrent; none before somebody is counted. Peers and offers are in one word, so that
/// of two cores one sees what the other does at the same time.
#[derive(Debug)]
pub(super) struct Spread {
    pieces: u32,
    words: OnceLock<Box<[AtomicU64]>>,
}

impl Spread {
    /// Nobody has any of so many pieces.
    pub(super) fn new(pieces: u32) -> Self {
        Self { pieces, words: OnceLock::new() }
    }

    fn word(&self, piece: PieceIndex) -> &AtomicU64 {
        let words = self.words.get_or_init(|| (0..self.pieces).map(|_| AtomicU64::new(0)).collect());
        &words[piece.as_usize()]
    }

    /// How many peers have the piece or were shown it.
    pub(super) fn count(&self, piece: PieceIndex) -> u32 {
        self.word(piece).load(Ordering::Acquire) as u32
    }

    /// Whether somebody was shown the piece and gets the next when it has spread.
    pub(super) fn is_awaited(&self, piece: PieceIndex) -> bool {
        self.word(piece).load(Ordering::Acquire) >= OFFER
    }

    /// One peer more has the piece, and was not shown it.
    pub(super) fn gain(&self, piece: PieceIndex) {
        self.word(piece).fetch_add(1, Ordering::AcqRel);
    }

    /// One peer less has the piece or was shown it.
    pub(super) fn lose(&self, piece: PieceIndex) {
        let before = self.word(piece).fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before as u32 > 0, "{piece:?} was with nobody");
    }

    /// One peer more is shown the piece; gives how many have it or were shown it, that one counted.
    pub(super) fn offer(&self, piece: PieceIndex) -> u32 {
        (self.word(piece).fetch_add(OFFER + 1, Ordering::AcqRel) as u32).saturating_add(1)
    }

    /// An offer has done its work; the peer still counts.
    pub(super) fn close(&self, piece: PieceIndex) {
        let before = self.word(piece).fetch_sub(OFFER, Ordering::AcqRel);
        debug_assert!(before >= OFFER, "{piece:?} was offered to nobody");
    }
}
