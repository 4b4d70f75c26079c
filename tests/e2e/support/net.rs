//! Addresses, ports, and as much HTTP as the drivers need.

use super::wait::DEADLINE;
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{LazyLock, Mutex};

/// An address of this machine that is not loopback. Transmission never dials 127.0.0.0/8, so whoever it is to find
/// through a tracker must announce itself from here.
pub(crate) fn host() -> Ipv4Addr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    // Connecting a datagram socket only looks up the route; nothing is sent.
    let routed = socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).and_then(|()| socket.local_addr());
    match routed.map(|addr| addr.ip()) {
        Ok(IpAddr::V4(ip)) if !ip.is_loopback() => ip,
        other => {
            panic!("this machine needs an address besides loopback, Transmission dials no other: {other:?}")
        }
    }
}

/// A loopback address that no other client of the tests has.
///
/// Transmission knows one peer an address, and a tracker names the asking client itself among the peers: with an
/// address of its own it does not take the others for itself.
pub(crate) fn own_loopback() -> Ipv4Addr {
    static COUNT: AtomicU8 = AtomicU8::new(1);
    Ipv4Addr::new(127, 0, 1, COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A port that is free for TCP and UDP and that no other test was given.
///
/// It lies below the range from which the kernel takes ports for outgoing connections; one picked by binding port 0
/// could be taken again between the picking and the use.
pub(crate) fn free_port() -> u16 {
    static TAKEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);
    let mut taken = TAKEN.lock().expect("no test panics with the ports in hand");
    loop {
        let port = fastrand::u16(12_000..32_000);
        let all = (Ipv4Addr::UNSPECIFIED, port);
        if !taken.contains(&port) && TcpListener::bind(all).is_ok() && UdpSocket::bind(all).is_ok() {
            taken.insert(port);
            return port;
        }
    }
}

/// Sends one HTTP request and reads the answer to its end: the head, and the body after it.
pub(crate) fn http(addr: SocketAddr, request: &str) -> io::Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    split_http(answer)
}

/// The head of an answer, and the body after it.
pub(crate) fn split_http(mut answer: Vec<u8>) -> io::Result<(String, Vec<u8>)> {
    let end = answer.windows(4).position(|at| at == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = answer.split_off(end + 4);
    Ok((String::from_utf8_lossy(&answer).into_owned(), body))
}
