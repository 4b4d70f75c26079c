//! The partners among themselves: when a case with seedring fails and these pass, the fault is seedring's.

use crate::clients::libtorrent::Libtorrent;
use crate::clients::opentracker::Opentracker;
use crate::clients::{Client as _, Partner};
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Conduct, Seeder};
use crate::support::{Stage, Torrent};
use std::net::Ipv4Addr;
use std::time::Duration;

fn partners(from: Partner, to: Partner) {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::files(
        &origin,
        &[("album/1.bin", 3_000_000), ("album/sub/2.bin", 1), ("album/3.bin", 700_001)],
        1,
    );
    let tracker = Opentracker::start(&stage);
    let torrent = Torrent::make(&stage.path(""), &origin, "album", 65_536, Some(&tracker.url_for(to)));
    tracker.admit(&torrent);
    let _seed = from.seed(&stage, &torrent, &origin);
    tracker.wait_seeds(&torrent, 1);
    to.download(&stage, &torrent, &copy).wait_complete();
    assert_same(&origin, &copy);
}

#[test]
fn libtorrent_to_aria2() {
    partners(Partner::Libtorrent, Partner::Aria2);
}

#[test]
fn aria2_to_transmission() {
    partners(Partner::Aria2, Partner::Transmission);
}

#[test]
fn transmission_to_libtorrent() {
    partners(Partner::Transmission, Partner::Libtorrent);
}

#[test]
fn our_hand_made_seed_to_libtorrent() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::files(&origin, &[("album/1.bin", 300_000), ("album/sub/2.bin", 1), ("album/3.bin", 70_001)], 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "album", 65_536, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let peer = seeder.addr().to_string();
    Libtorrent::start(&stage, &torrent, &copy, &["--peer", &peer]).wait_complete();
    assert_same(&origin, &copy);
}
