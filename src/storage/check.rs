//! Hashing what is on disk, many pieces at once.

use super::queue::Stretch;
use super::{Access, PieceQueue, StorageError};
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::{PieceIndex, Torrent};
use crate::ring::{self, Arena, SLAB_LEN, Slab};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Pieces that are read at the same time, and hashed side by side.
const AT_ONCE: usize = 16;

/// Hashes pieces of the queue until it has none left, and calls `seen` for each as it is done, in no particular order;
/// with no hash for a piece whose files are absent or too short. Cores that share the queue share the work.
///
/// # Errors
/// The first file that cannot be opened or read. The queue is closed then, so the other cores end too.
pub async fn hash_pieces(
    access: &Rc<Access>,
    arena: &Arena,
    queue: &Arc<PieceQueue>,
    seen: impl FnMut(PieceIndex, Option<[u8; 20]>) + 'static,
) -> Result<(), StorageError> {
    let stretch = Rc::new(RefCell::new(Stretch::new(queue)));
    let seen = Rc::new(RefCell::new(seen));
    let count = AT_ONCE.min(arena.free());
    let bench = Rc::new(Bench { readers: Cell::new(count), ..Bench::default() });
    let reader = || {
        let (access, arena, bench) = (Rc::clone(access), arena.clone(), Rc::clone(&bench));
        let (stretch, seen, queue) = (Rc::clone(&stretch), Rc::clone(&seen), Arc::clone(queue));
        ring::spawn(async move {
            let _seat = Seat(&bench);
            loop {
                let Some(piece) = stretch.borrow_mut().next() else { return Ok(()) };
                let hash = match access.store().may_hold(piece) {
                    true => hash(&access, &arena, &bench, piece).await.inspect_err(|_| queue.close())?,
                    false => None,
                };
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
    access: &Access,
    arena: &Arena,
    bench: &Bench,
    piece: PieceIndex,
) -> Result<Option<[u8; 20]>, StorageError> {
    let len = access.store().layout().piece_len(piece);
    let mut state = Sha1State::new();
    for begin in (0..len).step_by(SLAB_LEN) {
        let run = (len - begin).min(SLAB_LEN as u32);
        let slab = arena.take().expect("one free slab a reader");
        let slab = access.read(piece, begin, run, 0, slab).await?;
        state = bench.advance(state, slab, run as usize).await;
    }
    Ok(Some(state.finish()))
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
        let jobs = batch.iter_mut().map(|one| Job { state: &mut one.state, run: one.slab.bytes(0..one.len) });
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

/// Compares pieces of the queue with the hashes of the torrent until it has none left, and calls `seen` with the number
/// of pieces that all cores have done. A file that is missing or too short makes its pieces bad; one that cannot be read is
/// an error. Gives the good pieces among those that this core took, in no particular order; those of all cores make the
/// [`CheckReport`](super::CheckReport).
///
/// # Errors
/// The first file that cannot be opened or read. The queue is closed then, so the other cores end too.
pub async fn check(
    access: &Rc<Access>,
    arena: &Arena,
    torrent: &Arc<Torrent>,
    queue: &Arc<PieceQueue>,
    mut seen: impl FnMut(u32) + 'static,
) -> Result<Vec<PieceIndex>, StorageError> {
    let good = Rc::new(RefCell::new(Vec::new()));
    let (found, torrent, counted) = (Rc::clone(&good), Arc::clone(torrent), Arc::clone(queue));
    let each = move |piece: PieceIndex, hash: Option<[u8; 20]>| {
        if hash == Some(torrent.piece_hash(piece)) {
            found.borrow_mut().push(piece);
        }
        seen(counted.count_done());
    };
    hash_pieces(access, arena, queue, each).await?;
    Ok(good.take())
}
