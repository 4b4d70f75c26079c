//! The peers that others have announced to us.

use super::compact::Family;
use crate::metainfo::InfoHash;
use crate::swarm::host;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Most torrents, most peers of one, most of all together, and most of a torrent at one host.
pub(super) const MAX_TORRENTS: usize = 2000;
pub(super) const MAX_PEERS: usize = 500;
pub(super) const MAX_ALL: usize = 100_000;
const MAX_PEERS_A_HOST: usize = 4;
/// How long an announce counts.
const EXPIRY: Duration = Duration::from_secs(30 * 60);

#[derive(Debug)]
struct Peer {
    addr: SocketAddr,
    announced: Duration,
}

/// What has become of an announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is stored.
    New,
    /// It was stored already.
    Again,
    /// It is stored, and another is not any more, because there were too many.
    Instead,
    /// Likewise, because there were too many of its host.
    InsteadOfItsOwn,
    /// There were too many of all.
    Not,
}

/// The peers of a torrent.
#[derive(Debug, Default)]
struct Swarm {
    peers: Vec<Peer>,
    /// Of how many hosts they are.
    hosts: usize,
    /// When one of them was announced last.
    announced: Duration,
}

impl Swarm {
    /// How many peers the host of this address has.
    fn of_host(&self, ip: IpAddr) -> usize {
        self.peers.iter().filter(|peer| host(peer.addr.ip()) == host(ip)).count()
    }

    fn insert(&mut self, peer: Peer) {
        self.hosts += usize::from(self.of_host(peer.addr.ip()) == 0);
        self.announced = peer.announced;
        self.peers.push(peer);
    }

    /// Removes the oldest peer; with `ip`, of its host.
    fn remove_oldest(&mut self, ip: Option<IpAddr>) {
        let is_meant = |peer: &Peer| ip.is_none_or(|ip| host(peer.addr.ip()) == host(ip));
        let peers = self.peers.iter().enumerate().filter(|(_, peer)| is_meant(peer));
        let oldest = peers.min_by_key(|(_, peer)| peer.announced).map(|(at, _)| at);
        let gone = self.peers.swap_remove(oldest.expect("there are some"));
        self.hosts -= usize::from(self.of_host(gone.addr.ip()) == 0);
    }

    fn expire(&mut self, now: Duration) {
        let all = self.peers.len();
        self.peers.retain(|peer| is_fresh(peer, now));
        if self.peers.len() < all {
            self.hosts = self.peers.iter().map(|peer| host(peer.addr.ip())).collect::<HashSet<_>>().len();
        }
    }
}

/// Torrents and their peers.
#[derive(Debug, Default)]
pub(super) struct PeerStore {
    torrents: HashMap<InfoHash, Swarm>,
    peers: usize,
}

impl PeerStore {
    /// Takes an announce, if there is room.
    pub(super) fn announce(&mut self, now: Duration, info_hash: InfoHash, addr: SocketAddr) -> Taken {
        // Whoever has a place keeps it, also where there is room for nobody else.
        if let Some(swarm) = self.torrents.get_mut(&info_hash)
            && let Some(peer) = swarm.peers.iter_mut().find(|peer| peer.addr == addr)
        {
            (peer.announced, swarm.announced) = (now, now);
            return Taken::Again;
        }
        let known = self.torrents.contains_key(&info_hash);
        let mut taken = Taken::New;
        if self.peers >= MAX_ALL || (!known && self.torrents.len() >= MAX_TORRENTS) {
            self.expire(now);
            if self.peers >= MAX_ALL {
                return Taken::Not;
            }
            if !known && self.torrents.len() >= MAX_TORRENTS {
                self.forget_least();
                taken = Taken::Instead;
            }
        }
        let swarm = self.torrents.entry(info_hash).or_default();
        let full = swarm.of_host(addr.ip()) >= MAX_PEERS_A_HOST;
        if full || swarm.peers.len() >= MAX_PEERS {
            swarm.remove_oldest(full.then(|| addr.ip()));
            self.peers -= 1;
            taken = if full { Taken::InsteadOfItsOwn } else { Taken::Instead };
        }
        swarm.insert(Peer { addr, announced: now });
        self.peers += 1;
        taken
    }

    /// Peers of a torrent in one family: all, or as many as fit by chance; and whether there are more.
    pub(super) fn sample(
        &self,
        now: Duration,
        info_hash: InfoHash,
        family: Family,
        most: usize,
        rng: &mut fastrand::Rng,
    ) -> (Vec<SocketAddr>, bool) {
        let peers = self.torrents.get(&info_hash).into_iter().flat_map(|swarm| &swarm.peers);
        let fresh = peers.filter(|peer| Family::of(peer.addr) == family && is_fresh(peer, now));
        let all: Vec<SocketAddr> = fresh.map(|peer| peer.addr).collect();
        let more = all.len() > most;
        (rng.choose_multiple(all, most), more)
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Duration) {
        self.torrents.retain(|_, swarm| {
            swarm.expire(now);
            !swarm.peers.is_empty()
        });
        self.peers = self.torrents.values().map(|swarm| swarm.peers.len()).sum();
    }

    /// Torrents and peers.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.peers)
    }

    /// Forgets a torrent: that of fewest hosts, for one host has as many ports as it likes; of several, that which has been heard
    /// of least lately.
    fn forget_least(&mut self) {
        let swarms = self.torrents.iter().map(|(hash, swarm)| (swarm.hosts, swarm.announced, *hash));
        let least = swarms.min_by_key(|(hosts, announced, _)| (*hosts, *announced));
        let gone = least.and_then(|(_, _, hash)| self.torrents.remove(&hash));
        self.peers -= gone.map_or(0, |swarm| swarm.peers.len());
    }
}

fn is_fresh(peer: &Peer, now: Duration) -> bool {
    now.saturating_sub(peer.announced) < EXPIRY
}
