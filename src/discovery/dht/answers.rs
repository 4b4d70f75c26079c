//! What others ask of us.

use super::compact::{Contact, Family, usable};
use super::encode::{self, Answer, Ask, MAX_REPLY, MAX_VALUES};
use super::limits::Over;
use super::message::{Call, PROTOCOL_ERROR, Query};
use super::node::{Dht, Purpose};
use super::table::K;
use std::net::SocketAddr;
use std::time::Duration;

impl Dht {
    /// Whether the sender of a query may ask now.
    pub(super) fn hears_query(&mut self, now: Duration, from: SocketAddr, len: usize) -> bool {
        let heard = self.limits.query(now, from.ip(), len);
        match heard {
            Ok(()) => self.counted.queries_in += 1,
            Err(Over::Queries) => self.counted.over_query_limit += 1,
            Err(Over::Addresses) => self.counted.over_address_limit += 1,
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
                answer.values = self.store.sample(now, info_hash, family, MAX_VALUES, &mut self.rng);
            }
            Call::Announce { info_hash, port, token } => {
                if !self.tokens.check(now, from.ip(), info_hash, token) {
                    self.counted.bad_tokens += 1;
                    let bytes = encode::error(transaction, from, PROTOCOL_ERROR, "bad token");
                    return self.send_error(now, from, bytes);
                }
                self.counted.announces_in += 1;
                let peer = SocketAddr::new(from.ip(), port.unwrap_or(from.port()));
                if !self.store.announce(now, info_hash, peer) {
                    self.counted.over_store_limit += 1;
                }
                if self.searches.contains_key(&info_hash) {
                    self.tell(info_hash, vec![peer]);
                }
            }
        }
        self.send_reply(now, (family, from), transaction, answer);
        let contact = Contact { id: query.id, addr: from };
        if self.network(family).table.asked(now, contact) && !query.read_only && usable(from, from.ip()) {
            self.verify(now, contact);
        }
    }

    fn nodes_near(&self, want: &[Family], target: super::NodeId) -> [Option<Vec<Contact>>; 2] {
        Family::ALL.map(|family| {
            let network = self.networks[family as usize].as_ref().filter(|_| want.contains(&family))?;
            Some(network.table.closest(target, K))
        })
    }

    fn send_reply(
        &mut self,
        now: Duration,
        (family, from): (Family, SocketAddr),
        transaction: &[u8],
        answer: Answer,
    ) {
        let room = self.limits.room(now, from.ip());
        let id = self.network(family).table.own();
        if room < MAX_REPLY {
            let whole = encode::reply_len((transaction, from), id, &answer);
            self.counted.over_upload_limit += u64::from(whole.min(MAX_REPLY) > room);
        }
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

    /// Pings a node that has asked us something, so that it may get into the table.
    fn verify(&mut self, now: Duration, contact: Contact) {
        const PING_LEN: usize = 80;
        let under_way = self.pending.values().any(|pending| pending.to == contact.addr);
        if !under_way && self.limits.room(now, contact.addr.ip()) >= PING_LEN {
            self.ask(now, (Some(contact.id), contact.addr), &Ask::Ping, Purpose::Ping);
        }
    }

    /// Puts a datagram into the queue of the socket.
    pub(super) fn send(&mut self, now: Duration, to: SocketAddr, bytes: Vec<u8>) {
        self.limits.sent(now, to.ip(), bytes.len());
        self.counted.datagrams_out += 1;
        self.counted.bytes_out += bytes.len() as u64;
        self.outgoing.push_back((to, bytes));
    }
}
