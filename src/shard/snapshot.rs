//! What one core counts, and what of it goes to the control thread once a second when somebody looks.

use super::Progress;
use super::failures::{Failure, HandshakeFailures};
use super::memory::Memory;
use super::torrent::TorrentShard;
use crate::ring::{self, Batches, RingCounters, ZeroCopyCounts};
use crate::storage::{Access, Counts};
use crate::swarm::{ExchangeCounts, PeerView, RequestCounts, Uploading};
use std::cell::Cell;
use std::time::Instant;

/// All that one core has to show. Sums are of this run and never fall.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The core's number, from 0.
    pub core: u32,
    /// Whether it still checks what is on disk. There are no peers then, and nothing is known of the pieces.
    pub checking: bool,
    /// What this core has moved, and where the torrent stands on all of them.
    pub progress: Progress,
    /// Pieces that came out wrong.
    pub failed_pieces: u64,
    /// Pieces that were there and cannot be read any more.
    pub lost_pieces: u64,
    /// Payload bytes that came from peers, in whole blocks.
    pub received: u64,
    /// Its peer exchange.
    pub exchange: ExchangeCounts,
    /// What became of its peers' requests.
    pub requests: RequestCounts,
    /// What its peers are being served.
    pub uploading: Uploading,
    /// Whether nothing is left to fetch.
    pub seeding: bool,
    /// Handshakes that came to nothing.
    pub failures: HandshakeFailures,
    /// What its connections have moved beside payload.
    pub overhead: Overhead,
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
    /// Bytes of files that are mapped, to be sent from the page cache, by all cores.
    pub mapped: usize,
    /// Stretches to be sent that were in memory, that are sent from the page cache, and that had to be read.
    pub cache_hits: u64,
    /// See `cache_hits`.
    pub page_cache_hits: u64,
    /// See `cache_hits`.
    pub cache_misses: u64,
    /// Receives that waited for memory that was being written, before more was made resident.
    pub memory_waits: u64,
    /// Batches of runs hashed side by side, to check what was on disk.
    pub checked: Batches,
    /// The same of what came from peers.
    pub hashed: Batches,
    /// Its connected peers.
    pub peers: Vec<PeerView>,
}

/// Bytes on connections that are not payload: handshakes, messages, the heads of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overhead {
    /// To peers.
    pub sent: u64,
    /// From peers.
    pub received: u64,
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
        let ring = ring::counters();
        let overhead = gauges.overhead.get();
        let overhead = Overhead {
            sent: overhead.sent + ring.handshakes_sent,
            received: overhead.received + ring.handshakes_received,
        };
        Self {
            checking: false,
            progress: torrent.progress(),
            failed_pieces: totals.failed_pieces,
            lost_pieces: totals.lost_pieces,
            received: totals.received,
            exchange: totals.exchange,
            requests: totals.requests,
            uploading: swarm.uploading(),
            seeding: swarm.is_seeding(),
            failures: gauges.failures.get(),
            overhead,
            cache_hits: gauges.lookups(Lookup::Memory),
            page_cache_hits: gauges.lookups(Lookup::PageCache),
            cache_misses: gauges.lookups(Lookup::Read),
            memory_waits: gauges.memory_waits.get(),
            hashed: gauges.hashed.get(),
            peers: swarm.peers().collect(),
            ..Self::of_check(torrent.core, &torrent.access, &memory)
        }
    }

    /// How a core stands that checks what is on disk. To be called on its thread.
    pub(super) fn of_check(core: usize, access: &Access, memory: &Memory) -> Self {
        Self {
            core: core as u32,
            checking: true,
            ring: ring::counters(),
            disk: access.counts(),
            slabs: memory.states(),
            zero_copy: memory.zero_copy.counts(),
            arena_registered: memory.is_registered(),
            mapped: access.mapped(),
            checked: access.checked(),
            ..Self::default()
        }
    }
}

/// Where a stretch to be sent (blocks of a run that follow each other) was found.
#[derive(Clone, Copy)]
pub(super) enum Lookup {
    /// In a slab, or on its way into one.
    Memory,
    /// In the page cache, to be sent from there.
    PageCache,
    /// Nowhere: it is read.
    Read,
}

/// What a core counts besides its swarm and its ring.
#[derive(Default)]
pub(super) struct Gauges {
    /// By [`Lookup`].
    lookups: [Cell<u64>; 3],
    hashed: Cell<Batches>,
    failures: Cell<HandshakeFailures>,
    /// But for handshakes: the ring counts those.
    overhead: Cell<Overhead>,
    memory_waits: Cell<u64>,
}

impl Gauges {
    /// A receive waits for memory.
    pub(super) fn count_memory_wait(&self) {
        self.memory_waits.set(self.memory_waits.get() + 1);
    }

    /// A handshake has come to nothing.
    pub(super) fn count_failure(&self, failure: Failure) {
        let mut failures = self.failures.get();
        failures.count(failure);
        self.failures.set(failures);
    }

    /// So many bytes that are not payload have been sent, and received.
    pub(super) fn count_overhead(&self, sent: u64, received: u64) {
        let Overhead { sent: before, received: got } = self.overhead.get();
        self.overhead.set(Overhead { sent: before + sent, received: got + received });
    }

    /// A stretch to be sent was looked up, for the first time.
    pub(super) fn count_lookup(&self, end: Lookup) {
        let counter = &self.lookups[end as usize];
        counter.set(counter.get() + 1);
    }

    fn lookups(&self, end: Lookup) -> u64 {
        self.lookups[end as usize].get()
    }

    /// A batch of so many bytes has been hashed since then.
    pub(super) fn count_hashing(&self, since: Instant, bytes: u64) {
        let mut hashed = self.hashed.get();
        hashed.observe(since.elapsed(), bytes);
        self.hashed.set(hashed);
    }
}
