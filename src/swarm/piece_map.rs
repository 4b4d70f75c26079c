//! What all cores know of each piece of a torrent.

use crate::metainfo::PieceIndex;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

const MISSING: u8 = 0;
const CLAIMED: u8 = 1;
const HAVE: u8 = 2;
/// The bits of the state; one more tells whether the piece came out wrong when it was last fetched, one whether it is not
/// wanted at all.
const STATE: u8 = 0x03;
const SKIPPED: u8 = 0x40;
const SUSPECT: u8 = 0x80;

/// One state a piece: missing → claimed by a core that fetches it → had, which means verified and written. Shared
/// without a lock: whoever wins the exchange owns the piece. What is had is also written into a log, in the order it
/// came, from which each core reads at its own pace what it has to tell its peers.
#[derive(Debug)]
pub struct PieceMap {
    states: Box<[AtomicU8]>,
    /// Numbers of the pieces had, plus 1; 0 where nothing is written yet.
    log: Box<[AtomicU32]>,
    /// Places of the log that are taken.
    logged: AtomicU32,
    missing: AtomicU32,
    /// Pieces that are wanted and not had.
    left: AtomicU32,
    /// How often a claim was given back.
    releases: AtomicU32,
}

impl PieceMap {
    /// All `count` pieces missing.
    pub fn new(count: u32) -> Self {
        Self {
            states: (0..count).map(|_| AtomicU8::new(MISSING)).collect(),
            log: (0..count).map(|_| AtomicU32::new(0)).collect(),
            logged: AtomicU32::new(0),
            missing: AtomicU32::new(count),
            left: AtomicU32::new(count),
            releases: AtomicU32::new(0),
        }
    }

    /// Says that a piece, which is missing, is not wanted.
    pub fn skip(&self, piece: PieceIndex) {
        let before = self.states[piece.as_usize()].swap(MISSING | SKIPPED, Ordering::AcqRel);
        debug_assert_eq!(before, MISSING, "{piece:?} is skipped before anything else happens to it");
        self.missing.fetch_sub(1, Ordering::AcqRel);
        self.left.fetch_sub(1, Ordering::AcqRel);
    }

    fn state(&self, piece: PieceIndex) -> u8 {
        self.states[piece.as_usize()].load(Ordering::Acquire) & STATE
    }

    /// Takes a missing piece; `false` when another was faster, or it is had already.
    pub fn claim(&self, piece: PieceIndex) -> bool {
        let take = |state| (state & (STATE | SKIPPED) == MISSING).then_some(state & !STATE | CLAIMED);
        let state = &self.states[piece.as_usize()];
        let claimed = state.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok();
        if claimed {
            self.missing.fetch_sub(1, Ordering::AcqRel);
        }
        claimed
    }

    /// Gives a claimed piece back; `suspect` when it came out wrong.
    pub fn release(&self, piece: PieceIndex, suspect: bool) {
        let state = if suspect { MISSING | SUSPECT } else { MISSING };
        let before = self.states[piece.as_usize()].swap(state, Ordering::AcqRel);
        debug_assert_eq!(before & STATE, CLAIMED, "{piece:?} was not claimed");
        self.missing.fetch_add(1, Ordering::AcqRel);
        self.releases.fetch_add(1, Ordering::AcqRel);
    }

    /// Marks a piece as verified and on disk.
    pub fn set_have(&self, piece: PieceIndex) {
        let before = self.states[piece.as_usize()].swap(HAVE, Ordering::AcqRel);
        if before & STATE == HAVE {
            return;
        }
        let wanted = before & SKIPPED == 0;
        if before & STATE == MISSING && wanted {
            self.missing.fetch_sub(1, Ordering::AcqRel);
        }
        if wanted {
            self.left.fetch_sub(1, Ordering::AcqRel);
        }
        let place = self.logged.fetch_add(1, Ordering::AcqRel);
        self.log[place as usize].store(piece.get() + 1, Ordering::Release);
    }

    /// The number of the piece that was had after `place` others; `None` while that is still to come.
    pub fn logged(&self, place: u32) -> Option<u32> {
        self.log.get(place as usize)?.load(Ordering::Acquire).checked_sub(1)
    }

    /// Whether the piece is verified and on disk.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.state(piece) == HAVE
    }

    /// Whether nobody has or fetches the piece, which is wanted.
    pub fn is_missing(&self, piece: PieceIndex) -> bool {
        self.states[piece.as_usize()].load(Ordering::Acquire) & (STATE | SKIPPED) == MISSING
    }

    /// Whether the piece came out wrong when it was last fetched: of the next try it must be clear who is to blame.
    pub fn is_suspect(&self, piece: PieceIndex) -> bool {
        self.states[piece.as_usize()].load(Ordering::Acquire) & SUSPECT != 0
    }

    /// Number of pieces had.
    pub fn have_count(&self) -> u32 {
        self.logged.load(Ordering::Acquire)
    }

    /// Number of pieces that are wanted and that nobody has or fetches.
    pub fn missing_count(&self) -> u32 {
        self.missing.load(Ordering::Acquire)
    }

    /// How often a claim was given back: when it changes, pieces that another core had claimed may be had again.
    pub fn releases(&self) -> u32 {
        self.releases.load(Ordering::Acquire)
    }

    /// Number of pieces that are wanted and not had.
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::Acquire)
    }

    /// Whether all pieces that are wanted are had.
    pub fn is_complete(&self) -> bool {
        self.left() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    #[test]
    fn claims_are_exclusive_and_what_is_had_is_logged_once_in_its_order() {
        let layout = Layout::new(1, [3]).unwrap();
        let piece = |n| layout.piece(n).unwrap();
        let map = PieceMap::new(3);
        assert!(map.claim(piece(1)) && !map.claim(piece(1)));
        assert_eq!((map.missing_count(), map.releases()), (2, 0));
        map.release(piece(1), true);
        assert!(map.is_suspect(piece(1)) && map.is_missing(piece(1)));
        assert_eq!((map.missing_count(), map.releases()), (3, 1));
        assert!(map.claim(piece(1)) && map.is_suspect(piece(1)));
        map.set_have(piece(1));
        map.set_have(piece(0));
        map.set_have(piece(1));
        assert_eq!([0, 1, 2].map(|place| map.logged(place)), [Some(1), Some(0), None]);
        assert_eq!((map.have_count(), map.missing_count(), map.is_complete()), (2, 1, false));
        assert!(!map.is_suspect(piece(1)), "it has come out right since");
    }

    #[test]
    fn what_is_skipped_is_not_missing_and_may_be_had_all_the_same() {
        let layout = Layout::new(1, [3]).unwrap();
        let piece = |n| layout.piece(n).unwrap();
        let map = PieceMap::new(3);
        map.skip(piece(0));
        map.skip(piece(1));
        assert_eq!((map.missing_count(), map.left()), (1, 1));
        assert!(!map.claim(piece(0)) && !map.is_missing(piece(0)));
        map.set_have(piece(1));
        assert_eq!((map.missing_count(), map.left(), map.have_count()), (1, 1, 1));
        assert!(map.claim(piece(2)));
        map.set_have(piece(2));
        assert!(map.is_complete() && map.has(piece(1)) && !map.has(piece(0)));
    }

    #[test]
    fn many_threads_agree() {
        let layout = Layout::new(1, [1000]).unwrap();
        let map = PieceMap::new(1000);
        let won: usize = std::thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    let mine = layout.pieces().filter(|piece| map.claim(*piece));
                    mine.map(|piece| map.set_have(piece)).count()
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let logged: std::collections::BTreeSet<u32> =
            (0..1000).filter_map(|place| map.logged(place)).collect();
        assert_eq!((won, logged.len(), map.is_complete()), (1000, 1000, true));
    }
}
