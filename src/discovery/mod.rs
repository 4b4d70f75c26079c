//! Who is out there: ways to learn the addresses of a torrent's peers.
//!
//! Runs on the control thread, a plain tokio runtime. [`tracker`] asks HTTP trackers; [`dht`] needs none.

pub mod dht;
pub mod tracker;
