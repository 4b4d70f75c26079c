//! What one core counts, and what of it goes to the control thread once a second when somebody looks.

use super::Progress;
use super::torrent::TorrentShard;
use crate::ring::{self, Histogram, RingCounters, ZeroCopyCounts};
use crate::storage::Counts;
use crate::swarm::{ExchangeCounts, PeerView};
use std::cell::{Cell, RefCell};
use std::time::Instant;

/// All that one core has to show. Sums are of this run and never fall.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The core's number, from 0.
    pub core: u32,
    /// What this core has moved, and where the torrent stands on all of them.
    pub progress: Progress,
    /// Pieces that came out wrong.
    pub failed_pieces: u64,
    /// Payload bytes that came from peers, in whole blocks.
    pub received: u64,
    /// Its peer exchange.
    pub exchange: ExchangeCounts,
    /// Its ring.
    pub ring: RingCounters,
    /// How the bytes of files went.
    pub disk: Counts,
    /// Its slabs.
    pub slabs: SlabStates,
    /// Its sends without a copy.
    pub zero_copy: ZeroCopyCounts,
    /// Whether the kernel has its payload memory pinned once for all.
    pub arena_registered: bool,
    /// Runs to be sent that were in memory, and that were not.
    pub cache_hits: u64,
    /// See `cache_hits`.
    pub cache_misses: u64,
    /// Time of each batch of runs hashed side by side, in nanoseconds.
    pub hash_times: Histogram,
    /// Bytes of each.
    pub hash_sizes: Histogram,
    /// Its connected peers.
    pub peers: Vec<PeerView>,
}

/// What slabs are used for; the sum is all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlabStates {
    /// They have never been in use; no memory is behind them.
    pub untouched: usize,
    /// Nobody holds them.
    pub free: usize,
    /// They are being received or read into, wait to be hashed, or are being written.
    pub held: usize,
    /// They are in the cache, and nothing else holds them.
    pub cached: usize,
    /// They are in the cache and being sent.
    pub sent: usize,
}

impl Snapshot {
    /// How the core stands now. To be called on its thread.
    pub(super) fn of(torrent: &TorrentShard) -> Self {
        let swarm = torrent.swarm.borrow();
        let memory = torrent.memory.borrow();
        let totals = swarm.totals();
        let gauges = &torrent.gauges;
        Self {
            core: torrent.core as u32,
            progress: torrent.progress(),
            failed_pieces: totals.failed_pieces,
            received: totals.received,
            exchange: totals.exchange,
            ring: ring::counters(),
            disk: torrent.access.counts(),
            slabs: memory.states(),
            zero_copy: memory.zero_copy.counts(),
            arena_registered: memory.is_registered(),
            cache_hits: gauges.cache_hits.get(),
            cache_misses: gauges.cache_misses.get(),
            hash_times: gauges.hashing.borrow().0,
            hash_sizes: gauges.hashing.borrow().1,
            peers: swarm.peers().collect(),
        }
    }
}

/// What a core counts besides its swarm and its ring.
pub(super) struct Gauges {
    cache_hits: Cell<u64>,
    cache_misses: Cell<u64>,
    /// Times and sizes of batches.
    hashing: RefCell<(Histogram, Histogram)>,
}

impl Default for Gauges {
    fn default() -> Self {
        let hashing = RefCell::new((Histogram::of_times(), Histogram::of_sizes()));
        Self { cache_hits: Cell::default(), cache_misses: Cell::default(), hashing }
    }
}

impl Gauges {
    /// A run to be sent was in memory, or not.
    pub(super) fn count_lookup(&self, hit: bool) {
        let counter = if hit { &self.cache_hits } else { &self.cache_misses };
        counter.set(counter.get() + 1);
    }

    /// A batch of so many bytes has been hashed since then.
    pub(super) fn count_hashing(&self, since: Instant, bytes: u64) {
        let (times, sizes) = &mut *self.hashing.borrow_mut();
        times.observe_time(since.elapsed());
        sizes.observe(bytes);
    }
}
