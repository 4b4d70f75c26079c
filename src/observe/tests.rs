//! The board fed with snapshots as cores send them, without a core.

mod dht;
mod figures;

use super::peers::STAY;
use super::*;
use crate::metainfo::{Content, TorrentBuilder};
use crate::session::{Progress, TrackerCounts};
use crate::shard::Overhead;
use crate::swarm::{Introduction, PeerView, RequestCounts, Uploading};
use crate::wire::PeerId;
use crate::wire::Reserved;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

const SECOND: Duration = Duration::from_secs(1);

fn torrent() -> Torrent {
    let builder = TorrentBuilder {
        name: "a \"quoted\" name".into(),
        content: Content::Single(100_000),
        piece_length: 16 * 1024,
        pieces: vec![[0; 20]; 7],
        trackers: Vec::new(),
        private: false,
        comment: None,
        created_by: None,
        creation_date: None,
    };
    let mut torrent = builder.build().unwrap().1;
    torrent.changed_names = 3;
    torrent
}

fn snapshot(core: u32, peers: Vec<PeerView>) -> Snapshot {
    Snapshot {
        core,
        progress: Progress { pieces: 7, good_pieces: 4, left: 49_152, ..Progress::default() },
        arena_registered: true,
        peers,
        ..Snapshot::default()
    }
}

/// Peers of one core that move bytes; whoever is not there has gone.
struct World {
    board: Board,
    node: NodeNumber,
    now: Duration,
    peers: BTreeMap<u32, PeerView>,
    sums: Traffic,
}

impl World {
    fn new(most: usize) -> Self {
        let mut board = Board::new(most, Hosts::Whole);
        let node = board.add(None, &torrent());
        Self { board, node, now: Duration::ZERO, peers: BTreeMap::new(), sums: Traffic::default() }
    }

    /// A peer has come from an address of its own.
    fn come(&mut self, tag: u32) {
        let host = u16::try_from(tag).unwrap().to_be_bytes();
        self.come_as(tag, Ipv4Addr::new(10, 0, host[0], host[1]).into(), *b"-TR3000-............");
    }

    fn come_as(&mut self, tag: u32, ip: IpAddr, id: [u8; 20]) {
        let addr = (ip, 10_000 + tag as u16).into();
        let who = Introduction { addr, outgoing: false, id: PeerId(id), reserved: Reserved::default() };
        let view = PeerView {
            number: tag.into(),
            who,
            rates: (0, 0),
            totals: (0, 0),
            pieces: 0,
            encrypted: false,
            flows: (false, false),
        };
        self.peers.insert(tag, view);
    }

    /// A second passes in which a peer is sent so much.
    fn send(&mut self, tag: u32, bytes: u64) {
        let peer = self.peers.get_mut(&tag).unwrap();
        peer.rates.1 = bytes;
        peer.totals.1 += bytes;
        self.sums.up += bytes;
    }

    fn receive(&mut self, tag: u32, bytes: u64) {
        let peer = self.peers.get_mut(&tag).unwrap();
        peer.rates.0 = bytes;
        peer.totals.0 += bytes;
        self.sums.down += bytes;
    }

    fn tell(&mut self) {
        self.now += SECOND;
        let mut told = snapshot(0, self.peers.values().cloned().collect());
        told.progress.uploaded = self.sums.up;
        told.received = self.sums.down;
        self.board.take(self.now, self.node, told);
    }

    /// The value of each series of the page of peers.
    fn page(&self) -> BTreeMap<String, u64> {
        samples(&self.board.peers())
    }

    /// What is told of the last byte of the addresses that are listed.
    fn listed(&self) -> Vec<(u8, u64)> {
        let name = "seedring_peer_uploaded_bytes_total{peer=\"10.0.0.";
        let page = self.page();
        let mut listed: Vec<(u8, u64)> = page
            .iter()
            .filter_map(|(key, value)| {
                Some((key.strip_prefix(name)?.split('"').next()?.parse().ok()?, *value))
            })
            .collect();
        listed.sort_unstable();
        listed
    }

    fn sum(&self, name: &str) -> u64 {
        let page = self.page();
        let of_name = page.iter().filter(|(key, _)| key.split('{').next() == Some(name));
        of_name.map(|(_, value)| value).sum()
    }

    fn sums_are_right(&self) {
        let all = |way: &str| -> u64 {
            ["peer", "peers_other", "peers_delisted"]
                .iter()
                .map(|which| self.sum(&format!("seedring_{which}_{way}_bytes_total")))
                .sum()
        };
        assert_eq!((all("uploaded"), all("downloaded")), (self.sums.up, self.sums.down));
    }
}

/// Samples by name and labels.
///
/// # Panics
/// When one comes twice.
fn samples(page: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value = value.parse::<f64>().unwrap() as u64;
        assert_eq!(found.insert(name.to_owned(), value), None, "{name} twice");
    }
    found
}

#[test]
fn the_busiest_are_listed_and_the_others_summed() {
    let mut world = World::new(2);
    for tag in 1..=4 {
        world.come(tag);
        world.send(tag, u64::from(tag) * 1000);
        world.receive(tag, 7);
    }
    world.tell();
    assert_eq!(world.listed(), [(3, 3000), (4, 4000)]);
    let page = world.page();
    assert_eq!(page["seedring_peers_omitted"], 2);
    assert_eq!(page["seedring_peers_other_uploaded_bytes_total"], 3000);
    assert_eq!(page["seedring_peers_other_upload_bytes_per_second"], 3000);
    assert_eq!(page["seedring_peers_other_downloaded_bytes_total"], 14);
    let hash = torrent().info_hash.to_string();
    let labels = format!(
        "{{peer=\"10.0.0.4\",port_kind=\"in\",client=\"Transmission 3.0.0\",torrent=\"{}\"}}",
        &hash[..8]
    );
    assert_eq!(page[&format!("seedring_peer_upload_bytes_per_second{labels}")], 4000);
    assert_eq!(page[&format!("seedring_peer_downloaded_bytes_total{labels}")], 7);
    world.sums_are_right();
}

#[test]
fn nobody_is_listed_who_moved_nothing_or_when_none_shall_be() {
    let mut world = World::new(0);
    world.come(1);
    world.send(1, 10);
    world.tell();
    assert_eq!((world.listed(), world.sum("seedring_peers_other_uploaded_bytes_total")), (vec![], 10));

    let mut world = World::new(5);
    world.come(1);
    world.tell();
    assert_eq!((world.listed(), world.page()["seedring_peers_omitted"]), (vec![], 1));
    world.send(1, 10);
    world.tell();
    assert_eq!((world.listed(), world.page()["seedring_peers_omitted"]), (vec![(1, 10)], 0));
}

#[test]
fn a_place_is_kept_for_a_time_and_then_goes_to_who_is_clearly_busier() {
    let mut world = World::new(1);
    world.come(1);
    world.send(1, 1000);
    world.tell();
    world.come(2);
    while world.now < STAY {
        world.send(1, 1000);
        world.send(2, 1_000_000);
        world.tell();
        assert_eq!(world.listed().len(), 1);
        assert_eq!(world.listed()[0].0, 1, "at {:?}", world.now);
    }
    world.send(1, 1000);
    world.send(2, 1_000_000);
    world.tell();
    // It counts from now on; what the other has counted is kept.
    assert_eq!(world.listed(), [(2, 1_000_000)]);
    assert_eq!(world.sum("seedring_peers_delisted_uploaded_bytes_total"), 60 * 1000);
    world.sums_are_right();
    // Somewhat busier is not enough, whatever the time.
    for _ in 0..200 {
        world.send(1, 1_100_000);
        world.send(2, 1_000_000);
        world.tell();
    }
    assert_eq!(world.listed()[0].0, 2);
    world.sums_are_right();
}

#[test]
fn who_has_gone_is_listed_no_more_and_its_place_waits() {
    let mut world = World::new(1);
    world.come(1);
    world.send(1, 1000);
    world.tell();
    world.peers.clear();
    // Moved by somebody who came and went between two looks.
    world.sums.up += 5;
    world.come(2);
    world.send(2, 100);
    world.tell();
    assert_eq!(world.listed(), []);
    assert_eq!(world.sum("seedring_peers_other_uploaded_bytes_total"), 105);
    world.sums_are_right();
    // The same peer, connected anew, has its place at once.
    world.come_as(3, [10, 0, 0, 1].into(), *b"-TR3000-------------");
    world.send(3, 10);
    world.tell();
    assert_eq!(world.listed(), [(1, 10)]);
    world.peers.remove(&3);
    while world.now <= STAY + 4 * SECOND {
        world.send(2, 100);
        world.tell();
    }
    assert_eq!(world.listed().len(), 1);
    assert_eq!(world.listed()[0].0, 2);
    world.sums_are_right();
}

#[test]
fn peers_behind_one_address_share_a_series_that_never_falls() {
    let mut world = World::new(10);
    let ip: IpAddr = [10, 0, 0, 9].into();
    for tag in 1..=3 {
        world.come_as(tag, ip, *b"-qB4600-............");
        world.send(tag, 100);
    }
    world.tell();
    assert_eq!((world.listed(), world.sum("seedring_peer_connections")), (vec![(9, 300)], 3));
    world.peers.remove(&2);
    world.send(1, 1);
    world.tell();
    assert_eq!((world.listed(), world.sum("seedring_peer_connections")), (vec![(9, 301)], 2));
    // Another client there has a series of its own.
    world.come_as(4, ip, *b"-lt0D80-............");
    world.send(4, 50);
    world.tell();
    assert_eq!(world.listed(), [(9, 50), (9, 301)]);
    world.sums_are_right();
}

#[test]
fn names_of_clients_are_hostile_input() {
    let mut world = World::new(10);
    world.come_as(1, [10, 0, 0, 1].into(), *b"\"} 1\n\\evil..........");
    world.send(1, 1);
    world.tell();
    let page = world.board.peers();
    assert!(page.contains(r#"client="\"}%201%0a\\ev""#), "{page}");
    assert!(page.lines().all(|line| line.starts_with('#') || line.starts_with("seedring_peer")), "{page}");
}

/// However peers come, go and burst: the number of series is bounded, and so is how many new ones there are in a time;
/// no counter falls, and the sums are right on every page.
#[test]
fn churn_is_bounded_and_no_byte_is_lost() {
    const MOST: usize = 5;
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = World::new(MOST);
        let mut next = 0;
        let mut births: Vec<Duration> = Vec::new();
        let (mut before, mut others) = (BTreeMap::new(), 0);
        let mut left_at: BTreeMap<u8, Duration> = BTreeMap::new();
        for _ in 0..300 {
            for _ in 0..rng.u32(0..4) {
                next += 1;
                let ip = Ipv4Addr::new(10, 0, 0, rng.u8(1..=200));
                world.come_as(next, ip.into(), *b"-TR3000-............");
            }
            world.peers.retain(|_, _| rng.u8(..) > 20);
            for tag in world.peers.keys().copied().collect::<Vec<_>>() {
                let most = 1 << rng.u32(1..30);
                let bytes = if rng.bool() { 0 } else { rng.u64(0..most) };
                world.send(tag, bytes);
                world.receive(tag, bytes / 3);
            }
            // Some are never seen.
            world.sums.up += rng.u64(0..100);
            world.tell();
            world.sums_are_right();
            let now: BTreeMap<u8, u64> = world.listed().into_iter().collect();
            assert!(now.len() <= MOST && now.len() == world.listed().len());
            for (ip, value) in &now {
                match before.get(ip) {
                    Some(old) => assert!(value >= old),
                    // Who comes back within the time has kept his place.
                    None if left_at.get(ip).is_some_and(|at| world.now < *at + STAY) => {}
                    None => births.push(world.now),
                }
            }
            let gone = before.keys().filter(|ip| !now.contains_key(ip));
            left_at.extend(gone.map(|ip| (*ip, world.now)));
            before = now;
            let other = world.sum("seedring_peers_other_uploaded_bytes_total");
            assert!(other >= others);
            others = other;
        }
        let most =
            births.iter().map(|at| births.iter().filter(|to| (*at..*at + STAY).contains(*to)).count()).max();
        assert!(most <= Some(MOST), "{most:?} new series within {STAY:?}, seed {seed}");
        assert!(births.len() > MOST, "places change hands, seed {seed}");
    }
}

#[test]
fn cores_are_summed_and_nodes_told_apart() {
    let mut board = Board::new(10, Hosts::Whole);
    let nodes = ["seeder", "leecher-1"].map(|name| board.add(Some(name), &torrent()));
    for (node, scale) in nodes.into_iter().zip([1, 100]) {
        for core in 0..2 {
            let mut told = snapshot(core, Vec::new());
            told.progress.uploaded = scale * (u64::from(core) + 1);
            told.progress.moved = scale;
            told.hashed.sizes.observe(1 << 20);
            told.ring.operations[Kind::Send as usize].queued = scale + u64::from(core);
            told.slabs.cached = 3;
            (told.zero_copy.sends, told.zero_copy.leaked) = (scale, 1);
            told.disk.direct_read_bytes = scale * 4096;
            told.disk.cached_writes = 1;
            told.progress.limits.letters = 2;
            (told.exchange.said, told.exchange.peers, told.exchange.unused) = (scale, 50, 8);
            // The second core has looked at the pieces before the first one, and was heard after it.
            told.progress.good_pieces = 5 - core;
            board.take(SECOND, node, told);
        }
    }
    let text = board.metrics();
    let page = samples(&text);
    assert_eq!(page["seedring_uploaded_bytes_total{node=\"seeder\"}"], 3);
    assert_eq!(page["seedring_uploaded_bytes_total{node=\"leecher-1\"}"], 300);
    assert_eq!(page["seedring_moved_bytes_total{node=\"leecher-1\",core=\"1\"}"], 100);
    assert_eq!(page["seedring_ring_operations_total{node=\"seeder\",core=\"1\",operation=\"send\"}"], 2);
    assert_eq!(page["seedring_hash_batch_bytes_count{node=\"seeder\",kind=\"download\"}"], 2);
    assert_eq!(page["seedring_hash_batch_bytes_bucket{node=\"seeder\",kind=\"download\",le=\"524288\"}"], 0);
    assert_eq!(page["seedring_slabs{node=\"seeder\",core=\"0\",state=\"cached\"}"], 3);
    assert_eq!(page["seedring_disk_read_bytes_total{node=\"leecher-1\",path=\"direct\"}"], 2 * 409_600);
    assert_eq!(page["seedring_zero_copy_sends_total{node=\"leecher-1\",core=\"1\"}"], 100);
    assert_eq!(page["seedring_zero_copy_events_total{node=\"seeder\",core=\"0\",event=\"leaked\"}"], 1);
    assert_eq!(page["seedring_disk_writes_total{node=\"seeder\",path=\"buffered\"}"], 2);
    assert_eq!(page["seedring_limit_hits_total{node=\"seeder\",limit=\"letters\"}"], 4);
    assert_eq!(page["seedring_limit_hits_total{node=\"seeder\",limit=\"names\"}"], 3);
    assert_eq!(page["seedring_pex_messages_total{node=\"leecher-1\",event=\"said\"}"], 200);
    assert_eq!(page["seedring_pex_peers_total{node=\"seeder\",event=\"taken\"}"], 84);
    assert_eq!(page["seedring_pex_peers_total{node=\"seeder\",event=\"unused\"}"], 16);
    assert_eq!(page["seedring_pieces{node=\"seeder\",state=\"missing\"}"], 2);
    assert_eq!(page["seedring_left_bytes{node=\"seeder\"}"], 49_152);
    assert!(text.contains(r#"name="a \"quoted\" name""#), "{text}");
}

#[test]
fn the_busiest_of_all_cores_are_listed() {
    let mut world = World::new(2);
    (1..=4).for_each(|tag| world.come(tag));
    // Each core has two of the peers, and numbers of its own for them.
    let rates = [[500, 10], [20, 400]];
    // The core that is heard first has the first choice of places, and its peers keep them for a time.
    let seconds = STAY.as_secs() + 5;
    for second in 0..seconds {
        world.now += SECOND;
        for core in [0, 1] {
            let mine = world.peers.values().skip(core * 2).take(2);
            let peers = mine.cloned().zip(0..).zip(rates[core]).map(|((peer, number), rate)| PeerView {
                number,
                rates: (0, rate),
                totals: (0, second * rate),
                ..peer
            });
            let mut told = snapshot(core as u32, peers.collect());
            told.progress.uploaded = second * rates[core].iter().sum::<u64>();
            world.board.take(world.now, world.node, told);
        }
    }
    let listed: Vec<u8> = world.listed().into_iter().map(|(host, _)| host).collect();
    assert_eq!(listed, [1, 4]);
    let page = world.page();
    assert_eq!(page["seedring_peers_omitted"], 2);
    assert_eq!(page["seedring_peers_other_upload_bytes_per_second"], 30);
    world.sums.up = (seconds - 1) * 930;
    world.sums_are_right();
}

#[test]
fn every_metric_says_what_it_is() {
    let mut world = World::new(10);
    world.come(1);
    world.send(1, 1);
    world.tell();
    world.board.checked(world.node, 7);
    world.board.trackers(world.node, &TrackerCounts::default());
    world.board.dht(world.node, &DhtCounters::default());
    world.board.local(world.node, local::Counts { limited: 5, interfaces: 7, ..local::Counts::default() });
    assert!(world.board.metrics().contains("seedring_dht_"));
    assert!(world.board.metrics().contains("seedring_local_"));
    for (limit, hits) in [("discovery", 5), ("interfaces", 7)] {
        let line = format!("seedring_limit_hits_total{{limit=\"local_{limit}\"}} {hits}\n");
        assert!(world.board.metrics().contains(&line), "{line}");
    }
    for sample in ["events_total{event=\"udp_announced\"} 0", "bytes_total{direction=\"sent\"} 0"] {
        assert!(world.board.metrics().contains(&format!("seedring_tracker_{sample}\n")), "{sample}");
    }
    assert!(!world.board.metrics().contains("event=\"bytes"), "bytes are no events");
    for page in [world.board.metrics(), world.board.peers()] {
        let words = |start: &str| -> BTreeSet<String> {
            let lines = page.lines().filter_map(|line| line.strip_prefix(start));
            lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
        };
        let (help, kinds) = (words("# HELP "), words("# TYPE "));
        assert_eq!(help, kinds);
        for sample in samples(&page).keys() {
            let name = sample.split('{').next().unwrap();
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(help.contains(name) || stem.is_some_and(|stem| help.contains(stem)), "{name}");
            assert!(name.starts_with("seedring_") || name.starts_with("process_"), "{name}");
        }
    }
}

/// A seedbox may check for hours: what that does is seen, and nothing is said of pieces that nobody has looked at.
#[test]
fn a_core_that_checks_shows_its_work() {
    let mut world = World::new(5);
    let mut told = Snapshot { checking: true, ..Snapshot::default() };
    told.checked.observe(Duration::from_millis(3), 4 << 20);
    told.disk.direct_read_bytes = 4 << 20;
    world.board.take(world.now, world.node, told);
    let page = samples(&world.board.metrics());
    assert_eq!(page["seedring_torrents{state=\"checking\"}"], 1);
    assert_eq!(page["seedring_disk_read_bytes_total{path=\"direct\"}"], 4 << 20);
    assert_eq!(page["seedring_hash_bytes_total{kind=\"verify\"}"], 4 << 20);
    assert_eq!(page["seedring_hash_batch_bytes_count{kind=\"verify\"}"], 1);
    assert!(
        !page.keys().any(|key| key.starts_with("seedring_left_bytes") || key.starts_with("seedring_pieces"))
    );
}
