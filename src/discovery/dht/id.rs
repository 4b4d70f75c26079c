//! Node ids, their distance (BEP 5), and how an id follows from an address (BEP 42).

use crate::digest::crc32c;
pub(super) use crate::swarm::is_local;
use std::fmt;
use std::net::IpAddr;

/// What a node is called: 160 bits, and a place in the space that info-hashes lie in too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub [u8; 20]);

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl NodeId {
    /// A random id that an honest node at this address may have (BEP 42). At local addresses every id is right.
    pub fn for_ip(ip: IpAddr, random: [u8; 20]) -> Self {
        let mut id = random;
        if !is_local(ip) {
            let sum = checksum(ip, id[19]).to_be_bytes();
            id[0] = sum[0];
            id[1] = sum[1];
            id[2] = (sum[2] & 0xf8) | (id[2] & 7);
        }
        Self(id)
    }

    /// Whether a node at this address may have the id (BEP 42): 21 bits follow from the address.
    pub fn fits(self, ip: IpAddr) -> bool {
        let sum = checksum(ip, self.0[19]).to_be_bytes();
        let same = self.0[0] == sum[0] && self.0[1] == sum[1] && (self.0[2] ^ sum[2]) & 0xf8 == 0;
        same || is_local(ip)
    }

    /// How far apart two ids are; to be compared with other distances.
    pub(super) fn distance(self, other: Self) -> [u8; 20] {
        std::array::from_fn(|at| self.0[at] ^ other.0[at])
    }

    /// How many leading bits two ids share: 160 when they are the same.
    pub(super) fn shared_bits(self, other: Self) -> usize {
        let distance = self.distance(other);
        match distance.iter().position(|byte| *byte != 0) {
            Some(at) => at * 8 + distance[at].leading_zeros() as usize,
            None => 160,
        }
    }

    /// An id that shares exactly `bits` leading bits with this one, else random.
    pub(super) fn sibling(self, bits: usize, random: [u8; 20]) -> Self {
        let bit = |bytes: &[u8; 20], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
        let mut id = random;
        for at in 0..160.min(bits + 1) {
            let wanted = bit(&self.0, at) ^ u8::from(at == bits);
            if bit(&id, at) != wanted {
                id[at / 8] ^= 1 << (7 - at % 8);
            }
        }
        Self(id)
    }
}

/// The checksum that an id at this address begins with, given the last byte of the id.
fn checksum(ip: IpAddr, last: u8) -> u32 {
    const MASK_V4: u32 = 0x030f_3fff;
    const MASK_V6: u64 = 0x0103_070f_1f3f_7fff;
    match ip {
        IpAddr::V4(ip) => crc32c(&(ip.to_bits() & MASK_V4 | u32::from(last & 7) << 29).to_be_bytes()),
        IpAddr::V6(ip) => {
            let upper = (ip.to_bits() >> 64) as u64;
            crc32c(&(upper & MASK_V6 | u64::from(last & 7) << 61).to_be_bytes())
        }
    }
}
