//! One torrent's files: what is there, and the way of runs between slabs and files.

use super::open_files::OpenFiles;
use super::{Folder, StorageError};
use crate::metainfo::{FileEntry, FileIndex, FileKind, Layout, PART_SUFFIX, PieceIndex, Span};
use crate::ring::{File, FillingSlab, Slab};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// Where a file's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// Not there.
    Absent,
    /// Under `NAME.part`: being downloaded. With its size in bytes.
    Part(u64),
    /// Under its own name. With its size in bytes.
    Final(u64),
}

/// A file of the torrent, as it is stored.
pub struct StoredFile {
    /// Components of its path below the folder.
    pub path: Vec<String>,
    /// How it is stored: pad files and links are not.
    pub kind: FileKind,
    executable: bool,
    location: Cell<Location>,
}

impl StoredFile {
    /// Where its bytes are.
    pub fn location(&self) -> Location {
        self.location.get()
    }

    fn part_path(&self) -> Vec<String> {
        let mut path = self.path.clone();
        path.last_mut().expect("a path has a name").push_str(PART_SUFFIX);
        path
    }

    fn current_path(&self) -> Vec<String> {
        if matches!(self.location.get(), Location::Final(_)) { self.path.clone() } else { self.part_path() }
    }
}

/// The files of one torrent in one folder.
pub struct Store {
    folder: Folder,
    layout: Arc<Layout>,
    files: Vec<StoredFile>,
    open: RefCell<OpenFiles>,
    /// Whether parts are opened to be written: see [`Store::prepare`].
    writes: Cell<bool>,
}

impl Store {
    /// Looks at which files are there. Changes nothing.
    ///
    /// # Errors
    /// When something else lies where a file should, or cannot be looked at.
    pub fn new(folder: Folder, layout: Arc<Layout>, files: &[FileEntry]) -> Result<Self, StorageError> {
        let files = files.iter().map(|file| StoredFile {
            path: file.path.clone(),
            kind: file.kind,
            executable: file.executable,
            location: Cell::new(Location::Absent),
        });
        let store = Self {
            folder,
            layout,
            files: files.collect(),
            open: RefCell::default(),
            writes: Cell::new(false),
        };
        for file in store.files.iter().filter(|file| file.kind == FileKind::Regular) {
            let complete = store.folder.size(&file.path)?.map(Location::Final);
            let part = || store.folder.size(&file.part_path()).map(|size| size.map(Location::Part));
            let found = if complete.is_some() { complete } else { part()? };
            file.location.set(found.unwrap_or(Location::Absent));
        }
        Ok(store)
    }

    /// The torrent's geometry.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The file.
    pub fn file(&self, index: FileIndex) -> &StoredFile {
        &self.files[index.as_usize()]
    }

    /// Whether the file holds more bytes than the torrent says: they are not ours to judge or to cut.
    pub fn is_longer(&self, index: FileIndex) -> bool {
        let (Location::Part(size) | Location::Final(size)) = self.file(index).location.get() else {
            return false;
        };
        size > self.layout.file_len(index)
    }

    /// The path as people read it.
    pub fn display(&self, index: FileIndex) -> String {
        self.folder.display(&self.file(index).current_path())
    }

    /// Whether all bytes of the piece may be on disk: worth reading.
    pub fn may_hold(&self, piece: PieceIndex) -> bool {
        self.layout.spans(piece, 0, self.layout.piece_len(piece)).all(|span| {
            let file = self.file(span.file);
            match file.location.get() {
                _ if file.kind != FileKind::Regular => true,
                Location::Absent => false,
                Location::Part(size) | Location::Final(size) => size >= span.offset + u64::from(span.len),
            }
        })
    }

    /// Makes ready to write the files that are not complete: those under their own name become parts again, empty
    /// files are made. `good_pieces` says how
    /// many pieces of a file are verified.
    ///
    /// # Errors
    /// When a file is longer than the torrent says, does not look like the torrent's at all, both a file and its part
    /// are there, or the kernel refuses.
    pub fn prepare(&self, good_pieces: impl Fn(FileIndex) -> u32) -> Result<(), StorageError> {
        let is_complete = |index| good_pieces(index) as usize == self.layout.pieces_of(index).len();
        let regular = || self.layout.files().filter(|index| self.file(*index).kind == FileKind::Regular);
        // All is looked at before anything is changed.
        for index in regular() {
            let refuse = |cause| Err(StorageError::because("download", self.display(index), cause));
            if self.is_longer(index) {
                return refuse("it is longer than the torrent says; move it away or cut it");
            }
            let file = self.file(index);
            let Location::Final(size) = file.location.get() else { continue };
            if is_complete(index) {
                continue;
            }
            if size > 0 && size < self.layout.file_len(index) && good_pieces(index) == 0 {
                return refuse("a file of that name is there, and no piece of it is right; move it away");
            }
            if self.folder.size(&file.part_path())?.is_some() {
                return refuse("it is not complete, and a .part of it is there too; remove one of the two");
            }
        }
        for index in regular() {
            let file = self.file(index);
            match file.location.get() {
                Location::Absent if self.layout.file_len(index) == 0 => {
                    self.folder.open_to_write(&file.path, file.executable)?;
                    file.location.set(Location::Final(0));
                }
                Location::Final(size) if !is_complete(index) => {
                    self.folder.rename(&file.path, &file.part_path())?;
                    file.location.set(Location::Part(size));
                }
                _ => {}
            }
        }
        // What the check has opened is open for reading only.
        *self.open.borrow_mut() = OpenFiles::default();
        self.writes.set(true);
        Ok(())
    }

    fn open(&self, index: FileIndex) -> Result<File, StorageError> {
        if let Some(file) = self.open.borrow_mut().get(index) {
            return Ok(file);
        }
        let stored = self.file(index);
        let path = stored.current_path();
        let complete = matches!(stored.location.get(), Location::Final(_));
        let open = || {
            if complete || !self.writes.get() {
                self.folder.open_to_read(&path)
            } else {
                self.folder.open_to_write(&path, stored.executable)
            }
        };
        let fd = match open() {
            // Descriptors are short: rather fewer files open than none at all.
            Err(error) if error.is_short_of_descriptors() && self.open.borrow_mut().close_all() => open()?,
            other => other?,
        };
        if stored.location.get() == Location::Absent {
            stored.location.set(Location::Part(0));
        }
        let file = File::new(fd);
        self.open.borrow_mut().insert(index, file.clone());
        Ok(file)
    }

    fn spans(&self, piece: PieceIndex, begin: u32, len: u32) -> Vec<Span> {
        self.layout.spans(piece, begin, len).collect()
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
            if self.file(span.file).kind != FileKind::Regular {
                lease.zero();
                continue;
            }
            let file = self.open(span.file)?;
            let read = file.read_exact(lease, span.offset).await;
            read.map_err(|cause| StorageError::new("read", self.display(span.file), cause))?;
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
            if self.file(span.file).kind != FileKind::Regular {
                continue;
            }
            let at = span.at as usize;
            let file = self.open(span.file)?;
            let written = file.write_all(slab, at..at + span.len as usize, span.offset).await;
            written.map_err(|cause| StorageError::new("write", self.display(span.file), cause))?;
        }
        Ok(())
    }

    /// All of the file is verified and written: brings it to stable storage and gives it its own name.
    ///
    /// # Errors
    /// When the kernel refuses one of the steps; the file is then still a part.
    pub async fn finish(&self, index: FileIndex) -> Result<(), StorageError> {
        let file = self.file(index);
        if !matches!(file.location.get(), Location::Part(_)) {
            return Ok(());
        }
        let part = file.part_path();
        let fail = |cause| StorageError::new("sync", self.folder.display(&part), cause);
        self.open(index)?.sync_data().await.map_err(fail)?;
        let folder = self.folder.rename(&part, &file.path)?;
        file.location.set(Location::Final(self.layout.file_len(index)));
        self.open.borrow_mut().close(index);
        File::new(folder).sync_data().await.map_err(fail)
    }
}
