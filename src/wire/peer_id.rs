//! What peers call themselves (BEP 20).

use std::fmt;

/// The 20 bytes a peer chose to be known by. They may be anything; [`Display`](fmt::Display) is safe to log: visible
/// ASCII as it is, every other byte and `%` as `%xx`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerId(pub [u8; 20]);

/// How we begin our own.
const PREFIX: &[u8; 8] = b"-SR0001-";

/// Codes of the clients most met, as they stand in `-XX1234-`.
const CLIENTS: &[(&[u8; 2], &str)] = &[
    (b"AZ", "Vuze"),
    (b"BC", "BitComet"),
    (b"BI", "BiglyBT"),
    (b"BT", "BitTorrent"),
    (b"DE", "Deluge"),
    (b"FD", "Free Download Manager"),
    (b"FL", "Flud"),
    (b"GT", "anacrolix/torrent"),
    (b"KT", "KTorrent"),
    (b"LT", "libtorrent"),
    (b"PI", "PicoTorrent"),
    (b"SR", "seedring"),
    (b"TR", "Transmission"),
    (b"UM", "µTorrent Mac"),
    (b"UT", "µTorrent"),
    (b"WD", "WebTorrent Desktop"),
    (b"WW", "WebTorrent"),
    (b"XL", "Xunlei"),
    (b"lt", "rTorrent"),
    (b"qB", "qBittorrent"),
    (b"rQ", "rqbit"),
];

impl PeerId {
    /// An id of our own: the client's prefix and twelve alphanumeric characters, one from each random byte.
    pub fn generate(random: [u8; 12]) -> Self {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut id = [0; 20];
        id[..8].copy_from_slice(PREFIX);
        for (place, byte) in id[8..].iter_mut().zip(random) {
            // 256 is not a multiple of 62: a few characters are slightly likelier, which a name can bear.
            *place = ALPHABET[usize::from(byte) % ALPHABET.len()];
        }
        Self(id)
    }

    /// The client the id claims, for people to read: name and version when the code is known, else the first eight
    /// bytes as they are shown by [`Display`](fmt::Display).
    pub fn client(&self) -> String {
        self.azureus().or_else(|| self.aria2()).unwrap_or_else(|| Escaped(&self.0[..8]).to_string())
    }

    /// `-XX1234-`: two characters for the client, one a part of the version.
    fn azureus(&self) -> Option<String> {
        let [b'-', a, b, version @ .., b'-'] = self.0.first_chunk::<8>()? else { return None };
        let (_, name) = CLIENTS.iter().find(|(code, _)| **code == [*a, *b])?;
        let [major, minor, patch, last] = version;
        let mut text = format!("{name} {}.{}.{}", digit(*major)?, digit(*minor)?, digit(*patch)?);
        // The fourth is often a mark (stable, beta, nightly), not a number; 0 says nothing.
        if matches!(last, b'1'..=b'9') {
            text += &format!(".{}", char::from(*last));
        }
        Some(text)
    }

    /// `A2-1-36-0-`: numbers of any length between dashes.
    fn aria2(&self) -> Option<String> {
        let mut parts = self.0.strip_prefix(b"A2-")?.split(|byte| *byte == b'-');
        let mut number =
            || parts.next().filter(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
        let [major, minor, patch] = [number()?, number()?, number()?].map(Escaped);
        Some(format!("aria2 {major}.{minor}.{patch}"))
    }
}

/// One part of a version: 0–9, then letters go on from 10, capitals first.
fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'Z' => Some(byte - b'A' + 10),
        b'a'..=b'z' => Some(byte - b'a' + 36),
        _ => None,
    }
}

/// Bytes from outside, made safe to show.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b'%' => f.write_str("%25"),
            0x21..=0x7e => write!(f, "{}", char::from(*byte)),
            _ => write!(f, "%{byte:02x}"),
        })
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_id_is_the_prefix_and_a_character_for_each_byte() {
        let id = PeerId::generate([0, 9, 10, 35, 36, 61, 62, 123, 124, 247, 248, 255]);
        assert_eq!(id.to_string(), "-SR0001-09AZaz0z0z07");
        assert_eq!(id.client(), "seedring 0.0.0.1");
    }

    #[test]
    fn clients_are_told_by_name_and_version() {
        let client = |id: &[u8; 20]| PeerId(*id).client();
        assert_eq!(client(b"-TR3000-abcdefghijkl"), "Transmission 3.0.0");
        assert_eq!(client(b"-TR410Z-abcdefghijkl"), "Transmission 4.1.0");
        assert_eq!(client(b"-lt0D80-abcdefghijkl"), "rTorrent 0.13.8");
        assert_eq!(client(b"-LT2083-abcdefghijkl"), "libtorrent 2.0.8.3");
        assert_eq!(client(b"A2-1-36-0-\0\x01\x02\x03\x04\x05\x06\x07\x08\x09"), "aria2 1.36.0");
    }

    #[test]
    fn unknown_clients_are_shown_as_they_are() {
        let client = |id: &[u8; 20]| PeerId(*id).client();
        assert_eq!(client(b"-XX1234-abcdefghijkl"), "-XX1234-");
        assert_eq!(client(b"-TR3.00-abcdefghijkl"), "-TR3.00-");
        assert_eq!(client(b"A2-1--0-abcdefghijkl"), "A2-1--0-");
        assert_eq!(client(b"\x1b[2J % \xffabcdefghijkl"), "%1b[2J%20%25%20%ff");
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_what_is_shown_is_visible(id: [u8; 20]) {
            prop_assert!(PeerId(id).to_string().bytes().all(|b| b.is_ascii_graphic()));
            prop_assert!(!PeerId(id).client().contains(char::is_control));
        }
    }
}
