//! Who is let in, and who gives way for it.

use super::peer::Peer;
use super::roster::Entry;
use super::{DropReason, Introduction, PeerSlot, Swarm, Tag, Wish};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A peer that has moved no payload for this long gives way to a new one when there is no room.
const IDLE: Duration = Duration::from_secs(30);

impl Swarm {
    /// Whether there may be a connection with this host: it is not in the filter. One that may not be is counted.
    pub fn may_connect(&mut self, host: IpAddr) -> bool {
        let filtered = self.settings.filter.as_ref().is_some_and(|filter| filter.contains(host));
        self.totals.limits.filtered += u64::from(filtered);
        !filtered
    }

    /// Enters a peer into the roster, under this tag; or says why it is not let in.
    pub(super) fn admit(&mut self, now: Duration, who: &Introduction, tag: Tag) -> Result<(), DropReason> {
        if who.id == self.settings.id {
            return Err(DropReason::Ourselves);
        }
        if !self.may_connect(who.addr.ip()) {
            return Err(DropReason::Filtered);
        }
        let identity = who.identity();
        let commons = Arc::clone(&self.commons);
        if !who.outgoing && commons.roster().is_banned(&identity) {
            return Err(DropReason::Banned);
        }
        let crowded = commons.roster().len() >= self.settings.most_peers;
        let keep_outgoing = self.settings.id.0 > who.id.0;
        let entry = commons.roster().enter(identity, tag, who.outgoing, keep_outgoing);
        match entry {
            Entry::Duplicate => return Err(DropReason::Duplicate),
            Entry::Replaces(twin) => self.evict(twin),
            Entry::New if crowded => {
                self.totals.limits.peers += 1;
                let full = DropReason::Full(self.settings.most_peers);
                let Some(idler) = self.idler(now) else {
                    commons.roster().leave(identity, tag);
                    return Err(full);
                };
                self.drop_peer(idler, full);
            }
            Entry::New => {}
        }
        Ok(())
    }

    /// Another connection to the same peer has taken the place of this one.
    pub fn evict(&mut self, tag: Tag) {
        if tag.core() != self.core {
            self.wishes.push_back(Wish::Evict(tag));
        } else if let Some(slot) = self.peers.find(tag) {
            self.drop_peer(slot, DropReason::Duplicate);
        }
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
