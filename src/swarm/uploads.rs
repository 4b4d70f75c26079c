//! The requests of one peer that wait to be served.

use crate::metainfo::Block;
use std::collections::{HashMap, VecDeque};

/// A queue in which a cancel costs no search, however many requests wait.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// In the order they were asked for; those that are not in `waiting` are cancelled.
    queue: VecDeque<Block>,
    /// How many times each block is to be sent.
    waiting: HashMap<Block, u32>,
}

impl Uploads {
    /// Places taken, by cancelled requests too: they are given back when their turn comes.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn push(&mut self, block: Block) {
        *self.waiting.entry(block).or_default() += 1;
        self.queue.push_back(block);
    }

    /// The next request to serve.
    pub(super) fn front(&mut self) -> Option<Block> {
        while let Some(block) = self.queue.front().copied() {
            if self.waiting.contains_key(&block) {
                return Some(block);
            }
            self.queue.pop_front();
        }
        None
    }

    /// Takes the request that [`front`](Self::front) has shown.
    pub(super) fn pop(&mut self) {
        let Some(block) = self.queue.pop_front() else { return };
        if let Some(times) = self.waiting.get_mut(&block) {
            *times -= 1;
            if *times == 0 {
                self.waiting.remove(&block);
            }
        }
    }

    /// Takes a block out; says how many times it was to be sent.
    pub(super) fn cancel(&mut self, block: &Block) -> u32 {
        let times = self.waiting.remove(block).unwrap_or(0);
        if self.waiting.is_empty() {
            self.queue.clear();
        }
        times
    }

    /// Takes all out but what is to be kept; gives what it has taken, each block as often as it was to be sent.
    pub(super) fn drain(&mut self, keep: impl Fn(&Block) -> bool) -> Vec<Block> {
        let taken = self.waiting.extract_if(|block, _| !keep(block));
        let mut taken: Vec<Block> =
            taken.flat_map(|(block, times)| std::iter::repeat_n(block, times as usize)).collect();
        taken.sort_unstable();
        self.queue.retain(|block| self.waiting.contains_key(block));
        taken
    }

    /// All that waits, as messages name it.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> impl Iterator<Item = [u32; 3]> {
        let numbers = |block: &Block| [block.piece.get(), block.begin, block.len];
        self.waiting
            .iter()
            .flat_map(move |(block, times)| std::iter::repeat_n(numbers(block), *times as usize))
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.waiting.clear();
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
        uploads.cancel(&block(1));
        uploads.cancel(&block(9));
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
        assert_eq!((uploads.len(), taken(&mut uploads)), (1, vec![8]));
    }
}
