//! Super-seeding (BEP 16).

use super::cores::nudge;
use super::desk::{BLOCK, Desk, Said, bits};
use super::sim::plan::{Has, NodePlan, Plan};
use super::sim::world::World;
use crate::metainfo::Layout;
use crate::swarm::{Commons, PeerSlot, Settings, Wish};
use crate::wire::Message;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(super) fn seed(pieces: u32) -> Desk {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(pieces * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(pieces, 1));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let settings = Settings { super_seed: true, seed_slots: 4, ..Desk::settings() };
    Desk::with(layout, commons, 0, settings)
}

fn shown(desk: &mut Desk, slot: PeerSlot) -> Vec<u32> {
    let said = desk.say(slot).into_iter();
    said.filter_map(|said| if let Said::Have(piece) = said { Some(piece) } else { None }).collect()
}

/// A peer that wants all.
fn leech(desk: &mut Desk, number: u8) -> PeerSlot {
    let slot = desk.connect(false, number).unwrap();
    desk.hear(slot, Message::Interested);
    slot
}

/// A peer asks for a piece of one block, and is sent it.
fn fetch(desk: &mut Desk, slot: PeerSlot, piece: u32) {
    desk.ask(slot, [piece, 0, BLOCK]);
    let mut blocks = Vec::new();
    desk.swarm.take_upload(slot, u32::MAX, &mut blocks);
    assert_eq!(blocks, [desk.block(piece, 0)]);
    desk.swarm.sent(desk.now, slot, BLOCK.into());
}

/// A peer fetches whatever it is shown, and says that it has it; how many that was.
fn take(desk: &mut Desk, slot: PeerSlot) -> u32 {
    let mut got = 0;
    loop {
        let pieces = shown(desk, slot);
        if pieces.is_empty() {
            return got;
        }
        for piece in pieces {
            fetch(desk, slot, piece);
            desk.hear(slot, Message::Have(piece));
            got += 1;
        }
    }
}

#[test]
fn pieces_are_shown_by_twos_and_the_next_when_another_peer_has_one() {
    let mut desk = seed(20);
    let [a, b] = [1, 2].map(|number| desk.connect(false, number).unwrap());
    let to_a = desk.say(a);
    assert!(matches!(to_a[..], [Said::Have(_), Said::Have(_)]), "no bitfield: {to_a:?}");
    let &[Said::Have(first), Said::Have(second)] = &to_a[..] else { return };
    let to_b = shown(&mut desk, b);
    assert!(to_b.len() == 2 && !to_b.contains(&first) && !to_b.contains(&second), "others: {to_b:?}");
    desk.hear(a, Message::Have(first));
    desk.pass(5);
    assert!(shown(&mut desk, a).is_empty(), "it has that one for itself");
    desk.hear(b, Message::Have(first));
    let next = shown(&mut desk, a);
    assert!(next.len() == 1 && !to_b.contains(&next[0]), "{next:?}");
    assert!(shown(&mut desk, b).is_empty());
    desk.hear(a, Message::Have(second));
    desk.pass(11);
    assert!(!shown(&mut desk, a).is_empty(), "nobody wants it of that peer");
}

#[test]
fn who_comes_with_many_pieces_has_all_peers_looked_at_only_for_those_that_somebody_waits_for() {
    let mut desk = seed(640);
    let [first, second, late] = [1, 2, 3].map(|number| desk.connect(false, number).unwrap());
    let open: Vec<u32> = [first, second].into_iter().flat_map(|slot| shown(&mut desk, slot)).collect();
    assert_eq!(open.len(), 4);
    let all_but_one: Vec<u32> = (0..640).filter(|piece| *piece != open[0]).collect();
    let rounds = desk.swarm.peers.rounds.replace(0);
    assert!(rounds > 0);
    desk.hear(late, Message::Bitfield(&bits(640, &all_but_one)));
    let rounds = desk.swarm.peers.rounds.get();
    assert!((3..20).contains(&rounds), "{rounds} times");
    let waits = |slot| desk.swarm.peers.get(slot).unwrap().shown.as_ref().unwrap().open.len();
    assert_eq!([first, second].map(waits), [1, 0], "they have passed the others on");
}

#[test]
fn what_a_peer_does_not_want_keeps_nobody_waiting() {
    let mut desk = seed(160);
    let (picky, other) = (desk.connect(false, 1).unwrap(), leech(&mut desk, 2));
    let (mut got, mut others, mut told) = (Vec::new(), 0, 0);
    for _ in 0..60 {
        let pieces = shown(&mut desk, picky);
        told += pieces.len();
        for piece in pieces.into_iter().filter(|piece| [3, 77].contains(piece)) {
            desk.hear(picky, Message::Interested);
            fetch(&mut desk, picky, piece);
            desk.hear(picky, Message::Have(piece));
            got.push(piece);
        }
        others += take(&mut desk, other);
        desk.pass(1);
    }
    got.sort_unstable();
    assert_eq!((&got[..], others), (&[3, 77][..], 160), "of {told} pieces");
    [picky, other].into_iter().for_each(|slot| desk.swarm.gone(desk.now, slot));
    let commons = &desk.swarm.commons;
    let counted = |piece| commons.spread.is_awaited(piece) || commons.spread.count(piece) > 0;
    assert!(!desk.layout.pieces().any(counted));
}

/// Nothing but what it was sent comes to it, and what it has nobody else wants.
#[test]
fn who_wants_a_part_only_does_not_slow_down_who_wants_all() {
    let mut desk = seed(160);
    let [part, all] = [1, 2].map(|number| leech(&mut desk, number));
    let (mut sent, mut got, mut seconds) = (0, 0, 0);
    while got < 120 {
        for piece in shown(&mut desk, part).into_iter().filter(|piece| *piece >= 120) {
            fetch(&mut desk, part, piece);
            desk.hear(part, Message::Have(piece));
            sent += 1;
        }
        got += take(&mut desk, all);
        desk.pass(1);
        seconds += 1;
        assert!(seconds < 15, "{got} pieces after {seconds} s");
    }
    assert!(sent + got <= 160, "{sent} and {got}: each once");
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let mut desk = seed(160);
    let (_, other) = (leech(&mut desk, 1), leech(&mut desk, 2));
    let mut got = 0;
    for _ in 0..15 {
        got += take(&mut desk, other);
        desk.pass(1);
    }
    assert_eq!(got, 160);
}

#[test]
fn who_sees_nobody_else_gets_more_and_more_at_a_time() {
    let mut desk = seed(160);
    let peers = [1, 2].map(|number| leech(&mut desk, number));
    let mut got = [0; 2];
    for _ in 0..120 {
        (0..2).for_each(|number| got[number] += take(&mut desk, peers[number]));
        desk.pass(1);
    }
    assert_eq!(got, [160; 2]);
}

/// Each knows the seed alone: what one has the other can only have of the seed, which has a link of so many pieces a second.
#[test]
fn those_who_cannot_meet_keep_the_link_busy_to_the_end() {
    for leeches in [2, 3, 4] {
        let (mut desk, each, speed) = (seed(160), 160, 8);
        let peers: Vec<_> = (0..leeches).map(|number| leech(&mut desk, number)).collect();
        let mut wanted = vec![VecDeque::new(); peers.len()];
        let (mut got, mut seconds) = (0, 0);
        while got < each * usize::from(leeches) {
            let mut room = speed;
            while room > 0 {
                for (peer, wanted) in peers.iter().zip(&mut wanted) {
                    let pieces = shown(&mut desk, *peer);
                    pieces.iter().for_each(|piece| desk.ask(*peer, [*piece, 0, BLOCK]));
                    wanted.extend(pieces);
                }
                let next =
                    (0..peers.len()).max_by_key(|next| wanted[*next].len()).expect("there are leeches");
                let Some(piece) = wanted[next].pop_front() else { break };
                let mut blocks = Vec::new();
                desk.swarm.take_upload(peers[next], BLOCK, &mut blocks);
                desk.swarm.sent(desk.now, peers[next], BLOCK.into());
                assert_eq!(blocks, [desk.block(piece, 0)]);
                desk.hear(peers[next], Message::Have(piece));
                (got, room) = (got + 1, room - 1);
            }
            desk.pass(1);
            seconds += 1;
        }
        let bound = each * usize::from(leeches) / speed;
        assert!(seconds <= bound * 5 / 4 + 5, "{leeches} leeches: {seconds} s, {bound} at least");
    }
}

#[test]
fn who_tells_late_of_what_it_has_gets_as_much_as_spreads_meanwhile() {
    let mut desk = seed(320);
    let peers = [1, 2].map(|number| leech(&mut desk, number));
    let (mut sent, mut late) = (vec![0; 320], VecDeque::new());
    for second in 0..60 {
        for (number, peer) in peers.into_iter().enumerate() {
            for piece in shown(&mut desk, peer).into_iter() {
                // What is on its way from the other it does not ask for.
                if sent[piece as usize] == 0 {
                    fetch(&mut desk, peer, piece);
                    sent[piece as usize] += 1;
                    late.push_back((second + 4, peers[number], piece));
                    late.push_back((second + 8, peers[1 - number], piece));
                }
            }
        }
        late.make_contiguous().sort_unstable();
        while let Some((_, peer, piece)) = late.pop_front_if(|(at, _, _)| *at <= second) {
            desk.hear(peer, Message::Have(piece));
        }
        desk.pass(1);
    }
    assert_eq!(sent, vec![1; 320], "in a minute");
}

#[test]
fn who_has_just_come_counts() {
    let mut desk = seed(160);
    let peers = [1, 2, 3].map(|number| leech(&mut desk, number));
    let got = peers.map(|peer| take(&mut desk, peer));
    assert_eq!(got, [2; 3], "nobody is alone");
}

#[test]
fn what_a_peer_got_of_others_that_were_shown_it_keeps_it_waiting_for_nothing() {
    for tells in [false, true] {
        let mut desk = seed(8);
        let [a, b, c] = [1, 2, 3].map(|number| desk.connect(false, number).unwrap());
        let [to_a, to_b, to_c] = [a, b, c].map(|peer| shown(&mut desk, peer));
        let to_d = desk.connect(false, 4).map(|peer| shown(&mut desk, peer)).unwrap();
        desk.pass(1);
        desk.hear(a, Message::Interested);
        desk.pass(1);
        to_a.iter().for_each(|piece| desk.hear(b, Message::Have(*piece)));
        let second = shown(&mut desk, a);
        assert!(second.len() == 2 && to_a.iter().all(|piece| !second.contains(piece)), "of those of others");
        let get = |desk: &mut Desk, pieces: &[u32]| {
            desk.pass(1);
            if tells {
                pieces.iter().for_each(|piece| desk.hear(a, Message::Have(*piece)));
            }
            desk.hear(a, Message::NotInterested);
            desk.hear(a, Message::Interested);
            desk.pass(1);
            shown(desk, a)
        };
        let third = get(&mut desk, &second);
        let last = get(&mut desk, &third);
        let mut all = [to_a, second, third, last].concat();
        all.sort_unstable();
        assert_eq!(all, (0..8).collect::<Vec<_>>());
        assert_eq!([to_b, to_c, to_d].map(|pieces| pieces.len()), [2; 3]);
    }
    // What nobody else was shown it can have from nobody else.
    let mut desk = seed(8);
    let [a, _] = [1, 2].map(|number| desk.connect(false, number).unwrap());
    assert_eq!(shown(&mut desk, a).len(), 2);
    desk.pass(1);
    desk.hear(a, Message::Interested);
    desk.hear(a, Message::NotInterested);
    assert_eq!(shown(&mut desk, a), [0u32; 0]);
}

#[test]
fn only_what_was_shown_is_served() {
    let mut desk = seed(20);
    let peer = desk.connect(false, 1).unwrap();
    let pieces = shown(&mut desk, peer);
    desk.hear(peer, Message::Interested);
    desk.say(peer);
    let other = (0..20).find(|piece| !pieces.contains(piece)).unwrap();
    desk.ask(peer, [other, 0, BLOCK]);
    assert!(!desk.swarm.has_uploads(peer));
    desk.ask(peer, [pieces[0], 0, BLOCK]);
    assert!(desk.swarm.has_uploads(peer));
}

#[test]
fn a_lonely_peer_gets_everything() {
    let mut desk = seed(9);
    let peer = desk.connect(false, 1).unwrap();
    let mut got = 0;
    for _ in 0..20 {
        for piece in shown(&mut desk, peer) {
            desk.hear(peer, Message::Have(piece));
            got += 1;
        }
        desk.pass(1);
    }
    assert_eq!(got, 9);
}

#[test]
fn who_is_alone_on_all_cores_need_not_wait_for_others() {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(9 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(9, 2));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let settings = || Settings { super_seed: true, seed_slots: 4, ..Desk::settings() };
    let mut desks =
        [0, 1].map(|core| Desk::with(Arc::clone(&layout), Arc::clone(&commons), core, settings()));
    let peer = desks[1].connect(false, 1).unwrap();
    let take = |desks: &mut [Desk; 2], times: u32| {
        let mut got = 0;
        for _ in 0..times {
            for piece in shown(&mut desks[1], peer) {
                desks[1].hear(peer, Message::Have(piece));
                got += 1;
            }
            for desk in desks.iter_mut() {
                // It has others to send to.
                desk.swarm.gave = desk.now + Duration::from_secs(1);
                desk.pass(1);
            }
        }
        got
    };
    let got = take(&mut desks, 2);
    assert!(got > 2 && got < 7, "there is nobody to give anything to");
    desks[0].connect(false, 2).unwrap();
    let shown = got + take(&mut desks, 1);
    assert_eq!(take(&mut desks, 5), 0, "the other one is there to be given pieces");
    assert_eq!(shown + take(&mut desks, 15), 9, "but takes none");
}

#[test]
fn a_core_hears_at_once_when_a_peer_of_another_has_what_it_waits_for() {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(20 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(20, 2));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let settings = || Settings { super_seed: true, seed_slots: 4, ..Desk::settings() };
    let [mut one, mut other] =
        [0, 1].map(|core| Desk::with(Arc::clone(&layout), Arc::clone(&commons), core, settings()));
    let (giver, taker) = (one.connect(false, 1).unwrap(), other.connect(false, 2).unwrap());
    let (first, to_taker) = (shown(&mut one, giver), shown(&mut other, taker));
    [&mut one, &mut other].into_iter().for_each(|desk| desk.pass(1));
    nudge(&mut other, &mut one);
    assert!(first.len() == 2 && shown(&mut one, giver).is_empty());
    for piece in first {
        other.hear(taker, Message::Have(piece));
        assert!(nudge(&mut other, &mut one).contains(&Wish::Nudge), "no time has passed");
        assert!(one.wishes().contains(&Wish::Wake(giver)));
        assert_eq!(shown(&mut one, giver).len(), 1, "the next");
    }
    // What nobody waits for is no news.
    let told = (0..20).filter(|piece| !commons.spread.is_awaited(layout.piece(*piece).unwrap()));
    told.for_each(|piece| other.hear(taker, Message::Have(piece)));
    to_taker.iter().for_each(|piece| other.hear(taker, Message::Have(*piece)));
    assert!(!nudge(&mut other, &mut one).contains(&Wish::Nudge));
    // Who goes waits for nothing.
    one.swarm.gone(one.now, giver);
    other.swarm.gone(other.now, taker);
    assert!(
        layout.pieces().all(|piece| !commons.spread.is_awaited(piece) && commons.spread.count(piece) == 0)
    );
}

#[test]
fn a_super_seed_gives_little_more_than_one_copy() {
    for seed in 0..10 {
        let uploaded = |super_seed| {
            let first = NodePlan { super_seed, ..NodePlan::seed() };
            let leech = NodePlan { has: Has::Nothing, ..NodePlan::seed() };
            let mut nodes = vec![first];
            nodes.extend(vec![leech; 5]);
            let mut world = World::new(Plan::quiet(seed, 65_536, 3_000_000, nodes));
            world.run();
            world.nodes[0].uploaded
        };
        let (plain, sparing) = (uploaded(false), uploaded(true));
        println!("seed {seed}: {plain} bytes from a seed, {sparing} from a super-seed");
        assert!(sparing < 3_000_000 * 3 / 2, "seed {seed}: {sparing} bytes of 3000000");
    }
}
