//! Payload memory of one core: the arena, and the clean runs that stay in it as cache until the room is needed.
//!
//! The arena starts small, and the cache gives way before it grows: to make memory resident costs more than to read a run
//! again, and most runs are served once. For the sake of the cache it grows to all runs of a torrent that takes an eighth
//! of it or less; else only when runs had to leave that several peers have taken, or are asked for again a short while
//! after, and then by as many as these; and to twice what is read ahead of what peers ask for. A seed keeps to half of the memory. What it has not grown into is room for files that
//! are mapped ([`Memory::unused`]): the two together stay within the limit.
//!
//! What is asked of peers is promised a slab ([`Promise`]) and takes it when its bytes are about to come: a run may be asked for
//! long before. Memory is never promised twice, so a promise can always be kept.

use super::snapshot::SlabStates;
use crate::metainfo::PieceIndex;
use crate::ring::{Arena, Core, FillingSlab, SLAB_LEN, Slab, ZeroCopy};
use std::cell::Cell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::rc::Rc;

/// A run of a piece.
pub(super) type RunKey = (PieceIndex, usize);

struct Cached {
    slab: Slab,
    /// The bytes of the run that are there.
    valid: Range<usize>,
    used: u64,
    /// The first peer that took it; and whether another one did.
    taker: Option<u32>,
    by_several: bool,
    /// Nobody has.
    ahead: Option<Ahead>,
}

/// One slab in so many is left to uploads when the others are taken by downloads.
const UPLOAD_SHARE: usize = 8;
/// Slabs that may hold what was read ahead: what stays in the processor's cache until it is sent. And one in so many at the most.
const MOST_AHEAD: usize = 64;
const AHEAD_SHARE: usize = 8;
/// A torrent that takes one slab in so many, or less, stays in memory.
const SMALL_TORRENT: usize = 8;
/// Runs that gave way and should not have, before the arena grows by as many, at the least: a few are chance.
const REGRETS_TO_GROW: usize = 4;

/// The runs that gave way last: as many as would still be there, had the arena all its memory.
#[derive(Default)]
struct Gone {
    /// With the number that each had then: of one that was asked for meanwhile, and has gone again, only the last one holds.
    in_order: VecDeque<(RunKey, u64)>,
    runs: HashMap<RunKey, u64>,
    number: u64,
    /// How many were asked for again, or will be, since the cache got more room.
    regrets: usize,
}

impl Gone {
    fn add(&mut self, key: RunKey, most: usize) {
        self.number += 1;
        if let Entry::Vacant(place) = self.runs.entry(key) {
            place.insert(self.number);
            self.in_order.push_back((key, self.number));
        }
        while self.runs.len() > most || self.in_order.len() > 2 * most {
            let (oldest, number) = self.in_order.pop_front().expect("each run is there");
            if self.runs.get(&oldest) == Some(&number) {
                self.runs.remove(&oldest);
            }
        }
    }

    fn ask(&mut self, key: RunKey) {
        self.regrets += usize::from(self.runs.remove(&key).is_some());
    }
}

/// A slab that somebody is to have: nobody else takes the last one.
pub(super) struct Promise(Rc<Cell<usize>>);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A run that was read before anybody asked for it, until somebody does.
pub(super) struct Ahead(Rc<Cell<usize>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// The arena with its least-recently-used cache.
pub(super) struct Memory {
    arena: Arena,
    cached: HashMap<RunKey, Cached>,
    /// Cached runs that nobody else holds, by when they were last used. (Some of the others may have been let go since.)
    idle: BTreeMap<u64, RunKey>,
    /// The other ones, by the numbers of their slabs.
    shared: HashMap<u32, RunKey>,
    /// Slabs that are promised.
    promised: Rc<Cell<usize>>,
    /// Runs that were read ahead, or are being.
    ahead: Rc<Cell<usize>>,
    gone: Gone,
    /// Slabs by which the arena may grow for the sake of the cache.
    room: usize,
    clock: u64,
    /// How connections send from the slabs.
    pub(super) zero_copy: ZeroCopy,
}

impl Memory {
    /// Memory for a torrent of so many `runs`.
    pub(super) fn new(core: &Core, runs: usize) -> Self {
        let (arena, zero_copy) = (core.arena.clone(), core.zero_copy.clone());
        let stays = runs <= arena.capacity() / SMALL_TORRENT;
        Self {
            arena,
            zero_copy,
            cached: HashMap::new(),
            idle: BTreeMap::new(),
            shared: HashMap::new(),
            promised: Rc::default(),
            ahead: Rc::default(),
            gone: Gone::default(),
            room: if stays { runs } else { 0 },
            clock: 0,
        }
    }

    /// A slab to fill that begins `skew` bytes behind a page boundary, unless all that could be had are promised: one that is
    /// free, or else the cache gives way, or else the arena grows.
    pub(super) fn take(&mut self, skew: usize) -> Option<FillingSlab> {
        self.is_available().then(|| self.take_any(skew)).flatten()
    }

    /// Promises a slab, if one could be had.
    pub(super) fn promise(&mut self) -> Option<Promise> {
        self.is_available().then(|| {
            self.promised.set(self.promised.get() + 1);
            Promise(Rc::clone(&self.promised))
        })
    }

    /// The slab that was promised, once for each promise.
    pub(super) fn redeem(&mut self, _: &Promise, skew: usize) -> FillingSlab {
        self.take_any(skew).expect("no more slabs are promised than could be had")
    }

    fn take_any(&mut self, skew: usize) -> Option<FillingSlab> {
        // As many as will have room then: to read them again has cost no more than to make memory resident for them will.
        if self.gone.regrets >= self.arena.growth().max(REGRETS_TO_GROW) {
            // Half of the memory is left to what the page cache holds, and to blocks under way.
            let (grown, half) = (self.arena.capacity() - self.arena.untouched(), self.arena.capacity() / 2);
            self.room = self.gone.regrets.min(half.saturating_sub(grown));
            self.gone.regrets = 0;
        }
        while self.arena.ready() == 0 && (self.room == 0 || self.arena.untouched() == 0) {
            // Runs that are being sent stay until they are; giving up their entry frees nothing.
            let Some((_, key)) = self.idle.pop_first() else { break };
            let leaves = self.cached.remove(&key).expect("it is idle there");
            // Where two have been there are more to come.
            self.gone.regrets += usize::from(leaves.by_several);
            self.gone.add(key, self.arena.untouched());
        }
        let before = self.arena.untouched();
        let slab = self.arena.take_at(skew);
        self.room = self.room.saturating_sub(before - self.arena.untouched());
        slab
    }

    /// Slabs that could be had now, and are not promised.
    pub(super) fn available(&mut self) -> usize {
        self.see_idle();
        (self.arena.free() + self.idle.len()).saturating_sub(self.promised.get())
    }

    /// Finds out what others do not hold any more.
    fn see_idle(&mut self) {
        while let Some(index) = self.arena.let_go() {
            let Some(key) = self.shared.get(&index) else { continue };
            let cached = &self.cached[key];
            if cached.slab.is_sole() {
                self.idle.insert(cached.used, *key);
                self.shared.remove(&index);
            }
        }
    }

    /// Whether there is one.
    fn is_available(&mut self) -> bool {
        self.available() > 0
    }

    /// Slabs that may be promised to downloads now, which have so many already, whatever they do with them. What the kernel has yet to
    /// send from is the uploads', but beside their share: they would have none, and what is said goes behind what is sent.
    pub(super) fn for_downloads(&mut self, had: usize) -> usize {
        let share = self.arena.capacity() - self.arena.capacity() / UPLOAD_SHARE;
        // That counts a run once for each who is sent it, and what is in the page cache; each that others hold is in `shared`.
        let sent =
            usize::try_from(self.zero_copy.counts().in_flight).unwrap_or(usize::MAX).min(self.shared.len());
        self.available().min(share.saturating_sub(had.saturating_add(sent)))
    }

    /// Bytes by which the arena has to grow for the next slab.
    pub(super) fn growth(&mut self) -> usize {
        let gives_way = self.arena.ready() > 0 || self.room == 0 && self.may_evict();
        if gives_way { 0 } else { self.arena.growth() * SLAB_LEN }
    }

    /// Whether the next slab takes memory that was not in use yet, and would not if some of what is held were let go of: what the cache
    /// is to grow by it keeps.
    pub(super) fn gains_by_waiting(&mut self) -> bool {
        self.room == 0 && self.growth() > 0
    }

    /// Whether something is cached that nobody else holds.
    fn may_evict(&mut self) -> bool {
        self.see_idle();
        !self.idle.is_empty()
    }

    /// Whether the next slab can be had within half of the memory, be it that the cache has to give way: the other half is for
    /// files to be mapped.
    pub(super) fn stays_in_half(&mut self) -> bool {
        let rest = self.arena.untouched() - self.arena.growth();
        if rest >= self.arena.capacity() / 2 || self.growth() == 0 {
            return true;
        }
        self.room = 0;
        self.growth() == 0
    }

    /// Bytes of its share of memory that the arena has not grown into.
    pub(super) fn unused(&self) -> usize {
        self.arena.untouched() * SLAB_LEN
    }

    /// Whether the kernel has the arena pinned once for all.
    pub(super) fn is_registered(&self) -> bool {
        self.arena.is_registered()
    }

    /// What the slabs are used for.
    pub(super) fn states(&self) -> SlabStates {
        let (free, untouched) = (self.arena.ready(), self.arena.untouched());
        let cached = self.cached.values().filter(|cached| cached.slab.is_sole()).count();
        let sent = self.cached.len() - cached;
        let held = self.arena.capacity() - untouched - free - cached - sent;
        SlabStates { untouched, free, held, cached, sent }
    }

    /// The slab of a run, when all of `range` is in it, unless it has to give way to what is promised.
    pub(super) fn get(&mut self, key: RunKey, range: &Range<usize>) -> Option<Slab> {
        let may_share = self.promised.get() == 0 || self.is_available();
        let cached = self.cached.get_mut(&key)?;
        if cached.slab.is_sole() && !may_share {
            return None;
        }
        self.clock += 1;
        let before = std::mem::replace(&mut cached.used, self.clock);
        let whole = cached.valid.start <= range.start && range.end <= cached.valid.end;
        let slab = whole.then(|| cached.slab.clone());
        if self.idle.remove(&before).is_some() {
            self.note(key);
        }
        slab
    }

    /// Notes whether somebody else holds the slab of a cached run.
    fn note(&mut self, key: RunKey) {
        let Cached { slab, used, .. } = &self.cached[&key];
        if slab.is_sole() {
            self.idle.insert(*used, key);
        } else {
            self.shared.insert(slab.index(), key);
        }
    }

    /// The run, which is there, is sent to the peer with this number.
    pub(super) fn taken(&mut self, key: RunKey, peer: u32) {
        if let Some(cached) = self.cached.get_mut(&key) {
            cached.by_several |= *cached.taker.get_or_insert(peer) != peer;
            cached.ahead.take();
        }
    }

    /// One more run may be read ahead: what is must not push out what was, before it is asked for. The arena grows for it.
    pub(super) fn read_ahead(&mut self) -> Option<Ahead> {
        let (count, grown) = (self.ahead.get() + 1, self.arena.capacity() - self.arena.untouched());
        if count > MOST_AHEAD.min(self.arena.capacity() / AHEAD_SHARE) {
            return None;
        }
        if 2 * count > grown {
            self.room = self.room.max(self.arena.growth());
        }
        self.ahead.set(count);
        Some(Ahead(Rc::clone(&self.ahead)))
    }

    /// The run will be read: had it stayed, it need not be.
    pub(super) fn miss(&mut self, key: RunKey) {
        self.gone.ask(key);
    }

    /// Whether some of the run is there.
    pub(super) fn holds(&self, key: RunKey) -> bool {
        self.cached.contains_key(&key)
    }

    /// Drops the runs of a piece: they were written before it was known to be good, and it is not. From now on it may be
    /// any core's to fetch, and nobody must be served what came in the first try.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.idle.retain(|_, key| key.0 != piece);
        self.shared.retain(|_, key| key.0 != piece);
        self.cached.retain(|key, _| key.0 != piece);
    }

    /// Keeps a run whose `valid` bytes are verified and on disk, unless more of it is there.
    pub(super) fn keep(&mut self, key: RunKey, slab: Slab, valid: Range<usize>) {
        self.keep_read(key, slab, valid, None);
    }

    /// Likewise, of a run that may have been read ahead.
    pub(super) fn keep_read(&mut self, key: RunKey, slab: Slab, valid: Range<usize>, ahead: Option<Ahead>) {
        let holds = |there: &Cached| there.valid.start <= valid.start && valid.end <= there.valid.end;
        if self.cached.get(&key).is_some_and(holds) {
            return;
        }
        self.clock += 1;
        let fresh = Cached { slab, valid, used: self.clock, taker: None, by_several: false, ahead };
        if let Some(old) = self.cached.insert(key, fresh) {
            self.idle.remove(&old.used);
            self.shared.remove(&old.slab.index());
        }
        self.note(key);
    }
}

#[cfg(test)]
mod tests;
