//! The head of a message: its length, its kind, and for all kinds but the long ones everything it says. It is at most
//! [`MAX_HEAD_LEN`] bytes.

use super::message::{Message, PieceHead};
use super::reader::{Limits, MAX_EXTENDED_LEN};
use crate::metainfo::BLOCK_LEN;

/// Kinds of messages (BEP 3; `port` BEP 5; 13 to 17 the fast extension, BEP 6; 20 the extension protocol, BEP 10).
pub(super) mod id {
    pub(in crate::wire) const CHOKE: u8 = 0;
    pub(in crate::wire) const UNCHOKE: u8 = 1;
    pub(in crate::wire) const INTERESTED: u8 = 2;
    pub(in crate::wire) const NOT_INTERESTED: u8 = 3;
    pub(in crate::wire) const HAVE: u8 = 4;
    pub(in crate::wire) const BITFIELD: u8 = 5;
    pub(in crate::wire) const REQUEST: u8 = 6;
    pub(in crate::wire) const PIECE: u8 = 7;
    pub(in crate::wire) const CANCEL: u8 = 8;
    pub(in crate::wire) const PORT: u8 = 9;
    pub(in crate::wire) const SUGGEST: u8 = 13;
    pub(in crate::wire) const HAVE_ALL: u8 = 14;
    pub(in crate::wire) const HAVE_NONE: u8 = 15;
    pub(in crate::wire) const REJECT: u8 = 16;
    pub(in crate::wire) const ALLOWED_FAST: u8 = 17;
    pub(in crate::wire) const EXTENDED: u8 = super::EXTENDED_ID;
}

/// Kind of the messages of extensions (BEP 10).
pub const EXTENDED_ID: u8 = 20;

/// The longest heads are `request`, `cancel` and `reject`.
pub(super) const MAX_HEAD_LEN: usize = 17;

/// Why a stream of messages is refused. The peer that sent it must be dropped: where its next message begins is not
/// known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than any message may be.
    #[error("the peer sent a message of {len} bytes; the limit is {max}")]
    TooLong {
        /// The length the message announced, in bytes.
        len: u32,
        /// The longest allowed.
        max: u32,
    },
    /// A kind that has one size only was sent with another.
    #[error("the peer sent a message of kind {id} with length {len}; it must be {expected}")]
    WrongLength {
        /// The kind.
        id: u8,
        /// The length the message announced, in bytes, kind included.
        len: u32,
        /// The only right one.
        expected: u32,
    },
    /// A `piece` message without payload, or with more than the 16 KiB anybody may ask for.
    #[error("the peer sent a piece message of length {len}; a block is 1 to {BLOCK_LEN} bytes behind 9")]
    PieceLength {
        /// The length the message announced, in bytes, kind included.
        len: u32,
    },
}

/// A head, read.
pub(super) enum Head {
    /// A message that ends with its head.
    Message(Message<'static>),
    /// A `piece` message: the payload follows.
    Piece(PieceHead),
    /// A `bitfield`: the bits follow.
    Bitfield { len: u32 },
    /// A message of an extension: this many bytes follow.
    Extended { id: u8, len: u32 },
    /// An unknown kind, or a message of an extension that is too long to be held: this many bytes follow.
    Unknown { id: u8, len: u32 },
}

/// How long the head is that these bytes begin, as far as they tell: more than `bytes.len()` when more are needed to
/// say. A wrong length is found as soon as it is here.
#[inline]
pub(super) fn head_len(bytes: &[u8], limits: &Limits) -> Result<usize, WireError> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(4) };
    let len = u32::from_be_bytes(*prefix);
    if len == 0 {
        return Ok(4);
    }
    if len > limits.max_message {
        return Err(WireError::TooLong { len, max: limits.max_message });
    }
    let Some(&id) = bytes.get(4) else { return Ok(5) };
    let (expected, head) = match id {
        id::CHOKE | id::UNCHOKE | id::INTERESTED | id::NOT_INTERESTED => (1, 5),
        id::HAVE_ALL | id::HAVE_NONE => (1, 5),
        id::HAVE | id::SUGGEST | id::ALLOWED_FAST => (5, 9),
        id::REQUEST | id::CANCEL | id::REJECT => (13, 17),
        id::EXTENDED if is_held(len) => (len, 6),
        id::PORT => (3, 7),
        id::BITFIELD if limits.bitfield_len == 0 => (len, 5),
        id::BITFIELD => (limits.bitfield_len + 1, 5),
        id::PIECE if (10..=9 + BLOCK_LEN).contains(&len) => (len, 13),
        id::PIECE => return Err(WireError::PieceLength { len }),
        _ => (len, 5),
    };
    if len != expected {
        return Err(WireError::WrongLength { id, len, expected });
    }
    Ok(head)
}

/// Whether a message of an extension is read whole: it has an id of its own, and no payload longer than the longest
/// honest one.
fn is_held(len: u32) -> bool {
    (2..=2 + MAX_EXTENDED_LEN).contains(&len)
}

/// Reads a head whose length is what [`head_len`] said.
#[inline]
pub(super) fn parse(head: &[u8]) -> Head {
    let number = |at: usize| u32::from_be_bytes(*head[at..].first_chunk().expect("head_len gave the length"));
    let len = number(0);
    if len == 0 {
        return Head::Message(Message::KeepAlive);
    }
    Head::Message(match head[4] {
        id::CHOKE => Message::Choke,
        id::UNCHOKE => Message::Unchoke,
        id::INTERESTED => Message::Interested,
        id::NOT_INTERESTED => Message::NotInterested,
        id::HAVE => Message::Have(number(5)),
        id::REQUEST => Message::Request { index: number(5), begin: number(9), len: number(13) },
        id::CANCEL => Message::Cancel { index: number(5), begin: number(9), len: number(13) },
        id::SUGGEST => Message::Suggest(number(5)),
        id::HAVE_ALL => Message::HaveAll,
        id::HAVE_NONE => Message::HaveNone,
        id::REJECT => Message::Reject { index: number(5), begin: number(9), len: number(13) },
        id::ALLOWED_FAST => Message::AllowedFast(number(5)),
        id::EXTENDED if is_held(len) => return Head::Extended { id: head[5], len: len - 2 },
        id::PORT => Message::Port(u16::from_be_bytes([head[5], head[6]])),
        id::BITFIELD => return Head::Bitfield { len: len - 1 },
        id::PIECE => return Head::Piece(PieceHead { index: number(5), begin: number(9), len: len - 9 }),
        id => return Head::Unknown { id, len: len - 1 },
    })
}
