//! What a tracker answers to a scrape (BEP 48, and `downloaders` of BEP 21). Pure; every byte is hostile.

use super::announce::percent_encode;
use super::reply::{ReplyError, refusal};
use crate::bencode::{self, Dict, Value};
use crate::metainfo::InfoHash;

/// The counts of one torrent; `None` when the tracker does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrape {
    /// Seeds in the swarm.
    pub complete: Option<u64>,
    /// How often somebody has become complete.
    pub downloaded: Option<u64>,
    /// Leeches in the swarm.
    pub incomplete: Option<u64>,
    /// Those of them that still fetch something.
    pub downloaders: Option<u64>,
}

/// The request target that asks for these torrents, `path_and_query` being that of the scrape URL.
pub(super) fn target(path_and_query: &str, torrents: &[InfoHash]) -> String {
    let mut target = path_and_query.to_owned();
    for torrent in torrents {
        target.push(if target.contains('?') { '&' } else { '?' });
        target.push_str("info_hash=");
        percent_encode(&torrent.0, &mut target);
    }
    target
}

/// Reads the body of a reply: the counts of each of the torrents asked for, `None` for those that the tracker does not
/// know. Others are passed over.
///
/// # Errors
/// When the body is not a bencoded dictionary, or holds a `failure reason`.
pub fn parse(body: &[u8], torrents: &[InfoHash]) -> Result<Vec<Option<Scrape>>, ReplyError> {
    let document = bencode::parse(body).map_err(|_| ReplyError::NotBencode)?;
    let dict = document.root.dict().ok_or(ReplyError::NotBencode)?;
    if let Some(reason) = dict.get(b"failure reason") {
        return Err(refusal(dict, reason));
    }
    let files = dict.get(b"files").and_then(Value::dict);
    let counts = |torrent: &InfoHash| files?.get(&torrent.0)?.dict().map(entry);
    Ok(torrents.iter().map(counts).collect())
}

fn entry(dict: Dict<'_>) -> Scrape {
    let count = |key: &[u8]| dict.get(key)?.int()?.try_into().ok();
    Scrape {
        complete: count(b"complete"),
        downloaded: count(b"downloaded"),
        incomplete: count(b"incomplete"),
        downloaders: count(b"downloaders"),
    }
}
