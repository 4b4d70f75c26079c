//! What is asked ahead of a download limit, and who is to blame for what is long in coming under it.

use super::cores::{nudge, two};
use super::desk::{BLOCK, Desk, has_rate, own};
use super::sim::plan::{Grain, NodePlan, Plan};
use super::sim::world::World;
use crate::swarm::PeerSlot;
use std::collections::BTreeMap;
use std::time::Duration;

const KIB: u64 = 1024;

/// A swarm under this limit, and so many who have all of it: pieces of four blocks.
fn under(limit: u64, pieces: u32, givers: u8) -> (Desk, Vec<PeerSlot>) {
    let mut desk = Desk::new(4 * BLOCK, pieces, &[]);
    (own(&mut desk).download_limit, own(&mut desk).most_peers) = (Some(limit), 100);
    desk.window = None;
    let all: Vec<u32> = (0..pieces).collect();
    let givers = (1..=givers).map(|number| desk.giver(number, &all)).collect();
    // By then each is to be asked for a block at a time.
    desk.pass(1);
    (desk, givers)
}

/// What each is asked for now.
fn asked(desk: &mut Desk, givers: &[PeerSlot]) -> Vec<(PeerSlot, (u32, u32))> {
    let mut asked = Vec::new();
    for giver in givers {
        asked.extend(desk.requests(*giver).into_iter().map(|block| (*giver, block)));
    }
    asked
}

/// Time passes in which so many bytes of these lie unread.
fn wait(desk: &mut Desk, seconds: u64, unread: &[(PeerSlot, u64)]) {
    for _ in 0..seconds * 2 {
        for (slot, bytes) in unread {
            desk.swarm.lies_unread(desk.now, *slot, *bytes);
        }
        desk.now += Duration::from_millis(500);
        desk.swarm.tick(desk.now);
    }
}

#[test]
fn no_more_is_asked_of_all_than_a_limit_brings_in_two_seconds_while_that_lies_unread() {
    let (mut desk, givers) = under(10 * KIB, 16, 20);
    let first = asked(&mut desk, &givers);
    assert_eq!(first.len(), 2, "{first:?}");
    let unread: Vec<(PeerSlot, u64)> = first.iter().map(|(slot, _)| (*slot, BLOCK.into())).collect();
    wait(&mut desk, 40, &unread);
    assert_eq!(asked(&mut desk, &givers), []);
    assert!(
        givers.iter().all(|giver| !desk.swarm.peers.get(*giver).unwrap().snubbed),
        "it is not their fault"
    );
    // When one is through, it is the turn of another.
    let (slot, block) = first[0];
    assert!(desk.block_comes(slot, block).1);
    let next = asked(&mut desk, &givers);
    assert_eq!(next.len(), 1, "{next:?}");
}

#[test]
fn others_are_asked_when_those_who_were_send_little_or_nothing() {
    for unread in [0, 100] {
        let (mut desk, givers) = under(10 * KIB, 16, 20);
        let mut open: Vec<(PeerSlot, u64)> = Vec::new();
        for _ in 0..15 {
            open.extend(asked(&mut desk, &givers).into_iter().map(|(slot, _)| (slot, unread)));
            wait(&mut desk, 1, &open);
        }
        assert_eq!(open.len(), 20, "{unread} bytes of each are here");
    }
}

/// What fills our sockets need not be what was asked for.
#[test]
fn chatter_keeps_nobody_waiting_for_ever() {
    let (mut desk, givers) = under(10 * KIB, 16, 20);
    let chatting: Vec<(PeerSlot, u64)> =
        asked(&mut desk, &givers).into_iter().map(|(slot, _)| (slot, 100_000)).collect();
    assert_eq!(chatting.len(), 2);
    wait(&mut desk, 60, &chatting);
    assert!(chatting.iter().all(|(slot, _)| desk.swarm.peers.get(*slot).unwrap().snubbed));
    let next = asked(&mut desk, &givers);
    assert_eq!(next.len(), 2, "{next:?}");
}

#[test]
fn a_request_that_is_passed_over_is_taken_back_also_when_more_lies_unread() {
    let (mut desk, givers) = under(200 * KIB, 100, 1);
    let mut open = desk.requests(givers[0]);
    let passed_over = open.remove(0);
    for second in 0.. {
        assert!(second < 100, "it is still waited for");
        wait(&mut desk, 1, &[(givers[0], 2 * u64::from(BLOCK))]);
        assert!(desk.block_comes(givers[0], open.remove(0)).1);
        let next = desk.requests(givers[0]);
        if next.contains(&passed_over) {
            break;
        }
        open.extend(next);
    }
    assert_eq!(desk.swarm.totals().limits.unanswered, 1);
}

#[test]
fn who_is_slower_than_our_limit_keeps_nobody_from_being_asked_at_once() {
    let (mut desk, givers) = under(10 * KIB, 16, 20);
    let mut open = Vec::new();
    while open.len() < givers.len() {
        let next = asked(&mut desk, &givers);
        assert!((1..=2).contains(&next.len()), "{next:?} after {}", open.len());
        // The first bytes of it have come, and no others are here.
        next.iter().for_each(|(slot, _)| desk.swarm.trickled(desk.now, *slot, 100));
        open.extend(next);
    }
}

#[test]
fn who_did_not_send_what_it_was_asked_for_is_asked_when_nothing_else_is_on_its_way() {
    let (mut desk, givers) = under(10 * KIB, 16, 2);
    let [mute, other] = givers[..] else { unreachable!() };
    assert_eq!(desk.requests(mute).len(), 1);
    desk.pass(31);
    assert!(desk.swarm.peers.get(mute).unwrap().snubbed);
    assert_eq!(desk.requests(other).len(), 1);
    assert_eq!(desk.requests(mute), []);
    desk.pass(2);
    assert_eq!(desk.requests(mute).len(), 1);
    // And now and then, whatever else goes on.
    let (mut desk, givers) = under(10 * KIB, 100, 2);
    assert_eq!(desk.requests(givers[0]).len(), 1);
    desk.pass(31);
    let mut open = desk.requests(givers[1]);
    let tries: Vec<u64> = (0..130)
        .filter(|_| {
            wait(&mut desk, 1, &[(givers[1], BLOCK.into())]);
            assert!(desk.block_comes(givers[1], open.remove(0)).1);
            open.extend(desk.requests(givers[1]));
            !desk.requests(givers[0]).is_empty()
        })
        .collect();
    assert_eq!(tries.len(), 1, "{tries:?}");
}

#[test]
fn when_a_block_has_come_another_who_waits_is_asked_before_its_sender() {
    let (mut desk, givers) = under(10 * KIB, 16, 20);
    let mut served: BTreeMap<PeerSlot, u32> = BTreeMap::new();
    let mut open = asked(&mut desk, &givers);
    for _ in 0..40 {
        desk.wishes();
        let (slot, block) = open.remove(0);
        assert!(desk.block_comes(slot, block).1);
        *served.entry(slot).or_default() += 1;
        let woken: Vec<PeerSlot> = desk.wishes().into_iter().filter_map(super::desk::woken).collect();
        open.extend(asked(&mut desk, &woken));
        assert_eq!(open.len(), 2);
    }
    assert!(served.len() >= 14, "{served:?}");
}

#[test]
fn what_lies_unread_is_asked_of_nobody_else_and_what_does_not_come_is() {
    for lies in [true, false] {
        let (mut desk, givers) = under(10 * KIB, 1, 20);
        let mut times: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        // All but the last block come soon.
        let mut open = asked(&mut desk, &givers);
        while open.len() + times.len() < 4 || open.len() > 1 {
            let (slot, block) = open.remove(0);
            assert!(desk.block_comes(slot, block).1);
            times.insert(block, 1);
            open.extend(asked(&mut desk, &givers));
        }
        let bytes = if lies { BLOCK.into() } else { 0 };
        let mut again = None;
        for second in 0..20 {
            wait(&mut desk, 1, &[(open[0].0, bytes)]);
            if let Some((_, block)) = asked(&mut desk, &givers).first() {
                assert_eq!(*block, open[0].1);
                again.get_or_insert(second);
            }
        }
        assert_eq!(again.is_some(), !lies, "{again:?}");
        assert!(again.is_none_or(|second| second < 10), "{again:?}");
    }
}

/// By what came of them both are slow; but one had a whole block here before our limit let it in.
#[test]
fn what_a_slow_one_is_long_in_sending_is_asked_of_one_that_our_limit_alone_made_slow() {
    for fast in [false, true] {
        let (mut desk, givers) = under(10 * KIB, 1, 2);
        let mut open = asked(&mut desk, &givers);
        if fast {
            desk.swarm.lies_unread(desk.now, givers[1], BLOCK.into());
        }
        for _ in 0..3 {
            let (_, block) = open.remove(open.iter().position(|(slot, _)| *slot == givers[1]).unwrap());
            assert!(desk.block_comes(givers[1], block).1);
            open.extend(asked(&mut desk, &givers[1..]));
        }
        let [(slow, last)] = open[..] else { panic!("{open:?}") };
        assert_eq!(slow, givers[0]);
        wait(&mut desk, 20, &[]);
        has_rate(&mut desk, slow, 700);
        has_rate(&mut desk, givers[1], 500);
        assert_eq!(asked(&mut desk, &givers), [(givers[1], last)][..usize::from(fast)]);
    }
}

#[test]
fn cores_ask_together_for_what_their_limit_brings_and_each_for_something() {
    let [mut one, mut other] = two(4 * BLOCK, 16);
    let all: Vec<u32> = (0..16).collect();
    let [first, second] = [&mut one, &mut other].map(|desk| {
        (own(desk).download_limit, own(desk).most_peers) = (Some(20 * KIB), 100);
        let first = desk.swarm.core as u8 * 20 + 1;
        (first..first + 10).map(|number| desk.giver(number, &all)).collect::<Vec<PeerSlot>>()
    });
    assert_eq!(asked(&mut one, &first).len(), 3);
    assert_eq!(asked(&mut other, &second).len(), 1, "that is enough");
    // The one has nothing left to let in.
    one.pass(2);
    nudge(&mut one, &mut other);
    assert_eq!(asked(&mut other, &second).len(), 2);
}

/// What came of a download under a limit.
struct Outcome {
    seconds: f64,
    /// Blocks asked for more often than once, and bytes that came in vain.
    again: u64,
    wasted: u64,
}

/// 1 MiB of 20 seeds, of whom some send as good as nothing, by one who takes 10 KiB a second.
fn download(seed: u64, cores: usize, mutes: usize) -> Outcome {
    let mut nodes = vec![NodePlan { slots: 100, ..NodePlan::seed() }; 20];
    nodes[..mutes].iter_mut().for_each(|mute| mute.up = 1);
    nodes.push(NodePlan { cores, download_limit: Some(10 * KIB), ..NodePlan::leech() });
    let plan = Plan { grain: Grain::Coarse, ..Plan::quiet(seed, 4 * BLOCK, KIB * KIB, nodes) };
    let mut world = World::new(plan);
    world.run();
    let leech = &world.nodes[20..];
    let served: u64 = world.nodes[..20].iter().map(|node| node.uploaded).sum();
    Outcome {
        seconds: leech.iter().filter_map(|node| node.done).min().unwrap() as f64 / 1e6,
        again: (served / u64::from(BLOCK)).saturating_sub(64),
        wasted: leech.iter().map(|node| node.swarm.totals().wasted).sum(),
    }
}

#[test]
fn under_a_low_limit_blocks_come_once_and_as_fast_as_it_lets_them() {
    for cores in [1, 2, 4] {
        for seed in 1..=5 {
            let Outcome { seconds, again, wasted } = download(seed, cores, 0);
            println!("{cores} cores, seed {seed}: {seconds:.1} s, {again} again, {wasted} wasted");
            assert!(seconds < 102.4 * 1.06 && again == 0 && wasted == 0);
        }
    }
}

#[test]
fn under_a_low_limit_who_sends_nothing_holds_up_little() {
    for (cores, mutes) in [(1, 1), (2, 1), (4, 1), (1, 5), (2, 5), (4, 5)] {
        for seed in 1..=5 {
            let Outcome { seconds, again, wasted } = download(seed, cores, mutes);
            println!(
                "{cores} cores, {mutes} mutes, seed {seed}: {seconds:.1} s, {again} again, {wasted} wasted"
            );
            assert!(seconds < 102.4 * 1.1 && again <= 4);
        }
    }
}
