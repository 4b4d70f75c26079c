//! What becomes of a piece whose blocks are here: hashed, written, had; or bad, or given up.

use super::active::{ActivePiece, Senders, Stage};
use super::peer::Peer;
use super::{DropReason, Introduction, Swarm, Tag, Wish};
use crate::metainfo::PieceIndex;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Connections that are remembered after their end, on each core.
const MOST_DEPARTED: usize = 1000;

/// A connection that has ended, or what would be left of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Departed {
    tag: Tag,
    who: Introduction,
    /// The user has named it.
    given: bool,
}

impl From<&Peer> for Departed {
    fn from(peer: &Peer) -> Self {
        Self { tag: peer.tag, who: peer.who, given: peer.given }
    }
}

impl Swarm {
    pub(super) fn wish_hash(&mut self, piece: PieceIndex) {
        self.wish_counts(piece);
        if let Some(runs) = self.active.get_mut(&piece).and_then(ActivePiece::next_to_hash) {
            self.wishes.push_back(Wish::Hash(piece, runs));
        }
    }

    pub(super) fn wish_writes(&mut self, piece: PieceIndex) {
        let runs = self.active.get_mut(&piece).map(ActivePiece::take_writable).unwrap_or_default();
        self.wishes.extend(runs.into_iter().map(|run| Wish::Write(piece, run)));
    }

    /// Runs have been hashed; with the last run of a piece comes the `verdict`, whether its hash is right.
    pub fn hashed(&mut self, now: Duration, piece: PieceIndex, runs: Range<usize>, verdict: Option<bool>) {
        let starved = self.is_starved();
        let Some(active) = self.active.get_mut(&piece) else { return };
        debug_assert!(active.runs[runs.clone()].iter().all(|run| *run == Stage::Hashing));
        active.runs[runs].fill(Stage::Hashed);
        active.verdict = verdict;
        active.streaming |= starved;
        if verdict == Some(false) {
            return self.settle_bad(now, piece);
        }
        self.wish_writes(piece);
        self.wish_hash(piece);
    }

    /// Whether the piece is right, and all of it written but for this run.
    pub fn is_last_to_write(&self, piece: PieceIndex, run: usize) -> bool {
        self.active.get(&piece).is_some_and(|active| active.verdict == Some(true) && active.lacks_only(run))
    }

    /// A run has been written.
    pub fn written(&mut self, now: Duration, piece: PieceIndex, run: usize) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        debug_assert_eq!(active.runs[run], Stage::Writing);
        active.runs[run] = Stage::Written;
        if active.verdict == Some(false) {
            return self.settle_bad(now, piece);
        }
        if active.is_written() {
            // If it has come out wrong before, its blocks now tell who it was.
            if self.commons.map.is_suspect(piece) && self.commons.evidence().holds(piece) {
                self.compare(now, piece);
            } else {
                self.settle_good(now, piece);
            }
        }
        self.feed();
    }

    fn settle_good(&mut self, now: Duration, piece: PieceIndex) {
        self.active.remove(&piece);
        self.commons.map.set_have(piece);
        self.totals.downloaded += u64::from(self.layout.piece_len(piece));
        self.wishes.push_back(Wish::Done { piece, good: true });
        self.nudge = true;
        self.read_log(now);
    }

    /// The piece was bad. Writes that are under way must end first: they must not land on the next try.
    fn settle_bad(&mut self, now: Duration, piece: PieceIndex) {
        let Some(active) = self.active.get(&piece).filter(|active| !active.is_writing()) else { return };
        let culprit = active.sole_sender();
        self.totals.failed_pieces += 1;
        if let Some(culprit) = culprit {
            // Who is to blame is clear; of other tries it may not be.
            let suspect = self.commons.evidence().holds(piece);
            self.restart(piece, suspect);
            self.blame(culprit, piece);
            self.wake_hungry();
        } else {
            self.compare(now, piece);
        }
    }

    /// The fingerprints of a piece, all of which is here, are needed: those of one that was put to the vote are known.
    fn compare(&mut self, now: Duration, piece: PieceIndex) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        if let Senders::Voters(votes) = std::mem::take(&mut active.senders) {
            return self.settle_compared(now, piece, votes.prints());
        }
        active.printing = true;
        self.wishes.push_back(Wish::Fingerprint(piece, 0..active.runs.len()));
    }

    /// Here are the fingerprints of all blocks of these runs, in order: equal blocks have equal ones, and others, but for
    /// one chance in 2⁶⁴, have not. Of a bad piece they are kept; those of a good one say who sent bad blocks before.
    pub fn fingerprinted(&mut self, now: Duration, piece: PieceIndex, runs: Range<usize>, prints: &[u64]) {
        match self.active.get(&piece) {
            Some(active) if active.printing => self.settle_compared(now, piece, prints),
            Some(_) => self.count_votes(piece, runs.start, prints),
            None => {}
        }
    }

    fn settle_compared(&mut self, now: Duration, piece: PieceIndex, prints: &[u64]) {
        let Some(active) = self.active.get(&piece) else { return };
        if active.verdict == Some(false) {
            let blocks = active.signed(prints);
            self.totals.limits.evidence += self.commons.evidence().file(piece, blocks);
            self.restart(piece, true);
        } else {
            let liars = self.commons.evidence().judge(piece, prints);
            liars.into_iter().for_each(|liar| self.blame(liar, piece));
            self.settle_good(now, piece);
        }
        self.wake_hungry();
    }

    /// No core dials this address again.
    pub(super) fn ban_address(&mut self, addr: SocketAddr) {
        self.candidates.ban(addr);
        let banned = self.commons.roster().ban_address(addr);
        self.totals.limits.bans += u64::from(!banned);
    }

    /// Who sent a bad block is dropped and banned, also when it has left: by its host and id, whichever side dials. An
    /// address that we dialled is banned, too; of who dialled us the port says nothing.
    pub fn blame(&mut self, culprit: Tag, piece: PieceIndex) {
        self.commons.evidence().forget(culprit);
        // What else came from there is not worth waiting for the hash of.
        for active in self.active.values_mut() {
            let before = active.received_bytes(&self.layout);
            active.disown(culprit);
            self.totals.wasted += before - active.received_bytes(&self.layout);
        }
        if culprit.core() != self.core {
            return self.wishes.push_back(Wish::Blame(culprit, piece));
        }
        let slot = self.peers.find(culprit);
        let here = slot.and_then(|slot| self.peers.get(slot)).map(Departed::from);
        let gone = || self.departed.iter().find(|departed| departed.tag == culprit).copied();
        let Some(Departed { who, given, .. }) = here.or_else(gone) else { return };
        if who.outgoing {
            self.ban_address(who.addr);
        }
        let banned = self.commons.roster().ban(who.identity());
        self.totals.limits.bans += u64::from(!banned);
        let reason = DropReason::BadPiece(piece);
        match slot {
            Some(slot) => self.drop_peer(slot, reason),
            None => self.wishes.push_back(Wish::Mention(who.addr, reason)),
        }
        // It may have come back meanwhile, or be in twice. Whom the user names is spared where a stranger had its name, but no
        // stranger where it is that one who lies: most likely it is the same.
        for given in [true, false].into_iter().filter(|named| given || !named) {
            let again = self.commons.roster().member(&who.identity(), given);
            again.into_iter().for_each(|again| self.blame(again, piece));
        }
    }

    /// A peer has left; what it sent may still turn out to be bad.
    pub(super) fn remember(&mut self, peer: &Peer) {
        if peer.downloaded > 0 {
            self.departed.push_back(Departed::from(peer));
        }
        if self.departed.len() > MOST_DEPARTED {
            self.departed.pop_front();
            self.totals.limits.departed += 1;
        }
    }

    /// Ends a try at a piece that nobody is asked for; `suspect` when the next one must be clear about who is to blame.
    pub(super) fn restart(&mut self, piece: PieceIndex, suspect: bool) {
        let Some(active) = self.active.remove(&piece) else { return };
        self.totals.wasted += active.received_bytes(&self.layout);
        self.commons.map.release(piece, suspect);
        self.nudge = true;
        self.picker.add(piece);
        self.wishes.push_back(Wish::Done { piece, good: false });
    }
}
