//! `ut_pex` (BEP 11): peers tell each other whom they are connected to.

use super::MAX_DICT_LEN;
use crate::bencode::{self, Dict, DictWriter, Value};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most addresses of a family that are taken from, or put into, one list of a message.
pub const MAX_PEX_PEERS: usize = 50;

/// What is said of an added peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PexFlags(pub u8);

impl PexFlags {
    /// Prefers encryption.
    pub const ENCRYPTION: u8 = 0x01;
    /// Does not download.
    pub const SEED: u8 = 0x02;
    /// Speaks uTP.
    pub const UTP: u8 = 0x04;
    /// Speaks `ut_holepunch`.
    pub const HOLEPUNCH: u8 = 0x08;
    /// Was reached by an outgoing connection.
    pub const REACHABLE: u8 = 0x10;

    /// Does not download.
    pub fn is_seed(self) -> bool {
        self.0 & Self::SEED != 0
    }

    /// Prefers encryption.
    pub fn encrypts(self) -> bool {
        self.0 & Self::ENCRYPTION != 0
    }
}

/// Who has come and gone since the last message. Addresses are as they were sent, but that of lists that are too long
/// only the first [`MAX_PEX_PEERS`] are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PexMessage {
    /// Connected since.
    pub added: Vec<(SocketAddr, PexFlags)>,
    /// Connected no more.
    pub dropped: Vec<SocketAddr>,
    /// Whether a list was too long.
    pub cut: bool,
}

impl PexMessage {
    /// Reads the payload. `None` when it is no dictionary or too long, or a list is not whole addresses with as many
    /// flags.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() > MAX_DICT_LEN {
            return None;
        }
        let dict = bencode::parse(payload).ok()?.root.dict()?;
        let mut message = Self::default();
        message.take_added::<6>(dict, b"added", b"added.f")?;
        message.take_added::<18>(dict, b"added6", b"added6.f")?;
        message.dropped.extend(message_list::<6>(dict, b"dropped", &mut message.cut)?);
        message.dropped.extend(message_list::<18>(dict, b"dropped6", &mut message.cut)?);
        Some(message)
    }

    fn take_added<const LEN: usize>(&mut self, dict: Dict<'_>, key: &[u8], flags: &[u8]) -> Option<()> {
        let all = list(dict, key);
        let addrs = message_list::<LEN>(dict, key, &mut self.cut)?;
        let flags = list(dict, flags);
        if !flags.is_empty() && flags.len() != all.len() / LEN {
            return None;
        }
        let flags = flags.iter().copied().chain(std::iter::repeat(0));
        self.added.extend(addrs.into_iter().zip(flags.map(PexFlags)));
        Some(())
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.dropped.is_empty()
    }

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let of = |v4: bool| move |addr: &SocketAddr| addr.is_ipv4() == v4;
        let added = |v4| self.added.iter().filter(move |(addr, _)| of(v4)(addr));
        let addrs = |v4| added(v4).flat_map(|(addr, _)| compact(*addr)).collect::<Vec<u8>>();
        let flags = |v4| added(v4).map(|(_, flags)| flags.0).collect::<Vec<u8>>();
        let dropped = |v4| {
            let dropped = self.dropped.iter().copied().filter(of(v4));
            dropped.flat_map(compact).collect::<Vec<u8>>()
        };
        bencode::write_dict(|dict| {
            // An empty list of IPv4 is said too: some clients look for it.
            dict.bytes(b"added", &addrs(true));
            dict.bytes(b"added.f", &flags(true));
            said(dict, b"added6", addrs(false));
            said(dict, b"added6.f", flags(false));
            dict.bytes(b"dropped", &dropped(true));
            said(dict, b"dropped6", dropped(false));
        })
    }
}

fn said(dict: &mut DictWriter<'_>, key: &[u8], value: Vec<u8>) {
    if !value.is_empty() {
        dict.bytes(key, &value);
    }
}

fn list<'a>(dict: Dict<'a>, key: &[u8]) -> &'a [u8] {
    dict.get(key).and_then(Value::bytes).unwrap_or_default()
}

/// The first addresses of a list. `None` when it does not end with a whole one.
fn message_list<const LEN: usize>(dict: Dict<'_>, key: &[u8], cut: &mut bool) -> Option<Vec<SocketAddr>> {
    let (whole, rest) = list(dict, key).as_chunks::<LEN>();
    *cut |= whole.len() > MAX_PEX_PEERS;
    rest.is_empty().then(|| whole.iter().take(MAX_PEX_PEERS).map(|raw| address(raw)).collect())
}

/// An address of 6 or 18 bytes.
fn address(raw: &[u8]) -> SocketAddr {
    let (ip, port) = raw.split_last_chunk::<2>().expect("6 or 18 bytes");
    let ip = match <[u8; 4]>::try_from(ip) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).expect("4 or 16 bytes"))),
    };
    SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port))
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = match addr.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    bytes.extend(addr.port().to_be_bytes());
    bytes
}
