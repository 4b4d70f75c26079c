//! What hosts of one family have had of us: so many hosts, and of one site so many. Addresses can be forged, and of IPv6
//! anybody has a whole /48: whoever comes when all places are taken gets that of another, so a crowd shuts nobody out.

use crate::swarm::network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Most hosts that are remembered, and most of one site.
const MAX_HOSTS: usize = 4096;
const MAX_OF_SITE: usize = 64;
/// So many are drawn by lot when one has to go.
const DRAWN: usize = 8;

/// What a host has had.
#[derive(Debug)]
pub(super) struct Account {
    host: IpAddr,
    /// When all queries that it has asked are allowed again.
    pub(super) full_at: Duration,
    pub(super) seen: Duration,
    pub(super) verified: bool,
    /// When it was last asked whether it is there.
    pub(super) asked: Option<Duration>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// The hosts of a /48. Of IPv4 there are none: a /24 has no more than 256 addresses.
#[derive(Debug, Default)]
pub(super) struct Site {
    hosts: Vec<IpAddr>,
    /// When all queries that they have asked are allowed again.
    pub(super) full_at: Duration,
}

/// The accounts of hosts; of IPv6, a host is a /64.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    accounts: Vec<Account>,
    /// Where each is among them.
    places: HashMap<IpAddr, usize>,
    /// Those that have a host here.
    sites: HashMap<IpAddr, Site>,
    displaced: u64,
}

impl Accounts {
    pub(super) fn get(&self, host: IpAddr) -> Option<&Account> {
        self.places.get(&host).map(|at| &self.accounts[*at])
    }

    pub(super) fn get_mut(&mut self, host: IpAddr) -> Option<&mut Account> {
        self.places.get(&host).map(|at| &mut self.accounts[*at])
    }

    /// The site of a host, if another of its hosts is here, or it is itself.
    pub(super) fn site(&mut self, host: IpAddr) -> Option<&mut Site> {
        self.sites.get_mut(&site_of(host)?)
    }

    /// The account of a host: a new one if it has none. Another gives way to that when there are too many of the site, or of
    /// all.
    pub(super) fn open(&mut self, now: Duration, host: IpAddr, rng: &mut fastrand::Rng) -> &mut Account {
        if let Some(at) = self.places.get(&host) {
            return &mut self.accounts[*at];
        }
        let crowd = self.site(host).map(|site| site.hosts.clone()).filter(|crowd| crowd.len() >= MAX_OF_SITE);
        if crowd.is_some() || self.accounts.len() >= MAX_HOSTS {
            self.displace(crowd.as_deref(), rng);
        }
        if let Some(site) = site_of(host) {
            self.sites.entry(site).or_default().hosts.push(host);
        }
        let at = self.accounts.len();
        self.places.insert(host, at);
        self.accounts.push(Account {
            host,
            full_at: now,
            seen: now,
            verified: false,
            asked: None,
            bytes_in: 0,
            bytes_out: 0,
        });
        &mut self.accounts[at]
    }

    /// One of these hosts, or of all, is forgotten. Of some that are drawn by lot it is one that has proven nothing, if there is
    /// such a one, and that owes least: that one will miss its account least, and we shall.
    fn displace(&mut self, crowd: Option<&[IpAddr]>, rng: &mut fastrand::Rng) {
        let all = self.accounts.len();
        let drawn = (0..DRAWN).filter_map(|_| match crowd {
            Some(crowd) => self.places.get(&crowd[rng.usize(..crowd.len())]).copied(),
            None => Some(rng.usize(..all)),
        });
        let least = drawn.min_by_key(|at| (self.accounts[*at].verified, self.accounts[*at].full_at));
        if let Some(at) = least {
            self.close(at);
            self.displaced += 1;
        }
    }

    /// Forgets the account at a place.
    fn close(&mut self, at: usize) {
        let Account { host, .. } = self.accounts.swap_remove(at);
        self.places.remove(&host);
        if let Some(moved) = self.accounts.get(at) {
            self.places.insert(moved.host, at);
        }
        if let Some(key) = site_of(host)
            && let Some(site) = self.sites.get_mut(&key)
        {
            site.hosts.retain(|other| *other != host);
            if site.hosts.is_empty() {
                self.sites.remove(&key);
            }
        }
    }

    /// Forgets who was silent for so long.
    pub(super) fn sweep(&mut self, now: Duration, memory: Duration) {
        for at in (0..self.accounts.len()).rev() {
            if now.saturating_sub(self.accounts[at].seen) >= memory {
                self.close(at);
            }
        }
    }

    /// How many have given way to others.
    pub(super) fn displaced(&self) -> u64 {
        self.displaced
    }

    /// How many hosts are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.accounts.len(), self.places.len());
        self.accounts.len()
    }
}

/// What stands for the site of a host.
fn site_of(host: IpAddr) -> Option<IpAddr> {
    host.is_ipv6().then(|| network(host))
}
