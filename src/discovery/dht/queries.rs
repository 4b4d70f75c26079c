//! What we ask of others, and what becomes of it.

use super::compact::{Contact, Family, usable};
use super::encode::{self, Ask, Asker};
use super::id::{NodeId, is_local};
use super::lookup::Hits;
use super::message::Reply;
use super::node::{Aim, Dht, Found, Pending, Purpose, Walk};
use super::table::Table;
use crate::metainfo::InfoHash;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// After so long without an answer another node is asked beside, and after so long it is given up.
const SLOW: Duration = Duration::from_millis(1500);
const TIMEOUT: Duration = Duration::from_secs(6);
/// Most queries of our own under way; and most of those that ask strangers whether they are there. Their number is up to
/// the strangers: it must not take places from our own.
const MAX_PENDING: usize = 256;
const MAX_PROOFS: usize = 64;
/// While nobody has answered for so long, silence says nothing about a node.
const CUT_OFF: Duration = Duration::from_secs(30);
/// Most batches of found peers that wait.
const MAX_FOUND: usize = 100;
/// The id follows the address at most this often.
const RENAME_PAUSE: Duration = Duration::from_secs(10 * 60);

impl Pending {
    /// When something is to be done about it.
    pub(super) fn deadline(&self) -> Duration {
        self.sent + if self.slow { self.timeout() } else { SLOW }
    }

    /// After how long it is given up. What a stranger asked for waits for less than that.
    fn timeout(&self) -> Duration {
        if self.purpose == Purpose::Proof { SLOW } else { TIMEOUT }
    }
}

impl Dht {
    /// Sends a query. `false` when too many are under way.
    pub(super) fn ask(
        &mut self,
        now: Duration,
        (id, to): (Option<NodeId>, SocketAddr),
        ask: &Ask,
        purpose: Purpose,
    ) -> bool {
        let Some(family) = self.family_of(to) else { return false };
        if purpose == Purpose::Proof && self.proofs >= MAX_PROOFS {
            self.counted.over_proof_limit += 1;
            return false;
        }
        if purpose != Purpose::Proof && !self.has_place() {
            self.counted.over_pending_limit += 1;
            return false;
        }
        let transaction = self.new_transaction();
        self.proofs += usize::from(purpose == Purpose::Proof);
        self.pending.insert(transaction, Pending { to, id, purpose, sent: now, slow: false });
        // The other family's nodes are welcome while we know few.
        let few = |other: &Family| {
            let network = self.networks[*other as usize].as_ref();
            *other == family || network.is_some_and(|network| network.table.len() < super::table::K)
        };
        let want: Vec<Family> = Family::ALL.into_iter().filter(few).collect();
        let read_only = self.config.read_only;
        let id = self.network(family).table.own();
        let bytes = encode::query(&transaction, ask, &Asker { id, read_only, want: &want });
        self.counted.queries_out += 1;
        self.send(now, to, bytes);
        true
    }

    /// Whether one more query of our own may be under way.
    fn has_place(&self) -> bool {
        self.pending.len() - self.proofs < MAX_PENDING
    }

    /// A query is under way no more.
    fn take_pending(&mut self, key: &[u8; 4]) -> Option<Pending> {
        let pending = self.pending.remove(key)?;
        self.proofs -= usize::from(pending.purpose == Purpose::Proof);
        Some(pending)
    }

    /// Ids of queries cannot be guessed by who did not see them.
    fn new_transaction(&mut self) -> [u8; 4] {
        loop {
            self.asked += 1;
            let sign = ::ring::hmac::sign(&self.transactions, &self.asked.to_be_bytes());
            let id = *sign.as_ref().first_chunk().expect("a digest has 32 bytes");
            if !self.pending.contains_key(&id) {
                return id;
            }
        }
    }

    /// The query that an answer belongs to: it must come from where the query went.
    fn settle(&mut self, from: SocketAddr, transaction: &[u8]) -> Option<Pending> {
        let key = <[u8; 4]>::try_from(transaction).ok();
        let key = key.filter(|key| self.pending.get(key).is_some_and(|pending| pending.to == from));
        match key.and_then(|key| self.take_pending(&key)) {
            None => {
                self.counted.unsolicited += 1;
                None
            }
            found => found,
        }
    }

    /// A reply has come.
    pub(super) fn replied(
        &mut self,
        now: Duration,
        (family, from): (Family, SocketAddr),
        transaction: &[u8],
        reply: &Reply<'_>,
    ) {
        let Some(pending) = self.settle(from, transaction) else { return };
        let Some(id) = reply.id else { return };
        self.counted.replies_in += 1;
        self.answered = Some(now);
        self.limits.verified(now, from.ip());
        self.release(now, Some(from.ip()));
        if let Some(known) = pending.id.filter(|known| *known != id) {
            self.counted.wrong_ids += 1;
            self.network(family).table.mistaken(known, from);
            self.walk_failed(&pending);
            return;
        }
        let contact = Contact { id, addr: from };
        self.network(family).table.answered(now, contact);
        if let Some(ip) = reply.ip {
            self.seen_at(now, family, from.ip(), ip.ip());
        }
        if let Purpose::Walk(number) = pending.purpose {
            self.walk_answered(number, contact, reply);
        }
    }

    /// Instead of a reply an error has come: somebody lives there, but it is of no use.
    pub(super) fn refused(&mut self, now: Duration, from: SocketAddr, transaction: &[u8]) {
        if let Some(pending) = self.settle(from, transaction) {
            self.counted.errors_in += 1;
            self.limits.verified(now, from.ip());
            self.release(now, Some(from.ip()));
            self.walk_failed(&pending);
        }
    }

    /// Whether nobody has answered for so long that the silence of one node says nothing about it.
    pub(super) fn is_cut_off(&self, now: Duration) -> bool {
        self.answered.is_none_or(|at| now.saturating_sub(at) >= CUT_OFF)
    }

    /// Gives up the queries that nobody has answered.
    pub(super) fn time_out(&mut self, now: Duration) {
        let due: Vec<[u8; 4]> =
            self.pending.iter().filter(|(_, p)| p.deadline() <= now).map(|(key, _)| *key).collect();
        let cut_off = self.is_cut_off(now);
        for key in due {
            let pending = self.pending.get_mut(&key).expect("seen a moment ago");
            if !pending.slow && now < pending.sent + pending.timeout() {
                pending.slow = true;
                if let Purpose::Walk(number) = pending.purpose
                    && let Some(walk) = self.walks.get_mut(&number)
                {
                    walk.lookup.slow(pending.to);
                }
                continue;
            }
            let pending = self.take_pending(&key).expect("seen a moment ago");
            self.counted.timeouts += 1;
            if let (Some(id), false) = (pending.id, cut_off) {
                self.network(Family::of(pending.to)).table.failed(now, id, pending.to);
            }
            self.walk_failed(&pending);
        }
    }

    fn walk_failed(&mut self, pending: &Pending) {
        if let Purpose::Walk(number) = pending.purpose
            && let Some(walk) = self.walks.get_mut(&number)
        {
            walk.lookup.failed(pending.to);
        }
    }

    fn walk_answered(&mut self, number: u64, contact: Contact, reply: &Reply<'_>) {
        let Some(walk) = self.walks.get_mut(&number) else { return };
        let from = contact.addr.ip();
        let nodes = || reply.nodes.iter().filter(|node| usable(node.addr, from));
        let near: Vec<_> = nodes().filter(|node| Family::of(node.addr) == walk.family).copied().collect();
        walk.lookup.answered(contact, &near, reply.token);
        let peers = match walk.aim {
            Aim::Nodes => None,
            Aim::Peers(info_hash) => {
                let named = reply.values.iter().copied().filter(|peer| usable(*peer, from));
                Some((info_hash, walk.told.hear(from, named, &mut self.rng)))
            }
        };
        // Nodes of the other family: one or two of them are a way in.
        let others: Vec<_> =
            nodes().map(|node| node.addr).filter(|a| Family::of(*a) != walk.family).collect();
        if let Some((info_hash, (believed, left_out))) = peers {
            self.counted.over_share_limit += left_out as u64;
            self.tell(info_hash, believed);
        }
        for addr in others.into_iter().take(2) {
            let few =
                |d: &Self| d.networks[Family::of(addr) as usize].as_ref().is_some_and(|n| n.table.len() == 0);
            if few(self) && self.hints.len() < 4 {
                self.hints.push_back(addr);
            }
        }
    }

    /// Peers of a torrent that is searched.
    pub(super) fn tell(&mut self, info_hash: InfoHash, peers: Vec<SocketAddr>) {
        if peers.is_empty() {
            return;
        }
        if self.found.len() >= MAX_FOUND {
            self.counted.over_queue_limit += 1;
            return;
        }
        self.counted.peers_found += peers.len() as u64;
        self.found.push_back(Found { info_hash, peers });
    }

    /// Moves all walks on: as many queries as may be under way are sent, and what has ended is closed.
    pub(super) fn advance(&mut self, now: Duration) {
        let numbers: Vec<u64> = self.walks.keys().copied().collect();
        for number in numbers {
            while self.has_place()
                && let Some(walk) = self.walks.get_mut(&number)
                && let Some(node) = walk.lookup.next(now)
            {
                let ask = match walk.aim {
                    Aim::Nodes => Ask::FindNode(walk.lookup.target()),
                    Aim::Peers(info_hash) => Ask::GetPeers(info_hash),
                };
                self.ask(now, node, &ask, Purpose::Walk(number));
            }
            let Some(walk) = self.walks.get_mut(&number) else { continue };
            let Hits { left_out, liars } = walk.lookup.take_hits();
            self.counted.over_candidate_limit += left_out;
            self.counted.over_lie_limit += liars;
            if walk.lookup.is_done(now) {
                self.counted.over_lookup_limit += u64::from(walk.lookup.is_cut());
                let walk = self.walks.remove(&number).expect("seen a moment ago");
                self.walked(now, &walk);
            }
        }
    }

    /// A walk has ended.
    fn walked(&mut self, now: Duration, walk: &Walk) {
        let Aim::Peers(info_hash) = walk.aim else { return };
        let more = self.walks.values().any(|other| other.aim == walk.aim);
        let Some(search) = self.searches.get_mut(&info_hash) else { return };
        if walk.lookup.answers() == 0 {
            if !search.answered && !more {
                // We know nobody, yet: soon again, but less and less soon.
                search.vain = search.vain.saturating_add(1);
                let pause = Duration::from_secs(2) * 2u32.pow(search.vain.min(8) - 1);
                (search.next, search.early) = (search.next.min(now + pause), true);
            }
            return;
        }
        (search.answered, search.vain) = (true, 0);
        let Some(announce) = search.announce[walk.family as usize] else { return };
        for (contact, token) in walk.lookup.closest() {
            if let Some(token) = token {
                let (port, implied) = (announce.port, announce.implied);
                let ask = Ask::Announce { info_hash, port, implied, token: token.to_vec() };
                if self.ask(now, (Some(contact.id), contact.addr), &ask, Purpose::Announce) {
                    self.counted.announces_out += 1;
                }
            }
        }
    }

    /// Another node says where we are. When enough say the same, our id follows (BEP 42).
    fn seen_at(&mut self, now: Duration, family: Family, voter: IpAddr, ip: IpAddr) {
        if is_local(ip) || is_local(voter) || ip.is_ipv4() != (family == Family::V4) {
            return;
        }
        let mut random = [0; 20];
        self.rng.fill(&mut random);
        let network = self.network(family);
        let Some(ip) = network.external.vote(voter, ip) else { return };
        let paused = network.renamed.is_some_and(|at| now.saturating_sub(at) < RENAME_PAUSE);
        if network.table.own().fits(ip) || paused {
            return;
        }
        network.renamed = Some(now);
        let nodes = network.table.contacts();
        network.table = Table::new(NodeId::for_ip(ip, random), now);
        // They have answered before; those heard of last come first.
        nodes.into_iter().for_each(|node| network.table.answered(now, node));
        network.joined = None;
        self.upkeep_at = self.upkeep_at.min(now);
    }
}
