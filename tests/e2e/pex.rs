//! Peer exchange: nobody but a peer in the middle knows who else is there.

use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, number};
use crate::support::payload;
use crate::support::{Stage, Torrent};

/// A slow seed of libtorrent, and one of ours in the middle that knows it.
fn middle(stage: &Stage) -> (Torrent, Libtorrent, Seedring, String) {
    let origin = stage.folder("origin");
    payload::file(&origin.join("exchanged"), 30_000_000, 1);
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
    let (torrent, _seed, mut middle, addr) = middle(&stage);
    let mut end = Seedring::download(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_event("progress", |event| number(event, "peers") >= 2);
    assert_eq!(end.stop().code(), Some(128 + 15));
    assert_eq!(middle.stop().code(), Some(128 + 15));
}

#[test]
fn libtorrent_finds_the_seed_by_one_of_ours() {
    let stage = Stage::new();
    let (torrent, _seed, mut middle, addr) = middle(&stage);
    let mut end = Libtorrent::start(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_peers(2);
    assert_eq!(middle.stop().code(), Some(128 + 15));
}

#[test]
fn one_of_ours_finds_the_seed_by_libtorrent() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("exchanged"), 30_000_000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "exchanged", 65_536, None);
    let seed = Libtorrent::start(&stage, &torrent, &origin, &["--upload-limit", "100000"]);
    let known = seed.addr().to_string();
    let middle = Libtorrent::start(&stage, &torrent, &stage.folder("middle"), &["--peer", &known]);
    let addr = middle.addr().to_string();
    let mut end = Seedring::download(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_event("progress", |event| number(event, "peers") >= 2);
    assert_eq!(end.stop().code(), Some(128 + 15));
}
