//! Torrents that other people wrote, with the verdict of a trusted client.
//!
//! The folder is named by `SEEDRING_CORPUS`: `manifest.tsv` has a line for each file in `torrents/`: name, size,
//! verdict, kind (v1, v2, hybrid), SHA-1 and SHA-256 of the info dictionary. Small ones of the same classes, of our own,
//! always get their verdict; more of them are among the unit tests of `metainfo`.

use seedring::bencode::Reason;
use seedring::metainfo::{LayoutError, Torrent, TorrentError};
use std::io::Write;
use std::path::Path;

/// Verdicts on what only v2 has, which is not read of a hybrid.
const OF_V2: [&str; 2] = ["torrent_file_parse_failed", "torrent_inconsistent_files"];

#[test]
fn small_torrents_of_the_same_classes_get_their_verdict() {
    let (pieces, deep) = (format!("6:pieces20:{}", "h".repeat(20)), "l".repeat(200));
    let whole = |info: &str| format!("d4:infod{info}ee");
    let many = format!("5:filesl{}e", "d6:lengthi1e4:pathl1:aee".repeat(600));
    let rows = [
        ("le".to_owned(), "torrent_is_no_dict"),
        ("de".to_owned(), "torrent_missing_info"),
        (format!("d1:a{deep}"), "bdecode_depth_exceeded"),
        (whole(&format!("6:lengthi9e4:name1:n{pieces}")), "torrent_missing_piece_length"),
        (whole(&format!("6:lengthi9e4:name1:n12:piece lengthi0e{pieces}")), "torrent_missing_piece_length"),
        (whole(&format!("6:lengthi9e12:piece lengthi16384e{pieces}")), "torrent_missing_name"),
        (whole(&format!("6:lengthi-9e4:name1:n12:piece lengthi16384e{pieces}")), "torrent_invalid_length"),
        (whole("6:lengthi9e4:name1:n12:piece lengthi16384e"), "torrent_missing_pieces"),
        (whole("6:lengthi9e4:name1:n12:piece lengthi16384e6:pieces3:hhh"), "torrent_invalid_hashes"),
        (whole(&format!("6:lengthi99999e4:name1:n12:piece lengthi16384e{pieces}")), "torrent_invalid_hashes"),
        (whole(&format!("{many}4:name1:n12:piece lengthi16384e{pieces}")), "too_many_duplicate_filenames"),
    ];
    for (torrent, verdict) in rows {
        let result = Torrent::parse(torrent.as_bytes());
        let meaning = result.as_ref().err().map(meaning_of);
        assert_eq!(meaning, Some(verdict), "{torrent}: {result:?}");
    }
    let good = whole(&format!("6:lengthi9e4:name1:n12:piece lengthi16384e{pieces}"));
    assert!(Torrent::parse(good.as_bytes()).is_ok());
    let v2 = whole("9:file treed1:nd0:d6:lengthi0eeee12:meta versioni2e4:name1:n12:piece lengthi16384e");
    assert_eq!(Torrent::parse(v2.as_bytes()), Err(TorrentError::V2Only));
}

#[test]
fn every_torrent_of_the_corpus_gets_its_verdict() {
    let Some(folder) = std::env::var_os("SEEDRING_CORPUS") else {
        // Not by a macro: what a test prints is hidden when all goes well.
        let told =
            std::io::stderr().write_all(b"NOT RUN: the corpus of others; SEEDRING_CORPUS names no folder\n");
        return told.expect("there is a standard error");
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
            // The v1 part of a hybrid that fails for its v2 part may well be good: then it is taken for what it says.
            ("hybrid", Some(meaning)) => match &result {
                Ok(torrent) => OF_V2.contains(&meaning) && torrent.info_hash.to_string() == sha1,
                Err(error) => meaning_of(error) == meaning,
            },
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
