use crate::metainfo::{BLOCK_LEN, Layout, LayoutError, MAX_PIECE_LENGTH, MAX_PIECES};
use proptest::prelude::*;

#[test]
fn impossible_geometry_is_refused() {
    let layout =
        |piece_length, lengths: &[u64]| Layout::new(piece_length, lengths.iter().copied()).map(|_| ());
    assert_eq!(layout(0, &[1]), Err(LayoutError::PieceLength(0)));
    let long = u64::from(MAX_PIECE_LENGTH) + 1;
    assert_eq!(layout(long, &[1]), Err(LayoutError::PieceLength(long)));
    assert_eq!(layout(long - 1, &[1]), Ok(()));
    assert_eq!(layout(1 << 40, &[1]), Err(LayoutError::PieceLength(1 << 40)));
    assert_eq!(layout(1, &[]), Err(LayoutError::Empty));
    assert_eq!(layout(1, &[0, 0]), Err(LayoutError::Empty));
    assert_eq!(layout(1, &[u64::from(MAX_PIECES)]), Ok(()));
    assert_eq!(layout(1, &[u64::from(MAX_PIECES) + 1]), Err(LayoutError::TooManyPieces));
    assert_eq!(layout(1, &[u64::MAX]), Err(LayoutError::TooLarge));
    assert_eq!(layout(1, &[u64::MAX / 2, u64::MAX / 2, 9]), Err(LayoutError::TooLarge));
}

#[test]
fn requests_outside_of_a_piece_are_no_blocks() {
    let layout = Layout::new(40_000, [50_000]).unwrap();
    assert!(layout.block(0, 0, BLOCK_LEN).is_some());
    assert!(layout.block(0, 39_999, 1).is_some());
    assert!(layout.block(1, 9_999, 1).is_some());
    for (piece, begin, len) in [
        (0, 0, 0),
        (0, 0, BLOCK_LEN + 1),
        (0, 39_999, 2),
        (1, 9_999, 2),
        (1, 10_000, 1),
        (2, 0, 1),
        (u32::MAX, 0, 1),
        (0, u32::MAX, BLOCK_LEN),
        (0, 1, u32::MAX),
    ] {
        assert_eq!(layout.block(piece, begin, len), None, "{piece} {begin} {len}");
    }
}

/// Geometries with empty files in every place, and pieces shorter and longer than blocks and files.
fn layouts() -> impl Strategy<Value = Layout> {
    let length = prop_oneof![2 => Just(0_u64), 3 => 1_u64..100, 2 => 1_u64..100_000];
    let lengths =
        prop::collection::vec(length, 1..12).prop_filter("some bytes", |all| all.iter().any(|n| *n > 0));
    (prop_oneof![50_u64..200, 10_000_u64..70_000], lengths)
        .prop_map(|(piece_length, lengths)| Layout::new(piece_length, lengths).unwrap())
}

proptest! {
    #[test]
    fn spans_cover_a_run_once_and_in_order(layout in layouts(), piece: prop::sample::Index, begin: prop::sample::Index, len: prop::sample::Index) {
        let piece = layout.piece(piece.index(layout.piece_count() as usize) as u32).unwrap();
        let whole = layout.piece_len(piece) as usize;
        let begin = begin.index(whole);
        let len = 1 + len.index(whole - begin);
        let starts: Vec<u64> = layout.files().scan(0, |end, file| {
            let start = *end;
            *end += layout.file_len(file);
            Some(start)
        }).collect();
        let mut at = 0;
        for span in layout.spans(piece, begin as u32, len as u32) {
            prop_assert!(span.len > 0);
            prop_assert_eq!(span.at, at);
            prop_assert!(span.offset + u64::from(span.len) <= layout.file_len(span.file));
            let in_stream = layout.piece_start(piece) + begin as u64 + u64::from(at);
            prop_assert_eq!(starts[span.file.as_usize()] + span.offset, in_stream);
            prop_assert!(layout.pieces_of(span.file).contains(&piece.get()));
            at += span.len;
        }
        prop_assert_eq!(at as usize, len);
    }

    #[test]
    fn all_pieces_cover_all_files(layout in layouts()) {
        let mut seen = vec![0; layout.file_count()];
        for piece in layout.pieces() {
            for span in layout.spans(piece, 0, layout.piece_len(piece)) {
                prop_assert_eq!(span.offset, seen[span.file.as_usize()]);
                seen[span.file.as_usize()] += u64::from(span.len);
            }
        }
        for file in layout.files() {
            prop_assert_eq!(seen[file.as_usize()], layout.file_len(file));
            prop_assert_eq!(layout.pieces_of(file).is_empty(), layout.file_len(file) == 0);
        }
    }

    #[test]
    fn pieces_partition_the_stream_and_blocks_the_piece(layout in layouts()) {
        let mut end = 0;
        for piece in layout.pieces() {
            prop_assert_eq!(layout.piece_start(piece), end);
            end += u64::from(layout.piece_len(piece));
            let mut begin = 0;
            for index in 0..layout.blocks_in(piece) {
                let block = layout.nth_block(piece, index);
                prop_assert_eq!((block.piece, block.begin, block.index()), (piece, begin, index));
                prop_assert_eq!(layout.block(piece.get(), block.begin, block.len), Some(block));
                begin = block.end();
            }
            prop_assert_eq!(begin, layout.piece_len(piece));
        }
        prop_assert_eq!(end, layout.total());
        prop_assert_eq!(layout.piece(layout.piece_count()), None);
    }
}
