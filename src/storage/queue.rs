//! Pieces that several cores hash together.

use crate::metainfo::{Layout, PieceIndex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Most pieces that a core takes at a time: consecutive, so that it reads ahead in its stretch of the files.
const MOST: u32 = 16;

/// The pieces of a torrent, each to be taken by one core.
pub struct PieceQueue {
    layout: Arc<Layout>,
    /// How many pieces are taken at a time.
    stretch: u32,
    /// The first piece that nobody has taken.
    next: AtomicU32,
    done: AtomicU32,
}

impl PieceQueue {
    /// All pieces of the torrent, for so many cores: few pieces are shared out evenly.
    pub fn new(layout: &Arc<Layout>, cores: usize) -> Self {
        let share = layout.piece_count().div_ceil(u32::try_from(cores.max(1)).unwrap_or(u32::MAX));
        Self {
            layout: Arc::clone(layout),
            stretch: share.clamp(1, MOST),
            next: AtomicU32::new(0),
            done: AtomicU32::new(0),
        }
    }

    /// Lets nobody take another piece: those who work on it end soon.
    pub fn close(&self) {
        self.next.store(self.layout.piece_count(), Ordering::Relaxed);
    }

    /// Whether pieces are left that nobody has taken.
    pub fn is_empty(&self) -> bool {
        self.next.load(Ordering::Relaxed) >= self.layout.piece_count()
    }

    /// How many pieces the cores have done.
    pub fn done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }

    /// Counts one more piece; says how many are done.
    pub fn count_done(&self) -> u32 {
        self.done.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The numbers of the next pieces; none when all are taken.
    fn take(&self) -> std::ops::Range<u32> {
        let end = self.layout.piece_count();
        let taken = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
            (next < end).then(|| next.saturating_add(self.stretch).min(end))
        });
        taken.map_or(0..0, |start| start..start.saturating_add(self.stretch).min(end))
    }
}

/// The pieces that one core has taken last.
pub(super) struct Stretch {
    queue: Arc<PieceQueue>,
    taken: std::ops::Range<u32>,
}

impl Stretch {
    pub(super) fn new(queue: &Arc<PieceQueue>) -> Self {
        Self { queue: Arc::clone(queue), taken: 0..0 }
    }

    /// The next pieces, at most so many, which follow each other; none when all are taken.
    pub(super) fn take(&mut self, most: u32) -> impl Iterator<Item = PieceIndex> + use<> {
        if self.taken.is_empty() {
            self.taken = self.queue.take();
        }
        let end = self.taken.start.saturating_add(most).min(self.taken.end);
        let taken = std::mem::replace(&mut self.taken.start, end)..end;
        let layout = Arc::clone(&self.queue.layout);
        taken.filter_map(move |number| layout.piece(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_share_the_pieces_in_stretches() {
        let layout = Arc::new(Layout::new(1, [40]).unwrap());
        let queue = Arc::new(PieceQueue::new(&layout, 2));
        let (mut one, mut other) = (Stretch::new(&queue), Stretch::new(&queue));
        let take =
            |stretch: &mut Stretch, most| -> Vec<u32> { stretch.take(most).map(PieceIndex::get).collect() };
        assert_eq!(take(&mut one, 2), [0, 1]);
        assert_eq!(take(&mut other, 1), [16]);
        assert_eq!(take(&mut one, 100), (2..16).collect::<Vec<_>>(), "no further than what was taken");
        assert_eq!(take(&mut one, 100), (32..40).collect::<Vec<_>>());
        assert_eq!(take(&mut other, 100), (17..32).collect::<Vec<_>>());
        assert!(queue.is_empty());
        assert!(take(&mut one, 1).is_empty() && take(&mut other, 1).is_empty());
    }

    #[test]
    fn few_pieces_are_shared_out_evenly() {
        let taken = |pieces, cores| {
            let queue = PieceQueue::new(&Arc::new(Layout::new(1, [pieces]).unwrap()), cores);
            let portions = std::iter::from_fn(|| Some(queue.take()).filter(|taken| !taken.is_empty()));
            portions.map(|taken| taken.len()).collect::<Vec<_>>()
        };
        assert_eq!(taken(16, 2), [8, 8]);
        assert_eq!(taken(17, 2), [9, 8]);
        assert_eq!(taken(3, 4), [1, 1, 1]);
        assert_eq!(taken(16, 1), [16]);
        assert_eq!(taken(35, 2), [16, 16, 3]);
    }

    #[test]
    fn a_closed_queue_gives_no_further_stretch() {
        let layout = Arc::new(Layout::new(1, [40]).unwrap());
        let queue = Arc::new(PieceQueue::new(&layout, 2));
        let mut core = Stretch::new(&queue);
        core.take(1).for_each(drop);
        queue.close();
        assert_eq!(core.take(100).count(), 15, "what was taken");
    }
}
