//! One torrent on one core: the swarm's wishes become operations, their answers go back to the swarm.

use super::aside::Asides;
use super::crew::{Crew, Letter, Unposted};
use super::hashing::Hashing;
use super::listen::Paces;
use super::load::Reads;
use super::memory::{Memory, Promise, RunKey};
use super::secrecy::Secrecy;
use super::snapshot::Gauges;
use super::strain::Strain;
use super::strangers::Strangers;
use super::{Report, dial};
use crate::metainfo::{Block, FileIndex, PieceIndex};
use crate::ring::{self, FillingSlab, Gather, SLAB_LEN, Scatter, Slab, Socket};
use crate::storage::{Access, StorageError};
use crate::swarm::{DropReason, HandIn, Handover, LimitHits, PeerSlot, RUN_LEN, Speech, Swarm, Wish};
use crate::wire::Handshake;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};

const _: () = assert!(RUN_LEN as usize == SLAB_LEN, "a run fills a slab");

/// Wishes served in one go.
const WISHES: usize = 256;
/// Files that are synced and renamed at the same time: each takes two descriptors.
const FINISHERS: usize = 16;
/// Runs that one speech may open: what a full window of requests needs.
const RUNS_IN_SPEECH: usize = 64;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How long the end of a core waits for peers to take what is on its way to them.
const LAST_SENDS: Duration = Duration::from_secs(2);
/// Buffers kept for sends under encryption. A send never waits, so few are under way at a time.
const SPARE_COPIES: usize = 16;
/// Places to receive into that are kept: as many as there are peers of whom something comes at a time.
const SPARE_SCATTERS: usize = 64;

/// A run that is being fetched.
pub(super) enum Fetched {
    /// Asked for; nothing has come.
    Awaited(Promise),
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
    /// All cores of the torrent, and our place among them.
    pub(super) crew: Arc<Crew>,
    pub(super) core: usize,
    pub(super) handshake: Handshake,
    pub(super) swarm: RefCell<Swarm>,
    pub(super) memory: RefCell<Memory>,
    pub(super) access: Rc<Access>,
    pub(super) fetched: RefCell<HashMap<RunKey, Fetched>>,
    pub(super) hashing: Hashing,
    /// Files that wait for their own name, and tasks that give it.
    finished: RefCell<VecDeque<FileIndex>>,
    finishers: Cell<usize>,
    lines: RefCell<HashMap<PeerSlot, Line>>,
    pub(super) reads: RefCell<Reads>,
    /// Rings when a send is over: memory may be free then.
    pub(super) sent: Notify,
    /// Rings when the swarm is to be called sooner than it had said.
    pub(super) clock: Notify,
    /// How connections are encrypted.
    pub(super) secrecy: RefCell<Secrecy>,
    /// Room for what is sent encrypted, not in use.
    copies: RefCell<Vec<Gather>>,
    /// Receive buffers not in use.
    scatters: RefCell<Vec<Scatter>>,
    /// Room for wishes, not in use.
    wishes: RefCell<Vec<Wish>>,
    pub(super) asides: Asides,
    reports: mpsc::Sender<Report>,
    /// Runs that are being written; their slabs are no longer in `fetched`.
    pub(super) writing: Cell<usize>,
    /// Rings when one has been.
    pub(super) wrote: Notify,
    /// Writes and renames under way.
    busy: Cell<usize>,
    stopping: Cell<bool>,
    /// Limits that this core's connections have met, beside those that the swarm counts.
    pub(super) hits: RefCell<LimitHits>,
    /// Accepted connections whose handshake is not done.
    pub(super) strangers: RefCell<Strangers>,
    /// Rings when one of them has a handshake, or has gone.
    pub(super) settled: Notify,
    /// How fast peers come.
    pub(super) paces: RefCell<Paces>,
    /// Letters that found another core's mailbox full, and the payload bytes in them.
    pub(super) unposted: Unposted,
    /// Payload bytes copied in memory: because they came elsewhere than was guessed, while another peer was in the middle of
    /// the same block, or through another core. What is copied twice counts twice.
    pub(super) moved: Cell<u64>,
    pub(super) gauges: Gauges,
    pub(super) strain: Strain,
}

impl TorrentShard {
    pub(super) fn new(
        crew: Arc<Crew>,
        core: usize,
        swarm: Swarm,
        access: Rc<Access>,
        memory: Memory,
        strangers: Strangers,
        reports: mpsc::Sender<Report>,
    ) -> Rc<Self> {
        let handshake = Handshake {
            reserved: crew.greeting.reserved(),
            info_hash: crew.torrent.info_hash,
            peer_id: crew.id,
        };
        let (gauges, asides) = (Gauges::default(), Asides::new(crew.cores()));
        let secrecy = Secrecy::new(crew.encryption, crew.torrent.info_hash);
        Rc::new(Self {
            crew,
            core,
            handshake,
            swarm: RefCell::new(swarm),
            memory: RefCell::new(memory),
            access,
            fetched: RefCell::default(),
            hashing: Hashing::default(),
            finished: RefCell::default(),
            finishers: Cell::new(0),
            lines: RefCell::default(),
            reads: RefCell::default(),
            sent: Notify::new(),
            clock: Notify::new(),
            secrecy: RefCell::new(secrecy),
            copies: RefCell::default(),
            scatters: RefCell::default(),
            wishes: RefCell::default(),
            asides,
            reports,
            writing: Cell::new(0),
            wrote: Notify::new(),
            busy: Cell::new(0),
            stopping: Cell::new(false),
            hits: RefCell::default(),
            strangers: RefCell::new(strangers),
            settled: Notify::new(),
            paces: RefCell::default(),
            unposted: Unposted::default(),
            moved: Cell::new(0),
            gauges,
            strain: Strain::default(),
        })
    }

    /// Time on the clock of all swarms: limits are booked by it on all cores.
    pub(super) fn now(&self) -> Duration {
        EPOCH.elapsed()
    }

    /// Tells the control thread; what nobody waits for is dropped while its mailbox is full.
    pub(super) fn report(&self, report: Report) {
        let Err(mpsc::error::TrySendError::Full(report)) = self.reports.try_send(report) else { return };
        if report.is_awaited() {
            let reports = self.reports.clone();
            ring::spawn(async move { reports.send(report).await });
        } else {
            self.hits.borrow_mut().reports += 1;
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    pub(super) fn take_scatter(&self) -> Scatter {
        self.scatters.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_scatter(&self, scatter: Scatter) {
        let mut scatters = self.scatters.borrow_mut();
        if scatters.len() < SPARE_SCATTERS {
            scatters.push(scatter);
        }
    }

    pub(super) fn take_copy(&self) -> Gather {
        self.copies.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_copy(&self, copy: Gather) {
        let mut copies = self.copies.borrow_mut();
        if copies.len() < SPARE_COPIES {
            copies.push(copy);
        }
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

    /// What the peer should hear now, with memory for what it is asked for and with at most as much `metadata`, about; gives how
    /// much.
    pub(super) fn speak(&self, slot: PeerSlot, bytes: &mut Vec<u8>, metadata: usize) -> usize {
        // A seed asks for nothing, and to count slabs takes time.
        let slabs = if self.swarm.borrow().is_seeding() { 0 } else { self.free_slabs(RUNS_IN_SPEECH) };
        let mut speech = Speech { bytes, slabs, opened: Vec::new(), metadata };
        self.swarm.borrow_mut().speak(self.now(), slot, &mut speech);
        speech.opened.into_iter().for_each(|key| self.open_run(key));
        metadata - speech.metadata
    }

    /// Slabs that runs to be fetched may have now, counted up to `most`.
    fn free_slabs(&self, most: usize) -> usize {
        let had = self.fetched.borrow().len() + self.writing.get();
        self.memory.borrow_mut().for_downloads(had).min(most)
    }

    fn open_run(&self, key: RunKey) {
        let promise = self.memory.borrow_mut().promise();
        let promise = promise.expect("no more runs are opened than slabs are available");
        self.fetched.borrow_mut().insert(key, Fetched::Awaited(promise));
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
        let mut fetched = self.fetched.borrow_mut();
        let run = fetched.get_mut(&key)?;
        if let Fetched::Awaited(promise) = run {
            let mut memory = self.memory.borrow_mut();
            *run = Fetched::Filling(memory.redeem(promise, self.skew(key)));
            self.access.map_within(memory.unused());
        }
        match run {
            Fetched::Filling(slab) => Some(work(slab, range)),
            _ => None,
        }
    }

    /// So many bytes of payload have been copied.
    pub(super) fn count_moved(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
    }

    // ---- wishes ----

    /// Serves the swarm's wishes until it has none.
    pub(super) fn pump(self: &Rc<Self>) {
        let mut wishes = self.wishes.take();
        loop {
            self.swarm.borrow_mut().fill(&mut wishes, WISHES);
            if wishes.is_empty() {
                break;
            }
            wishes.drain(..).for_each(|wish| self.serve(wish));
        }
        self.wishes.replace(wishes);
    }

    fn serve(self: &Rc<Self>, wish: Wish) {
        match wish {
            Wish::Hash(piece, runs) => self.queue_hash(piece, runs),
            Wish::Wake(slot) => {
                if let Some(line) = self.lines.borrow().get(&slot) {
                    line.bell.notify_one();
                }
            }
            Wish::Write(piece, run) => self.work(Self::write(Rc::clone(self), piece, run)),
            Wish::Fingerprint(piece, runs) => self.work(Self::fingerprint(Rc::clone(self), piece, runs)),
            Wish::Done { piece, good } => self.settle(piece, good),
            Wish::Drop(slot, reason) => self.drop_peer(slot, &reason),
            Wish::Dial(addr) => dial(self, addr),
            Wish::Mention(addr, reason) => {
                self.report(Report::PeerDropped { addr, reason: format!("{reason}, and has left") });
            }
            Wish::DhtNode(addr) => self.report(Report::DhtNode(addr)),
            Wish::Deadline => self.clock.notify_one(),
            Wish::Nudge => self.crew.ring_others(self.core),
            Wish::Evict(tag) => self.post(tag.core(), Letter::Evict(tag)),
            Wish::Blame(tag, piece) => self.post(tag.core(), Letter::Blame(tag, piece)),
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

    /// The torrent stops with the cause.
    pub(super) fn fail(&self, error: &StorageError) {
        self.crew.fail();
        self.report(Report::Failed(error.to_string()));
    }

    /// Starts disk work; when it fails, the torrent stops with the cause.
    fn work(self: &Rc<Self>, work: impl Future<Output = Result<(), StorageError>> + 'static) {
        let this = Rc::clone(self);
        this.busy.set(this.busy.get() + 1);
        ring::spawn(async move {
            if let Err(error) = work.await {
                this.fail(&error);
            }
            this.pump();
            this.busy.set(this.busy.get() - 1);
            this.check_complete();
        });
    }

    /// Where in a page the run begins in memory: where the most of it does in its file.
    pub(super) fn skew(&self, key: RunKey) -> usize {
        self.crew.store.skew(key.0, key.1 as u32 * RUN_LEN, self.run_len(key))
    }

    pub(super) fn run_end(&self, (piece, run): RunKey) -> u32 {
        (run as u32 + 1).saturating_mul(RUN_LEN).min(self.crew.store.layout().piece_len(piece))
    }

    pub(super) fn run_len(&self, key: RunKey) -> u32 {
        self.run_end(key) - key.1 as u32 * RUN_LEN
    }

    async fn write(self: Rc<Self>, piece: PieceIndex, run: usize) -> Result<(), StorageError> {
        let key = (piece, run);
        let Some(Fetched::Full(slab)) = self.fetched.borrow_mut().remove(&key) else {
            unreachable!("{key:?} is not hashed")
        };
        let len = self.run_len(key);
        self.writing.set(self.writing.get() + 1);
        let written = self.access.write(piece, run as u32 * RUN_LEN, len, &slab).await;
        #[cfg(test)]
        if super::faults::awaits(self.handshake.info_hash, super::faults::Place::Disk) {
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
        self.writing.set(self.writing.get() - 1);
        written?;
        let is_last = self.swarm.borrow().is_last_to_write(piece, run);
        if is_last {
            self.access.adopt(piece).await?;
        }
        // Should the piece turn out bad, `settle` takes it out again.
        self.memory.borrow_mut().keep(key, slab, 0..len as usize);
        self.wrote.notify_one();
        self.swarm.borrow_mut().written(self.now(), piece, run);
        Ok(())
    }

    /// A piece is had; or it will be begun anew.
    fn settle(self: &Rc<Self>, piece: PieceIndex, good: bool) {
        if !good {
            self.fetched.borrow_mut().retain(|key, _| key.0 != piece);
            self.hashing.forget(piece);
            self.memory.borrow_mut().forget(piece);
            self.access.give_up(piece);
            return;
        }
        // Before anybody can find that all is complete.
        self.crew.publish_totals(self.core, self.totals());
        self.finished.borrow_mut().extend(self.crew.had(piece));
        // A piece may end thousands of files; so many open at once would be too many.
        while self.finishers.get() < self.finished.borrow().len().min(FINISHERS) {
            self.finishers.set(self.finishers.get() + 1);
            self.work(Self::finish(Rc::clone(self)));
        }
    }

    async fn finish(self: Rc<Self>) -> Result<(), StorageError> {
        #[cfg(test)]
        super::faults::strike(self.handshake.info_hash, self.core, super::faults::Place::Work);
        let mut result = Ok(());
        while let (Ok(()), Some(file)) = (&result, self.next_finished()) {
            result = self.access.finish(file).await.map(|()| self.crew.has_finished_file());
        }
        self.finishers.set(self.finishers.get() - 1);
        result
    }

    fn next_finished(&self) -> Option<FileIndex> {
        self.finished.borrow_mut().pop_front()
    }

    // ---- other cores ----

    /// Writes to another core. What is lost is counted, or kept.
    pub(super) fn post(&self, core: usize, letter: Letter) {
        self.unposted.note(self.crew.write_to(core, letter));
    }

    /// Writes once more what was not to be lost.
    pub(super) fn post_again(&self) {
        for (tag, piece) in self.unposted.take_blames() {
            self.post(tag.core(), Letter::Blame(tag, piece));
        }
    }

    /// Takes mail from another core.
    pub(super) fn take_letter(self: &Rc<Self>, letter: Letter) {
        match letter {
            Letter::Evict(tag) => self.swarm.borrow_mut().evict(tag),
            Letter::Blame(tag, piece) => self.swarm.borrow_mut().blame(tag, piece),
            Letter::HandIn(handover, bytes) => self.hand_in(&handover, &bytes),
            Letter::Seat(transfer) => transfer.arrive(self),
        }
    }

    /// Takes a block that another core has fetched for us.
    fn hand_in(&self, handover: &Handover, bytes: &[u8]) {
        let slabs = self.free_slabs(RUNS_IN_SPEECH);
        let taken = self.swarm.borrow_mut().hand_in(self.now(), handover, slabs);
        let HandIn::Taken { opened } = taken else { return };
        opened.for_each(|run| self.open_run((handover.block.piece, run)));
        let put = self.with_home(&handover.block, |slab, range| slab.write(range.start, bytes));
        put.expect("a block that is taken has a home");
        self.count_moved(bytes.len());
    }

    // ---- end ----

    /// Closes all connections and waits for disk work under way; and for a while for what goes out without a copy: what the
    /// kernel still reads when the core ends is taken back from it, and the peer sees a reset.
    pub(super) async fn stop(&self) {
        self.stopping.set(true);
        self.lines.borrow().values().for_each(|line| line.socket.shutdown());
        while self.busy.get() > 0 || !self.lines.borrow().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // Whoever tells trackers of it does not wait for the rest.
        self.publish();
        let begun = self.now();
        let zero_copy = self.memory.borrow().zero_copy.clone();
        while zero_copy.is_under_way() && self.now() - begun < LAST_SENDS {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
