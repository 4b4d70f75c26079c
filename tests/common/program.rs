//! The program at work.

use super::DEADLINE;
use rustix::net::getpeername;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// Open descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Descriptors {
    pub(crate) sockets: usize,
    /// Those of the torrent's file, which each core opens when it needs it, and once more to bypass the page cache.
    pub(crate) payload: usize,
    pub(crate) others: usize,
}

/// The bare program, deaf to the settings of whoever runs the tests.
pub(crate) fn seedring() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedring"));
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("SEEDRING_")) {
        command.env_remove(key);
    }
    // Programs of other tests, with the same payload, are no peers.
    command.env("SEEDRING_NO_LSD", "1");
    // No test talks to nodes of the world, or leaves anything in a home.
    command.env("SEEDRING_NO_DHT", "1").stdin(Stdio::null());
    command
}

/// `seed` or `download`, listening at some port.
pub(crate) fn client(what: &str, torrent: &Path, folder: &Path, more: &[&str]) -> Command {
    let mut command = seedring();
    command.args([what, "--json", "--listen", "127.0.0.1:0"]).args(more).arg(torrent).arg("-d").arg(folder);
    command
}

/// The load generator, at a client.
pub(crate) fn load(mode: &str, torrent: &Path, folder: &Path, peer: SocketAddr, more: &[&str]) -> Command {
    let mut command = seedring();
    command.args(["load", mode, "--json", "--timeout", "120", "--peer", &peer.to_string()]).args(more);
    command.arg(torrent).arg("-d").arg(folder);
    command
}

/// The same command, begun with so many descriptors: as the limit that it may raise itself, or as that which it may not.
pub(crate) fn with_descriptors(command: &Command, most: u64, may_raise: bool) -> Command {
    // Without a kind, both. Some shells take `-H -S` for the last of the two.
    let kind = if may_raise { "-S" } else { "" };
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit {kind} -n {most} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    limited
}

/// A program that runs beside the test and prints JSON; killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// What it has printed. A thread reads it: whoever prints must not wait for the test.
    events: Receiver<Value>,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (tell, events) = channel();
        std::thread::spawn(move || {
            for line in lines {
                let _ = tell.send(serde_json::from_str(&line.unwrap()).unwrap());
            }
        });
        Self { child, events }
    }

    /// Reads on until an event of that kind.
    pub(crate) fn until(&mut self, event: &str) -> Value {
        loop {
            let next = self.events.recv_timeout(DEADLINE);
            let next = next.unwrap_or_else(|why| panic!("no `{event}`: {why}"));
            if next["event"] == event {
                return next;
            }
        }
    }

    /// The next event, of any kind.
    pub(crate) fn next(&mut self) -> Value {
        self.events.recv_timeout(DEADLINE).unwrap_or_else(|why| panic!("no event: {why}"))
    }

    /// An address that it tells by an event of that kind.
    fn addr(&mut self, event: &str) -> SocketAddr {
        self.until(event)["addr"].as_str().unwrap().parse().unwrap()
    }

    /// Where it waits for peers.
    pub(crate) fn address(&mut self) -> SocketAddr {
        self.addr("listening")
    }

    /// Where it shows its figures. It tells so before anything else.
    pub(crate) fn metrics_address(&mut self) -> SocketAddr {
        self.addr("metrics")
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Its end of this connection, as a descriptor of ours.
    pub(crate) fn end_of(&self, connection: &TcpStream) -> OwnedFd {
        let program = pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).unwrap();
        let us = connection.local_addr().unwrap();
        let fds = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let mut fds = fds.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let end = fds.find_map(|fd| {
            let fd = pidfd_getfd(&program, fd, PidfdGetfdFlags::empty()).ok()?;
            let there = SocketAddr::try_from(getpeername(&fd).ok()??).ok()?;
            (there == us).then_some(fd)
        });
        end.expect("it is connected")
    }

    /// What it has open.
    pub(crate) fn descriptors(&self) -> Descriptors {
        let folder = fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        let mut open = Descriptors::default();
        // One may be closed while they are looked at.
        for link in folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()) {
            let link = link.to_string_lossy();
            *if link.starts_with("socket:") {
                &mut open.sockets
            } else if link.contains("/payload") {
                &mut open.payload
            } else {
                &mut open.others
            } += 1;
        }
        open
    }

    /// The files that it has open or mapped, once for each; `(deleted)` stands behind those that are gone.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let maps = fs::read_to_string(process.join("maps")).unwrap();
        let mapped: BTreeSet<_> =
            maps.lines().filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..]))).collect();
        let open = fs::read_dir(process.join("fd")).unwrap();
        open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).chain(mapped).collect()
    }

    /// Bytes that disks have read for it.
    pub(crate) fn disk_reads(&self) -> u64 {
        let counts = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        counts.lines().find_map(|line| line.strip_prefix("read_bytes: ")).unwrap().parse().unwrap()
    }

    /// The processors that each of its threads of that name may run on, as the system writes them.
    pub(crate) fn processors_of(&self, thread: &str) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
        let named = status.filter(|status| status.starts_with(&format!("Name:\t{thread}\n")));
        let allowed = named.map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.expect("processors").trim().to_owned()
        });
        allowed.collect()
    }

    /// The most memory that it has had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
