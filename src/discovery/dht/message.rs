//! Messages of the DHT, from hostile bytes (KRPC: BEP 5, 32, 43).

use super::compact::{Contact, Family, read_addr, read_nodes};
use super::id::NodeId;
use crate::bencode::{self, Dict, Value};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;

/// Longest datagram that is looked at, in bytes.
pub const MAX_DATAGRAM: usize = 1500;
/// Longest token of another node that is kept.
pub(super) const MAX_TOKEN: usize = 128;
/// What a query lacks that has a wrong type or length, and what one asks for that nobody knows.
pub(super) const PROTOCOL_ERROR: i64 = 203;
pub(super) const METHOD_UNKNOWN: i64 = 204;

/// A message, checked.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// To be echoed as it stands.
    pub(super) transaction: &'a [u8],
    pub(super) body: Body<'a>,
}

#[derive(Debug)]
pub(super) enum Body<'a> {
    Query(Query<'a>),
    Reply(Reply<'a>),
    /// An error instead of a reply. Nothing of its text is used.
    Error,
}

#[derive(Debug)]
pub(super) struct Query<'a> {
    pub(super) id: NodeId,
    /// Who asks answers no queries (BEP 43).
    pub(super) read_only: bool,
    /// Nodes of which families are wished for; none is said: that of the packet (BEP 32).
    pub(super) want: Vec<Family>,
    pub(super) call: Call<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Call<'a> {
    Ping,
    /// Also every query that we do not know, if it has a target: so newer kinds find their way through us.
    FindNode(NodeId),
    GetPeers(InfoHash),
    Announce {
        info_hash: InfoHash,
        /// `None`: that of the packet.
        port: Option<u16>,
        token: &'a [u8],
    },
}

#[derive(Debug, Default)]
pub(super) struct Reply<'a> {
    pub(super) id: Option<NodeId>,
    pub(super) nodes: Vec<Contact>,
    pub(super) values: Vec<SocketAddr>,
    pub(super) token: Option<&'a [u8]>,
    /// Where we are, as the other node sees us (BEP 42).
    pub(super) ip: Option<SocketAddr>,
    /// Some of the nodes and peers are no whole addresses, and left out.
    pub(super) ragged: bool,
}

/// Why a datagram is not a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal<'a> {
    /// It cannot be answered, or deserves none.
    Silent,
    /// A query that is answered with an error.
    Error { transaction: &'a [u8], code: i64, text: &'static str },
}

/// Reads a datagram.
pub(super) fn parse(datagram: &[u8]) -> Result<Message<'_>, Refusal<'_>> {
    if datagram.len() > MAX_DATAGRAM {
        return Err(Refusal::Silent);
    }
    let document = bencode::parse(datagram).map_err(|_| Refusal::Silent)?;
    if !document.rest.is_empty() {
        return Err(Refusal::Silent);
    }
    let root = document.root.dict().ok_or(Refusal::Silent)?;
    let transaction = root.get(b"t").and_then(Value::bytes).ok_or(Refusal::Silent)?;
    let body = match root.get(b"y").and_then(Value::bytes) {
        Some(b"q") => {
            let error = |(code, text)| Refusal::Error { transaction, code, text };
            Body::Query(query(root).map_err(error)?)
        }
        Some(b"r") => Body::Reply(reply(root).ok_or(Refusal::Silent)?),
        Some(b"e") => Body::Error,
        _ => return Err(Refusal::Silent),
    };
    Ok(Message { transaction, body })
}

fn query(root: Dict<'_>) -> Result<Query<'_>, (i64, &'static str)> {
    let wrong = |text| (PROTOCOL_ERROR, text);
    let method = root.get(b"q").and_then(Value::bytes).ok_or(wrong("q is missing or no string"))?;
    let fields = root.get(b"a").and_then(Value::dict).ok_or(wrong("a is missing or no dictionary"))?;
    let id = twenty(fields, b"id").ok_or(wrong("id is not 20 bytes"))?;
    let target = |key: &[u8], text| twenty(fields, key).ok_or(wrong(text));
    let info_hash = || target(b"info_hash", "info_hash is not 20 bytes").map(InfoHash);
    let call = match method {
        b"ping" => Call::Ping,
        b"find_node" => Call::FindNode(NodeId(target(b"target", "target is not 20 bytes")?)),
        b"get_peers" => Call::GetPeers(info_hash()?),
        b"announce_peer" => {
            let info_hash = info_hash()?;
            let token = fields.get(b"token").and_then(Value::bytes);
            let token = token.ok_or(wrong("token is missing or no string"))?;
            let implied = match fields.get(b"implied_port") {
                Some(flag) => flag.int().ok_or(wrong("implied_port is no integer"))? != 0,
                None => false,
            };
            let port = fields.get(b"port").and_then(Value::int).and_then(|port| u16::try_from(port).ok());
            let port = match implied {
                true => None,
                false => Some(port.filter(|port| *port != 0).ok_or(wrong("port is no port"))?),
            };
            Call::Announce { info_hash, port, token }
        }
        _ => {
            let target = twenty(fields, b"target").or_else(|| twenty(fields, b"info_hash"));
            Call::FindNode(NodeId(target.ok_or((METHOD_UNKNOWN, "method unknown"))?))
        }
    };
    let read_only = root.get(b"ro").and_then(Value::int).is_some_and(|flag| flag != 0);
    let want = match fields.get(b"want") {
        Some(list) => list.list().ok_or(wrong("want is no list"))?.filter_map(wanted).take(4).collect(),
        None => Vec::new(),
    };
    Ok(Query { id: NodeId(id), read_only, want, call })
}

fn wanted(value: Value<'_>) -> Option<Family> {
    match value.bytes() {
        Some(b"n4") => Some(Family::V4),
        Some(b"n6") => Some(Family::V6),
        _ => None,
    }
}

/// `None` when something has a wrong type: then nothing of it is believed. Of lists that end within an address, or have some of
/// another length, the others count: there are nodes that cut their replies where the packet ends.
fn reply(root: Dict<'_>) -> Option<Reply<'_>> {
    let fields = root.get(b"r")?.dict()?;
    let mut reply = Reply { id: Some(NodeId(twenty(fields, b"id")?)), ..Reply::default() };
    for (key, family) in [(b"nodes".as_slice(), Family::V4), (b"nodes6", Family::V6)] {
        if let Some(nodes) = fields.get(key) {
            let (nodes, whole) = read_nodes(nodes.bytes()?, family);
            reply.nodes.extend(nodes);
            reply.ragged |= !whole;
        }
    }
    if let Some(values) = fields.get(b"values") {
        let read = values.list()?.map(|value| value.bytes().and_then(read_addr));
        reply.values = read.inspect(|addr| reply.ragged |= addr.is_none()).flatten().collect();
    }
    if let Some(token) = fields.get(b"token") {
        reply.token = Some(token.bytes()?).filter(|token| token.len() <= MAX_TOKEN);
    }
    // Some say it wrongly; it is a hint only.
    reply.ip = root.get(b"ip").and_then(Value::bytes).and_then(read_addr);
    Some(reply)
}

fn twenty(fields: Dict<'_>, key: &[u8]) -> Option<[u8; 20]> {
    fields.get(key)?.bytes()?.try_into().ok()
}
