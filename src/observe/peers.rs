//! Who gets and gives how much: a series for each of the busiest peers, the others summed.
//!
//! Prometheus keeps every series it has ever seen for a long time, so they are bounded in number *and* in how fast they
//! change. A peer is named by its address (or its network) without the port, by who has dialled, and by the client;
//! connections that share all of it share a series. At most K series are listed. One keeps its place for [`STAY`] at least, and the
//! place stays taken that long even when the peer has gone, so no more than K new series a [`STAY`] come into being,
//! whatever peers do. One that has been listed for longer gives way to a peer that is clearly busier.
//!
//! A listed series counts from the moment it is listed, so no counter ever jumps. What is moved by peers that are not
//! listed is counted as *other*; and what had been counted in series that have left the page is kept as *delisted*. So
//! on every page listed, other and delisted are together all that was moved, and the increase of listed and
//! other is the increase of all.

use crate::swarm::PeerView;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

/// How long a series keeps its place.
pub(super) const STAY: Duration = Duration::from_secs(60);
/// Peers are ranked by their mean rate of about this long.
const MEMORY: Duration = Duration::from_secs(30);
/// So many times as busy as a listed peer must another one be to take its place.
const CLEARLY: f64 = 1.25;

/// Payload bytes, or bytes a second, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    /// To peers.
    pub(super) up: u64,
    /// From peers.
    pub(super) down: u64,
}

impl Traffic {
    pub(super) fn add(&mut self, other: Self) {
        self.up += other.up;
        self.down += other.down;
    }

    /// What has come since `before`; nothing when that was more.
    fn since(self, before: Self) -> Self {
        Self { up: self.up.saturating_sub(before.up), down: self.down.saturating_sub(before.down) }
    }
}

/// How much of a peer's address is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hosts {
    /// All of it.
    #[default]
    Whole,
    /// Its network only: the first 24 bits of an IPv4 address, the first 48 of an IPv6 address. Peers that look alike then
    /// share a series.
    Masked,
}

impl Hosts {
    /// What is known of an address.
    fn cut(self, ip: IpAddr) -> IpAddr {
        match (self, ip.to_canonical()) {
            (Self::Whole, _) => ip,
            (Self::Masked, IpAddr::V4(ip)) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
            (Self::Masked, IpAddr::V6(ip)) => Ipv6Addr::from_bits(ip.to_bits() >> 80 << 80).into(),
        }
    }

    /// What is written of it.
    pub(super) fn show(self, cut: IpAddr) -> String {
        match (self, cut) {
            (Self::Whole, _) => cut.to_string(),
            (Self::Masked, IpAddr::V4(_)) => format!("{cut}/24"),
            (Self::Masked, IpAddr::V6(_)) => format!("{cut}/48"),
        }
    }
}

/// What a series is named by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    /// Which of our nodes it is a peer of.
    pub(super) node: usize,
    /// What is shown of its address.
    pub(super) peer: IpAddr,
    /// Whether it has dialled us.
    pub(super) incoming: bool,
    /// What it claims to be: anything.
    pub(super) client: String,
}

/// One or more connections of the same name.
#[derive(Debug, Default)]
struct Series {
    connections: usize,
    rate: Traffic,
    /// Mean rate, both directions, in bytes a second.
    score: f64,
    /// Whether payload has ever been moved.
    moved: bool,
    listed: Option<Listed>,
}

/// A series that is on the page.
#[derive(Clone, Copy, Debug)]
struct Listed {
    since: Duration,
    counted: Traffic,
}

#[derive(Debug)]
struct Connection {
    name: Arc<Name>,
    total: Traffic,
    rate: Traffic,
}

/// A core of one of our nodes.
pub(super) type Core = (usize, u32);

/// Sums of one node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rest {
    /// Connections of peers that are not listed.
    pub(super) connections: usize,
    /// What they move now, a second.
    pub(super) rate: Traffic,
    /// What was moved by peers while they were not listed.
    pub(super) other: Traffic,
    /// What was counted in series that are listed no more.
    pub(super) delisted: Traffic,
}

/// What the page shows of one series.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    pub(super) name: &'a Name,
    pub(super) connections: usize,
    pub(super) counted: Traffic,
    pub(super) rate: Traffic,
}

/// All connected peers of all nodes.
#[derive(Debug)]
pub(super) struct Peers {
    /// Most listed series.
    most: usize,
    pub(super) hosts: Hosts,
    /// By the number that the core's swarm has given the peer.
    cores: BTreeMap<Core, HashMap<u64, Connection>>,
    /// Sums that each core has told.
    totals: HashMap<Core, Traffic>,
    series: BTreeMap<Arc<Name>, Series>,
    /// Places of peers that have gone, and until when they stay taken.
    reserved: BTreeMap<Arc<Name>, Duration>,
    rests: BTreeMap<usize, Rest>,
    ranked: Duration,
}

impl Peers {
    pub(super) fn new(most: usize, hosts: Hosts) -> Self {
        Self {
            most,
            hosts,
            cores: BTreeMap::new(),
            totals: HashMap::new(),
            series: BTreeMap::new(),
            reserved: BTreeMap::new(),
            rests: BTreeMap::new(),
            ranked: Duration::ZERO,
        }
    }

    /// A node has come; nothing is known of it yet.
    pub(super) fn add_node(&mut self, node: usize) {
        self.rests.entry(node).or_default();
    }

    /// Takes in the peers of a core, and all that it has moved so far.
    pub(super) fn take(&mut self, now: Duration, core: Core, peers: &[PeerView], total: Traffic) {
        let before = std::mem::take(self.cores.entry(core).or_default());
        let mut fresh: HashMap<Arc<Name>, Traffic> = HashMap::new();
        let mut connections = HashMap::with_capacity(peers.len());
        for peer in peers {
            let old = before.get(&peer.number);
            let name = old.map_or_else(|| self.name(core.0, peer), |old| Arc::clone(&old.name));
            let total = Traffic { up: peer.totals.1, down: peer.totals.0 };
            let moved = total.since(old.map(|old| old.total).unwrap_or_default());
            fresh.entry(Arc::clone(&name)).or_default().add(moved);
            let rate = Traffic { up: peer.rates.1, down: peer.rates.0 };
            connections.insert(peer.number, Connection { name, total, rate });
        }
        self.cores.insert(core, connections);
        self.gather();
        for (name, moved) in &fresh {
            let series = self.series.get_mut(name).expect("it has just been gathered");
            series.moved |= moved.up + moved.down > 0;
        }
        self.rank(now);
        self.count(core, &fresh, total);
    }

    fn name(&self, node: usize, peer: &PeerView) -> Arc<Name> {
        let who = &peer.who;
        let peer = self.hosts.cut(who.addr.ip());
        let name = Name { node, peer, incoming: !who.outgoing, client: who.id.client() };
        self.series.get_key_value(&name).map_or_else(|| Arc::new(name.clone()), |(name, _)| Arc::clone(name))
    }

    /// Sums connections up by name; a series without connections stays until it is ranked.
    fn gather(&mut self) {
        for series in self.series.values_mut() {
            (series.connections, series.rate) = (0, Traffic::default());
        }
        for connection in self.cores.values().flat_map(HashMap::values) {
            let series = self.series.entry(Arc::clone(&connection.name)).or_default();
            series.connections += 1;
            series.rate.add(connection.rate);
        }
    }

    /// Decides who is listed.
    fn rank(&mut self, now: Duration) {
        let age = now.saturating_sub(self.ranked).as_secs_f64();
        let keep = (-age / MEMORY.as_secs_f64()).exp();
        self.ranked = now;
        for series in self.series.values_mut() {
            let rate = (series.rate.up + series.rate.down) as f64;
            let is_new = series.score == 0.0;
            series.score = if is_new { rate } else { series.score * keep + rate * (1.0 - keep) };
        }
        self.reserved.retain(|_, until| *until > now);
        self.forget_gone(now);

        let unlisted = |series: &Series| series.listed.is_none() && series.moved;
        let mut waiting: Vec<(f64, Arc<Name>)> = self
            .series
            .iter()
            .filter(|(_, series)| unlisted(series))
            .map(|(name, series)| (series.score, Arc::clone(name)))
            .collect();
        waiting.sort_by(|a, b| b.0.total_cmp(&a.0));
        let is_listed = |(_, series): &(&Arc<Name>, &Series)| series.listed.is_some();
        let listed = self.series.iter().filter(is_listed).count();
        let mut room = self.most.saturating_sub(listed + self.reserved.len());
        let mut giving_way: Vec<(f64, Arc<Name>)> = self
            .series
            .iter()
            .filter(|(_, series)| series.listed.is_some_and(|listed| now >= listed.since + STAY))
            .map(|(name, series)| (series.score, Arc::clone(name)))
            .collect();
        giving_way.sort_by(|a, b| b.0.total_cmp(&a.0));

        for (score, name) in waiting {
            let own_place = self.reserved.remove(&name).is_some();
            if !own_place && room > 0 {
                room -= 1;
            } else if !own_place {
                let Some((_, other)) = giving_way.pop_if(|(other, _)| score > *other * CLEARLY) else {
                    continue;
                };
                self.delist(&other);
            }
            let series = self.series.get_mut(&name).expect("it waits");
            series.listed = Some(Listed { since: now, counted: Traffic::default() });
        }
    }

    /// Forgets series whose last connection has ended.
    fn forget_gone(&mut self, now: Duration) {
        let gone: Vec<Arc<Name>> = self
            .series
            .iter()
            .filter(|(_, series)| series.connections == 0)
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in gone {
            if let Some(listed) = self.delist(&name)
                && listed.since + STAY > now
            {
                self.reserved.insert(Arc::clone(&name), listed.since + STAY);
            }
            self.series.remove(&name);
        }
    }

    fn delist(&mut self, name: &Name) -> Option<Listed> {
        let listed = self.series.get_mut(name)?.listed.take()?;
        self.rests.entry(name.node).or_default().delisted.add(listed.counted);
        Some(listed)
    }

    /// Counts what was moved since the core's last word: with listed series, the rest with the others. That includes
    /// what was moved by peers that have gone since then.
    fn count(&mut self, core: Core, fresh: &HashMap<Arc<Name>, Traffic>, total: Traffic) {
        let before = self.totals.insert(core, total).unwrap_or_default();
        let mut rest = total.since(before);
        for (name, moved) in fresh {
            if let Some(listed) = self.series.get_mut(name).and_then(|series| series.listed.as_mut()) {
                listed.counted.add(*moved);
                rest = rest.since(*moved);
            }
        }
        self.rests.entry(core.0).or_default().other.add(rest);
    }

    /// The listed series, in a steady order.
    pub(super) fn listed(&self) -> impl Iterator<Item = Shown<'_>> {
        self.series.iter().filter_map(|(name, series)| {
            let Listed { counted, .. } = series.listed?;
            Some(Shown { name, connections: series.connections, counted, rate: series.rate })
        })
    }

    /// The sums of the others, by node.
    pub(super) fn rests(&self) -> BTreeMap<usize, Rest> {
        let mut rests = self.rests.clone();
        for (name, series) in self.series.iter().filter(|(_, series)| series.listed.is_none()) {
            let rest = rests.entry(name.node).or_default();
            rest.connections += series.connections;
            rest.rate.add(series.rate);
        }
        rests
    }
}
