//! When a slot is taken back: not in the middle of a piece, but soon when it is not used; and who comes first when nobody gives.

use super::desk::{BLOCK, Desk, Said, own};
use crate::metainfo::{Block, Layout};
use crate::swarm::choker::{Contender, Rule, round};
use crate::swarm::{Commons, PeerSlot, Settings, Tag, Wish};
use crate::wire::Message;
use std::sync::Arc;
use std::time::Duration;

/// One slot; two pieces of two blocks, the first had, or both.
fn desk(pieces: &[u32]) -> Desk {
    desk_of(2, pieces)
}

fn desk_of(count: u32, pieces: &[u32]) -> Desk {
    let layout = Arc::new(Layout::new((2 * BLOCK).into(), [u64::from(count * 2 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(count, 1));
    pieces.iter().for_each(|piece| commons.map.set_have(layout.piece(*piece).unwrap()));
    let settings = Settings { slots: 1, seed_slots: 1, ..Desk::settings() };
    Desk::with(layout, commons, 0, settings)
}

fn unchoked(desk: &Desk, slots: [PeerSlot; 2]) -> [bool; 2] {
    slots.map(|slot| desk.swarm.peers.get(slot).unwrap().unchoked)
}

/// Time passes, and these peers are busy.
fn pass(desk: &mut Desk, seconds: u32, busy: &[PeerSlot]) {
    for _ in 0..seconds * 2 {
        desk.now += Duration::from_millis(500);
        for slot in busy {
            desk.swarm.peers.get_mut(*slot).unwrap().last_asked = desk.now;
        }
        desk.swarm.tick(desk.now);
    }
}

fn take(desk: &mut Desk, slot: PeerSlot) -> Vec<[u32; 2]> {
    let mut out: Vec<Block> = Vec::new();
    desk.swarm.take_upload(slot, 1, &mut out);
    out.into_iter().map(|block| [block.piece.get(), block.begin / BLOCK]).collect()
}

#[test]
fn a_slot_is_not_taken_back_in_the_middle_of_a_piece() {
    let mut desk = desk(&[0, 1]);
    let peers = [1, 2].map(|number| desk.taker(number));
    for (piece, begin) in [(0, 0), (0, BLOCK), (1, 0)] {
        desk.ask(peers[0], [piece, begin, BLOCK]);
    }
    assert_eq!(take(&mut desk, peers[0]), [[0, 0]]);
    pass(&mut desk, 45, &peers);
    assert_eq!(unchoked(&desk, peers), [true, false], "its turn is over, the piece is not");
    assert_eq!(take(&mut desk, peers[0]), [[0, 1]]);
    assert_eq!(take(&mut desk, peers[0]), [[0; 2]; 0], "another piece is not begun");
    pass(&mut desk, 1, &peers);
    assert_eq!(unchoked(&desk, peers), [false, true]);
}

#[test]
fn a_piece_that_is_not_ended_holds_a_slot_for_half_a_minute_only() {
    let mut desk = desk(&[0, 1]);
    let peers = [1, 2].map(|number| desk.taker(number));
    desk.ask(peers[0], [0, 0, BLOCK]);
    assert_eq!(take(&mut desk, peers[0]), [[0, 0]]);
    pass(&mut desk, 55, &peers);
    assert_eq!(unchoked(&desk, peers), [true, false]);
    pass(&mut desk, 20, &peers);
    assert_eq!(unchoked(&desk, peers), [false, true]);
}

#[test]
fn who_cannot_end_its_piece_in_half_a_minute_has_no_such_time_but_from_a_seed() {
    // Of how many pieces we have two; bytes a second that go to the peer.
    for (count, rate, turn, stays) in [(3, 100, 25, false), (3, 2000, 25, true), (2, 100, 45, true)] {
        let mut desk = desk_of(count, &[0, 1]);
        let first = desk.taker(1);
        // It owes so much that chance hardly favours it.
        desk.swarm.peers.get_mut(first).unwrap().uploaded = 1 << 30;
        desk.ask(first, [0, 0, BLOCK]);
        assert_eq!(take(&mut desk, first), [[0, 0]]);
        let serve = |desk: &mut Desk, seconds, busy: &[PeerSlot]| {
            for _ in 0..seconds {
                desk.swarm.sent(desk.now, first, rate);
                pass(desk, 1, busy);
            }
        };
        serve(&mut desk, 5, &[first]);
        let second = desk.taker(2);
        serve(&mut desk, turn - 5, &[first, second]);
        assert_eq!(unchoked(&desk, [first, second]), [stays, !stays], "{rate} B/s, {count} pieces");
    }
}

#[test]
fn who_asks_for_another_piece_has_had_its_turn() {
    // With a seed, and with one who lacks a piece.
    for (count, turn) in [(2, 41), (3, 25)] {
        let mut desk = desk_of(count, &[0, 1]);
        let peers = [1, 2].map(|number| desk.taker(number));
        desk.ask(peers[0], [0, 0, BLOCK]);
        assert_eq!(take(&mut desk, peers[0]), [[0, 0]]);
        pass(&mut desk, turn, &peers);
        assert_eq!(unchoked(&desk, peers), [true, false], "in the middle of a piece");
        // Its other block it has not asked for.
        desk.ask(peers[0], [1, 0, BLOCK]);
        assert_eq!(take(&mut desk, peers[0]), [[0; 2]; 0]);
        pass(&mut desk, 1, &peers);
        assert_eq!(unchoked(&desk, peers), [false, true]);
    }
}

/// A slot for who gives most, and one by chance, which is another's every 30 s.
#[test]
fn the_optimistic_slot_is_anothers_every_30_s() {
    let mut desk = desk(&[0]);
    (own(&mut desk).slots, own(&mut desk).most_peers) = (2, 20);
    let giver = desk.taker(1);
    let riders: Vec<_> = (2..12).map(|number| desk.taker(number)).collect();
    let all: Vec<_> = riders.iter().copied().chain([giver]).collect();
    let (mut holder, mut since, mut turns) = (None, 0, Vec::new());
    for second in 0..600 {
        desk.swarm.peers.get_mut(giver).unwrap().downloaded += 100_000;
        pass(&mut desk, 1, &all);
        all.iter().for_each(|slot| desk.hear(*slot, Message::KeepAlive));
        let holds = |slot: &PeerSlot| desk.swarm.peers.get(*slot).unwrap().unchoked;
        let now = riders.iter().copied().find(holds);
        if second > 30 {
            assert!(holds(&giver), "at {second} s");
        }
        if now != holder && now.is_some() {
            turns.extend(holder.map(|_| second - since));
            (holder, since) = (now, second);
        }
    }
    assert!(turns.len() >= 14 && turns[1..].iter().all(|turn| (29..=41).contains(turn)), "{turns:?}");
}

#[test]
fn a_slot_between_two_pieces_is_taken_back_at_once_when_its_turn_is_over() {
    let mut desk = desk(&[0, 1]);
    let peers = [1, 2].map(|number| desk.taker(number));
    pass(&mut desk, 28, &peers);
    assert_eq!(unchoked(&desk, peers), [true, false]);
    pass(&mut desk, 14, &peers);
    assert_eq!(unchoked(&desk, peers), [false, true]);
}

#[test]
fn a_slot_that_is_not_used_goes_to_who_waits_after_three_seconds() {
    let mut desk = desk(&[0, 1]);
    let peers = [1, 2].map(|number| desk.taker(number));
    pass(&mut desk, 2, &[]);
    assert_eq!(unchoked(&desk, peers), [true, false]);
    pass(&mut desk, 2, &[]);
    assert_eq!(unchoked(&desk, peers), [false, true]);
}

#[test]
fn requests_that_wait_and_blocks_that_are_sent_are_use_of_a_slot() {
    let mut desk = desk(&[0, 1]);
    let peers = [1, 2].map(|number| desk.taker(number));
    desk.ask(peers[0], [0, 0, BLOCK]);
    pass(&mut desk, 8, &[]);
    assert_eq!(unchoked(&desk, peers), [true, false], "it waits for us, not we for it");
    assert_eq!(take(&mut desk, peers[0]), [[0, 0]]);
    desk.swarm.sent(desk.now, peers[0], BLOCK.into());
    pass(&mut desk, 2, &[]);
    assert_eq!(unchoked(&desk, peers), [true, false], "it was sent something just now");
    pass(&mut desk, 2, &[]);
    assert_eq!(unchoked(&desk, peers), [false, true]);
}

#[test]
fn who_asks_again_has_its_slot_in_use_and_nobody_loses_one_for_nothing() {
    let mut desk = desk(&[0, 1]);
    let first = desk.taker(1);
    pass(&mut desk, 20, &[]);
    desk.ask(first, [0, 0, BLOCK]);
    let second = desk.taker(2);
    pass(&mut desk, 1, &[]);
    assert_eq!(unchoked(&desk, [first, second]), [true, false], "it was idle while nobody waited");
}

/// Two wait for the slot of a third, the first of them longer; says who gets it when the third goes. These bytes the first has
/// had of us, and given.
fn heir(uploaded: u64, downloaded: u64) -> [bool; 2] {
    let mut desk = desk(&[0]);
    let holder = desk.taker(1);
    let first = desk.taker(2);
    desk.now += Duration::from_secs(2);
    let second = desk.taker(3);
    let peer = desk.swarm.peers.get_mut(first).unwrap();
    (peer.uploaded, peer.downloaded) = (uploaded, downloaded);
    desk.swarm.gone(desk.now, holder);
    unchoked(&desk, [first, second])
}

#[test]
fn a_free_slot_goes_to_who_gives() {
    let mut desk = desk(&[0]);
    let holder = desk.taker(1);
    let first = desk.taker(2);
    desk.now += Duration::from_secs(2);
    let second = desk.taker(3);
    desk.swarm.peers.get_mut(second).unwrap().trade = 1;
    desk.swarm.gone(desk.now, holder);
    assert_eq!(unchoked(&desk, [first, second]), [false, true]);
}

#[test]
fn who_took_much_and_gave_nothing_waits_longer() {
    assert_eq!(heir(0, 0), [true, false], "the longest waiting");
    assert_eq!(heir(1 << 20, 0), [false, true]);
    assert_eq!(heir(1 << 20, 1 << 19), [true, false], "half of it came back");
    assert_eq!(heir(100 << 10, 0), [true, false], "a gift to begin with");
}

#[test]
fn a_seed_is_owed_nothing_by_who_takes() {
    let mut desk = desk(&[0, 1]);
    let holder = desk.taker(1);
    let first = desk.taker(2);
    desk.now += Duration::from_secs(2);
    let second = desk.taker(3);
    desk.swarm.peers.get_mut(first).unwrap().uploaded = 1 << 30;
    desk.swarm.gone(desk.now, holder);
    assert_eq!(unchoked(&desk, [first, second]), [true, false]);
}

fn contender(number: u64, debt: u32) -> Contender {
    Contender {
        tag: Tag { core: 0, number },
        down: 0,
        up: 0,
        unchoked: false,
        since: Duration::from_secs(number),
        age: Duration::from_secs(100),
        debt,
        is_creditor: false,
        begins: true,
        nears_first: false,
        progress: 500,
    }
}

#[test]
fn among_those_who_give_nothing_who_owes_least_comes_first() {
    let all = [3, 0, 1, 2].into_iter().enumerate().map(|(number, debt)| contender(number as u64, debt));
    let mut rng = fastrand::Rng::with_seed(1);
    let chosen = round(all.collect(), 3, Rule::Trade, &mut Vec::new(), &mut rng);
    assert_eq!([chosen[0].number, chosen[1].number], [1, 2]);
}

#[test]
fn chance_favours_who_owes_least() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut lucky = [0, 0];
    for _ in 0..1700 {
        // One comes first by its rate; the other two draw for the slot that is left.
        let all = vec![Contender { down: 9, ..contender(2, 0) }, contender(0, 0), contender(1, 4)];
        let chosen = round(all, 2, Rule::Trade, &mut Vec::new(), &mut rng);
        lucky[chosen[1].number as usize] += 1;
    }
    assert!((60..=150).contains(&lucky[1]), "one in seventeen: {lucky:?}");
}

/// A newcomer needs a whole piece before it can give anything, however long pieces are.
#[test]
fn who_has_had_no_more_than_a_piece_only_begins() {
    let mut desk = desk(&[0, 1]);
    let slot = desk.taker(1);
    let mut begins = |uploaded, downloaded, piece_length| {
        let peer = desk.swarm.peers.get_mut(slot).unwrap();
        (peer.uploaded, peer.downloaded) = (uploaded, downloaded);
        peer.begins(piece_length)
    };
    assert!(begins(100 << 10, 0, 64 << 10) && !begins(128 << 10, 0, 64 << 10));
    assert!(begins(7 << 20, 0, 4 << 20) && !begins(8 << 20, 0, 4 << 20));
    assert!(begins(9 << 20, 1 << 20, 4 << 20), "it gives something back");
}

#[test]
fn who_has_nothing_yet_nears_its_first_piece_if_the_rate_is_enough() {
    let mut desk = desk(&[0]);
    let slot = desk.taker(1);
    for _ in 0..20 {
        desk.swarm.sent(desk.now, slot, 10_000);
        pass(&mut desk, 1, &[slot]);
    }
    let nears = |desk: &Desk, piece_length| {
        desk.swarm.peers.get(slot).unwrap().nears_first(piece_length, Duration::from_secs(100))
    };
    assert!(nears(&desk, 900_000), "200 kB it has, about a million is on its way");
    assert!(!nears(&desk, 1_500_000));
    desk.hear(slot, Message::Have(0));
    assert!(!nears(&desk, 900_000), "it has a piece");
}

#[test]
fn who_gave_more_than_twice_what_it_got_is_a_creditor() {
    let mut desk = desk(&[0]);
    let slot = desk.taker(1);
    let mut is_creditor = |uploaded, downloaded| {
        let peer = desk.swarm.peers.get_mut(slot).unwrap();
        (peer.uploaded, peer.downloaded) = (uploaded, downloaded);
        peer.is_creditor()
    };
    assert!(!is_creditor(0, 0) && !is_creditor(0, 16_384) && is_creditor(0, 65_536));
    assert!(!is_creditor(100_000, 200_000) && is_creditor(100_000, 265_536));
}

#[test]
fn who_loses_its_slot_and_gets_it_again_unheard_is_told_if_its_requests_are_forgotten() {
    for asks in [false, true] {
        let mut desk = desk(&[0]);
        let peer = desk.connect(false, 1).unwrap();
        desk.hear(peer, Message::Interested);
        assert_eq!(desk.say(peer).last(), Some(&Said::Unchoke));
        if asks {
            desk.ask(peer, [0, 0, BLOCK]);
        }
        desk.swarm.set_unchoked(desk.now, peer, false);
        assert!(desk.swarm.commons.slots.take(false));
        desk.swarm.set_unchoked(desk.now, peer, true);
        let said = desk.say(peer);
        assert_eq!(said, if asks { vec![Said::Choke, Said::Unchoke] } else { vec![] });
    }
}

#[test]
fn who_loses_interest_and_finds_it_again_is_told_if_its_requests_are_forgotten() {
    for asks in [false, true] {
        let mut desk = desk(&[0]);
        let peer = desk.taker(1);
        if asks {
            desk.ask(peer, [0, 0, BLOCK]);
        }
        desk.say(peer);
        desk.wishes();
        desk.hear(peer, Message::NotInterested);
        desk.hear(peer, Message::Interested);
        assert_eq!(desk.wishes().contains(&Wish::Wake(peer)), asks);
        assert_eq!(desk.say(peer), if asks { vec![Said::Choke, Said::Unchoke] } else { vec![] });
        desk.ask(peer, [0, 0, BLOCK]);
        assert_eq!(desk.swarm.peers.get(peer).unwrap().uploads.iter().count(), 1);
    }
}
