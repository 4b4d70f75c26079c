//! Hashing what is on disk, many pieces at once.

use super::{Location, StorageError, Store};
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::{FileIndex, FileKind, PieceIndex, Torrent};
use crate::ring::{self, Arena, SLAB_LEN, Slab};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Pieces that are read at the same time, and hashed side by side.
const AT_ONCE: usize = 16;

/// What a check has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Number of pieces of the torrent.
    pub pieces: u32,
    /// Pieces that are there and right.
    pub good_pieces: u32,
    /// Their bytes.
    pub good_bytes: u64,
    /// The other pieces, in order.
    pub bad_pieces: Vec<u32>,
    /// One a file of the torrent, in its order.
    pub files: Vec<FileReport>,
}

/// What a check has found of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// Number of pieces that hold bytes of it.
    pub pieces: u32,
    /// Those of them that are right.
    pub good_pieces: u32,
    /// Whether it is there under its own name, has the right length, and all its pieces are right.
    pub good: bool,
}

impl CheckReport {
    /// Whether everything is there.
    pub fn is_good(&self) -> bool {
        self.bad_pieces.is_empty() && self.files.iter().all(|file| file.good)
    }

    fn new(store: &Store, good: &[bool]) -> Self {
        let layout = store.layout();
        let is_good = |piece: &PieceIndex| good[piece.as_usize()];
        let good_pieces: Vec<PieceIndex> = layout.pieces().filter(is_good).collect();
        Self {
            pieces: layout.piece_count(),
            good_pieces: good_pieces.len() as u32,
            good_bytes: good_pieces.iter().map(|piece| u64::from(layout.piece_len(*piece))).sum(),
            bad_pieces: layout.pieces().filter(|piece| !is_good(piece)).map(PieceIndex::get).collect(),
            files: layout.files().map(|file| FileReport::new(store, file, good)).collect(),
        }
    }
}

impl FileReport {
    fn new(store: &Store, file: FileIndex, good: &[bool]) -> Self {
        let pieces = store.layout().pieces_of(file);
        let good_pieces = pieces.clone().filter(|piece| good[*piece as usize]).count() as u32;
        let pieces = pieces.len() as u32;
        let whole = Location::Final(store.layout().file_len(file));
        let there = store.file(file).kind != FileKind::Regular || store.file(file).location() == whole;
        Self { pieces, good_pieces, good: there && pieces == good_pieces }
    }
}

/// Hashes all pieces, and calls `seen` for each as it is done, in no particular order; with no hash for a piece whose
/// files are absent or too short.
///
/// # Errors
/// The first file that cannot be opened or read.
pub async fn hash_pieces(
    store: &Rc<Store>,
    arena: &Arena,
    seen: impl FnMut(PieceIndex, Option<[u8; 20]>) + 'static,
) -> Result<(), StorageError> {
    let pieces = Rc::new(RefCell::new(store.layout().pieces()));
    let seen = Rc::new(RefCell::new(seen));
    let count = AT_ONCE.min(arena.free());
    let bench = Rc::new(Bench { readers: Cell::new(count), ..Bench::default() });
    let reader = || {
        let (store, arena, bench) = (Rc::clone(store), arena.clone(), Rc::clone(&bench));
        let (pieces, seen) = (Rc::clone(&pieces), Rc::clone(&seen));
        ring::spawn(async move {
            let _seat = Seat(&bench);
            loop {
                let Some(piece) = pieces.borrow_mut().next() else { return Ok(()) };
                let may_hold = store.may_hold(piece);
                let hash = if may_hold { Some(hash(&store, &arena, &bench, piece).await?) } else { None };
                (seen.borrow_mut())(piece, hash);
            }
        })
    };
    let readers: Vec<_> = (0..count).map(|_| reader()).collect();
    let mut result = Ok(());
    for reader in readers {
        result = result.and(reader.await.expect("a reader panicked"));
    }
    result
}

/// Hashes one piece, run by run.
async fn hash(
    store: &Store,
    arena: &Arena,
    bench: &Bench,
    piece: PieceIndex,
) -> Result<[u8; 20], StorageError> {
    let len = store.layout().piece_len(piece);
    let mut state = Sha1State::new();
    for begin in (0..len).step_by(SLAB_LEN) {
        let run = (len - begin).min(SLAB_LEN as u32);
        let slab = arena.take().expect("one free slab a reader");
        let slab = store.read(piece, begin, run, 0, slab).await?;
        state = bench.advance(state, slab, run as usize).await;
    }
    Ok(state.finish())
}

/// A run that waits to be hashed, and who waits for it.
struct Waiting {
    state: Sha1State,
    slab: Slab,
    len: usize,
    done: oneshot::Sender<Sha1State>,
}

/// Where readers bring their runs: when all have brought one, they are hashed side by side.
#[derive(Default)]
struct Bench {
    /// Readers still at work.
    readers: Cell<usize>,
    waiting: RefCell<Vec<Waiting>>,
}

impl Bench {
    /// Moves the state on by the first `len` bytes of the slab.
    async fn advance(&self, state: Sha1State, slab: Slab, len: usize) -> Sha1State {
        let (done, moved_on) = oneshot::channel();
        self.waiting.borrow_mut().push(Waiting { state, slab, len, done });
        self.hash_if_all_wait();
        moved_on.await.expect("whoever hashes answers")
    }

    fn hash_if_all_wait(&self) {
        if self.waiting.borrow().len() < self.readers.get() {
            return;
        }
        let mut batch = self.waiting.take();
        let jobs = batch.iter_mut().map(|one| Job::new(&mut one.state, one.slab.bytes(0..one.len)));
        advance(&mut jobs.collect::<Vec<_>>());
        for Waiting { state, done, .. } in batch {
            // Nobody listens when the check was given up.
            let _ = done.send(state);
        }
    }
}

/// A reader's seat at the bench: when it leaves, the others must not wait for it.
struct Seat<'a>(&'a Bench);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.readers.set(self.0.readers.get() - 1);
        self.0.hash_if_all_wait();
    }
}

/// Compares what is on disk with the hashes of the torrent, and calls `seen` with the number of pieces done. A file
/// that is missing or too short makes its pieces bad; one that cannot be read is an error. Gives the report, and
/// for each piece whether it is good.
///
/// # Errors
/// The first file that cannot be opened or read.
pub async fn check(
    store: &Rc<Store>,
    arena: &Arena,
    torrent: &Arc<Torrent>,
    mut seen: impl FnMut(u32) + 'static,
) -> Result<(CheckReport, Vec<bool>), StorageError> {
    let good = Rc::new(RefCell::new(vec![false; store.layout().piece_count() as usize]));
    let (found, torrent) = (Rc::clone(&good), Arc::clone(torrent));
    let mut done = 0;
    let each = move |piece: PieceIndex, hash: Option<[u8; 20]>| {
        found.borrow_mut()[piece.as_usize()] = hash == Some(torrent.piece_hash(piece));
        done += 1;
        seen(done);
    };
    hash_pieces(store, arena, each).await?;
    let good = good.take();
    Ok((CheckReport::new(store, &good), good))
}
