//! What one core has got, the peers of another are told of.

use super::cores::two;
use super::desk::{BLOCK, Desk, Said};
use crate::swarm::{PeerSlot, Wish};

fn haves(desk: &mut Desk, slot: PeerSlot) -> Vec<u32> {
    let said = desk.say(slot).into_iter();
    said.filter_map(|said| if let Said::Have(piece) = said { Some(piece) } else { None }).collect()
}

/// The log of pieces is common to them; a core that is rung reads on in it, and wakes those who are to be told.
#[test]
fn peers_hear_of_pieces_that_another_core_has_got() {
    let [mut one, mut other] = two(BLOCK, 3);
    let taker = other.taker(9);
    let giver = one.giver(1, &[0, 1, 2]);
    let mut asked = one.requests(giver);
    assert_eq!(asked.len(), 3);
    while let Some(block) = asked.pop() {
        other.wishes();
        assert!(haves(&mut other, taker).is_empty(), "nothing is new");
        assert!(one.block_comes(giver, block).1);
        let wishes = one.settle(&[]);
        assert!(wishes.contains(&Wish::Nudge), "the others are rung: {wishes:?}");
        other.swarm.catch_up(other.now);
        assert!(other.wishes().contains(&Wish::Wake(taker)), "there is something to say to it");
        assert_eq!(haves(&mut other, taker), [block.0]);
    }
}

/// With a piece of another core there may be something to ask for that there was not before.
#[test]
fn those_are_woken_who_may_be_asked_for_more() {
    let [mut one, mut other] = two(BLOCK, 3);
    let hungry = other.giver(2, &[0, 1]);
    // The other piece is being fetched already.
    let first = one.giver(3, &[0]);
    one.requests(first);
    assert_eq!(other.requests(hungry), [(1, 0)]);
    assert!(one.block_comes(first, (0, 0)).1);
    other.wishes();
    one.settle(&[]);
    other.swarm.catch_up(other.now);
    assert!(other.wishes().contains(&Wish::Wake(hungry)));
}
