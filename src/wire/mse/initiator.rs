//! The end that dialled.

use super::exchange::{PrivateKey, skey_name};
use super::{
    CONSTANT, Cipher, Ciphers, Held, Method, Methods, MseError, Randomness, Step, Turn, advance, pad_len,
    put_pad,
};
use crate::metainfo::InfoHash;

enum State {
    /// Waits for the public key.
    Key,
    /// Looks for the end of the first pad: for the constant, as the cipher shows it.
    Sync { ciphers: Ciphers, mark: [u8; CONSTANT.len()] },
    /// Waits for the selection and the length of the second pad.
    Selection(Ciphers),
    /// Waits for the second pad.
    Pad { ciphers: Ciphers, method: Method, len: usize },
}

/// See the module.
pub struct Initiator {
    ours: Ours,
    pub(super) held: Held,
    state: State,
}

/// What does not change.
struct Ours {
    key: PrivateKey,
    second_pad: Vec<u8>,
    methods: Methods,
    skey: InfoHash,
    initial: Vec<u8>,
}

impl Initiator {
    /// Begins for the torrent `skey` and puts the first bytes to send into `out`. `initial`: what goes out first in the
    /// stream, with the handshake.
    ///
    /// # Panics
    /// When that is longer than 65,535 bytes.
    pub fn new(
        random: Randomness,
        methods: Methods,
        skey: InfoHash,
        initial: Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Self {
        assert!(initial.len() <= usize::from(u16::MAX), "the initial payload has two bytes for its length");
        let Randomness { key, first_pad, second_pad } = random.clip();
        let key = PrivateKey::new(&key);
        out.extend(key.public());
        out.extend(first_pad);
        let ours = Ours { key, second_pad, methods, skey, initial };
        Self { ours, held: Held::default(), state: State::Key }
    }

    /// Takes in what has come and puts into `out` what is to be sent for it.
    ///
    /// # Errors
    /// When the other side breaks the protocol.
    pub fn receive(self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step<Self>, MseError> {
        let Self { ours, mut held, state } = self;
        held.0.extend_from_slice(bytes);
        let step = advance(state, |state| ours.turn(state, &mut held, out))?;
        Ok(step.map(|state| Self { ours, held, state }))
    }
}

impl Ours {
    fn turn(&self, state: State, held: &mut Held, out: &mut Vec<u8>) -> Result<Turn<State>, MseError> {
        Ok(Turn::Next(match state {
            State::Key => {
                let Some(theirs) = held.take() else { return Ok(Turn::Wait(State::Key)) };
                let secret = self.key.agree(&theirs)?;
                out.extend(secret.mark());
                out.extend(secret.veil(skey_name(&self.skey)));
                let [mut outgoing, mut incoming] = secret.ciphers(&self.skey);
                put_offer(&mut outgoing, self.methods, &self.second_pad, &self.initial, out);
                let mut mark = CONSTANT;
                incoming.apply(&mut mark);
                State::Sync { ciphers: Ciphers { incoming, outgoing }, mark }
            }
            State::Sync { ciphers, mark } => match held.pass_pad(&mark)? {
                Some(()) => State::Selection(ciphers),
                None => return Ok(Turn::Wait(State::Sync { ciphers, mark })),
            },
            State::Selection(mut ciphers) => {
                let Some(mut answer) = held.take::<6>() else {
                    return Ok(Turn::Wait(State::Selection(ciphers)));
                };
                ciphers.incoming.apply(&mut answer);
                let [a, b, c, d, len @ ..] = answer;
                let selected = u32::from_be_bytes([a, b, c, d]);
                let method = self.methods.selected(selected).ok_or(MseError::WrongSelection(selected))?;
                State::Pad { ciphers, method, len: pad_len(len)? }
            }
            State::Pad { mut ciphers, method, len } => {
                if held.take_len(len).is_none() {
                    return Ok(Turn::Wait(State::Pad { ciphers, method, len }));
                }
                ciphers.incoming.skip(len);
                return Ok(Turn::Done(Box::new(held.establish(method, ciphers, Vec::new()))));
            }
        }))
    }
}

/// VC, `crypto_provide`, PadC, IA.
fn put_offer(cipher: &mut Cipher, methods: Methods, pad: &[u8], initial: &[u8], out: &mut Vec<u8>) {
    let begin = out.len();
    out.extend(CONSTANT);
    out.extend(methods.bits().to_be_bytes());
    put_pad(pad, out);
    out.extend((initial.len() as u16).to_be_bytes());
    out.extend_from_slice(initial);
    cipher.apply(&mut out[begin..]);
}
