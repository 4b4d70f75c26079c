//! Who is known to have everything, and that this is no word for good.

use super::desk::{Desk, bits};
use super::extended::{addr, desk, dials, greet, hello, said, tell};
use crate::swarm::{PeerSlot, Source};
use crate::wire::Message;
use crate::wire::extended::{ExtendedHandshake, Extension, PexFlags, PexMessage, encode_dont_have};

/// What another peer is told of this one, which we have dialled; and where we dial as a seed, when it has left.
fn known_of(play: impl Fn(&mut Desk, PeerSlot)) -> (PexFlags, bool) {
    let mut desk = desk(3, &[0]);
    desk.swarm.add_candidate(addr("127.0.0.1:1001"), Source::Tracker);
    let [peer, other] = [1, 2].map(|number| desk.connect(true, number).unwrap());
    [peer, other].into_iter().for_each(|peer| greet(&mut desk, peer, &hello()));
    play(&mut desk, peer);
    let news = said(&mut desk, other, Extension::Pex);
    let added = PexMessage::parse(&news[0]).unwrap().added;
    let [(told, flags)] = added[..] else { panic!("{added:?}") };
    assert_eq!(told, addr("127.0.0.1:1001"));
    [peer, other].into_iter().for_each(|peer| desk.swarm.gone(desk.now, peer));
    [1, 2].into_iter().for_each(|number| desk.swarm.commons.map.set_have(desk.piece(number)));
    desk.swarm.read_log(desk.now);
    assert!(desk.swarm.is_seeding());
    desk.pass(60);
    (flags, dials(&mut desk).contains(&told))
}

const SEED: (PexFlags, bool) = (PexFlags(PexFlags::SEED | PexFlags::REACHABLE), false);
const LEECH: (PexFlags, bool) = (PexFlags(PexFlags::REACHABLE), true);

#[test]
fn that_a_peer_does_not_download_it_may_take_back() {
    let says = |all: &'static [u8]| {
        known_of(|desk, peer| all.iter().for_each(|say| tell(desk, peer, Extension::UploadOnly, &[*say])))
    };
    assert_eq!([says(&[]), says(&[1]), says(&[1, 0]), says(&[1, 0, 1])], [LEECH, SEED, LEECH, SEED]);
    let greets = |all: &'static [bool]| {
        let hello = |say: &bool| ExtendedHandshake { upload_only: Some(*say), ..hello() };
        known_of(|desk, peer| all.iter().for_each(|say| greet(desk, peer, &hello(say))))
    };
    assert_eq!([greets(&[true]), greets(&[true, false])], [SEED, LEECH]);
}

#[test]
fn who_has_lost_a_piece_is_no_seed() {
    let loses = |lost: &'static [u32]| {
        known_of(|desk, peer| {
            desk.hear(peer, Message::Bitfield(&bits(3, &[0, 1, 2])));
            lost.iter().for_each(|piece| tell(desk, peer, Extension::DontHave, &encode_dont_have(*piece)));
        })
    };
    assert_eq!([loses(&[]), loses(&[2])], [SEED, LEECH]);
    let loses_another = known_of(|desk, peer| {
        desk.hear(peer, Message::Bitfield(&bits(3, &[0, 1, 2])));
        tell(desk, peer, Extension::DontHave, &encode_dont_have(2));
        desk.hear(peer, Message::Have(2));
        tell(desk, peer, Extension::DontHave, &encode_dont_have(1));
    });
    assert_eq!(loses_another, LEECH, "also of one who had all again");
}

#[test]
fn who_was_a_seed_and_comes_back_without_a_piece_is_none() {
    let shows = |again: Message<'_>| {
        known_of(|desk, peer| {
            let who = desk.swarm.peers.get(peer).unwrap().who.addr;
            desk.swarm.candidates.is_seed(who, true);
            desk.hear(peer, again);
        })
    };
    let (all, some) = (bits(3, &[0, 1, 2]), bits(3, &[0, 1]));
    assert_eq!([shows(Message::Bitfield(&all)), shows(Message::Bitfield(&some))], [SEED, LEECH]);
    assert_eq!([shows(Message::HaveAll), shows(Message::HaveNone)], [SEED, LEECH]);
}
