//! What a seed sends first when its link is full, and what it leaves to others when all is in the swarm.

use super::desk::{BLOCK, Desk, Said};
use super::spreading::{comer, limited, pass, pass_half, suggested, unchoked};
use crate::metainfo::Layout;
use crate::swarm::{Commons, PeerSlot, Settings};
use crate::wire::{Message, Reserved};
use std::sync::Arc;

/// What is sent to the peer when there is room for so many blocks.
fn sent(desk: &mut Desk, slot: PeerSlot, blocks: u32) -> Vec<u32> {
    let mut sent: Vec<crate::metainfo::Block> = Vec::new();
    if desk.swarm.has_uploads(slot) {
        desk.swarm.take_upload(slot, blocks * BLOCK, &mut sent);
    }
    sent.into_iter().map(|block| block.piece.get()).collect()
}

/// Seconds pass in which as much goes out as may.
fn pass_busily(desk: &mut Desk, seconds: u32) {
    for _ in 0..seconds {
        let all: Vec<PeerSlot> = desk.swarm.peers.iter().map(|(slot, _)| slot).collect();
        let now = desk.now;
        all.into_iter().for_each(|slot| desk.swarm.sent(now, slot, u64::from(BLOCK)));
        pass(desk, 1);
    }
}

/// Two with a slot of a seed with this limit: the first was sent a piece, and asks for another that nobody has, the second for what
/// the first was sent.
fn begun(limit: Option<u64>) -> (Desk, [PeerSlot; 2], [u32; 2]) {
    let [mut desk] = limited(12, limit);
    let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
    pass_busily(&mut desk, 3);
    let open = suggested(&mut desk, first);
    desk.ask(first, [open[0], 0, BLOCK]);
    assert_eq!(sent(&mut desk, first, 9), [open[0]]);
    desk.ask(first, [open[1], 0, BLOCK]);
    desk.ask(second, [open[0], 0, BLOCK]);
    pass_busily(&mut desk, 1);
    (desk, [first, second], [open[0], open[1]])
}

#[test]
fn what_nobody_has_goes_first_when_the_link_is_full() {
    let (mut desk, [first, second], [old, next]) = begun(Some(u64::from(BLOCK)));
    assert_eq!(sent(&mut desk, second, 9), [0; 0]);
    let new = suggested(&mut desk, second)[0];
    desk.ask(second, [new, 0, BLOCK]);
    assert_eq!(sent(&mut desk, second, 1), [new], "it was asked for last");
    assert_eq!(sent(&mut desk, first, 9), [next]);
    pass_busily(&mut desk, 1);
    assert_eq!(sent(&mut desk, second, 9), [old], "nothing else waits");
}

#[test]
fn what_is_left_of_a_limit_goes_to_those_who_wait() {
    let (mut desk, [first, second], [old, _]) = begun(Some(u64::from(BLOCK)));
    let left_over = |desk: &mut Desk, slot: PeerSlot| {
        let (waits, mut sent) = (desk.swarm.waits_for_others(slot), Vec::new());
        desk.swarm.take_left_over(slot, BLOCK, &mut sent);
        (waits, sent.into_iter().map(|block: crate::metainfo::Block| block.piece.get()).collect::<Vec<_>>())
    };
    assert_eq!(left_over(&mut desk, first), (false, vec![]), "it waits for nobody");
    let now = desk.now;
    let leave = |desk: &mut Desk, at| desk.swarm.peers.get_mut(second).unwrap().leaves = at;
    leave(&mut desk, Some(now));
    assert_eq!(left_over(&mut desk, second), (false, vec![]), "it is to leave, and has begun no piece");
    leave(&mut desk, None);
    assert_eq!(left_over(&mut desk, second), (true, vec![old]));
    assert_eq!(left_over(&mut desk, second), (false, vec![]), "it asks for nothing more");
}

#[test]
fn what_others_have_does_not_wait_for_long_nor_while_the_link_has_room() {
    let (mut desk, [_, second], [old, _]) = begun(Some(u64::from(BLOCK)));
    pass_busily(&mut desk, 2);
    assert_eq!(sent(&mut desk, second, 9), [0; 0]);
    pass_busily(&mut desk, 2);
    assert_eq!(sent(&mut desk, second, 9), [old]);
    for limit in [None, Some(u64::from(100 * BLOCK))] {
        let (mut desk, [_, second], [old, _]) = begun(limit);
        assert_eq!(sent(&mut desk, second, 9), [old], "{limit:?}");
    }
}

#[test]
fn where_nobody_gives_anything_on_nobody_waits() {
    for (passed, waits) in [(1, true), (0, false)] {
        let (mut desk, [_, second], [old, _]) = begun(Some(u64::from(BLOCK)));
        (desk.swarm.precedence.given, desk.swarm.precedence.passed) = (18, passed);
        pass_busily(&mut desk, 1);
        let sent = sent(&mut desk, second, 9);
        assert_eq!(sent, if waits { vec![] } else { vec![old] }, "{passed}");
    }
}

/// It has not said that it has the piece, and may never.
#[test]
fn who_was_sent_another_piece_since_is_not_just_getting_the_one_before() {
    let (mut desk, [first, second], [old, next]) = begun(Some(u64::from(BLOCK / 8)));
    pass_busily(&mut desk, 5);
    assert_eq!(sent(&mut desk, second, 9), [0; 0], "there it comes from");
    assert_eq!(sent(&mut desk, first, 9), [next]);
    let theirs = [suggested(&mut desk, first), suggested(&mut desk, second)].concat();
    let new = (0..12).find(|piece| !theirs.contains(piece) && ![old, next].contains(piece)).unwrap();
    desk.ask(first, [new, 0, BLOCK]);
    pass_busily(&mut desk, 1);
    assert_eq!(sent(&mut desk, second, 9), [old]);
}

/// A seed of which nobody has said what its link takes. For seconds the first peer is sent a quarter of a block a second of `taken`
/// blocks; then it asks for something new, and the second one for what the first has got.
fn untold(taken: u32) -> (Desk, PeerSlot, u32) {
    let [mut desk] = limited(12, None);
    let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
    let open = suggested(&mut desk, first);
    open.iter().take(taken as usize).for_each(|piece| desk.ask(first, [*piece, 0, BLOCK]));
    assert_eq!(sent(&mut desk, first, 9), open[..taken as usize]);
    let pass_slowly = |desk: &mut Desk, seconds: u32| {
        for _ in 0..seconds * 2 {
            desk.swarm.sent(desk.now, first, u64::from(BLOCK / 8));
            pass_half(desk);
        }
    };
    pass_slowly(&mut desk, 7);
    let theirs = suggested(&mut desk, second);
    let new = (0..12).find(|piece| !open.contains(piece) && !theirs.contains(piece)).unwrap();
    desk.ask(first, [new, 0, BLOCK]);
    desk.ask(second, [open[0], 0, BLOCK]);
    pass_slowly(&mut desk, 1);
    (desk, second, open[0])
}

#[test]
fn a_link_that_all_wait_for_is_taken_for_full_though_nobody_has_said_so() {
    let (mut desk, second, _) = untold(3);
    assert_eq!(sent(&mut desk, second, 9), [0; 0]);
    let (mut desk, second, old) = untold(1);
    assert_eq!(sent(&mut desk, second, 9), [old], "there was room");
}

#[test]
fn what_is_on_its_way_to_a_peer_of_another_core_waits_like_that_of_the_own() {
    let mut desks: [Desk; 2] = limited(12, Some(u64::from(BLOCK)));
    let peers = [comer(&mut desks[0], 1), comer(&mut desks[1], 2)];
    let open = [0, 1].map(|core| suggested(&mut desks[core], peers[core]));
    desks[0].ask(peers[0], [open[0][0], 0, BLOCK]);
    desks[1].ask(peers[1], [open[0][1], 0, BLOCK]);
    for _ in 0..3 {
        desks.iter_mut().for_each(|desk| pass_busily(desk, 1));
    }
    assert_eq!(sent(&mut desks[1], peers[1], 9), [0; 0], "another core's peer is to have it");
    desks[1].ask(peers[1], [open[1][0], 0, BLOCK]);
    assert_eq!(sent(&mut desks[1], peers[1], 1), [open[1][0]], "its own goes first");
    assert_eq!(sent(&mut desks[0], peers[0], 9), [open[0][0]]);
}

/// A seed of pieces of four blocks, with a limit of a block a second and two slots.
fn seed_of_fours(pieces: u32) -> Desk {
    let layout = Arc::new(Layout::new((4 * BLOCK).into(), [u64::from(pieces * 4 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(pieces, 1));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let settings = Settings { most_peers: 10, upload_limit: Some(BLOCK.into()), ..Desk::settings() };
    let mut desk = Desk::with(layout, commons, 0, settings);
    desk.reserved = Reserved::ours(false);
    desk
}

fn ask_for(desk: &mut Desk, slot: PeerSlot, piece: u32) {
    (0..4).for_each(|block| desk.ask(slot, [piece, block * BLOCK, BLOCK]));
}

#[test]
fn who_has_begun_what_others_have_by_now_waits_and_who_has_begun_what_nobody_has_does_not() {
    for seen in [false, true] {
        let mut desk = seed_of_fours(12);
        let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
        let open = suggested(&mut desk, first);
        ask_for(&mut desk, first, open[0]);
        ask_for(&mut desk, second, open[0]);
        assert_eq!(sent(&mut desk, second, 1), [open[0]], "there is nothing else to send yet");
        ask_for(&mut desk, first, open[1]);
        assert_eq!(sent(&mut desk, first, 4), [open[0]; 4]);
        pass_busily(&mut desk, 3);
        if seen {
            desk.hear(first, Message::Have(open[0]));
            let third = comer(&mut desk, 3);
            desk.hear(third, Message::Have(open[0]));
        }
        let rest = if seen { vec![] } else { vec![open[0]; 3] };
        assert_eq!(sent(&mut desk, second, 9), rest, "seen: {seen}");
    }
}

#[test]
fn it_waits_as_long_as_it_takes_those_with_a_slot_to_get_and_give_a_piece() {
    let mut desk = seed_of_fours(12);
    let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
    let open = suggested(&mut desk, first);
    open.iter().for_each(|piece| ask_for(&mut desk, first, *piece));
    pass_busily(&mut desk, 3);
    ask_for(&mut desk, second, open[0]);
    // Each of the two has a piece in eight seconds.
    pass_busily(&mut desk, 15);
    assert_eq!(sent(&mut desk, second, 1), [0; 0]);
    pass_busily(&mut desk, 2);
    assert_eq!(sent(&mut desk, second, 4), [open[0]; 4], "all of it");
}

/// The last piece of a seed has gone to a peer that has given on what it got before, or not; another with a slot, which lacks it, and
/// many have got all the rest of each other.
fn last_piece_sent(gives: bool) -> (Desk, PeerSlot, u32) {
    let [mut desk] = limited(6, Some(u64::from(BLOCK)));
    let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
    // They want nothing of us, so that these two stay.
    let others: Vec<PeerSlot> = (3..=10).map(|number| desk.connect(false, number).unwrap()).collect();
    let open = [first, second].map(|slot| suggested(&mut desk, slot));
    let last = open[1][2];
    for (slot, pieces) in [(first, &open[0][..]), (second, &open[1][..2])] {
        for piece in pieces {
            desk.ask(slot, [*piece, 0, BLOCK]);
            assert_eq!(sent(&mut desk, slot, 1), [*piece]);
            desk.hear(slot, Message::Have(*piece));
            let given = gives || slot == first;
            others.iter().filter(|_| given).for_each(|other| desk.hear(*other, Message::Have(*piece)));
        }
    }
    desk.ask(second, [last, 0, BLOCK]);
    pass_busily(&mut desk, 3);
    assert_eq!([first, second].map(|slot| unchoked(&desk, slot)), [true, true]);
    assert_eq!(sent(&mut desk, second, 1), [last]);
    desk.hear(second, Message::Have(last));
    (desk, first, last)
}

#[test]
fn when_all_is_out_who_asks_for_what_others_give_is_sent_to_them_for_a_while() {
    let (mut desk, first, last) = last_piece_sent(true);
    desk.ask(first, [last, 0, BLOCK]);
    pass(&mut desk, 1);
    assert_eq!(sent(&mut desk, first, 1), [0; 0]);
    assert!(desk.say(first).contains(&Said::Reject(last, 0)));
    desk.ask(first, [last, 0, BLOCK]);
    assert!(
        !desk.say(first).contains(&Said::Reject(last, 0)),
        "who asks again at once is not refused at once"
    );
    pass(&mut desk, 1);
    assert!(desk.say(first).contains(&Said::Reject(last, 0)), "but again");
    pass(&mut desk, 6);
    desk.ask(first, [last, 0, BLOCK]);
    assert_eq!(sent(&mut desk, first, 1), [last], "they had time enough");
}

#[test]
fn when_all_is_out_what_only_such_have_as_give_nothing_on_is_sent_at_once() {
    let (mut desk, first, last) = last_piece_sent(false);
    desk.ask(first, [last, 0, BLOCK]);
    pass(&mut desk, 1);
    assert_eq!(sent(&mut desk, first, 1), [last]);
}

/// It may be that they are seeds by now, or that they are no more.
#[test]
fn what_is_gone_with_those_who_had_it_is_new_again() {
    let (mut desk, [first, second], [old, next]) = begun(Some(u64::from(BLOCK)));
    desk.hear(first, Message::Have(old));
    pass_busily(&mut desk, 1);
    assert_eq!(sent(&mut desk, second, 9), [0; 0]);
    let third = comer(&mut desk, 3);
    let now = desk.now;
    desk.swarm.gone(now, first);
    desk.wishes();
    desk.ask(third, [next, 0, BLOCK]);
    pass_busily(&mut desk, 1);
    assert_eq!(sent(&mut desk, second, 9), [old]);
}
