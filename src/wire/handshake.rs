//! The first 68 bytes each side sends (BEP 3).

use super::PeerId;
use crate::metainfo::InfoHash;

/// Length of a handshake in bytes.
pub const HANDSHAKE_LEN: usize = 68;
/// Length in bytes of the part up to and with the info-hash: enough to know which torrent is meant. A peer that
/// accepted the connection may answer when it has these, before the peer id arrives.
pub const HANDSHAKE_HEAD_LEN: usize = 48;

/// Length of the protocol's name, and the name.
pub(super) const PREFIX: &[u8; 20] = b"\x13BitTorrent protocol";

/// The eight bytes in which a peer says which extensions it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved(pub [u8; 8]);

impl Reserved {
    /// Ours: the fast extension and the extension protocol, and BEP 5 when a DHT node runs beside.
    pub fn ours(dht: bool) -> Self {
        Self([0, 0, 0, 0, 0, 0x10, 0, 0x04 | u8::from(dht)])
    }

    /// Knows the fast extension (BEP 6).
    pub fn fast(&self) -> bool {
        self.0[7] & 0x04 != 0
    }

    /// Knows the extension protocol (BEP 10).
    pub fn extended(&self) -> bool {
        self.0[5] & 0x10 != 0
    }

    /// Runs a DHT node (BEP 5).
    pub fn dht(&self) -> bool {
        self.0[7] & 0x01 != 0
    }
}

/// What a handshake says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// Extensions the sender knows.
    pub reserved: Reserved,
    /// The torrent the connection is for.
    pub info_hash: InfoHash,
    /// The sender.
    pub peer_id: PeerId,
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The first 20 bytes are not the protocol's name.
    #[error("the peer did not begin with a BitTorrent handshake")]
    NotBitTorrent,
}

impl Handshake {
    /// The bytes to send.
    pub fn encode(&self) -> [u8; HANDSHAKE_LEN] {
        let mut bytes = [0; HANDSHAKE_LEN];
        bytes[..20].copy_from_slice(PREFIX);
        bytes[20..28].copy_from_slice(&self.reserved.0);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer_id.0);
        bytes
    }

    /// Reads the part before the peer id.
    ///
    /// # Errors
    /// When the bytes do not begin with the protocol's name.
    pub fn parse_head(bytes: &[u8; HANDSHAKE_HEAD_LEN]) -> Result<(Reserved, InfoHash), HandshakeError> {
        if !bytes.starts_with(PREFIX) {
            return Err(HandshakeError::NotBitTorrent);
        }
        Ok((Reserved(array(&bytes[20..28])), InfoHash(array(&bytes[28..48]))))
    }

    /// Reads a whole handshake.
    ///
    /// # Errors
    /// When the bytes do not begin with the protocol's name.
    pub fn parse(bytes: &[u8; HANDSHAKE_LEN]) -> Result<Self, HandshakeError> {
        let (reserved, info_hash) = Self::parse_head(&array(&bytes[..HANDSHAKE_HEAD_LEN]))?;
        Ok(Self { reserved, info_hash, peer_id: PeerId(array(&bytes[HANDSHAKE_HEAD_LEN..])) })
    }
}

/// Copies a slice that has the array's length.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("ranges are constants")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYTES: &[u8; 68] = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05\
        \x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14-TR3000-abcdefghijkl";

    #[test]
    fn a_handshake_written_by_hand() {
        let handshake = Handshake::parse(BYTES).unwrap();
        assert_eq!(handshake.info_hash, InfoHash(std::array::from_fn(|i| i as u8 + 1)));
        assert_eq!(handshake.peer_id, PeerId(*b"-TR3000-abcdefghijkl"));
        assert_eq!(handshake.reserved, Reserved([0, 0, 0, 0, 0, 0x10, 0, 5]));
        assert_eq!(&handshake.encode(), BYTES);
        let head = Handshake::parse_head(BYTES.first_chunk().unwrap());
        assert_eq!(head, Ok((handshake.reserved, handshake.info_hash)));
    }

    #[test]
    fn each_extension_has_its_own_bit() {
        let known = |r: Reserved| (r.fast(), r.extended(), r.dht());
        assert_eq!(known(Reserved::ours(false)), (true, true, false));
        assert_eq!(known(Reserved::ours(true)), (true, true, true));
        for bit in 0..64usize {
            let mut reserved = Reserved::default();
            reserved.0[bit / 8] |= 0x80 >> (bit % 8);
            // BEP 10 counts from the right from 0: bit 20, that is 43 from the left.
            assert_eq!(known(reserved), (bit == 61, bit == 43, bit == 63), "bit {bit}");
        }
    }

    #[test]
    fn a_wrong_byte_anywhere_in_the_prefix_is_refused() {
        for at in 0..PREFIX.len() {
            for flip in 1..=255 {
                let mut bytes = *BYTES;
                bytes[at] ^= flip;
                assert_eq!(
                    Handshake::parse(&bytes),
                    Err(HandshakeError::NotBitTorrent),
                    "byte {at} ^ {flip}"
                );
                let head = Handshake::parse_head(bytes.first_chunk().unwrap());
                assert_eq!(head, Err(HandshakeError::NotBitTorrent));
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(reserved: [u8; 8], info_hash: [u8; 20], peer_id: [u8; 20]) {
            let (reserved, info_hash) = (Reserved(reserved), InfoHash(info_hash));
            let handshake = Handshake { reserved, info_hash, peer_id: PeerId(peer_id) };
            prop_assert_eq!(Handshake::parse(&handshake.encode()), Ok(handshake));
        }
    }
}
