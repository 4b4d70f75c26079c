//! The task that listens and speaks, and its handle.

use super::intake::Turns;
use super::packet::{PACKET_LEN, Search};
use super::schedule::Schedule;
use super::sockets::Group;
use crate::metainfo::InfoHash;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    /// Interfaces that are not used because there are too many, each as often as it was looked for new ones.
    pub interfaces: u64,
}

/// Counted by the task, read by whoever has the handle.
#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    heard: AtomicU64,
    unread: AtomicU64,
    peers: AtomicU64,
    limited: AtomicU64,
    interfaces: AtomicU64,
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
        let groups = Group::all(listen)?;
        let driver = Driver {
            turns: Turns::new(groups.len(), now),
            groups,
            schedule: Schedule::new(wanted.keys().copied(), now),
            wanted,
            port: listen.port(),
            cookie: format!("seedring-{:016x}", fastrand::u64(..)).into_bytes(),
            counters: Arc::clone(&counters),
        };
        Ok(Self { counters, task: tokio::spawn(driver.run()) })
    }

    /// What was said and heard so far.
    pub fn counts(&self) -> Counts {
        let Counters { sent, heard, unread, peers, limited, interfaces } = &*self.counters;
        let [sent, heard, unread, peers, limited, interfaces] =
            [sent, heard, unread, peers, limited, interfaces].map(|counter| counter.load(Ordering::Relaxed));
        Counts { sent, heard, unread, peers, limited, interfaces }
    }
}

impl Drop for LocalSearch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    groups: Vec<Group>,
    turns: Turns,
    schedule: Schedule,
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
            let unused: usize = self.groups.iter().map(Group::join).sum();
            self.counters.interfaces.fetch_add(unused as u64, Ordering::Relaxed);
            let now = Instant::now();
            if let Some(info_hashes) = self.schedule.next(now.into_std()) {
                self.say(info_hashes);
            }
            let deadline = self.schedule.next_deadline().map_or(now + LOOK, |at| (now + LOOK).min(at.into()));
            loop {
                tokio::select! {
                    () = sleep_until(deadline) => break,
                    (group, heard) = hear_any(&self.groups, &mut self.turns, &mut room) => match heard {
                        Ok((len, from)) => self.take(group, &room[..len], from),
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

    /// Takes a datagram of the group of that number.
    fn take(&mut self, group: usize, packet: &[u8], from: SocketAddr) {
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
        if !self.turns.admit(group, Instant::now().into_std()) {
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

/// The next datagram of any group: the number of the group, how long it is, and from whom.
async fn hear_any(
    groups: &[Group],
    turns: &mut Turns,
    room: &mut [u8],
) -> (usize, io::Result<(usize, SocketAddr)>) {
    std::future::poll_fn(|context| turns.poll(|group| groups[group].poll_hear(context, room))).await
}
