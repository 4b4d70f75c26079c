mod aside;
mod checks;

use super::owner;
use super::*;
use crate::digest::{Job, Sha1State, advance};
use crate::metainfo::{Content, FileEntry, FileIndex, FileKind, InfoHash, Layout, Torrent, TorrentBuilder};
use crate::ring::{self, Core, SLAB_LEN};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

const PIECE: u64 = 32 * 1024;
const TORRENT: InfoHash = InfoHash([7; 20]);

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
    store.prepare(TORRENT, |_| 0, |_| Extent::Whole, |_| false).unwrap();
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

/// A folder whose own name is not on the disk takes what is in it along, however well that was synced.
#[test]
fn folders_that_were_made_are_synced_once() {
    let folder = tempfile::tempdir().unwrap();
    let unsynced = |store: &Store| -> Vec<_> {
        let id =
            |path: Vec<String>| rustix::fs::fstat(store.folder.open_folder(&path).unwrap()).unwrap().st_ino;
        store.folder.take_unsynced().into_iter().map(id).collect()
    };
    let ino = |path: &str| fs::metadata(folder.path().join(path)).unwrap().ino();
    on_a_ring(async |core| {
        let (store, access) =
            writable(folder.path(), &[entry("t/empty", 0), entry("t/a/b/c", 1), entry("u/d", 1)]);
        assert!(unsynced(&store).is_empty(), "by who makes the empty file");
        fill(&core, &access).await.unwrap();
        assert_eq!(unsynced(&store), [ino(""), ino("t"), ino("t/a")]);
        fs::remove_dir_all(folder.path().join("u")).unwrap();
        let (store, access) = writable(folder.path(), &[entry("u/d", 1)]);
        fill(&core, &access).await.unwrap();
        finish_all(&access).await;
        assert!(unsynced(&store).is_empty());
    });
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
    store.prepare(TORRENT, |file| u32::from(file.as_usize() != 1), |_| Extent::Whole, |_| false).unwrap();
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
        let error = store.prepare(TORRENT, |_| 0, |_| Extent::Whole, |_| false).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("/x"), "{error}");
        assert_eq!(names(folder.path()), before);
    }
}

#[test]
fn what_was_written_for_another_torrent_is_not_written_over_until_a_piece_of_it_is_right() {
    const OTHER: InfoHash = InfoHash([8; 20]);
    let folder = tempfile::tempdir().unwrap();
    let files = [entry("x", 3 * PIECE), entry("little", 10)];
    let (_, access) = writable(folder.path(), &files);
    on_a_ring(async |core| fill(&core, &access).await).unwrap();
    let part = folder.path().join("x.part");
    let mark = || owner::of(fs::File::open(&part).unwrap());
    assert_eq!(mark(), Some(TORRENT.to_string()));
    let little = fs::File::open(folder.path().join("little.part")).unwrap();
    assert_eq!(owner::of(&little), None, "a mark would cost as much as the file");
    let prepare = |torrent, good: u32, name: &str| {
        let store = store(folder.path(), &[entry(name, 3 * PIECE), entry("little", 10)]).unwrap();
        store.prepare(torrent, |_| good, |_| Extent::Whole, |_| false).map_err(|error| error.to_string())
    };
    for under in ["x.part", "x"] {
        fs::rename(&part, folder.path().join(under)).unwrap();
        let error = prepare(OTHER, 0, "x").unwrap_err();
        assert!(error.contains(&TORRENT.to_string()) && error.contains("move it away"), "{error}");
        assert!(folder.path().join(under).exists());
        prepare(TORRENT, 0, "x").unwrap();
        assert!(part.exists(), "it is the one that it was written for");
    }
    prepare(OTHER, 1, "x").unwrap();
    assert_eq!(mark(), Some(OTHER.to_string()), "it has gone over to it");
    assert!(prepare(TORRENT, 0, "x").is_err());
    // What bears no mark, or none of ours, is nobody's.
    for value in [&b"me"[..], &[b'x'; 40], &[b'1'; 41]] {
        let file = fs::File::open(&part).unwrap();
        rustix::fs::fsetxattr(&file, "user.seedring.torrent", value, rustix::fs::XattrFlags::empty())
            .unwrap();
        assert_eq!(mark(), None);
    }
    prepare(TORRENT, 0, "x").unwrap();
    assert_eq!(mark(), Some(TORRENT.to_string()));
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

/// Bytes of a good torrent in one file, and the torrent.
fn torrent(len: usize) -> (Vec<u8>, Arc<Torrent>) {
    let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
    let torrent = torrent_of(&bytes);
    (bytes, torrent)
}

fn torrent_of(bytes: &[u8]) -> Arc<Torrent> {
    let hash = |piece: &[u8]| {
        let mut state = Sha1State::new();
        advance(&mut [Job::new(&mut state, piece)]);
        state.finish()
    };
    let builder = TorrentBuilder {
        name: "file".into(),
        content: Content::Single(bytes.len() as u64),
        piece_length: PIECE as u32,
        pieces: bytes.chunks(PIECE as usize).map(hash).collect(),
        trackers: Vec::new(),
        private: false,
        comment: None,
        created_by: None,
        creation_date: None,
    };
    Arc::new(builder.build().unwrap().1)
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

#[test]
fn what_one_core_has_checked_no_other_core_takes_another_file_for() {
    let folder = on_disk();
    let files = [entry("a", 100_000)];
    let path = folder.path().join("a");
    on_a_ring(async |core| {
        fs::write(&path, vec![1; 100_000]).unwrap();
        let store = store(folder.path(), &files).unwrap();
        let access = || Access::new(Arc::clone(&store), 3);
        let (early, again, late) = (access(), access(), access());
        let piece = store.layout().piece(0).unwrap();
        let read = async |access: &Access| {
            let slab = access.read(piece, 0, 9, 0, core.arena.take().unwrap()).await;
            slab.map(|slab| slab.bytes(0..9).to_vec()).map_err(|error| error.to_string())
        };
        assert_eq!(read(&early).await.unwrap(), [1; 9]);
        assert_eq!(read(&again).await.unwrap(), [1; 9], "opened once more");
        fs::write(folder.path().join("other"), vec![2; 100_000]).unwrap();
        fs::rename(folder.path().join("other"), &path).unwrap();
        assert_eq!(read(&early).await.unwrap(), [1; 9], "still open");
        assert!(read(&late).await.unwrap_err().ends_with("in the place of the one that was checked"));
        assert!(
            late.cached(piece, 0, 9, Interest { room: usize::MAX, ahead: false, again: false }).is_none()
        );
    });
}

/// A folder where the build lies: one for temporary files may be memory.
fn on_disk() -> tempfile::TempDir {
    let program = std::env::current_exe().unwrap();
    tempfile::tempdir_in(program.parent().unwrap()).unwrap()
}

/// Every file of the torrent as the model has it: bytes that count up from the start of the torrent.
fn model(store: &Store) -> Vec<Option<Vec<u8>>> {
    let mut at = 0;
    let of = |file: FileIndex| {
        let start = at;
        at += store.layout().file_len(file);
        let regular = store.file(file).kind == FileKind::Regular;
        regular.then(|| (start..at).map(|n| byte(n, regular)).collect())
    };
    store.layout().files().map(of).collect()
}

fn byte(at: u64, regular: bool) -> u8 {
    if regular { (at ^ (at >> 8) ^ (at >> 16)) as u8 } else { 0 }
}

/// The bytes of the torrent, pad files as zeros.
fn stream(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    for file in store.layout().files() {
        let (start, regular) = (bytes.len() as u64, store.file(file).kind == FileKind::Regular);
        bytes.extend((start..start + store.layout().file_len(file)).map(|at| byte(at, regular)));
    }
    bytes
}

/// Writes and reads back torrents whose files begin, end and straddle in every way: at pages, beside them, in the middle of
/// runs, too small to go direct. Compares all of it with the model. Gives how the bytes went.
fn written_and_read_back(root: &Path, lengths: &[u64], piece_length: u64) -> Counts {
    let files: Vec<FileEntry> = lengths
        .iter()
        .enumerate()
        .map(|(n, len)| if n % 5 == 4 { pad(*len) } else { entry(&format!("t/{n}"), *len) })
        .collect();
    let layout = Arc::new(Layout::new(piece_length, files.iter().map(|file| file.length)).unwrap());
    let store = Arc::new(Store::new(Folder::open(root, true).unwrap(), layout, &files).unwrap());
    store.prepare(TORRENT, |_| 0, |_| Extent::Whole, |_| false).unwrap();
    let bytes = stream(&store);
    let counts = ring::run(ring::Config::new(4 << 20), async |core| {
        let access = Access::new(Arc::clone(&store), 1);
        let runs = store.layout().pieces().flat_map(|piece| {
            let len = store.layout().piece_len(piece);
            (0..len)
                .step_by(ring::SLAB_LEN)
                .map(move |begin| (piece, begin, (len - begin).min(ring::SLAB_LEN as u32)))
        });
        let mut runs: Vec<_> = runs.collect();
        fastrand::Rng::with_seed(lengths.len() as u64).shuffle(&mut runs);
        for (piece, begin, len) in &runs {
            let start = (store.layout().piece_start(*piece) + u64::from(*begin)) as usize;
            let mut slab = core.arena.take().unwrap();
            slab.write(0, &bytes[start..start + *len as usize]);
            access.write(*piece, *begin, *len, &slab.seal().ok().unwrap()).await.unwrap();
        }
        for round in 0..2 {
            for (piece, begin, len) in &runs {
                let start = (store.layout().piece_start(*piece) + u64::from(*begin)) as usize;
                // The first time all of the run; then the end of it, in its place in the slab.
                let from = if round == 0 { 0 } else { len / 3 };
                let slab = core.arena.take().unwrap();
                let slab = access.read(*piece, begin + from, len - from, from as usize, slab).await.unwrap();
                let got = slab.bytes(from as usize..*len as usize);
                assert!(got == &bytes[start + from as usize..start + *len as usize], "{piece:?} {begin}");
            }
        }
        for file in store.layout().files() {
            access.finish(file).await.unwrap();
        }
        access.counts()
    });
    for (file, expected) in store.layout().files().zip(model(&store)) {
        if let Some(expected) = expected {
            assert!(fs::read(root.join(store.file(file).path.join("/"))).unwrap() == expected, "{file:?}");
        }
    }
    counts.unwrap()
}

#[test]
fn runs_are_written_and_read_however_files_lie() {
    const RUN: u64 = 256 * 1024;
    let page = 4096;
    let cases: [(&[u64], u64); 8] = [
        (&[4 * RUN], RUN),
        (&[4 * RUN + 5], 2 * RUN),
        (&[RUN + page, RUN - page, RUN], RUN),
        (&[RUN + 512, 3 * RUN + 17, 1, 70_000], 3 * RUN),
        (&[100_000, 1, 300_000, 5, 99, 600_000, RUN], RUN),
        (&[3, 2 * page, 65_536, 65_537, page, 131_072 + 9, 500_000], 100_000),
        (&[16_384; 40], 16_384),
        (&[RUN / 2 + 2 * page, RUN, RUN, RUN, page - 100, 100, RUN], 2 * RUN),
    ];
    let mut direct = 0;
    for (lengths, piece_length) in cases {
        for folder in [on_disk(), tempfile::tempdir().unwrap()] {
            let counts = written_and_read_back(folder.path(), lengths, piece_length);
            let regular = |n: usize| n % 5 != 4;
            let total: u64 =
                lengths.iter().enumerate().filter(|(n, _)| regular(*n)).map(|(_, len)| len).sum();
            assert_eq!(counts.direct_write_bytes + counts.cached_write_bytes, total, "each byte once");
            direct += counts.direct_write_bytes;
        }
    }
    // Not all file systems can.
    println!("{direct} bytes were written direct");
}

/// Direct goes what is large and lies in memory as in its file; here that is the first file's whole pages.
#[test]
fn what_is_small_or_lies_otherwise_in_memory_is_not_written_direct() {
    const RUN: u64 = 256 * 1024;
    // Disks would take memory that lies at any 512 bytes.
    let other = RUN - 80_384 - 40_960;
    let lengths = [80_384, 40_960, other, 40_960, RUN - 40_960];
    let counts = written_and_read_back(on_disk().path(), &lengths, RUN);
    let whole_pages = 80_384 - 80_384 % 4096;
    // Not all file systems can.
    assert!(
        [(0, 0), (1, whole_pages)].contains(&(counts.direct_writes, counts.direct_write_bytes)),
        "{counts:?}"
    );
}

/// What the page cache has half of is read through it, and what it has less of is not.
#[test]
fn a_run_that_is_half_cached_is_read_through_the_page_cache() {
    const EXT4: u64 = 0xef53;
    const RUN: usize = ring::SLAB_LEN;
    let folder = on_disk();
    if rustix::fs::statfs(folder.path()).unwrap().f_type as u64 != EXT4 {
        return println!("others may have no such way, or not tell what they have cached");
    }
    let path = folder.path().join("a");
    for (cached, direct) in [(RUN / 4, 1), (RUN * 3 / 4, 0)] {
        fs::write(&path, vec![7; RUN]).unwrap();
        on_a_ring(async |core| {
            let files = [entry("a", RUN as u64)];
            let layout = Arc::new(Layout::new(RUN as u64, [files[0].length]).unwrap());
            let store = Store::new(Folder::open(folder.path(), true).unwrap(), layout, &files).unwrap();
            let access = Access::new(Arc::new(store), 1);
            let piece = access.store().layout().piece(0).unwrap();
            let file = fs::File::open(&path).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
            file.read_exact_at(&mut vec![0; cached], 0).unwrap();
            access.read_once(piece, 0..RUN as u32, core.arena.take().unwrap()).await.unwrap();
            let counts = access.counts();
            assert_eq!((counts.direct_reads, counts.cached_reads), (direct, 1 - direct), "{cached} cached");
        });
    }
}

#[test]
fn a_disk_without_room_is_known_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Arc::new(Layout::new(1 << 29, [1, 1 << 49]).unwrap());
    let files = [entry("t/a", 1), entry("t/b", 1 << 49)];
    let store = Store::new(Folder::open(folder.path(), true).unwrap(), layout, &files).unwrap();
    let error = store.prepare(TORRENT, |_| 0, |_| Extent::Whole, |_| false).unwrap_err().to_string();
    assert!(error.contains("the disk is full"), "{error}");
    assert!(names(folder.path()).is_empty());
}
