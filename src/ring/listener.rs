//! Listening for connections, on one socket or, with a port that several cores share, on many.

use super::socket::poll;
use super::{Place, Socket};
use crate::wire::canonical;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::rc::Rc;

/// Connections that may wait to be accepted, a socket; the system's own limit (`net.core.somaxconn`) is mostly the same.
/// A burst waits here, not in our memory.
const BACKLOG: i32 = 4096;

/// `count` (at least 1) listening sockets on one address and port; the kernel spreads connections over them. Port 0 is
/// any free one, the same for all. Only these sockets share the port: when somebody else listens there, also a
/// program of the same user that would share it, that is an error.
///
/// # Errors
/// `AddrInUse` when the port is taken; else what the kernel says.
pub fn listen(addr: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let first = bind(addr, false)?;
    rustix::net::listen(&first, BACKLOG)?;
    // It has the port to itself by now. Those that come after it may share.
    sockopt::set_socket_reuseport(&first, true)?;
    let first = TcpListener::from(first);
    let addr = first.local_addr()?;
    let mut all = vec![first];
    while all.len() < count {
        let next = bind(addr, true)?;
        rustix::net::listen(&next, BACKLOG)?;
        all.push(next.into());
    }
    Ok(all)
}

fn bind(addr: SocketAddr, shared: bool) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connections of a former run that linger do not keep the port from us.
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        // All addresses are those of IPv4, too, however the system has it set.
        sockopt::set_ipv6_v6only(&fd, false)?;
    }
    if shared {
        sockopt::set_socket_reuseport(&fd, true)?;
    }
    rustix::net::bind(&fd, &addr)?;
    Ok(fd)
}

/// A listening TCP socket.
pub struct Listener(Rc<OwnedFd>);

impl Listener {
    /// Takes over a bound and listening socket.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn from_std(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(Rc::new(listener.into())))
    }

    /// Waits until there is a connection. Says whether it had to.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn waiting(&self) -> io::Result<bool> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut look = [PollFd::new(&self.0, PollFlags::IN)];
        match rustix::event::poll(&mut look, Some(&now)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => poll(&self.0, libc::POLLIN).await.map(|_| true),
            Ok(_) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the connection that has waited longest into that place, with the address of the other side; `None` when
    /// there is none.
    ///
    /// # Errors
    /// What the kernel says: of a connection that has ended already as well as of want of descriptors.
    pub fn accept(&self, place: Place) -> io::Result<Option<(Socket, SocketAddr)>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::acceptfrom_with(&self.0, flags) {
            Ok((fd, addr)) => {
                let addr = addr.ok_or(io::ErrorKind::NotConnected)?;
                let addr = SocketAddr::try_from(addr).map_err(io::Error::from)?;
                let socket = Socket::new(fd, place)?;
                // A listener for both families sees IPv4 as mapped addresses.
                Ok(Some((socket, canonical(addr))))
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
