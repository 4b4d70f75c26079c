//! What all cores know of each piece of a torrent.

use crate::metainfo::PieceIndex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

const MISSING: u8 = 0;
const CLAIMED: u8 = 1;
const HAVE: u8 = 2;

/// One state a piece: missing → claimed by a core that fetches it → had, which means verified and written. Shared
/// without a lock: whoever wins the exchange owns the piece.
#[derive(Debug)]
pub struct PieceMap {
    states: Box<[AtomicU8]>,
    have: AtomicU32,
}

impl PieceMap {
    /// All `count` pieces missing.
    pub fn new(count: u32) -> Self {
        Self { states: (0..count).map(|_| AtomicU8::new(MISSING)).collect(), have: AtomicU32::new(0) }
    }

    fn state(&self, piece: PieceIndex) -> &AtomicU8 {
        &self.states[piece.as_usize()]
    }

    fn change(&self, piece: PieceIndex, from: u8, to: u8) -> bool {
        self.state(piece).compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes a missing piece; `false` when another was faster, or it is had already.
    pub fn claim(&self, piece: PieceIndex) -> bool {
        self.change(piece, MISSING, CLAIMED)
    }

    /// Gives a claimed piece back.
    pub fn release(&self, piece: PieceIndex) {
        let released = self.change(piece, CLAIMED, MISSING);
        debug_assert!(released, "{piece:?} was not claimed");
    }

    /// Marks a piece as verified and on disk.
    pub fn set_have(&self, piece: PieceIndex) {
        if self.state(piece).swap(HAVE, Ordering::AcqRel) != HAVE {
            self.have.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether the piece is verified and on disk.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.state(piece).load(Ordering::Acquire) == HAVE
    }

    /// Whether nobody has or fetches the piece.
    pub fn is_missing(&self, piece: PieceIndex) -> bool {
        self.state(piece).load(Ordering::Acquire) == MISSING
    }

    /// Number of pieces had.
    pub fn have_count(&self) -> u32 {
        self.have.load(Ordering::Acquire)
    }

    /// Whether all pieces are had.
    pub fn is_complete(&self) -> bool {
        self.have_count() as usize == self.states.len()
    }
}
