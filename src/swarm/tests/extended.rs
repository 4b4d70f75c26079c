//! The extension protocol (BEP 10) and what goes through it: peer exchange, pieces lost, partial seeds.

use super::cores::two;
use super::desk::{BLOCK, Desk, Said, bits, dialled, id, own};
use crate::swarm::{DropReason, Greeting, Introduction, IpFilter, PeerSlot, Source, Wish};
use crate::wire::extended::{ExtendedHandshake, Extension, PexFlags, PexMessage, encode_dont_have};
use crate::wire::{MAX_EXTENDED_LEN, Message, Reserved};
use std::net::SocketAddr;
use std::sync::Arc;

/// A desk whose peers speak all we do.
pub(super) fn desk(pieces: u32, have: &[u32]) -> Desk {
    let mut desk = Desk::new(BLOCK, pieces, have);
    desk.reserved = Reserved::ours(true);
    desk
}

/// The peer's own numbers, unlike ours.
fn theirs(extension: Extension) -> u8 {
    10 + extension.id()
}

pub(super) fn hello() -> ExtendedHandshake {
    ExtendedHandshake { ids: Extension::ALL.map(|e| Some(theirs(e))), ..Default::default() }
}

pub(super) fn greet(desk: &mut Desk, peer: PeerSlot, hello: &ExtendedHandshake) {
    desk.hear(peer, Message::Extended { id: 0, payload: &hello.encode() });
}

pub(super) fn tell(desk: &mut Desk, peer: PeerSlot, extension: Extension, payload: &[u8]) {
    desk.hear(peer, Message::Extended { id: extension.id(), payload });
}

/// What is said to the peer now by an extension.
pub(super) fn said(desk: &mut Desk, peer: PeerSlot, extension: Extension) -> Vec<Vec<u8>> {
    let all = desk.say(peer);
    let of = |said| match said {
        Said::Extended(id, payload) if id == theirs(extension) => Some(payload),
        _ => None,
    };
    all.into_iter().filter_map(of).collect()
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The addresses that are dialled now.
pub(super) fn dials(desk: &mut Desk) -> Vec<SocketAddr> {
    desk.pass(1);
    dialled(desk.wishes())
}

#[test]
fn the_handshake_says_who_we_are_and_is_said_once_after_the_pieces() {
    let mut desk = desk(3, &[0]);
    own(&mut desk).greeting =
        Greeting { metadata: Arc::from(&b"d1:xi1ee"[..]), port: Some(7777), ..Greeting::default() };
    let peer = desk.connect(false, 1).unwrap();
    let words = desk.say(peer);
    let [Said::Bitfield(_), Said::Extended(0, payload)] = &words[..] else { panic!("{words:?}") };
    let hello = ExtendedHandshake::parse(payload).unwrap();
    assert_eq!((hello.port, hello.reqq, hello.metadata_size), (Some(7777), Some(2000), Some(8)));
    assert_eq!((hello.your_ip, hello.upload_only), (Some([127, 0, 0, 1].into()), None));
    assert_eq!(hello.ids, Extension::ALL.map(|extension| Some(extension.id())));
    assert!(desk.say(peer).is_empty());
}

#[test]
fn what_a_peer_says_of_itself_is_kept() {
    let mut desk = desk(3, &[0]);
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &ExtendedHandshake { reqq: Some(7), port: Some(9), ..hello() });
    let known = desk.swarm.peers.get(peer).unwrap();
    assert_eq!((known.reqq, known.extended.port), (Some(7), Some(9)));
    assert_eq!(desk.swarm.listens_at(peer), Some(addr("127.0.0.1:9")));
    // It keeps to itself what a second one leaves out, or takes back.
    greet(&mut desk, peer, &ExtendedHandshake { reqq: Some(0), ..ExtendedHandshake::default() });
    assert_eq!(desk.swarm.peers.get(peer).unwrap().reqq, Some(7));
    desk.hear(peer, Message::Extended { id: 0, payload: b"nonsense" });
    desk.hear(peer, Message::Extended { id: 99, payload: b"unknown" });
    desk.hear(peer, Message::Unknown { id: 20, len: MAX_EXTENDED_LEN + 3 });
    assert_eq!((desk.swarm.totals().limits.offences, desk.drops()), (3, vec![]));
}

#[test]
fn who_says_that_it_takes_no_requests_is_asked_as_who_says_nothing() {
    for (reqq, asked) in [(None, 16), (Some(0), 16), (Some(1), 1), (Some(u32::MAX), 16)] {
        let mut desk = Desk::new(400 * BLOCK, 1, &[]);
        desk.reserved = Reserved::ours(true);
        let peer = desk.giver(1, &[0]);
        greet(&mut desk, peer, &ExtendedHandshake { reqq, ..hello() });
        // Its window, and no more until a block has come.
        let count = (0..9).map(|_| desk.requests(peer).len()).sum::<usize>();
        assert_eq!(count, asked, "{reqq:?}");
    }
}

#[test]
fn peers_are_told_of_each_other_once_a_minute() {
    let mut desk = desk(3, &[0]);
    let first = desk.connect(true, 1).unwrap();
    greet(&mut desk, first, &hello());
    assert_eq!(said(&mut desk, first, Extension::Pex), [[0u8; 0]; 0], "it is alone");
    let second = desk.connect(false, 2).unwrap();
    greet(&mut desk, second, &ExtendedHandshake { port: Some(99), upload_only: Some(true), ..hello() });
    desk.pass(5);
    let news = said(&mut desk, first, Extension::Pex);
    let added = vec![(addr("127.0.0.1:99"), PexFlags(PexFlags::SEED))];
    let news = news.iter().map(|payload| PexMessage::parse(payload).unwrap()).collect::<Vec<_>>();
    assert_eq!(news, [PexMessage { added, ..Default::default() }]);
    let news = said(&mut desk, second, Extension::Pex);
    let news = PexMessage::parse(&news[0]).unwrap();
    assert_eq!(news.added, [(addr("127.0.0.1:1001"), PexFlags(PexFlags::REACHABLE))]);
    desk.swarm.gone(desk.now, second);
    desk.pass(30);
    assert_eq!(said(&mut desk, first, Extension::Pex), [[0u8; 0]; 0], "too soon");
    desk.pass(31);
    let news = said(&mut desk, first, Extension::Pex);
    assert_eq!(PexMessage::parse(&news[0]).unwrap().dropped, [addr("127.0.0.1:99")]);
}

fn exchange(text: &[&str]) -> Vec<u8> {
    let added = text.iter().map(|text| (addr(text), PexFlags(0))).collect();
    PexMessage { added, ..Default::default() }.encode()
}

#[test]
fn whom_peers_tell_of_is_dialled_within_limits() {
    let mut desk = desk(3, &[0]);
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    let told = exchange(&["9.9.9.9:1", "9.9.9.9:1", "127.0.0.1:5", "8.8.8.8:0", "224.0.0.1:1"]);
    tell(&mut desk, peer, Extension::Pex, &told);
    assert_eq!(dials(&mut desk), [addr("9.9.9.9:1"), addr("127.0.0.1:5")]);
    (0..6).for_each(|n| tell(&mut desk, peer, Extension::Pex, &exchange(&[&format!("1.1.1.{n}:1")])));
    assert_eq!(desk.swarm.totals().limits.offences, 1, "the seventh in a minute");
    tell(&mut desk, peer, Extension::Pex, b"nonsense");
    assert_eq!(desk.swarm.totals().limits.offences, 2);
    let counts = desk.swarm.totals().exchange;
    assert_eq!((counts.heard, counts.too_often, counts.unread), (6, 2, 0));
    assert_eq!((counts.peers, counts.unused, counts.too_long), (10, 3, 0));
    desk.pass(61);
    tell(&mut desk, peer, Extension::Pex, b"nonsense");
    assert_eq!(desk.swarm.totals().exchange.unread, 1);
}

#[test]
fn of_a_list_that_is_too_long_the_end_is_passed_over_and_counted() {
    let mut desk = desk(3, &[0]);
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    for (count, cut) in [(50u8, 0), (51, 1)] {
        let list: Vec<u8> = (1..=count).flat_map(|n| [9, 9, count, n, 0, 1]).collect();
        let head = format!("d5:added{}:", list.len());
        tell(&mut desk, peer, Extension::Pex, &[head.as_bytes(), &list, b"e"].concat());
        let totals = desk.swarm.totals();
        assert_eq!((totals.exchange.too_long, totals.limits.offences), (cut, 0));
    }
    assert_eq!(desk.swarm.totals().exchange.peers, 100);
}

#[test]
fn one_peer_that_tells_of_many_leaves_room_for_what_others_tell() {
    let mut desk = desk(3, &[0]);
    (own(&mut desk).most_peers, own(&mut desk).most_dials) = (100, 100);
    let [first, second] = [1, 2].map(|number| desk.connect(false, number).unwrap());
    [first, second].into_iter().for_each(|peer| greet(&mut desk, peer, &hello()));
    for net in 0..4 {
        let added = (1..=50).map(|n| (SocketAddr::from(([9, 9, net, n], 1)), PexFlags(0))).collect();
        tell(&mut desk, first, Extension::Pex, &PexMessage { added, ..Default::default() }.encode());
    }
    let limits = |desk: &Desk| desk.swarm.totals().limits;
    assert_eq!((limits(&desk).tellers, limits(&desk).addresses), (150, 0));
    tell(&mut desk, second, Extension::Pex, &exchange(&["8.8.8.8:1"]));
    assert!(dials(&mut desk).contains(&addr("8.8.8.8:1")));
    assert_eq!(limits(&desk).tellers, 150);
}

#[test]
fn who_tells_several_cores_fills_no_more_than_one_book() {
    let mut desks = two(BLOCK, 3);
    let told = [0, 1].map(|net| (1..=40).map(move |n| format!("9.{net}.{n}.9:1")).collect::<Vec<_>>());
    for (number, desk) in desks.iter_mut().enumerate() {
        (own(desk).most_peers, own(desk).most_dials) = (100, 100);
        let (reserved, id) = (Reserved::ours(true), id(number as u8));
        let who = Introduction { addr: addr("8.8.8.8:1"), outgoing: false, id, reserved };
        let peer = desk.swarm.connect(desk.now, who).unwrap();
        greet(desk, peer, &hello());
        let told: Vec<&str> = told[number].iter().map(String::as_str).collect();
        tell(desk, peer, Extension::Pex, &exchange(&told));
        // What one of the cores has heard of.
        tell(desk, peer, Extension::Pex, &exchange(&["9.0.1.9:1"]));
    }
    assert_eq!(desks.each_mut().map(|desk| dials(desk).len()), [40, 10]);
    assert_eq!(desks.each_ref().map(|desk| desk.swarm.totals().limits.tellers), [0, 30]);
    assert_eq!(desks.each_ref().map(|desk| desk.swarm.totals().exchange.unused), [1, 1]);
}

#[test]
fn whom_peers_tell_of_is_not_dialled_when_it_is_in_the_filter() {
    let mut desk = desk(3, &[0]);
    own(&mut desk).filter = Some(Arc::new(IpFilter::parse(b"9.9.9.0/24").unwrap()));
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    tell(&mut desk, peer, Extension::Pex, &exchange(&["9.9.9.9:1", "[::ffff:9.9.9.8]:1", "8.8.8.8:1"]));
    assert_eq!(dials(&mut desk), [addr("8.8.8.8:1")]);
    assert_eq!(desk.swarm.totals().limits.filtered, 2);
}

#[test]
fn who_is_connected_from_another_port_is_not_dialled() {
    for private in [false, true] {
        let mut desk = desk(3, &[0]);
        own(&mut desk).greeting.private = private;
        let peer = desk.connect(false, 1).unwrap();
        greet(&mut desk, peer, &ExtendedHandshake { port: Some(99), ..hello() });
        // A tracker, say, names it and another.
        desk.swarm.add_candidate(addr("127.0.0.1:99"), Source::Tracker);
        desk.swarm.add_candidate(addr("127.0.0.1:98"), Source::Tracker);
        assert_eq!(dials(&mut desk), [addr("127.0.0.1:98")]);
        desk.pass(60);
        assert_eq!(dials(&mut desk), []);
        desk.swarm.gone(desk.now, peer);
        desk.pass(120);
        assert_eq!(dials(&mut desk), [addr("127.0.0.1:99")], "now there is a reason to");
        // It has come back before the dial was through, and by its id it is its connection that stays.
        let back = desk.connect(false, 200).unwrap();
        let id = desk.swarm.peers.get(back).unwrap().who.id;
        let who = Introduction { addr: addr("127.0.0.1:99"), outgoing: true, id, reserved: desk.reserved };
        assert!(matches!(desk.swarm.connect(desk.now, who), Err(DropReason::Duplicate)));
        desk.pass(60);
        assert_eq!(dials(&mut desk), []);
    }
}

#[test]
fn that_a_peer_encrypts_is_told_and_heard() {
    let mut desk = desk(3, &[0]);
    let [first, second] = [1, 2].map(|number| desk.connect(true, number).unwrap());
    desk.swarm.is_encrypted(second);
    greet(&mut desk, first, &hello());
    let news = said(&mut desk, first, Extension::Pex);
    let flags = PexFlags(PexFlags::ENCRYPTION | PexFlags::REACHABLE);
    assert_eq!(PexMessage::parse(&news[0]).unwrap().added, [(addr("127.0.0.1:1002"), flags)]);
    let [open, closed] = ["9.9.9.9:1", "9.9.9.8:1"].map(addr);
    let added = vec![(open, PexFlags(PexFlags::SEED)), (closed, PexFlags(PexFlags::ENCRYPTION))];
    let told = PexMessage { added, ..Default::default() };
    tell(&mut desk, first, Extension::Pex, &told.encode());
    assert_eq!([open, closed].map(|addr| desk.swarm.may_encrypt(&addr)), [false, true]);
    let counts = desk.swarm.totals().exchange;
    assert_eq!((counts.said, counts.heard, counts.peers, counts.unused), (1, 1, 2, 0));
}

/// Hears one peer after the other tell of these, again and again; what is dialled within two minutes, where dials come to
/// nothing or nobody answers.
fn dialled_by(told: &[&[&str]], refused: bool) -> Vec<SocketAddr> {
    let mut desk = desk(3, &[0]);
    (own(&mut desk).most_peers, own(&mut desk).most_dials) = (100, 100);
    // A port that has gone stale.
    desk.swarm.add_candidate(addr("9.9.9.9:99"), Source::Tracker);
    let peers: Vec<PeerSlot> =
        (1..=told.len() as u8).map(|number| desk.connect(false, number).unwrap()).collect();
    peers.iter().for_each(|peer| greet(&mut desk, *peer, &hello()));
    let mut dialled = Vec::new();
    for second in 0..120 {
        for (peer, told) in peers.iter().zip(told).filter(|_| second % 12 == 0) {
            tell(&mut desk, *peer, Extension::Pex, &exchange(told));
        }
        let now = dials(&mut desk);
        now.iter().filter(|_| refused).for_each(|addr| desk.swarm.dial_failed(desk.now, *addr));
        dialled.extend(now);
    }
    dialled.retain(|addr| addr.port() != 99);
    dialled
}

#[test]
fn who_names_dead_ports_of_a_host_does_not_hide_the_right_one() {
    let liar: Vec<String> = (1..=40).map(|port| format!("9.9.9.9:{port}")).collect();
    let liar: Vec<&str> = liar.iter().map(String::as_str).collect();
    let honest = ["9.9.9.9:50"];
    // As long as nobody knows better, two are the liar's.
    let dialled = dialled_by(&[&liar, &honest], false);
    assert_eq!(dialled, ["9.9.9.9:1", "9.9.9.9:2", "9.9.9.9:50"].map(addr));
    // What has failed makes room, and yet the host is dialled no more often than once in two seconds.
    let dialled = dialled_by(&[&liar, &honest, &liar[20..]], true);
    assert!(dialled.contains(&addr(honest[0])) && dialled.len() <= 61, "{dialled:?}");
    let others = dialled.iter().filter(|addr| addr.port() > 2).count();
    assert!(others > 4, "{dialled:?}");
    // Two of one honest peer are two.
    assert_eq!(dialled_by(&[&["9.9.9.9:7", "9.9.9.9:8"]], false).len(), 2);
}

#[test]
fn of_an_address_that_is_known_it_is_heard_that_it_encrypts_but_not_that_it_is_a_seed() {
    let mut desk = desk(1, &[0]);
    let peer = desk.connect(false, 1).unwrap();
    greet(&mut desk, peer, &hello());
    let [known, told, fresh] = ["9.9.9.9:1", "9.9.9.8:1", "9.9.9.7:1"].map(addr);
    desk.swarm.add_candidate(known, Source::Tracker);
    let flags = PexFlags(PexFlags::SEED | PexFlags::ENCRYPTION);
    tell(&mut desk, peer, Extension::Pex, &exchange(&["9.9.9.8:1"]));
    let added = [known, told, fresh].map(|addr| (addr, flags)).to_vec();
    tell(&mut desk, peer, Extension::Pex, &PexMessage { added, ..Default::default() }.encode());
    assert!([known, told, fresh].iter().all(|addr| desk.swarm.may_encrypt(addr)));
    assert_eq!(dials(&mut desk), [told, known], "a seed leaves seeds alone");
}

#[test]
fn private_torrents_keep_their_peers_to_themselves() {
    for greeting in [
        Greeting { private: true, dht: true, dht_port: Some(5), ..Greeting::default() },
        Greeting { pex: false, ..Greeting::default() },
    ] {
        let mut desk = desk(3, &[0]);
        own(&mut desk).greeting = greeting;
        let first = desk.connect(true, 1).unwrap();
        let words = desk.say(first);
        let hello_said = words.iter().find_map(|said| match said {
            Said::Extended(0, payload) => ExtendedHandshake::parse(payload),
            _ => None,
        });
        assert_eq!(hello_said.unwrap().ids[Extension::Pex as usize], None);
        assert!(!words.iter().any(|said| matches!(said, Said::Port(_))), "{words:?}");
        let second = desk.connect(true, 2).unwrap();
        [first, second].into_iter().for_each(|peer| greet(&mut desk, peer, &hello()));
        desk.pass(61);
        assert_eq!(said(&mut desk, first, Extension::Pex), [[0u8; 0]; 0]);
        tell(&mut desk, first, Extension::Pex, &exchange(&["9.9.9.9:1"]));
        desk.hear(first, Message::Port(6881));
        let wishes = desk.wishes();
        assert!(!wishes.iter().any(|wish| matches!(wish, Wish::Dial(_) | Wish::DhtNode(_))), "{wishes:?}");
    }
}

#[test]
fn ports_of_dht_nodes_are_said_and_heard_where_one_runs() {
    let mut desk = desk(3, &[0]);
    own(&mut desk).greeting = Greeting { dht: true, dht_port: Some(4444), ..Greeting::default() };
    let peer = desk.connect(true, 1).unwrap();
    assert_eq!(desk.say(peer).iter().filter(|said| **said == Said::Port(4444)).count(), 1);
    [0, 6881, 6882].into_iter().for_each(|port| desk.hear(peer, Message::Port(port)));
    let nodes: Vec<Wish> =
        desk.wishes().into_iter().filter(|wish| matches!(wish, Wish::DhtNode(_))).collect();
    assert_eq!(nodes, [Wish::DhtNode(addr("127.0.0.1:6881"))], "one a peer");
}

#[test]
fn a_dht_node_that_answers_nobody_hears_of_others_and_is_told_to_none() {
    let mut desk = desk(3, &[0]);
    own(&mut desk).greeting = Greeting { dht: true, ..Greeting::default() };
    assert!(own(&mut desk).greeting.reserved().dht(), "else nobody says its port");
    let peer = desk.connect(true, 1).unwrap();
    assert!(!desk.say(peer).iter().any(|said| matches!(said, Said::Port(_))));
    desk.hear(peer, Message::Port(6881));
    assert!(desk.wishes().contains(&Wish::DhtNode(addr("127.0.0.1:6881"))));
}

#[test]
fn a_piece_that_a_peer_has_lost_is_not_asked_of_it() {
    let mut desk = desk(3, &[0]);
    let peer = desk.giver(1, &[0, 1, 2]);
    greet(&mut desk, peer, &hello());
    let mut asked = desk.requests(peer);
    asked.sort();
    assert_eq!(asked, [(1, 0), (2, 0)]);
    tell(&mut desk, peer, Extension::DontHave, &encode_dont_have(1));
    assert_eq!(desk.requests(peer), []);
    let other = desk.giver(2, &[1]);
    assert_eq!(desk.requests(other), [(1, 0)]);
    tell(&mut desk, peer, Extension::DontHave, &encode_dont_have(2));
    assert!(desk.say(peer).contains(&Said::NotInterested));
    tell(&mut desk, peer, Extension::DontHave, &encode_dont_have(3));
    assert_eq!(desk.drops(), [(peer, DropReason::NoSuchPiece(3))]);
}

#[test]
fn who_does_not_download_is_of_no_use_to_a_seed() {
    let mut desk = desk(3, &[0, 1, 2]);
    let peer = desk.connect(false, 1).unwrap();
    let words = desk.say(peer);
    let upload_only = words.iter().find_map(|said| match said {
        Said::Extended(0, payload) => ExtendedHandshake::parse(payload)?.upload_only,
        _ => None,
    });
    assert_eq!(upload_only, Some(true));
    desk.hear(peer, Message::Bitfield(&bits(3, &[0])));
    tell(&mut desk, peer, Extension::UploadOnly, &[1]);
    assert_eq!(desk.drops(), [(peer, DropReason::BothSeeds)]);
}

#[test]
fn that_we_have_become_a_seed_is_told() {
    let mut desk = desk(1, &[]);
    let (giver, taker) = (desk.giver(1, &[0]), desk.connect(false, 2).unwrap());
    greet(&mut desk, taker, &hello());
    desk.say(taker);
    assert_eq!(desk.requests(giver), [(0, 0)]);
    desk.block_comes(giver, (0, 0));
    desk.settle(&[]);
    assert_eq!(said(&mut desk, taker, Extension::UploadOnly), [[1]]);
}

#[test]
fn when_there_is_no_room_the_least_priority_gives_way_if_it_does_not_trade() {
    let mut desk = desk(3, &[0]);
    let slots: Vec<PeerSlot> = (1..=4).map(|number| desk.connect(false, number).unwrap()).collect();
    // All want something of us: none is useless.
    slots.iter().for_each(|slot| desk.hear(*slot, Message::Interested));
    desk.say(slots[0]);
    let newcomer = |desk: &mut Desk, host: u8| {
        let addr = SocketAddr::from(([10, host, 7, 1], 5));
        let who = Introduction {
            addr,
            outgoing: false,
            id: crate::wire::PeerId([host; 20]),
            reserved: desk.reserved,
        };
        desk.swarm.connect(desk.now, who)
    };
    // None of them has an id that is in use here.
    let hosts = 110..250u8;
    for host in hosts.clone() {
        assert!(matches!(newcomer(&mut desk, host), Err(DropReason::Full(4))), "they are fresh");
    }
    for (slot, host) in slots.iter().zip(0u8..) {
        let addr = SocketAddr::from(([10, host, 9, 9], 5));
        desk.swarm.peers.get_mut(*slot).unwrap().who.addr = addr;
    }
    desk.pass(31);
    desk.wishes();
    let rank = |slot: &PeerSlot| desk.swarm.priority(desk.swarm.peers.get(*slot).unwrap().who.addr);
    let least = *slots.iter().min_by_key(|slot| rank(slot)).unwrap();
    let (least_rank, mut refused) = (rank(&least), 0);
    let mut greater = Vec::new();
    for host in hosts {
        if desk.swarm.priority(SocketAddr::from(([10, host, 7, 1], 5))) > least_rank {
            greater.push(host);
        } else {
            assert!(matches!(newcomer(&mut desk, host), Err(DropReason::Full(4))));
            refused += 1;
        }
    }
    assert!(refused > 0, "some are of less priority");
    assert!(newcomer(&mut desk, greater[0]).is_ok());
    assert_eq!(desk.drops(), [(least, DropReason::Full(4))]);
    // All of them the first time; of the second, those that were refused, and one that another made way for.
    assert_eq!(desk.swarm.totals().limits.peers, 140 + refused + 1);
}
