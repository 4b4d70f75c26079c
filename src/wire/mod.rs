//! The bytes peers exchange (BEP 3, 6, 10): handshake, messages and what extensions say, to values and back.
//!
//! Pure: no I/O, no clock, no task. The payload of `piece` messages never passes through here: the [`Reader`]
//! sees their 13-byte heads and counts the payload, which stays where it was received. Numbers are handed over as they
//! were sent; whether a piece, block or port makes sense is for the caller to check. `gzip` is how trackers and lists of
//! addresses come packed, [`Home`] from which address of ours others are spoken to.

mod address;
mod bitfield;
pub mod extended;
mod gzip;
mod handshake;
mod head;
mod home;
mod message;
pub mod mse;
mod peer_id;
mod reader;

pub use address::{at_port, canonical, is_of_a_link, lacks_link};
pub use bitfield::{bitfield_is_valid, bitfield_len};
pub use gzip::{GZIP_MAGIC, GzipError, gunzip};
pub use handshake::{HANDSHAKE_HEAD_LEN, HANDSHAKE_LEN, Handshake, HandshakeError, Reserved};
pub use head::{EXTENDED_ID, WireError};
pub use home::Home;
pub use message::{Message, PIECE_HEAD_LEN, PieceHead};
pub use peer_id::PeerId;
pub use reader::{Item, Limits, MAX_EXTENDED_LEN, MAX_MESSAGE_LEN, Reader};
