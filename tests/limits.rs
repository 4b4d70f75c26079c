//! How exact the limits of bytes a second are, with real sockets on several cores: bytes counted by the other side, and
//! compared with what the limit gives in the same time.

mod common;

use common::payload::{BLOCK, noise, one_file};
use common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, message, try_hear_kind,
};
use common::program::{Program, client};
use seedring::metainfo::Torrent;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: u64 = 2 << 20;
/// Peers: some for each core.
const PEERS: u8 = 8;
const WINDOW: Duration = Duration::from_secs(5);
/// Windows that a busy machine may spoil.
const TRIES: usize = 8;

/// Payload bytes that peers have seen.
type Counter = Arc<AtomicU64>;

/// Asks for one block after the other, a few at a time, as long as the connection is up.
fn take(addr: SocketAddr, torrent: &Torrent, number: u8, counter: &Counter) {
    let (torrent, counter) = (torrent.clone(), Arc::clone(counter));
    thread::spawn(move || -> io::Result<()> {
        let mut stream = connect(addr, &torrent, [number; 20])?;
        stream.set_read_timeout(None)?;
        stream.write_all(&message(INTERESTED, &[], &[]))?;
        try_hear_kind(&mut stream, UNCHOKE)?;
        let request = message(REQUEST, &[0, 0, BLOCK], &[]);
        stream.write_all(&request.repeat(8))?;
        loop {
            let block = try_hear_kind(&mut stream, PIECE)?.len() as u64 - 8;
            counter.fetch_add(block, Ordering::Relaxed);
            stream.write_all(&request)?;
        }
    });
}

/// A peer that has everything and answers at once.
fn give(torrent: &Torrent, payload: &Arc<Vec<u8>>, number: u8, counter: &Counter) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (torrent, payload, counter) = (torrent.clone(), Arc::clone(payload), Arc::clone(counter));
    thread::spawn(move || -> io::Result<()> {
        let mut stream = accept(&listener, &torrent, [number; 20])?;
        stream.set_read_timeout(None)?;
        let all = bitfield(&torrent, torrent.layout.piece_count());
        stream.write_all(&[all, message(UNCHOKE, &[], &[])].concat())?;
        loop {
            let answer = Request::hear(&mut stream)?.answer(&torrent, &payload);
            stream.write_all(&answer)?;
            counter.fetch_add(answer.len() as u64 - 13, Ordering::Relaxed);
        }
    });
    addr
}

/// Sees to it that the bytes of a window are those of the limit, to a twentieth.
///
/// Not in every window: a machine that does not let the program or its peers run spoils some. A limit that is not exact
/// spoils all.
fn is_exact(counter: &Counter) {
    // What is new has its own pace: connections are made, the first requests cross.
    while counter.load(Ordering::Relaxed) < 2 * LIMIT {
        thread::sleep(Duration::from_millis(10));
    }
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let (began, before) = (Instant::now(), counter.load(Ordering::Relaxed));
        thread::sleep(WINDOW);
        let (bytes, time) = (counter.load(Ordering::Relaxed) - before, began.elapsed());
        let share = bytes as f64 / (LIMIT as f64 * time.as_secs_f64());
        seen.push(share);
        if (0.95..=1.05).contains(&share) {
            return;
        }
    }
    panic!("shares of the limit that went: {seen:?}");
}

#[test]
fn an_upload_limit_is_exact_over_all_cores() {
    let (folder, path, torrent) = one_file(4 << 20, 256 * 1024);
    let options = ["--upload-limit", "2M", "--cores", "4"];
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
    let (addr, counter) = (seeder.address(), Counter::default());
    let began = Instant::now();
    (0..PEERS).for_each(|number| take(addr, &torrent, number, &counter));
    is_exact(&counter);
    // Whoever is late has less: this holds at any time, on any machine.
    let (bytes, time) = (counter.load(Ordering::Relaxed), began.elapsed() + Duration::from_millis(50));
    assert!(bytes as f64 <= 1.05 * LIMIT as f64 * time.as_secs_f64(), "{bytes} bytes in {time:?}");
}

#[test]
fn a_download_limit_is_exact_over_all_cores() {
    let len = 120 << 20;
    let (folder, path, torrent) = one_file(len, 256 * 1024);
    let (payload, counter) = (Arc::new(noise(len)), Counter::default());
    let peers = (0..PEERS).map(|number| format!("--peer={}", give(&torrent, &payload, number, &counter)));
    let peers: Vec<String> = peers.collect();
    let mut options = vec!["--download-limit", "2M", "--cores", "4"];
    options.extend(peers.iter().map(String::as_str));
    let _leech = Program::start(&mut client("download", &path, &folder.path().join("copy"), &options));
    is_exact(&counter);
}
