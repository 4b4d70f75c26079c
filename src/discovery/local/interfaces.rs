//! Which network interfaces there are, as the kernel lists them for this process's network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::Ipv6Addr;

/// Most interfaces of a family that are used: the kernel's own limit on the groups of a socket is 20.
const MOST_INTERFACES: usize = 20;
const LOOPBACK: &str = "lo";

/// Names of the interfaces that have IPv4 networks, and how many more there are than are used.
pub(super) fn v4() -> (Vec<String>, usize) {
    v4_of(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// The interfaces that have IPv6 addresses: index, and the addresses; and how many more there are than are used.
pub(super) fn v6() -> (BTreeMap<u32, Vec<Ipv6Addr>>, usize) {
    v6_of(&fs::read_to_string("/proc/net/if_inet6").unwrap_or_default())
}

/// The first column of the routes, each name once. The loopback interface has none there.
pub(super) fn v4_of(routes: &str) -> (Vec<String>, usize) {
    let mut names = vec![LOOPBACK.to_owned()];
    for name in routes.lines().skip(1).filter_map(|line| line.split_whitespace().next()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    let more = names.len().saturating_sub(MOST_INTERFACES);
    names.truncate(MOST_INTERFACES);
    (names, more)
}

/// Lines of an address as 32 hexadecimal digits, an interface's index in hexadecimal, and what else there is.
pub(super) fn v6_of(table: &str) -> (BTreeMap<u32, Vec<Ipv6Addr>>, usize) {
    let (mut found, mut more) = (BTreeMap::<u32, Vec<Ipv6Addr>>::new(), BTreeSet::new());
    for line in table.lines() {
        let mut columns = line.split_whitespace();
        let address = columns.next().and_then(|digits| u128::from_str_radix(digits, 16).ok());
        let index = columns.next().and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let (Some(address), Some(index)) = (address, index) else { continue };
        if found.len() < MOST_INTERFACES || found.contains_key(&index) {
            found.entry(index).or_default().push(address.into());
        } else {
            more.insert(index);
        }
    }
    (found, more.len())
}
