//! One core's way to a torrent's files: its open descriptors, and the moves of runs between slabs and files.

use super::aside::Aside;
use super::counts::{Counter, Counts};
use super::folder::synced;
use super::handle::Handle;
use super::open_files::OpenFiles;
use super::views::{Interest, Views};
use super::{Location, StorageError, Store};
use crate::metainfo::{FileIndex, FileKind, PieceIndex, Span};
use crate::ring::{Batches, Cached, Descriptors, File, FillingSlab, Place, Slab};
use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

/// The first and the longest pause before the system is asked again for a descriptor that it has refused.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Smaller files are read to be sent: a few system calls for each would be more than a copy of so many bytes.
const LEAST_CACHED: u64 = 16 * 1024;

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
}

/// Says, once in the life of the process, that what the page cache holds is kept from us, and what helps.
fn warn_of_withheld(name: &str) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "running at a higher CPU cost: the kernel tells what the page cache holds of {name} only to the file's owner and to those \
             who may write it; run seedring as the owner, or give it leave to write (`chown`, `chmod g+w`)"
        );
    });
}

/// See the module. Every core has one for each torrent.
pub struct Access {
    store: Arc<Store>,
    pub(super) open: RefCell<OpenFiles>,
    pub(super) aside: Aside,
    pub(super) views: RefCell<Views>,
    /// The file behind which it is looked next what has become of them.
    pub(super) looked: Cell<Option<FileIndex>>,
    /// What [`Store::writes`] said when the files were opened.
    writes: Cell<bool>,
    counter: Counter,
    /// What was hashed to check what is on disk.
    checked: Cell<Batches>,
    /// Times that a file had to wait for a descriptor.
    waits: Cell<u64>,
}

impl Access {
    /// Opens nothing yet. `cores`: how many share the torrent, and with it its descriptors.
    pub fn new(store: Arc<Store>, cores: usize) -> Self {
        let writes = Cell::new(store.writes());
        let open = RefCell::new(OpenFiles::new(cores));
        let views = RefCell::new(Views::new(Arc::clone(&store.views)));
        let (looked, waits, checked) = (Cell::new(None), Cell::new(0), Cell::default());
        let (aside, counter) = (Aside::default(), Counter::default());
        Self { store, open, aside, views, looked, writes, counter, checked, waits }
    }

    /// For a core with so many bytes of memory.
    pub fn for_memory(self, bytes: usize) -> Self {
        self.views.borrow_mut().fit(bytes);
        self
    }

    /// The files.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// How this core's operations went.
    pub fn counts(&self) -> Counts {
        self.counter.get()
    }

    /// Where they are counted.
    pub(super) fn counter(&self) -> &Counter {
        &self.counter
    }

    /// The batches of runs that this core has hashed to check what is on disk.
    pub fn checked(&self) -> Batches {
        self.checked.get()
    }

    /// One more, which was begun then.
    pub(super) fn count_checked(&self, begun: Instant, bytes: u64) {
        let mut checked = self.checked.get();
        checked.observe(begun.elapsed(), bytes);
        self.checked.set(checked);
    }

    /// How often a file had to wait because descriptors were short.
    pub fn waits(&self) -> u64 {
        self.waits.get()
    }

    /// Closes files that are open for later only, when another core waits for a place for one.
    pub fn give_way(&self) {
        if Descriptors::of_process().files.are_wanted() {
            self.open.borrow_mut().close_all();
        }
    }

    /// A place for a file. While there is none, files that are open for later only are closed. Whoever waits has no
    /// file open, so all who have one get on.
    pub(super) async fn place(&self) -> Place {
        let files = &Descriptors::of_process().files;
        loop {
            match files.try_take() {
                Some(place) => return place,
                None if self.open.borrow_mut().close_oldest() => {}
                None => break,
            }
        }
        self.count_wait();
        files.take().await
    }

    fn count_wait(&self) {
        self.waits.set(self.waits.get() + 1);
        Descriptors::of_process().warn_once();
    }

    /// Does what takes descriptors, again and again as long as the system refuses one: somebody else has taken what was
    /// left to us, for a time. Strangers make room meanwhile. There is no last try: nothing is wrong with the torrent or its
    /// disk, so to give up would end a download that goes on by itself once there is a descriptor. Each try is counted, the
    /// first one said aloud; one a second is no load; and whoever ends the program waits for what is left of this no longer
    /// than for a disk that does not answer (`session::run`).
    pub(super) async fn insist<T>(
        &self,
        act: impl Fn() -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut pause = PAUSES.0;
        loop {
            match act() {
                Err(error) if error.is_short_of_descriptors() => {
                    self.open.borrow_mut().close_all();
                    self.waits.set(self.waits.get() + 1);
                    Descriptors::of_process().count_refusal();
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
                other => return other,
            }
        }
    }

    pub(super) async fn open_to_write(&self, index: FileIndex) -> Result<Rc<Handle>, StorageError> {
        self.open(index, Purpose::Write).await
    }

    async fn open(&self, index: FileIndex, purpose: Purpose) -> Result<Rc<Handle>, StorageError> {
        if let Some(file) = self.opened(index) {
            return Ok(file);
        }
        let place = self.place().await;
        let opened = self.insist(|| self.open_anew(index, purpose)).await?;
        self.keep_open(index, opened, place)
    }

    /// The file, if it is open.
    pub(super) fn opened(&self, index: FileIndex) -> Option<Rc<Handle>> {
        let writes = self.store.writes();
        if self.writes.replace(writes) != writes {
            // What the check has opened is open for reading only.
            self.open.borrow_mut().close_all();
        }
        self.open.borrow_mut().get(index)
    }

    /// The file, opened for reading if that takes no waiting.
    fn open_now(&self, index: FileIndex) -> Option<Rc<Handle>> {
        self.opened(index).or_else(|| {
            let place = Descriptors::of_process().files.try_take()?;
            let opened = self.open_anew(index, Purpose::Read).ok()?;
            self.keep_open(index, opened, place).ok()
        })
    }

    /// Keeps a file open, unless it is another one than before.
    fn keep_open(
        &self,
        index: FileIndex,
        (fd, writable): (OwnedFd, bool),
        place: Place,
    ) -> Result<Rc<Handle>, StorageError> {
        let handle = Handle::new(fd, writable, place);
        let handle =
            handle.map_err(|cause| StorageError::new("look at", self.store.display(index), cause))?;
        let stored = self.store.file(index);
        let written = self.store.writes() && stored.is_written();
        if !stored.is_the_one(handle.id(), written) {
            let cause = "another file is in the place of the one that was checked";
            return Err(StorageError::because("use", self.store.display(index), cause));
        }
        self.assert_untouched(index, &handle)?;
        if handle.is_kept_from_us() {
            self.counter.withheld_file();
            warn_of_withheld(&self.store.display(index));
        }
        let file = Rc::new(handle);
        self.open.borrow_mut().insert(index, Rc::clone(&file));
        Ok(file)
    }

    /// Opens a file where it lies, even while another core gives it its own name. Says whether it may be written.
    fn open_anew(&self, index: FileIndex, purpose: Purpose) -> Result<(OwnedFd, bool), StorageError> {
        let (file, folder) = (self.store.file(index), &self.store.folder);
        let location = file.location();
        let path = file.path_at(location);
        let opened = match location {
            Location::Absent if purpose == Purpose::Write && self.store.writes() => {
                return self.store.make(index).map(|made| (made, true));
            }
            // Never made anew: when nothing has this name any more, it has its own by now.
            Location::Part(_) | Location::Final(_) if self.store.writes() && file.is_written() => {
                folder.open_to_write(&path).map(|fd| (fd, true))
            }
            _ => folder.open_to_read(&path).map(|fd| (fd, false)),
        };
        match opened {
            Err(error) if error.cause.kind() == io::ErrorKind::NotFound => {
                // Renamed since we looked, whether that has been said or not. If not, the first error is the right one.
                folder.open_to_read(&file.path).map(|fd| (fd, false)).map_err(|_| error)
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

    /// Reads `len` bytes from `begin` of a piece into the slab, from `offset` on. Pad files read as zeros. What is read
    /// for the second time stays in the page cache.
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
        let start = self.store.layout().piece_start(piece) + u64::from(begin);
        let keep = self.store.history.note(start, u64::from(len));
        self.read_spans(piece, begin..begin + len, offset, slab, keep).await
    }

    /// `len` bytes from `begin` of a piece as the page cache holds them, to be sent from there; `None` when it does not hold all
    /// of them, or they are of files that are so small that to read many at once costs less.
    pub fn cached(&self, piece: PieceIndex, begin: u32, len: u32, interest: Interest) -> Option<Vec<Cached>> {
        let layout = self.store.layout();
        let mut all = Vec::with_capacity(2);
        for Span { file: index, offset, len, .. } in layout.spans(piece, begin, len) {
            let is_worth_it = self.is_stored(index) && layout.file_len(index) >= LEAST_CACHED;
            let file = is_worth_it.then(|| self.open_now(index)).flatten()?;
            let mut wanted = offset..offset + u64::from(len);
            if !file.reaches(wanted.end) {
                return None;
            }
            while !wanted.is_empty() {
                let place = (index, &file, layout.file_len(index));
                let cached = self.views.borrow_mut().get(place, &wanted, interest)?;
                wanted.start += cached.len() as u64;
                all.push(cached);
            }
        }
        Some(all)
    }

    /// Whether the page cache holds all of `len` bytes from `begin` of a piece, whose files are open.
    pub fn is_cached(&self, piece: PieceIndex, begin: u32, len: u32) -> bool {
        self.store.layout().spans(piece, begin, len).all(|Span { file: index, offset, len, .. }| {
            let file = self.is_stored(index).then(|| self.opened(index)).flatten();
            file.is_some_and(|file| file.is_resident(offset..offset + u64::from(len)))
        })
    }

    /// Leaves so many bytes of this core's memory to what is mapped, and gives up what has no room any more, but for what is being sent;
    /// `false` when that is too much.
    pub fn map_within(&self, room: usize) -> bool {
        self.views.borrow_mut().leave(room)
    }

    /// Bytes of files that are mapped, by all cores.
    pub fn mapped(&self) -> usize {
        self.views.borrow().bytes()
    }

    /// Reads as [`Access::read`] does, but what will not be read again soon.
    ///
    /// # Errors
    /// When a file cannot be opened or read.
    pub(super) async fn read_once(
        &self,
        piece: PieceIndex,
        range: Range<u32>,
        slab: FillingSlab,
    ) -> Result<Slab, StorageError> {
        self.read_spans(piece, range, 0, slab, false).await
    }

    async fn read_spans(
        &self,
        piece: PieceIndex,
        range: Range<u32>,
        offset: usize,
        slab: FillingSlab,
        keep: bool,
    ) -> Result<Slab, StorageError> {
        let spans = self.spans(piece, range.start, range.end - range.start);
        let alone = spans.len() == 1;
        for span in spans {
            let at = offset + span.at as usize;
            let place = at..at + span.len as usize;
            if !self.is_stored(span.file) {
                slab.lease(place).expect("one span after the other").zero();
                continue;
            }
            let (file, from) = match self.find_aside(piece, range.start, &span).await? {
                Some(aside) => aside,
                None => (self.open(span.file, Purpose::Read).await?, span.offset),
            };
            let read = file.read(&slab, place, from, (alone, keep), &self.counter).await;
            if let Err(cause) = read {
                let error = StorageError::new("read", self.store.display(span.file), cause);
                self.store.note_damage(span.file, &error);
                return Err(error);
            }
        }
        Ok(slab.seal().unwrap_or_else(|_| unreachable!("all leases have ended")))
    }

    /// Whether nothing was ever written where this piece lies in parts, and it lies nowhere else: it reads as zeros.
    /// Space that was reserved is such, and a file system that keeps no account of it says it is none.
    ///
    /// # Errors
    /// When a file cannot be opened.
    pub(super) async fn is_hole(&self, piece: PieceIndex) -> Result<bool, StorageError> {
        for span in self.spans(piece, 0, self.store.layout().piece_len(piece)) {
            let file = self.store.file(span.file);
            if file.kind != FileKind::Regular {
                continue;
            }
            if !matches!(file.location(), Location::Part(_)) {
                return Ok(false);
            }
            let handle = self.open(span.file, Purpose::Read).await?;
            if !handle.is_hole(span.offset..span.offset + u64::from(span.len)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the first `len` bytes of the slab at `begin` of a piece. Pad files are not written; nor are, before all of the piece
    /// is [adopted](Self::adopt), files that keep their own name.
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
            if self.store.file(span.file).is_in_place() {
                self.put_aside(piece, begin, &span, slab).await?;
                continue;
            }
            let at = span.at as usize;
            let file = self.open_to_write(span.file).await?;
            let fail = |cause| StorageError::new("reserve room for", self.store.display(span.file), cause);
            if !self.store.file(span.file).is_sparse() {
                file.allocate(self.store.layout().file_len(span.file)).await.map_err(fail)?;
            }
            let written = file.write(slab, at..at + span.len as usize, span.offset, &self.counter).await;
            written.map_err(|cause| StorageError::new("write", self.store.display(span.file), cause))?;
        }
        Ok(())
    }

    /// What there is of a file that is left out may have been written by one that was killed before it was on stable storage:
    /// brings it there. What we may not write nobody like us has written.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn settle(&self, index: FileIndex) -> Result<(), StorageError> {
        let synced = match self.store.file(index).location() {
            Location::Absent => Ok(()),
            Location::Part(_) => self.finish(index).await,
            Location::Final(_) => {
                let open = self.open(index, Purpose::Read).await?;
                let fail = |cause| StorageError::new("sync", self.store.display(index), cause);
                open.file().sync_data().await.map_err(fail)
            }
        };
        synced.or_else(|error| if error.is_denied() { Ok(()) } else { Err(error) })
    }

    /// All of the file that is to come is verified and written, by whatever cores: brings it to stable storage and gives it its own
    /// name, if all of it was to be written. Only one core may do this. Descriptors that others have of it stay good.
    ///
    /// # Errors
    /// When the kernel refuses one of the steps; the file is then still a part.
    pub async fn finish(&self, index: FileIndex) -> Result<(), StorageError> {
        let file = self.store.file(index);
        if !file.is_written() {
            return Ok(());
        }
        let path = file.path_at(file.location());
        let fail = |cause| StorageError::new("sync", self.store.folder.display(&path), cause);
        let open = self.open_to_write(index).await?;
        if let Err(cause) = open.file().sync_data().await {
            // What the disk has not taken may stay in memory as if it had: who checks it next is to see what there is.
            open.forget();
            return Err(fail(cause));
        }
        drop(open);
        if file.is_in_place() {
            return Ok(());
        }
        let _place = self.place().await;
        let folder = if file.is_sparse() {
            self.insist(|| self.store.folder.open_folder(&path[..path.len() - 1])).await?
        } else {
            let folder = self.insist(|| self.store.folder.rename(&path, &file.path)).await?;
            file.finished(self.store.layout().file_len(index));
            self.open.borrow_mut().close(index);
            folder
        };
        synced(File::new(folder).sync_data().await).map_err(fail)?;
        for made_in in self.store.folder.take_unsynced() {
            let folder = self.insist(|| self.store.folder.open_folder(&made_in)).await?;
            synced(File::new(folder).sync_data().await).map_err(fail)?;
        }
        Ok(())
    }
}
