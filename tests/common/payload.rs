//! Payload, and torrents of it.

use seedring::metainfo::Torrent;
use seedring::session::{CreateOptions, create};
use std::path::{Path, PathBuf};

/// Bytes of a block.
pub(crate) const BLOCK: u32 = 16 * 1024;

/// That many bytes, always the same.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

/// A torrent of what lies at `data`, written beside it.
pub(crate) fn torrent_of(data: &Path, piece_length: u32) -> (PathBuf, Torrent) {
    torrent_for(data, piece_length, Vec::new())
}

/// The same, with trackers in tiers.
pub(crate) fn torrent_for(data: &Path, piece_length: u32, trackers: Vec<Vec<String>>) -> (PathBuf, Torrent) {
    let options = CreateOptions { piece_length: Some(piece_length), trackers, ..CreateOptions::default() };
    let (bytes, torrent) = create(data, &options, 2, |_, _| {}).unwrap();
    let path = data.with_extension("torrent");
    std::fs::write(&path, bytes).unwrap();
    (path, torrent)
}

/// One file of that many bytes, its torrent, in a folder.
pub(crate) fn one_file(len: usize, piece_length: u32) -> (tempfile::TempDir, PathBuf, Torrent) {
    // On a file system with a disk behind it.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let data = folder.path().join("payload");
    std::fs::write(&data, noise(len)).unwrap();
    let (path, torrent) = torrent_of(&data, piece_length);
    (folder, path, torrent)
}
