//! Who is let in, and who gives way for it.

use super::peer::Peer;
use super::{DropReason, Introduction, PeerSlot, Swarm};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// A peer that has moved no payload for this long gives way to a new one when there is no room.
const IDLE: Duration = Duration::from_secs(30);

impl Swarm {
    pub(super) fn refusal(&mut self, now: Duration, who: &Introduction) -> Option<DropReason> {
        if who.id == self.settings.id {
            return Some(DropReason::Ourselves);
        }
        if !who.outgoing && self.banned.contains(&(who.addr.ip(), who.id)) {
            return Some(DropReason::Banned);
        }
        let is_twin = |peer: &Peer| peer.who.id == who.id && peer.who.addr.ip() == who.addr.ip();
        let twin = self.peers.iter().find(|(_, peer)| is_twin(peer) && !peer.dropped);
        if let Some((slot, twin)) = twin {
            // When both sides have dialled at once, both must keep the same connection: the one that the side with
            // the greater id dialled.
            let keep_outgoing = self.settings.id.0 > who.id.0;
            if twin.who.outgoing == who.outgoing || twin.who.outgoing == keep_outgoing {
                return Some(DropReason::Duplicate);
            }
            self.drop_peer(slot, DropReason::Duplicate);
        }
        let full = DropReason::Full(self.settings.most_peers);
        let kept = self.peers.iter().filter(|(_, peer)| !peer.dropped).count();
        if kept >= self.settings.most_peers {
            self.totals.limits.peers += 1;
            let Some(idler) = self.idler(now) else { return Some(full) };
            self.drop_peer(idler, full);
        }
        None
    }

    /// The peer that is missed least: it has been idle for long. One with which there is nothing to trade comes
    /// first, then one of the address with the most connections, then the one that came first.
    fn idler(&self, now: Duration) -> Option<PeerSlot> {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        let kept = || self.peers.iter().filter(|(_, peer)| !peer.dropped);
        kept().for_each(|(_, peer)| *crowds.entry(peer.who.addr.ip()).or_default() += 1);
        let useless = |peer: &Peer| !peer.interested && peer.wanted == 0;
        let idle = kept().filter(|(_, peer)| {
            let alone = crowds[&peer.who.addr.ip()] == 1;
            now >= peer.last_moved + IDLE && (useless(peer) || !alone)
        });
        idle.min_by_key(|(_, peer)| {
            (!useless(peer), std::cmp::Reverse(crowds[&peer.who.addr.ip()]), peer.since)
        })
        .map(|(slot, _)| slot)
    }
}
