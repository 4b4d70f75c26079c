//! When peers hear of the pieces that we have got: at once while that is seldom, else of several together. A message of nine bytes
//! costs us as much to send as a long one, and who downloads fast from some gets pieces faster than all others need to know.

use super::speak::Speech;
use super::{PeerSlot, Swarm, Wish};
use crate::wire::Message;
use std::time::Duration;

/// No more often than this are peers woken to be told of pieces and of nothing else.
const PAUSE: Duration = Duration::from_millis(100);

/// When peers were told, and are to be told again.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// From then on they may be told at once.
    next: Duration,
    /// Pieces were got before that.
    waits: bool,
}

impl Telling {
    /// Whether who is to hear of a new piece can be told at once.
    pub(super) fn is_time(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// When those are to be told who were not told at once.
    pub(super) fn due(&self) -> Option<Duration> {
        Some(self.next).filter(|_| self.waits)
    }
}

impl Swarm {
    /// There are new pieces, of which peers were told `at_once`, or are to be told at their time.
    pub(super) fn note_news(&mut self, now: Duration, at_once: bool) {
        if at_once {
            self.telling.next = now + PAUSE;
        } else if !std::mem::replace(&mut self.telling.waits, true) {
            self.wishes.push_back(Wish::Deadline);
        }
    }

    /// Wakes those who have waited to be told of pieces, if it is time.
    pub(super) fn tell_of_pieces(&mut self, now: Duration) {
        if self.telling.due().is_none_or(|due| now < due) {
            return;
        }
        self.telling = Telling { next: now + PAUSE, waits: false };
        let had = self.have.count();
        let untold = self.peers.iter().filter(|(_, peer)| peer.told < had && peer.shown.is_none());
        let untold: Vec<PeerSlot> = untold.map(|(slot, _)| slot).collect();
        untold.into_iter().for_each(|slot| self.wake(slot));
    }

    pub(super) fn say_haves(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) {
        if self.peers.get(slot).is_some_and(|peer| peer.shown.is_some()) {
            while let Some(piece) = self.next_offer(now, slot) {
                speech.say(Message::Have(piece.get()));
            }
            return;
        }
        let Some(peer) = self.peers.get_mut(slot) else { return };
        while peer.told < self.have.count() && !speech.is_full() {
            let number = self.commons.map.logged(peer.told);
            peer.told += 1;
            // Also to who has the piece: by that a seed sees what is rare, and a super-seed of libtorrent's, which pretends to be a
            // leech, shows the next piece.
            let piece = number.and_then(|number| self.layout.piece(number));
            if let Some(piece) = piece.filter(|piece| !self.lost.has(*piece)) {
                speech.say(Message::Have(piece.get()));
            }
        }
    }
}
