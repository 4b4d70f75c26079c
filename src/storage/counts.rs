//! How the bytes went: what a core's operations on files add up to.

use std::cell::Cell;

/// Operations on files, and their bytes. A run that lies in several files, or partly in the page cache, counts several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads past the page cache.
    pub direct_reads: u64,
    /// Their bytes.
    pub direct_read_bytes: u64,
    /// Reads through the page cache.
    pub cached_reads: u64,
    /// Their bytes.
    pub cached_read_bytes: u64,
    /// Writes past the page cache.
    pub direct_writes: u64,
    /// Their bytes.
    pub direct_write_bytes: u64,
    /// Writes through the page cache.
    pub cached_writes: u64,
    /// Their bytes.
    pub cached_write_bytes: u64,
    /// Times that a file was opened of which the kernel does not tell us what the page cache holds, for it is another user's.
    pub withheld_files: u64,
}

/// Counts while it is shared by the tasks of a core.
#[derive(Default)]
pub(super) struct Counter(Cell<Counts>);

impl Counter {
    pub(super) fn get(&self) -> Counts {
        self.0.get()
    }

    fn add(&self, len: usize, pick: impl FnOnce(&mut Counts) -> (&mut u64, &mut u64)) {
        if len > 0 {
            let mut counts = self.0.get();
            let (times, bytes) = pick(&mut counts);
            *times += 1;
            *bytes += len as u64;
            self.0.set(counts);
        }
    }

    pub(super) fn withheld_file(&self) {
        let counts = self.0.get();
        self.0.set(Counts { withheld_files: counts.withheld_files + 1, ..counts });
    }

    pub(super) fn direct_read(&self, len: usize) {
        self.add(len, |counts| (&mut counts.direct_reads, &mut counts.direct_read_bytes));
    }

    pub(super) fn cached_read(&self, len: usize) {
        self.add(len, |counts| (&mut counts.cached_reads, &mut counts.cached_read_bytes));
    }

    pub(super) fn direct_write(&self, len: usize) {
        self.add(len, |counts| (&mut counts.direct_writes, &mut counts.direct_write_bytes));
    }

    pub(super) fn cached_write(&self, len: usize) {
        self.add(len, |counts| (&mut counts.cached_writes, &mut counts.cached_write_bytes));
    }
}
