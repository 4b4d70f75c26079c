//! Honest peers at a pace of their own: a block a millisecond.

use crate::common::payload::BLOCK;
use crate::common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, message, try_hear_kind,
};
use seedring::metainfo::Torrent;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const PACE: Duration = Duration::from_millis(1);
/// Requests in flight: what takes no longer than so many blocks does not slow it down.
const WINDOW: usize = 32;

/// One of them, on threads of its own.
pub(crate) struct Honest {
    shared: Arc<Shared>,
    /// Blocks that there are to move; a taker never ends.
    all: usize,
}

struct Shared {
    moved: AtomicUsize,
    /// Both sides have shaken hands.
    met: AtomicBool,
    over: AtomicBool,
}

impl Honest {
    fn new(all: usize) -> Self {
        let (moved, met, over) = (AtomicUsize::new(0), AtomicBool::new(false), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { moved, met, over }), all }
    }

    /// One that asks a seed for blocks, compares them, and asks on. Connected at once; asks when told to `go`.
    pub(crate) fn taker(addr: SocketAddr, torrent: &Torrent, payload: Vec<u8>, go: &Arc<AtomicBool>) -> Self {
        let honest = Self::new(usize::MAX);
        let mut stream = connect(addr, torrent, *b"-XX0001-honest-taker").unwrap();
        honest.shared.met.store(true, Ordering::Relaxed);
        let mut answers = stream.try_clone().unwrap();
        let blocks = torrent.layout.pieces().map(|piece| torrent.layout.nth_block(piece, 0));
        let blocks: Vec<_> = blocks.map(|block| (block.piece.get(), block.len)).collect();
        let length = torrent.layout.piece_length();
        let (shared, go) = (Arc::clone(&honest.shared), Arc::clone(go));
        thread::spawn(move || -> io::Result<()> {
            stream.write_all(&message(INTERESTED, &[], &[]))?;
            wait(&go, &shared);
            for (asked, (piece, len)) in blocks.iter().cycle().enumerate() {
                while asked >= shared.moved.load(Ordering::Relaxed) + WINDOW {
                    if shared.over.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    thread::sleep(PACE);
                }
                stream.write_all(&message(REQUEST, &[*piece, 0, *len], &[]))?;
                thread::sleep(PACE);
            }
            Ok(())
        });
        let shared = Arc::clone(&honest.shared);
        thread::spawn(move || -> io::Result<()> {
            try_hear_kind(&mut answers, UNCHOKE)?;
            loop {
                let body = try_hear_kind(&mut answers, PIECE)?;
                let piece = u32::from_be_bytes(*body.first_chunk().unwrap());
                let at = piece as usize * length as usize;
                let block = &body[8..];
                // A wrong one does not count.
                if block == &payload[at..at + block.len()] {
                    shared.moved.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        honest
    }

    /// One that has everything, and where it is. It answers what it is asked when told to `go`.
    pub(crate) fn giver(torrent: &Torrent, payload: Vec<u8>, go: &Arc<AtomicBool>) -> (Self, SocketAddr) {
        let honest = Self::new(torrent.layout.total().div_ceil(BLOCK.into()) as usize);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (shared, go, torrent) = (Arc::clone(&honest.shared), Arc::clone(go), torrent.clone());
        thread::spawn(move || -> io::Result<()> {
            let mut stream: TcpStream = accept(&listener, &torrent, *b"-XX0001-honest-giver")?;
            stream.write_all(&bitfield(&torrent, torrent.layout.piece_count()))?;
            shared.met.store(true, Ordering::Relaxed);
            wait(&go, &shared);
            stream.write_all(&message(UNCHOKE, &[], &[]))?;
            loop {
                let request = Request::hear(&mut stream)?;
                stream.write_all(&request.answer(&torrent, &payload))?;
                shared.moved.fetch_add(1, Ordering::Relaxed);
                thread::sleep(PACE);
            }
        });
        (honest, addr)
    }

    /// Whether it is connected.
    pub(crate) fn has_met(&self) -> bool {
        self.shared.met.load(Ordering::Relaxed)
    }

    /// Blocks moved so far.
    pub(crate) fn moved(&self) -> usize {
        self.shared.moved.load(Ordering::Relaxed)
    }

    /// Whether there is nothing left to move.
    pub(crate) fn is_done(&self) -> bool {
        self.moved() >= self.all
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn wait(go: &AtomicBool, shared: &Shared) {
    while !go.load(Ordering::Relaxed) && !shared.over.load(Ordering::Relaxed) {
        thread::sleep(PACE);
    }
}
