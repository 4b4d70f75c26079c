//! The bytes peers exchange (BEP 3): handshake and messages, to values and back; and the handshake that hides them ([`mse`]).
//!
//! Pure: no I/O, no clock, no task. The payload of `piece` messages never passes through here: the [`Reader`]
//! sees their 13-byte heads and counts the payload, which stays where it was received. Numbers are handed over as they
//! were sent; whether a piece, block or port makes sense is for the caller to check.

mod bitfield;
mod handshake;
mod head;
mod message;
pub mod mse;
mod peer_id;
mod reader;

pub use bitfield::{bitfield_is_valid, bitfield_len};
pub use handshake::{HANDSHAKE_HEAD_LEN, HANDSHAKE_LEN, Handshake, HandshakeError, Reserved};
pub use head::WireError;
pub use message::{Message, PIECE_HEAD_LEN, PieceHead};
pub use peer_id::PeerId;
pub use reader::{Item, Limits, MAX_MESSAGE_LEN, Reader};
