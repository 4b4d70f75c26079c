//! Trackers of our own making: peers by name, and answers that make no sense.

use crate::clients::seedring::Seedring;
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Conduct, Seeder};
use crate::support::stub::Stub;
use crate::support::torrent::Value;
use crate::support::wait::until_true;
use crate::support::{Stage, Torrent};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A payload in place, and the folder that it is in.
fn lay(stage: &Stage) -> PathBuf {
    let origin = stage.folder("origin");
    payload::file(&origin.join("announced"), 1_000_000, 1);
    origin
}

fn seeder(stage: &Stage) -> Seeder {
    let torrent = Torrent::make(&stage.folder("plain"), &stage.path("origin"), "announced", 32_768, None);
    Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO))
}

/// A whole download whose only source of peers is a tracker with this answer.
fn download_by(answer: impl FnOnce(u16) -> Value) -> (Stub, Torrent) {
    let stage = Stage::new();
    let origin = lay(&stage);
    let seeder = seeder(&stage);
    let stub = Stub::document(&answer(seeder.addr().port()).encode());
    let torrent = Torrent::make(&stage.path(""), &origin, "announced", 32_768, Some(stub.url()));
    let copy = stage.folder("copy");
    Seedring::download(&stage, &torrent, &copy, &[]).wait_success();
    assert_same(&origin, &copy);
    (stub, torrent)
}

fn answer(peers: Value) -> Value {
    Value::dict([("interval", Value::Int(1800)), ("peers", peers)])
}

#[test]
fn peers_as_dictionaries_with_host_names() {
    let (stub, _) = download_by(|port| {
        let peer = |host: &str, port: u16| {
            let id = Value::text("-XX0001-000000000000");
            Value::dict([("ip", Value::text(host)), ("peer id", id), ("port", Value::Int(port.into()))])
        };
        answer(Value::List(vec![peer("no-such-host.invalid", 6881), peer("localhost", port)]))
    });
    // The whole life of a download: it comes, it completes, it goes.
    let asked = stub.asked();
    for event in ["started", "completed", "stopped"] {
        let count = asked.iter().filter(|line| line.contains(&format!("event={event}"))).count();
        assert_eq!(count, 1, "`{event}` once: {asked:?}");
    }
}

#[test]
fn announces_say_what_the_protocol_asks_for() {
    let (stub, torrent) = download_by(|port| {
        let [high, low] = port.to_be_bytes();
        answer(Value::Bytes(vec![127, 0, 0, 1, high, low]))
    });
    let asked = stub.asked();
    let first = &asked[0];
    let parameter = |line: &str, key: &str| {
        let query = line.split(['?', ' ']).nth(2).expect("a query").to_owned();
        let found =
            query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")).map(str::to_owned));
        found.unwrap_or_else(|| panic!("`{key}` in {line}"))
    };
    assert!(first.starts_with("GET /announce?"), "{first}");
    assert_eq!(percent_decoded(&parameter(first, "info_hash")), torrent.info_hash);
    assert!(percent_decoded(&parameter(first, "peer_id")).starts_with(b"-SR0001-"), "{first}");
    assert_eq!(percent_decoded(&parameter(first, "peer_id")).len(), 20);
    assert_ne!(parameter(first, "port"), "0");
    assert_eq!(parameter(first, "compact"), "1");
    let counts = |line: &str| ["uploaded", "downloaded", "left"].map(|key| parameter(line, key));
    let length = torrent.length.to_string();
    assert_eq!(counts(first), ["0", "0", &length]);
    let completed = asked.iter().find(|line| line.contains("event=completed")).expect("a completion");
    assert_eq!(counts(completed), ["0", &length, "0"]);
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::new(), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(&text[at + 1..at + 3], 16).expect("two hex digits"));
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

#[test]
fn what_is_right_in_an_answer_is_used() {
    download_by(|port| {
        let [high, low] = port.to_be_bytes();
        // Half a peer at the end.
        answer(Value::Bytes(vec![127, 0, 0, 1, high, low, 127, 0]))
    });
    download_by(|port| {
        let ip = || ("ip", Value::text("127.0.0.1"));
        let good = Value::dict([ip(), ("port", Value::Int(port.into()))]);
        let bad = [Value::dict([ip()]), Value::dict([ip(), ("port", Value::Int(70_000))]), Value::Int(3)];
        answer(Value::List(bad.into_iter().chain([good]).collect()))
    });
}

#[test]
fn answers_that_make_no_sense() {
    let http = |head: &str, body: &[u8]| [head.as_bytes(), body].concat();
    let bencoded = |value: Value| {
        let body = value.encode();
        http(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()), &body)
    };
    let answers = [
        ("nothing", Vec::new()),
        ("no HTTP", b"d8:intervali1800e5:peers0:e".to_vec()),
        ("an error of HTTP", http("HTTP/1.1 500 Out of order\r\nContent-Length: 0\r\n\r\n", b"")),
        ("no bencode", http("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", b"<html>")),
        ("a list", bencoded(Value::List(vec![]))),
        (
            "a failure",
            bencoded(Value::dict([("failure reason", Value::text("the torrent is unknown here"))])),
        ),
        ("a broken end", http("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"d8:interval")),
        ("a body of no end in sight", http("HTTP/1.1 200 OK\r\n\r\n", &vec![b'1'; 20 << 20])),
    ];
    for (what, bytes) in answers {
        let stage = Stage::new();
        let origin = lay(&stage);
        let stub = Stub::start(bytes);
        let torrent = Torrent::make(&stage.path(""), &origin, "announced", 32_768, Some(stub.url()));
        let copy = stage.folder("copy");
        // No peer yet: the tracker alone does not end it.
        let mut seedring = Seedring::download(&stage, &torrent, &copy, &[]);
        until_true("the tracker is asked", || !stub.asked().is_empty());
        let told = seedring.wait_event("tracker_failed", |_| true);
        assert!(told["reason"].as_str().is_some_and(|reason| reason.len() > 10), "a sentence: {told}");
        println!("{what}: {told}");
        assert!(seedring.running());
        // A seed that dials in completes it.
        let peer = seedring.addr().to_string();
        let mut seed = Seedring::seed(&stage, &torrent, &origin, &["--peer", &peer]);
        seedring.wait_success();
        assert!(seed.stop().success());
        assert_same(&origin, &copy);
    }
}

#[test]
fn interval_of_zero_is_no_reason_to_hurry() {
    let stage = Stage::new();
    let origin = lay(&stage);
    let stub =
        Stub::document(&Value::dict([("interval", Value::Int(0)), ("peers", Value::Bytes(vec![]))]).encode());
    let torrent = Torrent::make(&stage.path(""), &origin, "announced", 32_768, Some(stub.url()));
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &[]);
    until_true("the tracker is asked", || !stub.asked().is_empty());
    // Progress comes every second.
    until_true("some seconds have passed", || {
        assert!(seed.running());
        seed.events("progress").len() >= 4
    });
    assert!(stub.asked().len() <= 2, "{:?}", stub.asked());
    assert!(seed.stop().success());
}
