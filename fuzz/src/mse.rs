//! Encrypted handshakes: two ends of ours with somebody between them who cuts the stream and changes it, and each end
//! against a stream of its own. To change a byte under the cipher is to change the byte that is decrypted, so whatever
//! an attacker may say under encryption is among what is tried.

use super::script::Script;
use seedring::metainfo::InfoHash;
use seedring::wire::mse::{
    Established, Initiator, Methods, MseError, Randomness, Responder, Step, skey_name,
};

const TORRENT: InfoHash = InfoHash([7; 20]);
const OTHER: InfoHash = InfoHash([8; 20]);
/// What the ends say behind their handshakes.
const WORDS: [&[u8]; 2] = [b"what the one says then", b"and what the other says"];
/// Changes to what one end says: where, and by which mask.
type Changes = Vec<(usize, u8)>;

/// One end.
#[allow(clippy::large_enum_variant, reason = "there are two of them")]
enum End {
    Initiator(Initiator),
    Responder(Responder),
    Done(Established),
    Failed(MseError),
}

impl End {
    /// Takes in bytes; what it says to them goes into `out`.
    fn receive(self, bytes: &[u8], out: &mut Vec<u8>) -> Self {
        let find = |name: &_| (*name == skey_name(&TORRENT)).then_some(TORRENT);
        match self {
            Self::Initiator(end) => match end.receive(bytes, out) {
                Ok(Step::More(end)) => Self::Initiator(end),
                Ok(Step::Done(done)) => Self::Done(done),
                Err(error) => Self::Failed(error),
            },
            Self::Responder(end) => match end.receive(bytes, find, out) {
                Ok(Step::More(end)) => Self::Responder(end),
                Ok(Step::Done(done)) => Self::Done(done),
                Err(error) => Self::Failed(error),
            },
            // The stream goes on.
            Self::Done(mut done) => {
                let at = done.received.len();
                done.received.extend_from_slice(bytes);
                if let Some(ciphers) = &mut done.ciphers {
                    ciphers.incoming.apply(&mut done.received[at..]);
                }
                Self::Done(done)
            }
            failed @ Self::Failed(_) => failed,
        }
    }

    /// What has come of it, in words.
    fn verdict(&self) -> String {
        match self {
            Self::Initiator(_) | Self::Responder(_) => "wants more".into(),
            Self::Done(done) => format!("{} {:?}", done.ciphers.is_some(), done.received),
            Self::Failed(error) => error.to_string(),
        }
    }
}

/// The head of the input: methods and pads of both ends, what the initiator sends at once, changes, cuts.
pub fn mse(input: &[u8]) {
    let mut script = Script(input);
    let kind = script.byte();
    let methods = |bits: u8| Methods { plaintext: bits & 1 != 0, rc4: bits & 2 != 0 };
    let (ours, theirs) = (methods(kind), methods(kind >> 2));
    let skey = if kind & 0x10 == 0 { TORRENT } else { OTHER };
    let mut randomness = |tag: u8| Randomness {
        key: [tag; 20],
        first_pad: vec![tag; usize::from(script.number() % 600)],
        second_pad: vec![!tag; usize::from(script.number() % 600)],
    };
    let (one, two) = (randomness(0x35), randomness(0x9a));
    let initial = vec![0x55; usize::from(script.number() % 2000)];
    if kind & 0x20 != 0 {
        return alone(kind & 0x40 != 0, (ours, skey, initial), one, script.0);
    }
    let mut changes = [Changes::new(), Changes::new()];
    for _ in 0..script.byte() % 8 {
        changes[usize::from(script.byte() % 2)].push((script.number().into(), script.byte()));
    }
    let unchanged = changes.iter().flatten().all(|(_, mask)| *mask == 0);
    let mut first = Vec::new();
    let initiator = Initiator::new(one, ours, skey, initial.clone(), &mut first);
    let ends = [End::Initiator(initiator), End::Responder(Responder::new(two, theirs))];
    let ends = between(ends, first, &changes, script);
    let common = (ours.plaintext && theirs.plaintext) || (ours.rc4 && theirs.rc4);
    match &ends {
        [End::Done(initiator), End::Done(responder)] if unchanged => {
            let plain = !(ours.plaintext && theirs.plaintext);
            assert_eq!([&initiator.ciphers, &responder.ciphers].map(Option::is_some), [plain; 2]);
            assert_eq!(initiator.received, WORDS[1]);
            assert_eq!(responder.received, [&initial, WORDS[0]].concat());
        }
        [_, End::Failed(error)] if unchanged => match error {
            MseError::UnknownTorrent => assert_eq!(skey, OTHER),
            MseError::NoCommonMethod => assert!(!common),
            other => panic!("{other}"),
        },
        _ => assert!(!unchanged, "{:?}", ends.each_ref().map(End::verdict)),
    }
}

/// Carries what each end says to the other, in parts, changed on the way.
fn between(mut ends: [End; 2], first: Vec<u8>, changes: &[Changes; 2], mut script: Script<'_>) -> [End; 2] {
    // What each end has said, and how much of it has arrived.
    let mut said = [first, Vec::new()];
    let mut arrived = [0, 0];
    let mut spoke = [false, false];
    while let Some(from) = (0..2).find(|from| arrived[*from] < said[*from].len()) {
        let cut = if script.is_over() { usize::MAX } else { usize::from(script.byte()) + 1 };
        let part = arrived[from]..said[from].len().min(arrived[from].saturating_add(cut));
        let mut bytes = said[from][part.clone()].to_vec();
        for (at, mask) in &changes[from] {
            if part.contains(at) {
                bytes[at - part.start] ^= mask;
            }
        }
        arrived[from] = part.end;
        let to = 1 - from;
        let [one, two] = ends;
        let mut out = Vec::new();
        ends =
            if to == 0 { [one.receive(&bytes, &mut out), two] } else { [one, two.receive(&bytes, &mut out)] };
        said[to].extend(out);
        for end in 0..2 {
            if let End::Done(done) = &mut ends[end]
                && !std::mem::replace(&mut spoke[end], true)
            {
                let mut words = WORDS[end].to_vec();
                done.ciphers.iter_mut().for_each(|ciphers| ciphers.outgoing.apply(&mut words));
                said[end].extend(words);
            }
        }
    }
    ends
}

/// One end against a stream: the same comes of it whole and byte by byte.
fn alone(
    dials: bool,
    (methods, skey, initial): (Methods, InfoHash, Vec<u8>),
    random: Randomness,
    stream: &[u8],
) {
    let play = |cut: usize| {
        let mut out = Vec::new();
        let mut end = if dials {
            End::Initiator(Initiator::new(random.clone(), methods, skey, initial.clone(), &mut out))
        } else {
            End::Responder(Responder::new(random.clone(), methods))
        };
        for part in stream.chunks(cut) {
            end = end.receive(part, &mut out);
            assert!(out.len() <= 2 * (96 + 512) + 40 + 16 + 65_537, "it says no more than it has to");
        }
        (end.verdict(), out)
    };
    assert_eq!(play(stream.len().max(1)), play(1));
}
