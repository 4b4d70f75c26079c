//! Who is out there: ways to learn the addresses of a torrent's peers.
//!
//! Runs on the control thread, a plain tokio runtime. [`tracker`] asks trackers over HTTP, HTTPS and UDP, [`local`] those
//! on the same network; [`dht`] needs neither.

pub mod dht;
pub mod local;
pub mod names;
pub mod tracker;
