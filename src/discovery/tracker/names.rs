//! Host names: of trackers, and of peers that a tracker gives by name.

use super::counters::{Count, Counters};
use super::error::TrackerError;
use super::reach::is_own;
use super::reply::{PeerAddr, usable};
use crate::discovery::names::Names;
use crate::swarm::{self, is_inside};
use crate::wire::canonical;
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time for the look-up of a peer, waiting for its turn included.
const LOOKUP_TIME: Duration = Duration::from_secs(10);
/// Most host names of one reply that are looked up.
const MAX_LOOKUPS: usize = 50;
/// Most addresses of one peer's name that are taken.
const ADDRESSES_A_PEER: usize = 4;
/// Most addresses of a tracker that are tried, of each family.
const ADDRESSES_A_TRACKER: usize = 8;

/// The addresses of a tracker, in the resolver's order.
pub(super) async fn resolve(names: &Names, host: &str, port: u16) -> Result<Vec<SocketAddr>, TrackerError> {
    let dns = |source| TrackerError::Dns { host: host.to_owned(), source };
    let addrs = of_tracker(names.look_up(host, port).await.map_err(dns)?.into_iter());
    if addrs.is_empty() {
        return Err(dns(io::Error::new(io::ErrorKind::NotFound, "it has no address")));
    }
    Ok(addrs)
}

/// The first addresses of each family.
pub(super) fn of_tracker(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut v4, mut v6) = (0, 0);
    let taken = found.map(canonical).filter(|addr| {
        let taken = if addr.is_ipv4() { &mut v4 } else { &mut v6 };
        *taken += 1;
        *taken <= ADDRESSES_A_TRACKER
    });
    taken.collect()
}

/// The first addresses that are any peer's.
pub(super) fn of_peer(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    found.filter_map(usable).take(ADDRESSES_A_PEER).collect()
}

/// Whether a tracker there can know of somebody at this address: strangers must not have us talk to machines of our own
/// networks, and one that is not known is a stranger. One on this machine is none, whichever of its addresses it has.
pub(super) fn may_name(tracker: Option<IpAddr>, ip: IpAddr) -> bool {
    !is_inside(ip) || tracker.is_some_and(|tracker| swarm::may_name(tracker, ip) || is_own(tracker))
}

/// Looks up peers that are given by name.
#[derive(Clone, Debug)]
pub(super) struct PeerNames(pub(super) Names);

impl Default for PeerNames {
    fn default() -> Self {
        Self(Names::of_peers())
    }
}

impl PeerNames {
    /// Hands over what can be dialled at once, then the peers given by host name, each when its name is looked up and
    /// no address twice, nor one that a tracker `from` there may not name. Ends early when nobody listens any more.
    pub(super) async fn deliver(
        self,
        peers: Vec<PeerAddr>,
        from: Option<IpAddr>,
        out: mpsc::Sender<Vec<SocketAddr>>,
        counters: Arc<Counters>,
    ) {
        let mut addrs = Vec::new();
        let mut lookups = JoinSet::new();
        for peer in peers {
            match peer {
                PeerAddr::Socket(addr) => addrs.push(addr),
                PeerAddr::Host(host, port) if lookups.len() < MAX_LOOKUPS => {
                    lookups.spawn(look_up(host, port, self.0.clone()));
                }
                PeerAddr::Host(..) => counters.add(Count::NameDropped, 1),
            }
        }
        let mut told: HashSet<SocketAddr> = addrs.iter().copied().collect();
        if !addrs.is_empty() && out.send(addrs).await.is_err() {
            return;
        }
        while let Some(found) = lookups.join_next().await {
            match found.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())) {
                None => counters.add(Count::NameDropped, 1),
                Some(mut found) => {
                    let all = found.len();
                    found.retain(|addr| may_name(from, addr.ip()));
                    counters.add(Count::LocalPeerDropped, (all - found.len()) as u64);
                    found.retain(|addr| told.insert(*addr));
                    if !found.is_empty() && out.send(found).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The addresses of a peer given by host name, none when it has none; `None` when the resolver takes too long.
async fn look_up(host: String, port: u16, names: Names) -> Option<Vec<SocketAddr>> {
    match timeout(LOOKUP_TIME, names.look_up(&host, port)).await {
        Ok(Ok(found)) => Some(of_peer(found.into_iter())),
        Ok(Err(error)) if error.kind() != io::ErrorKind::TimedOut => Some(Vec::new()),
        Ok(Err(_)) | Err(_) => None,
    }
}
