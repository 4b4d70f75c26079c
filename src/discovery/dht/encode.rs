//! Messages of the DHT that we send (KRPC: BEP 5, 32, 42, 43).

use super::compact::{Contact, Family, put_addr, put_nodes};
use super::id::NodeId;
use crate::bencode::{DictWriter, write_dict};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;

/// Longest reply, in bytes (BEP 32).
pub(super) const MAX_REPLY: usize = 1024;
/// Most peers of a reply.
pub(super) const MAX_VALUES: usize = 50;
/// Length of [`Ask::Proof`], in bytes.
pub(super) const PROOF_LEN: usize = 58;
/// When there is little room, peers beyond so many make way for nodes, and nodes beyond so many for peers.
const FEW_VALUES: usize = 8;
const FEW_NODES: usize = 2;
/// Who we are: two letters and a version.
const VERSION: &[u8; 4] = b"SR\x00\x01";

/// A query of ours.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    Ping,
    /// A ping as short as can be: strangers are asked by it whether they are there, for little that they have sent.
    Proof,
    FindNode(NodeId),
    GetPeers(InfoHash),
    Announce {
        info_hash: InfoHash,
        port: u16,
        implied: bool,
        token: Vec<u8>,
    },
}

/// What is said in all queries of a node.
pub(super) struct Asker<'a> {
    pub(super) id: NodeId,
    pub(super) read_only: bool,
    /// The families whose nodes are wished for.
    pub(super) want: &'a [Family],
}

/// Writes a query.
pub(super) fn query(transaction: &[u8], ask: &Ask, asker: &Asker<'_>) -> Vec<u8> {
    let want = |fields: &mut DictWriter<'_>| {
        // The family of the packet goes without saying.
        if asker.want.len() > 1 {
            fields.list(b"want", |list| {
                asker.want.iter().for_each(|family| {
                    list.bytes(match family {
                        Family::V4 => b"n4",
                        Family::V6 => b"n6",
                    });
                });
            });
        }
    };
    let method: &[u8] = match ask {
        Ask::Ping | Ask::Proof => b"ping",
        Ask::FindNode(_) => b"find_node",
        Ask::GetPeers(_) => b"get_peers",
        Ask::Announce { .. } => b"announce_peer",
    };
    write_dict(|root| {
        root.dict(b"a", |fields| {
            fields.bytes(b"id", &asker.id.0);
            match ask {
                Ask::Ping | Ask::Proof => {}
                Ask::FindNode(target) => {
                    fields.bytes(b"target", &target.0);
                    want(fields);
                }
                Ask::GetPeers(info_hash) => {
                    fields.bytes(b"info_hash", &info_hash.0);
                    want(fields);
                }
                Ask::Announce { info_hash, port, implied, token } => {
                    fields.int(b"implied_port", i64::from(*implied));
                    fields.bytes(b"info_hash", &info_hash.0);
                    fields.int(b"port", i64::from(*port));
                    fields.bytes(b"token", token);
                }
            }
        });
        root.bytes(b"q", method);
        if asker.read_only {
            root.int(b"ro", 1);
        }
        root.bytes(b"t", transaction);
        if !matches!(ask, Ask::Proof) {
            root.bytes(b"v", VERSION);
        }
        root.bytes(b"y", b"q");
    })
}

/// What a reply of ours holds beside our id.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// `None`: not asked for.
    pub(super) nodes: [Option<Vec<Contact>>; 2],
    pub(super) token: Option<[u8; 8]>,
    pub(super) values: Vec<SocketAddr>,
}

/// Writes a reply of at most `room` bytes: peers and nodes are left out until it fits, most of the peers first, then most of
/// the nodes. `None` when not even the bare reply does.
pub(super) fn reply(
    (transaction, to): (&[u8], SocketAddr),
    id: NodeId,
    mut answer: Answer,
    room: usize,
) -> Option<Vec<u8>> {
    let room = room.min(MAX_REPLY);
    answer.values.truncate(MAX_VALUES);
    loop {
        let bytes = write_reply((transaction, to), id, &answer);
        let over = bytes.len().saturating_sub(room);
        if over == 0 {
            return Some(bytes);
        }
        let known: usize = answer.nodes.iter().flatten().map(Vec::len).sum();
        let nodes = answer.nodes.iter_mut().flatten().rev().max_by_key(|nodes| nodes.len());
        match nodes.filter(|nodes| !nodes.is_empty()) {
            Some(farther) if known > FEW_NODES && answer.values.len() <= FEW_VALUES => _ = farther.pop(),
            _ if !answer.values.is_empty() => {
                let least = if known > FEW_NODES { FEW_VALUES } else { 0 };
                let left = answer.values.len().saturating_sub(over.div_ceil(21));
                answer.values.truncate(left.max(least));
            }
            Some(farther) => _ = farther.pop(),
            None => return None,
        }
    }
}

/// Bytes of a reply without peers and nodes.
pub(super) fn bare_len(to: (&[u8], SocketAddr), id: NodeId, answer: &Answer) -> usize {
    let nodes = answer.nodes.each_ref().map(|nodes| nodes.as_ref().map(|_| Vec::new()));
    write_reply(to, id, &Answer { nodes, token: answer.token, values: Vec::new() }).len()
}

/// Bytes of a whole reply.
pub(super) fn reply_len(to: (&[u8], SocketAddr), id: NodeId, answer: &Answer) -> usize {
    write_reply(to, id, answer).len()
}

fn write_reply((transaction, to): (&[u8], SocketAddr), id: NodeId, answer: &Answer) -> Vec<u8> {
    write_dict(|root| {
        root.bytes(b"ip", &compact(to));
        root.dict(b"r", |fields| {
            fields.bytes(b"id", &id.0);
            for (key, nodes) in [b"nodes".as_slice(), b"nodes6"].iter().zip(&answer.nodes) {
                if let Some(nodes) = nodes {
                    fields.bytes(key, &put_nodes(nodes));
                }
            }
            if let Some(token) = &answer.token {
                fields.bytes(b"token", token);
            }
            if !answer.values.is_empty() {
                fields.list(b"values", |list| {
                    answer.values.iter().for_each(|addr| list.bytes(&compact(*addr)));
                });
            }
        });
        root.bytes(b"t", transaction);
        root.bytes(b"v", VERSION);
        root.bytes(b"y", b"r");
    })
}

/// Writes an error.
pub(super) fn error(transaction: &[u8], to: SocketAddr, code: i64, text: &str) -> Vec<u8> {
    write_dict(|root| {
        root.list(b"e", |list| {
            list.int(code);
            list.bytes(text.as_bytes());
        });
        root.bytes(b"ip", &compact(to));
        root.bytes(b"t", transaction);
        root.bytes(b"v", VERSION);
        root.bytes(b"y", b"e");
    })
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut out = Vec::with_capacity(18);
    put_addr(&mut out, addr);
    out
}
