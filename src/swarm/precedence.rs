//! What a seed sends first when its link (see `uplink`) is full: what nobody has.
//!
//! Towards the end of a lone seed's work there are fewer pieces that nobody has than peers with a slot. The others then ask
//! for what is on its way to somebody already, and share the link with what all wait for. So as long as somebody asks for
//! something new, they wait: most get it from one another before that, and take back what they asked of us. Who has begun a
//! piece that others have by now waits, too. What is left of an upload limit for a moment is theirs all the same: a limit is used
//! to the full.
//!
//! When all that was new is out, it takes them a moment to give it to each other. Where they have given each other much more than
//! we gave, they do that faster than we could help them: so for a moment, once, what they get from each other is refused twice a
//! second, and they ask there at once. Not what only such have as give nothing on.

use super::peer::Peer;
use super::rate::Rate;
use super::uplink::{FILLING, FULL};
use super::{PeerSlot, Swarm};
use crate::metainfo::{BLOCK_LEN, Block, PieceIndex};
use std::time::Duration;

/// So many looks at a peer, two a second, it waits for others; then it has a piece, whatever it is. More when it takes those with
/// a slot longer to get a piece each, and to give it on.
const LEAST_PATIENCE: u64 = 8;
const MOST_PATIENCE: u64 = 60;
/// So many of the requests of a peer are looked at.
pub(super) const LOOK: usize = 64;
/// Whoever has taken nothing for so long keeps nobody waiting.
const SLOW: Duration = Duration::from_secs(5);
/// So many looks in all we hold back what all could get of each other, when nothing is new any more.
const MOST_HELD_BACK: u8 = 8;
/// Where it takes less time to send each a piece, and the link is not known for sure, nobody is put off.
const WORTHWHILE: Duration = Duration::from_secs(1);
/// For each piece that we gave they must have got so many of each other.
const MUCH: u64 = 4;
/// When we have given so many pieces of late, and one to each of those with a slot, and of each other they have got less than one for so
/// many, nobody gives anything on: then there is nothing to wait for.
const IN_VAIN: u64 = 16;
/// After so many what was before counts half.
const OF_LATE: u64 = 256;

/// How far the seed is with what nobody has.
#[derive(Debug, Default)]
pub(super) struct Precedence {
    /// Our link is full, and some peer waits for what nobody has; or it was so a moment ago.
    is_scarce: bool,
    /// Of these the latter: nothing is new any more.
    is_over: bool,
    /// When somebody was last to be sent something new.
    wanted: Duration,
    /// Since when something goes out.
    busy: Option<Duration>,
    /// How often a peer may be put off.
    patience: u8,
    /// Looks for which all was held back although nothing was new.
    held_back: u8,
    /// Pieces that we gave, and that peers got of each other.
    pub(super) given: u64,
    pub(super) passed: u64,
}

impl Precedence {
    fn is_in_vain(&self, takers: u32) -> bool {
        self.given >= IN_VAIN + u64::from(takers) && self.passed < self.given / IN_VAIN
    }

    /// A piece was given.
    pub(super) fn note_given(&mut self) {
        self.given += 1;
        if self.given >= OF_LATE {
            (self.given, self.passed) = (self.given / 2, self.passed / 2);
        }
    }
}

/// Whether the peer may just be getting the piece: it is to be sent it, or it was the last that it was sent. Of those before it would
/// have told us.
fn is_getting(peer: &Peer, piece: PieceIndex) -> bool {
    let is_open = peer.suggestions.contains(&piece) && !peer.served.contains(&piece);
    is_open || peer.served.back() == Some(&piece) || peer.serving.is_some_and(|(serving, _)| serving == piece)
}

impl Swarm {
    /// Whether nobody has the block's piece, and nobody else was the first to be given it, on whichever core.
    fn is_new(&self, peer: &Peer, block: &Block) -> bool {
        let sightings = &self.commons.sightings;
        let is_free = || match self.spreading.first.get(&block.piece) {
            Some(first) => *first == peer.tag || self.peers.find(*first).is_none(),
            None => !sightings.is_suggested(block.piece),
        };
        !sightings.is_seen(block.piece) && is_free()
    }

    /// Whether others have the piece or are just getting it, who give it on.
    fn is_in_good_hands(&self, piece: PieceIndex) -> bool {
        let (first, sightings) = (self.spreading.first.get(&piece), &self.commons.sightings);
        let first = first.and_then(|first| self.peers.get(self.peers.find(*first)?));
        sightings.is_passed(piece)
            || match first {
                Some(first) => first.passes_on || !first.has.has(piece) && is_getting(first, piece),
                None => sightings.is_suggested(piece) && !sightings.is_seen(piece),
            }
    }

    /// Whether others are to wait for what it asks for: it must take it.
    fn keeps_waiting(&self, now: Duration, peer: &Peer) -> bool {
        (peer.up.get() > 0 || now < peer.unchoked_since + SLOW) && self.wants_new(peer)
    }

    fn wants_new(&self, peer: &Peer) -> bool {
        !peer.dropped && peer.uploads.iter().take(LOOK).any(|block| self.is_new(peer, block))
    }

    /// Whether the next request of the peer is one of something new.
    pub(super) fn is_next_new(&self, slot: PeerSlot) -> bool {
        let next = |peer: &Peer| peer.uploads.iter().next().is_some_and(|block| self.is_new(peer, block));
        self.peers.get(slot).is_some_and(next)
    }

    /// Whether about as much goes out as can, as far as that can be seen so soon.
    fn is_link_full(&mut self, now: Duration) -> bool {
        let ups = self.commons.ups();
        if let Some(limit) = self.settings.upload_limit {
            let age = now.saturating_sub(self.precedence.busy.unwrap_or(now)).as_secs_f64();
            return ups as f64 >= limit as f64 * Rate::shown_after(age) * FULL;
        }
        // Of a fast link all have what is new before anybody could be put off.
        self.time_for_a_piece_each(now) >= WORTHWHILE
            && self.uplink.is_full(now, ups, self.precedence.is_scarce)
    }

    /// Whether most of those whom we serve wait for room in their connections, and have done so for a while.
    fn have_to_wait(&self, now: Duration) -> bool {
        let is_served = |slot, peer: &Peer| {
            peer.leaving > 0 || peer.unchoked && !peer.uploads.is_empty() && !self.is_put_off(slot)
        };
        let served = self.peers.iter().filter(|(slot, peer)| is_served(*slot, peer));
        let waits = |peer: &Peer| peer.leaving > 0 && now >= peer.unchoked_since + FILLING;
        let (all, waiting) =
            served.fold((0, 0), |(all, waiting), (_, peer)| (all + 1, waiting + usize::from(waits(peer))));
        waiting > 0 && waiting * 2 >= all
    }

    /// Whether what is not new has to wait.
    fn is_scarce_now(&mut self, now: Duration) -> bool {
        self.precedence.is_over = false;
        // When it is the only one that wants something, nobody else can be at the same piece.
        if !self.spreads()
            || self.commons.slots.takers() < 2
            || self.precedence.is_in_vain(self.commons.slots.counts().0)
        {
            self.commons.tell_wanted(self.core, false);
            return false;
        }
        let wanted = self.peers.iter().any(|(_, peer)| self.keeps_waiting(now, peer));
        self.commons.tell_wanted(self.core, wanted);
        if self.commons.is_wanted() {
            self.precedence.wanted = now;
            return self.is_link_full(now);
        }
        let is_over = self.precedence.is_scarce && !self.has_fresh();
        self.precedence.is_over = is_over && (self.is_on_its_way(now) || self.holds_back());
        self.precedence.is_over
    }

    /// Whether new blocks that were taken may not have left yet: those of all peers go out at the same time.
    fn is_on_its_way(&self, now: Duration) -> bool {
        now < self.precedence.wanted + self.time_for_all(now, BLOCK_LEN)
    }

    /// The time in which so many bytes go to each peer with a slot.
    fn time_for_all(&self, now: Duration, bytes: u32) -> Duration {
        let link = self.settings.upload_limit.or_else(|| self.uplink.rate(now)).unwrap_or(u64::MAX).max(1);
        let (taken, _) = self.commons.slots.counts();
        Duration::from_secs_f64((u64::from(bytes) * u64::from(taken)) as f64 / link as f64)
    }

    fn time_for_a_piece_each(&self, now: Duration) -> Duration {
        self.time_for_all(now, self.layout.piece_length())
    }

    /// Whether it goes on for a while.
    fn holds_back(&mut self) -> bool {
        let precedence = &mut self.precedence;
        let holds = precedence.held_back < MOST_HELD_BACK && precedence.passed >= precedence.given * MUCH;
        precedence.held_back += u8::from(holds);
        holds
    }

    /// Looks anew who has to wait, twice a second.
    pub(super) fn look_at_precedence(&mut self, now: Duration) {
        let is_busy = self.peers.iter().any(|(_, peer)| peer.leaving > 0 || !peer.uploads.is_empty());
        self.precedence.busy = if is_busy { self.precedence.busy.or(Some(now)) } else { None };
        self.commons.tell_up(self.core, self.peers.iter().map(|(_, peer)| peer.up.get()).sum());
        let waits = self.have_to_wait(now);
        self.uplink.look(self.commons.ups(), waits);
        let was_over = self.precedence.is_over;
        let scarce = self.is_scarce_now(now);
        // From now on what others leave is for those who are put off.
        let leaves_some = was_over && !self.precedence.is_over;
        if !scarce && !self.precedence.is_scarce {
            return;
        }
        self.precedence.is_scarce = scarce;
        let looks = self.time_for_a_piece_each(now).as_secs().saturating_mul(4);
        self.precedence.patience = looks.clamp(LEAST_PATIENCE, MOST_PATIENCE) as u8;
        let waiting: Vec<PeerSlot> =
            self.peers.iter().filter(|(_, peer)| !peer.uploads.is_empty()).map(|(slot, _)| slot).collect();
        for slot in waiting {
            let is_put_off = self.is_put_off(slot);
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            if is_put_off {
                peer.put_off += 1;
                // Who is to leave when it has its piece does not stay for what others can give it.
                peer.serving = peer.serving.filter(|_| peer.leaves.is_none());
                self.send_elsewhere(slot);
            } else {
                peer.put_off = if scarce { peer.put_off } else { 0 };
            }
            if !is_put_off || leaves_some {
                self.wake(slot);
            }
        }
    }

    /// When nothing is new any more: a peer that has to wait gets all it asks for of others sooner.
    fn send_elsewhere(&mut self, slot: PeerSlot) {
        if !self.precedence.is_over || !self.is_put_off(slot) {
            return;
        }
        let is_seen = |block: &Block| self.commons.sightings.is_seen(block.piece);
        let Some(peer) = self.peers.get(slot).filter(|peer| peer.fast.on) else { return };
        if peer.uploads.iter().all(is_seen) {
            self.clear_uploads(slot, true);
        }
    }

    /// Whether the peer is in the middle of a piece that it does not get of others soon.
    fn is_amid_rare(&self, peer: &Peer) -> bool {
        peer.serving
            .is_some_and(|(piece, _)| !self.commons.sightings.is_seen(piece) || !self.is_in_good_hands(piece))
    }

    /// Whether the peer has to wait until others have what is new.
    pub(super) fn is_put_off(&self, slot: PeerSlot) -> bool {
        let Some(peer) = self.peers.get(slot).filter(|_| self.precedence.is_scarce) else { return false };
        let most = if peer.uploads.iter().take(LOOK).all(|block| self.is_in_good_hands(block.piece)) {
            self.precedence.patience
        } else if self.precedence.is_over {
            0
        } else {
            LEAST_PATIENCE as u8
        };
        peer.put_off < most && !self.is_amid_rare(peer) && !self.wants_new(peer)
    }

    /// Whether the peer waits only so that others are served before it: what they leave can be its.
    pub fn waits_for_others(&self, slot: PeerSlot) -> bool {
        // Who is to leave gets nothing but the piece it has begun.
        let wants =
            |peer: &Peer| !peer.uploads.is_empty() && (peer.leaves.is_none() || peer.serving.is_some());
        !self.precedence.is_over && self.peers.get(slot).is_some_and(wants) && self.is_put_off(slot)
    }

    /// Puts what is new first of what the peer asks for.
    pub(super) fn prefer_new(&mut self, slot: PeerSlot) {
        let Some(peer) = self.peers.get(slot).filter(|_| self.precedence.is_scarce) else { return };
        if self.is_amid_rare(peer) || self.is_next_new(slot) {
            return;
        }
        let is_new = |block: &&Block| self.is_new(peer, block);
        let new: Vec<Block> = peer.uploads.iter().take(LOOK).filter(is_new).copied().collect();
        self.peers.get_mut(slot).into_iter().for_each(|peer| peer.uploads.prefer(&new));
    }
}
