//! Limits that are met, and what counts them.

use super::desk::{BLOCK, Desk, dialled, has_rate, id, own};
use crate::swarm::window::Window;
use crate::swarm::{DropReason, Introduction, LimitHits, MOST_OF_HOST, PeerSlot, RUN_LEN, Source, Wish};
use crate::wire::Message;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

fn limits(desk: &Desk) -> LimitHits {
    desk.swarm.totals().limits
}

/// A peer of that host comes to us, or we to it.
fn meet(desk: &mut Desk, ip: &str, number: u8, outgoing: bool) -> Result<PeerSlot, DropReason> {
    let addr = SocketAddr::new(ip.parse().unwrap(), 1000 + u16::from(number));
    let reserved = desk.reserved;
    // Nobody is there by both families.
    let id = id(if addr.is_ipv4() { number } else { !number });
    desk.swarm.connect(desk.now, Introduction { addr, outgoing, id, reserved })
}

/// How many peers of that host are let in.
fn crowd(desk: &mut Desk, ip: &str) -> usize {
    (1..=60).filter(|number| meet(desk, ip, *number, number % 2 == 0).is_ok()).count()
}

#[test]
fn one_host_has_so_many_connections_and_a_network_like_ours_any_number() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    own(&mut desk).most_peers = 1000;
    for ip in ["192.168.1.1", "127.0.0.1", "fd00::1"] {
        assert_eq!(crowd(&mut desk, ip), 60, "{ip}");
    }
    assert_eq!(limits(&desk).hosts, 0);
    for ip in ["8.8.8.8", "2600::1"] {
        assert_eq!(crowd(&mut desk, ip), MOST_OF_HOST, "{ip}");
    }
    assert_eq!(limits(&desk).hosts, 2 * (60 - MOST_OF_HOST as u64));
    assert_eq!(meet(&mut desk, "2600::9", 99, false), Err(DropReason::Crowd(MOST_OF_HOST)), "a neighbour");
    let taken = meet(&mut desk, "8.8.4.4", 99, false).unwrap();
    desk.swarm.gone(desk.now, taken);
    own(&mut desk).most_of_host = Some(1);
    assert_eq!(crowd(&mut desk, "10.9.9.9"), 1, "the user's word is for all");
    own(&mut desk).most_of_host = Some(20);
    assert_eq!(crowd(&mut desk, "8.8.4.4"), 20);
}

#[test]
fn one_customer_cannot_take_all_the_room_and_those_who_come_leave_some_for_dials() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    own(&mut desk).most_peers = 160;
    // Those who are dialled are there first, and would go first.
    let one = |host: u8| format!("8.{}.8.{host}", host / 16);
    assert!((140..160).all(|host| meet(&mut desk, &one(host), 1, true).is_ok()));
    desk.pass(1);
    // As long as there is room enough for all, nobody minds.
    let site = |host: u32| meet(&mut desk, &format!("2600:2:2:{host:x}::1"), host as u8, false);
    let met: Vec<_> = (1..=30).map(site).map(Result::unwrap).collect();
    met.into_iter().for_each(|slot| desk.swarm.gone(desk.now, slot));
    assert!((0..60).all(|host| meet(&mut desk, &one(host), 1, false).is_ok()));
    // A site of IPv6 has 65,536 hosts.
    let site = |host: u32| meet(&mut desk, &format!("2600:1:1:{host:x}::1"), host as u8, false);
    let met: Vec<_> = (1..=30).map(site).collect();
    assert!(met[..20].iter().all(Result::is_ok));
    assert!(met[20..].iter().all(|refused| *refused == Err(DropReason::Network(20))));
    assert_eq!(limits(&desk).hosts, 10);
    // Others fill the room, none of whom is idle; who is dialled finds some all the same.
    let dialled: Vec<PeerSlot> =
        desk.swarm.peers.iter().filter(|(_, peer)| peer.who.outgoing).map(|(slot, _)| slot).collect();
    dialled[10..].iter().for_each(|slot| desk.swarm.gone(desk.now, *slot));
    let met: Vec<_> = (60..140).map(|host| meet(&mut desk, &one(host), 1, false)).collect();
    assert!(met[..60].iter().all(Result::is_ok));
    assert!(met[60..].iter().all(|refused| *refused == Err(DropReason::Full(150))));
    assert!((150..160).all(|host| meet(&mut desk, &one(host), 1, true).is_ok()));
    assert_eq!(meet(&mut desk, &one(160), 1, true), Err(DropReason::Full(160)));
    // Who comes takes the place of one who came, though others are idle, too.
    desk.pass(31);
    assert!(meet(&mut desk, &one(161), 1, false).is_ok());
    let gone = desk.swarm.peers.iter().find(|(_, peer)| peer.dropped).unwrap();
    assert!(!gone.1.who.outgoing);
}

#[test]
fn who_is_one_too_many_of_its_host_is_dialled_again_later() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    own(&mut desk).most_of_host = Some(1);
    let addr = SocketAddr::from(([8, 8, 8, 8], 1002));
    desk.swarm.add_candidate(addr, Source::Tracker);
    desk.pass(1);
    assert_eq!(desk.wishes(), [Wish::Dial(addr)]);
    let first = meet(&mut desk, "8.8.8.8", 1, false).unwrap();
    assert_eq!(meet(&mut desk, "8.8.8.8", 2, true), Err(DropReason::Crowd(1)));
    desk.swarm.gone(desk.now, first);
    desk.pass(119);
    assert!(!desk.wishes().contains(&Wish::Dial(addr)));
    desk.pass(2);
    assert!(desk.wishes().contains(&Wish::Dial(addr)));
}

#[test]
fn requests_that_nobody_answers_are_counted() {
    let mut desk = Desk::new(16 * BLOCK, 3, &[]);
    let silent = desk.giver(1, &[0, 1, 2]);
    assert_eq!(desk.requests(silent).len(), 16);
    desk.pass(29);
    assert_eq!(limits(&desk).unanswered, 0);
    desk.pass(2);
    assert_eq!(limits(&desk).unanswered, 16, "it is snubbed, and all are taken back");
    // Another goes on sending, but never what it was asked first; how fast it is nobody knows.
    let mut desk = Desk::new(16 * BLOCK, 3, &[]);
    let choosy = desk.giver(1, &[0, 1, 2]);
    desk.requests(choosy);
    for _ in 0..299 {
        desk.pass(1);
        let peer = desk.swarm.peers.get_mut(choosy).unwrap();
        (peer.last_block, peer.last_heard) = (desk.now, desk.now);
    }
    assert_eq!(limits(&desk).unanswered, 0);
    desk.pass(1);
    assert_eq!(limits(&desk).unanswered, 1, "the oldest is five minutes old");
}

#[test]
fn who_takes_fewer_requests_than_it_is_worth_is_counted() {
    let mut desk = Desk::new(400 * BLOCK, 3, &[]);
    desk.window = Some(400);
    let giver = desk.giver(1, &[0, 1, 2]);
    assert_eq!(desk.requests(giver).len(), 250, "as many as are usual");
    desk.pass(1);
    assert_eq!((limits(&desk).windows, desk.requests(giver).len()), (2, 0));
    let mut desk = Desk::new(100 * BLOCK, 3, &[]);
    desk.window = Some(100);
    let giver = desk.giver(1, &[0, 1, 2]);
    desk.requests(giver);
    desk.pass(1);
    assert_eq!(limits(&desk).windows, 0);
    desk.swarm.peers.get_mut(giver).unwrap().reqq = Some(3);
    desk.pass(1);
    assert_eq!(limits(&desk).windows, 2);
    desk.swarm.peers.get_mut(giver).unwrap().requests = Window::beginning(3);
    desk.pass(1);
    assert_eq!(limits(&desk).windows, 2, "it is worth no more");
}

#[test]
fn a_peer_whose_answers_pile_up_here_is_asked_for_less_ahead_and_that_is_counted() {
    let mut desk = Desk::new(200 * BLOCK, 3, &[]);
    desk.window = Some(200);
    let giver = desk.giver(1, &[0, 1, 2]);
    let mut asked = desk.requests(giver).into_iter();
    assert_eq!((asked.len(), limits(&desk).lags), (200, 0));
    let mut comes = |desk: &mut Desk, blocks: usize, unread: u64| {
        for block in asked.by_ref().take(blocks) {
            assert!(desk.block_comes(giver, block).1);
        }
        desk.swarm.piles_up(giver, unread * u64::from(BLOCK));
        desk.requests(giver).len()
    };
    // Slow start would ask for two blocks more for each that comes.
    assert_eq!(comes(&mut desk, 5, 50), 0);
    assert_eq!(limits(&desk).lags, 1);
    assert_eq!(comes(&mut desk, 125, 60), 60 + 32 - 70, "what lies here, and a reserve");
    assert_eq!(comes(&mut desk, 59, 0), 0);
    assert_eq!(comes(&mut desk, 8, 0), 32 - 25, "the reserve");
    // So many keep it sending, however fast it is; with none it is free to help others.
    has_rate(&mut desk, giver, 100 << 20);
    let peer = desk.swarm.peers.get_mut(giver).unwrap();
    assert!(peer.keeps_sending());
    let asked = peer.asked.split_off(23);
    assert!(!peer.keeps_sending() && !asked.is_empty());
    peer.asked.extend(asked);
    for _ in 0..32 {
        desk.swarm.piles_up(giver, 0);
    }
    assert_eq!(desk.requests(giver).len(), 250 - 32, "its own window");
    assert_eq!(limits(&desk).lags, 1);
    // Whoever takes its slot back and gives another begins anew.
    desk.swarm.piles_up(giver, 1 << 20);
    assert_eq!(limits(&desk).lags, 2);
    desk.hear(giver, Message::Choke);
    desk.hear(giver, Message::Unchoke);
    desk.swarm.piles_up(giver, 1 << 20);
    assert_eq!(limits(&desk).lags, 3);
}

#[test]
fn an_address_where_nobody_is_reached_is_given_up() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    let addr = SocketAddr::from(([8, 8, 8, 8], 7));
    desk.swarm.add_candidate(addr, Source::Tracker);
    let mut dials = 0;
    for _ in 0..4000 {
        desk.pass(1);
        for _ in desk.wishes() {
            dials += 1;
            desk.swarm.dial_failed(desk.now, addr);
        }
    }
    assert_eq!((dials, limits(&desk).failures), (9, 1));
}

/// A machine without a network would else have forgotten everybody by the time it has one again.
#[test]
fn an_address_that_could_not_be_dialled_is_neither_given_up_nor_put_off_for_long() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    desk.swarm.add_candidate(SocketAddr::from(([8, 8, 8, 8], 7)), Source::Tracker);
    let mut dials = 0;
    for _ in 0..4000 {
        desk.pass(1);
        for wish in desk.wishes() {
            let Wish::Dial(addr) = wish else { panic!("{wish:?}") };
            dials += 1;
            desk.swarm.dial_prevented(desk.now, addr);
        }
    }
    assert_eq!((dials, limits(&desk).failures), (400, 0));
}

#[test]
fn only_so_many_are_dialled_at_a_time() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    own(&mut desk).most_dials = 2;
    (1..=5)
        .for_each(|port| desk.swarm.add_candidate(SocketAddr::from(([8, 8, 8, 8], port)), Source::Tracker));
    desk.pass(1);
    assert_eq!(desk.wishes().len(), 2);
    desk.swarm.dial_failed(desk.now, SocketAddr::from(([8, 8, 8, 8], 1)));
    desk.pass(1);
    assert!(desk.wishes().len() <= 1);
}

/// Peers that send the first block of each run and then nothing have taken all memory when an honest one comes.
#[test]
fn who_holds_memory_for_long_gets_no_more_while_it_is_scarce() {
    const PIECES: u32 = 40;
    let mut desk = Desk::new(RUN_LEN, PIECES, &[]);
    own(&mut desk).most_peers = 10;
    (desk.slabs, desk.window) = (3, Some(4));
    let all: Vec<u32> = (0..PIECES).collect();
    let holders: Vec<PeerSlot> = (1..=5).map(|number| desk.giver(number, &all)).collect();
    let mut begun = 0;
    let mut pass = |desk: &mut Desk| {
        for holder in &holders {
            let asked = desk.requests(*holder).into_iter();
            for block in asked.filter(|(_, index)| *index == 0) {
                begun += 1;
                desk.block_comes(*holder, block);
            }
        }
        desk.now += Duration::from_millis(500);
        desk.swarm.tick(desk.now);
        begun
    };
    (0..4).for_each(|_| _ = pass(&mut desk));
    assert_eq!((desk.slabs, pass(&mut desk)), (0, 3));
    assert_eq!(limits(&desk).memory, 1);
    let honest = desk.giver(9, &all);
    let mut looks = 0;
    while desk.swarm.left > 0 {
        assert!(looks < 20, "{} pieces are missing", desk.swarm.left);
        has_rate(&mut desk, honest, 1_000_000);
        while let asked @ [_, ..] = &desk.requests(honest)[..] {
            asked.iter().for_each(|block| _ = desk.block_comes(honest, *block));
            let done = desk.settle(&[]);
            desk.slabs += done.iter().filter(|wish| matches!(wish, Wish::Done { .. })).count();
        }
        looks += 1;
        assert_eq!(pass(&mut desk), 3, "they have no memory for another");
    }
    assert!(limits(&desk).memory > 1);
}

#[test]
fn addresses_that_wait_for_others_of_their_network_are_counted() {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    (own(&mut desk).most_peers, own(&mut desk).most_dials) = (1000, 1000);
    (1..=100).for_each(|n| desk.swarm.add_candidate(([8, 8, 8, n], 1).into(), Source::Exchange));
    desk.pass(1);
    let dials = dialled(desk.wishes()).len() as u64;
    assert_eq!((dials, limits(&desk).networks), (16, 84));
}

/// Who has nothing that we lack is no measure, however fast it was.
#[test]
fn nobody_is_kept_short_for_the_sake_of_one_that_has_nothing_to_give() {
    for pieces in [&[0][..], &[0, 1]] {
        let mut desk = Desk::new(RUN_LEN, 3, &[0]);
        let (fast, slow) = (desk.giver(1, pieces), desk.giver(2, &[1, 2]));
        has_rate(&mut desk, fast, 1_000_000);
        has_rate(&mut desk, slow, 8_000);
        desk.swarm.starve();
        assert_eq!(desk.swarm.is_kept_short(slow, None), pieces.len() == 2);
    }
}

/// Else everybody waits for that piece in the end.
#[test]
fn who_alone_has_a_piece_gets_memory_for_it_however_slow_it_is() {
    for rare in [false, true] {
        let mut desk = Desk::new(RUN_LEN, 3, &[]);
        let fast = desk.giver(1, if rare { &[0, 1] } else { &[0, 1, 2] });
        let slow = desk.giver(2, &[2]);
        has_rate(&mut desk, fast, 1_000_000);
        has_rate(&mut desk, slow, 8_000);
        desk.swarm.starve();
        desk.swarm.feed();
        assert!(desk.swarm.is_kept_short(slow, None));
        assert_eq!(!desk.requests(slow).is_empty(), rare);
    }
}

/// Also at the very look that finds it: then other cores are shown what they may fetch.
#[test]
fn memory_is_stuck_when_nothing_is_written_for_a_while() {
    let mut desk = Desk::new(RUN_LEN, 3, &[]);
    let stuck: Vec<bool> = (0..4)
        .map(|look| {
            if look != 3 {
                desk.swarm.starve();
            }
            desk.now += Duration::from_millis(500);
            desk.swarm.tick(desk.now);
            desk.swarm.is_stuck()
        })
        .collect();
    assert_eq!(stuck, [false, false, true, false]);
    (0..3).for_each(|_| {
        desk.swarm.starve();
        desk.swarm.look_at_memory(desk.now);
    });
    assert!(desk.swarm.is_stuck());
    desk.swarm.feed();
    assert!(!desk.swarm.is_stuck(), "a run was written");
}

/// While memory is scarce it is left to those who are worth it to ask once more.
#[test]
fn who_hoards_memory_is_not_asked_for_what_others_are_late_with() {
    for (rate, asked) in [(8_000, 1), (1_000, 0)] {
        let mut desk = Desk::new(RUN_LEN, 3, &[]);
        let [fast, slow] = [1, 2].map(|number| desk.giver(number, &[0, 1, 2]));
        has_rate(&mut desk, fast, 30_000);
        has_rate(&mut desk, slow, rate);
        assert_eq!(desk.requests(fast).len(), 16);
        desk.swarm.starve();
        desk.now += Duration::from_secs(40);
        desk.slabs = 0;
        assert_eq!(desk.requests(slow).len(), asked, "of one that sends {rate} bytes a second");
    }
}

/// It may only have paused, and who is asked for nothing cannot show it.
#[test]
fn who_hoards_memory_has_a_chance_now_and_then() {
    let mut desk = Desk::new(8 * RUN_LEN, 1, &[]);
    desk.window = Some(4);
    let [fast, slow] = [1, 2].map(|number| desk.giver(number, &[0]));
    has_rate(&mut desk, slow, 1_000);
    let mut open = VecDeque::from(desk.requests(fast));
    let mut chances = Vec::new();
    for tick in 0..40 {
        desk.swarm.starve();
        has_rate(&mut desk, fast, 1_000_000);
        desk.block_comes(fast, open.pop_front().unwrap());
        desk.now += Duration::from_millis(500);
        desk.swarm.tick(desk.now);
        open.extend(desk.requests(fast));
        let asked = desk.requests(slow).len();
        chances.extend((asked > 0).then_some((tick / 2, asked)));
    }
    assert_eq!(chances, [(4, 2), (13, 2)], "after ever longer");
}
