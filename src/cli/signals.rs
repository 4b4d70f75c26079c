//! The ways to be stopped: SIGINT, SIGTERM, SIGHUP, or nobody reading what is printed.

use super::Error;
use crate::ring;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Signals that come so soon after the first are it once more.
const GRACE: Duration = Duration::from_millis(200);

/// Why a command was stopped from outside. The value is the signal's number, as shells report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// SIGHUP: the terminal has gone.
    HangUp = 1,
    /// SIGINT: Ctrl-C.
    Interrupt = 2,
    /// The reader of stdout has gone; for most programs that is the end by SIGPIPE.
    ReaderGone = 13,
    /// SIGTERM.
    Terminate = 15,
}

impl Stop {
    /// The exit code of a command that was not done.
    pub(super) fn exit_code(self) -> ExitCode {
        ExitCode::from(self.code())
    }

    fn code(self) -> u8 {
        128 + self as u8
    }
}

/// Waits for the first reason to stop. A second signal ends the program at once.
#[derive(Debug)]
pub(super) struct Signals {
    first: watch::Sender<Option<Stop>>,
}

impl Signals {
    /// From now on signals no longer end the program by themselves. Call on a tokio runtime.
    pub(super) fn catch() -> Result<Self, Error> {
        let fail = |cause| Error::Other(format!("cannot listen for signals: {cause}"));
        let mut known = vec![(SIGINT, Stop::Interrupt), (SIGTERM, Stop::Terminate)];
        // Who begins it by `nohup` wants it to go on.
        if !is_ignored(SIGHUP) {
            known.push((SIGHUP, Stop::HangUp));
        }
        let (first, _) = watch::channel(None);
        for (number, why) in &known {
            let signals = signal(SignalKind::from_raw(*number)).map_err(fail)?;
            tokio::spawn(listen(signals, *why, first.clone()));
        }
        // In the handler itself: this thread may be held up, by who does not read what is printed, or a file that gives nothing.
        let codes: Vec<(i32, u8)> = known.iter().map(|(number, why)| (*number, why.code())).collect();
        ring::end_at_second_signal(&codes, GRACE).map_err(fail)?;
        Ok(Self { first })
    }

    /// Stops as if a signal had come.
    pub(super) fn stop(&self, why: Stop) {
        note(&self.first, why);
    }

    /// Why to stop, if there is a reason.
    pub(super) fn reason(&self) -> Option<Stop> {
        *self.first.borrow()
    }

    /// What a command that was stopped before it was done ends with.
    pub(super) fn error(&self) -> Error {
        self.reason().map_or_else(|| Error::Other("stopped".into()), Error::Stopped)
    }

    /// Completes when there is a reason to stop.
    pub(super) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut first = self.first.subscribe();
        async move {
            // The senders live in the listening tasks, which never end by themselves.
            let _ = first.wait_for(Option::is_some).await;
        }
    }
}

/// The first reason counts.
fn note(first: &watch::Sender<Option<Stop>>, why: Stop) {
    first.send_if_modified(|first| first.is_none() && first.replace(why).is_none());
}

async fn listen(mut signals: Signal, why: Stop, first: watch::Sender<Option<Stop>>) {
    while let Some(()) = signals.recv().await {
        note(&first, why);
    }
}

/// Whether the program was begun with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
