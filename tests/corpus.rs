//! Torrents that other people wrote, with the verdict of a trusted client.
//!
//! The folder is named by `SEEDRING_CORPUS`: `manifest.tsv` has a line for each file in `torrents/`: name, size,
//! verdict, kind (v1, v2, hybrid), SHA-1 and SHA-256 of the info dictionary. Small cases of the same classes are
//! among the unit tests of `metainfo`, and always run.

use seedring::bencode::Reason;
use seedring::metainfo::{LayoutError, Torrent, TorrentError};
use std::path::Path;

#[test]
fn every_torrent_of_the_corpus_gets_its_verdict() {
    let Some(folder) = std::env::var_os("SEEDRING_CORPUS") else {
        println!("SEEDRING_CORPUS names no folder: no corpus to check");
        return;
    };
    let folder = Path::new(&folder);
    let manifest = std::fs::read_to_string(folder.join("manifest.tsv")).expect("the corpus has a manifest");
    let rows: Vec<Vec<&str>> = manifest.lines().skip(1).map(|line| line.split('\t').collect()).collect();
    assert!(rows.len() > 50, "the manifest has {} rows", rows.len());
    for row in rows {
        let [file, size, verdict, kind, sha1, _] = row[..] else { panic!("a row of six columns: {row:?}") };
        let bytes = std::fs::read(folder.join("torrents").join(file)).expect("a torrent of the manifest");
        assert_eq!(bytes.len().to_string(), size, "{file}");
        let result = Torrent::parse(&bytes);
        let good = match (kind, verdict.strip_prefix("ERR ")) {
            ("v1", None) | ("hybrid", None) => {
                result.as_ref().is_ok_and(|torrent| torrent.info_hash.to_string() == sha1)
            }
            ("v2", None) => result == Err(TorrentError::V2Only),
            ("v1" | "-", Some(meaning)) => {
                result.as_ref().err().is_some_and(|error| meaning_of(error) == meaning)
            }
            ("v2", Some(_)) => result.is_err(),
            // The v1 part of a hybrid that fails for its v2 part may well be good.
            ("hybrid", Some(_)) => true,
            _ => panic!("{file} is of the unknown kind {kind}"),
        };
        assert!(good, "{file}: expected {verdict} ({kind}, {sha1}), got {result:?}");
    }
}

/// The trusted client's word for an error.
fn meaning_of(error: &TorrentError) -> &'static str {
    match error {
        TorrentError::Bencode(error) if error.reason == Reason::TooDeep => "bdecode_depth_exceeded",
        TorrentError::NotADictionary => "torrent_is_no_dict",
        TorrentError::MissingInfo => "torrent_missing_info",
        TorrentError::MissingPieceLength | TorrentError::Layout(LayoutError::PieceLength(_)) => {
            "torrent_missing_piece_length"
        }
        TorrentError::MissingName => "torrent_missing_name",
        TorrentError::InvalidName => "torrent_invalid_name",
        TorrentError::InvalidLength | TorrentError::Layout(LayoutError::Empty | LayoutError::TooLarge) => {
            "torrent_invalid_length"
        }
        TorrentError::TooManyDuplicateNames => "too_many_duplicate_filenames",
        TorrentError::Layout(LayoutError::TooManyPieces) => "too_many_pieces_in_torrent",
        TorrentError::MissingPieces => "torrent_missing_pieces",
        TorrentError::InvalidHashes { .. } => "torrent_invalid_hashes",
        _ => "something else",
    }
}
