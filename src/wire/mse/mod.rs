//! Message stream encryption (MSE, also called PE): a handshake in front of the handshake that hides it.
//!
//! ```text
//! initiator                                             responder
//!    Ya, PadA                                         ─▶
//!                                                     ◀─   Yb, PadB
//!    H('req1',S), H('req2',SKEY) ⊕ H('req3',S),
//!    ENC(VC, crypto_provide, PadC, IA)                ─▶
//!                                                     ◀─   ENC(VC, crypto_select, PadD), the stream
//!    the stream                                       ─▶
//! ```
//!
//! `S` is a secret agreed on by Diffie-Hellman, `SKEY` the info-hash, `ENC` RC4 with keys made of both. The stream goes on
//! under RC4 or, when the responder has selected it, as plaintext. It hides what is said from who looks for the
//! protocol's name; it keeps nobody in the middle out.
//!
//! Both ends are values: bytes in, bytes out, and at the end [`Established`]. What they hold has a bound whatever the other
//! side sends: an unfinished step, of at most 65,537 bytes, and the bytes of the last call.
//!
//! | file | subject |
//! |---|---|
//! | `rc4` | the stream cipher |
//! | `exchange` | the key exchange, and what is made of the secret |
//! | `initiator` | the end that dialled |
//! | `responder` | the end that was dialled |

mod exchange;
mod initiator;
mod rc4;
mod responder;
#[cfg(test)]
mod tests;

pub use exchange::{SkeyName, skey_name};
pub use initiator::Initiator;
pub use rc4::Cipher;
pub use responder::Responder;

/// The longest pad, in bytes.
pub const MAX_PAD: usize = 512;
/// Bytes of a public key.
const KEY_LEN: usize = 96;
/// VC: zeros that show that the other side has the keys.
const CONSTANT: [u8; 8] = [0; 8];
/// Bits of `crypto_provide` and `crypto_select`; the others mean nothing.
const PLAINTEXT: u32 = 1;
const RC4: u32 = 2;

/// How connections are to be encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    Off,
    /// For peers that insist.
    #[default]
    Allowed,
    /// All of them, all that is sent.
    Required,
}

impl Encryption {
    /// What the stream behind the handshake may be.
    pub fn methods(self) -> Methods {
        Methods { plaintext: self != Self::Required, rc4: self != Self::Off }
    }
}

/// What one side takes for the stream behind the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// No encryption; preferred when both sides take it.
    pub plaintext: bool,
    /// RC4.
    pub rc4: bool,
}

/// What the stream behind the handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Plaintext,
    Rc4,
}

impl Methods {
    fn bits(self) -> u32 {
        u32::from(self.plaintext) * PLAINTEXT + u32::from(self.rc4) * RC4
    }

    /// The responder's choice of what is provided.
    fn select(self, provided: u32) -> Option<Method> {
        let common = self.bits() & provided;
        [(PLAINTEXT, Method::Plaintext), (RC4, Method::Rc4)]
            .into_iter()
            .find_map(|(bit, method)| (common & bit != 0).then_some(method))
    }

    /// What the responder has selected: one method, one of ours.
    fn selected(self, selected: u32) -> Option<Method> {
        match selected & (PLAINTEXT | RC4) {
            PLAINTEXT if self.plaintext => Some(Method::Plaintext),
            RC4 if self.rc4 => Some(Method::Rc4),
            _ => None,
        }
    }
}

impl Method {
    fn bit(self) -> u32 {
        match self {
            Self::Plaintext => PLAINTEXT,
            Self::Rc4 => RC4,
        }
    }
}

/// The random numbers of one handshake.
#[derive(Clone, Debug)]
pub struct Randomness {
    /// The private key.
    pub key: [u8; 20],
    /// Goes out behind the public key: PadA or PadB.
    pub first_pad: Vec<u8>,
    /// Goes out under encryption: PadC or PadD.
    pub second_pad: Vec<u8>,
}

impl Randomness {
    /// No pad is longer than it may be: what is too much is left out.
    fn clip(mut self) -> Self {
        self.first_pad.truncate(MAX_PAD);
        self.second_pad.truncate(MAX_PAD);
        self
    }
}

/// The ciphers of a connection.
#[derive(Clone, Debug)]
pub struct Ciphers {
    /// For what the other side sends.
    pub incoming: Cipher,
    /// For what we send.
    pub outgoing: Cipher,
}

/// The end of the handshake.
#[derive(Clone, Debug)]
pub struct Established {
    /// The ciphers that the stream goes on with; `None` when it is plaintext.
    pub ciphers: Option<Ciphers>,
    /// What has come of the stream, decrypted: the initiator's initial payload (IA), and bytes behind it.
    pub received: Vec<u8>,
}

/// How far a handshake has come.
#[expect(clippy::large_enum_variant, reason = "an end that goes on is as large")]
#[derive(Debug)]
pub enum Step<T> {
    /// More bytes are needed.
    More(T),
    /// It is done.
    Done(Established),
}

/// Why a handshake is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    /// A public key that would make the secret known to all, or that is no residue.
    #[error("the peer's public key is degenerate")]
    DegenerateKey,
    /// What must follow the first pad has not come where it can be latest.
    #[error("the peer did not go on after {MAX_PAD} bytes of padding")]
    NoSync,
    /// No torrent of ours has this key.
    #[error("the peer asked for another torrent")]
    UnknownTorrent,
    /// The verification constant is not zero: the other side has other keys.
    #[error("the peer's encryption does not fit ours")]
    WrongConstant,
    /// The encrypted pad is longer than it may be.
    #[error("the peer sent a pad of {0} bytes")]
    PadTooLong(u16),
    /// Nothing that is provided is to our taste.
    #[error("the peer provides no encryption that we take")]
    NoCommonMethod,
    /// None was selected, or several, or one that was not provided.
    #[error("the peer selected {0:#x} of the encryptions provided")]
    WrongSelection(u32),
}

/// The stream of the other side, as far as it has come and not been used.
#[derive(Debug, Default)]
struct Held(Vec<u8>);

impl Held {
    /// Takes the next `N` bytes, when there are so many.
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let taken = *self.0.first_chunk()?;
        self.0.drain(..N);
        Some(taken)
    }

    /// Takes the next `len` bytes, when there are so many.
    fn take_len(&mut self, len: usize) -> Option<Vec<u8>> {
        (self.0.len() >= len).then(|| self.0.drain(..len).collect())
    }

    /// Passes over a pad and the mark that ends it. `None` when more is needed to know.
    fn pass_pad(&mut self, mark: &[u8]) -> Result<Option<()>, MseError> {
        let reach = &self.0[..self.0.len().min(MAX_PAD + mark.len())];
        let found = reach.windows(mark.len()).position(|bytes| bytes == mark);
        match found {
            Some(at) => {
                self.0.drain(..at + mark.len());
                Ok(Some(()))
            }
            None if reach.len() == MAX_PAD + mark.len() => Err(MseError::NoSync),
            None => Ok(None),
        }
    }

    /// What has come of the stream behind the handshake, and the ciphers that it goes on with.
    fn establish(&mut self, method: Method, mut ciphers: Ciphers, initial: Vec<u8>) -> Established {
        let (mut received, mut rest) = (initial, std::mem::take(&mut self.0));
        let ciphers = match method {
            Method::Plaintext => None,
            Method::Rc4 => {
                ciphers.incoming.apply(&mut rest);
                Some(ciphers)
            }
        };
        received.append(&mut rest);
        Established { ciphers, received }
    }
}

/// Where one state leads.
enum Turn<S> {
    /// To the next.
    Next(S),
    /// Nowhere, until more has come.
    Wait(S),
    /// To the end.
    Done(Box<Established>),
}

/// Goes on from a state as far as what has come leads.
fn advance<S>(
    mut state: S,
    mut turn: impl FnMut(S) -> Result<Turn<S>, MseError>,
) -> Result<Step<S>, MseError> {
    loop {
        state = match turn(state)? {
            Turn::Next(next) => next,
            Turn::Wait(state) => return Ok(Step::More(state)),
            Turn::Done(established) => return Ok(Step::Done(*established)),
        }
    }
}

impl<S> Step<S> {
    /// The same of the end that was in this state.
    fn map<T>(self, end: impl FnOnce(S) -> T) -> Step<T> {
        match self {
            Self::More(state) => Step::More(end(state)),
            Self::Done(established) => Step::Done(established),
        }
    }
}

/// Checks the length of an encrypted pad.
fn pad_len(bytes: [u8; 2]) -> Result<usize, MseError> {
    let len = u16::from_be_bytes(bytes);
    if usize::from(len) > MAX_PAD { Err(MseError::PadTooLong(len)) } else { Ok(len.into()) }
}

/// A pad with its length in front.
fn put_pad(pad: &[u8], out: &mut Vec<u8>) {
    out.extend((pad.len() as u16).to_be_bytes());
    out.extend_from_slice(pad);
}
