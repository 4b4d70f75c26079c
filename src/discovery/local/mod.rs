//! Local service discovery (BEP 14): peers on the same network find each other by multicast, without any server.
//!
//! | file | subject |
//! |---|---|
//! | `packet` | the `BT-SEARCH` datagram, from hostile bytes and into bytes. Pure |
//! | `schedule` | when to say which torrents. Pure |
//! | `intake` | how many datagrams are looked at, and of which group. Pure |
//! | `interfaces` | which network interfaces there are |
//! | `sockets` | one group's ear on every interface, and the mouth to all of them |
//! | `driver` | the task that listens and speaks, and its handle [`LocalSearch`] |
//!
//! Whoever sends a datagram says where it is: the contact is the address that it comes from, with the port that it
//! names. So a member of the network can make us dial another host's port only by forging its own address. Datagrams
//! that were not sent to the group, as from far away, do not arrive at all: the ear is bound to the group's address.

mod driver;
mod intake;
mod interfaces;
mod packet;
mod schedule;
mod sockets;

#[cfg(test)]
mod tests;

pub use driver::{Counts, Found, LocalSearch};
pub use intake::Intake;
pub use packet::{GROUP_V4, GROUP_V6, MOST_INFO_HASHES, PACKET_LEN, PacketError, Search};
pub use schedule::Schedule;
