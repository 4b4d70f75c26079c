//! Payloads that are the same on every run, and the sums of what arrived.

use ring::digest::{Context, SHA256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

/// Writes a file of seeded pseudo-random bytes, with the folders above it.
pub(crate) fn file(path: &Path, length: u64, seed: u64) {
    fs::create_dir_all(path.parent().expect("a payload lies in a folder")).expect("folders can be made");
    let mut file = File::create(path).expect("a payload can be made");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut chunk = vec![0; 1 << 20];
    let mut left = length;
    while left > 0 {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
        random.fill(&mut chunk[..take]);
        file.write_all(&chunk[..take]).expect("a payload can be written");
        left -= take as u64;
    }
}

/// Writes many files below `folder`: paths and lengths.
pub(crate) fn files<P: AsRef<Path>>(folder: &Path, files: &[(P, u64)], seed: u64) {
    for (index, (path, length)) in files.iter().enumerate() {
        file(&folder.join(path), *length, seed.wrapping_mul(1 << 20).wrapping_add(index as u64));
    }
}

/// Writes a file that is a hole but for islands of random bytes at the given offsets.
pub(crate) fn sparse(path: &Path, length: u64, islands: &[(u64, usize)], seed: u64) {
    fs::create_dir_all(path.parent().expect("a payload lies in a folder")).expect("folders can be made");
    let file = File::create(path).expect("a payload can be made");
    file.set_len(length).expect("a sparse file can be made");
    let mut random = fastrand::Rng::with_seed(seed);
    for &(offset, size) in islands {
        let mut island = vec![0; size];
        random.fill(&mut island);
        file.write_all_at(&island, offset).expect("an island can be written");
    }
}

/// Removes all empty files below a folder.
pub(crate) fn remove_empty(folder: &Path) {
    for (name, (length, _)) in tree(folder) {
        if length == 0 {
            fs::remove_file(folder.join(name)).expect("a payload can be removed");
        }
    }
}

/// SHA-256 of a file, in hex.
pub(crate) fn sha256(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|why| panic!("{} opens: {why}", path.display()));
    let (mut context, mut chunk) = (Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut chunk).expect("a file that opened can be read") {
            0 => return hex(context.finish().as_ref()),
            n => context.update(&chunk[..n]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files below a folder: relative path → length and SHA-256. Folders count only by what is in them.
pub(crate) fn tree(folder: &Path) -> BTreeMap<String, (u64, String)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|why| panic!("{} opens: {why}", next.display())) {
            let entry = entry.expect("an entry of a folder");
            let (path, kind) = (entry.path(), entry.file_type().expect("the type of an entry"));
            if kind.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("found below").to_string_lossy().into_owned();
                let length = entry.metadata().expect("the length of an entry").len();
                found.insert(name, (length, sha256(&path)));
            }
        }
    }
    found
}

/// Asserts that a folder holds the same files as the origin, with the same contents, and nothing else.
pub(crate) fn assert_same(origin: &Path, copy: &Path) {
    assert_all_same(origin, [copy]);
}

/// [`assert_same`] of several copies, which are read at the same time.
pub(crate) fn assert_all_same<'a>(origin: &'a Path, copies: impl IntoIterator<Item = &'a Path>) {
    let folders: Vec<_> = std::iter::once(origin).chain(copies).collect();
    let mut trees = thread::scope(|scope| {
        let readers: Vec<_> = folders.iter().map(|folder| scope.spawn(|| tree(folder))).collect();
        readers.into_iter().map(|reader| reader.join().expect("a folder can be read")).collect::<Vec<_>>()
    });
    let origin = trees.remove(0);
    for copy in trees {
        let lacking: Vec<_> = origin.iter().filter(|&(name, sum)| copy.get(name) != Some(sum)).collect();
        let foreign: Vec<_> = copy.iter().filter(|&(name, sum)| origin.get(name) != Some(sum)).collect();
        assert!(
            lacking.is_empty() && foreign.is_empty(),
            "the copy differs: {} of {} files are not as the origin has them: {lacking:?}; there is {foreign:?}",
            lacking.len(),
            origin.len(),
        );
    }
}
