//! What of which runs a peer's next blocks need, and the loading of it: several runs at a time.

use super::memory::RunKey;
use super::torrent::TorrentShard;
use crate::metainfo::Block;
use crate::ring::{FillingSlab, Slab};
use crate::storage::StorageError;
use crate::swarm::RUN_LEN;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Most runs that are loaded for one send: each takes a slab, however little of it is wanted.
const MOST_STRETCHES: usize = 16;

/// Bytes of one run, from one block or from several that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    key: RunKey,
    range: Range<usize>,
    /// Whether more of the run will be asked for.
    ahead: bool,
}

impl Stretch {
    /// Whether it covers these bytes of that run.
    pub(super) fn holds(&self, key: RunKey, range: &Range<usize>) -> bool {
        self.key == key && self.range.start <= range.start && range.end <= self.range.end
    }
}

/// The parts of a block: one as other clients may cut it can lie across two runs.
pub(super) fn parts(block: Block) -> impl Iterator<Item = (RunKey, Range<usize>)> {
    let mut begin = block.begin;
    std::iter::from_fn(move || {
        let end = block.end().min((begin / RUN_LEN + 1) * RUN_LEN);
        let part = (begin < end).then(|| Block { begin, len: end - begin, ..block })?;
        begin = end;
        Some(TorrentShard::home(&part))
    })
}

/// What the first of `blocks` need. Whoever asks on from where the block `last` ended will ask further, and so will he who
/// asks for two blocks of a run.
pub(super) fn stretches(
    blocks: impl IntoIterator<Item = Block>,
    mut last: Option<Block>,
    out: &mut Vec<Stretch>,
) {
    out.clear();
    for block in blocks {
        let follows = last.is_some_and(|last| last.piece == block.piece && last.end() == block.begin);
        for (key, range) in parts(block) {
            if let Some(stretch) = out.last_mut().filter(|stretch| follows && stretch.key == key) {
                stretch.range.end = range.end;
                stretch.ahead = true;
            } else if out.len() == MOST_STRETCHES {
                return;
            } else {
                out.push(Stretch { key, range, ahead: follows });
            }
        }
        last = Some(block);
    }
}

/// A stretch's run as it is found.
enum Found {
    /// All that is wanted is there.
    Here(Slab),
    /// A slab to read it into.
    Room(FillingSlab),
}

/// A stretch on its way into memory.
enum Loading<F> {
    Here(Slab),
    Reading(Pin<Box<F>>),
}

/// Loads stretches, all at the same time, into `slabs`: the first one in any case, the others as long as there is memory.
///
/// # Errors
/// When one cannot be read.
pub(super) async fn load(
    torrent: &TorrentShard,
    stretches: &[Stretch],
    slabs: &mut Vec<Slab>,
) -> Result<(), StorageError> {
    slabs.clear();
    let [first, others @ ..] = stretches else { return Ok(()) };
    let found = loop {
        match torrent.find(first) {
            Some(found) => break found,
            // Every slab is being filled or sent: some will be free soon.
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    // Whoever holds slabs must not wait for more: the others may do the same.
    let further = others.iter().map_while(|stretch| Some((stretch, torrent.find(stretch)?)));
    let mut loading: Vec<_> = std::iter::once((first, found))
        .chain(further)
        .map(|(stretch, found)| match found {
            Found::Here(slab) => Loading::Here(slab),
            Found::Room(room) => Loading::Reading(Box::pin(torrent.read_run(stretch, room))),
        })
        .collect();
    poll_fn(|context| poll_all(&mut loading, context)).await?;
    slabs.extend(loading.into_iter().map_while(|loading| match loading {
        Loading::Here(slab) => Some(slab),
        Loading::Reading(_) => None,
    }));
    Ok(())
}

/// Goes on with all reads; ready when all are done, or with the first error.
fn poll_all<F: Future<Output = Result<Slab, StorageError>>>(
    loading: &mut [Loading<F>],
    context: &mut Context<'_>,
) -> Poll<Result<(), StorageError>> {
    let mut all = Poll::Ready(Ok(()));
    for item in loading {
        let Loading::Reading(read) = item else { continue };
        match read.as_mut().poll(context) {
            Poll::Ready(Ok(slab)) => *item = Loading::Here(slab),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => all = Poll::Pending,
        }
    }
    all
}

impl TorrentShard {
    /// The run in the cache, or a slab for it. `None` when there is no memory now.
    fn find(&self, stretch: &Stretch) -> Option<Found> {
        let mut memory = self.memory.borrow_mut();
        let here = memory.get(stretch.key, &stretch.range);
        let found = here.map(Found::Here).or_else(|| memory.take(self.skew(stretch.key)).map(Found::Room))?;
        self.gauges.count_lookup(matches!(found, Found::Here(_)));
        Some(found)
    }

    /// Reads what is wanted, or the whole run when more of it will be, and keeps it.
    async fn read_run(&self, stretch: &Stretch, slab: FillingSlab) -> Result<Slab, StorageError> {
        let key = stretch.key;
        let read = if stretch.ahead { 0..self.run_len(key) as usize } else { stretch.range.clone() };
        let start = key.1 as u32 * RUN_LEN + read.start as u32;
        let slab = self.access.read(key.0, start, read.len() as u32, read.start, slab).await?;
        self.memory.borrow_mut().keep(key, slab.clone(), read);
        Ok(slab)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    const BLOCK: u32 = 16 * 1024;

    fn of(
        blocks: &[(u32, u32, u32)],
        last: Option<(u32, u32, u32)>,
    ) -> Vec<(u32, usize, Range<usize>, bool)> {
        let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
        let block = |(piece, begin, len)| Block { piece: layout.piece(piece).unwrap(), begin, len };
        let blocks = blocks.iter().copied().map(block);
        let mut out = Vec::new();
        stretches(blocks, last.map(block), &mut out);
        out.into_iter().map(|one| (one.key.0.get(), one.key.1, one.range, one.ahead)).collect()
    }

    #[test]
    fn blocks_that_follow_each_other_are_one_stretch() {
        let block = BLOCK as usize;
        let row: Vec<_> = (0..4).map(|at| (3, at * BLOCK, BLOCK)).collect();
        assert_eq!(of(&row, None), [(3, 0, 0..4 * block, true)]);
        assert_eq!(of(&row[..1], None), [(3, 0, 0..block, false)]);
        assert_eq!(of(&row[2..3], Some((3, BLOCK, BLOCK))), [(3, 0, 2 * block..3 * block, true)]);
        assert_eq!(of(&row[2..3], Some((2, BLOCK, BLOCK))), [(3, 0, 2 * block..3 * block, false)]);
        let mixed = [row[0], row[2], row[3], (4, 0, BLOCK)];
        let expected = [(3, 0, 0..block, false), (3, 0, 2 * block..4 * block, true), (4, 0, 0..block, false)];
        assert_eq!(of(&mixed, None), expected);
    }

    #[test]
    fn a_block_across_two_runs_is_two_stretches() {
        let found = of(&[(0, RUN_LEN - 5, 12), (0, RUN_LEN + 7, 3)], None);
        let end = RUN_LEN as usize;
        assert_eq!(found, [(0, 0, end - 5..end, false), (0, 1, 0..10, true)]);
    }

    #[test]
    fn not_everything_is_loaded_at_once() {
        let far: Vec<_> = (0..40).map(|piece| (piece, 0, BLOCK)).collect();
        assert_eq!(of(&far, None).len(), MOST_STRETCHES);
    }
}
