//! The key exchange, and what is made of the secret that it gives.

use super::{Cipher, KEY_LEN, MseError};
use crate::metainfo::InfoHash;
use crypto_bigint::modular::ConstMontyForm;
use crypto_bigint::{U192, U768};
use sha1::{Digest, Sha1};
use std::cmp::Ordering;

crypto_bigint::const_monty_params!(
    Prime,
    U768,
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74\
     020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B302B0A6DF25F1437\
     4FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    "The modulus of the exchange."
);

/// A number modulo the prime.
type Residue = ConstMontyForm<Prime, { U768::LIMBS }>;

const GENERATOR: Residue = Residue::new(&U768::from_u8(2));
/// Bits of a private key.
const EXPONENT_BITS: u32 = 160;

/// What torrents are told apart by: H('req2', SKEY). See [`skey_name`].
pub type SkeyName = [u8; 20];

/// The name under which a responder looks a torrent up. It is made beforehand, for all torrents, and kept in a map: to try
/// one after the other would take too long.
pub fn skey_name(skey: &InfoHash) -> SkeyName {
    hash([b"req2", &skey.0])
}

fn hash<const N: usize>(parts: [&[u8]; N]) -> [u8; 20] {
    let mut hasher = Sha1::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().into()
}

/// One side's half of the exchange.
#[derive(Clone)]
pub(super) struct PrivateKey(U192);

impl PrivateKey {
    pub(super) fn new(bytes: &[u8; 20]) -> Self {
        let mut wide = [0; 24];
        wide[4..].copy_from_slice(bytes);
        Self(U192::from_be_slice(&wide))
    }

    /// What the other side gets to see: always 96 bytes.
    pub(super) fn public(&self) -> [u8; KEY_LEN] {
        encode(&self.raise(&GENERATOR))
    }

    /// The secret, given the other side's public key.
    ///
    /// # Errors
    /// When that is one with which anybody could know the secret, or not less than the prime.
    pub(super) fn agree(&self, theirs: &[u8; KEY_LEN]) -> Result<Secret, MseError> {
        let theirs = U768::from_be_slice(theirs);
        let greatest = (-Residue::ONE).retrieve();
        let inside = theirs.cmp_vartime(&U768::ONE) == Ordering::Greater
            && theirs.cmp_vartime(&greatest) == Ordering::Less;
        if !inside {
            return Err(MseError::DegenerateKey);
        }
        Ok(Secret(encode(&self.raise(&Residue::new(&theirs)))))
    }

    fn raise(&self, base: &Residue) -> Residue {
        base.pow_bounded_exp(&self.0, EXPONENT_BITS)
    }
}

/// The number's bytes, zeros in front.
fn encode(number: &Residue) -> [u8; KEY_LEN] {
    let mut bytes = [0; KEY_LEN];
    bytes.copy_from_slice(number.retrieve().to_be_bytes().as_slice());
    bytes
}

/// The agreed secret, S.
pub(super) struct Secret(pub(super) [u8; KEY_LEN]);

impl Secret {
    /// H('req1', S): where the initiator's first pad ends.
    pub(super) fn mark(&self) -> [u8; 20] {
        hash([b"req1", &self.0])
    }

    /// Hides the name of a torrent, or shows it: ⊕ H('req3', S).
    pub(super) fn veil(&self, mut name: SkeyName) -> SkeyName {
        let mask = hash([b"req3", &self.0]);
        name.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        name
    }

    /// The cipher of what the initiator sends, and that of what the responder sends.
    pub(super) fn ciphers(&self, skey: &InfoHash) -> [Cipher; 2] {
        [b"keyA", b"keyB"].map(|word| Cipher::new(&hash([word, &self.0, &skey.0])))
    }
}
