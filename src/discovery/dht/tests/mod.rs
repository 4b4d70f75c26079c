//! Tests of the DHT.

mod counted;
mod crowds;
mod driver;
mod limits;
mod lookup;
mod messages;
mod node;
mod own;
mod simulated;
mod sybils;
mod table;
mod world;

use super::compact::Contact;
use super::id::NodeId;
use std::net::SocketAddr;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// The n-th of many addresses, each in a network of its own.
fn addr(n: u32) -> SocketAddr {
    let [_, a, b, c] = n.to_be_bytes();
    SocketAddr::from(([20 + a, b, c, 7], 6881))
}

/// An id that begins with these bytes.
fn id(first: &[u8]) -> NodeId {
    let mut bytes = [0; 20];
    bytes[..first.len()].copy_from_slice(first);
    NodeId(bytes)
}

fn contact(first: &[u8], n: u32) -> Contact {
    Contact { id: id(first), addr: addr(n) }
}
