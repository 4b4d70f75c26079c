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
    /// How many bytes of it were sent, and whether that was all. Not every client tells a peer of pieces that the peer has.
    bytes: u64,
    pub(super) sent: bool,
}

impl Offer {
    /// Whether the peer has still to get it.
    fn is_unused(&self) -> bool {
        self.had.is_none() && !self.sent
    }

    /// Whether the peer has it of others.
    pub(super) fn is_of_others(&self) -> bool {
        self.had.is_some() && self.bytes == 0
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
    /// Whether it has got a piece of us since it last got one of others; since when that is known; and whether that is long
    /// enough to take it for one that gets nothing of others.
    served: bool,
    served_since: Option<Duration>,
    lone: bool,
    /// Whether it was shown pieces as one that is alone when last looked at.
    pub(super) alone: bool,
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
    /// The numbers of all pieces that were shown, in order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.pieces.numbers()
    }

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
            served_since: None,
            lone: false,
            alone: false,
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

    /// So many of all bytes of a piece were sent to it, in whatever order it asked for them. Says whether all of the piece was,
    /// by that.
    pub(super) fn note_sent(&mut self, piece: PieceIndex, bytes: u32, all: u32) -> bool {
        let Some(offer) = self.open.iter_mut().find(|offer| offer.piece == piece) else { return false };
        offer.bytes += u64::from(bytes);
        let whole = offer.bytes >= u64::from(all) && !offer.sent;
        offer.sent |= whole;
        self.served |= whole;
        whole
    }

    /// The peer has got a piece that it was not sent: others give it something, and what they have it need not have of us.
    pub(super) fn trades(&mut self) {
        (self.again, self.served, self.served_since, self.lone) = (OPEN, false, None, false);
    }

    /// Looks whether it has had pieces of us for this long, and nothing of others, of whom there were some.
    pub(super) fn look_if_lone(&mut self, now: Duration, lull: Duration, only: bool) {
        if only {
            (self.served, self.served_since, self.lone) = (false, None, false);
        } else if self.served {
            let since = *self.served_since.get_or_insert(now);
            self.lone = now >= since + lull;
        }
    }

    /// Settles whether it is shown pieces as one that is alone: it is the only one, or as good as that. One who is no more has no more
    /// open than others.
    pub(super) fn settle_alone(&mut self, only: bool) -> bool {
        let alone = only || self.lone;
        if std::mem::replace(&mut self.alone, alone) && !alone {
            (self.fresh, self.again) = (OPEN, OPEN);
        }
        alone
    }

    /// While the seed has nothing to do: who has got all that it was shown gets pieces that nobody else has, and every time twice
    /// as many, though what it has is not seen elsewhere yet. Perhaps nobody else wants that.
    pub(super) fn hurry(&mut self, now: Duration, spread: &Spread, lull: Duration) {
        if self.open.iter().any(Offer::is_unused) || self.hurried.is_some_and(|at| now < at + lull) {
            return;
        }
        self.hurried = Some(now);
        self.close(spread, |offer| offer.had.is_none_or(|had| now < had + lull));
        self.fresh = self.fresh.saturating_mul(2).min(self.most);
    }

    /// All that one who is alone has asked for is sent: what it is shown at a time does not last until it asks again.
    pub(super) fn run_dry(&mut self) {
        self.fresh = self.fresh.saturating_mul(2).min(self.most);
        self.again = self.again.saturating_mul(2).min(self.most);
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
        self.open.push(Offer { piece, spread, since: now, had: None, bytes: 0, sent: false });
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
    /// with less. For one that is alone nothing has to spread.
    pub(super) fn close_spread(&mut self, spread: &Spread, kept: impl Fn(&Offer) -> bool) -> usize {
        let closed = self.close(spread, kept);
        if self.alone {
            return closed;
        }
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

    /// What it was shown, and a piece of two blocks among that.
    fn shown() -> (Spread, Shown, PieceIndex) {
        let layout = Layout::new(32_768, [640 * 32_768]).unwrap();
        let piece = layout.piece(7).unwrap();
        let (spread, mut shown) = (Spread::new(640), Shown::new(640, 32_768));
        shown.offer(Duration::ZERO, piece, &spread);
        (spread, shown, piece)
    }

    #[test]
    fn who_has_a_piece_of_us_and_for_a_second_none_of_others_is_lone_until_it_has() {
        let (_, mut shown, piece) = shown();
        let lull = Duration::from_secs(1);
        let lone = |shown: &mut Shown, millis| {
            shown.look_if_lone(Duration::from_millis(millis), lull, false);
            shown.settle_alone(false)
        };
        assert!(
            !shown.note_sent(piece, 16_384, 32_768) && !lone(&mut shown, 0) && !lone(&mut shown, 5000),
            "half of it"
        );
        assert!(shown.note_sent(piece, 16_384, 32_768) && !shown.note_sent(piece, 16_384, 32_768), "once");
        assert_eq!([5000, 5999, 6000].map(|millis| lone(&mut shown, millis)), [false, false, true]);
        shown.trades();
        assert!(!lone(&mut shown, 6000) && !lone(&mut shown, 9000), "no more of us since");
        shown.served = true;
        shown.look_if_lone(Duration::ZERO, lull, true);
        assert!(!lone(&mut shown, 9000), "that it had nothing of others while there were none says nothing");
    }

    #[test]
    fn who_is_alone_is_shown_more_at_a_time_when_it_runs_dry_and_no_more_than_others_when_it_is_not() {
        let (spread, mut shown, piece) = shown();
        let other = Layout::new(1, [640]).unwrap().piece(8).unwrap();
        shown.offer(Duration::ZERO, other, &spread);
        shown.note_sent(piece, 32_768, 32_768);
        assert!(shown.settle_alone(true));
        assert_eq!(shown.close_spread(&spread, |offer| !offer.sent), 1);
        assert_eq!((shown.fresh, shown.again), (OPEN, OPEN), "it has one to fetch yet");
        shown.run_dry();
        assert_eq!((shown.fresh, shown.again), (2 * OPEN, 2 * OPEN));
        assert!(!shown.settle_alone(false));
        assert_eq!((shown.fresh, shown.again), (OPEN, OPEN));
    }
}
