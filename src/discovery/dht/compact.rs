//! Addresses as the wire has them: 4 or 16 bytes and a port, and nodes with their id before that (BEP 5, 32).

use super::id::NodeId;
use crate::swarm::may_name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which of the two networks: each has nodes, tables and lookups of its own (BEP 32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order of their number.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The one that an address belongs to.
    pub fn of(addr: SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Bytes of an address with its port.
    pub(super) fn addr_len(self) -> usize {
        match self {
            Self::V4 => 6,
            Self::V6 => 18,
        }
    }

    /// Bytes of a node.
    pub(super) fn node_len(self) -> usize {
        20 + self.addr_len()
    }
}

/// A node, as others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) id: NodeId,
    pub(super) addr: SocketAddr,
}

/// Writes an address.
pub(super) fn put_addr(out: &mut Vec<u8>, addr: SocketAddr) {
    match addr.ip() {
        IpAddr::V4(ip) => out.extend(ip.octets()),
        IpAddr::V6(ip) => out.extend(ip.octets()),
    }
    out.extend(addr.port().to_be_bytes());
}

/// Reads an address of either family; `None` when the length is another.
pub(super) fn read_addr(bytes: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = bytes.split_last_chunk::<2>()?;
    let ip = match ip.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Writes nodes one behind the other.
pub(super) fn put_nodes(nodes: &[Contact]) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        out.extend(node.id.0);
        put_addr(&mut out, node.addr);
    }
    out
}

/// Reads nodes, and whether there is nothing behind them that is no whole node.
pub(super) fn read_nodes(bytes: &[u8], family: Family) -> (Vec<Contact>, bool) {
    let chunks = bytes.chunks_exact(family.node_len());
    let whole = chunks.remainder().is_empty();
    let node = |chunk: &[u8]| {
        let (id, addr) = chunk.split_first_chunk::<20>()?;
        Some(Contact { id: NodeId(*id), addr: read_addr(addr)? })
    };
    (chunks.filter_map(node).collect(), whole)
}

/// Whether a packet may be sent to an address that somebody at `from` has named. Strangers must not make us talk to
/// machines of our own house.
pub(super) fn usable(addr: SocketAddr, from: IpAddr) -> bool {
    let possible = match addr.ip() {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.octets()[0] == 0)
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4_mapped().is_some()),
    };
    possible && addr.port() != 0 && may_name(from, addr.ip())
}
