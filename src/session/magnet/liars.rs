//! Who has alone sent wrong metadata, by hosts: one liar says little of the others there, several leave nobody else to talk to.

use crate::swarm::host;
use std::collections::HashMap;
use std::net::IpAddr;

/// Hosts with liars that are remembered.
const MOST_BANNED: usize = 10_000;
/// Liars of one host after which it is shut out.
const MOST_LIARS: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Liars {
    /// How many of each host there were; of IPv6, of each /64.
    hosts: HashMap<IpAddr, u32>,
    /// All of them, hosts that were shut out, and liars that do not count against theirs because there are too many.
    pub(super) all: u64,
    pub(super) shut_out: u64,
    pub(super) forgotten: u64,
}

impl Liars {
    /// One more.
    pub(super) fn add(&mut self, ip: IpAddr) {
        self.all += 1;
        let host = host(ip);
        if self.hosts.len() >= MOST_BANNED && !self.hosts.contains_key(&host) {
            self.forgotten += 1;
            return;
        }
        let before = self.shut_out(ip);
        *self.hosts.entry(host).or_default() += 1;
        self.shut_out += u64::from(!before && self.shut_out(ip));
    }

    /// Whether nothing is to do with this host but what was given. On our own there may be many who are honest.
    pub(super) fn shut_out(&self, ip: IpAddr) -> bool {
        let of_host = || self.hosts.get(&host(ip)).copied().unwrap_or(0);
        !ip.to_canonical().is_loopback() && of_host() >= MOST_LIARS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_liar_shuts_out_its_host_and_of_ipv6_its_net() {
        let mut liars = Liars::default();
        for number in 1..=3 {
            let sorts = ["10.0.0.1", &format!("2001:db8::{number}"), "127.0.0.1", "::ffff:127.0.0.1", "::1"];
            let sorts = sorts.map(|ip| ip.parse().unwrap());
            assert!(sorts.iter().all(|ip| !liars.shut_out(*ip)), "{number}");
            sorts.into_iter().for_each(|ip| liars.add(ip));
        }
        liars.add([10, 0, 0, 1].into());
        assert_eq!((liars.all, liars.shut_out, liars.forgotten), (16, 2, 0));
        let hosts = [
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "2001:db8::99",
            "10.0.0.2",
            "2001:db8:0:1::1",
            "127.0.0.1",
            "::1",
        ];
        let shut_out = hosts.map(|ip| liars.shut_out(ip.parse().unwrap()));
        assert_eq!(shut_out, [true, true, true, false, false, false, false]);
    }

    #[test]
    fn no_more_hosts_of_liars_are_remembered_than_fit() {
        let mut liars = Liars::default();
        let host = |number: u32| IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        (0..MOST_BANNED as u32 + 5).for_each(|number| liars.add(host(number)));
        (0..2).for_each(|_| liars.add(host(7)));
        assert_eq!((liars.hosts.len(), liars.forgotten, liars.shut_out), (MOST_BANNED, 5, 1));
    }
}
