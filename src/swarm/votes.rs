//! A piece that came out wrong, though several have sent it, is put to the vote.
//!
//! All peers fetch it once more, but each block comes from another than before. When a run of it is here, its fingerprints
//! are held against those of the bad try: where two peers have sent the same, that is believed; where they differ,
//! one of them lies, and a third is asked for the block, until two agree. So a piece is had at the rate of all peers, whoever
//! lies among them, and costs little more than the second try. A vote says what to hash, not who is to blame: that the
//! right piece does, as ever (`evidence`).
//!
//! Where that cannot help (fewer than three peers, or one so fast that it has it sooner than all others together), or where nobody
//! is left to be asked, one peer alone sends the next try (`alone`), until one who has sent some of it is found to lie. When the piece
//! comes out wrong again, because liars agree, those who agree with each other send the next tries (`camps`).

use super::active::{ActivePiece, BLOCKS_IN_RUN, Senders, Stage};
use super::evidence::Statement;
use super::lateness::LATE;
use super::peer::Peer;
use super::{PeerSlot, Swarm, Tag, Wish};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use std::collections::HashMap;
use std::time::Duration;

/// With fewer peers than this there is no third to decide.
const LEAST_VOTERS: usize = 3;

/// What was sent for the blocks of a piece that is put to the vote.
#[derive(Debug)]
pub(super) struct Votes {
    /// Of each block, by whom and with what fingerprint; not what is here just now.
    said: Box<[Vec<(Tag, u64)>]>,
    /// The fingerprints of what is here, as far as they were taken.
    prints: Box<[u64]>,
}

impl Votes {
    pub(super) fn new(blocks: usize, statements: &[Statement]) -> Self {
        let mut said = vec![Vec::new(); blocks];
        for statement in statements {
            if let Some(said) = said.get_mut(statement.index as usize) {
                said.push((statement.from, statement.print));
            }
        }
        Self { said: said.into(), prints: vec![0; blocks].into() }
    }

    /// Whether the peer has sent this block already: it has had its vote.
    pub(super) fn has_said(&self, index: usize, from: Tag) -> bool {
        self.said[index].iter().any(|(who, _)| *who == from)
    }

    /// The fingerprints of all blocks, which are here.
    pub(super) fn prints(&self) -> &[u64] {
        &self.prints
    }

    /// Whether what is here of a block is what another has sent.
    fn agrees(&self, index: usize) -> bool {
        let said = &self.said[index];
        said.is_empty() || said.iter().any(|(_, print)| *print == self.prints[index])
    }

    /// How many blocks each peer has sent.
    fn counts(&self) -> HashMap<Tag, usize> {
        let mut counts = HashMap::new();
        self.said.iter().flatten().for_each(|(from, _)| *counts.entry(*from).or_default() += 1);
        counts
    }

    /// By how many peers at the most a block was sent.
    fn most_said(&self) -> usize {
        self.said.iter().map(Vec::len).max().unwrap_or(0)
    }
}

impl Swarm {
    /// What a piece is to be voted on by, if all peers together are likely to have it sooner than the one that claims it.
    pub(super) fn votes_for(&self, slot: PeerSlot, piece: PieceIndex) -> Option<Votes> {
        let claimer = self.peers.get(slot)?;
        let blocks = self.layout.blocks_in(piece);
        let votes = Votes::new(blocks, self.commons.evidence().unvoted(piece)?);
        let voters = self.peers.iter().filter(|(_, peer)| peer.gives() && peer.offers(piece)).count();
        let enough = voters + self.helpers() >= LEAST_VOTERS.max(votes.most_said() + 1);
        if !enough || self.seconds_by_vote(piece, &votes) >= self.seconds_for(claimer, piece) {
            return None;
        }
        self.commons.evidence().note_vote(piece);
        Some(votes)
    }

    /// Peers of other cores that may help: when there is nothing else to begin.
    fn helpers(&self) -> usize {
        let free = self.commons.map.missing_count() == 0;
        if free { self.commons.givers_elsewhere(self.core) } else { 0 }
    }

    /// Seconds in which all have a piece of which each may send only what it has not sent before.
    fn seconds_by_vote(&self, piece: PieceIndex, votes: &Votes) -> f64 {
        let elsewhere = if self.helpers() > 0 { self.commons.speed_elsewhere(self.core) } else { 0 };
        let counts = votes.counts();
        let givers = self.paces().filter(|(giver, _)| giver.offers(piece));
        let paces: Vec<(usize, f64)> =
            givers.map(|(giver, pace)| (counts.get(&giver.tag).copied().unwrap_or(0), pace)).collect();
        let all = paces.iter().fold(elsewhere as f64, |sum, (_, pace)| sum + pace);
        let by_others = paces.iter().map(|(sent, pace)| *sent as f64 / (all - pace));
        by_others.fold(votes.said.len() as f64 / all, f64::max) * f64::from(BLOCK_LEN)
    }

    /// Whether the block may come from the peer: of what is put to the vote, it has not sent it before.
    pub(super) fn may_send(&self, peer: &Peer, block: &Block) -> bool {
        match self.active.get(&block.piece) {
            Some(active) => active.hears(block.index(), peer.tag),
            // Another core has it.
            None => {
                !self.commons.map.is_suspect(block.piece) || self.commons.evidence().hears(block, peer.tag)
            }
        }
    }

    /// Full runs of a piece that is put to the vote have their fingerprints taken before they are hashed.
    pub(super) fn wish_counts(&mut self, piece: PieceIndex) {
        let runs = self.active.get_mut(&piece).map(ActivePiece::take_uncounted).unwrap_or_default();
        self.wishes.extend(runs.into_iter().map(|run| Wish::Fingerprint(piece, run..run + 1)));
    }

    /// Here are the fingerprints of a run of a piece that is put to the vote: what nobody agrees with is to be had again.
    pub(super) fn count_votes(&mut self, piece: PieceIndex, run: usize, prints: &[u64]) {
        let first = run * BLOCKS_IN_RUN;
        let Some(active) = self.active.get_mut(&piece).filter(|active| active.runs[run] == Stage::Counting)
        else {
            return;
        };
        active.runs[run] = Stage::Counted;
        let Some(votes) = active.votes_mut() else { return };
        votes.prints[first..first + prints.len()].copy_from_slice(prints);
        let mut disputed: Vec<usize> =
            (first..first + prints.len()).filter(|index| !votes.agrees(*index)).collect();
        disputed.retain(|index| self.reopen(piece, *index));
        if !disputed.is_empty() {
            self.wake_hungry();
        }
        self.wish_hash(piece);
    }

    /// The block is not what others have sent: if there is a third to send it, it is missing again. Says whether it is.
    fn reopen(&mut self, piece: PieceIndex, index: usize) -> bool {
        let Some(active) = self.active.get(&piece) else { return false };
        let Some((from, votes)) = active.blocks[index].from.zip(active.votes()) else { return false };
        if !self.has_voter(active, index, Some(from)) && !self.has_voter_elsewhere(votes, index, from) {
            return false;
        }
        let statement = Statement { index: index as u32, from, print: votes.prints[index] };
        self.totals.limits.evidence += self.commons.evidence().file(piece, [statement]);
        self.totals.wasted += u64::from(self.layout.nth_block(piece, index).len);
        if let Some(active) = self.active.get_mut(&piece) {
            active.take_back(index);
            if let Some(votes) = active.votes_mut() {
                votes.said[index].push((from, statement.print));
            }
        }
        true
    }

    /// Whether a peer of ours may be asked for the block that is not its sender.
    fn has_voter(&self, active: &ActivePiece, index: usize, sender: Option<Tag>) -> bool {
        self.peers.iter().any(|(_, peer)| {
            let may = peer.gives() && peer.offers(active.piece) && active.hears(index, peer.tag);
            may && Some(peer.tag) != sender
        })
    }

    /// Whether a peer of ours may be asked for a block that we lack.
    pub(super) fn has_sender(&self, block: &Block) -> bool {
        let active = self.active.get(&block.piece);
        active.is_some_and(|active| self.has_voter(active, block.index(), None))
    }

    /// Whether other cores, when they are free, have more peers than those who have sent the block already.
    fn has_voter_elsewhere(&self, votes: &Votes, index: usize, sender: Tag) -> bool {
        let said = votes.said[index].iter().map(|(from, _)| *from).chain([sender]);
        self.helpers() > said.filter(|from| from.core() != self.core).count()
    }

    /// Ends votes, and tries by a camp, that lack what none of our peers can send and no other core fetches.
    pub(super) fn look_at_votes(&mut self, now: Duration) {
        let lacks_voter = |active: &&ActivePiece| {
            // Who was asked in vain may have fallen silent.
            let lacks = |index: &usize| !active.blocks[*index].is_received() && !active.blocks[*index].away;
            let mut lacking = (0..active.blocks.len()).filter(lacks);
            self.is_at_rest(active) && lacking.any(|index| !self.has_voter(active, index, None))
        };
        let choosy = self.active.values().filter(|active| active.is_choosy() && !active.spoiled);
        let stuck: Vec<PieceIndex> = choosy.filter(lacks_voter).map(|active| active.piece).collect();
        for piece in stuck {
            if self.active.get_mut(&piece).is_some_and(|active| active.stands(now, LATE)) {
                self.abandon(piece);
            }
        }
        self.look_at_cleared();
    }

    /// Of a piece that one alone, or a camp none of which is left, was to send because of a liar that was found out since, all may
    /// send the rest.
    fn look_at_cleared(&mut self) {
        let gives = |active: &ActivePiece| {
            let may = |peer: &Peer| peer.gives() && peer.offers(active.piece) && !active.bars(peer.tag);
            self.peers.iter().any(|(_, peer)| may(peer))
        };
        for active in self.active.values_mut() {
            let open = active.is_sole() || matches!(active.senders, Senders::AllBut(_)) && !gives(active);
            if open && self.commons.evidence().is_cleared(active.piece) {
                active.senders = Senders::All;
            }
        }
    }
}
