//! Which addresses trackers are asked at. Anybody can write a torrent, and its trackers are asked from within our own
//! network: what listens there must not be made to do something.

use super::error::TrackerError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which addresses are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Whichever a torrent names. Redirects are looked at all the same.
    pub(super) any_address: bool,
    /// What counts as our own network, where a tracker elsewhere must not send us.
    pub(super) is_local: fn(IpAddr) -> bool,
}

impl Reach {
    pub(super) fn new(any_address: bool) -> Self {
        Self { any_address, is_local }
    }

    /// Those of a tracker's addresses where this path and query may be asked for.
    ///
    /// # Errors
    /// When there are addresses, and not one of them is to be asked.
    pub(super) fn permitted(
        self,
        mut addrs: Vec<SocketAddr>,
        path: &str,
    ) -> Result<Vec<SocketAddr>, TrackerError> {
        let first = addrs.first().copied();
        addrs.retain(|addr| self.any_address || !is_forbidden(addr.ip(), path));
        match first {
            Some(addr) if addrs.is_empty() => Err(TrackerError::Forbidden(addr)),
            _ => Ok(addrs),
        }
    }
}

/// Whether no torrent may make us ask for this path at this address. On this machine a path is needed as trackers have it,
/// for what else listens here believes itself among friends; none at all is what UDP trackers have, which are told
/// nothing of it before they have shown what they are.
fn is_forbidden(ip: IpAddr, path: &str) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => {
            let own = ip.is_loopback() || ip.octets()[0] == 0;
            ip.is_link_local() || METADATA_V4.contains(&ip) || own && !is_for_trackers(path)
        }
        IpAddr::V6(ip) => {
            let own = ip.is_loopback() || ip.is_unspecified();
            ip.is_unicast_link_local() || METADATA_V6.contains(&ip) || own && !is_for_trackers(path)
        }
    }
}

/// Where clouds tell a machine its secrets, beside addresses of the link.
const METADATA_V4: [Ipv4Addr; 1] = [Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// `/announce` and what begins so, but no way back from there; or no path.
fn is_for_trackers(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or("").to_ascii_lowercase();
    path.is_empty() || path.starts_with("/announce") && !path.replace("%2e", ".").contains("..")
}

/// Whether an address belongs to this machine or its own network.
pub(super) fn is_local(ip: IpAddr) -> bool {
    match plain(ip) {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            // 0/8 is "this network", 100.64/10 what carriers put their customers into.
            let shared = first == 100 && second & 0xc0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || first == 0 || shared
        }
        IpAddr::V6(ip) => {
            let own = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
            own || ip.is_unspecified()
        }
    }
}

/// The address that is reached: a translator to IPv4 (RFC 6052) leads to that in the last four bytes.
fn plain(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
                Ipv4Addr::new(a, b, c, d).into()
            }
            _ => v6.into(),
        },
        v4 => v4,
    }
}
