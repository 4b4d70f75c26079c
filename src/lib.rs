//! seedring: a BitTorrent seeder and downloader for Linux.

pub mod bencode;
pub mod digest;
pub mod discovery;
pub mod metainfo;
pub mod wire;
