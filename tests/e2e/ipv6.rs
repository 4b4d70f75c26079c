//! Networks without IPv4: hosts that never had an address of it, with a tracker that answers `peers6` alone (BEP 7), and
//! with the DHT of IPv6 (BEP 32).

use crate::clients::Client;
use crate::clients::libtorrent::{Libtorrent, Node};
use crate::clients::seedring::{Seedring, number, transfer};
use crate::clients::transmission::Transmission;
use crate::support::lan::Lan;
use crate::support::lan_tracker::LanTracker;
use crate::support::payload::{self, assert_same};
use crate::support::{Stage, Torrent};
use serde_json::json;
use std::path::{Path, PathBuf};

/// A payload, its torrent, and a network of hosts.
struct Scene {
    stage: Stage,
    lan: Lan,
    origin: PathBuf,
    torrent: Torrent,
    tracker: LanTracker,
}

impl Scene {
    fn new(hosts: usize, announced: bool) -> Self {
        let (stage, lan) = (Stage::new(), Lan::of_ipv6(hosts));
        let origin = stage.folder("origin");
        payload::file(&origin.join("six"), 3_000_001, 6);
        let tracker = LanTracker::start(&stage, &lan, &Lan::v6(lan.switch()));
        let url = tracker.url();
        let announce = announced.then_some(&*url);
        let torrent = Torrent::make(&stage.path(""), &origin, "six", 65_536, announce);
        Self { stage, lan, origin, torrent, tracker }
    }

    /// One of ours on a host.
    fn ours(&self, host: usize, what: &str, folder: &Path, listen: &str, more: &[&str]) -> Seedring {
        let more = [&["--listen", listen][..], more].concat();
        let mut command = transfer(what, &self.torrent, folder, &more);
        if more.contains(&"--dht-bootstrap") {
            command.env_remove("SEEDRING_NO_DHT");
        }
        Seedring::start(&self.stage, &mut self.lan.on(host, &command))
    }

    fn libtorrent_with(&self, host: usize, folder: &Path, more: &[&str]) -> Libtorrent {
        let listen = format!("[{}]:6882", Lan::v6(host)).parse().expect("an address");
        let on = |command| self.lan.on(host, &command);
        Libtorrent::start_with(&self.stage, &self.torrent, folder, listen, more, on)
    }

    fn libtorrent(&self, host: usize, folder: &Path) -> Box<dyn Client + '_> {
        Box::new(self.libtorrent_with(host, folder, &[]))
    }

    fn transmission(&self, host: usize, folder: &Path) -> Box<dyn Client + '_> {
        // Its remote control is of IPv4, and it does not open that where there is no address but of loopback. This one leads
        // nowhere.
        self.lan.shell(host, "ip addr add 192.0.2.1/32 dev lo");
        let (place, more) = ((&self.lan, host), json!({"bind-address-ipv6": "::"}));
        Box::new(Transmission::start_on(&self.stage, &self.torrent, folder, place, more))
    }
}

/// By a tracker that knows no address of IPv4: a partner gives to us, and we to a partner. `listen`: our address.
fn both_ways(listen: &str, start: impl for<'a> Fn(&'a Scene, usize, &Path) -> Box<dyn Client + 'a>) {
    let scene = Scene::new(3, true);
    let (copy, second) = (scene.stage.folder("copy"), scene.stage.folder("second"));
    let partner = start(&scene, 0, &scene.origin);
    scene.tracker.wait(&Lan::v6(0));
    let mut ours = scene.ours(1, "download", &copy, listen, &["--seed"]);
    ours.wait_event("completed", |_| true);
    scene.tracker.wait(&Lan::v6(1));
    assert_same(&scene.origin, &copy);
    // From here on ours is the only one that has it.
    drop(partner);
    start(&scene, 2, &second).wait_complete();
    assert_same(&scene.origin, &second);
    assert!(ours.stop().success());
    assert!(ours.last("stopped", "uploaded") >= Some(scene.torrent.length));
}

const EVERY_ADDRESS: &str = "[::]:6881";

fn one_address() -> String {
    format!("[{}]:6881", Lan::v6(1))
}

#[test]
fn libtorrent_both_ways() {
    both_ways(EVERY_ADDRESS, Scene::libtorrent);
    both_ways(&one_address(), Scene::libtorrent);
}

// Transmission looks around once in ten seconds: two tests, which wait at the same time.

#[test]
fn transmission_both_ways_on_every_address() {
    both_ways(EVERY_ADDRESS, Scene::transmission);
}

#[test]
fn transmission_both_ways_on_one_address() {
    both_ways(&one_address(), Scene::transmission);
}

#[test]
fn the_dht_alone_brings_libtorrent_and_us_together() {
    let scene = Scene::new(4, false);
    let state = |host: usize| scene.stage.path(format!("state-{host}"));
    let door = format!("[{}]:6882", Lan::v6(0));
    let on = |command| scene.lan.on(0, &command);
    // The way in is a node of libtorrent that knows one of ours.
    let ours = format!("[{}]:6881", Lan::v6(1));
    let mut node = Node::start_with(
        &scene.stage,
        door.parse().expect("an address"),
        ours.parse().expect("an address"),
        on,
    );
    let start = |host: usize, what: &str, folder: &Path| {
        let listen = format!("[{}]:6881", Lan::v6(host));
        let state = state(host);
        let state = state.to_str().expect("UTF-8");
        scene.ours(host, what, folder, &listen, &["--dht-bootstrap", &door, "--state", state])
    };
    let mut seed = start(1, "seed", &scene.origin);
    seed.wait_event("dht_nodes", |event| number(event, "nodes") > 0);
    node.wait_nodes();
    let (copy, second) = (scene.stage.folder("copy"), scene.stage.folder("second"));
    let mut leech = start(2, "download", &copy);
    leech.wait_success();
    assert_same(&scene.origin, &copy);
    assert!(number(&leech.wait_event("dht_peers", |_| true), "peers") > 0);
    scene.libtorrent_with(3, &second, &["--dht", &door]).wait_complete();
    assert_same(&scene.origin, &second);
    assert!(seed.stop().success());
    assert!(seed.last("stopped", "uploaded") >= Some(2 * scene.torrent.length));
}
