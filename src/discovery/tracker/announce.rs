//! What a peer tells a tracker (BEP 3, "Trackers"; BEP 7 `key`; BEP 23 `compact`).

use crate::metainfo::InfoHash;
use crate::wire::mse::Encryption;
use std::fmt::Write;

/// What happened since the last announce, when something did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first announce of a session.
    Started,
    /// The download has become complete in this session.
    Completed,
    /// The last announce of a session.
    Stopped,
    /// Nothing is fetched although something is missing (BEP 21): said in each announce that has nothing else to say.
    Paused,
}

impl Event {
    /// The word in the query string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// One announce. The byte counts follow BEP 3: `uploaded` and `downloaded` since `started`, `left` is what still
/// has to be fetched to have the whole torrent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Our id in the handshake.
    pub peer_id: [u8; 20],
    /// The TCP port we listen on.
    pub port: u16,
    /// Payload bytes sent to peers.
    pub uploaded: u64,
    /// Payload bytes received from peers.
    pub downloaded: u64,
    /// Payload bytes still missing.
    pub left: u64,
    /// What happened, `None` for a regular announce.
    pub event: Option<Event>,
    /// How many peers we would like to hear of.
    pub num_want: u32,
    /// A random number that stays the same when our address changes (BEP 7).
    pub key: u32,
    /// What this tracker called us in an earlier reply (`tracker id`).
    pub tracker_id: Option<Vec<u8>>,
    /// A name that other peers can look us up by, for networks whose trackers hand names on.
    pub hostname: Option<String>,
    /// How connections to peers are encrypted: trackers may bring together those who get on with each other.
    pub encryption: Encryption,
}

impl AnnounceRequest {
    /// The request target of this announce: `path_and_query` is that of the announce URL. A query it already
    /// has, such as a passkey, stays in front.
    pub fn target(&self, path_and_query: &str) -> String {
        let mut target = String::with_capacity(path_and_query.len() + 400);
        target.push_str(if path_and_query.is_empty() { "/" } else { path_and_query });
        match path_and_query.split_once('?') {
            None => target.push('?'),
            Some((_, query)) if query.is_empty() || query.ends_with('&') => {}
            Some(_) => target.push('&'),
        }
        target.push_str("info_hash=");
        percent_encode(&self.info_hash.0, &mut target);
        target.push_str("&peer_id=");
        percent_encode(&self.peer_id, &mut target);
        let Self { port, uploaded, downloaded, left, num_want, key, .. } = self;
        // Writing to a String cannot fail.
        let _ = write!(
            target,
            "&port={port}&uploaded={uploaded}&downloaded={downloaded}&left={left}\
             &numwant={num_want}&key={key:08X}&compact=1&no_peer_id=1"
        );
        target.push_str(match self.encryption {
            Encryption::Off => "",
            Encryption::Allowed => "&supportcrypto=1",
            Encryption::Required => "&supportcrypto=1&requirecrypto=1",
        });
        if let Some(event) = self.event {
            target.push_str("&event=");
            target.push_str(event.as_str());
        }
        if let Some(tracker_id) = &self.tracker_id {
            target.push_str("&trackerid=");
            percent_encode(tracker_id, &mut target);
        }
        if let Some(hostname) = &self.hostname {
            target.push_str("&hostname=");
            percent_encode(hostname.as_bytes(), &mut target);
        }
        target
    }

    /// What a UDP tracker gets of its URL (BEP 41), `url_data` being path and query, with our host name when it is to
    /// be told.
    pub(super) fn url_data(&self, url_data: &str) -> String {
        let mut data = url_data.to_owned();
        if let Some(hostname) = &self.hostname {
            data.push_str(if data.is_empty() {
                "/?"
            } else if data.contains('?') {
                "&"
            } else {
                "?"
            });
            data.push_str("hostname=");
            percent_encode(hostname.as_bytes(), &mut data);
        }
        data
    }
}

/// Appends `bytes` with all but the unreserved characters of RFC 3986, section 2.3, as `%XX`.
pub(super) fn percent_encode(bytes: &[u8], out: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// The bytes behind percent-encoded text, `None` when a `%` is not followed by two hexadecimal digits.
pub(super) fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut rest = text.as_bytes();
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            let [high, low] = [digits[0], digits[1]].map(|digit| char::from(digit).to_digit(16));
            out.push(u8::try_from(high? * 16 + low?).expect("two hexadecimal digits"));
            rest = tail;
        } else {
            out.push(first);
        }
    }
    Some(out)
}
