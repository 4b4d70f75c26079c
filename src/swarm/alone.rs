//! A piece that came out wrong, where a vote cannot help or did not (`votes`), is next asked of one peer alone. That one must not be
//! slow while others do nothing.
//!
//! Whoever could bring the whole piece much sooner than its owner the rest of it, and has nothing else to do, begins it anew; the
//! slow one is not asked for it again while others go on. The blocks it has sent are given up with the try: a piece of
//! one sender's blocks says at once who is to blame, and a liar that sends one bad block and then no more but slowly
//! must not spoil the next try too. What is remembered of who sent what in bad tries stays, and is judged when the piece
//! comes out right.

use super::active::{ActivePiece, Senders};
use super::commons::Lacking;
use super::peer::Peer;
use super::peers::Peers;
use super::{PeerSlot, Swarm};
use crate::metainfo::{BLOCK_LEN, Block, Layout, PieceIndex};
use std::time::Duration;

/// To begin anew must save more than this, in seconds, and half of the time.
const LEAST_SAVED: f64 = 10.0;
/// So often a piece is begun anew. How fast a peer is that has sent nothing for a while is a guess: two that are slow must not
/// take it from one another for ever, nor one that never sends keep it from who does.
const MOST_RESTARTS: u8 = 2;

/// Whether the first time is so much longer, in seconds, that it is worth to begin anew.
pub(super) fn is_much_longer(time: f64, other: f64) -> bool {
    time > 2.0 * other + LEAST_SAVED
}

fn seconds(peer: &Peer, blocks: usize) -> f64 {
    blocks as f64 * peer.block_seconds()
}

impl Peers {
    /// Whether another peer goes on with the piece that brings it much sooner than this one, or this one sends nothing.
    pub(super) fn is_outdone(&self, slot: PeerSlot, piece: PieceIndex, layout: &Layout) -> bool {
        let Some(peer) = self.get(slot) else { return false };
        let blocks = layout.blocks_in(piece);
        let own = seconds(peer, blocks);
        let goes_on =
            |other: &Peer| !other.dropped && !other.chokes_us && !other.snubbed && other.has.has(piece);
        self.iter().any(|(place, other)| {
            let better = peer.snubbed || is_much_longer(own, seconds(other, blocks));
            place != slot && better && goes_on(other)
        })
    }
}

impl Swarm {
    /// Seconds in which the peer would bring the whole piece.
    pub(super) fn seconds_for(&self, peer: &Peer, piece: PieceIndex) -> f64 {
        seconds(peer, self.layout.blocks_in(piece))
    }

    /// Whether the peer shall not begin a piece that one alone is to send.
    pub(super) fn is_barred(&self, slot: PeerSlot, piece: PieceIndex) -> bool {
        self.board.has_left(piece) || self.peers.is_outdone(slot, piece, &self.layout)
    }

    /// Seconds until who is to send a suspect piece has sent the rest, if anybody does.
    fn seconds_left(&self, active: &ActivePiece) -> Option<f64> {
        match active.senders {
            Senders::Owner => Some(seconds(self.peers.get(active.owner?)?, active.lacks())),
            Senders::AllBut(_) | Senders::Voters(_) => {
                let may = |giver: &Peer| giver.offers(active.piece) && active.is_for(giver.tag);
                let senders = self.paces().filter(|(giver, _)| may(giver));
                let pace = senders.fold(0.0, |sum, (_, pace)| sum + pace);
                (pace > 0.0).then(|| active.lacks() as f64 * f64::from(BLOCK_LEN) / pace)
            }
            Senders::All => None,
        }
    }

    /// Frees a suspect piece that those who are to send it are slow with for a peer that is not of them, has nothing to do and would
    /// be much faster. Says whether it is there to be claimed.
    pub(super) fn take_over(&mut self, slot: PeerSlot) -> bool {
        let Some(peer) = self.peers.get(slot).filter(|peer| !peer.snubbed) else { return false };
        let slow = self.active.values().find(|active| {
            let own = self.seconds_for(peer, active.piece);
            active.owner != Some(slot)
                && (active.is_sole() || !active.is_for(peer.tag))
                && peer.offers(active.piece)
                && self.seconds_left(active).is_some_and(|left| is_much_longer(left, own))
                && self.may_dismiss(active.piece)
                && !self.is_barred(slot, active.piece)
        });
        let Some(piece) = slow.map(|active| active.piece) else { return false };
        self.dismiss(piece);
        true
    }

    /// Pieces that another core might bring sooner, by peers that have nothing to do.
    pub(super) fn slow_pieces(&self) -> impl Iterator<Item = Lacking> {
        self.active.values().filter_map(|active| {
            // Of what is put to the vote others fetch blocks.
            let left = self.seconds_left(active).filter(|_| active.votes().is_none())?;
            let block = self.layout.nth_block(active.piece, 0);
            let wait = Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX);
            let slow = left > LEAST_SAVED && self.may_dismiss(active.piece);
            slow.then_some(Lacking { block, whole: true, wait })
        })
    }

    /// Whether a try at the piece may be ended now, and it was not begun anew too often.
    pub(super) fn may_dismiss(&self, piece: PieceIndex) -> bool {
        let spent = self.restarts.get(&piece).is_some_and(|times| *times >= MOST_RESTARTS);
        !spent && self.active.get(&piece).is_some_and(|active| self.is_at_rest(active))
    }

    /// Whether nothing of the piece is under way but requests: no receive, no hash, no write.
    pub(super) fn is_at_rest(&self, active: &ActivePiece) -> bool {
        let mut blocks = (0..active.blocks.len()).map(|index| self.layout.nth_block(active.piece, index));
        !active.is_settling() && !blocks.any(|block| self.is_lent(active, &block))
    }

    /// Ends a try at a suspect piece: it is to be begun anew.
    pub(super) fn dismiss(&mut self, piece: PieceIndex) {
        *self.restarts.entry(piece).or_default() += 1;
        self.abandon(piece);
    }

    /// Ends a try of which nothing is under way but requests.
    pub(super) fn abandon(&mut self, piece: PieceIndex) {
        let Some(active) = self.active.get_mut(&piece) else { return };
        active.blocks.iter_mut().for_each(|state| state.writer = None);
        let owner = active.owner;
        self.cancel_piece(piece);
        if let Some(owner) =
            owner.filter(|owner| self.peers.get(*owner).is_some_and(|peer| peer.current == Some(piece)))
        {
            self.disown_piece(owner);
        }
        self.restart(piece, self.commons.map.is_suspect(piece));
    }

    /// What was asked of a piece need not be sent.
    fn cancel_piece(&mut self, piece: PieceIndex) {
        let Some(active) = self.active.get(&piece) else { return };
        let asked = active.blocks.iter().enumerate().filter(|(_, state)| state.asked > 0);
        let asked: Vec<Block> = asked.map(|(index, _)| self.layout.nth_block(piece, index)).collect();
        asked.iter().for_each(|block| self.cancel_elsewhere(block));
    }

    /// Ends tries that a liar has spoiled, once nothing of them is under way.
    pub(super) fn give_up_spoiled(&mut self) {
        let spoiled = self.active.values().filter(|active| active.spoiled).map(|active| active.piece);
        for piece in spoiled.collect::<Vec<_>>() {
            if self.active.get(&piece).is_some_and(|active| self.is_at_rest(active)) {
                self.abandon(piece);
                self.wake_hungry();
            }
        }
    }
}
