//! Upload slots on one core and on several.

use super::desk::{BLOCK, Desk, Said};
use crate::metainfo::Layout;
use crate::swarm::choking::FEWEST;
use crate::swarm::{Commons, PeerSlot, Settings, Wish};
use crate::wire::Message;
use std::sync::Arc;
use std::time::Duration;

/// Cores of one torrent, the first of its pieces had.
fn cores(count: usize, settings: Settings) -> Vec<Desk> {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(3 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(3, count));
    commons.map.set_have(layout.piece(0).unwrap());
    let desk = |core| Desk::with(Arc::clone(&layout), Arc::clone(&commons), core, settings.clone());
    (0..count).map(desk).collect()
}

fn settings(slots: usize) -> Settings {
    Settings { most_peers: 100, slots, seed_slots: slots, ..Desk::settings() }
}

/// Delivers nudges until there are none.
fn ring(cores: &mut [Desk]) {
    for _ in 0..20 {
        let nudged: Vec<usize> =
            (0..cores.len()).filter(|core| cores[*core].wishes().contains(&Wish::Nudge)).collect();
        if nudged.is_empty() {
            return;
        }
        for from in nudged {
            let others = cores.iter_mut().enumerate().filter(|(core, _)| *core != from);
            others.for_each(|(_, desk)| desk.swarm.catch_up(desk.now));
        }
    }
    panic!("the cores nudge each other without end");
}

/// Time passes on all cores, and peers with slots use them; each of these peers sends so many bytes a second.
fn pass(cores: &mut [Desk], seconds: u32, rates: &[(usize, PeerSlot, u64)]) {
    for _ in 0..seconds * 2 {
        for (core, slot, rate) in rates {
            cores[*core].swarm.peers.get_mut(*slot).unwrap().downloaded += rate / 2;
        }
        for desk in cores.iter_mut() {
            desk.now += Duration::from_millis(500);
            desk.swarm.peers.iter_mut().for_each(|(_, peer)| peer.last_asked = desk.now);
            desk.swarm.tick(desk.now);
        }
        ring(cores);
    }
}

fn unchoked(desk: &Desk, slot: PeerSlot) -> bool {
    desk.swarm.peers.get(slot).unwrap().unchoked
}

#[test]
fn all_peers_are_ranked_together_whichever_core_they_are_on() {
    // The three that give most are on one core: dealt out by demand, one of them would have no slot.
    let mut cores = cores(2, settings(4));
    let fast = [1, 2, 3].map(|number| cores[0].taker(number));
    let slow = [11, 12, 13].map(|number| cores[1].taker(number));
    let rates: Vec<_> =
        fast.map(|slot| (0, slot, 100_000)).into_iter().chain(slow.map(|slot| (1, slot, 1000))).collect();
    pass(&mut cores, 25, &rates);
    assert_eq!(fast.map(|slot| unchoked(&cores[0], slot)), [true; 3]);
    let lucky = slow.into_iter().filter(|slot| unchoked(&cores[1], *slot)).count();
    assert_eq!(lucky, 1, "the optimistic slot");
}

#[test]
fn who_gives_has_a_slot_after_the_next_round_though_others_are_in_the_middle_of_a_piece() {
    let mut cores = cores(2, settings(3));
    let riders = [(0, 1), (0, 2), (1, 11)].map(|(core, number)| (core, cores[core].taker(number)));
    pass(&mut cores, 5, &[]);
    let late = [(0, 3), (1, 12)].map(|(core, number)| (core, cores[core].taker(number)));
    for (core, slot) in riders {
        let piece = cores[core].layout.piece(0).unwrap();
        cores[core].swarm.peers.get_mut(slot).unwrap().serving = Some((piece, 0));
    }
    pass(&mut cores, 5, &[]);
    assert_eq!(late.map(|(core, slot)| unchoked(&cores[core], slot)), [false; 2], "nobody gives yet");
    pass(&mut cores, 11, &late.map(|(core, slot)| (core, slot, 1000)));
    assert_eq!(late.map(|(core, slot)| unchoked(&cores[core], slot)), [true; 2]);
    let left = riders.into_iter().filter(|(core, slot)| unchoked(&cores[*core], *slot)).count();
    assert_eq!(left, 1, "the optimistic slot");
}

#[test]
fn a_slot_that_gets_free_on_one_core_is_given_at_once_on_another() {
    let mut cores = cores(2, settings(2));
    let first = [1, 2].map(|number| cores[0].taker(number));
    let waiting = cores[1].taker(11);
    ring(&mut cores);
    assert!(!unchoked(&cores[1], waiting));
    let now = cores[0].now;
    cores[0].swarm.gone(now, first[0]);
    ring(&mut cores);
    assert!(unchoked(&cores[1], waiting), "no time has passed");
}

fn is_in_debt(cores: &[Desk]) -> bool {
    cores[0].swarm.commons.slots.is_in_debt()
}

/// Time passes for all, and only some are awake; peers with slots use them.
fn pass_asleep(cores: &mut [Desk], halves: u32, awake: &[usize]) {
    for _ in 0..halves {
        for desk in cores.iter_mut() {
            desk.now += Duration::from_millis(500);
            desk.swarm.peers.iter_mut().for_each(|(_, peer)| peer.last_asked = desk.now);
        }
        awake.iter().for_each(|core| _ = cores[*core].swarm.tick(cores[*core].now));
    }
}

#[test]
fn a_core_that_is_late_for_a_poll_keeps_its_slots_and_no_more_than_there_are_is_given() {
    let mut cores = cores(2, Settings { fetch: false, ..settings(2) });
    let (first, kept) = (cores[0].taker(1), cores[1].taker(11));
    let waiting = cores[0].taker(2);
    pass(&mut cores, 5, &[]);
    assert!(unchoked(&cores[0], first) && unchoked(&cores[1], kept) && !unchoked(&cores[0], waiting));
    cores[1].say(kept);
    let since = |cores: &[Desk]| cores[1].swarm.peers.get(kept).unwrap().unchoked_since;
    let begun = since(&cores);
    for _ in 0..3 {
        pass_asleep(&mut cores, 20, &[0]);
        let now = cores[1].now;
        cores[1].swarm.catch_up(now);
        assert!(unchoked(&cores[1], kept) && cores[1].say(kept).is_empty());
        assert_eq!(since(&cores), begun, "nor was it broken off and given back");
        let served = [first, waiting].into_iter().filter(|slot| unchoked(&cores[0], *slot)).count();
        assert!(served <= 1, "{served} of one slot that is left");
        assert!(!is_in_debt(&cores), "no slot is kept that nobody leaves");
    }
    // When it is in time again, it gives way as others do.
    let gives_way = (0..60).any(|_| {
        pass(&mut cores, 1, &[]);
        !unchoked(&cores[1], kept)
    });
    assert!(gives_way);
}

/// Time passes until there is a new verdict by which slots are kept, and which the second core has not read.
fn pass_until_unread(cores: &mut [Desk]) {
    let posted = |cores: &[Desk]| cores[0].swarm.commons.slots.verdict(0).map_or(0, |verdict| verdict.call);
    for _ in 0..100 {
        let before = posted(cores);
        pass_asleep(cores, 1, &[0, 1]);
        let now = cores[0].now;
        cores[0].swarm.catch_up(now);
        if posted(cores) > before && is_in_debt(cores) {
            return;
        }
        cores[1].swarm.catch_up(now);
    }
    panic!("nobody waits for a slot");
}

#[test]
fn a_slot_that_is_kept_for_who_leaves_before_it_hears_of_it_is_free_at_once() {
    let mut cores = cores(2, Settings { fetch: false, ..settings(1) });
    let (first, next) = (cores[0].taker(1), cores[1].taker(11));
    ring(&mut cores);
    assert!(unchoked(&cores[0], first));
    pass_until_unread(&mut cores);
    assert!(!unchoked(&cores[0], first), "its turn is over");
    let now = cores[1].now;
    cores[1].swarm.gone(now, next);
    ring(&mut cores);
    assert!(!is_in_debt(&cores) && unchoked(&cores[0], first), "nobody else waits");
}

#[test]
fn who_is_chosen_once_more_and_leaves_before_it_hears_of_it_takes_nobody_elses_slot_along() {
    let mut cores = cores(2, Settings { fetch: false, ..settings(2) });
    let holders = [1, 2].map(|number| cores[0].taker(number));
    let (leaves, _stays) = (cores[1].taker(11), cores[0].taker(3));
    ring(&mut cores);
    // They keep their slots for the rest of a piece.
    let piece = cores[0].layout.piece(0).unwrap();
    holders
        .into_iter()
        .for_each(|slot| cores[0].swarm.peers.get_mut(slot).unwrap().serving = Some((piece, 0)));
    pass_until_unread(&mut cores);
    ring(&mut cores);
    pass_until_unread(&mut cores);
    let now = cores[1].now;
    cores[1].swarm.gone(now, leaves);
    ring(&mut cores);
    assert!(is_in_debt(&cores), "a slot is still kept for the other");
}

#[test]
fn who_does_not_want_its_slot_keeps_it_until_somebody_else_does() {
    let mut cores = cores(2, settings(1));
    let first = cores[0].taker(1);
    cores[0].hear(first, Message::NotInterested);
    assert!(unchoked(&cores[0], first), "it may want it again soon");
    cores[0].hear(first, Message::Interested);
    cores[0].hear(first, Message::NotInterested);
    let other = cores[1].taker(11);
    ring(&mut cores);
    assert!(unchoked(&cores[1], other) && !unchoked(&cores[0], first));
    assert_eq!(cores[0].say(first), [Said::Choke]);
}

/// Ten slots, ten who give, and some who have nothing yet: a piece takes a minute and a half.
#[test]
fn newcomers_among_givers_have_two_slots_of_ten_until_each_has_a_piece() {
    const RATE: u64 = 40_000;
    let layout = Arc::new(Layout::new(4 << 20, [3 << 22]).unwrap());
    let commons = Arc::new(Commons::new(3, 1));
    commons.map.set_have(layout.piece(0).unwrap());
    let settings = Settings { upload_limit: Some(300 << 10), ..settings(10) };
    let mut cores = vec![Desk::with(layout, commons, 0, settings)];
    let givers: Vec<_> = (1..=10).map(|number| cores[0].taker(number)).collect();
    let rates: Vec<_> = givers.iter().map(|slot| (0, *slot, RATE)).collect();
    let new: Vec<_> = (11..=16).map(|number| cores[0].taker(number)).collect();
    let second = |cores: &mut Vec<Desk>| {
        let now = cores[0].now;
        for slot in givers.iter().chain(&new) {
            cores[0].hear(*slot, Message::KeepAlive);
            let rate = if unchoked(&cores[0], *slot) { RATE } else { 0 };
            cores[0].swarm.sent(now, *slot, rate);
        }
        pass(cores, 1, &rates);
    };
    let served = |cores: &[Desk]| -> Vec<PeerSlot> {
        new.iter().copied().filter(|slot| unchoked(&cores[0], *slot)).collect()
    };
    (0..60).find(|_| {
        second(&mut cores);
        served(&cores).len() == 2
    });
    let lucky = served(&cores);
    assert_eq!(lucky.len(), 2);
    for _ in 0..95 {
        second(&mut cores);
        assert_eq!(served(&cores), lucky, "their turns go on");
    }
    lucky.iter().for_each(|slot| cores[0].hear(*slot, Message::Have(0)));
    (0..12).for_each(|_| second(&mut cores));
    assert!(lucky.iter().all(|slot| !unchoked(&cores[0], *slot)), "they have something to trade");
}

#[test]
fn slots_follow_the_upload_limit() {
    for (limit, expected) in [(8 * 1024, 2), (100 * 1024, 7), (100 << 20, 40)] {
        let mut cores = cores(2, Settings { upload_limit: Some(limit), ..settings(40) });
        let slots: Vec<_> = (0..50u8).map(|number| (usize::from(number % 2), number)).collect();
        let slots: Vec<_> =
            slots.into_iter().map(|(core, number)| (core, cores[core].taker(number))).collect();
        pass(&mut cores, 12, &[]);
        let count = slots.iter().filter(|(core, slot)| unchoked(&cores[*core], *slot)).count();
        assert_eq!(count, expected, "at {limit} bytes a second");
    }
}

/// Without a limit, a download has as many slots as what goes up is worth.
#[test]
fn slots_follow_what_goes_up() {
    let mut cores = cores(2, settings(40));
    let takers: Vec<_> = (0..50).map(|number| (usize::from(number % 2), number)).collect();
    let takers: Vec<_> = takers.into_iter().map(|(core, number)| (core, cores[core].taker(number))).collect();
    let of = |count: usize| count..=count;
    for (rate, expected) in [(0, of(FEWEST)), (8 << 20, of(40)), (1 << 20, 22..=27), (0, of(FEWEST))] {
        // Long enough for whoever has a slot too many to have had its turn.
        for _ in 0..80 {
            for (core, slot) in &takers[..2] {
                let now = cores[*core].now;
                cores[*core].swarm.sent(now, *slot, rate / 2);
            }
            pass(&mut cores, 1, &[]);
            takers.iter().for_each(|(core, slot)| cores[*core].hear(*slot, Message::KeepAlive));
        }
        let count = takers.iter().filter(|(core, slot)| unchoked(&cores[*core], *slot)).count();
        assert!(expected.contains(&count), "{count} at {rate} bytes a second");
    }
}

#[test]
fn seeds_give_everybody_a_turn_on_all_cores() {
    let mut cores = cores(2, Settings { fetch: false, ..settings(2) });
    let peers: Vec<_> =
        (0..6u8).map(|n| (usize::from(n % 2), n)).map(|(core, n)| (core, cores[core].taker(n))).collect();
    let mut turns = vec![0; 6];
    for _ in 0..24 {
        pass(&mut cores, 10, &[]);
        peers.iter().for_each(|(core, slot)| cores[*core].hear(*slot, Message::KeepAlive));
        let have: Vec<bool> = peers.iter().map(|(core, slot)| unchoked(&cores[*core], *slot)).collect();
        assert_eq!(have.iter().filter(|has| **has).count(), 2);
        turns.iter_mut().zip(have).for_each(|(turns, has)| *turns += u32::from(has));
    }
    assert!(turns.iter().all(|turns| (6..=10).contains(turns)), "{turns:?}");
}

#[test]
fn who_passes_nothing_on_waits_for_others_but_not_for_ever() {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(40 * BLOCK)]).unwrap());
    let commons = Arc::new(Commons::new(40, 1));
    layout.pieces().for_each(|piece| commons.map.set_have(piece));
    let mut cores = vec![Desk::with(layout, commons, 0, settings(1))];
    let [hoarder, other] = [1, 2].map(|number| {
        let peer = cores[0].connect(false, number).unwrap();
        cores[0].hear(peer, Message::Interested);
        peer
    });
    // A second, and both are still there.
    let talk = |cores: &mut Vec<Desk>| {
        [hoarder, other].into_iter().for_each(|peer| cores[0].hear(peer, Message::KeepAlive));
        pass(cores, 1, &[]);
    };
    cores[0].swarm.peers.get_mut(hoarder).unwrap().held = 1000;
    pass(&mut cores, 60, &[]);
    assert!(unchoked(&cores[0], other), "it comes first");
    let mut waited = 0;
    while !unchoked(&cores[0], hoarder) {
        talk(&mut cores);
        waited += 1;
        assert!(waited < 400, "it is never served");
    }
    assert!(waited > 100, "after {waited} s more");
    // What is held against it has a bound: one who holds a little is soon no better.
    cores[0].swarm.peers.get_mut(other).unwrap().held = 8;
    let mut turns = [0, 0];
    for _ in 0..600 {
        talk(&mut cores);
        turns[0] += u32::from(unchoked(&cores[0], hoarder));
        turns[1] += u32::from(unchoked(&cores[0], other));
    }
    assert!(turns[0] > 200 && turns[1] > 200, "{turns:?}");
}
