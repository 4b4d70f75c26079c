use super::*;
use crate::metainfo::{FileEntry, FileKind, Layout};
use crate::ring::{self, Core};
use std::fs;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

const PIECE: u64 = 32 * 1024;

fn entry(path: &str, length: u64) -> FileEntry {
    FileEntry {
        path: path.split('/').map(str::to_owned).collect(),
        length,
        kind: FileKind::Regular,
        executable: false,
    }
}

fn pad(length: u64) -> FileEntry {
    FileEntry { kind: FileKind::Pad, ..entry(".pad/1", length) }
}

fn store(root: &Path, files: &[FileEntry]) -> Result<Arc<Store>, StorageError> {
    let layout = Layout::new(PIECE, files.iter().map(|file| file.length)).unwrap();
    Store::new(Folder::open(root, true).unwrap(), Arc::new(layout), files).map(Arc::new)
}

/// A store that is ready to be written, and the only core's access to it.
fn writable(root: &Path, files: &[FileEntry]) -> (Arc<Store>, Access) {
    let store = store(root, files).unwrap();
    store.prepare(|_| 0).unwrap();
    (Arc::clone(&store), Access::new(store, 1))
}

fn on_a_ring<T>(main: impl AsyncFnOnce(Core) -> T) -> T {
    ring::run(ring::Config::new(1024 * 1024), main).unwrap()
}

/// Writes every piece of the store, its bytes counting up from the start of the torrent.
async fn fill(core: &Core, access: &Access) -> Result<(), StorageError> {
    let store = access.store();
    for piece in store.layout().pieces() {
        let start = store.layout().piece_start(piece);
        let bytes: Vec<u8> =
            (start..start + u64::from(store.layout().piece_len(piece))).map(|n| n as u8).collect();
        let mut slab = core.arena.take().unwrap();
        slab.write(0, &bytes);
        let slab = slab.seal().ok().unwrap();
        access.write(piece, 0, bytes.len() as u32, &slab).await?;
    }
    Ok(())
}

async fn finish_all(access: &Access) {
    for file in access.store().layout().files() {
        access.finish(file).await.unwrap();
    }
}

fn names(root: &Path) -> Vec<String> {
    scan(root).unwrap().files.into_iter().map(|(path, _)| path.join("/")).collect()
}

#[test]
fn files_are_parts_until_they_are_finished() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("d");
    let files =
        [entry("t/a", 50_000), entry("t/empty", 0), entry("t/sub/b", 1), pad(15_535), entry("t/c", 40_000)];
    on_a_ring(async |core| {
        let (_, access) = writable(&root, &files);
        fill(&core, &access).await.unwrap();
        assert_eq!(names(&root), ["t/a.part", "t/c.part", "t/empty", "t/sub/b.part"]);
        finish_all(&access).await;
    });
    assert_eq!(names(&root), ["t/a", "t/c", "t/empty", "t/sub/b"], "pad files are not stored");
    let c = fs::read(root.join("t/c")).unwrap();
    assert!(c.iter().enumerate().all(|(n, byte)| *byte == (n + 50_001 + 15_535) as u8));
}

#[test]
fn pad_files_read_as_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let files = [entry("a", 10_000), pad(PIECE - 10_000), entry("b", 5)];
    on_a_ring(async |core| {
        let (store, access) = writable(folder.path(), &files);
        fill(&core, &access).await.unwrap();
        let first = store.layout().piece(0).unwrap();
        let slab = access.read(first, 9_999, 100, 7, core.arena.take().unwrap()).await.unwrap();
        assert_eq!(slab.bytes(7..8), [9_999u64 as u8]);
        assert_eq!(slab.bytes(8..107), [0; 99]);
    });
}

#[test]
fn a_file_under_its_own_name_becomes_a_part_again_only_when_it_is_not_complete() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("good"), [1; 10]).unwrap();
    fs::write(folder.path().join("bad"), [1; 10]).unwrap();
    fs::write(folder.path().join("short"), vec![1; 2 * PIECE as usize]).unwrap();
    let files = [entry("good", 10), entry("bad", 10), entry("short", 3 * PIECE)];
    let store = store(folder.path(), &files).unwrap();
    store.prepare(|file| u32::from(file.as_usize() != 1)).unwrap();
    assert_eq!(names(folder.path()), ["bad.part", "good", "short.part"]);
}

#[test]
fn what_is_not_ours_to_change_stops_a_download_before_anything_is_changed() {
    for (files_there, word) in [
        (&[("x", 10), ("x.part", 5)][..], "a .part of it"),
        (&[("x", 11)], "longer than the torrent"),
        (&[("x.part", 11)], "longer than the torrent"),
        (&[("x", 5)], "no piece of it is right"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("first"), [0; 10]).unwrap();
        for (name, len) in files_there {
            fs::write(folder.path().join(name), vec![0; *len]).unwrap();
        }
        let before = names(folder.path());
        let store = store(folder.path(), &[entry("first", 10), entry("x", 10)]).unwrap();
        let error = store.prepare(|_| 0).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("/x"), "{error}");
        assert_eq!(names(folder.path()), before);
    }
}

#[test]
fn links_are_not_followed_wherever_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("file"), "mine").unwrap();
    let link = |to: &Path, at: &str| std::os::unix::fs::symlink(to, root.join(at)).unwrap();
    link(&outside.join("file"), "a");
    link(&outside, "dir");
    link(&outside.join("new"), "b.part");
    for path in ["a", "dir/file", "dir/new", "b"] {
        let error = store(&root, &[entry(path, 4)]).err().unwrap().to_string();
        assert!(error.contains("symbolic link"), "{path}: {error}");
    }
    // Put there after the look around.
    on_a_ring(async |core| {
        let (_, access) = writable(&root, &[entry("late/c", 4)]);
        link(&outside, "late");
        let error = fill(&core, &access).await.unwrap_err().to_string();
        assert!(error.contains("symbolic link"), "{error}");
    });
    assert_eq!(names(&outside), ["file"]);
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"mine");
}

#[test]
fn something_else_in_the_place_of_a_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    assert!(store(folder.path(), &[entry("a", 4)]).err().unwrap().to_string().contains("not a file"));
    fs::write(folder.path().join("b"), "").unwrap();
    assert!(store(folder.path(), &[entry("b/c", 4)]).err().unwrap().to_string().contains("/b/c"));
}

#[test]
fn a_finished_file_never_replaces_another() {
    let folder = tempfile::tempdir().unwrap();
    on_a_ring(async |core| {
        let (store, access) = writable(folder.path(), &[entry("a", 4)]);
        fill(&core, &access).await.unwrap();
        fs::write(folder.path().join("a"), "mine").unwrap();
        let file = store.layout().files().next().unwrap();
        assert!(access.finish(file).await.is_err());
    });
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"mine");
}

#[test]
fn hashes_of_absent_and_short_files_are_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), vec![7; PIECE as usize + 5]).unwrap();
    fs::write(folder.path().join("b"), vec![7; 10]).unwrap();
    on_a_ring(async |core| {
        let files = [entry("a", PIECE + 5), entry("b", PIECE * 2 - 5), entry("absent", PIECE)];
        let store = store(folder.path(), &files).unwrap();
        let queue = Arc::new(PieceQueue::new(store.layout()));
        let access = Rc::new(Access::new(store, 1));
        let found = Rc::new(std::cell::RefCell::new(vec![false; 4]));
        let seen = Rc::clone(&found);
        hash_pieces(&access, &core.arena, &queue, move |piece, hash| {
            seen.borrow_mut()[piece.as_usize()] = hash.is_some()
        })
        .await
        .unwrap();
        assert_eq!(*found.borrow(), [true, false, false, false]);
    });
}

/// Bytes of a good torrent in one file, and the torrent.
fn torrent(len: usize) -> (Vec<u8>, Arc<crate::metainfo::Torrent>) {
    let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
    let hash = |piece: &[u8]| {
        let mut state = crate::digest::Sha1State::new();
        crate::digest::advance(&mut [crate::digest::Job::new(&mut state, piece)]);
        state.finish()
    };
    let builder = crate::metainfo::TorrentBuilder {
        name: "file".into(),
        content: crate::metainfo::Content::Single(len as u64),
        piece_length: PIECE as u32,
        pieces: bytes.chunks(PIECE as usize).map(hash).collect(),
        trackers: Vec::new(),
        private: false,
        comment: None,
        created_by: None,
        creation_date: None,
    };
    (bytes, Arc::new(builder.build().unwrap().1))
}

#[test]
fn cores_check_a_torrent_together() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, torrent) = torrent(100 * PIECE as usize + 9);
    bytes[50 * PIECE as usize] ^= 1;
    fs::write(folder.path().join("file"), &bytes).unwrap();
    let store = store(folder.path(), &torrent.files).unwrap();
    let queue = Arc::new(PieceQueue::new(store.layout()));
    let core = || {
        on_a_ring(async |core| {
            let access = Rc::new(Access::new(Arc::clone(&store), 3));
            check(&access, &core.arena, &torrent, &queue, |_| {}).await.unwrap()
        })
    };
    let mut good = vec![false; 101];
    let found: Vec<_> = std::thread::scope(|scope| {
        let cores: Vec<_> = (0..3).map(|_| scope.spawn(core)).collect();
        cores.into_iter().flat_map(|core| core.join().unwrap()).collect()
    });
    assert_eq!((found.len(), queue.done()), (100, 101), "each piece by one core");
    found.into_iter().for_each(|piece| good[piece.as_usize()] = true);
    let report = CheckReport::new(&store, &good);
    assert_eq!((report.good_pieces, report.bad_pieces), (100, vec![50]));
}

#[test]
fn a_core_finds_what_another_has_given_its_own_name() {
    let folder = tempfile::tempdir().unwrap();
    let files = [entry("a", PIECE), entry("b", PIECE)];
    on_a_ring(async |core| {
        let (store, one) = writable(folder.path(), &files);
        let (early, late) = (Access::new(Arc::clone(&store), 2), Access::new(Arc::clone(&store), 2));
        fill(&core, &one).await.unwrap();
        let piece = store.layout().piece(0).unwrap();
        let read = async |access: &Access| {
            let slab = access.read(piece, 0, 300, 0, core.arena.take().unwrap()).await.unwrap();
            assert_eq!(slab.bytes(256..300), slab.bytes(0..44));
        };
        read(&early).await;
        one.finish(store.layout().files().next().unwrap()).await.unwrap();
        read(&early).await;
        read(&late).await;
        // It has been renamed, and the core that did so has not said it yet.
        fs::rename(folder.path().join("b.part"), folder.path().join("b")).unwrap();
        let slab = late.read(store.layout().piece(1).unwrap(), 0, 9, 0, core.arena.take().unwrap()).await;
        assert_eq!(slab.unwrap().bytes(0..9), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    });
    assert_eq!(names(folder.path()), ["a", "b"], "nothing is made anew");
}
