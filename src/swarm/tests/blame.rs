//! Liars among honest peers: found by their blocks, and nobody else.

use super::desk::{BLOCK, Desk, bits, dialled, id, own};
use super::sim::plan::{Has, NodePlan, Plan};
use super::sim::world::World;
use crate::metainfo::Layout;
use crate::swarm::evidence::Statement;
use crate::swarm::{Commons, DropReason, Introduction, PeerSlot, Settings, Source, Tag, Wish};
use crate::wire::extended::ExtendedHandshake;
use crate::wire::{Message, Reserved};
use std::net::SocketAddr;
use std::sync::Arc;

/// A swarm with room for many peers, of one piece that all of them have.
pub(super) fn crowd(blocks: u32, peers: u8) -> (Desk, Vec<PeerSlot>) {
    let length = u64::from(blocks * BLOCK);
    let layout = Arc::new(Layout::new(length, [length]).unwrap());
    let settings = Settings { most_peers: 50, ..Desk::settings() };
    let mut desk = Desk::with(layout, Arc::new(Commons::new(1, 1)), 0, settings);
    let peers = (1..=peers).map(|number| desk.giver(number, &[0])).collect();
    (desk, peers)
}

/// Has the peers send what they are asked for until nobody is asked any more. Gives who sent which block.
fn fetch(desk: &mut Desk, peers: &[PeerSlot]) -> Vec<(PeerSlot, u32)> {
    let mut sent = Vec::new();
    loop {
        let asked: Vec<_> =
            peers.iter().flat_map(|peer| desk.requests(*peer).into_iter().map(|at| (*peer, at))).collect();
        if asked.is_empty() {
            return sent;
        }
        for (peer, at) in asked {
            if desk.block_comes(peer, at).1 {
                sent.push((peer, at.1));
            }
        }
    }
}

fn liars(desk: &mut Desk, bad: &[u32]) -> Vec<PeerSlot> {
    let wishes = desk.settle(bad).into_iter();
    let lied = DropReason::BadPiece(desk.piece(0));
    let dropped = wishes.filter_map(|wish| match wish {
        Wish::Drop(slot, why) if why == lied => Some(slot),
        _ => None,
    });
    dropped.collect()
}

#[test]
fn of_twenty_senders_exactly_the_liar_is_banned() {
    // Longer than what is held in memory: most of it is written before the verdict.
    for liar in [0, 7, 19] {
        let (mut desk, peers) = crowd(320, 20);
        let sent = fetch(&mut desk, &peers);
        assert_eq!(sent.len(), 320);
        let bad = sent.iter().filter(|(peer, _)| *peer == peers[liar]).map(|(_, block)| *block);
        desk.bad_blocks = bad.take(1).collect();
        assert_eq!(desk.bad_blocks.len(), 1, "everybody has sent something");
        assert_eq!(liars(&mut desk, &[0]), [], "nobody knows yet");
        let others: Vec<PeerSlot> = peers.iter().copied().filter(|peer| *peer != peers[liar]).collect();
        assert_eq!(fetch(&mut desk, &others).len(), 320);
        assert_eq!(liars(&mut desk, &[]), [peers[liar]]);
        assert_eq!(desk.swarm.totals().downloaded, u64::from(320 * BLOCK));
        assert_eq!(desk.connect(false, liar as u8 + 1), Err(DropReason::Banned));
        assert_eq!(desk.swarm.totals().limits.evidence, 0);
    }
}

#[test]
fn a_lie_in_the_endgame_is_found() {
    let (mut desk, peers) = crowd(4, 2);
    let [honest, liar] = [peers[0], peers[1]];
    assert_eq!(desk.requests(honest), [(0, 0), (0, 1), (0, 2), (0, 3)]);
    desk.pass(1);
    assert_eq!(desk.requests(liar), [(0, 3)], "both are asked for it");
    assert!(desk.block_comes(liar, (0, 3)).1);
    (0..3).for_each(|block| assert!(desk.block_comes(honest, (0, block)).1));
    desk.bad_blocks = vec![3];
    assert_eq!(liars(&mut desk, &[0]), []);
    assert_eq!(fetch(&mut desk, &[honest]).len(), 4);
    assert_eq!(liars(&mut desk, &[]), [liar]);
}

#[test]
fn a_liar_that_has_left_may_not_come_back_and_one_that_is_back_goes() {
    for back in [false, true] {
        let (mut desk, peers) = crowd(32, 2);
        fetch(&mut desk, &peers);
        desk.bad_blocks = vec![31];
        assert_eq!(liars(&mut desk, &[0]), []);
        desk.swarm.gone(desk.now, peers[1]);
        let again = back.then(|| desk.connect(false, 2).unwrap());
        assert_eq!(fetch(&mut desk, &peers[..1]).len(), 32);
        let (wishes, lied) = (desk.settle(&[]), DropReason::BadPiece(desk.piece(0)));
        let dropped = again.map(|again| Wish::Drop(again, lied.clone()));
        let about_lies =
            |wish: &Wish| matches!(wish, Wish::Drop(_, why) | Wish::Mention(_, why) if *why == lied);
        let mut told = wishes.into_iter().filter(about_lies);
        assert!(matches!(told.next(), Some(Wish::Mention(..))), "the one that has left");
        assert_eq!(told.collect::<Vec<_>>(), dropped.into_iter().collect::<Vec<_>>());
        assert_eq!(desk.connect(false, 2), Err(DropReason::Banned));
    }
}

#[test]
fn whom_the_user_names_is_not_blamed_for_a_liar_of_its_name_that_has_left() {
    let (mut desk, peers) = crowd(32, 2);
    let addr = SocketAddr::from(([127, 0, 0, 1], 7));
    desk.swarm.add_candidate(addr, Source::Given);
    let who = Introduction { addr, outgoing: true, id: id(2), reserved: Reserved::default() };
    let named = desk.swarm.connect(desk.now, who).unwrap();
    fetch(&mut desk, &peers);
    desk.bad_blocks = vec![31];
    assert_eq!(liars(&mut desk, &[0]), []);
    desk.swarm.gone(desk.now, peers[1]);
    assert_eq!(fetch(&mut desk, &peers[..1]).len(), 32);
    assert_eq!(liars(&mut desk, &[]), []);
    assert!(desk.swarm.peers.get(named).is_some_and(|peer| !peer.dropped));
    assert_eq!(desk.connect(false, 2), Err(DropReason::Banned));
}

/// It has come to us after we had dialled it, or is in by both ways at once.
#[test]
fn whom_the_user_names_is_blamed_also_where_it_came_to_us() {
    for (stays, dialled_again) in [(false, false), (false, true), (true, false)] {
        let (mut desk, honest) = crowd(32, 1);
        let addr = SocketAddr::from(([127, 0, 0, 1], 7));
        desk.swarm.add_candidate(addr, Source::Given);
        let who = Introduction { addr, outgoing: true, id: id(200), reserved: Reserved::default() };
        let named = desk.swarm.connect(desk.now, who).unwrap();
        desk.hear(named, Message::Bitfield(&bits(1, &[0])));
        desk.hear(named, Message::Unchoke);
        let sent = fetch(&mut desk, &[named, honest[0]]);
        desk.bad_blocks = sent.iter().filter(|(peer, _)| *peer == named).map(|(_, block)| *block).collect();
        assert!(![0, 32].contains(&desk.bad_blocks.len()), "both have sent something");
        assert_eq!(liars(&mut desk, &[0]), []);
        let mut expected = vec![named];
        if !stays {
            desk.swarm.gone(desk.now, named);
            expected.clear();
        }
        expected.extend(dialled_again.then(|| desk.swarm.connect(desk.now, who).unwrap()));
        expected.push(desk.connect(false, 200).unwrap());
        assert_eq!(fetch(&mut desk, &honest).len(), 32);
        assert_eq!(liars(&mut desk, &[]), expected, "{stays} {dialled_again}");
    }
}

#[test]
fn liars_who_find_no_room_among_the_banned_are_counted() {
    for (addresses, counted) in [(false, 1), (true, 2)] {
        let (mut desk, peers) = crowd(1, 1);
        let mut others = (0..20_000u32).map(|n| SocketAddr::new(n.to_be_bytes().into(), 1));
        let mut roster = desk.swarm.commons.roster();
        assert!(others.clone().any(|addr| !roster.ban((addr.ip(), id(9)))), "it is full");
        assert!(!addresses || others.any(|addr| !roster.ban_address(addr)), "and so is this");
        drop(roster);
        assert_eq!(desk.swarm.totals().limits.bans, 0);
        fetch(&mut desk, &peers);
        assert_eq!(liars(&mut desk, &[0]), peers);
        assert_eq!(desk.swarm.totals().limits.bans, counted);
    }
}

#[test]
fn what_is_forgotten_of_bad_tries_is_counted() {
    let (mut desk, peers) = crowd(4, 2);
    let piece = desk.piece(0);
    // As much as is remembered of another time.
    let from = Tag { core: 0, number: 99 };
    let full = (0..96 * 1024).map(|index| Statement { index, from, print: 0 });
    assert_eq!(desk.swarm.commons.evidence().file(piece, full), 0);
    desk.requests(peers[0]);
    desk.pass(1);
    desk.requests(peers[1]);
    assert!(desk.block_comes(peers[1], (0, 3)).1);
    (0..3).for_each(|block| assert!(desk.block_comes(peers[0], (0, block)).1));
    desk.bad_blocks = vec![3];
    assert_eq!(liars(&mut desk, &[0]), []);
    assert_eq!(desk.swarm.totals().limits.evidence, 1);
}

#[test]
fn connections_that_are_forgotten_after_their_end_are_counted() {
    let mut desk = Desk::new(BLOCK, 3, &[0]);
    let mut comes_and_goes = || {
        let peer = desk.connect(false, 1).unwrap();
        desk.swarm.peers.get_mut(peer).unwrap().downloaded = 1;
        desk.swarm.gone(desk.now, peer);
        desk.swarm.totals().limits.departed
    };
    assert!((0..1000).all(|_| comes_and_goes() == 0), "so many are remembered");
    assert_eq!([comes_and_goes(), comes_and_goes()], [1, 2]);
}

/// Dials of these addresses, after some time.
fn dials(desk: &mut Desk) -> Vec<SocketAddr> {
    desk.pass(200);
    dialled(desk.wishes())
}

#[test]
fn a_liar_that_came_to_us_is_not_sought_where_it_listens() {
    let (mut desk, _) = crowd(1, 0);
    let (ours, theirs) = (SocketAddr::from(([10, 0, 0, 1], 50_000)), SocketAddr::from(([10, 0, 0, 1], 9)));
    let who = Introduction { addr: ours, outgoing: false, id: id(1), reserved: Reserved::ours(false) };
    let liar = desk.swarm.connect(desk.now, who).unwrap();
    let hello = ExtendedHandshake { port: Some(theirs.port()), ..Default::default() };
    desk.hear(liar, Message::HaveAll);
    desk.hear(liar, Message::Extended { id: 0, payload: &hello.encode() });
    desk.hear(liar, Message::Unchoke);
    assert_eq!(fetch(&mut desk, &[liar]).len(), 1);
    assert_eq!(liars(&mut desk, &[0]), [liar]);
    desk.swarm.gone(desk.now, liar);
    assert_eq!(dials(&mut desk), []);
    // Somebody else may name it; then it turns out who it is.
    desk.swarm.add_candidate(theirs, Source::Tracker);
    assert_eq!(dials(&mut desk), [theirs]);
    let again = desk.swarm.connect(desk.now, Introduction { addr: theirs, outgoing: true, ..who });
    assert_eq!(again, Err(DropReason::Banned));
    assert_eq!(dials(&mut desk), []);
}

#[test]
fn where_a_liar_was_found_no_core_dials_again() {
    let length = u64::from(BLOCK);
    let layout = Arc::new(Layout::new(length, [length]).unwrap());
    let commons = Arc::new(Commons::new(1, 2));
    let mut desks = [0, 1].map(|core| Desk::on_core(Arc::clone(&layout), Arc::clone(&commons), core));
    let liar = desks[0].giver(1, &[0]);
    let at = desks[0].swarm.peers().next().unwrap().who.addr;
    assert_eq!(fetch(&mut desks[0], &[liar]).len(), 1);
    assert_eq!(liars(&mut desks[0], &[0]), [liar]);
    desks[0].swarm.gone(desks[0].now, liar);
    for (desk, port) in desks.iter_mut().zip(8..) {
        let other = SocketAddr::from(([127, 0, 0, 1], port));
        let mapped = SocketAddr::from((std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped(), at.port()));
        [at, mapped, other].into_iter().for_each(|addr| desk.swarm.add_candidate(addr, Source::Given));
        assert_eq!(dials(desk), [other], "the honest neighbour of a liar is not taken for it");
    }
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// Somebody at a host where there are many.
fn who(port: u16, outgoing: bool, name: u8) -> Introduction {
    Introduction { addr: at(port), outgoing, id: id(name), reserved: Reserved::ours(false) }
}

/// Connects, and sends the only block there is.
fn send_it(desk: &mut Desk, who: Introduction) -> PeerSlot {
    let sender = desk.swarm.connect(desk.now, who).unwrap();
    desk.hear(sender, Message::HaveAll);
    desk.hear(sender, Message::Unchoke);
    assert_eq!(fetch(desk, &[sender]).len(), 1);
    sender
}

/// Comes to us from this port by that name, lies, and is gone.
fn come_and_lie(desk: &mut Desk, port: u16, name: u8) {
    let liar = send_it(desk, who(port, false, name));
    assert_eq!(liars(desk, &[0]), [liar]);
    desk.swarm.gone(desk.now, liar);
}

/// Behind one address there may be many: a liar there under many names, or many liars, must not keep us from whom the user names.
#[test]
fn whom_the_user_names_is_met_also_where_many_have_lied() {
    let (mut desk, _) = crowd(1, 0);
    for name in 1..=8 {
        come_and_lie(&mut desk, 50_000 + u16::from(name), name);
    }
    assert_eq!(desk.swarm.connect(desk.now, who(50_000, false, 99)), Err(DropReason::Banned));
    desk.swarm.add_candidate(at(7), Source::Given);
    desk.swarm.add_candidate(at(8), Source::Tracker);
    assert_eq!(dials(&mut desk), [at(7)]);
    let seed = send_it(&mut desk, who(7, true, 99));
    assert!(liars(&mut desk, &[]).is_empty() && desk.swarm.is_seeding(), "{seed:?} has sent it");
}

/// A stranger at the same address may call itself what it likes, and say that it listens where the seed does.
#[test]
fn nobody_stands_in_for_whom_the_user_names() {
    stand_in(None, 25);
    // So low that most have no turn to show what they are worth.
    stand_in(Some(1000), 125);
}

fn stand_in(download_limit: Option<u64>, seconds: u64) {
    let (mut desk, _) = crowd(1, 0);
    own(&mut desk).download_limit = download_limit;
    come_and_lie(&mut desk, 50_000, 99);
    let mute = desk.swarm.connect(desk.now, who(50_001, false, 98)).unwrap();
    desk.hear(mute, Message::HaveAll);
    for port in [7, 8] {
        desk.swarm.add_candidate(at(port), if port == 7 { Source::Given } else { Source::Tracker });
        let hello = ExtendedHandshake { port: Some(port), ..ExtendedHandshake::default() };
        desk.hear(mute, Message::Extended { id: 0, payload: &hello.encode() });
        let expected = if port == 7 { vec![at(7)] } else { vec![] };
        desk.pass(seconds);
        let dialled = |wish| if let Wish::Dial(addr) = wish { Some(addr) } else { None };
        let dialled: Vec<SocketAddr> = desk.wishes().into_iter().filter_map(dialled).collect();
        assert_eq!(dialled, expected, "who is here already is not dialled, or so it says");
    }
    let seed = send_it(&mut desk, who(7, true, 99));
    assert!(liars(&mut desk, &[]).is_empty() && desk.swarm.is_seeding(), "{seed:?} has sent it");
}

#[test]
fn worlds_with_one_liar_of_many_ban_it_and_end_well() {
    for seed in 0..20 {
        println!("seed {seed}");
        let liar = NodePlan { lies: 0.05, ..NodePlan::seed() };
        let leech = NodePlan { has: Has::Nothing, cores: 1 + seed as usize % 2, ..NodePlan::seed() };
        let mut nodes = vec![NodePlan::seed(); 7];
        nodes.extend([liar, leech.clone(), leech]);
        World::new(Plan::quiet(seed, 600_000, 3_000_000, nodes)).run();
    }
}
