//! The DHT's part in a session.

use crate::discovery::dht::{DEFAULT_BOOTSTRAP, DhtCounters, DhtHandle, DhtNote, DhtSettings, DhtSockets};
use crate::metainfo::InfoHash;
use crate::swarm::IpFilter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A download with fewer peers than this wishes for more.
const FEW_PEERS: u32 = 5;
/// Reports in a row, of which there is one a second, after which a download with more has them for good: peers come and go.
const SETTLED: u32 = 60;

/// How the DHT is used.
#[derive(Clone, Debug)]
pub struct DhtOptions {
    /// Nodes to begin with, as `host:port`.
    pub bootstrap: Vec<String>,
    /// The file that nodes are kept in from run to run. Several programs may have it: the first keeps it.
    pub state: Option<PathBuf>,
    /// Asks and announces, but answers nobody, and says so (BEP 43): for a node that others cannot reach.
    pub read_only: bool,
}

impl Default for DhtOptions {
    fn default() -> Self {
        Self { bootstrap: DEFAULT_BOOTSTRAP.map(str::to_owned).to_vec(), state: None, read_only: false }
    }
}

impl DhtOptions {
    /// The port that peers are told of, to find a node there that answers (BEP 5).
    pub(super) fn port(&self, sockets: &DhtSockets) -> Option<u16> {
        sockets.port().filter(|_| !self.read_only)
    }
}

/// What a download has to say to the DHT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appetite {
    More,
    Enough,
}

/// Whether a download has few peers.
#[derive(Debug, Default)]
struct Hunger {
    /// For how many reports it has had enough.
    sated: u32,
}

impl Hunger {
    /// A download stands so.
    fn report(&mut self, peers: u32, left: u64) -> Option<Appetite> {
        if peers < FEW_PEERS && left > 0 {
            self.sated = 0;
            return Some(Appetite::More);
        }
        self.sated = self.sated.saturating_add(1);
        (self.sated == SETTLED).then_some(Appetite::Enough)
    }
}

/// The search for peers of one torrent.
pub(super) struct DhtSearch {
    handle: DhtHandle,
    hunger: Hunger,
    info_hash: InfoHash,
    notes: mpsc::Receiver<DhtNote>,
}

impl DhtSearch {
    /// Starts a node, and searches. Not to be called for a private torrent, whose peers come from trackers alone (BEP 27).
    pub(super) fn start(
        options: Option<(&DhtOptions, DhtSockets)>,
        info_hash: InfoHash,
        nodes: &[(String, u16)],
        listen: SocketAddr,
        filter: Option<Arc<IpFilter>>,
        found: mpsc::Sender<Vec<SocketAddr>>,
    ) -> Option<Self> {
        let (options, sockets) = options?;
        let (tell, notes) = mpsc::channel(16);
        let mut bootstrap = options.bootstrap.clone();
        bootstrap.extend(nodes.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }));
        let (state, read_only) = (options.state.clone(), options.read_only);
        let settings = DhtSettings { listen, bootstrap, state, read_only, filter };
        let handle = DhtHandle::start(settings, sockets, tell);
        handle.search(info_hash, found);
        Some(Self { handle, hunger: Hunger::default(), info_hash, notes })
    }

    /// What happens next; never comes when there is no search or no node any more.
    pub(super) async fn note(search: &mut Option<Self>) -> DhtNote {
        if let Some(search) = search
            && let Some(note) = search.notes.recv().await
        {
            return note;
        }
        std::future::pending().await
    }

    /// A peer has named a node.
    pub(super) fn add_node(&self, addr: SocketAddr) {
        self.handle.add_node(addr);
    }

    /// A download stands so: if it has few peers, more are looked for.
    pub(super) fn progress(&mut self, peers: u32, left: u64) {
        match self.hunger.report(peers, left) {
            Some(Appetite::More) => self.handle.want_peers(self.info_hash),
            Some(Appetite::Enough) => self.handle.enough_peers(self.info_hash),
            None => {}
        }
    }

    pub(super) fn counters(&self) -> DhtCounters {
        self.handle.counters()
    }

    /// Keeps what is known for the next run, and ends.
    pub(super) async fn stop(self) {
        self.handle.stop().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::net::UdpSocket;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_node_that_only_reads_says_so_and_answers_nobody() {
        const PING: &[u8] = b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe";
        for read_only in [false, true] {
            let other = UdpSocket::bind("127.0.79.1:0").await.unwrap();
            let bootstrap = vec![other.local_addr().unwrap().to_string()];
            let options = DhtOptions { bootstrap, state: None, read_only };
            // A port that is free: else another is taken, which does just as well.
            let free = UdpSocket::bind("127.0.79.2:0").await.unwrap().local_addr().unwrap();
            let sockets = DhtSockets::bind(free);
            assert_eq!(options.port(&sockets).is_none(), read_only, "peers would ask who does not answer");
            let dht = Some((&options, sockets));
            let search =
                DhtSearch::start(dht, InfoHash([7; 20]), &[], free, None, mpsc::channel(16).0).unwrap();
            let mut bytes = [0; 1500];
            let (len, node) = other.recv_from(&mut bytes).await.unwrap();
            let says = |part: &[u8]| bytes[..len].windows(part.len()).any(|bytes| bytes == part);
            assert!(says(b"1:y1:q") && says(b"2:roi1e") == read_only, "{}", bytes[..len].escape_ascii());
            other.send_to(PING, node).await.unwrap();
            let answered = async {
                loop {
                    let (len, _) = other.recv_from(&mut bytes).await.unwrap();
                    let is_answer = bytes[..len].windows(7).any(|bytes| bytes == b"1:t2:aa");
                    if is_answer && bytes[..len].ends_with(b"1:y1:re") {
                        return;
                    }
                }
            };
            let wait = if read_only { Duration::from_millis(500) } else { Duration::from_secs(20) };
            assert_eq!(timeout(wait, answered).await.is_ok(), !read_only);
            search.stop().await;
        }
    }

    #[test]
    fn who_has_peers_for_a_minute_has_enough_and_says_so_once() {
        let mut hunger = Hunger::default();
        assert_eq!(hunger.report(4, 1), Some(Appetite::More));
        // One that goes and comes again.
        assert!((0..300).all(|second| {
            let peers = if second % 50 == 0 { 4 } else { 5 };
            hunger.report(peers, 1) != Some(Appetite::Enough)
        }));
        let said = |hunger: &mut Hunger| (0..300).filter_map(|_| hunger.report(5, 1)).collect::<Vec<_>>();
        assert_eq!(said(&mut hunger), [Appetite::Enough]);
        assert_eq!(said(&mut hunger), []);
        assert_eq!(hunger.report(4, 1), Some(Appetite::More));
        assert_eq!(said(&mut hunger), [Appetite::Enough]);
        assert_eq!(hunger.report(0, 0), None, "who has all needs nobody");
    }
}
