//! The end that was dialled.

use super::exchange::{PrivateKey, Secret, SkeyName};
use super::{
    CONSTANT, Ciphers, Held, Method, Methods, MseError, Randomness, Step, Turn, advance, pad_len, put_pad,
};
use crate::metainfo::InfoHash;
use crate::wire::handshake::PREFIX;

enum State {
    /// Waits for the public key.
    Key,
    /// Looks for the end of the first pad.
    Sync { secret: Secret, mark: [u8; 20] },
    /// Waits for the veiled name of the torrent.
    Name(Secret),
    /// Waits for the constant, what is provided, and the length of the second pad.
    Offer(Ciphers),
    /// Waits for the second pad, and the length of the initial payload behind it.
    Pad { ciphers: Ciphers, method: Method, len: usize },
    /// Waits for the initial payload.
    Initial { ciphers: Ciphers, method: Method, len: usize },
}

/// See the module.
pub struct Responder {
    ours: Ours,
    pub(super) held: Held,
    state: State,
}

/// What does not change.
struct Ours {
    key: PrivateKey,
    first_pad: Vec<u8>,
    second_pad: Vec<u8>,
    methods: Methods,
}

impl Responder {
    /// Begins.
    pub fn new(random: Randomness, methods: Methods) -> Self {
        let Randomness { key, first_pad, second_pad } = random.clip();
        let ours = Ours { key: PrivateKey::new(&key), first_pad, second_pad, methods };
        Self { ours, held: Held::default(), state: State::Key }
    }

    /// Whether a connection that begins with these bytes does so without encryption: with the protocol's name (BEP 3).
    pub fn is_plaintext(begin: &[u8; 20]) -> bool {
        begin == PREFIX
    }

    /// Takes in what has come and puts into `out` what is to be sent for it. `find` gives the torrent of a name
    /// ([`skey_name`](super::skey_name)).
    ///
    /// # Errors
    /// When the other side breaks the protocol.
    pub fn receive(
        self,
        bytes: &[u8],
        find: impl Fn(&SkeyName) -> Option<InfoHash>,
        out: &mut Vec<u8>,
    ) -> Result<Step<Self>, MseError> {
        let Self { ours, mut held, state } = self;
        held.0.extend_from_slice(bytes);
        let step = advance(state, |state| ours.turn(state, &mut held, &find, out))?;
        Ok(step.map(|state| Self { ours, held, state }))
    }
}

impl Ours {
    fn turn(
        &self,
        state: State,
        held: &mut Held,
        find: &impl Fn(&SkeyName) -> Option<InfoHash>,
        out: &mut Vec<u8>,
    ) -> Result<Turn<State>, MseError> {
        Ok(Turn::Next(match state {
            State::Key => {
                let Some(theirs) = held.take() else { return Ok(Turn::Wait(State::Key)) };
                let secret = self.key.agree(&theirs)?;
                out.extend(self.key.public());
                out.extend_from_slice(&self.first_pad);
                State::Sync { mark: secret.mark(), secret }
            }
            State::Sync { secret, mark } => match held.pass_pad(&mark)? {
                Some(()) => State::Name(secret),
                None => return Ok(Turn::Wait(State::Sync { secret, mark })),
            },
            State::Name(secret) => {
                let Some(veiled) = held.take() else { return Ok(Turn::Wait(State::Name(secret))) };
                let skey = find(&secret.veil(veiled)).ok_or(MseError::UnknownTorrent)?;
                let [incoming, outgoing] = secret.ciphers(&skey);
                State::Offer(Ciphers { incoming, outgoing })
            }
            State::Offer(mut ciphers) => {
                let Some(mut offer) = held.take::<14>() else {
                    return Ok(Turn::Wait(State::Offer(ciphers)));
                };
                ciphers.incoming.apply(&mut offer);
                let (method, len) = read_offer(&offer, self.methods)?;
                State::Pad { ciphers, method, len }
            }
            State::Pad { mut ciphers, method, len } => {
                let Some(mut pad) = held.take_len(len + 2) else {
                    return Ok(Turn::Wait(State::Pad { ciphers, method, len }));
                };
                ciphers.incoming.apply(&mut pad);
                let initial = u16::from_be_bytes([pad[len], pad[len + 1]]).into();
                // Before the initial payload is there: it may be long.
                put_selection(&mut ciphers, method, &self.second_pad, out);
                State::Initial { ciphers, method, len: initial }
            }
            State::Initial { mut ciphers, method, len } => {
                let Some(mut initial) = held.take_len(len) else {
                    return Ok(Turn::Wait(State::Initial { ciphers, method, len }));
                };
                ciphers.incoming.apply(&mut initial);
                return Ok(Turn::Done(Box::new(held.establish(method, ciphers, initial))));
            }
        }))
    }
}

/// Reads VC, `crypto_provide` and the length of PadC; selects.
fn read_offer(offer: &[u8; 14], methods: Methods) -> Result<(Method, usize), MseError> {
    let (constant, rest) = offer.split_at(CONSTANT.len());
    if constant != CONSTANT {
        return Err(MseError::WrongConstant);
    }
    let provided = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
    let len = pad_len([rest[4], rest[5]])?;
    let method = methods.select(provided).ok_or(MseError::NoCommonMethod)?;
    Ok((method, len))
}

/// VC, `crypto_select`, PadD.
fn put_selection(ciphers: &mut Ciphers, method: Method, pad: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend(CONSTANT);
    out.extend(method.bit().to_be_bytes());
    put_pad(pad, out);
    ciphers.outgoing.apply(&mut out[begin..]);
}
