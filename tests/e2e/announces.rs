//! Trackers of every kind: over UDP, within TLS, several at once, by name, scraped, or none.

use crate::clients::opentracker::Opentracker;
use crate::clients::seedring::{Seedring, number, run, transfer};
use crate::disk::with_mounts;
use crate::support::https::HttpsStub;
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Conduct, Seeder};
use crate::support::stub::Stub;
use crate::support::torrent::Value;
use crate::support::wait::until_true;
use crate::support::{Stage, Torrent};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A payload in place, and the folder that it is in.
fn lay(stage: &Stage) -> PathBuf {
    let origin = stage.folder("origin");
    payload::file(&origin.join("announced"), 1_000_000, 1);
    origin
}

fn torrent(stage: &Stage, origin: &Path, announce: &str) -> Torrent {
    Torrent::make(&stage.path(""), origin, "announced", 32_768, Some(announce))
}

/// The same torrent with these trackers, each in a tier of its own.
fn with_trackers(torrent: &Torrent, stage: &Stage, origin: &Path, urls: &[&str]) -> Torrent {
    let file = stage.path("many.torrent");
    let payload = origin.join("announced");
    let mut args =
        vec!["create", payload.to_str().unwrap(), "-o", file.to_str().unwrap(), "--piece-length", "32K"];
    urls.iter().for_each(|url| args.extend(["--announce", *url]));
    let ran = run(stage, args).good();
    assert_eq!(ran.event("created")["info_hash"], torrent.info_hash_hex(), "the same torrent");
    let mut torrent = torrent.clone();
    torrent.file = file;
    torrent
}

fn no_peers() -> Vec<u8> {
    Value::dict([("interval", Value::Int(1800)), ("peers", Value::Bytes(vec![]))]).encode()
}

#[test]
fn opentracker_over_udp() {
    let stage = Stage::new();
    let origin = lay(&stage);
    let tracker = Opentracker::start(&stage);
    let torrent = torrent(&stage, &origin, &tracker.udp_url());
    tracker.admit(&torrent);
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &[]);
    tracker.wait_seeds(&torrent, 1);
    let copy = stage.folder("copy");
    let mut leech = Seedring::download(&stage, &torrent, &copy, &["--seed"]);
    leech.wait_event("completed", |_| true);
    assert_same(&origin, &copy);
    tracker.wait_seeds(&torrent, 2);
    assert_eq!(tracker.completions(&torrent), 1);
    // What the tracker counts, asked by either protocol.
    let both = with_trackers(&torrent, &stage, &origin, &[&tracker.udp_url(), &tracker.url()]);
    let ran = run(&stage, ["show", both.file.to_str().unwrap(), "--scrape"]).good();
    let scrapes: Vec<_> = ran.events.iter().filter(|event| event["event"] == "scrape").collect();
    assert_eq!(scrapes.len(), 2, "{ran:?}");
    for scrape in scrapes {
        let counts = ["seeds", "leeches", "downloaded"].map(|field| number(scrape, field));
        assert_eq!(counts, [2, 0, 1], "{scrape}");
    }
    assert!(leech.stop().success());
    assert!(seed.stop().success());
    tracker.wait_peers(&torrent, 0);
}

/// What lies in place, a tracker within TLS that names who gives it, and a torrent of that tracker.
fn within_tls(stage: &Stage) -> (PathBuf, Seeder, HttpsStub, Torrent) {
    let origin = lay(stage);
    let plain = Torrent::make(&stage.folder("plain"), &origin, "announced", 32_768, None);
    let seeder = Seeder::start(&plain, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let [high, low] = seeder.addr().port().to_be_bytes();
    let peers = Value::Bytes(vec![127, 0, 0, 1, high, low]);
    let body = Value::dict([("interval", Value::Int(1800)), ("peers", peers)]).encode();
    let tracker = HttpsStub::document(stage, &body);
    let torrent = torrent(stage, &origin, tracker.url());
    (origin, seeder, tracker, torrent)
}

#[test]
fn a_tracker_within_tls() {
    let stage = Stage::new();
    let (origin, _seeder, tracker, torrent) = within_tls(&stage);
    // Its authority is not known: nothing is said to it.
    let copy = stage.folder("copy");
    let mut leech = Seedring::download(&stage, &torrent, &copy, &[]);
    let failed = leech.wait_event("tracker_failed", |_| true);
    assert!(
        failed["reason"].as_str().is_some_and(|why| why.contains("not of an authority that is trusted")),
        "{failed}"
    );
    leech.interrupt();
    assert!(tracker.asked().iter().all(String::is_empty), "{:?}", tracker.asked());
    // Now it is.
    Seedring::download(&stage, &torrent, &copy, &["--tracker-ca", tracker.authority()]).wait_success();
    assert_same(&origin, &copy);
    for event in ["started", "completed", "stopped"] {
        assert!(tracker.asked().iter().any(|line| line.contains(&format!("event={event}"))), "{event}");
    }
}

#[test]
fn nothing_is_said_to_a_tracker_whose_certificate_is_not_its_own_or_has_expired() {
    for (certificate, why) in [(("t.example", 4000), "not valid for name"), (("127.0.0.1", 2020), "expired")]
    {
        let stage = Stage::new();
        let origin = lay(&stage);
        let tracker = HttpsStub::posing(&stage, b"d8:intervali900ee", certificate);
        let torrent = torrent(&stage, &origin, tracker.url());
        let trust = ["--tracker-ca", tracker.authority()];
        let mut seed = Seedring::seed(&stage, &torrent, &origin, &trust);
        let failed = seed.wait_event("tracker_failed", |_| true);
        let told = failed["reason"].as_str().expect("a reason");
        assert!(told.contains("in confidence") && told.contains(why), "{told}");
        assert!(seed.stop().success());
        assert!(tracker.asked().iter().all(String::is_empty), "{:?}", tracker.asked());
    }
}

#[test]
fn authorities_of_the_system_vouch_for_a_tracker() {
    let stage = Stage::new();
    let (origin, _seeder, tracker, torrent) = within_tls(&stage);
    let copy = stage.folder("copy");
    // Where the system keeps its authorities, as OpenSSL is told, too.
    let mut command = transfer("download", &torrent, &copy, &[]);
    Seedring::start(&stage, command.env("SSL_CERT_FILE", tracker.authority())).wait_success();
    assert_same(&origin, &copy);
    assert!(tracker.asked().iter().any(|line| line.contains("event=started")), "{:?}", tracker.asked());
}

#[test]
fn a_file_without_authorities_is_refused() {
    let stage = Stage::new();
    let origin = lay(&stage);
    let torrent = torrent(&stage, &origin, "http://127.0.0.1:1/announce");
    let (file, folder) = (torrent.file.to_str().unwrap(), origin.to_str().unwrap());
    for ca in ["/no/such/file", file] {
        let said = run(&stage, ["seed", file, "-d", folder, "--tracker-ca", ca]).refused();
        assert!(said.contains(ca), "{said}");
    }
}

#[test]
fn one_tracker_or_all_of_them() {
    for all in [false, true] {
        let stage = Stage::new();
        let origin = lay(&stage);
        let stubs = [Stub::document(&no_peers()), Stub::document(&no_peers()), Stub::document(&no_peers())];
        let torrent = torrent(&stage, &origin, stubs[0].url());
        let torrent =
            with_trackers(&torrent, &stage, &origin, &[stubs[0].url(), stubs[1].url(), stubs[2].url()]);
        let more: &[&str] = if all { &["--announce-to-all"] } else { &[] };
        let mut seed = Seedring::seed(&stage, &torrent, &origin, more);
        let expected = if all { 3 } else { 1 };
        until_true("the trackers have answered", || seed.events("tracker").len() == expected);
        assert!(seed.stop().success());
        let told = |stub: &Stub, event: &str| stub.asked().iter().filter(|line| line.contains(event)).count();
        for (index, stub) in stubs.iter().enumerate() {
            let count = usize::from(all || index == 0);
            assert_eq!((told(stub, "event=started"), told(stub, "event=stopped")), (count, count), "{index}");
        }
    }
}

#[test]
fn a_host_name_is_announced_and_a_warning_passed_on() {
    let stage = Stage::new();
    let origin = lay(&stage);
    let answer = Value::dict([
        ("interval", Value::Int(1800)),
        ("peers", Value::Bytes(vec![])),
        ("warning message", Value::text("mind the gap")),
    ]);
    let stub = Stub::document(&answer.encode());
    let torrent = torrent(&stage, &origin, stub.url());
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &["--announce-hostname", "seed-1.local"]);
    let told = seed.wait_event("tracker", |_| true);
    assert_eq!(told["warning"], "mind the gap");
    assert!(seed.stop().success());
    assert!(stub.asked().iter().all(|line| line.contains("&hostname=seed-1.local")), "{:?}", stub.asked());
}

#[test]
fn trackers_can_be_left_alone() {
    let stage = Stage::new();
    let origin = lay(&stage);
    let stub = Stub::document(&no_peers());
    let torrent = torrent(&stage, &origin, stub.url());
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &["--no-trackers"]);
    let peer = seed.addr().to_string();
    let copy = stage.folder("copy");
    Seedring::download(&stage, &torrent, &copy, &["--no-trackers", "--peer", &peer]).wait_success();
    assert!(seed.stop().success());
    assert_same(&origin, &copy);
    assert_eq!(stub.asked(), Vec::<String>::new());
}

/// Where names are looked up, nobody answers.
#[test]
fn names_that_are_slow_to_look_up_hold_up_no_other_tracker() {
    const RESOLVER: &str = "
import os, socket, sys, time
parent, silent = int(sys.argv[1]), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(('127.83.0.1', 53))
while os.getppid() == parent: time.sleep(0.2)";
    let stage = Stage::new();
    let origin = lay(&stage);
    let stub = Stub::document(&no_peers());
    let url = stub.url().replace("127.0.0.1", "localhost");
    let mut urls: Vec<String> =
        (0..80).map(|number| format!("http://t{number}.silent.example:6969/announce")).collect();
    urls.insert(40, url.clone());
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let torrent = with_trackers(&torrent(&stage, &origin, &url), &stage, &origin, &urls);
    let (config, resolver) = (stage.path("resolv.conf"), stage.path("resolver.py"));
    fs::write(&config, "nameserver 127.83.0.1\nsearch .\noptions timeout:3 attempts:2\n").unwrap();
    fs::write(&resolver, RESOLVER).unwrap();
    let script = r#"mount --bind "$1" "$(readlink -f /etc/resolv.conf)"; /usr/bin/python3 "$2" $$ & true"#;
    let seed = transfer("seed", &torrent, &origin, &["--announce-to-all"]);
    let mut seed = Seedring::start(&stage, &mut with_mounts(script, &[&config, &resolver], &seed));
    // Keys may stand in the path: it is not told.
    let shown = url.trim_end_matches("/announce");
    seed.wait_event("tracker", |event| event["url"] == shown);
    let failed = seed.events("tracker_failed").into_iter().filter(|event| event["url"] == shown);
    assert_eq!(failed.count(), 0, "{:?}", seed.all_events());
}
