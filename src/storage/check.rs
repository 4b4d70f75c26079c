//! Hashing what is on disk, many pieces at once.

use super::queue::Stretch;
use super::{Access, PieceQueue, StorageError};
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::{PieceIndex, Torrent};
use crate::ring::{self, Arena, SLAB_LEN, Slab};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Runs that are hashed side by side: of one piece each, or of several short ones.
const AT_ONCE: usize = 16;
/// Runs of a piece that are read at the same time, where there is memory: a disk that has to move its head to each piece then has
/// more to read there.
const AHEAD: usize = 4;

/// Hashes pieces of the queue until it has none left, and calls `seen` for each as it is done, in no particular order;
/// with no hash for a piece whose files are absent or too short. What was never written into a part is not read. Cores that share the queue share the work.
///
/// # Errors
/// The first file that cannot be opened or read. The queue is closed then, so the other cores end too.
pub async fn hash_pieces(
    access: &Rc<Access>,
    arena: &Arena,
    queue: &Arc<PieceQueue>,
    seen: impl FnMut(PieceIndex, Option<[u8; 20]>) + 'static,
) -> Result<(), StorageError> {
    hash(access, arena, queue, seen, Damage::Ends).await
}

/// What comes of bytes that the disk cannot give back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Damage {
    /// They are an error like others.
    Ends,
    /// Their piece has no hash, and others may have one.
    IsSpared,
}

/// The same.
async fn hash(
    access: &Rc<Access>,
    arena: &Arena,
    queue: &Arc<PieceQueue>,
    seen: impl FnMut(PieceIndex, Option<[u8; 20]>) + 'static,
    damage: Damage,
) -> Result<(), StorageError> {
    let (pieces, seen) = (RefCell::new(Stretch::new(queue)), RefCell::new(seen));
    // A run that is hashed and one or more that are read, for each reader; in half of the memory, for the arena keeps what it has,
    // and the other half is for files to be mapped. Of few slabs there are too few for that.
    let count = AT_ONCE.min(arena.free().div_ceil(4)).min(arena.free() / 2).max(1);
    let ahead = (arena.free() / 2 / count).saturating_sub(1).clamp(1, AHEAD);
    let bench = Bench { access: Rc::clone(access), readers: Cell::new(count), waiting: RefCell::default() };
    let job = Rc::new(Check {
        access: Rc::clone(access),
        arena: arena.clone(),
        ahead,
        bench,
        pieces,
        damage,
        in_a_run: (SLAB_LEN as u32 / access.store().layout().piece_length()).max(1),
        seen,
        zeros: Cell::default(),
    });
    let readers =
        Readers((0..count).map(|_| ring::spawn(reader(Rc::clone(&job), Arc::clone(queue)))).collect());
    readers.ended().await
}

/// What the readers of one core share.
struct Check<F> {
    access: Rc<Access>,
    arena: Arena,
    /// Runs that one reader may be reading.
    ahead: usize,
    bench: Bench,
    pieces: RefCell<Stretch>,
    damage: Damage,
    /// Pieces that a run holds; 1 when it holds none.
    in_a_run: u32,
    seen: RefCell<F>,
    /// A length in bytes, and the hash of so many zeros.
    zeros: Cell<(u32, [u8; 20])>,
}

/// The tasks of one core; they end when nobody waits for them any more.
struct Readers(Vec<JoinHandle<Result<(), StorageError>>>);

impl Readers {
    async fn ended(mut self) -> Result<(), StorageError> {
        let mut result = Ok(());
        for reader in &mut self.0 {
            result = result.and(reader.await.expect("a reader panicked"));
        }
        result
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// Pieces that follow each other and are read together: those that one run holds, or a single longer one.
struct Group {
    pieces: Vec<PieceIndex>,
    /// Bytes of all.
    len: u32,
}

/// Pieces that a reader has taken on.
#[derive(Default)]
struct Taken {
    pieces: VecDeque<PieceIndex>,
    /// The first so many are read each alone: something of them cannot be read.
    alone: usize,
}

/// Reads pieces and brings their runs to the bench.
async fn reader<F: FnMut(PieceIndex, Option<[u8; 20]>) + 'static>(
    job: Rc<Check<F>>,
    queue: Arc<PieceQueue>,
) -> Result<(), StorageError> {
    let _seat = Seat(&job.bench);
    job.work().await.inspect_err(|_| queue.close())
}

/// A group on its way from the disk.
struct Coming {
    group: Group,
    /// Bytes of it whose reads have begun.
    begun: u32,
    /// Its runs that are being read, in order.
    reading: VecDeque<JoinHandle<Result<Slab, StorageError>>>,
}

impl<F: FnMut(PieceIndex, Option<[u8; 20]>) + 'static> Check<F> {
    fn piece_len(&self, piece: PieceIndex) -> u32 {
        self.access.store().layout().piece_len(piece)
    }

    /// What a reader does: the next pieces are being read while some are hashed.
    async fn work(&self) -> Result<(), StorageError> {
        let mut taken = Taken::default();
        let mut next = self.begin(&mut taken).await?;
        'groups: while let Some(mut coming) = next.take() {
            let mut states: Vec<Sha1State> = coming.group.pieces.iter().map(|_| Sha1State::new()).collect();
            let mut begin = 0;
            while let Some(reading) = coming.reading.pop_front() {
                let slab = match reading.await.expect("a read panicked") {
                    Ok(slab) => slab,
                    Err(error) if error.is_damage() && self.damage == Damage::IsSpared => {
                        self.spare(coming, &mut taken).await;
                        next = self.begin(&mut taken).await?;
                        continue 'groups;
                    }
                    Err(error) => return Err(error),
                };
                let run = (coming.group.len - begin).min(SLAB_LEN as u32);
                begin += run;
                self.read_on(&mut coming);
                if begin == coming.group.len {
                    next = self.begin(&mut taken).await?;
                }
                let parts = self.parts(&coming.group, states, run as usize);
                states = self.bench.advance(slab, parts).await;
            }
            for (piece, state) in coming.group.pieces.into_iter().zip(states) {
                (self.seen.borrow_mut())(piece, Some(state.finish()));
            }
        }
        Ok(())
    }

    /// Something of these pieces cannot be read: of which, each alone will tell.
    async fn spare(&self, coming: Coming, taken: &mut Taken) {
        for reading in coming.reading {
            // Their memory is free then.
            let _ = reading.await;
        }
        match coming.group.pieces[..] {
            [piece] => (self.seen.borrow_mut())(piece, None),
            ref pieces => {
                taken.alone = pieces.len();
                pieces.iter().rev().for_each(|piece| taken.pieces.push_front(*piece));
            }
        }
    }

    /// Starts to read the next pieces that are there, from those that this reader has `taken` on; those between are done.
    async fn begin(&self, taken: &mut Taken) -> Result<Option<Coming>, StorageError> {
        let mut group = Group { pieces: Vec::new(), len: 0 };
        loop {
            if taken.pieces.is_empty() && group.pieces.is_empty() {
                taken.pieces.extend(self.pieces.borrow_mut().take(self.in_a_run));
            }
            let Some(piece) = taken.pieces.pop_front() else { break };
            let is_alone = taken.alone > 0;
            taken.alone = taken.alone.saturating_sub(1);
            match self.without_reading(piece).await? {
                None => {
                    group.len += self.piece_len(piece);
                    group.pieces.push(piece);
                    if is_alone {
                        break;
                    }
                }
                Some(hash) => {
                    (self.seen.borrow_mut())(piece, hash);
                    if !group.pieces.is_empty() {
                        break;
                    }
                }
            }
        }
        Ok((!group.pieces.is_empty()).then(|| {
            let mut coming = Coming { group, begun: 0, reading: VecDeque::new() };
            self.read_on(&mut coming);
            coming
        }))
    }

    /// The hash of a piece that need not be read for it, or that it has none: something is missing.
    async fn without_reading(&self, piece: PieceIndex) -> Result<Option<Option<[u8; 20]>>, StorageError> {
        if !self.access.store().may_hold(piece) {
            return Ok(Some(None));
        }
        let hole = self.access.is_hole(piece).await?;
        Ok(hole.then(|| Some(self.hash_of_zeros(self.piece_len(piece)))))
    }

    /// Starts to read the next runs of a group, as many as there is memory for, when not many are left: several that begin together
    /// are one operation for the disk.
    fn read_on(&self, Coming { group, begun, reading }: &mut Coming) {
        if reading.len() > self.ahead / 2 {
            return;
        }
        while *begun < group.len && reading.len() < self.ahead {
            let (first, start) = (group.pieces[0], *begun);
            *begun = group.len.min(start + SLAB_LEN as u32);
            let range = start..*begun;
            let skew = self.access.store().skew(first, start, *begun - start);
            let slab = self.arena.take_at(skew).expect("each reader has its share of slabs");
            let access = Rc::clone(&self.access);
            reading.push_back(ring::spawn(async move { access.read_once(first, range, slab).await }));
        }
    }

    /// Which bytes of a run of that length are whose.
    fn parts(&self, group: &Group, states: Vec<Sha1State>, run: usize) -> Vec<Part> {
        let mut begin = 0;
        let part = |(state, piece): (Sha1State, &PieceIndex)| {
            let end = (begin + self.piece_len(*piece) as usize).min(run);
            Part { state, range: std::mem::replace(&mut begin, end)..end }
        };
        states.into_iter().zip(&group.pieces).map(part).collect()
    }

    fn hash_of_zeros(&self, len: u32) -> [u8; 20] {
        if self.zeros.get().0 != len {
            let (zeros, mut state) = ([0; 64 * 1024], Sha1State::new());
            for begin in (0..len as usize).step_by(zeros.len()) {
                let run = &zeros[..zeros.len().min(len as usize - begin)];
                advance(&mut [Job::new(&mut state, run)]);
            }
            self.zeros.set((len, state.finish()));
        }
        self.zeros.get().1
    }
}

/// Bytes of a run that a state is to be moved on by.
struct Part {
    state: Sha1State,
    range: Range<usize>,
}

/// A run that waits to be hashed, and who waits for it.
struct Waiting {
    slab: Slab,
    parts: Vec<Part>,
    done: oneshot::Sender<Vec<Sha1State>>,
}

/// Where readers bring their runs: when all have brought one, they are hashed side by side.
struct Bench {
    /// Counts what is hashed.
    access: Rc<Access>,
    /// Readers still at work.
    readers: Cell<usize>,
    waiting: RefCell<Vec<Waiting>>,
}

impl Bench {
    /// Moves the states on by their parts of the slab.
    async fn advance(&self, slab: Slab, parts: Vec<Part>) -> Vec<Sha1State> {
        let (done, moved_on) = oneshot::channel();
        self.waiting.borrow_mut().push(Waiting { slab, parts, done });
        self.hash_if_all_wait();
        moved_on.await.expect("whoever hashes answers")
    }

    fn hash_if_all_wait(&self) {
        if self.waiting.borrow().len() < self.readers.get() {
            return;
        }
        let mut batch = self.waiting.take();
        if batch.is_empty() {
            return;
        }
        let jobs = batch.iter_mut().flat_map(|Waiting { slab, parts, .. }| {
            parts.iter_mut().map(|part| Job::new(&mut part.state, slab.bytes(part.range.clone())))
        });
        let begun = Instant::now();
        advance(&mut jobs.collect::<Vec<_>>());
        let lens = batch.iter().flat_map(|one| &one.parts).map(|part| part.range.len() as u64);
        self.access.count_checked(begun, lens.sum());
        for Waiting { parts, done, .. } in batch {
            // Nobody listens when the check was given up.
            let _ = done.send(parts.into_iter().map(|part| part.state).collect());
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
/// of pieces that all cores have done. A file that is missing or too short makes its pieces bad; so does, where it lies, what
/// the disk cannot give back ([`Store::damage`](super::Store::damage)). Gives the good pieces among those that this core took, in no particular order; those of all cores make the
/// [`CheckReport`](super::CheckReport).
///
/// # Errors
/// The first file that cannot be opened, or is cut meanwhile. The queue is closed then, so the other cores end too.
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
    hash(access, arena, queue, each, Damage::IsSpared).await?;
    Ok(good.take())
}
