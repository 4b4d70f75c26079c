//! The UDP sockets of a node, one a family.

use super::compact::Family;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;

/// Bytes of datagrams that may wait in the kernel: enough for a burst, little for a flood.
const BUFFER: usize = 256 * 1024;

/// How often a port is looked for that is free in both families.
const TRIES: usize = 8;

/// The sockets of a node. There may be none of a family, or of both.
#[derive(Debug, Default)]
pub struct DhtSockets {
    pub(super) sockets: [Option<UdpSocket>; 2],
    /// Why not.
    pub(super) problems: Vec<String>,
}

impl DhtSockets {
    /// Sockets at the port of `listen`; when that is taken, at another. At an address that stands for all, there is a
    /// socket for each family, with the same port if there is one that both can have; else one at just this address. Call
    /// on a tokio runtime.
    pub fn bind(listen: SocketAddr) -> Self {
        let addrs: Vec<SocketAddr> = match listen.ip() {
            ip if !ip.is_unspecified() => vec![listen],
            _ => vec![(Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::UNSPECIFIED, 0).into()],
        };
        let mut bound = Self::default();
        for attempt in 0..TRIES {
            let wish = if attempt == 0 { listen.port() } else { 0 };
            let taken;
            (bound, taken) = Self::bind_all(&addrs, wish);
            if !taken {
                break;
            }
        }
        bound
    }

    /// Sockets of one port, as far as the second can have that of the first; whether one could not.
    fn bind_all(addrs: &[SocketAddr], wish: u16) -> (Self, bool) {
        let (mut bound, mut taken, mut port) = (Self::default(), false, wish);
        for addr in addrs.iter().map(|addr| SocketAddr::new(addr.ip(), 0)) {
            let mut socket = bind_at(SocketAddr::new(addr.ip(), port));
            if socket.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
                taken = true;
                socket = bind_at(addr);
            }
            match socket {
                Ok(socket) => {
                    port = socket.local_addr().map_or(port, |addr| addr.port());
                    bound.sockets[Family::of(addr) as usize] = Some(socket);
                }
                Err(cause) => bound.problems.push(format!("{addr}: {cause}")),
            }
        }
        (bound, taken)
    }

    /// Where they are.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().flatten().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The port that peers may be told of (BEP 5).
    pub fn port(&self) -> Option<u16> {
        self.addrs().first().map(SocketAddr::port)
    }
}

fn bind_at(addr: SocketAddr) -> io::Result<UdpSocket> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    if addr.is_ipv6() {
        // IPv4 has a socket and a table of its own.
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    sockopt::set_socket_recv_buffer_size(&fd, BUFFER)?;
    rustix::net::bind(&fd, &addr)?;
    UdpSocket::from_std(fd.into())
}
