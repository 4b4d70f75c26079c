//! What becomes of a piece whose blocks are here: hashed, written, had; or bad, or given up.

use super::active::{ActivePiece, Stage};
use super::{DropReason, PeerSlot, Swarm, Wish};
use crate::metainfo::PieceIndex;

/// Peers remembered for a bad piece.
const MOST_BANNED: usize = 10_000;

impl Swarm {
    pub(super) fn wish_hash(&mut self, piece: PieceIndex) {
        if let Some(run) = self.active.get_mut(&piece).and_then(ActivePiece::next_to_hash) {
            self.wishes.push_back(Wish::Hash(piece, run));
        }
    }

    pub(super) fn wish_writes(&mut self, piece: PieceIndex) {
        let runs = self.active.get_mut(&piece).map(ActivePiece::take_writable).unwrap_or_default();
        self.wishes.extend(runs.into_iter().map(|run| Wish::Write(piece, run)));
    }

    /// A run has been hashed; with the last run of a piece comes the `verdict`, whether its hash is right.
    pub fn hashed(&mut self, piece: PieceIndex, run: usize, verdict: Option<bool>) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        debug_assert_eq!(active.runs[run], Stage::Hashing);
        active.runs[run] = Stage::Hashed;
        active.verdict = verdict;
        active.streaming |= self.starved;
        if verdict == Some(false) {
            return self.settle_bad(piece);
        }
        self.wish_writes(piece);
        self.wish_hash(piece);
    }

    /// A run has been written.
    pub fn written(&mut self, piece: PieceIndex, run: usize) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        debug_assert_eq!(active.runs[run], Stage::Writing);
        active.runs[run] = Stage::Written;
        if active.verdict == Some(false) {
            return self.settle_bad(piece);
        }
        if active.is_written() {
            self.settle_good(piece);
        }
        if self.starved {
            self.starved = false;
            self.wake_hungry();
        }
    }

    fn settle_good(&mut self, piece: PieceIndex) {
        self.active.remove(&piece);
        self.failed.remove(&piece);
        self.map.set_have(piece);
        self.log.push(piece);
        self.totals.downloaded += u64::from(self.layout.piece_len(piece));
        self.wishes.push_back(Wish::Done { piece, good: true });
        let complete = self.map.is_complete();
        let slots: Vec<PeerSlot> = self.peers.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            if peer.has.has(piece) {
                peer.wanted -= 1;
            }
            if !peer.has.has(piece) || peer.wanted == 0 {
                self.wake(slot);
            }
            if complete && self.check_seed(slot).is_err() {
                self.drop_peer(slot, DropReason::BothSeeds);
            }
        }
    }

    /// The piece was bad. Writes that are under way must end first: they must not land on the next try.
    fn settle_bad(&mut self, piece: PieceIndex) {
        let Some(active) = self.active.get(&piece).filter(|active| !active.is_writing()) else { return };
        let culprit = active.sole_sender();
        self.totals.failed_pieces += 1;
        self.failed.insert(piece);
        self.restart(piece);
        let culprit = self.peers.iter().find(|(_, peer)| Some(peer.tag) == culprit);
        if let Some((slot, peer)) = culprit {
            // An address that we dialled is banned; who dials us is known by its host and id, for the port says nothing.
            // An id alone is no proof: a liar could take that of an honest peer.
            if peer.who.outgoing {
                self.candidates.ban(peer.who.addr);
            }
            if self.banned.len() < MOST_BANNED {
                self.banned.insert((peer.who.addr.ip(), peer.who.id));
            }
            self.drop_peer(slot, DropReason::BadPiece(piece));
        }
        self.wake_hungry();
    }

    /// Memory is short, and some of it may lie in pieces that no peer goes on with: gives up the one with the least
    /// in it.
    pub(super) fn give_up_one(&mut self) {
        let goes_on = |piece| self.peers.any_goes_on(piece);
        let stuck = self.active.values().filter(|active| active.is_idle() && !goes_on(active.piece));
        let Some(piece) =
            stuck.min_by_key(|active| active.received_bytes(&self.layout)).map(|active| active.piece)
        else {
            return;
        };
        self.restart(piece);
    }

    /// Ends a try at a piece that nobody is asked for.
    fn restart(&mut self, piece: PieceIndex) {
        let Some(active) = self.active.remove(&piece) else { return };
        self.totals.wasted += active.received_bytes(&self.layout);
        self.map.release(piece);
        self.picker.add(piece);
        self.wishes.push_back(Wish::Done { piece, good: false });
    }
}
