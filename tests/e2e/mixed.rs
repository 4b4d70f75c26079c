//! A swarm of ten clients of four kinds that trade from one slow seed, every one on a host of its own.

use crate::clients::Client;
use crate::clients::aria2::Aria2;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, transfer};
use crate::clients::transmission::Transmission;
use crate::support::lan::Lan;
use crate::support::lan_tracker::LanTracker;
use crate::support::payload;
use crate::support::{Stage, Torrent};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Bytes a second that each may send, the seed too, in KiB. The seed alone would take ten times as long as a swarm in
/// which everybody gives as much as it gets.
const LIMIT: u64 = 512;
const LENGTH: u64 = 8 << 20;

/// Who is on which host; the seed is on the one behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of ours on so many cores.
    Ours(&'static str),
    Libtorrent,
    Transmission,
    Aria2,
}

const TRADERS: [Kind; 10] = [
    Kind::Ours("1"),
    Kind::Libtorrent,
    Kind::Transmission,
    Kind::Ours("2"),
    Kind::Aria2,
    Kind::Libtorrent,
    Kind::Ours("4"),
    Kind::Transmission,
    Kind::Libtorrent,
    Kind::Ours("1"),
];

struct Scene<'a> {
    stage: &'a Stage,
    lan: &'a Lan,
    torrent: Torrent,
}

enum Trader<'a> {
    Ours(Seedring),
    Libtorrent(Libtorrent),
    Transmission(Transmission<'a>),
    Aria2(Aria2),
}

impl<'a> Scene<'a> {
    fn seedring(&self, host: usize, what: &str, folder: &Path, more: &[&str]) -> Seedring {
        let limit = format!("{LIMIT}K");
        let mut command = transfer(what, &self.torrent, folder, more);
        command.args(["--upload-limit", &limit]);
        Seedring::start(self.stage, &mut self.lan.on(host, &command))
    }

    fn start(&self, host: usize, kind: Kind, folder: &Path) -> Trader<'a> {
        let place = (self.lan, host);
        match kind {
            Kind::Ours(cores) => {
                Trader::Ours(self.seedring(host, "download", folder, &["--seed", "--cores", cores]))
            }
            Kind::Libtorrent => {
                let listen = format!("{}:6882", Lan::v4(host)).parse().expect("an address");
                let limit = (LIMIT * 1024).to_string();
                let (more, on) = (["--upload-limit", &limit], |command| self.lan.on(host, &command));
                let (stage, torrent) = (self.stage, &self.torrent);
                Trader::Libtorrent(Libtorrent::start_with(stage, torrent, folder, listen, &more, on))
            }
            Kind::Transmission => {
                let more = json!({"speed-limit-up": LIMIT, "speed-limit-up-enabled": true});
                let (stage, torrent) = (self.stage, &self.torrent);
                Trader::Transmission(Transmission::start_on(stage, torrent, folder, place, more))
            }
            Kind::Aria2 => {
                let limit = format!("--max-upload-limit={LIMIT}K");
                Trader::Aria2(Aria2::trade(self.stage, &self.torrent, folder, place, &[&limit]))
            }
        }
    }
}

impl Trader<'_> {
    fn wait_complete(&mut self) {
        match self {
            Self::Ours(seedring) => _ = seedring.wait_event("completed", |_| true),
            Self::Libtorrent(libtorrent) => libtorrent.wait_complete(),
            Self::Transmission(transmission) => transmission.wait_complete(),
            Self::Aria2(aria2) => aria2.wait_seeding(),
        }
    }
}

/// The rule: until the last has it all everybody stays and gives, each may send the same, and what a host has sent by then
/// counts, as its network card has counted it. That of ours must be at least that of each kind of the others, in the mean; and so
/// that none of ours gives little behind one that gives much, each must have sent half of the mean of all others.
#[test]
fn ten_clients_trade_and_we_give_our_share() {
    let (stage, lan) = (Stage::new(), Lan::of(TRADERS.len() + 1));
    let origin = stage.folder("origin");
    payload::file(&origin.join("traded"), LENGTH, 1);
    let tracker = LanTracker::start(&stage, &lan, &Lan::v4(lan.switch()));
    let torrent = Torrent::make(&stage.path(""), &origin, "traded", 64 << 10, Some(&tracker.url()));
    let scene = Scene { stage: &stage, lan: &lan, torrent };
    let mut seed = scene.seedring(TRADERS.len(), "seed", &origin, &[]);
    seed.addr();
    let folders: Vec<PathBuf> = (0..TRADERS.len()).map(|host| stage.folder(format!("copy-{host}"))).collect();
    let start = |(host, kind): (usize, &Kind)| scene.start(host, *kind, &folders[host]);
    let mut traders: Vec<Trader> = TRADERS.iter().enumerate().map(start).collect();
    traders.iter_mut().for_each(Trader::wait_complete);
    let sent: Vec<u64> = (0..TRADERS.len()).map(|host| lan.sent(host)).collect();
    // Not the folders as a whole: aria2 keeps a file of its own beside what it still seeds.
    let sum = |folder: &PathBuf| payload::sha256(&folder.join("traded"));
    folders.iter().for_each(|folder| assert_eq!(sum(folder), sum(&origin), "{}", folder.display()));
    let of = |which: fn(&Kind) -> bool| -> Vec<u64> {
        TRADERS.iter().zip(&sent).filter(|(kind, _)| which(kind)).map(|(_, sent)| *sent).collect()
    };
    let mean = |which: fn(&Kind) -> bool| of(which).iter().sum::<u64>() / of(which).len() as u64;
    let is_ours: fn(&Kind) -> bool = |kind| matches!(kind, Kind::Ours(_));
    let (ours, least) = (mean(is_ours), of(is_ours).into_iter().min().unwrap_or_default());
    let theirs = [
        mean(|kind| matches!(kind, Kind::Libtorrent)),
        mean(|kind| matches!(kind, Kind::Transmission)),
        mean(|kind| matches!(kind, Kind::Aria2)),
    ];
    let others = mean(|kind| !matches!(kind, Kind::Ours(_)));
    let table: Vec<_> = TRADERS.iter().zip(&sent).collect();
    println!("ours {ours}, the least {least}, others {others}, by kind {theirs:?}: {table:?}");
    assert!(theirs.iter().all(|theirs| ours >= *theirs), "ours {ours}, theirs {theirs:?}: {table:?}");
    assert!(least >= others / 2, "the least of ours {least}, theirs {others}: {table:?}");
    assert!(lan.sent(TRADERS.len()) < LENGTH * 6, "they traded, and were not all served by the seed");
    assert!(seed.stop().success());
}
