//! One core's way to a torrent's files: its open descriptors, and the moves of runs between slabs and files.

use super::open_files::OpenFiles;
use super::{Location, StorageError, Store};
use crate::metainfo::{FileIndex, FileKind, PieceIndex, Span};
use crate::ring::{File, FillingSlab, Slab};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
}

/// See the module. Every core has one for each torrent.
pub struct Access {
    store: Arc<Store>,
    open: RefCell<OpenFiles>,
    /// What [`Store::writes`] said when the files were opened.
    writes: Cell<bool>,
}

impl Access {
    /// Opens nothing yet. `cores`: how many share the torrent, and with it its descriptors.
    pub fn new(store: Arc<Store>, cores: usize) -> Self {
        let writes = Cell::new(store.writes());
        Self { store, open: RefCell::new(OpenFiles::new(cores)), writes }
    }

    /// The files.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn open(&self, index: FileIndex, purpose: Purpose) -> Result<File, StorageError> {
        if self.writes.replace(self.store.writes()) != self.store.writes() {
            // What the check has opened is open for reading only.
            self.open.borrow_mut().close_all();
        }
        if let Some(file) = self.open.borrow_mut().get(index) {
            return Ok(file);
        }
        let open = || self.open_anew(index, purpose);
        let fd = match open() {
            // Descriptors are short: rather fewer files open than none at all.
            Err(error) if error.is_short_of_descriptors() && self.open.borrow_mut().close_all() => open()?,
            other => other?,
        };
        let file = File::new(fd);
        self.open.borrow_mut().insert(index, file.clone());
        Ok(file)
    }

    /// Opens a file where it lies, even while another core gives it its own name.
    fn open_anew(&self, index: FileIndex, purpose: Purpose) -> Result<OwnedFd, StorageError> {
        let (file, folder) = (self.store.file(index), &self.store.folder);
        let location = file.location();
        let path = file.path_at(location);
        let opened = match location {
            Location::Absent if purpose == Purpose::Write && self.store.writes() => {
                return folder.make(&path, file.executable).inspect(|_| file.made());
            }
            // Never made anew: when nothing has this name any more, it has its own by now.
            Location::Part(_) if self.store.writes() => folder.open_to_write(&path),
            _ => folder.open_to_read(&path),
        };
        match opened {
            Err(error) if error.cause.kind() == io::ErrorKind::NotFound => {
                // Renamed since we looked, whether that has been said or not. If not, the first error is the right one.
                folder.open_to_read(&file.path).map_err(|_| error)
            }
            other => other,
        }
    }

    fn spans(&self, piece: PieceIndex, begin: u32, len: u32) -> Vec<Span> {
        self.store.layout().spans(piece, begin, len).collect()
    }

    fn is_stored(&self, index: FileIndex) -> bool {
        self.store.file(index).kind == FileKind::Regular
    }

    /// Reads `len` bytes from `begin` of a piece into the slab, from `offset` on. Pad files read as zeros.
    ///
    /// # Errors
    /// When a file cannot be opened or read.
    pub async fn read(
        &self,
        piece: PieceIndex,
        begin: u32,
        len: u32,
        offset: usize,
        slab: FillingSlab,
    ) -> Result<Slab, StorageError> {
        for span in self.spans(piece, begin, len) {
            let at = offset + span.at as usize;
            let mut lease = slab.lease(at..at + span.len as usize).expect("one span after the other");
            if !self.is_stored(span.file) {
                lease.zero();
                continue;
            }
            let file = self.open(span.file, Purpose::Read)?;
            let read = file.read_exact(lease, span.offset).await;
            read.map_err(|cause| StorageError::new("read", self.store.display(span.file), cause))?;
        }
        Ok(slab.seal().unwrap_or_else(|_| unreachable!("all leases have ended")))
    }

    /// Writes the first `len` bytes of the slab at `begin` of a piece. Pad files are not written.
    ///
    /// # Errors
    /// When a file cannot be opened or written; part of the bytes may be on disk then.
    pub async fn write(
        &self,
        piece: PieceIndex,
        begin: u32,
        len: u32,
        slab: &Slab,
    ) -> Result<(), StorageError> {
        for span in self.spans(piece, begin, len) {
            if !self.is_stored(span.file) {
                continue;
            }
            let at = span.at as usize;
            let file = self.open(span.file, Purpose::Write)?;
            let written = file.write_all(slab, at..at + span.len as usize, span.offset).await;
            written.map_err(|cause| StorageError::new("write", self.store.display(span.file), cause))?;
        }
        Ok(())
    }

    /// All of the file is verified and written, by whatever cores: brings it to stable storage and gives it its own
    /// name. Only one core may do this. Descriptors that others have of it stay good.
    ///
    /// # Errors
    /// When the kernel refuses one of the steps; the file is then still a part.
    pub async fn finish(&self, index: FileIndex) -> Result<(), StorageError> {
        let file = self.store.file(index);
        if !matches!(file.location(), Location::Part(_)) {
            return Ok(());
        }
        let part = file.part_path();
        let fail = |cause| StorageError::new("sync", self.store.folder.display(&part), cause);
        self.open(index, Purpose::Write)?.sync_data().await.map_err(fail)?;
        let folder = self.store.folder.rename(&part, &file.path)?;
        file.finished(self.store.layout().file_len(index));
        self.open.borrow_mut().close(index);
        File::new(folder).sync_data().await.map_err(fail)
    }
}
