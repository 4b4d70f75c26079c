//! How far something has come: a bar on a terminal, a plain line now and then elsewhere.

use super::output::Output;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// Time between two plain lines of progress.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

/// A bar of the program's look, not drawn yet.
pub(super) fn bar(len: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the templates are our own");
    ProgressBar::new(len).with_style(style.progress_chars("━╸─"))
}

/// When it is time for another plain line of progress.
#[derive(Debug)]
pub(super) struct Pace(Instant);

impl Pace {
    /// The first line comes after one interval.
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    /// Whether an interval has passed since the last line, which the caller then prints.
    pub(super) fn is_due(&mut self) -> bool {
        // Progress comes once a second: without some slack a line would slip to the next second now and then.
        let due = self.0.elapsed() + Duration::from_millis(100) >= PLAIN_INTERVAL;
        if due {
            self.0 = Instant::now();
        }
        due
    }
}

/// A step of a command that counts something, such as pieces hashed. Gone from the terminal when dropped.
#[derive(Debug)]
pub(super) struct Steps<'a> {
    out: &'a Output,
    what: &'static str,
    unit: &'static str,
    bar: Option<ProgressBar>,
    pace: Pace,
}

impl<'a> Steps<'a> {
    /// What is done, such as "hashing", and what is counted, such as "pieces".
    pub(super) fn new(out: &'a Output, what: &'static str, unit: &'static str) -> Self {
        let template = "{prefix} [{bar:30.cyan/blue}] {percent:>3}%  {pos} of {len} {msg}  ETA {eta}";
        let bar = out.add_bar(bar(0, template).with_prefix(what).with_message(unit));
        Self { out, what, unit, bar, pace: Pace::new() }
    }

    /// Shows that `done` of `all` are done.
    pub(super) fn show(&mut self, done: u32, all: u32) {
        if let Some(bar) = &self.bar {
            bar.set_length(all.into());
            bar.set_position(done.into());
        } else if self.pace.is_due() {
            self.out.note(&format!("{} {done} of {all} {}", self.what, self.unit));
        }
    }
}

impl Drop for Steps<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
