//! What is said when, what is served, and what makes us drop a peer.

use super::desk::{BLOCK, Desk, Said, bits};
use crate::swarm::{DropReason, PeerSlot, Source, Wish};
use crate::wire::Message;
use std::time::Duration;

fn fetch(desk: &mut Desk, from: PeerSlot, piece: u32) {
    desk.say(from);
    (0..desk.layout.blocks_in(desk.piece(piece)) as u32)
        .for_each(|block| assert!(desk.block_comes(from, (piece, block)).1));
    desk.settle(&[]);
}

#[test]
fn a_bitfield_comes_first_and_not_at_all_when_it_is_empty() {
    let mut desk = Desk::new(BLOCK, 10, &[0, 9]);
    let peer = desk.connect(false, 1).unwrap();
    assert_eq!(desk.say(peer), [Said::Bitfield(vec![0x80, 0x40])]);
    assert_eq!(desk.say(peer), [], "once");
    let mut desk = Desk::new(BLOCK, 10, &[]);
    let peer = desk.connect(false, 1).unwrap();
    assert_eq!(desk.say(peer), []);
}

#[test]
fn a_new_piece_is_told_to_everybody_once() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    let giver = desk.giver(1, &[0, 1]);
    let early = desk.connect(false, 2).unwrap();
    desk.say(early);
    let silent = desk.connect(false, 3).unwrap();
    fetch(&mut desk, giver, 0);
    assert!(desk.say(giver).contains(&Said::Have(0)), "a super-seed waits for that");
    assert_eq!(desk.say(early), [Said::Have(0)]);
    assert_eq!(desk.say(early), [], "once");
    assert_eq!(desk.say(silent), [Said::Bitfield(vec![0x80])], "in the bitfield, and not a second time");
    let late = desk.connect(false, 4).unwrap();
    assert_eq!(desk.say(late), [Said::Bitfield(vec![0x80])]);
    desk.hear(early, Message::Have(1));
    fetch(&mut desk, giver, 1);
    assert!(desk.say(early).contains(&Said::Have(1)), "although it has that");
    assert_eq!(desk.say(late), [Said::Have(1)]);
}

/// It may be a super-seed, which shows the next piece then.
#[test]
fn who_shows_what_we_have_by_now_hears_of_it_although_it_chokes_us() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    let giver = desk.giver(1, &[0]);
    let shower = desk.connect(true, 2).unwrap();
    [0, 1].into_iter().for_each(|piece| desk.hear(shower, Message::Have(piece)));
    desk.say(shower);
    desk.wishes();
    desk.say(giver);
    assert!(desk.block_comes(giver, (0, 0)).1);
    assert!(desk.settle(&[]).contains(&Wish::Wake(shower)));
    assert_eq!(desk.say(shower), [Said::Have(0)]);
}

#[test]
fn interest_follows_what_the_peer_has_for_us() {
    let mut desk = Desk::new(BLOCK, 3, &[2]);
    let peer = desk.connect(true, 1).unwrap();
    desk.hear(peer, Message::Have(2));
    assert_eq!(desk.say(peer), [Said::Bitfield(vec![0x20])], "we have that");
    desk.hear(peer, Message::Have(0));
    assert_eq!(desk.say(peer), [Said::Interested]);
    desk.hear(peer, Message::Have(0));
    desk.hear(peer, Message::Unchoke);
    assert_eq!(desk.say(peer), [Said::Request(0, 0)]);
    desk.wishes();
    desk.block_comes(peer, (0, 0));
    let woken = desk.settle(&[]);
    assert!(woken.contains(&Wish::Wake(peer)));
    assert_eq!(desk.say(peer), [Said::NotInterested, Said::Have(0)]);
}

#[test]
fn what_is_asked_while_choked_is_not_served() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    let peer = desk.connect(false, 1).unwrap();
    desk.ask(peer, [0, 0, BLOCK]);
    assert!(!desk.swarm.has_uploads(peer));
    desk.hear(peer, Message::Interested);
    assert_eq!(desk.say(peer), [Said::Bitfield(vec![0x80]), Said::Unchoke], "a free slot is given at once");
    desk.ask(peer, [0, 0, BLOCK]);
    assert!(desk.swarm.has_uploads(peer));
    desk.hear(peer, Message::NotInterested);
    assert!(!desk.swarm.has_uploads(peer));
    desk.pass(10);
    assert_eq!(desk.say(peer), [Said::Choke], "the slot is for others");
    (0..=300).for_each(|_| desk.ask(peer, [0, 0, BLOCK]));
    assert!(!desk.swarm.has_uploads(peer));
    assert_eq!(desk.drops(), [], "they may have crossed the choke");
    desk.pass(60);
    (0..=300).for_each(|_| desk.ask(peer, [0, 0, BLOCK]));
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
}

#[test]
fn a_third_taker_waits_for_a_slot_and_gets_the_one_that_is_left() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    let [first, second] = [1, 2].map(|number| desk.taker(number));
    let third = desk.taker(3);
    desk.hear(third, Message::Interested);
    assert_eq!(desk.say(third), []);
    desk.swarm.gone(desk.now, first);
    assert_eq!(desk.say(third), [Said::Unchoke]);
    assert_eq!(desk.say(second), []);
}

#[test]
fn requests_are_taken_together_in_their_order() {
    let mut desk = Desk::new(4 * BLOCK, 2, &[0, 1]);
    let peer = desk.taker(1);
    let all = [
        [0, 0, BLOCK],
        [0, BLOCK, BLOCK],
        [0, 2 * BLOCK, BLOCK],
        [1, 3 * BLOCK, BLOCK],
        [1, 0, 5],
        [1, 5, 7],
        [0, 7, 9],
    ];
    all.into_iter().for_each(|numbers| desk.ask(peer, numbers));
    desk.hear(peer, Message::Cancel { index: 1, begin: 3 * BLOCK, len: BLOCK });
    let mut take = |most| {
        let mut out = Vec::new();
        desk.swarm.take_upload(peer, most, &mut out);
        out.into_iter().map(|block| [block.piece.get(), block.begin, block.len]).collect::<Vec<_>>()
    };
    assert_eq!(take(2 * BLOCK), all[..2], "no more than fits");
    assert_eq!(take(1), all[2..3], "at least one");
    assert_eq!(take(BLOCK), all[4..], "what was cancelled is not there");
    assert_eq!(take(BLOCK), [[0; 3]; 0]);
    desk.swarm.sent(desk.now, peer, 12);
    assert_eq!(desk.swarm.totals().uploaded, 12);
}

#[test]
fn numbers_out_of_range_drop() {
    let reason = |message: Message<'_>| {
        let mut desk = Desk::new(BLOCK, 9, &[0]);
        let peer = desk.taker(1);
        desk.hear(peer, message);
        desk.drops().pop().map(|(_, reason)| reason)
    };
    let request = |index, begin, len| reason(Message::Request { index, begin, len });
    assert_eq!(reason(Message::Have(9)), Some(DropReason::NoSuchPiece(9)));
    assert_eq!(reason(Message::Have(8)), None);
    for (index, begin, len) in [(9, 0, 1), (0, 0, 0), (0, 1, BLOCK), (0, u32::MAX, 2), (0, 0, BLOCK + 1)] {
        assert_eq!(request(index, begin, len), Some(DropReason::BadRequest { index, begin, len }));
    }
    assert_eq!(request(0, BLOCK - 1, 1), None);
    // `taker` has said that it is interested: these bitfields are late.
    assert_eq!(reason(Message::Bitfield(&[0])), Some(DropReason::BadBitfield));
    assert_eq!(reason(Message::Bitfield(&[0, 1])), Some(DropReason::BadBitfield));
    assert_eq!(reason(Message::Bitfield(&[0x80, 0x80])), None);
    let mut desk = Desk::new(BLOCK, 9, &[]);
    let peer = desk.connect(true, 1).unwrap();
    assert!(desk.swarm.begin(desk.now, peer, [9, 0, BLOCK]).is_err());
    assert_eq!(desk.drops().len(), 1);
}

#[test]
fn bitfields_of_any_wrong_shape_drop() {
    for (bytes, good) in [(&[0x80, 0x80][..], true), (&[0x80], false), (&[0; 3], false), (&[0, 0x40], false)]
    {
        let mut desk = Desk::new(BLOCK, 9, &[]);
        let peer = desk.connect(true, 1).unwrap();
        desk.hear(peer, Message::KeepAlive);
        desk.hear(peer, Message::Bitfield(bytes));
        let expected = if good { vec![] } else { vec![(peer, DropReason::BadBitfield)] };
        assert_eq!(desk.drops(), expected, "{bytes:?}");
    }
}

#[test]
fn seeds_and_others_are_told_of_every_piece() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    let [seed, half] = [(1, &[0, 1, 2][..]), (2, &[0])].map(|(number, has)| desk.giver(number, has));
    for peer in [seed, half] {
        desk.say(peer);
    }
    for piece in [0, 1] {
        desk.requests(seed);
        desk.block_comes(seed, (piece, 0));
    }
    desk.settle(&[]);
    let haves = |said: Vec<Said>| {
        let haves =
            said.into_iter().filter_map(|said| if let Said::Have(piece) = said { Some(piece) } else { None });
        let mut haves: Vec<u32> = haves.collect();
        haves.sort_unstable();
        haves
    };
    assert_eq!(haves(desk.say(seed)), [0, 1], "by that it sees what its pieces have come to");
    assert_eq!(haves(desk.say(half)), [0, 1], "a super-seed may pretend to be such");
}

#[test]
fn silence_is_broken_after_100_s_and_ends_the_connection_after_150_s() {
    let mut desk = Desk::new(BLOCK, 9, &[]);
    let peer = desk.connect(true, 1).unwrap();
    desk.say(peer);
    desk.pass(99);
    desk.wishes();
    assert_eq!(desk.say(peer), []);
    desk.pass(1);
    assert!(desk.wishes().contains(&Wish::Wake(peer)));
    assert_eq!(desk.say(peer), [Said::KeepAlive]);
    assert_eq!(desk.say(peer), []);
    desk.pass(49);
    assert_eq!(desk.drops(), []);
    desk.hear(peer, Message::KeepAlive);
    desk.pass(149);
    assert_eq!(desk.drops(), []);
    desk.pass(1);
    assert_eq!(desk.drops(), [(peer, DropReason::Silent)]);
}

#[test]
fn of_two_connections_between_the_same_two_both_sides_keep_the_same() {
    // Our id is greater than 1 and less than 200: the connection that the greater one dialled stays.
    for (other, ours_stays) in [(1, true), (200, false)] {
        for ours_first in [true, false] {
            let mut desk = Desk::new(BLOCK, 9, &[]);
            let first = desk.connect(ours_first, other).unwrap();
            let second = desk.connect(!ours_first, other);
            if ours_first == ours_stays {
                assert_eq!(second, Err(DropReason::Duplicate));
                assert_eq!(desk.drops(), []);
            } else {
                assert!(second.is_ok());
                assert_eq!(desk.drops(), [(first, DropReason::Duplicate)]);
            }
            assert_eq!(desk.connect(true, other), Err(DropReason::Duplicate), "nor a third");
        }
    }
}

#[test]
fn who_is_not_wanted_is_refused() {
    let mut desk = Desk::new(BLOCK, 9, &[]);
    assert_eq!(desk.connect(true, 100), Err(DropReason::Ourselves));
    let first = desk.connect(true, 200).unwrap();
    (1..4).for_each(|number| assert!(desk.connect(true, number).is_ok()));
    assert_eq!(desk.connect(true, 5), Err(DropReason::Full(4)));
    assert!(desk.connect(false, 200).is_ok(), "it takes the place of its twin");
    assert_eq!(desk.drops(), [(first, DropReason::Duplicate)]);
}

#[test]
fn seeds_leave_seeds() {
    let mut desk = Desk::new(BLOCK, 2, &[0]);
    let giver = desk.giver(1, &[0, 1]);
    let taker = desk.taker(2);
    assert_eq!(desk.drops(), []);
    desk.say(giver);
    desk.block_comes(giver, (1, 0));
    let dropped = |wishes: Vec<Wish>| -> Vec<Wish> {
        wishes.into_iter().filter(|wish| matches!(wish, Wish::Drop(..))).collect()
    };
    assert_eq!(dropped(desk.settle(&[])), [Wish::Drop(giver, DropReason::BothSeeds)]);
    desk.hear(taker, Message::Have(0));
    desk.hear(taker, Message::Have(1));
    assert_eq!(desk.drops(), [(taker, DropReason::BothSeeds)]);
    let late = desk.connect(false, 3).unwrap();
    desk.hear(late, Message::Bitfield(&bits(2, &[0, 1])));
    assert_eq!(desk.drops(), [(late, DropReason::BothSeeds)]);
}

#[test]
fn addresses_are_dialled_and_tried_again_later() {
    let mut desk = Desk::new(BLOCK, 2, &[]);
    let addr = ([127, 0, 0, 1], 7).into();
    desk.swarm.add_candidate(addr, Source::Tracker);
    desk.pass(1);
    assert_eq!(desk.wishes(), [Wish::Dial(addr)]);
    desk.swarm.dial_failed(desk.now, addr);
    desk.pass(1);
    assert_eq!(desk.wishes(), []);
    desk.pass(2);
    assert_eq!(desk.wishes(), [Wish::Dial(addr)]);
    assert!(desk.swarm.next_deadline() <= desk.now + Duration::from_secs(1));
}

#[test]
fn a_late_bitfield_is_taken_as_so_many_haves() {
    let mut desk = Desk::new(BLOCK, 9, &[]);
    let peer = desk.connect(true, 1).unwrap();
    desk.hear(peer, Message::Have(8));
    desk.hear(peer, Message::Bitfield(&[0b0100_0000, 0]));
    desk.hear(peer, Message::Unchoke);
    let asked: std::collections::HashSet<u32> =
        desk.requests(peer).into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(asked, [1, 8].into(), "what it said before still holds");
    assert_eq!((desk.drops(), desk.swarm.totals().limits.offences), (vec![], 0), "nine bytes for seven");
    desk.hear(peer, Message::Bitfield(&[0b0100_0000, 0]));
    assert_eq!(desk.swarm.totals().limits.offences, 1);
}

#[test]
fn late_bitfields_are_forgiven_so_often_and_no_more() {
    let mut desk = Desk::new(BLOCK, 9, &[]);
    let peer = desk.connect(true, 1).unwrap();
    desk.hear(peer, Message::Have(8));
    (0..300).for_each(|_| desk.hear(peer, Message::Bitfield(&[0, 0])));
    assert_eq!((desk.drops(), desk.swarm.totals().limits.offences), (vec![], 300));
    // One of them is forgotten.
    desk.pass(61);
    desk.hear(peer, Message::Bitfield(&[0, 0]));
    assert_eq!(desk.drops(), []);
    desk.hear(peer, Message::Bitfield(&[0, 0]));
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
    assert_eq!(desk.swarm.totals().limits.offences, 302);
}

#[test]
fn who_never_had_a_slot_cannot_have_crossed_a_choke() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    let peer = desk.connect(false, 1).unwrap();
    (0..300).for_each(|_| desk.ask(peer, [0, 0, BLOCK]));
    assert_eq!((desk.drops(), desk.swarm.totals().limits.offences), (vec![], 300));
    desk.ask(peer, [0, 0, BLOCK]);
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
    assert_eq!(desk.swarm.totals().requests.refused, 301);
}

#[test]
fn when_there_is_no_room_the_idle_give_way() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    let [_, busy, first] = [1, 2, 3].map(|number| desk.connect(false, number).unwrap());
    let waiting = desk.taker(4);
    assert_eq!(desk.connect(false, 5), Err(DropReason::Full(4)), "nobody is idle yet");
    desk.pass(25);
    desk.swarm.sent(desk.now, busy, 12);
    desk.pass(6);
    desk.drops();
    let dropped = |desk: &mut Desk| desk.drops().into_iter().map(|(slot, _)| slot).collect::<Vec<_>>();
    desk.connect(false, 6).unwrap();
    desk.connect(false, 7).unwrap();
    assert!(dropped(&mut desk).contains(&first));
    desk.connect(false, 8).unwrap();
    assert_eq!(dropped(&mut desk), [waiting], "there may be something to trade with it");
    assert_eq!(desk.connect(false, 9), Err(DropReason::Full(4)), "the others are new or busy");
    assert_eq!(desk.swarm.totals().limits.peers, 5, "two refused, three dropped");
}
