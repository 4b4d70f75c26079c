//! How a run begins and ends: settings from the environment, signals, goodbyes.

use crate::clients::opentracker::Opentracker;
use crate::clients::seedring::{Seedring, binary, run_command};
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Conduct, Seeder};
use crate::support::{Stage, Torrent};
use std::net::Ipv4Addr;
use std::process::ExitStatus;
use std::time::Duration;

#[test]
fn every_option_may_stand_in_the_environment() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("settled"), 300_000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "settled", 32_768, None);
    let one = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let two = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let mut command = binary();
    command.arg("download").arg(&torrent.file).env("SEEDRING_DIR", &copy).env("SEEDRING_JSON", "true");
    command
        .env("SEEDRING_LISTEN", "127.0.0.1:0")
        .env("SEEDRING_PEER", format!("{},{}", one.addr(), two.addr()));
    let ran = run_command(&stage, &mut command).good();
    assert_eq!(ran.event("completed")["left"], 0);
    assert_same(&origin, &copy);
}

/// A download that nobody can finish is ended by a signal, and says goodbye to the tracker.
fn cut_short(end: impl FnOnce(&mut Seedring) -> ExitStatus, code: i32) {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("lonely"), 300_000, 1);
    let tracker = Opentracker::start(&stage);
    let torrent = Torrent::make(&stage.path(""), &origin, "lonely", 32_768, Some(&tracker.url()));
    tracker.admit(&torrent);
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &[]);
    tracker.wait_peers(&torrent, 1);
    assert_eq!(end(&mut seedring).code(), Some(code));
    assert_eq!(seedring.last("stopped", "downloaded"), Some(0));
    assert_eq!(seedring.all_events().last().map(|event| event["event"].clone()), Some("stopped".into()));
    tracker.wait_peers(&torrent, 0);
}

#[test]
fn a_download_that_is_interrupted() {
    cut_short(Seedring::interrupt, 130);
}

#[test]
fn a_download_that_is_terminated() {
    cut_short(Seedring::stop, 143);
}

#[test]
fn events_come_in_order() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("orderly"), 300_000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "orderly", 32_768, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::from_millis(150)));
    let peer = seeder.addr().to_string();
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]);
    seedring.wait_success();
    let mut kinds: Vec<_> = seedring.all_events().iter().map(|event| event["event"].clone()).collect();
    kinds.retain(|kind| {
        ["checked", "listening", "progress", "completed", "stopped"].iter().any(|known| kind == known)
    });
    kinds.dedup();
    let last: Vec<_> = kinds.iter().rev().take(2).rev().cloned().collect();
    assert_eq!(kinds[..3], ["checked", "listening", "progress"]);
    assert_eq!(last, ["completed", "stopped"]);
}
