//! What of which runs a peer's next blocks need, and the loading of it: several runs at a time. What the page cache holds is
//! not loaded, but sent from there.

use super::Report;
use super::memory::{Ahead, Memory, RunKey};
use super::snapshot::Lookup;
use super::torrent::TorrentShard;
use crate::metainfo::{BLOCK_LEN, Block, Layout, PieceIndex};
use crate::ring::{self, Cached, FillingSlab, Gather, Slab};
use crate::storage::{Interest, StorageError};
use crate::swarm::{Loss, PeerSlot, RUN_LEN};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Most runs that are loaded for one send: each takes a slab, however little of it is wanted.
const MOST_STRETCHES: usize = 16;

/// Runs of a piece that are read together, when they are asked for in order: the disk is asked once for all of them, for they are
/// handed over at the same time.
const RUNS_TOGETHER: usize = 4;

/// With so many peers to serve, or fewer, what is read ahead for them and goes out in long sends stays in the processor's cache until
/// it is sent.
pub(super) const FEW_TAKERS: usize = 32;

/// And for those who take these runs within a second (bytes a second).
const LEAST_AHEAD_RATE: u64 = (RUNS_TOGETHER as u32 * RUN_LEN) as u64;

/// How long is waited for memory at first, and at a time: many who wait for a slow disk shall not keep the core busy.
const WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(40);
/// After so long a seed takes memory that it leaves to mapped files: somebody may hold the rest for long.
const GROW_AFTER: Duration = Duration::from_millis(200);

/// Where a seed looks whether its disk gives back anything else, when it has not given back a piece; and how many such reads may fail
/// although others are answered by the page cache.
const PROBES: usize = 8;
const MOST_FAILED: usize = 3;

/// Bytes of one run, from one block or from several that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    key: RunKey,
    range: Range<usize>,
    /// Whether more of the run will be asked for.
    ahead: bool,
    /// How many blocks there are from its first one on.
    blocks: usize,
}

impl Stretch {
    /// Whether it covers these bytes of that run.
    fn holds(&self, key: RunKey, range: &Range<usize>) -> bool {
        self.key == key && covers(&self.range, range)
    }
}

/// Where the bytes of a stretch are.
#[derive(Clone)]
pub(super) enum Payload {
    /// In a slab, at their places in the run.
    Slab(Slab),
    /// In the page cache, from this place in the run on.
    Cached(usize, Rc<[Cached]>),
}

impl Payload {
    /// Adds some bytes of the run.
    pub(super) fn push_to(&self, gather: &mut Gather, range: Range<usize>) {
        match self {
            Self::Slab(slab) => gather.push_payload(slab.clone(), range),
            Self::Cached(start, all) => {
                let mut at = *start;
                for cached in &**all {
                    let end = at + cached.len();
                    let part = range.start.max(at)..range.end.min(end);
                    if !part.is_empty() {
                        gather.push_cached(cached.part(part.start - at..part.end - at));
                    }
                    at = end;
                }
            }
        }
    }
}

/// Stretches and what was loaded of the first of them, found again in the order of the blocks that need them.
pub(super) struct Loaded<'a, T> {
    stretches: &'a [Stretch],
    payloads: &'a [T],
}

impl<'a, T> Loaded<'a, T> {
    pub(super) fn new(stretches: &'a [Stretch], payloads: &'a [T]) -> Self {
        Self { stretches, payloads }
    }

    /// Where these bytes of the run are. `None` when they were not loaded: then nothing further was.
    pub(super) fn find(&mut self, key: RunKey, range: &Range<usize>) -> Option<&'a T> {
        let passed =
            self.stretches.iter().zip(self.payloads).position(|(stretch, _)| stretch.holds(key, range));
        let passed = passed.unwrap_or(self.payloads.len());
        self.stretches = &self.stretches[passed..];
        self.payloads = &self.payloads[passed..];
        self.payloads.first()
    }
}

/// The parts of a block: one as other clients may cut it can lie across two runs.
pub(super) fn parts(block: Block) -> impl Iterator<Item = (RunKey, Range<usize>)> {
    let mut begin = block.begin;
    std::iter::from_fn(move || {
        let end = block.end().min((begin / RUN_LEN + 1) * RUN_LEN);
        let part = (begin < end).then(|| Block { begin, len: end - begin, ..block })?;
        begin = end;
        Some(TorrentShard::home(&part))
    })
}

/// Whether the block begins where the other one ends, be it in the next piece.
fn follows(layout: &Layout, last: &Block, block: &Block) -> bool {
    let place = |block: &Block, at: u32| layout.piece_start(block.piece) + u64::from(at);
    place(last, last.end()) == place(block, block.begin)
}

/// What the first of `blocks` need, and how many blocks are left out. Whoever asks on from where the block `last` ended will ask
/// further, and so will he who asks for two blocks of a run.
pub(super) fn stretches(
    layout: &Layout,
    blocks: impl ExactSizeIterator<Item = Block>,
    mut last: Option<Block>,
    out: &mut Vec<Stretch>,
) -> usize {
    out.clear();
    let count = blocks.len();
    for (at, block) in blocks.enumerate() {
        let follows = last.is_some_and(|last| follows(layout, &last, &block));
        for (part, (key, range)) in parts(block).enumerate() {
            // Asked for twice.
            if out.last().is_some_and(|stretch| stretch.holds(key, &range)) {
                continue;
            }
            if let Some(stretch) = out.last_mut().filter(|stretch| follows && stretch.key == key) {
                stretch.range.end = range.end;
                stretch.ahead = true;
            } else if out.len() == MOST_STRETCHES {
                return count - at - part;
            } else {
                // Of a block in two runs the second part goes with those that come after.
                out.push(Stretch { key, range, ahead: follows, blocks: count - at - part });
            }
        }
        last = Some(block);
    }
    0
}

/// A run on its way from the disk, for whoever wants it: so it is read once.
pub(super) struct Coming {
    range: Range<usize>,
    slab: watch::Receiver<Option<Slab>>,
    /// Nobody has asked for it yet.
    ahead: Option<Ahead>,
}

/// The runs that are being read.
pub(super) type Reads = HashMap<RunKey, Coming>;

/// A stretch's run as it is found.
enum Found {
    /// All that is wanted is there.
    Here(Payload),
    /// It will be.
    Coming(watch::Receiver<Option<Slab>>),
}

/// Whom stretches are loaded for.
pub(super) struct Asker {
    slot: PeerSlot,
    /// Whether they may lie in the page cache: not if we have to change them, nor when the kernel could not get at them
    /// there. Reading tells why.
    map: bool,
    /// How many of the last blocks were not found before. What is left of a send that was short is looked up again, and is no
    /// hit.
    new: usize,
    /// Since when there has been no memory for them.
    waits: Option<Instant>,
}

impl Asker {
    pub(super) fn new(slot: PeerSlot, map: bool) -> Self {
        Self { slot, map, new: 0, waits: None }
    }

    /// It has other blocks to load.
    pub(super) fn begin(&mut self) {
        self.new = usize::MAX;
    }

    /// It does something else than to wait for memory.
    pub(super) fn rest(&mut self) {
        self.waits = None;
    }

    /// The kernel could not get at the page cache. `false` when it had no need to.
    pub(super) fn stop_mapping(&mut self) -> bool {
        std::mem::replace(&mut self.map, false)
    }
}

/// The disk has failed; the swarm and the control thread have been told.
#[derive(Debug, thiserror::Error)]
#[error("what the peer asked for cannot be read")]
pub(super) struct ReadFailed;

/// Loads stretches, all at the same time: the first one in any case, the others as long as there is memory. There are so many blocks
/// `behind` them.
///
/// # Errors
/// When one cannot be read.
pub(super) async fn load(
    torrent: &Rc<TorrentShard>,
    (stretches, behind): (&[Stretch], usize),
    asker: &mut Asker,
    payloads: &mut Vec<Payload>,
) -> Result<(), ReadFailed> {
    payloads.clear();
    let [first, others @ ..] = stretches else { return Ok(()) };
    let mut wait = WAIT;
    let found = loop {
        let waited = asker.waits.map_or(Duration::ZERO, |since| since.elapsed());
        if let Some(found) = torrent.find(first, asker, waited) {
            break found;
        }
        // Everything is being filled or sent: some will be free soon.
        asker.waits.get_or_insert_with(Instant::now);
        tokio::select! {
            () = torrent.sent.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    };
    asker.waits = None;
    // Whoever holds slabs must not wait for more: the others may do the same.
    let further = others.iter().map_while(|stretch| torrent.find(stretch, asker, Duration::ZERO));
    let found: Vec<(Found, Lookup)> = std::iter::once(found).chain(further).collect();
    let new = stretches.iter().zip(&found).filter(|(stretch, _)| stretch.blocks <= asker.new);
    new.for_each(|(_, (_, end))| torrent.gauges.count_lookup(*end));
    asker.new = asker.new.min(stretches.get(found.len()).map_or(behind, |next| next.blocks));
    for found in of_one_kind(found) {
        payloads.push(match found {
            Found::Here(payload) => payload,
            Found::Coming(mut slab) => {
                let slab = slab.wait_for(Option::is_some).await.map_err(|_| ReadFailed)?;
                Payload::Slab(slab.clone().expect("waited for"))
            }
        });
    }
    Ok(())
}

/// What can be sent together. What the page cache holds does not wait for what is read: it keeps files open, for which the
/// read may wait in turn, and may leave the cache meanwhile. So the others are let go before anything is waited for.
fn of_one_kind(found: Vec<(Found, Lookup)>) -> Vec<Found> {
    let (mut cached, mut coming) = (false, false);
    let is_of_it = |found: &Found| {
        cached |= matches!(found, Found::Here(Payload::Cached(..)));
        coming |= matches!(found, Found::Coming(_));
        !cached || !coming
    };
    found.into_iter().map(|(found, _)| found).take_while(is_of_it).collect()
}

impl TorrentShard {
    /// The run in a cache, or on its way there. `None` when there is no memory now. Half of it
    /// a seed leaves to what the page cache holds, unless it has `waited` long.
    fn find(self: &Rc<Self>, stretch: &Stretch, asker: &Asker, waited: Duration) -> Option<(Found, Lookup)> {
        let key = stretch.key;
        let mut memory = self.memory.borrow_mut();
        let here = memory.get(key, &stretch.range).map(|slab| Found::Here(Payload::Slab(slab)));
        let found = here.or_else(|| {
            let mut reads = self.reads.borrow_mut();
            let coming = reads.get_mut(&key).filter(|coming| covers(&coming.range, &stretch.range))?;
            coming.ahead.take();
            Some(Found::Coming(coming.slab.clone()))
        });
        if let Some(found) = found {
            memory.taken(key, asker.slot.index());
            return Some((found, Lookup::Memory));
        }
        if asker.map
            && let Some(cached) = self.cached(stretch, memory.unused(), stretch.blocks > asker.new)
        {
            return Some((Found::Here(cached), Lookup::PageCache));
        }
        let slab = self.take_slab(&mut memory, key, waited)?;
        memory.miss(key);
        // Of a run that is wanted once more, or will be, all is read: not for those who ask for a few bytes here and there.
        let in_parts = memory.holds(key) || self.reads.borrow().contains_key(&key);
        let whole = (stretch.ahead || in_parts) && stretch.range.len() >= BLOCK_LEN as usize;
        let range = if whole { 0..self.run_len(key) as usize } else { stretch.range.clone() };
        let coming = self.read_run(key, range, slab, None);
        // Whoever goes on in order has come to the run's beginning that way.
        if whole && stretch.ahead && stretch.range.start == 0 && self.will_take_soon(asker.slot) {
            self.read_ahead(&mut memory, key, asker.map);
        }
        Some((Found::Coming(coming), Lookup::Read))
    }

    /// Whether what is read ahead for the peer is likely to be sent before it makes way for something else.
    fn will_take_soon(&self, slot: PeerSlot) -> bool {
        let swarm = self.swarm.borrow();
        // That of one who has just come is not known yet.
        let is_slow = (1..LEAST_AHEAD_RATE).contains(&swarm.upload_rate(slot));
        swarm.takers() <= FEW_TAKERS && !is_slow
    }

    /// Memory for a run that is to be read. `None` when there is none now.
    fn take_slab(&self, memory: &mut Memory, key: RunKey, waited: Duration) -> Option<FillingSlab> {
        if waited < GROW_AFTER && self.swarm.borrow().is_seeding() && !memory.stays_in_half() {
            return None;
        }
        // The two together stay within the limit: what is mapped makes way, and as long as it is being sent we wait.
        let room = memory.unused().saturating_sub(memory.growth());
        if !self.access.map_within(room) {
            return None;
        }
        memory.take(self.skew(key))
    }

    /// Memory for what is read for ourselves: what is mapped makes way afterwards.
    pub(super) fn take_anyhow(&self, skew: usize) -> Option<FillingSlab> {
        let mut memory = self.memory.borrow_mut();
        let slab = memory.take(skew);
        self.access.map_within(memory.unused());
        slab
    }

    /// Reads the runs of the piece that come next, as far as they are not there, nor to be sent from the page cache, and there is
    /// memory.
    fn read_ahead(self: &Rc<Self>, memory: &mut Memory, (piece, run): RunKey, map: bool) {
        let runs = self.crew.store.layout().piece_len(piece).div_ceil(RUN_LEN) as usize;
        for next in run + 1..runs.min(run - run % RUNS_TOGETHER + RUNS_TOGETHER) {
            let key = (piece, next);
            let (begin, len) = (next as u32 * RUN_LEN, self.run_len(key));
            let is_there = memory.holds(key) || self.reads.borrow().contains_key(&key);
            if is_there || map && self.access.is_cached(piece, begin, len) {
                return;
            }
            let Some(ahead) = memory.read_ahead() else { return };
            let Some(slab) = self.take_slab(memory, key, Duration::ZERO) else { return };
            memory.miss(key);
            self.read_run(key, 0..len as usize, slab, Some(ahead));
        }
    }

    /// The stretch in the page cache, when that holds all of it. Who asks for it may have done that before (`again`).
    fn cached(&self, stretch: &Stretch, room: usize, again: bool) -> Option<Payload> {
        let Stretch { key, range, ahead, .. } = stretch;
        let begin = key.1 as u32 * RUN_LEN + range.start as u32;
        let interest = Interest { room, ahead: *ahead, again };
        let cached = self.access.cached(key.0, begin, range.len() as u32, interest)?;
        Some(Payload::Cached(range.start, cached.into()))
    }

    /// Reads part of a run, and keeps it. The task is nobody's: a peer that goes takes nothing from those who wait for the
    /// same run.
    fn read_run(
        self: &Rc<Self>,
        key: RunKey,
        range: Range<usize>,
        slab: FillingSlab,
        ahead: Option<Ahead>,
    ) -> watch::Receiver<Option<Slab>> {
        let (done, coming) = watch::channel(None);
        self.reads.borrow_mut().insert(key, Coming { range: range.clone(), slab: coming.clone(), ahead });
        let (this, mine) = (Rc::clone(self), coming.clone());
        ring::spawn(async move {
            let start = key.1 as u32 * RUN_LEN + range.start as u32;
            let read = this.access.read(key.0, start, range.len() as u32, range.start, slab).await;
            let is_mine = this.reads.borrow().get(&key).is_some_and(|other| other.slab.same_channel(&mine));
            let mine = if is_mine { this.reads.borrow_mut().remove(&key) } else { None };
            match read {
                Ok(slab) => {
                    let ahead = mine.and_then(|coming| coming.ahead);
                    this.memory.borrow_mut().keep_read(key, slab.clone(), range, ahead);
                    let _ = done.send(Some(slab));
                }
                Err(error) => {
                    let loss =
                        if error.is_damage() { this.swarm.borrow_mut().lose(key.0) } else { Loss::Grave };
                    // Whoever waits for it asks the swarm then.
                    drop(done);
                    this.bear(loss, key.0, &error).await;
                }
            }
        });
        coming
    }
}

/// What it means for the torrent that the disk does not give back what a peer has asked for.
impl TorrentShard {
    /// A seed goes on without a few pieces, as long as the disk gives back something else; else the torrent ends with the cause.
    async fn bear(self: &Rc<Self>, loss: Loss, piece: PieceIndex, error: &StorageError) {
        self.pump();
        match loss {
            Loss::Known => {}
            Loss::New if self.reads_others().await => {
                self.report(Report::PieceLost(piece.get(), error.to_string()));
            }
            Loss::New | Loss::Grave => self.report(Report::Failed(error.to_string())),
        }
    }

    /// Whether the disk gives back something of other pieces: here and there it is asked. What the page cache has says little.
    async fn reads_others(&self) -> bool {
        let layout = self.crew.store.layout();
        let others: Vec<PieceIndex> = {
            let swarm = self.swarm.borrow();
            layout.pieces().filter(|piece| swarm.gives(*piece)).collect()
        };
        let (mut cached, mut failed) = (0, 0);
        let probes = PROBES.min(others.len());
        for probe in 0..probes {
            let piece = others[probe * others.len() / probes];
            let len = layout.piece_len(piece).min(BLOCK_LEN);
            let is_cached = self.access.is_cached(piece, 0, len);
            // Whoever fills all memory is being given something.
            let Some(slab) = self.take_anyhow(0) else { return true };
            match self.access.read(piece, 0, len, 0, slab).await {
                Ok(_) if !is_cached => return true,
                Ok(_) => cached += 1,
                Err(_) => failed += 1,
            }
        }
        cached > 0 && failed < MOST_FAILED
    }
}

fn covers(all: &Range<usize>, part: &Range<usize>) -> bool {
    all.start <= part.start && part.end <= all.end
}

#[cfg(test)]
mod tests;
