//! The task that asks the trackers of one torrent, and its handle.

use super::announce::{AnnounceRequest, Event};
use super::announcer::{Announcer, AnnouncerConfig, Due, Goodbye, Input, Told};
use super::client::TrackerClient;
use super::counters::Count;
use super::error::TrackerError;
use super::identity::{TorrentIdentity, Totals};
use super::reply::AnnounceResponse;
use super::scrape::Scrape;
use super::udp_exchange::UdpPatience;
use super::url::{TrackerUrl, label};
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Time that the end of a torrent may take, how much of it an announce under way gets, how much one that tells of the completion (for
/// it is told again after that, and a tracker that was only slow counts two), and how much what comes before the last word to a
/// tracker, or is told to one that may not have heard of us.
const STOP_TIME: Duration = Duration::from_secs(5);
const FINISH_TIME: Duration = Duration::from_secs(1);
const COMPLETION_TIME: Duration = Duration::from_millis(2500);
const WORD_TIME: Duration = Duration::from_millis(1500);
/// Patience with a UDP tracker when we leave.
const LAST_WORDS: UdpPatience = UdpPatience { first_wait: Duration::from_secs(1), retries: 1 };
/// Most trackers of a torrent that are asked.
const MAX_TRACKERS: usize = 100;
/// How many peers a tracker is asked for.
const NUM_WANT: u32 = 100;

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
        /// Our address as the tracker sees it (BEP 24): one vote, not the truth.
        external_ip: Option<IpAddr>,
    },
    /// A scrape has ended.
    Scraped {
        /// The tracker.
        tracker: String,
        /// The counts, `None` when the tracker does not know the torrent; or why there are none.
        result: Result<Option<Scrape>, TrackerError>,
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
///     told: Vec::new(),
/// };
/// tokio::spawn(tracker.run());
///
/// let totals = Arc::new(Totals::default());
/// totals.left.store(1000, std::sync::atomic::Ordering::Relaxed);
/// let (peers, mut found) = mpsc::channel(16);
/// let (notes, mut log) = mpsc::channel(16);
/// let client = Arc::new(TrackerClient::new(TrackerOptions::default()));
/// let announcing = Announcing::start(client, torrent, AnnouncerConfig::default(), totals, peers, notes);
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
    task: JoinHandle<Vec<Told>>,
}

/// What the handle asks of the task. Standing values, so that nothing queues up and nothing is lost.
#[derive(Clone, Copy, Debug, Default)]
struct Wishes {
    completed: bool,
    /// How often peers were wished for, how many of these wishes are fulfilled, and how often a scrape was wished for.
    want_peers: u64,
    has_peers: u64,
    scrape: u64,
    end: Option<End>,
}

/// How announcing ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Trackers are told.
    Stop,
    /// Somebody else goes on.
    Leave,
}

impl Announcing {
    /// Starts to announce on the current tokio runtime, first of all `started`. Whether the torrent was complete
    /// at the start is read from `totals.left`.
    ///
    /// `peers` gets the addresses of each reply as soon as they are known; while it is full, a newer reply
    /// replaces the one that waits. `notes` gets what room there is for: announcing never waits for it.
    pub fn start(
        client: Arc<TrackerClient>,
        torrent: TorrentIdentity,
        config: AnnouncerConfig,
        totals: Arc<Totals>,
        peers: mpsc::Sender<Vec<SocketAddr>>,
        notes: mpsc::Sender<Note>,
    ) -> Self {
        let (wishes, wished) = watch::channel(Wishes::default());
        let mut torrent = torrent;
        let tiers = supported(std::mem::take(&mut torrent.tiers), &notes, &client);
        let alone = tiers.iter().flatten().count() == 1;
        let complete = totals.left.load(Ordering::Relaxed) == 0;
        let now = Instant::now().into_std();
        let line = |tiers| {
            let mut machine = Announcer::new(config, tiers, complete, fastrand::u64(..), now);
            machine.know_us(&torrent.told);
            Line { machine, delivery: JoinSet::new() }
        };
        let lines = if config.to_all {
            tiers.into_iter().flatten().map(|url| line(vec![vec![url]])).collect()
        } else {
            vec![line(tiers)]
        };
        let driver = Driver { client, lines, alone, torrent, totals, peers, notes, scrapes: JoinSet::new() };
        Self { wishes, task: tokio::spawn(driver.run(wished)) }
    }

    /// Asks all trackers for their counts, each of which becomes a [`Note::Scraped`]; nothing while a scrape is under
    /// way.
    pub fn scrape(&self) {
        self.wishes.send_modify(|wishes| wishes.scrape += 1);
    }

    /// The download is complete: tells a tracker so, once.
    pub fn completed(&self) {
        self.wishes.send_modify(|wishes| wishes.completed = true);
    }

    /// More peers are welcome: announces as soon as the tracker allows, and when that does not help, again after a time that
    /// doubles until it is the tracker's interval. May be called at any rate.
    pub fn want_peers(&self) {
        self.wishes.send_modify(|wishes| wishes.want_peers += 1);
    }

    /// There are peers enough: the next wish is fulfilled as soon as the tracker allows. May be called at any rate.
    pub fn has_peers(&self) {
        self.wishes.send_if_modified(|wishes| {
            std::mem::replace(&mut wishes.has_peers, wishes.want_peers) != wishes.want_peers
        });
    }

    /// Tells `stopped` to every tracker that knows of us, before it `completed` when that was not told yet, and
    /// ends. Takes 5 s at most.
    pub async fn stop(self) {
        self.end(End::Stop).await;
    }

    /// Ends at once, and tells nobody, for somebody else goes on by the same name from the same place: who is to tell those
    /// trackers that know us, in the end, is given them.
    pub async fn leave(self) -> Vec<Told> {
        self.end(End::Leave).await
    }

    async fn end(self, how: End) -> Vec<Told> {
        self.wishes.send_modify(|wishes| wishes.end = Some(how));
        match self.task.await {
            Ok(told) => told,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Vec::new(),
        }
    }
}

/// The tiers without the URLs that cannot be asked, each of which is reported, those that are too many, and those named before:
/// a tracker that is taken for two hears from us more often than it allows.
pub(super) fn supported(
    mut tiers: Vec<Vec<String>>,
    notes: &mpsc::Sender<Note>,
    client: &TrackerClient,
) -> Vec<Vec<String>> {
    let (mut named, mut taken) = (HashSet::new(), 0);
    for tier in &mut tiers {
        tier.retain(|url| {
            let parsed = TrackerUrl::parse(url);
            // What cannot be read is the same when it is written the same.
            let name = parsed.as_ref().map(TrackerUrl::identity).map_err(|_| url.clone());
            match parsed {
                _ if !named.insert(name) => false,
                Ok(_) if taken < MAX_TRACKERS => {
                    taken += 1;
                    true
                }
                Ok(_) => {
                    client.counters.add(Count::TrackerDropped, 1);
                    false
                }
                Err(error) => {
                    let (tracker, error) = (label(url), error.into());
                    // A full log loses the note, nothing else.
                    let _ = notes.try_send(Note::Failed { tracker, event: None, error });
                    false
                }
            }
        });
    }
    tiers.retain(|tier| !tier.is_empty());
    tiers
}

/// Trackers of which one is asked at a time.
struct Line {
    machine: Announcer,
    /// The one delivery of peers under way.
    delivery: JoinSet<()>,
}

struct Driver {
    client: Arc<TrackerClient>,
    /// One with all the tiers or, to announce to all, one for each tracker.
    lines: Vec<Line>,
    /// There is one tracker only.
    alone: bool,
    torrent: TorrentIdentity,
    totals: Arc<Totals>,
    peers: mpsc::Sender<Vec<SocketAddr>>,
    notes: mpsc::Sender<Note>,
    scrapes: JoinSet<Note>,
}

/// An announce that has ended: the number of its line, what was told, and what came.
struct Outcome {
    line: usize,
    due: Due,
    result: Result<AnnounceResponse, TrackerError>,
}

impl Driver {
    /// Gives those that know us when they were not told that we leave.
    async fn run(mut self, mut wished: watch::Receiver<Wishes>) -> Vec<Told> {
        let mut under_way = JoinSet::new();
        let mut heeded = Wishes::default();
        loop {
            let now = Instant::now().into_std();
            for line in 0..self.lines.len() {
                if let Some(due) = self.lines[line].machine.next(now) {
                    under_way.spawn(self.ask(line, due, self.patience()));
                }
            }
            let deadline = self.lines.iter().filter_map(|line| line.machine.next_deadline()).min();
            tokio::select! {
                Some(outcome) = under_way.join_next() => self.finished(joined(outcome)),
                Some(note) = self.scrapes.join_next() => self.tell(joined(note)),
                changed = wished.changed() => {
                    if changed.is_err() {
                        return Vec::new();
                    }
                    let wishes = *wished.borrow_and_update();
                    self.heed(wishes, std::mem::replace(&mut heeded, wishes));
                    match wishes.end {
                        None => {}
                        Some(End::Leave) => {
                            return self.lines.iter().flat_map(|line| line.machine.told()).collect();
                        }
                        Some(End::Stop) => break,
                    }
                }
                () = until(deadline) => {}
            }
        }
        // Whoever has not answered by then will forget us by itself.
        let _ = timeout(STOP_TIME, self.say_goodbye(under_way)).await;
        Vec::new()
    }

    /// Takes up what is new among the wishes.
    fn heed(&mut self, wishes: Wishes, earlier: Wishes) {
        let now = Instant::now().into_std();
        for line in &mut self.lines {
            if wishes.completed {
                line.machine.handle(now, Input::Completed);
            }
            // Both may be new. A wish that is fulfilled already costs one announce, one that is missed could cost a download.
            if wishes.has_peers != earlier.has_peers {
                line.machine.handle(now, Input::HasPeers);
            }
            if wishes.want_peers != earlier.want_peers {
                line.machine.handle(now, Input::WantPeers);
            }
        }
        if wishes.scrape != earlier.scrape && self.scrapes.is_empty() {
            let urls: Vec<_> = self.lines.iter().flat_map(|line| line.machine.urls()).collect();
            for url in urls {
                let (client, info_hash, url) = (self.client.clone(), self.torrent.info_hash, url.to_owned());
                self.scrapes.spawn(async move {
                    let counts = client.scrape(&url, &[info_hash]).await;
                    Note::Scraped {
                        tracker: label(&url),
                        result: counts.map(|counts| counts.into_iter().next().flatten()),
                    }
                });
            }
        }
    }

    /// Tells all trackers that know of us that we leave, at the same time.
    async fn say_goodbye(&mut self, mut under_way: JoinSet<Outcome>) {
        // A tracker that is just hearing of us is to hear that we leave, too.
        let tells = self.lines.iter().any(|line| line.machine.tells_completion());
        let _ = timeout(if tells { COMPLETION_TIME } else { FINISH_TIME }, async {
            while let Some(outcome) = under_way.join_next().await {
                self.finished(joined(outcome));
            }
        })
        .await;
        under_way.abort_all();
        let mut goodbyes = JoinSet::new();
        for line in 0..self.lines.len() {
            for Goodbye { words, heard_of_us } in self.lines[line].machine.goodbyes() {
                let last = if heard_of_us { STOP_TIME } else { WORD_TIME };
                let asked = words.into_iter().map(|due| {
                    let limit = if due.event == Some(Event::Stopped) { last } else { WORD_TIME };
                    (limit, self.ask(line, due, LAST_WORDS))
                });
                let asked: Vec<_> = asked.collect();
                goodbyes.spawn(async move {
                    let mut outcomes = Vec::new();
                    for (limit, announce) in asked {
                        outcomes.extend(timeout(limit, announce).await);
                    }
                    outcomes
                });
            }
        }
        while let Some(outcomes) = goodbyes.join_next().await {
            for Outcome { due, result, .. } in joined(outcomes) {
                self.note(&due, result);
            }
        }
    }

    /// Whether we fetch nothing more although something is missing (BEP 21).
    fn is_paused(&self) -> bool {
        self.totals.left.load(Ordering::Relaxed) > 0 && self.totals.paused.load(Ordering::Relaxed)
    }

    /// Patience with a UDP tracker while the torrent is there.
    fn patience(&self) -> UdpPatience {
        let usual = self.client.options().patience;
        if self.alone { usual } else { usual.hasty() }
    }

    fn ask(
        &self,
        line: usize,
        due: Due,
        patience: UdpPatience,
    ) -> impl Future<Output = Outcome> + Send + 'static {
        let TorrentIdentity { info_hash, peer_id, port, key, .. } = self.torrent;
        let request = AnnounceRequest {
            info_hash,
            peer_id,
            port,
            uploaded: self.totals.uploaded.load(Ordering::Relaxed),
            downloaded: self.totals.downloaded.load(Ordering::Relaxed),
            left: self.totals.left.load(Ordering::Relaxed),
            event: due.event.or(self.is_paused().then_some(Event::Paused)),
            num_want: if due.event == Some(Event::Stopped) { 0 } else { NUM_WANT },
            key,
            tracker_id: due.tracker_id.clone(),
            hostname: self.client.options().hostname.clone(),
            encryption: self.client.options().encryption,
        };
        let (client, peers) = (self.client.clone(), self.peers.clone());
        async move {
            // If the mailbox is full, they come with all others.
            let early = |reply: &AnnounceResponse| {
                let sockets = reply.sockets();
                if !sockets.is_empty() {
                    let _ = peers.try_send(sockets);
                }
            };
            let result = client.announce_with(&due.url, &request, patience, &early).await;
            Outcome { line, due, result }
        }
    }

    fn finished(&mut self, Outcome { line, due, result }: Outcome) {
        let (input, peers, from) = match &result {
            Err(error) => {
                let input = error.wait().map_or(Input::Failed, |wait| Input::Refused { wait });
                (input, Vec::new(), None)
            }
            Ok(reply) => {
                let (interval, min_interval) = (reply.interval, reply.min_interval);
                let tracker_id = reply.tracker_id.clone();
                (Input::Succeeded { interval, min_interval, tracker_id }, reply.peers.clone(), reply.from)
            }
        };
        let (now, machine) = (Instant::now().into_std(), &mut self.lines[line].machine);
        let raised = machine.raised();
        machine.handle(now, input);
        self.client.counters.add(Count::IntervalClamped, machine.raised() - raised);
        // An announce has room for one event. That we are no leech is told as soon as the tracker lets us.
        if result.is_ok() && due.event == Some(Event::Started) && self.is_paused() {
            self.lines[line].machine.handle(now, Input::WantPeers);
        }
        self.note(&due, result);
        if !peers.is_empty() {
            let (names, counters) = (self.client.peer_names.clone(), self.client.counters.clone());
            let from = self.client.trusted_as(from);
            let delivery = names.deliver(peers, from, self.peers.clone(), counters);
            self.lines[line].delivery = JoinSet::new();
            self.lines[line].delivery.spawn(delivery);
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
                external_ip: reply.external_ip,
            },
        };
        self.tell(note);
    }

    /// A full log loses the note, nothing else.
    fn tell(&self, note: Note) {
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
