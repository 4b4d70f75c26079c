//! A piece that came out wrong, and the one peer that is to send it.

use super::cores::{nudge, two};
use super::desk::{BLOCK, Desk, Said};
use crate::metainfo::Layout;
use crate::swarm::evidence::Statement;
use crate::swarm::{Commons, DropReason, PeerSlot, RUN_LEN, Settings, Wish};
use std::sync::Arc;

/// Blocks of the piece.
const BLOCKS: u32 = 64;

/// A piece of which two peers have sent half each, one of them a bad block: who sent it, and the other.
fn suspect(desk: &mut Desk, liar: usize) -> [PeerSlot; 2] {
    let peers = [1, 2].map(|number| desk.giver(number, &[0]));
    let mut sent = 0;
    while sent < BLOCKS {
        for (number, peer) in peers.into_iter().enumerate() {
            for (piece, block) in desk.requests(peer) {
                if desk.block_comes(peer, (piece, block)).1 {
                    sent += 1;
                    desk.bad_blocks.extend((number == liar).then_some(block));
                }
            }
        }
    }
    desk.bad_blocks.truncate(1);
    desk.settle(&[0]);
    let piece = desk.piece(0);
    assert!(desk.swarm.commons.map.is_suspect(piece));
    peers
}

fn desk() -> Desk {
    let length = u64::from(BLOCKS * BLOCK);
    let layout = Arc::new(Layout::new(length, [length]).unwrap());
    let settings = Settings { most_peers: 50, hold: 2 << 20, ..Desk::settings() };
    Desk::with(layout, Arc::new(Commons::new(1, 1)), 0, settings)
}

/// The peer sends a block every five seconds, while the other is asked for nothing. Gives how many it sent, and what the
/// other is asked for at last.
fn trickle(desk: &mut Desk, slow: PeerSlot, idle: PeerSlot) -> (u32, Vec<(u32, u32)>) {
    let mut asked = desk.requests(slow);
    assert!(!asked.is_empty());
    for sent in 0..20 {
        // What it takes over it is asked for when the last try is cleared away.
        let requests = [desk.requests(idle), desk.requests(idle)].concat();
        if !requests.is_empty() {
            return (sent, requests);
        }
        desk.pass(5);
        let block = asked.remove(0);
        assert!(desk.block_comes(slow, block).1);
        asked.extend(desk.requests(slow));
    }
    panic!("the other peer is asked for nothing");
}

#[test]
fn a_slow_sender_loses_the_piece_to_one_that_is_idle_and_who_lied_is_found() {
    for liar in [0, 1] {
        let mut desk = desk();
        let peers = suspect(&mut desk, liar);
        let slow = peers[0];
        desk.swarm.gone(desk.now, peers[1]);
        desk.wishes();
        // What it sent at first was quick.
        desk.pass(60);
        let idle = desk.giver(3, &[0]);
        let before = desk.swarm.totals().wasted;
        let (sent, mut asked) = trickle(&mut desk, slow, idle);
        assert_eq!(asked[0], (0, 0), "from the beginning");
        assert_eq!(desk.swarm.totals().wasted - before, u64::from(sent * BLOCK));
        let said = desk.say(slow);
        assert!(said.iter().any(|said| matches!(said, Said::Cancel(0, _))), "{said:?}");
        while let Some(block) = asked.pop() {
            assert_eq!(desk.requests(slow), [], "it is not asked for it again");
            assert!(desk.block_comes(idle, block).1);
            asked.extend(desk.requests(idle));
        }
        let wishes = desk.settle(&[]);
        assert!(wishes.contains(&Wish::Done { piece: desk.piece(0), good: true }));
        let lied = Wish::Drop(slow, DropReason::BadPiece(desk.piece(0)));
        assert_eq!(wishes.contains(&lied), liar == 0, "{wishes:?}");
        assert_eq!(desk.connect(false, liar as u8 + 1), Err(DropReason::Banned));
    }
}

#[test]
fn who_is_slow_keeps_what_nobody_else_has() {
    let mut desk = desk();
    let [slow, other] = suspect(&mut desk, 0);
    desk.swarm.gone(desk.now, other);
    desk.pass(60);
    let mut asked = desk.requests(slow);
    let idle = desk.giver(3, &[]);
    for _ in 0..4 * BLOCKS {
        desk.pass(5);
        assert_eq!(desk.requests(idle), [], "it does not have it");
        desk.block_comes(slow, asked.remove(0));
        if desk.settle(&[]).contains(&Wish::Done { piece: desk.piece(0), good: true }) {
            return;
        }
        asked.extend(desk.requests(slow));
    }
    panic!("the piece is stuck");
}

#[test]
fn a_peer_of_another_core_takes_the_piece_over() {
    let [mut one, mut other] = two(4 * RUN_LEN, 1);
    let [slow, liar] = suspect(&mut one, 1);
    one.swarm.gone(one.now, liar);
    one.pass(60);
    other.pass(60);
    let mut asked = one.requests(slow);
    let idle = other.giver(3, &[0]);
    // That it has sent something of the piece before does not count for all of it.
    let from = other.swarm.peers.get(idle).unwrap().tag;
    let said = Statement { index: 0, from, print: 0 };
    one.swarm.commons.evidence().file(one.piece(0), [said]);
    for _ in 0..40 {
        let mut requests = other.requests(idle);
        if let Some(first) = requests.first() {
            assert_eq!(*first, (0, 0));
            while let Some(block) = requests.pop() {
                assert!(other.block_comes(idle, block).1, "it is this core's piece now");
                requests.extend(other.requests(idle));
            }
            let done = Wish::Done { piece: other.piece(0), good: true };
            let wishes = other.settle(&[]);
            assert!(wishes.contains(&done), "{wishes:?}");
            assert!(wishes.iter().any(|wish| matches!(wish, Wish::Blame(..))), "of the first core");
            return;
        }
        one.pass(5);
        other.pass(5);
        nudge(&mut other, &mut one);
        if !asked.is_empty() {
            one.block_comes(slow, asked.remove(0));
        }
        asked.extend(one.requests(slow));
        nudge(&mut one, &mut other);
        nudge(&mut other, &mut one);
        if !one.swarm.active.contains_key(&one.layout.piece(0).unwrap()) {
            asked.clear();
        }
    }
    panic!("the other core's peer is asked for nothing");
}

#[test]
fn two_that_are_slow_do_not_take_the_piece_from_one_another_for_ever() {
    let mut desk = desk();
    let peers = suspect(&mut desk, 0);
    // What they sent at first was quick: nobody knows any more.
    desk.pass(60);
    let mut asked = peers.map(|peer| desk.requests(peer));
    for _ in 0..6 * BLOCKS {
        desk.pass(5);
        for (peer, asked) in peers.into_iter().zip(&mut asked) {
            if !asked.is_empty() {
                desk.block_comes(peer, asked.remove(0));
            }
            asked.extend(desk.requests(peer));
            let cancelled: Vec<Said> = desk.say(peer);
            if cancelled.iter().any(|said| matches!(said, Said::Cancel(..))) {
                asked.clear();
            }
        }
        if desk.settle(&[]).contains(&Wish::Done { piece: desk.piece(0), good: true }) {
            return;
        }
    }
    panic!("the piece is stuck");
}
