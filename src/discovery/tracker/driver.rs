//! The task that asks the trackers of one torrent, and its handle.

use super::announce::{AnnounceRequest, Event};
use super::announcer::{Announcer, AnnouncerConfig, Due, Input};
use super::http::{self, HttpLimits, TrackerError};
use super::reply::{AnnounceResponse, PeerAddr, usable};
use super::url::{HttpUrl, label};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::lookup_host;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Time that the end of a torrent may take, and how much of it an announce under way gets.
const STOP_TIME: Duration = Duration::from_secs(5);
const FINISH_TIME: Duration = Duration::from_secs(1);
/// Time for one look-up of a peer's host name, and how many run at once.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
const LOOKUPS_AT_ONCE: usize = 8;
/// Most host names of one reply that are looked up.
const MAX_LOOKUPS: usize = 50;
/// Most addresses of one host name that are taken.
const ADDRESSES_A_NAME: usize = 4;
/// How many peers a tracker is asked for.
const NUM_WANT: u32 = 100;

/// Byte counts that announces report, kept up to date by those who move the bytes.
#[derive(Debug, Default)]
pub struct Totals {
    /// Payload bytes sent in this session.
    pub uploaded: AtomicU64,
    /// Payload bytes received in this session.
    pub downloaded: AtomicU64,
    /// Payload bytes still missing.
    pub left: AtomicU64,
}

/// What does not change about a torrent while it is announced.
#[derive(Clone, Debug)]
pub struct TorrentIdentity {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our id in the handshake.
    pub peer_id: [u8; 20],
    /// The TCP port we listen on.
    pub port: u16,
    /// A random number, the same for all announces (BEP 7).
    pub key: u32,
    /// Announce URLs (BEP 12). Those that are not `http` are reported as failed and left out.
    pub tiers: Vec<Vec<String>>,
}

/// What happened, for the log. Names a tracker by scheme and host: a path may hold a passkey.
#[derive(Debug)]
pub enum Note {
    /// A tracker accepted an announce.
    Announced {
        /// The tracker.
        tracker: String,
        /// What was told.
        event: Option<Event>,
        /// Peers in the reply.
        peers: usize,
        /// Seeds in the swarm, when the tracker says.
        complete: Option<u64>,
        /// Leeches in the swarm, when the tracker says.
        incomplete: Option<u64>,
        /// The tracker's word to the user.
        warning: Option<String>,
    },
    /// An announce failed; the next tracker is asked, or this one again later.
    Failed {
        /// The tracker.
        tracker: String,
        /// What was to be told.
        event: Option<Event>,
        /// Why.
        error: TrackerError,
    },
}

/// The running announces of one torrent. Dropped without [`stop`](Self::stop), it ends at once and tells nobody.
///
/// ```
/// use seedring::discovery::tracker::*;
/// use seedring::metainfo::InfoHash;
/// use std::sync::Arc;
/// use tokio::sync::mpsc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let tracker = EmbeddedTracker::bind(([127, 0, 0, 1], 0).into(), EmbeddedTrackerConfig::default()).await?;
/// let torrent = TorrentIdentity {
///     info_hash: InfoHash([7; 20]),
///     peer_id: *b"-SR0001-abcdefghijkl",
///     port: 6881,
///     key: fastrand::u32(..),
///     tiers: vec![vec![tracker.url()]],
/// };
/// tokio::spawn(tracker.run());
///
/// let totals = Arc::new(Totals::default());
/// totals.left.store(1000, std::sync::atomic::Ordering::Relaxed);
/// let (peers, mut found) = mpsc::channel(16);
/// let (notes, mut log) = mpsc::channel(16);
/// let announcing = Announcing::start(torrent, AnnouncerConfig::default(), totals, peers, notes);
/// assert!(matches!(log.recv().await, Some(Note::Announced { event: Some(Event::Started), .. })));
/// // … `found.recv()` yields addresses to dial …
/// announcing.want_peers();
/// announcing.completed();
/// announcing.stop().await;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Announcing {
    wishes: watch::Sender<Wishes>,
    task: JoinHandle<()>,
}

/// What the handle asks of the task. Standing values, so that nothing queues up and nothing is lost.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    completed: bool,
    /// How often peers were wished for.
    want_peers: u64,
    stop: bool,
}

impl Announcing {
    /// Starts to announce on the current tokio runtime, first of all `started`. Whether the torrent was complete
    /// at the start is read from `totals.left`.
    ///
    /// `peers` gets the addresses of each reply as soon as they are known; while it is full, a newer reply
    /// replaces the one that waits. `notes` gets what room there is for: announcing never waits for it.
    pub fn start(
        torrent: TorrentIdentity,
        config: AnnouncerConfig,
        totals: Arc<Totals>,
        peers: mpsc::Sender<Vec<SocketAddr>>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let (wishes, wished) = watch::channel(Wishes::default());
        let mut torrent = torrent;
        let tiers = supported(std::mem::take(&mut torrent.tiers), &notes);
        let complete = totals.left.load(Ordering::Relaxed) == 0;
        let machine = Announcer::new(config, tiers, complete, fastrand::u64(..), Instant::now().into_std());
        let driver = Driver { machine, torrent, totals, peers, notes, delivery: JoinSet::new() };
        Self { wishes, task: tokio::spawn(driver.run(wished)) }
    }

    /// The download is complete: tells a tracker so, once.
    pub fn completed(&self) {
        self.wishes.send_modify(|wishes| wishes.completed = true);
    }

    /// More peers are welcome: announces as soon as the tracker allows. May be called at any rate.
    pub fn want_peers(&self) {
        self.wishes.send_modify(|wishes| wishes.want_peers += 1);
    }

    /// Tells `stopped` to every tracker that knows of us, before it `completed` when that was not told yet, and
    /// ends. Takes 5 s at most.
    pub async fn stop(self) {
        self.wishes.send_modify(|wishes| wishes.stop = true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// The tiers without the URLs that cannot be asked, each of which is reported.
fn supported(mut tiers: Vec<Vec<String>>, notes: &mpsc::Sender<Note>) -> Vec<Vec<String>> {
    for tier in &mut tiers {
        tier.retain(|url| match HttpUrl::parse(url) {
            Ok(_) => true,
            Err(error) => {
                // A full log loses the note, nothing else.
                let _ =
                    notes.try_send(Note::Failed { tracker: label(url), event: None, error: error.into() });
                false
            }
        });
    }
    tiers
}

struct Driver {
    machine: Announcer,
    torrent: TorrentIdentity,
    totals: Arc<Totals>,
    peers: mpsc::Sender<Vec<SocketAddr>>,
    notes: mpsc::Sender<Note>,
    /// The one delivery of peers under way.
    delivery: JoinSet<()>,
}

type Outcome = (Due, Result<AnnounceResponse, TrackerError>);

impl Driver {
    async fn run(mut self, mut wished: watch::Receiver<Wishes>) {
        let mut under_way = JoinSet::new();
        let mut peers_wished = 0;
        loop {
            if let Some(due) = self.machine.next(Instant::now().into_std()) {
                under_way.spawn(self.ask(due));
            }
            let deadline = self.machine.next_deadline();
            tokio::select! {
                Some(outcome) = under_way.join_next() => self.finished(joined(outcome)),
                changed = wished.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wishes = *wished.borrow_and_update();
                    let now = Instant::now().into_std();
                    if wishes.completed {
                        self.machine.handle(now, Input::Completed);
                    }
                    if std::mem::replace(&mut peers_wished, wishes.want_peers) != wishes.want_peers {
                        self.machine.handle(now, Input::WantPeers);
                    }
                    if wishes.stop {
                        break;
                    }
                }
                () = until(deadline) => {}
            }
        }
        // Whoever has not answered by then will forget us by itself.
        let _ = timeout(STOP_TIME, self.say_goodbye(under_way)).await;
    }

    /// Tells all trackers that know of us that we leave, at the same time.
    async fn say_goodbye(&mut self, mut under_way: JoinSet<Outcome>) {
        // A tracker that is just hearing of us is to hear that we leave, too.
        if let Ok(Some(outcome)) = timeout(FINISH_TIME, under_way.join_next()).await {
            self.finished(joined(outcome));
        }
        under_way.abort_all();
        let mut goodbyes = JoinSet::new();
        for goodbye in self.machine.goodbyes() {
            let announces: Vec<_> = goodbye.into_iter().map(|due| self.ask(due)).collect();
            goodbyes.spawn(async move {
                let mut outcomes = Vec::new();
                for announce in announces {
                    outcomes.push(announce.await);
                }
                outcomes
            });
        }
        while let Some(outcomes) = goodbyes.join_next().await {
            for (due, result) in joined(outcomes) {
                self.note(&due, result);
            }
        }
    }

    fn ask(&self, due: Due) -> impl Future<Output = Outcome> + Send + 'static {
        let TorrentIdentity { info_hash, peer_id, port, key, .. } = self.torrent;
        let request = AnnounceRequest {
            info_hash,
            peer_id,
            port,
            uploaded: self.totals.uploaded.load(Ordering::Relaxed),
            downloaded: self.totals.downloaded.load(Ordering::Relaxed),
            left: self.totals.left.load(Ordering::Relaxed),
            event: due.event,
            num_want: if due.event == Some(Event::Stopped) { 0 } else { NUM_WANT },
            key,
            tracker_id: due.tracker_id.clone(),
        };
        async move {
            let result = http::announce(&due.url, &request, &HttpLimits::default()).await;
            (due, result)
        }
    }

    fn finished(&mut self, (due, result): Outcome) {
        let (input, peers) = match &result {
            Err(_) => (Input::Failed, Vec::new()),
            Ok(reply) => {
                let (interval, min_interval) = (reply.interval, reply.min_interval);
                let tracker_id = reply.tracker_id.clone();
                (Input::Succeeded { interval, min_interval, tracker_id }, reply.peers.clone())
            }
        };
        self.machine.handle(Instant::now().into_std(), input);
        self.note(&due, result);
        if !peers.is_empty() {
            self.delivery = JoinSet::new();
            self.delivery.spawn(deliver(peers, self.peers.clone()));
        }
    }

    fn note(&self, due: &Due, result: Result<AnnounceResponse, TrackerError>) {
        let (tracker, event) = (label(&due.url), due.event);
        let note = match result {
            Err(error) => Note::Failed { tracker, event, error },
            Ok(reply) => Note::Announced {
                tracker,
                event,
                peers: reply.peers.len(),
                complete: reply.complete,
                incomplete: reply.incomplete,
                warning: reply.warning,
            },
        };
        // A full log loses the note, nothing else.
        let _ = self.notes.try_send(note);
    }
}

/// The outcome of a task that nobody aborts; its panic goes on here.
fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> T {
    outcome.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

async fn until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Hands over what can be dialled at once, then the peers given by host name, each when its name is looked up.
/// Ends early when nobody listens any more.
async fn deliver(peers: Vec<PeerAddr>, out: mpsc::Sender<Vec<SocketAddr>>) {
    let mut addrs = Vec::new();
    let mut lookups = JoinSet::new();
    let turns = Arc::new(Semaphore::new(LOOKUPS_AT_ONCE));
    for peer in peers {
        match peer {
            PeerAddr::Socket(addr) => addrs.push(addr),
            PeerAddr::Host(host, port) if lookups.len() < MAX_LOOKUPS => {
                lookups.spawn(look_up(host, port, turns.clone()));
            }
            PeerAddr::Host(..) => {}
        }
    }
    if !addrs.is_empty() && out.send(addrs).await.is_err() {
        return;
    }
    while let Some(found) = lookups.join_next().await {
        let found = joined(found);
        if !found.is_empty() && out.send(found).await.is_err() {
            return;
        }
    }
}

/// The addresses of a peer given by host name; none when the look-up fails or takes too long.
async fn look_up(host: String, port: u16, turns: Arc<Semaphore>) -> Vec<SocketAddr> {
    let _turn = turns.acquire_owned().await.expect("the semaphore is never closed");
    match timeout(LOOKUP_TIME, lookup_host((host.as_str(), port))).await {
        Ok(Ok(addrs)) => addrs.filter_map(usable).take(ADDRESSES_A_NAME).collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}
