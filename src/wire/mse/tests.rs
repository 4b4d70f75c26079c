//! The exchange against vectors of others; both ends against each other, and against whoever errs.

use super::exchange::{PrivateKey, Secret};
use super::*;
use crate::metainfo::InfoHash;
use crate::wire::Handshake;
use proptest::prelude::*;

const SKEY: InfoHash = InfoHash(*b"the torrent's digest");
const BOTH: Methods = Methods { plaintext: true, rc4: true };
const ONLY_RC4: Methods = Methods { plaintext: false, rc4: true };
const ONLY_PLAINTEXT: Methods = Methods { plaintext: true, rc4: false };

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn random(seed: u8, first_pad: usize, second_pad: usize) -> Randomness {
    // No byte of a pad is that of another pad.
    let pad = |len, salt: u8| (0..len).map(|at| (at as u8).wrapping_mul(31) ^ seed ^ salt).collect();
    Randomness { key: [seed; 20], first_pad: pad(first_pad, 0), second_pad: pad(second_pad, 0x55) }
}

fn find(name: &SkeyName) -> Option<InfoHash> {
    (*name == skey_name(&SKEY)).then_some(SKEY)
}

fn done<T>(step: Step<T>) -> Established {
    match step {
        Step::Done(established) => established,
        Step::More(_) => panic!("more is needed"),
    }
}

fn more<T>(step: Step<T>) -> T {
    match step {
        Step::More(state) => state,
        Step::Done(_) => panic!("it is done"),
    }
}

// ---- the exchange ----

/// A handshake as an initiator of long ago sent it, behind its public key.
const RECORDED_KEY: &str = "b2f93248815c0acac34de1e33ede75e9415bb2847ee6f7db7b9fe6eacb44eeee492d9d74909d7d3663fae04d74a889e7\
    efcb02ac9823c35c841c7c2bcce70a891958bdc328b7324c7be4a3ac55276b0dca05f9f66dc2818716ffb1f33d27b9c9";
const RECORDED_REST: &str = "20202020202020202020a76be23201678c457cee31362455ec69766b34d2b9316ebb4e8d5355b244f89fd35f0961e546\
    c2b4cfb2d10fbb7579966ce3b4c1952da2f9104ae5a49f775ebcfe79ae84210114640f83e2329a57fb68f4d562d38ff55b50363c7820f88f69b9\
    a73f8bd06c14f7237507a856d53bde53426d30d081389eca30d69b0a";
const RECORDED_SECRET: &str = "218f45c4e425dc91b8a74df5fe4f778417892363bb2dfdb3979165247839293d75ee32ada87153f15855fb4512c62919\
    1bb40be2935c3759cb601d1b4cb555db457c3c391b053846466ddf8715042d3ae620f33900803a7126a2a031596b6da5";

#[test]
fn a_recorded_handshake_is_understood() {
    let key: [u8; 20] = bytes("d0460a0b00564380e0f645f7739c718d5b410cac").try_into().unwrap();
    let skey = InfoHash(bytes("2c6b6858d61da9543d4231a71db4b1c9264b0685").try_into().unwrap());
    let theirs: [u8; 96] = bytes(RECORDED_KEY).try_into().unwrap();
    assert_eq!(PrivateKey::new(&key).agree(&theirs).unwrap().0[..], bytes(RECORDED_SECRET));
    let random = Randomness { key, first_pad: Vec::new(), second_pad: Vec::new() };
    let known = |name: &SkeyName| (*name == skey_name(&skey)).then_some(skey);
    let mut out = Vec::new();
    let stream = [bytes(RECORDED_KEY), bytes(RECORDED_REST)].concat();
    let established = done(Responder::new(random, BOTH).receive(&stream, known, &mut out).unwrap());
    assert!(established.ciphers.is_some(), "it provided nothing but RC4");
    assert_eq!(out.len(), 96 + 14);
    let handshake = Handshake::parse(established.received.as_slice().try_into().unwrap()).unwrap();
    assert_eq!(handshake.info_hash, skey);
    assert_eq!(&handshake.peer_id.0, b"-TR300Z-w4bd4mkebkbi");
}

#[test]
fn both_sides_agree_on_one_secret() {
    for seed in 1..60 {
        let (ours, theirs) = (PrivateKey::new(&[seed; 20]), PrivateKey::new(&[!seed; 20]));
        let secret = ours.agree(&theirs.public()).unwrap();
        assert_eq!(secret.0, theirs.agree(&ours.public()).unwrap().0);
    }
}

#[test]
fn short_numbers_have_zeros_in_front() {
    let mut short = [0; 20];
    short[19] = 10;
    let key = PrivateKey::new(&short);
    let mut public = [0; 96];
    public[94..].copy_from_slice(&1024u16.to_be_bytes());
    assert_eq!(key.public(), public, "2 to the 10th");
    short[19] = 2;
    let mut secret = [0; 96];
    secret[93] = 0x10;
    assert_eq!(PrivateKey::new(&short).agree(&public).unwrap().0, secret, "1024 squared");
}

/// The prime minus or plus a little.
fn near_prime(offset: i64) -> [u8; 96] {
    let prime = bytes(
        "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD\
         EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A63A36210000000000090563",
    );
    let mut number: [u8; 96] = prime.try_into().unwrap();
    let low = i64::from_be_bytes(number[88..].try_into().unwrap()) + offset;
    number[88..].copy_from_slice(&low.to_be_bytes());
    number
}

#[test]
fn degenerate_keys_are_refused_at_both_ends() {
    let mut one = [0; 96];
    one[95] = 1;
    let bad = [[0; 96], one, near_prime(-1), near_prime(0), near_prime(1), [0xff; 96]];
    for key in bad {
        let mut out = Vec::new();
        let responder = Responder::new(random(1, 0, 0), BOTH).receive(&key, find, &mut out);
        assert_eq!(responder.err(), Some(MseError::DegenerateKey));
        assert!(out.is_empty(), "it is told nothing");
        let initiator = Initiator::new(random(1, 0, 0), BOTH, SKEY, Vec::new(), &mut out);
        assert_eq!(initiator.receive(&key, &mut out).err(), Some(MseError::DegenerateKey));
    }
    let mut two = one;
    two[95] = 2;
    for key in [two, near_prime(-2)] {
        assert!(PrivateKey::new(&[9; 20]).agree(&key).is_ok());
    }
}

// ---- both ends ----

/// One way between the ends: bytes under way, handed over in pieces of at most `sip` bytes.
struct Way {
    bytes: Vec<u8>,
    sip: usize,
}

impl Way {
    fn next(&mut self) -> Vec<u8> {
        let len = self.bytes.len().min(self.sip);
        self.bytes.drain(..len).collect()
    }
}

/// Lets both ends talk until both are through; both append a word of their own to their part of the handshake
/// when they are. Gives what each has received.
fn talk(
    initiator: (Randomness, Methods, Vec<u8>),
    responder: (Randomness, Methods),
    sips: [usize; 2],
) -> Result<[(Established, bool); 2], MseError> {
    let (mut out, mut back) = (Vec::new(), Vec::new());
    let mut one = Some(Initiator::new(initiator.0, initiator.1, SKEY, initiator.2, &mut out));
    let mut two = Some(Responder::new(responder.0, responder.1));
    let (mut there, mut here) = (Way { bytes: out, sip: sips[0] }, Way { bytes: Vec::new(), sip: sips[1] });
    let (mut ends, mut words) = ([None, None], [Vec::new(), Vec::new()]);
    loop {
        let (forth, mut answer) = (there.next(), Vec::new());
        if let Some(state) = two.take() {
            match state.receive(&forth, find, &mut answer)? {
                Step::More(state) => two = Some(state),
                Step::Done(mut end) => {
                    let mut word = b"from the responder".to_vec();
                    end.ciphers.iter_mut().for_each(|ciphers| ciphers.outgoing.apply(&mut word));
                    answer.extend(word);
                    ends[1] = Some(end);
                }
            }
        } else {
            words[1].extend(forth);
        }
        here.bytes.extend(answer);
        let come = here.next();
        if let Some(state) = one.take() {
            match state.receive(&come, &mut back)? {
                Step::More(state) => one = Some(state),
                Step::Done(mut end) => {
                    let mut word = b"from the initiator".to_vec();
                    end.ciphers.iter_mut().for_each(|ciphers| ciphers.outgoing.apply(&mut word));
                    back.extend(word);
                    ends[0] = Some(end);
                }
            }
        } else {
            words[0].extend(come);
        }
        there.bytes.append(&mut back);
        if one.is_none() && two.is_none() && there.bytes.is_empty() && here.bytes.is_empty() {
            break;
        }
    }
    let [words0, words1] = words;
    let finish = |end: Option<Established>, mut word: Vec<u8>| {
        let mut end = end.expect("both are through");
        end.ciphers.iter_mut().for_each(|ciphers| ciphers.incoming.apply(&mut word));
        end.received.extend(word);
        let encrypted = end.ciphers.is_some();
        (end, encrypted)
    };
    let [end0, end1] = ends;
    Ok([finish(end0, words0), finish(end1, words1)])
}

fn assert_talk(initial: Vec<u8>, pads: [usize; 4], sips: [usize; 2], methods: [Methods; 2], rc4: bool) {
    let expected = [initial.clone(), b"from the initiator".to_vec()].concat();
    let initiator = (random(0x31, pads[0], pads[2]), methods[0], initial);
    let [one, two] = talk(initiator, (random(0x77, pads[1], pads[3]), methods[1]), sips).unwrap();
    assert_eq!((one.1, two.1), (rc4, rc4));
    assert_eq!(one.0.received, b"from the responder");
    assert_eq!(two.0.received, expected);
}

#[test]
fn pads_of_every_length_are_passed_over() {
    let lengths = [0, 1, 2, 7, 8, 19, 20, 21, 255, 256, 510, 511, 512];
    for a in lengths {
        for b in lengths {
            assert_talk(b"hello".to_vec(), [a, b, b, a], [5000, 5000], [BOTH, ONLY_RC4], true);
        }
    }
    for len in 0..=MAX_PAD {
        assert_talk(Vec::new(), [len, MAX_PAD - len, len, len], [70, 333], [ONLY_RC4, BOTH], true);
    }
    assert_talk(Vec::new(), [600; 4], [900; 2], [BOTH; 2], false);
}

#[test]
fn the_initial_payload_may_have_any_length() {
    for len in [0, 1, 68, 69, 1000, 16_384, 65_534, 65_535] {
        let initial: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        for methods in [ONLY_RC4, ONLY_PLAINTEXT] {
            assert_talk(initial.clone(), [3, 4, 5, 6], [4096, 4096], [methods, BOTH], methods.rc4);
        }
    }
}

#[test]
fn what_both_take_is_selected_plaintext_first() {
    let cases = [
        (BOTH, BOTH, Some(false)),
        (BOTH, ONLY_RC4, Some(true)),
        (ONLY_RC4, BOTH, Some(true)),
        (ONLY_PLAINTEXT, BOTH, Some(false)),
        (ONLY_PLAINTEXT, ONLY_RC4, None),
        (ONLY_RC4, ONLY_PLAINTEXT, None),
    ];
    for (one, two, expected) in cases {
        let ends = talk((random(1, 9, 9), one, Vec::new()), (random(2, 9, 9), two), [999; 2]);
        assert_eq!(
            ends.map(|ends| ends[0].1).map_err(|error| error == MseError::NoCommonMethod),
            expected.ok_or(true)
        );
    }
    let modes = [Encryption::Allowed, Encryption::Required];
    assert_eq!(modes.map(Encryption::methods), [BOTH, ONLY_RC4]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn both_ends_understand_each_other_however_the_bytes_are_cut(
        pads in prop::array::uniform4(0..=MAX_PAD),
        sips in prop::array::uniform2(1usize..700),
        initial in prop::collection::vec(any::<u8>(), 0..300),
        rc4: bool,
    ) {
        assert_talk(initial, pads, sips, [if rc4 { ONLY_RC4 } else { BOTH }, BOTH], rc4);
    }
}

/// A whole conversation as each end receives it: the initiator's 3 parts together, and the responder's.
fn transcript(methods: Methods) -> [Vec<u8>; 2] {
    let mut forth = Vec::new();
    let one = Initiator::new(random(1, 40, 30), methods, SKEY, b"initial payload".to_vec(), &mut forth);
    let mut back = Vec::new();
    let two = more(Responder::new(random(2, 50, 20), BOTH).receive(&forth, find, &mut back).unwrap());
    let mut rest = Vec::new();
    let one = more(one.receive(&back, &mut rest).unwrap());
    let mut answer = Vec::new();
    done(two.receive(&rest, find, &mut answer).unwrap());
    done(one.receive(&answer, &mut Vec::new()).unwrap());
    [[forth, rest].concat(), [back, answer].concat()]
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for methods in [ONLY_RC4, BOTH] {
        let [forth, back] = transcript(methods);
        let mut whole = Vec::new();
        done(Responder::new(random(2, 50, 20), BOTH).receive(&forth, find, &mut whole).unwrap());
        assert_eq!(whole, back);
        for cut in 1..forth.len() {
            let mut out = Vec::new();
            let two = Responder::new(random(2, 50, 20), BOTH).receive(&forth[..cut], find, &mut out);
            let end = done(more(two.unwrap()).receive(&forth[cut..], find, &mut out).unwrap());
            assert_eq!((out, end.received), (back.clone(), b"initial payload".to_vec()), "cut at {cut}");
        }
        for cut in 1..back.len() {
            let mut out = Vec::new();
            let one = Initiator::new(random(1, 40, 30), methods, SKEY, b"initial payload".to_vec(), &mut out);
            let one = one.receive(&back[..cut], &mut out);
            let end = done(more(one.unwrap()).receive(&back[cut..], &mut out).unwrap());
            assert_eq!((out, end.received), (forth.clone(), Vec::new()), "cut at {cut}");
        }
    }
}

// ---- whoever errs ----

/// A responder that has answered to a key exchange of ours, and the secret.
fn exchanged() -> (Responder, Secret) {
    let key = PrivateKey::new(&[5; 20]);
    let mut out = Vec::new();
    let responder =
        more(Responder::new(random(6, 0, 0), BOTH).receive(&key.public(), find, &mut out).unwrap());
    let secret = key.agree(out[..].try_into().unwrap()).unwrap();
    (responder, secret)
}

/// What a responder makes of an offer that an initiator with these words sends.
fn offer(constant: [u8; 8], provided: u32, pad_len: u16) -> Result<Option<bool>, MseError> {
    let (responder, secret) = exchanged();
    let mut words = [&constant[..], &provided.to_be_bytes(), &pad_len.to_be_bytes()].concat();
    words.resize(words.len() + usize::from(pad_len.min(600)) + 2, 0);
    let [mut cipher, _] = secret.ciphers(&SKEY);
    cipher.apply(&mut words);
    let stream = [&secret.mark()[..], &secret.veil(skey_name(&SKEY)), &words].concat();
    let step = responder.receive(&stream, find, &mut Vec::new())?;
    Ok(match step {
        Step::Done(end) => Some(end.ciphers.is_some()),
        Step::More(_) => None,
    })
}

#[test]
fn offers_are_checked() {
    let good = CONSTANT;
    assert_eq!(offer(good, 2, 0), Ok(Some(true)));
    assert_eq!(offer(good, 2, 512), Ok(Some(true)));
    assert_eq!(offer(good, 0xffff_fffe, 0), Ok(Some(true)), "unknown bits mean nothing");
    assert_eq!(offer(good, 0xffff_ffff, 0), Ok(Some(false)));
    assert_eq!(offer(good, 0, 0), Err(MseError::NoCommonMethod));
    assert_eq!(offer(good, 0xffff_fffc, 0), Err(MseError::NoCommonMethod));
    assert_eq!(offer(good, 2, 513), Err(MseError::PadTooLong(513)));
    assert_eq!(offer(good, 2, 65_535), Err(MseError::PadTooLong(65_535)));
    for at in 0..8 {
        let mut wrong = good;
        wrong[at] = 1;
        assert_eq!(offer(wrong, 2, 0), Err(MseError::WrongConstant));
    }
}

#[test]
fn another_torrent_is_not_found() {
    let (responder, secret) = exchanged();
    let stream = [secret.mark(), secret.veil(skey_name(&InfoHash([1; 20])))].concat();
    assert_eq!(responder.receive(&stream, find, &mut Vec::new()).err(), Some(MseError::UnknownTorrent));
}

/// What an initiator makes of this selection.
fn selection(methods: Methods, selected: u32, pad_len: u16) -> Result<bool, MseError> {
    let key = PrivateKey::new(&[5; 20]);
    let mut out = Vec::new();
    let initiator = Initiator::new(random(6, 0, 0), methods, SKEY, Vec::new(), &mut out);
    let secret = key.agree(out[..].try_into().unwrap()).unwrap();
    let mut words = [&CONSTANT[..], &selected.to_be_bytes(), &pad_len.to_be_bytes()].concat();
    words.resize(words.len() + usize::from(pad_len.min(600)), 0);
    let [_, mut cipher] = secret.ciphers(&SKEY);
    cipher.apply(&mut words);
    let stream = [&key.public()[..], &words].concat();
    initiator.receive(&stream, &mut out).map(|step| done(step).ciphers.is_some())
}

#[test]
fn selections_are_checked() {
    assert_eq!(selection(BOTH, 1, 0), Ok(false));
    assert_eq!(selection(BOTH, 2, 512), Ok(true));
    assert_eq!(selection(BOTH, 0xffff_fffe, 0), Ok(true), "unknown bits mean nothing");
    for (methods, selected) in
        [(BOTH, 0), (BOTH, 3), (BOTH, 4), (ONLY_RC4, 1), (ONLY_RC4, 3), (ONLY_PLAINTEXT, 2)]
    {
        assert_eq!(selection(methods, selected, 0), Err(MseError::WrongSelection(selected)));
    }
    assert_eq!(selection(BOTH, 2, 513), Err(MseError::PadTooLong(513)));
}

#[test]
fn who_never_goes_on_is_given_up_after_the_longest_pad() {
    for (chunk, noise) in [(1, 0), (13, 0xaa), (5000, 7)] {
        let mut out = Vec::new();
        let (mut responder, _) = exchanged();
        let mut sent = 0;
        let error = loop {
            sent += chunk;
            match responder.receive(&vec![noise; chunk], find, &mut out) {
                Ok(step) => responder = more(step),
                Err(error) => break error,
            }
            assert!(responder.held.0.len() < MAX_PAD + 20);
        };
        assert_eq!((error, sent), (MseError::NoSync, (MAX_PAD + 20).next_multiple_of(chunk)));
        let initiator = Initiator::new(random(6, 0, 0), BOTH, SKEY, Vec::new(), &mut out);
        let mut initiator = more(initiator.receive(&PrivateKey::new(&[5; 20]).public(), &mut out).unwrap());
        sent = 0;
        let error = loop {
            sent += chunk;
            match initiator.receive(&vec![noise; chunk], &mut out) {
                Ok(step) => initiator = more(step),
                Err(error) => break error,
            }
            assert!(initiator.held.0.len() < MAX_PAD + 8);
        };
        assert_eq!((error, sent), (MseError::NoSync, (MAX_PAD + 8).next_multiple_of(chunk)));
    }
}

#[test]
fn the_protocols_name_is_no_key() {
    assert!(Responder::is_plaintext(b"\x13BitTorrent protocol"));
    assert!(!Responder::is_plaintext(b"\x13BitTorrent protocoL"));
    assert!(!Responder::is_plaintext(&[0x13; 20]));
}

proptest! {
    #[test]
    fn garbage_ends_in_an_error_or_in_bounded_memory(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..12)) {
        let mut out = Vec::new();
        let mut responder = Some(Responder::new(random(1, 10, 10), BOTH));
        for part in &parts {
            let Some(state) = responder.take() else { break };
            responder = state.receive(part, find, &mut out).ok().map(more);
            prop_assert!(responder.as_ref().is_none_or(|state| state.held.0.len() < MAX_PAD + 20));
        }
        let mut initiator = Some(Initiator::new(random(1, 10, 10), BOTH, SKEY, Vec::new(), &mut out));
        for part in &parts {
            let Some(state) = initiator.take() else { break };
            initiator = state.receive(part, &mut out).ok().map(more);
            prop_assert!(initiator.as_ref().is_none_or(|state| state.held.0.len() < MAX_PAD + 8));
        }
        prop_assert!(out.len() < 2000);
    }
}
