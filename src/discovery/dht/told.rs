//! The peers that a search was told of. Anybody can be a node near a torrent, and name peers that do not exist: whoever is
//! heard early must leave room for the others.

use super::id::is_local;
use crate::swarm::network;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Most peers of one lookup that are believed, and most of one reply.
const MAX_TOLD: usize = 1000;
const MAX_OF_REPLY: usize = 100;
/// The part of them that one network may name, and the part of what is left that one reply may: so something is always left.
const SHARE: usize = 8;

/// What the nodes of one lookup have said.
#[derive(Debug, Default)]
pub(super) struct Told {
    peers: HashSet<SocketAddr>,
    /// How many of them each network has named.
    named: HashMap<IpAddr, usize>,
}

impl Told {
    /// The node at an address names peers: those of them that are news and believed, and how many are left out. Which they
    /// are, when there are too many, is left to chance.
    pub(super) fn hear(
        &mut self,
        from: IpAddr,
        peers: impl Iterator<Item = SocketAddr>,
        rng: &mut fastrand::Rng,
    ) -> (Vec<SocketAddr>, usize) {
        let news: HashSet<SocketAddr> = peers.filter(|peer| !self.peers.contains(peer)).collect();
        // In an order that the seed makes, not the set.
        let mut news: Vec<SocketAddr> = news.into_iter().collect();
        news.sort_unstable();
        let count = news.len();
        let left = MAX_TOLD.saturating_sub(self.peers.len());
        let mut room = left.div_ceil(SHARE).min(MAX_OF_REPLY);
        // In one's own house, a network says nothing of its owner.
        if !is_local(from) {
            let named = self.named.entry(network(from)).or_default();
            room = room.min((MAX_TOLD / SHARE).saturating_sub(*named));
            *named += room.min(count);
        }
        let believed = if count > room { rng.choose_multiple(news, room) } else { news };
        self.peers.extend(&believed);
        let left_out = count - believed.len();
        (believed, left_out)
    }
}
