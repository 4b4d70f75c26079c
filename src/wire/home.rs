//! From which of our addresses others are spoken to. A tracker enters us under the address that it is asked from, peers tell others of
//! the one that we dial them from, and there others look for us: so it is to be one where we listen (BEP 7).
//!
//! Where no way leads from there although it is of the right kind ([`Home::towards`]), it fails: no other is tried. We are
//! bound to one only when the user has named it (`--listen`), perhaps that of a tunnel, and when the tunnel is down nobody
//! must learn of another.

use super::canonical;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How far an address leads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// This machine.
    Machine,
    /// A link without a router.
    Link,
    /// The site that has given it to itself (RFC 4193). Addresses of IPv4 of that kind are translated on the way out.
    Site,
    Anywhere,
}

impl Scope {
    fn of(addr: SocketAddr) -> Self {
        match addr.ip().to_canonical() {
            ip if ip.is_loopback() => Self::Machine,
            IpAddr::V4(ip) if ip.is_link_local() => Self::Link,
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Self::Link,
            IpAddr::V6(ip) if ip.is_unique_local() => Self::Site,
            _ => Self::Anywhere,
        }
    }
}

/// Where peers connect to, if they can at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Home(Option<SocketAddr>);

impl Home {
    /// Where we listen, if that is known.
    pub fn new(listen: Option<SocketAddr>) -> Self {
        Self(listen.map(canonical))
    }

    /// Those of a tracker's addresses that it is announced to at: of the families in which we listen. When it has none of these, all:
    /// nobody comes to us by it then, but it tells of others.
    pub fn suitable(self, addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Some(listen) = self.0 else { return addrs };
        // A listener at all of IPv6 takes IPv4, too.
        let both = listen.ip() == Ipv6Addr::UNSPECIFIED;
        let (heard, deaf): (Vec<_>, Vec<_>) =
            addrs.into_iter().partition(|addr| both || addr.is_ipv4() == listen.is_ipv4());
        if heard.is_empty() { deaf } else { heard }
    }

    /// The address of ours, with any port, from which another one is spoken to; `None` when the kernel is to choose. One of this
    /// machine's own, of one link or of one site leads nowhere else.
    pub fn towards(self, other: SocketAddr) -> Option<SocketAddr> {
        let mut ours = self.0.filter(|ours| !ours.ip().is_unspecified())?;
        let (from, to) = (Scope::of(ours), Scope::of(other));
        let leads = from == to || from == Scope::Anywhere;
        ours.set_port(0);
        (leads && ours.is_ipv4() == other.is_ipv4()).then_some(ours)
    }

    /// The same for a socket that has to have an address.
    pub fn or_any(self, other: SocketAddr) -> SocketAddr {
        let any: IpAddr =
            if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.towards(other).unwrap_or(SocketAddr::new(any, 0))
    }
}
