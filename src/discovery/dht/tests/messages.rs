//! Messages, ids and addresses.

use super::{addr, id};
use crate::discovery::dht::compact::{Contact, Family, put_nodes, read_addr, usable};
use crate::discovery::dht::encode::{self, Answer, Ask, Asker};
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{Body, Call, Refusal, parse};
use crate::metainfo::InfoHash;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

const ID: &[u8; 20] = b"abcdefghij0123456789";
const OTHER: &[u8; 20] = b"mnopqrstuvwxyz123456";

fn call(datagram: &[u8]) -> Call<'_> {
    match parse(datagram).unwrap().body {
        Body::Query(query) => {
            assert_eq!(&query.id.0, ID);
            query.call
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_examples_of_bep_5_are_read() {
    assert_eq!(call(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe"), Call::Ping);
    let find =
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe";
    assert_eq!(call(find), Call::FindNode(NodeId(*OTHER)));
    let get =
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
    assert_eq!(call(get), Call::GetPeers(InfoHash(*OTHER)));
    let announce = b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe";
    let token = b"aoeusnth".as_slice();
    let info_hash = InfoHash(*OTHER);
    assert_eq!(call(announce), Call::Announce { info_hash, port: None, token });
    let values =
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re";
    let message = parse(values).unwrap();
    assert_eq!(message.transaction, b"aa");
    let Body::Reply(reply) = message.body else { panic!("another message") };
    let peers: Vec<SocketAddr> =
        vec!["97.120.106.101:11893".parse().unwrap(), "105.100.104.116:28269".parse().unwrap()];
    assert_eq!((reply.values, reply.token), (peers, Some(token)));
    assert!(matches!(
        parse(b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee").unwrap().body,
        Body::Error
    ));
}

#[test]
fn the_ids_of_bep_42_follow_from_addresses() {
    let vectors = [
        ("124.31.75.21", 1, [0x5f, 0xbf, 0xbf]),
        ("21.75.31.124", 86, [0x5a, 0x3c, 0xe9]),
        ("65.23.51.170", 22, [0xa5, 0xd4, 0x32]),
        ("84.124.73.14", 65, [0x1b, 0x03, 0x21]),
        ("43.213.53.83", 90, [0xe5, 0x6f, 0x6c]),
    ];
    for (ip, last, first) in vectors {
        let ip: IpAddr = ip.parse().unwrap();
        let mut random = [0x77; 20];
        random[19] = last;
        let made = NodeId::for_ip(ip, random);
        assert_eq!((made.0[0], made.0[1], made.0[2] & 0xf8), (first[0], first[1], first[2] & 0xf8), "{ip}");
        assert_eq!((made.0[2] & 7, made.0[19]), (0x77 & 7, last));
        assert!(made.fits(ip));
        for bit in [0, 8, 20] {
            let mut wrong = made;
            wrong.0[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(!wrong.fits(ip), "{ip}, bit {bit}");
        }
    }
    let v6: IpAddr = "2001:db8:5:6::9".parse().unwrap();
    assert!(NodeId::for_ip(v6, [3; 20]).fits(v6) && !NodeId([3; 20]).fits(v6));
    // The lower half of an IPv6 address says nothing.
    assert!(NodeId::for_ip(v6, [3; 20]).fits("2001:db8:5:6:ffff::1".parse().unwrap()));
    for local in
        ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.5.5", "169.254.1.1", "::1", "fe80::1", "fd00::1"]
    {
        assert!(NodeId([9; 20]).fits(local.parse().unwrap()), "{local}");
    }
}

#[test]
fn wrong_types_are_errors_and_nonsense_is_silence() {
    let error = |datagram: &[u8]| match parse(datagram) {
        Err(Refusal::Error { transaction, code, .. }) => (transaction.to_vec(), code),
        other => panic!("{other:?}"),
    };
    let wrong: &[&[u8]] = &[
        b"d1:ai5e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij0123456789e1:qi4e1:t2:aa1:y1:qe",
        b"d1:ad2:idi20ee1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id19:abcdefghij012345678e1:q4:ping1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567896:targeti7ee1:q9:find_node1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz1234564:want2:n4e1:q9:find_node1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti0e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti65536e5:token1:xe1:q13:announce_peer1:t2:aa1:y1:qe",
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz1234564:porti1e5:tokeni1ee1:q13:announce_peer1:t2:aa1:y1:qe",
    ];
    for datagram in wrong {
        assert_eq!(error(datagram), (b"aa".to_vec(), 203), "{}", datagram.escape_ascii());
    }
    assert_eq!(error(b"d1:ad2:id20:abcdefghij0123456789e1:q3:new1:t0:1:y1:qe"), (vec![], 204));
    // An unknown query with a target is a way to it.
    let new = b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q3:new1:t2:aa1:y1:qe";
    assert_eq!(call(new), Call::FindNode(NodeId(*OTHER)));
    // A transaction is echoed however long it is.
    let long = [&b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t900:"[..], &[b'x'; 900], b"1:y1:qe"].concat();
    assert_eq!(parse(&long).unwrap().transaction, [b'x'; 900]);
    let nested = [b"d1:t".as_slice(), &[b'l'; 1400]].concat();
    let silent: &[&[u8]] = &[
        b"",
        b"le",
        b"d1:y1:qe",
        b"d1:ti5e1:y1:qe",
        b"d1:t2:aa1:y1:xe",
        b"d1:t2:aa1:y1:re",
        b"d1:rd2:id20:abcdefghij0123456789e1:t2:aa1:y1:rex",
        b"d1:rd2:id20:abcdefghij01234567895:nodesi3ee1:t2:aa1:y1:re",
        b"d1:rd2:id20:abcdefghij01234567896:valuesi3ee1:t2:aa1:y1:re",
        &nested,
        &[b'd'; 1501],
    ];
    for datagram in silent {
        assert_eq!(parse(datagram).err(), Some(Refusal::Silent), "{}", datagram.escape_ascii());
    }
}

#[test]
fn of_a_ragged_reply_what_is_whole_counts() {
    let [v4, v6] = [addr(1), "[2001:db8::1]:9".parse().unwrap()].map(|addr| Contact { id: id(&[7]), addr });
    for (cut, more, nodes) in [
        (0, &b""[..], vec![v4, v4, v6]),
        (1, b"", vec![v4, v6]),
        (25, b"", vec![v4, v6]),
        (26, b"", vec![v4, v6]),
        (0, b"def456...", vec![v4, v4, v6]),
        (52, b"def456...", vec![v6]),
    ] {
        let four = put_nodes(&[v4, v4]);
        let four = [&four[..four.len() - cut], more].concat();
        let reply = |six: &[u8]| {
            let string = |bytes: &[u8]| [format!("{}:", bytes.len()).as_bytes(), bytes].concat();
            let values = b"6:valuesl6:abcdef5:abcde18:abcdefghijklmnopqr7:abcdefgi7eee1:t2:aa1:y1:re";
            let nodes = [&string(&four), &b"6:nodes6"[..], &string(six)].concat();
            [&b"d1:rd2:id20:abcdefghij01234567895:nodes"[..], &nodes, values].concat()
        };
        let six = put_nodes(&[v6]);
        for bytes in [reply(&six), reply(&[&six[..], b"x"].concat())] {
            let Body::Reply(reply) = parse(&bytes).unwrap().body else { panic!("another message") };
            assert_eq!((reply.nodes, reply.values.len(), reply.ragged), (nodes.clone(), 2, true));
        }
    }
    let cut = b"d1:rd2:id20:abcdefghij01234567895:nodes9:def456...e1:t2:aa1:y1:re";
    assert!(matches!(parse(cut).unwrap().body, Body::Reply(reply) if reply.ragged && reply.nodes.is_empty()));
    let whole = b"d1:rd2:id20:abcdefghij01234567895:nodes0:6:valuesl6:abcdefee1:t2:aa1:y1:re";
    assert!(matches!(parse(whole).unwrap().body, Body::Reply(reply) if !reply.ragged));
}

#[test]
fn what_is_asked_can_be_read() {
    let asks = [
        (Ask::Ping, Call::Ping),
        (Ask::FindNode(NodeId(*OTHER)), Call::FindNode(NodeId(*OTHER))),
        (Ask::GetPeers(InfoHash(*OTHER)), Call::GetPeers(InfoHash(*OTHER))),
        (
            Ask::Announce { info_hash: InfoHash(*OTHER), port: 7, implied: false, token: b"tok".to_vec() },
            Call::Announce { info_hash: InfoHash(*OTHER), port: Some(7), token: b"tok" },
        ),
    ];
    for (ask, call) in asks {
        let asker = Asker { id: NodeId(*ID), read_only: true, want: &Family::ALL };
        let bytes = encode::query(b"1234", &ask, &asker);
        let message = parse(&bytes).unwrap();
        assert_eq!(message.transaction, b"1234");
        let Body::Query(query) = message.body else { panic!("another message") };
        assert_eq!((&query.id.0, query.read_only, &query.call), (ID, true, &call));
        let wants = matches!(call, Call::FindNode(_) | Call::GetPeers(_));
        assert_eq!(query.want, if wants { Family::ALL.to_vec() } else { vec![] });
    }
}

#[test]
fn replies_are_never_longer_than_they_may_be() {
    let nodes = |addr: fn(u32) -> SocketAddr| {
        Some((0..8).map(|n| Contact { id: id(&[n]), addr: addr(n.into()) }).collect())
    };
    let v6 = |n: u32| SocketAddr::new(IpAddr::from([0x2001, 0xdb8, n as u16, 0, 0, 0, 0, 1]), 9);
    let to = v6(99);
    for room in 0..1100 {
        let answer = Answer {
            nodes: [nodes(addr), nodes(v6)],
            token: Some([7; 8]),
            values: (0..100).map(v6).collect(),
        };
        let Some(bytes) = encode::reply((&[b't'; 64], to), NodeId(*ID), answer, room) else {
            assert!(room < 300, "{room} bytes must do");
            continue;
        };
        assert!(bytes.len() <= room.min(1024));
        let message = parse(&bytes).unwrap();
        assert_eq!(message.transaction, [b't'; 64]);
        let Body::Reply(reply) = message.body else { panic!("another message") };
        assert_eq!((reply.ip, reply.token), (Some(to), Some([7; 8].as_slice())));
        // A few peers stay as long as there are more than a few nodes to leave out, and a few nodes longer than they.
        assert!(reply.nodes.len() == 16 || reply.values.len() <= 8, "{} peers", reply.values.len());
        assert!(reply.nodes.len() <= 2 || reply.values.len() >= 8, "{} peers", reply.values.len());
        assert!(reply.nodes.len() >= 2 || reply.values.is_empty());
        assert!(room < 1024 || reply.values.len() >= 14, "{} peers", reply.values.len());
    }
    let ping =
        encode::query(b"1234", &Ask::Proof, &Asker { id: id(&[1]), read_only: false, want: &Family::ALL });
    assert_eq!(ping.len(), encode::PROOF_LEN);
    let answer = Answer { values: (0..100).map(addr).collect(), ..Answer::default() };
    let bytes = encode::reply((b"x", to), NodeId(*ID), answer, 1024).unwrap();
    let Body::Reply(reply) = parse(&bytes).unwrap().body else { panic!("another message") };
    assert_eq!(reply.values.len(), 50);
}

#[test]
fn addresses_that_nobody_can_have_are_not_used() {
    let (stranger, neighbour) = ("8.8.8.8".parse().unwrap(), "192.168.1.1".parse().unwrap());
    for (text, from_stranger, from_neighbour) in [
        ("9.9.9.9:1", true, true),
        ("9.9.9.9:0", false, false),
        ("192.168.1.2:1", false, true),
        ("127.0.0.1:1", false, true),
        ("224.0.0.1:1", false, false),
        ("0.0.0.0:1", false, false),
        ("[::ffff:9.9.9.9]:1", false, false),
        ("[ff02::1]:1", false, false),
        ("[2001:db8::1]:1", true, true),
    ] {
        let addr = text.parse().unwrap();
        assert_eq!(
            (usable(addr, stranger), usable(addr, neighbour)),
            (from_stranger, from_neighbour),
            "{text}"
        );
    }
    assert_eq!(read_addr(&[1; 7]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_change_of_a_message_makes_it_panic(at in 0..90usize, byte: u8, cut in 0..90usize) {
        let mut get = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe".to_vec();
        get[at] = byte;
        let _ = parse(&get);
        let _ = parse(&get[..cut]);
    }

    #[test]
    fn siblings_share_as_many_bits_as_they_should(own: [u8; 20], random: [u8; 20], bits in 0..160usize) {
        let sibling = NodeId(own).sibling(bits, random);
        prop_assert_eq!(NodeId(own).shared_bits(sibling), bits);
    }
}
