//! Work on files alone: checking them against a torrent, making a torrent of them.

use super::SessionError;
use crate::metainfo::{
    Content, FileEntry, FileKind, Layout, PieceIndex, Torrent, TorrentBuilder, default_piece_length,
};
use crate::ring;
use crate::storage::{self, CheckReport, Folder, StorageError, Store};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Payload memory for reading (bytes): a slab for each read under way, and some.
const ARENA_LEN: usize = 16 * 1024 * 1024;

/// Runs work on a ring of its own, on a thread of its own, so that it may be called from anywhere. What the work
/// sends is passed to `watch`.
fn on_a_ring<T: Send, E: Into<SessionError> + Send>(
    work: impl AsyncFnOnce(ring::Core, mpsc::Sender<u32>) -> Result<T, E> + Send,
    mut watch: impl FnMut(u32) + Send,
) -> Result<T, SessionError> {
    let (sender, mut seen) = mpsc::channel(64);
    std::thread::scope(|scope| {
        let worker =
            scope.spawn(|| ring::run(ring::Config::new(ARENA_LEN), async |core| work(core, sender).await));
        while let Some(done) = seen.blocking_recv() {
            watch(done);
        }
        worker.join().expect("the worker panicked")?.map_err(Into::into)
    })
}

/// Compares the files in a folder with a torrent. Only reads. `watch` gets the number of pieces done, and of all.
///
/// # Errors
/// When a file that is there cannot be read, or the kernel refuses a ring.
pub fn check(
    torrent: &Torrent,
    folder: &Path,
    mut watch: impl FnMut(u32, u32) + Send,
) -> Result<CheckReport, SessionError> {
    let torrent = Arc::new(torrent.clone());
    let layout = Arc::new(torrent.layout.clone());
    let pieces = layout.piece_count();
    let work = async |core: ring::Core, seen: mpsc::Sender<u32>| -> Result<_, StorageError> {
        let store = Rc::new(Store::new(Folder::open(folder, false)?, layout, &torrent.files)?);
        let tell = move |done| _ = seen.try_send(done);
        Ok(storage::check(&store, &core.arena, &torrent, tell).await?.0)
    };
    on_a_ring(work, |done| watch(done, pieces))
}

/// What goes into a new torrent beside the files.
#[derive(Clone, Debug, Default)]
pub struct CreateOptions {
    /// Length of a piece in bytes; chosen from the size when not given.
    pub piece_length: Option<u32>,
    /// Announce URLs, in tiers.
    pub trackers: Vec<Vec<String>>,
    /// Whether peers may come from trackers only (BEP 27).
    pub private: bool,
    /// A word to those who read it.
    pub comment: Option<String>,
}

/// Makes a torrent of a file or folder. `watch` gets the number of pieces done, and of all.
///
/// # Errors
/// When something cannot be read or has a name that others could not use, when there are no bytes at all, or the
/// kernel refuses a ring.
pub fn create(
    path: &Path,
    options: &CreateOptions,
    mut watch: impl FnMut(u32, u32) + Send,
) -> Result<(Vec<u8>, Torrent), SessionError> {
    let found = storage::scan(path)?;
    let total = found.files.iter().map(|(_, len)| len).sum();
    let piece_length = options.piece_length.unwrap_or_else(|| default_piece_length(total));
    let lengths = found.files.iter().map(|(_, len)| *len);
    let layout = Layout::new(u64::from(piece_length), lengths);
    let layout = Arc::new(layout.map_err(|error| SessionError::Failed(error.to_string()))?);
    let real =
        path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    let files: Vec<FileEntry> =
        found.files.iter().map(|(path, length)| entry(&found.name, path, *length)).collect();
    let pieces = layout.piece_count();
    let work = async |core: ring::Core, seen: mpsc::Sender<u32>| -> Result<_, StorageError> {
        let store = Rc::new(Store::new(Folder::open(&real, false)?, layout, &files)?);
        hash_all(&store, &core.arena, seen).await
    };
    let hashes = on_a_ring(work, |done| watch(done, pieces))?;
    let gone = || SessionError::Failed(format!("{} has become shorter while it was read", path.display()));
    let builder = TorrentBuilder {
        name: found.name,
        content: if found.is_folder { Content::Multi(found.files) } else { Content::Single(total) },
        piece_length,
        pieces: hashes.into_iter().collect::<Option<_>>().ok_or_else(gone)?,
        trackers: options.trackers.clone(),
        private: options.private,
        comment: options.comment.clone(),
        created_by: Some(concat!("seedring/", env!("CARGO_PKG_VERSION")).into()),
        creation_date: None,
    };
    Ok(builder.build()?)
}

fn entry(name: &str, path: &[String], length: u64) -> FileEntry {
    let path = std::iter::once(name.to_owned()).chain(path.iter().cloned()).collect();
    FileEntry { path, length, kind: FileKind::Regular, executable: false }
}

async fn hash_all(
    store: &Rc<Store>,
    arena: &ring::Arena,
    seen: mpsc::Sender<u32>,
) -> Result<Vec<Option<[u8; 20]>>, StorageError> {
    let hashes = Rc::new(RefCell::new(vec![None; store.layout().piece_count() as usize]));
    let found = Rc::clone(&hashes);
    let mut done = 0;
    let each = move |piece: PieceIndex, hash| {
        found.borrow_mut()[piece.as_usize()] = hash;
        done += 1;
        let _ = seen.try_send(done);
    };
    storage::hash_pieces(store, arena, each).await?;
    Ok(hashes.take())
}
