//! The handshake of the extension protocol (BEP 10, with keys of BEP 9, 21 and 54).

use super::{Extension, MAX_DICT_LEN};
use crate::bencode::{self, Dict, Value};
use std::net::IpAddr;

/// What a peer says of itself, as far as we have a use for it. Whatever is absent, of a wrong type or out of range is `None`:
/// handshakes of real clients break most rules that one could make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtendedHandshake {
    /// By which number each extension is wanted, in the order of [`Extension::ALL`]; 0: no more.
    pub ids: [Option<u8>; Extension::ALL.len()],
    /// The TCP port the sender listens on.
    pub port: Option<u16>,
    /// Most requests that the sender keeps. It may be absurd.
    pub reqq: Option<u32>,
    /// What the sender is called: said, and not read, for peers are known by their ids.
    pub version: Option<&'static str>,
    /// The receiver's address, as the sender sees it: a vote, not truth.
    pub your_ip: Option<IpAddr>,
    /// Length of the info dictionary in bytes, as claimed.
    pub metadata_size: Option<i64>,
    /// Whether the sender does not download (BEP 21).
    pub upload_only: Option<bool>,
}

impl ExtendedHandshake {
    /// Reads the payload of message 0. `None` when it is no dictionary at all, or too long.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() > MAX_DICT_LEN {
            return None;
        }
        let dict = bencode::parse(payload).ok()?.root.dict()?;
        let int = |key: &[u8]| dict.get(key).and_then(Value::int);
        Some(Self {
            ids: dict.get(b"m").and_then(Value::dict).map(ids).unwrap_or_default(),
            port: int(b"p").and_then(|n| u16::try_from(n).ok()).filter(|port| *port != 0),
            reqq: int(b"reqq").and_then(|n| u32::try_from(n).ok()),
            version: None,
            your_ip: dict.get(b"yourip").and_then(Value::bytes).and_then(address),
            metadata_size: int(b"metadata_size"),
            upload_only: int(b"upload_only").map(|n| n != 0),
        })
    }

    /// The payload of message 0.
    pub fn encode(&self) -> Vec<u8> {
        bencode::write_dict(|dict| {
            let int = |dict: &mut bencode::DictWriter<'_>, key: &[u8], value: Option<i64>| {
                value.into_iter().for_each(|value| dict.int(key, value));
            };
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
            self.your_ip.into_iter().for_each(|ip| dict.bytes(b"yourip", &octets(ip)));
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
