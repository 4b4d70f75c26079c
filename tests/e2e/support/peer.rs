//! Peers of our own making, on plain blocking sockets: honest, slow, or not honest at all.

use super::torrent::Torrent;
use super::wait::DEADLINE;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub(crate) const CHOKE: u8 = 0;
pub(crate) const UNCHOKE: u8 = 1;
pub(crate) const INTERESTED: u8 = 2;
pub(crate) const HAVE: u8 = 4;
pub(crate) const BITFIELD: u8 = 5;
pub(crate) const REQUEST: u8 = 6;
pub(crate) const PIECE: u8 = 7;

/// Bytes of a block.
pub(crate) const BLOCK: u32 = 16 * 1024;

/// One end of a peer connection.
pub(crate) struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out can be set");
        stream.set_nodelay(true).expect("a socket option can be set");
        Self { stream }
    }

    pub(crate) fn dial(addr: SocketAddr) -> Self {
        Self::new(TcpStream::connect(addr).expect("seedring accepts connections"))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn send_message(&mut self, id: u8, payload: &[u8]) -> io::Result<()> {
        self.send(&message(id, payload))
    }

    /// Sends our handshake and reads theirs.
    pub(crate) fn shake(&mut self, info_hash: &[u8; 20], id: &[u8; 20]) -> io::Result<[u8; 68]> {
        self.send(&handshake(info_hash, id))?;
        self.read_handshake()
    }

    pub(crate) fn read_handshake(&mut self) -> io::Result<[u8; 68]> {
        let mut theirs = [0; 68];
        self.stream.read_exact(&mut theirs)?;
        Ok(theirs)
    }

    /// The next message that is not a keep-alive.
    pub(crate) fn read_message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if length > 0 {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body)?;
                return Ok((body[0], body.split_off(1)));
            }
        }
    }

    /// Waits for a message of this kind.
    pub(crate) fn read_until(&mut self, wanted: u8) -> io::Result<Vec<u8>> {
        loop {
            let (id, payload) = self.read_message()?;
            if id == wanted {
                return Ok(payload);
            }
        }
    }

    /// Reads on until the other side closes.
    ///
    /// # Panics
    /// When it does not before the deadline.
    pub(crate) fn wait_closed(mut self) {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return,
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::ConnectionReset => return,
                Err(why) => panic!("the connection should have been closed: {why}"),
            }
        }
    }
}

pub(crate) fn handshake(info_hash: &[u8; 20], id: &[u8; 20]) -> Vec<u8> {
    [b"\x13BitTorrent protocol".as_slice(), &[0; 8], info_hash, id].concat()
}

pub(crate) fn message(id: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).expect("a small message");
    [&length.to_be_bytes(), [id].as_slice(), payload].concat()
}

/// Several numbers as the wire has them.
pub(crate) fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// The bitfield of one who has everything.
pub(crate) fn full_bitfield(pieces: u32) -> Vec<u8> {
    let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
    if let (Some(last), spare @ 1..) = (bits.last_mut(), bits_spare(pieces)) {
        *last <<= spare;
    }
    bits
}

/// Bits of the last byte of a bitfield that stand for no piece.
pub(crate) fn bits_spare(pieces: u32) -> u32 {
    (8 - pieces % 8) % 8
}

/// How a [`Seeder`] behaves.
#[derive(Clone, Copy)]
pub(crate) struct Conduct {
    /// Time taken over every block.
    pub(crate) pace: Duration,
    /// Says which pieces are served with wrong bytes.
    pub(crate) lies_about: fn(u32) -> bool,
}

impl Conduct {
    /// An honest seed that takes its time.
    pub(crate) fn honest(pace: Duration) -> Self {
        Self { pace, lies_about: |_| false }
    }
}

/// A seed made by hand, which remembers what it was asked for. Stops when dropped.
pub(crate) struct Seeder {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    torrent: Torrent,
    conduct: Conduct,
    /// Piece and offset of every block served.
    served: Mutex<Vec<(u32, u32)>>,
    streams: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl Seeder {
    pub(crate) fn start(torrent: &Torrent, ip: Ipv4Addr, conduct: Conduct) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a loopback address can be bound");
        let addr = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared {
            torrent: torrent.clone(),
            conduct,
            served: Mutex::default(),
            streams: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || of_thread.accept(&listener));
        Self { addr, shared }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.shared.streams.lock().expect("no holder panics").len()
    }

    /// Number of blocks served so far, since the last [`Seeder::take_served`].
    pub(crate) fn served(&self) -> usize {
        self.shared.served.lock().expect("no holder panics").len()
    }

    /// Piece and offset of every block served since the last call.
    pub(crate) fn take_served(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut *self.shared.served.lock().expect("no holder panics"))
    }
}

impl Drop for Seeder {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.addr);
        for stream in self.shared.streams.lock().iter().flat_map(|streams| streams.iter()) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            if self.over.load(Ordering::Acquire) {
                return;
            }
            let copy = stream.try_clone().expect("a socket can be doubled");
            self.streams.lock().expect("no holder panics").push(copy);
            let this = Arc::clone(&self);
            // The other side may leave at any time.
            thread::spawn(move || drop(this.serve(Wire::new(stream))));
        }
    }

    fn serve(&self, mut wire: Wire) -> io::Result<()> {
        let id = format!("-XX0001-{:012}", fastrand::u32(..));
        wire.shake(&self.torrent.info_hash, id.as_bytes().try_into().expect("20 bytes"))?;
        wire.send_message(BITFIELD, &full_bitfield(self.torrent.pieces()))?;
        wire.send_message(UNCHOKE, &[])?;
        loop {
            let request = wire.read_until(REQUEST)?;
            let field = |at: usize| u32::from_be_bytes(request[at..at + 4].try_into().expect("4 bytes"));
            let (piece, begin, len) = (field(0), field(4), field(8));
            let mut data = self.torrent.read(piece, begin, len);
            if (self.conduct.lies_about)(piece) {
                data[0] ^= 0x55;
            }
            thread::sleep(self.conduct.pace);
            self.served.lock().expect("no holder panics").push((piece, begin));
            wire.send_message(PIECE, &[numbers(&[piece, begin]), data].concat())?;
        }
    }
}
