//! One torrent on one core: the swarm's wishes become operations, their answers go back to the swarm.

use super::connection::Shaking;
use super::memory::{Memory, RunKey};
use super::snapshot::Gauges;
use super::{Assignment, Progress, Report, bytes_left, dial};
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::{Block, FileIndex, FileKind, PieceIndex, Torrent};
use crate::ring::{self, FillingSlab, SLAB_LEN, Scatter, Slab, Socket};
use crate::storage::{StorageError, Store};
use crate::swarm::{DropReason, LimitHits, PeerSlot, PieceMap, RUN_LEN, Speech, Swarm, Wish};
use crate::wire::{Handshake, Reserved};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

const _: () = assert!(RUN_LEN as usize == SLAB_LEN, "a run fills a slab");

/// Wishes served in one go.
const WISHES: usize = 256;
/// One slab in so many is left to uploads when the others are taken by downloads.
const UPLOAD_SHARE: usize = 8;
/// Files that are synced and renamed at the same time: each takes two descriptors.
const FINISHERS: usize = 16;
/// Runs that are hashed side by side.
const HASH_BATCH: usize = 16;
/// Runs that one speech may open: what a full window of requests needs.
const RUNS_IN_SPEECH: usize = 16;

/// A run that is being fetched.
enum Fetched {
    Filling(FillingSlab),
    Full(Slab),
}

/// How to reach a connected peer's tasks.
pub(super) struct Line {
    pub(super) socket: Socket,
    /// There is something to say.
    pub(super) bell: Rc<Notify>,
    pub(super) addr: SocketAddr,
}

/// See the module.
pub(super) struct TorrentShard {
    pub(super) torrent: Arc<Torrent>,
    pub(super) handshake: Handshake,
    map: Arc<PieceMap>,
    pub(super) swarm: RefCell<Swarm>,
    pub(super) memory: RefCell<Memory>,
    store: Rc<Store>,
    fetched: RefCell<HashMap<RunKey, Fetched>>,
    hashes: RefCell<HashMap<PieceIndex, Sha1State>>,
    /// Pieces of each file that are still missing.
    file_left: RefCell<Vec<u32>>,
    /// Files that wait for their own name, and tasks that give it.
    finished: RefCell<VecDeque<FileIndex>>,
    finishers: Cell<usize>,
    lines: RefCell<HashMap<PeerSlot, Line>>,
    /// Receive buffers not in use.
    scatters: RefCell<Vec<Scatter>>,
    reports: mpsc::Sender<Report>,
    complete: Cell<bool>,
    epoch: Instant,
    /// Writes and renames under way.
    busy: Cell<usize>,
    stopping: Cell<bool>,
    /// Accepted connections whose handshake is not done.
    pub(super) shaking: RefCell<Shaking>,
    /// Reports dropped because the mailbox was full.
    unheard: Cell<u64>,
    /// Payload bytes moved in memory because they came elsewhere than was guessed.
    pub(super) moved: Cell<u64>,
    pub(super) gauges: Gauges,
}

impl TorrentShard {
    pub(super) fn new(
        job: &Assignment,
        map: Arc<PieceMap>,
        swarm: Swarm,
        store: Rc<Store>,
        memory: Memory,
        file_left: Vec<u32>,
        reports: mpsc::Sender<Report>,
    ) -> Rc<Self> {
        let (torrent, info_hash) = (Arc::clone(&job.torrent), job.torrent.info_hash);
        let handshake = Handshake { reserved: Reserved::default(), info_hash, peer_id: job.id };
        Rc::new(Self {
            torrent,
            handshake,
            map,
            swarm: RefCell::new(swarm),
            memory: RefCell::new(memory),
            store,
            fetched: RefCell::default(),
            hashes: RefCell::default(),
            file_left: RefCell::new(file_left),
            finished: RefCell::default(),
            finishers: Cell::new(0),
            lines: RefCell::default(),
            scatters: RefCell::default(),
            reports,
            complete: Cell::new(false),
            epoch: Instant::now(),
            busy: Cell::new(0),
            stopping: Cell::new(false),
            shaking: RefCell::default(),
            unheard: Cell::new(0),
            moved: Cell::new(0),
            gauges: Gauges::default(),
        })
    }

    /// Time on the swarm's clock.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Tells the control thread; what nobody waits for is dropped while its mailbox is full.
    pub(super) fn report(&self, report: Report) {
        let Err(mpsc::error::TrySendError::Full(report)) = self.reports.try_send(report) else { return };
        if report.is_awaited() {
            let reports = self.reports.clone();
            ring::spawn(async move { reports.send(report).await });
        } else {
            self.unheard.set(self.unheard.get() + 1);
        }
    }

    /// Where the torrent stands.
    pub(super) fn progress(&self) -> Progress {
        let swarm = self.swarm.borrow();
        let totals = swarm.totals();
        let rates = swarm.peers().fold((0, 0), |sum, peer| (sum.0 + peer.rates.0, sum.1 + peer.rates.1));
        Progress {
            left: bytes_left(&self.torrent, &self.map),
            downloaded: totals.downloaded,
            uploaded: totals.uploaded,
            wasted: totals.wasted,
            moved: self.moved.get(),
            peers: swarm.peers().count() as u32,
            download_rate: rates.0,
            upload_rate: rates.1,
            pieces: self.torrent.layout.piece_count(),
            good_pieces: self.map.have_count(),
            limits: LimitHits {
                handshakes: self.shaking.borrow().crowded_out,
                reports: self.unheard.get(),
                ..totals.limits
            },
        }
    }

    /// Tells, once, when everything is verified, written and has its own name.
    pub(super) fn check_complete(&self) {
        if self.busy.get() == 0 && self.map.is_complete() && !self.complete.replace(true) {
            self.report(Report::Complete(self.progress()));
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(super) fn take_scatter(&self) -> Scatter {
        self.scatters.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_scatter(&self, scatter: Scatter) {
        self.scatters.borrow_mut().push(scatter);
    }

    // ---- peers ----

    pub(super) fn add_line(&self, slot: PeerSlot, line: Line) {
        self.lines.borrow_mut().insert(slot, line);
    }

    pub(super) fn remove_line(&self, slot: PeerSlot) {
        self.lines.borrow_mut().remove(&slot);
    }

    /// Closes a connection, for a reason worth telling.
    pub(super) fn hang_up(&self, slot: PeerSlot, reason: &dyn std::fmt::Display) {
        if let Some(line) = self.lines.borrow().get(&slot) {
            line.socket.shutdown();
            self.report(Report::PeerDropped { addr: line.addr, reason: reason.to_string() });
        }
    }

    /// What the peer should hear now, with memory for what it is asked for.
    pub(super) fn speak(&self, slot: PeerSlot, bytes: &mut Vec<u8>) {
        let mut memory = self.memory.borrow_mut();
        let mut fetched = self.fetched.borrow_mut();
        let share = memory.capacity() - memory.capacity() / UPLOAD_SHARE;
        let slabs = memory.available(share.saturating_sub(fetched.len()).min(RUNS_IN_SPEECH));
        let mut speech = Speech { bytes, slabs, opened: Vec::new() };
        self.swarm.borrow_mut().speak(self.now(), slot, &mut speech);
        for key in speech.opened {
            let slab = memory.take().expect("no more runs are opened than slabs are available");
            fetched.insert(key, Fetched::Filling(slab));
        }
    }

    /// The run a block belongs to, and its bytes there.
    pub(super) fn home(block: &Block) -> (RunKey, Range<usize>) {
        let begin = (block.begin % RUN_LEN) as usize;
        ((block.piece, (block.begin / RUN_LEN) as usize), begin..begin + block.len as usize)
    }

    /// Works with the slab that a block is to be written into. `None` when its run is not being filled.
    pub(super) fn with_home<T>(
        &self,
        block: &Block,
        work: impl FnOnce(&mut FillingSlab, Range<usize>) -> T,
    ) -> Option<T> {
        let (key, range) = Self::home(block);
        match self.fetched.borrow_mut().get_mut(&key) {
            Some(Fetched::Filling(slab)) => Some(work(slab, range)),
            _ => None,
        }
    }

    // ---- wishes ----

    /// Serves the swarm's wishes until it has none.
    pub(super) fn pump(self: &Rc<Self>) {
        let mut wishes = Vec::with_capacity(WISHES);
        loop {
            self.swarm.borrow_mut().fill(&mut wishes, WISHES);
            if wishes.is_empty() {
                return;
            }
            let mut to_hash = Vec::new();
            for wish in wishes.drain(..) {
                match wish {
                    Wish::Hash(piece, run) => to_hash.push((piece, run)),
                    other => self.serve(other),
                }
            }
            to_hash.chunks(HASH_BATCH).for_each(|runs| self.hash(runs));
        }
    }

    fn serve(self: &Rc<Self>, wish: Wish) {
        match wish {
            Wish::Hash(..) => unreachable!("hashed in a batch"),
            Wish::Wake(slot) => {
                if let Some(line) = self.lines.borrow().get(&slot) {
                    line.bell.notify_one();
                }
            }
            Wish::Write(piece, run) => self.work(Self::write(Rc::clone(self), piece, run)),
            Wish::Done { piece, good } => self.settle(piece, good),
            Wish::Drop(slot, reason) => self.drop_peer(slot, &reason),
            Wish::Dial(addr) => dial(self, addr),
        }
    }

    fn drop_peer(&self, slot: PeerSlot, reason: &DropReason) {
        match reason {
            // Nobody's fault: not worth telling.
            DropReason::BothSeeds | DropReason::Duplicate | DropReason::Ourselves => {
                if let Some(line) = self.lines.borrow().get(&slot) {
                    line.socket.shutdown();
                }
            }
            reason => self.hang_up(slot, reason),
        }
    }

    /// Starts disk work; when it fails, the torrent stops with the cause.
    fn work(self: &Rc<Self>, work: impl Future<Output = Result<(), StorageError>> + 'static) {
        let this = Rc::clone(self);
        this.busy.set(this.busy.get() + 1);
        ring::spawn(async move {
            if let Err(error) = work.await {
                // Not complete any more, whatever else goes well.
                this.complete.set(true);
                this.report(Report::Failed(error.to_string()));
            }
            this.pump();
            this.busy.set(this.busy.get() - 1);
            this.check_complete();
        });
    }

    fn hash(&self, runs: &[RunKey]) {
        let mut fetched = self.fetched.borrow_mut();
        let mut hashes = self.hashes.borrow_mut();
        let mut batch: Vec<(RunKey, Slab, Sha1State)> = Vec::with_capacity(runs.len());
        for key in runs.iter().copied() {
            let Some(Fetched::Filling(slab)) = fetched.remove(&key) else {
                unreachable!("{key:?} is not full")
            };
            let slab = slab.seal().unwrap_or_else(|_| unreachable!("{key:?} is still being received into"));
            fetched.insert(key, Fetched::Full(slab.clone()));
            batch.push((key, slab, hashes.remove(&key.0).unwrap_or_default()));
        }
        let mut jobs: Vec<Job<'_>> = batch
            .iter_mut()
            .map(|(key, slab, state)| Job { state, run: slab.bytes(0..self.run_len(*key) as usize) })
            .collect();
        let bytes = jobs.iter().map(|job| job.run.len() as u64).sum();
        let begun = Instant::now();
        advance(&mut jobs);
        self.gauges.count_hashing(begun, bytes);
        for ((piece, run), _, state) in batch {
            let last = self.run_end((piece, run)) == self.torrent.layout.piece_len(piece);
            let verdict = if last {
                Some(state.finish() == self.torrent.piece_hash(piece))
            } else {
                hashes.insert(piece, state);
                None
            };
            if verdict == Some(false) {
                self.report(Report::PieceFailed(piece.get()));
            }
            self.swarm.borrow_mut().hashed(piece, run, verdict);
        }
    }

    fn run_end(&self, (piece, run): RunKey) -> u32 {
        (run as u32 + 1).saturating_mul(RUN_LEN).min(self.torrent.layout.piece_len(piece))
    }

    fn run_len(&self, key: RunKey) -> u32 {
        self.run_end(key) - key.1 as u32 * RUN_LEN
    }

    async fn write(self: Rc<Self>, piece: PieceIndex, run: usize) -> Result<(), StorageError> {
        let key = (piece, run);
        let Some(Fetched::Full(slab)) = self.fetched.borrow_mut().remove(&key) else {
            unreachable!("{key:?} is not hashed")
        };
        let len = self.run_len(key);
        self.store.write(piece, run as u32 * RUN_LEN, len, &slab).await?;
        // Should the piece turn out bad, its next try replaces what is kept here before anyone may read it.
        self.memory.borrow_mut().keep(key, slab, 0..len as usize);
        self.swarm.borrow_mut().written(piece, run);
        Ok(())
    }

    /// A piece is had; or it will be begun anew.
    fn settle(self: &Rc<Self>, piece: PieceIndex, good: bool) {
        if !good {
            self.fetched.borrow_mut().retain(|key, _| key.0 != piece);
            self.hashes.borrow_mut().remove(&piece);
            return;
        }
        let layout = &self.torrent.layout;
        let mut finished = self.finished.borrow_mut();
        for span in layout.spans(piece, 0, layout.piece_len(piece)) {
            let left = &mut self.file_left.borrow_mut()[span.file.as_usize()];
            *left -= 1;
            if *left == 0 && self.torrent.files[span.file.as_usize()].kind == FileKind::Regular {
                finished.push_back(span.file);
            }
        }
        // A piece may end thousands of files; so many open at once would be too many.
        while self.finishers.get() < finished.len().min(FINISHERS) {
            self.finishers.set(self.finishers.get() + 1);
            self.work(Self::finish(Rc::clone(self)));
        }
    }

    async fn finish(self: Rc<Self>) -> Result<(), StorageError> {
        let mut result = Ok(());
        while let (Ok(()), Some(file)) = (&result, self.next_finished()) {
            result = self.store.finish(file).await;
        }
        self.finishers.set(self.finishers.get() - 1);
        result
    }

    fn next_finished(&self) -> Option<FileIndex> {
        self.finished.borrow_mut().pop_front()
    }

    // ---- uploads ----

    /// The slab with these bytes of a run: from the cache, else read. With `ahead` the whole run is read.
    pub(super) async fn load(
        &self,
        key: RunKey,
        range: Range<usize>,
        ahead: bool,
    ) -> Result<Slab, StorageError> {
        let slab = loop {
            match self.cached_or_free(key, &range) {
                (Some(slab), _) => {
                    self.gauges.count_lookup(true);
                    return Ok(slab);
                }
                (None, Some(slab)) => break slab,
                // Every slab is being filled or sent: some will be free soon.
                (None, None) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        self.gauges.count_lookup(false);
        let read = if ahead { 0..self.run_len(key) as usize } else { range };
        let start = key.1 as u32 * RUN_LEN + read.start as u32;
        let slab = self.store.read(key.0, start, read.len() as u32, read.start, slab).await?;
        self.memory.borrow_mut().keep(key, slab.clone(), read);
        Ok(slab)
    }

    fn cached_or_free(&self, key: RunKey, range: &Range<usize>) -> (Option<Slab>, Option<FillingSlab>) {
        let mut memory = self.memory.borrow_mut();
        match memory.get(key, range) {
            Some(slab) => (Some(slab), None),
            None => (None, memory.take()),
        }
    }

    // ---- end ----

    /// Closes all connections and waits for disk work under way.
    pub(super) async fn stop(&self) {
        self.stopping.set(true);
        self.lines.borrow().values().for_each(|line| line.socket.shutdown());
        while self.busy.get() > 0 || !self.lines.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
