//! The routing table.

use super::{MINUTE, SECOND, addr, contact, id};
use crate::discovery::dht::compact::Contact;
use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::table::{K, Table};
use std::net::SocketAddr;
use std::time::Duration;

const START: Duration = Duration::ZERO;

fn table() -> Table {
    Table::new(id(&[0]), START)
}

/// A far node: shares no bit with us.
fn far(n: u8) -> Contact {
    contact(&[0x80, n], n.into())
}

#[test]
fn only_our_own_range_splits() {
    let mut table = table();
    (0..100).for_each(|n| table.answered(SECOND, far(n)));
    assert_eq!(table.len(), K);
    // Near ones make it split, and find room.
    (0..100).for_each(|n| table.answered(SECOND, contact(&[0x40, n], 200 + u32::from(n))));
    assert_eq!(table.len(), 2 * K);
    (0..8).for_each(|n| table.answered(SECOND, contact(&[0, n + 1], 400 + u32::from(n))));
    assert_eq!(table.len(), 3 * K);
    assert!(table.is_sound());
    table.answered(SECOND, Contact { id: id(&[0]), addr: addr(999) });
    assert_eq!(table.len(), 3 * K, "we are not in it ourselves");
}

#[test]
fn the_closest_come_first() {
    let mut table = table();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut all = Vec::new();
    for n in 0..500 {
        let mut bytes = [0; 20];
        rng.fill(&mut bytes);
        table.answered(SECOND, Contact { id: NodeId(bytes), addr: addr(n) });
    }
    all.extend(table.contacts());
    let target = id(&[0x12, 0x34]);
    all.sort_by_key(|contact| contact.id.distance(target));
    assert_eq!(table.closest(target, K), all[..K]);
    assert!(table.is_sound());
}

#[test]
fn an_address_and_a_network_have_one_place() {
    let mut table = table();
    let at = |text: &str, first: u8| Contact { id: id(&[0x80, first]), addr: text.parse().unwrap() };
    table.answered(SECOND, at("9.9.9.1:1", 1));
    table.answered(SECOND, at("9.9.9.1:2", 2));
    table.answered(SECOND, at("9.9.9.200:1", 3));
    assert_eq!(table.contacts(), [at("9.9.9.1:1", 1)]);
    table.answered(SECOND, at("9.9.8.1:1", 4));
    assert_eq!(table.len(), 2);
    // Who answers at the same address with another id takes the place: it has been started anew.
    table.answered(SECOND, at("9.9.9.1:1", 5));
    assert_eq!(table.len(), 2);
    assert!(!table.contacts().contains(&at("9.9.9.1:1", 1)));
    // The same id elsewhere: the one that we know stays.
    table.answered(SECOND, at("7.7.7.7:1", 5));
    assert!(table.contacts().contains(&at("9.9.9.1:1", 5)) && table.len() == 2);
    // IPv6 by the half that one owner has; one's own house is free.
    table.answered(SECOND, at("[2001:db8::1]:1", 6));
    table.answered(SECOND, at("[2001:db8::2]:1", 7));
    assert_eq!(table.len(), 3);
    (10..14).for_each(|n| table.answered(SECOND, at(&format!("127.0.0.1:{n}"), n)));
    assert_eq!(table.len(), 7);
}

#[test]
fn silent_nodes_give_way() {
    let mut table = table();
    (0..9).for_each(|n| table.answered(SECOND, far(n)));
    let first = far(0);
    table.failed(SECOND, first.id, first.addr);
    assert!(table.contacts().contains(&first), "once is no time");
    assert!(!table.closest(first.id, K).contains(&first), "but nobody is told of it");
    table.failed(SECOND, first.id, first.addr);
    assert!(!table.contacts().contains(&first));
    assert!(table.contacts().contains(&far(8)), "the spare is in its place");
    // Without a spare it stays longer, and can come back.
    let second = far(1);
    (0..3).for_each(|_| table.failed(SECOND, second.id, second.addr));
    assert!(table.contacts().contains(&second));
    table.answered(SECOND, second);
    assert!(table.closest(second.id, K).contains(&second));
    (0..4).for_each(|_| table.failed(SECOND, second.id, second.addr));
    assert_eq!(table.len(), K - 1);
}

#[test]
fn a_silent_node_keeps_nobody_of_its_network_out() {
    let mut table = table();
    let at = |text: &str, first: u8| Contact { id: id(&[0x80, first]), addr: text.parse().unwrap() };
    let (dead, alive) = (at("9.9.9.1:1", 1), at("9.9.9.2:1", 2));
    table.answered(SECOND, dead);
    table.answered(SECOND, alive);
    assert_eq!(table.contacts(), [dead], "as long as it answers it stays");
    table.failed(SECOND, dead.id, dead.addr);
    table.answered(SECOND, alive);
    assert_eq!(table.contacts(), [alive]);
    // In a full bucket, too, and there nobody else has to go.
    (10..17).for_each(|n| table.answered(SECOND, far(n)));
    table.failed(SECOND, alive.id, alive.addr);
    table.answered(SECOND, dead);
    assert!(table.contacts().contains(&dead) && !table.contacts().contains(&alive));
    assert!(table.len() == K && table.is_sound());
}

#[test]
fn nobody_goes_for_one_that_does_not_get_in() {
    let (mut table, later) = (table(), MINUTE * 20);
    let old = contact(&[0x40, 1], 1);
    table.answered(SECOND, old);
    (10..18).for_each(|n| table.answered(later, far(n)));
    (101..108).for_each(|n| table.answered(later, contact(&[0x40, n], n.into())));
    assert_eq!(table.len(), 2 * K);
    // The old one's host, by another port: the bucket of that id is full of others.
    let elsewhere = SocketAddr::new(old.addr.ip(), 9);
    table.answered(later, Contact { id: id(&[0x80, 99]), addr: elsewhere });
    assert!(table.contacts().contains(&old));
    // Its id, in a network that has its place there already.
    let beside = SocketAddr::from(([20, 0, 101, 99], 1));
    table.answered(later, Contact { id: old.id, addr: beside });
    assert!(table.contacts().contains(&old));
    // Where another does get in, the old one goes.
    let newer = Contact { id: id(&[0x40, 99]), addr: elsewhere };
    table.answered(later, newer);
    assert!(table.contacts().contains(&newer) && !table.contacts().contains(&old));
    assert!(table.len() == 2 * K && table.is_sound());
}

#[test]
fn ids_that_follow_from_addresses_are_preferred() {
    let mut table = Table::new(id(&[0xff]), START);
    let first: Vec<_> = (0..8).map(|n| contact(&[n, 1], n.into())).collect();
    first.iter().for_each(|node| table.answered(SECOND, *node));
    // Ours begins with ones: whose begins with a zero is far.
    let place: SocketAddr =
        (0..).map(|n| addr(1000 + n)).find(|a| NodeId::for_ip(a.ip(), [0; 20]).0[0] < 0x80).unwrap();
    let secure = Contact { id: NodeId::for_ip(place.ip(), [0; 20]), addr: place };
    (0..8).for_each(|n| table.answered(SECOND, contact(&[0xff, n + 1], 100 + u32::from(n))));
    table.answered(SECOND, secure);
    assert!(table.contacts().contains(&secure));
    assert_eq!(first.iter().filter(|node| table.contacts().contains(node)).count(), 7);
}

#[test]
fn what_is_old_is_asked_again() {
    let mut table = table();
    (0..3).for_each(|n| table.answered(MINUTE * n, far(n as u8)));
    assert_eq!(table.doubtful(MINUTE * 14, 8), []);
    assert_eq!(table.stale_bucket(MINUTE * 14), None);
    assert_eq!(table.doubtful(MINUTE * 16, 8), [far(0), far(1)]);
    assert_eq!(table.doubtful(MINUTE * 16, 8), [], "they have been asked a moment ago");
    // A query of theirs is a sign of life.
    assert!(!table.asked(MINUTE * 16, far(2)));
    assert_eq!(table.doubtful(MINUTE * 18, 8), [far(0), far(1)]);
    assert!(table.asked(MINUTE * 18, far(9)), "there is room for one more");
    assert_eq!(table.stale_bucket(MINUTE * 18), Some(0));
    assert_eq!(table.stale_bucket(MINUTE * 18), None);
}

#[test]
fn a_bucket_whose_nodes_answer_is_not_looked_up() {
    let mut table = table();
    let node = far(0);
    table.answered(START, node);
    table.answered(MINUTE * 10, node);
    assert_eq!(table.stale_bucket(MINUTE * 24), None);
    // What it asks us says nothing about what it knows.
    assert!(!table.asked(MINUTE * 24, node));
    assert_eq!(table.stale_bucket(MINUTE * 25), Some(0));
}
