//! Whom we ask for what, where blocks go, and what becomes of pieces.

use super::desk::{BLOCK, Desk, Said, id};
use crate::swarm::{Completion, DropReason, Introduction, Place, RUN_LEN, Wish};
use crate::wire::Message;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// Blocks of one piece.
fn blocks(piece: u32, range: std::ops::Range<u32>) -> Vec<(u32, u32)> {
    range.map(|block| (piece, block)).collect()
}

#[test]
fn a_new_peer_is_asked_for_a_window_in_order_and_it_grows() {
    let mut desk = Desk::new(64 * BLOCK, 20, &[]);
    desk.window = None;
    let peer = desk.giver(1, &(0..20).collect::<Vec<_>>());
    let mut open = desk.requests(peer);
    assert_eq!(open.len(), 4, "few at first");
    assert_eq!(open, blocks(open[0].0, 0..open.len() as u32), "one piece, in order");
    let first = open.len();
    // All of it at 4 MB/s, of which two seconds are more than a window may hold.
    for _ in 0..10 * 256 {
        let block = open.remove(0);
        assert_eq!(desk.block_comes(peer, block), (Place::Home, true));
        desk.now += Duration::from_secs(1) / 256;
        desk.swarm.tick(desk.now);
        desk.settle(&[]);
        open.extend(desk.requests(peer));
        assert!(open.len() <= 250);
        if open.is_empty() {
            break;
        }
    }
    assert_eq!(desk.swarm.totals().downloaded, u64::from(20 * 64 * BLOCK));
    let mut desk = Desk::new(64 * BLOCK, 20, &[]);
    let peer = desk.giver(1, &(0..20).collect::<Vec<_>>());
    let mut open = desk.requests(peer);
    for _ in 0..800 {
        let block = open.remove(0);
        desk.block_comes(peer, block);
        desk.now += Duration::from_secs(1) / 100;
        desk.swarm.tick(desk.now);
        desk.settle(&[]);
        open.extend(desk.requests(peer));
    }
    // The rate covers two seconds: 200 blocks; a batch may be out.
    assert!((first + 100..=210).contains(&open.len()), "{} requests at 100 blocks a second", open.len());
}

#[test]
fn what_comes_next_is_what_follows_the_last_answer_though_a_block_was_passed_over() {
    let mut desk = Desk::new(8 * BLOCK, 1, &[]);
    let peer = desk.giver(1, &[0]);
    desk.requests(peer);
    assert_eq!(desk.lent(peer, None, 3), blocks(0, 0..3));
    desk.swarm.returned(peer, None);
    for late in [1, 2] {
        desk.block_comes(peer, (0, late));
        let after = (0, late + 1);
        assert_eq!(desk.swarm.next_of(peer), Some(desk.block(after.0, after.1)));
        assert_eq!(desk.lent(peer, None, 3)[0], after);
        desk.swarm.returned(peer, None);
    }
    for last in 3..8 {
        desk.block_comes(peer, (0, last));
    }
    assert_eq!(desk.lent(peer, None, 3), [(0, 0)], "nothing else is left");
}

#[test]
fn two_peers_get_pieces_of_their_own() {
    let mut desk = Desk::new(64 * BLOCK, 9, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &(0..9).collect::<Vec<_>>()));
    let (a, b) = (desk.requests(a), desk.requests(b));
    assert_ne!(a[0].0, b[0].0);
}

#[test]
fn a_choke_gives_the_blocks_to_others() {
    let mut desk = Desk::new(4 * BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    assert_eq!(desk.requests(a), blocks(0, 0..4));
    desk.pass(1);
    assert_eq!(desk.requests(b), [(0, 3)]);
    desk.block_comes(a, (0, 0));
    desk.wishes();
    desk.hear(a, Message::Choke);
    assert!(desk.wishes().contains(&Wish::Wake(b)));
    assert_eq!(desk.requests(a), []);
    assert_eq!(desk.requests(b), blocks(0, 1..3));
    desk.hear(a, Message::Unchoke);
    desk.pass(3);
    assert_eq!(desk.requests(a).len(), 1, "endgame: one block for an idle peer");
}

#[test]
fn who_sends_nothing_for_30_s_is_snubbed_and_recovers() {
    let mut desk = Desk::new(64 * BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    let asked = desk.requests(a);
    desk.pass(29);
    assert_eq!(desk.requests(a), [], "the window is full");
    desk.pass(1);
    assert_eq!(desk.requests(b), asked, "its blocks are anybody's");
    assert_eq!(desk.requests(a).len(), 1, "a snubbed peer is asked for one at a time");
    assert!(desk.block_comes(a, asked[3]).1, "a late block is welcome while it is missing");
    assert_eq!(desk.say(b)[0], Said::Cancel(0, 3));
    assert_eq!(desk.requests(a).len(), 1, "it has come back: one is open still");
    assert!(desk.block_comes(b, asked[0]).1);
    assert_eq!(desk.block_comes(a, asked[0]), (Place::Nowhere, false), "late and not needed");
    assert_eq!(desk.drops(), []);
}

/// Blocks of two leeches come, one of each every so many seconds: says of which of five pieces of 64 blocks each is asked in the end.
fn pieces_asked_of_two(seconds: u64, have: &[u32]) -> [u32; 2] {
    let mut desk = Desk::new(64 * BLOCK, 5, have);
    let peers = [1, 2].map(|number| desk.giver(number, &[0, 1, 2, 3]));
    let mut open = [VecDeque::new(), VecDeque::new()];
    for _ in 0..12 {
        for (peer, open) in peers.iter().zip(&mut open) {
            open.extend(desk.requests(*peer));
        }
        desk.pass(seconds);
        for (peer, open) in peers.iter().zip(&mut open) {
            let first = open.pop_front().expect("it is asked for something");
            assert!(desk.block_comes(*peer, first).1);
        }
    }
    open.map(|open| open.back().expect("it has more to send").0)
}

/// Else a piece of each would be open for long, and nobody could be given any of it.
#[test]
fn who_would_take_long_for_a_piece_shares_one_with_others_like_it() {
    let [slow, other] = pieces_asked_of_two(6, &[4]);
    assert_eq!(slow, other);
    let [fast, other] = pieces_asked_of_two(3, &[4]);
    assert_ne!(fast, other);
    // Who has nothing is to have a piece soon.
    let [fast, other] = pieces_asked_of_two(3, &[]);
    assert_eq!(fast, other);
}

#[test]
fn whose_block_takes_longer_than_it_may_be_silent_is_slow_and_gets_there() {
    let mut desk = Desk::new(64 * BLOCK, 1, &[]);
    let peer = desk.giver(1, &[0]);
    let asked = desk.requests(peer);
    let snubbed = |desk: &Desk| desk.swarm.peers.get(peer).unwrap().snubbed;
    let head = |desk: &mut Desk, (piece, index): (u32, u32)| {
        let block = desk.block(piece, index);
        desk.swarm.begin(desk.now, peer, [piece, block.begin, BLOCK]).unwrap()
    };
    // 400 bytes a second: two blocks in 82 s.
    for number in asked.iter().take(2) {
        let (block, place) = head(&mut desk, *number);
        for second in 1..=BLOCK / 400 {
            desk.swarm.trickled(desk.now, peer, 400 * second);
            desk.pass(1);
        }
        assert_eq!(desk.swarm.complete(desk.now, peer, &block, place), Completion::Taken);
        assert!(!snubbed(&desk) && desk.drops().is_empty());
    }
    // Too little to be worth waiting for.
    head(&mut desk, asked[2]);
    for second in 1..=140 {
        desk.swarm.trickled(desk.now, peer, second);
        desk.pass(1);
    }
    assert!(snubbed(&desk));
}

#[test]
fn bytes_count_for_the_rate_as_they_come_and_once() {
    let mut desk = Desk::new(64 * BLOCK, 1, &[]);
    let peer = desk.giver(1, &[0]);
    let asked = desk.requests(peer);
    let rate = |desk: &Desk| desk.swarm.peers.get(peer).unwrap().down.get();
    let mut seen = Vec::new();
    // 2048 bytes a second: a block takes eight seconds.
    for number in asked.iter().take(3) {
        for half in 1..BLOCK / 1024 {
            desk.swarm.trickled(desk.now, peer, 1024 * half);
            desk.now += Duration::from_millis(500);
            desk.swarm.tick(desk.now);
            seen.push(rate(&desk));
        }
        assert!(desk.block_comes(peer, *number).1);
        desk.now += Duration::from_millis(500);
        desk.swarm.tick(desk.now);
        seen.push(rate(&desk));
    }
    assert!(seen[3] > 1200, "after two seconds: {seen:?}");
    assert!(seen[12..].iter().all(|rate| (1900..=2048).contains(rate)), "{seen:?}");
}

#[test]
fn what_nobody_asked_for_goes_nowhere_and_is_an_offence() {
    let mut desk = Desk::new(64 * BLOCK, 2, &[]);
    let peer = desk.giver(1, &[0, 1]);
    let asked = desk.requests(peer);
    let other = 1 - asked[0].0;
    // Each weighs as much as 17 short messages.
    for block in blocks(other, 0..17) {
        assert_eq!(desk.block_comes(peer, block), (Place::Nowhere, false));
    }
    assert_eq!(desk.drops(), []);
    let [piece, begin, len] = [other, 0, BLOCK];
    assert_eq!(desk.swarm.begin(desk.now, peer, [piece, begin, len]), Err(DropReason::Offences));
    assert_eq!(desk.drops(), [(peer, DropReason::Offences)]);
}

#[test]
fn what_nobody_asked_for_earns_nothing() {
    let mut desk = Desk::new(64 * BLOCK, 2, &[]);
    let peer = desk.giver(1, &[0, 1]);
    let asked = desk.requests(peer);
    desk.pass(61);
    let look = |desk: &Desk| {
        let peer = desk.swarm.peers.get(peer).unwrap();
        (peer.snubbed, peer.downloaded, peer.down.get(), peer.last_moved)
    };
    let before = look(&desk);
    assert!(before.0 && before.1 == 0);
    let unasked = (1 - asked[0].0, 0);
    let head = [unasked.0, 0, BLOCK];
    let (block, place) = desk.swarm.begin(desk.now, peer, head).unwrap();
    desk.swarm.trickled(desk.now, peer, BLOCK / 2);
    assert_eq!(desk.swarm.complete(desk.now, peer, &block, place), Completion::Vain);
    assert_eq!(look(&desk), before, "it is no service");
    let totals = desk.swarm.totals();
    assert_eq!((totals.received, totals.wasted), (u64::from(BLOCK), u64::from(BLOCK)));
    assert!(desk.block_comes(peer, asked[0]).1, "what it was asked for is");
    assert!(!look(&desk).0 && look(&desk).1 == u64::from(BLOCK));
}

#[test]
fn who_alone_sent_a_bad_piece_is_dropped_and_banned() {
    let mut desk = Desk::new(2 * BLOCK, 1, &[]);
    let peer = desk.giver(1, &[0]);
    let asked = desk.requests(peer);
    asked.iter().for_each(|block| assert!(desk.block_comes(peer, *block).1));
    let wishes = desk.settle(&[0]);
    let done = Wish::Done { piece: desk.piece(0), good: false };
    assert!(wishes.contains(&done), "{wishes:?}");
    assert!(wishes.contains(&Wish::Drop(peer, DropReason::BadPiece(desk.piece(0)))));
    assert_eq!(desk.swarm.totals().failed_pieces, 1);
    assert_eq!(desk.swarm.totals().wasted, u64::from(2 * BLOCK));
    assert_eq!(desk.connect(false, 1), Err(DropReason::Banned));
    desk.swarm.gone(desk.now, peer);
    assert_eq!(desk.connect(false, 1), Err(DropReason::Banned));
    assert_eq!(desk.connect(true, 1), Err(DropReason::Banned), "nor when it is we who dial");
    let addr = SocketAddr::from(([127, 0, 0, 2], 1));
    let other = Introduction { addr, outgoing: true, id: id(1), reserved: desk.reserved };
    assert!(
        desk.swarm.connect(desk.now, other).is_ok(),
        "a liar can take the id of an honest peer elsewhere"
    );
}

#[test]
fn a_bad_piece_of_several_is_asked_of_one_alone_next_time() {
    let mut desk = Desk::new(4 * BLOCK, 1, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0]));
    desk.requests(a);
    desk.pass(1);
    let block = desk.requests(b)[0];
    desk.block_comes(b, block);
    blocks(0, 0..3).into_iter().for_each(|block| assert!(desk.block_comes(a, block).1));
    let wishes = desk.settle(&[0]);
    assert!(!wishes.iter().any(|wish| matches!(wish, Wish::Drop(..))), "nobody knows who it was");
    assert_eq!(desk.requests(a), blocks(0, 0..4));
    assert_eq!(desk.requests(b), [], "not even in the endgame");
    blocks(0, 0..4).into_iter().for_each(|block| assert!(desk.block_comes(a, block).1));
    assert!(desk.settle(&[0]).contains(&Wish::Drop(a, DropReason::BadPiece(desk.piece(0)))));
    assert_eq!(desk.requests(b), blocks(0, 0..4));
    blocks(0, 0..4).into_iter().for_each(|block| assert!(desk.block_comes(b, block).1));
    desk.settle(&[]);
    assert_eq!(desk.swarm.totals().downloaded, u64::from(4 * BLOCK));
}

#[test]
fn long_pieces_are_written_run_by_run_and_a_bad_verdict_waits_for_writes() {
    let mut desk = Desk::new(8 * RUN_LEN, 1, &[]);
    let peer = desk.giver(1, &[0]);
    let piece = desk.piece(0);
    let mut waiting = HashSet::new();
    let mut hashed = 0;
    while hashed < 8 {
        let asked = desk.requests(peer);
        asked.into_iter().for_each(|block| assert!(desk.block_comes(peer, block).1));
        for wish in desk.wishes() {
            match wish {
                Wish::Hash(_, runs) => {
                    assert_eq!(runs.start, hashed, "in order");
                    hashed = runs.end;
                    desk.swarm.hashed(desk.now, piece, runs, (hashed == 8).then_some(false));
                }
                Wish::Write(_, run) => assert!(waiting.insert(run)),
                Wish::Wake(_) => {}
                other => panic!("{other:?} before the writes have ended"),
            }
        }
    }
    let late = desk.wishes();
    waiting.extend(
        late.iter().filter_map(|wish| if let Wish::Write(_, run) = wish { Some(*run) } else { None }),
    );
    assert_eq!(waiting, (0..7).collect(), "all but the last are on their way before the verdict");
    for (n, run) in waiting.into_iter().enumerate() {
        assert!(!desk.wishes().iter().any(|wish| matches!(wish, Wish::Done { .. })), "{n} of 7 are written");
        desk.swarm.written(desk.now, piece, run);
    }
    assert!(desk.wishes().contains(&Wish::Done { piece, good: false }));
}

#[test]
fn short_pieces_are_written_when_they_are_known_to_be_good() {
    let mut desk = Desk::new(2 * RUN_LEN, 1, &[]);
    let peer = desk.giver(1, &[0]);
    let piece = desk.piece(0);
    for run in 0..2 {
        let mut left: HashSet<_> = blocks(0, run * 16..run * 16 + 16).into_iter().collect();
        while !left.is_empty() {
            let asked = desk.requests(peer);
            let came = if asked.is_empty() { left.iter().copied().collect() } else { asked };
            for block in came {
                if desk.swarm.peers.get(peer).unwrap().asked.iter().any(|a| a.block.begin / BLOCK == block.1)
                {
                    desk.block_comes(peer, block);
                    left.remove(&block);
                }
            }
        }
    }
    let wishes = desk.wishes();
    assert!(wishes.contains(&Wish::Hash(piece, 0..2)), "in one stretch: {wishes:?}");
    assert!(!wishes.iter().any(|wish| matches!(wish, Wish::Write(..))));
    desk.swarm.hashed(desk.now, piece, 0..2, Some(true));
    let wishes = desk.wishes();
    assert!([0, 1].iter().all(|run| wishes.contains(&Wish::Write(piece, *run))), "{wishes:?}");
}

#[test]
fn want_of_memory_makes_pieces_stream_and_begins_no_others() {
    let mut desk = Desk::new(4 * RUN_LEN, 2, &[]);
    desk.slabs = 1;
    let peer = desk.giver(1, &[0, 1]);
    let asked = desk.requests(peer);
    let piece = desk.piece(asked[0].0);
    assert_eq!(asked, blocks(piece.get(), 0..16), "the run that has memory");
    asked.into_iter().for_each(|block| assert!(desk.block_comes(peer, block).1));
    assert_eq!(desk.requests(peer), []);
    assert!(desk.wishes().contains(&Wish::Hash(piece, 0..1)));
    desk.swarm.hashed(desk.now, piece, 0..1, None);
    assert!(desk.wishes().contains(&Wish::Write(piece, 0)), "written for its slab");
    desk.swarm.written(desk.now, piece, 0);
    desk.slabs += 1;
    assert!(desk.wishes().contains(&Wish::Wake(peer)));
    assert_eq!(desk.requests(peer)[0], (piece.get(), 16));
}

#[test]
fn runs_that_are_full_when_memory_gets_short_are_hashed_and_written() {
    let mut desk = Desk::new(4 * RUN_LEN, 1, &[]);
    desk.slabs = 2;
    let peer = desk.giver(1, &[0]);
    let piece = desk.piece(0);
    let first = desk.requests(peer);
    assert_eq!(first, blocks(0, 0..16));
    first.into_iter().for_each(|block| assert!(desk.block_comes(peer, block).1));
    assert!(!desk.wishes().contains(&Wish::Hash(piece, 0..1)), "the piece is hashed in one stretch");
    assert_eq!(desk.requests(peer), blocks(0, 16..32), "then there is no memory");
    assert!(desk.wishes().contains(&Wish::Hash(piece, 0..1)));
    desk.swarm.hashed(desk.now, piece, 0..1, None);
    assert!(desk.wishes().contains(&Wish::Write(piece, 0)));
}

#[test]
fn a_piece_nobody_goes_on_with_gives_its_memory_to_others() {
    let mut desk = Desk::new(2 * RUN_LEN, 2, &[]);
    desk.slabs = 1;
    let [a, b] = [(1, 0), (2, 1)].map(|(number, piece)| desk.giver(number, &[piece]));
    let asked = desk.requests(a);
    asked[..5].iter().for_each(|block| assert!(desk.block_comes(a, *block).1));
    assert_eq!(desk.requests(b), [], "no memory");
    desk.pass(1);
    assert!(!desk.wishes().contains(&Wish::Done { piece: desk.piece(0), good: false }), "it goes on");
    desk.hear(a, Message::Choke);
    assert_eq!(desk.requests(b), []);
    desk.pass(1);
    assert!(desk.wishes().contains(&Wish::Done { piece: desk.piece(0), good: false }));
    desk.slabs += 1;
    assert_eq!(desk.requests(b), blocks(1, 0..2), "as few as of anybody unknown");
    assert_eq!(desk.swarm.totals().wasted, u64::from(5 * BLOCK));
}

#[test]
fn silent_peers_cannot_keep_the_last_blocks_to_themselves() {
    let mut desk = Desk::new(4 * BLOCK, 1, &[]);
    let liars = [1, 2, 3].map(|number| desk.giver(number, &[0]));
    for liar in liars {
        assert!(!desk.requests(liar).is_empty());
        desk.pass(1);
    }
    let honest = desk.giver(4, &[0]);
    for _ in 0..40 {
        // The liars are always faster.
        let asked: Vec<_> = liars.into_iter().chain([honest]).map(|peer| desk.requests(peer)).collect();
        for block in &asked[3] {
            desk.block_comes(honest, *block);
        }
        desk.settle(&[]);
        desk.pass(1);
        liars.into_iter().for_each(|liar| desk.hear(liar, Message::KeepAlive));
    }
    assert_eq!(desk.swarm.totals().downloaded, u64::from(4 * BLOCK));
}

#[test]
fn a_snubbed_peer_does_not_get_the_piece_that_one_alone_shall_send() {
    let mut desk = Desk::new(2 * BLOCK, 1, &[]);
    let [liar, honest] = [1, 2].map(|number| desk.giver(number, &[0]));
    assert_eq!(desk.requests(liar), blocks(0, 0..2));
    desk.pass(1);
    assert_eq!(desk.requests(honest), [(0, 1)]);
    assert!(desk.block_comes(liar, (0, 0)).1);
    assert!(desk.block_comes(honest, (0, 1)).1);
    desk.settle(&[0]);
    assert_eq!(desk.requests(liar), blocks(0, 0..2), "nobody knows who it was");
    assert_eq!(desk.requests(honest), []);
    desk.pass(32);
    assert_eq!(desk.requests(liar), []);
    assert_eq!(desk.requests(honest), blocks(0, 0..2));
    desk.hear(honest, Message::Choke);
    assert_eq!(desk.requests(liar).len(), 1, "when there is nobody else");
}

#[test]
fn a_request_taken_back_is_no_leave_to_send_anything_else() {
    let mut desk = Desk::new(16 * BLOCK, 2, &[]);
    let [a, b] = [1, 2].map(|number| desk.giver(number, &[0, 1]));
    let (to_a, to_b) = (desk.requests(a), desk.requests(b));
    desk.hear(a, Message::Choke);
    assert_eq!(desk.block_comes(a, to_b[0]), (Place::Nowhere, false), "it was asked of another");
    assert!(desk.block_comes(a, to_a[0]).1);
    assert_eq!(desk.block_comes(a, to_a[0]), (Place::Nowhere, false), "once");
}
