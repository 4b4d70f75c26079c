//! Hashing what is on disk, many pieces at once.

use super::{StorageError, Store};
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::PieceIndex;
use crate::ring::{self, Arena, SLAB_LEN};
use std::cell::RefCell;
use std::rc::Rc;

/// Pieces that are read at the same time.
const AT_ONCE: usize = 8;

/// The hash of each piece; none for a piece whose files are absent or too short.
pub type PieceHashes = Vec<Option<[u8; 20]>>;

/// Hashes all pieces, and calls `seen` for each as it is done, in no particular order.
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
    let readers: Vec<_> = (0..AT_ONCE.min(arena.free()))
        .map(|_| {
            let (store, arena) = (Rc::clone(store), arena.clone());
            let (pieces, seen) = (Rc::clone(&pieces), Rc::clone(&seen));
            ring::spawn(async move {
                loop {
                    let Some(piece) = pieces.borrow_mut().next() else { return Ok(()) };
                    let hash =
                        if store.may_hold(piece) { Some(hash(&store, &arena, piece).await?) } else { None };
                    (seen.borrow_mut())(piece, hash);
                }
            })
        })
        .collect();
    let mut result = Ok(());
    for reader in readers {
        result = result.and(reader.await.expect("a reader panicked"));
    }
    result
}

/// Hashes one piece, run by run.
async fn hash(store: &Store, arena: &Arena, piece: PieceIndex) -> Result<[u8; 20], StorageError> {
    let len = store.layout().piece_len(piece);
    let mut state = Sha1State::new();
    for begin in (0..len).step_by(SLAB_LEN) {
        let run = (len - begin).min(SLAB_LEN as u32);
        let slab = arena.take().expect("one free slab a reader");
        let slab = store.read(piece, begin, run, 0, slab).await?;
        advance(&mut [Job { state: &mut state, run: slab.bytes(0..run as usize) }]);
    }
    Ok(state.finish())
}

/// Compares what is on disk with the hashes of the torrent, and calls `seen` for each piece. A file that is missing
/// or too short makes its pieces bad; one that cannot be read is an error.
///
/// # Errors
/// The first file that cannot be opened or read.
pub async fn check(
    store: &Rc<Store>,
    arena: &Arena,
    expected: impl Fn(PieceIndex) -> [u8; 20] + 'static,
    mut seen: impl FnMut(PieceIndex, bool) + 'static,
) -> Result<(), StorageError> {
    hash_pieces(store, arena, move |piece, hash| seen(piece, hash == Some(expected(piece)))).await
}
