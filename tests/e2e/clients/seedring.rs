//! seedring itself, by its command line and the JSON that it prints.

use crate::support::process::Process;
use crate::support::wait::until;
use crate::support::{Stage, Torrent};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

/// A running seedring and the events that it printed.
pub(crate) struct Seedring {
    process: Process,
    events: Arc<Mutex<Vec<Value>>>,
    reader: Option<thread::JoinHandle<()>>,
}

/// The bare program, deaf to the settings of whoever runs the tests.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedring"));
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("SEEDRING_") {
            command.env_remove(key);
        }
    }
    command.env("SEEDRING_LOG", "seedring=debug,warn");
    // Those of other tests are no peers.
    command.env("SEEDRING_NO_LSD", "1");
    // Nor does any talk to nodes of the world, or leave anything in a home, unless it says so.
    command.env("SEEDRING_NO_DHT", "1");
    // Many of them run at a time: not each may have a quarter of the memory.
    command.env("SEEDRING_MEMORY_LIMIT", "64M");
    // What cores a torrent is spread over must not matter: `scripts/test` runs all of this with several numbers.
    if let Some(cores) = std::env::var_os("TEST_CORES") {
        command.env("SEEDRING_CORES", cores);
    }
    command
}

impl Seedring {
    /// `seedring download`, `more`: further options.
    pub(crate) fn download(stage: &Stage, torrent: &Torrent, folder: &Path, more: &[&str]) -> Self {
        Self::start(stage, &mut transfer("download", torrent, folder, more))
    }

    /// `seedring seed`, `more`: further options.
    pub(crate) fn seed(stage: &Stage, torrent: &Torrent, folder: &Path, more: &[&str]) -> Self {
        Self::start(stage, &mut transfer("seed", torrent, folder, more))
    }

    /// Starts a command whose stdout is seedring's JSON.
    pub(crate) fn start(stage: &Stage, command: &mut Command) -> Self {
        let mut process = Process::spawn_piped(stage, "seedring", command);
        let stdout = process.take_stdout();
        let events = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&events);
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let line = line.expect("stdout is UTF-8");
                let event = serde_json::from_str(&line).unwrap_or_else(|_| panic!("a line of JSON: {line}"));
                seen.lock().expect("no reader panics with the events in hand").push(event);
            }
        });
        Self { process, events, reader: Some(reader) }
    }

    /// All events so far, in order.
    pub(crate) fn all_events(&self) -> Vec<Value> {
        self.events.lock().expect("no reader panics with the events in hand").clone()
    }

    /// All events of one kind so far.
    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        self.all_events().into_iter().filter(|event| event["event"] == kind).collect()
    }

    /// Waits for the first event of a kind that the condition holds for.
    pub(crate) fn wait_event(&mut self, kind: &str, condition: impl Fn(&Value) -> bool) -> Value {
        until(&format!("seedring prints `{kind}`"), || {
            // Asked first: an event that the program printed just before its end is still seen.
            let ended = self.process.ended();
            if ended.is_some() {
                self.drain();
            }
            let found = self.events(kind).into_iter().find(|event| condition(event));
            let seen = || self.all_events();
            assert!(
                found.is_some() || ended.is_none(),
                "seedring ended ({ended:?}) without `{kind}`: {:?}",
                seen()
            );
            found
        })
    }

    /// Where it listens, seen from this machine.
    pub(crate) fn addr(&mut self) -> SocketAddr {
        let event = self.wait_event("listening", |_| true);
        let addr: SocketAddr = event["addr"].as_str().and_then(|addr| addr.parse().ok()).expect("an address");
        if addr.ip().is_unspecified() { (Ipv4Addr::LOCALHOST, addr.port()).into() } else { addr }
    }

    /// Waits for the end, and for the last of what was printed.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let status = self.process.wait();
        self.drain();
        let said = self.process.said();
        assert!(!said.contains("panicked at"), "seedring never panics:\n{said}");
        status
    }

    /// Waits for a good end.
    pub(crate) fn wait_success(&mut self) {
        let status = self.wait_end();
        assert!(status.success(), "seedring ends well, not with {status}: {:?}", self.all_events());
    }

    /// Asks it to end, as a supervisor does, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.wait_end()
    }

    /// Interrupts it, as a person at the keyboard does, and waits until it has ended.
    pub(crate) fn interrupt(&mut self) -> ExitStatus {
        self.process.signal(Signal::INT);
        self.wait_end()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
        self.drain();
    }

    pub(crate) fn running(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Logs so far (stderr).
    pub(crate) fn said(&self) -> String {
        self.process.said()
    }

    /// A number of the last event of a kind.
    pub(crate) fn last(&self, kind: &str, field: &str) -> Option<u64> {
        self.events(kind).last().map(|event| number(event, field))
    }

    fn drain(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("every line of stdout is JSON");
        }
    }
}

/// A number in an event.
pub(crate) fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or_else(|| panic!("`{field}` is a count in {event}"))
}

/// A command that moves payload, on a port of the kernel's choice unless `more` says where to listen.
pub(crate) fn transfer(what: &str, torrent: &Torrent, folder: &Path, more: &[&str]) -> Command {
    let mut command = binary();
    command.arg(what).arg(&torrent.file).arg("-d").arg(folder).arg("--json").args(more);
    if !more.contains(&"--listen") {
        command.args(["--listen", "0.0.0.0:0"]);
    }
    command
}

/// What a command that ends by itself left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) events: Vec<Value>,
    pub(crate) stderr: String,
}

/// Runs a command of seedring with `--json` to its end.
pub(crate) fn run<A: AsRef<OsStr>>(stage: &Stage, args: impl IntoIterator<Item = A>) -> Ran {
    run_command(stage, binary().args(args).arg("--json").env_remove("SEEDRING_LOG"))
}

/// Runs a prepared command to its end.
pub(crate) fn run_command(stage: &Stage, command: &mut Command) -> Ran {
    let mut seedring = Seedring::start(stage, command);
    let code = seedring.wait_end().code();
    Ran { code, events: seedring.all_events(), stderr: seedring.said() }
}

impl Ran {
    /// The one event of a kind.
    pub(crate) fn event(&self, kind: &str) -> &Value {
        let mut found = self.events.iter().filter(|event| event["event"] == kind);
        let first = found.next().unwrap_or_else(|| panic!("no `{kind}` in {self:?}"));
        assert!(found.next().is_none(), "`{kind}` once: {self:?}");
        first
    }

    /// Asserts success.
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// Asserts failure with one clear sentence, on stderr and as an event, and gives the sentence.
    pub(crate) fn refused(&self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        let said: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("seedring: error: ")).collect();
        assert_eq!(said.len(), 1, "one sentence: {self:?}");
        let sentence = said[0].trim_start_matches("seedring: error: ");
        assert!(sentence.len() > 10, "a sentence: {self:?}");
        assert!(self.event("error")["message"].is_string(), "{self:?}");
        sentence.to_owned()
    }
}
