//! The fast extension (BEP 6): every request has one answer, and what is allowed is given and taken.

use super::desk::{BLOCK, Desk, Said, bits};
use crate::swarm::{DropReason, Greeting, PeerSlot, Wish};
use crate::wire::{Message, Reserved};
use std::time::Duration;

/// A desk whose peers speak the fast extension and nothing else.
fn desk(piece_length: u32, pieces: u32, have: &[u32]) -> Desk {
    let mut desk = Desk::new(piece_length, pieces, have);
    desk.reserved = Reserved([0, 0, 0, 0, 0, 0, 0, 4]);
    desk
}

fn taken(desk: &mut Desk, peer: PeerSlot) -> Vec<u32> {
    let mut out = Vec::new();
    desk.swarm.take_upload(peer, u32::MAX, &mut out);
    out.into_iter().map(|block: crate::metainfo::Block| block.piece.get()).collect()
}

#[test]
fn the_first_word_is_short_when_it_can_be() {
    let first = |have: &[u32]| {
        let mut desk = desk(BLOCK, 10, have);
        let peer = desk.connect(false, 1).unwrap();
        desk.say(peer)
    };
    assert_eq!(first(&[]), [Said::HaveNone]);
    assert_eq!(first(&(0..10).collect::<Vec<_>>()), [Said::HaveAll]);
    assert_eq!(first(&[0, 9]), [Said::Bitfield(vec![0x80, 0x40])]);
}

#[test]
fn what_peers_have_is_heard_from_a_short_word_too() {
    let mut desk = desk(BLOCK, 3, &[0]);
    let all = desk.connect(true, 1).unwrap();
    desk.hear(all, Message::HaveAll);
    desk.hear(all, Message::Unchoke);
    let none = desk.connect(true, 2).unwrap();
    desk.hear(none, Message::HaveNone);
    let said = desk.say(all);
    assert!(said.contains(&Said::Interested) && said.contains(&Said::Request(1, 0)), "{said:?}");
    assert!(!desk.say(none).contains(&Said::Interested));
    let mut seed = desk_of_a_seed();
    let peer = seed.connect(false, 1).unwrap();
    seed.hear(peer, Message::HaveAll);
    assert_eq!(seed.drops(), [(peer, DropReason::BothSeeds)]);
}

fn desk_of_a_seed() -> Desk {
    desk(BLOCK, 3, &[0, 1, 2])
}

#[test]
fn without_agreement_its_messages_drop_the_peer() {
    let messages = [
        Message::HaveAll,
        Message::HaveNone,
        Message::Suggest(0),
        Message::AllowedFast(0),
        Message::Reject { index: 0, begin: 0, len: BLOCK },
        Message::Extended { id: 0, payload: b"de" },
    ];
    for message in messages {
        let mut desk = Desk::new(BLOCK, 3, &[]);
        let peer = desk.connect(true, 1).unwrap();
        desk.hear(peer, message);
        assert_eq!(desk.drops(), [(peer, DropReason::NotNegotiated)], "{message:?}");
    }
}

#[test]
fn each_request_that_is_not_served_is_rejected_once() {
    let mut desk = desk(4 * BLOCK, 100, &[0, 1]);
    let peer = desk.taker(1);
    let piece = |index| [0, index * BLOCK, BLOCK];
    desk.ask(peer, [50, 0, BLOCK]);
    assert_eq!(desk.say(peer), [Said::Reject(50, 0)], "we lack the piece");
    (0..4).for_each(|index| desk.ask(peer, piece(index)));
    desk.ask(peer, piece(1));
    desk.hear(peer, Message::Cancel { index: 0, begin: BLOCK, len: BLOCK });
    desk.hear(peer, Message::Cancel { index: 0, begin: BLOCK, len: BLOCK });
    assert_eq!(desk.say(peer), [Said::Reject(0, 1), Said::Reject(0, 1)], "it was asked for twice");
    desk.hear(peer, Message::NotInterested);
    assert_eq!(desk.say(peer), [0, 2, 3].map(|index| Said::Reject(0, index)));
    desk.ask(peer, piece(0));
    assert_eq!(taken(&mut desk, peer), [0]);
    desk.hear(peer, Message::Cancel { index: 0, begin: 0, len: BLOCK });
    assert_eq!(desk.say(peer), [], "the block is the answer");
    desk.ask(peer, [0, 0, 2 * BLOCK]);
    assert_eq!(desk.say(peer), [Said::Reject(0, 0)], "too long for us");
    desk.ask(peer, [0, 3 * BLOCK, 2 * BLOCK]);
    let [(_, DropReason::BadRequest { .. })] = desk.drops()[..] else { panic!("beyond the piece") };
}

#[test]
fn a_full_queue_rejects_and_who_never_reads_is_dropped() {
    let mut desk = desk(BLOCK, 100, &[0]);
    let peer = desk.taker(1);
    (0..2001).for_each(|_| desk.ask(peer, [0, 0, BLOCK]));
    assert_eq!(desk.say(peer), [Said::Reject(0, 0)]);
    (0..4000).for_each(|_| desk.ask(peer, [0, 0, BLOCK]));
    assert_eq!(desk.drops(), []);
    desk.ask(peer, [0, 0, BLOCK]);
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
}

#[test]
fn rejects_that_wait_have_a_bound_however_they_come_to_be_owed() {
    let mut desk = desk(BLOCK, 100, &[0]);
    let peer = desk.taker(1);
    for round in 0..4 {
        assert_eq!(desk.drops(), [], "in round {round}");
        (0..2000).for_each(|_| desk.ask(peer, [0, 0, BLOCK]));
        desk.hear(peer, Message::NotInterested);
        desk.hear(peer, Message::Interested);
    }
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
}

/// The pieces allowed to 127.0.0.x of a torrent of 100 pieces.
fn allowed() -> Vec<u32> {
    super::super::fast::allowed_fast(10, 100, &Greeting::default().info_hash, [127, 0, 0, 1].into())
}

#[test]
fn who_has_nothing_may_have_some_pieces_while_choked() {
    let set = allowed();
    let (first, second) = (set[0], set[1]);
    let other = (0..100).find(|piece| !set.contains(piece)).unwrap();
    let mut desk = desk(BLOCK, 100, &[first, second, other]);
    let peer = desk.connect(false, 1).unwrap();
    desk.say(peer);
    desk.hear(peer, Message::HaveNone);
    assert_eq!(desk.say(peer), [Said::AllowedFast(first), Said::AllowedFast(second)]);
    desk.ask(peer, [first, 0, BLOCK]);
    desk.ask(peer, [other, 0, BLOCK]);
    assert_eq!(desk.say(peer), [Said::Reject(other, 0)]);
    assert_eq!(taken(&mut desk, peer), [first]);
    (0..3).for_each(|_| desk.ask(peer, [first, 0, BLOCK]));
    assert_eq!((taken(&mut desk, peer), desk.say(peer)), (vec![first; 2], vec![Said::Reject(first, 0)]));
    let totals = desk.swarm.totals();
    assert_eq!(totals.limits.offences, 2, "a piece that is not allowed, and one for the fourth time");
    assert_eq!(totals.requests.refused, 2);
    // What is taken back was not had.
    for _ in 0..9 {
        desk.ask(peer, [second, 0, BLOCK]);
        desk.hear(peer, Message::Cancel { index: second, begin: 0, len: BLOCK });
        assert_eq!((taken(&mut desk, peer), desk.say(peer)), (vec![], vec![Said::Reject(second, 0)]));
    }
    (0..3).for_each(|_| desk.ask(peer, [second, 0, BLOCK]));
    assert_eq!((taken(&mut desk, peer), desk.swarm.totals().limits.offences), (vec![second; 3], 2));
    let full = desk.connect(false, 2).unwrap();
    desk.say(full);
    desk.hear(full, Message::Bitfield(&bits(100, &(0..10).collect::<Vec<_>>())));
    assert!(desk.say(full).iter().all(|said| !matches!(said, Said::AllowedFast(_))), "it can trade");
}

#[test]
fn late_words_on_what_a_peer_has_take_nothing_back_and_are_forgiven_so_often() {
    for late in [Message::HaveAll, Message::HaveNone] {
        for first in [Message::HaveNone, Message::Bitfield(&[0x80]), Message::Have(0)] {
            let mut desk = desk(BLOCK, 3, &[]);
            let peer = desk.connect(true, 1).unwrap();
            let told = |desk: &Desk| desk.swarm.peers.get(peer).unwrap().has.count();
            desk.hear(peer, first);
            // The first one that says so is worth its bytes.
            let (expected, worth) = if late == Message::HaveAll { (3, 1) } else { (told(&desk), 0) };
            (0..300 + worth).for_each(|_| desk.hear(peer, late));
            assert_eq!((told(&desk), desk.drops()), (expected, vec![]), "{late:?} behind {first:?}");
            desk.hear(peer, late);
            assert_eq!(desk.drops(), [(peer, DropReason::Offences)], "{late:?} behind {first:?}");
            assert_eq!(desk.swarm.totals().limits.offences, 301);
        }
    }
}

/// WebTorrent says that it is interested before it says that it has nothing.
#[test]
fn the_first_word_on_what_a_peer_has_may_come_behind_what_says_nothing_of_it() {
    let aside = [
        Message::Unchoke,
        Message::Choke,
        Message::Interested,
        Message::NotInterested,
        Message::Suggest(1),
        Message::AllowedFast(1),
        Message::KeepAlive,
    ];
    for (first, pieces) in [(Message::HaveNone, 0), (Message::HaveAll, 3), (Message::Bitfield(&[0x80]), 1)] {
        let mut desk = desk(BLOCK, 3, &[]);
        let peer = desk.connect(true, 1).unwrap();
        aside.iter().for_each(|message| desk.hear(peer, *message));
        desk.hear(peer, first);
        let has = desk.swarm.peers.get(peer).unwrap().has.count();
        assert_eq!((has, desk.swarm.totals().limits.offences), (pieces, 0), "{first:?}");
    }
}

/// It has lost its slot for a moment, and no more.
#[test]
fn who_rejects_because_it_chokes_us_is_asked_as_soon_as_it_does_no_more() {
    let mut desk = desk(200 * BLOCK, 2, &[]);
    desk.window = Some(150);
    let peer = desk.giver(1, &[0, 1]);
    let asked = desk.requests(peer);
    assert_eq!(asked.len(), 150);
    desk.hear(peer, Message::Choke);
    for (piece, index) in asked {
        desk.hear(peer, Message::Reject { index: piece, begin: index * BLOCK, len: BLOCK });
    }
    assert_eq!(desk.requests(peer), []);
    desk.hear(peer, Message::Unchoke);
    assert_ne!(desk.requests(peer), []);
}

#[test]
fn a_choke_rejects_all_but_what_is_allowed() {
    let set = allowed();
    let (free, other) = (set[0], (0..100).find(|piece| !set.contains(piece)).unwrap());
    let mut desk = desk(BLOCK, 100, &[free, other]);
    let peer = desk.connect(false, 1).unwrap();
    desk.hear(peer, Message::HaveNone);
    desk.hear(peer, Message::Interested);
    assert!(desk.say(peer).contains(&Said::Unchoke));
    [free, other, free].into_iter().for_each(|piece| desk.ask(peer, [piece, 0, BLOCK]));
    let now = desk.now;
    desk.swarm.set_unchoked(now, peer, false);
    assert_eq!(desk.say(peer), [Said::Choke, Said::Reject(other, 0)]);
    assert_eq!(taken(&mut desk, peer), [free, free]);
}

/// Nobody fills the queue while it has a slot, to be served ever more of what is allowed when it has lost it.
#[test]
fn what_is_allowed_is_sent_behind_a_choke_as_often_as_to_who_asks_then() {
    let free = allowed()[0];
    let mut desk = desk(BLOCK, 100, &[free]);
    let peer = desk.connect(false, 1).unwrap();
    desk.hear(peer, Message::HaveNone);
    desk.hear(peer, Message::Interested);
    assert!(desk.say(peer).contains(&Said::Unchoke));
    (0..5).for_each(|_| desk.ask(peer, [free, 0, BLOCK]));
    let now = desk.now;
    desk.swarm.set_unchoked(now, peer, false);
    assert_eq!(desk.say(peer), [Said::Choke, Said::Reject(free, 0), Said::Reject(free, 0)]);
    assert_eq!(taken(&mut desk, peer), [free; 3]);
    desk.ask(peer, [free, 0, BLOCK]);
    assert_eq!(desk.say(peer), [Said::Reject(free, 0)], "it has had it");
}

#[test]
fn allowed_pieces_are_asked_for_while_choked_once_the_peer_has_them() {
    let mut desk = desk(BLOCK, 10, &[]);
    let peer = desk.connect(true, 1).unwrap();
    desk.hear(peer, Message::AllowedFast(3));
    assert!(desk.requests(peer).is_empty(), "it is not said to have it");
    desk.hear(peer, Message::Bitfield(&bits(10, &[3, 4])));
    desk.hear(peer, Message::AllowedFast(5));
    assert_eq!(desk.requests(peer), [(3, 0)]);
    desk.hear(peer, Message::Have(5));
    assert_eq!(desk.requests(peer), [(5, 0)]);
    desk.hear(peer, Message::Unchoke);
    assert_eq!(desk.requests(peer), [(4, 0)]);
    desk.hear(peer, Message::Choke);
    assert!(desk.block_comes(peer, (3, 0)).1, "still awaited");
    desk.hear(peer, Message::Reject { index: 4, begin: 0, len: BLOCK });
    assert_eq!(desk.swarm.totals().limits.offences, 0, "the answer to what it was asked before");
    desk.hear(peer, Message::Reject { index: 5, begin: 0, len: BLOCK });
    assert!(desk.requests(peer).is_empty(), "it has changed its mind");
    desk.hear(peer, Message::AllowedFast(10));
    assert_eq!(desk.drops(), [(peer, DropReason::NoSuchPiece(10))]);
}

#[test]
fn what_is_allowed_over_and_over_counts_once() {
    let mut desk = desk(BLOCK, 100, &[]);
    let peer = desk.connect(true, 1).unwrap();
    let allow = |desk: &mut Desk, pieces: std::ops::Range<u32>| {
        pieces.for_each(|piece| desk.hear(peer, Message::AllowedFast(piece)));
        desk.swarm.totals().limits.offences
    };
    desk.hear(peer, Message::Bitfield(&bits(100, &[0])));
    // Of one that it has, and of one that it has not yet.
    for _ in 0..100 {
        assert_eq!(allow(&mut desk, 0..2), 0);
    }
    assert_eq!(desk.requests(peer), [(0, 0)]);
    desk.hear(peer, Message::Have(1));
    assert_eq!(allow(&mut desk, 1..2), 0);
    // There is room for as many others as if each had been said once.
    assert_eq!((allow(&mut desk, 2..64), allow(&mut desk, 64..65)), (0, 1));
}

#[test]
fn what_one_rejects_another_is_asked_for_and_a_peer_that_rejects_everything_is_left_alone() {
    let mut desk = desk(BLOCK, 1, &[]);
    let peer = desk.giver(1, &[0]);
    assert_eq!(desk.requests(peer), [(0, 0)]);
    desk.hear(peer, Message::Reject { index: 0, begin: 0, len: BLOCK });
    let other = desk.giver(2, &[0]);
    assert_eq!(desk.requests(other), [(0, 0)]);
    desk.hear(other, Message::Reject { index: 0, begin: 0, len: BLOCK });
    let mut asked = 0;
    while desk.requests(peer) == [(0, 0)] {
        desk.hear(peer, Message::Reject { index: 0, begin: 0, len: BLOCK });
        asked += 1;
    }
    assert!(asked <= 64, "{asked} requests in no time");
    desk.hear(peer, Message::Reject { index: 0, begin: 0, len: BLOCK });
    assert_eq!(desk.drops(), [], "one too many is no more than an offence");
}

/// The peer, which speaks no fast extension, gives us a slot, is asked for something, and takes it back after so many milliseconds.
/// Says how many requests it got, and whether that woke the other.
fn tease(desk: &mut Desk, peer: PeerSlot, other: PeerSlot, millis: u64) -> (usize, bool) {
    desk.hear(peer, Message::Unchoke);
    let asked = desk.requests(peer).len();
    desk.requests(other);
    desk.now += Duration::from_millis(millis);
    desk.wishes();
    desk.hear(peer, Message::Choke);
    (asked, desk.wishes().contains(&Wish::Wake(other)))
}

#[test]
fn who_takes_its_slot_back_over_and_over_is_snubbed_and_no_longer_keeps_others_busy() {
    let mut desk = Desk::new(BLOCK, 9, &[]);
    // One that could be asked for more, but for nothing that the first has.
    let (peer, other) = (desk.giver(1, &[0, 1, 2, 3, 4, 5]), desk.giver(2, &[8]));
    assert_eq!(desk.requests(other), [(8, 0)]);
    let before: Vec<_> = (0..7).map(|_| tease(&mut desk, peer, other, 0)).collect();
    assert!(before.iter().all(|(asked, woke)| *asked > 1 && *woke), "{before:?}");
    // A block makes it good.
    desk.hear(peer, Message::Unchoke);
    let first = desk.requests(peer)[0];
    assert!(desk.block_comes(peer, first).1);
    desk.hear(peer, Message::Choke);
    (0..6).for_each(|_| assert!(tease(&mut desk, peer, other, 0).1));
    assert!(!desk.swarm.peers.get(peer).unwrap().snubbed);
    assert_eq!(desk.swarm.totals().limits.unanswered, 0);
    let (asked, woke) = tease(&mut desk, peer, other, 0);
    assert!(asked > 1 && !woke && desk.swarm.peers.get(peer).unwrap().snubbed);
    assert_eq!(desk.swarm.totals().limits.unanswered, asked as u64);
    desk.pass(1);
    assert!(desk.wishes().contains(&Wish::Wake(other)), "who waits is looked after all the same");
    (0..299).for_each(|_| assert_eq!(tease(&mut desk, peer, other, 0), (1, false)));
    let ends =
        |desk: &Desk| (desk.swarm.totals().limits.offences, desk.swarm.peers.get(peer).unwrap().dropped);
    assert_eq!(ends(&desk), (300, false));
    tease(&mut desk, peer, other, 0);
    assert_eq!(ends(&desk), (301, true));
}

/// Under the fast extension what it was asked for comes back one by one.
#[test]
fn a_choke_with_its_rejects_is_one_turn_in_vain_however_much_was_asked() {
    let mut desk = desk(BLOCK, 20_000, &[]);
    let all: Vec<u32> = (0..20_000).collect();
    let peer = desk.giver(1, &all);
    desk.swarm.peers.get_mut(peer).unwrap().reqq = Some(2000);
    let snubbed = |desk: &Desk| desk.swarm.peers.get(peer).unwrap().snubbed;
    let mut open = Vec::new();
    for _ in 0..100 {
        open.extend(desk.requests(peer));
        if open.len() > 300 {
            break;
        }
        desk.now += Duration::from_millis(10);
        for block in open.drain(..) {
            desk.block_comes(peer, block);
        }
    }
    assert!(open.len() > 300, "{} requests", open.len());
    for turn in 1..=8 {
        desk.hear(peer, Message::Choke);
        for (index, begin) in open.drain(..) {
            desk.hear(peer, Message::Reject { index, begin, len: BLOCK });
        }
        assert_eq!(snubbed(&desk), turn == 8, "turn {turn}");
        desk.pass(10);
        desk.hear(peer, Message::Unchoke);
        open.extend(desk.requests(peer));
        assert!(!open.is_empty(), "it has another chance");
    }
}

#[test]
fn a_choke_said_again_before_the_rejects_is_no_further_turn() {
    let mut desk = desk(BLOCK, 9, &[]);
    let peer = desk.giver(1, &[0, 1, 2]);
    assert!(!desk.requests(peer).is_empty());
    (0..1000).for_each(|_| desk.hear(peer, Message::Choke));
    assert!(!desk.swarm.peers.get(peer).unwrap().snubbed);
    assert_eq!((desk.swarm.totals().limits.offences, desk.drops()), (0, vec![]));
}

#[test]
fn a_slow_peer_whose_slots_are_too_short_for_a_block_is_not_dropped() {
    let mut desk = Desk::new(BLOCK, 9, &[]);
    let (peer, other) = (desk.giver(1, &[0, 1, 2, 3, 4, 5]), desk.giver(2, &[8]));
    for _ in 0..1000 {
        assert!(tease(&mut desk, peer, other, 10_000).0 > 0, "it is asked again");
    }
    assert!(desk.swarm.totals().limits.offences == 0 && !desk.swarm.peers.get(peer).unwrap().dropped);
}

#[test]
fn what_a_snubbed_peer_rejects_others_are_asked_for_by_the_next_tick() {
    let mut desk = desk(BLOCK, 9, &[]);
    let (peer, other) = (desk.giver(1, &[0, 1, 2]), desk.giver(2, &[8]));
    assert_eq!(desk.requests(other), [(8, 0)]);
    let reject = |desk: &mut Desk, (index, _): (u32, u32)| {
        desk.requests(other);
        desk.wishes();
        desk.hear(peer, Message::Reject { index, begin: 0, len: BLOCK });
        desk.wishes().contains(&Wish::Wake(other))
    };
    // All that it is asked for until it is left alone; how many requests that were, and how many rejects woke the other.
    let reject_all = |desk: &mut Desk| {
        let (mut all, mut woke) = (0, 0);
        loop {
            let asked = desk.requests(peer);
            if asked.is_empty() {
                return (all, woke);
            }
            all += asked.len();
            woke += asked.into_iter().filter(|request| reject(desk, *request)).count();
        }
    };
    let mut woken = 0;
    for _ in 0..20 {
        woken += reject_all(&mut desk).1;
        desk.pass(1);
    }
    assert_eq!(woken, 255, "until it counts as one that does not send");
    assert_eq!(reject_all(&mut desk), (1, 0), "at a tick");
}

#[test]
fn a_suggested_piece_is_asked_for_first() {
    for hint in [2, 7] {
        let mut desk = desk(BLOCK, 10, &[]);
        let peer = desk.connect(true, 1).unwrap();
        desk.hear(peer, Message::HaveAll);
        desk.hear(peer, Message::Suggest(hint));
        desk.hear(peer, Message::Unchoke);
        assert_eq!(desk.requests(peer)[0], (hint, 0));
    }
}
