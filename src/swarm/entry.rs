//! Who is let in, who gives way for it, and what is left behind by those who go.

use super::candidates::{Candidates, Source};
use super::peer::Peer;
use super::roster::{Entry, Member, TOGETHER, host};
use super::shown::Shown;
use super::tellers::Teller;
use super::{DropReason, Introduction, PeerSlot, Swarm, Tag, Wish};
use crate::wire::{PeerId, canonical, lacks_link};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
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

    /// Remembers an address to dial, whoever has named it: all of them come by here. `false` when it is in the filter, or
    /// there is no room.
    pub(super) fn note_address(&mut self, addr: SocketAddr, source: Source) -> bool {
        self.note_by(addr, |book, addr| book.add(addr, source))
    }

    /// Likewise, an address that a peer has told of.
    pub(super) fn note_told(&mut self, addr: SocketAddr, teller: Teller) -> bool {
        self.note_by(addr, |book, addr| book.add_told(addr, teller))
    }

    fn note_by(&mut self, addr: SocketAddr, note: impl FnOnce(&mut Candidates, SocketAddr) -> bool) -> bool {
        // One host has one name: else it would be dialled twice, and a ban would hold for one of them.
        let addr = canonical(addr);
        if lacks_link(addr) || !self.may_connect(addr.ip()) {
            return false;
        }
        let outshared = self.candidates.outshared();
        let added = note(&mut self.candidates, addr);
        self.totals.limits.addresses += u64::from(!added && self.candidates.outshared() == outshared);
        added
    }

    /// A peer's handshake is done.
    ///
    /// # Errors
    /// When it is not wanted; close the connection then, there will be no [`Swarm::gone`].
    pub fn connect(&mut self, now: Duration, who: Introduction) -> Result<PeerSlot, DropReason> {
        let tag = Tag { core: self.core as u32, number: self.connections };
        self.connections += 1;
        let given = who.outgoing && self.candidates.is_given(&who.addr);
        let new = Member { tag, outgoing: who.outgoing, given, since: now, outlasted: None, gave: 0 };
        let refusal = self.admit(&who, new).err();
        if who.outgoing {
            match &refusal {
                None => self.candidates.connected(who.addr),
                Some(DropReason::Ourselves) => self.candidates.ban(who.addr),
                Some(DropReason::Banned) => self.ban_address(who.addr),
                Some(DropReason::Duplicate | DropReason::Crowd(_) | DropReason::Network(_)) => {
                    self.candidates.postpone(now, who.addr);
                }
                // Somebody was met all the same.
                Some(_) => {
                    self.candidates.connected(who.addr);
                    self.candidates.ended(now, who.addr, false);
                }
            }
        }
        if let Some(reason) = refusal {
            return Err(reason);
        }
        let mut peer = Peer::new(now, who, tag, self.layout.piece_count(), self.have.count());
        let layout = &self.layout;
        let shown = || Box::new(Shown::new(layout.piece_count(), layout.piece_length()));
        (peer.given, peer.shown) = (given, self.is_super_seed().then(shown));
        let slot = self.peers.insert(peer);
        self.count_leeches(now);
        self.make_known(slot);
        self.wake(slot);
        Ok(slot)
    }

    /// The peer's connection has ended; its slot is void from now on.
    pub fn gone(&mut self, now: Duration, slot: PeerSlot) {
        self.returned(slot, None);
        self.release_all(slot);
        self.forget_writer(slot);
        self.alter(slot, |peer| (peer.dropped, peer.unchoked) = (true, false));
        self.unsuggest(slot);
        let listens_at = self.listens_at(slot);
        let Some(mut peer) = self.peers.remove(slot) else { return };
        self.totals.requests.dropped += peer.uploads.clear();
        self.commons.roster().leave(peer.who.identity(), peer.tag);
        self.commons.neighbours().remove(&peer.tag);
        self.remember(&peer);
        self.forget_spread(&mut peer);
        self.count_leeches(now);
        if peer.is_counted() {
            let had = peer.has.numbers().filter_map(|number| self.layout.piece(number));
            had.for_each(|piece| self.picker.lose(piece));
        }
        self.unserve(peer.tag);
        for piece in self.active.values_mut() {
            piece.owner = piece.owner.filter(|owner| *owner != slot);
        }
        let useful = peer.downloaded + peer.uploaded > 0;
        let brief = peer.given && !useful && now < peer.since + TOGETHER;
        let identity = peer.who.identity();
        let is_one_too_many = {
            let roster = self.commons.roster();
            brief && roster.member(&identity, false).is_some()
                || peer.who.outgoing && roster.gives_otherwise(&identity, peer.given)
        };
        if is_one_too_many {
            // Most likely one of both sides would not have two connections.
            self.candidates.postpone(now, peer.who.addr);
        } else if peer.who.outgoing {
            self.candidates.ended(now, peer.who.addr, useful);
        } else if let Some(addr) = listens_at.filter(|_| peer.downloaded > 0)
            && !self.commons.roster().is_banned(&peer.who.identity())
        {
            // It was worth something: we may go to it as it came to us.
            self.note_address(addr, Source::Itself);
        }
        self.fill_free_slots(now, None);
        self.wake_hungry();
    }

    /// How many pieces of peers have been counted, and counted off again, since this was asked last: what it costs that they come
    /// and go.
    pub fn take_shifts(&mut self) -> u64 {
        self.picker.take_shifts()
    }

    /// Closes the connection to a peer; [`Swarm::gone`] follows when it is closed.
    pub(super) fn drop_peer(&mut self, slot: PeerSlot, reason: DropReason) {
        let Some(peer) = self.peers.get(slot).filter(|peer| !peer.dropped) else { return };
        let (who, tag) = (peer.who, peer.tag);
        match reason {
            DropReason::BadBitfield
            | DropReason::NoSuchPiece(_)
            | DropReason::BadRequest { .. }
            | DropReason::NotNegotiated => self.totals.limits.messages += 1,
            DropReason::Silent => self.totals.limits.silent += 1,
            _ => {}
        }
        let mut dropped = 0;
        self.alter(slot, |peer| {
            (peer.dropped, peer.unchoked) = (true, false);
            dropped = peer.uploads.clear();
        });
        self.totals.requests.dropped += dropped;
        self.commons.roster().leave(who.identity(), tag);
        self.commons.neighbours().remove(&tag);
        self.wishes.push_back(Wish::Drop(slot, reason));
    }

    /// Enters a peer into the roster; or says why it is not let in.
    fn admit(&mut self, who: &Introduction, new: Member) -> Result<(), DropReason> {
        if who.id == self.settings.id {
            return Err(DropReason::Ourselves);
        }
        if !self.may_connect(who.addr.ip()) {
            return Err(DropReason::Filtered);
        }
        let identity = who.identity();
        let commons = Arc::clone(&self.commons);
        // Where the user's word leads, the name may be one that a liar has taken from it. (If it lies itself its address is banned.)
        if !new.given && commons.roster().is_banned(&identity) {
            return Err(DropReason::Banned);
        }
        let too_many_came = !who.outgoing && self.are_too_many_comers();
        let crowded = too_many_came || commons.roster().len() >= self.settings.most_peers;
        let keep_outgoing = self.settings.id.0 > who.id.0;
        let most = self.settings.most_of(who.addr.ip(), commons.roster().len());
        let entry = commons.roster().enter(identity, new, keep_outgoing, most);
        match entry {
            Entry::Crowd | Entry::Network => {
                self.totals.limits.hosts += 1;
                let crowd = DropReason::Crowd(most.of_host);
                return Err(if entry == Entry::Crowd { crowd } else { DropReason::Network(most.of_network) });
            }
            Entry::Duplicate => return Err(DropReason::Duplicate),
            Entry::Replaces(twin) => self.evict(twin),
            Entry::New if crowded => {
                self.totals.limits.peers += 1;
                let reason = DropReason::Full(commons.roster().len() - 1);
                // Of too many who have come, one makes room for another.
                let may_go = |peer: &Peer| !(peer.dropped || too_many_came && peer.who.outgoing);
                let Some(idler) =
                    self.idler(new.since, may_go).or_else(|| self.least(new.since, who, may_go))
                else {
                    commons.roster().leave(identity, new.tag);
                    return Err(reason);
                };
                self.drop_peer(idler, reason);
            }
            Entry::New => {}
        }
        Ok(())
    }

    /// Whether no more may come to us than are here.
    fn are_too_many_comers(&self) -> bool {
        self.commons.roster().comers() >= self.settings.most_comers(self.is_seeding())
    }

    /// A peer that calls itself so has dialled us. If we have dialled it, too, and both sides keep the connection that it has made,
    /// ours is given up, as long as there is room for the other; says whether it was.
    pub fn leaves_to(&mut self, ip: IpAddr, id: PeerId) -> bool {
        let twin = self.commons.roster().dialled(&(ip.to_canonical(), id));
        let twin = twin.filter(|_| self.settings.id.0 < id.0 && !self.are_too_many_comers());
        twin.into_iter().for_each(|twin| self.evict(twin));
        twin.is_some()
    }

    /// Another connection to the same peer has taken the place of this one.
    pub fn evict(&mut self, tag: Tag) {
        if tag.core() != self.core {
            self.wishes.push_back(Wish::Evict(tag));
        } else if let Some(slot) = self.peers.find(tag) {
            self.drop_peer(slot, DropReason::Duplicate);
        }
    }

    /// Has strangers go who are in under the names of those whom the user names.
    pub(super) fn look_at_namesakes(&mut self) {
        let mut roster = self.commons.roster();
        let given = self.peers.iter().filter(|(_, peer)| peer.given && !peer.dropped);
        let mut stranger = |peer: &Peer| roster.outstays(&peer.who.identity(), peer.last_heard);
        let strangers: Vec<Tag> = given.filter_map(|(_, peer)| stranger(peer)).collect();
        drop(roster);
        strangers.into_iter().for_each(|stranger| self.evict(stranger));
    }

    /// Has connections go that we have made to peers who are in by the other family of addresses, and give more there.
    pub(super) fn look_at_kin(&mut self, now: Duration) {
        let mut roster = self.commons.roster();
        let is_old = |peer: &Peer| peer.who.outgoing && !peer.dropped && now >= peer.since + TOGETHER;
        let dialled = self.peers.iter().filter(|(_, peer)| is_old(peer));
        let mut is_outdone =
            |peer: &Peer| roster.is_outdone(&peer.who.identity(), peer.given, peer.downloaded);
        let outdone: Vec<PeerSlot> =
            dialled.filter(|(_, peer)| is_outdone(peer)).map(|(slot, _)| slot).collect();
        drop(roster);
        outdone.into_iter().for_each(|slot| self.drop_peer(slot, DropReason::Duplicate));
    }

    /// The priority of a connection to this address.
    pub(super) fn priority(&self, addr: SocketAddr) -> u32 {
        self.outside.rank(self.settings.greeting.port, addr)
    }

    /// The connected peer of the least priority (BEP 40), if that of the newcomer is greater. Who is trading stays: else a
    /// crowd that comes again and again could end every trade there is.
    fn least(
        &self,
        now: Duration,
        newcomer: &Introduction,
        may_go: impl Fn(&Peer) -> bool,
    ) -> Option<PeerSlot> {
        let idle = |peer: &Peer| may_go(peer) && now >= peer.last_moved + IDLE;
        let ranks = self.peers.iter().filter(|(_, peer)| idle(peer));
        let ranks = ranks.map(|(slot, peer)| (self.priority(peer.who.addr), slot));
        ranks.min().filter(|(rank, _)| *rank < self.priority(newcomer.addr)).map(|(_, slot)| slot)
    }

    /// The peer that is missed least: it has been idle for long. One with which there is nothing to trade comes
    /// first, then one of the host with the most connections, then the one that came first.
    fn idler(&self, now: Duration, may_go: impl Fn(&Peer) -> bool) -> Option<PeerSlot> {
        let mut crowds: HashMap<IpAddr, usize> = HashMap::new();
        let kept = || self.peers.iter().filter(|(_, peer)| !peer.dropped);
        kept().for_each(|(_, peer)| *crowds.entry(host(peer.who.addr.ip())).or_default() += 1);
        let useless = |peer: &Peer| !peer.interested && peer.wanted == 0;
        let idle = kept().filter(|(_, peer)| {
            let alone = crowds[&host(peer.who.addr.ip())] == 1;
            may_go(peer) && now >= peer.last_moved + IDLE && (useless(peer) || !alone)
        });
        idle.min_by_key(|(_, peer)| {
            (!useless(peer), std::cmp::Reverse(crowds[&host(peer.who.addr.ip())]), peer.since)
        })
        .map(|(slot, _)| slot)
    }
}
