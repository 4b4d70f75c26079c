//! Whom a seed serves when it cannot serve all, by each `--seed-choker`: leeches that other people wrote, which know nobody but
//! the seed and have to have all of it from there. Rounds of choking come every ten seconds.

use crate::clients::Client;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::Seedring;
use crate::clients::transmission::Transmission;
use crate::support::payload::{self, assert_same};
use crate::support::peer::{BITFIELD, INTERESTED, Wire};
use crate::support::wait::{until, until_true};
use crate::support::{Stage, Torrent};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Worth four upload slots.
const LIMIT: &str = "41K";
/// Short, for slow peers to ask for the next one before they seem to have no use for their slots.
const PIECE: u32 = 4 << 10;
/// Bytes a second that a slow leech takes.
const SLOW: &str = "6000";

/// A seed and its leeches.
struct Scene {
    stage: Stage,
    torrent: Torrent,
    origin: PathBuf,
    seed: Seedring,
    addr: SocketAddr,
    transmissions: Vec<Transmission<'static>>,
    libtorrents: Vec<Libtorrent>,
    copies: Vec<PathBuf>,
}

impl Scene {
    /// A seed that dials so many Transmissions.
    fn new(choker: &str, pieces: u32, transmissions: usize) -> Self {
        let stage = Stage::new();
        let origin = stage.folder("origin");
        payload::file(&origin.join("wanted"), u64::from(pieces * PIECE), 1);
        let torrent = Torrent::make(&stage.path(""), &origin, "wanted", PIECE, None);
        let copies: Vec<_> = (0..transmissions).map(|n| stage.folder(format!("transmission-{n}"))).collect();
        let start = |copy: &PathBuf| Transmission::start_to_be_dialled(&stage, &torrent, copy);
        let (transmissions, addrs): (Vec<_>, Vec<_>) = copies.iter().map(start).unzip();
        let addrs: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
        let dials = addrs.iter().flat_map(|addr| ["--peer", addr]);
        // What its peers do not have is seen by each core for itself.
        let options = ["--seed-choker", choker, "--upload-limit", LIMIT, "--no-pex", "--cores", "1"];
        let options: Vec<&str> = options.into_iter().chain(dials).collect();
        let mut seed = Seedring::seed(&stage, &torrent, &origin, &options);
        let addr = seed.addr();
        Self { stage, torrent, origin, seed, addr, transmissions, libtorrents: Vec::new(), copies }
    }

    /// One more leech of libtorrent, which has the first so many pieces. Gives its number.
    fn libtorrent(&mut self, pieces: u32, more: &[&str]) -> usize {
        let copy = self.stage.folder(format!("libtorrent-{}", self.libtorrents.len()));
        if pieces > 0 {
            let mut part = fs::read(self.origin.join("wanted")).expect("the origin can be read");
            part[(pieces * PIECE) as usize..].fill(0);
            fs::write(copy.join("wanted"), part).expect("a part can be written");
        }
        let addr = self.addr.to_string();
        let more = [&["--peer", &addr], more].concat();
        self.libtorrents.push(Libtorrent::start(&self.stage, &self.torrent, &copy, &more));
        self.copies.push(copy);
        self.libtorrents.len() - 1
    }

    /// A peer made by hand that has the pieces of these bits, and says no more.
    fn shows(&self, number: u8, bits: &[u8]) -> Wire {
        let mut wire = Wire::dial(self.addr);
        wire.shake(&self.torrent.info_hash, &[number; 20]).expect("a handshake");
        wire.send_message(BITFIELD, bits).expect("a message can be sent");
        wire
    }

    /// Two peers made by hand of whom each has one half. What nobody has is given out by other rules: so nothing is rare.
    fn halves(&self) -> [Wire; 2] {
        let pieces = self.torrent.pieces() as usize;
        let half = |first: bool| {
            let has = |piece: usize| (piece < pieces / 2) == first;
            let byte =
                |byte: usize| (0..8).fold(0, |bits, bit| bits | u8::from(has(byte * 8 + bit)) << (7 - bit));
            (0..pieces / 8).map(byte).collect::<Vec<u8>>()
        };
        [self.shows(1, &half(true)), self.shows(2, &half(false))]
    }

    /// So many made by hand who have the pieces of these bits, want the others, and ask for nothing.
    fn crowd(&self, count: u8, bits: &[u8]) -> Vec<Wire> {
        let mut crowd: Vec<Wire> = (0..count).map(|number| self.shows(100 + number, bits)).collect();
        let all = crowd.iter_mut();
        all.for_each(|wire| wire.send_message(INTERESTED, &[]).expect("a message can be sent"));
        crowd
    }

    fn said(&self, number: usize, field: &str) -> Value {
        self.libtorrents[number].status().map_or(Value::Null, |status| status[field].clone())
    }

    fn downloaded(&self, number: usize) -> u64 {
        self.said(number, "downloaded").as_u64().unwrap_or(0)
    }

    fn is_served(&self, number: usize) -> bool {
        self.said(number, "served") == true
    }

    /// Waits until every leech has all of it.
    fn end(mut self) {
        self.transmissions.iter_mut().for_each(Client::wait_complete);
        self.libtorrents.iter_mut().for_each(Client::wait_complete);
        self.copies.iter().for_each(|copy| assert_same(&self.origin, copy));
        assert!(self.seed.stop().success());
    }
}

#[test]
fn by_turns_nobody_is_left_behind() {
    // It says only every ten seconds that it is interested, and so comes late.
    // Long enough for those who come first, and have more than a quarter for a while, not to be through before the first round.
    let mut scene = Scene::new("round-robin", 44, 1);
    (0..5).for_each(|_| _ = scene.libtorrent(0, &[]));
    // Five of them, four slots: without turns the fifth has none until another has all of it. (Some pieces are for everybody: that
    // it has got something says little.)
    let served = until("one has nearly all of it", || {
        let statuses: Vec<_> = scene.libtorrents.iter().map(Libtorrent::statuses).collect();
        let nearly = |number: usize| scene.downloaded(number) >= scene.torrent.length * 7 / 8;
        let served = |all: &Vec<Value>| all.iter().any(|status| status["served"] == true);
        (0..5).any(nearly).then(|| statuses.iter().filter(|all| served(all)).count())
    });
    assert_eq!(served, 5, "each has had a slot");
    scene.end();
}

#[test]
fn the_fastest_are_not_held_up_by_one_who_is_slow() {
    let mut scene = Scene::new("fastest", 64, 0);
    let _halves = scene.halves();
    let fast: Vec<usize> = (0..3).map(|_| scene.libtorrent(0, &[])).collect();
    let slow = scene.libtorrent(0, &["--download-limit", SLOW]);
    until_true("the slow one has a slot", || scene.is_served(slow));
    let since = Instant::now();
    // One slot goes by chance, and of so many it is hardly the slow one that is drawn, twice.
    let crowd = scene.crowd(150, &[0; 8]);
    until_true("the slow one has lost its slot", || !scene.is_served(slow));
    assert!(since.elapsed() < Duration::from_secs(28), "it was not for half a minute, as with turns");
    for number in fast {
        let statuses = scene.libtorrents[number].statuses();
        let mut statuses = statuses.iter().skip_while(|status| status["served"] != true);
        let lost = statuses.find(|status| status["served"] == false && status["peers"] != 0);
        assert_eq!(lost.filter(|status| status["seeding"] == false), None, "{number} kept its slot");
    }
    drop(crowd);
    scene.libtorrents[slow].hurry();
    scene.end();
}

#[test]
fn against_leeches_who_has_just_begun_comes_before_those_in_the_middle() {
    let mut scene = Scene::new("anti-leech", 96, 0);
    let _halves = scene.halves();
    // So much is left for each that the first has not ended before the last has come, also on a busy machine.
    let middle: Vec<usize> = (0..4).map(|_| scene.libtorrent(48, &["--download-limit", SLOW])).collect();
    until_true("those in the middle have all slots", || middle.iter().all(|number| scene.is_served(*number)));
    // Where more wait than there are slots nobody is given pieces without one.
    let half = [0xff; 6].into_iter().chain([0; 6]).collect::<Vec<u8>>();
    let crowd = scene.crowd(6, &half);
    let new = [scene.libtorrent(0, &[]), scene.libtorrent(0, &[])];
    until_true("newcomers have slots that others had", || {
        let left = middle.iter().filter(|number| scene.is_served(**number)).count();
        left <= 2 && new.iter().all(|number| scene.is_served(*number))
    });
    // With turns they would have ended before half a minute was over.
    let ended = middle.iter().filter(|number| scene.said(**number, "seeding") == true).count();
    assert_eq!(ended, 0, "those in the middle had to give way");
    drop(crowd);
    middle.iter().for_each(|number| scene.libtorrents[*number].hurry());
    scene.end();
}
