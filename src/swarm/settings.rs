//! Limits and choices of one torrent.

use super::reached::is_local;
use super::roster::Most;
use super::{Greeting, IpFilter, SeedChoker};
use crate::wire::PeerId;
use std::net::IpAddr;
use std::sync::Arc;

/// Most connections with one host outside, unless the user says otherwise. Clients in use take one; but behind one address
/// there may be a house, an office or the exit of a tunnel with several peers.
pub const MOST_OF_HOST: usize = 16;

/// One network may have one in so many of all connections.
const NETWORK_SHARE: usize = 8;
/// One in so many of all is for those whom we dial, while there is something to fetch.
const DIALLED_SHARE: usize = 8;

/// Limits and choices of one torrent, the same on all its cores.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What we call ourselves.
    pub id: PeerId,
    /// Most connections, on all cores together.
    pub most_peers: usize,
    /// Most dials at a time, on each core.
    pub most_dials: usize,
    /// Most connections with one host, whoever has dialled, on all cores together, beside those whom the user names; of IPv6 a
    /// /64 is a host. `None`: [`MOST_OF_HOST`], but any number with hosts of networks like ours, for a whole crowd may come through one gateway.
    pub most_of_host: Option<usize>,
    /// Most upload slots while there is something to fetch, on all cores together.
    pub slots: usize,
    /// Most upload slots when there is not.
    pub seed_slots: usize,
    /// Pieces longer than this (bytes) are written run by run before they are verified.
    pub hold: u32,
    /// Whether missing pieces are fetched; else only what is there is served.
    pub fetch: bool,
    /// Whether pieces are fetched in their order, for who wants to play them meanwhile.
    pub sequential: bool,
    /// Whom a seed serves first.
    pub seed_choker: SeedChoker,
    /// Whether a seed shows its pieces to each peer one by one (BEP 16).
    pub super_seed: bool,
    /// Bytes a second that may go up, all cores together: the number of slots follows it.
    pub upload_limit: Option<u64>,
    /// Bytes a second that may come down, all cores together: no more is asked for than that is worth.
    pub download_limit: Option<u64>,
    /// Addresses to have nothing to do with.
    pub filter: Option<Arc<IpFilter>>,
    /// What peers are told beside pieces.
    pub greeting: Greeting,
}

impl Settings {
    /// Most connections with this host, and with its network when half of the places are `taken`: it may be all of one customer.
    pub(super) fn most_of(&self, host: IpAddr, taken: usize) -> Most {
        let of_host = most_of_host(self.most_of_host, host);
        let share = (self.most_peers / NETWORK_SHARE).max(of_host);
        let is_free = is_local(host) || taken < self.most_peers / 2;
        Most { of_host, of_network: if is_free { usize::MAX } else { share } }
    }

    /// Most connections with those who come to us: they may be in no hurry to go.
    pub(super) fn most_comers(&self, seeding: bool) -> usize {
        self.most_peers - if seeding { 0 } else { self.most_peers / DIALLED_SHARE }
    }
}

/// Most connections with this host, by what the user has said of [`Settings::most_of_host`].
pub fn most_of_host(said: Option<usize>, host: IpAddr) -> usize {
    let usual = if is_local(host) { usize::MAX } else { MOST_OF_HOST };
    said.unwrap_or(usual)
}

impl Default for Settings {
    /// A download without limits, under no name.
    fn default() -> Self {
        Self {
            id: PeerId([0; 20]),
            most_peers: 50,
            most_dials: 30,
            most_of_host: None,
            slots: 32,
            seed_slots: 50,
            hold: 4 << 20,
            fetch: true,
            sequential: false,
            seed_choker: SeedChoker::default(),
            super_seed: false,
            upload_limit: None,
            download_limit: None,
            filter: None,
            greeting: Greeting::default(),
        }
    }
}
