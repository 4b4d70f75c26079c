//! Magnet links (BEP 9, 53): a torrent's info-hash, and where somebody may be who has the rest.

use super::InfoHash;
use super::path;
use std::fmt;
use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

/// Longest link that is read, in bytes.
pub const MAX_MAGNET_LEN: usize = 64 * 1024;
/// Most trackers, peers and ranges of files in a link.
const MOST_ITEMS: usize = 500;
/// Longest name of a network link, in bytes: what the kernel allows.
const MOST_LINK: usize = 15;
/// What links begin with.
const SCHEME: &str = "magnet:?";
/// Bytes of a SHA-256 as a multihash: its code and its length come first.
const SHA256_MULTIHASH: [u8; 2] = [0x12, 0x20];

/// Why a magnet link is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MagnetError {
    /// Something else than `magnet:?`.
    #[error("this is not a magnet link: it does not begin with {SCHEME}")]
    NotMagnet,
    /// More than [`MAX_MAGNET_LEN`] bytes.
    #[error("the magnet link has more than {MAX_MAGNET_LEN} bytes")]
    TooLong,
    /// Too many parameters of one kind.
    #[error("the magnet link has more than {MOST_ITEMS} {0}")]
    TooMany(&'static str),
    /// No topic (`xt`) of BitTorrent.
    #[error("the magnet link names no torrent: it has no xt=urn:btih:")]
    NoTopic,
    /// An info-hash that is neither 40 hexadecimal nor 32 base-32 digits.
    #[error("the info-hash in the magnet link is neither 40 hexadecimal nor 32 base-32 digits")]
    InfoHash,
    /// Only the info-hash of BitTorrent v2 (BEP 52).
    #[error("this is a magnet link of a BitTorrent v2 torrent; only v1 and hybrid torrents are supported")]
    V2Only,
    /// Two info-hashes.
    #[error("the magnet link names two torrents")]
    TwoTopics,
    /// `so` is not a list of numbers and ranges.
    #[error("the files that the magnet link selects (so=) are no list of numbers and ranges such as 0,2,4-6")]
    Selection,
}

/// A host and a port; of an IPv6 address, without brackets, and with its link where one is named (`fe80::1%eth0`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address.
    pub host: String,
    /// The port, never 0.
    pub port: u16,
}

impl HostPort {
    /// Reads `host:port`, IPv6 addresses in brackets. `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match bracketed {
            Some(v6) => is_v6(v6),
            None => is_host_name(host),
        };
        valid.then(|| Self { host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

/// Whether it is an IPv6 address; one of a link may name that.
fn is_v6(text: &str) -> bool {
    let (addr, link) = text.split_once('%').map_or((text, None), |(addr, link)| (addr, Some(link)));
    addr.parse::<Ipv6Addr>().is_ok_and(|addr| {
        link.is_none_or(|link| addr.is_unicast_link_local() && link.len() <= MOST_LINK && is_host_name(link))
    })
}

fn is_host_name(host: &str) -> bool {
    let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=255).contains(&host.len()) && host.chars().all(fit)
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// A magnet link, read. [`Display`](fmt::Display) writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Magnet {
    /// The torrent.
    pub info_hash: InfoHash,
    /// What it is called (`dn`), fit to be shown: only a hint.
    pub name: Option<String>,
    /// Announce URLs (`tr`), in their order. Not checked beyond being printable text.
    pub trackers: Vec<String>,
    /// Where peers may be (`x.pe`).
    pub peers: Vec<HostPort>,
    /// The files to be fetched (`so`, BEP 53), by their numbers from 0; none named: all.
    pub files: Vec<RangeInclusive<u32>>,
}

impl Magnet {
    /// Whether the text is meant to be a magnet link. Spaces around it come from copying.
    pub fn is_magnet(text: &str) -> bool {
        text.trim().get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("magnet:"))
    }

    /// Reads a link. Parameters that are not known, and topics, peers and trackers that make no sense, are passed over; a selection
    /// of files that makes no sense is not, for whoever wants some of the files is not to get all of them.
    ///
    /// # Errors
    /// When it names no v1 torrent, or breaks a limit.
    pub fn parse(link: &str) -> Result<Self, MagnetError> {
        if link.len() > MAX_MAGNET_LEN {
            return Err(MagnetError::TooLong);
        }
        let query = query_of(link.trim()).ok_or(MagnetError::NotMagnet)?;
        let (mut topic, mut bad, mut v2) = (None, None, false);
        let mut magnet = Self {
            info_hash: InfoHash([0; 20]),
            name: None,
            trackers: Vec::new(),
            peers: Vec::new(),
            files: Vec::new(),
        };
        for parameter in query.split('&') {
            // Links are copied out of HTML, where the separator is `&amp;`.
            let escaped = parameter.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("amp;"));
            let parameter = if escaped { &parameter[4..] } else { parameter };
            let (key, text) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = percent_decoded(text);
            match plain_key(key).as_str() {
                "xt" => match Topic::parse(&value) {
                    Ok(Some(Topic::V1(hash))) if topic.is_some_and(|other| other != hash) => {
                        return Err(MagnetError::TwoTopics);
                    }
                    Ok(Some(Topic::V1(hash))) => topic = Some(hash),
                    Ok(Some(Topic::V2)) => v2 = true,
                    Ok(None) => {}
                    // Another may be good.
                    Err(error) => bad = bad.or(Some(error)),
                },
                // In a name, and nowhere else, a plus sign is a space: so other clients read it.
                "dn" => {
                    let name = path::display_text(&percent_decoded(&text.replace('+', " ")));
                    magnet.name = Some(name).filter(|name| !name.is_empty());
                }
                "tr" => magnet.trackers.extend(url(&value)),
                "x.pe" => {
                    magnet.peers.extend(str::from_utf8(&value).ok().and_then(HostPort::parse));
                }
                "so" => magnet.files.extend(selection(&value)?),
                _ => {}
            }
            magnet.check_counts()?;
        }
        match topic {
            Some(info_hash) => Ok(Self { info_hash, ..magnet }),
            None if v2 => Err(bad.unwrap_or(MagnetError::V2Only)),
            None => Err(bad.unwrap_or(MagnetError::NoTopic)),
        }
    }

    fn check_counts(&self) -> Result<(), MagnetError> {
        let counts = [
            (self.trackers.len(), "trackers"),
            (self.peers.len(), "peers"),
            (self.files.len(), "ranges of files"),
        ];
        match counts.into_iter().find(|(count, _)| *count > MOST_ITEMS) {
            Some((_, what)) => Err(MagnetError::TooMany(what)),
            None => Ok(()),
        }
    }

    /// What to call the torrent before its metadata is known.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.info_hash.to_string())
    }

    /// The trackers as tiers (BEP 12): each one of its own.
    pub fn tiers(&self) -> Vec<Vec<String>> {
        self.trackers.iter().map(|url| vec![url.clone()]).collect()
    }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}xt=urn:btih:{}", self.info_hash)?;
        if let Some(name) = &self.name {
            write!(f, "&dn={}", Encoded(name))?;
        }
        self.trackers.iter().try_for_each(|url| write!(f, "&tr={}", Encoded(url)))?;
        // A percent sign stands between an address and its link.
        self.peers.iter().try_for_each(|peer| write!(f, "&x.pe={}", peer.to_string().replace('%', "%25")))?;
        for (at, range) in self.files.iter().enumerate() {
            let (first, last) = (range.start(), range.end());
            f.write_str(if at == 0 { "&so=" } else { "," })?;
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

/// The parameters of a link. Some write it as if it had a path; a fragment behind it is for who shows it.
fn query_of(link: &str) -> Option<&str> {
    let link = link.split('#').next()?;
    let rest = Some(link).filter(|link| Magnet::is_magnet(link))?.get(7..)?;
    rest.strip_prefix('/').unwrap_or(rest).strip_prefix('?')
}

/// What an exact topic names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topic {
    V1(InfoHash),
    V2,
}

impl Topic {
    /// `None` when it is not of BitTorrent.
    fn parse(value: &[u8]) -> Result<Option<Self>, MagnetError> {
        let after = |prefix: &str| {
            let start = value.get(..prefix.len())?;
            start.eq_ignore_ascii_case(prefix.as_bytes()).then(|| &value[prefix.len()..])
        };
        if let Some(digits) = after("urn:btih:") {
            let hash = hex::<20>(digits).or_else(|| base32(digits)).ok_or(MagnetError::InfoHash)?;
            return Ok(Some(Self::V1(InfoHash(hash))));
        }
        let multihash = after("urn:btmh:").and_then(hex::<34>);
        Ok(multihash.filter(|bytes| bytes.starts_with(&SHA256_MULTIHASH)).map(|_| Self::V2))
    }
}

/// A key without the number that some links put behind it (`tr.1`).
fn plain_key(key: &str) -> String {
    let key = key.to_ascii_lowercase();
    match key.rsplit_once('.') {
        Some((plain, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            plain.to_owned()
        }
        _ => key,
    }
}

/// `%xx` becomes a byte; all else stays, also a `%` that is followed by something else, and a plus sign: one in a tracker's
/// URL must not become a space.
fn percent_decoded(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%').and_then(hex::<1>);
        out.push(pair.map_or(*byte, |[decoded]| decoded));
        at += if pair.is_some() { 3 } else { 1 };
    }
    out
}

/// A URL that could be one: text without white space around it and control characters within.
pub(super) fn url(value: &[u8]) -> Option<String> {
    let url = str::from_utf8(value).ok()?.trim();
    (!url.is_empty() && !url.contains(char::is_control)).then(|| url.to_owned())
}

fn selection(value: &[u8]) -> Result<Vec<RangeInclusive<u32>>, MagnetError> {
    let text = str::from_utf8(value).map_err(|_| MagnetError::Selection)?;
    // One more than allowed is enough to know that there are too many.
    let parts = text.split(',').filter(|part| !part.is_empty()).take(MOST_ITEMS + 1);
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| digits)
    };
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(number(first)?..=number(last)?).filter(|range| !range.is_empty())
    };
    parts.map(|part| range(part).ok_or(MagnetError::Selection)).collect()
}

fn hex<const LEN: usize>(digits: &[u8]) -> Option<[u8; LEN]> {
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    let mut bytes = [0; LEN];
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != LEN || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

/// 32 digits of base 32 (RFC 4648), capital or small.
fn base32(digits: &[u8]) -> Option<[u8; 20]> {
    let (groups, rest) = digits.as_chunks::<8>();
    if groups.len() != 4 || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; 20];
    for (five, group) in bytes.chunks_mut(5).zip(groups) {
        let mut bits = 0u64;
        for digit in group {
            let value = match digit.to_ascii_uppercase() {
                letter @ b'A'..=b'Z' => letter - b'A',
                number @ b'2'..=b'7' => number - b'2' + 26,
                _ => return None,
            };
            bits = bits << 5 | u64::from(value);
        }
        five.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}

/// Text for the inside of a link: everything is encoded but what RFC 3986 calls unreserved.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                write!(f, "{}", char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests;
