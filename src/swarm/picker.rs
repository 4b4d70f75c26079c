//! Which piece to fetch next: what is wanted most, of that the rarest, chance deciding among equals.

use super::bitfield::Bitfield;
use super::selection::{Priority, Selection};
use super::sightings::Sightings;
use crate::metainfo::{Layout, PieceIndex};
use std::cmp::Ordering;
use std::sync::Arc;

/// A piece that is not to be picked has no place in a bucket.
const NOWHERE: u32 = u32::MAX;
/// A peer that has no more open pieces than this is looked at piece by piece.
const FEW: u32 = 1024;
/// Classes of pieces by priority, the first to be fetched first.
const CLASSES: usize = 3;
/// Of so many pieces that are equally rare on this core the rarest on all cores is picked, and so many are looked at for them.
const CANDIDATES: usize = 8;
const LOOKS: usize = 64;

/// Before which place in the buckets a peer has nothing. Valid while no piece has come to a lower place: see `stamp`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hint {
    stamp: u64,
    class: u8,
    rarity: u16,
}

/// Missing pieces in buckets by class and availability: the number of this core's peers that have them, not counting peers
/// that have everything. A HAVE moves one piece to the next bucket; a seed changes nothing at all.
///
/// A pick costs a look at the bits of all pieces, 64 at a time, and then a few pieces: a peer with few open pieces has all of
/// them looked at, and gets what is the rarest on all cores; with many, some are found soon in a bucket where it has any, of which
/// it gets the rarest on all cores, and buckets where it has none are remembered ([`Hint`]). A pick by chance costs another look or
/// two at the bits.
#[derive(Debug)]
pub(super) struct Picker {
    availability: Vec<u16>,
    /// What the peers of all cores have; this core's part of it is kept up here.
    sightings: Arc<Sightings>,
    /// Where in its bucket each piece lies.
    place: Vec<u32>,
    class: Box<[u8]>,
    buckets: [Vec<Vec<PieceIndex>>; CLASSES],
    /// All pieces in buckets, by class: a look tells whether a peer has any of them.
    open: [Bitfield; CLASSES],
    /// Changes when a piece comes to a place before the one it had.
    stamp: u64,
    /// No piece of the class before this one is to be had any more: for those who want them in order.
    cursors: [u32; CLASSES],
    /// First and last piece of each wanted file: for those, too.
    spans: Vec<(u32, u32)>,
    /// How often a piece has been gained or lost.
    shifts: u64,
}

impl Picker {
    /// Nobody has any piece yet; what is selected is to be fetched, or nothing.
    pub(super) fn new(
        layout: &Layout,
        selection: &Selection,
        fetch: bool,
        sightings: Arc<Sightings>,
    ) -> Self {
        let count = layout.piece_count() as usize;
        let class = |piece| match selection.piece(piece) {
            Priority::High => 0,
            Priority::Normal => 1,
            Priority::Low | Priority::Skip => 2,
        };
        let wanted = layout.files().filter(|file| selection.file(*file) > Priority::Skip);
        let spans = wanted.map(|file| layout.pieces_of(file)).filter(|pieces| !pieces.is_empty());
        let mut picker = Self {
            availability: vec![0; count],
            sightings,
            place: vec![NOWHERE; count],
            class: layout.pieces().map(class).collect(),
            buckets: Default::default(),
            open: std::array::from_fn(|_| Bitfield::new(layout.piece_count())),
            stamp: 1,
            cursors: [0; CLASSES],
            spans: spans.map(|pieces| (pieces.start, pieces.end - 1)).collect(),
            shifts: 0,
        };
        let wanted = layout.pieces().filter(|piece| fetch && selection.wants(*piece));
        wanted.for_each(|piece| picker.insert(piece));
        picker
    }

    fn insert(&mut self, piece: PieceIndex) {
        debug_assert_eq!(self.place[piece.as_usize()], NOWHERE);
        let rarity = usize::from(self.availability[piece.as_usize()]);
        let class = usize::from(self.class[piece.as_usize()]);
        let buckets = &mut self.buckets[class];
        if buckets.len() <= rarity {
            buckets.resize_with(rarity + 1, Vec::new);
        }
        self.place[piece.as_usize()] = buckets[rarity].len() as u32;
        buckets[rarity].push(piece);
        self.open[class].insert(piece);
    }

    /// Puts a piece (back) among those to fetch.
    pub(super) fn add(&mut self, piece: PieceIndex) {
        self.insert(piece);
        self.stamp += 1;
        let cursor = &mut self.cursors[usize::from(self.class[piece.as_usize()])];
        *cursor = (*cursor).min(piece.get());
    }

    /// Takes a piece out; nothing when it is not in.
    pub(super) fn remove(&mut self, piece: PieceIndex) {
        let place = std::mem::replace(&mut self.place[piece.as_usize()], NOWHERE);
        if place == NOWHERE {
            return;
        }
        let class = usize::from(self.class[piece.as_usize()]);
        self.open[class].remove(piece);
        let buckets = &mut self.buckets[class];
        let bucket = &mut buckets[usize::from(self.availability[piece.as_usize()])];
        bucket.swap_remove(place as usize);
        if let Some(moved) = bucket.get(place as usize) {
            self.place[moved.as_usize()] = place;
        }
    }

    /// Whether the piece is among those to fetch.
    pub(super) fn holds(&self, piece: PieceIndex) -> bool {
        self.place[piece.as_usize()] != NOWHERE
    }

    /// Its class: those of lower ones are fetched first.
    pub(super) fn class(&self, piece: PieceIndex) -> u8 {
        self.class[piece.as_usize()]
    }

    /// Connected peers, but seeds, that have the piece.
    #[cfg(test)]
    pub(super) fn availability(&self, piece: PieceIndex) -> u16 {
        self.availability[piece.as_usize()]
    }

    /// How often a piece has been gained or lost since this was asked last.
    pub(super) fn take_shifts(&mut self) -> u64 {
        std::mem::take(&mut self.shifts)
    }

    fn shift(&mut self, piece: PieceIndex, to: impl Fn(u16) -> u16) -> bool {
        self.shifts += 1;
        let present = self.holds(piece);
        self.remove(piece);
        let availability = &mut self.availability[piece.as_usize()];
        let before = std::mem::replace(availability, to(*availability));
        match before.cmp(availability) {
            Ordering::Less => self.sightings.appear(piece),
            Ordering::Equal => {}
            Ordering::Greater => self.sightings.vanish(piece),
        }
        if present {
            self.insert(piece);
        }
        present
    }

    /// One more peer (not a seed) has the piece: the one with this hint.
    pub(super) fn gain(&mut self, piece: PieceIndex, hint: &mut Hint) {
        if self.shift(piece, |n| n.saturating_add(1)) {
            let place = (self.class[piece.as_usize()], self.availability[piece.as_usize()]);
            (hint.class, hint.rarity) = (hint.class, hint.rarity).min(place);
        }
    }

    /// One peer (not a seed) less has the piece.
    pub(super) fn lose(&mut self, piece: PieceIndex) {
        if self.shift(piece, |n| n.saturating_sub(1)) {
            self.stamp += 1;
        }
    }

    /// The piece to fetch first among those in `peer`, which has at most `most` of the missing ones. Does not take it out.
    pub(super) fn pick(
        &self,
        peer: &Bitfield,
        most: u32,
        hint: &mut Hint,
        rng: &mut fastrand::Rng,
    ) -> Option<PieceIndex> {
        let class = usize::from(self.first_class(peer)?);
        if most <= FEW {
            let key = |number: &u32| (self.sightings.peers(*number), rng.u32(..));
            let rarest = self.open[class].common(peer).min_by_key(key);
            return rarest.map(|number| self.open_piece(number));
        }
        if hint.stamp != self.stamp {
            *hint = Hint { stamp: self.stamp, ..Hint::default() };
        }
        let from = if class == usize::from(hint.class) { usize::from(hint.rarity) } else { 0 };
        let mut buckets = self.buckets[class].iter().enumerate().skip(from);
        let (rarity, found) =
            buckets.find_map(|(rarity, bucket)| Some((rarity, self.find_in(bucket, peer, rng)?)))?;
        (hint.class, hint.rarity) = (class as u8, rarity as u16);
        Some(found)
    }

    /// A piece of the bucket that the peer has: beginning anywhere, the rarest on all cores of the first few.
    fn find_in(&self, bucket: &[PieceIndex], peer: &Bitfield, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        if bucket.is_empty() {
            return None;
        }
        let (before, after) = bucket.split_at(rng.usize(..bucket.len()));
        let mut found = after.iter().chain(before).copied().skip_while(|piece| !peer.has(*piece));
        let first = found.next()?;
        let others = found.take(LOOKS).filter(|piece| peer.has(*piece)).take(CANDIDATES - 1);
        std::iter::once(first).chain(others).min_by_key(|piece| self.sightings.peers(piece.get()))
    }

    /// The class to be fetched first of those of which the peer has an open piece.
    pub(super) fn first_class(&self, peer: &Bitfield) -> Option<u8> {
        let class = self.open.iter().position(|open| open.count() > 0 && open.meets(peer));
        class.map(|class| class as u8)
    }

    /// The open piece of this number.
    fn open_piece(&self, number: u32) -> PieceIndex {
        let at = number as usize;
        let bucket = &self.buckets[usize::from(self.class[at])][usize::from(self.availability[at])];
        bucket[self.place[at] as usize]
    }

    /// Any piece in `peer` of those that are wanted most, by chance: the first pieces are for having something to trade soon,
    /// and the rarest ones are slow to come.
    pub(super) fn pick_any(&self, peer: &Bitfield, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        let open = &self.open[usize::from(self.first_class(peer)?)];
        let before = rng.usize(..open.count_common(peer) as usize);
        open.nth_common(peer, before as u32).map(|number| self.open_piece(number))
    }

    /// The next piece in `peer` for who wants them in order, those of a higher priority before all others: the last one of
    /// the file where the first that is not `done` lies (players look there for an index), else the lowest within `window`
    /// pieces from that first. A slow peer is to `skip` so many, and gets the first of a window there, else the last before it.
    pub(super) fn pick_in_order(
        &mut self,
        peer: &Bitfield,
        (window, skip): (u32, u32),
        layout: &Layout,
        done: impl Fn(PieceIndex) -> bool,
    ) -> Option<PieceIndex> {
        (0..CLASSES).find_map(|class| {
            let of_class = |piece: PieceIndex| usize::from(self.class[piece.as_usize()]) == class;
            let past = |piece: PieceIndex| !of_class(piece) || done(piece);
            let mut first = self.cursors[class];
            while layout.piece(first).is_some_and(past) {
                first += 1;
            }
            self.cursors[class] = first;
            let last = self.last_beside(first).filter(|_| skip == 0).and_then(|number| layout.piece(number));
            let from = first.saturating_add(skip).min(layout.piece_count());
            let within = (from..from.saturating_add(window)).map_while(|number| layout.piece(number));
            let before = (first..from).rev().filter_map(|number| layout.piece(number));
            let mut next = last.into_iter().chain(within).chain(before);
            next.find(|piece| of_class(*piece) && self.holds(*piece) && peer.has(*piece))
        })
    }

    /// Where the piece is in that order, for who skips nothing.
    pub(super) fn place(&self, piece: PieceIndex) -> (u8, bool, PieceIndex) {
        let class = self.class(piece);
        let last = self.last_beside(self.cursors[usize::from(class)]);
        (class, last != Some(piece.get()), piece)
    }

    /// The last piece of the file that is the last to begin in this piece or before it, if that is a later one.
    fn last_beside(&self, piece: u32) -> Option<u32> {
        let begun = self.spans.partition_point(|(first, _)| *first <= piece);
        let (_, last) = self.spans[..begun].last()?;
        (*last > piece).then_some(*last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn set(layout: &Layout, pieces: impl IntoIterator<Item = u32>) -> Bitfield {
        let mut set = Bitfield::new(layout.piece_count());
        pieces.into_iter().for_each(|n| assert!(set.insert(layout.piece(n).unwrap())));
        set
    }

    fn picker(layout: &Layout) -> Picker {
        picker_of(layout, &Selection::all(layout.piece_count()))
    }

    /// One piece as good as the others here, and had by nobody of another core.
    #[test]
    fn of_what_is_equally_rare_here_the_rarest_on_all_cores_is_picked() {
        for count in [10, 4 * FEW] {
            let layout = Layout::new(1, [count.into()]).unwrap();
            let sightings = Arc::new(Sightings::new(count));
            let selection = Selection::all(count);
            let core = || Picker::new(&layout, &selection, true, Arc::clone(&sightings));
            let (mut here, mut there, mut rng) = (core(), core(), fastrand::Rng::with_seed(1));
            let all = set(&layout, 0..count);
            let rare = |piece: PieceIndex| piece.get() % 5 == 3;
            for piece in layout.pieces() {
                here.gain(piece, &mut Hint::default());
                (0..if rare(piece) { 1 } else { 2 }).for_each(|_| there.gain(piece, &mut Hint::default()));
            }
            let pick = |rng: &mut _| here.pick(&all, count, &mut Hint::default(), rng).unwrap();
            let picks = (0..100).filter(|_| rare(pick(&mut rng))).count();
            // Of eight of many one in six times none is of these.
            assert!(picks >= if count > FEW { 70 } else { 100 }, "{picks} of 100 with {count} pieces");
            layout.pieces().for_each(|piece| there.lose(piece));
            assert_eq!(sightings.peers(3), 1);
        }
    }

    fn picker_of(layout: &Layout, selection: &Selection) -> Picker {
        Picker::new(layout, selection, true, Arc::new(Sightings::new(layout.piece_count())))
    }

    fn gain(picker: &mut Picker, piece: PieceIndex) {
        picker.gain(piece, &mut Hint::default());
    }

    #[test]
    fn the_rarest_piece_that_the_peer_has_comes_first() {
        let layout = Layout::new(1, [4]).unwrap();
        let piece = |n| layout.piece(n).unwrap();
        // A few and many: the two ways to look.
        for most in [4, u32::MAX] {
            let mut picker = picker(&layout);
            picker.remove(piece(3));
            let mut rng = fastrand::Rng::with_seed(1);
            for (n, times) in [(0, 3), (1, 1), (2, 2)] {
                (0..times).for_each(|_| gain(&mut picker, piece(n)));
            }
            let all = set(&layout, [0, 1, 2, 3]);
            let hint = &mut Hint::default();
            assert_eq!(picker.pick(&all, most, hint, &mut rng), Some(piece(1)));
            assert_eq!(
                picker.pick(&set(&layout, [0, 2]), most, &mut Hint::default(), &mut rng),
                Some(piece(2))
            );
            picker.lose(piece(0));
            picker.lose(piece(0));
            picker.remove(piece(1));
            assert_eq!(picker.pick(&all, most, hint, &mut rng), Some(piece(0)));
            picker.remove(piece(0));
            picker.remove(piece(2));
            assert_eq!(picker.pick(&all, most, hint, &mut rng), None, "piece 3 is not wanted");
            picker.add(piece(1));
            assert_eq!(picker.pick(&all, most, hint, &mut rng), Some(piece(1)));
        }
    }

    #[test]
    fn chance_decides_among_equals() {
        let layout = Layout::new(1, [64]).unwrap();
        let picker = picker(&layout);
        let all = set(&layout, 0..64);
        for most in [64, u32::MAX] {
            let pick =
                |seed| picker.pick(&all, most, &mut Hint::default(), &mut fastrand::Rng::with_seed(seed));
            let picked: HashSet<_> = (0..200).filter_map(pick).collect();
            assert!(picked.len() > 32, "{} of 64 pieces in 200 picks", picked.len());
        }
        let any: HashSet<_> =
            (0..200).filter_map(|seed| picker.pick_any(&all, &mut fastrand::Rng::with_seed(seed))).collect();
        assert!(any.len() > 32, "{} of 64 pieces in 200 picks by chance", any.len());
    }

    #[test]
    fn what_is_remembered_of_a_peer_agrees_with_a_look_at_everything() {
        let mut rng = fastrand::Rng::with_seed(5);
        let layout = Layout::new(1, [300]).unwrap();
        let mut picker = picker(&layout);
        let mut peers: Vec<(Bitfield, Hint)> =
            (0..8).map(|_| (Bitfield::new(300), Hint::default())).collect();
        for _ in 0..20_000 {
            let piece = layout.piece(rng.u32(..300)).unwrap();
            let (has, hint) = &mut peers[rng.usize(..8)];
            match rng.u8(..10) {
                0..4 if has.insert(piece) => picker.gain(piece, hint),
                4 if has.has(piece) => {
                    has.remove(piece);
                    picker.lose(piece);
                }
                5 => picker.remove(piece),
                6 if !picker.holds(piece) => picker.add(piece),
                _ => {
                    let found = picker.pick(has, u32::MAX, hint, &mut rng);
                    let open = picker.open.iter().flat_map(|open| open.common(has));
                    let least = open.map(|p| picker.availability[p as usize]).min();
                    assert_eq!(found.map(|p| picker.availability[p.as_usize()]), least);
                    assert!(found.is_none_or(|p| has.has(p) && picker.holds(p)));
                }
            }
        }
    }

    #[test]
    fn priorities_come_before_rarity_and_what_is_skipped_does_not_come() {
        let layout = Layout::new(1, [1; 6]).unwrap();
        let piece = |n| layout.piece(n).unwrap();
        let of =
            [1, 2, 3, 0, 2, 3].map(|n| [Priority::Skip, Priority::Low, Priority::Normal, Priority::High][n]);
        let mut picker = picker_of(&layout, &Selection::of_files(&layout, &of));
        let all = set(&layout, 0..6);
        [2, 2, 5].into_iter().for_each(|n| gain(&mut picker, piece(n)));
        gain(&mut picker, piece(1));
        let mut rng = fastrand::Rng::with_seed(1);
        for most in [6, u32::MAX] {
            let mut hint = Hint::default();
            let mut order = Vec::new();
            while let Some(next) = picker.pick(&all, most, &mut hint, &mut rng) {
                picker.remove(next);
                order.push(next.get());
            }
            assert_eq!(order, [5, 2, 4, 1, 0]);
            order.into_iter().for_each(|n| picker.add(piece(n)));
        }
        assert!(matches!(picker.pick_any(&all, &mut rng).map(PieceIndex::get), Some(2 | 5)));
    }

    /// All pieces in the order in which one peer that has everything is asked for them.
    fn in_order(picker: &mut Picker, layout: &Layout, window: u32) -> Vec<u32> {
        let all = set(layout, 0..layout.piece_count());
        let mut order = Vec::new();
        while let Some(next) = picker.pick_in_order(&all, (window, 0), layout, |p| order.contains(&p.get())) {
            picker.remove(next);
            order.push(next.get());
        }
        order
    }

    #[test]
    fn in_order_the_end_of_the_file_at_hand_comes_first_then_the_lowest_of_a_window() {
        let layout = Layout::new(1, [5, 0, 10]).unwrap();
        let mut picker = picker(&layout);
        assert_eq!(
            in_order(&mut picker, &layout, 3),
            [4, 0, 1, 2, 3, 14, 5, 6, 7, 8, 9, 10, 11, 12, 13],
            "an index at the end is fetched when its file is"
        );
        let all = set(&layout, 0..15);
        picker.add(layout.piece(9).unwrap());
        let next = picker.pick_in_order(&all, (3, 0), &layout, |p| p.get() != 9);
        assert_eq!(next.map(PieceIndex::get), Some(9), "given back");
        picker.remove(layout.piece(9).unwrap());
        let stuck = |p: PieceIndex| p.get() != 2;
        picker.cursors = [0; CLASSES];
        picker.add(layout.piece(6).unwrap());
        assert_eq!(picker.pick_in_order(&all, (3, 0), &layout, stuck), None, "6 is past the window");
    }

    #[test]
    fn in_order_who_skips_gets_what_is_later_and_at_the_end_what_there_is() {
        let layout = Layout::new(1, [10]).unwrap();
        let mut picker = picker(&layout);
        let all = set(&layout, 0..10);
        let mut order = Vec::new();
        while let Some(next) = picker.pick_in_order(&all, (3, 4), &layout, |p| p.get() < 2) {
            picker.remove(next);
            order.push(next.get());
        }
        assert_eq!(
            order,
            [6, 7, 8, 5, 4, 3, 2],
            "not the end of the file before all others, nor what is past the window"
        );
    }

    #[test]
    fn in_order_short_files_come_one_after_another_and_those_of_high_priority_first() {
        let layout = Layout::new(1, [2; 10]).unwrap();
        let plain = in_order(&mut picker(&layout), &layout, 8);
        let files = |order: &[u32]| order.chunks(2).map(|pair| pair[0] / 2).collect::<Vec<_>>();
        assert_eq!(files(&plain), (0..10).collect::<Vec<_>>());
        let mut of = [Priority::Normal; 10];
        (of[7], of[0], of[3]) = (Priority::High, Priority::Low, Priority::Skip);
        let selection = Selection::of_files(&layout, &of);
        let chosen = in_order(&mut picker_of(&layout, &selection), &layout, 8);
        assert_eq!(files(&chosen), [7, 1, 2, 4, 5, 6, 8, 9, 0]);
    }
}
