//! Connections that hide what they are (MSE/PE): with clients that take nothing else, both ways, and between
//! seedrings.

use crate::clients::aria2::Aria2;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::opentracker::Opentracker;
use crate::clients::seedring::{Seedring, number};
use crate::clients::transmission::Transmission;
use crate::clients::{Client, Partner};
use crate::support::net::{free_port, own_loopback};
use crate::support::payload::{self, assert_same};
use crate::support::peer::Wire;
use crate::support::relay::tapped;
use crate::support::wait::{until, until_true};
use crate::support::{Stage, Torrent};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &[u8] = b"BitTorrent protocol";
const ARC4: &[&str] =
    &["--bt-require-crypto=true", "--bt-force-encryption=true", "--bt-min-crypto-level=arc4"];
const REQUIRED: &[&str] = &["--encryption", "required"];

/// A payload of some odd blocks, and a place for its copy.
struct Scene {
    stage: Stage,
    torrent: Torrent,
    origin: PathBuf,
    copy: PathBuf,
}

impl Scene {
    fn new(announce: Option<&str>, stage: Stage) -> Self {
        let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
        let files = [("album/1.bin", 2_000_000), ("album/sub/2.bin", 1), ("album/3.bin", 700_001)];
        payload::files(&origin, &files, 5);
        let torrent = Torrent::make(&stage.path(""), &origin, "album", 100_000, announce);
        Self { stage, torrent, origin, copy }
    }

    fn seed(&self, more: &[&str]) -> Seedring {
        Seedring::seed(&self.stage, &self.torrent, &self.origin, more)
    }

    fn download(&self, more: &[&str]) -> Seedring {
        Seedring::download(&self.stage, &self.torrent, &self.copy, more)
    }

    fn assert_copied(&self) {
        assert_same(&self.origin, &self.copy);
    }
}

fn alone() -> Scene {
    Scene::new(None, Stage::new())
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What two seedrings in these modes say to each other while one downloads from the other: whether it is said in the open
/// by who dials and by who answers, first in the handshake, then in the payload.
fn overheard(seed: &str, leech: &str) -> ([bool; 2], bool) {
    let scene = alone();
    let mut seeder = scene.seed(&["--encryption", seed]);
    let (addr, heard) = tapped(seeder.addr());
    scene.download(&["--encryption", leech, "--peer", &addr.to_string()]).wait_success();
    scene.assert_copied();
    assert!(seeder.stop().success());
    let heard = heard.lock().expect("no relay panics with the bytes in hand");
    let names = [&heard.forth, &heard.back].map(|bytes| holds(bytes, NAME));
    (names, holds(&heard.back, &scene.torrent.read(3, 0, 64)))
}

#[test]
fn nothing_is_said_in_the_open_when_both_require_it() {
    assert_eq!(overheard("required", "required"), ([false, false], false));
}

#[test]
fn who_allows_it_prefers_plaintext() {
    assert_eq!(overheard("allowed", "allowed"), ([true, true], true));
}

#[test]
fn who_allows_it_gives_in_to_a_seed_that_requires_it() {
    // The dialler's first try was plain.
    assert_eq!(overheard("required", "allowed"), ([true, false], false));
}

#[test]
fn a_seed_that_allows_it_gives_in_to_who_requires_it() {
    assert_eq!(overheard("allowed", "required"), ([false, false], false));
}

/// Two seedrings that cannot agree: each says so in its log, none takes harm, and an agreeable peer is served after.
fn disagree(seed: &str, leech: &str, complaint: &str) {
    let scene = alone();
    let mut seeder = scene.seed(&["--encryption", seed]);
    let addr = seeder.addr().to_string();
    let mut leecher = scene.download(&["--encryption", leech, "--peer", &addr]);
    until_true("the seed turns the other away", || seeder.said().contains(complaint));
    assert!(leecher.running() && seeder.running());
    leecher.stop();
    assert_eq!(leecher.last("stopped", "downloaded"), Some(0));
    scene.download(&["--encryption", seed, "--peer", &addr]).wait_success();
    scene.assert_copied();
    assert!(seeder.stop().success());
}

#[test]
fn no_encryption_is_taken_when_it_is_off() {
    disagree("off", "required", "did not begin with a BitTorrent handshake");
}

#[test]
fn no_plaintext_is_taken_when_encryption_is_required() {
    disagree("required", "off", "did not encrypt its handshake");
}

#[test]
fn a_host_that_exchanges_keys_without_end_is_slowed_down() {
    let scene = alone();
    let mut seeder = scene.seed(&[]);
    let addr = seeder.addr();
    // Nothing but a key, whose exchange is what costs.
    let mut wires = 0;
    while !seeder.said().contains("began too many encrypted handshakes") {
        let mut wire = Wire::dial(addr);
        // It may be closed before all is sent.
        let _ = wire.send(&[0x55; 96]);
        wires += 1;
        assert!(wires < 20_000, "no end of exchanges");
    }
    let mut wire = Wire::dial(addr);
    wire.shake(&scene.torrent.info_hash, b"-XX0001-a-plain-peer")
        .expect("a plain peer of that host is served");
    seeder.wait_event("progress", |event| number(&event["limits"], "exchanges") > 0);
    assert!(seeder.stop().success());
}

#[test]
fn who_waits_for_the_other_kind_of_handshake_is_offered_it_the_next_time() {
    let scene = alone();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut held = Vec::new();
    listener.set_nonblocking(true).unwrap();
    let mut next = || {
        let (mut stream, _) = until("it dials again", || listener.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut begin = [0; 20];
        stream.read_exact(&mut begin).unwrap();
        // It is neither answered nor hung up on.
        held.push(stream);
        begin.ends_with(NAME)
    };
    let _leech = scene.download(&["--peer", &addr.to_string()]);
    assert_eq!([next(), next(), next()], [true, false, true]);
}

// ---- libtorrent ----

/// seedring dials a libtorrent that takes only this, and downloads.
fn from_libtorrent(level: &str, mode: &str) {
    let scene = alone();
    let more = ["--encryption", level];
    let seed = Libtorrent::start(&scene.stage, &scene.torrent, &scene.origin, &more);
    let peer = seed.addr().to_string();
    scene.download(&["--encryption", mode, "--peer", &peer]).wait_success();
    scene.assert_copied();
}

/// A libtorrent that takes only this dials seedring, and downloads.
fn to_libtorrent(level: &str, mode: &str) {
    let scene = alone();
    let mut seeder = scene.seed(&["--encryption", mode]);
    let more = ["--encryption", level, "--peer", &seeder.addr().to_string()];
    Libtorrent::start(&scene.stage, &scene.torrent, &scene.copy, &more).wait_complete();
    scene.assert_copied();
    assert!(seeder.stop().success());
}

#[test]
fn libtorrent_gives_rc4() {
    from_libtorrent("rc4", "allowed");
    from_libtorrent("both", "required");
}

#[test]
fn libtorrent_gives_plaintext_behind_the_handshake() {
    from_libtorrent("plaintext", "allowed");
    from_libtorrent("both", "allowed");
}

#[test]
fn libtorrent_takes_rc4() {
    to_libtorrent("rc4", "allowed");
    to_libtorrent("both", "required");
}

#[test]
fn libtorrent_takes_plaintext_behind_the_handshake() {
    to_libtorrent("plaintext", "allowed");
    to_libtorrent("both", "allowed");
}

// ---- magnet links, whose metadata comes before there is a session ----

#[test]
fn a_link_says_nothing_in_the_open_when_encryption_is_required() {
    let scene = alone();
    let mut seeder = scene.seed(&[]);
    let (addr, heard) = tapped(seeder.addr());
    let link = scene.torrent.by_magnet("");
    let more = ["--encryption", "required", "--peer", &addr.to_string()];
    Seedring::download(&scene.stage, &link, &scene.copy, &more).wait_success();
    scene.assert_copied();
    assert!(seeder.stop().success());
    let heard = heard.lock().expect("no relay panics with the bytes in hand");
    for bytes in [&heard.forth, &heard.back] {
        assert!(bytes.len() > 1000 && !holds(bytes, NAME) && !holds(bytes, b"ut_metadata"));
    }
}

/// Nothing but a link, and a libtorrent that takes only this.
fn metadata_from_libtorrent(level: &str, mode: &str) {
    let scene = alone();
    let seed = Libtorrent::start(&scene.stage, &scene.torrent, &scene.origin, &["--encryption", level]);
    let link = scene.torrent.by_magnet("");
    let more = ["--encryption", mode, "--peer", &seed.addr().to_string()];
    Seedring::download(&scene.stage, &link, &scene.copy, &more).wait_success();
    scene.assert_copied();
}

#[test]
fn libtorrent_gives_metadata_under_encryption() {
    metadata_from_libtorrent("rc4", "allowed");
    metadata_from_libtorrent("rc4", "required");
    metadata_from_libtorrent("plaintext", "allowed");
}

#[test]
fn libtorrent_dials_and_gives_metadata_under_rc4() {
    let scene = alone();
    let addr = SocketAddr::from((own_loopback(), free_port()));
    let (listen, link) = (addr.to_string(), scene.torrent.by_magnet(""));
    let more = ["--listen", &listen, "--encryption", "required"];
    let mut leech = Seedring::download(&scene.stage, &link, &scene.copy, &more);
    until_true("it listens", || TcpStream::connect(addr).is_ok());
    let more = ["--encryption", "rc4", "--peer", &listen];
    let _seed = Libtorrent::start(&scene.stage, &scene.torrent, &scene.origin, &more);
    leech.wait_success();
    scene.assert_copied();
}

// ---- clients that find each other by a tracker ----

fn from_partner(partner: Partner, start: impl Fn(&Scene, &Path) -> Box<dyn Client>, mode: &[&str]) {
    let stage = Stage::new();
    let tracker = Opentracker::start(&stage);
    let scene = Scene::new(Some(&tracker.url_for(partner)), stage);
    tracker.admit(&scene.torrent);
    let _seed = start(&scene, &scene.origin);
    tracker.wait_seeds(&scene.torrent, 1);
    scene.download(mode).wait_success();
    scene.assert_copied();
}

fn to_partner(partner: Partner, start: impl Fn(&Scene, &Path) -> Box<dyn Client>, mode: &[&str]) {
    let stage = Stage::new();
    let tracker = Opentracker::start(&stage);
    let scene = Scene::new(Some(&tracker.url_for(partner)), stage);
    tracker.admit(&scene.torrent);
    let mut seeder = scene.seed(mode);
    tracker.wait_seeds(&scene.torrent, 1);
    start(&scene, &scene.copy).wait_complete();
    scene.assert_copied();
    assert!(seeder.stop().success());
}

fn transmission(scene: &Scene, folder: &Path) -> Box<dyn Client> {
    Box::new(Transmission::start_with(&scene.stage, &scene.torrent, folder, 2))
}

#[test]
fn transmission_gives_when_it_requires_encryption() {
    from_partner(Partner::Transmission, transmission, &[]);
}

/// One that dials in the clear only, and takes whatever comes: it is we who must dial.
fn tolerant(scene: &Scene, folder: &Path) -> Box<dyn Client> {
    Box::new(Transmission::start_with(&scene.stage, &scene.torrent, folder, 0))
}

#[test]
fn transmission_gives_when_it_tolerates_what_we_require() {
    from_partner(Partner::Transmission, tolerant, REQUIRED);
}

#[test]
fn transmission_takes_when_it_tolerates_what_we_require() {
    let stage = Stage::new();
    let tracker = Opentracker::start(&stage);
    let scene = Scene::new(Some(&tracker.url_for(Partner::Transmission)), stage);
    tracker.admit(&scene.torrent);
    let mut leech = tolerant(&scene, &scene.copy);
    tracker.wait_peers(&scene.torrent, 1);
    // Who comes later hears of it.
    let mut seeder = scene.seed(REQUIRED);
    leech.wait_complete();
    scene.assert_copied();
    assert!(seeder.stop().success());
}

#[test]
fn transmission_takes_when_it_requires_encryption() {
    to_partner(Partner::Transmission, transmission, &[]);
    to_partner(Partner::Transmission, transmission, REQUIRED);
}

/// As it is when nobody has told it otherwise: it prefers encryption.
fn usual_transmission(scene: &Scene, folder: &Path) -> Box<dyn Client> {
    Box::new(Transmission::start_with(&scene.stage, &scene.torrent, folder, 1))
}

#[test]
fn transmission_gives_and_takes_when_we_require_encryption() {
    from_partner(Partner::Transmission, usual_transmission, REQUIRED);
    to_partner(Partner::Transmission, usual_transmission, REQUIRED);
}

#[test]
fn aria2_gives_and_takes_when_we_require_encryption() {
    let seed = |scene: &Scene, folder: &Path| -> Box<dyn Client> {
        Box::new(Aria2::seed(&scene.stage, &scene.torrent, folder, &[]))
    };
    from_partner(Partner::Aria2, seed, REQUIRED);
    let download = |scene: &Scene, folder: &Path| -> Box<dyn Client> {
        Box::new(Aria2::download(&scene.stage, &scene.torrent, folder, &[]))
    };
    to_partner(Partner::Aria2, download, REQUIRED);
}

#[test]
fn aria2_gives_when_it_requires_rc4() {
    let start = |scene: &Scene, folder: &Path| -> Box<dyn Client> {
        Box::new(Aria2::seed(&scene.stage, &scene.torrent, folder, ARC4))
    };
    from_partner(Partner::Aria2, start, &[]);
}

#[test]
fn aria2_takes_when_it_requires_rc4() {
    let start = |scene: &Scene, folder: &Path| -> Box<dyn Client> {
        Box::new(Aria2::download(&scene.stage, &scene.torrent, folder, ARC4))
    };
    to_partner(Partner::Aria2, start, &[]);
    to_partner(Partner::Aria2, start, REQUIRED);
}
