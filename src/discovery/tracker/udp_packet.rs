//! Datagrams of UDP trackers (BEP 15, 41). Pure. All numbers are big-endian.

use super::announce::{AnnounceRequest, Event};
use super::reply::{AnnounceResponse, clamped, compact_peers, is_too_long, shown};
use super::scrape::Scrape;
use crate::metainfo::InfoHash;
use std::net::SocketAddr;

/// Most torrents of one scrape.
pub(super) const MAX_SCRAPED: usize = 74;
/// The first field of a request for a connection id.
const PROTOCOL: u64 = 0x417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;
/// Options behind an announce (BEP 41): the end, and a part of the URL.
const OPTION_END: u8 = 0;
const OPTION_URL_DATA: u8 = 2;

/// The family of the socket, which decides how long a peer in a reply is: 6 or 18 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// What a tracker sends to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// A connection id.
    Connected(u64),
    /// The answer to an announce.
    Announced(AnnounceResponse),
    /// In the order of the request, perhaps fewer.
    Scraped(Vec<Scrape>),
    /// The tracker's reason, fit to be shown.
    Error(String),
}

/// What was asked, and so what may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Connect,
    Announce,
    Scrape,
}

pub(super) fn connect(transaction: u32) -> Vec<u8> {
    let mut packet = PROTOCOL.to_be_bytes().to_vec();
    packet.extend(CONNECT.to_be_bytes());
    packet.extend(transaction.to_be_bytes());
    packet
}

/// An announce: 98 bytes, and the options when `url_data`, path and query of the URL, is not empty.
pub(super) fn announce(
    connection: u64,
    transaction: u32,
    request: &AnnounceRequest,
    url_data: &str,
) -> Vec<u8> {
    let mut packet = head(connection, ANNOUNCE, transaction);
    packet.extend(request.info_hash.0);
    packet.extend(request.peer_id);
    packet.extend(request.downloaded.to_be_bytes());
    packet.extend(request.left.to_be_bytes());
    packet.extend(request.uploaded.to_be_bytes());
    packet.extend(event_number(request.event).to_be_bytes());
    // The tracker takes the address that the datagram comes from.
    packet.extend([0; 4]);
    packet.extend(request.key.to_be_bytes());
    packet.extend(request.num_want.to_be_bytes());
    packet.extend(request.port.to_be_bytes());
    if !url_data.is_empty() {
        for part in url_data.as_bytes().chunks(255) {
            packet.extend([OPTION_URL_DATA, u8::try_from(part.len()).expect("a chunk of 255")]);
            packet.extend(part);
        }
        packet.push(OPTION_END);
    }
    packet
}

pub(super) fn scrape(connection: u64, transaction: u32, torrents: &[InfoHash]) -> Vec<u8> {
    let mut packet = head(connection, SCRAPE, transaction);
    torrents.iter().take(MAX_SCRAPED).for_each(|torrent| packet.extend(torrent.0));
    packet
}

fn head(connection: u64, action: u32, transaction: u32) -> Vec<u8> {
    let mut packet = connection.to_be_bytes().to_vec();
    packet.extend(action.to_be_bytes());
    packet.extend(transaction.to_be_bytes());
    packet
}

/// BEP 15 knows no word for a partial seed, which BEP 21 added for HTTP.
fn event_number(event: Option<Event>) -> u32 {
    match event {
        None | Some(Event::Paused) => 0,
        Some(Event::Completed) => 1,
        Some(Event::Started) => 2,
        Some(Event::Stopped) => 3,
    }
}

/// Reads a datagram that is to answer this request. `None` when it does not: it is too short, has another transaction
/// id, or answers something else. Anybody can send such.
pub(super) fn parse(packet: &[u8], asked: Asked, transaction: u32, family: Family) -> Option<Response> {
    let (action, rest) = take_u32(packet)?;
    let (id, rest) = take_u32(rest)?;
    if id != transaction {
        return None;
    }
    match (action, asked) {
        (ERROR, _) => Some(Response::Error(shown(rest))),
        (CONNECT, Asked::Connect) => {
            rest.first_chunk().map(|id| Response::Connected(u64::from_be_bytes(*id)))
        }
        (ANNOUNCE, Asked::Announce) => announced(rest, family).map(Response::Announced),
        (SCRAPE, Asked::Scrape) => Some(Response::Scraped(rest.chunks_exact(12).map(scraped).collect())),
        _ => None,
    }
}

fn announced(rest: &[u8], family: Family) -> Option<AnnounceResponse> {
    let (interval, rest) = take_u32(rest)?;
    let (leeches, rest) = take_u32(rest)?;
    let (seeds, peers) = take_u32(rest)?;
    let stride = match family {
        Family::V4 => 6,
        Family::V6 => 18,
    };
    let (peers, dropped) = compact_peers(peers, stride);
    // The fields are signed: what is negative says nothing.
    let interval = i32::try_from(interval).ok().map(i64::from);
    Some(AnnounceResponse {
        interval: interval.and_then(clamped),
        peers,
        dropped,
        clamped: interval.is_some_and(is_too_long).into(),
        complete: Some(seeds.into()),
        incomplete: Some(leeches.into()),
        ..AnnounceResponse::default()
    })
}

fn scraped(entry: &[u8]) -> Scrape {
    let field = |index: usize| {
        let bytes = entry[4 * index..].first_chunk().expect("an entry of 12 bytes");
        Some(u64::from(u32::from_be_bytes(*bytes)))
    };
    Scrape { complete: field(0), downloaded: field(1), incomplete: field(2), downloaders: None }
}

fn take_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((u32::from_be_bytes(*number), rest))
}
