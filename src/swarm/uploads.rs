//! The requests of one peer that wait to be served.

use super::precedence::LOOK;
use crate::metainfo::Block;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

/// Room for so many requests is kept while none wait.
const SPARE: usize = 64;
/// So many of the latest requests a cancel searches one by one; with more than that, all are sorted anew.
const TAIL: usize = 64;

/// A queue that takes 12 bytes a request, and in which a cancel costs no search, however many requests wait.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// In the order they were asked for; a request for no bytes is one that was cancelled.
    queue: VecDeque<Block>,
    /// How many were not cancelled.
    waiting: usize,
    /// How many bytes these ask for.
    bytes: u64,
    /// Where to find a request. Only while there is one, once there was something to cancel.
    index: Option<Box<Index>>,
}

/// Where in the queue each request stands: as much of its hash as tells most requests apart (the upper half), and its number
/// (the lower half). What was served since stays in it until it is made anew.
#[derive(Debug)]
struct Index {
    hasher: RandomState,
    places: Vec<u32>,
    /// Number of the request at the front of the queue; numbers begin anew after the last.
    first: u16,
    /// Requests at the end of the queue that are not in `places`.
    tail: usize,
}

impl Index {
    fn new(queue: &VecDeque<Block>) -> Self {
        let mut index = Self { hasher: RandomState::new(), places: Vec::new(), first: 0, tail: 0 };
        index.rebuild(queue);
        index
    }

    fn rebuild(&mut self, queue: &VecDeque<Block>) {
        let waiting = queue.iter().enumerate().filter(|(_, block)| block.len > 0);
        let places = waiting.map(|(at, block)| self.hash(block) << 16 | at as u32);
        self.places = places.collect();
        self.places.sort_unstable();
        (self.first, self.tail) = (0, 0);
    }

    fn hash(&self, block: &Block) -> u32 {
        self.hasher.hash_one(block) as u32 & 0xffff
    }

    /// Takes the places of a request out. Some may be those of others by now.
    fn take(&mut self, block: &Block) -> Vec<usize> {
        let hash = self.hash(block);
        let start = self.places.partition_point(|place| place >> 16 < hash);
        let end = start + self.places[start..].partition_point(|place| place >> 16 == hash);
        let first = self.first;
        self.places.drain(start..end).map(|place| usize::from((place as u16).wrapping_sub(first))).collect()
    }

    fn put_back(&mut self, block: &Block, at: usize) {
        let place = self.hash(block) << 16 | u32::from(self.first.wrapping_add(at as u16));
        let after = self.places.partition_point(|other| *other < place);
        self.places.insert(after, place);
    }
}

impl Uploads {
    /// Places taken, by cancelled requests too: they are given back when their turn comes.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many requests wait to be served, and how many bytes they ask for.
    pub(super) fn asked(&self) -> (u64, u64) {
        (self.waiting as u64, self.bytes)
    }

    /// A request for at least one byte.
    pub(super) fn push(&mut self, block: Block) {
        debug_assert!(block.len > 0, "so is written what was cancelled");
        self.waiting += 1;
        self.bytes += u64::from(block.len);
        self.queue.push_back(block);
        self.index.iter_mut().for_each(|index| index.tail += 1);
    }

    /// The next request to serve.
    pub(super) fn front(&mut self) -> Option<Block> {
        while let Some(block) = self.queue.front().copied() {
            if block.len > 0 {
                return Some(block);
            }
            self.step();
        }
        None
    }

    /// Takes the request that [`front`](Self::front) has shown.
    pub(super) fn pop(&mut self) {
        if let Some(block) = self.front() {
            self.waiting -= 1;
            self.bytes -= u64::from(block.len);
            self.step();
            self.settle();
        }
    }

    fn step(&mut self) {
        self.queue.pop_front();
        if let Some(index) = &mut self.index {
            index.first = index.first.wrapping_add(1);
            index.tail = index.tail.min(self.queue.len());
        }
    }

    /// When nothing waits, next to nothing is kept.
    fn settle(&mut self) {
        if self.waiting == 0 {
            self.clear();
        }
    }

    /// Takes a block out; says how many times it was to be sent.
    pub(super) fn cancel(&mut self, block: &Block) -> u32 {
        if self.queue.is_empty() {
            return 0;
        }
        let queue = &mut self.queue;
        let index = self.index.get_or_insert_with(|| Box::new(Index::new(queue)));
        if index.tail > TAIL {
            index.rebuild(queue);
        }
        let mut times = 0;
        let mut strike = |there: &mut Block| {
            there.len = 0;
            times += 1;
        };
        for at in index.take(block) {
            match queue.get_mut(at) {
                Some(there) if there == block => strike(there),
                Some(other) if other.len > 0 => index.put_back(&other.clone(), at),
                _ => {}
            }
        }
        let tail = queue.len() - index.tail;
        queue.range_mut(tail..).filter(|there| *there == block).for_each(strike);
        self.waiting -= times as usize;
        self.bytes -= u64::from(times) * u64::from(block.len);
        self.settle();
        times
    }

    /// Takes all out but what is to be kept; gives what it has taken, each block as often as it was to be sent.
    pub(super) fn drain(&mut self, mut keep: impl FnMut(&Block) -> bool) -> Vec<Block> {
        let (kept, mut taken): (VecDeque<Block>, Vec<Block>) = (VecDeque::new(), Vec::new());
        let waiting = std::mem::replace(&mut self.queue, kept).into_iter().filter(|block| block.len > 0);
        for block in waiting {
            if keep(&block) {
                self.queue.push_back(block);
            } else {
                taken.push(block);
            }
        }
        (self.waiting, self.index) = (self.queue.len(), None);
        self.bytes -= taken.iter().map(|block| u64::from(block.len)).sum::<u64>();
        taken.sort_unstable();
        taken
    }

    /// The requests that wait, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.queue.iter().filter(|block| block.len > 0)
    }

    /// Puts these, which are among the first [`LOOK`], before all others, in the order in which they were asked for.
    pub(super) fn prefer(&mut self, first: &[Block]) {
        if first.is_empty() {
            return;
        }
        self.queue.retain(|block| block.len > 0);
        let looked_at = self.queue.len().min(LOOK);
        self.queue.make_contiguous()[..looked_at].sort_by_cached_key(|block| !first.contains(block));
        self.index = None;
    }

    /// All that waits, as messages name it.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> impl Iterator<Item = [u32; 3]> {
        self.iter().map(|block| [block.piece.get(), block.begin, block.len])
    }

    /// Takes all out; says how many requests waited.
    pub(super) fn clear(&mut self) -> u64 {
        self.queue.clear();
        if self.queue.capacity() > SPARE {
            self.queue = VecDeque::new();
        }
        (self.bytes, self.index) = (0, None);
        std::mem::take(&mut self.waiting) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    fn taken(uploads: &mut Uploads) -> Vec<u32> {
        std::iter::from_fn(|| uploads.front().inspect(|_| uploads.pop()).map(|block| block.begin)).collect()
    }

    #[test]
    fn what_is_cancelled_is_not_served_and_all_else_in_order() {
        let piece = Layout::new(100, [100]).unwrap().piece(0).unwrap();
        let block = |begin| Block { piece, begin, len: 1 };
        let mut uploads = Uploads::default();
        [3, 1, 2, 1, 4].into_iter().for_each(|begin| uploads.push(block(begin)));
        assert_eq!(uploads.asked(), (5, 5));
        uploads.cancel(&block(1));
        uploads.cancel(&block(9));
        assert_eq!(uploads.asked(), (3, 3));
        assert_eq!(taken(&mut uploads), [3, 2, 4]);
        [5, 5].into_iter().for_each(|begin| uploads.push(block(begin)));
        assert_eq!(taken(&mut uploads), [5, 5]);
        uploads.push(block(6));
        assert_eq!((uploads.cancel(&block(6)), uploads.cancel(&block(6))), (1, 0));
        assert_eq!((uploads.len(), uploads.front()), (0, None));
        uploads.push(block(6));
        assert_eq!(taken(&mut uploads), [6]);
        [9, 7, 8, 9].into_iter().for_each(|begin| uploads.push(block(begin)));
        let drained = uploads.drain(|block| block.begin == 8);
        assert_eq!(drained.into_iter().map(|block| block.begin).collect::<Vec<_>>(), [7, 9, 9]);
        assert_eq!(uploads.asked(), (1, 1));
        assert_eq!((uploads.len(), taken(&mut uploads)), (1, vec![8]));
        [3, 1, 2, 1, 4].into_iter().for_each(|begin| uploads.push(block(begin)));
        uploads.cancel(&block(3));
        uploads.prefer(&[block(4), block(1)]);
        assert_eq!((uploads.asked(), uploads.cancel(&block(2))), ((4, 4), 1));
        assert_eq!(taken(&mut uploads), [1, 1, 4], "what is preferred");
        assert_eq!(uploads.asked(), (0, 0));
        [6, 6, 7].into_iter().for_each(|begin| uploads.push(block(begin)));
        assert_eq!((uploads.clear(), uploads.asked(), uploads.is_empty()), (3, (0, 0), true));
    }

    #[test]
    fn it_does_what_a_list_that_is_searched_does() {
        let piece = Layout::new(1 << 20, [1 << 20]).unwrap().piece(0).unwrap();
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut uploads, mut list) = (Uploads::default(), Vec::<Block>::new());
            let kinds = rng.u32(1..500);
            for step in 0..100_000 {
                let block = Block { piece, begin: rng.u32(0..kinds), len: 1 };
                match rng.u32(0..100) {
                    // Long stretches of each, so that it is long and short in turn.
                    n if n < 40 + 20 * u32::from(step % 5000 < 2500) && uploads.len() < 2000 => {
                        uploads.push(block);
                        list.push(block);
                    }
                    n if n < 80 => {
                        let next = (!list.is_empty()).then(|| list.remove(0));
                        assert_eq!(uploads.front(), next);
                        uploads.pop();
                    }
                    _ => {
                        let before = list.len();
                        list.retain(|other| *other != block);
                        assert_eq!(uploads.cancel(&block) as usize, before - list.len());
                    }
                }
                assert_eq!(uploads.is_empty(), list.is_empty());
            }
            assert!(uploads.waiting().eq(list.iter().map(|block| [0, block.begin, 1])));
        }
    }

    #[test]
    fn two_thousand_requests_take_what_they_must_and_give_it_back() {
        let piece = Layout::new(1 << 20, [1 << 20]).unwrap().piece(0).unwrap();
        let block = |begin| Block { piece, begin, len: 1 };
        let room = |uploads: &Uploads| {
            let places = uploads.index.as_ref().map_or(0, |index| index.places.capacity() * size_of::<u32>());
            uploads.queue.capacity() * size_of::<Block>() + places
        };
        let mut uploads = Uploads::default();
        (0..2000).for_each(|begin| uploads.push(block(begin)));
        assert!(room(&uploads) <= 2048 * 12, "12 bytes a request: {}", room(&uploads));
        assert_eq!(uploads.cancel(&block(1999)), 1);
        assert!(room(&uploads) <= 2048 * 16, "4 more to cancel: {}", room(&uploads));
        (0..1999).for_each(|begin| {
            assert_eq!(uploads.front(), Some(block(begin)));
            uploads.pop();
        });
        assert!(room(&uploads) <= SPARE * 12 && uploads.queue.is_empty());
    }
}
