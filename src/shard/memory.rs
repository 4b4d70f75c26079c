//! Payload memory of one core: the arena, and the clean runs that stay in it as cache until the room is needed.

use super::snapshot::SlabStates;
use crate::metainfo::PieceIndex;
use crate::ring::{Arena, Core, FillingSlab, Slab, ZeroCopy};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// A run of a piece.
pub(super) type RunKey = (PieceIndex, usize);

struct Cached {
    slab: Slab,
    /// The bytes of the run that are there.
    valid: Range<usize>,
    used: u64,
}

/// The arena with its least-recently-used cache.
pub(super) struct Memory {
    arena: Arena,
    cached: HashMap<RunKey, Cached>,
    by_age: BTreeMap<u64, RunKey>,
    clock: u64,
    /// How connections send from the slabs.
    pub(super) zero_copy: ZeroCopy,
}

impl Memory {
    pub(super) fn new(core: &Core) -> Self {
        let (arena, zero_copy) = (core.arena.clone(), core.zero_copy.clone());
        Self { arena, zero_copy, cached: HashMap::new(), by_age: BTreeMap::new(), clock: 0 }
    }

    /// A slab to fill that begins `skew` bytes behind a page boundary; the cache gives way.
    pub(super) fn take(&mut self, skew: usize) -> Option<FillingSlab> {
        loop {
            if let Some(slab) = self.arena.take_at(skew) {
                return Some(slab);
            }
            // Runs that are being sent stay until they are; giving up their entry frees nothing.
            let oldest =
                self.by_age.iter().find(|(_, key)| self.cached[*key].slab.is_sole()).map(|(age, _)| *age)?;
            let key = self.by_age.remove(&oldest).expect("just seen");
            self.cached.remove(&key);
        }
    }

    /// Slabs that could be had now, counted up to `most`.
    pub(super) fn available(&self, most: usize) -> usize {
        let free = self.arena.free().min(most);
        let sole = self.by_age.values().filter(|key| self.cached[*key].slab.is_sole());
        free + sole.take(most - free).count()
    }

    /// Slabs in all.
    pub(super) fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    /// Whether the kernel has the arena pinned once for all.
    pub(super) fn is_registered(&self) -> bool {
        self.arena.is_registered()
    }

    /// What the slabs are used for.
    pub(super) fn states(&self) -> SlabStates {
        let free = self.arena.free();
        let cached = self.cached.values().filter(|cached| cached.slab.is_sole()).count();
        let sent = self.cached.len() - cached;
        SlabStates { free, held: self.arena.capacity() - free - cached - sent, cached, sent }
    }

    /// The slab of a run, when all of `range` is in it.
    pub(super) fn get(&mut self, key: RunKey, range: &Range<usize>) -> Option<Slab> {
        let cached = self.cached.get_mut(&key)?;
        self.clock += 1;
        self.by_age.remove(&std::mem::replace(&mut cached.used, self.clock));
        self.by_age.insert(self.clock, key);
        let whole = cached.valid.start <= range.start && range.end <= cached.valid.end;
        whole.then(|| cached.slab.clone())
    }

    /// Whether some of the run is there.
    pub(super) fn holds(&self, key: RunKey) -> bool {
        self.cached.contains_key(&key)
    }

    /// Drops the runs of a piece: they were written before it was known to be good, and it is not. From now on it may be
    /// any core's to fetch, and nobody must be served what came in the first try.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.by_age.retain(|_, key| key.0 != piece);
        self.cached.retain(|key, _| key.0 != piece);
    }

    /// Keeps a run whose `valid` bytes are verified and on disk.
    pub(super) fn keep(&mut self, key: RunKey, slab: Slab, valid: Range<usize>) {
        self.clock += 1;
        let used = self.clock;
        if let Some(old) = self.cached.insert(key, Cached { slab, valid, used }) {
            self.by_age.remove(&old.used);
        }
        self.by_age.insert(used, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;
    use crate::ring::{Config, run};

    #[test]
    fn runs_of_a_piece_that_was_bad_are_served_to_nobody() {
        let layout = Layout::new(1 << 20, [2 << 20]).unwrap();
        let [good, bad] = [0, 1].map(|number| layout.piece(number).unwrap());
        run(Config::new(4 << 20), async |core| {
            let mut memory = Memory::new(&core);
            let free = core.arena.free();
            for key in [(good, 0), (bad, 0), (bad, 1)] {
                let slab = memory.take(0).unwrap().seal().ok().unwrap();
                memory.keep(key, slab, 0..100);
            }
            memory.forget(bad);
            assert!(memory.get((bad, 0), &(0..10)).is_none() && memory.get((bad, 1), &(0..10)).is_none());
            assert!(memory.get((good, 0), &(0..10)).is_some());
            assert_eq!((core.arena.free(), memory.available(1000)), (free - 1, free), "their slabs are free");
        })
        .unwrap();
    }
}
