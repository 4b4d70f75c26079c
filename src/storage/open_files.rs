//! Open files of one torrent: as few as the limit on descriptors allows, the least used closed first.

use crate::metainfo::FileIndex;
use crate::ring::File;
use std::collections::HashMap;

/// Files kept open for one torrent.
const MOST: usize = 256;

#[derive(Default)]
pub(super) struct OpenFiles {
    files: HashMap<FileIndex, (File, u64)>,
    clock: u64,
}

impl OpenFiles {
    pub(super) fn get(&mut self, index: FileIndex) -> Option<File> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(&index)?;
        *used = self.clock;
        Some(file.clone())
    }

    pub(super) fn insert(&mut self, index: FileIndex, file: File) {
        if self.files.len() >= MOST {
            // Operations under way keep their own share of the descriptor.
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(index, _)| *index);
            oldest.map(|oldest| self.files.remove(&oldest));
        }
        self.clock += 1;
        self.files.insert(index, (file, self.clock));
    }

    pub(super) fn close(&mut self, index: FileIndex) {
        self.files.remove(&index);
    }
}
