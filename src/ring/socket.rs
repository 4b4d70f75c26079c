//! Connections and listeners, driven by readiness.

use super::counters::Kind;
use super::op::submit;
use super::{Gather, Scatter};
use io_uring::{opcode, types};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

/// Waits until the descriptor is ready for `events` (poll(2)). Holds the descriptor open, no memory.
fn poll(fd: &Rc<OwnedFd>, events: i16) -> impl Future<Output = io::Result<()>> + use<> {
    let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events as u32).build();
    // SAFETY: the operation names no memory; the descriptor travels with it.
    let answer = unsafe { submit(Kind::Poll, 0, entry, Rc::clone(fd)) };
    async move { answer.await.0.map(drop) }
}

/// A TCP connection. Clones share the descriptor. Whoever is done calls [`Socket::shutdown`]: that ends every
/// operation under way, and the descriptor is closed when the last of them has let go.
#[derive(Clone)]
pub struct Socket(Rc<OwnedFd>);

impl Socket {
    /// Connects, within `limit`.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` when nobody answers in time.
    pub async fn connect(addr: SocketAddr, limit: Duration) -> io::Result<Self> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let socket = Self(Rc::new(fd));
        match rustix::net::connect(&socket.0, &addr) {
            Ok(()) => {}
            Err(rustix::io::Errno::INPROGRESS) => {
                let deadline = socket.deadline(limit);
                poll(&socket.0, libc::POLLOUT).await?;
                if deadline.has_passed() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                sockopt::socket_error(&socket.0)??;
            }
            Err(error) => return Err(error.into()),
        }
        socket.prepare()?;
        Ok(socket)
    }

    fn prepare(&self) -> io::Result<()> {
        Ok(sockopt::set_tcp_nodelay(&self.0, true)?)
    }

    /// Waits until there is something to receive, or the connection has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + use<> {
        poll(&self.0, libc::POLLIN | libc::POLLRDHUP)
    }

    /// Waits until the send buffer has room, or the connection has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> + use<> {
        poll(&self.0, libc::POLLOUT)
    }

    /// Receives what is there into the places of `scatter`, without waiting. 0 bytes: the peer has closed.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; else what the kernel says.
    pub async fn recv(&self, mut scatter: Scatter) -> (io::Result<usize>, Scatter) {
        let fd = types::Fd(self.0.as_raw_fd());
        let room = scatter.capacity();
        let entry = opcode::RecvMsg::new(fd, scatter.header()).flags(libc::MSG_DONTWAIT as u32).build();
        // SAFETY: the header points into boxes, buffers and leases that `scatter` owns; it and the descriptor
        // travel with the operation, and moving `scatter` moves none of them.
        let (result, (_, scatter)) =
            unsafe { submit(Kind::Recv, room, entry, (Rc::clone(&self.0), scatter)) }.await;
        (result, scatter)
    }

    /// Sends as much of `gather` as the send buffer takes, without waiting.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; else what the kernel says.
    pub async fn send(&self, mut gather: Gather) -> (io::Result<usize>, Gather) {
        let fd = types::Fd(self.0.as_raw_fd());
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
        let len = gather.len();
        let entry = opcode::SendMsg::new(fd, gather.header()).flags(flags).build();
        // SAFETY: the header points into buffers and sealed slabs that `gather` owns; it and the descriptor
        // travel with the operation, and moving `gather` moves none of them.
        let (result, (_, gather)) =
            unsafe { submit(Kind::Send, len, entry, (Rc::clone(&self.0), gather)) }.await;
        (result, gather)
    }

    /// Receives exactly `buffer.len()` small bytes, waiting for them: for the handshake.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closes before; else what the kernel says.
    pub async fn recv_exact(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match rustix::net::recv(&self.0, &mut buffer[filled..], rustix::net::RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, count)) => filled += count,
                Err(rustix::io::Errno::AGAIN) => self.readable().await?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends all of a few bytes, waiting for room: for the handshake.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        use rustix::net::SendFlags;
        while !bytes.is_empty() {
            match rustix::net::send(&self.0, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => bytes = &bytes[count..],
                Err(rustix::io::Errno::AGAIN) => self.writable().await?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends the connection in both directions; operations under way complete.
    pub fn shutdown(&self) {
        // Fails only when the connection has ended already.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }

    /// Shuts the connection down after `limit`, unless the guard is dropped before.
    pub fn deadline(&self, limit: Duration) -> Deadline {
        let socket = self.clone();
        Deadline(super::spawn(async move {
            tokio::time::sleep(limit).await;
            socket.shutdown();
        }))
    }
}

/// See [`Socket::deadline`].
pub struct Deadline(tokio::task::JoinHandle<()>);

impl Deadline {
    /// Whether the connection has been shut down by this guard.
    pub fn has_passed(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A listening TCP socket.
pub struct Listener(Rc<OwnedFd>);

impl Listener {
    /// Takes over a bound and listening socket.
    ///
    /// # Errors
    /// When it cannot be made non-blocking.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self(Rc::new(listener.into())))
    }

    /// The next connection, with the address of the other side.
    ///
    /// # Errors
    /// What the kernel says: of a connection that has ended already as well as of want of descriptors.
    pub async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            match rustix::net::acceptfrom_with(&self.0, flags) {
                Ok((fd, addr)) => {
                    let addr = addr.ok_or(io::ErrorKind::NotConnected)?;
                    let addr = SocketAddr::try_from(addr).map_err(io::Error::from)?;
                    let socket = Socket(Rc::new(fd));
                    socket.prepare()?;
                    // A listener for both families sees IPv4 as mapped addresses.
                    return Ok((socket, SocketAddr::new(addr.ip().to_canonical(), addr.port())));
                }
                Err(rustix::io::Errno::AGAIN) => poll(&self.0, libc::POLLIN).await?,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
