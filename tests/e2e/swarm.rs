//! Several of our own: trading, losing the seed, and a liar among the seeds.

use crate::clients::opentracker::Opentracker;
use crate::clients::seedring::{Seedring, number};
use crate::support::net::free_port;
use crate::support::payload::{self, assert_same};
use crate::support::peer::{BLOCK, Conduct, Seeder};
use crate::support::relay::narrow;
use crate::support::{Stage, Torrent};
use std::net::Ipv4Addr;
use std::time::Duration;

#[test]
fn three_downloaders_trade() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("traded"), 24 << 20, 1);
    let tracker = Opentracker::start(&stage);
    let torrent = Torrent::make(&stage.path(""), &origin, "traded", 256 << 10, Some(&tracker.url()));
    tracker.admit(&torrent);
    // Slow, lest it serves everybody before they know one another; they find one another through the tracker.
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::from_millis(5)));
    let peer = seeder.addr().to_string();
    let start = |name: &str| {
        let folder = stage.folder(name);
        let seedring = Seedring::download(&stage, &torrent, &folder, &["--seed", "--peer", &peer]);
        (folder, seedring)
    };
    let mut all = ["one", "two", "three"].map(start);
    for (folder, seedring) in &mut all {
        seedring.wait_event("completed", |_| true);
        assert_same(&origin, folder);
    }
    let mut traded = 0;
    for (_, seedring) in &mut all {
        assert!(seedring.stop().success());
        let uploaded = seedring.last("stopped", "uploaded").expect("a count");
        assert!(uploaded > 0, "each gave something");
        traded += uploaded;
    }
    let by_seeder = seeder.served() as u64 * u64::from(BLOCK);
    assert!(traded >= torrent.length / 2, "{traded} bytes traded");
    assert!(by_seeder < torrent.length * 5 / 2, "{by_seeder} of {} bytes by the seed", 3 * torrent.length);
}

#[test]
fn a_seed_that_crashes_and_comes_back() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("resumed"), 16 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "resumed", 256 << 10, None);
    let listen = format!("127.0.0.1:{}", free_port());
    let seed = || {
        let mut seed = Seedring::seed(&stage, &torrent, &origin, &["--listen", &listen]);
        seed.addr();
        seed
    };
    let mut first = seed();
    let peer = narrow(first.addr(), Duration::from_millis(5)).to_string();
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]);
    seedring.wait_event("progress", |event| number(event, "left") < torrent.length / 2);
    first.kill();
    let left = seedring.last("progress", "left").expect("a count");
    assert!(left > 0, "killed half-way");
    let mut second = seed();
    seedring.wait_success();
    assert_same(&origin, &copy);
    assert!(second.stop().success());
    let again = second.last("stopped", "uploaded").expect("a count");
    assert!(
        again < torrent.length * 3 / 4,
        "what came before the crash is not fetched again: {again} bytes were"
    );
}

/// Some pieces' bytes are wrong.
fn lies_about(piece: u32) -> bool {
    piece % 4 == 1
}

#[test]
fn one_liar_among_three_seeds() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("disputed"), 8 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "disputed", 64 << 10, None);
    let pace = Duration::from_millis(4);
    let honest = [2, 3].map(|n| Seeder::start(&torrent, Ipv4Addr::new(127, 0, 0, n), Conduct::honest(pace)));
    let liar = Seeder::start(&torrent, Ipv4Addr::new(127, 0, 0, 66), Conduct { pace, lies_about });
    let peers = [&honest[0], &liar, &honest[1]].map(|seeder| seeder.addr().to_string());
    let more = peers.iter().flat_map(|peer| ["--peer", peer]).collect::<Vec<_>>();
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &more);
    seedring.wait_success();
    assert_same(&origin, &copy);
    let failed = seedring.events("piece_failed");
    assert!(!failed.is_empty(), "the liar was asked for something");
    assert!(failed.iter().all(|event| lies_about(u32::try_from(number(event, "piece")).expect("a piece"))));
    // Only what failed is fetched again, and what two were asked for at the end.
    let fetched_twice = seedring.last("completed", "wasted").expect("a count");
    let blocks: usize = honest.iter().chain([&liar]).map(Seeder::served).sum();
    let slack = 3 * u64::from(BLOCK) * 64;
    assert!(
        fetched_twice <= failed.len() as u64 * u64::from(torrent.piece_length) + slack,
        "{fetched_twice} wasted"
    );
    assert!(blocks as u64 * u64::from(BLOCK) <= torrent.length + fetched_twice + slack, "{blocks} blocks");
    // Exactly the liar is dropped for it, and not dialled again.
    let dropped = seedring.events("peer_dropped").into_iter();
    let blamed: Vec<String> = dropped
        .filter(|event| event["reason"].as_str().is_some_and(|reason| reason.contains("bad blocks of piece")))
        .map(|event| event["addr"].as_str().expect("an address").to_owned())
        .collect();
    assert_eq!((blamed, liar.connections()), (vec![liar.addr().to_string()], 1));
}

#[test]
fn a_liar_alone_is_dropped() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("forged"), 4 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "forged", 64 << 10, None);
    let pace = Duration::from_millis(1);
    let liar = Seeder::start(&torrent, Ipv4Addr::new(127, 0, 0, 66), Conduct { pace, lies_about });
    let peer = liar.addr().to_string();
    let mut seedring = Seedring::download(&stage, &torrent, &copy, &["--peer", &peer]);
    seedring.wait_event("piece_failed", |_| true);
    let dropped = seedring.wait_event("peer_dropped", |event| event["addr"] == *peer);
    assert!(dropped["reason"].as_str().is_some_and(|reason| reason.len() > 3), "a reason: {dropped}");
    let lies = seedring.events("piece_failed").len();
    // An honest seed that dials in ends it; the liar stays out.
    let addr = seedring.addr().to_string();
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &["--peer", &addr]);
    seedring.wait_success();
    assert_same(&origin, &copy);
    assert!(seed.stop().success());
    assert_eq!((seedring.events("piece_failed").len(), liar.connections()), (lies, 1), "the liar stays out");
}
