//! The task with the sockets, and its handle.

use super::compact::Family;
use super::counters::DhtCounters;
use super::keeper::{Keeper, Opened};
use super::message::MAX_DATAGRAM;
use super::node::{Announce, Dht, DhtConfig, Found};
use super::outlet::Outlet;
use super::socket::DhtSockets;
use crate::discovery::names::Names;
use crate::metainfo::{HostPort, InfoHash};
use crate::swarm::IpFilter;
use ::ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Hosts that know many nodes, for the first start.
pub const DEFAULT_BOOTSTRAP: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "router.utorrent.com:6881",
    "dht.libtorrent.org:25401",
];
/// Most addresses of one host name that are taken.
const ADDRESSES_A_NAME: usize = 8;
/// Most look-ups at once.
const MAX_LOOKUPS: usize = 64;
/// While we know no node, names are looked up again after this time, which doubles up to the longer.
const BOOTSTRAP_PAUSE: Duration = Duration::from_secs(10);
const BOOTSTRAP_PAUSE_MOST: Duration = Duration::from_secs(10 * 60);
/// How long writing the state may take at the end.
const SAVE_TIME: Duration = Duration::from_secs(3);
/// How often counters are told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Datagrams taken in one go before time is looked at.
const BATCH: usize = 64;
/// Wishes that may wait for the task.
const WISHES: usize = 256;

/// Where a DHT node lives.
#[derive(Clone, Debug)]
pub struct DhtSettings {
    /// Where peers connect to by TCP; with port 0 nothing is announced.
    pub listen: SocketAddr,
    /// Nodes to begin with: `host:port`, also with an IPv6 address in brackets.
    pub bootstrap: Vec<String>,
    /// The file that nodes are kept in from run to run. It is one node's at a time: others begin with what is in it.
    pub state: Option<PathBuf>,
    /// Asks, but does not answer (BEP 43).
    pub read_only: bool,
    /// Hosts that are neither heard nor told anything.
    pub filter: Option<Arc<IpFilter>>,
}

/// What happened, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DhtNote {
    /// The sockets are there.
    Started {
        /// One a family.
        addrs: Vec<SocketAddr>,
        /// Nodes that the last run has left.
        kept: usize,
        /// Whether another program has the file of these nodes: then we have an id of our own, and keep nothing.
        borrowed: bool,
    },
    /// There is no socket: the DHT is off.
    Failed(String),
    /// The first nodes have answered, or all have gone.
    Nodes(usize),
    /// Peers of a torrent were found.
    Found {
        /// The torrent.
        info_hash: InfoHash,
        /// How many.
        peers: usize,
    },
    /// A name could not be looked up.
    Unresolved(String),
    /// The state could not be read or written.
    State(String),
}

enum Wish {
    Search(InfoHash, mpsc::Sender<Vec<SocketAddr>>),
    Forget(InfoHash),
    Hurry(InfoHash),
    Enough(InfoHash),
    AddNode(SocketAddr),
    Bootstrap(Vec<String>),
}

/// A running DHT node. Dropped without [`stop`](Self::stop), it ends at once and keeps nothing.
#[derive(Debug)]
pub struct DhtHandle {
    wishes: mpsc::Sender<Wish>,
    stop: watch::Sender<bool>,
    counters: watch::Receiver<DhtCounters>,
    /// Wishes that found no room.
    lost: AtomicU64,
    task: Option<JoinHandle<()>>,
}

impl DhtHandle {
    /// Starts a node on the current tokio runtime, with these sockets. `notes` gets what room there is for: nothing ever
    /// waits for it.
    pub fn start(settings: DhtSettings, sockets: DhtSockets, notes: mpsc::Sender<DhtNote>) -> Self {
        let (wishes, wished) = mpsc::channel(WISHES);
        let (stop, stopped) = watch::channel(false);
        let (told, counters) = watch::channel(DhtCounters::default());
        let task = tokio::spawn(run((settings, sockets), notes, wished, stopped, told));
        Self { wishes, stop, counters, lost: AtomicU64::new(0), task: Some(task) }
    }

    /// Searches peers of a torrent from now on, and announces it. `found` gets their addresses; while it is full some wait, and
    /// too many are lost, for the next search finds them again.
    ///
    /// Never call this for a private torrent (BEP 27).
    pub fn search(&self, info_hash: InfoHash, found: mpsc::Sender<Vec<SocketAddr>>) {
        self.wish(Wish::Search(info_hash, found));
    }

    /// Searches and announces the torrent no more.
    pub fn forget(&self, info_hash: InfoHash) {
        self.wish(Wish::Forget(info_hash));
    }

    /// More peers of a torrent are welcome. May be called at any rate.
    pub fn want_peers(&self, info_hash: InfoHash) {
        self.wish(Wish::Hurry(info_hash));
    }

    /// There are peers enough, for now: the next wish for more is heard as soon as the first was.
    pub fn enough_peers(&self, info_hash: InfoHash) {
        self.wish(Wish::Enough(info_hash));
    }

    /// A peer has said by a PORT message that there is a node (BEP 5). Such news is limited and may be dropped.
    pub fn add_node(&self, addr: SocketAddr) {
        self.wish(Wish::AddNode(addr));
    }

    /// More nodes to begin with, as those of a torrent file.
    pub fn bootstrap(&self, hosts: Vec<String>) {
        self.wish(Wish::Bootstrap(hosts));
    }

    /// What has been counted, as of about a second ago.
    pub fn counters(&self) -> DhtCounters {
        DhtCounters { over_wish_limit: self.lost.load(Ordering::Relaxed), ..*self.counters.borrow() }
    }

    /// Writes the state and ends. Takes 3 s at most.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }

    fn wish(&self, wish: Wish) {
        // Only a flood of wishes fills the queue; what is lost then is wished again.
        if let Err(mpsc::error::TrySendError::Full(_)) = self.wishes.try_send(wish) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for DhtHandle {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// A node with its sockets.
struct Driver {
    dht: Dht,
    epoch: Instant,
    sockets: [Option<UdpSocket>; 2],
    announce: [Option<Announce>; 2],
    found: HashMap<InfoHash, Outlet>,
    notes: mpsc::Sender<DhtNote>,
    hosts: Vec<String>,
    names: Names,
    lookups: JoinSet<(String, Vec<SocketAddr>)>,
    bootstrap_at: Instant,
    bootstrap_pause: Duration,
    keeper: Keeper,
    had_nodes: bool,
    filter: Option<Arc<IpFilter>>,
    counted: Counted,
}

/// What the driver counts itself.
#[derive(Debug, Default)]
struct Counted {
    /// Datagrams that were not heard or not sent for the filter.
    filtered: u64,
    /// Peers that torrents have got, and that they have not.
    handed_on: u64,
    lost: u64,
    /// Names not looked up, and addresses not used.
    names: u64,
}

async fn run(
    (settings, sockets): (DhtSettings, DhtSockets),
    notes: mpsc::Sender<DhtNote>,
    mut wishes: mpsc::Receiver<Wish>,
    mut stop: watch::Receiver<bool>,
    told: watch::Sender<DhtCounters>,
) {
    let Some(mut driver) = Driver::start(settings, sockets, notes).await else { return };
    let mut tell_at = Instant::now();
    loop {
        driver.advance();
        if Instant::now() >= tell_at {
            tell_at = Instant::now() + TELL_EVERY;
            told.send_replace(driver.counters());
        }
        let due = driver.epoch + driver.dht.next_deadline();
        let due = due.min(driver.bootstrap_at).min(driver.keeper.due()).min(tell_at);
        let [v4, v6] = &driver.sockets;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            wish = wishes.recv() => match wish {
                Some(wish) => driver.wish(wish),
                None => break,
            },
            () = readable(v4) => driver.receive(Family::V4),
            () = readable(v6) => driver.receive(Family::V6),
            Some(found) = driver.lookups.join_next() => driver.resolved(joined(found)),
            Some(outcome) = driver.keeper.written() => driver.written(outcome),
            () = sleep_until(due) => {}
        }
    }
    driver.save();
    while let Ok(Some(outcome)) = timeout(SAVE_TIME, driver.keeper.written()).await {
        driver.written(outcome);
    }
}

impl Driver {
    /// `None` when there is no socket at all.
    async fn start(settings: DhtSettings, sockets: DhtSockets, notes: mpsc::Sender<DhtNote>) -> Option<Self> {
        let listen = settings.listen;
        let addrs = sockets.addrs();
        let DhtSockets { sockets, problems } = sockets;
        let local = |socket: &UdpSocket| socket.local_addr().ok();
        if addrs.is_empty() {
            let _ = notes.try_send(DhtNote::Failed(problems.join("; ")));
            return None;
        }
        let families = [0, 1].map(|family: usize| sockets[family].is_some());
        let announce = Family::ALL.map(|family| {
            let port = sockets[family as usize].as_ref().and_then(local)?.port();
            // A listener at all of IPv6 takes IPv4, too.
            let heard = Family::of(listen) == family || (listen.ip() == IpAddr::from(Ipv6Addr::UNSPECIFIED));
            (heard && listen.port() != 0)
                .then(|| Announce { port: listen.port(), implied: port == listen.port() })
        });
        let (keeper, Opened { state, borrowed, problems }) = Keeper::open(settings.state).await;
        problems.into_iter().for_each(|problem| _ = notes.try_send(DhtNote::State(problem)));
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret).expect("the system gives random bytes");
        let (read_only, keep_ids) = (settings.read_only, !borrowed);
        let config = DhtConfig { families, read_only, keep_ids, ..DhtConfig::default() };
        let dht = Dht::new(Duration::ZERO, config, secret, &state);
        let _ = notes.try_send(DhtNote::Started { addrs, kept: dht.doors(), borrowed });
        let now = Instant::now();
        Some(Self {
            // What the last run has left is tried before the names are.
            bootstrap_at: if dht.doors() > 0 { now + Duration::from_secs(5) } else { now },
            dht,
            epoch: now,
            sockets,
            announce,
            found: HashMap::new(),
            notes,
            hosts: settings.bootstrap,
            names: Names::of_nodes(),
            lookups: JoinSet::new(),
            bootstrap_pause: BOOTSTRAP_PAUSE,
            keeper,
            had_nodes: false,
            filter: settings.filter,
            counted: Counted::default(),
        })
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Everything that is due, and everything that has come of it.
    fn advance(&mut self) {
        self.dht.tick(self.now());
        while let Some((to, bytes)) = self.dht.take_outgoing() {
            // Whoever names one of these gets no word of it: the query is one that nobody answers.
            if self.is_filtered(to) {
                continue;
            }
            if let Some(socket) = &self.sockets[Family::of(to) as usize] {
                // What the kernel has no room for is lost, as on the way.
                let _ = socket.try_send_to(&bytes, to);
            }
        }
        self.hand_on();
        let (nodes, now) = (self.dht.nodes(), Instant::now());
        if (nodes > 0) != self.had_nodes {
            self.had_nodes = nodes > 0;
            self.note(DhtNote::Nodes(nodes));
            if self.had_nodes {
                self.keeper.hasten(now);
            }
        }
        if now >= self.bootstrap_at {
            self.bootstrap_at = now + self.bootstrap_pause;
            self.bootstrap_pause = (self.bootstrap_pause * 2).min(BOOTSTRAP_PAUSE_MOST);
            if nodes == 0 {
                self.resolve(self.hosts.clone());
            } else {
                self.bootstrap_pause = BOOTSTRAP_PAUSE;
            }
        }
        if self.keeper.take_due(now) {
            self.save();
        }
    }

    /// Hands found peers on to torrents, as far as they take them.
    fn hand_on(&mut self) {
        while let Some(Found { info_hash, peers }) = self.dht.take_found() {
            if let Some(outlet) = self.found.get_mut(&info_hash) {
                self.counted.lost += outlet.put(peers) as u64;
            }
        }
        let handed = self.found.iter_mut().map(|(info_hash, outlet)| (*info_hash, outlet.hand_on()));
        let handed: Vec<(InfoHash, usize)> = handed.filter(|(_, peers)| *peers > 0).collect();
        for (info_hash, peers) in handed {
            self.counted.handed_on += peers as u64;
            self.note(DhtNote::Found { info_hash, peers });
        }
    }

    /// What the node and its driver have counted.
    fn counters(&self) -> DhtCounters {
        DhtCounters {
            filtered: self.counted.filtered,
            peers_found: self.counted.handed_on,
            over_outlet_limit: self.counted.lost,
            over_name_limit: self.counted.names,
            ..self.dht.counters()
        }
    }

    fn wish(&mut self, wish: Wish) {
        let now = self.now();
        match wish {
            Wish::Search(info_hash, found) => {
                self.found.insert(info_hash, Outlet::new(found));
                self.dht.search(now, info_hash, self.announce);
            }
            Wish::Forget(info_hash) => {
                self.found.remove(&info_hash);
                self.dht.forget(info_hash);
            }
            Wish::Hurry(info_hash) => self.dht.hurry(now, info_hash),
            Wish::Enough(info_hash) => self.dht.enough(info_hash),
            Wish::AddNode(addr) => self.dht.add_node(now, addr),
            Wish::Bootstrap(hosts) => {
                self.hosts.extend(hosts.iter().cloned());
                self.resolve(hosts);
            }
        }
    }

    /// Whether there is to be nothing to do with the host. Each time is counted.
    fn is_filtered(&mut self, addr: SocketAddr) -> bool {
        let filtered = self.filter.as_ref().is_some_and(|filter| filter.contains(addr.ip()));
        self.counted.filtered += u64::from(filtered);
        filtered
    }

    /// Takes what has come, up to a batch.
    fn receive(&mut self, family: Family) {
        let mut buffer = [0; MAX_DATAGRAM + 1];
        for _ in 0..BATCH {
            let Some(socket) = &self.sockets[family as usize] else { return };
            match socket.try_recv_from(&mut buffer) {
                Ok((_, from)) if self.is_filtered(from) => {}
                Ok((len, from)) => self.dht.hear(self.epoch.elapsed(), from, &buffer[..len]),
                // Nothing left; or an error of an earlier datagram, which says nothing about the next.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }

    fn resolve(&mut self, hosts: Vec<String>) {
        let room = MAX_LOOKUPS.saturating_sub(self.lookups.len());
        self.counted.names += hosts.len().saturating_sub(room) as u64;
        for host in hosts.into_iter().take(room) {
            let (names, place) = (self.names.clone(), HostPort::parse(&host));
            self.lookups.spawn(async move {
                let found = match &place {
                    Some(place) => names.look_up(&place.host, place.port).await.unwrap_or_default(),
                    None => Vec::new(),
                };
                (host, found)
            });
        }
    }

    fn resolved(&mut self, found: Option<(String, Vec<SocketAddr>)>) {
        match found {
            Some((host, addrs)) if addrs.is_empty() => self.note(DhtNote::Unresolved(host)),
            Some((_, mut addrs)) => {
                self.counted.names += addrs.len().saturating_sub(ADDRESSES_A_NAME) as u64;
                addrs.truncate(ADDRESSES_A_NAME);
                self.dht.bootstrap(self.now(), &addrs);
            }
            None => {}
        }
    }

    /// Begins to write the state, unless there is nothing worth it.
    fn save(&mut self) {
        if self.dht.nodes() > 0 {
            self.keeper.write(|| self.dht.state());
        }
    }

    fn written(&self, outcome: Result<(), String>) {
        if let Err(problem) = outcome {
            self.note(DhtNote::State(problem));
        }
    }

    fn note(&self, note: DhtNote) {
        // A full log loses the note, nothing else.
        let _ = self.notes.try_send(note);
    }
}

/// The outcome of a task, `None` of one that was aborted; its panic goes on here.
pub(super) fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Option<T> {
    match outcome {
        Ok(value) => Some(value),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

async fn readable(socket: &Option<UdpSocket>) {
    match socket {
        Some(socket) if socket.readable().await.is_ok() => {}
        _ => std::future::pending().await,
    }
}
