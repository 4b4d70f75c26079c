//! Figures of what peers are given and of what it costs, and how much of a peer is told.

use super::*;
use crate::ring::{FileSends, Operations};

/// A board with one node, which two cores have told of: each with a peer of each kind.
fn told() -> Board {
    let mut board = Board::new(10, Hosts::Whole);
    let node = board.add(None, &torrent());
    for core in 0..2 {
        let mut peers = Vec::new();
        for (number, (outgoing, encrypted, flows)) in
            [(false, false, (true, false)), (true, true, (false, true)), (true, true, (true, true))]
                .into_iter()
                .enumerate()
        {
            let addr = (Ipv4Addr::new(10, 0, core as u8, number as u8), 1).into();
            let id = PeerId(*b"-TR3000-............");
            let who = Introduction { addr, outgoing, id, reserved: Reserved::default() };
            let number = number as u64;
            peers.push(PeerView { number, who, rates: (0, 0), totals: (0, 0), pieces: 0, encrypted, flows });
        }
        let mut told = snapshot(core, peers);
        told.requests = RequestCounts { served: 100, refused: 10, cancelled: 7, dropped: 1 };
        told.uploading = Uploading { slots: 3, most_slots: 8, requests: 2, bytes: 32_768 };
        told.overhead = Overhead { sent: 1000, received: 200 };
        told.checked.sizes.observe(5000);
        told.hashed.sizes.observe(70);
        for (kind, operations) in told.ring.operations.iter_mut().enumerate() {
            let kind = kind as u64 + 1;
            *operations =
                Operations { queued: 90 * kind, completed: 80 * kind, short: 5 * kind, failed: 3 * kind };
        }
        (told.ring.submissions, told.ring.copied) = (77, 55);
        let sends = Operations { queued: 21, completed: 21, short: 23, failed: 24 };
        told.ring.file_sends = FileSends { sends, calls: 25, bytes: 22 };
        (told.cache_hits, told.page_cache_hits, told.cache_misses) = (31, 32, 33);
        told.memory_waits = 34;
        (told.progress.download_rate, told.progress.upload_rate, told.progress.moved) = (90, 60, 44);
        (told.ring.busy, told.ring.queue_full) = (1_500_000_000, 4);
        told.seeding = core == 1;
        board.take(SECOND, node, told);
    }
    board
}

#[test]
fn what_peers_ask_for_is_counted_by_what_became_of_it() {
    let page = samples(&told().metrics());
    for (series, value) in [
        ("requests_total{result=\"served\"}", 200),
        ("requests_total{result=\"refused\"}", 20),
        ("requests_total{result=\"cancelled\"}", 14),
        ("requests_total{result=\"dropped\"}", 2),
        ("upload_queue_bytes", 65_536),
        ("upload_queue_requests", 4),
        // The cores share the slots.
        ("unchoke_slots{state=\"used\"}", 3),
        ("unchoke_slots{state=\"max\"}", 8),
        ("protocol_sent_bytes_total", 2000),
        ("protocol_received_bytes_total", 400),
        ("hash_bytes_total{kind=\"verify\"}", 10_000),
        ("hash_bytes_total{kind=\"download\"}", 140),
        ("handshake_failures_total{reason=\"timeout\"}", 0),
        ("ring_queue_full_total{core=\"1\"}", 4),
    ] {
        assert_eq!(page.get(&format!("seedring_{series}")), Some(&value), "{series} in {page:?}");
    }
}

/// Of each core by itself.
#[test]
fn what_a_ring_and_its_memory_have_done_is_told_of_each_core() {
    let page = samples(&told().metrics());
    let assert_shows = |series: String, value: u64| {
        assert_eq!(page.get(&format!("seedring_{series}")), Some(&value), "{series} in {page:?}");
    };
    for core in 0..2 {
        for (kind, factor) in Kind::ALL.into_iter().zip(1..) {
            for (what, value) in
                [("operations", 90), ("completions", 80), ("short_results", 5), ("errors", 3)]
            {
                let labels = format!("core=\"{core}\",operation=\"{}\"", kind.name());
                assert_shows(format!("ring_{what}_total{{{labels}}}"), value * factor);
            }
        }
        for (what, value) in [
            ("ring_submissions", 77),
            ("copied_bytes", 55),
            ("file_sends", 21),
            ("file_sent_bytes", 22),
            ("file_send_short_results", 23),
            ("file_send_errors", 24),
            ("file_send_calls", 25),
            ("moved_bytes", 44),
            ("cache_hits", 31),
            ("page_cache_hits", 32),
            ("cache_misses", 33),
            ("memory_waits", 34),
        ] {
            assert_shows(format!("{what}_total{{core=\"{core}\"}}"), value);
        }
    }
}

#[test]
fn rates_are_told_of_all_of_each_listed_peer_and_of_the_others() {
    let page = samples(&told().metrics());
    for (way, rate) in [("download", 180), ("upload", 120)] {
        assert_eq!(page[&format!("seedring_{way}_bytes_per_second")], rate);
    }
    for (most, listed) in [(10, 6), (2, 2), (0, 0)] {
        let mut world = World::new(most);
        for tag in 1..=6 {
            world.come(tag);
            world.receive(tag, 30);
            world.send(tag, 20);
        }
        world.tell();
        let page = world.page();
        for (way, rate) in [("download", 30), ("upload", 20)] {
            let name = format!("seedring_peer_{way}_bytes_per_second{{");
            let of_peers: Vec<u64> =
                page.iter().filter(|(key, _)| key.starts_with(&name)).map(|(_, rate)| *rate).collect();
            assert_eq!(of_peers, vec![rate; listed], "{page:?}");
            let others = page[&format!("seedring_peers_other_{way}_bytes_per_second")];
            assert_eq!(others, rate * (6 - listed as u64), "{page:?}");
        }
    }
}

#[test]
fn peers_are_counted_by_what_they_are() {
    let page = samples(&told().metrics());
    let count = |state, direction, encryption| {
        let labels = format!(
            "state=\"{state}\",transport=\"tcp\",direction=\"{direction}\",encryption=\"{encryption}\""
        );
        page[&format!("seedring_peers{{{labels}}}")]
    };
    assert_eq!(count("up", "in", "none"), 2);
    assert_eq!((count("down", "out", "mse"), count("both", "out", "mse")), (2, 2));
    assert_eq!((count("idle", "in", "none"), count("up", "in", "mse")), (0, 0));
    let all = page.iter().filter(|(key, _)| key.starts_with("seedring_peers{"));
    assert_eq!(all.map(|(_, count)| count).sum::<u64>(), 6);
}

#[test]
fn time_has_parts_of_seconds() {
    assert!(told().metrics().contains("\nseedring_core_busy_seconds_total{core=\"1\"} 1.5\n"));
}

#[test]
fn a_torrent_is_in_one_state_at_a_time() {
    let mut board = Board::new(10, Hosts::Whole);
    let node = board.add(None, &torrent());
    let assert_is = |board: &Board, state: &str| {
        let page = samples(&board.metrics());
        for other in ["checking", "downloading", "seeding"] {
            assert_eq!(page[&format!("seedring_torrents{{state=\"{other}\"}}")], u64::from(other == state));
        }
    };
    assert_is(&board, "checking");
    board.take(SECOND, node, snapshot(0, Vec::new()));
    assert_is(&board, "downloading");
    board.take(2 * SECOND, node, Snapshot { seeding: true, ..snapshot(0, Vec::new()) });
    assert_is(&board, "seeding");
}

#[test]
fn masked_peers_are_told_by_their_networks() {
    let mut world = World::new(10);
    world.board = Board::new(10, Hosts::Masked);
    world.node = world.board.add(None, &torrent());
    let hosts = ["192.0.2.77", "192.0.2.78", "::ffff:198.51.100.9", "2001:db8:1:2:3::9"];
    for (tag, host) in (1..).zip(hosts) {
        world.come_as(tag, host.parse().unwrap(), *b"-TR3000-............");
        world.send(tag, 100);
    }
    world.tell();
    let page = world.page();
    let name = "seedring_peer_uploaded_bytes_total{peer=\"";
    let of_peers = page.iter().filter_map(|(key, value)| Some((key.strip_prefix(name)?, *value)));
    let seen: Vec<(&str, u64)> =
        of_peers.map(|(rest, value)| (rest.split('"').next().unwrap(), value)).collect();
    assert_eq!(seen, [("192.0.2.0/24", 200), ("198.51.100.0/24", 100), ("2001:db8:1::/48", 100)]);
    let text = world.board.peers();
    assert!(!hosts.iter().any(|host| text.contains(host)), "{text}");
    world.sums_are_right();
}
