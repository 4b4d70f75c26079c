//! Playing while downloading: slow peers do not hold up the first pieces.

use super::cores::two;
use super::desk::{BLOCK, Desk, Said, has_rate, own};
use super::sim::plan::{Grain, NodePlan, Plan};
use super::sim::world::World;
use crate::swarm::window::Window;
use crate::swarm::{PeerSlot, Place};
use std::time::Duration;

const PIECES: u32 = 100;
/// Blocks of a piece.
const BLOCKS: u32 = 8;
const FAST: u64 = 500_000;

fn desk() -> Desk {
    let mut desk = Desk::new(BLOCKS * BLOCK, PIECES, &[]);
    (own(&mut desk).sequential, desk.window) = (true, Some(BLOCKS as usize));
    desk
}

/// The peer is known to send so many bytes a second.
fn giver(desk: &mut Desk, number: u8, rate: u64) -> PeerSlot {
    let peer = desk.giver(number, &(0..PIECES).collect::<Vec<_>>());
    has_rate(desk, peer, rate);
    peer
}

fn blocks(piece: u32, range: std::ops::Range<u32>) -> Vec<(u32, u32)> {
    range.map(|block| (piece, block)).collect()
}

#[test]
fn a_slow_peer_gets_what_it_can_bring_before_it_is_played() {
    for (rate, skipped) in [(FAST, 0), (FAST / 3, 0), (FAST / 10, 21), (FAST / 25, 51), (3_000, 98)] {
        let mut desk = desk();
        let [first, second] = [1, 2].map(|number| giver(&mut desk, number, FAST));
        assert_eq!(desk.requests(first)[0], (99, 0), "the end of the file");
        let slow = giver(&mut desk, 3, rate);
        assert_eq!(desk.requests(slow)[0].0, skipped, "at {rate} bytes a second");
        // It is not the one to go on with what others have left.
        let head = desk.requests(second)[0].0;
        assert_eq!(head, u32::from(skipped == 0));
    }
}

#[test]
fn a_slow_peer_does_not_go_on_with_what_was_left_at_the_playhead_and_gets_something_at_the_end() {
    let mut desk = desk();
    let fast = [1, 2].map(|number| giver(&mut desk, number, FAST));
    fast.into_iter().for_each(|peer| assert_eq!(desk.requests(peer).len(), 8));
    desk.swarm.release_all(fast[1]);
    let slow = giver(&mut desk, 3, 3_000);
    assert_eq!(desk.requests(slow)[0].0, 98, "piece 0 was left");
    let mut desk = Desk::new(BLOCKS * BLOCK, 1, &[]);
    own(&mut desk).sequential = true;
    let [_, slow] = [(1, FAST), (2, 3_000)].map(|(number, rate)| {
        let peer = desk.giver(number, &[0]);
        has_rate(&mut desk, peer, rate);
        peer
    });
    assert_eq!(desk.requests(slow), blocks(0, 0..8), "there is nothing else");
}

#[test]
fn who_is_fast_ends_what_a_slow_peer_has_begun_at_the_playhead() {
    let mut desk = desk();
    let [first, slow, other] = [1, 2, 3].map(|number| giver(&mut desk, number, 0));
    assert_eq!(desk.requests(first), blocks(99, 0..8));
    desk.swarm.peers.get_mut(slow).unwrap().requests = Window::beginning(2);
    assert_eq!(desk.requests(slow), blocks(0, 0..2), "nothing is known of it");
    has_rate(&mut desk, slow, 3_000);
    [first, other].into_iter().for_each(|peer| has_rate(&mut desk, peer, FAST));
    blocks(99, 0..8).into_iter().for_each(|block| assert!(desk.block_comes(first, block).1));
    let asked = desk.requests(first);
    assert_eq!(asked[..8], [blocks(0, 2..8), blocks(0, 0..2)].concat(), "what it was not asked for first");
    assert_eq!(asked[8].0, 1, "then it goes on");
    assert_eq!(desk.requests(other)[0], (2, 0), "once is enough");
    assert_eq!(desk.block_comes(first, (0, 0)), (Place::Home, true));
    assert_eq!(desk.say(slow)[0], Said::Cancel(0, 0));
}

#[test]
fn who_is_fast_ends_what_a_slow_peer_of_another_core_has_begun_at_the_playhead() {
    let [mut one, mut other] = two(BLOCKS * BLOCK, PIECES);
    [&mut one, &mut other].into_iter().for_each(|desk| own(desk).sequential = true);
    let fast = giver(&mut other, 1, 0);
    other.swarm.peers.get_mut(fast).unwrap().requests = Window::beginning(8);
    assert_eq!(other.requests(fast), blocks(99, 0..8));
    let slow = giver(&mut one, 2, 0);
    one.swarm.peers.get_mut(slow).unwrap().requests = Window::beginning(2);
    assert_eq!(one.requests(slow), blocks(0, 0..2));
    one.pass(1);
    has_rate(&mut one, slow, 3_000);
    one.swarm.catch_up(one.now);
    has_rate(&mut other, fast, FAST);
    blocks(99, 0..8).into_iter().for_each(|block| assert!(other.block_comes(fast, block).1));
    let mut asked = other.requests(fast);
    let later = asked.split_off(8);
    asked.sort_unstable();
    assert_eq!((asked, later[0].0), (blocks(0, 0..8), 1));
}

#[test]
fn who_has_nothing_to_give_makes_nobody_slow() {
    for pieces in [&[0][..], &[0, 1]] {
        let mut desk = Desk::new(BLOCKS * BLOCK, PIECES, &[0]);
        (own(&mut desk).sequential, desk.window) = (true, Some(BLOCKS as usize));
        let fast = desk.giver(1, pieces);
        has_rate(&mut desk, fast, 20 * 2_000);
        let slow = giver(&mut desk, 2, 2_000);
        // Who keeps pace gets the file's last piece, before all others.
        let next = desk.swarm.next_in_order(slow);
        assert_eq!(next == Some(desk.piece(PIECES - 1)), pieces.len() == 1, "{next:?}");
    }
}

/// How it was to play while that was fetched.
struct Played {
    /// The most pieces that had come beyond those before the first that was lacking.
    behind: usize,
    /// The longest, in seconds, that no piece came which was to be played next, once any had come.
    stood: f64,
    /// What came in vain, in percent.
    wasted: f64,
}

/// Plays what peers give who send so many bytes a second, in so many pieces of so many blocks.
fn play(rates: &[u64], (pieces, blocks): (u32, u32), cores: usize, seed: u64) -> Played {
    let link = |speed| NodePlan { up: speed, down: 20_000_000, told: true, slots: 50, ..NodePlan::seed() };
    let mut nodes = vec![NodePlan { sequential: true, slabs: 1 << 12, cores, ..NodePlan::leech() }];
    nodes.extend(rates.iter().map(|rate| link(*rate)));
    let plan = Plan {
        grain: Grain::Coarse,
        limit: Duration::from_secs(600),
        ..Plan::quiet(seed, blocks * BLOCK, u64::from(pieces * blocks * BLOCK), nodes)
    };
    let mut world = World::new(plan);
    let (mut behind, mut stood, mut head, mut since) = (0, 0, 0, 0);
    while !world.is_over() {
        world.step();
        let have = world.nodes[0].host.verified.borrow();
        let first = have.iter().zip(0..).take_while(|(piece, number)| piece.get() == *number).count();
        behind = behind.max(have.len() - first);
        if first > head || have.is_empty() {
            (head, since) = (first, world.now);
        }
        stood = stood.max(world.now - since);
    }
    let totals = world.nodes[..cores].iter().map(|node| node.swarm.totals());
    let (wasted, received) =
        totals.fold((0, 0), |(wasted, all), totals| (wasted + totals.wasted, all + totals.received));
    Played { behind, stood: stood as f64 / 1e6, wasted: 100.0 * wasted as f64 / received as f64 }
}

#[test]
fn the_playhead_does_not_stand_for_slow_peers_whatever_cores_they_are_on() {
    for cores in [1, 2] {
        for seed in 1..=8 {
            let Played { stood, wasted, .. } =
                play(&[1_000_000, 2_000, 2_000, 2_000, 2_000, 2_000], (2 * PIECES, BLOCKS), cores, seed);
            println!("{cores} cores, five at 2 kB/s: stood {stood:.1} s, {wasted:.2} % wasted");
            assert!(stood < 8.0, "it stood {stood} s");
            assert!(wasted < 5.0, "{wasted} % came in vain");
        }
    }
}

#[test]
fn mute_peers_do_not_hold_up_the_first_pieces() {
    for cores in [1, 2] {
        for mutes in [2, 5] {
            for seed in 1..=3 {
                let rates: Vec<u64> = [1_000_000].into_iter().chain((0..mutes).map(|_| 1)).collect();
                let Played { behind: most, wasted, .. } = play(&rates, (2 * PIECES, BLOCKS), cores, seed);
                println!("{cores} cores, {mutes} mute: {most} pieces behind, {wasted:.2} % wasted");
                assert!(most <= 80, "{most} of {} pieces wait for those before them", 2 * PIECES);
                assert!(wasted < 5.0, "{wasted} % came in vain");
            }
        }
    }
}

#[test]
fn slow_peers_do_not_hold_up_the_first_pieces() {
    for (cores, seed) in [(1, 1), (1, 2), (2, 3), (2, 4)] {
        for slow in [3_000, 15_000] {
            let Played { behind: most, wasted, .. } =
                play(&[250_000, 250_000, 600_000, slow, slow], (2 * PIECES, BLOCKS), cores, seed);
            println!("{cores} cores, two at {slow}: {most} pieces behind, {wasted:.2} % wasted");
            assert!(most <= 80, "{most} of {} pieces wait for those before them", 2 * PIECES);
            assert!(wasted < 5.0, "{wasted} % came in vain");
        }
    }
}

#[test]
fn the_first_of_long_pieces_do_not_wait_for_slow_peers_whatever_cores_they_are_on() {
    for (pieces, blocks) in [(24, 256), (6, 1024)] {
        for cores in [1, 2, 4] {
            for seed in 1..=3 {
                let rates = [1_000_000, 1_000_000, 8_000, 8_000, 8_000, 8_000];
                let Played { behind, stood, wasted } = play(&rates, (pieces, blocks), cores, seed);
                println!(
                    "{cores} cores, {blocks} blocks: stood {stood:.1} s, {behind} behind, {wasted:.2} % wasted"
                );
                assert!(
                    behind * 3 <= pieces as usize,
                    "{behind} of {pieces} pieces wait for those before them"
                );
                assert!(stood < 6.0 + 1.2 * f64::from(blocks * BLOCK) / 1e6, "it stood {stood} s");
                assert!(wasted < 2.0, "{wasted} % came in vain");
            }
        }
    }
}
