//! Bencoding (BEP 3): a strict reader that hands out spans of its input, and a canonical writer.
//!
//! The reader checks the whole input once, in one pass without recursion, and copies nothing. What it hands out
//! afterwards cannot fail: a [`Value`] knows its exact bytes ([`Value::raw`], which is what an info-hash is taken
//! of), and a getter for the wrong type answers `None`.
//!
//! `serde_bencode` is good for typed structs, but it recurses without limit, ignores what trails, and accepts
//! numbers written in odd ways: run [`validate`] on foreign bytes first. Never hash what it re-encodes.
//!
//! Pure: no I/O, no clock, no task.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{
    Dict, Document, Error, List, MAX_DEPTH, MAX_TOKENS, Reason, Trailing, Value, parse,
    parse_with_duplicates, validate, validate_within,
};
pub use writer::{DictWriter, ListWriter, write_dict};
