//! What the cores of one torrent share, and how they reach each other.
//!
//! Nothing here is touched for a block. A core that has news for the others rings their bells; what must arrive goes as a
//! [`Letter`] into a bounded mailbox.

use super::connection::Transfer;
use super::seats::Seats;
use super::{Assignment, Choices, Progress};
use crate::metainfo::{FileIndex, FileKind, PieceIndex, Torrent};
use crate::storage::{Access, CheckReport, Extent, Location, PieceQueue, StorageError, Store};
use crate::swarm::{Commons, Greeting, Handover, Priority, Tag};
use crate::wire::mse::Encryption;
use crate::wire::{Home, PeerId};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, mpsc, watch};

/// Letters that wait for all cores together. Most of them are blocks, of 16 KiB each; some bring a connection.
const MAILBOX: usize = 1024;

/// Something for one core from another.
pub(super) enum Letter {
    /// Another connection to the same peer has taken this one's place.
    Evict(Tag),
    /// Bad blocks of this piece came by that connection.
    Blame(Tag, PieceIndex),
    /// A block that you lack, and its bytes.
    HandIn(Handover, Vec<u8>),
    /// A peer that has connected to another core, and has its seat on yours.
    Seat(Box<Transfer>),
}

/// How the others reach a core.
struct Post {
    bell: Arc<Notify>,
    letters: mpsc::Sender<Letter>,
    /// What it has moved, as of a second ago at most; of pieces, all.
    progress: Mutex<Progress>,
}

/// What a core gets its mail by.
pub(super) struct Mail {
    /// Rings when there is news in the [`Commons`].
    pub(super) bell: Arc<Notify>,
    pub(super) letters: mpsc::Receiver<Letter>,
}

/// The cores of one torrent.
pub(super) struct Crew {
    pub(super) torrent: Arc<Torrent>,
    pub(super) store: Arc<Store>,
    pub(super) commons: Arc<Commons>,
    pub(super) id: PeerId,
    pub(super) greeting: Greeting,
    pub(super) download: bool,
    /// How connections are encrypted.
    pub(super) encryption: Encryption,
    pub(super) choices: Choices,
    /// Where peers connect to, and from where they are dialled.
    pub(super) home: Home,
    /// What fingerprints of blocks begin with: nobody outside can make two blocks that share one.
    pub(super) print_key: [u8; 16],
    /// Whether each core tells all that it counts.
    pub(super) snapshots: bool,
    /// The pieces to be checked before anything else, and cores that still do so.
    pub(super) queue: Arc<PieceQueue>,
    checking: AtomicUsize,
    /// Whether the check is over and what it found has been dealt with.
    ready: watch::Sender<bool>,
    /// Pieces of each file that are missing; where others are left out, those that are to come.
    file_left: Box<[AtomicU32]>,
    /// Files of which not all that is to come is on stable storage; or that do not have their own name yet.
    unfinished: AtomicU32,
    /// Somebody has told that all is there, or that it cannot be.
    settled: AtomicBool,
    posts: Box<[Post]>,
    /// Where peers sit.
    pub(super) seats: Arc<Seats>,
}

impl Post {
    /// Puts a letter into the mailbox. When it is full the letter is lost, and comes back.
    fn write(&self, letter: Letter) -> Result<(), Letter> {
        self.letters.try_send(letter).map_err(|error| error.into_inner())
    }
}

/// What found no room in the mailboxes of others.
#[derive(Debug, Default)]
pub(super) struct Unposted {
    letters: Cell<u64>,
    payload: Cell<u64>,
    blames: RefCell<Vec<(Tag, PieceIndex)>>,
}

impl Unposted {
    /// Counts a letter if it was lost. A block is asked for again, a twin is found out by the peer; but who has lied nobody
    /// finds out again, so that is kept.
    pub(super) fn note(&self, written: Result<(), Letter>) {
        let Err(lost) = written else { return };
        if let Letter::Blame(tag, piece) = lost
            && self.blames.borrow().len() < MAILBOX
        {
            return self.blames.borrow_mut().push((tag, piece));
        }
        let payload = if let Letter::HandIn(_, bytes) = lost { bytes.len() as u64 } else { 0 };
        self.letters.update(|letters| letters + 1);
        self.payload.update(|bytes| bytes + payload);
    }

    /// Takes out what is to be posted again.
    pub(super) fn take_blames(&self) -> Vec<(Tag, PieceIndex)> {
        self.blames.take()
    }

    /// Letters, and payload bytes in them.
    pub(super) fn count(&self) -> (u64, u64) {
        (self.letters.get(), self.payload.get())
    }
}

impl Crew {
    /// The crew of a torrent, with a core on each of these CPUs, and the mail of each core.
    pub(super) fn new(job: &Assignment, cpus: &[usize]) -> (Self, Vec<Mail>) {
        let (layout, cores) = (job.store.layout(), cpus.len());
        let (posts, mail): (Vec<Post>, Vec<Mail>) = (0..cores)
            .map(|_| {
                let bell = Arc::new(Notify::new());
                let (letters, inbox) = mpsc::channel((MAILBOX / cores).max(16));
                let post = Post { bell: Arc::clone(&bell), letters, progress: Mutex::default() };
                (post, Mail { bell, letters: inbox })
            })
            .unzip();
        let crew = Self {
            torrent: Arc::clone(&job.torrent),
            store: Arc::clone(&job.store),
            commons: Arc::new(Commons::of_selection(layout, job.choices.selection(&job.torrent), cores)),
            id: job.id,
            greeting: job.greeting.clone(),
            download: job.download,
            encryption: job.encryption,
            home: Home::new(job.listeners.first().and_then(|listener| listener.local_addr().ok())),
            choices: job.choices.clone(),
            print_key: fastrand::u128(..).to_le_bytes(),
            snapshots: job.snapshots,
            queue: Arc::new(PieceQueue::new(layout, cores)),
            checking: AtomicUsize::new(cores),
            ready: watch::Sender::new(false),
            file_left: layout.files().map(|_| AtomicU32::new(0)).collect(),
            unfinished: AtomicU32::new(0),
            settled: AtomicBool::new(false),
            posts: posts.into(),
            seats: Seats::new(cpus.iter().copied()),
        };
        (crew, mail)
    }

    /// Number of cores.
    pub(super) fn cores(&self) -> usize {
        self.posts.len()
    }

    // ---- the check ----

    /// A core has no more pieces to check. `true` for the last one: it goes on with [`Crew::prepare`].
    pub(super) fn has_checked(&self) -> bool {
        self.checking.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Deals with what the check has found. [`Crew::go_on`] comes next.
    ///
    /// # Errors
    /// When a file is in the way, the disk gives back nothing, or the kernel refuses.
    pub(super) async fn prepare(&self, access: &Access) -> Result<CheckReport, StorageError> {
        let layout = self.store.layout();
        let good: Vec<bool> = layout.pieces().map(|piece| self.commons.map.has(piece)).collect();
        let report = CheckReport::new(&self.store, &good);
        let is_left_out = |file| self.commons.selection.file(file) == Priority::Skip;
        let whole = layout.files().zip(&report.files).filter(|(_, found)| found.good);
        whole.for_each(|(file, _)| self.store.file(file).was_found_whole());
        for (_, error) in self.store.damage() {
            // It may be another thing than the disk that is broken: then nothing is to be changed.
            if report.good_pieces == 0 {
                return Err(error);
            }
            tracing::warn!("{error}: what could not be read counts as missing");
        }
        if self.download {
            let good_pieces = |file: FileIndex| report.files[file.as_usize()].good_pieces;
            self.store.prepare(self.torrent.info_hash, good_pieces, |file| self.extent(file), is_left_out)?;
        }
        for file in layout.files() {
            let (found, extent) = (&report.files[file.as_usize()], self.extent(file));
            let left = match extent {
                Extent::Shared => {
                    self.missing(file).filter(|piece| self.commons.selection.wants(*piece)).count() as u32
                }
                Extent::Whole | Extent::Nothing => found.pieces - found.good_pieces,
            };
            self.file_left[file.as_usize()].store(left, Ordering::Relaxed);
            if left > 0 && self.is_stored(file) && extent != Extent::Nothing {
                self.unfinished.fetch_add(1, Ordering::Relaxed);
            } else if self.download && is_left_out(file) {
                // Of one that is whole, the name is to be its own.
                let is_part = matches!(self.store.file(file).location(), Location::Part(_));
                if self.has_for_others(file) || left == 0 && is_part {
                    access.settle(file).await?;
                }
            } else if self.download && left == 0 {
                access.finish(file).await?;
            }
        }
        Ok(report)
    }

    /// Whether something of a file is had that is wanted for the sake of others.
    fn has_for_others(&self, file: FileIndex) -> bool {
        let layout = self.store.layout();
        let mut pieces = layout.pieces_of(file).filter_map(|number| layout.piece(number));
        pieces.any(|piece| self.commons.map.has(piece) && self.commons.selection.wants(piece))
    }

    fn missing(&self, file: FileIndex) -> impl Iterator<Item = PieceIndex> {
        let layout = self.store.layout();
        let pieces = layout.pieces_of(file).filter_map(|number| layout.piece(number));
        pieces.filter(|piece| !self.commons.map.has(*piece))
    }

    /// How much of a file will be written.
    fn extent(&self, file: FileIndex) -> Extent {
        let (layout, selection) = (self.store.layout(), &self.commons.selection);
        let (mut wanted, mut skipped) =
            (selection.file(file) > Priority::Skip && layout.file_len(file) == 0, false);
        for piece in self.missing(file) {
            wanted |= selection.wants(piece);
            skipped |= !selection.wants(piece);
        }
        match (wanted, skipped) {
            (true, true) => Extent::Shared,
            (false, true) => Extent::Nothing,
            (false, false) if layout.file_len(file) == 0 => Extent::Nothing,
            _ => Extent::Whole,
        }
    }

    /// The check is over, and told of: all cores go on. Whatever one of them tells comes after it.
    pub(super) fn go_on(&self) {
        self.ready.send_replace(true);
    }

    /// Waits until the check is over.
    pub(super) async fn prepared(&self) {
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn is_stored(&self, file: FileIndex) -> bool {
        self.torrent.files[file.as_usize()].kind == FileKind::Regular
    }

    // ---- the end ----

    /// A piece is had. Gives the files of which all is there now that is to come.
    pub(super) fn had(&self, piece: PieceIndex) -> Vec<FileIndex> {
        let layout = self.store.layout();
        let files = layout.spans(piece, 0, layout.piece_len(piece)).map(|span| span.file);
        let whole = files.filter(|file| {
            let left = self.file_left[file.as_usize()].fetch_sub(1, Ordering::AcqRel);
            left == 1 && self.is_stored(*file)
        });
        whole.collect()
    }

    /// Of a file all is on stable storage; if it is whole, under its own name.
    pub(super) fn has_finished_file(&self) {
        self.unfinished.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether everything is verified and on stable storage, and what is whole has its own name. `true` once.
    pub(super) fn is_newly_complete(&self) -> bool {
        let complete = self.commons.map.is_complete() && self.unfinished.load(Ordering::Acquire) == 0;
        complete && !self.settled.swap(true, Ordering::AcqRel)
    }

    /// The torrent has failed: it is not complete any more, whatever else goes well.
    pub(super) fn fail(&self) {
        self.settled.store(true, Ordering::Release);
    }

    // ---- progress ----

    /// Publishes what a core has moved.
    pub(super) fn publish(&self, core: usize, progress: Progress) {
        *self.posts[core].progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }

    /// Publishes what a core has moved; the number of its peers and their rates stay as they were told last.
    pub(super) fn publish_totals(&self, core: usize, totals: Progress) {
        let mut progress = self.posts[core].progress.lock().unwrap_or_else(PoisonError::into_inner);
        let Progress { peers, download_rate, upload_rate, .. } = *progress;
        *progress = Progress { peers, download_rate, upload_rate, ..totals };
    }

    /// What all cores have in common of where the torrent stands. Looks at every piece when some are not wanted.
    pub(super) fn standing(&self) -> Progress {
        Progress {
            left: self.bytes_left(),
            skipped: self.bytes_skipped(),
            pieces: self.store.layout().piece_count(),
            good_pieces: self.commons.map.have_count(),
            ..Progress::default()
        }
    }

    /// Where the torrent stands.
    pub(super) fn progress(&self) -> Progress {
        let mut sum = self.standing();
        for post in &self.posts {
            sum.add(&post.progress.lock().unwrap_or_else(PoisonError::into_inner));
        }
        sum
    }

    /// Bytes of the pieces that are wanted and missing.
    fn bytes_left(&self) -> u64 {
        let (layout, map) = (self.store.layout(), &self.commons.map);
        let last: Option<PieceIndex> = layout.pieces().next_back();
        let missing = u64::from(map.left());
        let short = last
            .filter(|last| !map.has(*last) && self.commons.selection.wants(*last))
            .map_or(0, |last| layout.piece_length() - layout.piece_len(last));
        (missing * u64::from(layout.piece_length())).saturating_sub(u64::from(short))
    }

    /// Bytes of the pieces that are neither there nor wanted.
    fn bytes_skipped(&self) -> u64 {
        let (layout, map, selection) = (self.store.layout(), &self.commons.map, &self.commons.selection);
        if selection.wanted() == layout.piece_count() {
            return 0;
        }
        let skipped = layout.pieces().filter(|piece| !selection.wants(*piece) && !map.has(*piece));
        skipped.map(|piece| u64::from(layout.piece_len(piece))).sum()
    }

    // ---- mail ----

    /// Tells all cores but one to look at what is new.
    pub(super) fn ring_others(&self, core: usize) {
        let others = self.posts.iter().enumerate().filter(|(other, _)| *other != core);
        others.into_iter().for_each(|(_, post)| post.bell.notify_one());
    }

    /// Room for a letter in a core's mailbox, if there is any.
    pub(super) fn reserve_letter(&self, core: usize) -> Option<mpsc::Permit<'_, Letter>> {
        self.posts[core].letters.try_reserve().ok()
    }

    /// Writes to a core. When its mailbox is full the letter is lost, and comes back.
    pub(super) fn write_to(&self, core: usize, letter: Letter) -> Result<(), Letter> {
        self.posts[core].write(letter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    #[test]
    fn letters_that_find_no_room_are_counted_with_what_is_in_them() {
        let (letters, mut inbox) = mpsc::channel(2);
        let post = Post { bell: Arc::default(), letters, progress: Mutex::default() };
        let layout = Layout::new(1 << 14, [1 << 14]).unwrap();
        let (piece, tag) = (layout.piece(0).unwrap(), Tag::numbered(7));
        let block = || {
            let handover = Handover { block: layout.nth_block(piece, 0), from: tag };
            Letter::HandIn(handover, vec![1; 1 << 14])
        };
        let unposted = Unposted::default();
        unposted.note(post.write(Letter::Evict(tag)));
        unposted.note(post.write(block()));
        assert_eq!(unposted.count(), (0, 0));
        unposted.note(post.write(Letter::Evict(tag)));
        unposted.note(post.write(block()));
        assert_eq!(unposted.count(), (2, 1 << 14));
        unposted.note(post.write(Letter::Blame(tag, piece)));
        assert_eq!((unposted.take_blames(), unposted.take_blames()), (vec![(tag, piece)], vec![]));
        assert!(inbox.try_recv().is_ok(), "the first has arrived");
        unposted.note(post.write(block()));
        assert_eq!(unposted.count(), (2, 1 << 14), "there is room again");
    }
}
