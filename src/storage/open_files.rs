//! Open files of one torrent on one core: as few as its share of the descriptors allows, the least used closed first.

use super::handle::Handle;
use crate::metainfo::FileIndex;
use std::collections::HashMap;
use std::rc::Rc;

/// Files kept open for one torrent, by all cores together: each takes up to two descriptors.
const MOST: usize = 128;
/// Files that a core keeps open however many cores there are.
const LEAST: usize = 4;

pub(super) struct OpenFiles {
    files: HashMap<FileIndex, (Rc<Handle>, u64)>,
    most: usize,
    clock: u64,
}

impl OpenFiles {
    /// None, with this core's share of the descriptors.
    pub(super) fn new(cores: usize) -> Self {
        Self { files: HashMap::new(), most: (MOST / cores.max(1)).max(LEAST), clock: 0 }
    }

    pub(super) fn get(&mut self, index: FileIndex) -> Option<Rc<Handle>> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(&index)?;
        *used = self.clock;
        Some(Rc::clone(file))
    }

    pub(super) fn insert(&mut self, index: FileIndex, file: Rc<Handle>) {
        if self.files.len() >= self.most {
            // Operations under way keep their own share of the descriptor.
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(index, _)| *index);
            oldest.map(|oldest| self.files.remove(&oldest));
        }
        self.clock += 1;
        self.files.insert(index, (file, self.clock));
    }

    /// Closes all files; says whether there were any.
    pub(super) fn close_all(&mut self) -> bool {
        let any = !self.files.is_empty();
        self.files.clear();
        any
    }

    pub(super) fn close(&mut self, index: FileIndex) {
        self.files.remove(&index);
    }
}
