//! Which runs are loaded for a peer's next blocks, and what is waited for together.

use super::*;
use crate::ring::FileRange;
use std::os::fd::AsFd;

const BLOCK: u32 = 16 * 1024;

fn of(blocks: &[(u32, u32, u32)], last: Option<(u32, u32, u32)>) -> Vec<(u32, usize, Range<usize>, bool)> {
    let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
    let block = |(piece, begin, len)| Block { piece: layout.piece(piece).unwrap(), begin, len };
    let blocks = blocks.iter().copied().map(block);
    let mut out = Vec::new();
    stretches(&layout, blocks, last.map(block), &mut out);
    out.into_iter().map(|one| (one.key.0.get(), one.key.1, one.range, one.ahead)).collect()
}

#[test]
fn what_is_left_out_is_known() {
    let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
    let blocks: Vec<Block> =
        (0..20).map(|at| Block { piece: layout.piece(at).unwrap(), begin: 0, len: BLOCK }).collect();
    let mut out = Vec::new();
    let behind = stretches(&layout, blocks.iter().copied(), None, &mut out);
    assert_eq!((out.len(), behind), (MOST_STRETCHES, 20 - MOST_STRETCHES));
    assert_eq!((out[0].blocks, out[15].blocks), (20, 5));
    assert_eq!(stretches(&layout, blocks[..3].iter().copied(), None, &mut out), 0);
}

#[test]
fn blocks_that_follow_each_other_are_one_stretch() {
    let block = BLOCK as usize;
    let row: Vec<_> = (0..4).map(|at| (3, at * BLOCK, BLOCK)).collect();
    assert_eq!(of(&row, None), [(3, 0, 0..4 * block, true)]);
    assert_eq!(of(&row[..1], None), [(3, 0, 0..block, false)]);
    assert_eq!(of(&row[2..3], Some((3, BLOCK, BLOCK))), [(3, 0, 2 * block..3 * block, true)]);
    assert_eq!(of(&row[2..3], Some((2, BLOCK, BLOCK))), [(3, 0, 2 * block..3 * block, false)]);
    let ends = Some((2, (1 << 20) - BLOCK, BLOCK));
    assert_eq!(of(&row[..1], ends), [(3, 0, 0..block, true)], "in the next piece");
    let mixed = [row[0], row[2], row[3], (4, 0, BLOCK)];
    let expected = [(3, 0, 0..block, false), (3, 0, 2 * block..4 * block, true), (4, 0, 0..block, false)];
    assert_eq!(of(&mixed, None), expected);
}

/// It is let go, too: else the files that it keeps open would be missing where the read waits for one.
#[test]
fn what_the_page_cache_holds_does_not_wait_for_a_read() {
    let core = crate::ring::Core::without_ring(2 * crate::ring::SLAB_LEN);
    let slab = core.arena.take().unwrap().seal().ok().unwrap();
    let file: Rc<dyn AsFd> = Rc::new(std::io::stderr());
    let kept = |kinds: &str| {
        let found = kinds.chars().map(|kind| match kind {
            'c' => Found::Here(Payload::Cached(
                0,
                Rc::new([Cached::File(FileRange::new(Rc::clone(&file), 0..1))]),
            )),
            's' => Found::Here(Payload::Slab(slab.clone())),
            _ => Found::Coming(watch::channel(None).1),
        });
        let together = of_one_kind(found.map(|found| (found, Lookup::Read)).collect());
        (together.len(), Rc::strong_count(&file) - 1)
    };
    let cases = [("cscs", 4, 2), ("srsr", 4, 0), ("cscrs", 3, 2), ("rssrc", 4, 0), ("scr", 2, 1), ("", 0, 0)];
    for (kinds, count, open) in cases {
        assert_eq!(kept(kinds), (count, open), "{kinds}");
    }
}

#[test]
fn a_block_across_two_runs_is_two_stretches() {
    let found = of(&[(0, RUN_LEN - 5, 12), (0, RUN_LEN + 7, 3)], None);
    let end = RUN_LEN as usize;
    assert_eq!(found, [(0, 0, end - 5..end, false), (0, 1, 0..10, true)]);
}

/// Blocks as peers may ask for them: again, within one another, of any length.
#[test]
fn every_block_finds_its_own_bytes_whatever_is_asked_for() {
    let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2000 {
        let count = random.usize(1..8);
        let blocks: Vec<Block> = std::iter::repeat_with(|| {
            let (begin, len) = (random.u32(0..6) * BLOCK / 2, random.u32(1..=BLOCK));
            let begin = begin + random.u32(0..2) * (RUN_LEN - BLOCK);
            Block { piece: layout.piece(random.u32(0..2)).unwrap(), begin, len }
        })
        .take(count)
        .collect();
        let mut found = Vec::new();
        stretches(&layout, blocks.iter().copied(), None, &mut found);
        let mut loaded = Loaded::new(&found, &found);
        for (key, range) in blocks.iter().flat_map(|block| parts(*block)) {
            let stretch = loaded.find(key, &range);
            assert!(stretch.is_some_and(|stretch| stretch.holds(key, &range)), "{blocks:?}: {found:?}");
        }
    }
}

#[test]
fn what_was_not_loaded_is_not_found() {
    let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
    let block = |piece| Block { piece: layout.piece(piece).unwrap(), begin: 0, len: BLOCK };
    let mut found = Vec::new();
    stretches(&layout, [block(0), block(1), block(2)].into_iter(), None, &mut found);
    let mut loaded = Loaded::new(&found, &["first", "second"]);
    let mut find = |piece| loaded.find((layout.piece(piece).unwrap(), 0), &(0..BLOCK as usize)).copied();
    assert_eq!([find(1), find(2), find(2)], [Some("second"), None, None]);
}

#[test]
fn not_everything_is_loaded_at_once() {
    let far: Vec<_> = (0..40).map(|piece| (piece, 0, BLOCK)).collect();
    assert_eq!(of(&far, None).len(), MOST_STRETCHES);
}
