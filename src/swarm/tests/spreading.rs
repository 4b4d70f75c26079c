//! What a lone seed suggests to whom, and who comes first when not all pass on what they get.

use super::desk::{BLOCK, Desk, Said};
use crate::metainfo::Layout;
use crate::swarm::{Commons, PeerSlot, Settings};
use crate::wire::{Message, Reserved};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A seed of so many pieces of one block, with two slots.
fn seed(pieces: u32) -> Desk {
    let [desk] = cores(pieces);
    desk
}

/// The same on several cores.
pub(super) fn cores<const CORES: usize>(pieces: u32) -> [Desk; CORES] {
    limited(pieces, None)
}

/// The same with a limit of what goes up.
pub(super) fn limited<const CORES: usize>(pieces: u32, upload_limit: Option<u64>) -> [Desk; CORES] {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(pieces * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(pieces, CORES));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    std::array::from_fn(|core| {
        let settings = Settings { most_peers: 10, upload_limit, ..Desk::settings() };
        let mut desk = Desk::with(Arc::clone(&layout), Arc::clone(&commons), core, settings);
        desk.reserved = Reserved::ours(false);
        desk
    })
}

/// Somebody comes with nothing, and wants something.
pub(super) fn comer(desk: &mut Desk, number: u8) -> PeerSlot {
    let slot = desk.connect(false, number).unwrap();
    desk.hear(slot, Message::HaveNone);
    desk.hear(slot, Message::Interested);
    slot
}

pub(super) fn suggested(desk: &mut Desk, slot: PeerSlot) -> Vec<u32> {
    let piece = |said| if let Said::Suggest(piece) = said { Some(piece) } else { None };
    desk.say(slot).into_iter().filter_map(piece).collect()
}

pub(super) fn unchoked(desk: &Desk, slot: PeerSlot) -> bool {
    desk.swarm.peers.get(slot).unwrap().unchoked
}

/// Time passes; whoever has a slot makes use of it.
pub(super) fn pass(desk: &mut Desk, seconds: u32) {
    (0..seconds * 2).for_each(|_| pass_half(desk));
}

/// Half a second of it.
pub(super) fn pass_half(desk: &mut Desk) {
    desk.now += Duration::from_millis(500);
    desk.swarm.peers.iter_mut().for_each(|(_, peer)| peer.last_asked = desk.now);
    desk.swarm.tick(desk.now);
}

#[test]
fn each_new_piece_is_suggested_to_one_peer_and_a_few_at_once() {
    let mut desk = seed(12);
    let peers = [1, 2].map(|number| comer(&mut desk, number));
    let first = peers.map(|peer| suggested(&mut desk, peer));
    assert_eq!(first.each_ref().map(Vec::len), [3, 3]);
    let all: BTreeSet<u32> = first.iter().flatten().copied().collect();
    assert_eq!(all.len(), 6, "nobody is suggested what another was: {first:?}");
    desk.hear(peers[0], Message::Have(first[0][0]));
    let next = suggested(&mut desk, peers[0]);
    assert!(next.len() == 1 && !all.contains(&next[0]), "one more for the one that came: {next:?}");
    assert_eq!(suggested(&mut desk, peers[1]), [0; 0]);
}

/// A message between two blocks costs whoever has laid out where they belong.
#[test]
fn the_only_one_who_wants_something_is_suggested_nothing_amid_blocks() {
    for core in [0, 1] {
        let mut desks: [Desk; 2] = cores(12);
        let first = comer(&mut desks[0], 1);
        let open = suggested(&mut desks[0], first);
        assert_eq!(open.len(), 3, "it begins with them");
        for piece in &open[..2] {
            desks[0].hear(first, Message::Have(*piece));
            assert_eq!(suggested(&mut desks[0], first), [0; 0]);
        }
        let second = comer(&mut desks[core], 2);
        pass(&mut desks[0], 1);
        let more = suggested(&mut desks[0], first);
        assert_eq!(more.len(), 2, "somebody may ask for the same: core {core}");
        desks[core].hear(second, Message::NotInterested);
        desks[0].hear(first, Message::Have(more[0]));
        assert_eq!(
            suggested(&mut desks[0], first),
            [0; 0],
            "it has a slot, and nothing to ask for: core {core}"
        );
    }
}

#[test]
fn who_waits_for_the_only_slot_may_ask_for_the_same() {
    let mut desk = seed(12);
    desk.swarm.settings.seed_slots = 1;
    pass(&mut desk, 1);
    let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
    assert_eq!([first, second].map(|peer| unchoked(&desk, peer)), [true, false]);
    let open = suggested(&mut desk, first);
    desk.hear(first, Message::Have(open[0]));
    assert_eq!(suggested(&mut desk, first).len(), 1);
}

#[test]
fn who_is_no_lone_seed_or_has_no_slot_to_give_suggests_nothing() {
    let mut desk = seed(12);
    let peers = [1, 2, 3].map(|number| comer(&mut desk, number));
    assert_eq!(suggested(&mut desk, peers[2]), [0; 0], "it is choked");
    let mut leech = Desk::new(BLOCK, 4, &[0, 1]);
    leech.reserved = Reserved::ours(false);
    let peer = comer(&mut leech, 1);
    assert_eq!(suggested(&mut leech, peer), [0; 0]);
}

#[test]
fn what_others_have_is_not_suggested() {
    let mut desk = seed(6);
    let other = comer(&mut desk, 1);
    let open = suggested(&mut desk, other);
    let rest: Vec<u32> = (0..6).filter(|piece| !open.contains(piece)).collect();
    desk.hear(other, Message::Have(rest[0]));
    let peer = comer(&mut desk, 2);
    let mut found = suggested(&mut desk, peer);
    found.sort_unstable();
    assert_eq!(found, rest[1..]);
}

#[test]
fn what_was_suggested_to_one_that_loses_its_slot_is_for_others_unless_it_was_sent() {
    for served in [false, true] {
        let mut desk = seed(3);
        let first = comer(&mut desk, 1);
        let open = suggested(&mut desk, first);
        if served {
            desk.ask(first, [open[0], 0, BLOCK]);
            desk.swarm.take_upload(first, BLOCK, &mut Vec::new());
        }
        let [second, third] = [2, 3].map(|number| comer(&mut desk, number));
        assert_eq!(suggested(&mut desk, second), [0; 0]);
        desk.hear(first, Message::NotInterested);
        let mut found = suggested(&mut desk, third);
        found.sort_unstable();
        let mut expected = open[usize::from(served)..].to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "served: {served}");
    }
}

#[test]
fn who_keeps_to_itself_what_it_got_of_a_seed_gives_way_to_who_waits() {
    for passes_on in [false, true] {
        let mut desk = seed(12);
        let [first, second, third] = [1, 2, 3].map(|number| comer(&mut desk, number));
        for _ in 0..2 {
            let piece = suggested(&mut desk, first)[0];
            desk.hear(first, Message::Have(piece));
            if passes_on {
                desk.hear(second, Message::Have(piece));
            }
        }
        pass(&mut desk, 12);
        assert!(unchoked(&desk, second));
        assert_eq!((unchoked(&desk, first), unchoked(&desk, third)), (passes_on, !passes_on));
    }
}

#[test]
fn what_the_seed_itself_sent_to_two_was_passed_on_by_nobody() {
    let mut desk = seed(12);
    let [first, second, third] = [1, 2, 3].map(|number| comer(&mut desk, number));
    for _ in 0..2 {
        let piece = suggested(&mut desk, first)[0];
        desk.hear(first, Message::Have(piece));
        desk.ask(second, [piece, 0, BLOCK]);
        desk.swarm.take_upload(second, BLOCK, &mut Vec::new());
        desk.hear(second, Message::Have(piece));
    }
    pass(&mut desk, 12);
    assert_eq!([first, second, third].map(|peer| unchoked(&desk, peer)), [false, true, true]);
}

/// The peer asks for the next piece that it was suggested, and is sent it.
fn serve(desk: &mut Desk, slot: PeerSlot, piece: u32) {
    desk.ask(slot, [piece, 0, BLOCK]);
    let mut sent = Vec::new();
    desk.swarm.take_upload(slot, BLOCK, &mut sent);
    assert_eq!(sent.len(), 1);
    pass(desk, 1);
}

#[test]
fn a_newcomer_has_a_turn_of_one_piece_until_it_passes_one_on() {
    let mut desk = seed(12);
    let [first, second] = [1, 2].map(|number| comer(&mut desk, number));
    let open = suggested(&mut desk, first);
    serve(&mut desk, first, open[0]);
    assert!(unchoked(&desk, first), "nobody waits");
    let third = comer(&mut desk, 3);
    serve(&mut desk, first, open[1]);
    assert_eq!([first, second, third].map(|peer| unchoked(&desk, peer)), [false, true, true]);
    // One of them is seen elsewhere.
    for peer in [first, second] {
        desk.hear(peer, Message::Have(open[1]));
    }
    desk.hear(third, Message::NotInterested);
    assert!(unchoked(&desk, first));
    let fourth = comer(&mut desk, 4);
    let open = suggested(&mut desk, first);
    for piece in [open[0], open[1]] {
        serve(&mut desk, first, piece);
        assert!(unchoked(&desk, first), "it gives: piece {piece}");
        desk.hear(first, Message::Have(piece));
    }
    let next = suggested(&mut desk, first)[0];
    serve(&mut desk, first, next);
    assert_eq!([first, fourth].map(|peer| unchoked(&desk, peer)), [false, true], "it holds two");
}

#[test]
fn no_more_leave_after_a_piece_than_wait() {
    let mut desk = seed(12);
    let peers = [1, 2, 3].map(|number| comer(&mut desk, number));
    let open = [0, 1].map(|n| suggested(&mut desk, peers[n])[0]);
    for (peer, piece) in peers.into_iter().zip(open) {
        desk.ask(peer, [piece, 0, BLOCK]);
        desk.swarm.take_upload(peer, BLOCK, &mut Vec::new());
    }
    pass(&mut desk, 1);
    assert_eq!(peers.map(|peer| unchoked(&desk, peer)), [false, true, true]);
    let said = peers.map(|peer| desk.say(peer));
    assert!(!said[1].contains(&Said::Choke) && !said[1].contains(&Said::Unchoke), "{said:?}");
    assert!(!said[1].iter().any(|said| matches!(said, Said::Suggest(_))), "nor is it for others: {said:?}");
}

#[test]
fn what_one_asks_for_that_nobody_was_suggested_is_suggested_to_nobody_else() {
    let mut desk = seed(7);
    let first = comer(&mut desk, 1);
    let open = suggested(&mut desk, first);
    let rest: Vec<u32> = (0..7).filter(|piece| !open.contains(piece)).collect();
    desk.ask(first, [rest[0], 0, BLOCK]);
    let second = comer(&mut desk, 2);
    let mut found = suggested(&mut desk, second);
    found.sort_unstable();
    assert_eq!(found, rest[1..]);
    // Until it loses its slot: then it is one of those that are left.
    let third = comer(&mut desk, 3);
    desk.hear(first, Message::NotInterested);
    assert!(suggested(&mut desk, third).contains(&rest[0]));
}

#[test]
fn a_seed_allows_pieces_out_of_turn_to_those_for_whom_it_has_no_slot() {
    for seen in [0, 1] {
        let mut desk = seed(12);
        let first = comer(&mut desk, 1);
        (0..11 * seen).for_each(|piece| desk.hear(first, Message::Have(piece)));
        let peers = [first, comer(&mut desk, 2), comer(&mut desk, 3)];
        let is_allowed = |said: &Said| matches!(said, Said::AllowedFast(_));
        let allowed = peers.map(|peer| desk.say(peer).iter().any(is_allowed));
        assert_eq!(allowed, [false, false, seen > 0]);
    }
}

/// It asks for all there is, again and again, and goes.
#[test]
fn who_asks_for_everything_keeps_little_from_others_and_leaves_nothing_behind() {
    const PIECES: u32 = 200;
    let mut desk = seed(PIECES);
    for number in 0..50 {
        let greedy = comer(&mut desk, 1 + number);
        (0..PIECES).for_each(|piece| desk.ask(greedy, [piece, 0, BLOCK]));
        let other = comer(&mut desk, 101);
        assert_eq!(suggested(&mut desk, other).len(), 3, "{number} have come");
        let now = desk.now;
        [greedy, other].into_iter().for_each(|slot| desk.swarm.gone(now, slot));
        desk.wishes();
    }
    let (all, left) = (PIECES as usize, desk.swarm.spreading.left());
    assert!((all - 16..=all).contains(&left), "{left} of {all} pieces may be suggested");
}

#[test]
fn what_one_was_sent_that_goes_without_it_is_for_others_again() {
    const PIECES: u32 = 40;
    let mut desk = seed(PIECES);
    let greedy = comer(&mut desk, 1);
    (0..PIECES).for_each(|piece| desk.ask(greedy, [piece, 0, BLOCK]));
    let mut sent = Vec::new();
    desk.swarm.take_upload(greedy, PIECES * BLOCK, &mut sent);
    assert_eq!(sent.len(), PIECES as usize);
    let layout = Arc::clone(&desk.swarm.layout);
    let taken = |desk: &Desk| {
        let sightings = &desk.swarm.commons.sightings;
        layout.pieces().filter(|piece| sightings.is_suggested(*piece)).count()
    };
    assert_eq!(taken(&desk), PIECES as usize);
    // One of them another has.
    let other = comer(&mut desk, 2);
    desk.hear(other, Message::Have(7));
    let now = desk.now;
    desk.swarm.gone(now, greedy);
    assert_eq!(taken(&desk), 1);
    let third = comer(&mut desk, 3);
    assert_eq!(suggested(&mut desk, third).len(), 3);
}

#[test]
fn who_asks_for_a_byte_of_a_piece_has_not_been_sent_it() {
    let mut desk = seed(6);
    let [honest, sly] = [1, 2].map(|number| comer(&mut desk, number));
    let open = suggested(&mut desk, honest);
    for piece in &open {
        desk.ask(sly, [*piece, 0, 1]);
    }
    let mut sent = Vec::new();
    desk.swarm.take_upload(sly, BLOCK, &mut sent);
    assert_eq!(sent.len(), 3);
    let first = &desk.swarm.spreading.first;
    let honest = desk.swarm.peers.get(honest).unwrap().tag;
    assert!(
        desk.swarm
            .layout
            .pieces()
            .filter(|piece| open.contains(&piece.get()))
            .all(|piece| first[&piece] == honest)
    );
    assert!(desk.swarm.peers.get(sly).unwrap().served.is_empty());
}

/// A peer of the first core with a slot, and the pieces that it was suggested, while another of that core waits for its
/// turn; and a peer of the other core with a slot.
fn giver_and_taker(desks: &mut [Desk; 2]) -> (PeerSlot, Vec<u32>, PeerSlot) {
    let giver = comer(&mut desks[0], 1);
    let open = suggested(&mut desks[0], giver);
    let taker = comer(&mut desks[1], 2);
    let waits = comer(&mut desks[0], 3);
    assert_eq!([giver, waits].map(|peer| unchoked(&desks[0], peer)), [true, false]);
    assert!(unchoked(&desks[1], taker));
    (giver, open, taker)
}

#[test]
fn what_a_peer_of_another_core_has_ends_no_turn_until_it_goes() {
    for goes in [false, true] {
        let mut desks = cores(12);
        let (giver, open, taker) = giver_and_taker(&mut desks);
        desks[1].hear(taker, Message::Have(open[0]));
        if goes {
            let now = desks[1].now;
            // Its slot is for another of its core: nobody who waits on the first one gets it.
            let other = comer(&mut desks[1], 4);
            desks[1].swarm.gone(now, taker);
            assert!(unchoked(&desks[1], other));
        }
        serve(&mut desks[0], giver, open[0]);
        assert_eq!(unchoked(&desks[0], giver), !goes, "goes: {goes}");
    }
}

#[test]
fn who_gives_to_a_peer_of_another_core_is_not_done_after_a_piece() {
    for served in [false, true] {
        let mut desks = cores(12);
        let (giver, open, taker) = giver_and_taker(&mut desks);
        desks[0].ask(giver, [open[0], 0, BLOCK]);
        desks[0].swarm.take_upload(giver, BLOCK, &mut Vec::new());
        desks[0].hear(giver, Message::Have(open[0]));
        if served {
            desks[1].ask(taker, [open[0], 0, BLOCK]);
            desks[1].swarm.take_upload(taker, BLOCK, &mut Vec::new());
        }
        desks[1].hear(taker, Message::Have(open[0]));
        let now = desks[0].now + Duration::from_secs(1);
        desks[0].swarm.tick(now);
        let peer = desks[0].swarm.peers.get(giver).unwrap();
        assert_eq!((peer.passes_on, peer.held), (!served, u32::from(served)), "sent by us to both: {served}");
    }
}

#[test]
fn no_two_cores_suggest_the_same_piece_until_it_is_given_up() {
    let mut desks: [Desk; 2] = cores(6);
    let peers = [comer(&mut desks[0], 1), comer(&mut desks[1], 2)];
    let mut found: Vec<u32> = (0..2).flat_map(|n| suggested(&mut desks[n], peers[n])).collect();
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2, 3, 4, 5]);
    let other = comer(&mut desks[0], 3);
    desks[0].hear(peers[0], Message::NotInterested);
    assert_eq!(suggested(&mut desks[0], other).len(), 3);
}

#[test]
fn a_seed_that_chokes_us_is_told_at_once_what_we_have() {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(3 * BLOCK)]).unwrap());
    let mut desk = Desk::with(layout, Arc::new(Commons::new(3, 1)), 0, Desk::settings());
    desk.reserved = Reserved::ours(false);
    let seed = desk.connect(false, 1).unwrap();
    desk.hear(seed, Message::HaveAll);
    let giver = desk.giver(2, &[0]);
    desk.say(seed);
    for block in desk.requests(giver) {
        assert!(desk.block_comes(giver, block).1);
    }
    desk.settle(&[]);
    assert!(desk.swarm.peers.get(seed).unwrap().woken);
    assert!(desk.say(seed).contains(&Said::Have(0)));
}
