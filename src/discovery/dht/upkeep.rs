//! What is done with time: searches, refreshing, pinging, the way in.

use super::compact::Family;
use super::encode::{Ask, MAX_VALUES};
use super::id::NodeId;
use super::lookup::Lookup;
use super::node::{Aim, Dht, Purpose, Walk, random_id};
use super::table::K;
use super::told::Told;
use crate::metainfo::InfoHash;
use std::net::SocketAddr;
use std::time::Duration;

/// How often upkeep is done, less or more by a quarter.
const PERIOD: Duration = Duration::from_secs(5);
/// Questionable nodes and hints pinged at a time.
const PINGS: usize = 4;
/// While we know fewer nodes than a bucket holds, we look for ourselves so often; else so often.
const LONELY: Duration = Duration::from_secs(30);
const SETTLED: Duration = Duration::from_secs(30 * 60);
/// Most lookups at once. Searches beyond wait.
const MAX_WALKS: usize = 32;
/// Most nodes that a lookup begins with, and most of them that were only told to us.
const START: usize = 2 * K;
const DOORS: usize = 32;

impl Dht {
    /// Nodes to begin with, given by the user or found by name: they are asked while we know few nodes.
    pub fn bootstrap(&mut self, now: Duration, addrs: &[SocketAddr]) {
        let knew_nobody = self.nodes() == 0 && self.doors() == 0;
        for addr in addrs {
            let usable = super::compact::usable(*addr, addr.ip());
            if let Some(family) = self.family_of(*addr).filter(|_| usable) {
                let network = self.network(family);
                network.doors.retain(|(_, other)| other != addr);
                network.doors.insert(0, (None, *addr));
                network.joined = None;
            }
        }
        if knew_nobody && self.doors() > 0 {
            // What was searched for in vain, for there was nobody to ask, need not wait for its next turn.
            for search in self.searches.values_mut().filter(|search| search.next > now) {
                (search.next, search.early) = (now, true);
            }
        }
        self.upkeep_at = self.upkeep_at.min(now);
    }

    /// Everything that is due.
    pub(super) fn upkeep(&mut self, now: Duration) {
        self.upkeep_at = now + PERIOD * 3 / 4 + PERIOD.mul_f64(self.rng.f64() / 2.0);
        self.limits.sweep(now);
        self.store.expire(now);
        for family in Family::ALL {
            if self.networks[family as usize].is_some() {
                self.join(now, family);
                self.refresh(now, family);
                self.ping_doubtful(now, family);
            }
        }
        for _ in 0..PINGS {
            let Some(addr) = self.hints.pop_front() else { break };
            self.ask(now, (None, addr), &Ask::Ping, Purpose::Ping);
        }
        if !self.hints.is_empty() {
            self.upkeep_at = now + Duration::from_secs(1);
        }
    }

    /// Looks for ourselves: who is near us learns of us, and we of them.
    fn join(&mut self, now: Duration, family: Family) {
        let network = self.network(family);
        let pause = if network.table.len() < K { LONELY } else { SETTLED };
        if network.joined.is_some_and(|at| now.saturating_sub(at) < pause) {
            return;
        }
        if network.table.len() == 0 && network.doors.is_empty() {
            return;
        }
        network.joined = Some(now);
        let own = network.table.own();
        self.walk(now, family, own, Aim::Nodes);
    }

    /// Looks for a random node of one bucket that did not change for long.
    fn refresh(&mut self, now: Duration, family: Family) {
        let random = random_id(&mut self.rng).0;
        let network = self.network(family);
        if network.table.len() == 0 {
            return;
        }
        let own = network.table.own();
        if let Some(bits) = network.table.stale_bucket(now) {
            self.walk(now, family, own.sibling(bits, random), Aim::Nodes);
        }
    }

    fn ping_doubtful(&mut self, now: Duration, family: Family) {
        let cut_off = self.is_cut_off(now);
        let table = &mut self.network(family).table;
        let mut due = table.doubtful(now, PINGS);
        if cut_off && !due.is_empty() {
            // Where all is quiet, the silence of the dead would never count: one that lives shows that we hear.
            due.extend(table.contacts().first().filter(|lively| !due.contains(lively)).copied());
        }
        for contact in due {
            self.ask(now, (Some(contact.id), contact.addr), &Ask::Ping, Purpose::Ping);
        }
    }

    /// Begins the searches that are due.
    pub(super) fn search_due(&mut self, now: Duration) {
        let due: Vec<InfoHash> =
            self.searches.iter().filter(|(_, search)| search.next <= now).map(|(hash, _)| *hash).collect();
        for info_hash in due {
            let full = self.walks.len() + Family::ALL.len() > MAX_WALKS;
            // One that is under way announces us when it ends, which is within a minute.
            if full || self.walks.values().any(|walk| walk.aim == Aim::Peers(info_hash)) {
                self.counted.over_walk_limit += u64::from(full);
                self.searches.get_mut(&info_hash).expect("seen a moment ago").next = now + PERIOD;
                continue;
            }
            let jitter = 0.9 + self.rng.f64() / 5.0;
            let interval = self.config.search_interval.mul_f64(jitter);
            let search = self.searches.get_mut(&info_hash).expect("seen a moment ago");
            (search.next, search.last, search.answered) = (now + interval, Some(now), false);
            if !std::mem::take(&mut search.early) {
                // Nobody has wished for more in all that time.
                search.hurried = 0;
            }
            for family in Family::ALL {
                // Some may have announced themselves to us.
                let (known, _) = self.store.sample(now, info_hash, family, MAX_VALUES, &mut self.rng);
                self.tell(info_hash, known);
                if self.networks[family as usize].is_some() {
                    self.walk(now, family, NodeId(info_hash.0), Aim::Peers(info_hash));
                }
            }
        }
    }

    /// Begins a lookup.
    fn walk(&mut self, now: Duration, family: Family, target: NodeId, aim: Aim) {
        if self.walks.len() >= MAX_WALKS {
            self.counted.over_walk_limit += 1;
            return;
        }
        let network = self.network(family);
        let mut lookup = Lookup::new(now, target);
        let known = network.table.closest(target, START);
        known.iter().for_each(|node| lookup.start_with(Some(node.id), node.addr));
        if known.len() < K {
            let first = DOORS.min(network.doors.len());
            network.doors[..first].iter().for_each(|(id, addr)| lookup.start_with(*id, *addr));
            // The next time it is the others' turn.
            network.doors.rotate_left(first);
        }
        self.next_walk += 1;
        self.counted.lookups += 1;
        self.walks.insert(self.next_walk, Walk { family, aim, lookup, told: Told::default() });
    }
}
