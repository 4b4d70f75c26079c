//! Which piece to fetch next: the rarest, chance deciding among equals.

use super::bitfield::Bitfield;
use crate::metainfo::{Layout, PieceIndex};

/// A piece that is not to be picked has no place in a bucket.
const NOWHERE: u32 = u32::MAX;

/// Missing pieces in buckets by availability: the number of connected peers that have them, not counting peers that
/// have everything. A HAVE moves one piece to the next bucket; a seed changes nothing at all.
#[derive(Debug)]
pub(super) struct Picker {
    availability: Vec<u16>,
    /// Where in its bucket each piece lies.
    place: Vec<u32>,
    buckets: Vec<Vec<PieceIndex>>,
    /// All pieces in buckets: a look tells whether a peer has any of them.
    open: Bitfield,
}

impl Picker {
    /// Nobody has any piece yet; all pieces that `wanted` says are to be fetched.
    pub(super) fn new(layout: &Layout, wanted: impl Fn(PieceIndex) -> bool) -> Self {
        let count = layout.piece_count() as usize;
        let mut picker = Self {
            availability: vec![0; count],
            place: vec![NOWHERE; count],
            buckets: vec![Vec::new()],
            open: Bitfield::new(layout.piece_count()),
        };
        layout.pieces().filter(|piece| wanted(*piece)).for_each(|piece| picker.add(piece));
        picker
    }

    /// Puts a piece (back) among those to fetch.
    pub(super) fn add(&mut self, piece: PieceIndex) {
        debug_assert_eq!(self.place[piece.as_usize()], NOWHERE);
        let rarity = usize::from(self.availability[piece.as_usize()]);
        if self.buckets.len() <= rarity {
            self.buckets.resize_with(rarity + 1, Vec::new);
        }
        self.place[piece.as_usize()] = self.buckets[rarity].len() as u32;
        self.buckets[rarity].push(piece);
        self.open.insert(piece);
    }

    /// Takes a piece out; nothing when it is not in.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        let place = std::mem::replace(&mut self.place[piece.as_usize()], NOWHERE);
        if place == NOWHERE {
            return;
        }
        self.open.remove(piece);
        let bucket = &mut self.buckets[usize::from(self.availability[piece.as_usize()])];
        bucket.swap_remove(place as usize);
        if let Some(moved) = bucket.get(place as usize) {
            self.place[moved.as_usize()] = place;
        }
    }

    /// Whether the piece is among those to fetch.
    pub(super) fn holds(&self, piece: PieceIndex) -> bool {
        self.place[piece.as_usize()] != NOWHERE
    }

    fn shift(&mut self, piece: PieceIndex, to: impl Fn(u16) -> u16) {
        let present = self.place[piece.as_usize()] != NOWHERE;
        self.remove(piece);
        let availability = &mut self.availability[piece.as_usize()];
        *availability = to(*availability);
        if present {
            self.add(piece);
        }
    }

    /// One more peer (not a seed) has the piece.
    pub(super) fn gain(&mut self, piece: PieceIndex) {
        self.shift(piece, |n| n.saturating_add(1));
    }

    /// One peer (not a seed) less has the piece.
    pub(super) fn lose(&mut self, piece: PieceIndex) {
        self.shift(piece, |n| n.saturating_sub(1));
    }

    /// The rarest piece to fetch among those in `peer`. Does not take it out.
    pub(super) fn pick(&self, peer: &Bitfield, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        if !self.open.meets(peer) {
            return None;
        }
        self.buckets.iter().filter(|bucket| !bucket.is_empty()).find_map(|bucket| {
            let (before, after) = bucket.split_at(rng.usize(..bucket.len()));
            after.iter().chain(before).copied().find(|piece| peer.has(*piece))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(layout: &Layout, pieces: &[u32]) -> Bitfield {
        let mut set = Bitfield::new(layout.piece_count());
        pieces.iter().for_each(|n| assert!(set.insert(layout.piece(*n).unwrap())));
        set
    }

    #[test]
    fn the_rarest_piece_that_the_peer_has_comes_first() {
        let layout = Layout::new(1, [4]).unwrap();
        let piece = |n| layout.piece(n).unwrap();
        let mut picker = Picker::new(&layout, |p| p != piece(3));
        let mut rng = fastrand::Rng::with_seed(1);
        for (n, times) in [(0, 3), (1, 1), (2, 2)] {
            (0..times).for_each(|_| picker.gain(piece(n)));
        }
        let all = set(&layout, &[0, 1, 2, 3]);
        assert_eq!(picker.pick(&all, &mut rng), Some(piece(1)));
        assert_eq!(picker.pick(&set(&layout, &[0, 2]), &mut rng), Some(piece(2)));
        picker.lose(piece(0));
        picker.lose(piece(0));
        picker.remove(piece(1));
        assert_eq!(picker.pick(&all, &mut rng), Some(piece(0)));
        picker.remove(piece(0));
        picker.remove(piece(2));
        assert_eq!(picker.pick(&all, &mut rng), None, "piece 3 is not wanted");
        picker.add(piece(1));
        assert_eq!(picker.pick(&all, &mut rng), Some(piece(1)));
    }

    #[test]
    fn chance_decides_among_equals() {
        let layout = Layout::new(1, [64]).unwrap();
        let picker = Picker::new(&layout, |_| true);
        let all = set(&layout, &(0..64).collect::<Vec<_>>());
        let picked: std::collections::HashSet<_> =
            (0..200).filter_map(|seed| picker.pick(&all, &mut fastrand::Rng::with_seed(seed))).collect();
        assert!(picked.len() > 32, "{} of 64 pieces in 200 picks", picked.len());
    }
}
