//! Pieces on disk: where their bytes lie in files, which files are open, reading and writing runs, checking.
//!
//! Payload paths are opened beneath the download folder only, and no symbolic link below it is followed: what a
//! torrent says, or what somebody puts there meanwhile, never leads outside. A file is written as `NAME.part`
//! and renamed to `NAME` when all of it is verified and on stable storage.
//!
//! Cores share the [`Store`] (which files are there, and under which name), and each has an [`Access`] of its own (open
//! descriptors, reads and writes).

mod access;
mod aside;
mod check;
mod claim;
mod counts;
mod file_id;
mod folder;
mod handle;
mod history;
mod machine;
mod mappings;
mod open_files;
mod owner;
mod queue;
mod report;
mod scan;
mod store;
#[cfg(test)]
mod tests;
mod views;
mod watch;

pub use access::Access;
pub use check::{check, hash_pieces};
pub use claim::Claim;
pub use counts::Counts;
pub use folder::Folder;
pub use machine::memory;
pub use queue::PieceQueue;
pub use report::{CheckReport, FileReport};
pub use scan::{Found, scan};
pub use store::{Extent, Location, Store, StoredFile};
pub use views::Interest;

use std::io;

/// A file or folder that could not be used, with the cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {}", explain(.cause))]
pub struct StorageError {
    /// What was being done, as a verb.
    pub action: &'static str,
    /// To what.
    pub path: String,
    /// Why it failed.
    #[source]
    pub cause: io::Error,
}

impl StorageError {
    fn new(action: &'static str, path: impl Into<String>, cause: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), cause: cause.into() }
    }

    /// The cause alone, for who knows the path.
    pub fn why(&self) -> String {
        explain(&self.cause)
    }

    /// Whether the kernel does not let us write there.
    fn is_denied(&self) -> bool {
        matches!(self.cause.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }

    /// Whether what was written there cannot be read any more; something beside it may.
    pub fn is_damage(&self) -> bool {
        const DAMAGE: [i32; 5] = [libc::EIO, libc::EUCLEAN, libc::EBADMSG, libc::EREMOTEIO, libc::ENODATA];
        self.cause.raw_os_error().is_some_and(|error| DAMAGE.contains(&error))
    }

    fn is_short_of_descriptors(&self) -> bool {
        matches!(self.cause.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }

    fn because(action: &'static str, path: impl Into<String>, cause: &'static str) -> Self {
        Self::new(action, path, io::Error::other(cause))
    }
}

/// The cause, and what to do where the system's own words do not say it.
fn explain(cause: &io::Error) -> String {
    match cause.raw_os_error() {
        Some(libc::ENOSPC) => "the disk is full; make room and run the same command again".into(),
        Some(libc::EDQUOT) => "the disk quota is used up; make room and run the same command again".into(),
        Some(libc::ELOOP) => {
            "a symbolic link is in the way, and links are not followed inside the folder".into()
        }
        Some(libc::EMFILE | libc::ENFILE) => "too many open files; raise the limit with `ulimit -n`".into(),
        _ if cause.kind() == io::ErrorKind::UnexpectedEof => "the file has become shorter".into(),
        _ => cause.to_string(),
    }
}
