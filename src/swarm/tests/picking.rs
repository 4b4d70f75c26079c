//! What a pick and a HAVE cost in a torrent of many pieces, and among many peers: next to nothing more than in one of few.
//! Only how the times of the two compare is looked at, each the shortest of several.

use super::desk::{BLOCK, Desk};
use crate::metainfo::Layout;
use crate::swarm::window::Window;
use crate::swarm::{Commons, Introduction, PeerSlot, Settings};
use crate::wire::extended::{ExtendedHandshake, Extension, encode_dont_have};
use crate::wire::{Message, PeerId, Reserved};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FEW: u32 = 1000;
const MANY: u32 = 100 * FEW;
const FEW_PEERS: u32 = 20;
const MANY_PEERS: u32 = 50 * FEW_PEERS;
/// Requests, or HAVEs, that are timed together.
const TIMED: usize = 200;
/// How often that is done.
const TRIES: usize = 15;
/// The cost for many pieces may be so many times that for few. What looks at every piece would cost a hundred times as much.
const MOST: u32 = 20;
/// Of a pick by chance less: more than a look at every piece costs what else belongs to it.
const MOST_BY_CHANCE: u32 = 6;
/// And so many times that among few peers. What looks at every peer would cost fifty times as much.
const MOST_AMONG_PEERS: u32 = 10;

/// Pieces that we have: the first ones are taken by chance, in another way.
const HAD: u32 = 10;

/// Peers that have every other piece, of one block each, and are asked for as many as are timed, when we have so many pieces.
fn crowd(pieces: u32, peers: u32, had: u32) -> (Desk, Vec<PeerSlot>) {
    let layout = Arc::new(Layout::new(BLOCK.into(), [u64::from(pieces) * u64::from(BLOCK)]).unwrap());
    let most_peers = peers as usize + 50;
    let settings = Settings { most_peers, hold: u32::MAX, ..Desk::settings() };
    let commons = Arc::new(Commons::new(pieces, 1));
    (0..had).for_each(|number| commons.map.set_have(layout.piece(number).unwrap()));
    let mut desk = Desk::with(layout, commons, 0, settings);
    desk.slabs = usize::MAX / 2;
    let mut rng = fastrand::Rng::with_seed(1);
    let peers = (1..=peers).map(|number| {
        let peer = connect(&mut desk, number);
        let bits: Vec<u8> = (0..pieces.div_ceil(8)).map(|_| rng.u8(..)).collect();
        desk.hear(peer, Message::Bitfield(&bits));
        desk.hear(peer, Message::Unchoke);
        desk.swarm.peers.get_mut(peer).unwrap().requests = Window::beginning(TIMED);
        peer
    });
    let peers = peers.collect();
    (desk, peers)
}

/// A peer with this number, on a network of its own.
fn connect(desk: &mut Desk, number: u32) -> PeerSlot {
    let mut id = [0; 20];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let ip = Ipv4Addr::from_bits(0x0b00_0001 + (number << 8));
    let (addr, reserved) = (SocketAddr::from((ip, 6881)), Reserved::default());
    desk.swarm.connect(desk.now, Introduction { addr, outgoing: true, id: PeerId(id), reserved }).unwrap()
}

/// The shortest time for the requests of one peer.
fn pick(pieces: u32, peers: u32) -> Duration {
    pick_having(pieces, peers, HAD)
}

/// The same for the first pieces, which chance alone decides.
fn pick_first(pieces: u32, peers: u32) -> Duration {
    pick_having(pieces, peers, 0)
}

fn pick_having(pieces: u32, peers: u32, had: u32) -> Duration {
    let times = (0..TRIES).map(|_| {
        let (mut desk, peers) = crowd(pieces, peers, had);
        // The first word is what we have, and the first request is where all begins.
        desk.say(peers[0]);
        time_of_requests(&mut desk, peers[1])
    });
    times.min().unwrap()
}

fn time_of_requests(desk: &mut Desk, peer: PeerSlot) -> Duration {
    let begun = Instant::now();
    let asked = desk.requests(peer).len();
    let time = begun.elapsed();
    assert_eq!(asked, TIMED);
    time
}

/// The shortest time for the HAVEs of one peer that comes with nothing.
fn have(pieces: u32, peers: u32) -> Duration {
    time_of_haves(&mut crowd(pieces, peers, HAD).0, pieces)
}

fn time_of_haves(desk: &mut Desk, pieces: u32) -> Duration {
    let mut rng = fastrand::Rng::with_seed(2);
    let times = (0..TRIES).map(|number| {
        let peer = connect(desk, 1_000_000 + number as u32);
        let told = rng.choose_multiple(0..pieces, TIMED);
        let begun = Instant::now();
        told.into_iter().for_each(|piece| desk.hear(peer, Message::Have(piece)));
        begun.elapsed()
    });
    times.min().unwrap()
}

/// The shortest time that something takes in a torrent of so many pieces, among so many peers; and how many times as much that may
/// be for many pieces.
type Cost = fn(u32, u32) -> Duration;
const COSTS: [(&str, Cost, u32); 3] =
    [("picks", pick, MOST), ("first picks", pick_first, MOST_BY_CHANCE), ("HAVEs", have, MOST)];

#[test]
fn many_pieces_make_no_pick_and_no_have_much_dearer() {
    for (what, cost, most) in COSTS {
        let (few, many) = (cost(FEW, FEW_PEERS), cost(MANY, FEW_PEERS));
        println!("{TIMED} {what}: {few:?} of {FEW} pieces, {many:?} of {MANY}");
        assert!(many < few * most, "{TIMED} {what}: {few:?} of {FEW} pieces, {many:?} of {MANY}");
    }
}

#[test]
fn many_peers_make_no_pick_and_no_have_much_dearer() {
    for (what, cost, _) in COSTS {
        let (few, many) = (cost(FEW, FEW_PEERS), cost(FEW, MANY_PEERS));
        println!("{TIMED} {what}: {few:?} among {FEW_PEERS} peers, {many:?} among {MANY_PEERS}");
        assert!(
            many < few * MOST_AMONG_PEERS,
            "{TIMED} {what}: {few:?} among {FEW_PEERS} peers, {many:?} among {MANY_PEERS}"
        );
    }
}

/// A hundred times as many pieces, and fifty times as many peers. One crowd of them is enough: each peer is asked for others.
#[test]
fn many_pieces_among_many_peers_make_no_pick_and_no_have_much_dearer() {
    let (mut desk, peers) = crowd(MANY, MANY_PEERS, HAD);
    desk.say(peers[0]);
    let picks = peers[1..=TRIES].iter().map(|peer| time_of_requests(&mut desk, *peer)).min().unwrap();
    let haves = time_of_haves(&mut desk, MANY);
    for (what, cost, many) in [("picks", pick as Cost, picks), ("HAVEs", have, haves)] {
        let few = cost(FEW, FEW_PEERS);
        println!("{TIMED} {what}: {few:?}, and {many:?} of {MANY} pieces among {MANY_PEERS} peers");
        assert!(many < few * MOST, "{TIMED} {what}: {few:?}, {many:?} of {MANY} among {MANY_PEERS} peers");
    }
}

#[test]
fn who_loses_pieces_and_has_them_again_costs_two_looks_at_all_of_them_and_no_more() {
    let mut desk = Desk::new(BLOCK, FEW, &[]);
    desk.reserved = Reserved::ours(false);
    let [full, part] = [1, 2].map(|number| desk.connect(false, number).unwrap());
    desk.hear(full, Message::HaveAll);
    let hello = ExtendedHandshake::default().encode();
    desk.hear(full, Message::Extended { id: 0, payload: &hello });
    desk.swarm.take_shifts();
    let lost = encode_dont_have(7);
    for round in 0..200 {
        desk.hear(full, Message::Extended { id: Extension::DontHave.id(), payload: &lost });
        assert_eq!(desk.swarm.picker.availability(desk.piece(7)), 0, "{round}");
        assert_eq!(desk.swarm.picker.availability(desk.piece(8)), 1, "{round}: it is a leech now");
        desk.hear(full, Message::Have(7));
        assert_eq!(desk.swarm.picker.availability(desk.piece(7)), 1, "{round}: and stays one");
    }
    assert_eq!(desk.swarm.take_shifts(), u64::from(FEW) - 1 + 200 + 199);
    desk.swarm.gone(desk.now, full);
    assert_eq!(desk.swarm.take_shifts(), u64::from(FEW));
    assert!((0..FEW).all(|number| desk.swarm.picker.availability(desk.piece(number)) == 0));
    // Who has all and says so costs nothing; who has all but one what it has.
    let seed = desk.connect(false, 3).unwrap();
    desk.hear(seed, Message::HaveAll);
    assert_eq!(desk.swarm.take_shifts(), 0);
    let all_but_one: Vec<u32> = (1..FEW).collect();
    desk.hear(part, Message::Bitfield(&super::desk::bits(FEW, &all_but_one)));
    desk.swarm.gone(desk.now, part);
    assert_eq!(desk.swarm.take_shifts(), 2 * u64::from(FEW - 1));
}

#[test]
fn who_has_a_piece_and_loses_it_in_turn_is_dropped_in_the_end_and_who_loses_many_is_not() {
    let [spinner, cache] = [true, false].map(|spins| {
        let mut desk = Desk::new(BLOCK, FEW, &[]);
        desk.reserved = Reserved::ours(false);
        let peer = desk.connect(true, 1).unwrap();
        desk.hear(peer, Message::HaveNone);
        for round in 0..302 {
            let number = if spins { 7 } else { round };
            desk.hear(peer, Message::Have(number));
            desk.hear(
                peer,
                Message::Extended { id: Extension::DontHave.id(), payload: &encode_dont_have(number) },
            );
        }
        (desk.drops().len(), desk.swarm.totals().limits.offences)
    });
    assert_eq!((spinner, cache), ((1, 301), (0, 0)));
}
