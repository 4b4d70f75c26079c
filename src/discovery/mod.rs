//! Who is out there: ways to learn the addresses of a torrent's peers.
//!
//! Runs on the control thread, a plain tokio runtime. [`tracker`] asks trackers over HTTP, HTTPS and UDP, [`local`] those
//! on the same network; [`dht`] needs neither.

use crate::wire::Home;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpSocket, TcpStream};

pub mod dht;
pub mod local;
pub mod names;
pub mod tracker;

/// Connects to an address from where others are to look for us.
///
/// # Errors
/// What the kernel says.
pub async fn dial(home: Home, addr: SocketAddr) -> io::Result<TcpStream> {
    let Some(ours) = home.towards(addr) else { return TcpStream::connect(addr).await };
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(ours)?;
    socket.connect(addr).await
}
