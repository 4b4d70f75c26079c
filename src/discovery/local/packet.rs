//! The datagram by which a peer says which torrents it looks for (BEP 14).

use crate::metainfo::InfoHash;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

const PORT: u16 = 6771;
/// Where IPv4 hosts speak and listen: organization-local scope.
pub const GROUP_V4: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 192, 152, 143), PORT);
/// Where IPv6 hosts speak and listen: site-local scope.
pub const GROUP_V6: SocketAddrV6 =
    SocketAddrV6::new(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0xefc0, 0x988f), PORT, 0, 0);

/// Longest datagram, in bytes: it is not to be cut into fragments on its way.
pub const PACKET_LEN: usize = 1400;
/// Most info-hashes in one datagram.
pub const MOST_INFO_HASHES: usize = (PACKET_LEN - FRAME_LEN) / INFO_HASH_LINE_LEN;
/// Longest cookie believed, and the longest that is sent, in bytes.
const COOKIE_LEN: usize = 64;
const START: &str = "BT-SEARCH * HTTP/1.1";
/// Bytes of one `Infohash` line.
const INFO_HASH_LINE_LEN: usize = "Infohash: ".len() + 40 + "\r\n".len();
/// At most so many bytes of everything else: the first line, host, port, cookie and the two empty lines.
const FRAME_LEN: usize = START.len()
    + "\r\nHost: [ff15::efc0:988f]:6771\r\nPort: 65535\r\ncookie: \r\n\r\n\r\n".len()
    + COOKIE_LEN;

/// What such a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// The TCP port on which the sender takes connections; never 0.
    pub port: u16,
    /// Torrents that it has or wants, at least one, none twice.
    pub info_hashes: Vec<InfoHash>,
    /// A word by which the sender knows its own datagrams when it hears them.
    pub cookie: Option<Vec<u8>>,
}

/// Why a datagram is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// More than [`PACKET_LEN`] bytes.
    #[error("it is longer than {PACKET_LEN} bytes")]
    TooLong,
    /// It begins otherwise.
    #[error("it does not begin with {START}")]
    Start,
    /// A line has no colon.
    #[error("a line has no name")]
    Line,
    /// There is no empty line behind the last, so it may have been cut.
    #[error("it has no end")]
    End,
    /// No port, two of them, or not one from 1 to 65535.
    #[error("it names no port")]
    Port,
    /// No info-hash of 40 hexadecimal digits.
    #[error("it names no torrent")]
    InfoHash,
    /// A cookie that is too long.
    #[error("its cookie is longer than {COOKIE_LEN} bytes")]
    Cookie,
}

impl Search {
    /// The datagram for a group. Of the info-hashes, the first [`MOST_INFO_HASHES`] are named; of a cookie, the first
    /// 64 bytes.
    pub fn encode(&self, group: SocketAddr) -> Vec<u8> {
        let mut packet = format!("{START}\r\nHost: {group}\r\nPort: {}\r\n", self.port).into_bytes();
        for info_hash in self.info_hashes.iter().take(MOST_INFO_HASHES) {
            packet.extend(format!("Infohash: {info_hash}\r\n").bytes());
        }
        if let Some(cookie) = &self.cookie {
            packet.extend(b"cookie: ");
            packet.extend(&cookie[..cookie.len().min(COOKIE_LEN)]);
            packet.extend(b"\r\n");
        }
        packet.extend(b"\r\n\r\n");
        packet
    }

    /// Reads a datagram. Names of lines may be in any case, lines may end without a carriage return, and lines of
    /// other names are passed over, as are info-hashes that are none as long as one is left.
    ///
    /// # Errors
    /// When it is no search, or cut, or names no port or torrent.
    pub fn parse(packet: &[u8]) -> Result<Self, PacketError> {
        if packet.len() > PACKET_LEN {
            return Err(PacketError::TooLong);
        }
        let mut lines =
            packet.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        if lines.next().is_none_or(|start| !start.eq_ignore_ascii_case(START.as_bytes())) {
            return Err(PacketError::Start);
        }
        let (mut port, mut info_hashes, mut cookie) = (None, Vec::new(), None);
        // What is behind the last line feed is no line: an end is one that is empty.
        let mut ended = false;
        let mut rest = lines.peekable();
        while let Some(line) = rest.next() {
            if line.is_empty() {
                ended = rest.peek().is_some();
                break;
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or(PacketError::Line)?;
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"port") {
                let named = decimal(value).filter(|_| port.is_none()).ok_or(PacketError::Port)?;
                port = Some(named);
            } else if name.eq_ignore_ascii_case(b"infohash") {
                info_hashes.extend(hexadecimal(value).filter(|hash| !info_hashes.contains(hash)));
            } else if name.eq_ignore_ascii_case(b"cookie") {
                cookie = Some(value.to_vec());
            }
        }
        if !ended {
            return Err(PacketError::End);
        }
        if cookie.as_ref().is_some_and(|cookie| cookie.len() > COOKIE_LEN) {
            return Err(PacketError::Cookie);
        }
        let port = port.ok_or(PacketError::Port)?;
        if info_hashes.is_empty() {
            return Err(PacketError::InfoHash);
        }
        Ok(Self { port, info_hashes, cookie })
    }
}

/// A port from 1 to 65535, of digits alone.
fn decimal(text: &[u8]) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    let port = std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()?;
    (port != 0).then_some(port)
}

fn hexadecimal(text: &[u8]) -> Option<InfoHash> {
    let mut hash = [0; 20];
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(InfoHash(hash))
}
