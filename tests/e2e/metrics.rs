//! `--metrics`: the pages of running programs, read as Prometheus reads them and judged by its `promtool`.

use crate::clients::seedring::{Seedring, binary, run_command, transfer};
use crate::support::net::http;
use crate::support::payload::{self, assert_same};
use crate::support::process::program;
use crate::support::relay::{gated, gated_pair};
use crate::support::wait::{until, until_true};
use crate::support::{Stage, Torrent};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

const ANYWHERE: [&str; 2] = ["--metrics", "127.0.0.1:0"];

/// The samples of a page, by name and labels.
pub(crate) type Samples = BTreeMap<String, f64>;

pub(crate) fn metrics_addr(seedring: &mut Seedring) -> SocketAddr {
    let event = seedring.wait_event("metrics", |_| true);
    event["addr"].as_str().and_then(|addr| addr.parse().ok()).expect("an address")
}

fn get(addr: SocketAddr, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let (head, body) = http(addr, &request).ok()?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
    Some(String::from_utf8(body).expect("a page is UTF-8"))
}

pub(crate) fn page(addr: SocketAddr, path: &str) -> Samples {
    samples(&get(addr, path).expect("the program answers"))
}

pub(crate) fn samples(page: &str) -> Samples {
    let mut found = BTreeMap::new();
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        let value = value.parse().expect("a number");
        assert_eq!(found.insert(name.to_owned(), value), None, "{name} twice");
    }
    found
}

/// The sum of all series of a name.
pub(crate) fn sum(samples: &Samples, name: &str) -> u64 {
    let of_name = samples.iter().filter(|(key, _)| key.split('{').next() == Some(name));
    of_name.map(|(_, value)| *value as u64).sum()
}

/// The sum of those with this label.
pub(crate) fn sum_of(samples: &Samples, name: &str, label: &str) -> u64 {
    let labelled = samples.iter().filter(|(key, _)| key.contains(label));
    sum(&labelled.map(|(key, value)| (key.clone(), *value)).collect(), name)
}

/// What the page of peers counts in all, one way.
fn all_peers(samples: &Samples, way: &str) -> u64 {
    let parts = ["peer", "peers_other", "peers_delisted"];
    parts.iter().map(|part| sum(samples, &format!("seedring_{part}_{way}_bytes_total"))).sum()
}

/// Prometheus' own tool finds nothing wrong with either page.
fn assert_clean(addr: SocketAddr) {
    judge(both_pages(addr));
}

fn both_pages(addr: SocketAddr) -> [String; 2] {
    ["/metrics", "/metrics/peers"].map(|path| get(addr, path).expect("the program answers"))
}

fn judge(pages: [String; 2]) {
    for page in pages {
        let mut promtool = program("promtool", "prometheus");
        promtool
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut promtool = promtool.spawn().expect("promtool starts");
        let mut input = promtool.stdin.take().expect("its input is a pipe");
        input.write_all(page.as_bytes()).expect("promtool reads all");
        drop(input);
        let ended = promtool.wait_with_output().expect("promtool ends");
        let said = String::from_utf8_lossy(&ended.stdout) + String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.trim().is_empty(), "{said}\n{page}");
    }
}

#[test]
fn pages_tell_what_was_moved_while_it_moves_and_after() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("watched"), 16 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "watched", 256 << 10, None);
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &ANYWHERE);
    let seed_metrics = metrics_addr(&mut seed);
    let (peer, gate) = gated(seed.addr(), 4 << 20);
    let peer = peer.to_string();
    let more = ["--seed", "--peer", &peer, ANYWHERE[0], ANYWHERE[1]];
    let mut leech = Seedring::download(&stage, &torrent, &copy, &more);
    let leech_metrics = metrics_addr(&mut leech);

    // While it moves: each sees the other as one peer, named as it should be.
    let hash: String = torrent.info_hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    for (addr, way, direction) in [(seed_metrics, "uploaded", "in"), (leech_metrics, "downloaded", "out")] {
        let series = format!(
            "seedring_peer_{way}_bytes_total{{peer=\"127.0.0.1\",port_kind=\"{direction}\",client=\"seedring 0.0.0.1\",\
             torrent=\"{hash}\"}}"
        );
        until_true(&format!("{series} is listed"), || {
            page(addr, "/metrics/peers").get(&series).is_some_and(|bytes| *bytes > 0.0)
        });
        assert_eq!(sum(&page(addr, "/metrics"), "seedring_peers"), 1);
        assert_clean(addr);
    }

    // After: what one has sent the other has got.
    assert!(leech.events("completed").is_empty(), "it stands still on the way");
    gate.store(true, Ordering::Relaxed);
    leech.wait_event("completed", |_| true);
    assert_same(&origin, &copy);
    let length = torrent.length;
    let sent = until("the last byte is counted", || {
        let samples = page(seed_metrics, "/metrics");
        (sum(&samples, "seedring_uploaded_bytes_total") >= length).then_some(samples)
    });
    let got = until("the last piece is counted, and written", || {
        let samples = page(leech_metrics, "/metrics");
        let [downloaded, left] =
            ["downloaded_bytes_total", "left_bytes"].map(|what| sum(&samples, &format!("seedring_{what}")));
        ((downloaded, left) == (length, 0)).then_some(samples)
    });
    let wasted = sum(&got, "seedring_wasted_bytes_total");
    assert_eq!(sum(&got, "seedring_received_bytes_total"), length + wasted);
    assert_eq!(sum(&sent, "seedring_uploaded_bytes_total"), length + wasted);
    assert_eq!(sum(&got, "seedring_checked_pieces"), 64);
    assert_eq!(got["seedring_pieces{state=\"good\"}"], 64.0);
    assert_eq!(sum(&got, "seedring_hash_batch_bytes_sum"), length);
    assert!(got.keys().any(|key| key.starts_with("seedring_moved_bytes_total{core=")), "{got:?}");
    for (samples, operation) in [(&sent, "send"), (&sent, "read"), (&got, "recv")] {
        let count = |name: &str| {
            let (name, label) =
                (format!("seedring_ring_{name}_total{{"), format!("operation=\"{operation}\""));
            let of_kind = samples.iter().filter(|(key, _)| key.starts_with(&name) && key.contains(&label));
            of_kind.map(|(_, value)| value).sum::<f64>()
        };
        assert!(0.0 < count("completions") && count("completions") <= count("operations"), "{operation}");
        let [batches, operations] =
            ["submissions", "operations"].map(|name| sum(samples, &format!("seedring_ring_{name}_total")));
        assert!(0 < batches && batches <= operations, "{batches} batches of {operations} operations");
    }
    for (samples, series) in [
        (&sent, "disk_operation_seconds_count{operation=\"read\"}"),
        (&sent, "disk_operation_bytes_count{operation=\"read\"}"),
        (&got, "disk_operation_seconds_count{operation=\"write\"}"),
        (&got, "disk_operation_bytes_count{operation=\"write\"}"),
        (&got, "disk_operation_seconds_count{operation=\"sync\"}"),
        (&got, "hash_batch_seconds_count{kind=\"download\"}"),
        (&got, "hash_batch_bytes_count{kind=\"download\"}"),
        (&sent, "hash_batch_seconds_count{kind=\"verify\"}"),
    ] {
        assert!(samples[&format!("seedring_{series}")] > 0.0, "{series}");
    }
    for (samples, way) in [(&sent, "read"), (&got, "write")] {
        let moved = samples[&format!("seedring_disk_operation_bytes_sum{{operation=\"{way}\"}}")];
        assert!(moved >= length as f64, "{moved} bytes by {way}");
    }
    // Nothing is asked for twice, or it is wasted; and what is asked for has a message, and an answer a head.
    let served = sent["seedring_requests_total{result=\"served\"}"];
    assert!(served >= (length / (16 << 10)) as f64, "{served} requests");
    for samples in [&sent, &got] {
        for way in ["sent", "received"] {
            assert!(
                sum(samples, &format!("seedring_protocol_{way}_bytes_total")) > 68,
                "a handshake at least"
            );
        }
        assert!(
            samples
                .iter()
                .any(|(key, time)| key.starts_with("seedring_core_busy_seconds_total") && *time > 0.0)
        );
    }
    assert!(sum(&sent, "seedring_protocol_sent_bytes_total") >= served as u64 * 13, "heads of blocks");
    assert_eq!(sent["seedring_hash_bytes_total{kind=\"verify\"}"] as u64, length);
    assert_eq!(got["seedring_hash_bytes_total{kind=\"download\"}"] as u64, length);
    assert_eq!((sent["seedring_torrents{state=\"seeding\"}"], sum(&sent, "seedring_torrents")), (1.0, 1));
    assert!(sent["seedring_unchoke_slots{state=\"max\"}"] >= 1.0);
    assert_eq!(sum(&sent, "seedring_upload_queue_bytes"), 0, "all is on its way");
    assert!(sum(&sent, "process_open_fds") > 3 && sum(&sent, "process_resident_memory_bytes") > 1 << 20);
    for (addr, samples, way, name) in
        [(seed_metrics, &sent, "uploaded", "uploaded"), (leech_metrics, &got, "downloaded", "received")]
    {
        assert_eq!(
            all_peers(&page(addr, "/metrics/peers"), way),
            sum(samples, &format!("seedring_{name}_bytes_total"))
        );
        assert_clean(addr);
    }
    assert!(leech.stop().success() && seed.stop().success());
}

#[test]
fn two_cores_are_told_apart_and_summed() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("shared"), 32 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "shared", 256 << 10, None);
    let length = torrent.length;
    let copies = ["one", "two"].map(|name| stage.folder(name));
    // By peer exchange they would find each other, past the relays.
    let more = ["--seed", "--no-pex", ANYWHERE[0], ANYWHERE[1]];
    let mut leeches = copies.each_ref().map(|copy| Seedring::download(&stage, &torrent, copy, &more));
    let leech_metrics = leeches.each_mut().map(metrics_addr);
    // What comes back are their requests, 17 bytes each: fewer pass than they need.
    let relays = gated_pair(leeches.each_mut().map(Seedring::addr), 4096);
    let peers = relays.each_ref().map(|(addr, _)| addr.to_string()).join(",");
    let more = ["--cores", "2", "--peer", &peers, ANYWHERE[0], ANYWHERE[1]];
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &more);
    let seed_metrics = metrics_addr(&mut seed);

    // While they stand still: a peer on each core. They look alike, so they share a series.
    let hash: String = torrent.info_hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let shared = format!(
        "seedring_peer_connections{{peer=\"127.0.0.1\",port_kind=\"out\",client=\"seedring 0.0.0.1\",torrent=\"{hash}\"}}"
    );
    until_true("both peers are listed as one", || {
        page(seed_metrics, "/metrics/peers").get(&shared) == Some(&2.0)
    });
    let seen = page(seed_metrics, "/metrics");
    assert_eq!((sum(&seen, "seedring_peers"), sum(&seen, "seedring_left_bytes")), (2, 0));
    assert_eq!((seen["seedring_pieces{state=\"good\"}"], sum(&seen, "seedring_pieces")), (128.0, 128));
    assert_clean(seed_metrics);

    for ((leech, copy), (_, gate)) in leeches.iter_mut().zip(&copies).zip(&relays) {
        assert!(leech.events("completed").is_empty(), "it stands still on the way");
        gate.store(true, Ordering::Relaxed);
        leech.wait_event("completed", |_| true);
        assert_same(&origin, copy);
    }
    let sent = until("what one has sent the others have got", || {
        let got = leech_metrics.map(|addr| sum(&page(addr, "/metrics"), "seedring_received_bytes_total"));
        let sent = page(seed_metrics, "/metrics");
        let uploaded = sum(&sent, "seedring_uploaded_bytes_total");
        (got.iter().all(|got| *got >= length) && uploaded == got[0] + got[1]).then_some(sent)
    });
    assert_each_core_has(&sent, "send");
    assert!(sum(&sent, "seedring_disk_read_bytes_total") >= length, "they were checked at least");
    let uploaded = sum(&sent, "seedring_uploaded_bytes_total");
    assert_eq!(all_peers(&page(seed_metrics, "/metrics/peers"), "uploaded"), uploaded);

    // The other way: two seeds, one for each core of a downloader. Little passes before it has both: one of them
    // alone would have given all while the other core was still dialling.
    let open_gates = |open| relays.iter().for_each(|(_, gate)| gate.store(open, Ordering::Relaxed));
    open_gates(false);
    let copy = stage.folder("three");
    let more = ["--seed", "--cores", "2", "--peer", &peers, ANYWHERE[0], ANYWHERE[1]];
    let mut third = Seedring::download(&stage, &torrent, &copy, &more);
    let third_metrics = metrics_addr(&mut third);
    // (By name are listed only those that have moved something.)
    until_true("both seeds are its peers", || sum(&page(third_metrics, "/metrics"), "seedring_peers") == 2);
    open_gates(true);
    third.wait_event("completed", |_| true);
    assert_same(&origin, &copy);
    let got = until("all that came is accounted for, and written", || {
        let got = page(third_metrics, "/metrics");
        let [received, downloaded, wasted, written] = ["received", "downloaded", "wasted", "disk_written"]
            .map(|what| sum(&got, &format!("seedring_{what}_bytes_total")));
        // Cores tell of themselves once a second, and of a piece's bytes before they are written.
        let whole = [downloaded, written] == [length; 2] && sum(&got, "seedring_left_bytes") == 0;
        (whole && received == downloaded + wasted).then_some(got)
    });
    assert_each_core_has(&got, "recv");
    assert_eq!(sum(&got, "seedring_pieces"), 128);
    assert_eq!(sum(&got, "seedring_hash_batch_bytes_sum"), length);
    let received = sum(&got, "seedring_received_bytes_total");
    assert_eq!(all_peers(&page(third_metrics, "/metrics/peers"), "downloaded"), received);
    assert_clean(third_metrics);
    assert!(third.stop().success() && seed.stop().success());
}

/// Both cores, and no others, have figures of their own, and have done operations of this kind.
fn assert_each_core_has(samples: &Samples, operation: &str) {
    for core in [0, 1] {
        let name = format!("seedring_ring_completions_total{{core=\"{core}\",operation=\"{operation}\"}}");
        assert!(samples[&name] > 0.0, "{name} in {samples:?}");
    }
    let cores = samples.keys().filter(|key| key.starts_with("seedring_arena_registered{"));
    assert_eq!(cores.count(), 2);
}

#[test]
fn nobody_is_listed_when_none_shall_be() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("summed"), 1 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "summed", 64 << 10, None);
    let more = [ANYWHERE[0], ANYWHERE[1], "--metrics-peers", "0", "--metrics-fold"];
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &more);
    let addr = metrics_addr(&mut seed);
    let peer = seed.addr().to_string();
    Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]).wait_success();
    let samples = until("the last byte is counted", || {
        let samples = page(addr, "/metrics/peers");
        (sum(&samples, "seedring_peers_other_uploaded_bytes_total") == torrent.length).then_some(samples)
    });
    assert!(samples.keys().all(|key| !key.contains("peer=")), "{samples:?}");
    let all = page(addr, "/metrics");
    let folded = samples.keys().all(|key| all.contains_key(key));
    assert!(folded && sum(&all, "seedring_uploaded_bytes_total") == torrent.length, "{all:?}");
    assert_clean(addr);
    assert!(seed.stop().success());
}

#[test]
fn addresses_can_be_masked_and_handshakes_that_fail_are_counted() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("masked"), 4 << 20, 1);
    payload::file(&origin.join("other"), 1 << 10, 2);
    let [torrent, other] =
        ["masked", "other"].map(|name| Torrent::make(&stage.path(""), &origin, name, 64 << 10, None));
    let more = [ANYWHERE[0], ANYWHERE[1], "--metrics-mask"];
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &more);
    let addr = metrics_addr(&mut seed);
    let peer = seed.addr().to_string();
    // Long enough that it is seen at work.
    let slow = ["--seed", "--download-limit", "1M", "--peer", &peer];
    let mut leech = Seedring::download(&stage, &torrent, &copy, &slow);
    until_true("the peer is listed by its network", || {
        let page = get(addr, "/metrics/peers").expect("the program answers");
        assert!(!page.contains("127.0.0.1"), "{page}");
        page.contains("peer=\"127.0.0.0/24\"")
    });
    leech.wait_event("completed", |_| true);
    // Somebody comes for what is not here.
    let mut stranger = Seedring::download(
        &stage,
        &other,
        &stage.folder("nothing"),
        &["--encryption", "off", "--peer", &peer],
    );
    let failed = "seedring_handshake_failures_total{reason=\"torrent\"}";
    until_true("it is counted that nothing came of it", || page(addr, "/metrics")[failed] >= 1.0);
    stranger.stop();
    assert_clean(addr);
    assert!(leech.stop().success() && seed.stop().success());
}

#[test]
fn the_demo_tells_its_nodes_apart() {
    let stage = Stage::new();
    let mut command = binary();
    command.args(["demo", "--json", "--size", "128M", "--leechers", "2", "-d"]).arg(stage.path("demo"));
    let mut demo = Seedring::start(&stage, command.args(ANYWHERE));
    let addr = metrics_addr(&mut demo);
    until_true("all nodes are on the page", || {
        assert!(demo.running(), "it ended unseen: {}", demo.said());
        let Some(page) = get(addr, "/metrics") else { return false };
        let page = samples(&page);
        ["seeder", "leecher-1", "leecher-2"]
            .iter()
            .all(|node| page.contains_key(&format!("seedring_downloaded_bytes_total{{node=\"{node}\"}}")))
    });
    assert_clean(addr);
    demo.wait_success();
}

#[test]
fn pages_are_clean_during_the_check_and_with_every_way_to_find_peers() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    // Holes: long to hash, and no room taken.
    let file = std::fs::File::create(origin.join("holes")).expect("a file can be made");
    file.set_len(2 << 30).expect("it can be long");
    let torrent = Torrent::make(&stage.path(""), &origin, "holes", 4 << 20, None);
    let state = stage.path("state");
    let more = ["--dht-bootstrap", "127.0.0.1:1", "--state", state.to_str().expect("UTF-8"), "--cores", "1"];
    let mut command = transfer("seed", &torrent, &origin, &[&more[..], &ANYWHERE].concat());
    command.env("SEEDRING_DIGEST", "portable").env_remove("SEEDRING_NO_DHT").env_remove("SEEDRING_NO_LSD");
    let mut seed = Seedring::start(&stage, &mut command);
    let addr = metrics_addr(&mut seed);
    let pages = until("the core tells what it hashes", || {
        let pages = both_pages(addr);
        (sum(&samples(&pages[0]), "seedring_hash_batch_bytes_count") > 0).then_some(pages)
    });
    assert!(seed.events("checked").is_empty(), "it was not looked at during the check");
    judge(pages);
    seed.wait_event("dht_started", |_| true);
    until_true("the DHT and the local search are told of", || {
        let page = page(addr, "/metrics");
        ["seedring_dht_", "seedring_local_"].iter().all(|name| page.keys().any(|key| key.starts_with(name)))
    });
    assert_clean(addr);
    assert!(seed.stop().success());
}

/// The pages are of what cores have told by themselves: they are not asked.
#[test]
fn whoever_looks_often_costs_the_cores_nothing() {
    const LOOKS: u64 = 300;
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("idle"), 1 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "idle", 64 << 10, None);
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &ANYWHERE);
    let addr = metrics_addr(&mut seed);
    seed.addr();
    let counts = |seen: &Samples| {
        ["operations", "submissions"].map(|what| sum(seen, &format!("seedring_ring_{what}_total")))
    };
    // They tell once a second.
    let settled = || std::thread::sleep(Duration::from_millis(1500));
    settled();
    let before = counts(&page(addr, "/metrics"));
    for _ in 0..LOOKS / 2 {
        let _ = ["/metrics", "/metrics/peers"].map(|path| page(addr, path));
    }
    settled();
    let after = counts(&page(addr, "/metrics"));
    println!("{before:?}, then {after:?}");
    assert!(
        before[0] > 0 && (0..2).all(|at| after[at] - before[at] < LOOKS / 4),
        "{before:?}, then {after:?}"
    );
    assert!(seed.stop().success());
}

#[test]
fn a_port_in_use_is_said_at_once() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("unseen"), 1000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "unseen", 16 << 10, None);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    let addr = taken.local_addr().expect("a bound address").to_string();
    let ran = run_command(&stage, &mut transfer("seed", &torrent, &origin, &["--metrics", &addr]));
    assert!(ran.refused().starts_with(&format!("cannot serve metrics on {addr}: ")), "{ran:?}");
    assert!(ran.events.iter().all(|event| event["event"] != "checked"), "nothing else was begun: {ran:?}");
}
