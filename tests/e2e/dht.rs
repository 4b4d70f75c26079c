//! Peers found by the DHT alone, in private networks of libtorrent's nodes and ours: everybody on a loopback address of
//! its own, nobody of the world.

use crate::clients::Client;
use crate::clients::libtorrent::{Libtorrent, Node};
use crate::clients::seedring::{Seedring, binary, number, run_command, transfer};
use crate::support::net::{free_port, own_loopback};
use crate::support::payload::{self, assert_same};
use crate::support::wait::until_true;
use crate::support::{Stage, Torrent};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

fn place() -> SocketAddr {
    (own_loopback(), free_port()).into()
}

/// A payload, and a torrent of it that names no tracker.
fn lay(stage: &Stage, name: &str) -> (PathBuf, Torrent) {
    let origin = stage.folder("origin");
    payload::file(&origin.join(name), 3_000_001, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, name, 65_536, None);
    (origin, torrent)
}

/// Three nodes of libtorrent that know one another.
fn nodes(stage: &Stage) -> [Node; 3] {
    let first = Node::start(stage, place());
    let mut others = [(); 2].map(|()| Node::start(stage, first.addr()));
    others.iter_mut().for_each(Node::wait_nodes);
    let [second, third] = others;
    [first, second, third]
}

/// A session of ours at `at`, whose DHT begins with `door`.
fn session(
    stage: &Stage,
    what: &str,
    torrent: &Torrent,
    folder: &Path,
    at: SocketAddr,
    door: SocketAddr,
) -> Seedring {
    let (listen, door) = (at.to_string(), door.to_string());
    let state = stage.path(format!("state-{}", at.port()));
    let state = state.to_str().expect("UTF-8");
    let more = ["--listen", &listen, "--dht-bootstrap", &door, "--state", state];
    let mut command = transfer(what, torrent, folder, &more);
    Seedring::start(stage, command.env_remove("SEEDRING_NO_DHT"))
}

#[test]
fn libtorrent_seeds_to_us() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, "from-libtorrent");
    let nodes = nodes(&stage);
    let door = nodes[0].addr();
    let _seed = Libtorrent::start(&stage, &torrent, &origin, &["--dht", &door.to_string()]);
    let copy = stage.folder("copy");
    let mut ours = session(&stage, "download", &torrent, &copy, place(), nodes[1].addr());
    ours.wait_success();
    assert_same(&origin, &copy);
    assert!(number(&ours.wait_event("dht_peers", |_| true), "peers") > 0);
}

#[test]
fn a_link_alone_leads_to_libtorrent() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, "by-link");
    let nodes = nodes(&stage);
    let _seed = Libtorrent::start(&stage, &torrent, &origin, &["--dht", &nodes[0].addr().to_string()]);
    let link = torrent.by_magnet("");
    let [listen, door] = [place(), nodes[1].addr()].map(|addr| addr.to_string());
    let mut show = binary();
    show.env_remove("SEEDRING_NO_DHT").arg("show").arg(&link.file).args(["--json", "--listen", &listen]);
    show.args(["--dht-bootstrap", &door, "--state"]).arg(stage.path("state-of-show"));
    let shown = run_command(&stage, &mut show).good();
    assert_eq!(shown.event("torrent")["info_hash"], torrent.info_hash_hex());
    let copy = stage.folder("copy");
    session(&stage, "download", &link, &copy, place(), nodes[2].addr()).wait_success();
    assert_same(&origin, &copy);
}

#[test]
fn we_seed_to_libtorrent() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, "to-libtorrent");
    let nodes = nodes(&stage);
    let mut ours = session(&stage, "seed", &torrent, &origin, place(), nodes[0].addr());
    ours.wait_event("dht_nodes", |event| number(event, "nodes") > 0);
    let copy = stage.folder("copy");
    let door = nodes[1].addr().to_string();
    Libtorrent::start(&stage, &torrent, &copy, &["--dht", &door]).wait_complete();
    assert_same(&origin, &copy);
    assert!(ours.stop().success());
    assert!(ours.last("stopped", "uploaded") >= Some(torrent.length));
}

#[test]
fn we_seed_to_ourselves_by_nodes_of_ours() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, "ours");
    // They serve another torrent, and the DHT.
    let (_, other) = lay(&stage, "other");
    let doors = [place(), place(), place()];
    let mut nodes = doors.map(|at| session(&stage, "seed", &other, &origin, at, doors[0]));
    nodes.iter_mut().for_each(|node| _ = node.wait_event("dht_nodes", |_| true));
    let mut seed = session(&stage, "seed", &torrent, &origin, place(), doors[1]);
    let copy = stage.folder("copy");
    let mut leech = session(&stage, "download", &torrent, &copy, place(), doors[2]);
    leech.wait_success();
    let [given, got] =
        [&origin, &copy].map(|folder| std::fs::read(folder.join("ours")).expect("the payload"));
    assert!(given == got, "the copy differs");
    for node in nodes.iter_mut().chain([&mut seed]) {
        assert!(node.running());
        assert!(node.stop().success());
    }
}

#[test]
fn nodes_of_both_kinds_serve_each_other() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, "mixed");
    // Ours serve another torrent, and the DHT.
    let (_, other) = lay(&stage, "other");
    // A chain: each begins with one of the other kind.
    let first = Node::start(&stage, place());
    let [second, fourth] = [place(), place()];
    let mut ours = vec![session(&stage, "seed", &other, &origin, second, first.addr())];
    ours[0].wait_event("dht_nodes", |event| number(event, "nodes") > 0);
    let mut third = Node::start(&stage, second);
    third.wait_nodes();
    ours.push(session(&stage, "seed", &other, &origin, fourth, third.addr()));
    ours[1].wait_event("dht_nodes", |event| number(event, "nodes") > 0);
    // Who gives begins with one of ours, and so does libtorrent that takes; we take by one of libtorrent's.
    ours.push(session(&stage, "seed", &torrent, &origin, place(), fourth));
    let [to_theirs, to_us] = ["to-theirs", "to-us"].map(|name| stage.folder(name));
    let door = second.to_string();
    let mut theirs = Libtorrent::start(&stage, &torrent, &to_theirs, &["--dht", &door]);
    session(&stage, "download", &torrent, &to_us, place(), first.addr()).wait_success();
    theirs.wait_complete();
    let [given, theirs, us] =
        [&origin, &to_theirs, &to_us].map(|folder| std::fs::read(folder.join("mixed")).expect("the payload"));
    assert!(given == theirs && given == us, "a copy differs");
    ours.iter_mut().for_each(|session| assert!(session.stop().success()));
}

#[test]
fn after_a_restart_the_way_in_is_known() {
    let stage = Stage::new();
    let (origin, torrent) = lay(&stage, "restarted");
    let nodes = nodes(&stage);
    let (at, copy) = (place(), stage.folder("copy"));
    let mut ours = session(&stage, "download", &torrent, &copy, at, nodes[0].addr());
    ours.wait_event("dht_nodes", |event| number(event, "nodes") > 0);
    ours.interrupt();
    // Nobody is where it is told to begin.
    let mut again = session(&stage, "download", &torrent, &copy, at, place());
    assert!(number(&again.wait_event("dht_started", |_| true), "kept") > 0);
    again.wait_event("dht_nodes", |event| number(event, "nodes") > 0);
    let _seed = Libtorrent::start(&stage, &torrent, &origin, &["--dht", &nodes[2].addr().to_string()]);
    again.wait_success();
    assert_same(&origin, &copy);
}

#[test]
fn private_torrents_and_those_without_it_stay_silent() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::file(&origin.join("quiet"), 100_000, 1);
    for (private, off, heard) in [(false, false, true), (true, false, false), (false, true, false)] {
        let file = stage.path("quiet.torrent");
        let mut create = binary();
        create
            .arg("create")
            .arg(origin.join("quiet"))
            .arg("-o")
            .arg(&file)
            .args(private.then_some("--private"));
        assert!(create.status().expect("seedring starts").success());
        let door = UdpSocket::bind(place()).expect("a socket");
        door.set_nonblocking(true).expect("a socket of this machine");
        let bootstrap = door.local_addr().expect("an address").to_string();
        let mut command = binary();
        command.env_remove("SEEDRING_NO_DHT").arg("seed").arg(&file).arg("-d").arg(&origin).arg("--json");
        command.args(["--listen", &place().to_string(), "--dht-bootstrap", &bootstrap]);
        command.arg("--state").arg(stage.path("state")).args(off.then_some("--no-dht"));
        let mut ours = Seedring::start(&stage, &mut command);
        let mut buffer = [0; 2000];
        if heard {
            until_true("a query", || door.recv(&mut buffer).is_ok());
        } else {
            until_true("some seconds have passed", || ours.events("progress").len() >= 4);
            assert!(door.recv(&mut buffer).is_err(), "not a word");
            assert_eq!(ours.events("dht_started").len(), 0);
        }
        assert!(ours.stop().success());
    }
}
