//! What becomes of files behind our back: who removes them, and who writes into them.

use super::handle::Handle;
use super::{Access, StorageError};
use crate::metainfo::FileIndex;
use std::collections::BTreeSet;

/// Files that are looked at in one go.
const LOOKS: usize = 16;

impl Access {
    /// Closes files, and gives up what is mapped of them, that were removed: their disk space is free then. What another
    /// file has replaced stays open, for it was verified and the other was not. Looks at a few, others each time.
    ///
    /// # Errors
    /// When somebody has written into one since it was checked: what it holds is not known any more.
    pub fn look_after_files(&self) -> Result<(), StorageError> {
        let known: BTreeSet<FileIndex> =
            self.views.borrow().files().into_iter().chain(self.open.borrow().files()).collect();
        let behind = |index: &&FileIndex| Some(**index) > self.looked.get();
        if !known.iter().any(|index| behind(&index)) {
            self.looked.set(None);
        }
        for index in known.iter().filter(behind).take(LOOKS).copied().collect::<Vec<_>>() {
            self.looked.set(Some(index));
            if self.has_gone(index) {
                self.open.borrow_mut().close(index);
                self.views.borrow_mut().give_up_file(index);
            } else if let Some(handle) = self.opened(index) {
                self.assert_untouched(index, &handle)?;
            }
        }
        Ok(())
    }

    /// Whether nothing has one of the file's names any more. One that cannot be looked at has not gone.
    fn has_gone(&self, index: FileIndex) -> bool {
        let (file, folder) = (self.store().file(index), &self.store().folder);
        let gone = |path: &[String]| matches!(folder.size(path), Ok(None));
        gone(&file.path) && gone(&file.part_path())
    }

    /// Refuses a file that is only read here, and that somebody has written into since it was opened first.
    pub(super) fn assert_untouched(&self, index: FileIndex, handle: &Handle) -> Result<(), StorageError> {
        match handle.stamp() {
            Some(stamp) if !self.store().file(index).is_untouched(stamp) => {
                let cause = "it was written to after it was checked; the same command checks it again";
                Err(StorageError::because("use", self.store().display(index), cause))
            }
            _ => Ok(()),
        }
    }
}
