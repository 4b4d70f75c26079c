//! Where a block's bytes go when several peers send it.

use super::desk::{BLOCK, Desk, Said, has_rate, own};
use crate::metainfo::Block;
use crate::swarm::{Completion, PeerSlot, Place, Wish};
use crate::wire::Message;
use std::ops::Range;
use std::time::Duration;

/// Blocks of the first piece.
fn blocks(range: Range<u32>) -> Vec<(u32, u32)> {
    range.map(|block| (0, block)).collect()
}

/// One block is left, of which a peer has sent so many bytes in a second. Another is asked for it, too, which takes as long for
/// all of it as `rate` says.
fn amid(filled: u32, rate: u64) -> (Desk, [PeerSlot; 2], Block) {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    let block = desk.block(0, 0);
    assert_eq!(desk.requests(a), [(0, 0)]);
    assert_eq!(begin(&mut desk, a), Place::Home);
    desk.swarm.trickled(desk.now, a, filled);
    desk.pass(1);
    assert_eq!(desk.requests(b), [(0, 0)]);
    has_rate(&mut desk, b, rate);
    (desk, [a, b], block)
}

fn begin(desk: &mut Desk, slot: PeerSlot) -> Place {
    desk.swarm.begin(desk.now, slot, [0, 0, BLOCK]).unwrap().1
}

#[test]
fn endgame_takes_the_first_and_cancels_at_the_losers() {
    let mut desk = Desk::new(4 * BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    assert_eq!(desk.requests(a), blocks(0..4));
    assert_eq!(desk.requests(b), [], "who was asked just now has had no time to answer");
    desk.pass(1);
    assert_eq!(desk.requests(b), [(0, 3)], "the last one of the longest queue");
    assert_eq!(desk.requests(a), []);
    assert_eq!(desk.lent(a, None, 9), blocks(0..3), "what two were asked for is for who begins it first");
    desk.swarm.returned(a, None);
    desk.wishes();
    assert_eq!(desk.block_comes(b, (0, 3)), (Place::Home, true));
    assert!(desk.wishes().contains(&Wish::Wake(a)));
    assert_eq!(desk.say(a), [Said::Cancel(0, 3)]);
    assert_eq!(desk.block_comes(a, (0, 3)), (Place::Nowhere, false), "it comes all the same");
    assert_eq!(desk.swarm.totals().wasted, u64::from(BLOCK));
    assert_eq!(desk.drops(), []);
    blocks(0..3).into_iter().for_each(|block| assert_eq!(desk.block_comes(a, block), (Place::Home, true)));
    desk.settle(&[]);
    assert_eq!(desk.swarm.totals().downloaded, u64::from(4 * BLOCK));
}

/// Taken back, the block comes all the same; amid it the peer is asked for it again, and is to send it once more.
#[test]
fn a_late_block_is_no_answer_to_what_was_asked_since_it_began() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    let block = desk.block(0, 0);
    assert_eq!(desk.requests(a), [(0, 0)]);
    desk.pass(1);
    assert_eq!(desk.requests(b), [(0, 0)]);
    assert_eq!(desk.block_comes(b, (0, 0)), (Place::Home, true));
    assert_eq!(desk.say(a), [Said::Cancel(0, 0)]);
    assert_eq!(begin(&mut desk, a), Place::Nowhere);
    // It was wrong.
    desk.settle(&[0]);
    assert_eq!(desk.requests(a), [(0, 0)]);
    assert_eq!(desk.swarm.complete(desk.now, a, &block, Place::Nowhere), Completion::Vain);
    assert_eq!(desk.requests(a), [], "it has a request to answer");
    assert_eq!(desk.block_comes(a, (0, 0)), (Place::Home, true));
    assert_eq!(desk.swarm.totals().limits.offences, 0);
    desk.settle(&[]);
    assert!(desk.swarm.is_seeding());
}

#[test]
fn who_is_slower_amid_a_block_leaves_its_place() {
    // A quarter has come in a second, so the rest takes three.
    for (seconds, expected) in [(1, Place::Home), (2, Place::Aside)] {
        let (mut desk, [a, b], block) = amid(BLOCK / 4, u64::from(BLOCK) / seconds);
        assert_eq!(begin(&mut desk, b), expected, "{seconds} s for all of it");
        let home = expected == Place::Home;
        assert_eq!((desk.swarm.is_home(a, &block), desk.swarm.is_home(b, &block)), (!home, home));
        assert_eq!(desk.lent(a, Some((0, 0)), 1).is_empty(), home, "its own place only");
        desk.swarm.returned(a, Some(block));
        let (first, other) =
            if home { ((b, expected), (a, Place::Home)) } else { ((a, Place::Home), (b, expected)) };
        assert_eq!(desk.swarm.complete(desk.now, first.0, &block, first.1), Completion::Taken);
        assert_eq!(desk.swarm.complete(desk.now, other.0, &block, other.1), Completion::Vain);
        desk.settle(&[]);
        assert_eq!(desk.swarm.totals().downloaded, u64::from(BLOCK));
    }
}

#[test]
fn whose_bytes_our_own_limit_keeps_waiting_is_not_slower_amid_a_block() {
    let (mut desk, [a, b], _) = amid(BLOCK / 4, u64::from(BLOCK));
    own(&mut desk).download_limit = Some(BLOCK.into());
    desk.swarm.lies_unread(desk.now, a, BLOCK.into());
    assert_eq!(begin(&mut desk, b), Place::Aside);
}

#[test]
fn a_place_in_which_a_receive_may_be_writing_is_kept() {
    let (mut desk, [a, b], block) = amid(BLOCK / 4, u64::from(BLOCK));
    assert_eq!(desk.lent(a, Some((0, 0)), 1), [(0, 0)]);
    assert_eq!(begin(&mut desk, b), Place::Aside);
    desk.swarm.returned(a, Some(block));
    // It stops there, chokes us, and the other goes: it is found, and the block is anybody's.
    desk.hear(a, Message::Choke);
    desk.swarm.gone(desk.now, b);
    let third = desk.giver(3, &[0]);
    let asked = (0..40).any(|_| {
        desk.pass(1);
        !desk.requests(third).is_empty()
    });
    assert!(asked, "it is held for ever");
}

/// That one may have nothing but heads to send.
#[test]
fn nobody_leaves_its_place_to_who_has_sent_nothing_yet() {
    let (mut desk, [_, b], _) = amid(BLOCK / 4, 0);
    desk.pass(20);
    assert_eq!(begin(&mut desk, b), Place::Aside);
}

#[test]
fn that_a_block_has_just_begun_does_not_make_its_peer_slow() {
    for (seconds, expected) in [(0, Place::Aside), (10, Place::Home)] {
        let (mut desk, [a, b], _) = amid(0, 20_000);
        has_rate(&mut desk, a, 10_000_000);
        desk.swarm.peers.get_mut(a).unwrap().begun = Some(desk.now);
        desk.now += Duration::from_secs(seconds) + Duration::from_millis(1);
        assert_eq!(begin(&mut desk, b), expected, "after {seconds} s");
    }
}

#[test]
fn a_block_is_asked_for_anew_when_who_took_its_place_goes() {
    let (mut desk, [a, b], block) = amid(BLOCK / 4, u64::from(BLOCK));
    assert_eq!(begin(&mut desk, b), Place::Home);
    desk.swarm.gone(desk.now, b);
    assert!(!desk.swarm.is_home(a, &block), "its beginning is lost");
    assert_eq!(desk.swarm.complete(desk.now, a, &block, Place::Home), Completion::Vain);
    assert_eq!(desk.requests(a), [(0, 0)]);
    assert_eq!(desk.block_comes(a, (0, 0)), (Place::Home, true));
}

#[test]
fn who_has_a_block_whole_beats_who_is_in_the_middle_of_it() {
    let (mut desk, [a, b], block) = amid(BLOCK / 4, 1);
    assert_eq!(desk.block_comes(b, (0, 0)), (Place::Aside, true), "it is slow, and then all is here at once");
    assert!(!desk.swarm.is_home(a, &block), "the rest of it goes nowhere");
    assert_eq!(desk.swarm.complete(desk.now, a, &block, Place::Home), Completion::Vain);
    desk.settle(&[]);
    assert_eq!(desk.swarm.totals().downloaded, u64::from(BLOCK));
}

#[test]
fn what_is_lent_stays_with_its_receiver() {
    let mut desk = Desk::new(64 * BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    let asked = desk.requests(a);
    desk.pass(29);
    assert_eq!(desk.lent(a, None, 2), asked[..2]);
    desk.pass(1);
    let to_b = desk.requests(b);
    assert_eq!(to_b[0], asked[2], "snubbed, but a receive may write into the first two");
    desk.swarm.returned(a, None);
    to_b.into_iter().for_each(|block| assert!(desk.block_comes(b, block).1));
    assert_eq!(desk.requests(b)[..2], asked[..2]);
}

#[test]
fn what_is_lent_is_not_taken_from_another() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    desk.requests(a);
    assert_eq!(desk.lent(a, None, 1), [(0, 0)]);
    desk.pass(1);
    assert_eq!(desk.requests(b), [(0, 0)]);
    assert_eq!(desk.block_comes(b, (0, 0)), (Place::Aside, false), "a receive may be writing there");
    assert_eq!(desk.block_comes(a, (0, 0)), (Place::Home, true));
}

#[test]
fn what_is_lent_behind_the_block_that_is_coming_is_not_taken_either() {
    let mut desk = Desk::new(2 * BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    desk.requests(a);
    assert_eq!(begin(&mut desk, a), Place::Home);
    assert_eq!(desk.lent(a, Some((0, 0)), 2), blocks(0..2));
    desk.pass(1);
    assert_eq!(desk.requests(b), [(0, 1)]);
    assert_eq!(desk.block_comes(b, (0, 1)), (Place::Aside, false), "a receive may be writing there");
    let first = desk.block(0, 0);
    desk.swarm.returned(a, Some(first));
    assert_eq!(desk.lent(a, Some((0, 0)), 2)[..1], [(0, 0)], "it goes on with the one before");
}
