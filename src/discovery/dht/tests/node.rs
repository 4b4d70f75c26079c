//! A whole node, spoken to datagram by datagram.

use super::{MINUTE, SECOND, addr, id};
use crate::bencode::write_dict;
use crate::discovery::dht::compact::{Contact, put_addr};
use crate::discovery::dht::encode::{self, Ask, Asker};
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::message::{Body, Call, Message, Reply, parse};
use crate::discovery::dht::{Dht, DhtConfig, Family};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const START: Duration = Duration::ZERO;
pub(super) const HASH: InfoHash = InfoHash([5; 20]);

pub(super) fn node() -> Dht {
    let config = DhtConfig { families: [true, true], ..DhtConfig::default() };
    Dht::new(START, config, [7; 32], &[])
}

pub(super) fn query(ask: &Ask, who: NodeId) -> Vec<u8> {
    encode::query(b"tx", ask, &Asker { id: who, read_only: false, want: &[] })
}

/// Everything that it wants to send.
pub(super) fn sent(dht: &mut Dht) -> Vec<(SocketAddr, Vec<u8>)> {
    std::iter::from_fn(|| dht.take_outgoing()).collect()
}

/// The one reply among what was sent to an address.
fn replied<T>(sent: &[(SocketAddr, Vec<u8>)], to: SocketAddr, read: impl FnOnce(&Reply<'_>) -> T) -> T {
    let mut to_it = sent.iter().filter(|(addr, _)| *addr == to).map(|(_, bytes)| parse(bytes).unwrap());
    let reply = to_it.find_map(|message| match message {
        Message { transaction: b"tx", body: Body::Reply(reply) } => Some(reply),
        _ => None,
    });
    read(&reply.expect("a reply"))
}

/// Answers each query that was sent to an address, as `who`; gives their number.
pub(super) fn answer(
    dht: &mut Dht,
    now: Duration,
    at: SocketAddr,
    who: NodeId,
    more: impl Fn(&Call<'_>) -> Vec<u8>,
) -> usize {
    let mut count = 0;
    for (to, bytes) in sent(dht) {
        let message = parse(&bytes).unwrap();
        if let (true, Body::Query(query)) = (to == at, message.body) {
            let nodes = more(&query.call);
            dht.hear(now, at, &reply(message.transaction, who, &nodes, None));
            count += 1;
        }
    }
    count
}

pub(super) fn reply(transaction: &[u8], who: NodeId, nodes: &[u8], ip: Option<SocketAddr>) -> Vec<u8> {
    write_dict(|root| {
        if let Some(ip) = ip {
            let mut bytes = Vec::new();
            put_addr(&mut bytes, ip);
            root.bytes(b"ip", &bytes);
        }
        root.dict(b"r", |r| {
            r.bytes(b"id", &who.0);
            r.bytes(b"nodes", nodes);
            r.bytes(b"token", b"secret");
        });
        root.bytes(b"t", transaction);
        root.bytes(b"y", b"r");
    })
}

#[test]
fn an_announce_needs_a_token_and_is_told_to_others() {
    let mut dht = node();
    let (peer, who) = (addr(1), id(&[1]));
    let announce = |port, implied, token: &[u8]| {
        query(&Ask::Announce { info_hash: HASH, port, implied, token: token.to_vec() }, who)
    };
    dht.hear(START, peer, &announce(77, false, b"guessed!"));
    let error = String::from_utf8_lossy(&sent(&mut dht)[0].1).into_owned();
    assert!(error.contains("eli203e9:bad token") && error.contains("1:t2:tx"), "{error}");
    dht.hear(START, peer, &query(&Ask::GetPeers(HASH), who));
    let token = replied(&sent(&mut dht), peer, |reply| {
        assert_eq!((reply.values.len(), reply.ip), (0, Some(peer)));
        reply.token.unwrap().to_vec()
    });
    dht.hear(SECOND, addr(2), &announce(77, false, &token));
    assert_eq!(dht.counters().announces_in, 0, "the token is another's");
    dht.hear(SECOND, peer, &announce(77, false, &token));
    dht.hear(SECOND, peer, &announce(77, true, &token));
    sent(&mut dht);
    dht.hear(SECOND, addr(3), &query(&Ask::GetPeers(HASH), id(&[3])));
    let mut peers = replied(&sent(&mut dht), addr(3), |reply| reply.values.clone());
    peers.sort();
    assert_eq!(peers, [SocketAddr::new(peer.ip(), 77), peer]);
    // Who asks by IPv6 is told of no IPv4 peers.
    let v6 = "[2001:db8::1]:9".parse().unwrap();
    dht.hear(SECOND, v6, &query(&Ask::GetPeers(HASH), id(&[4])));
    assert_eq!(replied(&sent(&mut dht), v6, |reply| reply.values.len()), 0);
    assert_eq!((dht.counters().announces_in, dht.counters().bad_tokens), (2, 2));
}

#[test]
fn what_is_not_stored_and_who_is_forgotten_for_want_of_room_is_counted() {
    let mut dht = node();
    let (host, who) = (addr(1), id(&[1]));
    dht.hear(START, host, &query(&Ask::GetPeers(HASH), who));
    let token = replied(&sent(&mut dht), host, |reply| reply.token.unwrap().to_vec());
    for port in 1..=6 {
        let announce = Ask::Announce { info_hash: HASH, port, implied: false, token: token.clone() };
        dht.hear(SECOND, host, &query(&announce, who));
    }
    assert_eq!((dht.counters().announces_in, dht.counters().over_store_limit), (6, 2), "four of one host");
    let mut dht = node();
    (0..5000).for_each(|n| dht.hear(SECOND, addr(n), &query(&Ask::Ping, who)));
    assert_eq!((dht.counters().queries_in, dht.counters().over_address_limit), (5000, 904));
}

#[test]
fn only_who_answers_gets_into_the_table() {
    let mut dht = node();
    let who = id(&[1]);
    dht.hear(START, addr(1), &query(&Ask::Ping, who));
    assert_eq!(dht.nodes(), 0);
    // An answer from elsewhere, one to nothing, one in the name of another.
    let out = sent(&mut dht);
    let (to, ping) =
        out.iter().find(|(_, bytes)| matches!(parse(bytes).unwrap().body, Body::Query(_))).unwrap();
    assert_eq!(*to, addr(1));
    let transaction = parse(ping).unwrap().transaction.to_vec();
    dht.hear(START, addr(2), &reply(&transaction, who, b"", None));
    dht.hear(START, addr(1), &reply(b"nope", who, b"", None));
    assert_eq!((dht.nodes(), dht.counters().unsolicited), (0, 2));
    dht.hear(START, addr(1), &reply(&transaction, id(&[2]), b"", None));
    assert_eq!((dht.nodes(), dht.counters().wrong_ids), (0, 1));
    dht.hear(START, addr(1), &reply(&transaction, who, b"", None));
    assert_eq!(dht.nodes(), 0, "an answer counts once");
    dht.hear(SECOND, addr(1), &query(&Ask::Ping, who));
    // Also when what it names ends within an address.
    assert_eq!(answer(&mut dht, SECOND, addr(1), who, |_| b"cut off".to_vec()), 1);
    assert_eq!((dht.nodes(), dht.counters().malformed), (1, 1));
    // Whoever only reads is not asked back (BEP 43).
    let reader = encode::query(b"tx", &Ask::Ping, &Asker { id: id(&[9]), read_only: true, want: &[] });
    dht.hear(SECOND, addr(9), &reader);
    assert_eq!(sent(&mut dht).len(), 1);
    // Another id at the address: what was there is gone.
    dht.tick(MINUTE * 17);
    answer(&mut dht, MINUTE * 17, addr(1), id(&[7]), |_| Vec::new());
    assert!(dht.counters().wrong_ids > 1);
    assert_eq!(dht.nodes(), 0);
}

#[test]
fn floods_are_dropped_and_counted() {
    let mut dht = node();
    let get = query(&Ask::GetPeers(HASH), id(&[1]));
    let mut went = 0;
    for _ in 0..1000 {
        dht.hear(START, addr(1), &get);
        went += sent(&mut dht).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    let counters = dht.counters();
    assert_eq!((counters.queries_in, counters.over_query_limit), (50, 950));
    assert!(went <= 2 * 1000 * get.len());
    (0..1000).for_each(|_| dht.hear(START, addr(2), b"nonsense"));
    (0..200).for_each(|n| dht.add_node(START, addr(n)));
    assert_eq!(dht.counters().malformed, 1000);
    assert_eq!(dht.counters().over_queue_limit, 200 - 64);
    assert_eq!(sent(&mut dht), []);
}

/// All that goes to an address that sends this, and answers what it is asked as `who`.
pub(super) fn talk(
    dht: &mut Dht,
    now: Duration,
    (at, who): (SocketAddr, NodeId),
    datagram: &[u8],
) -> Vec<Vec<u8>> {
    dht.hear(now, at, datagram);
    let mut all = Vec::new();
    loop {
        let out: Vec<_> = sent(dht).into_iter().filter(|(to, _)| *to == at).collect();
        if out.is_empty() {
            return all;
        }
        for (_, bytes) in out {
            if let Message { transaction, body: Body::Query(_) } = parse(&bytes).unwrap() {
                dht.hear(now, at, &reply(transaction, who, b"", None));
            }
            all.push(bytes);
        }
    }
}

/// The token, and the numbers of peers and nodes of the one reply among these.
pub(super) fn told(out: &[Vec<u8>]) -> (Vec<u8>, usize, usize) {
    let to = addr(0);
    let out: Vec<_> = out.iter().map(|bytes| (to, bytes.clone())).collect();
    replied(&out, to, |reply| (reply.token.unwrap().to_vec(), reply.values.len(), reply.nodes.len()))
}

/// A node that has a torrent's peers, and as many nodes as a reply holds.
pub(super) fn knowing() -> Dht {
    let mut dht = node();
    for n in 1..=60 {
        let (at, who, now) = (addr(n * 256), id(&[n as u8]), SECOND * n);
        let (token, ..) = told(&talk(&mut dht, now, (at, who), &query(&Ask::GetPeers(HASH), who)));
        let announce = Ask::Announce { info_hash: HASH, port: 7, implied: false, token };
        talk(&mut dht, now, (at, who), &query(&announce, who));
    }
    assert!(dht.nodes() >= 8 && dht.counters().stored_peers == 60, "{:?}", dht.counters());
    dht
}

#[test]
fn a_stranger_gets_all_when_it_is_there_and_what_fits_in_twice_its_query_when_it_keeps_silent() {
    let mut dht = knowing();
    let now = MINUTE * 2;
    let get = query(&Ask::GetPeers(HASH), id(&[99]));
    // One that answers waits for a moment.
    let out = talk(&mut dht, now, (addr(99 * 256), id(&[99])), &get);
    assert!(matches!(parse(&out[0]).unwrap().body, Body::Query(_)), "it is asked first");
    assert_eq!((told(&out).1, told(&out).2, out.len()), (50, 8, 2));
    let out = talk(&mut dht, now, (addr(99 * 256), id(&[99])), &get);
    assert_eq!((told(&out).1, out.len()), (50, 1), "once");
    // One that does not gets something after a second, and then at once; twice what it has sent is not used up.
    let at = addr(97 * 256);
    let mut went = 0;
    for (turn, wait) in [(1, 1), (2, 0)] {
        dht.hear(now, at, &get);
        let mut out = sent(&mut dht);
        dht.tick(dht.next_deadline());
        dht.tick(now + SECOND);
        out.extend(sent(&mut dht));
        went += out.iter().filter(|(to, _)| *to == at).map(|(_, bytes)| bytes.len()).sum::<usize>();
        assert!(went <= 2 * turn * get.len(), "{went} bytes for {turn} times {}", get.len());
        replied(&out, at, |reply| {
            assert!(reply.token.is_some() && reply.values.len() + reply.nodes.len() > turn)
        });
        let pings = out
            .iter()
            .filter(|(to, bytes)| *to == at && matches!(parse(bytes).unwrap().body, Body::Query(_)));
        assert_eq!(pings.count(), wait);
    }
    // One that never answers is not waited for; that it is there is known when it sends back a token.
    let (at, mute) = (addr(98 * 256), Asker { id: id(&[98]), read_only: true, want: &[] });
    let get = encode::query(b"tx", &Ask::GetPeers(HASH), &mute);
    dht.hear(now, at, &get);
    let token = replied(&sent(&mut dht), at, |reply| reply.token.unwrap().to_vec());
    let announce = Ask::Announce { info_hash: HASH, port: 7, implied: false, token };
    dht.hear(now, at, &encode::query(b"tx", &announce, &mute));
    sent(&mut dht);
    dht.hear(now, at, &get);
    replied(&sent(&mut dht), at, |reply| assert_eq!(reply.values.len(), 50));
}

#[test]
fn so_many_answers_wait_and_no_more() {
    let mut dht = knowing();
    let get = query(&Ask::GetPeers(HASH), id(&[99]));
    let now = MINUTE * 2;
    let ask = |dht: &mut Dht, n: u32| dht.hear(now, addr((100 + n) * 256), &get);
    (0..64).for_each(|n| (0..2).for_each(|_| ask(&mut dht, n)));
    assert_eq!((dht.held.len(), dht.counters().over_held_limit), (128, 0));
    ask(&mut dht, 64);
    ask(&mut dht, 0);
    assert_eq!((dht.held.len(), dht.counters().over_held_limit), (128, 2));
    // There is not enough for all who keep silent; but for one that asks now there is something left.
    sent(&mut dht);
    dht.tick(now + SECOND);
    assert_eq!(dht.held.len(), 0);
    assert!(!sent(&mut dht).is_empty() && dht.counters().over_upload_limit > 0);
    dht.hear(now + SECOND, addr(7), &query(&Ask::Ping, id(&[98])));
    replied(&sent(&mut dht), addr(7), |_| ());
}

#[test]
fn strangers_who_must_prove_that_they_are_there_take_no_places_of_our_own_lookups() {
    let mut dht = knowing();
    // Strangers who ask and never answer, sixty in each second.
    let get = query(&Ask::GetPeers(HASH), id(&[99]));
    let flood = |dht: &mut Dht, second: u32| {
        for n in 0..60 {
            let now = MINUTE * 2 + SECOND * second + SECOND * n / 60;
            dht.tick(now);
            dht.hear(now, addr((200 + second * 100 + n) * 256), &get);
        }
    };
    (0..10).for_each(|second| flood(&mut dht, second));
    let counted = dht.counters();
    assert_eq!((dht.proofs <= 64, counted.over_pending_limit), (true, 0));
    assert!(counted.over_proof_limit > 0);
    sent(&mut dht);
    let now = MINUTE * 2 + SECOND * 10;
    dht.search(now, InfoHash([6; 20]), [None; 2]);
    dht.tick(now);
    let calls = sent(&mut dht).into_iter().filter(|(_, bytes)| {
        let Body::Query(query) = parse(bytes).unwrap().body else { return false };
        matches!(query.call, Call::GetPeers(hash) if hash == InfoHash([6; 20]))
    });
    assert!(calls.count() > 0, "we look for peers of our own");
    // Whoever proves it late, or not at all, leaves the place to another.
    dht.tick(now + SECOND * 10);
    assert_eq!(dht.proofs, 0);
}

#[test]
fn no_datagram_of_a_stranger_draws_more_than_twice_its_length() {
    let who = id(&[1]);
    let announce = Ask::Announce { info_hash: HASH, port: 7, implied: false, token: b"wrong".to_vec() };
    let mut datagrams: Vec<Vec<u8>> = [Ask::Ping, Ask::FindNode(id(&[2])), Ask::GetPeers(HASH), announce]
        .map(|ask| query(&ask, who))
        .into();
    datagrams.extend([
        b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t0:1:y1:qe".to_vec(),
        b"d1:ad2:id20:abcdefghij0123456789e1:q1:x1:t2:aa1:y1:qe".to_vec(),
        b"d1:t0:1:y1:qe".to_vec(),
        b"d1:q4:ping1:t2:aa1:y1:qe".to_vec(),
    ]);
    let mut dht = knowing();
    for (n, datagram) in (100..).zip(datagrams) {
        let mut came = 0;
        let mut went = 0;
        for _ in 0..10 {
            dht.hear(MINUTE * n, addr(n * 256), &datagram);
            came += datagram.len();
            went += sent(&mut dht).iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
            assert!(went <= 2 * came, "{went} bytes for {came} of {}", datagram.escape_ascii());
        }
    }
    assert!(dht.counters().over_upload_limit > 0 && dht.counters().errors_out > 0);
}

#[test]
fn of_one_host_a_few_announced_ports_are_handed_on_and_no_more() {
    let mut dht = node();
    dht.search(START, HASH, [None; 2]);
    dht.tick(START);
    let (at, who) = (addr(1), id(&[1]));
    dht.hear(START, at, &query(&Ask::GetPeers(HASH), who));
    let token = replied(&sent(&mut dht), at, |reply| reply.token.unwrap().to_vec());
    for port in (1..=40).chain([40, 40]) {
        let ask = Ask::Announce { info_hash: HASH, port, implied: false, token: token.clone() };
        dht.hear(SECOND * u32::from(port), at, &query(&ask, who));
    }
    let told: Vec<_> = std::iter::from_fn(|| dht.take_found()).flat_map(|found| found.peers).collect();
    assert_eq!(told, [1, 2, 3, 4].map(|port| SocketAddr::new(at.ip(), port)));
    assert_eq!((dht.counters().stored_peers, dht.counters().over_host_limit), (4, 36));
}

#[test]
fn errors_are_told_with_the_transaction_as_it_came() {
    let mut dht = node();
    let mut transaction = vec![0xff; 900];
    transaction[3] = 0;
    for (method, code) in [(b"new".as_slice(), "eli204e"), (b"find_node", "eli203e")] {
        let bytes = write_dict(|root| {
            root.dict(b"a", |a| a.bytes(b"id", &[1; 20]));
            root.bytes(b"q", method);
            root.bytes(b"t", &transaction);
            root.bytes(b"y", b"q");
        });
        dht.hear(START, addr(1), &bytes);
        let (to, error) = dht.take_outgoing().unwrap();
        assert_eq!(to, addr(1));
        assert_eq!(parse(&error).unwrap().transaction, transaction);
        assert!(String::from_utf8_lossy(&error).contains(code));
    }
}

#[test]
fn transactions_of_any_length_are_answered() {
    for len in [0, 1, 2, 64, 65, 100, 900] {
        let (mut dht, transaction) = (node(), vec![b't'; len]);
        let ask = Asker { id: id(&[9]), read_only: false, want: &[] };
        dht.hear(START, addr(1), &encode::query(&transaction, &Ask::Ping, &ask));
        let (to, bytes) = dht.take_outgoing().expect("an answer");
        let answer = parse(&bytes).unwrap();
        assert!(to == addr(1) && answer.transaction == transaction && matches!(answer.body, Body::Reply(_)));
    }
}

#[test]
fn a_node_that_only_reads_is_silent() {
    let config = DhtConfig { read_only: true, ..DhtConfig::default() };
    let mut dht = Dht::new(START, config, [7; 32], &[]);
    dht.hear(START, addr(1), &query(&Ask::Ping, id(&[1])));
    dht.hear(START, addr(1), b"d1:q3:new1:t2:aa1:y1:qe");
    assert_eq!(sent(&mut dht), []);
    dht.add_node(START, addr(2));
    dht.tick(SECOND);
    let out = sent(&mut dht);
    let Body::Query(query) = parse(&out[0].1).unwrap().body else { panic!("another message") };
    assert!(query.read_only);
}

#[test]
fn nodes_of_both_families_are_given_to_who_wants_them() {
    let mut dht = node();
    let v6: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
    for (n, at) in [(1, addr(1)), (2, v6)] {
        dht.add_node(START, at);
        dht.tick(SECOND * n);
        assert_eq!(answer(&mut dht, SECOND * n, at, id(&[n as u8]), |_| Vec::new()), 1);
    }
    let ask = |dht: &mut Dht, want: &[Family]| {
        let asker = Asker { id: id(&[9]), read_only: true, want };
        dht.hear(MINUTE, addr(9), &encode::query(b"tx", &Ask::FindNode(id(&[7])), &asker));
        replied(&sent(dht), addr(9), |reply| reply.nodes.iter().map(|node| node.addr).collect::<Vec<_>>())
    };
    assert_eq!(ask(&mut dht, &[]), [addr(1)]);
    assert_eq!(ask(&mut dht, &Family::ALL), [addr(1), v6]);
}

/// While nobody answers, silence says nothing about a node: one that answered a moment ago is asked, too, and with its answer the
/// silence of the others counts.
#[test]
fn who_is_cut_off_asks_one_that_lives_beside_the_doubtful() {
    for (silence, asked) in [(SECOND, vec![addr(1)]), (MINUTE, vec![addr(1), addr(2)])] {
        let mut dht = node();
        let last = MINUTE * 10;
        for (n, at) in [(1, START), (2, last)] {
            let contact = Contact { id: id(&[n as u8]), addr: addr(n) };
            dht.network(Family::V4).table.answered(at, contact);
        }
        // After a quarter of an hour a node is in doubt.
        let now = MINUTE * 16;
        dht.answered = Some(now - silence);
        dht.tick(now);
        let mut pinged: Vec<SocketAddr> = sent(&mut dht)
            .into_iter()
            .filter(|(_, bytes)| {
                matches!(parse(bytes).unwrap().body, Body::Query(query) if matches!(query.call, Call::Ping))
            })
            .map(|(to, _)| to)
            .collect();
        pinged.sort();
        assert_eq!(pinged, asked, "nobody has answered for {silence:?}");
    }
}
