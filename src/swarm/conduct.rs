//! How a peer behaves: messages that should not have come, and work that it makes for nothing.

use super::bitfield::Bitfield;
use crate::metainfo::PieceIndex;
use std::time::Duration;

/// Messages out of place that one peer is forgiven: requests while choked or for pieces we lack, blocks unasked, slots taken back
/// at once over and over, pieces lost again.
const MOST_OFFENCES: u32 = 300;
/// So many bytes of such a message weigh as much as one more.
const OFFENCE_LEN: u32 = 1024;
/// One of them is forgotten in each such time: honest peers make a few now and then, and some stay for weeks.
pub(crate) const FORGETTING: Duration = Duration::from_secs(60);
/// Slots that a peer may give us and take back in a row without a block, until it counts as one that does not send.
const MOST_VAIN_TURNS: u32 = 8;
/// From then on it is out of place that a slot is taken back as soon as this. Clients go by rounds of ten seconds.
const LEAST_TURN: Duration = Duration::from_secs(2);
/// So long it is remembered which pieces a peer has lost. What a cache of any use gets back it keeps for longer.
const LOSSES: Duration = Duration::from_secs(600);

/// Messages of one peer that should not have come.
#[derive(Debug)]
pub struct Offences {
    count: u32,
    /// When one of them was last forgotten.
    forgot: Duration,
}

impl Offences {
    /// None so far.
    pub fn new(now: Duration) -> Self {
        Self { count: 0, forgot: now }
    }

    /// Counts one more. Says whether these are more than so many.
    pub fn add(&mut self, most: u32) -> bool {
        self.add_all(1, most)
    }

    /// The same, of something that weighs as much as so many.
    fn add_all(&mut self, weight: u32, most: u32) -> bool {
        self.count = self.count.saturating_add(weight);
        self.count > most
    }

    /// Time passes.
    pub fn tick(&mut self, now: Duration) {
        if now >= self.forgot + FORGETTING {
            (self.forgot, self.count) = (now, self.count.saturating_sub(1));
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Conduct {
    offences: Offences,
    /// When the peer last gave us a slot, and how many it has taken back since its last block although we had asked.
    turn: Duration,
    vain_turns: u32,
    /// Pieces that it has lost since then (BEP 54).
    lost: Option<(Duration, Box<Bitfield>)>,
}

/// What is to be thought of a peer that has taken its slot back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct VainTurn {
    /// It does not send.
    pub(super) snub: bool,
    /// It is out of place.
    pub(super) offends: bool,
}

impl Conduct {
    pub(super) fn new(now: Duration) -> Self {
        Self { offences: Offences::new(now), turn: now, vain_turns: 0, lost: None }
    }

    #[cfg(test)]
    pub(super) fn offences(&self) -> u32 {
        self.offences.count
    }

    /// Counts a message that should not have come, of so many bytes. A long one weighs as much as many: our limits let in so much
    /// less of what is wanted. Says whether that was one too many.
    pub(super) fn offend(&mut self, len: u32) -> bool {
        self.offences.add_all(1 + len / OFFENCE_LEN, MOST_OFFENCES)
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Duration) {
        self.offences.tick(now);
    }

    /// The peer gives us a slot.
    pub(super) fn turn_begins(&mut self, now: Duration) {
        self.turn = now;
    }

    /// A block has come.
    pub(super) fn block_came(&mut self) {
        self.vain_turns = 0;
    }

    /// The peer takes the slot back although it still had to send what we asked for. Whoever does so over and over, and sends
    /// nothing, has us look for requests and give them to others, each time.
    pub(super) fn turn_was_vain(&mut self, now: Duration) -> VainTurn {
        self.vain_turns = self.vain_turns.saturating_add(1);
        let snub = self.vain_turns >= MOST_VAIN_TURNS;
        VainTurn { snub, offends: snub && now < self.turn + LEAST_TURN }
    }

    /// The peer has lost one of so many pieces. Says whether it has lost the same one not long ago.
    pub(super) fn loses(&mut self, now: Duration, piece: PieceIndex, pieces: u32) -> bool {
        self.lost.take_if(|(since, _)| now >= *since + LOSSES);
        let (_, lost) = self.lost.get_or_insert_with(|| (now, Box::new(Bitfield::new(pieces))));
        !lost.insert(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::Layout;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_offence_a_minute_is_forgotten_and_more_are_too_many_in_the_end() {
        let too_many = |every: u32| {
            let mut conduct = Conduct::new(Duration::ZERO);
            let mut minutes = (0..100_000).map(|n| n * every * SECOND);
            minutes.find(|now| {
                conduct.tick(*now);
                conduct.offend(0)
            })
        };
        assert_eq!([60, 600].map(too_many), [None; 2], "for weeks");
        assert_eq!(too_many(0), Some(Duration::ZERO));
        let mut conduct = Conduct::new(Duration::ZERO);
        assert_eq!((1..).find(|_| conduct.offend(16 << 10)), Some(18), "blocks that nobody asked for");
        // Every other one is forgotten.
        assert_eq!(too_many(30), Some(599 * 30 * SECOND));
    }

    #[test]
    fn who_takes_its_slot_back_eight_times_and_sends_nothing_does_not_send() {
        let mut conduct = Conduct::new(Duration::ZERO);
        let turn = |conduct: &mut Conduct, length: u32| {
            conduct.turn_begins(100 * SECOND);
            conduct.turn_was_vain((100 + length) * SECOND)
        };
        assert!((0..7).all(|_| turn(&mut conduct, 0) == VainTurn::default()));
        conduct.block_came();
        assert!((0..7).all(|_| turn(&mut conduct, 0) == VainTurn::default()));
        assert_eq!(turn(&mut conduct, 0), VainTurn { snub: true, offends: true });
        assert_eq!(turn(&mut conduct, 2), VainTurn { snub: true, offends: false }, "it may be slow");
    }

    #[test]
    fn a_piece_lost_twice_within_the_same_ten_minutes_is_remembered() {
        let layout = Layout::new(1, [9]).unwrap();
        let mut conduct = Conduct::new(Duration::ZERO);
        let mut loses = |second: u32, piece| conduct.loses(second * SECOND, layout.piece(piece).unwrap(), 9);
        assert_eq!([loses(50, 3), loses(60, 4), loses(649, 3), loses(650, 4)], [false, false, true, false]);
    }
}
