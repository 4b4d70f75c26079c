//! Tokens: proof that who announces has asked us before, from the same address and about the same torrent.

use crate::metainfo::InfoHash;
use ::ring::hmac;
use std::net::IpAddr;
use std::time::Duration;

/// How long a secret makes tokens; for as long again it is still accepted.
const ROTATION: Duration = Duration::from_secs(5 * 60);

/// Bytes of a token.
pub(super) type Token = [u8; 8];

/// Makes and checks tokens. The secrets follow from one key and the number of the rotation.
#[derive(Debug)]
pub(super) struct Tokens {
    key: hmac::Key,
}

impl Tokens {
    pub(super) fn new(secret: [u8; 32]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// The token for an address and a torrent.
    pub(super) fn make(&self, now: Duration, ip: IpAddr, info_hash: InfoHash) -> Token {
        self.of(rotation(now), ip, info_hash)
    }

    /// Whether the token is one of the last 5 to 10 minutes.
    pub(super) fn check(&self, now: Duration, ip: IpAddr, info_hash: InfoHash, token: &[u8]) -> bool {
        let rotation = rotation(now);
        let made = [Some(rotation), rotation.checked_sub(1)];
        made.into_iter().flatten().any(|rotation| same(&self.of(rotation, ip, info_hash), token))
    }

    fn of(&self, rotation: u64, ip: IpAddr, info_hash: InfoHash) -> Token {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"token");
        context.update(&rotation.to_be_bytes());
        context.update(&info_hash.0);
        match ip {
            IpAddr::V4(ip) => context.update(&ip.octets()),
            IpAddr::V6(ip) => context.update(&ip.octets()),
        }
        *context.sign().as_ref().first_chunk().expect("a digest has 32 bytes")
    }
}

fn rotation(now: Duration) -> u64 {
    now.as_secs() / ROTATION.as_secs()
}

/// Compares in a time that does not tell how many bytes are right.
fn same(token: &Token, given: &[u8]) -> bool {
    token.len() == given.len() && token.iter().zip(given).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}
