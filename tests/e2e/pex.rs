//! Peer exchange: nobody but a peer in the middle knows who else is there. It goes before the download is done: the rest can
//! only come from whom it has told of. So the seed is slow, and no longer when that has been seen.

use crate::clients::Client;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, number};
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Wire, handshake};
use crate::support::wait::until_true;
use crate::support::{Stage, Torrent};
use std::net::SocketAddr;

/// Kind of a message of the extension protocol.
const EXTENDED: u8 = 20;

/// A slow seed of libtorrent, and one of ours in the middle that knows it.
fn middle(stage: &Stage, more: &[&str]) -> (Torrent, Libtorrent, Seedring, String) {
    let origin = stage.folder("origin");
    payload::file(&origin.join("exchanged"), 8_000_000, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "exchanged", 65_536, None);
    let seed = Libtorrent::start(stage, &torrent, &origin, &["--upload-limit", "200000"]);
    let known = seed.addr().to_string();
    let more = [&["--peer", &known], more].concat();
    let mut middle = Seedring::download(stage, &torrent, &stage.folder("middle"), &more);
    let addr = middle.addr().to_string();
    middle.wait_event("progress", |event| number(event, "downloaded") > 0);
    (torrent, seed, middle, addr)
}

#[test]
fn one_of_ours_finds_the_seed_by_one_of_ours() {
    let stage = Stage::new();
    let (torrent, seed, mut middle, addr) = middle(&stage, &[]);
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
    let (torrent, seed, mut middle, addr) = middle(&stage, &[]);
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

/// The names of the extensions that a session offers, by the bytes of its handshake of them.
fn offered(addr: SocketAddr, torrent: &Torrent) -> String {
    let mut wire = Wire::dial(addr);
    let mut handshake = handshake(&torrent.info_hash, b"-XX0001-who-would-be");
    handshake[25] |= 0x10;
    wire.send(&handshake).expect("it takes a handshake");
    wire.read_handshake().expect("it answers");
    let said = wire.read_until(EXTENDED).expect("it has extensions");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn who_has_it_switched_off_offers_and_tells_nothing() {
    let stage = Stage::new();
    let (torrent, _seed, middle, addr) = middle(&stage, &["--no-pex"]);
    let said = offered(addr.parse().expect("an address"), &torrent);
    assert!(said.contains("ut_metadata") && !said.contains("ut_pex"), "{said}");
    let mut end = Seedring::download(&stage, &torrent, &stage.folder("end"), &["--peer", &addr]);
    end.wait_event("progress", |event| number(event, "peers") > 0);
    // Who tells does so within the first of these.
    let begun = end.events("progress").len();
    until_true("some seconds have passed", || end.events("progress").len() >= begun + 5);
    assert!(end.events("progress").iter().all(|event| number(event, "peers") <= 1));
    assert!(offered(end.addr(), &torrent).contains("ut_pex"), "it does as others do");
    drop(middle);
}
