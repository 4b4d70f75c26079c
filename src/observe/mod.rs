//! What the program shows of itself: the cores' snapshots in, pages in Prometheus' text format out.
//!
//! Everything here runs on the control thread, on values that the cores have sent once a second: looking at
//! a page costs them nothing.
//!
//! | file | subject |
//! |---|---|
//! | `registry` | counters and gauges, each with its name and what it means |
//! | `dht` | what the DHT counts |
//! | `peers` | which peers have a series of their own |
//! | `process` | memory, descriptors and processor time of the process |
//! | `text` | the text format |
//!
//! # Names
//!
//! Base units, `_total` counters and rates as gauges beside them; one metric with a label rather than a name for each
//! value of it; labels of few values that are known beforehand. Everything has a bound: single peers are not in the
//! registry, which forgets nothing, but on a page of their own, and never with a port or a peer id.
//!
//! Other programs' exporters have some figures that are not here, or are here by another name:
//!
//! | elsewhere | here |
//! |---|---|
//! | payload bytes sent and received | `uploaded_bytes`, `received_bytes`; `downloaded_bytes` are those that were verified, too |
//! | tracker bytes, `announces_total` by protocol and result | `tracker_bytes_total`; `tracker_events_total`, one event for each pair |
//! | length of the announce queue, ratio, share limits | absent: a program has one torrent, and no queue of them |
//! | `hash_failures_total` | `failed_pieces_total` |
//! | `io_uring` entries submitted, completed, `enter` calls | `ring_operations_total`, `ring_completions_total`, `ring_submissions_total` |
//! | `sq_full` | `ring_queue_full_total`, counted as operations are queued |
//! | `cq_overflow` | absent: it stands in memory that only tokio-uring has mapped; the kernel loses no completion that overflows, but hands it over later |
//! | path of a disk read: `cache`, `direct` | `buffered`, `direct`: the page cache; our own is `cache_hits_total`, and what is sent from the page cache without a read `page_cache_hits_total` |
//! | peers by transport | always `tcp`: there is no other yet |
//! | bytes sent by peers that are not listed | `peers_other_uploaded_bytes_total` |
//! | one series a torrent, free space, errors of categories and tags | absent: the program has no torrents but those of its command line |

mod dht;
mod peers;
mod process;
mod registry;
#[cfg(test)]
mod tests;
mod text;

use crate::discovery::dht::DhtCounters;
use crate::discovery::local;
use crate::metainfo::Torrent;
use crate::ring::{Histogram, Kind};
use crate::session::{Snapshot, TrackerCounts};
pub use peers::Hosts;
use peers::{Peers, Rest, Shown, Traffic};
use registry::Registry;
use std::collections::BTreeMap;
use std::time::Duration;
use text::{Label, Page};

/// One of several sessions in this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeNumber(usize);

/// A session, as it stands.
struct Node {
    name: Option<String>,
    /// The first 8 hex digits of the info-hash.
    torrent: String,
    /// What the torrent says it is called.
    title: String,
    /// Bytes.
    size: u64,
    /// Names of its files that are other ones here.
    changed_names: u64,
    cores: BTreeMap<u32, Snapshot>,
}

impl Node {
    /// What tells its series from those of other nodes.
    fn labels(&self) -> Vec<Label<'_>> {
        self.name.iter().map(|name| ("node", name.as_str())).collect()
    }

    /// What is done with its torrent.
    fn state(&self) -> &'static str {
        match self.cores.values().any(|core| core.seeding) {
            true => "seeding",
            false if self.cores.values().all(|core| core.checking) => "checking",
            false => "downloading",
        }
    }

    /// A histogram of all its cores together.
    fn sum(&self, none: Histogram, of: impl Fn(&Snapshot) -> Histogram) -> Histogram {
        self.cores.values().fold(none, |mut sum, core| {
            sum.add(&of(core));
            sum
        })
    }
}

/// All that is known, ready to be shown.
pub struct Board {
    nodes: Vec<Node>,
    registry: Registry,
    peers: Peers,
}

impl Board {
    /// An empty board that shows at most so many peers by name, and so much of their addresses.
    pub fn new(most_peers: usize, hosts: Hosts) -> Self {
        Self { nodes: Vec::new(), registry: Registry::new(), peers: Peers::new(most_peers, hosts) }
    }

    /// Adds a session. When there are several, each has a `name` of its own, which becomes the label `node`.
    pub fn add(&mut self, name: Option<&str>, torrent: &Torrent) -> NodeNumber {
        let mut hash = torrent.info_hash.to_string();
        hash.truncate(8);
        self.nodes.push(Node {
            name: name.map(str::to_owned),
            torrent: hash,
            title: torrent.name.clone(),
            changed_names: torrent.changed_names as u64,
            size: torrent.layout.total(),
            cores: BTreeMap::new(),
        });
        let number = self.nodes.len() - 1;
        self.peers.add_node(number);
        NodeNumber(number)
    }

    /// So many pieces on disk have been looked at.
    pub fn checked(&mut self, node: NodeNumber, pieces: u32) {
        self.registry.set_checked(&self.nodes[node.0], pieces);
    }

    /// What the search on the local network has counted.
    pub fn local(&mut self, node: NodeNumber, counts: local::Counts) {
        self.registry.set_local(&self.nodes[node.0], counts);
    }

    /// What the DHT has counted.
    pub fn dht(&mut self, node: NodeNumber, counters: &DhtCounters) {
        dht::set(&self.registry, &self.nodes[node.0], counters);
    }

    /// Takes in what a core has sent. `now`: on any clock that does not go backwards.
    pub fn take(&mut self, now: Duration, node: NodeNumber, snapshot: Snapshot) {
        let total = Traffic { up: snapshot.progress.uploaded, down: snapshot.received };
        self.peers.take(now, (node.0, snapshot.core), &snapshot.peers, total);
        let number = snapshot.core;
        let node = &mut self.nodes[node.0];
        node.cores.insert(number, snapshot);
        self.registry.set(node, &node.cores[&number]);
    }

    /// What trackers have cost and given a session.
    pub fn trackers(&mut self, node: NodeNumber, counts: &TrackerCounts) {
        self.registry.set_trackers(&self.nodes[node.0], counts);
    }

    /// The page `/metrics`: everything but single peers.
    pub fn metrics(&self) -> String {
        let mut page = Page::default();
        page.push_str(&self.registry.render());
        let help = "What the torrent is called; always 1.";
        let infos = self.nodes.iter().map(|node| {
            let mut labels = node.labels();
            labels.extend([("torrent", node.torrent.as_str()), ("name", &node.title)]);
            (labels, 1)
        });
        page.family(("seedring_torrent_info", "gauge", help), infos);
        page.family(
            ("seedring_torrent_bytes", "gauge", "Size of the torrent."),
            self.nodes.iter().map(|node| (node.labels(), node.size)),
        );
        self.states(&mut page);
        self.busy(&mut page);
        self.histograms(&mut page);
        process::write(&mut page);
        page.into_string()
    }

    /// Torrents by what is done with them.
    fn states(&self, page: &mut Page) {
        let states = ["checking", "downloading", "seeding"];
        let samples = self.nodes.iter().flat_map(|node| {
            let now = node.state();
            states.map(|state| {
                let labels = node.labels().into_iter().chain([("state", state)]);
                (labels.collect(), u8::from(state == now))
            })
        });
        page.family(("seedring_torrents", "gauge", "Torrents, by what is done with them."), samples);
    }

    /// Seconds, which the registry's counters do not count in parts.
    fn busy(&self, page: &mut Page) {
        let help = "Processor time of the core's thread, in user space and in the kernel.";
        let cores = self.nodes.iter().flat_map(|node| node.cores.values().map(move |core| (node, core)));
        let told: Vec<(&Node, String, f64)> =
            cores.map(|(node, core)| (node, core.core.to_string(), core.ring.busy as f64 / 1e9)).collect();
        let samples = told.iter().map(|(node, core, seconds)| {
            let labels = node.labels().into_iter().chain([("core", core.as_str())]);
            (labels.collect(), *seconds)
        });
        page.family(("seedring_core_busy_seconds_total", "counter", help), samples);
    }

    fn histograms(&self, page: &mut Page) {
        let (times, sizes) = (Histogram::of_times(), Histogram::of_sizes());
        let told = || self.nodes.iter().filter(|node| !node.cores.is_empty());
        let disk = |kind: Kind| {
            told().map(move |node| {
                let labels = node.labels().into_iter().chain([("operation", kind.name())]);
                (labels.collect::<Vec<_>>(), node, kind as usize)
            })
        };
        page.histogram(
            "seedring_disk_operation_seconds",
            "Time of each operation on files.",
            1e9,
            Kind::DISK
                .into_iter()
                .flat_map(disk)
                .map(|(labels, node, kind)| (labels, node.sum(times, |core| core.ring.disk[kind].times))),
        );
        page.histogram(
            "seedring_disk_operation_bytes",
            "Bytes moved by each operation on files.",
            1.0,
            [Kind::Read, Kind::Write]
                .into_iter()
                .flat_map(disk)
                .map(|(labels, node, kind)| (labels, node.sum(sizes, |core| core.ring.disk[kind].sizes))),
        );
        let batches = |core: &Snapshot, kind| if kind == "verify" { core.checked } else { core.hashed };
        let hashed = || {
            told().flat_map(move |node| {
                ["verify", "download"].map(|kind| {
                    let labels = node.labels().into_iter().chain([("kind", kind)]);
                    (labels.collect::<Vec<_>>(), node, kind)
                })
            })
        };
        page.histogram(
            "seedring_hash_batch_seconds",
            "Time to hash each batch of runs, to verify what was on disk, and of what was downloaded.",
            1e9,
            hashed().map(|(labels, node, kind)| (labels, node.sum(times, |core| batches(core, kind).times))),
        );
        page.histogram(
            "seedring_hash_batch_bytes",
            "Bytes of each batch of runs that were hashed side by side.",
            1.0,
            hashed().map(|(labels, node, kind)| (labels, node.sum(sizes, |core| batches(core, kind).sizes))),
        );
    }

    /// The page `/metrics/peers`: the busiest peers, each by itself, and all others together.
    pub fn peers(&self) -> String {
        let mut page = Page::default();
        self.listed_peers(&mut page);
        self.other_peers(&mut page);
        page.into_string()
    }

    fn listed_peers(&self, page: &mut Page) {
        let listed: Vec<(String, Shown<'_>)> =
            self.peers.listed().map(|shown| (self.peers.hosts.show(shown.name.peer), shown)).collect();
        let mut family = |name, kind, help, value: fn(&Shown<'_>) -> u64| {
            let samples = listed.iter().map(|(ip, shown)| {
                let node = &self.nodes[shown.name.node];
                let port_kind = if shown.name.incoming { "in" } else { "out" };
                let mut labels = node.labels();
                labels.extend([
                    ("peer", ip.as_str()),
                    ("port_kind", port_kind),
                    ("client", &shown.name.client),
                    ("torrent", &node.torrent),
                ]);
                (labels, value(shown))
            });
            page.family((name, kind, help), samples);
        };
        family(
            "seedring_peer_uploaded_bytes_total",
            "counter",
            "Payload sent to the peer since it is listed here.",
            |shown| shown.counted.up,
        );
        family(
            "seedring_peer_downloaded_bytes_total",
            "counter",
            "Payload that came from the peer since it is listed here.",
            |shown| shown.counted.down,
        );
        family(
            "seedring_peer_upload_bytes_per_second",
            "gauge",
            "Payload sent to the peer each second, over the last few.",
            |shown| shown.rate.up,
        );
        family(
            "seedring_peer_download_bytes_per_second",
            "gauge",
            "Payload coming from the peer each second, over the last few.",
            |shown| shown.rate.down,
        );
        family(
            "seedring_peer_connections",
            "gauge",
            "Connections that share the address, the kind of port and the client.",
            |shown| shown.connections as u64,
        );
    }

    fn other_peers(&self, page: &mut Page) {
        let rests = self.peers.rests();
        let mut family = |name, kind, help, value: fn(&Rest) -> u64| {
            let samples = rests.iter().map(|(node, rest)| (self.nodes[*node].labels(), value(rest)));
            page.family((name, kind, help), samples);
        };
        family("seedring_peers_omitted", "gauge", "Connected peers that are not listed here.", |rest| {
            rest.connections as u64
        });
        family(
            "seedring_peers_other_uploaded_bytes_total",
            "counter",
            "Payload sent to peers while they were not listed here.",
            |rest| rest.other.up,
        );
        family(
            "seedring_peers_other_downloaded_bytes_total",
            "counter",
            "Payload that came from peers while they were not listed here.",
            |rest| rest.other.down,
        );
        family(
            "seedring_peers_other_upload_bytes_per_second",
            "gauge",
            "Payload sent each second to the peers that are not listed here.",
            |rest| rest.rate.up,
        );
        family(
            "seedring_peers_other_download_bytes_per_second",
            "gauge",
            "Payload coming each second from the peers that are not listed here.",
            |rest| rest.rate.down,
        );
        family(
            "seedring_peers_delisted_uploaded_bytes_total",
            "counter",
            "Payload that had been counted by series which have left this page; counted already, so use no rate of it.",
            |rest| rest.delisted.up,
        );
        family(
            "seedring_peers_delisted_downloaded_bytes_total",
            "counter",
            "As seedring_peers_delisted_uploaded_bytes_total, of payload that came from peers.",
            |rest| rest.delisted.down,
        );
    }
}
