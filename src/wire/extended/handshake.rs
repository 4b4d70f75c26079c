//! The handshake of the extension protocol (BEP 10, with keys of BEP 9, 21 and 54).

use super::{Extension, MAX_DICT_LEN};
use crate::bencode::{self, Dict, Value};
use std::net::IpAddr;

/// Longest name of a client that is kept, in characters.
const MAX_VERSION_CHARS: usize = 64;

/// What a peer says of itself. Whatever is absent, of a wrong type or out of range is `None`: handshakes of real clients
/// break most rules that one could make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// By which number each extension is wanted, in the order of [`Extension::ALL`]; 0: no more.
    pub ids: [Option<u8>; Extension::ALL.len()],
    /// The TCP port the sender listens on.
    pub port: Option<u16>,
    /// Most requests that the sender keeps. It may be absurd.
    pub reqq: Option<u32>,
    /// What the sender is called, fit to be shown.
    pub version: Option<String>,
    /// The receiver's address, as the sender sees it: a vote, not truth.
    pub your_ip: Option<IpAddr>,
    /// Other addresses of the sender.
    pub ipv4: Option<IpAddr>,
    /// See `ipv4`.
    pub ipv6: Option<IpAddr>,
    /// Length of the info dictionary in bytes, as claimed.
    pub metadata_size: Option<i64>,
    /// Whether the sender does not download (BEP 21).
    pub upload_only: Option<bool>,
    /// Seconds since the sender completed the torrent.
    pub complete_ago: Option<i64>,
}

impl ExtendedHandshake {
    /// Reads the payload of message 0. `None` when it is no dictionary at all, or too long.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() > MAX_DICT_LEN {
            return None;
        }
        let dict = bencode::parse(payload).ok()?.root.dict()?;
        let int = |key: &[u8]| dict.get(key).and_then(Value::int);
        let ip = |key: &[u8]| dict.get(key).and_then(Value::bytes).and_then(address);
        Some(Self {
            ids: dict.get(b"m").and_then(Value::dict).map(ids).unwrap_or_default(),
            port: int(b"p").and_then(|n| u16::try_from(n).ok()).filter(|port| *port != 0),
            reqq: int(b"reqq").and_then(|n| u32::try_from(n).ok()),
            version: dict.get(b"v").and_then(Value::bytes).map(shown).filter(|text| !text.is_empty()),
            your_ip: ip(b"yourip"),
            ipv4: ip(b"ipv4").filter(IpAddr::is_ipv4),
            ipv6: ip(b"ipv6").filter(IpAddr::is_ipv6),
            metadata_size: int(b"metadata_size"),
            upload_only: int(b"upload_only").map(|n| n != 0),
            complete_ago: int(b"complete_ago"),
        })
    }

    /// The payload of message 0.
    pub fn encode(&self) -> Vec<u8> {
        bencode::write_dict(|dict| {
            let int = |dict: &mut bencode::DictWriter<'_>, key: &[u8], value: Option<i64>| {
                value.into_iter().for_each(|value| dict.int(key, value));
            };
            let bytes = |dict: &mut bencode::DictWriter<'_>, key: &[u8], ip: Option<IpAddr>| {
                ip.into_iter().for_each(|ip| dict.bytes(key, &octets(ip)));
            };
            int(dict, b"complete_ago", self.complete_ago);
            bytes(dict, b"ipv4", self.ipv4);
            bytes(dict, b"ipv6", self.ipv6);
            dict.dict(b"m", |m| {
                let mut known = Extension::ALL;
                known.sort_by_key(|extension| extension.name());
                for extension in known {
                    int(m, extension.name(), self.ids[extension as usize].map(i64::from));
                }
            });
            int(dict, b"metadata_size", self.metadata_size);
            int(dict, b"p", self.port.map(i64::from));
            int(dict, b"reqq", self.reqq.map(i64::from));
            int(dict, b"upload_only", self.upload_only.map(i64::from));
            self.version.iter().for_each(|version| dict.bytes(b"v", version.as_bytes()));
            bytes(dict, b"yourip", self.your_ip);
        })
    }

    /// Says that we want to be sent these extensions, by our numbers.
    pub fn want(&mut self, extension: Extension) {
        self.ids[extension as usize] = Some(extension.id());
    }
}

/// The numbers in `m`. One out of range is taken for none.
fn ids(m: Dict<'_>) -> [Option<u8>; Extension::ALL.len()] {
    let mut ids = [None; Extension::ALL.len()];
    for (name, value) in m.entries() {
        if let Some(extension) = Extension::ALL.into_iter().find(|extension| extension.name() == name) {
            ids[extension as usize] = value.int().map(|id| u8::try_from(id).unwrap_or(0));
        }
    }
    ids
}

/// An address of 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| v6()).ok().map(|ip| ip.to_canonical())
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Text of a stranger made fit for terminals and logs: no control characters, none that turn the direction of writing.
fn shown(text: &[u8]) -> String {
    // Four bytes a character at most.
    let head = &text[..text.len().min(4 * MAX_VERSION_CHARS)];
    let hidden = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    String::from_utf8_lossy(head).chars().filter(|c| !hidden(c)).take(MAX_VERSION_CHARS).collect()
}
