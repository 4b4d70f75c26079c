//! The peers that others have announced to us.

use super::compact::Family;
use crate::metainfo::InfoHash;
use crate::swarm::host;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Most torrents, most peers of one, most of all together, and most of a torrent at one host.
const MAX_TORRENTS: usize = 2000;
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

/// Torrents and their peers.
#[derive(Debug, Default)]
pub(super) struct PeerStore {
    torrents: HashMap<InfoHash, Vec<Peer>>,
    peers: usize,
}

impl PeerStore {
    /// Takes an announce, if there is room.
    pub(super) fn announce(&mut self, now: Duration, info_hash: InfoHash, addr: SocketAddr) -> Taken {
        let of_torrent = self.torrents.get_mut(&info_hash);
        // Whoever has a place keeps it, also where there is room for nobody else.
        if let Some(peer) = of_torrent.and_then(|peers| peers.iter_mut().find(|peer| peer.addr == addr)) {
            peer.announced = now;
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
                self.forget_smallest();
                taken = Taken::Instead;
            }
        }
        let peers = self.torrents.entry(info_hash).or_default();
        let its_own = |peer: &Peer| host(peer.addr.ip()) == host(addr.ip());
        let full = peers.iter().filter(|peer| its_own(peer)).count() >= MAX_PEERS_A_HOST;
        if full || peers.len() >= MAX_PEERS {
            let oldest = peers
                .iter()
                .enumerate()
                .filter(|(_, peer)| !full || its_own(peer))
                .min_by_key(|(_, peer)| peer.announced)
                .map(|(at, _)| at);
            peers.swap_remove(oldest.expect("there are some"));
            self.peers -= 1;
            taken = if full { Taken::InsteadOfItsOwn } else { Taken::Instead };
        }
        peers.push(Peer { addr, announced: now });
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
        let peers = self.torrents.get(&info_hash).into_iter().flatten();
        let fresh = peers.filter(|peer| Family::of(peer.addr) == family && is_fresh(peer, now));
        let all: Vec<SocketAddr> = fresh.map(|peer| peer.addr).collect();
        let more = all.len() > most;
        (rng.choose_multiple(all, most), more)
    }

    /// Forgets what is too old.
    pub(super) fn expire(&mut self, now: Duration) {
        self.torrents.retain(|_, peers| {
            peers.retain(|peer| is_fresh(peer, now));
            !peers.is_empty()
        });
        self.peers = self.torrents.values().map(Vec::len).sum();
    }

    /// Torrents and peers.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.torrents.len(), self.peers)
    }

    fn forget_smallest(&mut self) {
        let smallest = self.torrents.iter().min_by_key(|(_, peers)| peers.len()).map(|(hash, _)| *hash);
        let gone = smallest.and_then(|hash| self.torrents.remove(&hash));
        self.peers -= gone.map_or(0, |peers| peers.len());
    }
}

fn is_fresh(peer: &Peer, now: Duration) -> bool {
    now.saturating_sub(peer.announced) < EXPIRY
}
