//! Sockets that never wait, and epoll.

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);
/// Events taken at once.
const EVENTS: usize = 256;

/// Where connection `number` comes from: an address of its own, so that clients that take few connections from one
/// address take them all.
pub(super) fn source(number: usize) -> Ipv4Addr {
    following(Ipv4Addr::new(127, 0, 0, 2), number)
}

fn following(first: Ipv4Addr, number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(first.to_bits().wrapping_add(number as u32))
}

fn socket(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(rustix::net::socket_with(family, SocketType::STREAM, FLAGS, None)?)
}

/// Begins to connect.
pub(super) fn dial(number: usize, to: SocketAddr) -> io::Result<OwnedFd> {
    let fd = socket(to)?;
    if matches!(to.ip(), IpAddr::V4(ip) if ip.is_loopback()) {
        rustix::net::bind(&fd, &SocketAddr::new(source(number).into(), 0))?;
    }
    sockopt::set_tcp_nodelay(&fd, true)?;
    match rustix::net::connect(&fd, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(error) => Err(error.into()),
    }
}

/// What came of connecting.
pub(super) fn outcome(fd: &OwnedFd) -> io::Result<()> {
    sockopt::socket_error(fd)??;
    Ok(())
}

/// Listens at `count` addresses from `first` on, all with the same port.
pub(super) fn listen(first: SocketAddr, count: usize) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
    let mut port = first.port();
    let mut listeners = Vec::with_capacity(count);
    for number in 0..count {
        let ip = match first.ip() {
            IpAddr::V4(ip) => following(ip, number).into(),
            IpAddr::V6(ip) => std::net::Ipv6Addr::from_bits(ip.to_bits().wrapping_add(number as u128)).into(),
        };
        let fd = socket(first)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        rustix::net::bind(&fd, &SocketAddr::new(ip, port))?;
        rustix::net::listen(&fd, 128)?;
        let addr = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
        port = addr.port();
        listeners.push((addr, fd));
    }
    Ok(listeners)
}

/// A connection that waits to be taken; `None` when there is none.
pub(super) fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    match rustix::net::accept_with(listener, FLAGS) {
        Ok(fd) => {
            sockopt::set_tcp_nodelay(&fd, true)?;
            Ok(Some(fd))
        }
        Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Receives what is there; `None` when nothing is, 0 when the other side has closed.
pub(super) fn recv(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT) {
        Ok((_, count)) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends what there is room for; `None` when there is none.
pub(super) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<Option<usize>> {
    match rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a descriptor has become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    /// Whose it is.
    pub(super) token: u64,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other side will send no more.
    pub(super) hung_up: bool,
}

/// An epoll instance. Connections are told of once a change, listeners as long as somebody waits.
pub(super) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS) })
    }

    pub(super) fn add_connection(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        use epoll::EventFlags as Flags;
        let flags = Flags::IN | Flags::OUT | Flags::RDHUP | Flags::ET;
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)?)
    }

    pub(super) fn add_listener(&self, fd: impl AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// Waits at most so long for something to happen.
    pub(super) fn wait(&mut self, limit: Duration) -> io::Result<impl Iterator<Item = Ready> + '_> {
        use epoll::EventFlags as Flags;
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&limit)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.events.iter().map(|event| {
            let flags = event.flags;
            let hung_up = flags.intersects(Flags::RDHUP | Flags::HUP | Flags::ERR);
            Ready {
                token: event.data.u64(),
                readable: flags.contains(Flags::IN) || hung_up,
                writable: flags.contains(Flags::OUT),
                hung_up,
            }
        }))
    }
}
