//! Whose a file is: the torrent that it is downloaded for is written on it, in an extended attribute.
//!
//! Two torrents may have files of one name. What the first has fetched is not right for the second, and looks like room that was
//! made; by its mark it is known as somebody's. Small files go without, for a mark costs them as much as they do, and so do
//! file systems that keep no such attributes: there a file without a right piece is nobody's.

use crate::metainfo::InfoHash;
use std::os::fd::AsFd;

/// The attribute: the info hash in hexadecimal digits.
const ATTRIBUTE: &str = "user.seedring.torrent";
/// Shorter files are not marked.
const LEAST: u64 = 64 * 1024;

/// The torrent that a file was written for, if that is known.
pub(super) fn of(file: impl AsFd) -> Option<String> {
    let mut value = [0; 40];
    let len = rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value).ok()?;
    let digits = value.get(..len).filter(|value| value.iter().all(u8::is_ascii_hexdigit))?;
    String::from_utf8(digits.to_vec()).ok()
}

/// Writes on a file of that length whose it is. A mark that cannot be made is none.
pub(super) fn mark(file: impl AsFd, len: u64, torrent: InfoHash) {
    if len < LEAST {
        return;
    }
    let flags = rustix::fs::XattrFlags::empty();
    if let Err(error) = rustix::fs::fsetxattr(file, ATTRIBUTE, torrent.to_string().as_bytes(), flags) {
        tracing::debug!("a file cannot be marked as its torrent's: {error}");
    }
}
