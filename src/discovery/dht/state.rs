//! What is kept from one run to the next: our ids, and the nodes that answered last. A bencoded dictionary:
//! `id` and `nodes` for IPv4, `id6` and `nodes6` for IPv6 (20 bytes, and nodes one behind the other).

use super::compact::{Contact, Family, put_nodes, read_nodes, usable};
use super::id::NodeId;
use crate::bencode::{self, Value, write_dict};

/// Most nodes that are kept of each family.
const MAX_NODES: usize = 400;
/// Longest state that is read, in bytes.
pub const MAX_STATE: usize = 64 * 1024;

/// One family's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: NodeId,
    pub(super) nodes: Vec<Contact>,
}

const KEYS: [(&[u8], &[u8]); 2] = [(b"id", b"nodes"), (b"id6", b"nodes6")];

/// Writes the state.
pub(super) fn write(kept: &[Option<Kept>; 2]) -> Vec<u8> {
    write_dict(|root| {
        for (kept, (id, _)) in kept.iter().zip(KEYS) {
            if let Some(kept) = kept {
                root.bytes(id, &kept.id.0);
            }
        }
        for (kept, (_, nodes)) in kept.iter().zip(KEYS) {
            if let Some(kept) = kept {
                let first = &kept.nodes[..kept.nodes.len().min(MAX_NODES)];
                root.bytes(nodes, &put_nodes(first));
            }
        }
    })
}

/// Reads a state: what of it makes no sense is not there.
pub(super) fn read(bytes: &[u8]) -> [Option<Kept>; 2] {
    let document = Some(bytes).filter(|bytes| bytes.len() <= MAX_STATE).and_then(|b| bencode::parse(b).ok());
    let root = document.and_then(|document| document.root.dict());
    Family::ALL.map(|family| {
        let (id, nodes) = KEYS[family as usize];
        let get = |key| root?.get(key).and_then(Value::bytes);
        let id = NodeId(get(id)?.try_into().ok()?);
        let (mut nodes, whole) = read_nodes(get(nodes)?, family);
        if !whole {
            return None;
        }
        // Files are damaged, and written by others.
        nodes.retain(|node| usable(node.addr, node.addr.ip()));
        nodes.truncate(MAX_NODES);
        Some(Kept { id, nodes })
    })
}
