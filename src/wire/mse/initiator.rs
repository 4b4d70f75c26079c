//! The end that dialled.

use super::exchange::{PrivateKey, skey_name};
use super::{CONSTANT, Cipher, Ciphers, Held, Method, Methods, MseError, Randomness, Step, pad_len, put_pad};
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
    key: PrivateKey,
    second_pad: Vec<u8>,
    methods: Methods,
    skey: InfoHash,
    initial: Vec<u8>,
    pub(super) held: Held,
    state: State,
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
        Self { key, second_pad, methods, skey, initial, held: Held::default(), state: State::Key }
    }

    /// Takes in what has come and puts into `out` what is to be sent for it.
    ///
    /// # Errors
    /// When the other side breaks the protocol.
    pub fn receive(mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Step<Self>, MseError> {
        self.held.0.extend_from_slice(bytes);
        loop {
            self.state = match self.state {
                State::Key => {
                    let Some(theirs) = self.held.take() else {
                        return Ok(Step::More(Self { state: State::Key, ..self }));
                    };
                    let secret = self.key.agree(&theirs)?;
                    out.extend(secret.mark());
                    out.extend(secret.veil(skey_name(&self.skey)));
                    let [mut outgoing, mut incoming] = secret.ciphers(&self.skey);
                    put_offer(&mut outgoing, self.methods, &self.second_pad, &self.initial, out);
                    let mut mark = CONSTANT;
                    incoming.apply(&mut mark);
                    State::Sync { ciphers: Ciphers { incoming, outgoing }, mark }
                }
                State::Sync { ciphers, mark } => match self.held.pass_pad(&mark)? {
                    Some(()) => State::Selection(ciphers),
                    None => return Ok(Step::More(Self { state: State::Sync { ciphers, mark }, ..self })),
                },
                State::Selection(mut ciphers) => {
                    let Some(mut answer) = self.held.take::<6>() else {
                        return Ok(Step::More(Self { state: State::Selection(ciphers), ..self }));
                    };
                    ciphers.incoming.apply(&mut answer);
                    let [a, b, c, d, len @ ..] = answer;
                    let selected = u32::from_be_bytes([a, b, c, d]);
                    let method = self.methods.selected(selected).ok_or(MseError::WrongSelection(selected))?;
                    State::Pad { ciphers, method, len: pad_len(len)? }
                }
                State::Pad { mut ciphers, method, len } => {
                    if self.held.take_len(len).is_none() {
                        return Ok(Step::More(Self { state: State::Pad { ciphers, method, len }, ..self }));
                    }
                    ciphers.incoming.skip(len);
                    return Ok(Step::Done(self.held.establish(method, ciphers, Vec::new())));
                }
            };
        }
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
