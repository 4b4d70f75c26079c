//! Why peers are dropped.

use super::{IDLE, SILENCE};
use crate::metainfo::PieceIndex;

/// Why a peer is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum DropReason {
    #[error("sent a bitfield that does not fit the torrent")]
    BadBitfield,
    #[error("named piece {0}, which the torrent does not have")]
    NoSuchPiece(u32),
    #[error(
        "asked for {len} bytes at {begin} of piece {index}, which the torrent does not have or which is too much"
    )]
    BadRequest { index: u32, begin: u32, len: u32 },
    #[error("keeps sending or asking for what it should not")]
    Offences,
    #[error("sent bad blocks of piece {0}")]
    BadPiece(PieceIndex),
    #[error("said nothing for {} s", SILENCE.as_secs())]
    Silent,
    #[error("has everything, and so have we")]
    BothSeeds,
    #[error("is connected already")]
    Duplicate,
    #[error("is ourselves")]
    Ourselves,
    #[error("was banned for a bad piece")]
    Banned,
    #[error("is in the filter of addresses")]
    Filtered,
    #[error("has heard of piece {0}, which the disk has lost, and would not understand that it is gone")]
    Lost(PieceIndex),
    #[error("has had nothing to trade for {} s", IDLE.as_secs())]
    Idle,
    #[error("sent a message of an extension that was not agreed on")]
    NotNegotiated,
    #[error("one too many: {0} peers are connected")]
    Full(usize),
    #[error("one too many of its host: {0} are connected")]
    Crowd(usize),
    #[error("one too many of its network: {0} are connected")]
    Network(usize),
}
