use super::{Info, file, string};
use crate::bencode::{Error, Reason};
use crate::metainfo::{FileKind, LayoutError, MAX_TORRENT_LEN, Torrent, TorrentError};
use proptest::prelude::*;
use sha1::{Digest, Sha1};

fn single(change: impl FnOnce(&mut Info)) -> Result<Torrent, TorrentError> {
    let mut info = Info::single();
    change(&mut info);
    info.parse()
}

#[test]
fn a_single_file_loads() {
    let torrent = Info::single().parse().unwrap();
    let expected: [u8; 20] = Sha1::digest(Info::single().encode()).into();
    assert_eq!(torrent.info_hash.0, expected);
    assert_eq!(torrent.info_hash.to_string().len(), 40);
    assert_eq!(torrent.name, "temp");
    assert_eq!((torrent.files[0].path.join("/"), torrent.files[0].length), ("temp".into(), 425));
    assert_eq!(torrent.piece_hash(torrent.layout.piece(0).unwrap()), [b'h'; 20]);
    assert!(!torrent.private && torrent.trackers.is_empty() && torrent.comment.is_none());
}

#[test]
fn the_info_hash_is_of_the_bytes_as_they_stand() {
    let raw = b"d12:piece lengthi16384e4:name4:temp6:lengthi3e6:pieces20:hhhhhhhhhhhhhhhhhhhhe";
    let torrent = Torrent::parse(&[&b"d4:info"[..], raw, b"e\n"].concat()).unwrap();
    let expected: [u8; 20] = Sha1::digest(raw).into();
    assert_eq!(torrent.info_hash.0, expected);
}

#[test]
fn what_is_no_torrent_is_refused() {
    assert_eq!(Torrent::parse(b"10:libtorrent"), Err(TorrentError::NotADictionary));
    assert_eq!(Torrent::parse(b"de"), Err(TorrentError::MissingInfo));
    assert_eq!(Torrent::parse(b"d4:infoi1ee"), Err(TorrentError::MissingInfo));
    let truncated = Error { reason: Reason::Truncated, at: 0 };
    assert_eq!(Torrent::parse(b""), Err(TorrentError::Bencode(truncated)));
    assert_eq!(Torrent::parse(&vec![b'd'; MAX_TORRENT_LEN + 1]), Err(TorrentError::TooLarge));
    let deep = Torrent::parse("d1:a".repeat(200).as_bytes());
    assert!(matches!(deep, Err(TorrentError::Bencode(Error { reason: Reason::TooDeep, .. }))));
}

/// Of what peers send, fewer values are read than of a file that somebody has chosen.
#[test]
fn of_metadata_from_peers_so_many_values_are_read() {
    const MOST: usize = 2_500_000;
    // The dictionary, four keys with their values, and one more key with a list.
    let of = |tokens: usize| {
        let extra = [&b"1:al"[..], &b"0:".repeat(tokens - 1 - 8 - 2), b"e"].concat();
        Info { extra, ..Info::single() }.encode()
    };
    assert!(Torrent::from_metadata(&of(MOST), &[]).is_ok());
    let more = of(MOST + 1);
    match Torrent::from_metadata(&more, &[]) {
        Err(TorrentError::Bencode(error)) => assert_eq!(error.reason, Reason::TooManyTokens(MOST)),
        other => panic!("{other:?}"),
    }
    assert!(Torrent::parse(&[b"d4:info", &more[..], b"e"].concat()).is_ok());
}

#[test]
fn a_piece_length_that_is_none_is_refused() {
    for wrong in ["", "5:16384", "i-16384e", "i0e", "le"] {
        let result = single(|info| info.piece_length = wrong.into());
        assert_eq!(result, Err(TorrentError::MissingPieceLength), "{wrong}");
    }
    let result = single(|info| info.piece_length = b"i2147483647e".into());
    assert_eq!(result, Err(TorrentError::Layout(LayoutError::PieceLength(2_147_483_647))));
    let large = single(|info| info.piece_length = b"i536854528e".into()).unwrap();
    assert_eq!(large.layout.piece_length(), 536_854_528);
}

#[test]
fn a_length_that_is_none_is_refused() {
    for wrong in ["", "3:425", "i-425e", "de"] {
        assert_eq!(single(|info| info.length = wrong.into()), Err(TorrentError::InvalidLength), "{wrong}");
        let entry = match wrong {
            "" => "d4:pathl1:aee".to_owned(),
            _ => format!("d6:length{wrong}4:pathl1:aee"),
        };
        assert_eq!(Info::multi([entry]).parse(), Err(TorrentError::InvalidLength), "{wrong}");
    }
    assert_eq!(Info::multi(["i5e"]).parse(), Err(TorrentError::InvalidLength));
    assert_eq!(single(|info| info.length = b"i0e".into()), Err(LayoutError::Empty.into()));
    let empty = "d6:lengthi0e4:pathl1:aee";
    assert_eq!(Info::multi([empty]).parse(), Err(LayoutError::Empty.into()));
    let huge = "d6:lengthi9223372036854775807e4:pathl1:aee";
    assert_eq!(Info::multi([huge, huge, huge]).parse(), Err(LayoutError::TooLarge.into()));
}

#[test]
fn a_missing_name_is_refused() {
    for wrong in ["", "i4e", "le"] {
        assert_eq!(single(|info| info.name = wrong.into()), Err(TorrentError::MissingName), "{wrong}");
    }
    assert_eq!(single(|info| info.name = b"4:\0\0\0\0".into()), Err(TorrentError::MissingName));
    assert_eq!(Info::multi(["d6:lengthi5ee"]).parse(), Err(TorrentError::MissingName));
    assert_eq!(Info::multi([file(&[])]).parse(), Err(TorrentError::MissingName));
    assert_eq!(Info::multi(["d6:lengthi5e4:pathl1:ai4eee"]).parse(), Err(TorrentError::InvalidName));
    assert_eq!(Info::multi([""]).parse(), Err(TorrentError::NoFiles));
}

#[test]
fn a_missing_name_is_named_before_a_duplicate_key() {
    let twice = single(|info| info.extra = b"1:xi1e1:xi2e".into());
    assert!(matches!(twice, Err(TorrentError::Bencode(Error { reason: Reason::DuplicateKey, .. }))));
    let both = single(|info| {
        info.extra = b"1:xi1e1:xi2e".into();
        info.name.clear();
    });
    assert_eq!(both, Err(TorrentError::MissingName));
}

#[test]
fn hashes_must_match_the_pieces() {
    for wrong in ["", "i20e", "le"] {
        assert_eq!(single(|info| info.pieces = wrong.into()), Err(TorrentError::MissingPieces), "{wrong}");
    }
    for bytes in [0, 19, 24, 40] {
        let result = single(|info| info.pieces = string(vec![0; bytes]));
        assert_eq!(result, Err(TorrentError::InvalidHashes { bytes, pieces: 1 }));
    }
    let many = single(|info| info.length = b"i1759218597889e".into());
    assert_eq!(many, Err(LayoutError::TooManyPieces.into()));
}

#[test]
fn v2_alone_is_refused_and_says_so() {
    let raw = b"d4:infod9:file treed1:ad0:d6:lengthi5eeee12:meta versioni2e4:name1:a12:piece lengthi16384eee";
    let error = Torrent::parse(raw).unwrap_err();
    assert_eq!(error, TorrentError::V2Only);
    assert!(error.to_string().contains("v2"));
}

#[test]
fn a_hybrid_loads_as_v1() {
    let torrent = single(|info| info.extra = b"9:file treede12:meta versioni2e".into()).unwrap();
    assert_eq!(torrent.files.len(), 1);
}

#[test]
fn nodes_of_the_dht_are_read() {
    let nodes = |list: &str| {
        let raw = format!(
            "d4:infod6:lengthi5e4:name1:a12:piece lengthi16384e6:pieces20:{}e5:nodes{list}e",
            "x".repeat(20)
        );
        Torrent::parse(raw.as_bytes()).unwrap().nodes
    };
    let good = nodes("ll9:127.0.0.1i6881eel8:a.b-c.dei1eel3:::1i2eel5:[::1]i3eee");
    let named = [("127.0.0.1", 6881), ("a.b-c.de", 1), ("::1", 2), ("::1", 3)];
    assert_eq!(good, named.map(|(host, port)| (host.to_owned(), port)));
    // What makes no sense is left out, and no more than enough is taken.
    for wrong in [
        "i5e",
        "le",
        "l1:ae",
        "ll1:aee",
        "ll1:ai0eee",
        "ll1:ai65536eee",
        "ll0:i1eee",
        "ll3:a/bi1eee",
        "ll1:a1:1ee",
    ] {
        assert_eq!(nodes(wrong), [], "{wrong}");
    }
    assert_eq!(nodes(&format!("l{}e", "l1:ai1ee".repeat(1000))).len(), 32);
}

#[test]
fn attributes_make_pads_links_and_programs() {
    let torrent = Info::multi([
        "d4:attr1:x6:lengthi5e4:pathl1:aee",
        "d4:attr1:p6:lengthi2124ee",
        "d6:lengthi7e4:pathl18:_____padding_file_ee",
        "d4:attr1:l4:pathl1:bee",
        "d4:attr1:l6:lengthi9e4:pathl1:cee",
    ]);
    let torrent = torrent.parse().unwrap();
    let seen: Vec<_> = torrent.files.iter().map(|f| (f.path.join("/"), f.length, f.kind)).collect();
    let expected = [
        ("temp/a", 5, FileKind::Regular),
        (".pad/2124", 2124, FileKind::Pad),
        ("temp/_____padding_file_", 7, FileKind::Pad),
        ("temp/b", 0, FileKind::Symlink),
        ("temp/c", 0, FileKind::Symlink),
    ];
    assert_eq!(seen, expected.map(|(path, length, kind)| (path.to_owned(), length, kind)));
    assert!(torrent.files[0].executable && !torrent.files[3].executable);
    assert_eq!(torrent.layout.total(), 5 + 2124 + 7);
}

#[test]
fn pads_may_share_a_path_and_be_all_there_is() {
    let pads = Info::multi(std::iter::repeat_n("d4:attr1:p6:lengthi1ee", 1000)).parse().unwrap();
    assert_eq!(pads.files.len(), 1000);
}

/// A torrent file with a good `info` and other keys beside it, in any order.
fn with_keys(keys: &str) -> Torrent {
    Torrent::parse(&[b"d4:info", Info::single().encode().as_slice(), keys.as_bytes(), b"e"].concat()).unwrap()
}

#[test]
fn trackers_come_in_tiers() {
    let single = with_keys("8:announce25:\t udp://test.com/announce");
    assert_eq!(single.trackers, [["udp://test.com/announce"]]);
    let list = with_keys("8:announce3:old13:announce-listll1:a1: 1:beli4e0:el3:c\nde5:wrongl2: dee");
    assert_eq!(list.trackers, [vec!["a", "b"], vec!["d"]]);
    let empty = with_keys("8:announce3:old13:announce-listll0:eleee");
    assert_eq!(empty.trackers, [["old"]]);
    assert!(with_keys("8:announcei4e13:announce-listi4e").trackers.is_empty());
    assert!(with_keys("8:announce3:a\x1bb").trackers.is_empty());
}

#[test]
fn text_for_people_is_cleaned() {
    let torrent =
        with_keys("7:comment14: a\u{202e}b\n\x1b[31mc 10:created by1:\x0013:creation datei1234567e");
    assert_eq!(torrent.comment.as_deref(), Some("ab  [31mc"));
    assert_eq!(torrent.created_by, None);
    assert_eq!(torrent.creation_date, Some(1_234_567));
    assert_eq!(with_keys("7:commenti4e13:creation date1:x").comment, None);
}

#[test]
fn private_is_read_from_inside_info_only() {
    assert!(single(|info| info.extra = b"7:privatei1e".into()).unwrap().private);
    assert!(!single(|info| info.extra = b"7:privatei0e".into()).unwrap().private);
    assert!(!with_keys("7:privatei1e").private);
}

proptest! {
    /// Whatever single byte of a torrent changes, reading ends with a verdict.
    #[test]
    fn no_damage_makes_it_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = Info::multi([file(&[b"a", b"b.txt"]), file(&[b"c"])]).torrent();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let _ = Torrent::parse(&bytes);
    }
}
