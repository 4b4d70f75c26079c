//! What a super-seed has shown one peer, and how much more it may be shown now.

use super::bitfield::Bitfield;
use super::spread::Spread;
use crate::metainfo::PieceIndex;
use std::time::Duration;

/// Pieces that a peer is shown at first: one to fetch while the other spreads.
const OPEN: usize = 2;
/// Most pieces that wait at once for a peer to pass them on, and most bytes if these are less.
const MOST_OPEN: usize = 128;
const MOST_OPEN_BYTES: u64 = 32 << 20;
/// A peer that has had a piece for this long, and for the time that it takes at that rate (bytes a second), gets others, seen
/// elsewhere or not: perhaps nobody wants it of that peer.
const STALL: Duration = Duration::from_secs(10);
const STALL_RATE: f64 = 256.0 * 1024.0;

/// A piece that was shown to a peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) piece: PieceIndex,
    /// How many had it, or had been shown it, then; this peer counted.
    pub(super) spread: u32,
    /// Since when it is shown.
    pub(super) since: Duration,
    /// Since when the peer has it, by its own word or because it was sent all of it.
    pub(super) had: Option<Duration>,
    /// All of it was sent. Not every client tells a peer of pieces that the peer has.
    pub(super) sent: bool,
}

impl Offer {
    /// Whether the peer has still to get it.
    fn is_unused(&self) -> bool {
        self.had.is_none() && !self.sent
    }

    fn is_stalled(&self, now: Duration, piece_len: u32) -> bool {
        let patience = STALL + Duration::from_secs_f64(f64::from(piece_len) / STALL_RATE);
        self.had.is_some_and(|had| now >= had + patience)
    }
}

/// What one peer has been shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// What it may ask for.
    pieces: Bitfield,
    /// Of these, what it did not ask for in time: for others it counts as not shown.
    stale: Bitfield,
    pub(super) open: Vec<Offer>,
    /// Most offers to have open: of pieces that nobody else has, and of those that others have or were shown.
    fresh: usize,
    again: usize,
    most: usize,
    /// Whether it has got a piece of us, and one of others, since the seed last had nothing to do.
    served: bool,
    traded: bool,
    /// When those grew because the peer's pieces had gone nowhere.
    grown: Option<Duration>,
    /// When it last got more because the seed had nothing to do.
    hurried: Option<Duration>,
    /// When it last said that it has got a piece.
    pub(super) told: Option<Duration>,
    /// There was nothing for it when last looked: look again then.
    pub(super) look: Duration,
    /// Whether it was counted as a leech when these were counted last.
    pub(super) counted: bool,
}

impl Shown {
    pub(super) fn new(pieces: u32, piece_length: u32) -> Self {
        let most = MOST_OPEN_BYTES / u64::from(piece_length.max(1));
        Self {
            pieces: Bitfield::new(pieces),
            stale: Bitfield::new(pieces),
            open: Vec::new(),
            fresh: OPEN,
            again: OPEN,
            most: usize::try_from(most).map_or(MOST_OPEN, |most| most.clamp(OPEN, MOST_OPEN)),
            served: false,
            traded: false,
            grown: None,
            hurried: None,
            told: None,
            look: Duration::ZERO,
            counted: false,
        }
    }

    /// Whether the peer may ask for the piece.
    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.pieces.has(piece)
    }

    /// Whether the peer counts as one that has the piece, because it was shown.
    pub(super) fn counts(&self, piece: PieceIndex) -> bool {
        self.pieces.has(piece) && !self.stale.has(piece)
    }

    pub(super) fn awaits(&self, piece: PieceIndex) -> bool {
        self.open.iter().any(|offer| offer.piece == piece)
    }

    /// All of a piece was sent to it.
    pub(super) fn note_sent(&mut self, piece: PieceIndex) {
        self.served = true;
        self.open.iter_mut().filter(|offer| offer.piece == piece).for_each(|offer| offer.sent = true);
    }

    /// The peer has got a piece that it was not shown: others give it something, and what they have it need not have of us.
    pub(super) fn trades(&mut self) {
        (self.again, self.traded) = (OPEN, true);
    }

    /// While the seed has nothing to do: who has got all that it was shown gets pieces that nobody else has, and every time twice
    /// as many, though what it has is not seen elsewhere yet. Perhaps nobody else wants that. Of what others have, too, if it has had
    /// nothing of them since, but of us: perhaps it cannot reach them.
    pub(super) fn hurry(&mut self, now: Duration, spread: &Spread, lull: Duration) {
        if self.open.iter().any(Offer::is_unused) || self.hurried.is_some_and(|at| now < at + lull) {
            return;
        }
        self.hurried = Some(now);
        self.close(spread, |offer| offer.had.is_none_or(|had| now < had + lull));
        self.fresh = self.fresh.saturating_mul(2).min(self.most);
        let (served, traded) = (std::mem::take(&mut self.served), std::mem::take(&mut self.traded));
        if served && !traded {
            self.again = self.again.saturating_mul(2).min(self.most);
        }
    }

    /// Whether one more may be shown: one that nobody else has, or one that others have or were shown.
    pub(super) fn has_room(&self, fresh: bool) -> bool {
        self.open.len() < if fresh { self.fresh } else { self.again }
    }

    /// Shows the piece.
    pub(super) fn offer(&mut self, now: Duration, piece: PieceIndex, spread: &Spread) {
        self.pieces.insert(piece);
        self.stale.remove(piece);
        let spread = spread.offer(piece);
        self.open.push(Offer { piece, spread, since: now, had: None, sent: false });
    }

    /// The peer asks for a piece, or has it, that it let lie before. Says whether it is so.
    pub(super) fn revive(&mut self, piece: PieceIndex) -> bool {
        let stale = self.stale.has(piece);
        self.stale.remove(piece);
        stale
    }

    /// Closes the offers that are not to be kept; says how many.
    pub(super) fn close(&mut self, spread: &Spread, kept: impl Fn(&Offer) -> bool) -> usize {
        let closed = self.open.extract_if(.., |offer| !kept(offer));
        closed.inspect(|offer| spread.close(offer.piece)).count()
    }

    /// Closes the offers that have spread. Who had nothing left to fetch by then could do with more at a time, who has much left
    /// with less.
    pub(super) fn close_spread(&mut self, spread: &Spread, kept: impl Fn(&Offer) -> bool) -> usize {
        let closed = self.close(spread, kept);
        let left = self.open.iter().filter(|offer| offer.is_unused()).count();
        match left {
            0 => self.fresh = (self.fresh + closed).min(self.most),
            1 => {}
            _ => self.fresh = self.fresh.saturating_sub(closed).max(OPEN),
        }
        self.again = self.again.saturating_sub(closed).max(OPEN);
        closed
    }

    /// Closes the offers that have gone nowhere for long; says how many. `times`:
    /// how many times as many are shown from now on.
    pub(super) fn close_vain(
        &mut self,
        now: Duration,
        spread: &Spread,
        piece_len: u32,
        unasked: impl Fn(&Offer) -> bool,
        times: usize,
    ) -> usize {
        let mut closed = self.close(spread, |offer| !offer.is_stalled(now, piece_len));
        let (pieces, open) = (&mut self.stale, &mut self.open);
        for offer in open.extract_if(.., |offer| offer.is_unused() && unasked(offer)) {
            pieces.insert(offer.piece);
            spread.close(offer.piece);
            spread.lose(offer.piece);
            closed += 1;
        }
        // Of what was shown at one time some may have stalled a little later.
        if closed > 0 && self.grown.is_none_or(|at| now >= at + STALL) {
            self.grown = Some(now);
            self.fresh = self.fresh.saturating_mul(times).min(self.most);
            self.again = self.again.saturating_mul(times).min(self.most);
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    #[test]
    fn what_others_have_is_shown_more_and_more_of_at_a_time_to_who_has_it_of_us_alone() {
        let layout = Layout::new(16_384, [640 * 16_384]).unwrap();
        let piece = layout.piece(0).unwrap();
        let (spread, mut shown) = (Spread::new(640), Shown::new(640, 16_384));
        let mut now = Duration::ZERO;
        let mut lull = |shown: &mut Shown| {
            now += Duration::from_secs(1);
            shown.hurry(now, &spread, Duration::from_secs(1));
            shown.again
        };
        assert_eq!(lull(&mut shown), OPEN, "it was sent nothing");
        let mut served = |shown: &mut Shown| {
            shown.note_sent(piece);
            lull(shown)
        };
        assert_eq!([0; 3].map(|_| served(&mut shown)), [2 * OPEN, 4 * OPEN, 8 * OPEN]);
        shown.trades();
        assert_eq!(served(&mut shown), OPEN, "others give it something");
        assert_eq!(served(&mut shown), 2 * OPEN);
        (0..20).for_each(|_| _ = served(&mut shown));
        assert_eq!(served(&mut shown), MOST_OPEN);
    }
}
