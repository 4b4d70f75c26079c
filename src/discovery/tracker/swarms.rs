//! What a tracker remembers: who announced which torrent lately. Pure: time comes in as an argument.

use super::announce::{Event, percent_decode};
use super::embedded::EmbeddedTrackerConfig;
use crate::metainfo::InfoHash;
use serde::Serialize;
use serde_bytes::ByteBuf;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// Most swarms remembered.
const MAX_SWARMS: usize = 100;
/// Most peers remembered in one swarm; later ones are answered, but not told to others.
const MAX_SWARM_PEERS: usize = 1000;
/// Most peers in one reply, and how many when the asker does not say.
const MAX_NUM_WANT: usize = 200;
const DEFAULT_NUM_WANT: usize = 50;

/// The swarms, by info-hash. In each, a peer is known by the address it listens on.
#[derive(Debug)]
pub struct Swarms {
    config: EmbeddedTrackerConfig,
    swarms: HashMap<InfoHash, HashMap<SocketAddr, Peer>>,
}

#[derive(Debug)]
struct Peer {
    id: [u8; 20],
    complete: bool,
    seen: Instant,
}

/// A query string of an announce, checked.
struct Query {
    info_hash: InfoHash,
    peer_id: [u8; 20],
    port: u16,
    left: u64,
    event: Option<Event>,
    num_want: usize,
    compact: bool,
}

#[derive(Serialize)]
struct Refusal<'a> {
    #[serde(rename = "failure reason")]
    reason: &'a str,
}

#[derive(Serialize)]
struct Reply<P> {
    complete: usize,
    incomplete: usize,
    interval: u64,
    peers: P,
    #[serde(skip_serializing_if = "Option::is_none")]
    peers6: Option<ByteBuf>,
}

#[derive(Serialize)]
struct ListedPeer {
    ip: String,
    #[serde(rename = "peer id")]
    id: ByteBuf,
    port: u16,
}

impl Swarms {
    /// None yet.
    pub fn new(mut config: EmbeddedTrackerConfig) -> Self {
        config.interval = config.interval.max(Duration::from_secs(1));
        Self { config, swarms: HashMap::new() }
    }

    /// Takes note of an announce from `ip` with this query string, and returns the body of the reply.
    pub fn announce(&mut self, now: Instant, ip: IpAddr, query: &str) -> Vec<u8> {
        Query::parse(query).and_then(|query| self.enter(now, ip, query)).unwrap_or_else(refusal)
    }

    fn enter(&mut self, now: Instant, ip: IpAddr, query: Query) -> Result<Vec<u8>, &'static str> {
        if self.config.allowed.as_ref().is_some_and(|list| !list.contains(&query.info_hash)) {
            return Err("this tracker does not serve that torrent");
        }
        self.expire(now);
        if self.swarms.len() >= MAX_SWARMS && !self.swarms.contains_key(&query.info_hash) {
            return Err("this tracker serves as many torrents as it can");
        }
        let asker = SocketAddr::new(ip.to_canonical(), query.port);
        let swarm = self.swarms.entry(query.info_hash).or_default();
        if query.event == Some(Event::Stopped) {
            swarm.remove(&asker);
        } else if swarm.len() < MAX_SWARM_PEERS || swarm.contains_key(&asker) {
            swarm.insert(asker, Peer { id: query.peer_id, complete: query.left == 0, seen: now });
        }
        let others = swarm.iter().filter(|(addr, peer)| **addr != asker && peer.id != query.peer_id);
        let wanted = query.num_want.min(MAX_NUM_WANT);
        let mut rng = fastrand::Rng::new();
        let chosen: Vec<(SocketAddr, &Peer)> = rng.choose_multiple(others.map(|(a, p)| (*a, p)), wanted);
        let complete = swarm.values().filter(|peer| peer.complete).count();
        let incomplete = swarm.len() - complete;
        let interval = self.config.interval.as_secs();
        Ok(if query.compact {
            let (peers, peers6) = compact(&chosen);
            encode(&Reply { complete, incomplete, interval, peers, peers6 })
        } else {
            encode(&Reply { complete, incomplete, interval, peers: listed(&chosen), peers6: None })
        })
    }

    /// Forgets who has been silent for two intervals.
    fn expire(&mut self, now: Instant) {
        let patience = self.config.interval * 2;
        self.swarms.retain(|_, swarm| {
            swarm.retain(|_, peer| now.saturating_duration_since(peer.seen) < patience);
            !swarm.is_empty()
        });
    }
}

/// The body that refuses an announce.
pub(super) fn refusal(reason: &str) -> Vec<u8> {
    encode(&Refusal { reason })
}

/// Peers in the form of BEP 23 and, for IPv6, BEP 7.
fn compact(chosen: &[(SocketAddr, &Peer)]) -> (ByteBuf, Option<ByteBuf>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for (addr, _) in chosen {
        let list = if addr.is_ipv4() { &mut v4 } else { &mut v6 };
        match addr.ip() {
            IpAddr::V4(ip) => list.extend(ip.octets()),
            IpAddr::V6(ip) => list.extend(ip.octets()),
        }
        list.extend(addr.port().to_be_bytes());
    }
    (v4.into(), (!v6.is_empty()).then(|| v6.into()))
}

/// Peers in the form of BEP 3: a list of dictionaries.
fn listed(chosen: &[(SocketAddr, &Peer)]) -> Vec<ListedPeer> {
    let listed = |(addr, peer): &(SocketAddr, &Peer)| ListedPeer {
        ip: addr.ip().to_string(),
        id: ByteBuf::from(peer.id),
        port: addr.port(),
    };
    chosen.iter().map(listed).collect()
}

fn encode(reply: &impl Serialize) -> Vec<u8> {
    serde_bencode::to_bytes(reply).expect("plain fields can be bencoded")
}

impl Query {
    fn parse(query: &str) -> Result<Self, &'static str> {
        let mut fields = HashMap::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            fields.insert(name, percent_decode(value).ok_or("the query is not percent-encoded properly")?);
        }
        let field = |name| fields.get(name).map(Vec::as_slice);
        let number = |name| {
            let text = std::str::from_utf8(field(name)?).ok()?;
            text.parse::<u64>().ok()
        };
        let twenty = |name| field(name).and_then(|bytes| <[u8; 20]>::try_from(bytes).ok());
        let port = number("port").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let num_want =
            number("numwant").map_or(DEFAULT_NUM_WANT, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(Self {
            info_hash: twenty("info_hash")
                .map(InfoHash)
                .ok_or("info_hash is missing or not 20 bytes long")?,
            peer_id: twenty("peer_id").ok_or("peer_id is missing or not 20 bytes long")?,
            port: port.ok_or("port is missing or no TCP port")?,
            left: number("left").unwrap_or(u64::MAX),
            event: match field("event") {
                Some(b"started") => Some(Event::Started),
                Some(b"completed") => Some(Event::Completed),
                Some(b"stopped") => Some(Event::Stopped),
                _ => None,
            },
            num_want,
            compact: field("compact") == Some(b"1"),
        })
    }
}
