//! aria2.

use super::Client;
use crate::support::lan::Lan;
use crate::support::net::free_port;
use crate::support::process::{Process, program};
use crate::support::wait::until_true;
use crate::support::{Stage, Torrent};
use std::path::Path;
use std::process::Command;

/// A running aria2c.
pub(crate) struct Aria2 {
    process: Process,
}

impl Aria2 {
    /// Seeds the payload in `folder`, after checking it, until it is dropped. `more`: further options.
    pub(crate) fn seed(stage: &Stage, torrent: &Torrent, folder: &Path, more: &[&str]) -> Self {
        let mut command = command(torrent, folder);
        command.args(["--check-integrity=true", "--seed-ratio=0.0"]).args(more);
        Self { process: Process::spawn(stage, "aria2", &mut command) }
    }

    /// Downloads into `folder` and ends. `more`: further options.
    pub(crate) fn download(stage: &Stage, torrent: &Torrent, folder: &Path, more: &[&str]) -> Self {
        let mut command = command(torrent, folder);
        command.arg("--seed-time=0").args(more);
        Self { process: Process::spawn(stage, "aria2", &mut command) }
    }
}

impl Aria2 {
    /// Downloads on a host into `folder`, and seeds until it is dropped. `more`: further options.
    pub(crate) fn trade(
        stage: &Stage,
        torrent: &Torrent,
        folder: &Path,
        (lan, host): (&Lan, usize),
        more: &[&str],
    ) -> Self {
        let mut command = command(torrent, folder);
        command.arg("--seed-ratio=0.0").arg("--disk-cache=0").args(more);
        Self { process: Process::spawn(stage, "aria2", &mut lan.on(host, &command)) }
    }

    /// Waits until it has all of what it [trades](Self::trade).
    pub(crate) fn wait_seeding(&mut self) {
        until_true("aria2 has it all", || {
            assert_eq!(self.process.ended(), None, "aria2 stays up");
            self.process.said().contains("Seeder state,")
        });
    }
}

impl Client for Aria2 {
    fn wait_complete(&mut self) {
        let status = self.process.wait();
        assert!(status.success(), "aria2 ends well: {status}");
    }
}

fn command(torrent: &Torrent, folder: &Path) -> Command {
    let mut command = program("aria2c", "aria2");
    command
        .arg("--no-conf")
        .arg(format!("--listen-port={}", free_port()))
        .arg(format!("--dir={}", folder.display()));
    command.args(["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]);
    command.args(["--enable-peer-exchange=false", "--disable-ipv6=true", "--file-allocation=none"]);
    command.args(["--bt-request-peer-speed-limit=100M", "--summary-interval=0", "--enable-color=false"]);
    command.args(["--console-log-level=info", "--show-console-readout=false"]).arg(&torrent.file);
    command
}
