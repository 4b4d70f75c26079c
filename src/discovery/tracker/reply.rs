//! What a tracker answers to an announce (BEP 3, 7, 23, 24). Every byte is hostile: a field of the wrong type
//! counts as absent, peers that cannot be dialled are dropped, and everything is bounded.

use crate::bencode::{self, Dict, Value};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Most peers taken from one reply.
pub const MAX_PEERS: usize = 200;
/// Longest interval believed, whatever the tracker says.
const MAX_INTERVAL_SECONDS: u64 = 24 * 60 * 60;
/// Most characters of a tracker's text that anyone gets to see.
const MAX_TEXT_CHARS: usize = 200;
/// Longest host name (RFC 1035) and longest tracker id kept, in bytes.
const MAX_HOST_LEN: usize = 253;
const MAX_TRACKER_ID_LEN: usize = 512;

/// A successful reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnnounceResponse {
    /// When to come again; 1 s to 24 h. `None` when the tracker named nothing usable.
    pub interval: Option<Duration>,
    /// How soon one may come at the earliest; 1 s to 24 h.
    pub min_interval: Option<Duration>,
    /// Peers, no two alike, at most [`MAX_PEERS`].
    pub peers: Vec<PeerAddr>,
    /// How many more it named.
    pub dropped: usize,
    /// How many of its intervals were longer than is believed.
    pub clamped: usize,
    /// Number of seeds in the swarm.
    pub complete: Option<u64>,
    /// Number of leeches in the swarm.
    pub incomplete: Option<u64>,
    /// To be sent back in later announces.
    pub tracker_id: Option<Vec<u8>>,
    /// A word to the user, fit to be shown.
    pub warning: Option<String>,
    /// Our address as the tracker sees it (BEP 24): one vote, not the truth.
    pub external_ip: Option<IpAddr>,
    /// Which address of the tracker has answered, once that is known; of two, the one that may name less of our own networks.
    pub from: Option<IpAddr>,
}

impl AnnounceResponse {
    /// The peers that can be dialled at once.
    pub(super) fn sockets(&self) -> Vec<SocketAddr> {
        let socket = |peer: &PeerAddr| if let PeerAddr::Socket(addr) = peer { Some(*addr) } else { None };
        self.peers.iter().filter_map(socket).collect()
    }
}

/// Where a peer listens. The port is never 0.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// An address to dial.
    Socket(SocketAddr),
    /// A host name, still to be looked up, and a port (only in dictionary replies).
    Host(String, u16),
}

/// Why a body is no successful reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not bencoding, or no dictionary.
    #[error("the tracker's answer is not a bencoded dictionary")]
    NotBencode,
    /// The tracker refused.
    #[error("the tracker refused: {reason}")]
    Refused {
        /// Why, fit to be shown.
        reason: String,
        /// For how long it does not want to be asked again, when it says so; 1 s to 24 h.
        wait: Option<Duration>,
    },
}

impl AnnounceResponse {
    /// Reads the body of a reply.
    ///
    /// # Errors
    /// When the body is not a bencoded dictionary, or holds a `failure reason`.
    pub fn parse(body: &[u8]) -> Result<Self, ReplyError> {
        // Some trackers end in a newline, so bytes behind the value are tolerated.
        let document = bencode::parse(body).map_err(|_| ReplyError::NotBencode)?;
        let dict = document.root.dict().ok_or(ReplyError::NotBencode)?;
        if let Some(reason) = dict.get(b"failure reason") {
            return Err(refusal(dict, reason));
        }
        let tracker_id = bytes(dict, b"tracker id").filter(|id| id.len() <= MAX_TRACKER_ID_LEN);
        let (peers, dropped) = peers(dict);
        let intervals: [&[u8]; 2] = [b"interval", b"min interval"];
        let intervals = intervals.map(|key| dict.get(key).and_then(Value::int));
        let [interval, min_interval] = intervals.map(|seconds| seconds.and_then(clamped));
        Ok(Self {
            interval,
            min_interval,
            peers,
            dropped,
            clamped: intervals.into_iter().flatten().filter(|seconds| is_too_long(*seconds)).count(),
            complete: count(dict, b"complete"),
            incomplete: count(dict, b"incomplete"),
            tracker_id: tracker_id.map(<[u8]>::to_vec),
            warning: bytes(dict, b"warning message").map(shown),
            external_ip: bytes(dict, b"external ip").and_then(raw_ip),
            from: None,
        })
    }
}

/// A reply that gives a reason instead of an answer.
pub(super) fn refusal(dict: Dict<'_>, reason: Value<'_>) -> ReplyError {
    let reason = reason.bytes().map_or("no reason given".into(), shown);
    ReplyError::Refused { reason, wait: refused_for(dict) }
}

/// For how long a tracker that refuses does not want to be asked: in minutes or for ever (BEP 31), or by its intervals. For ever
/// is a day: a tracker that has forgotten a torrent may learn of it again.
fn refused_for(dict: Dict<'_>) -> Option<Duration> {
    let seconds = |key: &[u8]| dict.get(key).and_then(Value::int).and_then(clamped);
    let minutes = |text: &str| text.parse::<i64>().ok();
    let retry = dict.get(b"retry in").and_then(|value| match value.text() {
        Some("never") => Some(i64::MAX),
        // Some write the number as a string.
        Some(text) => minutes(text),
        None => value.int(),
    });
    let retry = retry.and_then(|minutes| clamped(minutes.saturating_mul(60)));
    retry.or_else(|| seconds(b"min interval")).or_else(|| seconds(b"interval"))
}

fn count(dict: Dict<'_>, key: &[u8]) -> Option<u64> {
    dict.get(key)?.int()?.try_into().ok()
}

fn bytes<'a>(dict: Dict<'a>, key: &[u8]) -> Option<&'a [u8]> {
    dict.get(key)?.bytes()
}

/// An interval of so many seconds: none when it is no time at all, a day when it is longer.
pub(super) fn clamped(seconds: i64) -> Option<Duration> {
    let seconds = u64::try_from(seconds).ok().filter(|n| *n > 0)?;
    Some(Duration::from_secs(seconds.min(MAX_INTERVAL_SECONDS)))
}

/// Whether an interval of so many seconds is longer than is believed.
pub(super) fn is_too_long(seconds: i64) -> bool {
    u64::try_from(seconds).is_ok_and(|seconds| seconds > MAX_INTERVAL_SECONDS)
}

/// The peers of a compact list whose entries have this length, without those that nobody can dial or that were there
/// before; and how many are too many.
pub(super) fn compact_peers(list: &[u8], stride: usize) -> (Vec<PeerAddr>, usize) {
    first(list.chunks_exact(stride).filter_map(compact))
}

/// The first peers, as many as are taken of one reply and no two alike, in their order; and how many are left out. Half of
/// the places are for those of IPv6, half for all others, as long as there are so many: neither family crowds out the other.
pub(super) fn first(peers: impl Iterator<Item = PeerAddr>) -> (Vec<PeerAddr>, usize) {
    let is_v6 = |peer: &PeerAddr| usize::from(matches!(peer, PeerAddr::Socket(SocketAddr::V6(_))));
    let (mut seen, mut taken, mut dropped) = (HashSet::new(), Vec::new(), 0);
    let mut had = [0; 2];
    for peer in peers {
        let had = &mut had[is_v6(&peer)];
        if *had == MAX_PEERS {
            dropped += 1;
        } else if seen.insert(peer.clone()) {
            *had += 1;
            taken.push(peer);
        }
    }
    let places = [had[1], had[0]].map(|others| MAX_PEERS - others.min(MAX_PEERS / 2));
    let (all, mut kept) = (taken.len(), [0; 2]);
    taken.retain(|peer| {
        let kept = &mut kept[is_v6(peer)];
        *kept += 1;
        *kept <= places[is_v6(peer)]
    });
    let left_out = all - taken.len();
    (taken, dropped + left_out)
}

/// The peers of all forms a reply may hold, in their order, without those that nobody can dial; and how many are too many.
fn peers(dict: Dict<'_>) -> (Vec<PeerAddr>, usize) {
    let v4 = bytes(dict, b"peers").unwrap_or_default().chunks_exact(6).map(compact);
    let v6 = bytes(dict, b"peers6").unwrap_or_default().chunks_exact(18).map(compact);
    let listed = dict.get(b"peers").and_then(Value::list).into_iter().flatten();
    first(v4.chain(v6).chain(listed.map(listed_peer)).flatten())
}

/// A peer of a compact list: the address and, big-endian, the port (BEP 23, BEP 7).
fn compact(entry: &[u8]) -> Option<PeerAddr> {
    let (ip, port) = entry.split_last_chunk::<2>()?;
    dialable(raw_ip(ip)?, u16::from_be_bytes(*port))
}

/// A peer of a list of dictionaries (BEP 3).
fn listed_peer(entry: Value<'_>) -> Option<PeerAddr> {
    let entry = entry.dict()?;
    let port = u16::try_from(count(entry, b"port")?).ok()?;
    let host = std::str::from_utf8(bytes(entry, b"ip")?).ok()?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse() {
        return dialable(ip, port);
    }
    let fits = (1..=MAX_HOST_LEN).contains(&host.len());
    let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    (fits && plain && port != 0).then(|| PeerAddr::Host(host.to_owned(), port))
}

fn dialable(ip: IpAddr, port: u16) -> Option<PeerAddr> {
    usable(SocketAddr::new(ip, port)).map(PeerAddr::Socket)
}

/// The address in its plain form (an IPv4 address mapped into IPv6 becomes IPv4), if a TCP peer can be there.
pub(super) fn usable(addr: SocketAddr) -> Option<SocketAddr> {
    let ip = addr.ip().to_canonical();
    let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    (!nobody && addr.port() != 0).then(|| SocketAddr::new(ip, addr.port()))
}

fn raw_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|raw| IpAddr::V4(Ipv4Addr::from(raw)));
    let v6 = || <[u8; 16]>::try_from(bytes).map(|raw| IpAddr::V6(Ipv6Addr::from(raw)));
    v4.or_else(|_| v6()).ok()
}

/// Text of a stranger made fit for terminals and logs: no control characters, none that turn the direction of
/// writing, at most 200 characters.
pub(super) fn shown(text: &[u8]) -> String {
    // Four bytes a character at most: what lies behind them is not worth decoding.
    let head = &text[..text.len().min(4 * MAX_TEXT_CHARS)];
    let hidden = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    String::from_utf8_lossy(head).chars().filter(|c| !hidden(c)).take(MAX_TEXT_CHARS).collect()
}
