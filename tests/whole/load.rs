//! `seedring load`, the generator that measures others: against the program itself, and against raw sockets that serve
//! badly.

use crate::common::program::{seedring, with_descriptors};
use crate::common::stage::{Stage, beside, beside_client};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

const BLOCK: usize = 16 * 1024;

#[test]
fn a_seeder_is_downloaded_from_by_many() {
    let stage = Stage::new(&[3_000_000, 0, 1, 100_000, 20_000]);
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &[]);
    let addr = seeder.address().to_string();
    for order in ["sequential", "scattered"] {
        let (code, summary, said) =
            stage.run("download", &["--peer", &addr, "--connections", "20", "--order", order]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
        assert_eq!(summary["event"], "load");
        assert_eq!(summary["mode"], "download");
        assert_eq!(summary["ok"], true);
        for (name, value) in [
            ("bytes", 20 * stage.total()),
            ("connection_bytes_min", stage.total()),
            ("connection_bytes_max", stage.total()),
            ("connected", 20),
            ("bad_blocks", 0),
            ("unexpected_blocks", 0),
            ("outstanding_at_end", 0),
        ] {
            assert_eq!(summary[name], value, "{name} of {summary}");
        }
        let blocks = stage.total().div_ceil(BLOCK as u64) * 20;
        assert_eq!(summary["blocks"], blocks);
        assert!(summary["requests"].as_u64().unwrap() >= blocks);
        assert!(summary["cpu_seconds"].as_f64().unwrap() > 0.0);
        assert!(summary["seconds"].as_f64().unwrap() >= summary["transfer_seconds"].as_f64().unwrap());
        assert!(summary["outstanding_max"].as_u64().unwrap() <= 40);
    }
}

#[test]
fn a_goal_may_be_less_or_more_than_the_torrent() {
    let stage = Stage::new(&[1_000_000]);
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &[]);
    let addr = seeder.address().to_string();
    let each = ["--peer", &addr, "--connections", "3", "--requests", "200", "--bytes-per-connection", "3M"];
    let (code, summary, said) = stage.run("download", &each);
    assert_eq!(code, Some(0), "{said}");
    assert!(summary["connection_bytes_min"].as_u64().unwrap() >= 3 << 20);
    assert!(summary["connection_bytes_max"].as_u64().unwrap() < (3 << 20) + BLOCK as u64);
    let outstanding = summary["outstanding_max"].as_u64().unwrap();
    assert!((41..=200).contains(&outstanding), "{outstanding}, and 40 are what nobody has to ask for");
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--bytes", "320K"]);
    assert_eq!(code, Some(0), "{said}");
    // The last block of the torrent is short, so a few more may be needed.
    let bytes = summary["bytes"].as_u64().unwrap();
    assert!((320 << 10..(320 << 10) + 2 * BLOCK as u64).contains(&bytes), "{summary}");
}

#[test]
fn a_downloader_is_uploaded_to_by_many() {
    let stage = Stage::new(&[2_000_000, 5, 0, 700_000]);
    let leech = stage.folder.path().join("leech");
    let mut downloader = beside_client(&stage, "download", &leech, &[]);
    let addr = downloader.address().to_string();
    let (code, summary, said) = stage.run("upload", &["--peer", &addr, "--connections", "8"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
    assert!(summary["bytes"].as_u64().unwrap() >= stage.total(), "{summary}");
    assert_eq!(summary["client_pieces"], stage.torrent.layout.piece_count());
    downloader.until("completed");
    downloader.until("stopped");
    stage.assert_same(&leech);
}

#[test]
fn a_downloader_that_dials_is_waited_for() {
    let stage = Stage::new(&[1_500_000]);
    let mut load = stage.load("upload", &["--listen", "127.0.0.2:0", "--connections", "4", "--json"]);
    let mut load = beside(&mut load);
    let peers: Vec<String> = (0..4).map(|_| load.address().to_string()).collect();
    let hosts: Vec<_> =
        peers.iter().map(|peer| peer.parse::<SocketAddr>().unwrap().ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    let leech = stage.folder.path().join("leech");
    // Not so fast that it is done before it has dialled all.
    let more = ["--peer", &peers.join(","), "--download-limit", "2M"];
    let mut downloader = beside_client(&stage, "download", &leech, &more);
    downloader.until("completed");
    downloader.until("stopped");
    let summary = load.until("load");
    assert_eq!(summary["ok"], true, "{summary}");
    assert!(load.wait().success());
    stage.assert_same(&leech);
}

#[test]
fn each_connection_comes_from_an_address_of_its_own() {
    let stage = Stage::new(&[100_000]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let accepting = std::thread::spawn(move || {
        (0..6).map(|_| listener.accept().unwrap()).map(|(_, from)| from.ip()).collect::<BTreeSet<_>>()
    });
    // Nobody says a word to them.
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "6"]).0, Some(1));
    assert_eq!(accepting.join().unwrap().len(), 6);
}

#[test]
fn a_block_that_differs_from_the_files_is_found() {
    let stage = Stage::new(&[500_000]);
    let path = stage.there().join("set/0000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[300_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &[]);
    let (code, summary, said) =
        stage.run("download", &["--peer", &seeder.address().to_string(), "--connections", "2"]);
    assert_eq!(code, Some(1), "{summary}");
    assert!(said.contains("2 blocks were not what they should be (piece 4 from byte 32768 on"), "{said}");
    assert_eq!((&summary["ok"], &summary["bad_blocks"]), (&Value::from(false), &Value::from(2)));
    assert_eq!(summary["bytes"], 2 * (stage.total() - BLOCK as u64));
}

#[test]
fn what_stands_in_the_way_is_named() {
    let stage = Stage::new(&[10_000]);
    let fails_with = |code, mode: &str, more: &[&str]| {
        let output = stage.load(mode, more).output().unwrap();
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(fails_with(2, "download", &[]).contains("--peer"));
    let refused = |mode, more: &[&str]| fails_with(1, mode, more);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    drop(listener);
    assert!(refused("download", &["--peer", &closed]).contains("Connection refused"));
    fs::write(stage.there().join("set/0000"), "short").unwrap();
    let said = refused("download", &["--peer", &closed]);
    assert!(said.contains("set/0000: it has 5 bytes where the torrent says 10000"), "{said}");
    fs::remove_file(stage.there().join("set/0000")).unwrap();
    assert!(refused("upload", &["--peer", &closed]).contains("cannot open"));
}

#[test]
fn it_is_hidden_from_the_short_help_but_explains_itself() {
    let help = |args: &[&str]| String::from_utf8(seedring().args(args).output().unwrap().stdout).unwrap();
    assert!(!help(&["--help"]).contains("\n  load "));
    assert!(help(&["--help"]).contains("\n  download "));
    assert!(help(&["load", "--help"]).contains("--bytes-per-connection"));
}

/// A seed written by hand: one connection, and what it answers to each request.
fn serve(stage: &Stage, script: impl FnOnce(Served) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (hash, pieces) = (stage.torrent.info_hash, stage.torrent.layout.piece_count());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        let hello = [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &hash.0[..], &[7; 20]].concat();
        stream.write_all(&hello).unwrap();
        let mut served = Served(stream);
        let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
        *bits.last_mut().unwrap() <<= (8 - pieces % 8) % 8;
        served.say(5, &bits);
        script(served);
    });
    addr
}

struct Served(TcpStream);

impl Served {
    fn say(&mut self, id: u8, body: &[u8]) {
        let head = [&(body.len() as u32 + 1).to_be_bytes()[..], &[id]].concat();
        self.0.write_all(&[&head, body].concat()).unwrap();
    }

    /// The body of the next message of that kind; none when the other side has closed.
    fn hear(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let mut len = [0; 4];
            self.0.read_exact(&mut len).ok()?;
            let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
            self.0.read_exact(&mut bytes).ok()?;
            if bytes.first() == Some(&kind) {
                return Some(bytes.split_off(1));
            }
        }
    }

    /// Answers a request with these bytes of the whole torrent.
    fn answer(&mut self, request: &[u8], torrent: &[u8]) {
        let number = |at: usize| u32::from_be_bytes(request[at..at + 4].try_into().unwrap()) as usize;
        let at = number(0) * 65_536 + number(4);
        self.say(7, &[&request[..8], &torrent[at..at + number(8)]].concat());
    }
}

#[test]
fn one_wrong_byte_of_one_block_is_found() {
    let stage = Stage::new(&[200_000]);
    let mut bytes = fs::read(stage.here().join("set/0000")).unwrap();
    bytes[199_999] ^= 0x80;
    let addr = serve(&stage, move |mut served| {
        served.say(1, &[]);
        while let Some(request) = served.hear(6) {
            served.answer(&request, &bytes);
        }
    });
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!((code, &summary["bad_blocks"]), (Some(1), &Value::from(1)), "{said}");
    assert!(said.contains("piece 3 from byte 0 on is not what it should be"), "{said}");
}

#[test]
fn what_a_choke_threw_away_is_asked_for_again() {
    let stage = Stage::new(&[400_000]);
    let bytes = fs::read(stage.here().join("set/0000")).unwrap();
    let addr = serve(&stage, move |mut served| {
        served.say(1, &[]);
        for round in 0.. {
            let Some(request) = served.hear(6) else { break };
            // Every block that the torrent has was asked for by now. None of those behind the third is answered.
            if round == 3 {
                served.say(0, &[]);
                (0..21).for_each(|_| drop(served.hear(6)));
                served.say(1, &[]);
            } else {
                served.answer(&request, &bytes);
            }
        }
    });
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&summary["bytes"], &summary["chokes"]), (&Value::from(400_000), &Value::from(1)));
    assert_eq!(summary["repeated_requests"], 22, "{summary}");
}

#[test]
fn a_seed_that_goes_early_fails_the_run() {
    let stage = Stage::new(&[400_000]);
    let bytes = fs::read(stage.here().join("set/0000")).unwrap();
    let addr = serve(&stage, move |mut served| {
        served.say(1, &[]);
        let request = served.hear(6).unwrap();
        served.answer(&request, &bytes);
        // The rest is read, so that the end is no reset.
        (0..24).for_each(|_| drop(served.hear(6)));
    });
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!((code, &summary["closed_early"]), (Some(1), &Value::from(1)), "{said}");
    assert!(
        said.contains("all connections have ended after 16384 bytes, before the goal was reached"),
        "{said}"
    );
    assert_eq!(summary["outstanding_at_end"], 24);
}

#[test]
fn nonsense_ends_the_connection() {
    let stage = Stage::new(&[100_000]);
    let addr = serve(&stage, |mut served| {
        served.say(4, &99u32.to_be_bytes());
        drop(served.hear(99));
    });
    let (code, _, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("it has a piece that the torrent has not"), "{said}");
}

#[test]
fn a_burst_of_dials_is_let_in_whole() {
    let stage = Stage::new(&[1_000_000]);
    for cores in ["1", "2"] {
        let mut seeder = beside_client(&stage, "seed", &stage.here(), &["--cores", cores]);
        let addr = seeder.address().to_string();
        // More than a core lets shake hands at once, several times over; and with a limit that is raised for it.
        let burst = ["--peer", &addr, "--connections", "700", "--bytes-per-connection", "64K"];
        let load = stage.load("download", &burst);
        let (code, summary, said) = Stage::told(&mut with_descriptors(&load, 256, true));
        assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
        let figures = ["connected", "closed_early", "active"].map(|name| summary[name].as_u64().unwrap());
        assert_eq!(figures, [700, 0, 700]);
    }
}

#[test]
fn a_connection_that_ends_early_or_never_comes_fails_the_run() {
    let stage = Stage::new(&[400_000]);
    let bytes = fs::read(stage.here().join("set/0000")).unwrap();
    // It takes one connection, and serves that; the listener goes with it.
    let served = |bytes: Vec<u8>| {
        serve(&stage, move |mut served| {
            served.say(1, &[]);
            while let Some(request) = served.hear(6) {
                served.answer(&request, &bytes);
            }
        })
    };
    let addr = served(bytes.clone());
    let (code, summary, said) =
        stage.run("download", &["--peer", &addr, "--connections", "3", "--bytes", "256K"]);
    assert_eq!((code, &summary["ok"]), (Some(1), &Value::from(false)), "{said}");
    assert!(summary["connected"] == 1 && summary["bytes"].as_u64() >= Some(256 << 10), "{summary}");
    assert!(said.contains("only 1 of 3 connections were made"), "{said}");
    let addr = served(bytes);
    let few = ["--peer", &addr, "--connections", "3", "--bytes", "256K", "--allow-fewer"];
    let (code, summary, said) = stage.run("download", &few);
    assert_eq!(
        (code, &summary["ok"], &summary["connected"]),
        (Some(0), &Value::from(true), &Value::from(1)),
        "{said}"
    );
}
