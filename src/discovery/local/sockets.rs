//! The sockets of one group.

use super::interfaces;
use super::packet::{GROUP_V4, GROUP_V6};
use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// Routers on the way that a datagram may pass: a site, not the world.
const HOPS: u32 = 16;

/// One group: where others are heard, and where we speak from.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) addr: SocketAddr,
    /// Where peers are to connect to; when it is one address, we speak from it alone.
    from: IpAddr,
    /// Bound to the group itself, so that it gets what was sent to the group and nothing else.
    ear: UdpSocket,
    mouth: OwnedFd,
}

impl Group {
    /// The groups whose members could connect to a listener at `listen`: those of its family, and of both when it is
    /// for both. Without IPv6 on the host, of the other alone. Call on a tokio runtime.
    pub(super) fn all(listen: SocketAddr) -> io::Result<Vec<Self>> {
        // Any port; an address of a link stays one.
        let mut own = listen;
        own.set_port(0);
        let v4 = (SocketAddr::from(GROUP_V4), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let wanted = match listen.ip() {
            IpAddr::V4(_) => vec![(v4.0, own)],
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => vec![(GROUP_V6.into(), own), v4],
            IpAddr::V6(_) => vec![(GROUP_V6.into(), own)],
        };
        let (mut groups, mut refusal) = (Vec::new(), None);
        for (addr, from) in wanted {
            match Self::new(addr, from) {
                Ok(group) => groups.push(group),
                Err(error) => refusal = Some(error),
            }
        }
        match refusal {
            Some(error) if groups.is_empty() => Err(error),
            _ => Ok(groups),
        }
    }

    fn new(addr: SocketAddr, from: SocketAddr) -> io::Result<Self> {
        let ear = socket(addr)?;
        // Other clients on this host listen here, too. Some ask for the one, some for the other.
        sockopt::set_socket_reuseaddr(&ear, true)?;
        sockopt::set_socket_reuseport(&ear, true)?;
        rustix::net::bind(&ear, &addr)?;
        let mouth = socket(addr)?;
        rustix::net::bind(&mouth, &from)?;
        match addr {
            SocketAddr::V4(_) => sockopt::set_ip_multicast_ttl(&mouth, HOPS)?,
            SocketAddr::V6(_) => sockopt::set_ipv6_multicast_hops(&mouth, HOPS)?,
        }
        Ok(Self { addr, from: from.ip(), ear: UdpSocket::from_std(ear.into())?, mouth })
    }

    /// The next datagram: bytes of it, as many as there is room for, and who has sent it.
    pub(super) fn poll_hear(
        &self,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut room = ReadBuf::new(room);
        let from = std::task::ready!(self.ear.poll_recv_from(context, &mut room))?;
        Poll::Ready(Ok((room.filled().len(), from)))
    }

    /// Joins the group on every interface that has come since the last time. Those of an address that is not ours,
    /// or that have gone meanwhile, are passed over. How many interfaces there are beyond those that are used.
    pub(super) fn join(&self) -> usize {
        match self.addr.ip() {
            IpAddr::V4(group) => {
                let (names, more) = interfaces::v4();
                self.v4_indexes(names).for_each(|index| {
                    // The usual error is that it was joined before.
                    let any = Ipv4Addr::UNSPECIFIED;
                    let _ = sockopt::set_ip_add_membership_with_ifindex(&self.ear, &group, &any, index);
                });
                more
            }
            IpAddr::V6(group) => {
                let (found, more) = interfaces::v6();
                found.keys().for_each(|index| {
                    let _ = sockopt::set_ipv6_add_membership(&self.ear, &group, *index);
                });
                more
            }
        }
    }

    /// Says something on every interface by which peers could connect to us. How many have taken it.
    pub(super) fn say(&self, packet: &[u8]) -> usize {
        match self.from {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => self
                .v4_indexes(interfaces::v4().0)
                .filter(|index| {
                    let none = Ipv4Addr::UNSPECIFIED;
                    sockopt::set_ip_multicast_if_with_ifindex(&self.mouth, &none, &none, *index).is_ok()
                        && self.send(packet)
                })
                .count(),
            IpAddr::V4(own) => {
                usize::from(sockopt::set_ip_multicast_if(&self.mouth, &own).is_ok() && self.send(packet))
            }
            IpAddr::V6(own) => interfaces::v6()
                .0
                .into_iter()
                .filter(|(_, addrs)| own == Ipv6Addr::UNSPECIFIED || addrs.contains(&own))
                .filter(|(index, _)| {
                    sockopt::set_ipv6_multicast_if(&self.mouth, *index).is_ok() && self.send(packet)
                })
                .count(),
        }
    }

    fn v4_indexes(&self, names: Vec<String>) -> impl Iterator<Item = u32> {
        names.into_iter().filter_map(|name| name_to_index(&self.mouth, &name).ok())
    }

    fn send(&self, packet: &[u8]) -> bool {
        let sent = rustix::net::sendto(&self.mouth, packet, rustix::net::SendFlags::empty(), &self.addr);
        // An interface without a cable, a firewall: the next may do.
        sent.inspect_err(|error| tracing::debug!("local discovery on {}: {error}", self.addr)).is_ok()
    }
}

/// A datagram socket that never waits.
fn socket(addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if addr.is_ipv6() {
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    Ok(fd)
}
