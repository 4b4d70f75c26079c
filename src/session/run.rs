//! Downloading and seeding one torrent, from the check of what is there to the goodbye.

use super::Event;
use super::dht::DhtSearch;
use super::farewell::{self, Farewell};
use super::job::{Goal, Job};
use super::listen::bind_again;
use super::lull::Lull;
use crate::discovery::dht::DhtSockets;
use crate::discovery::local::LocalSearch;
use crate::discovery::tracker::{
    Announcing, Note, TorrentIdentity, Totals, TrackerClient, TrackerOptions, announce_key,
};
use crate::metainfo::{BuildError, TorrentError};
use crate::ring::{self, CoreError, TooFewDescriptors};
use crate::shard::{Assignment, Progress, Report, Room, Shards};
use crate::storage::{Claim, Folder, StorageError, Store};
use crate::swarm::{Greeting, Source};
use crate::wire::PeerId;
use ::ring::rand::{SecureRandom, SystemRandom};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A core with less payload memory than this (bytes) is no help: then rather fewer cores.
const LEAST_MEMORY: u64 = 4 * 1024 * 1024;
/// Notes of trackers that wait to be told: one of each of as many as are asked, should they all answer at once.
const MOST_NOTES: usize = 128;
/// How long a core may take to end its disk work, and peers to take what is on its way to them.
const END_LIMIT: Duration = Duration::from_secs(10);
/// How long trackers wait for it: what ends by then is told with the goodbye.
const LAST_WRITES: Duration = Duration::from_millis(500);

/// How a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Where it stood at the end.
    pub progress: Progress,
    /// Whether the torrent is complete.
    pub complete: bool,
}

/// Why a session, a check or a creation has failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// Nobody can connect there.
    #[error("cannot listen on {addr}: {cause}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
    /// A thread could not be started.
    #[error(
        "cannot start a thread: {0}; raise the limit on them: `TasksMax=` in a systemd unit, `--pids-limit` of a container, `ulimit -u`"
    )]
    Thread(io::Error),
    /// The kernel refuses what the program needs, or the program is wrong.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// Not one peer could connect.
    #[error(transparent)]
    Descriptors(#[from] TooFewDescriptors),
    /// A file or folder could not be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The torrent cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The torrent had to stop.
    #[error("{0}")]
    Failed(String),
    /// What a magnet link stands for cannot be used.
    #[error("peers have the metadata of the magnet link, but it cannot be used: {0}")]
    Metadata(TorrentError),
    /// There is nothing to seed.
    #[error("none of the torrent's pieces is in {0}; there is nothing to seed")]
    NothingToSeed(String),
}

fn greeting(job: &Job, addr: SocketAddr, dht: Option<&DhtSockets>) -> Greeting {
    Greeting {
        info_hash: job.torrent.info_hash,
        metadata: Arc::clone(job.torrent.metadata()),
        port: Some(addr.port()),
        private: job.torrent.private,
        pex: job.pex,
        dht: dht.is_some_and(|sockets| sockets.port().is_some()),
        // That which peers connect to, unless another program has it for UDP.
        dht_port: job.dht.as_ref().zip(dht).and_then(|(options, sockets)| options.port(sockets)),
    }
}

fn tracker_client(job: &Job, listen: SocketAddr) -> Option<Arc<TrackerClient>> {
    let (encryption, listen) = (job.encryption, Some(listen));
    let options = TrackerOptions { encryption, listen, ..job.trackers.clone()? };
    Some(Arc::new(TrackerClient::new(options)))
}

pub(super) fn random_id() -> PeerId {
    let mut random = [0; 12];
    SystemRandom::new().fill(&mut random).expect("the system gives random bytes");
    PeerId::generate(random)
}

/// The way of addresses from one source.
type Way = (mpsc::Sender<Vec<SocketAddr>>, mpsc::Receiver<Vec<SocketAddr>>);

/// A session under way.
struct Running<W> {
    job: Job,
    shards: Shards,
    addr: SocketAddr,
    id: PeerId,
    totals: Arc<Totals>,
    client: Option<Arc<TrackerClient>>,
    /// To be said in the end when nobody else will announce in our name.
    farewell: Farewell,
    announcing: Option<Announcing>,
    local: Option<LocalSearch>,
    /// Those of the DHT, until it starts.
    sockets: Option<DhtSockets>,
    dht: Option<DhtSearch>,
    /// What trackers, the local network and the DHT find comes by ways of their own: each has a share of the book.
    tracked: Way,
    nearby: Way,
    searched: Way,
    notes: (mpsc::Sender<Note>, mpsc::Receiver<Note>),
    watch: W,
    last: Progress,
    lull: Lull,
    complete: bool,
    failure: Option<SessionError>,
    /// That no other download writes there.
    _claim: Option<Claim>,
}

/// How many of the cores asked for can have memory enough, at least one. Says so when these are not all.
fn cores_with_memory(job: &Job) -> usize {
    let asked = job.cores.max(1);
    let cores = usize::try_from(job.memory_limit / LEAST_MEMORY).unwrap_or(usize::MAX).clamp(1, asked);
    if cores < asked {
        tracing::warn!(
            "working on {cores} processors, not {asked}: each takes {} MiB of --memory-limit at the least",
            LEAST_MEMORY >> 20
        );
    }
    cores
}

/// Runs until the goal is reached or `stop` completes, then tells trackers `stopped` and ends. Calls `watch` for each
/// event, on the caller's thread. To be called inside a tokio runtime.
///
/// # Errors
/// When it cannot start, or the torrent has to stop.
pub async fn run(
    mut job: Job,
    watch: impl FnMut(Event),
    stop: impl Future<Output = ()>,
) -> Result<Outcome, SessionError> {
    let farewell = std::mem::take(&mut job.farewell);
    match Running::start(job, farewell.listened(), watch).await {
        Ok(mut running) => {
            running.farewell = farewell;
            running.work(stop).await;
            running.end().await
        }
        Err(error) => {
            farewell.say().await;
            Err(error)
        }
    }
}

impl<W: FnMut(Event)> Running<W> {
    /// Takes what it needs, and lets the cores begin with the check. Peers were told of where we `listened` before, if we were.
    async fn start(job: Job, listened: Option<SocketAddr>, watch: W) -> Result<Self, SessionError> {
        let cores = ring::cores_with_rings(cores_with_memory(&job));
        let (listeners, addr) = bind_again(listened, job.listen, cores).await?;
        // Peers are told of the port before the node starts. A private torrent has none (BEP 27).
        let sockets = (job.dht.is_some() && !job.torrent.private).then(|| DhtSockets::bind(addr));
        let id = job.id.unwrap_or_else(random_id);
        let download = job.goal != Goal::Seed;
        let layout = Arc::new(job.torrent.layout.clone());
        let folder = Folder::open(&job.folder, download)?;
        let claim = download.then(|| Claim::new(&folder, job.torrent.root())).transpose()?;
        let store = Store::new(folder, layout, &job.torrent.files)?;
        let assignment = Assignment {
            torrent: Arc::clone(&job.torrent),
            store: Arc::new(store),
            download,
            id,
            greeting: greeting(&job, addr, sockets.as_ref()),
            room: Room::of_process(cores)?,
            arena_len: usize::try_from(job.memory_limit).unwrap_or(usize::MAX) / cores,
            listeners,
            zero_copy_send: job.zero_copy_send,
            encryption: job.encryption,
            snapshots: job.snapshots,
            choices: job.choices.clone(),
        };
        let shards = Shards::start(assignment).map_err(SessionError::Thread)?;
        Ok(Self {
            client: tracker_client(&job, addr),
            job,
            shards,
            addr,
            id,
            totals: Arc::default(),
            farewell: Farewell::default(),
            announcing: None,
            local: None,
            sockets,
            dht: None,
            tracked: mpsc::channel(16),
            nearby: mpsc::channel(16),
            searched: mpsc::channel(16),
            notes: mpsc::channel(MOST_NOTES),
            watch,
            last: Progress::default(),
            lull: Lull::new(Instant::now()),
            complete: false,
            failure: None,
            _claim: claim,
        })
    }

    /// Until the goal is reached, something fails, or `stop` completes.
    async fn work(&mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let done = tokio::select! {
                () = &mut stop => true,
                report = self.shards.reports.recv() => match report {
                    Some(report) => self.take(report).await,
                    None => {
                        self.fail(ring::bug_of_ours("all cores have ended"));
                        true
                    }
                },
                Some(addrs) = self.tracked.1.recv() => {
                    self.shards.offer(addrs, Source::Tracker).await;
                    false
                }
                Some(addrs) = self.nearby.1.recv() => {
                    self.shards.offer(addrs, Source::Local).await;
                    false
                }
                Some(addrs) = self.searched.1.recv() => {
                    self.shards.offer(addrs, Source::Dht).await;
                    false
                }
                Some(note) = self.notes.1.recv() => {
                    Event::of_announce(note).into_iter().for_each(&mut self.watch);
                    false
                }
                note = DhtSearch::note(&mut self.dht) => {
                    (self.watch)(Event::Dht(note));
                    false
                }
            };
            if done {
                return;
            }
        }
    }

    /// Takes a report of the core. `true` when the work is done.
    async fn take(&mut self, report: Report) -> bool {
        match report {
            Report::Checking(done) => {
                let pieces = self.job.torrent.layout.piece_count();
                (self.watch)(Event::Checking { done, pieces });
            }
            Report::Checked(report) => return self.checked(report).await,
            Report::Progress(progress) => {
                self.progress(progress);
                (self.watch)(Event::Progress(progress));
                if let (true, Some(client)) = (self.job.snapshots, &self.client) {
                    (self.watch)(Event::TrackerCounts(client.counts()));
                }
                self.tell_of_local();
                self.tell_of_dht();
                let wants_peers =
                    self.job.goal != Goal::Seed && self.lull.wants_peers(Instant::now(), &progress);
                let fetches = self.job.goal.fetches(progress.left);
                if let Some(dht) = &mut self.dht {
                    dht.progress(if wants_peers { 0 } else { progress.peers }, fetches);
                }
                // Else the tracker's interval holds.
                let tell = if wants_peers { Announcing::want_peers } else { Announcing::has_peers };
                self.announcing.iter().for_each(tell);
            }
            Report::Snapshot(snapshot) => (self.watch)(Event::Snapshot(snapshot)),
            Report::PieceFailed(piece) => (self.watch)(Event::PieceFailed(piece)),
            Report::PieceLost(piece, reason) => (self.watch)(Event::PieceLost { piece, reason }),
            Report::DhtNode(addr) => self.dht.iter().for_each(|dht| dht.add_node(addr)),
            Report::PeerDropped { addr, reason } => (self.watch)(Event::PeerDropped { addr, reason }),
            Report::Complete(progress) => {
                self.completed(progress);
                return self.job.goal == Goal::Download;
            }
            Report::Failed(problem) => {
                self.fail(problem);
                return true;
            }
        }
        false
    }

    /// The first problem is what the session fails of.
    fn fail(&mut self, problem: String) {
        self.failure.get_or_insert(SessionError::Failed(problem));
    }

    fn progress(&mut self, progress: Progress) {
        self.last = progress;
        let paused = self.job.goal.fetches(progress.left) == 0;
        self.totals.paused.store(paused, Ordering::Relaxed);
        self.totals.left.store(progress.left + progress.skipped, Ordering::Relaxed);
        self.totals.uploaded.store(progress.uploaded, Ordering::Relaxed);
        self.totals.downloaded.store(progress.downloaded, Ordering::Relaxed);
    }

    fn completed(&mut self, progress: Progress) {
        self.progress(progress);
        self.complete = true;
        if self.job.goal != Goal::Seed {
            // With files left out it is not complete to others (BEP 21), but that nothing more is fetched is said from
            // now on, and soon.
            let tell = if progress.skipped == 0 { Announcing::completed } else { Announcing::want_peers };
            self.announcing.iter().for_each(tell);
            (self.watch)(Event::Completed(progress));
        }
    }

    /// The data is checked: from here on there is something to say to others. `true` when there is not.
    async fn checked(&mut self, report: crate::storage::CheckReport) -> bool {
        let nothing = report.good_pieces == 0 && self.job.goal == Goal::Seed;
        let whole = self.shards.is_complete() && self.job.goal == Goal::Download;
        self.progress(self.shards.progress());
        (self.watch)(Event::Checked(report));
        if nothing {
            self.failure = Some(SessionError::NothingToSeed(self.job.folder.display().to_string()));
            return true;
        }
        if whole {
            // The core says so in a moment; nobody else need know.
            return false;
        }
        (self.watch)(Event::Listening(self.addr));
        let addrs = std::mem::take(&mut self.job.peers);
        self.shards.offer(addrs, Source::Given).await;
        let mut found: BTreeMap<Source, Vec<SocketAddr>> = BTreeMap::new();
        let all = std::mem::take(&mut self.job.found);
        all.into_iter().for_each(|(addr, source)| found.entry(source).or_default().push(addr));
        for (source, addrs) in found {
            self.shards.offer(addrs, source).await;
        }
        self.search_locally();
        let found = self.searched.0.clone();
        let torrent = &self.job.torrent;
        let dht = self.job.dht.as_ref().zip(self.sockets.take());
        let filter = self.job.choices.filter.clone();
        self.dht = DhtSearch::start(dht, torrent.info_hash, &torrent.nodes, self.addr, filter, found);
        let Some(client) = self.client.clone() else { return false };
        let identity = TorrentIdentity {
            info_hash: self.job.torrent.info_hash,
            peer_id: self.id.0,
            port: self.addr.port(),
            key: announce_key(self.job.torrent.info_hash, self.id.0),
            tiers: self.job.torrent.trackers.clone(),
            told: std::mem::take(&mut self.farewell).hand_over(self.addr).await,
        };
        let (found, notes) = (self.tracked.0.clone(), self.notes.0.clone());
        let totals = Arc::clone(&self.totals);
        let limits = self.job.announce;
        self.announcing = Some(Announcing::start(client, identity, limits, totals, found, notes));
        false
    }

    /// Looks for peers on the local network, if that is wanted. A torrent that is private has its peers from trackers
    /// alone (BEP 27).
    fn search_locally(&mut self) {
        if !self.job.local_discovery || self.job.torrent.private {
            return;
        }
        let torrent = (self.job.torrent.info_hash, self.nearby.0.clone());
        match LocalSearch::start(self.addr, [torrent]) {
            Ok(search) => self.local = Some(search),
            Err(error) => tracing::warn!("peers on the local network are not looked for: {error}"),
        }
    }

    /// Tells what the search on the local network has counted.
    fn tell_of_local(&mut self) {
        if let Some(counts) = self.local.as_ref().map(LocalSearch::counts) {
            (self.watch)(Event::Local(counts));
        }
    }

    /// Tells what the DHT has counted.
    fn tell_of_dht(&mut self) {
        if let Some(dht) = self.dht.as_ref().filter(|_| self.job.snapshots) {
            (self.watch)(Event::DhtCounters(Box::new(dht.counters())));
        }
    }

    /// Stops the core and tells trackers, both at once.
    async fn end(mut self) -> Result<Outcome, SessionError> {
        self.tell_of_local();
        self.local = None;
        self.tell_of_dht();
        self.shards.stop().await;
        // What was nearly done is done now; trackers are told if it takes no time.
        let last_writes = tokio::time::timeout(LAST_WRITES, self.drain()).await;
        // What has been moved since the last report, a second ago at most, is told with the goodbye.
        self.progress(self.shards.progress());
        let (dht, announcing) = (self.dht.take(), self.announcing.take());
        let farewell = std::mem::take(&mut self.farewell);
        // None waits for another: a tracker that is slow, or a disk that the DHT's nodes are kept on, holds up only itself.
        let dht = async {
            if let Some(dht) = dht {
                dht.stop().await;
            }
        };
        let goodbye = async {
            tokio::join!(farewell.say(), farewell::stop(announcing));
        };
        // A disk that does not answer must not hold up the end.
        let rest = async {
            if last_writes.is_err() {
                _ = tokio::time::timeout(END_LIMIT, self.drain()).await;
            }
        };
        let ((), (), ()) = tokio::join!(dht, goodbye, rest);
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(Outcome { progress: self.shards.progress(), complete: self.complete }),
        }
    }

    /// Takes the last reports of the cores, until all have ended.
    async fn drain(&mut self) {
        while let Some(report) = self.shards.reports.recv().await {
            match report {
                Report::Snapshot(last) => (self.watch)(Event::Snapshot(last)),
                Report::Complete(progress) => self.completed(progress),
                Report::Failed(problem) => self.fail(problem),
                _ => {}
            }
        }
    }
}
