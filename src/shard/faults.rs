//! Only in tests: cores that panic where they are told to, or have no time.

use crate::metainfo::InfoHash;
use std::sync::{Mutex, PoisonError};

/// Where a core may panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a task that checks what is on disk.
    Check,
    /// In its root, for which nobody waits.
    Root,
    /// In the task that calls the swarm at its deadlines.
    Clock,
    /// In the task of a connection.
    Connection,
    /// In disk work that the end of the core waits for.
    Work,
    /// Nowhere: it has no time for what peers send, as long as this is planned.
    Strain,
    /// Nowhere: the disk takes two seconds for each run, as long as this is planned.
    Disk,
}

/// What is to happen, once each: to which torrent, on which core (`None`: whichever comes first), where.
static PLANNED: Mutex<Vec<(InfoHash, Option<usize>, Place)>> = Mutex::new(Vec::new());

pub(crate) fn plan(torrent: InfoHash, core: Option<usize>, place: Place) {
    PLANNED.lock().unwrap_or_else(PoisonError::into_inner).push((torrent, core, place));
}

/// Whether it is planned.
pub(super) fn awaits(torrent: InfoHash, place: Place) -> bool {
    let planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
    planned.iter().any(|(other, _, at)| (*other, *at) == (torrent, place))
}

/// Panics, if that is planned here.
pub(super) fn strike(torrent: InfoHash, core: usize, place: Place) {
    let mut planned = PLANNED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_it = |(other, on, at): &(InfoHash, Option<usize>, Place)| {
        (*other, *at) == (torrent, place) && on.is_none_or(|on| on == core)
    };
    if let Some(at) = planned.iter().position(is_it) {
        planned.remove(at);
        drop(planned);
        panic!("struck in its\n{place:?}");
    }
}
