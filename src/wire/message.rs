//! The messages peers send one another (BEP 3, 5, 6, 10), as values, and how they are written.

use super::head::id;

/// A message, all but `piece`: its payload is not for this room, see [`PieceHead`]. The numbers are as they were
/// sent: nothing is checked against a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Says nothing but "I am here".
    KeepAlive,
    /// The sender will not answer requests.
    Choke,
    /// The sender will answer requests.
    Unchoke,
    /// The receiver has something the sender wants.
    Interested,
    /// The receiver has nothing the sender wants.
    NotInterested,
    /// The sender now has this piece.
    Have(u32),
    /// The pieces the sender has: one bit each, high bit first. Spare bits are not checked by the reader, see
    /// [`bitfield_is_valid`](super::bitfield_is_valid).
    Bitfield(&'a [u8]),
    /// Asks for a block.
    Request {
        /// Number of the piece.
        index: u32,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// Number of bytes.
        len: u32,
    },
    /// Takes a request back.
    Cancel {
        /// Number of the piece.
        index: u32,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// Number of bytes.
        len: u32,
    },
    /// UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// The sender thinks this piece a good one to ask for (BEP 6).
    Suggest(u32),
    /// The sender has every piece (BEP 6).
    HaveAll,
    /// The sender has no piece (BEP 6).
    HaveNone,
    /// The sender will not answer this request with a block (BEP 6).
    Reject {
        /// Number of the piece.
        index: u32,
        /// Offset in the piece, in bytes.
        begin: u32,
        /// Number of bytes.
        len: u32,
    },
    /// The sender answers requests for this piece also while it chokes (BEP 6).
    AllowedFast(u32),
    /// A message of an extension (BEP 10), see [`extended`](super::extended).
    Extended {
        /// Which: 0 is the handshake of the extension protocol, others are the receiver's own numbers.
        id: u8,
        /// What it says; not checked.
        payload: &'a [u8],
    },
    /// A message of a kind we do not know, or one of an extension that is too long. The reader passes over its payload.
    Unknown {
        /// The kind.
        id: u8,
        /// Number of bytes after the kind.
        len: u32,
    },
}

impl Message<'_> {
    /// Appends the bytes to send. Of an [`Unknown`](Self::Unknown) message only the head is written: its payload must
    /// follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::KeepAlive => out.extend([0; 4]),
            Self::Choke => put_head(out, id::CHOKE, 0),
            Self::Unchoke => put_head(out, id::UNCHOKE, 0),
            Self::Interested => put_head(out, id::INTERESTED, 0),
            Self::NotInterested => put_head(out, id::NOT_INTERESTED, 0),
            Self::Have(index) => {
                put_head(out, id::HAVE, 4);
                out.extend(index.to_be_bytes());
            }
            Self::Bitfield(bytes) => {
                put_head(out, id::BITFIELD, u32::try_from(bytes.len()).expect("a bitfield is short"));
                out.extend_from_slice(bytes);
            }
            Self::Request { index, begin, len } => put_block(out, id::REQUEST, [index, begin, len]),
            Self::Cancel { index, begin, len } => put_block(out, id::CANCEL, [index, begin, len]),
            Self::Suggest(index) => {
                put_head(out, id::SUGGEST, 4);
                out.extend(index.to_be_bytes());
            }
            Self::HaveAll => put_head(out, id::HAVE_ALL, 0),
            Self::HaveNone => put_head(out, id::HAVE_NONE, 0),
            Self::Reject { index, begin, len } => put_block(out, id::REJECT, [index, begin, len]),
            Self::AllowedFast(index) => {
                put_head(out, id::ALLOWED_FAST, 4);
                out.extend(index.to_be_bytes());
            }
            Self::Extended { id, payload } => {
                let len = u32::try_from(payload.len()).expect("messages of extensions are short");
                put_head(out, id::EXTENDED, len + 1);
                out.push(id);
                out.extend_from_slice(payload);
            }
            Self::Port(port) => {
                put_head(out, id::PORT, 2);
                out.extend(port.to_be_bytes());
            }
            Self::Unknown { id, len } => put_head(out, id, len),
        }
    }
}

/// Length prefix and kind of a message with `payload` bytes after them.
fn put_head(out: &mut Vec<u8>, id: u8, payload: u32) {
    let [a, b, c, d] = (payload + 1).to_be_bytes();
    out.extend_from_slice(&[a, b, c, d, id]);
}

/// A whole `request`, `cancel` or `reject`, appended at once: peers send these by the thousand.
fn put_block(out: &mut Vec<u8>, id: u8, [index, begin, len]: [u32; 3]) {
    let mut bytes = [0, 0, 0, 13, id, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes[5..9].copy_from_slice(&index.to_be_bytes());
    bytes[9..13].copy_from_slice(&begin.to_be_bytes());
    bytes[13..].copy_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes);
}

/// Bytes of a `piece` message before its payload: length prefix, kind, piece, offset.
pub const PIECE_HEAD_LEN: usize = 13;

/// What a `piece` message says before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceHead {
    /// Number of the piece.
    pub index: u32,
    /// Offset of the payload in the piece, in bytes.
    pub begin: u32,
    /// Number of payload bytes.
    pub len: u32,
}

impl PieceHead {
    /// The bytes to send in front of the payload.
    pub fn encode(&self) -> [u8; PIECE_HEAD_LEN] {
        let mut bytes = [0; PIECE_HEAD_LEN];
        bytes[..4].copy_from_slice(&(self.len + 9).to_be_bytes());
        bytes[4] = id::PIECE;
        bytes[5..9].copy_from_slice(&self.index.to_be_bytes());
        bytes[9..].copy_from_slice(&self.begin.to_be_bytes());
        bytes
    }
}
