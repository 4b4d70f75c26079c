//! Where text goes: results and JSON to stdout, everything else to stderr, and nothing tears a progress bar.

use super::Error;
use super::json::{Line, NodeLine};
use indicatif::{MultiProgress, ProgressBar};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait for a reader who takes his time. He is waited for when there are more.
const MOST_WAITING: usize = 4096;
/// So long a session that has ended waits for one who reads none of them.
const LAST_LINES: Duration = Duration::from_secs(10);

/// The program's way to say something.
#[derive(Debug)]
pub(super) struct Output {
    json: bool,
    bars: Option<MultiProgress>,
    /// Lines that stdout has not taken yet: whoever reads them slowly, or not, holds up nothing else.
    waiting: Mutex<VecDeque<String>>,
    /// They are not waited for without end any more.
    hurries: AtomicBool,
    /// Why stdout takes no more, once it does not.
    closed: OnceLock<io::Error>,
}

impl Output {
    /// Progress is shown as bars when stderr is a terminal that can draw them.
    pub(super) fn new(json: bool) -> Self {
        let drawable =
            io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let bars = (!json && drawable).then(MultiProgress::new);
        Self {
            json,
            bars,
            waiting: Mutex::default(),
            hurries: AtomicBool::new(false),
            closed: OnceLock::new(),
        }
    }

    /// Sends the log to stderr, as the filter in `SEEDRING_LOG` says.
    pub(super) fn start_logging(&self) -> Result<(), Error> {
        let filter = std::env::var("SEEDRING_LOG").unwrap_or_default();
        let filter = if filter.trim().is_empty() { "warn".into() } else { filter };
        let filter = filter.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        let fail = |cause| Error::Other(format!("SEEDRING_LOG is no log filter: {cause}"));
        // What is no level would be taken for the name of a room, and all others would be silent.
        if let Some(word) = filter.split(',').find(|word| !names_level(word)) {
            return Err(fail(format!("{word:?} is no level; write error, warn, info, debug or trace")));
        }
        let filter = EnvFilter::try_new(filter).map_err(|cause| fail(cause.to_string()))?;
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Log(self.bars.clone()));
        log.with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).init();
        Ok(())
    }

    /// Whether stdout carries JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Draws a bar below the others; `None` where no bars can be drawn.
    pub(super) fn add_bar(&self, bar: ProgressBar) -> Option<ProgressBar> {
        self.bars.as_ref().map(|bars| bars.add(bar))
    }

    /// Prints a line of `--json`, if asked for.
    pub(super) fn emit(&self, line: &Line<'_>) {
        self.emit_of(None, line);
    }

    /// Prints a line of `--json` about one of several sessions, if asked for.
    pub(super) fn emit_of(&self, node: Option<&str>, line: &Line<'_>) {
        if self.json {
            let mut text =
                serde_json::to_string(&NodeLine { line, node }).expect("a line has only plain values");
            text.push('\n');
            self.hand_over(text, line.is_periodic());
        }
    }

    /// Writes what stdout takes now, in order. What comes every second is left out while others wait.
    fn hand_over(&self, text: String, is_periodic: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if is_periodic {
            self.write_some(&mut waiting, || is_ready(Duration::ZERO));
        }
        if !is_periodic || waiting.is_empty() && is_ready(Duration::ZERO) {
            waiting.push_back(text);
        }
        self.write_some(&mut waiting, || is_ready(Duration::ZERO));
        if waiting.len() > MOST_WAITING {
            self.write_some(&mut waiting, || true);
        }
    }

    fn write_some(&self, waiting: &mut VecDeque<String>, may_write: impl Fn() -> bool) {
        while !waiting.is_empty() && may_write() {
            waiting.pop_front().iter().for_each(|text| self.write(text));
        }
    }

    /// Prints a result for people, which ends in a newline; nothing with `--json`.
    pub(super) fn print(&self, text: &str) {
        if !self.json {
            self.write(text);
        }
    }

    fn write(&self, text: &str) {
        if self.is_closed() {
            return;
        }
        let mut stdout = io::stdout().lock();
        let result =
            suspend(self.bars.as_ref(), || stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()));
        if let Err(cause) = result {
            self.closed.get_or_init(|| cause);
        }
    }

    /// Whether stdout takes no more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// From now on nobody waits for long for who does not read: a session that has ended must not stay for that.
    pub(super) fn hurry(&self) {
        self.hurries.store(true, Ordering::Relaxed);
    }

    /// Waits until everything that was printed has gone out, and tells whether it has. A reader that has seen enough, such as `head`,
    /// is no fault.
    pub(super) fn finish(&self) -> Result<(), Error> {
        let hurries = self.hurries.load(Ordering::Relaxed);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        self.write_some(&mut waiting, || !hurries || is_ready(LAST_LINES));
        waiting.clear();
        match self.closed.get() {
            Some(cause) if cause.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::Other(format!("cannot write to standard output: {cause}")))
            }
            _ => Ok(()),
        }
    }

    /// Tells people how it goes, on stderr; nothing with `--json`.
    pub(super) fn note(&self, text: &str) {
        if !self.json {
            self.tell(format_args!("{text}"));
        }
    }

    /// Tells of something that needs a look, on stderr.
    pub(super) fn warn(&self, text: &str) {
        self.tell(format_args!("seedring: warning: {text}"));
    }

    /// Tells why the command failed, on stderr.
    pub(super) fn error(&self, text: &str) {
        self.tell(format_args!("seedring: error: {text}"));
    }

    fn tell(&self, text: std::fmt::Arguments<'_>) {
        // Who closed stderr does not want to hear of it.
        let _ = suspend(self.bars.as_ref(), || writeln!(io::stderr().lock(), "{text}"));
    }
}

/// Whether stdout takes some of a line in this time (a pipe a page), or it is found by writing that it takes nothing more.
fn is_ready(patience: Duration) -> bool {
    let stdout = io::stdout();
    let mut place = [PollFd::new(&stdout, PollFlags::OUT)];
    let patience = Timespec::try_from(patience).expect("a few seconds");
    // A signal that is not the last is none of its business.
    match rustix::io::retry_on_intr(|| poll(&mut place, Some(&patience))) {
        Ok(ready) => ready > 0,
        Err(_) => true,
    }
}

/// Takes the bars off the terminal while `f` writes.
fn suspend<T>(bars: Option<&MultiProgress>, f: impl FnOnce() -> T) -> T {
    match bars {
        Some(bars) => bars.suspend(f),
        None => f(),
    }
}

/// Where the log goes.
struct Log(Option<MultiProgress>);

struct LogWriter<'a>(&'a Log);

impl<'a> MakeWriter<'a> for Log {
    type Writer = LogWriter<'a>;

    fn make_writer(&'a self) -> LogWriter<'a> {
        LogWriter(self)
    }
}

impl Write for LogWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        suspend(self.0.0.as_ref(), || io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
/// Whether one part of a log filter is a level, or says which level a room has.
fn names_level(word: &str) -> bool {
    let level = word.rsplit_once('=').map_or(word, |(_, level)| level);
    level.parse::<LevelFilter>().is_ok()
}
