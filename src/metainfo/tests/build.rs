use crate::metainfo::{
    BuildError, Content, FileKind, MAX_PIECES, Torrent, TorrentBuilder, TorrentError, default_piece_length,
};
use proptest::prelude::*;

fn single() -> TorrentBuilder {
    TorrentBuilder {
        name: "a".into(),
        content: Content::Single(3),
        piece_length: 16384,
        pieces: vec![[b'h'; 20]],
        trackers: vec![],
        private: false,
        comment: None,
        created_by: None,
        creation_date: None,
    }
}

#[test]
fn the_plainest_torrent() {
    let expected = "d4:infod6:lengthi3e4:name1:a12:piece lengthi16384e6:pieces20:hhhhhhhhhhhhhhhhhhhhee";
    let (bytes, torrent) = single().build().unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    assert_eq!(torrent.name, "a");
}

#[test]
fn names_that_readers_would_change_are_refused() {
    for name in ["a\\b", "a\nb", "..", "", "a\u{202e}b"] {
        let builder = TorrentBuilder { name: name.into(), ..single() };
        assert!(builder.build().is_err(), "{name:?}");
    }
    let files = ["a", "a.part"].map(|name| (vec![name.to_owned()], 1));
    let error = TorrentBuilder { content: Content::Multi(files.into()), ..single() }.build().unwrap_err();
    assert_eq!(error, BuildError::Name { path: "a/a.part".into(), stored: "a/a.1.part".into() });
}

#[test]
fn what_readers_would_refuse_is_refused() {
    let missing = TorrentBuilder { pieces: vec![], ..single() }.build();
    assert_eq!(missing, Err(TorrentError::InvalidHashes { bytes: 0, pieces: 1 }.into()));
    let empty = TorrentBuilder { content: Content::Multi(vec![]), ..single() }.build();
    assert_eq!(empty, Err(TorrentError::NoFiles.into()));
    let huge = TorrentBuilder { content: Content::Single(u64::MAX), ..single() }.build();
    assert!(matches!(huge, Err(BuildError::Refused(TorrentError::Layout(_)))));
}

#[test]
fn one_tracker_needs_no_list() {
    let with = |trackers: &[&[&str]]| {
        let tiers = trackers.iter().map(|tier| tier.iter().map(|url| url.to_string()).collect()).collect();
        let (bytes, torrent) = TorrentBuilder { trackers: tiers, ..single() }.build().unwrap();
        (bytes.windows(13).any(|window| window == b"announce-list"), torrent.trackers)
    };
    assert_eq!(with(&[&["a"]]), (false, vec![vec!["a".to_owned()]]));
    assert_eq!(with(&[&["a"], &["b"]]), (true, vec![vec!["a".to_owned()], vec!["b".to_owned()]]));
}

#[test]
fn piece_lengths_fit_the_size() {
    assert_eq!(default_piece_length(0), 16 * 1024);
    assert_eq!(default_piece_length(1 << 30), 1 << 20);
    assert_eq!(default_piece_length(1 << 40), 16 << 20);
    assert_eq!(default_piece_length(1 << 44), 16 << 20);
    assert_eq!(default_piece_length((1 << 44) + 1), 32 << 20, "the hashes must fit into a torrent file");
    assert_eq!(default_piece_length(u64::MAX), 512 << 20);
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9äß文 _-]{1,12}(\\.[a-z]{1,4})?"
        .prop_filter("a name others keep", |name| !name.ends_with(".part"))
}

proptest! {
    #[test]
    fn the_default_makes_a_thousand_to_two_thousand_pieces(total in 1_u64..1 << 44) {
        let length = u64::from(default_piece_length(total));
        let pieces = total.div_ceil(length);
        prop_assert!(length.is_power_of_two() && pieces <= u64::from(MAX_PIECES));
        prop_assert!(pieces <= 2000 || length == 16 << 20);
        prop_assert!(pieces >= 1000 || length == 16 << 10);
    }

    #[test]
    fn what_is_built_is_read(
        title in name(),
        files in prop::option::of(prop::collection::btree_map(name(), 0_u64..100_000, 1..8)),
        length in 1_u64..200_000,
        trackers in prop::collection::vec(prop::collection::vec("[a-z]{1,9}", 1..3), 0..3),
        private in any::<bool>(),
        comment in prop::option::of("[a-z]{1,20}"),
        creation_date in any::<Option<i64>>(),
        seed in any::<u8>(),
    ) {
        let content = match files {
            // A directory of its own for each file: no clashes.
            Some(files) => Content::Multi(files.into_iter().zip(1..).map(|((name, length), n)| (vec![format!("d{n}"), name], length)).collect()),
            None => Content::Single(length),
        };
        let entries = match &content {
            Content::Single(length) => vec![(title.clone(), *length)],
            Content::Multi(files) => files.iter().map(|(path, len)| (format!("{title}/{}", path.join("/")), *len)).collect(),
        };
        let total: u64 = entries.iter().map(|(_, length)| length).sum();
        prop_assume!(total > 0);
        let pieces: Vec<_> = (0..total.div_ceil(16384)).map(|n| [seed.wrapping_add(n as u8); 20]).collect();
        let created_by = Some("seedring".to_owned());
        let builder = TorrentBuilder { name: title, content, piece_length: 16384, pieces, trackers, private, comment, created_by, creation_date };
        let (bytes, torrent) = builder.build().unwrap();
        prop_assert_eq!(&Torrent::parse(&bytes).unwrap(), &torrent);
        prop_assert!(crate::bencode::parse(&bytes).unwrap().sorted);
        prop_assert!(torrent.files.iter().all(|file| file.kind == FileKind::Regular));
        let read: Vec<_> = torrent.files.iter().map(|file| (file.path.join("/"), file.length)).collect();
        prop_assert_eq!(read, entries);
        let hashes: Vec<_> = torrent.layout.pieces().map(|piece| torrent.piece_hash(piece)).collect();
        prop_assert_eq!(hashes, builder.pieces);
        prop_assert_eq!(torrent.name, builder.name);
        prop_assert_eq!(torrent.layout.piece_length(), builder.piece_length);
        prop_assert_eq!(torrent.trackers, builder.trackers);
        prop_assert_eq!(torrent.private, builder.private);
        prop_assert_eq!(torrent.comment, builder.comment);
        prop_assert_eq!(torrent.created_by, builder.created_by);
        prop_assert_eq!(torrent.creation_date, builder.creation_date);
    }
}
