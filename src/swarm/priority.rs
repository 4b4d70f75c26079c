//! Canonical peer priority (BEP 40): whom to connect to when there are more than there is room for. Both sides of a
//! connection come to the same number, and nobody can choose his own.

use super::roster::host;
use crate::digest::crc32c;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The priority of a connection between two addresses.
pub(super) fn priority(a: SocketAddr, b: SocketAddr) -> u32 {
    match (a.ip(), b.ip()) {
        (x, y) if x == y => of_pair(a.port().to_be_bytes(), b.port().to_be_bytes()),
        (IpAddr::V4(x), IpAddr::V4(y)) => masked(x.octets(), y.octets(), 2),
        (x, y) => masked(v6(x).octets(), v6(y).octets(), 6),
    }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Of the bytes behind those that tell the networks apart, only every other bit counts: who has a whole network has not
/// that many priorities to choose from.
fn masked<const LEN: usize>(mut a: [u8; LEN], mut b: [u8; LEN], network: usize) -> u32 {
    let mut whole = network;
    while whole < LEN && a[..whole] == b[..whole] {
        whole += 1;
    }
    a[whole..].iter_mut().chain(&mut b[whole..]).for_each(|byte| *byte &= 0x55);
    of_pair(a, b)
}

fn of_pair<const LEN: usize>(a: [u8; LEN], b: [u8; LEN]) -> u32 {
    crc32c(&[a.min(b), a.max(b)].concat())
}

/// Hosts of a family whose word on our address counts: those that gave it last.
const MOST_VOTERS: usize = 32;

/// Our address as others see it: what most of those of its family say, each host once. Before anybody has, the unspecified one
/// stands for it.
#[derive(Debug, Default)]
pub(super) struct Outside {
    v4: Votes,
    v6: Votes,
}

/// Who has said what, the latest last; and what most say.
#[derive(Debug, Default)]
struct Votes {
    said: VecDeque<(IpAddr, IpAddr)>,
    winner: Option<IpAddr>,
}

impl Outside {
    /// A peer at `voter` says what our address is. It sees that of its own family.
    pub(super) fn vote(&mut self, voter: IpAddr, ip: IpAddr) {
        if voter.is_ipv4() != ip.is_ipv4() {
            return;
        }
        // Of IPv6 one host has a whole network of addresses to come from.
        let voter = host(voter);
        let votes = if ip.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        votes.said.retain(|(other, _)| *other != voter);
        votes.said.drain(..votes.said.len().saturating_sub(MOST_VOTERS - 1));
        votes.said.push_back((voter, ip));
        let count = |ip: &IpAddr| votes.said.iter().filter(|(_, other)| other == ip).count();
        votes.winner = votes.said.iter().map(|(_, ip)| *ip).max_by_key(count);
    }

    /// The priority of a connection between us, who listen on `port`, and this address.
    pub(super) fn rank(&self, port: Option<u16>, addr: SocketAddr) -> u32 {
        priority(SocketAddr::new(self.ip(addr.ip()), port.unwrap_or(0)), addr)
    }

    /// What those of the same family as `other` see of us.
    pub(super) fn ip(&self, other: IpAddr) -> IpAddr {
        match other {
            IpAddr::V4(_) => self.v4.winner.unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
            IpAddr::V6(_) => self.v6.winner.unwrap_or(Ipv6Addr::UNSPECIFIED.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(a: &str, b: &str) -> u32 {
        priority(a.parse().unwrap(), b.parse().unwrap())
    }

    #[test]
    fn the_vectors_of_bep_40() {
        assert_eq!(of("123.213.32.10:0", "98.76.54.32:0"), 0xec2d_7224);
        assert_eq!(of("123.213.32.10:0", "123.213.32.234:0"), 0x9956_8189);
        assert_eq!(of("206.248.98.111:31337", "142.147.89.224:9"), 0x2b41_d456);
    }

    #[test]
    fn of_one_address_the_ports_decide_and_of_one_network_more_bits() {
        assert_eq!(of("10.0.0.1:1", "10.0.0.1:258"), crc32c(&[0, 1, 1, 2]));
        assert_eq!(of("10.1.255.255:1", "10.1.1.170:2"), crc32c(&[10, 1, 1, 0, 10, 1, 255, 0x55]));
        let v6 = of("[2001:db8:1::ff]:1", "[2001:db8:2::1]:2");
        let masked = |third: u8, last: u8| {
            let mut ip = [0x20, 1, 0x0d, 0xb8, 0, third, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            ip[15] = last;
            ip
        };
        assert_eq!(v6, crc32c(&[masked(1, 0x55), masked(2, 1)].concat()));
    }

    #[test]
    fn most_hosts_make_an_address_and_one_that_says_many_is_heard_once() {
        let [other, told, lie] = [[9, 9, 9, 9], [2, 0, 0, 0], [3, 0, 0, 0]].map(IpAddr::from);
        let voter = |number: u8| IpAddr::from([10, 0, 0, number]);
        let mut outside = Outside::default();
        assert_eq!(outside.ip(other), IpAddr::from([0, 0, 0, 0]));
        (0..20).for_each(|n| outside.vote(voter(9), [n, 1, 0, 0].into()));
        (0..5).for_each(|_| outside.vote(voter(9), lie));
        [1, 2].into_iter().for_each(|number| outside.vote(voter(number), told));
        assert_eq!(outside.ip(other), told);
        assert_eq!(outside.ip(IpAddr::from([0u8; 16])), IpAddr::from([0u8; 16]), "another family");
        // We have got another address; memory is bounded, and those who knew the old one are forgotten.
        (0..=255).for_each(|number| outside.vote(voter(number), lie));
        assert_eq!((outside.ip(other), outside.v4.said.len()), (lie, MOST_VOTERS));
        // What those of the other family say of theirs, or of this one, does not matter.
        (0..=255).for_each(|number| outside.vote(voter(number), told));
        outside.vote(voter(9), lie);
        let v6 = |network: u16, number: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, number]);
        (0..100).for_each(|network| outside.vote(v6(network, 1), v6(7, 7)));
        (0..100).for_each(|network| outside.vote(v6(network, 1), lie));
        assert_eq!([outside.ip(other), outside.ip(v6(1, 1))], [told, v6(7, 7)]);
    }

    #[test]
    fn all_of_an_ipv6_network_have_one_vote() {
        let ip = |network: u16, number: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, number]);
        let mut outside = Outside::default();
        [1, 2].into_iter().for_each(|network| outside.vote(ip(network, 1), ip(7, 7)));
        (0..16).for_each(|number| outside.vote(ip(3, number), ip(8, 8)));
        assert_eq!((outside.ip(ip(1, 1)), outside.v6.said.len()), (ip(7, 7), 3));
        [4, 5].into_iter().for_each(|network| outside.vote(ip(network, 1), ip(8, 8)));
        assert_eq!(outside.ip(ip(1, 1)), ip(8, 8), "three networks of five");
    }

    proptest! {
        #[test]
        fn both_sides_come_to_the_same(a: SocketAddr, b: SocketAddr) {
            prop_assert_eq!(priority(a, b), priority(b, a));
        }
    }
}
