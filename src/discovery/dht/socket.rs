//! A UDP socket of one family.

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use tokio::net::UdpSocket;

/// Bytes of datagrams that may wait in the kernel: enough for a burst, little for a flood.
const BUFFER: usize = 256 * 1024;

/// A socket at the address; when its port is taken, at any port. Call on a tokio runtime.
///
/// # Errors
/// What the kernel says, as when there is no such address or no such family.
pub(super) fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
    match bind_at(addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => bind_at(SocketAddr::new(addr.ip(), 0)),
        other => other,
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
