//! Which blocks are late, or slow: those that another peer may be asked for once more.

use super::peer::{Asked, Peer};
use super::{PeerSlot, Swarm};
use crate::metainfo::Block;
use std::collections::BTreeSet;
use std::time::Duration;

/// A block asked for this long ago, of however many peers, may be asked of one more when nothing else is left and its
/// peer has sent nothing for as long. (One that sends is only slow: on slow links every block is that old.)
pub(super) const LATE: Duration = Duration::from_secs(5);
/// A block is asked for once more, or left to somebody faster, when that may save more than this, in seconds.
pub(super) const LEAST_GAIN: f64 = 1.0;

/// Whether so many seconds are so much longer than others that it is worth to ask twice.
pub(super) fn is_longer(seconds: f64, others: f64) -> bool {
    seconds > 2.0 * others + LEAST_GAIN
}

impl Swarm {
    /// All who were asked for the block.
    pub(super) fn holders(&self, block: &Block) -> impl Iterator<Item = (PeerSlot, &Peer, &Asked)> {
        self.peers.iter().filter_map(move |(slot, peer)| {
            let asked = peer.asked.iter().find(|asked| asked.block == *block)?;
            Some((slot, peer, asked))
        })
    }

    /// Whether the peer is late with a block that it was asked for: it has sent none for long, for one of its speed.
    pub(super) fn is_late(&self, now: Duration, peer: &Peer, asked: &Asked) -> bool {
        now >= peer.waited_since(asked.at.max(peer.last_block), self.limit_turn())
            + peer.late(self.pace.response())
    }

    /// Whether the peer has sent no block of late, and not this one after a time in which others would have: it may never do.
    pub(super) fn is_mute(&self, now: Duration, peer: &Peer, asked: &Asked) -> bool {
        peer.pace().is_none() && self.is_overdue(now, peer, asked)
    }

    /// Whether others would have sent the block by now.
    fn is_overdue(&self, now: Duration, peer: &Peer, asked: &Asked) -> bool {
        now >= peer.waited_since(asked.at, self.limit_turn()) + self.patience()
    }

    /// In that time a block has usually come: who else was asked for it is no longer relied on.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs_f64(LEAST_GAIN) + self.limit_turn().max(self.pace.response() * 2)
    }

    /// Whether its rate says whether the peer is slow. While a limit of our own holds peers up a low one may be the limit's doing: it
    /// counts only once the block is overdue.
    fn tells(&self, now: Duration, peer: &Peer, asked: &Asked) -> bool {
        let limited = !self.has_room() || peer.is_held_up(now);
        peer.pace().is_some() && (!limited || self.is_overdue(now, peer, asked))
    }

    /// Whether the block comes much later than in `own` seconds.
    pub(super) fn is_slow(&self, now: Duration, peer: &Peer, asked: &Asked, own: f64) -> bool {
        let much_later = self.tells(now, peer, asked) && is_longer(peer.seconds_until(&asked.block), own);
        much_later || self.is_mute(now, peer, asked)
    }

    /// Whether all that the peer was asked for comes much later than in `own` seconds. (Who has been silent for a while is likely
    /// to be for as long again.)
    pub(super) fn is_behind(&self, now: Duration, peer: &Peer, asked: &Asked, own: f64) -> bool {
        let much_later = self.tells(now, peer, asked) && is_longer(self.lasts(now, peer, asked), own);
        much_later || self.is_mute(now, peer, asked)
    }

    /// Seconds that all it was asked for is likely to take.
    pub(super) fn lasts(&self, now: Duration, peer: &Peer, asked: &Asked) -> f64 {
        peer.backlog_seconds().max(self.silence(now, peer, asked).as_secs_f64())
    }

    /// For how long the peer could have sent something and has not, if that is longer than its usual pauses.
    fn silence(&self, now: Duration, peer: &Peer, asked: &Asked) -> Duration {
        let since = (asked.at + peer.requests.delay()).max(peer.last_block).max(peer.trickled);
        let silence = now.saturating_sub(peer.waited_since(since, self.limit_turn()));
        if silence > peer.usual_pause() { silence } else { Duration::ZERO }
    }

    /// Whether another peer, which would bring the block in `own` seconds, is better asked, too: this one is late with it, or, where
    /// nothing else is left (`endgame`), would bring all that it was asked for much later.
    pub(super) fn is_beaten(
        &self,
        now: Duration,
        endgame: bool,
        (peer, asked): (&Peer, &Asked),
        own: f64,
    ) -> bool {
        self.is_late(now, peer, asked) || (endgame && self.is_behind(now, peer, asked, own))
    }

    /// Whether a peer that is in the middle of a block leaves its place in memory to another, which begins it now and is known to
    /// send: the rest takes more than twice as long as the other takes for all of it.
    pub(super) fn gives_way(&self, now: Duration, writer: PeerSlot, other: PeerSlot, block: &Block) -> bool {
        let other = self.peers.get(other).filter(|other| other.pace().is_some());
        let (Some(writer), Some(other)) = (self.peers.get(writer), other) else { return false };
        let Some(begun) = writer.begun else { return false };
        let taken = now.saturating_sub(writer.waited_since(begun, self.limit_turn())).as_secs_f64();
        let (lacks, usual) = (writer.lacks_of(block.len), writer.block_seconds());
        let rest = |seconds: f64, bytes: u32| seconds * f64::from(lacks) / f64::from(bytes.max(1));
        // At the pace of this block so far; that it has just begun says nothing.
        let at_this_pace = rest(taken, block.len.saturating_sub(lacks));
        let at_the_usual = if is_longer(taken, usual) { f64::MAX } else { rest(usual, block.len) };
        at_this_pace.min(at_the_usual) > 2.0 * self.own_seconds(other)
    }

    /// Whether one of several who were asked for a block is left to bring it, although another would have it in `own` seconds. When
    /// that one has `proven` itself, who has sent nothing does not count towards the end: there may be many of them, who never do.
    pub(super) fn is_relied_on(
        &self,
        now: Duration,
        (endgame, proven): (bool, bool),
        holder: (&Peer, &Asked),
        own: f64,
    ) -> bool {
        let unproven = endgame && proven && holder.0.pace().is_none();
        !unproven && !self.is_beaten(now, endgame, holder, own)
    }

    /// Blocks that several peers were asked for, one of whom is not beaten. (So each that is asked once more is much faster than
    /// all before it, and they are few.)
    pub(super) fn unbeaten(&self, now: Duration, endgame: bool, own: f64, proven: bool) -> BTreeSet<Block> {
        let several = |block: &Block| {
            let active = self.active.get(&block.piece);
            active.is_some_and(|active| active.blocks[block.index()].asked > 1)
        };
        let asked = self.peers.iter().flat_map(|(_, peer)| peer.asked.iter().map(move |asked| (peer, asked)));
        let open = asked.filter(|(_, asked)| several(&asked.block));
        let relied_on = open.filter(|holder| self.is_relied_on(now, (endgame, proven), *holder, own));
        relied_on.map(|(_, asked)| asked.block).collect()
    }
}
