//! Several cores on one torrent.

use super::desk::{BLOCK, Desk, has_rate, own};
use super::sim::plan::{Has, NodePlan, Plan};
use super::sim::world::World;
use crate::metainfo::Layout;
use crate::swarm::{Commons, Completion, DropReason, HandIn, Handover, PeerSlot, Place, RUN_LEN, Wish};
use std::sync::Arc;

/// Two cores of one torrent.
pub(super) fn two(piece_length: u32, pieces: u32) -> [Desk; 2] {
    let total = u64::from(piece_length) * u64::from(pieces);
    let layout = Arc::new(Layout::new(piece_length.into(), [total]).unwrap());
    let commons = Arc::new(Commons::new(pieces, 2));
    [0, 1].map(|core| Desk::on_core(Arc::clone(&layout), Arc::clone(&commons), core))
}

/// Rings the other core when one wants it.
pub(super) fn nudge(from: &mut Desk, to: &mut Desk) -> Vec<Wish> {
    let wishes = from.wishes();
    if wishes.contains(&Wish::Nudge) {
        to.swarm.catch_up(to.now);
    }
    wishes
}

/// A peer of `other` sends all that it is asked for, on behalf of core 0, which gets it, or of its own. Says how many blocks core
/// 0 took.
fn fetch_for(one: &mut Desk, other: &mut Desk, helper: PeerSlot) -> usize {
    let mut fetched = Vec::new();
    for (piece, index) in other.requests(helper) {
        let block = other.block(piece, index);
        let (_, place) = other.swarm.begin(other.now, helper, [piece, block.begin, BLOCK]).unwrap();
        match other.swarm.complete(other.now, helper, &block, place) {
            Completion::Handover(0, handover) => {
                assert_eq!(place, Place::Aside, "its place is on the other core");
                fetched.push(handover);
            }
            Completion::Taken => assert!(other.swarm.active.contains_key(&block.piece)),
            completion => panic!("{completion:?}"),
        }
    }
    // What was shown again in the meantime may come twice.
    let mut taken =
        |handover: &Handover| matches!(one.swarm.hand_in(one.now, handover, 8), HandIn::Taken { .. });
    fetched.iter().filter(|handover| taken(handover)).count()
}

/// A peer of another core sends a block on behalf of core 0.
fn hand_over(other: &mut Desk, peer: PeerSlot, (piece, index): (u32, u32)) -> Handover {
    let block = other.block(piece, index);
    let (_, place) = other.swarm.begin(other.now, peer, [piece, block.begin, BLOCK]).unwrap();
    let Completion::Handover(0, handover) = other.swarm.complete(other.now, peer, &block, place) else {
        panic!("it was asked for on behalf of the other core")
    };
    handover
}

/// Who sends nothing is asked first, and holds up nobody: neither those who have sent something nor, for long, those who have
/// not.
#[test]
fn what_a_helpers_peers_do_not_send_another_of_them_is_asked_for() {
    for mutes in [1, 2] {
        let [mut one, mut other] = two(2 * RUN_LEN, 1);
        let staller = one.giver(1, &[0]);
        one.requests(staller);
        let mutes: Vec<PeerSlot> = (2..2 + mutes).map(|number| other.giver(number, &[0])).collect();
        let helper = other.giver(99, &[0]);
        let mut seconds = 0;
        while !one.settle(&[]).contains(&Wish::Done { piece: one.piece(0), good: true }) {
            assert!(seconds < 20, "the piece is stuck");
            nudge(&mut other, &mut one);
            nudge(&mut one, &mut other);
            mutes.iter().for_each(|mute| _ = other.requests(*mute));
            for _ in 0..4 {
                fetch_for(&mut one, &mut other, helper);
            }
            one.pass(1);
            other.pass(1);
            seconds += 1;
        }
    }
}

/// All peers of a core have sent a block each and then nothing, and some of the other, which has one honest peer, too. What the
/// mute ones were asked for waits for none of them.
#[test]
fn many_peers_that_fall_silent_hold_up_no_piece() {
    for mutes in [[2, 0], [3, 0], [8, 0], [4, 4], [0, 8], [1, 7]] {
        let mut desks = two(4 * RUN_LEN, 12);
        let pieces: Vec<u32> = (0..12).collect();
        let mut slots = [Vec::new(), Vec::new()];
        for ((desk, mutes), slots) in desks.iter_mut().zip(mutes).zip(&mut slots) {
            own(desk).most_peers = 16;
            desk.window = Some(4);
            let first = desk.swarm.core as u8 * 20;
            slots.extend((first..first + mutes).map(|number| desk.giver(number, &pieces)));
            for mute in slots {
                let asked = desk.requests(*mute);
                assert!(desk.block_comes(*mute, asked[0]).1, "then it sends nothing more");
            }
        }
        let [mut one, mut other] = desks;
        let talk = |one: &mut Desk, other: &mut Desk| {
            slots[0].iter().for_each(|mute| _ = one.requests(*mute));
            slots[1].iter().for_each(|mute| _ = other.requests(*mute));
            nudge(other, one);
            nudge(one, other);
            one.pass(1);
            other.pass(1);
        };
        (0..2).for_each(|_| talk(&mut one, &mut other));
        let honest = other.giver(99, &pieces);
        let mut seconds = 0;
        while one.swarm.commons.map.left() > 0 {
            assert!(seconds < 10, "{mutes:?} mutes: {} pieces are stuck", one.swarm.commons.map.left());
            for _ in 0..200 {
                fetch_for(&mut one, &mut other, honest);
                one.settle(&[]);
                other.settle(&[]);
                nudge(&mut other, &mut one);
                nudge(&mut one, &mut other);
            }
            talk(&mut one, &mut other);
            seconds += 1;
        }
        println!("{mutes:?} mutes: {seconds} s");
    }
}

/// A core's only peer is mute, and was asked for half of a piece; a peer of the other core for the other half, that turns out to be
/// slow.
fn mute_and_slow() -> [Desk; 2] {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let mute = one.giver(1, &[0]);
    assert_eq!(one.requests(mute).len(), 16);
    let slow = other.giver(2, &[0]);
    other.requests(slow);
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    assert_eq!(other.requests(slow).len(), 16, "on behalf of the other core");
    has_rate(&mut other, slow, 2_000);
    [one, other]
}

#[test]
fn what_a_slow_peer_of_a_helper_would_be_long_in_sending_a_fast_one_of_it_is_asked_for() {
    let [_one, mut other] = mute_and_slow();
    let fast = other.giver(3, &[0]);
    assert_eq!(other.requests(fast), [], "it has sent nothing yet");
    has_rate(&mut other, fast, 1_000_000);
    assert_eq!(other.requests(fast).len(), 16, "as many as keep it sending");
}

#[test]
fn who_stops_amid_a_block_does_not_keep_it_from_peers_of_another_core() {
    let [mut one, mut other] = two(BLOCK, 1);
    let [stops, fast] = [one.giver(1, &[0]), other.giver(2, &[0])];
    has_rate(&mut one, stops, 1_000_000);
    has_rate(&mut other, fast, 1_000_000);
    assert_eq!(one.requests(stops).len(), 1);
    one.swarm.begin(one.now, stops, [0, 0, BLOCK]).unwrap();
    one.swarm.trickled(one.now, stops, 5_000);
    assert_eq!(other.requests(fast), []);
    nudge(&mut other, &mut one);
    assert_eq!(fetch_for(&mut one, &mut other, fast), 0, "it goes on");
    one.pass(2);
    assert_eq!(fetch_for(&mut one, &mut other, fast), 1);
}

/// The last block of a core is asked of two peers of another that would be long in sending it; a third is much faster.
#[test]
fn what_two_slow_peers_of_a_helper_were_asked_for_a_fast_one_of_it_is_asked_for_too() {
    let [mut one, mut other] = two(BLOCK, 1);
    let mute = one.giver(1, &[0]);
    one.requests(mute);
    let slow = [2, 3].map(|number| other.giver(number, &[0]));
    slow.iter().for_each(|slow| _ = other.requests(*slow));
    nudge(&mut other, &mut one);
    one.pass(3);
    nudge(&mut one, &mut other);
    let asked = [0, 1].map(|number| {
        has_rate(&mut other, slow[number], [500, 4_000][number]);
        other.requests(slow[number]).len()
    });
    assert_eq!(asked, [1, 1], "32 and 4 seconds");
    let fast = other.giver(4, &[0]);
    has_rate(&mut other, fast, 1_000_000);
    assert_eq!(fetch_for(&mut one, &mut other, fast), 1);
}

#[test]
fn what_a_helper_would_be_long_in_fetching_an_idle_peer_of_the_holder_is_asked_for() {
    let [mut one, _other] = mute_and_slow();
    let fast = one.giver(3, &[0]);
    has_rate(&mut one, fast, 1_000_000);
    one.pass(1);
    let asked = one.requests(fast);
    assert!(asked.len() == 16 && asked.iter().all(|block| block.1 < 16), "{asked:?}: of the mute one");
    asked.into_iter().for_each(|block| assert!(one.block_comes(fast, block).1));
    assert_eq!(one.requests(fast), [], "the rest is on its way");
    one.pass(2);
    has_rate(&mut one, fast, 1_000_000);
    let asked = one.requests(fast);
    assert!(asked.iter().any(|block| block.1 >= 16), "{asked:?}: of the slow one");
}

#[test]
fn no_piece_waits_for_the_only_peer_of_the_core_that_claimed_it() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let staller = one.giver(1, &[0]);
    let asked = one.requests(staller);
    assert!(one.block_comes(staller, asked[0]).1, "then it sends nothing more");
    let helper = other.giver(2, &[0]);
    let mut handed = 0;
    for _ in 0..100 {
        handed += fetch_for(&mut one, &mut other, helper);
        let done = one.settle(&[]);
        if done.contains(&Wish::Done { piece: one.piece(0), good: true }) {
            assert_eq!(handed, 31, "all but the one block that came");
            other.swarm.catch_up(other.now);
            assert!(other.drops().contains(&(helper, DropReason::BothSeeds)), "the other core knows");
            return;
        }
        nudge(&mut other, &mut one);
        nudge(&mut one, &mut other);
        one.pass(1);
        other.pass(1);
    }
    panic!("the piece is stuck: {handed} blocks were handed over");
}

#[test]
fn what_another_core_fetches_is_asked_of_nobody_else_until_it_is_given_back() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let owner = one.giver(1, &[0]);
    let own = one.requests(owner);
    assert_eq!(own.len(), 16, "half of the piece");
    let helper = other.giver(2, &[0]);
    assert_eq!(other.requests(helper), [], "nothing is shown yet");
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    let mut away = other.requests(helper);
    away.sort_unstable();
    assert_eq!(away, (16..32).map(|block| (0, block)).collect::<Vec<_>>(), "what nobody was asked for");
    let second = one.giver(3, &[0]);
    let twice = one.requests(second);
    assert!(twice.iter().all(|(_, block)| *block < 16), "{twice:?}: the others are under way");
    other.swarm.gone(other.now, helper);
    nudge(&mut other, &mut one);
    let mut again = one.requests(second);
    again.sort_unstable();
    assert!(
        again.len() >= 15 && again.iter().all(|block| away.contains(block)),
        "{again:?}: now they are not"
    );
}

#[test]
fn what_another_core_was_to_fetch_is_asked_of_others_when_it_has_handed_in_nothing_for_a_second() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let owner = one.giver(1, &[0]);
    one.requests(owner);
    let helper = other.giver(2, &[0]);
    other.requests(helper);
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    let mut away = other.requests(helper);
    assert_eq!(away.len(), 16);
    let second = one.giver(3, &[0]);
    let again = |one: &mut Desk| one.requests(second).into_iter().filter(|(_, block)| *block >= 16).count();
    for _ in 0..4 {
        one.now += std::time::Duration::from_millis(500);
        one.swarm.tick(one.now);
        assert_eq!(again(&mut one), 0, "they come one by one");
        let handover = hand_over(&mut other, helper, away.remove(0));
        assert!(matches!(one.swarm.hand_in(one.now, &handover, 8), HandIn::Taken { .. }));
    }
    one.pass(2);
    assert_eq!(again(&mut one), 12);
}

#[test]
fn a_holder_takes_back_what_nobody_has_taken() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let owner = one.giver(1, &[0]);
    one.requests(owner);
    let helper = other.giver(2, &[0]);
    if let Some(peer) = other.swarm.peers.get_mut(helper) {
        peer.requests = crate::swarm::window::Window::beginning(4);
    }
    other.requests(helper);
    nudge(&mut other, &mut one);
    let second = one.giver(3, &[0]);
    nudge(&mut one, &mut other);
    let mut all = other.requests(helper);
    assert_eq!(all, (28..32).rev().map(|block| (0, block)).collect::<Vec<_>>(), "the last ones");
    all.extend(one.requests(second));
    all.sort_unstable();
    assert_eq!(all, (16..32).map(|block| (0, block)).collect::<Vec<_>>(), "each once");
}

#[test]
fn what_comes_soon_is_not_fetched_twice() {
    let [mut one, mut other] = two(8 * RUN_LEN, 1);
    let owner = one.giver(1, &[0]);
    let mut asked = one.requests(owner);
    // A block every 10 ms, and four are left.
    for _ in 0..124 {
        one.now += std::time::Duration::from_millis(10);
        assert!(one.block_comes(owner, asked.remove(0)).1);
        asked.extend(one.requests(owner));
    }
    assert_eq!(asked.len(), 4);
    one.pass(1);
    let helper = other.giver(2, &[0]);
    other.pass(1);
    other.requests(helper);
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    assert_eq!(other.requests(helper), []);
}

#[test]
fn want_of_memory_is_no_want_of_work() {
    let [mut one, mut other] = two(RUN_LEN, 8);
    let owner = one.giver(1, &[0, 1, 2, 3, 4, 5, 6, 7]);
    one.requests(owner);
    let hungry = other.giver(2, &[0, 1, 2, 3, 4, 5, 6, 7]);
    other.slabs = 0;
    assert_eq!(other.requests(hungry), []);
    other.pass(2);
    assert!(!one.swarm.commons.others_idle(0), "there are pieces to begin");
}

#[test]
fn a_core_leaves_the_others_a_share_of_the_last_pieces() {
    let [mut one, _other] = two(2 * RUN_LEN, 8);
    let all = [0, 1, 2, 3, 4, 5, 6, 7];
    for number in 1..=4 {
        let peer = one.giver(number, &all);
        assert_eq!(one.requests(peer).len(), 16);
        assert_eq!(one.swarm.active.len(), usize::from(number).min(2), "half of its half");
    }
}

#[test]
fn a_piece_that_no_peer_of_a_core_has_any_more_is_claimed_by_another() {
    let [mut one, mut other] = two(2 * RUN_LEN, 1);
    let first = one.giver(1, &[0]);
    assert!(!one.requests(first).is_empty());
    let second = other.giver(2, &[0]);
    other.requests(second);
    nudge(&mut other, &mut one);
    one.swarm.gone(one.now, first);
    one.pass(1);
    nudge(&mut one, &mut other);
    other.wishes();
    let piece = other.piece(0);
    while !other.swarm.active.contains_key(&piece) {
        other.requests(second);
        other.pass(1);
    }
    assert!(!one.swarm.active.contains_key(&piece));
}

/// A core that has memory for the first run of its piece, and the last block of that, which the other core has fetched for it.
fn fetched_far_ahead() -> (Desk, Handover) {
    let [mut one, mut other] = two(4 * RUN_LEN, 1);
    let staller = one.giver(1, &[0]);
    assert_eq!(one.requests(staller).len(), 16);
    let helper = other.giver(2, &[0]);
    other.requests(helper);
    nudge(&mut other, &mut one);
    let last = other.requests(helper)[0];
    assert_eq!(last, (0, 63));
    (one, hand_over(&mut other, helper, last))
}

#[test]
fn a_block_far_ahead_takes_memory_for_all_before_it_or_is_refused() {
    for (slabs, opened) in [(8, Some(1..4)), (3, Some(1..4)), (2, None)] {
        let (mut one, handover) = fetched_far_ahead();
        let answer = one.swarm.hand_in(one.now, &handover, slabs);
        assert_eq!(answer, opened.map_or(HandIn::Refused, |opened| HandIn::Taken { opened }));
        assert!(!one.swarm.is_scarce(), "there is memory");
    }
}

#[test]
fn who_has_no_memory_for_what_others_bring_has_them_fetch_it_seldom() {
    let (mut one, handover) = fetched_far_ahead();
    for again in 0..3 {
        assert!(one.swarm.runs_ahead(one.now) > 0, "{again}");
        assert_eq!(one.swarm.hand_in(one.now, &handover, 0), HandIn::Refused);
        for _ in 0..4 {
            one.pass(1);
            assert_eq!(one.swarm.runs_ahead(one.now), 0, "{again}");
        }
        match again {
            0 => one.pass(1),
            1 => one.swarm.feed(),
            _ => one.swarm.note_free(1),
        }
    }
    assert!(one.swarm.runs_ahead(one.now) > 0);
}

#[test]
fn a_peer_fetches_for_another_core_no_more_than_keeps_it_sending() {
    let [mut one, mut other] = two(4 * RUN_LEN, 1);
    let staller = one.giver(1, &[0]);
    one.requests(staller);
    let helpers = [2, 3].map(|number| other.giver(number, &[0]));
    other.window = Some(48);
    helpers.iter().for_each(|helper| _ = other.requests(*helper));
    nudge(&mut other, &mut one);
    // Half a second's worth is ten blocks.
    helpers.iter().for_each(|helper| has_rate(&mut other, *helper, 20 * u64::from(BLOCK)));
    assert_eq!(helpers.map(|helper| other.requests(helper).len()), [10, 10]);
}

#[test]
fn who_sent_a_bad_piece_is_found_on_another_core() {
    let [mut one, mut other] = two(2 * BLOCK, 1);
    let silent = one.giver(1, &[0]);
    one.requests(silent);
    let liar = other.giver(2, &[0]);
    other.requests(liar);
    nudge(&mut other, &mut one);
    one.pass(6);
    other.pass(1);
    for asked in other.requests(liar) {
        let handover = hand_over(&mut other, liar, asked);
        assert!(matches!(one.swarm.hand_in(one.now, &handover, 8), HandIn::Taken { .. }));
    }
    let wishes = one.settle(&[0]);
    let blamed = wishes
        .iter()
        .find_map(|wish| if let Wish::Blame(tag, piece) = wish { Some((*tag, *piece)) } else { None });
    let (tag, piece) = blamed.expect("it came from one peer alone");
    assert_eq!(tag.core(), 1);
    other.swarm.blame(tag, piece);
    assert!(other.drops().contains(&(liar, DropReason::BadPiece(piece))));
    assert_eq!(one.connect(false, 2), Err(DropReason::Banned), "on every core");
}

#[test]
fn a_peer_is_connected_once_on_all_cores() {
    let [mut one, mut other] = two(BLOCK, 1);
    let slot = one.connect(true, 1).unwrap();
    assert_eq!(other.connect(true, 1), Err(DropReason::Duplicate));
    // The ids say that of two connections the one we did not dial stays.
    assert!(other.connect(false, 200).is_ok());
    assert_eq!(one.connect(true, 200), Err(DropReason::Duplicate));
    let dialled = one.connect(true, 201).unwrap();
    assert!(other.connect(false, 201).is_ok(), "it takes the other's place");
    let evict = other
        .wishes()
        .into_iter()
        .find_map(|wish| if let Wish::Evict(tag) = wish { Some(tag) } else { None });
    one.swarm.evict(evict.expect("the other core has to drop it"));
    assert!(one.drops().contains(&(dialled, DropReason::Duplicate)));
    one.swarm.gone(one.now, slot);
    assert!(other.connect(true, 1).is_ok(), "it is not connected any more");
}

#[test]
fn many_cores_share_a_download() {
    let mut handed = 0;
    for seed in 0..30 {
        let leech = |cores| NodePlan { has: Has::Nothing, cores, ..NodePlan::seed() };
        let nodes = vec![NodePlan::seed(), NodePlan::seed(), NodePlan::seed(), leech(3), leech(2)];
        let mut world = World::new(Plan::quiet(seed, 300_000, 2_900_000, nodes));
        world.run();
        handed += world.handed;
    }
    assert!(handed > 0, "cores help each other to the last pieces");
}
