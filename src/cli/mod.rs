//! The commands a person types: what they take, what they print, how they end.
//!
//! | file | subject |
//! |---|---|
//! | `args` | the command line and its environment twins |
//! | `address` | addresses and ports that a person writes |
//! | `create`, `show`, `check`, `transfer`, `demo`, `load` | one command each; `transfer` is `download` and `seed` |
//! | `output` | where text goes: results, notes, JSON, logs, and none tears a progress bar |
//! | `json` | the lines of `--json` |
//! | `human` | sizes, rates and times as people read them |
//! | `progress` | how far something has come: bars, or plain lines |
//! | `scrape` | `show --scrape`: what trackers count |
//! | `watch` | what people see of one session while it runs |
//! | `metrics` | `--metrics`: figures over HTTP |
//! | `finding`, `shunned`, `choices` | options that several commands take: how peers are found, which are not wanted, and what of a torrent is |
//! | `signals` | the ways to be stopped |
//! | `source` | where a torrent comes from: a file, or a magnet link |
//! | `torrent_file` | reading and writing the torrent file that a command names |
//!
//! A command ends with exit code 0 when it did what it was asked, 1 with one sentence on stderr when it could not, 2
//! when the command line is wrong, and 128 + n when signal n stopped it before it was done.

mod address;
mod args;
mod check;
mod choices;
mod create;
mod demo;
mod finding;
mod human;
mod json;
mod load;
mod metrics;
mod output;
mod progress;
mod scrape;
mod show;
mod shunned;
mod signals;
mod source;
mod torrent_file;
mod transfer;
mod watch;

use crate::digest::Engine;
use crate::discovery::names::MOST_LOOKUPS;
use crate::load::LoadError;
use crate::metainfo::TorrentError;
use crate::session::SessionError;
use args::{Args, Command};
use clap::Parser;
use json::Line;
use output::Output;
use signals::Stop;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the command that the program's arguments and environment name.
pub fn run() -> ExitCode {
    end_on_panic();
    let args = Args::parse();
    let out = Output::new(args.json);
    let result = out.start_logging().and_then(|()| choose_digest()).and_then(|()| match &args.command {
        Command::Create(args) => create::run(args, &out),
        Command::Show(args) => show::run(args, &out),
        Command::Check(args) => check::run(args, &out),
        Command::Download(args) => transfer::download(args, &out),
        Command::Seed(args) => transfer::seed(args, &out),
        Command::Demo(args) => demo::run(args, &out),
        Command::Load(args) => load::run(args, &out),
    });
    // A stdout that failed has cost output: that is worth a word even when the work was done. Who has gone wants no word.
    match result.and_then(|code| out.finish().map(|()| code)) {
        Ok(code) => code,
        Err(Error::Stopped(why)) => match out.finish() {
            Err(error) if why == Stop::ReaderGone => fail(&error, &out),
            _ => why.exit_code(),
        },
        Err(error) => fail(&error, &out),
    }
}

fn fail(error: &Error, out: &Output) -> ExitCode {
    let message = error.to_string();
    out.error(&message);
    out.emit(&Line::Error { message: &message });
    // That it failed is what has been told.
    let _ = out.finish();
    ExitCode::FAILURE
}

/// Decides for the whole program which engine hashes: the one that `SEEDRING_DIGEST` names, else the fastest.
fn choose_digest() -> Result<(), Error> {
    let name = std::env::var("SEEDRING_DIGEST").unwrap_or_default();
    let name = Some(name.trim()).filter(|name| !name.is_empty());
    let engine = Engine::choose(name).map_err(|cause| Error::Other(format!("SEEDRING_DIGEST: {cause}")))?;
    engine.set_current().expect("nothing was hashed yet");
    tracing::debug!(engine = engine.name(), "digest");
    Ok(())
}

/// A panic is a bug of ours, and takes one task with it: better a clean end than a torrent that hangs without it.
fn end_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// A file or folder could not be used.
    #[error("cannot {action} {path}: {cause}")]
    File {
        /// What was being done, as a verb.
        action: &'static str,
        /// To what.
        path: String,
        /// Why it failed.
        cause: io::Error,
    },
    /// A file is no torrent we can use.
    #[error("{path}: {cause}")]
    Torrent {
        /// The file.
        path: String,
        /// What is wrong with it.
        cause: TorrentError,
    },
    /// The session could not go on.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A load could not be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The command was stopped before it was done: no fault, and nothing to say.
    #[error("stopped")]
    Stopped(Stop),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For [`Result::map_err`]: what was being done to `path`.
    fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |cause| Self::File { action, path, cause }
    }
}

/// The runtime of the thread that people talk to: trackers, signals and progress, no payload. It has one more thread, for names
/// that are looked up and the like, from its beginning: without one, and no more to be had, it would panic. More come with the work,
/// and stay: for each name that is looked up at a time, and some for all else.
fn control_runtime() -> Result<tokio::runtime::Runtime, Error> {
    const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
    const MOST_HELPERS: usize = MOST_LOOKUPS + 8;
    let failed = |cause| Error::Other(format!("cannot start the runtime: {cause}"));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder
        .enable_all()
        .max_blocking_threads(MOST_HELPERS)
        .thread_keep_alive(FOR_EVER)
        .build()
        .map_err(failed)?;
    // The runtime has no way to ask for a thread but one that panics; that is told of as any other refusal.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let first = std::panic::catch_unwind(|| drop(runtime.spawn_blocking(|| {})));
    std::panic::set_hook(hook);
    first.map_err(|_| SessionError::Thread(rustix::io::Errno::AGAIN.into()))?;
    Ok(runtime)
}
