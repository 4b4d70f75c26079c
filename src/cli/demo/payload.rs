//! The demo's shared file: random bytes, so that nothing on the way can cheat by compressing or guessing.

use super::super::Error;
use crate::digest::{Job, Sha256State, advance};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::path::Path;

const CHUNK: usize = 1024 * 1024;

/// Writes a file of random bytes and returns its SHA-256. `seen` gets how many bytes are done.
pub(super) fn write_random(path: &Path, size: u64, mut seen: impl FnMut(u64)) -> Result<[u8; 32], Error> {
    let fail = || Error::file("write", path);
    let mut file = File::create_new(path).map_err(fail())?;
    // The standard library takes the keys of its hash tables from the system's random source.
    let mut random = fastrand::Rng::with_seed(RandomState::new().hash_one(path));
    let mut chunk = vec![0; CHUNK];
    let mut hash = Sha256State::new();
    let mut done = 0;
    while done < size {
        let len = usize::try_from(size - done).map_or(CHUNK, |rest| rest.min(CHUNK));
        random.fill(&mut chunk[..len]);
        advance(&mut [Job::new(&mut hash, &chunk[..len])]);
        file.write_all(&chunk[..len]).map_err(fail())?;
        done += len as u64;
        seen(done);
    }
    Ok(hash.finish())
}

/// The SHA-256 of a file. `seen` gets how many bytes are done.
pub(super) fn sha256(path: &Path, mut seen: impl FnMut(u64)) -> Result<[u8; 32], Error> {
    let fail = || Error::file("read", path);
    let mut file = File::open(path).map_err(fail())?;
    let mut chunk = vec![0; CHUNK];
    let mut hash = Sha256State::new();
    let mut done = 0;
    loop {
        let len = file.read(&mut chunk).map_err(fail())?;
        if len == 0 {
            return Ok(hash.finish());
        }
        advance(&mut [Job::new(&mut hash, &chunk[..len])]);
        done += len as u64;
        seen(done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_file_and_no_two_files_are_alike() {
        let folder = tempfile::tempdir().unwrap();
        let size = 2 * CHUNK as u64 + 17;
        let mut last = 0;
        let one = write_random(&folder.path().join("one"), size, |done| last = done).unwrap();
        let two = write_random(&folder.path().join("two"), size, |_| ()).unwrap();
        assert_eq!(last, size);
        assert_eq!(folder.path().join("one").metadata().unwrap().len(), size);
        assert_eq!(sha256(&folder.path().join("one"), |_| ()).unwrap(), one);
        assert_ne!(one, two);
    }
}
