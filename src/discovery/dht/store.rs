//! The peers that others have announced to us.

use super::compact::Family;
use crate::metainfo::InfoHash;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Most torrents, most peers of one, most of all together, and most of a torrent at one address.
const MAX_TORRENTS: usize = 2000;
const MAX_PEERS: usize = 500;
const MAX_ALL: usize = 100_000;
const MAX_PEERS_AN_IP: usize = 4;
/// How long an announce counts.
const EXPIRY: Duration = Duration::from_secs(30 * 60);

#[derive(Debug)]
struct Peer {
    addr: SocketAddr,
    announced: Duration,
}

/// Torrents and their peers.
#[derive(Debug, Default)]
pub(super) struct PeerStore {
    torrents: HashMap<InfoHash, Vec<Peer>>,
    peers: usize,
}

impl PeerStore {
    /// Takes an announce. `false` when a limit made it push another out, or it was left out itself.
    pub(super) fn announce(&mut self, now: Duration, info_hash: InfoHash, addr: SocketAddr) -> bool {
        let known = self.torrents.contains_key(&info_hash);
        let mut roomy = true;
        if self.peers >= MAX_ALL || (!known && self.torrents.len() >= MAX_TORRENTS) {
            self.expire(now);
            if self.peers >= MAX_ALL {
                return false;
            }
            if !known && self.torrents.len() >= MAX_TORRENTS {
                self.forget_smallest();
                roomy = false;
            }
        }
        let peers = self.torrents.entry(info_hash).or_default();
        if let Some(peer) = peers.iter_mut().find(|peer| peer.addr == addr) {
            peer.announced = now;
            return roomy;
        }
        let of_ip = peers.iter().filter(|peer| peer.addr.ip() == addr.ip()).count();
        let full = of_ip >= MAX_PEERS_AN_IP;
        if full || peers.len() >= MAX_PEERS {
            let oldest = peers
                .iter()
                .enumerate()
                .filter(|(_, peer)| !full || peer.addr.ip() == addr.ip())
                .min_by_key(|(_, peer)| peer.announced)
                .map(|(at, _)| at);
            peers.swap_remove(oldest.expect("there are some"));
            self.peers -= 1;
            roomy = false;
        }
        peers.push(Peer { addr, announced: now });
        self.peers += 1;
        roomy
    }

    /// Peers of a torrent in one family: all, or as many as fit by chance.
    pub(super) fn sample(
        &self,
        now: Duration,
        info_hash: InfoHash,
        family: Family,
        most: usize,
        rng: &mut fastrand::Rng,
    ) -> Vec<SocketAddr> {
        let peers = self.torrents.get(&info_hash).into_iter().flatten();
        let fresh = peers.filter(|peer| Family::of(peer.addr) == family && is_fresh(peer, now));
        rng.choose_multiple(fresh.map(|peer| peer.addr), most)
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
