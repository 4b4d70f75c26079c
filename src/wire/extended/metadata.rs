//! `ut_metadata` (BEP 9): the info dictionary from peers, in blocks of 16 KiB.

use super::MAX_DICT_LEN;
use crate::bencode::{self, Value};

/// Length of every block of metadata but the last, in bytes.
pub const METADATA_BLOCK_LEN: usize = 16 * 1024;

const REQUEST: i64 = 0;
const DATA: i64 = 1;
const REJECT: i64 = 2;

/// A message of `ut_metadata`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// Asks for a block.
    Request {
        /// Number of the block.
        block: u32,
    },
    /// A block.
    Data {
        /// Number of the block.
        block: u32,
        /// Length of the whole info dictionary in bytes, as claimed.
        total_size: Option<i64>,
        /// The block's bytes, which stand behind the message's dictionary.
        bytes: &'a [u8],
    },
    /// The block will not be sent.
    Reject {
        /// Number of the block.
        block: u32,
    },
    /// A type that does not exist yet: to be passed over.
    Unknown,
}

impl<'a> MetadataMessage<'a> {
    /// Reads the payload. `None` when it is none, or names no block that could be one.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        // Only a block of data may make it longer than a dictionary.
        let document = bencode::parse(payload).ok()?;
        let dict = document.root.dict().filter(|_| document.root.raw().len() <= MAX_DICT_LEN)?;
        let int = |key: &[u8]| dict.get(key).and_then(Value::int);
        let kind = int(b"msg_type")?;
        if !(REQUEST..=REJECT).contains(&kind) {
            return Some(Self::Unknown);
        }
        let block = u32::try_from(int(b"piece")?).ok()?;
        Some(match kind {
            REQUEST => Self::Request { block },
            DATA => Self::Data { block, total_size: int(b"total_size"), bytes: document.rest },
            _ => Self::Reject { block },
        })
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let dict = |kind, block: u32, total_size: Option<i64>| {
            bencode::write_dict(|dict| {
                dict.int(b"msg_type", kind);
                dict.int(b"piece", block.into());
                total_size.into_iter().for_each(|size| dict.int(b"total_size", size));
            })
        };
        match *self {
            Self::Request { block } => dict(REQUEST, block, None),
            Self::Data { block, total_size, bytes } => {
                let mut out = dict(DATA, block, total_size);
                out.extend_from_slice(bytes);
                out
            }
            Self::Reject { block } => dict(REJECT, block, None),
            Self::Unknown => dict(REJECT + 1, 0, None),
        }
    }
}
