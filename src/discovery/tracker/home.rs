//! From which of our addresses trackers are asked. A tracker enters us under the address that it is asked from, and there peers look
//! for us: so it is to be one where we listen (BEP 7).
//!
//! Where no way leads from there although it is of the right kind ([`Home::towards`]), the announce fails: no other is tried. We are
//! bound to one only when the user has named it (`--listen`), perhaps that of a tunnel, and when the tunnel is down the tracker
//! must not learn of another.

use super::udp_packet::Family;
use crate::wire::canonical;
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
pub(super) struct Home(Option<SocketAddr>);

impl Home {
    pub(super) fn new(listen: Option<SocketAddr>) -> Self {
        Self(listen.map(canonical))
    }

    /// Those of a tracker's addresses that it is announced to at: of the families in which we listen. When it has none of these, all:
    /// nobody comes to us by it then, but it tells of others.
    pub(super) fn suitable(self, addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Some(listen) = self.0 else { return addrs };
        // A listener at all of IPv6 takes IPv4, too.
        let both = listen.ip() == Ipv6Addr::UNSPECIFIED;
        let (heard, deaf): (Vec<_>, Vec<_>) =
            addrs.into_iter().partition(|addr| both || Family::of(addr) == Family::of(&listen));
        if heard.is_empty() { deaf } else { heard }
    }

    /// The address of ours, with any port, from which this one of a tracker's is asked; `None` when the kernel is to choose. One of
    /// this machine's own, of one link or of one site leads nowhere else.
    pub(super) fn towards(self, tracker: SocketAddr) -> Option<SocketAddr> {
        let mut ours = self.0.filter(|ours| !ours.ip().is_unspecified())?;
        let (from, to) = (Scope::of(ours), Scope::of(tracker));
        let leads = from == to || from == Scope::Anywhere;
        ours.set_port(0);
        (leads && Family::of(&ours) == Family::of(&tracker)).then_some(ours)
    }

    /// The same for a socket that has to have an address.
    pub(super) fn or_any(self, tracker: SocketAddr) -> SocketAddr {
        let any = match Family::of(&tracker) {
            Family::V4 => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Family::V6 => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        self.towards(tracker).unwrap_or(any)
    }
}
