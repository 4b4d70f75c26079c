//! Peers on raw sockets.

use super::DEADLINE;
use seedring::metainfo::Torrent;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Less than the program waits for a handshake: who gets no answer for others that say nothing, finds out.
const PATIENCE: Duration = Duration::from_secs(8);

/// Connects from an address of this host that may be nobody else's. Programs that are started meanwhile do not inherit it.
pub(crate) fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&fd, &SocketAddr::new(from.into(), 0))?;
    rustix::net::connect(&fd, &to)?;
    Ok(fd.into())
}

pub(crate) const UNCHOKE: u8 = 1;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const HAVE: u8 = 4;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;

/// A message as it goes over the wire.
pub(crate) fn message(id: u8, numbers: &[u32], body: &[u8]) -> Vec<u8> {
    let len = 1 + 4 * numbers.len() as u32 + body.len() as u32;
    let mut bytes = [&len.to_be_bytes()[..], &[id]].concat();
    numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.extend(body);
    bytes
}

/// A handshake of a peer that calls itself so.
pub(crate) fn handshake(torrent: &Torrent, id: [u8; 20]) -> Vec<u8> {
    [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &torrent.info_hash.0[..], &id].concat()
}

/// The bitfield of a peer that has the first so many pieces.
pub(crate) fn bitfield(torrent: &Torrent, pieces: u32) -> Vec<u8> {
    let mut bits = vec![0; torrent.layout.piece_count().div_ceil(8) as usize];
    (0..pieces as usize).for_each(|piece| bits[piece / 8] |= 0x80 >> (piece % 8));
    message(BITFIELD, &[], &bits)
}

/// A connection whose handshake is done.
pub(crate) fn connect(addr: SocketAddr, torrent: &Torrent, id: [u8; 20]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Who is dropped while its window is closed may learn of it after a minute only, when the kernel has forgotten the other end.
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&handshake(torrent, id))?;
    stream.read_exact(&mut [0; 68])?;
    Ok(stream)
}

/// Waits for the program to dial; does the handshake.
pub(crate) fn accept(listener: &TcpListener, torrent: &Torrent, id: [u8; 20]) -> io::Result<TcpStream> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.read_exact(&mut [0; 68])?;
    stream.write_all(&handshake(torrent, id))?;
    Ok(stream)
}

/// Two ports that follow each other: of two cores, each dials one.
pub(crate) fn listener_pair() -> [TcpListener; 2] {
    loop {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let next = first.local_addr().unwrap().port().checked_add(1);
        if let Some(Ok(second)) = next.map(|next| TcpListener::bind((Ipv4Addr::LOCALHOST, next))) {
            return [first, second];
        }
    }
}

/// The next message: its kind and what it says.
pub(crate) fn try_hear(stream: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut bytes)?;
        if let Some((id, rest)) = bytes.split_first() {
            return Ok((*id, rest.to_vec()));
        }
    }
}

/// What the next message of a kind says.
pub(crate) fn try_hear_kind(stream: &mut TcpStream, kind: u8) -> io::Result<Vec<u8>> {
    loop {
        let (id, body) = try_hear(stream)?;
        if id == kind {
            return Ok(body);
        }
    }
}

/// The next message; the connection must be up.
pub(crate) fn hear(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    try_hear(stream).unwrap()
}

/// What the next message of a kind says; the connection must be up.
pub(crate) fn hear_kind(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    try_hear_kind(stream, kind).unwrap()
}

/// A request that the program has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) piece: u32,
    pub(crate) begin: u32,
    len: u32,
}

impl Request {
    /// Waits for one.
    pub(crate) fn hear(stream: &mut TcpStream) -> io::Result<Self> {
        let body = try_hear_kind(stream, REQUEST)?;
        Ok(Self::read(REQUEST, &body).unwrap())
    }

    /// What a message says, if it is a request.
    pub(crate) fn read(kind: u8, body: &[u8]) -> Option<Self> {
        let number = |at: usize| u32::from_be_bytes(*body[at..].first_chunk().unwrap());
        (kind == REQUEST).then(|| Self { piece: number(0), begin: number(4), len: number(8) })
    }

    /// The answer, out of all bytes of the torrent.
    pub(crate) fn answer(self, torrent: &Torrent, payload: &[u8]) -> Vec<u8> {
        let at = self.piece as usize * torrent.layout.piece_length() as usize + self.begin as usize;
        message(PIECE, &[self.piece, self.begin], &payload[at..at + self.len as usize])
    }
}
