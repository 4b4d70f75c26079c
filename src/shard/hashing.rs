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

/// What waits to be hashed, and how far pieces have come.
#[derive(Default)]
pub(super) struct Hashing {
    waiting: RefCell<Vec<(PieceIndex, Range<usize>)>>,
    /// Somebody will hash what waits, batch or no batch.
    timed: Cell<bool>,
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
        let waiting = {
            let mut waiting = self.hashing.waiting.borrow_mut();
            waiting.push((piece, runs));
            waiting.len()
        };
        if waiting >= Engine::current().lanes() {
            self.hash_waiting();
        } else if !self.hashing.timed.replace(true) {
            let this = Rc::clone(self);
            ring::spawn(async move {
                tokio::time::sleep(PATIENCE).await;
                this.hashing.timed.set(false);
                this.hash_waiting();
                this.pump();
            });
        }
    }

    fn hash_waiting(&self) {
        let waiting = self.hashing.waiting.take();
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
            self.swarm.borrow_mut().hashed(piece, runs, verdict);
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
