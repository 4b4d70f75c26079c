//! Requests as no client of ours would make them: again, within one another, of any length, in any order. Each is answered with
//! the bytes it asks for. And answers as no seed of ours would give them, or two of them.

use crate::common::{self, DEADLINE};

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, one_file};
use crate::common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, hear_kind, message,
};
use crate::common::program::{Program, client};
use seedring::metainfo::Torrent;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Requests that are under way together, and how often so many are made.
const PIPELINE: usize = 100;
const ROUNDS: usize = 40;

/// What is asked for: often near to what was asked for last.
fn order(rng: &mut fastrand::Rng, pieces: u32, piece_len: u32) -> Vec<[u32; 3]> {
    let mut last = [0, 0, BLOCK];
    let next = |_| {
        let [piece, begin, _] = last;
        last = match rng.u8(..6) {
            0 => last,
            1 => [piece, begin + rng.u32(..100).min(piece_len - 1 - begin), 50],
            2 => [piece, (begin + BLOCK) % piece_len, BLOCK],
            3 => [piece, rng.u32(..piece_len), rng.u32(1..=BLOCK)],
            _ => [rng.u32(..pieces), rng.u32(..piece_len / BLOCK) * BLOCK, BLOCK],
        };
        last[2] = last[2].min(piece_len - last[1]);
        last
    };
    (0..PIPELINE).map(next).collect()
}

/// Asks and checks that each request is answered once: in their order, unless `any_order`.
fn ask(stream: &mut TcpStream, payload: &[u8], piece_len: u32, rng: &mut fastrand::Rng, any_order: bool) {
    let pieces = payload.len() as u32 / piece_len;
    for _ in 0..ROUNDS {
        let asked = order(rng, pieces, piece_len);
        stream
            .write_all(&asked.iter().flat_map(|numbers| message(REQUEST, numbers, &[])).collect::<Vec<_>>())
            .unwrap();
        let mut open = asked.clone();
        while !open.is_empty() {
            let answer = hear_kind(stream, PIECE);
            let number = |at: usize| u32::from_be_bytes(answer[at..at + 4].try_into().unwrap());
            let block = [number(0), number(4), answer.len() as u32 - 8];
            let most = if any_order { open.len() } else { 1 };
            let at = open[..most].iter().position(|numbers| *numbers == block);
            open.remove(at.unwrap_or_else(|| panic!("{block:?} for {open:?} of {asked:?}")));
            let start = (block[0] * piece_len + block[1]) as usize;
            assert!(answer[8..] == payload[start..start + block[2] as usize], "wrong bytes for {block:?}");
        }
    }
}

/// Has the kernel forget what it has of the files.
fn leave_page_cache(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = fs::File::open(entry.unwrap().path()).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}

/// From the page cache, or from memory of our own, into which it is read when the page cache has nothing. By an upload limit, what
/// nobody has comes first.
fn whatever_is_asked_for(more: &[&str], from_page_cache: bool) {
    let piece_len = 32 * BLOCK;
    let (folder, path, torrent) = one_file(24 << 20, piece_len);
    let payload = noise(24 << 20);
    let any_order = more.contains(&"--upload-limit");
    let more = [&["--metrics", "127.0.0.1:0"], more].concat();
    let mut seed = Program::start(&mut client("seed", &path, folder.path(), &more));
    let figures = seed.metrics_address();
    let addr = seed.address();
    if !from_page_cache {
        leave_page_cache(folder.path());
    }
    std::thread::scope(|scope| {
        for peer in 0..4 {
            let (torrent, payload) = (&torrent, &payload);
            scope.spawn(move || {
                let mut stream = connect(addr, torrent, [peer; 20]).unwrap();
                // With less the window may stay below a segment of the loopback device, which the kernel then sends by its
                // timer only, five times a second.
                rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 1 << 20).unwrap();
                stream.write_all(&message(INTERESTED, &[], &[])).unwrap();
                hear_kind(&mut stream, UNCHOKE);
                ask(&mut stream, payload, piece_len, &mut fastrand::Rng::with_seed(peer.into()), any_order);
            });
        }
    });
    common::until(|| {
        let page = Samples::fetch(figures);
        let hits = page.sum("seedring_page_cache_hits_total", &[]);
        let sent = page.sum("seedring_uploaded_bytes_total", &[]);
        let read = page.sum("seedring_disk_read_bytes_total", &[]) > payload.len() as u64;
        if sent > 0 && (if from_page_cache { hits > 0 } else { read }) {
            Ok(())
        } else {
            Err(format!("{sent} sent, {hits} hits"))
        }
    });
}

#[test]
fn whatever_is_asked_for_comes_from_the_page_cache() {
    whatever_is_asked_for(&["--cores", "2"], true);
}

#[test]
fn whatever_is_asked_for_comes_from_little_memory() {
    whatever_is_asked_for(&["--cores", "1", "--memory-limit", "8M"], true);
    whatever_is_asked_for(&["--cores", "1", "--memory-limit", "8M"], false);
}

#[test]
fn whatever_is_asked_for_comes_in_little_sends() {
    whatever_is_asked_for(&["--cores", "1", "--upload-limit", "40M"], true);
}

#[test]
fn whatever_is_asked_for_comes_without_a_copy() {
    whatever_is_asked_for(&["--cores", "1", "--zero-copy-send", "on"], true);
    whatever_is_asked_for(&["--cores", "1", "--zero-copy-send", "on", "--memory-limit", "8M"], true);
    whatever_is_asked_for(&["--cores", "1", "--zero-copy-send", "on", "--memory-limit", "8M"], false);
}

/// What the end of the program finds on its way to a peer is the peer's all the same, copied or not, and is told of as sent.
#[test]
fn what_is_on_its_way_at_the_end_arrives() {
    let (folder, path, torrent) = one_file(8 << 20, 32 * BLOCK);
    for zero_copy in ["off", "on"] {
        let more = ["--cores", "1", "--zero-copy-send", zero_copy, "--metrics", "127.0.0.1:0"];
        let mut seed = Program::start(&mut client("seed", &path, folder.path(), &more));
        let figures = seed.metrics_address();
        let mut stream = connect(seed.address(), &torrent, [1; 20]).unwrap();
        rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 1 << 18).unwrap();
        stream.write_all(&message(INTERESTED, &[], &[])).unwrap();
        hear_kind(&mut stream, UNCHOKE);
        let ask = |stream: &mut TcpStream, blocks: std::ops::Range<u32>| {
            let requests =
                blocks.map(|block| message(REQUEST, &[block / 32, block % 32 * BLOCK, BLOCK], &[]));
            stream.write_all(&requests.collect::<Vec<_>>().concat()).unwrap();
        };
        // Much is on its way to a peer that has been fast for a while; then it reads nothing, and its buffers are full.
        let (begun, mut read) = (Instant::now(), 0);
        loop {
            ask(&mut stream, 0..100);
            (0..100).for_each(|_| read += hear_kind(&mut stream, PIECE).len() as u64 - 8);
            if begun.elapsed() < Duration::from_secs(3) {
                continue;
            }
            ask(&mut stream, 100..300);
            // The figures are up to a second old.
            sleep(Duration::from_millis(2500));
            let sent = Samples::fetch(figures).sum("seedring_uploaded_bytes_total", &[]);
            if sent >= read + 700_000 {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{sent} bytes sent, {read} read");
            (100..300).for_each(|_| read += hear_kind(&mut stream, PIECE).len() as u64 - 8);
        }
        seed.interrupt();
        sleep(Duration::from_millis(200));
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap_or_else(|error| panic!("{zero_copy}: {error}"));
        let sent = seed.until("stopped")["uploaded"].as_u64().unwrap();
        assert!(rest.len() as u64 >= sent - read, "{zero_copy}: {} bytes of {sent}", rest.len());
        assert!(seed.wait().success());
    }
}

/// Payload among the messages of a seed, the last of which may be cut.
fn payload_in(mut stream: &[u8]) -> u64 {
    let mut payload = 0;
    while stream.len() > 4 {
        let (len, rest) = stream.split_at(4);
        let len = u32::from_be_bytes(len.try_into().unwrap()) as usize;
        let (message, rest) = rest.split_at(len.min(rest.len()));
        if message.first() == Some(&PIECE) {
            payload += message.len().saturating_sub(9) as u64;
        }
        stream = rest;
    }
    payload
}

/// A peer that hangs up while it is being sent something gets what was on its way, with or without a copy, and that is told of as
/// sent.
#[test]
fn what_goes_to_a_peer_that_hangs_up_is_counted() {
    const PEERS: u8 = 100;
    let (folder, path, torrent) = one_file(1 << 20, 32 * BLOCK);
    for zero_copy in ["off", "on"] {
        let more = ["--cores", "1", "--zero-copy-send", zero_copy];
        let mut seed = Program::start(&mut client("seed", &path, folder.path(), &more));
        let (addr, mut read) = (seed.address(), 0);
        for peer in 0..PEERS {
            let mut stream = connect(addr, &torrent, [peer; 20]).unwrap();
            stream.write_all(&message(INTERESTED, &[], &[])).unwrap();
            hear_kind(&mut stream, UNCHOKE);
            let blocks = (0..64).flat_map(|at| message(REQUEST, &[at / 32, at % 32 * BLOCK, BLOCK], &[]));
            stream.write_all(&blocks.collect::<Vec<u8>>()).unwrap();
            sleep(Duration::from_micros(10 * u64::from(peer)));
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            read += payload_in(&rest);
        }
        assert!(read > 0, "{zero_copy}: nobody got anything");
        seed.interrupt();
        let sent = seed.until("stopped")["uploaded"].as_u64().unwrap();
        assert_eq!(sent, read, "{zero_copy}");
        assert!(seed.wait().success());
    }
}

/// What it says fills as many bytes as the head of a block, and more: it is no block all the same.
#[test]
fn a_seed_that_answers_out_of_order_and_talks_in_between_is_kept() {
    const CANCEL: u8 = 8;
    let (origin, path, torrent) = one_file(1 << 20, 16 * BLOCK);
    let payload = noise(1 << 20);
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let seed = listener.local_addr().unwrap().to_string();
    let mut leech =
        Program::start(&mut client("download", &path, folder.path(), &["--peer", &seed, "--cores", "1"]));
    let mut stream = giver(&listener, &torrent, [7; 20]);
    let mut queue: Vec<Request> = Vec::new();
    for answer in 0..payload.len() as u32 / BLOCK {
        while queue.len() < 2 && answer + (queue.len() as u32) < payload.len() as u32 / BLOCK {
            queue.push(Request::hear(&mut stream).unwrap());
        }
        // Now and then the second one first.
        let request = queue.remove(usize::from(answer.is_multiple_of(8)).min(queue.len() - 1));
        stream.write_all(&message(CANCEL, &[0, 0, BLOCK], &[])).unwrap();
        sleep(Duration::from_millis(2));
        stream.write_all(&request.answer(&torrent, &payload)).unwrap();
        sleep(Duration::from_millis(2));
    }
    let completed = leech.until("completed");
    assert_eq!(completed["downloaded"], payload.len(), "{completed}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was never dialled again");
    drop(origin);
}

/// A seed that has everything and does not choke.
fn giver(listener: &TcpListener, torrent: &Torrent, id: [u8; 20]) -> TcpStream {
    let mut stream = accept(listener, torrent, id).unwrap();
    stream.write_all(&bitfield(torrent, torrent.layout.piece_count())).unwrap();
    stream.write_all(&message(UNCHOKE, &[], &[])).unwrap();
    stream
}

/// What a seed is slow to send another is asked for, too. It comes into its place all the same, also the block that the slow one
/// is in the middle of.
#[test]
fn what_two_are_asked_for_is_not_copied() {
    let (origin, path, torrent) = one_file(1 << 20, 16 * BLOCK);
    let payload = noise(1 << 20);
    let folder = tempfile::tempdir().unwrap();
    let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [first, second] = [0, 1].map(|at: usize| format!("--peer={}", listeners[at].local_addr().unwrap()));
    let [slow, fast] = listeners;
    let more = [&first, &second, "--cores=1"];
    let mut leech = Program::start(&mut client("download", &path, folder.path(), &more));
    let mut lame = giver(&slow, &torrent, [1; 20]);
    let answers: Vec<Vec<u8>> =
        (0..4).map(|_| Request::hear(&mut lame).unwrap().answer(&torrent, &payload)).collect();
    lame.write_all(&[&answers[0][..], &answers[1][..5000]].concat()).unwrap();
    let mut other = giver(&fast, &torrent, [2; 20]);
    let mut asked = 0;
    while let Ok(request) = Request::hear(&mut other) {
        asked += 1;
        let _ = other.write_all(&request.answer(&torrent, &payload));
    }
    let completed = leech.until("completed");
    assert_eq!(asked, payload.len() / BLOCK as usize - 1, "all but one block");
    assert_eq!((&completed["moved"], &completed["wasted"]), (&0.into(), &0.into()), "{completed}");
    assert!(fs::read(folder.path().join("payload")).unwrap() == payload);
    drop(origin);
}

/// What the kernel holds for who takes nothing it gives up then, and with it the connection.
#[test]
fn who_takes_nothing_has_five_minutes() {
    let (folder, path, torrent) = one_file(BLOCK as usize, BLOCK);
    let mut seed = Program::start(&mut client("seed", &path, folder.path(), &[]));
    let mut peer = connect(seed.address(), &torrent, [1; 20]).unwrap();
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    let limit = rustix::net::sockopt::tcp_user_timeout(seed.end_of(&peer)).unwrap();
    assert_eq!(Duration::from_millis(limit.into()), Duration::from_secs(300));
}
