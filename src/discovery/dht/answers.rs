//! What others ask of us.

use super::compact::{Contact, Family, usable};
use super::encode::{self, Answer, Ask, MAX_REPLY, MAX_VALUES, PROOF_LEN};
use super::limits::Over;
use super::message::{Call, PROTOCOL_ERROR, Query};
use super::node::{Dht, Purpose};
use super::store::Taken;
use super::table::K;
use crate::metainfo::InfoHash;
use crate::swarm::host;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long an answer waits for a stranger to say that it is there; a lookup asks others beside who takes longer. Most
/// answers that wait, and most of them for one host.
const HOLD: Duration = Duration::from_secs(1);
const MAX_HELD: usize = 128;
const MAX_HELD_A_HOST: usize = 4;

/// An answer that waits until it is known that somebody is there.
#[derive(Debug)]
pub(super) struct Held {
    family: Family,
    to: SocketAddr,
    transaction: Vec<u8>,
    answer: Answer,
    pub(super) until: Duration,
}

impl Dht {
    /// Whether the sender of a query may ask now.
    pub(super) fn hears_query(&mut self, now: Duration, from: SocketAddr, len: usize) -> bool {
        let heard = self.limits.query(now, from.ip(), len);
        match heard {
            Ok(()) => self.counted.queries_in += 1,
            Err(Over::Queries) => self.counted.over_query_limit += 1,
            Err(Over::Site) => self.counted.over_site_limit += 1,
        }
        // A node that only reads answers nothing at all (BEP 43).
        heard.is_ok() && !self.config.read_only
    }

    /// Answers a query.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        (family, from): (Family, SocketAddr),
        transaction: &[u8],
        query: Query<'_>,
    ) {
        let want = if query.want.is_empty() { vec![family] } else { query.want };
        let mut answer = Answer::default();
        match query.call {
            Call::Ping => {}
            Call::FindNode(target) => answer.nodes = self.nodes_near(&want, target),
            Call::GetPeers(info_hash) => {
                answer.nodes = self.nodes_near(&want, super::NodeId(info_hash.0));
                answer.token = Some(self.tokens.make(now, from.ip(), info_hash));
                let (values, more) = self.store.sample(now, info_hash, family, MAX_VALUES, &mut self.rng);
                self.counted.over_reply_limit += u64::from(more);
                answer.values = values;
            }
            Call::Announce { info_hash, port, token } => {
                if !self.tokens.check(now, from.ip(), info_hash, token) {
                    self.counted.bad_tokens += 1;
                    let bytes = encode::error(transaction, from, PROTOCOL_ERROR, "bad token");
                    return self.send_error(now, from, bytes);
                }
                // It has had a reply of ours at this address.
                self.limits.verified(now, from.ip());
                self.counted.announces_in += 1;
                self.announced(now, info_hash, SocketAddr::new(from.ip(), port.unwrap_or(from.port())));
            }
        }
        let contact = Contact { id: query.id, addr: from };
        let answers = !query.read_only && usable(from, from.ip());
        let welcome = self.network(family).table.asked(now, contact) && answers;
        let answer = match answers {
            true => match self.hold(now, (family, contact), transaction, answer) {
                Some(answer) => answer,
                None => return,
            },
            false => answer,
        };
        self.send_reply(now, (family, from), transaction, answer);
        if welcome && self.limits.may_prove(now, from.ip()) {
            self.prove(now, contact);
        }
    }

    /// A stranger may have no more than twice what it has sent, and an answer is longer than that: it waits until the stranger
    /// has said that it is there. Gives it back when it need not wait, or should not.
    fn hold(
        &mut self,
        now: Duration,
        (family, contact): (Family, Contact),
        transaction: &[u8],
        answer: Answer,
    ) -> Option<Answer> {
        let to = contact.addr;
        let own = self.network(family).table.own();
        let whole = encode::reply_len((transaction, to), own, &answer).min(MAX_REPLY);
        if self.limits.is_proven(to.ip()) || whole <= self.limits.room(now, to.ip()) {
            return Some(answer);
        }
        let waits = self.held.iter().filter(|held| host(held.to.ip()) == host(to.ip())).count();
        if waits >= MAX_HELD_A_HOST || self.held.len() >= MAX_HELD {
            self.counted.over_held_limit += 1;
            return Some(answer);
        }
        // What is left must do for the bare answer, should it keep silent.
        let least = encode::bare_len((transaction, to), own, &answer) + PROOF_LEN;
        let may_ask = self.limits.may_prove(now, to.ip()) && self.limits.room(now, to.ip()) >= least;
        let asked = may_ask && self.prove(now, contact);
        if !asked && waits == 0 {
            return Some(answer);
        }
        let until = now + HOLD;
        self.held.push_back(Held { family, to, transaction: transaction.to_vec(), answer, until });
        None
    }

    /// Asks a stranger whether it is there, if there is room for that; it may get into the table, too. `false` when it is not
    /// asked.
    fn prove(&mut self, now: Duration, contact: Contact) -> bool {
        let under_way = self.pending.values().any(|pending| pending.to == contact.addr);
        if under_way || self.limits.room(now, contact.addr.ip()) < PROOF_LEN {
            return false;
        }
        let asked = self.ask(now, (Some(contact.id), contact.addr), &Ask::Proof, Purpose::Proof);
        if asked {
            self.limits.proving(now, contact.addr.ip());
        }
        asked
    }

    /// Sends the answers that have waited for a host that has turned out to be there; and all that have waited for too long,
    /// as far as there is room. A flood of forged queries must not have us spend on silence what others need.
    pub(super) fn release(&mut self, now: Duration, ip: Option<IpAddr>) {
        let due = |held: &Held| now >= held.until || ip.is_some_and(|ip| host(ip) == host(held.to.ip()));
        let (due, left) = std::mem::take(&mut self.held).into_iter().partition(due);
        self.held = left;
        let due: VecDeque<Held> = due;
        for held in due {
            if !self.limits.is_proven(held.to.ip()) && self.limits.is_busy(now) {
                self.counted.over_upload_limit += 1;
                continue;
            }
            self.send_reply(now, (held.family, held.to), &held.transaction, held.answer);
        }
    }

    /// A peer was announced. If the torrent is one of ours, that is news for it, too; but of one host there are no more than
    /// are stored, however often it changes its port.
    fn announced(&mut self, now: Duration, info_hash: InfoHash, peer: SocketAddr) {
        let taken = self.store.announce(now, info_hash, peer);
        let over = matches!(taken, Taken::Instead | Taken::InsteadOfItsOwn | Taken::Not);
        self.counted.over_store_limit += u64::from(over);
        if !self.searches.contains_key(&info_hash) {
            return;
        }
        match taken {
            Taken::New | Taken::Instead => self.tell(info_hash, vec![peer]),
            Taken::InsteadOfItsOwn => self.counted.over_host_limit += 1,
            Taken::Again | Taken::Not => {}
        }
    }

    fn nodes_near(&self, want: &[Family], target: super::NodeId) -> [Option<Vec<Contact>>; 2] {
        Family::ALL.map(|family| {
            let network = self.networks[family as usize].as_ref().filter(|_| want.contains(&family))?;
            Some(network.table.closest(target, K))
        })
    }

    /// Sends as much of an answer as there is room for.
    fn send_reply(
        &mut self,
        now: Duration,
        (family, from): (Family, SocketAddr),
        transaction: &[u8],
        answer: Answer,
    ) {
        let room = self.limits.room(now, from.ip());
        let id = self.network(family).table.own();
        let whole = encode::reply_len((transaction, from), id, &answer);
        self.counted.over_upload_limit += u64::from(whole.min(MAX_REPLY) > room);
        self.counted.over_reply_limit += u64::from(whole > MAX_REPLY);
        if let Some(bytes) = encode::reply((transaction, from), id, answer, room) {
            self.counted.replies_out += 1;
            self.send(now, from, bytes);
        }
    }

    /// Sends an error, if the sender of the query may have so many bytes.
    pub(super) fn send_error(&mut self, now: Duration, from: SocketAddr, bytes: Vec<u8>) {
        if bytes.len() > self.limits.room(now, from.ip()) {
            self.counted.over_upload_limit += 1;
            return;
        }
        self.counted.errors_out += 1;
        self.send(now, from, bytes);
    }

    /// Puts a datagram into the queue of the socket.
    pub(super) fn send(&mut self, now: Duration, to: SocketAddr, bytes: Vec<u8>) {
        self.limits.sent(now, to.ip(), bytes.len());
        self.counted.datagrams_out += 1;
        self.counted.bytes_out += bytes.len() as u64;
        self.outgoing.push_back((to, bytes));
    }
}
