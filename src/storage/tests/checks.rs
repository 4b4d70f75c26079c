//! Hashing what is on disk.

use super::*;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

#[test]
fn hashes_of_absent_and_short_files_are_none() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), vec![7; PIECE as usize + 5]).unwrap();
    fs::write(folder.path().join("b"), vec![7; 10]).unwrap();
    on_a_ring(async |core| {
        let files = [entry("a", PIECE + 5), entry("b", PIECE * 2 - 5), entry("absent", PIECE)];
        let store = store(folder.path(), &files).unwrap();
        let queue = Arc::new(PieceQueue::new(store.layout(), 1));
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

/// However many pieces a run holds, each has its own hash; what lacks bytes has none, and keeps none of its neighbours from theirs.
#[test]
fn pieces_that_are_read_together_have_a_hash_each() {
    let content = |name: &str, len: usize| -> Vec<u8> {
        (0..len).map(|at| (at / 5) as u8 ^ name.as_bytes()[0]).collect()
    };
    let files =
        [entry("a", 250_000), pad(12_144), entry("absent", 100), entry("b", 900_000), entry("c", 100_000)];
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for file in &files {
        let name = file.path[0].as_str();
        let bytes =
            if file.kind == FileKind::Pad { vec![0; 12_144] } else { content(name, file.length as usize) };
        if !matches!(name, ".pad" | "absent") {
            // The last one is cut short.
            fs::write(folder.path().join(name), &bytes[..bytes.len() - usize::from(name == "c")]).unwrap();
        }
        all.extend(bytes);
    }
    let lacks = [262_144..262_244, all.len() - 1..all.len()];
    for piece_len in [16 << 10, 96 << 10, 100_000, 256 << 10, 300_000] {
        let layout = Arc::new(Layout::new(piece_len as u64, files.iter().map(|file| file.length)).unwrap());
        let hashed = |(number, piece): (usize, &[u8])| {
            let range = number * piece_len..number * piece_len + piece.len();
            let whole = lacks.iter().all(|lack| lack.end <= range.start || range.end <= lack.start);
            let mut state = Sha1State::new();
            advance(&mut [Job::new(&mut state, piece)]);
            whole.then(|| state.finish())
        };
        let expected: Vec<_> = all.chunks(piece_len).enumerate().map(hashed).collect();
        on_a_ring(async |core| {
            let store = Store::new(Folder::open(folder.path(), true).unwrap(), Arc::clone(&layout), &files);
            let queue = Arc::new(PieceQueue::new(&layout, 1));
            let access = Rc::new(Access::new(Arc::new(store.unwrap()), 1));
            let found = Rc::new(std::cell::RefCell::new(vec![Some([0; 20]); expected.len()]));
            let seen = Rc::clone(&found);
            let each =
                move |piece: crate::metainfo::PieceIndex, hash| seen.borrow_mut()[piece.as_usize()] = hash;
            hash_pieces(&access, &core.arena, &queue, each).await.unwrap();
            assert!(*found.borrow() == expected, "pieces of {piece_len}");
        });
    }
}

#[test]
fn cores_check_a_torrent_together() {
    let folder = tempfile::tempdir().unwrap();
    let (mut bytes, torrent) = torrent(100 * PIECE as usize + 9);
    bytes[50 * PIECE as usize] ^= 1;
    fs::write(folder.path().join("file"), &bytes).unwrap();
    let store = store(folder.path(), &torrent.files).unwrap();
    let queue = Arc::new(PieceQueue::new(store.layout(), 3));
    let begun = Arc::new(AtomicUsize::new(0));
    let core = || {
        on_a_ring(async |core| {
            let access = Rc::new(Access::new(Arc::clone(&store), 3));
            let seen = all_begin(Arc::clone(&begun), 3);
            check(&access, &core.arena, &torrent, &queue, seen).await.unwrap()
        })
    };
    let mut good = vec![false; 101];
    let found: Vec<_> = std::thread::scope(|scope| {
        let cores: Vec<_> = (0..3).map(|_| scope.spawn(core)).collect();
        cores.into_iter().map(|core| core.join().unwrap()).collect()
    });
    assert!(found.iter().all(|of_core| !of_core.is_empty()), "each core has found some: {found:?}");
    let found = found.concat();
    assert_eq!((found.len(), queue.done()), (100, 101), "each piece by one core");
    found.into_iter().for_each(|piece| good[piece.as_usize()] = true);
    let report = CheckReport::new(&store, &good);
    assert_eq!((report.good_pieces, report.bad_pieces), (100, vec![50]));
}

/// For each of so many cores: with its first piece it waits until every one has done one, so that none is done before another
/// has begun; but not for ever.
fn all_begin(begun: Arc<AtomicUsize>, cores: usize) -> impl FnMut(u32) + 'static {
    let mut first = true;
    move |_| {
        if std::mem::take(&mut first) {
            begun.fetch_add(1, Ordering::Relaxed);
            let since = Instant::now();
            while begun.load(Ordering::Relaxed) < cores && since.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
        }
    }
}

/// Pieces are read run by run, not block by block, and many at the same time; short ones that follow each other together.
#[test]
fn a_check_reads_ahead_in_whole_runs() {
    for piece_len in [2 * ring::SLAB_LEN, ring::SLAB_LEN / 16] {
        reads_ahead_in_whole_runs(piece_len as u64);
    }
}

fn reads_ahead_in_whole_runs(piece_len: u64) {
    const RUNS: u64 = 32;
    let folder = on_disk();
    fs::write(folder.path().join("a"), vec![7; RUNS as usize * ring::SLAB_LEN]).unwrap();
    ring::run(ring::Config::new(32 << 20), async |core| {
        let files = [entry("a", RUNS * ring::SLAB_LEN as u64)];
        let layout = Arc::new(Layout::new(piece_len, [files[0].length]).unwrap());
        let store = Store::new(Folder::open(folder.path(), true).unwrap(), layout, &files).unwrap();
        let access = Rc::new(Access::new(Arc::new(store), 1));
        let queue = Arc::new(PieceQueue::new(access.store().layout(), 1));
        let reads = || ring::counters().operations[ring::Kind::Read as usize];
        let (before, most) = (reads(), Rc::new(Cell::new(0)));
        let watch = Rc::clone(&most);
        // Not for ever: what is queued is handed over when nobody has work left.
        ring::spawn(async move {
            for _ in 0..100 {
                watch.set(reads().queued.saturating_sub(reads().completed).max(watch.get()));
                tokio::task::yield_now().await;
            }
        });
        hash_pieces(&access, &core.arena, &queue, |_, hash| assert!(hash.is_some())).await.unwrap();
        let counts = access.counts();
        assert_eq!(counts.direct_reads + counts.cached_reads, RUNS);
        assert_eq!(reads().queued - before.queued, RUNS, "and so many operations");
        assert!(most.get() >= 8, "{} reads at the same time", most.get());
    })
    .unwrap();
}

#[test]
fn a_part_is_as_long_as_its_file_and_only_what_was_written_is_read() {
    let folder = on_disk();
    let (bytes, torrent) = torrent(100 * PIECE as usize);
    let write = |pieces: &[u32]| {
        on_a_ring(async |core| {
            let (store, access) = writable(folder.path(), &torrent.files);
            for piece in pieces {
                let mut slab = core.arena.take().unwrap();
                let start = *piece as usize * PIECE as usize;
                slab.write(0, &bytes[start..start + PIECE as usize]);
                let piece = store.layout().piece(*piece).unwrap();
                access.write(piece, 0, PIECE as u32, &slab.seal().ok().unwrap()).await.unwrap();
            }
        });
    };
    write(&[3, 40]);
    let checked = || {
        on_a_ring(async |core| {
            let store = store(folder.path(), &torrent.files).unwrap();
            let access = Rc::new(Access::new(Arc::clone(&store), 1));
            let queue = Arc::new(PieceQueue::new(store.layout(), 1));
            let mut good = check(&access, &core.arena, &torrent, &queue, |_| {}).await.unwrap();
            good.sort_unstable();
            let good: Vec<u32> = good.into_iter().map(|piece| piece.get()).collect();
            (good, access.counts().cached_read_bytes + access.counts().direct_read_bytes)
        })
    };
    let (good, read) = checked();
    assert_eq!(good, [3, 40]);
    let size = fs::metadata(folder.path().join("file.part")).unwrap().len();
    if size == 100 * PIECE {
        assert!(read < 20 * PIECE, "{read} bytes were read");
    }
    write(&[41]);
    assert_eq!(checked().0, [3, 40, 41]);
}

#[test]
fn holes_are_zeros_as_good_as_any() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = vec![0; 10 * PIECE as usize + 7];
    let torrent = torrent_of(&zeros);
    fs::File::create(folder.path().join("file.part")).unwrap().set_len(zeros.len() as u64).unwrap();
    let good = on_a_ring(async |core| {
        let store = store(folder.path(), &torrent.files).unwrap();
        let access = Rc::new(Access::new(Arc::clone(&store), 1));
        let queue = Arc::new(PieceQueue::new(store.layout(), 1));
        check(&access, &core.arena, &torrent, &queue, |_| {}).await.unwrap()
    });
    assert_eq!(good.len(), 11);
}

/// A disk whose head has come to a piece has more than one run to read there, where there is memory for them.
#[test]
fn several_runs_of_a_piece_are_read_at_the_same_time() {
    let folder = tempfile::tempdir().unwrap();
    let (readers, piece_len) = (16, 8 * SLAB_LEN);
    fs::write(folder.path().join("a"), vec![7; readers * piece_len]).unwrap();
    let files = [entry("a", (readers * piece_len) as u64)];
    let layout = Arc::new(Layout::new(piece_len as u64, [files[0].length]).unwrap());
    let used = |slabs: usize| {
        let store = Store::new(Folder::open(folder.path(), true).unwrap(), Arc::clone(&layout), &files);
        let access = Access::new(Arc::new(store.unwrap()), 1);
        let check = async |core: Core| {
            let queue = Arc::new(PieceQueue::new(access.store().layout(), 1));
            let seen = |_, hash: Option<_>| assert!(hash.is_some());
            hash_pieces(&Rc::new(access), &core.arena, &queue, seen).await.unwrap();
            // It keeps what it has grown to.
            core.arena.capacity() - core.arena.untouched()
        };
        ring::run(ring::Config::new(slabs * SLAB_LEN), check).unwrap()
    };
    let (few, many) = (used(70), used(400));
    assert!(few <= 3 * readers, "{few} slabs");
    assert!(many >= 4 * readers, "{many} slabs");
}
