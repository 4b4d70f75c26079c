//! Whom we dial, and in which order.

use super::desk::{BLOCK, Desk, own};
use crate::swarm::priority::priority;
use crate::swarm::{Source, Wish};
use crate::wire::extended::ExtendedHandshake;
use crate::wire::{Message, Reserved};
use std::cmp::Reverse;
use std::net::SocketAddr;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Lists these, and has each of them dialled by itself, in vain; a peer has said that our address is this.
fn order(listed: &[SocketAddr], seen: Option<&str>) -> Vec<SocketAddr> {
    let mut desk = Desk::new(BLOCK, 3, &[]);
    desk.reserved = Reserved::ours(true);
    (own(&mut desk).most_dials, own(&mut desk).greeting.port) = (1, Some(6881));
    let peer = desk.connect(false, 1).unwrap();
    let hello = ExtendedHandshake { your_ip: seen.map(|ip| ip.parse().unwrap()), ..Default::default() };
    desk.hear(peer, Message::Extended { id: 0, payload: &hello.encode() });
    listed.iter().for_each(|addr| desk.swarm.add_candidate(*addr, Source::Tracker));
    let next = |_: &SocketAddr| {
        desk.pass(1);
        let wishes = desk.wishes();
        let mut dials =
            wishes.iter().filter_map(|wish| if let Wish::Dial(addr) = wish { Some(*addr) } else { None });
        let (Some(addr), None) = (dials.next(), dials.next()) else {
            panic!("not one at a time: {wishes:?}")
        };
        desk.swarm.dial_failed(desk.now, addr);
        addr
    };
    listed.iter().map(next).collect()
}

/// By that of BEP 40, which depends on what our address is.
#[test]
fn addresses_of_one_kind_are_dialled_by_their_priority() {
    let listed: Vec<_> = (1..=12).map(|net| addr(&format!("80.{net}.{}.9:6881", 7 * net))).collect();
    let by_priority = |ours: &str| {
        let mut listed = listed.clone();
        listed.sort_by_key(|theirs| Reverse(priority(addr(ours), *theirs)));
        listed
    };
    let (told, untold) = (by_priority("123.45.67.89:6881"), by_priority("0.0.0.0:6881"));
    assert_ne!(told, untold, "else it would show little");
    assert_eq!(order(&listed, Some("123.45.67.89")), told);
    assert_eq!(order(&listed, None), untold);
}
