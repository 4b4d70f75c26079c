//! Open files of one torrent on one core: as few as its share of the descriptors allows, the least used closed first.

use super::handle::Handle;
use crate::metainfo::FileIndex;
use rustix::process::{Resource, getrlimit};
use std::collections::HashMap;
use std::rc::Rc;

/// Most files kept open for one torrent, by all cores together. To open one costs as much as to send several blocks of it.
const MOST: usize = 4096;
/// One descriptor in so many is a file's, and it takes up to two: the rest are for peers.
const SHARE: usize = 4;
/// Files that a core keeps open however many cores there are.
const LEAST: usize = 4;

pub(super) struct OpenFiles<T = Handle> {
    files: HashMap<FileIndex, (Rc<T>, u64)>,
    most: usize,
    clock: u64,
}

impl<T> OpenFiles<T> {
    /// None, with this core's share of the descriptors.
    pub(super) fn new(cores: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current;
        let files = descriptors.map_or(MOST, |most| usize::try_from(most).unwrap_or(MOST) / SHARE).min(MOST);
        Self::with_room((files / cores.max(1)).max(LEAST))
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
        if self.files.len() >= self.most {
            self.close_oldest();
        }
        self.clock += 1;
        self.files.insert(index, (file, self.clock));
    }

    /// Closes the eighth that was used least lately: all are looked at, so it is not done for one only.
    fn close_oldest(&mut self) {
        let mut ages: Vec<u64> = self.files.values().map(|(_, used)| *used).collect();
        let last = (ages.len() / 8).min(ages.len().saturating_sub(1));
        let (_, limit, _) = ages.select_nth_unstable(last);
        // Operations under way keep their own share of the descriptor.
        self.files.retain(|_, (_, used)| *used > *limit);
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
    }
}
