//! Payloads at the edges: tiny, empty, huge.

use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, number};
use crate::support::payload::{self, assert_all_same, assert_same};
use crate::support::{Stage, Torrent};
use std::fs;

/// libtorrent gives to a first seedring, which passes on to a second what it gets: both copies are right.
fn pass_on(name: &str, piece_length: u32, lay: impl FnOnce(&Stage)) {
    let stage = Stage::new();
    let (origin, first, second) = (stage.folder("origin"), stage.folder("first"), stage.folder("second"));
    lay(&stage);
    let torrent = Torrent::make(&stage.path(""), &origin, name, piece_length, None);
    let libtorrent = Libtorrent::start(&stage, &torrent, &origin, &[]);
    let peer = libtorrent.addr().to_string();
    // By peer exchange the origin and the second would find each other.
    let more = ["--seed", "--no-pex", "--peer", &peer];
    let mut one = Seedring::download(&stage, &torrent, &first, &more);
    let peer = one.addr().to_string();
    let mut two = Seedring::download(&stage, &torrent, &second, &["--peer", &peer, "--no-pex"]);
    let completed = one.wait_event("completed", |_| true);
    assert_eq!(number(&completed, "downloaded"), torrent.length);
    two.wait_success();
    assert!(one.running(), "--seed goes on after the download");
    assert!(one.stop().success());
    assert!(one.last("stopped", "uploaded") >= Some(torrent.length));
    assert_all_same(&origin, [&*first, &second]);
}

#[test]
fn one_byte() {
    pass_on("byte", 16_384, |stage| payload::file(&stage.path("origin/byte"), 1, 1));
}

#[test]
fn last_piece_of_one_byte() {
    pass_on("tail", 16_384, |stage| payload::file(&stage.path("origin/tail"), 3 * 16_384 + 1, 1));
}

#[test]
fn exactly_one_piece() {
    pass_on("piece", 32_768, |stage| payload::file(&stage.path("origin/piece"), 32_768, 1));
}

#[test]
fn pieces_that_are_no_power_of_two() {
    pass_on("odd", 50_000, |stage| payload::file(&stage.path("origin/odd"), 1_234_567, 1));
}

#[test]
fn empty_files_first_between_and_last() {
    let files = [("a", 0), ("b", 20_000), ("c/d", 0), ("c/e", 0), ("c/f", 30_000), ("g", 0)];
    pass_on("hollow", 16_384, |stage| payload::files(&stage.path("origin/hollow"), &files, 1));
}

#[test]
fn many_tiny_files_in_one_piece() {
    let files: Vec<_> = (0..200).map(|n| (format!("{n}"), n % 5)).collect();
    pass_on("dust", 65_536, |stage| payload::files(&stage.path("origin/dust"), &files, 1));
}

#[test]
fn past_four_gib() {
    const GIB: u64 = 1 << 30;
    let length = 4 * GIB + 123;
    let islands: Vec<_> = (0..40).map(|n| (n * 107_000_000, 70_000)).chain([(4 * GIB - 50, 173)]).collect();
    pass_on("huge", 16 << 20, |stage| payload::sparse(&stage.path("origin/huge"), length, &islands, 1));
}

#[test]
fn a_copy_that_is_there_is_adopted() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::files(&origin, &[("set/a", 100_000), ("set/b", 0), ("set/c", 50_000)], 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "set", 16_384, None);
    fs::create_dir(copy.join("set")).expect("a folder can be made");
    for name in ["set/a", "set/b", "set/c"] {
        fs::copy(origin.join(name), copy.join(name)).expect("a copy can be made");
    }
    // No peer at all: there is nothing to fetch.
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &[]);
    seedring.wait_success();
    let checked = seedring.wait_event("checked", |_| true);
    assert_eq!(number(&checked, "good_pieces"), u64::from(torrent.pieces()));
    assert_eq!(seedring.last("completed", "downloaded"), Some(0));
    assert_same(&origin, &copy);
}
