//! libtorrent, by way of its Python bindings and a script of ours.

use super::Client;
use crate::support::net::{free_port, own_loopback};
use crate::support::process::Process;
use crate::support::wait::until;
use crate::support::{Stage, Torrent};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = include_str!("libtorrent_client.py");

/// A libtorrent session with one torrent.
pub(crate) struct Libtorrent {
    process: Process,
    addr: SocketAddr,
}

impl Libtorrent {
    /// Starts a session on the payload in `folder`: a seed when it is all there. `more`: options of the script.
    pub(crate) fn start(stage: &Stage, torrent: &Torrent, folder: &Path, more: &[&str]) -> Self {
        // It ties its sockets to the device that has the address, and what local clients send to an address of a
        // network card comes by way of the loopback device: so only a loopback address can be reached.
        let addr = SocketAddr::from((own_loopback(), free_port()));
        Self::start_with(stage, torrent, folder, addr, more, |command| command)
    }

    /// Starts a session that listens at `addr`, by a command that is made of the plain one.
    pub(crate) fn start_with(
        stage: &Stage,
        torrent: &Torrent,
        folder: &Path,
        addr: SocketAddr,
        more: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Self {
        let mut command = script(stage);
        command.arg("run").arg(&torrent.file).arg(folder).args(["--listen", &addr.to_string()]).args(more);
        Self { process: Process::spawn(stage, "libtorrent", &mut wrap(command)), addr }
    }

    /// Waits until it is connected to so many peers.
    pub(crate) fn wait_peers(&mut self, peers: usize) {
        let wanted = format!("\"peers\": {peers}");
        until(&format!("libtorrent has {peers} peers"), || {
            self.process.said().contains(&wanted).then_some(())
        });
    }

    /// What it said last of itself: `downloaded`, `served` (it has a slot of somebody).
    pub(crate) fn status(&self) -> Option<Value> {
        self.statuses().pop()
    }

    /// All that it has said of itself, each thing within a tenth of a second of when it was so.
    pub(crate) fn statuses(&self) -> Vec<Value> {
        self.process.said().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Has it send and receive as fast as it can from now on.
    pub(crate) fn hurry(&self) {
        self.process.signal(Signal::USR1);
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// A node of the DHT, and nothing else.
pub(crate) struct Node {
    process: Process,
    addr: SocketAddr,
}

impl Node {
    /// Starts it; it knows of one other.
    pub(crate) fn start(stage: &Stage, other: SocketAddr) -> Self {
        Self::start_with(stage, (own_loopback(), free_port()).into(), other, |command| command)
    }

    /// Starts one that listens at `addr`, by a command that is made of the plain one.
    pub(crate) fn start_with(
        stage: &Stage,
        addr: SocketAddr,
        other: SocketAddr,
        wrap: impl FnOnce(Command) -> Command,
    ) -> Self {
        let mut command = script(stage);
        command.args(["node", "--listen", &addr.to_string(), "--dht", &other.to_string()]);
        Self { process: Process::spawn(stage, "libtorrent-node", &mut wrap(command)), addr }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until others have answered it.
    pub(crate) fn wait_nodes(&mut self) {
        until("libtorrent knows nodes", || {
            assert_eq!(self.process.ended(), None, "libtorrent stays up");
            let said = self.process.said();
            let mut nodes = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            nodes.any(|line| line["nodes"].as_u64().is_some_and(|nodes| nodes > 0)).then_some(())
        });
    }
}

impl Client for Libtorrent {
    fn wait_complete(&mut self) {
        until("libtorrent has it all", || {
            assert_eq!(self.process.ended(), None, "libtorrent stays up");
            self.process.said().contains("\"written\": true").then_some(())
        });
    }
}

/// What libtorrent reads in a torrent file.
pub(crate) fn show(stage: &Stage, torrent: &Path) -> Value {
    once(script(stage).arg("show").arg(torrent))
}

/// The v1 torrent that libtorrent makes of a payload: `info_hash` and `piece_hashes`. `files`: the files of a
/// folder in the order of the torrent, none for a single file.
pub(crate) fn create(stage: &Stage, payload: &Path, piece_length: u32, files: &[String]) -> Value {
    once(script(stage).arg("create").arg(payload).arg(piece_length.to_string()).args(files))
}

fn once(command: &mut Command) -> Value {
    let output = command.output().expect("Python starts");
    assert!(output.status.success(), "libtorrent: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn script(stage: &Stage) -> Command {
    // Not the first Python on the path, which need not be the one that Debian's package is for.
    let python = Path::new("/usr/bin/python3");
    let found = python.is_file() && {
        let import = Command::new(python).args(["-c", "import libtorrent"]).output();
        import.expect("Python starts").status.success()
    };
    assert!(
        found,
        "libtorrent for {} is missing: install Debian's package `python3-libtorrent`",
        python.display()
    );
    let path = stage.path("libtorrent_client.py");
    fs::write(&path, SCRIPT).expect("the script can be written");
    let mut command = Command::new(python);
    command.arg(path);
    command
}
