//! When memory is short: runs are written as soon as they are full, what nobody goes on with is given up, and memory is for
//! those who soon give it back.
//!
//! All that is to come has its place from when it is asked for, and a run is written when its last block is here: one asked of a slow
//! peer holds up a run that others would have filled several times meanwhile. So twice a second, as long as somebody waits for
//! memory, it is shared out ([`Swarm::ration`]). Each peer is asked for no more than it sends in the time in which all together fill
//! the memory: then many fill one run together, and each run is full soon. Who takes longer than that for a block hoards memory: it
//! is asked for nothing that others have, and what it was asked for is taken back. It has a chance now and then: it may only have
//! paused, and who is asked for nothing cannot show it.

use super::active::{ActivePiece, RUN_LEN};
use super::peer::Peer;
use super::rate::Speed;
use super::{PeerSlot, Swarm};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use std::time::Duration;

/// For so many looks at the peers, two a second, after somebody could not ask for want of memory it counts as scarce.
const SCARCE: u32 = 20;
/// When no run is written between so many looks, though somebody waits for memory, it lies with peers that send nothing.
const STUCK: u32 = 3;
/// So long nothing that needs memory is shown to other cores after what one of them brought found none.
const TURNED_AWAY: Duration = Duration::from_secs(5);
/// More than so many times the requests that a peer is to have open is too many: windows go up and down.
const FAR_MORE: usize = 2;
/// Who hoards memory has its first chance after so long, the next after twice as long, up to a limit, and so long to take it.
const FIRST_REST: Duration = Duration::from_secs(4);
const MOST_REST: Duration = Duration::from_secs(32);
const CHANCE: Duration = Duration::from_secs(1);

/// When a peer that hoards memory is asked for something all the same.
#[derive(Debug, Default)]
pub(super) struct Chance {
    /// Until when it has a chance.
    until: Option<Duration>,
    /// When it has one again, and for how long it had none before that.
    next: Option<Duration>,
    rest: Duration,
}

impl Chance {
    /// The peer hoards memory: says whether it has a chance from now on.
    fn begin(&mut self, now: Duration) -> bool {
        let begins = self.next.is_some_and(|next| now >= next);
        if begins || self.next.is_none() {
            self.until = Some(now + CHANCE).filter(|_| begins);
            self.rest = (self.rest * 2).clamp(FIRST_REST, MOST_REST);
            self.next = Some(self.until.unwrap_or(now) + self.rest);
        }
        begins
    }

    fn end(&mut self, now: Duration) {
        self.until = self.until.filter(|until| now < *until);
    }
}

/// Want of memory.
#[derive(Debug, Default)]
pub(super) struct Scarcity {
    /// Somebody could not ask since runs were last written, or looked at.
    starved: bool,
    /// Looks for which memory still counts as scarce.
    looks: u32,
    /// Looks, one after the other, between which somebody could not ask and no run was written.
    dry: u32,
    /// Slabs that were free when we last heard of them.
    free: usize,
    /// When what another core brought found no memory; none has become free since, as far as is known.
    turned_away: Option<Duration>,
    /// Bytes a second below which a peer hoards memory.
    least: f64,
    /// Seconds in which what is asked of a peer is to come.
    seconds: f64,
}

impl Swarm {
    /// Somebody could not ask for want of memory of late.
    pub(super) fn is_scarce(&self) -> bool {
        self.scarcity.looks > 0
    }

    /// Somebody could not ask for want of memory, and none has become free since.
    pub(super) fn is_starved(&self) -> bool {
        self.scarcity.starved
    }

    /// Somebody waits for memory, for so long in vain that what others were asked for is worth asking once more.
    pub(super) fn is_stuck(&self) -> bool {
        self.scarcity.dry >= STUCK
    }

    /// Memory is short: runs are hashed and written as soon as they are full, for their slabs.
    pub(super) fn starve(&mut self) {
        let fresh = !self.is_scarce();
        self.scarcity.looks = SCARCE;
        if fresh {
            self.ration();
        }
        if std::mem::replace(&mut self.scarcity.starved, true) {
            return;
        }
        self.totals.limits.memory += 1;
        self.active.values_mut().for_each(|active| active.streaming = true);
        let pieces: Vec<PieceIndex> = self.active.keys().copied().collect();
        for piece in pieces {
            self.wish_hash(piece);
            self.wish_writes(piece);
        }
    }

    /// So many slabs are free.
    pub(super) fn note_free(&mut self, slabs: usize) {
        self.scarcity.free = slabs;
        self.scarcity.turned_away = self.scarcity.turned_away.filter(|_| slabs == 0);
    }

    /// What another core has brought finds no memory.
    pub(super) fn turn_away(&mut self, now: Duration) {
        self.starve();
        self.scarcity.turned_away = Some(now);
    }

    /// Runs of a piece beyond those that have memory whose blocks may come from other cores: all pieces share what is free. One may
    /// have become free unheard of; but others shall not fetch the same in vain over and over.
    pub(super) fn runs_ahead(&self, now: Duration) -> usize {
        let waits = self.is_starved() || self.turns_away(now);
        if waits { 0 } else { (self.scarcity.free / self.active.len().max(1)).max(1) }
    }

    /// Whether there is no memory for what other cores could bring, as far as is known.
    fn turns_away(&self, now: Duration) -> bool {
        self.scarcity.turned_away.is_some_and(|at| now < at + TURNED_AWAY)
    }

    /// A run has been written: its memory is free.
    pub(super) fn feed(&mut self) {
        (self.scarcity.dry, self.scarcity.turned_away) = (0, None);
        if std::mem::take(&mut self.scarcity.starved) {
            self.wake_hungry();
        }
    }

    /// Twice a second: memory is shared out anew, what hoarders were asked for is anybody's, and what no peer goes on with makes
    /// room.
    pub(super) fn look_at_memory(&mut self, now: Duration) {
        self.scarcity.looks = self.scarcity.looks.saturating_sub(1);
        if std::mem::take(&mut self.scarcity.starved) || self.turns_away(now) {
            self.scarcity.dry += 1;
            self.ration();
            self.give_chances(now);
            self.take_back_hoarded(now);
            self.give_up_one();
        } else {
            self.scarcity.dry = 0;
            self.relax();
        }
    }

    /// Some memory may lie in pieces that no peer goes on with: gives up the one with the least in it.
    fn give_up_one(&mut self) {
        let goes_on = |piece| self.peers.any_goes_on(piece);
        let stuck = self.active.values().filter(|active| active.is_idle() && !goes_on(active.piece));
        let Some(active) = stuck.min_by_key(|active| active.received_bytes(&self.layout)) else { return };
        let (piece, suspect) = (active.piece, self.commons.map.is_suspect(active.piece));
        self.restart(piece, suspect);
    }

    // ---- who is worth memory ----

    /// Shares the memory out. The fastest are worth it, and so many after them as can be kept busy with what there is for as long
    /// as a block of the slowest takes; and who is hardly slower. Each is asked for what it sends in the time in which they fill
    /// all of it together.
    fn ration(&mut self) {
        let givers = self.peers.iter().filter(|(_, peer)| peer.gives());
        let mut paces: Vec<f64> = givers.filter_map(|(_, giver)| giver.pace()).collect();
        paces.sort_by(|a, b| b.total_cmp(a));
        let runs: usize = self.active.values().map(ActivePiece::runs_in_memory).sum();
        let memory = runs as f64 * f64::from(RUN_LEN);
        let (mut sum, mut least) = (0.0, 0.0);
        for pace in paces {
            if least > 0.0 && (sum + pace) * f64::from(BLOCK_LEN) / pace > memory {
                break;
            }
            (sum, least) = (sum + pace, pace);
        }
        self.scarcity.least = least / 2.0;
        self.scarcity.seconds = if sum > 0.0 { memory / sum } else { 1.0 };
        self.tell_scarcity();
    }

    /// Nobody waits for memory: there may be some for slower ones, too, and for more of each.
    fn relax(&mut self) {
        self.scarcity.least /= 2.0;
        self.scarcity.seconds *= 2.0;
        self.tell_scarcity();
    }

    fn tell_scarcity(&mut self) {
        let time = Duration::try_from_secs_f64(self.scarcity.seconds).unwrap_or(Duration::MAX);
        let time = Some(time).filter(|_| self.is_scarce());
        self.peers.iter_mut().for_each(|(_, peer)| peer.requests.scarce = time);
    }

    /// Whether what the peer is asked for holds memory for longer than it is worth.
    fn hoards(&self, peer: &Peer) -> bool {
        // Who has sent nothing yet has not shown anything, until what it was asked for is taken back.
        let is_slow = peer.pace().map_or(!peer.forgone.is_empty(), |pace| pace < self.scarcity.least);
        is_slow && peer.chance.until.is_none()
    }

    /// Ends the chances that are over, and gives new ones to those who hoard memory. What such a peer did before does not count.
    fn give_chances(&mut self, now: Duration) {
        self.peers.iter_mut().for_each(|(_, peer)| peer.chance.end(now));
        let hoarders = self.peers.iter().filter(|(_, peer)| peer.asked.is_empty() && self.hoards(peer));
        let hoarders: Vec<PeerSlot> = hoarders.map(|(slot, _)| slot).collect();
        for slot in hoarders {
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            if peer.chance.begin(now) {
                peer.speed = Speed::default();
                self.wake(slot);
            }
        }
    }

    /// Whether the peer is to have no memory, for that piece if it is known, because it is scarce and others who have the same are
    /// worth it. Who alone has a piece is not made to wait with it to the end.
    pub(super) fn is_kept_short(&self, slot: PeerSlot, piece: Option<PieceIndex>) -> bool {
        let hoarder = self.peers.get(slot).filter(|peer| self.is_scarce() && self.hoards(peer));
        // What is put to the vote those others may have sent before.
        let choosy = piece.and_then(|piece| self.active.get(&piece)).is_some_and(ActivePiece::is_choosy);
        hoarder.is_some() && !choosy && self.comes_sooner(piece)
    }

    /// Whether somebody is worth memory who has that piece, if it is known.
    fn comes_sooner(&self, piece: Option<PieceIndex>) -> bool {
        let known = |peer: &Peer| peer.gives() && peer.pace().is_some() && !self.hoards(peer);
        let mut others = self.peers.iter();
        others.any(|(_, peer)| known(peer) && piece.is_none_or(|piece| peer.offers(piece)))
    }

    /// Pieces begun for which the peer is to have no memory.
    pub(super) fn kept_from(&self, slot: PeerSlot) -> Vec<PieceIndex> {
        if !self.is_kept_short(slot, None) {
            return Vec::new();
        }
        self.active.keys().copied().filter(|piece| self.is_kept_short(slot, Some(*piece))).collect()
    }

    /// Takes back what peers were asked for who hoard memory, or have sent nothing in a time in which others would have; and of
    /// who has come to send less what is far more than its share. But not where a receive may be writing.
    fn take_back_hoarded(&mut self, now: Duration) {
        let mut hoarded = Vec::new();
        for (slot, peer) in self.peers.iter() {
            let is_mute = peer.asked.front().is_some_and(|oldest| self.is_mute(now, peer, oldest));
            let share = if is_mute || self.hoards(peer) {
                0
            } else if peer.pauses(now) {
                usize::MAX
            } else {
                FAR_MORE * peer.own_window()
            };
            let blocks = peer.expected().skip(share);
            let blocks = blocks.filter(|block| !peer.lent.contains(block) && self.is_wanted_sooner(block));
            hoarded.extend(blocks.map(|block| (slot, block, is_mute)));
        }
        for (slot, block, is_mute) in hoarded {
            self.take_back_from(slot, block, is_mute);
        }
    }

    /// Whether somebody is worth memory who may be asked for the block, which takes some of ours.
    fn is_wanted_sooner(&self, block: &Block) -> bool {
        let active = self.active.get(&block.piece);
        active.is_some_and(|active| !active.is_suspect()) && self.comes_sooner(Some(block.piece))
    }

    /// Takes a request back, and the block's place. One whose block may be on its way is not cancelled: what comes of it says how
    /// fast the peer is.
    fn take_back_from(&mut self, slot: PeerSlot, block: Block, may_come: bool) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.asked.retain(|asked| asked.block != block);
        peer.forgo(block);
        peer.cancels.extend(Some(block).filter(|_| !may_come));
        if let Some(active) = self.active.get_mut(&block.piece) {
            let writer = &mut active.blocks[block.index()].writer;
            if writer.take_if(|writer| *writer == slot).is_some() {
                peer.begun = None;
            }
        }
        if peer.current == Some(block.piece) {
            self.disown_piece(slot);
        }
        self.release(&block);
        self.wake(slot);
    }
}
