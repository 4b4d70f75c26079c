//! Magnet links: metadata from other clients and to them.

use crate::clients::Partner;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::opentracker::Opentracker;
use crate::clients::seedring::{Seedring, run};
use crate::support::payload::{self, assert_same};
use crate::support::{Stage, Torrent};
use std::path::PathBuf;

/// A payload of many pieces, so that its metadata has several blocks.
fn lay(stage: &Stage, announce: Option<&str>) -> (PathBuf, Torrent) {
    let origin = stage.folder("origin");
    payload::files(
        &origin,
        &[("album/1.bin", 25_000_000), ("album/sub/2.bin", 1), ("album/3.bin", 70_001)],
        1,
    );
    let torrent = Torrent::make(&stage.path(""), &origin, "album", 16_384, announce);
    (origin, torrent)
}

/// The parameter of a link that names a tracker.
fn tr(url: &str) -> String {
    format!("&tr={}", url.replace(':', "%3A").replace('/', "%2F"))
}

fn download_from(partner: Partner) {
    let stage = Stage::new();
    let tracker = Opentracker::start(&stage);
    let (origin, torrent) = lay(&stage, Some(&tracker.url_for(partner)));
    tracker.admit(&torrent);
    let _seed = partner.seed(&stage, &torrent, &origin);
    tracker.wait_seeds(&torrent, 1);
    let copy = stage.folder("copy");
    let link = torrent.by_magnet(&format!("{}&dn=An%20Album", tr(&tracker.url())));
    let mut seedring = Seedring::download(&stage, &link, &copy, &[]);
    seedring.wait_success();
    assert_same(&origin, &copy);
}

fn seed_to(partner: Partner) {
    let stage = Stage::new();
    let tracker = Opentracker::start(&stage);
    let (origin, torrent) = lay(&stage, Some(&tracker.url_for(partner)));
    tracker.admit(&torrent);
    let mut seedring = Seedring::seed(&stage, &torrent, &origin, &[]);
    tracker.wait_seeds(&torrent, 1);
    let copy = stage.folder("copy");
    let link = torrent.by_magnet(&tr(&tracker.url_for(partner)));
    partner.download(&stage, &link, &copy).wait_complete();
    assert_same(&origin, &copy);
    assert!(seedring.stop().success());
}

#[test]
fn metadata_from_libtorrent() {
    download_from(Partner::Libtorrent);
}

#[test]
fn metadata_from_transmission() {
    download_from(Partner::Transmission);
}

#[test]
fn metadata_to_libtorrent() {
    seed_to(Partner::Libtorrent);
}

#[test]
fn metadata_to_transmission() {
    seed_to(Partner::Transmission);
}

#[test]
fn a_peer_named_in_the_link_is_enough_and_a_seed_may_begin_with_a_link() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, None);
    let libtorrent = Libtorrent::start(&stage, &torrent, &origin, &[]);
    let copy = stage.folder("copy");
    let link = torrent.by_magnet(&format!("&x.pe=no-such-host.invalid:1&x.pe={}", libtorrent.addr()));
    Seedring::download(&stage, &link, &copy, &[]).wait_success();
    assert_same(&origin, &copy);
    // Whoever has the payload but no torrent file can seed by the link.
    let mut first = Seedring::seed(&stage, &link, &copy, &[]);
    let peer = first.addr().to_string();
    let second = stage.folder("second");
    let bare = torrent.by_magnet("");
    Seedring::download(&stage, &bare, &second, &["--peer", &peer]).wait_success();
    assert_same(&origin, &second);
    assert!(first.stop().success());
}

/// Five bits a digit (RFC 4648, section 6).
fn base32(hash: &[u8; 20]) -> String {
    let bit = |at: usize| hash[at / 8] >> (7 - at % 8) & 1;
    let digit = |at: usize| (0..5).fold(0, |digit, next| digit << 1 | bit(5 * at + next));
    (0..32).map(|at| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(digit(at))])).collect()
}

#[test]
fn what_a_link_stands_for_is_shown() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, None);
    let mut seedring = Seedring::seed(&stage, &torrent, &origin, &[]);
    let peer = seedring.addr().to_string();
    // In either of the ways that hashes are written.
    let base32 = format!("magnet:?xt=urn:btih:{}", base32(&torrent.info_hash));
    for link in [torrent.by_magnet("").file.to_str().expect("UTF-8"), &base32, &base32.to_lowercase()] {
        let shown = run(&stage, ["show", link, "--peer", &peer, "--listen", "127.0.0.1:0"]).good();
        let shown = shown.event("torrent");
        assert_eq!((&shown["name"], &shown["info_hash"]), (&"album".into(), &torrent.info_hash_hex().into()));
        assert_eq!(shown["files"].as_array().map(Vec::len), Some(3));
    }
    assert!(seedring.stop().success());
}

#[test]
fn links_that_lead_nowhere_are_refused_with_a_reason() {
    let stage = Stage::new();
    let refused = |link: &str| run(&stage, ["show", link]).refused();
    assert!(refused("magnet:?dn=x").contains("names no torrent"));
    assert!(refused("magnet:?xt=urn:btih:00").contains("info-hash"));
    assert!(refused(&format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32))).contains("v2"));
}
