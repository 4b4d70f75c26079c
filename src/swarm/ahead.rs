//! How far requests run ahead of the user's download limit, and whose fault it is when blocks are long in coming.
//!
//! Under a limit bytes lie unread in our sockets until it is their turn: were all peers asked, all would seem slow, and others be
//! asked once more for what is here already. So all cores together ask for what the limit brings in two seconds, and the next
//! peer is asked when there is less than that on its way or unread. What a peer has not sent by the time it should have does
//! not count: slow and silent ones keep nobody from being asked. And the time that a whole block lies unread is not its
//! sender's, for some turns of the limit: what lies there may as well be chatter.

use super::choosing::ASKED_AHEAD;
use super::peer::Peer;
use super::{PeerSlot, Swarm};
use crate::metainfo::BLOCK_LEN;
use std::time::Duration;

/// What is asked for is expected to begin to come within this.
const FRESH: Duration = Duration::from_secs(1);
/// What was said of unread bytes holds so long.
const SAID: Duration = Duration::from_secs(1);
/// Under a limit, who has not sent what it was asked for is asked again after so long, whatever else goes on: it may be the only one
/// who has something. (Each time a block is held up.)
const RETRY: Duration = Duration::from_secs(120);
/// A limit that has less to let in than this part of what it lets in in a second holds up nobody.
const LITTLE: u64 = 4;
/// What lies unread excuses its sender for so many turns of the limit.
const PARDON: u32 = 4;

/// Bytes of a peer that lie unread in our socket, because our own limit lets no more in.
#[derive(Debug)]
pub(super) struct Unread {
    /// When that was last said, and how many.
    said: (Duration, u64),
    /// When there was a whole block last.
    whole: Duration,
    /// Whether it is, since the last block, and was, when one had come whole, so much that it comes faster than our limit lets in.
    much: bool,
    outruns: bool,
}

impl Unread {
    pub(super) fn new(now: Duration) -> Self {
        Self { said: (now, 0), whole: now, much: false, outruns: false }
    }

    /// A block has come whole.
    pub(super) fn block_came(&mut self, len: u32) {
        self.said.1 = self.said.1.saturating_sub(len.into());
        self.outruns |= std::mem::take(&mut self.much);
    }
}

impl Peer {
    /// Since when it could have been waited for in vain, if since `at` by what came: what lay here unread was in time, but no longer
    /// than that is our limit's doing.
    pub(super) fn waited_since(&self, at: Duration, limit_turn: Duration) -> Duration {
        at.max(self.unread.whole.min(at + limit_turn * PARDON))
    }

    /// Whether a whole block of it lies here.
    pub(super) fn is_held_up(&self, now: Duration) -> bool {
        self.unread.whole > self.since && now < self.unread.whole + SAID
    }

    /// Bytes that our limit has to let in soon: those unread, or those it was just asked for. In the middle of a block none may be
    /// unread, for they come more slowly than we would let them.
    fn ahead(&self, now: Duration) -> u64 {
        let (at, bytes) = self.unread.said;
        let unread = if now < at + SAID { bytes } else { 0 };
        if unread == 0 && self.is_amid_block() {
            return 0;
        }
        let fresh = self.asked.iter().rev().take_while(|asked| now < asked.at + FRESH);
        let fresh: u64 = fresh.map(|asked| u64::from(asked.block.len)).sum();
        // What nobody has asked for may lie there, too.
        let asked = self.asked.len() as u64 * u64::from(BLOCK_LEN);
        fresh.max(unread.min(asked))
    }
}

impl Swarm {
    /// So many bytes of the peer lie unread in our socket, and our limit lets none of them in just now. To be said again while it is
    /// so, several times a second.
    pub fn lies_unread(&mut self, now: Duration, slot: PeerSlot, bytes: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.unread.said = (now, bytes);
        let next = peer.expected().next().map_or(BLOCK_LEN, |block| block.len);
        if bytes >= u64::from(peer.lacks_of(next)) {
            peer.unread.whole = now;
        }
        // Of a slow one the rest of a block may lie here, too.
        peer.unread.much |= bytes >= u64::from(BLOCK_LEN / 2);
    }

    /// Bytes that our limit lets in soon, if there is one: so many are asked for.
    pub(super) fn soon(&self) -> Option<u64> {
        self.settings.download_limit.map(|limit| limit.saturating_mul(ASKED_AHEAD))
    }

    /// Bytes that our limit lets in while so much is asked for; `None` when each peer may be asked for something anyhow.
    pub(super) fn most_ahead(&self) -> Option<u64> {
        let bytes = self.soon()?;
        let peers = self.peers.len() * self.commons.cores();
        Some(bytes).filter(|bytes| bytes / u64::from(BLOCK_LEN) < peers as u64)
    }

    /// Whether as much is asked for as our limit lets in soon, so that the peer is to wait. (Something is asked for on each core; and
    /// one that does not send what it was asked for has a try now and then.)
    pub(super) fn is_to_wait(&self, now: Duration, peer: &Peer) -> bool {
        let Some(most) = self.most_ahead() else { return false };
        let own = self.tell_ahead(now);
        let enough = if peer.snubbed { now < peer.tried + RETRY } else { self.commons.ahead() >= most };
        own > 0 && enough
    }

    /// Says to all cores how much our limit has to let in here.
    pub(super) fn tell_ahead(&self, now: Duration) -> u64 {
        if self.settings.download_limit.is_none() {
            return 0;
        }
        let own = self.peers.iter().filter(|(_, peer)| !peer.dropped).map(|(_, peer)| peer.ahead(now)).sum();
        self.commons.tell_ahead(self.core, own);
        own
    }

    /// Whether our limit has little to let in just now: it keeps nobody from sending.
    pub(super) fn has_room(&self) -> bool {
        self.settings.download_limit.is_none_or(|limit| self.commons.ahead() < limit / LITTLE)
    }

    /// The time that our limit alone makes a block take: until all is in that is asked for ahead of it, and a block more on each core.
    pub(super) fn limit_turn(&self) -> Duration {
        let Some(limit) = self.settings.download_limit else { return Duration::ZERO };
        let more = u64::from(BLOCK_LEN) * (1 + self.commons.cores() as u64);
        Duration::from_secs(ASKED_AHEAD + more / limit.max(1))
    }

    /// Seconds in which the peer would bring a block: by what came of it, or by our limit when that alone made it so little.
    pub(super) fn own_seconds(&self, peer: &Peer) -> f64 {
        let limit = self.settings.download_limit.filter(|_| peer.unread.outruns);
        let least = limit.map_or(f64::MAX, |limit| f64::from(BLOCK_LEN) / limit.max(1) as f64);
        peer.block_seconds().min(least)
    }

    /// Seconds in which it would bring one more, after all that it was asked for, and after a pause if it makes any.
    pub(super) fn seconds_for_another(&self, peer: &Peer) -> f64 {
        let sending = self.own_seconds(peer) * (peer.asked.len() + 1) as f64;
        sending.max(peer.pause.as_secs_f64())
    }

    /// A block of the peer has come: where not all can be asked, another who waits for that comes before it.
    pub(super) fn wake_in_turn(&mut self, slot: PeerSlot) {
        if self.most_ahead().is_some() {
            let waits = self.peers.iter().filter(|(other, peer)| {
                *other != slot && peer.is_hungry() && peer.asked.is_empty() && !peer.snubbed
            });
            let waits: Vec<PeerSlot> = waits.map(|(other, _)| other).collect();
            if let Some(other) = self.rng.choice(waits) {
                self.wake(other);
            }
        }
        self.wake(slot);
    }
}
