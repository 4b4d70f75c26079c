//! What becomes of a piece whose blocks are here: hashed, written, had; or bad, or given up.

use super::active::{ActivePiece, Stage};
use super::{DropReason, Swarm, Tag, Wish};
use crate::metainfo::PieceIndex;
use std::ops::Range;

impl Swarm {
    pub(super) fn wish_hash(&mut self, piece: PieceIndex) {
        if let Some(runs) = self.active.get_mut(&piece).and_then(ActivePiece::next_to_hash) {
            self.wishes.push_back(Wish::Hash(piece, runs));
        }
    }

    pub(super) fn wish_writes(&mut self, piece: PieceIndex) {
        let runs = self.active.get_mut(&piece).map(ActivePiece::take_writable).unwrap_or_default();
        self.wishes.extend(runs.into_iter().map(|run| Wish::Write(piece, run)));
    }

    /// Runs have been hashed; with the last run of a piece comes the `verdict`, whether its hash is right.
    pub fn hashed(&mut self, piece: PieceIndex, runs: Range<usize>, verdict: Option<bool>) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        debug_assert!(active.runs[runs.clone()].iter().all(|run| *run == Stage::Hashing));
        active.runs[runs].fill(Stage::Hashed);
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
        self.commons.map.set_have(piece);
        self.totals.downloaded += u64::from(self.layout.piece_len(piece));
        self.wishes.push_back(Wish::Done { piece, good: true });
        self.nudge = true;
        self.read_log();
    }

    /// The piece was bad. Writes that are under way must end first: they must not land on the next try.
    fn settle_bad(&mut self, piece: PieceIndex) {
        let Some(active) = self.active.get(&piece).filter(|active| !active.is_writing()) else { return };
        let culprit = active.sole_sender();
        self.totals.failed_pieces += 1;
        self.restart(piece, true);
        if let Some(culprit) = culprit {
            self.blame(culprit, piece);
        }
        self.wake_hungry();
    }

    /// Who alone sent a bad piece is dropped and banned. An address that we dialled is banned; who dials us is known by
    /// its host and id, for the port says nothing.
    pub fn blame(&mut self, culprit: Tag, piece: PieceIndex) {
        // What else came from there is not worth waiting for the hash of.
        for active in self.active.values_mut() {
            let before = active.received_bytes(&self.layout);
            active.disown(culprit);
            self.totals.wasted += before - active.received_bytes(&self.layout);
        }
        if culprit.core() != self.core {
            return self.wishes.push_back(Wish::Blame(culprit, piece));
        }
        let Some(slot) = self.peers.find(culprit) else { return };
        let Some(peer) = self.peers.get(slot) else { return };
        if peer.who.outgoing {
            self.candidates.ban(peer.who.addr);
        }
        self.commons.roster().ban(peer.who.identity());
        self.drop_peer(slot, DropReason::BadPiece(piece));
    }

    /// Memory is short, and some of it may lie in pieces that no peer goes on with: gives up the one with the least
    /// in it.
    pub(super) fn give_up_one(&mut self) {
        let goes_on = |piece| self.peers.any_goes_on(piece);
        let stuck = self.active.values().filter(|active| active.is_idle() && !goes_on(active.piece));
        let Some(active) = stuck.min_by_key(|active| active.received_bytes(&self.layout)) else { return };
        let (piece, suspect) = (active.piece, active.sole);
        self.restart(piece, suspect);
    }

    /// Ends a try at a piece that nobody is asked for; `suspect` when the next one must come from one peer alone.
    pub(super) fn restart(&mut self, piece: PieceIndex, suspect: bool) {
        let Some(active) = self.active.remove(&piece) else { return };
        self.totals.wasted += active.received_bytes(&self.layout);
        self.commons.map.release(piece, suspect);
        self.nudge = true;
        self.picker.add(piece);
        self.wishes.push_back(Wish::Done { piece, good: false });
    }
}
