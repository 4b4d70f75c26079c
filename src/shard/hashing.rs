//! Hashing what has been fetched: runs of many pieces side by side.
//!
//! The lanes of a vector register are all paid for, however few are filled; so what is to be hashed waits for company,
//! but no longer than a piece takes to arrive on a fast link.

use super::memory::RunKey;
use super::torrent::{Fetched, TorrentShard};
use crate::digest::{Engine, Job, Sha1State, advance};
use crate::metainfo::PieceIndex;
use crate::ring::{self, Slab};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a stretch waits for the batch to fill.
const PATIENCE: Duration = Duration::from_millis(6);

/// When a batch is hashed to which something was added.
#[derive(Debug, PartialEq, Eq)]
enum When {
    /// Every lane has work.
    Now,
    /// When this time is up, unless it is full before.
    After(Duration),
    /// As was said of what came before.
    AsSaid,
}

/// What waits for company.
#[derive(Default)]
struct Batch {
    waiting: RefCell<Vec<(PieceIndex, Range<usize>)>>,
    /// Somebody will hash what waits, batch or no batch.
    timed: Cell<bool>,
    /// When the first of those that wait came.
    begun: Cell<Option<Instant>>,
}

impl Batch {
    fn add(&self, now: Instant, piece: PieceIndex, runs: Range<usize>, lanes: usize) -> When {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            self.begun.set(Some(now));
        }
        waiting.push((piece, runs));
        if waiting.len() >= lanes {
            When::Now
        } else if self.timed.replace(true) {
            When::AsSaid
        } else {
            When::After(PATIENCE)
        }
    }

    /// The time is up, unless those that it was for have been hashed and others have come meanwhile: how long these still wait.
    fn time_is_up(&self, now: Instant) -> Option<Duration> {
        let waits = self.begun.get().filter(|_| !self.waiting.borrow().is_empty());
        let left = waits.map(|begun| (begun + PATIENCE).saturating_duration_since(now));
        let left = left.filter(|left| !left.is_zero());
        self.timed.set(left.is_some());
        left
    }
}

/// What waits to be hashed, and how far pieces have come.
#[derive(Default)]
pub(super) struct Hashing {
    batch: Batch,
    /// Pieces that are hashed run by run.
    states: RefCell<HashMap<PieceIndex, Sha1State>>,
}

impl Hashing {
    /// The piece is given up, or begun anew.
    pub(super) fn forget(&self, piece: PieceIndex) {
        self.states.borrow_mut().remove(&piece);
    }
}

/// One lane's work.
struct Stretch {
    piece: PieceIndex,
    runs: Range<usize>,
    slabs: Vec<Slab>,
    state: Sha1State,
}

impl TorrentShard {
    /// Takes runs of a piece to be hashed; when there is one for every lane it is done at once. More would only leave the
    /// processor's cache meanwhile.
    pub(super) fn queue_hash(self: &Rc<Self>, piece: PieceIndex, runs: Range<usize>) {
        match self.hashing.batch.add(Instant::now(), piece, runs, Engine::current().lanes()) {
            When::Now => self.hash_waiting(),
            When::AsSaid => {}
            When::After(time) => {
                let this = Rc::clone(self);
                ring::spawn(async move {
                    let mut left = Some(time);
                    while let Some(time) = left {
                        tokio::time::sleep(time).await;
                        left = this.hashing.batch.time_is_up(Instant::now());
                    }
                    this.hash_waiting();
                    this.pump();
                });
            }
        }
    }

    fn hash_waiting(&self) {
        let waiting = self.hashing.batch.waiting.take();
        if waiting.is_empty() {
            return;
        }
        let mut batch: Vec<Stretch> =
            waiting.into_iter().map(|(piece, runs)| self.seal(piece, runs)).collect();
        let jobs = batch.iter_mut().map(|Stretch { piece, runs, slabs, state }| {
            let lens = runs.clone().map(|run| self.run_len((*piece, run)) as usize);
            Job::of_slices(state, slabs.iter().zip(lens).map(|(slab, len)| slab.bytes(0..len)))
        });
        let mut jobs: Vec<Job<'_>> = jobs.collect();
        let begun = Instant::now();
        advance(&mut jobs);
        self.gauges.count_hashing(begun, batch.iter().map(|stretch| self.stretch_len(stretch)).sum());
        for Stretch { piece, runs, state, .. } in batch {
            let verdict = self.verdict(piece, runs.end, state);
            self.swarm.borrow_mut().hashed(self.now(), piece, runs, verdict);
        }
    }

    /// Runs that are full are written by nobody any more.
    fn seal(&self, piece: PieceIndex, runs: Range<usize>) -> Stretch {
        let mut fetched = self.fetched.borrow_mut();
        let seal = |run| {
            let key: RunKey = (piece, run);
            let Some(Fetched::Filling(slab)) = fetched.remove(&key) else {
                unreachable!("{key:?} is not full")
            };
            let slab = slab.seal().unwrap_or_else(|_| unreachable!("{key:?} is still being received into"));
            fetched.insert(key, Fetched::Full(slab.clone()));
            slab
        };
        let slabs = runs.clone().map(seal).collect();
        let state = self.hashing.states.borrow_mut().remove(&piece).unwrap_or_default();
        Stretch { piece, runs, slabs, state }
    }

    /// Bytes of a stretch.
    fn stretch_len(&self, Stretch { piece, runs, .. }: &Stretch) -> u64 {
        runs.clone().map(|run| u64::from(self.run_len((*piece, run)))).sum()
    }

    /// Whether the piece is good, when its last run is the one before `end`.
    fn verdict(&self, piece: PieceIndex, end: usize, state: Sha1State) -> Option<bool> {
        if self.run_end((piece, end - 1)) < self.crew.store.layout().piece_len(piece) {
            self.hashing.states.borrow_mut().insert(piece, state);
            return None;
        }
        let good = state.finish() == self.crew.torrent.piece_hash(piece);
        if !good {
            self.report(super::Report::PieceFailed(piece.get()));
        }
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    const LANES: usize = 16;

    /// Adds that many stretches; when each of them is hashed.
    fn add(batch: &Batch, now: Instant, count: usize) -> Vec<When> {
        let piece = Layout::new(1 << 14, [1]).unwrap().piece(0).unwrap();
        (0..count).map(|_| batch.add(now, piece, 0..1, LANES)).collect()
    }

    #[test]
    fn what_waits_for_company_waits_a_few_milliseconds() {
        let (batch, mut now) = (Batch::default(), Instant::now());
        for _ in 0..2 {
            assert_eq!(add(&batch, now, 3), [When::After(PATIENCE), When::AsSaid, When::AsSaid]);
            // The time is up, and it is hashed; what comes later waits no longer.
            now += PATIENCE;
            assert_eq!(batch.time_is_up(now), None);
            assert_eq!(batch.waiting.take().len(), 3);
        }
        assert!(PATIENCE <= Duration::from_millis(10));
    }

    #[test]
    fn a_full_batch_waits_for_nothing() {
        let (batch, start) = (Batch::default(), Instant::now());
        let said = add(&batch, start, LANES);
        let full: Vec<usize> = (0..LANES).filter(|at| said[*at] == When::Now).collect();
        assert_eq!(full, [LANES - 1]);
        batch.waiting.take();
        // The next ones have their time, though that of the first is up before.
        let (later, ms) = (start + PATIENCE - Duration::from_millis(1), Duration::from_millis);
        assert_eq!(add(&batch, later, 1), [When::AsSaid]);
        assert_eq!(batch.time_is_up(start + PATIENCE), Some(PATIENCE - ms(1)));
        assert_eq!(add(&batch, later + ms(2), 1), [When::AsSaid], "they are waited for");
        assert_eq!(batch.time_is_up(later + PATIENCE), None);
        // When none has come it is nobody's time.
        assert_eq!(batch.waiting.take().len(), 2);
        assert_eq!(add(&batch, later, LANES).first(), Some(&When::After(PATIENCE)));
        batch.waiting.take();
        assert_eq!(batch.time_is_up(later), None);
    }
}
