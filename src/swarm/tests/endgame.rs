//! What is asked for once more.

use super::desk::{BLOCK, Desk, Said, has_rate};
use super::sim::fetching::Scene;
use crate::swarm::PeerSlot;

/// All of the only piece, of so many blocks, is asked of the first peer, which sends so many bytes a second; the second sends so many.
fn all_at_one(blocks: u32, rates: [u64; 2]) -> (Desk, [PeerSlot; 2]) {
    let mut desk = Desk::new(blocks * BLOCK, 1, &[]);
    desk.window = Some(blocks as usize);
    let peers = [1, 2].map(|number| desk.giver(number, &[0]));
    assert_eq!(desk.requests(peers[0]).len(), blocks as usize);
    for (peer, rate) in peers.into_iter().zip(rates) {
        has_rate(&mut desk, peer, rate);
    }
    (desk, peers)
}

/// Each that is asked once more brings the block much sooner than all who were asked before.
#[test]
fn in_the_endgame_a_block_is_asked_of_ever_faster_peers_and_of_no_other() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let peers = [(1, 500), (2, 4_000), (3, 4_000), (4, 200_000)].map(|(number, rate)| {
        let peer = desk.giver(number, &[0]);
        has_rate(&mut desk, peer, rate);
        peer
    });
    let asked = peers.map(|peer| desk.requests(peer).len());
    assert_eq!(asked, [1, 1, 0, 1], "32, 4, 4 and 0.1 seconds");
}

/// Many who have sent nothing are asked one after the other, each after the time that a block usually takes; who has sent something
/// need not wait for them.
#[test]
fn who_has_proven_itself_does_not_wait_in_the_endgame_for_those_who_have_not() {
    let mut desk = Desk::new(BLOCK, 1, &[]);
    let [first, second, third, proven] = [1, 2, 3, 4].map(|number| desk.giver(number, &[0]));
    assert_eq!(desk.requests(first).len(), 1);
    desk.pass(1);
    assert_eq!([second, third].map(|peer| desk.requests(peer).len()), [1, 0]);
    has_rate(&mut desk, proven, 1_000_000);
    assert_eq!(desk.requests(proven).len(), 1);
}

/// With one block a round trip a long way would make a fast peer slow.
#[test]
fn a_fast_peer_is_asked_for_as_much_as_keeps_it_sending() {
    // Half a second's worth is 20 blocks.
    let (mut desk, [_, fast]) = all_at_one(64, [16 << 10, 40 * u64::from(BLOCK)]);
    let last_first: Vec<_> = (64 - 20..64).rev().map(|block| (0, block)).collect();
    assert_eq!(desk.requests(fast), last_first);
    desk.block_comes(fast, (0, 64 - 1));
    assert_eq!(desk.requests(fast), [(0, 64 - 21)]);
}

#[test]
fn no_more_is_asked_for_once_more_than_comes_much_sooner() {
    let asked = |rates: [u64; 2]| {
        let (mut desk, [_, other]) = all_at_one(64, rates.map(|blocks| blocks * u64::from(BLOCK)));
        desk.requests(other).len()
    };
    assert_eq!(asked([64, 64]), 0, "it is all here in a second");
    assert_eq!(asked([40, 40]), 11, "that many come in less than half of the time beyond a second");
    assert_eq!(asked([16, 8]), 4, "not more than keep it sending");
    assert_eq!(asked([16, 1]), 1, "one that is slow itself");
}

#[test]
fn who_was_fast_once_is_not_waited_for_when_it_has_become_slow() {
    let (mut desk, [slow, fast]) = all_at_one(200, [0, 1 << 20]);
    for block in 0..184 {
        desk.block_comes(slow, (0, block));
    }
    for block in 184..196 {
        desk.pass(1);
        desk.block_comes(slow, (0, block));
    }
    assert_eq!(desk.requests(fast).len(), 4, "a block a second");
    let came: Vec<_> = (196..200).map(|block| desk.block_comes(fast, (0, block)).1).collect();
    assert_eq!(came, [true; 4]);
    assert_eq!(desk.say(slow), [196, 197, 198, 199].map(|block| Said::Cancel(0, block)));
}

/// It was fast, so by its rate the block is nearly here.
#[test]
fn who_falls_silent_is_not_waited_for() {
    let (mut desk, [silent, other]) = all_at_one(64, [1 << 20, 1 << 20]);
    for block in 0..63 {
        desk.block_comes(silent, (0, block));
    }
    assert_eq!(desk.requests(other), []);
    desk.pass(1);
    assert_eq!(desk.requests(other), [], "it may have paused");
    desk.pass(1);
    assert_eq!(desk.requests(other), [(0, 63)]);
}

#[test]
fn who_sends_in_bursts_is_waited_for_a_little_longer_than_its_pauses() {
    let (mut desk, [bursts, other]) = all_at_one(64, [1 << 20, 1 << 20]);
    for burst in 0..3 {
        for block in 20 * burst..20 * (burst + 1) {
            desk.block_comes(bursts, (0, block));
        }
        desk.pass(3);
    }
    assert_eq!(desk.requests(other), []);
    desk.pass(3);
    assert_eq!(desk.requests(other).first(), Some(&(0, 63)));
}

/// Another core than that of the slow peer has the fast ones: one run a round trip would take longer, and so it would were all that
/// is left asked of one of them.
#[test]
fn far_peers_of_another_core_end_what_a_slow_one_has_begun() {
    for cores in [1, 2, 4] {
        for seeds in [[(1, 8_000), (2, 3_000_000)], [(4, 8_000), (4, 1_000_000)]] {
            Scene { runs: 192, in_piece: 64, seeds: &seeds, cores, far: 150_000, ..Scene::plain() }
                .takes(2.2, 4.0);
        }
    }
}

#[test]
fn under_a_limit_the_end_does_not_wait_for_a_slow_peer() {
    for cores in [1, 2] {
        let seeds = &[(4, 1_000_000), (1, 8_000)];
        let limit = Some(2 << 20);
        Scene { runs: 96, seeds, cores, limit, far: 1, ..Scene::plain() }.takes(1.2, 2.0);
    }
}
