//! Open files of one torrent on one core: as few as its share of the places allows, the least used closed first.

use super::handle::Handle;
use crate::metainfo::FileIndex;
use crate::ring::Descriptors;
use std::collections::HashMap;
use std::rc::Rc;

/// Places that a file takes: one for the way through the page cache, one for that past it.
const PLACES: usize = 2;
/// One place in so many is kept by nobody, so that whoever waits for one gets one.
const SPARE: usize = 4;

pub(super) struct OpenFiles<T = Handle> {
    files: HashMap<FileIndex, (Rc<T>, u64)>,
    most: usize,
    clock: u64,
}

impl<T> OpenFiles<T> {
    /// None, with this core's share of the places.
    pub(super) fn new(cores: usize) -> Self {
        let all = Descriptors::of_process().files.all();
        Self::with_room((all - all / SPARE) / PLACES / cores.max(1))
    }

    fn with_room(most: usize) -> Self {
        Self { files: HashMap::new(), most, clock: 0 }
    }

    pub(super) fn get(&mut self, index: FileIndex) -> Option<Rc<T>> {
        self.clock += 1;
        let (file, used) = self.files.get_mut(&index)?;
        *used = self.clock;
        Some(Rc::clone(file))
    }

    pub(super) fn insert(&mut self, index: FileIndex, file: Rc<T>) {
        if self.most == 0 {
            return;
        }
        if self.files.len() >= self.most {
            self.close_oldest();
        }
        self.clock += 1;
        self.files.insert(index, (file, self.clock));
    }

    /// Closes the eighth that was used least lately: all are looked at, so it is not done for one only. Says whether there
    /// was any.
    pub(super) fn close_oldest(&mut self) -> bool {
        let mut ages: Vec<u64> = self.files.values().map(|(_, used)| *used).collect();
        if ages.is_empty() {
            return false;
        }
        let eighth = ages.len() / 8;
        let (_, limit, _) = ages.select_nth_unstable(eighth);
        // Operations under way keep their own share of the descriptor.
        self.files.retain(|_, (_, used)| *used > *limit);
        true
    }

    /// Closes all files.
    pub(super) fn close_all(&mut self) {
        self.files.clear();
    }

    /// Those that are open.
    pub(super) fn files(&self) -> impl Iterator<Item = FileIndex> {
        self.files.keys().copied()
    }

    pub(super) fn close(&mut self, index: FileIndex) {
        self.files.remove(&index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    #[test]
    fn the_least_used_are_closed_first() {
        let layout = Layout::new(100, [1; 40]).unwrap();
        let files: Vec<FileIndex> = layout.files().collect();
        let mut open = OpenFiles::with_room(16);
        files[..16].iter().for_each(|index| open.insert(*index, Rc::new(())));
        assert!(open.get(files[0]).is_some());
        open.insert(files[16], Rc::new(()));
        let closed: Vec<usize> = (0..17).filter(|at| open.get(files[*at]).is_none()).collect();
        assert_eq!(closed, [1, 2, 3]);
        files.iter().for_each(|index| open.insert(*index, Rc::new(())));
        assert!(open.files.len() <= 16 && open.get(files[39]).is_some());
    }

    #[test]
    fn a_core_with_the_least_room_goes_on() {
        let layout = Layout::new(100, [1; 40]).unwrap();
        let mut open = OpenFiles::with_room(1);
        for index in layout.files() {
            open.insert(index, Rc::new(()));
            assert!(open.get(index).is_some() && open.files.len() == 1);
        }
        assert!(open.close_oldest() && !open.close_oldest());
        let mut none = OpenFiles::with_room(0);
        none.insert(layout.files().next().unwrap(), Rc::new(()));
        assert!(none.files.is_empty());
    }
}
