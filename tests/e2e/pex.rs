//! Peer exchange: nobody but a peer in the middle knows who else is there. It goes before the download is done: the rest can
//! only come from whom it has told of. So the seed is slow, and no longer when that has been seen.

use crate::clients::Client;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, number};
use crate::support::payload::{self, assert_same};
use crate::support::{Stage, Torrent};

/// A slow seed of libtorrent, and one of ours in the middle that knows it.
fn middle(stage: &Stage) -> (Torrent, Libtorrent, Seedring, String) {
    let origin = stage.folder("origin");
    payload::file(&origin.join("exchanged"), 8_000_000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "exchanged", 65_536, None);
    let seed = Libtorrent::start(stage, &torrent, &origin, &["--upload-limit", "200000"]);
    let known = seed.addr().to_string();
    let mut middle = Seedring::download(stage, &torrent, &stage.folder("middle"), &["--peer", &known]);
    let addr = middle.addr().to_string();
    middle.wait_event("progress", |event| number(event, "downloaded") > 0);
    (torrent, seed, middle, addr)
}

#[test]
fn one_of_ours_finds_the_seed_by_one_of_ours() {
    let stage = Stage::new();
    let (torrent, seed, mut middle, addr) = middle(&stage);
    let mut end = Seedring::download(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_event("progress", |event| number(event, "peers") >= 2);
    assert_eq!(middle.stop().code(), Some(128 + 15));
    assert!(end.events("completed").is_empty(), "too early");
    seed.hurry();
    end.wait_success();
    assert_same(&stage.path("origin"), &stage.path("end"));
}

#[test]
fn libtorrent_finds_the_seed_by_one_of_ours() {
    let stage = Stage::new();
    let (torrent, seed, mut middle, addr) = middle(&stage);
    let mut end = Libtorrent::start(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_peers(2);
    assert_eq!(middle.stop().code(), Some(128 + 15));
    seed.hurry();
    end.wait_complete();
    assert_same(&stage.path("origin"), &stage.path("end"));
}

#[test]
fn one_of_ours_finds_the_seed_by_libtorrent() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("exchanged"), 9_000_000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "exchanged", 65_536, None);
    let seed = Libtorrent::start(&stage, &torrent, &origin, &["--upload-limit", "100000"]);
    let known = seed.addr().to_string();
    let middle = Libtorrent::start(&stage, &torrent, &stage.folder("middle"), &["--peer", &known]);
    let addr = middle.addr().to_string();
    let mut end = Seedring::download(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_event("progress", |event| number(event, "peers") >= 2);
    drop(middle);
    assert!(end.events("completed").is_empty(), "too early");
    seed.hurry();
    end.wait_success();
    assert_same(&stage.path("origin"), &stage.path("end"));
}
