//! Which runs were read from the disk not long ago.
//!
//! A run that is read once is read past the page cache, at a fifth of the cost. One that is read again, before as many other
//! bytes as there is memory, would have been in the page cache had it gone there: then it goes there. So what is
//! asked for often fills that memory, and what is asked for once does not push it out.

use super::machine;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that one bit stands for. A shorter read says nothing.
const CHUNK: u64 = 64 * 1024;

/// See the module. Shared by all cores. What they do at the same time may count twice or not at all: it is a guess anyway.
pub(super) struct History {
    /// Bytes of the torrent.
    total: u64,
    /// Bytes after which what was read before is forgotten.
    memory: u64,
    seen: OnceLock<Box<[AtomicU64]>>,
    /// Bytes read for the first time since the last forgetting.
    read: AtomicU64,
}

impl History {
    /// Nothing was read yet of a torrent of `total` bytes, on this machine or in this container.
    pub(super) fn new(total: u64) -> Self {
        Self::with_memory(total, machine::memory())
    }

    fn with_memory(total: u64, memory: u64) -> Self {
        Self { total, memory, seen: OnceLock::new(), read: AtomicU64::new(0) }
    }

    /// Notes a read of `len` bytes at `offset` of the torrent; says whether it was read not long ago.
    pub(super) fn note(&self, offset: u64, len: u64) -> bool {
        let words = (self.total / CHUNK / u64::from(u64::BITS) + 1) as usize;
        let seen = self.seen.get_or_init(|| (0..words).map(|_| AtomicU64::new(0)).collect());
        let place = |chunk: u64| {
            (&seen[(chunk / u64::from(u64::BITS)) as usize], 1 << (chunk % u64::from(u64::BITS)))
        };
        // Those that begin in it, so that reads beside each other have none in common.
        let chunks = offset.div_ceil(CHUNK)..(offset + len).div_ceil(CHUNK);
        let (word, mask) = place(if len < CHUNK { offset / CHUNK } else { chunks.start });
        let known = word.load(Ordering::Relaxed) & mask != 0;
        if known || len < CHUNK {
            return known;
        }
        for (word, mask) in chunks.map(place) {
            word.fetch_or(mask, Ordering::Relaxed);
        }
        if self.read.fetch_add(len, Ordering::Relaxed) + len > self.memory {
            self.read.store(0, Ordering::Relaxed);
            seen.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_known_until_memory_would_have_forgotten_it() {
        let history = History::with_memory(100 * CHUNK, 10 * CHUNK);
        assert!(!history.note(70 * CHUNK, CHUNK - 1) && !history.note(70 * CHUNK, CHUNK));
        assert!(history.note(70 * CHUNK, CHUNK) && history.note(71 * CHUNK - 1, 1));
        (0..9).for_each(|run| assert!(!history.note(run * CHUNK, CHUNK)));
        assert!(history.note(70 * CHUNK, CHUNK) && history.note(0, CHUNK));
        assert!(!history.note(99 * CHUNK, CHUNK), "one too many");
        assert!(!history.note(70 * CHUNK, CHUNK));
    }

    #[test]
    fn what_lies_beside_it_is_not_known() {
        for len in [CHUNK, CHUNK + 1, CHUNK * 3 / 2, 4 * CHUNK, 5 * CHUNK - 7] {
            let history = History::with_memory(100 * CHUNK, 1000 * CHUNK);
            let mut runs = (0..).map(|run| run * len).take_while(|start| start + len <= 100 * CHUNK);
            let known = |start| history.note(start, len);
            assert!(!runs.clone().any(known) && runs.all(known), "{len}");
        }
    }
}
