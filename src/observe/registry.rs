//! Counters and gauges by name, in the `metrics` crate's registry. It forgets nothing, so what comes and goes, as peers
//! do, has no place in it.

use super::Node;
use super::text::Label;
use crate::discovery::local;
use crate::ring::{FileSends, Kind, ZeroCopyCounts};
use crate::session::{Count, Progress, Snapshot, TrackerCounts};
use crate::shard::SlabStates;
use crate::swarm::PeerView;
use crate::swarm::Uploading;
use metrics::{Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::cmp::Reverse;
use std::collections::BTreeMap;

const COUNTERS: &[(&str, &str)] = &[
    ("seedring_uploaded_bytes_total", "Payload sent to peers."),
    ("seedring_downloaded_bytes_total", "Payload fetched, verified and written."),
    ("seedring_received_bytes_total", "Payload that came from peers, in whole blocks, verified or not."),
    (
        "seedring_protocol_sent_bytes_total",
        "Bytes to peers that are not payload: handshakes, messages, heads of blocks.",
    ),
    (
        "seedring_protocol_received_bytes_total",
        "Bytes from peers that are not payload; a block that is cut short is payload.",
    ),
    (
        "seedring_requests_total",
        "Requests of peers, by what became of them; those that are missing wait still.",
    ),
    (
        "seedring_handshake_failures_total",
        "Connections dialled or accepted that came to nothing, by the reason.",
    ),
    ("seedring_hash_bytes_total", "Bytes hashed: to verify what was on disk, and of what was downloaded."),
    ("seedring_wasted_bytes_total", "Payload that came in vain: twice, unasked, or in a bad piece."),
    (
        "seedring_moved_bytes_total",
        "Payload copied in memory: it came elsewhere than was guessed, twice, or by another core.",
    ),
    ("seedring_copied_bytes_total", "Payload copied in memory to be sent encrypted."),
    ("seedring_failed_pieces_total", "Pieces whose hash was wrong."),
    ("seedring_lost_pieces_total", "Pieces that were there and cannot be read any more."),
    ("seedring_limit_hits_total", "How often a limit has said no."),
    (
        "seedring_local_discovery_packets_total",
        "Datagrams of the local search for peers: sent, heard, or not understood.",
    ),
    (
        "seedring_local_discovery_peers_total",
        "Peers that the local search has found, each as often as it was heard.",
    ),
    ("seedring_pex_messages_total", "Messages of peer exchange: said, heard, or heard and not used."),
    ("seedring_pex_peers_total", "Addresses that peers have told by it: taken, or not used."),
    ("seedring_dht_datagrams_total", "Datagrams of the DHT."),
    ("seedring_dht_bytes_total", "Bytes of these datagrams."),
    ("seedring_dht_queries_heard_total", "Queries of other nodes of the DHT, and what became of them."),
    ("seedring_dht_queries_sent_total", "Queries to other nodes of the DHT, and what became of them."),
    ("seedring_dht_dropped_total", "What the DHT has left out or made shorter, by the reason or the limit."),
    ("seedring_dht_lookups_total", "Lookups in the DHT that were begun."),
    (
        "seedring_dht_peers_found_total",
        "Peers that the DHT has named, each as often as a search has found it.",
    ),
    ("seedring_disk_reads_total", "Reads of files, by whether they go past the page cache or through it."),
    ("seedring_disk_read_bytes_total", "Bytes of these reads."),
    ("seedring_disk_writes_total", "Writes to files, by whether they go past the page cache or through it."),
    ("seedring_disk_written_bytes_total", "Bytes of these writes."),
    (
        "seedring_disk_withheld_files_total",
        "Times that a core opened a file of which the kernel does not tell us what the page cache holds, for it is another user's: \
         nothing is sent from there.",
    ),
    (
        "seedring_cache_hits_total",
        "Stretches to be sent (blocks of a run that follow each other) that were in memory, or on their way there.",
    ),
    ("seedring_page_cache_hits_total", "Stretches that are sent from the page cache, without a read."),
    ("seedring_cache_misses_total", "Stretches that had to be read."),
    (
        "seedring_memory_waits_total",
        "Receives that waited a moment for memory that was being written, before more was made resident.",
    ),
    (
        "seedring_file_sends_total",
        "Sends from the page cache of what is not mapped: beside the ring, by sendfile. After each comes an operation of kind \"other\".",
    ),
    ("seedring_file_send_calls_total", "System calls of these sends that moved bytes."),
    ("seedring_file_sent_bytes_total", "Bytes that these sent from files."),
    (
        "seedring_file_send_short_results_total",
        "Sends of these that moved fewer bytes than asked, or none because there was no room.",
    ),
    ("seedring_file_send_errors_total", "Sends of these that failed otherwise, before anything was moved."),
    ("seedring_ring_operations_total", "Operations put into the submission queue of io_uring."),
    ("seedring_ring_completions_total", "Operations answered by the kernel."),
    (
        "seedring_ring_short_results_total",
        "Completions that moved fewer bytes than asked, or none because nothing was ready.",
    ),
    ("seedring_ring_errors_total", "Completions with any other error."),
    ("seedring_ring_submissions_total", "Batches of operations handed to the kernel."),
    (
        "seedring_ring_queue_full_total",
        "Batches that outgrew the submission queue, once for each time they filled it.",
    ),
    ("seedring_zero_copy_sends_total", "Sends that the kernel made from payload memory, without a copy."),
    ("seedring_zero_copy_sent_bytes_total", "Bytes of these sends."),
    (
        "seedring_tracker_events_total",
        "What came of asking trackers: announces by protocol and end, scrapes, peers named, limits hit.",
    ),
    ("seedring_tracker_bytes_total", "Bytes of questions to trackers and of their answers."),
    (
        "seedring_zero_copy_events_total",
        "What became of sends without a copy, or of those that were to be such: landed, copied by the kernel all the same, \
         fallback to a copy, connection aborted, memory leaked.",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("seedring_build_info", "The program; always 1."),
    ("seedring_left_bytes", "Bytes that are still to be fetched and verified."),
    ("seedring_pieces", "Pieces of the torrent, by whether they are verified and written."),
    ("seedring_checked_pieces", "Pieces on disk that were looked at since the start."),
    (
        "seedring_peers",
        "Connected peers: who has dialled, whether the handshake was encrypted, and which way blocks may be asked for now: up \
         (by the peer), down (by us), both or none (idle).",
    ),
    ("seedring_unchoke_slots", "Upload slots of all cores: those in use, and the most there may be."),
    ("seedring_upload_queue_bytes", "Payload that peers have asked for and that is not on its way yet."),
    ("seedring_upload_queue_requests", "Their requests for it."),
    ("seedring_upload_bytes_per_second", "Payload sent to peers each second, over the last few."),
    ("seedring_download_bytes_per_second", "Payload coming from peers each second, over the last few."),
    ("seedring_dht_nodes", "Nodes in the routing table of the DHT."),
    ("seedring_dht_stored_torrents", "Torrents that other nodes of the DHT have announced here."),
    ("seedring_dht_stored_peers", "Peers of these torrents."),
    ("seedring_tasks", "Tasks that have not ended."),
    ("seedring_sockets", "Connections whose descriptor is open, whether or not they have become peers."),
    ("seedring_slabs", "Slabs of payload memory (256 KiB each) by use."),
    ("seedring_zero_copy_slabs", "Slabs held for sends without a copy that are under way."),
    ("seedring_mapped_bytes", "Bytes of files that are mapped, to be sent from the page cache."),
    (
        "seedring_arena_registered",
        "Whether all payload memory is registered with the kernel (1), or what the arena grew by since it could not be is pinned anew each time (0).",
    ),
];

/// Which way blocks may be asked for, by the peer and by us.
const FLOWS: [(&str, (bool, bool)); 4] =
    [("idle", (false, false)), ("up", (true, false)), ("down", (false, true)), ("both", (true, true))];

/// A number of a core.
type Figure = fn(&Snapshot) -> u64;

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// The registry of one program; not the process-wide one.
pub(super) struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Registry {
    pub(super) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for (name, help) in COUNTERS {
            recorder.describe_counter((*name).into(), None, (*help).into());
        }
        for (name, help) in GAUGES {
            recorder.describe_gauge((*name).into(), None, (*help).into());
        }
        let handle = recorder.handle();
        let registry = Self { recorder, handle };
        registry.gauge("seedring_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
        registry
    }

    /// The page so far.
    pub(super) fn render(&self) -> String {
        self.handle.render()
    }

    pub(super) fn counter(&self, name: &'static str, labels: &[Label<'_>], value: u64) {
        debug_assert!(COUNTERS.iter().any(|(known, _)| *known == name), "{name}");
        self.recorder.register_counter(&key(name, labels), &METADATA).absolute(value);
    }

    pub(super) fn gauge(&self, name: &'static str, labels: &[Label<'_>], value: u64) {
        debug_assert!(GAUGES.iter().any(|(known, _)| *known == name), "{name}");
        self.recorder.register_gauge(&key(name, labels), &METADATA).set(value as f64);
    }

    /// How many pieces of a node have been checked.
    pub(super) fn set_checked(&self, node: &Node, pieces: u32) {
        self.gauge("seedring_checked_pieces", &node.labels(), pieces.into());
    }

    /// What the search on the local network has counted.
    pub(super) fn set_local(&self, node: &Node, counts: local::Counts) {
        let labels = node.labels();
        let local::Counts { sent, heard, unread, peers, limited, interfaces } = counts;
        for (event, count) in [("sent", sent), ("heard", heard), ("unread", unread)] {
            let labels = with(&labels, &[("event", event)]);
            self.counter("seedring_local_discovery_packets_total", &labels, count);
        }
        self.counter("seedring_local_discovery_peers_total", &labels, peers);
        for (limit, hits) in [("local_discovery", limited), ("local_interfaces", interfaces)] {
            self.counter("seedring_limit_hits_total", &with(&labels, &[("limit", limit)]), hits);
        }
    }

    /// What the cores of a node have said last, `latest` being the last of all.
    pub(super) fn set(&self, node: &Node, latest: &Snapshot) {
        self.set_sums(node);
        self.set_peers(node);
        self.set_serving(node);
        self.set_slots(node, latest);
        self.set_disk(node);
        self.set_standing(node);
        self.set_core(node, latest);
    }

    /// What trackers have cost and given a node.
    pub(super) fn set_trackers(&self, node: &Node, counts: &TrackerCounts) {
        for count in Count::ALL {
            let (name, label) = match count {
                Count::BytesSent => ("seedring_tracker_bytes_total", ("direction", "sent")),
                Count::BytesReceived => ("seedring_tracker_bytes_total", ("direction", "received")),
                event => ("seedring_tracker_events_total", ("event", event.name())),
            };
            self.counter(name, &with(&node.labels(), &[label]), counts.get(count));
        }
    }

    fn set_sums(&self, node: &Node) {
        let labels = node.labels();
        let sum = |value: Figure| node.cores.values().map(value).sum();
        let sums: [(&str, Figure); 8] = [
            ("seedring_uploaded_bytes_total", |core| core.progress.uploaded),
            ("seedring_downloaded_bytes_total", |core| core.progress.downloaded),
            ("seedring_received_bytes_total", |core| core.received),
            ("seedring_wasted_bytes_total", |core| core.progress.wasted),
            ("seedring_failed_pieces_total", |core| core.failed_pieces),
            ("seedring_lost_pieces_total", |core| core.lost_pieces),
            ("seedring_protocol_sent_bytes_total", |core| core.overhead.sent),
            ("seedring_protocol_received_bytes_total", |core| core.overhead.received),
        ];
        sums.into_iter().for_each(|(name, value)| self.counter(name, &labels, sum(value)));
        let mut limits: BTreeMap<&str, u64> = BTreeMap::from([("names", node.changed_names)]);
        for (limit, hits) in node.cores.values().flat_map(|core| core.progress.limits.by_name()) {
            *limits.entry(limit).or_default() += hits;
        }
        for (limit, hits) in limits {
            self.counter("seedring_limit_hits_total", &with(&labels, &[("limit", limit)]), hits);
        }
        let exchanges: [(&str, &str, Figure); 7] = [
            ("seedring_pex_messages_total", "said", |core| core.exchange.said),
            ("seedring_pex_messages_total", "heard", |core| core.exchange.heard),
            ("seedring_pex_messages_total", "too_often", |core| core.exchange.too_often),
            ("seedring_pex_messages_total", "unread", |core| core.exchange.unread),
            ("seedring_pex_messages_total", "too_long", |core| core.exchange.too_long),
            ("seedring_pex_peers_total", "taken", |core| core.exchange.peers - core.exchange.unused),
            ("seedring_pex_peers_total", "unused", |core| core.exchange.unused),
        ];
        for (name, event, value) in exchanges {
            self.counter(name, &with(&labels, &[("event", event)]), sum(value));
        }
        self.gauge("seedring_upload_bytes_per_second", &labels, sum(|core| core.progress.upload_rate));
        self.gauge("seedring_download_bytes_per_second", &labels, sum(|core| core.progress.download_rate));
    }

    /// Who is connected. Every combination has a series, so none appears or vanishes as peers do.
    fn set_peers(&self, node: &Node) {
        for (direction, outgoing) in [("in", false), ("out", true)] {
            for (encryption, encrypted) in [("none", false), ("mse", true)] {
                for (state, flows) in FLOWS {
                    let is_one = |peer: &&PeerView| {
                        (peer.who.outgoing, peer.encrypted, peer.flows) == (outgoing, encrypted, flows)
                    };
                    let count = node.cores.values().flat_map(|core| &core.peers).filter(is_one).count();
                    let which = [
                        ("state", state),
                        ("transport", "tcp"),
                        ("direction", direction),
                        ("encryption", encryption),
                    ];
                    self.gauge("seedring_peers", &with(&node.labels(), &which), count as u64);
                }
            }
        }
    }

    /// What peers have asked for, and what it costs to hear them.
    fn set_serving(&self, node: &Node) {
        let labels = node.labels();
        let sum = |value: Figure| node.cores.values().map(value).sum();
        let counters: [(&str, &str, &str, Figure); 6] = [
            ("seedring_requests_total", "result", "served", |core| core.requests.served),
            ("seedring_requests_total", "result", "refused", |core| core.requests.refused),
            ("seedring_requests_total", "result", "cancelled", |core| core.requests.cancelled),
            ("seedring_requests_total", "result", "dropped", |core| core.requests.dropped),
            ("seedring_hash_bytes_total", "kind", "verify", |core| core.checked.sizes.sum()),
            ("seedring_hash_bytes_total", "kind", "download", |core| core.hashed.sizes.sum()),
        ];
        for (name, label, value, figure) in counters {
            self.counter(name, &with(&labels, &[(label, value)]), sum(figure));
        }
        let mut failures: BTreeMap<&str, u64> = BTreeMap::new();
        for (reason, count) in node.cores.values().flat_map(|core| core.failures.by_reason()) {
            *failures.entry(reason).or_default() += count;
        }
        for (reason, count) in failures {
            self.counter("seedring_handshake_failures_total", &with(&labels, &[("reason", reason)]), count);
        }
        self.gauge("seedring_upload_queue_requests", &labels, sum(|core| core.uploading.requests));
        self.gauge("seedring_upload_queue_bytes", &labels, sum(|core| core.uploading.bytes));
    }

    /// The cores share the slots: `latest` has told of all of them last.
    fn set_slots(&self, node: &Node, latest: &Snapshot) {
        let Uploading { slots, most_slots, .. } = latest.uploading;
        for (state, count) in [("used", slots), ("max", most_slots)] {
            let labels = with(&node.labels(), &[("state", state)]);
            self.gauge("seedring_unchoke_slots", &labels, count.into());
        }
    }

    fn set_disk(&self, node: &Node) {
        let sum = |value: Figure| node.cores.values().map(value).sum();
        let sums: [(&str, &str, Figure); 8] = [
            ("seedring_disk_reads_total", "direct", |core| core.disk.direct_reads),
            ("seedring_disk_reads_total", "buffered", |core| core.disk.cached_reads),
            ("seedring_disk_read_bytes_total", "direct", |core| core.disk.direct_read_bytes),
            ("seedring_disk_read_bytes_total", "buffered", |core| core.disk.cached_read_bytes),
            ("seedring_disk_writes_total", "direct", |core| core.disk.direct_writes),
            ("seedring_disk_writes_total", "buffered", |core| core.disk.cached_writes),
            ("seedring_disk_written_bytes_total", "direct", |core| core.disk.direct_write_bytes),
            ("seedring_disk_written_bytes_total", "buffered", |core| core.disk.cached_write_bytes),
        ];
        for (name, path, value) in sums {
            self.counter(name, &with(&node.labels(), &[("path", path)]), sum(value));
        }
        let withheld = sum(|core| core.disk.withheld_files);
        self.counter("seedring_disk_withheld_files_total", &node.labels(), withheld);
        // The cores' together, as each has seen them last.
        let mapped = node.cores.values().map(|core| core.mapped).max();
        self.gauge("seedring_mapped_bytes", &node.labels(), mapped.unwrap_or(0) as u64);
    }

    /// The pieces are the cores' together, and none that is had is ever lost: who has told of most is the latest,
    /// in whatever order they are heard.
    fn set_standing(&self, node: &Node) {
        let labels = node.labels();
        let standing = node.cores.values().filter(|core| !core.checking).map(|core| core.progress);
        let Some(latest) = standing.max_by_key(|progress| (progress.good_pieces, Reverse(progress.left)))
        else {
            return;
        };
        let Progress { left, pieces, good_pieces, .. } = latest;
        self.gauge("seedring_left_bytes", &labels, left);
        for (state, count) in [("good", good_pieces), ("missing", pieces - good_pieces)] {
            self.gauge("seedring_pieces", &with(&labels, &[("state", state)]), count.into());
        }
    }

    fn set_zero_copy(&self, labels: &[Label<'_>], counts: &ZeroCopyCounts) {
        self.counter("seedring_zero_copy_sends_total", labels, counts.sends);
        self.counter("seedring_zero_copy_sent_bytes_total", labels, counts.bytes);
        for (event, count) in by_event(counts) {
            self.counter("seedring_zero_copy_events_total", &with(labels, &[("event", event)]), count);
        }
        self.gauge("seedring_zero_copy_slabs", labels, counts.in_flight);
    }

    fn set_core(&self, node: &Node, core: &Snapshot) {
        let number = core.core.to_string();
        let labels = with(&node.labels(), &[("core", &number)]);
        self.counter("seedring_moved_bytes_total", &labels, core.progress.moved);
        self.counter("seedring_copied_bytes_total", &labels, core.ring.copied);
        self.counter("seedring_cache_hits_total", &labels, core.cache_hits);
        self.counter("seedring_page_cache_hits_total", &labels, core.page_cache_hits);
        self.counter("seedring_cache_misses_total", &labels, core.cache_misses);
        self.counter("seedring_memory_waits_total", &labels, core.memory_waits);
        let FileSends { sends, calls, bytes } = core.ring.file_sends;
        self.counter("seedring_file_sends_total", &labels, sends.queued);
        self.counter("seedring_file_send_calls_total", &labels, calls);
        self.counter("seedring_file_sent_bytes_total", &labels, bytes);
        self.counter("seedring_file_send_short_results_total", &labels, sends.short);
        self.counter("seedring_file_send_errors_total", &labels, sends.failed);
        self.counter("seedring_ring_submissions_total", &labels, core.ring.submissions);
        self.counter("seedring_ring_queue_full_total", &labels, core.ring.queue_full);
        for (kind, operations) in Kind::ALL.into_iter().zip(core.ring.operations) {
            let labels = with(&labels, &[("operation", kind.name())]);
            self.counter("seedring_ring_operations_total", &labels, operations.queued);
            self.counter("seedring_ring_completions_total", &labels, operations.completed);
            self.counter("seedring_ring_short_results_total", &labels, operations.short);
            self.counter("seedring_ring_errors_total", &labels, operations.failed);
        }
        self.gauge("seedring_tasks", &labels, core.ring.tasks);
        self.gauge("seedring_sockets", &labels, core.ring.sockets);
        let SlabStates { untouched, free, held, cached, sent } = core.slabs;
        let states =
            [("untouched", untouched), ("free", free), ("held", held), ("cached", cached), ("sent", sent)];
        for (state, count) in states {
            self.gauge("seedring_slabs", &with(&labels, &[("state", state)]), count as u64);
        }
        self.set_zero_copy(&labels, &core.zero_copy);
        self.gauge("seedring_arena_registered", &labels, core.arena_registered.into());
    }
}

fn by_event(counts: &ZeroCopyCounts) -> [(&'static str, u64); 5] {
    let ZeroCopyCounts { landed, copied, fallbacks, aborted, leaked, .. } = *counts;
    [
        ("landed", landed),
        ("copied", copied),
        ("fallback", fallbacks),
        ("aborted", aborted),
        ("leaked", leaked),
    ]
}

/// Labels and more labels.
pub(super) fn with<'a>(labels: &[Label<'a>], more: &[Label<'a>]) -> Vec<Label<'a>> {
    [labels, more].concat()
}

fn key(name: &'static str, labels: &[Label<'_>]) -> Key {
    let labels = labels.iter().map(|(name, value)| metrics::Label::new(*name, (*value).to_owned()));
    Key::from_parts(name, labels.collect::<Vec<_>>())
}
