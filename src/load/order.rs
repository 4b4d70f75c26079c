//! In which order a connection asks for blocks.

use crate::metainfo::{Block, Layout};

/// How a connection goes through the torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One block after the other; each connection begins at another place.
    Sequential,
    /// Blocks from all over the torrent, each once a round; each connection has an order of its own.
    Scattered,
}

/// Number of blocks of the torrent.
pub(super) fn block_count(layout: &Layout) -> u64 {
    let last = layout.pieces().next_back().expect("a torrent has a piece");
    u64::from(last.get()) * blocks_a_piece(layout) + layout.blocks_in(last) as u64
}

fn blocks_a_piece(layout: &Layout) -> u64 {
    layout.blocks_in(layout.pieces().next().expect("a torrent has a piece")) as u64
}

/// The torrent's blocks, round and round.
#[derive(Debug)]
pub(super) struct Rounds {
    order: Order,
    count: u64,
    /// How many have been given, all rounds together.
    given: u64,
    /// Where a sequential round begins, or what makes a scattered one unlike others.
    seed: u64,
}

impl Rounds {
    /// Of connection `number` of `connections`.
    pub(super) fn new(layout: &Layout, order: Order, number: usize, connections: usize) -> Self {
        let count = block_count(layout);
        let seed = match order {
            Order::Sequential => (count as u128 * number as u128 / connections as u128) as u64,
            Order::Scattered => number as u64,
        };
        Self { order, count, given: 0, seed }
    }

    /// Blocks in a round.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    /// The next block.
    pub(super) fn next(&mut self, layout: &Layout) -> Block {
        let (round, place) = (self.given / self.count, self.given % self.count);
        self.given += 1;
        let number = match self.order {
            Order::Sequential => (self.seed + place) % self.count,
            Order::Scattered => scatter(place, self.count, self.seed ^ (round << 32)),
        };
        let in_piece = blocks_a_piece(layout);
        let piece = layout.piece((number / in_piece) as u32).expect("below the number of blocks");
        layout.nth_block(piece, (number % in_piece) as usize)
    }
}

/// Where `place` of `0..count` goes when they are shuffled as `seed` says: each place to another one.
fn scatter(place: u64, count: u64, seed: u64) -> u64 {
    // A Feistel network over the next even power of two; what falls outside goes through it again.
    let half = (64 - (count - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1u64 << half) - 1;
    let mut place = place;
    loop {
        let (mut left, mut right) = (place >> half, place & mask);
        for round in 1..=4u64 {
            let mixed = (right ^ (seed << 8 | round)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (left, right) = (right, left ^ (mixed >> 32 & mask));
        }
        place = left << half | right;
        if place < count {
            return place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_each_block_once() {
        for (total, piece_length) in
            [(1, 16_384), (100_000, 16_384), (1_000_003, 262_144), (500_000, 50_000), (30_000, 7_000)]
        {
            let layout = Layout::new(piece_length, [total]).unwrap();
            for order in [Order::Sequential, Order::Scattered] {
                for number in 0..3 {
                    let mut rounds = Rounds::new(&layout, order, number, 3);
                    for _ in 0..2 {
                        let mut round: Vec<Block> = (0..rounds.len()).map(|_| rounds.next(&layout)).collect();
                        round.sort();
                        round.dedup();
                        assert_eq!(round.len() as u64, rounds.len());
                        assert_eq!(round.iter().map(|block| u64::from(block.len)).sum::<u64>(), total);
                    }
                }
            }
        }
    }

    #[test]
    fn connections_begin_at_different_places() {
        let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
        for order in [Order::Sequential, Order::Scattered] {
            let mut first: Vec<Block> =
                (0..16).map(|number| Rounds::new(&layout, order, number, 16).next(&layout)).collect();
            first.sort();
            first.dedup();
            assert!(first.len() >= 15, "{order:?}: {first:?}");
        }
    }

    #[test]
    fn scattered_blocks_do_not_follow_each_other() {
        let layout = Layout::new(1 << 20, [64 << 20]).unwrap();
        let mut rounds = Rounds::new(&layout, Order::Scattered, 0, 1);
        let blocks: Vec<Block> = (0..rounds.len()).map(|_| rounds.next(&layout)).collect();
        let follow = |pair: &&[Block]| pair[0].piece == pair[1].piece && pair[0].end() == pair[1].begin;
        assert!(blocks.windows(2).filter(follow).count() < 50);
    }
}
