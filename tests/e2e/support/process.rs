//! Child processes: ended by their id when the test is over, their words shown when it failed.

use super::stage::Stage;
use super::wait::until;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// How much of a log is shown when a test fails, in bytes from its end.
const SHOWN: usize = 16 * 1024;

/// A program of the system, by name.
///
/// # Panics
/// When it is not installed; the message names the Debian package.
pub(crate) fn program(name: &str, package: &str) -> Command {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&folders).chain([PathBuf::from("/usr/sbin")]).map(|dir| dir.join(name));
    let path = found.into_iter().find(|path| path.is_file());
    Command::new(path.unwrap_or_else(|| panic!("`{name}` is missing: install Debian's package `{package}`")))
}

/// A running program whose words go to a log in the stage.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program, stdout and stderr both to the log.
    pub(crate) fn spawn(stage: &Stage, name: &str, command: &mut Command) -> Self {
        let log = Self::new_log(stage, name);
        let file = File::create(&log).expect("a log can be made");
        command.stdout(file.try_clone().expect("a file handle can be doubled"));
        Self::start(name, command, file, log)
    }

    /// Starts a program, stderr to the log; stdout is a pipe for the caller to read.
    pub(crate) fn spawn_piped(stage: &Stage, name: &str, command: &mut Command) -> Self {
        let log = Self::new_log(stage, name);
        let file = File::create(&log).expect("a log can be made");
        command.stdout(Stdio::piped());
        Self::start(name, command, file, log)
    }

    fn new_log(stage: &Stage, name: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        stage.folder("logs").join(format!("{name}-{}.log", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn start(name: &str, command: &mut Command, stderr: File, log: PathBuf) -> Self {
        for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        let child = command.stdin(Stdio::null()).stderr(stderr).spawn();
        let child = child.unwrap_or_else(|why| panic!("{name} does not start: {why}"));
        Self { name: name.into(), child, log }
    }

    /// The pipe of [`Process::spawn_piped`], once.
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("stdout is piped and taken once")
    }

    /// All that the program said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The status, if the program has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its status")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("a child that was not waited for can be signalled");
    }

    /// Waits for the program to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until(&what, || self.ended())
    }

    /// Ends the program at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            self.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Not `kill()`: a second panic during the unwinding of a failed test would hide the first.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.said();
            let shown = said.ceil_char_boundary(said.len().saturating_sub(SHOWN));
            eprintln!("----- {} said:\n{}-----", self.name, &said[shown..]);
        }
    }
}
