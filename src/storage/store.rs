//! One torrent's files: what is there. Shared by all cores; each moves bytes through an `Access` of its own.

use super::file_id::{FileId, Stamp};
use super::folder::{Room, synced};
use super::history::History;
use super::owner::{self, mark};
use super::views::SharedViews;
use super::{Folder, StorageError};
use crate::metainfo::{FileEntry, FileIndex, FileKind, InfoHash, Layout, PART_SUFFIX, PieceIndex};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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

/// How much of a file a download will write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All that is missing; nothing, when nothing is.
    Whole,
    /// The pieces that it shares with files that are wanted.
    Shared,
    /// Nothing: the file is left as it is.
    Nothing,
}

/// A [`Location`] that cores share: the size, and the highest bit for a file under its own name. No size needs that bit.
struct SharedLocation(AtomicU64);

impl SharedLocation {
    const FINAL: u64 = 1 << 63;
    const ABSENT: u64 = u64::MAX;

    fn new(location: Location) -> Self {
        Self(AtomicU64::new(Self::encode(location)))
    }

    fn encode(location: Location) -> u64 {
        match location {
            Location::Absent => Self::ABSENT,
            Location::Part(size) => size & !Self::FINAL,
            Location::Final(size) => size | Self::FINAL,
        }
    }

    fn get(&self) -> Location {
        // What a core did to the file before it said so is seen by those who read it here.
        match self.0.load(Ordering::Acquire) {
            Self::ABSENT => Location::Absent,
            size if size & Self::FINAL != 0 => Location::Final(size & !Self::FINAL),
            size => Location::Part(size),
        }
    }

    fn set(&self, location: Location) {
        self.0.store(Self::encode(location), Ordering::Release);
    }

    /// Sets it, unless another core has set something else than `seen` meanwhile.
    fn replace(&self, seen: Location, location: Location) {
        let (seen, location) = (Self::encode(seen), Self::encode(location));
        let _ = self.0.compare_exchange(seen, location, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// A file of the torrent, as it is stored.
pub struct StoredFile {
    /// Components of its path below the folder.
    pub path: Vec<String>,
    /// How it is stored: pad files and links are not.
    pub kind: FileKind,
    pub(super) executable: bool,
    location: SharedLocation,
    /// The file that was opened first, by whatever core: to be checked, or because it was made.
    known: Mutex<Option<FileId>>,
    /// What it looked like then, if it is only read.
    stamp: Mutex<Option<Stamp>>,
    /// Whether the check has found it whole: then nobody has a reason to write into it.
    is_whole: AtomicBool,
    /// Whether we write it, or have written it.
    is_ours: AtomicBool,
    /// Whether only parts of it will be written.
    sparse: AtomicBool,
    /// Whether it is written to under its own name.
    in_place: AtomicBool,
}

impl StoredFile {
    /// Where its bytes are.
    pub fn location(&self) -> Location {
        self.location.get()
    }

    /// Whether only parts of it will be written: its disk space is not reserved.
    pub(super) fn is_sparse(&self) -> bool {
        self.sparse.load(Ordering::Acquire)
    }

    /// Whether we write to it where it lies, when we write at all.
    pub(super) fn is_written(&self) -> bool {
        matches!(self.location(), Location::Part(_)) || self.is_in_place()
    }

    /// Whether it is written to under its own name.
    pub(super) fn is_in_place(&self) -> bool {
        self.in_place.load(Ordering::Acquire)
    }

    pub(super) fn part_path(&self) -> Vec<String> {
        let mut path = self.path.clone();
        path.last_mut().expect("a path has a name").push_str(PART_SUFFIX);
        path
    }

    /// Its path when its bytes are at `location`.
    pub(super) fn path_at(&self, location: Location) -> Vec<String> {
        if matches!(location, Location::Final(_)) { self.path.clone() } else { self.part_path() }
    }

    /// Says that it has been made as a part, if nobody has said so yet.
    pub(super) fn made(&self) {
        self.is_ours.store(true, Ordering::Release);
        self.location.replace(Location::Absent, Location::Part(0));
    }

    /// Whether the file that was opened is the one that was opened first: what another one has was never checked.
    /// `written`: we write it.
    pub(super) fn is_the_one(&self, opened: FileId, written: bool) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if written && !opened.lasts() {
            // What it will be known by is not settled before it has its own name.
            *known = None;
            return true;
        }
        *known.get_or_insert(opened) == opened
    }

    /// The check has found it whole.
    pub fn was_found_whole(&self) {
        self.is_whole.store(true, Ordering::Release);
    }

    /// Whether nobody has written into it since it was opened first, if it was whole and is only read.
    pub(super) fn is_untouched(&self, stamp: Stamp) -> bool {
        if self.is_ours.load(Ordering::Acquire) || !matches!(self.location(), Location::Final(_)) {
            return true;
        }
        let mut first = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let before = first.get_or_insert(stamp);
        !self.is_whole.load(Ordering::Acquire) || !stamp.is_written_since(before)
    }

    /// Says that it lies under its own name, with this many bytes.
    pub(super) fn finished(&self, size: u64) {
        self.is_ours.store(true, Ordering::Release);
        self.location.set(Location::Final(size));
    }
}

/// The files of one torrent in one folder.
pub struct Store {
    pub(super) folder: Folder,
    layout: Arc<Layout>,
    files: Vec<StoredFile>,
    /// The torrent that parts are written for: see [`Store::prepare`].
    writer: OnceLock<InfoHash>,
    pub(super) history: History,
    /// Files of which the disk could not give back something, and the first error of each.
    damage: Mutex<BTreeMap<FileIndex, i32>>,
    /// What is mapped of the files, to be sent.
    pub(super) views: Arc<SharedViews>,
}

impl Store {
    /// Looks at which files are there. Changes nothing.
    ///
    /// # Errors
    /// When something else lies where a file should, or cannot be looked at.
    pub fn new(folder: Folder, layout: Arc<Layout>, files: &[FileEntry]) -> Result<Self, StorageError> {
        let store = Self::unseen(folder, layout, files);
        for (_, file) in store.regular() {
            file.location.set(store.find(file)?);
        }
        Ok(store)
    }

    /// Likewise, of files that are only to be read. What has something odd in its way, or may not be read, counts as absent, and
    /// comes back with the reason.
    pub fn survey(
        folder: Folder,
        layout: Arc<Layout>,
        files: &[FileEntry],
    ) -> (Self, Vec<(FileIndex, StorageError)>) {
        let store = Self::unseen(folder, layout, files);
        let mut faults = Vec::new();
        for (index, file) in store.regular() {
            match store.find_readable(file) {
                Ok(location) => file.location.set(location),
                Err(fault) => faults.push((index, fault)),
            }
        }
        (store, faults)
    }

    fn unseen(folder: Folder, layout: Arc<Layout>, files: &[FileEntry]) -> Self {
        let files = files.iter().map(|file| StoredFile {
            path: file.path.clone(),
            kind: file.kind,
            executable: file.executable,
            location: SharedLocation::new(Location::Absent),
            known: Mutex::new(None),
            stamp: Mutex::new(None),
            is_whole: AtomicBool::new(false),
            is_ours: AtomicBool::new(false),
            sparse: AtomicBool::new(false),
            in_place: AtomicBool::new(false),
        });
        let (files, history) = (files.collect(), History::new(layout.total()));
        let views = Arc::new(SharedViews::new(layout.total()));
        let (writer, damage) = (OnceLock::new(), Mutex::default());
        Self { folder, layout, files, writer, history, damage, views }
    }

    fn regular(&self) -> impl Iterator<Item = (FileIndex, &StoredFile)> {
        self.layout.files().zip(&self.files).filter(|(_, file)| file.kind == FileKind::Regular)
    }

    /// Where a file is now.
    fn find(&self, file: &StoredFile) -> Result<Location, StorageError> {
        if let Some(size) = self.folder.size(&file.path)? {
            return Ok(Location::Final(size));
        }
        Ok(self.folder.size(&file.part_path())?.map_or(Location::Absent, Location::Part))
    }

    fn find_readable(&self, file: &StoredFile) -> Result<Location, StorageError> {
        let location = self.find(file)?;
        if location != Location::Absent {
            self.folder.open_to_read(&file.path_at(location))?;
        }
        Ok(location)
    }

    /// Whether parts are open to be written: from [`Store::prepare`] on.
    pub(super) fn writes(&self) -> bool {
        self.writer.get().is_some()
    }

    /// Makes a file that is to be written, or opens it when another core has made it meanwhile.
    pub(super) fn make(&self, index: FileIndex) -> Result<OwnedFd, StorageError> {
        let file = self.file(index);
        let made = self.folder.make(&file.part_path(), file.executable)?;
        if let Some(torrent) = self.writer.get() {
            mark(&made, self.layout.file_len(index), *torrent);
        }
        file.made();
        Ok(made)
    }

    /// Remembers what could not be read, if that is the disk's fault.
    pub(super) fn note_damage(&self, file: FileIndex, error: &StorageError) {
        if let (true, Some(code)) = (error.is_damage(), error.cause.raw_os_error()) {
            self.damage.lock().unwrap_or_else(PoisonError::into_inner).entry(file).or_insert(code);
        }
    }

    /// Files of which the disk could not give back something, as far as any core has seen, each with its first error.
    pub fn damage(&self) -> Vec<(FileIndex, StorageError)> {
        let error = |(file, code): (&FileIndex, &i32)| {
            let cause = io::Error::from_raw_os_error(*code);
            (*file, StorageError::new("read", self.display(*file), cause))
        };
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).iter().map(error).collect()
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
        let file = self.file(index);
        self.folder.display(&file.path_at(file.location()))
    }

    /// Where in a page a run of a piece begins best: as the most of it does in its file.
    pub fn skew(&self, piece: PieceIndex, begin: u32, len: u32) -> usize {
        let counts = |file| self.file(file).kind == FileKind::Regular;
        self.layout.skew(piece, begin, len, super::handle::PAGE as u32, counts) as usize
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
    /// files are made. `good_pieces` says how many pieces of a file are verified, `extent` how much of it will be written, and
    /// `is_left_out` whether that is only for the sake of others.
    ///
    /// # Errors
    /// When a file is longer than the torrent says, does not look like the torrent's at all, is marked as another one's, both a file
    /// and its part are there, or the kernel refuses.
    pub fn prepare(
        &self,
        torrent: InfoHash,
        good_pieces: impl Fn(FileIndex) -> u32,
        extent: impl Fn(FileIndex) -> Extent,
        is_left_out: impl Fn(FileIndex) -> bool,
    ) -> Result<(), StorageError> {
        let is_complete = |index| self.is_complete(index, good_pieces(index));
        let touched = |index: &FileIndex| {
            self.file(*index).kind == FileKind::Regular && extent(*index) != Extent::Nothing
        };
        let regular = || self.layout.files().filter(touched);
        // All is looked at before anything is changed.
        for index in regular() {
            self.examine(torrent, index, good_pieces(index), is_left_out(index))?;
        }
        // What files share with others is little.
        let whole = |index: &FileIndex| !is_complete(*index) && extent(*index) == Extent::Whole;
        self.check_room(regular().filter(whole))?;
        for (index, file) in self.regular() {
            file.sparse.store(extent(index) != Extent::Whole, Ordering::Release);
        }
        for index in regular() {
            let file = self.file(index);
            match file.location.get() {
                Location::Absent if self.layout.file_len(index) == 0 => {
                    self.folder.make_empty(&file.path, file.executable)?;
                    file.location.set(Location::Final(0));
                }
                Location::Final(_) if is_complete(index) => {}
                Location::Final(size) if self.keeps_name(index, size, is_left_out(index)) => {
                    file.is_ours.store(true, Ordering::Release);
                    file.in_place.store(true, Ordering::Release);
                }
                Location::Final(size) => {
                    file.is_ours.store(true, Ordering::Release);
                    self.folder.rename(&file.path, &file.part_path())?;
                    file.location.set(Location::Part(size));
                }
                _ => {}
            }
            if file.is_written() {
                let there = self.folder.open_to_write(&file.path_at(file.location()))?;
                mark(there, self.layout.file_len(index), torrent);
            }
        }
        // Nobody finishes what is empty.
        for path in self.folder.take_unsynced() {
            let fail = |cause| StorageError::new("sync", self.folder.display(&path), cause);
            let folder = self.folder.open_folder(&path)?;
            synced(rustix::fs::fsync(folder).map_err(io::Error::from)).map_err(fail)?;
        }
        self.writer.get_or_init(|| torrent);
        Ok(())
    }

    fn is_complete(&self, index: FileIndex, good_pieces: u32) -> bool {
        good_pieces as usize == self.layout.pieces_of(index).len()
    }

    /// Whether a file of this size is written under its own name, though it is not known to be complete. One that is left out may
    /// be whole: that its borders are not right may be for want of what lies beside it. As a part it would have no name until it
    /// is known to be.
    fn keeps_name(&self, index: FileIndex, size: u64, left_out: bool) -> bool {
        left_out && size == self.layout.file_len(index)
    }

    /// Refuses to write where somebody else's file is, or what is there cannot be told from one.
    fn examine(
        &self,
        torrent: InfoHash,
        index: FileIndex,
        good_pieces: u32,
        left_out: bool,
    ) -> Result<(), StorageError> {
        let refuse = |cause| Err(StorageError::because("download", self.display(index), cause));
        if self.is_longer(index) {
            return refuse("it is longer than the torrent says; move it away or cut it");
        }
        let file = self.file(index);
        let location = file.location.get();
        if location == Location::Absent || self.is_complete(index, good_pieces) {
            return Ok(());
        }
        if let Location::Final(size) = location {
            let keeps_name = self.keeps_name(index, size, left_out);
            // Whether a right piece would have shown that it is the torrent's. One of full length may be room that was made for it.
            let would_show =
                if keeps_name { self.has_own_piece(index) } else { size < self.layout.file_len(index) };
            if size > 0 && good_pieces == 0 && would_show {
                return refuse("a file of that name is there, and no piece of it is right; move it away");
            }
            if !keeps_name && self.folder.size(&file.part_path())?.is_some() {
                return refuse("it is not complete, and a .part of it is there too; remove one of the two");
            }
        }
        let there = self.folder.open_to_write(&file.path_at(location))?;
        let others = owner::of(there).filter(|owner| good_pieces == 0 && *owner != torrent.to_string());
        others.map_or(Ok(()), |other| {
            let why = format!("it is of torrent {other}, and no piece of it is right for this one; move it away, or take another folder");
            Err(StorageError::new("download", self.display(index), io::Error::other(why)))
        })
    }

    /// Whether some piece lies in the file alone: it would be right if the file were, whatever is beside it.
    fn has_own_piece(&self, index: FileIndex) -> bool {
        let pieces = self.layout.pieces_of(index).filter_map(|number| self.layout.piece(number));
        pieces.into_iter().any(|piece| {
            let mut spans = self.layout.spans(piece, 0, self.layout.piece_len(piece));
            spans.all(|span| span.file == index || self.file(span.file).kind != FileKind::Regular)
        })
    }

    /// Refuses files that the disk has no room for.
    fn check_room(&self, files: impl Iterator<Item = FileIndex>) -> Result<(), StorageError> {
        let room = self.folder.room()?;
        // A thousand small files take a thousand blocks.
        let block = room.map_or(1, |room| room.block);
        let mut wanted = 0u64;
        for index in files {
            let file = self.file(index);
            let there = match file.location() {
                Location::Absent => 0,
                location => self.folder.allocated(&file.path_at(location))?,
            };
            let whole = self.layout.file_len(index).next_multiple_of(block);
            wanted = wanted.saturating_add(whole.saturating_sub(there));
        }
        match room {
            Some(Room { bytes, .. }) if bytes < wanted => {
                let (wanted, free) = (wanted.div_ceil(1 << 20), bytes >> 20);
                let why = format!(
                    "the disk is full: {wanted} MiB are wanted and {free} MiB are free; make room and run the same command again"
                );
                Err(StorageError::new("download to", self.folder.name(), io::Error::other(why)))
            }
            _ => Ok(()),
        }
    }
}
