//! What a node leaves out is counted.

use super::node::{HASH, START, answer, knowing, node, query, reply, sent, talk, told};
use super::{MINUTE, SECOND, addr, id};
use crate::discovery::dht::compact::{Contact, put_nodes};
use crate::discovery::dht::encode::{self, Ask, Asker};
use crate::discovery::dht::message::parse;
use crate::discovery::dht::{Family, NodeId};
use crate::metainfo::InfoHash;

#[test]
fn searches_that_are_put_off_are_counted_and_made_later() {
    let mut dht = node();
    dht.bootstrap(START, &[addr(1)]);
    (0..40).for_each(|n| dht.search(START, InfoHash([n; 20]), [None; 2]));
    dht.tick(START);
    // One walk looks for ourselves; each search takes two families.
    let under_way = dht.walks.len() as u64;
    assert!(under_way <= 32 && dht.counters().lookups >= under_way);
    let put_off = dht.counters().over_walk_limit;
    assert_eq!(put_off, 40 - dht.searches.values().filter(|search| search.last.is_some()).count() as u64);
    assert!(put_off > 0);
    for second in 0..60 {
        dht.tick(SECOND * second);
        answer(&mut dht, SECOND * second, addr(1), id(&[1]), |_| Vec::new());
    }
    assert!(dht.searches.values().all(|search| search.last.is_some()));
}

#[test]
fn what_a_lookup_leaves_out_is_counted() {
    let mut dht = node();
    dht.bootstrap(START, &[addr(1)]);
    dht.search(START, HASH, [None; 2]);
    dht.tick(START);
    // Of twelve nodes eight are believed, and when three of them do not answer none is any more.
    let nodes: Vec<Contact> =
        (0..12).map(|n| Contact { id: id(&[5, 5, n]), addr: addr((100 + u32::from(n)) * 256) }).collect();
    let asked = answer(&mut dht, SECOND, addr(1), id(&[1]), |_| put_nodes(&nodes));
    let walks = asked as u64;
    assert_eq!(dht.counters().over_candidate_limit, 4 * walks);
    (2..30).for_each(|second| {
        dht.tick(SECOND * second);
        sent(&mut dht);
    });
    assert_eq!((dht.walks.len(), dht.counters().over_lie_limit), (0, walks));
    assert_eq!(dht.counters().over_lookup_limit, 0, "they have come to their end");
    // Whoever names ever nearer ones is left in the end.
    let (mut named, mut now) = (0u32, MINUTE * 20);
    dht.search(now, InfoHash([6; 20]), [None; 2]);
    while dht.counters().over_lookup_limit == 0 {
        now += SECOND / 10;
        dht.tick(now);
        for (to, bytes) in sent(&mut dht) {
            let message = parse(&bytes).unwrap();
            let near = |n: u32| {
                let mut near = [6; 20];
                near[4..8].copy_from_slice(&(0x0606_0606 ^ (0x00ff_ffff - n)).to_be_bytes());
                Contact { id: NodeId(near), addr: addr((1000 + n) * 256) }
            };
            let nodes: Vec<Contact> = (0..8).map(|n| near(named + n)).collect();
            named += 8;
            let who = dht.pending.values().find(|pending| pending.to == to).and_then(|pending| pending.id);
            let bytes = reply(message.transaction, who.unwrap_or(id(&[1])), &put_nodes(&nodes), None);
            dht.hear(now, to, &bytes);
        }
        assert!(now < MINUTE * 30, "{:?}", dht.counters());
    }
}

#[test]
fn replies_that_do_not_hold_all_are_counted() {
    let mut dht = knowing();
    let before = dht.counters().over_reply_limit;
    let (known, get) = ((addr(256), id(&[1])), query(&Ask::GetPeers(HASH), id(&[1])));
    assert_eq!(told(&talk(&mut dht, MINUTE * 2, known, &get)).1, 50);
    assert_eq!(dht.counters().over_reply_limit, before + 1, "fifty of sixty peers");
    // One whose transaction takes the room.
    let asker = Asker { id: id(&[1]), read_only: false, want: &Family::ALL };
    let long = encode::query(&[b't'; 900], &Ask::FindNode(id(&[7])), &asker);
    dht.hear(MINUTE * 2, known.0, &long);
    assert_eq!(dht.counters().over_reply_limit, before + 2);
    dht.hear(MINUTE * 2, known.0, &query(&Ask::FindNode(id(&[7])), id(&[1])));
    assert_eq!(dht.counters().over_reply_limit, before + 2);
}
