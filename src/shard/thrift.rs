//! When what comes from peers has to wait a moment for memory, although more could be had: to make a slab resident can take half a
//! millisecond of the core, and what leaves the processor's cache meanwhile. Much of what there is is on its way to the disk then,
//! and free again soon.

use super::torrent::{Fetched, TorrentShard};
use crate::metainfo::Block;
use std::time::Duration;
use tokio::time::timeout;

/// How long is waited, at the most: a slow disk, or one that has stopped for a moment, is what more memory is for.
const PATIENCE: Duration = Duration::from_millis(30);
/// So many runs under way to the disk (16 MiB) keep a fast one busy.
const MUCH: usize = 64;

impl TorrentShard {
    /// Whether a place for this block takes more memory than there was yet, although much of that is being written.
    pub(super) fn is_short_of_room(&self, block: &Block) -> bool {
        let needs_slab =
            || matches!(self.fetched.borrow().get(&Self::home(block).0), Some(Fetched::Awaited(_)));
        self.writing.get() >= MUCH && needs_slab() && self.memory.borrow_mut().gains_by_waiting()
    }

    /// Waits while it is so, but not for long.
    pub(super) async fn wait_for_room(&self, block: &Block) {
        if !self.is_short_of_room(block) {
            return;
        }
        self.gauges.count_memory_wait();
        let is_written = async {
            while self.is_short_of_room(block) {
                self.wrote.notified().await;
            }
        };
        // Either will do.
        let _ = timeout(PATIENCE, is_written).await;
    }
}
