//! The distributed hash table (BEP 5, 32, 42, 43): peers of a torrent without a tracker.
//!
//! | file | subject |
//! |---|---|
//! | `node` | [`Dht`]: the whole node as one value, and its doors. Pure, like all but the last four |
//! | `answers` | what others ask of us |
//! | `queries` | what we ask of others, and what becomes of it |
//! | `upkeep` | what is done with time: searches, refreshing, pinging, the way in |
//! | `lookup` | one walk toward a target |
//! | `told` | the peers that one walk is told of |
//! | `table` | the nodes we know, of one family |
//! | `id` | ids, distances, and ids that follow from addresses |
//! | `external` | where we are, by the votes of others |
//! | `message`, `encode`, `compact` | messages from bytes, to bytes, and the addresses in them |
//! | `tokens`, `store` | announces: who may, and what is remembered |
//! | `limits`, `accounts` | what strangers may have of us, and who has had what |
//! | `counters` | what is counted |
//! | `state` | what is kept from run to run |
//! | `socket` | a UDP socket of one family |
//! | `keeper` | the file of the state, and whose it is |
//! | `outlet` | the way of found peers to a torrent |
//! | `driver` | the task with the sockets, and its handle [`DhtHandle`] |
//!
//! Packets may be forged, and nodes may lie. So: only who answers a query of ours, at the address it was sent to and with
//! an id that fits, gets into the table or a lookup's result; nobody gets more than [`MAX_DATAGRAM`] bytes or so for
//! nothing; an announce needs a token that was sent to where it comes from; and a crowd, who may be one, neither fills a search
//! nor shuts strangers out.

mod accounts;
mod answers;
mod compact;
mod counters;
mod driver;
mod encode;
mod external;
mod id;
mod keeper;
mod limits;
mod lookup;
mod message;
mod node;
mod outlet;
mod queries;
mod socket;
mod state;
mod store;
mod table;
mod tokens;
mod told;
mod upkeep;

#[cfg(test)]
mod tests;

pub use compact::Family;
pub use counters::DhtCounters;
pub use driver::{DEFAULT_BOOTSTRAP, DhtHandle, DhtNote, DhtSettings};
pub use id::NodeId;
pub use message::MAX_DATAGRAM;
pub use node::{Announce, Dht, DhtConfig, Found};
pub use socket::DhtSockets;
pub use state::MAX_STATE;
