//! What cores leave to one another of pieces that nobody was asked for yet.

use super::cores::{nudge, two};
use super::desk::{BLOCK, has_rate, own};
use crate::swarm::{PeerSlot, RUN_LEN, Wish};
use std::time::Duration;

/// What is copied from core to core costs memory and time: fast peers need no help.
#[test]
fn what_a_cores_own_peers_have_at_once_is_not_left_to_others() {
    for (rate, helped) in [(100_000_000, 0), (100_000, 16)] {
        let [mut one, mut other] = two(2 * RUN_LEN, 1);
        let owner = one.giver(1, &[0]);
        has_rate(&mut one, owner, rate);
        assert_eq!(one.requests(owner).len(), 16, "half of the piece");
        let helper = other.giver(2, &[0]);
        other.requests(helper);
        nudge(&mut other, &mut one);
        nudge(&mut one, &mut other);
        assert_eq!(other.requests(helper).len(), helped);
    }
}

#[test]
fn what_none_of_a_cores_own_peers_has_is_shown_however_fast_they_are() {
    let [mut one, mut other] = two(2 * RUN_LEN, 2);
    let owner = one.giver(1, &[0]);
    let asked = one.requests(owner);
    assert!(asked.len() == 16 && asked.into_iter().all(|at| one.block_comes(owner, at).1));
    one.swarm.gone(one.now, owner);
    let fast = one.giver(2, &[1]);
    has_rate(&mut one, fast, 100_000_000);
    let helper = other.giver(3, &[0]);
    other.requests(helper);
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    assert_eq!(other.requests(helper).len(), 16);
}

#[test]
fn of_many_pieces_others_are_shown_what_all_of_them_lack() {
    // Each of eight pieces has an owner that sends 16 blocks in an eighth of a second.
    let [mut one, mut other] = two(2 * RUN_LEN, 8);
    [&mut one, &mut other].into_iter().for_each(|desk| own(desk).most_peers = 9);
    let owners: Vec<PeerSlot> = (0..8).map(|number| one.giver(number + 1, &[number.into()])).collect();
    for owner in owners {
        has_rate(&mut one, owner, 2_000_000);
        assert_eq!(one.requests(owner).len(), 16, "half of the piece");
        has_rate(&mut one, owner, 300_000);
    }
    let helper = other.giver(9, &[0, 1, 2, 3, 4, 5, 6, 7]);
    other.requests(helper);
    nudge(&mut other, &mut one);
    nudge(&mut one, &mut other);
    assert!(!other.requests(helper).is_empty());
}

/// Of what a slow peer was asked for others are shown what they may have sooner. With each block that comes it is one less, which
/// concerns nobody.
#[test]
fn a_core_rings_the_others_for_what_it_shows_and_not_for_what_it_shows_no_more() {
    let [mut one, mut other] = two(RUN_LEN, 1);
    let slow = one.giver(1, &[0]);
    let asked = one.requests(slow);
    assert_eq!(asked.len(), 16, "all of it");
    let idle = other.giver(2, &[]);
    other.requests(idle);
    other.swarm.commons.set_idle(1, true);
    let mut rings = |block: Option<(u32, u32)>| {
        one.now += Duration::from_secs(1);
        block.into_iter().for_each(|block| assert!(one.block_comes(slow, block).1));
        has_rate(&mut one, slow, BLOCK.into());
        one.swarm.catch_up(one.now);
        one.wishes().into_iter().filter(|wish| *wish == Wish::Nudge).count()
    };
    assert_eq!(rings(None), 1, "there is something to fetch");
    // Now and then one more becomes long in coming.
    let rung: usize = asked.into_iter().take(15).map(|block| rings(Some(block))).sum();
    assert!(rung <= 5, "rung {rung} times for 15 blocks");
}
