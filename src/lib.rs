//! seedring: a BitTorrent seeder and downloader for Linux.

pub mod bencode;
pub mod cli;
pub mod digest;
pub mod discovery;
pub mod metainfo;
pub mod ring;
pub mod session;
pub mod shard;
pub mod storage;
pub mod swarm;
pub mod wire;
