//! What one core has got, the peers of another are told of.

use super::cores::two;
use super::desk::{BLOCK, Desk, Said, bits, own};
use crate::swarm::{PeerSlot, Wish};
use crate::wire::Message;
use std::time::Duration;

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
        one.now += Duration::from_millis(100);
        other.now = one.now;
        assert!(one.block_comes(giver, block).1);
        let wishes = one.settle(&[]);
        assert!(wishes.contains(&Wish::Nudge), "the others are rung: {wishes:?}");
        other.swarm.catch_up(other.now);
        assert!(other.wishes().contains(&Wish::Wake(taker)), "there is something to say to it");
        assert_eq!(haves(&mut other, taker), [block.0]);
    }
}

/// Core 0 gets piece 0, and the other core learns of it. Gives the peers that are woken there.
fn woken_by_piece_0(one: &mut Desk, other: &mut Desk) -> Vec<Wish> {
    let giver = one.giver(1, &[0]);
    let asked = one.requests(giver);
    assert_eq!(asked, [(0, 0)]);
    other.wishes();
    one.block_comes(giver, asked[0]);
    one.settle(&[]);
    other.swarm.catch_up(other.now);
    other.wishes().into_iter().filter(|wish| matches!(wish, Wish::Wake(_))).collect()
}

#[test]
fn those_are_woken_who_are_to_be_told_and_no_others() {
    let [mut one, mut other] = two(BLOCK, 3);
    for desk in [&mut one, &mut other] {
        own(desk).most_peers = 10;
    }
    let peers =
        [&[1][..], &[0], &[0, 1, 2], &[0, 1], &[0, 1]].into_iter().zip(2..).map(|(pieces, number)| {
            let slot = other.connect(true, number).unwrap();
            other.hear(slot, Message::Bitfield(&bits(3, pieces)));
            other.say(slot);
            slot
        });
    let [lacks, had_no_other, seed, shows, gives] = peers.collect::<Vec<_>>()[..] else { panic!() };
    other.hear(gives, Message::Unchoke);
    let woken = woken_by_piece_0(&mut one, &mut other);
    assert!(woken.contains(&Wish::Wake(lacks)), "it may want the piece");
    assert!(woken.contains(&Wish::Wake(had_no_other)), "it has nothing for us any more");
    assert!(woken.contains(&Wish::Wake(seed)), "it chokes us, and sees by this what becomes of its pieces");
    assert!(
        woken.contains(&Wish::Wake(shows)),
        "it chokes us, and may be a super-seed, which shows the next piece then"
    );
    assert!(!woken.contains(&Wish::Wake(gives)), "it hears of it with our next request");
}

/// A piece that comes soon after another is told of with those that follow it, but at once to who has no other for us.
#[test]
fn pieces_that_come_fast_are_told_of_together() {
    let mut desk = Desk::new(BLOCK, 5, &[]);
    let [giver, lacks] = [&[0, 1, 2, 3, 4][..], &[]].map(|has| desk.giver(1 + has.len() as u8, has));
    let shows = desk.connect(true, 2).unwrap();
    desk.hear(shows, Message::Have(2));
    desk.say(lacks);
    desk.say(shows);
    let get = |desk: &mut Desk, piece| {
        desk.requests(giver);
        desk.wishes();
        assert!(desk.block_comes(giver, (piece, 0)).1);
        desk.settle(&[])
    };
    assert!(get(&mut desk, 0).contains(&Wish::Wake(lacks)), "the first one at once");
    [lacks, shows].into_iter().for_each(|peer| assert_eq!(haves(&mut desk, peer), [0]));
    desk.swarm.tick(desk.now);
    let deadline = desk.swarm.next_deadline();
    let wishes = get(&mut desk, 1);
    assert!(wishes.contains(&Wish::Deadline) && !wishes.contains(&Wish::Wake(lacks)), "{wishes:?}");
    let soon = desk.swarm.next_deadline();
    assert!(soon < deadline && soon > desk.now);
    let wishes = get(&mut desk, 2);
    assert!(!wishes.contains(&Wish::Deadline) && !wishes.contains(&Wish::Wake(lacks)), "{wishes:?}");
    assert!(wishes.contains(&Wish::Wake(shows)), "it shows the next one when it hears of this one");
    desk.now = soon;
    desk.swarm.tick(desk.now);
    assert!(desk.wishes().contains(&Wish::Wake(lacks)));
    assert_eq!(haves(&mut desk, lacks), [1, 2]);
    desk.now += Duration::from_millis(50);
    assert!(!get(&mut desk, 3).contains(&Wish::Wake(lacks)), "that was no pause");
    desk.now = desk.swarm.next_deadline();
    desk.swarm.tick(desk.now);
    assert_eq!(haves(&mut desk, lacks), [3]);
    desk.now += Duration::from_millis(100);
    assert!(get(&mut desk, 4).contains(&Wish::Wake(lacks)), "that was one");
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

/// Some of them wait to be told of together, and some were got by another core.
#[test]
fn peers_hear_of_each_piece_once_and_in_the_order_in_which_they_were_finished() {
    const ORDER: [(usize, u32); 8] = [(0, 3), (1, 7), (1, 0), (0, 6), (0, 1), (1, 5), (0, 2), (1, 4)];
    let mut desks = two(BLOCK, 9);
    let takers = [0, 1].map(|core: usize| desks[core].taker(8 + core as u8));
    let givers = [0, 1].map(|core: usize| desks[core].giver(1 + core as u8, &[]));
    let mut heard = [const { Vec::new() }; 2];
    let mut speeches = 0;
    let mut listen = |desk: &mut Desk, wishes: Vec<Wish>| {
        let core = desk.swarm.core;
        if wishes.contains(&Wish::Wake(takers[core])) {
            let said = haves(desk, takers[core]);
            speeches += usize::from(!said.is_empty());
            heard[core].extend(said);
        }
    };
    for (core, piece) in ORDER {
        let desk = &mut desks[core];
        desk.hear(givers[core], Message::Have(piece));
        assert_eq!(desk.requests(givers[core]), [(piece, 0)]);
        assert!(desk.block_comes(givers[core], (piece, 0)).1);
        let wishes = desk.settle(&[]);
        listen(desk, wishes);
        for desk in &mut desks {
            desk.now += Duration::from_millis(40);
            desk.swarm.catch_up(desk.now);
            let wishes = desk.wishes();
            listen(desk, wishes);
        }
    }
    for desk in &mut desks {
        desk.now += Duration::from_secs(1);
        desk.swarm.tick(desk.now);
        let wishes = desk.wishes();
        listen(desk, wishes);
    }
    assert_eq!(heard, [0; 2].map(|_| ORDER.map(|(_, piece)| piece).to_vec()));
    assert!(speeches < 2 * ORDER.len(), "some waited");
}
