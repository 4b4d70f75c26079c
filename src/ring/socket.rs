//! Connections, driven by readiness.

use super::counters::{Alive, Kind, count_handshake};
use super::descriptors::{Descriptors, Place};
use super::op::{submit, turn};
use super::zero_copy::{Outgoing, Sent};
use super::{Gather, Scatter, ZeroCopy, ZeroCopySend, sendfile};
use io_uring::{opcode, types};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, sockopt};
use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

/// How long a peer may take to acknowledge what is under way without a copy when the connection has ended.
const LINGER_LIMIT: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 10_000 });

/// Waits until the descriptor is ready for `events` (poll(2)) and says for which. Holds the descriptor open, no memory.
pub(super) fn poll<T: AsRawFd + 'static>(
    fd: &Rc<T>,
    events: i16,
) -> impl Future<Output = io::Result<i16>> + use<T> {
    let entry = opcode::PollAdd::new(types::Fd(fd.as_raw_fd()), events as u32).build();
    // SAFETY: the operation names no memory; the descriptor travels with it.
    let answer = unsafe { submit(Kind::Poll, 0, entry, Rc::clone(fd)) };
    async move { answer.await.0.map(|ready| ready as i16) }
}

/// What clones of a socket share.
struct Connection {
    fd: OwnedFd,
    /// Behind the descriptor: it is given back when that is closed.
    _place: Place,
    /// How payload is sent without a copy, when that is done at all; and whether a task sees to what is under way after the end.
    outgoing: OnceCell<Outgoing>,
    lingers: Cell<bool>,
    _alive: Alive,
}

impl AsRawFd for Connection {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.outgoing.get().is_some_and(Outgoing::is_under_way) {
            self.abort();
        }
    }
}

impl Connection {
    /// Resets the connection: what was not acknowledged is thrown away, and let go of.
    fn abort(&self) {
        // Connecting to nowhere is how a TCP socket is disconnected. Fails only when it is so already.
        let _ = rustix::net::connect_unspec(&self.fd);
    }
}

/// Whether that address is one of this host's.
fn is_here(ip: IpAddr) -> bool {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // Nobody can bind to the address of another host, unless the system lets everybody bind to any (`ip_nonlocal_bind`): then to
    // those that are for documents and of no host.
    let probe = |ip: IpAddr| {
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        rustix::net::bind(&fd, &SocketAddr::new(ip, 0))
    };
    let nobody: IpAddr = match ip {
        IpAddr::V4(_) => [192, 0, 2, 1].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    ip.is_loopback() || (probe(ip).is_ok() && probe(nobody).is_err())
}

/// A TCP connection. Clones share the descriptor. Whoever is done calls [`Socket::shutdown`]: that ends every
/// operation under way, and the descriptor is closed when the last of them has let go. A connection that sends without
/// a copy ([`Socket::use_zero_copy`]) and is dropped without that is reset.
#[derive(Clone)]
pub struct Socket(Rc<Connection>);

/// A connection on its way from one core to another.
pub struct LooseSocket {
    fd: OwnedFd,
    place: Place,
}

impl LooseSocket {
    /// It belongs to this core now.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn arrive(self) -> io::Result<Socket> {
        Socket::new(self.fd, self.place)
    }
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, place: Place) -> io::Result<Self> {
        sockopt::set_tcp_nodelay(&fd, true)?;
        let alive = Alive::socket();
        let (outgoing, lingers) = (OnceCell::new(), Cell::new(false));
        Ok(Self(Rc::new(Connection { fd, _place: place, outgoing, lingers, _alive: alive })))
    }

    /// Connects, from an address of ours or from one that the kernel chooses, within `limit`, which begins when there is a place for
    /// one more connection.
    ///
    /// # Errors
    /// What the kernel says; `TimedOut` when nobody answers in time.
    pub async fn connect(addr: SocketAddr, from: Option<SocketAddr>, limit: Duration) -> io::Result<Self> {
        let family = if addr.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let place = Descriptors::of_process().sockets.take().await;
        let fd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        let socket = Self::new(fd, place)?;
        if let Some(from) = from {
            rustix::net::bind(&socket.0.fd, &from)?;
        }
        match rustix::net::connect(&socket.0.fd, &addr) {
            Ok(()) => {}
            Err(rustix::io::Errno::INPROGRESS) => {
                let deadline = socket.deadline(limit);
                poll(&socket.0, libc::POLLOUT).await?;
                if deadline.has_passed() {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                sockopt::socket_error(&socket.0.fd)??;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(socket)
    }

    /// From now on payload goes out without a copy where the core's mode says so for this peer.
    pub fn use_zero_copy(&self, core: &ZeroCopy) {
        let peer = || SocketAddr::try_from(rustix::net::getpeername(&self.0.fd).ok()??).ok();
        let wanted = match core.mode() {
            ZeroCopySend::On => true,
            ZeroCopySend::Off => false,
            ZeroCopySend::Auto => peer().is_some_and(|peer| !is_here(peer.ip().to_canonical())),
        };
        if wanted {
            self.0.outgoing.get_or_init(|| Outgoing::new(core));
        }
    }

    /// Waits until the socket is ready for one of `events`, or has ended.
    async fn ready(self, events: i16) -> io::Result<()> {
        poll(&self.0, events).await.map(drop)
    }

    #[cfg(test)]
    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// So many bytes at most wait in the kernel to be transmitted for the first time; without that, it takes more of them the
    /// more it has under way. Fails only of a connection that has ended.
    pub fn keep_unsent_below(&self, bytes: u32) {
        let fd = self.0.as_raw_fd();
        let len = std::mem::size_of::<u32>() as libc::socklen_t;
        // SAFETY: the kernel reads four bytes of `bytes`, and the descriptor is open as long as this call.
        let _ = unsafe {
            libc::setsockopt(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, (&raw const bytes).cast(), len)
        };
    }

    /// The connection ends with `TimedOut` when the other side takes nothing of what waits for it for so long: because nothing of
    /// it answers, or because it does not read. Fails only of a connection that has ended.
    pub fn give_up_after(&self, time: Duration) {
        let _ =
            sockopt::set_tcp_user_timeout(&self.0.fd, u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    }

    /// Bytes that have come and were not received.
    pub fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.0.fd).unwrap_or(0)
    }

    /// Waits until there is something to receive, or the connection has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn readable(&self) -> impl Future<Output = io::Result<()>> + use<> {
        self.clone().ready(libc::POLLIN | libc::POLLRDHUP)
    }

    /// Waits until the send buffer has room, or the connection has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn writable(&self) -> impl Future<Output = io::Result<()>> + use<> {
        self.clone().ready(libc::POLLOUT)
    }

    /// Receives what is there into the places of `scatter`, without waiting. 0 bytes: the peer has closed.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; else what the kernel says.
    pub async fn recv(&self, mut scatter: Scatter) -> (io::Result<usize>, Scatter) {
        let fd = types::Fd(self.0.as_raw_fd());
        let room = scatter.capacity();
        let entry = opcode::RecvMsg::new(fd, scatter.header()).flags(libc::MSG_DONTWAIT as u32).build();
        // SAFETY: the header points into buffers and leases that `scatter` owns; it and the descriptor
        // travel with the operation, and moving `scatter` moves none of them.
        let (result, (_, scatter)) =
            unsafe { submit(Kind::Recv, room, entry, (Rc::clone(&self.0), scatter)) }.await;
        (result, scatter)
    }

    /// Sends as much of `gather` as the send buffer takes, without waiting. Gives a gather to go on with: this one, or
    /// another when the kernel still reads this one. To be called by one task at a time.
    ///
    /// # Errors
    /// `WouldBlock` when there is no room; else what the kernel says.
    pub async fn send(&self, mut gather: Gather) -> (io::Result<usize>, Gather) {
        if !gather.is_memory() {
            let result = sendfile::send(&self.0.fd, &mut gather);
            gather.clear();
            // It was done at once. Others have their turn all the same, between one send and the next, the kernel among them.
            turn().await;
            return (result, gather);
        }
        let outgoing = self.0.outgoing.get().filter(|outgoing| outgoing.wants(&gather));
        let Some(outgoing) = outgoing else { return self.send_copy(gather).await };
        match outgoing.send(&self.0, gather) {
            Sent::Answered(result, gather) => {
                // As above.
                turn().await;
                (result, gather)
            }
            Sent::Refused(gather) => self.send_copy(gather).await,
        }
    }

    async fn send_copy(&self, mut gather: Gather) -> (io::Result<usize>, Gather) {
        let len = gather.len();
        let flags = (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as u32;
        let fd = types::Fd(self.0.as_raw_fd());
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
            filled += self.recv_some(&mut buffer[filled..]).await?;
        }
        Ok(())
    }

    /// Receives small bytes, at least one and as many as there are and `buffer` has room for, waiting for them: for the
    /// handshake.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closes before; else what the kernel says.
    pub async fn recv_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::net::recv(&self.0.fd, &mut *buffer, rustix::net::RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, count)) => {
                    count_handshake(0, count);
                    return Ok(count);
                }
                Err(rustix::io::Errno::AGAIN) => self.readable().await?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends all of a few bytes, waiting for room: for the handshake.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn send_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        use rustix::net::SendFlags;
        while !bytes.is_empty() {
            match rustix::net::send(&self.0.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    count_handshake(count, 0);
                    bytes = &bytes[count..];
                }
                Err(rustix::io::Errno::AGAIN) => self.writable().await?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Ends the connection in both directions; operations under way complete. What the kernel still sends from slabs
    /// keeps the descriptor open until the peer has acknowledged it; for some seconds, then the connection is reset.
    pub fn shutdown(&self) {
        // Fails only when the connection has ended already.
        let _ = rustix::net::shutdown(&self.0.fd, Shutdown::Both);
        if self.0.outgoing.get().is_some_and(Outgoing::is_under_way) && !self.0.lingers.replace(true) {
            super::spawn(self.clone().linger());
        }
    }

    /// Waits until the kernel has let go of everything.
    async fn linger(self) {
        let Some(outgoing) = self.0.outgoing.get() else { return };
        if tokio::time::timeout(LINGER_LIMIT, outgoing.landed()).await.is_err() {
            outgoing.core().count_abort();
            self.0.abort();
            outgoing.landed().await;
        }
    }

    /// The CPU that has last taken bytes of the peer from the network.
    pub fn incoming_cpu(&self) -> Option<usize> {
        sockopt::socket_incoming_cpu(&self.0.fd).ok()?.try_into().ok()
    }

    /// The connection for another core, when there is a place for one more descriptor. Both share it, so this socket must not be used
    /// any more, nor shut down.
    pub fn for_another_core(&self) -> Option<LooseSocket> {
        let place = Descriptors::of_process().sockets.try_take()?;
        Some(LooseSocket { fd: self.0.fd.try_clone().ok()?, place })
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
