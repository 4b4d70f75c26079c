//! Which addresses trackers are asked at. Anybody can write a torrent, and its trackers are asked from within our own
//! network: what listens there must not be made to do something.

use super::error::TrackerError;
use crate::swarm::{is_inside, reached};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Which addresses are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Whichever a torrent names. Redirects are looked at all the same.
    pub(super) any_address: bool,
    /// What counts as our own network, where a tracker elsewhere must not send us.
    pub(super) is_local: fn(IpAddr) -> bool,
    /// Which addresses are this machine's, besides the loopback.
    pub(super) is_own: fn(IpAddr) -> bool,
}

impl Reach {
    pub(super) fn new(any_address: bool) -> Self {
        Self { any_address, is_local: is_inside, is_own }
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
        addrs.retain(|addr| self.any_address || !self.forbids(addr.ip(), path));
        match first {
            Some(addr) if addrs.is_empty() => Err(TrackerError::Forbidden(addr)),
            _ => Ok(addrs),
        }
    }

    /// Whether no torrent may make us ask for this path at this address. On this machine a path is needed as trackers have it,
    /// for what else listens here believes itself among friends; none at all is what UDP trackers have, which are told
    /// nothing of it before they have shown what they are.
    fn forbids(self, ip: IpAddr, path: &str) -> bool {
        let (never, loopback) = match reached(ip) {
            IpAddr::V4(ip) => {
                (ip.is_link_local() || METADATA_V4.contains(&ip), ip.is_loopback() || ip.octets()[0] == 0)
            }
            IpAddr::V6(ip) => (
                ip.is_unicast_link_local() || METADATA_V6.contains(&ip),
                ip.is_loopback() || ip.is_unspecified(),
            ),
        };
        let own = || loopback || (self.is_own)(ip) || (self.is_own)(reached(ip));
        never || !is_for_trackers(path) && own()
    }
}

/// Whether the address is one of this machine's: then the kernel, asked from where it would send there, says the same.
/// Nothing is sent for that.
pub(super) fn is_own(ip: IpAddr) -> bool {
    let any = if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0));
    let from = socket.and_then(|socket| {
        // The port is no matter.
        socket.connect(SocketAddr::new(ip, 9))?;
        socket.local_addr()
    });
    from.is_ok_and(|from| from.ip() == ip)
}

/// Where clouds tell a machine its secrets, beside addresses of the link.
const METADATA_V4: [Ipv4Addr; 1] = [Ipv4Addr::new(100, 100, 100, 200)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// `/announce` and what begins so, but no way back from there; or no path.
fn is_for_trackers(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or("").to_ascii_lowercase();
    path.is_empty() || path.starts_with("/announce") && !path.contains("..") && is_what_it_says(&path)
}

/// Whether a path means the same however often it is decoded, and whatever its server takes for a slash: servers in a row
/// decode one after the other, and some take UTF-8 that is longer than it need be. No tracker needs any of that.
fn is_what_it_says(path: &str) -> bool {
    let harmless = |byte: u8| byte.is_ascii_graphic() && !b"%./\\".contains(&byte);
    let encoded = path.split('%').skip(1).map(|rest| u8::from_str_radix(rest.get(..2).unwrap_or(""), 16));
    !path.contains('\\') && encoded.into_iter().all(|byte| byte.is_ok_and(harmless))
}
