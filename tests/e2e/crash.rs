//! kill -9 at any moment, then the same command again.

use crate::clients::seedring::{Seedring, number};
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Conduct, Seeder};
use crate::support::wait::until_true;
use crate::support::{Stage, Torrent};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// Pieces of a single-file torrent whose bytes are on disk, as the test itself sees it.
fn on_disk(torrent: &Torrent, file: &Path) -> BTreeSet<u32> {
    let Ok(file) = File::open(file) else { return BTreeSet::new() };
    let same = |piece: &u32| {
        let size = u32::try_from(torrent.piece_size(*piece)).expect("a piece");
        let (origin, mut copy) = (torrent.read(*piece, 0, size), vec![0; size as usize]);
        let start = u64::from(*piece) * u64::from(torrent.piece_length);
        file.read_exact_at(&mut copy, start).is_ok() && copy == origin
    };
    (0..torrent.pieces()).filter(same).collect()
}

#[test]
fn nothing_verified_is_fetched_again() {
    let seed = fastrand::u64(..);
    println!("moments of the crashes from seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("survivor"), 12 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "survivor", 128 << 10, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::from_millis(3)));
    let peer = seeder.addr().to_string();
    let (mut kept, mut reported) = (BTreeSet::new(), 0);
    for round in 0..7 {
        seeder.take_served();
        let mut seedring = Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]);
        let checked = seedring.wait_event("checked", |_| true);
        let good = number(&checked, "good_pieces");
        assert!(good >= reported, "round {round}: {good} pieces found, {reported} had been reported");
        // A write that was under way when the program was killed may have ended after the test has looked.
        assert!(good >= kept.len() as u64, "round {round}: all that is on disk is found: {good} of {kept:?}");
        if round == 6 {
            seedring.wait_success();
            assert_eq!(seedring.last("completed", "wasted"), Some(0));
        } else {
            // Not a time: a number of blocks, so that every run gets somewhere.
            let blocks = random.usize(..100);
            until_true("blocks are served", || seeder.served() >= blocks);
            seedring.kill();
            reported = seedring.last("progress", "good_pieces").unwrap_or(good);
        }
        let asked: BTreeSet<u32> = seeder.take_served().into_iter().map(|(piece, _)| piece).collect();
        assert!(asked.is_disjoint(&kept), "round {round}: fetched again: {:?}", asked.intersection(&kept));
        kept = on_disk(&torrent, &copy.join("survivor.part"));
    }
    assert_same(&origin, &copy);
}

#[test]
fn damage_between_two_runs_is_found() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::files(&origin, &[("set/a", 300_000), ("set/b", 200_000)], 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "set", 16 << 10, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let peer = seeder.addr().to_string();
    Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]).wait_success();
    let file = File::options().write(true).open(copy.join("set/b")).expect("the copy opens");
    // Piece 25 lies in the second file.
    file.write_all_at(b"damage", 25 * (16 << 10) - 300_000 + 100).expect("the copy can be damaged");
    seeder.take_served();
    Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]).wait_success();
    assert_eq!(seeder.take_served(), [(25, 0)]);
    assert_same(&origin, &copy);
}
