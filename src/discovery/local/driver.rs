//! The task that listens and speaks, and its handle.

use super::intake::Intake;
use super::packet::{PACKET_LEN, Search};
use super::schedule::Schedule;
use super::sockets::Group;
use crate::metainfo::InfoHash;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// Where the peers of a torrent go.
pub type Found = mpsc::Sender<Vec<SocketAddr>>;

/// How often it is looked for new interfaces, to hear what is said there.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a socket's error, which might come again at once.
const PAUSE: Duration = Duration::from_secs(1);

/// What was said and heard since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams sent, one an interface.
    pub sent: u64,
    /// Datagrams that came from others, and could be read.
    pub heard: u64,
    /// Datagrams that could not be read.
    pub unread: u64,
    /// Peers of our torrents that were handed on.
    pub peers: u64,
    /// Datagrams that were passed over because too many came, and peers because too many waited.
    pub limited: u64,
}

/// Counted by the task, read by whoever has the handle.
#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    heard: AtomicU64,
    unread: AtomicU64,
    peers: AtomicU64,
    limited: AtomicU64,
}

/// A running local search for the peers of some torrents. Ends when it is dropped.
///
/// ```no_run
/// use seedring::discovery::local::LocalSearch;
/// use seedring::metainfo::InfoHash;
/// use tokio::sync::mpsc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let (found, mut peers) = mpsc::channel(16);
/// let search = LocalSearch::start(([0, 0, 0, 0], 6881).into(), [(InfoHash([7; 20]), found)])?;
/// let addrs = peers.recv().await;
/// # std::io::Result::Ok(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct LocalSearch {
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl LocalSearch {
    /// Says that we have or want these torrents and take connections at `listen`, and listens who else does. Private
    /// torrents must not be among them (BEP 27). When a torrent's channel is full, its peers are passed over: they
    /// will say so again. Call on a tokio runtime.
    ///
    /// # Errors
    /// When the kernel refuses the sockets.
    pub fn start(
        listen: SocketAddr,
        torrents: impl IntoIterator<Item = (InfoHash, Found)>,
    ) -> io::Result<Self> {
        let wanted: HashMap<InfoHash, Found> = torrents.into_iter().collect();
        let counters = Arc::new(Counters::default());
        let now = Instant::now().into_std();
        let driver = Driver {
            groups: Group::all(listen)?,
            schedule: Schedule::new(wanted.keys().copied(), now),
            intake: Intake::new(now),
            wanted,
            port: listen.port(),
            cookie: format!("seedring-{:016x}", fastrand::u64(..)).into_bytes(),
            counters: Arc::clone(&counters),
        };
        Ok(Self { counters, task: tokio::spawn(driver.run()) })
    }

    /// What was said and heard so far.
    pub fn counts(&self) -> Counts {
        let Counters { sent, heard, unread, peers, limited } = &*self.counters;
        let [sent, heard, unread, peers, limited] =
            [sent, heard, unread, peers, limited].map(|counter| counter.load(Ordering::Relaxed));
        Counts { sent, heard, unread, peers, limited }
    }
}

impl Drop for LocalSearch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    groups: Vec<Group>,
    schedule: Schedule,
    intake: Intake,
    wanted: HashMap<InfoHash, Found>,
    port: u16,
    cookie: Vec<u8>,
    counters: Arc<Counters>,
}

impl Driver {
    async fn run(mut self) {
        // One byte more than a datagram may have: what is longer shows.
        let mut room = [0; PACKET_LEN + 1];
        loop {
            self.groups.iter().for_each(Group::join);
            let now = Instant::now();
            if let Some(info_hashes) = self.schedule.next(now.into_std()) {
                self.say(info_hashes);
            }
            let deadline = self.schedule.next_deadline().map_or(now + LOOK, |at| (now + LOOK).min(at.into()));
            loop {
                tokio::select! {
                    () = sleep_until(deadline) => break,
                    heard = hear_any(&self.groups, &mut room) => match heard {
                        Ok((len, from)) => self.take(&room[..len], from),
                        Err(error) => {
                            tracing::debug!("local discovery: {error}");
                            sleep(PAUSE).await;
                        }
                    },
                }
            }
        }
    }

    fn say(&self, info_hashes: Vec<InfoHash>) {
        let search = Search { port: self.port, info_hashes, cookie: Some(self.cookie.clone()) };
        for group in &self.groups {
            let sent = group.say(&search.encode(group.addr));
            self.counters.sent.fetch_add(sent as u64, Ordering::Relaxed);
        }
    }

    fn take(&mut self, packet: &[u8], from: SocketAddr) {
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
        if !self.intake.admit(Instant::now().into_std()) {
            return count(&self.counters.limited);
        }
        let Ok(search) = Search::parse(packet) else {
            return count(&self.counters.unread);
        };
        if search.cookie.as_ref() == Some(&self.cookie) {
            return;
        }
        count(&self.counters.heard);
        let mut contact = from;
        contact.set_port(search.port);
        for found in search.info_hashes.iter().filter_map(|info_hash| self.wanted.get(info_hash)) {
            let handed_on = found.try_send(vec![contact]).is_ok();
            count(if handed_on { &self.counters.peers } else { &self.counters.limited });
        }
    }
}

/// The next datagram of any group: how long it is, and from whom.
async fn hear_any(groups: &[Group], room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    std::future::poll_fn(|context| {
        let mut heard = groups.iter().map(|group| group.poll_hear(context, room));
        heard.find(Poll::is_ready).unwrap_or(Poll::Pending)
    })
    .await
}
