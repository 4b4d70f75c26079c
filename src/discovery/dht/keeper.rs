//! The file that nodes are kept in from run to run, and who may write it: all programs of a user have one file, and two nodes of
//! one id would never know each other. Whoever holds the lock beside the file has its ids, and writes it.

use super::driver::joined;
use super::state::MAX_STATE;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

/// How often the state is written, and how soon when there are nodes at last.
const SAVE_EVERY: Duration = Duration::from_secs(5 * 60);
const SAVE_SOON: Duration = Duration::from_secs(60);

/// What was found at the start.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The state of the last run; empty when there was none.
    pub(super) state: Vec<u8>,
    /// Whether another node has the file, and the ids in it.
    pub(super) borrowed: bool,
    /// What went wrong.
    pub(super) problems: Vec<String>,
}

/// Writes the state now and then.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The file, and its lock; `None` when there is none, or it is another's.
    ours: Option<(PathBuf, Arc<File>)>,
    saves: Saves,
    saving: JoinSet<io::Result<()>>,
}

impl Keeper {
    /// Reads the file, and takes it if nobody has.
    pub(super) async fn open(path: Option<PathBuf>) -> (Self, Opened) {
        let opening = path.map(|path| tokio::task::spawn_blocking(move || open(path)));
        let opened = match opening {
            Some(opening) => joined(opening.await),
            None => None,
        };
        let (ours, opened) = opened.unwrap_or_default();
        (Self { ours, saves: Saves::new(Instant::now()), saving: JoinSet::new() }, opened)
    }

    /// There are nodes at last.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.saves.hasten(now);
    }

    /// When to write.
    pub(super) fn due(&self) -> Instant {
        self.saves.at
    }

    /// Whether it is time to write; if so, the next time is another.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        self.saves.take_due(now)
    }

    /// Begins to write a state, unless the file is not ours or the last time has not ended.
    pub(super) fn write(&mut self, state: impl FnOnce() -> Vec<u8>) {
        if let Some((path, lock)) = self.ours.clone().filter(|_| self.saving.is_empty()) {
            let state = state();
            self.saving.spawn_blocking(move || {
                let written = write(&path, &state);
                // However long that takes, nobody else writes meanwhile.
                drop(lock);
                written
            });
        }
    }

    /// What has become of writing; `None` when there is none under way.
    pub(super) async fn written(&mut self) -> Option<Result<(), String>> {
        let outcome = joined(self.saving.join_next().await?);
        let path = self.ours.as_ref().map(|(path, _)| path.display().to_string()).unwrap_or_default();
        Some(outcome.unwrap_or(Ok(())).map_err(|cause| format!("cannot write {path}: {cause}")))
    }
}

/// When the state is written. Who is killed soon after its first start has to begin from the names again otherwise.
#[derive(Debug)]
pub(super) struct Saves {
    at: Instant,
}

impl Saves {
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now + SAVE_EVERY }
    }

    /// There are nodes at last.
    pub(super) fn hasten(&mut self, now: Instant) {
        self.at = self.at.min(now + SAVE_SOON);
    }

    /// Whether it is time; if so, the next time is another.
    pub(super) fn take_due(&mut self, now: Instant) -> bool {
        let due = now >= self.at;
        if due {
            self.at = now + SAVE_EVERY;
        }
        due
    }
}

fn open(path: PathBuf) -> (Option<(PathBuf, Arc<File>)>, Opened) {
    let mut opened = Opened::default();
    let lock = match lock(&path) {
        Ok(lock) => Some(Arc::new(lock)),
        Err(TryLockError::WouldBlock) => {
            opened.borrowed = true;
            None
        }
        Err(TryLockError::Error(cause)) => {
            opened.problems.push(format!("cannot lock {}, nothing is kept: {cause}", path.display()));
            opened.borrowed = true;
            None
        }
    };
    // Not before: another may have written a moment ago.
    match read(&path) {
        Ok(state) => opened.state = state,
        Err(cause) => opened.problems.push(format!("cannot read {}: {cause}", path.display())),
    }
    (lock.map(|lock| (path, lock)), opened)
}

/// Takes the lock of a file, which lies beside it: that itself is another one each time it is written. It is free again when the
/// lock is closed, or the process ends in any way.
fn lock(path: &Path) -> Result<File, TryLockError> {
    let open = || {
        make_folder(path)?;
        let beside = path.with_added_extension("lock");
        File::options().create(true).truncate(false).write(true).open(beside)
    };
    let lock = open().map_err(TryLockError::Error)?;
    lock.try_lock()?;
    Ok(lock)
}

fn make_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_STATE as u64 + 1).read_to_end(&mut bytes).map(|_| bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(bytes),
        Err(error) => Err(error),
    }
}

/// Writes a file beside and gives it the name: who reads sees the old one or the new.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    make_folder(path)?;
    let beside = path.with_extension(format!("{}.part", std::process::id()));
    let mut file = File::create(&beside)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| fs::rename(&beside, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    renamed
}
