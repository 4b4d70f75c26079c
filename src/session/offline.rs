//! Work on files alone: checking them against a torrent, making a torrent of them.

use super::SessionError;
use crate::metainfo::{
    BuildError, Content, FileEntry, FileKind, Layout, LayoutError, PieceIndex, Torrent, TorrentBuilder,
    TorrentError, default_piece_length,
};
use crate::ring;
use crate::storage::{self, Access, CheckReport, Folder, Found, PieceQueue, StorageError, Store};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Payload memory of a core for reading (bytes), where there is enough: a check uses less than half of it.
const ARENA_LEN: u64 = 48 * 1024 * 1024;
/// With less a core is no help.
const LEAST_ARENA_LEN: u64 = 4 * 1024 * 1024;
/// All cores together take at most this part of the memory there is.
const SHARE: u64 = 4;

/// How many of these cores have memory enough when there is so much (bytes), and how much each of them has.
fn shares(memory: u64, cores: usize) -> (usize, usize) {
    let memory = memory / SHARE;
    let cores = usize::try_from(memory / LEAST_ARENA_LEN).unwrap_or(usize::MAX).clamp(1, cores.max(1));
    let share = (memory / cores as u64).clamp(LEAST_ARENA_LEN, ARENA_LEN);
    (cores, usize::try_from(share).unwrap_or(usize::MAX))
}

/// Runs `work` on several cores, each pinned, with a ring of its own and the same queue of all pieces, and gives what
/// each has found. The numbers of pieces done that the work sends are passed to `watch`.
fn on_cores<T: Send>(
    cores: usize,
    store: &Arc<Store>,
    work: impl AsyncFn(ring::Core, Rc<Access>, Arc<PieceQueue>, mpsc::Sender<u32>) -> Result<T, StorageError>
    + Sync,
    mut watch: impl FnMut(u32),
) -> Result<Vec<T>, SessionError> {
    let (sender, mut seen) = mpsc::channel(64);
    let pieces = store.layout().piece_count() as usize;
    let (cores, arena_len) = shares(storage::memory(), cores.clamp(1, pieces.max(1)));
    let cores = ring::cores_with_rings(cores);
    let queue = Arc::new(PieceQueue::new(store.layout(), cores));
    let run = |cpu: usize, seen: mpsc::Sender<u32>| -> Result<T, SessionError> {
        let main = async |core| {
            let access = Rc::new(Access::new(Arc::clone(store), cores));
            work(core, access, Arc::clone(&queue), seen).await
        };
        let config = ring::Config { cpu: Some(cpu), cores, ..ring::Config::new(arena_len) };
        // When one core cannot, the others need not.
        let result = ring::run(config, main).inspect_err(|_| queue.close());
        Ok(result??)
    };
    std::thread::scope(|scope| {
        // With fewer threads than asked for it is done more slowly; with none, not at all.
        let mut refused = None;
        let mut workers = Vec::new();
        for cpu in ring::next_cpus(cores) {
            let (run, seen) = (&run, sender.clone());
            match std::thread::Builder::new().spawn_scoped(scope, move || run(cpu, seen)) {
                Ok(worker) => workers.push(worker),
                Err(cause) => refused = Some(cause),
            }
        }
        if let (true, Some(cause)) = (workers.is_empty(), refused) {
            return Err(SessionError::Thread(cause));
        }
        drop(sender);
        let mut most = 0;
        while let Some(done) = seen.blocking_recv() {
            // Cores overtake each other between counting and telling.
            if done > most {
                most = done;
                watch(done);
            }
        }
        workers.into_iter().map(|worker| worker.join().expect("a worker panicked")).collect()
    })
}

/// Compares the files in a folder with a torrent, on so many cores. Only reads. `watch` gets the number of pieces done,
/// and of all. Of a file that something odd lies in the place of, or that may not be read, or not all of it, the report says so.
///
/// # Errors
/// When the kernel refuses to open a file, or a ring.
pub fn check(
    torrent: &Torrent,
    folder: &Path,
    cores: usize,
    mut watch: impl FnMut(u32, u32),
) -> Result<CheckReport, SessionError> {
    let torrent = Arc::new(torrent.clone());
    let layout = Arc::new(torrent.layout.clone());
    let pieces = layout.piece_count();
    let (store, faults) = Store::survey(Folder::open(folder, false)?, layout, &torrent.files);
    let store = Arc::new(store);
    let work = async |core: ring::Core, access, queue, seen: mpsc::Sender<u32>| {
        let tell = move |done| _ = seen.try_send(done);
        storage::check(&access, &core.arena, &torrent, &queue, tell).await
    };
    let found = on_cores(cores, &store, work, |done| watch(done, pieces))?;
    let mut good = vec![false; pieces as usize];
    found.into_iter().flatten().for_each(|piece| good[piece.as_usize()] = true);
    let mut report = CheckReport::new(&store, &good);
    for (file, fault) in faults.into_iter().chain(store.damage()) {
        report.files[file.as_usize()].fault = Some(fault.why());
    }
    Ok(report)
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

/// Makes a torrent of a file or folder, on so many cores. `watch` gets the number of pieces done, and of all.
///
/// # Errors
/// When something cannot be read or has a name that others could not use, when there are no bytes at all, when a file
/// changes while it is read, or the kernel refuses a ring.
pub fn create(
    path: &Path,
    options: &CreateOptions,
    cores: usize,
    mut watch: impl FnMut(u32, u32),
) -> Result<(Vec<u8>, Torrent), SessionError> {
    let found = storage::scan(path)?;
    let mut builder = builder(&found, options)?;
    // Reading all of it may take hours: what cannot be a torrent is told before. Only the hashes are not known yet.
    let (_, planned) = builder.build()?;
    let pieces = planned.layout.piece_count();
    let folder = found.root.parent().unwrap_or(Path::new("/"));
    let files: Vec<FileEntry> =
        found.files.iter().map(|(path, stamp)| entry(&found.name, path, stamp.len)).collect();
    let store = Arc::new(Store::new(Folder::open(folder, false)?, Arc::new(planned.layout), &files)?);
    let hashed = on_cores(cores, &store, hash_all, |done| watch(done, pieces))?;
    // Else the hashes could be of bytes that were never there all at once, and nobody could ever have them.
    found.assert_unchanged()?;
    let mut hashes = vec![None; pieces as usize];
    hashed.into_iter().flatten().for_each(|(piece, hash)| hashes[piece.as_usize()] = hash);
    let gone = || SessionError::Failed(format!("{} has become shorter while it was read", path.display()));
    builder.pieces = hashes.into_iter().collect::<Option<_>>().ok_or_else(gone)?;
    Ok(builder.build()?)
}

/// The torrent of what was found, without its hashes.
fn builder(found: &Found, options: &CreateOptions) -> Result<TorrentBuilder, SessionError> {
    let lengths = || found.files.iter().map(|(_, stamp)| stamp.len);
    let refused = |error: LayoutError| BuildError::from(TorrentError::from(error));
    let total = lengths().try_fold(0_u64, u64::checked_add).ok_or_else(|| refused(LayoutError::TooLarge))?;
    let piece_length = options.piece_length.unwrap_or_else(|| default_piece_length(total));
    let layout = Layout::new(u64::from(piece_length), lengths()).map_err(refused)?;
    let files = found.files.iter().map(|(path, stamp)| (path.clone(), stamp.len)).collect();
    Ok(TorrentBuilder {
        name: found.name.clone(),
        content: if found.is_folder { Content::Multi(files) } else { Content::Single(total) },
        piece_length,
        pieces: vec![[0; 20]; layout.piece_count() as usize],
        trackers: options.trackers.clone(),
        private: options.private,
        comment: options.comment.clone(),
        created_by: Some(concat!("seedring/", env!("CARGO_PKG_VERSION")).into()),
        creation_date: None,
    })
}

fn entry(name: &str, path: &[String], length: u64) -> FileEntry {
    let path = std::iter::once(name.to_owned()).chain(path.iter().cloned()).collect();
    FileEntry { path, length, kind: FileKind::Regular, executable: false }
}

/// The hashes of the pieces that this core took.
async fn hash_all(
    core: ring::Core,
    access: Rc<Access>,
    queue: Arc<PieceQueue>,
    seen: mpsc::Sender<u32>,
) -> Result<Vec<(PieceIndex, Option<[u8; 20]>)>, StorageError> {
    let hashes = Rc::new(RefCell::new(Vec::new()));
    let (found, counted) = (Rc::clone(&hashes), Arc::clone(&queue));
    let each = move |piece: PieceIndex, hash| {
        found.borrow_mut().push((piece, hash));
        let _ = seen.try_send(counted.count_done());
    };
    storage::hash_pieces(&access, &core.arena, &queue, each).await?;
    Ok(hashes.take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    #[test]
    fn cores_share_a_quarter_of_the_memory() {
        const MIB: u64 = 1 << 20;
        let mib = |memory, cores| {
            let (cores, len) = shares(memory * MIB, cores);
            (cores, len as u64 / MIB)
        };
        assert_eq!(mib(64 << 10, 2), (2, 48));
        assert_eq!(mib(512, 64), (32, 4), "a small container on a large machine");
        assert_eq!(mib(512, 8), (8, 16));
        assert_eq!(mib(3, 8), (1, 4), "never none");
        assert_eq!(mib(512, 0), (1, 48));
    }

    /// A folder of three files, and a torrent of it.
    fn set() -> (tempfile::TempDir, Torrent) {
        let folder = tempfile::tempdir().unwrap();
        let set = folder.path().join("set");
        std::fs::create_dir(&set).unwrap();
        for (name, len) in [("a", 100_000), ("b", 0), ("c", 300_000)] {
            let bytes: Vec<u8> = (0..len).map(|at: u32| (at / 7) as u8).collect();
            std::fs::write(set.join(name), bytes).unwrap();
        }
        let options = CreateOptions { piece_length: Some(16 * 1024), ..CreateOptions::default() };
        let (_, torrent) = create(&set, &options, 1, |_, _| {}).unwrap();
        (folder, torrent)
    }

    #[test]
    fn a_check_says_the_same_on_any_number_of_cores() {
        let (folder, torrent) = set();
        let damage = |name: &str, at: usize| {
            let path = folder.path().join("set").join(name);
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[at] ^= 1;
            std::fs::write(path, bytes).unwrap();
        };
        let verdict = |cores| check(&torrent, folder.path(), cores, |_, _| {}).unwrap();
        let good = verdict(1);
        assert_eq!(verdict(2), good);
        damage("a", 20_000);
        damage("c", 299_999);
        let bad = verdict(1);
        assert!(bad != good && [2, 5].into_iter().all(|cores| verdict(cores) == bad), "{bad:?}");
        std::fs::remove_file(folder.path().join("set/c")).unwrap();
        assert_eq!(verdict(2), verdict(1));
    }

    #[test]
    fn there_are_as_many_threads_as_asked_for_and_no_more_than_pieces() {
        let (folder, torrent) = set();
        let store = |torrent: &Torrent| {
            let layout = Arc::new(torrent.layout.clone());
            Arc::new(Store::survey(Folder::open(folder.path(), false).unwrap(), layout, &torrent.files).0)
        };
        let threads = |store: &Arc<Store>, asked: usize, cores: usize| {
            // Each waits for all, for a time: they are at work together.
            let (here, come) = (Mutex::new(0), Condvar::new());
            let work = async |_, _, _, _| {
                *here.lock().unwrap() += 1;
                come.notify_all();
                let few = |here: &mut usize| *here < cores;
                let waited = come.wait_timeout_while(here.lock().unwrap(), Duration::from_secs(20), few);
                assert!(!waited.unwrap().1.timed_out(), "there are fewer");
                Ok(std::thread::current().id())
            };
            let ids = on_cores(asked, store, work, |_| {}).unwrap();
            (ids.len(), ids.into_iter().collect::<std::collections::HashSet<_>>().len())
        };
        let whole = store(&torrent);
        for cores in [1, 2, 3] {
            assert_eq!(threads(&whole, cores, cores), (cores, cores));
        }
        let set = folder.path().join("set/a");
        let options = CreateOptions { piece_length: Some(64 * 1024), ..CreateOptions::default() };
        let (_, short) = create(&set, &options, 1, |_, _| {}).unwrap();
        assert_eq!(threads(&store(&short), 5, 2), (2, 2), "two pieces");
    }

    /// What `create` says of a folder with files of these names and lengths, which it may not begin to hash.
    fn refusal(files: &[(&str, u64)], piece_length: Option<u32>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("album");
        for (name, len) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            // Of holes alone: it takes no room.
            fs::File::create(path).unwrap().set_len(*len).unwrap();
        }
        let options = CreateOptions { piece_length, ..CreateOptions::default() };
        let made = create(&root, &options, 1, |_, _| panic!("it hashes what cannot be a torrent"));
        made.unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_a_torrent_is_refused_before_it_is_hashed() {
        const LEN: u64 = 1 << 20;
        let stored = "under that name; it would be stored as";
        assert!(refusal(&[("a", LEN), ("b\\c", 1)], None).contains(stored));
        assert!(refusal(&[("a", LEN), ("a.part", 1)], None).contains(stored));
        let deep = format!("{}a", "b/".repeat(100));
        assert!(refusal(&[(&deep, LEN)], None).contains("more than 100 components"));
        // The hashes alone take more room than a torrent file has.
        let pieces = (crate::metainfo::MAX_TORRENT_LEN / 20) as u64;
        assert!(refusal(&[("a", pieces * 1024)], Some(1024)).contains("the torrent file has more than"));
        assert!(refusal(&[("a", LEN << 12)], Some(1024)).contains("pieces"));
        assert!(refusal(&[("a", 0)], None).contains("no bytes"));
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        ["a", "b", "c"].iter().for_each(|name| fs::write(folder.path().join(name), "1").unwrap());
        let mut found = storage::scan(folder.path()).unwrap();
        for len in [u64::MAX / 2, u64::MAX / 3] {
            found.files.iter_mut().for_each(|(_, stamp)| stamp.len = len);
            let error = builder(&found, &CreateOptions::default()).unwrap_err().to_string();
            assert!(error.contains("more than any disk holds"), "{error}");
        }
    }

    #[test]
    fn a_file_that_grows_while_it_is_hashed_makes_no_torrent() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("album");
        fs::create_dir(&root).unwrap();
        ["a", "b"].iter().for_each(|name| fs::write(root.join(name), vec![1; 1 << 20]).unwrap());
        let grow = |_, _| {
            let mut file = fs::OpenOptions::new().append(true).open(root.join("b")).unwrap();
            file.write_all(b"2").unwrap();
        };
        let error = create(&root, &CreateOptions::default(), 1, grow).unwrap_err().to_string();
        assert!(error.contains("album/b") && error.contains("changed while it was read"), "{error}");
        create(&root, &CreateOptions::default(), 1, |_, _| {}).unwrap();
    }
}
