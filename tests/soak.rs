//! Peers that come and go by the hundred, in the middle of anything, while honest ones are served: nothing of them is
//! left behind, and nobody else notices.

mod common;

use common::metrics::Samples;
use common::payload::{BLOCK, noise, one_file};
use common::peer::{
    INTERESTED, Request, UNCHOKE, accept, bitfield, connect, connect_from, handshake, message, try_hear_kind,
};
use common::program::{Descriptors, Program, client, load};
use common::{DEADLINE, until};
use rustix::net::sockopt::set_socket_linger;
use seedring::metainfo::Torrent;
use seedring::wire::mse::{Initiator, Methods, Randomness, Step};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const CORES: [&str; 4] = ["--cores", "2", "--metrics", "127.0.0.1:0"];
/// Peers that come and go, and how many of them are there at a time.
const PASSERS: usize = 1000;
const AT_A_TIME: usize = 16;
/// How fast they come and go at the least; by themselves they do so many times as fast.
const LEAST_A_MINUTE: f64 = 1000.0;
/// How long one that waits for an answer waits: it may have come in vain.
const PATIENCE: Duration = Duration::from_millis(300);

/// Set where neither its pace nor its memory is the program's own: under the address sanitizer.
const AT_ANY_COST: &str = "SOAK_AT_ANY_COST";

/// What the program holds because of its peers.
#[derive(Debug, PartialEq)]
struct Held {
    peers: u64,
    tasks: Vec<u64>,
    sockets: Vec<u64>,
    /// Slabs that are not free nor merely cached.
    slabs: u64,
    /// But those of the torrent's file, which stay.
    descriptors: Descriptors,
}

impl Held {
    fn by(program: &Program, metrics: SocketAddr) -> Self {
        let page = Samples::fetch(metrics);
        let slabs = |state: &str| page.sum("seedring_slabs", &[&format!("state=\"{state}\"")]);
        let open = program.descriptors();
        assert!(open.payload <= 2 * 2, "of one file, on two cores: {open:?}");
        Self {
            peers: page.sum("seedring_peers", &[]),
            tasks: page.by_core("seedring_tasks", &[]),
            sockets: page.by_core("seedring_sockets", &[]),
            slabs: slabs("held") + slabs("sent") + page.sum("seedring_zero_copy_slabs", &[]),
            descriptors: Descriptors { payload: 0, ..open },
        }
    }

    /// Waits until nobody is there, and no socket beyond the `idle` ones that were there before anybody came: the
    /// page is up to a second old, and may still show the time before; so it does when a core has no task of its own yet.
    fn by_none(program: &Program, metrics: SocketAddr, idle: usize) -> Self {
        until(|| {
            let held = Self::by(program, metrics);
            let none = held.peers == 0 && held.sockets == [0, 0] && held.slabs == 0;
            let none = none && held.tasks.iter().all(|tasks| *tasks > 0);
            if none && held.descriptors.sockets == idle {
                Ok(held)
            } else {
                Err(format!("{held:?}, {idle} sockets when idle"))
            }
        })
    }

    /// Waits until the program holds what it held before, and nothing else.
    fn assert_back(&self, program: &Program, metrics: SocketAddr) {
        until(|| {
            let held = Self::by(program, metrics);
            if held == *self { Ok(()) } else { Err(format!("{held:?}, before: {self:?}")) }
        });
    }
}

/// Lets go of a connection in one of the ways that there are.
fn vanish(mut stream: TcpStream, rng: &mut fastrand::Rng) {
    match rng.u8(..4) {
        0 => set_socket_linger(&stream, Some(Duration::ZERO)).unwrap(),
        1 => {
            // Goes on reading for a while.
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 1000]);
        }
        2 => _ = stream.shutdown(Shutdown::Both),
        _ => {}
    }
}

fn random_id(rng: &mut fastrand::Rng) -> [u8; 20] {
    std::array::from_fn(|_| rng.u8(..))
}

/// Has many peers pass by, several at a time. What is given is what one does until it vanishes; whatever happens to it
/// meanwhile is well. Gives how often it got to its end.
fn pass_by(peers: usize, visit: impl Fn(&mut fastrand::Rng) -> io::Result<TcpStream> + Sync) -> usize {
    let (next, done, begun) = (AtomicUsize::new(0), AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= peers {
                        break;
                    }
                    let mut rng = fastrand::Rng::with_seed(number as u64);
                    if let Ok(stream) = visit(&mut rng) {
                        vanish(stream, &mut rng);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let a_minute = peers as f64 / begun.elapsed().as_secs_f64() * 60.0;
    println!("{a_minute:.0} peers a minute came and went");
    assert!(
        a_minute >= LEAST_A_MINUTE || std::env::var_os(AT_ANY_COST).is_some(),
        "{a_minute:.0} peers a minute are no soak"
    );
    done.into_inner()
}

/// A peer of a seed, until it vanishes at some point.
fn visit_seed(addr: SocketAddr, torrent: &Torrent, rng: &mut fastrand::Rng) -> io::Result<TcpStream> {
    let id = random_id(rng);
    let point = rng.u8(..6);
    if point < 2 {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Nothing, or a part of the handshake.
        let said = if point == 0 { 0 } else { rng.usize(1..68) };
        stream.write_all(&handshake(torrent, id)[..said])?;
        return Ok(stream);
    }
    let mut stream = connect(addr, torrent, id)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    if point == 2 {
        return Ok(stream);
    }
    stream.write_all(&message(INTERESTED, &[], &[]))?;
    if point == 3 {
        return Ok(stream);
    }
    try_hear_kind(&mut stream, UNCHOKE)?;
    let blocks = torrent.layout.piece_length() / BLOCK;
    for _ in 0..rng.u32(1..100) {
        let piece = rng.u32(..torrent.layout.piece_count());
        stream.write_all(&message(6, &[piece, rng.u32(..blocks) * BLOCK, BLOCK], &[]))?;
    }
    if point == 5 {
        // So far into the answers, which is most likely in the middle of a block.
        stream.read_exact(&mut vec![0; rng.usize(1..200_000)])?;
    }
    Ok(stream)
}

/// A seed under load from honest peers while others pass by.
fn seed_passed_by(zero_copy: &str) {
    let (folder, path, torrent) = one_file(16 << 20, 16 * BLOCK);
    let more = [&CORES[..], &["--zero-copy-send", zero_copy, "--memory-limit", "32M"]].concat();
    let mut seed = Program::start(&mut client("seed", &path, folder.path(), &more));
    let metrics = seed.metrics_address();
    let addr = seed.address();
    let idle = seed.descriptors().sockets;
    // Once through all of it: what is opened once and for all is.
    let once = Program::start(&mut load("download", &path, folder.path(), addr, &[])).until("load");
    assert_eq!(once["ok"], true, "{once}");
    let before = Held::by_none(&seed, metrics, idle);

    let over = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                take_honestly(&path, folder.path(), addr);
            }
        });
        let _end = End { over: &over, addrs: &[] };
        pass_by(PASSERS, |rng| visit_seed(addr, &torrent, rng))
    });
    assert!(done > PASSERS / 2, "{done} peers got as far as they wanted");
    before.assert_back(&seed, metrics);
    assert_within_limit(&seed);
    let page = Samples::fetch(metrics);
    let sends = page.sum("seedring_zero_copy_sends_total", &[]);
    assert_eq!(sends > 0, zero_copy == "on", "{sends} sends without a copy");
    assert_eq!(page.sum("seedring_zero_copy_events_total", &["event=\"leaked\""]), 0);
}

/// Sixteen peers that take what they get, and all of it is right.
fn take_honestly(torrent: &Path, folder: &Path, addr: SocketAddr) {
    let more = ["--bytes-per-connection", "1T", "--seconds", "3"];
    let summary = Program::start(&mut load("download", torrent, folder, addr, &more)).until("load");
    for (figure, value) in
        [("bad_blocks", 0), ("unexpected_blocks", 0), ("closed_early", 0), ("connected", 16)]
    {
        assert_eq!(summary[figure], value, "{figure}: {summary}");
    }
    assert_eq!(summary["ok"], true, "{summary}");
}

/// Of a program with `--memory-limit 32M`, unless [`AT_ANY_COST`] is set.
fn assert_within_limit(program: &Program) {
    let peak = program.peak_memory() >> 20;
    if std::env::var_os(AT_ANY_COST).is_some() {
        return println!("{peak} MiB at the most");
    }
    assert!(peak <= 32 + 64, "{peak} MiB at the most");
}

#[test]
fn of_peers_that_pass_by_a_seed_nothing_is_left() {
    seed_passed_by("off");
}

#[test]
fn of_peers_that_pass_by_nothing_is_left_when_they_are_sent_to_without_a_copy() {
    seed_passed_by("on");
}

/// A peer of a seed that hides what it says, until it vanishes at some point of the handshake.
fn visit_in_hiding(addr: SocketAddr, torrent: &Torrent, rng: &mut fastrand::Rng) -> io::Result<TcpStream> {
    // Of one address, only so many encrypted handshakes are taken.
    let from = Ipv4Addr::new(127, 8, rng.u8(..), rng.u8(1..255));
    let mut stream = connect_from(from, addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let random = Randomness {
        key: random_id(rng),
        first_pad: vec![0x11; rng.usize(..=512)],
        second_pad: vec![0x22; rng.usize(..=512)],
    };
    let methods = Methods { plaintext: rng.bool(), rc4: true };
    let (mut out, initial) = (Vec::new(), handshake(torrent, random_id(rng)));
    let mut end = Initiator::new(random, methods, torrent.info_hash, initial, &mut out);
    let point = rng.u8(..5);
    if point == 0 {
        stream.write_all(&out[..rng.usize(..=out.len())])?;
        return Ok(stream);
    }
    stream.write_all(&out)?;
    if point == 1 {
        return Ok(stream);
    }
    out.clear();
    while out.is_empty() {
        let mut heard = [0; 700];
        let len = stream.read(&mut heard)?;
        match end.receive(&heard[..len], &mut out).map_err(io::Error::other)? {
            Step::More(_) if len == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            Step::More(more) => end = more,
            Step::Done(_) => return Err(io::Error::other("it is done too soon")),
        }
    }
    let said = if point == 2 { rng.usize(..out.len()) } else { out.len() };
    stream.write_all(&out[..said])?;
    if point == 4 {
        // The answer, or a part of it.
        let _ = stream.read(&mut vec![0; rng.usize(1..700)])?;
    }
    Ok(stream)
}

#[test]
fn of_peers_that_pass_by_a_seed_in_hiding_nothing_is_left() {
    let (folder, path, torrent) = one_file(1 << 20, 16 * BLOCK);
    let more = ["--cores", "2", "--metrics", "127.0.0.1:0"];
    let mut seed = Program::start(&mut client("seed", &path, folder.path(), &more));
    let metrics = seed.metrics_address();
    let addr = seed.address();
    let before = Held::by_none(&seed, metrics, seed.descriptors().sockets);
    let done = pass_by(PASSERS / 2, |rng| visit_in_hiding(addr, &torrent, rng));
    assert!(done > PASSERS / 4, "{done} peers got as far as they wanted");
    before.assert_back(&seed, metrics);
    // Who stays is served as ever.
    let target = folder.path().join("copy");
    let addr = addr.to_string();
    let honest = ["--encryption", "required", "--peer", &addr];
    let mut honest = Program::start(&mut client("download", &path, &target, &honest));
    assert_eq!(honest.until("completed")["downloaded"], 1 << 20);
}

/// A seed that has the first so many pieces, until it vanishes at some point, most likely in the middle of a block.
fn let_down(
    mut stream: TcpStream,
    pieces: u32,
    (torrent, payload): (&Torrent, &[u8]),
    rng: &mut fastrand::Rng,
) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&bitfield(torrent, pieces))?;
    stream.write_all(&message(UNCHOKE, &[], &[]))?;
    for _ in 0..rng.u8(..4) {
        let request = Request::hear(&mut stream)?;
        stream.write_all(&request.answer(torrent, payload))?;
    }
    let last = Request::hear(&mut stream)?.answer(torrent, payload);
    stream.write_all(&last[..rng.usize(..last.len())])?;
    Ok(stream)
}

/// A seed that has everything and is slow until it is told to hurry. It goes when it has answered so many requests, or when
/// the program has it go; says why. It waits for longer than a disk that stands still for a while has the program silent.
fn slow_seed(
    mut stream: TcpStream,
    (torrent, payload): (&Torrent, &[u8]),
    most: usize,
    hurry: &AtomicBool,
) -> io::Error {
    let mut serve = || {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(&bitfield(torrent, torrent.layout.piece_count()))?;
        stream.write_all(&message(UNCHOKE, &[], &[]))?;
        for _ in 0..most {
            let request = Request::hear(&mut stream)?;
            if !hurry.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
            stream.write_all(&request.answer(torrent, payload))?;
        }
        Err(io::Error::other(GOES))
    };
    serve().unwrap_or_else(|why| why)
}

/// What a slow seed says that goes by itself.
const GOES: &str = "it has answered enough";

#[test]
fn of_seeds_that_pass_by_a_downloader_nothing_is_left() {
    let len = 64 << 20;
    let (folder, path, torrent) = one_file(len, 16 * BLOCK);
    let payload = noise(len);
    let target = folder.path().join("copy");
    let more = [&CORES[..], &["--seed", "--memory-limit", "32M"]].concat();
    let mut program = Program::start(&mut client("download", &path, &target, &more));
    let metrics = program.metrics_address();
    let addr = program.address();
    let before = Held::by_none(&program, metrics, program.descriptors().sockets);

    let (hurry, all) = (AtomicBool::new(false), (&torrent, &payload[..]));
    let slow = connect(addr, &torrent, [9; 20]).unwrap();
    let (done, completed) = thread::scope(|scope| {
        let slow = scope.spawn(|| slow_seed(slow, all, usize::MAX, &hurry));
        // Of what they have the slow one brings little meanwhile.
        let half = torrent.layout.piece_count() / 2;
        let done = pass_by(PASSERS, |rng| let_down(connect(addr, &torrent, random_id(rng))?, half, all, rng));
        hurry.store(true, Ordering::Relaxed);
        let completed = program.until("completed");
        println!("the slow seed has ended: {}", slow.join().unwrap());
        (done, completed)
    });
    println!("{done} were asked for something");
    assert_eq!(completed["downloaded"], len);
    assert!(std::fs::read(target.join("payload")).unwrap() == payload);
    assert!(done > PASSERS / 2, "{done} were asked for something before they vanished");
    before.assert_back(&program, metrics);
    assert_within_limit(&program);
}

/// Hosts whose seeds vanish again and again, and how often they do so before the others hurry.
const HOSTS: u8 = 48;
const VANISHINGS: usize = 250;

/// Ends the wait of those who are to be dialled, also when the test fails.
struct End<'a> {
    over: &'a AtomicBool,
    addrs: &'a [SocketAddr],
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.addrs.iter().for_each(|addr| drop(TcpStream::connect(addr)));
    }
}

/// Seeds that we dial, and that vanish each time; but for one, which goes once, and is dialled again.
#[test]
fn of_seeds_that_vanish_when_they_are_dialled_nothing_is_left() {
    let len = 64 << 20;
    let (folder, path, torrent) = one_file(len, 16 * BLOCK);
    let payload = noise(len);
    let target = folder.path().join("copy");
    let more = [&CORES[..], &["--seed", "--memory-limit", "32M"]].concat();
    // What a program holds that has nobody to dial.
    let before = {
        let mut idle = Program::start(&mut client("download", &path, &target, &more));
        let metrics = idle.metrics_address();
        idle.address();
        Held::by_none(&idle, metrics, idle.descriptors().sockets)
    };

    let listen = |ip| TcpListener::bind((ip, 0)).unwrap();
    let slow = listen(Ipv4Addr::LOCALHOST);
    let passers: Vec<TcpListener> = (1..=HOSTS).map(|host| listen(Ipv4Addr::new(127, 9, host, 1))).collect();
    let addrs: Vec<SocketAddr> =
        passers.iter().chain([&slow]).map(|listener| listener.local_addr().unwrap()).collect();
    let peers: Vec<String> = addrs.iter().map(|addr| format!("--peer={addr}")).collect();
    let more: Vec<&str> = more.into_iter().chain(peers.iter().map(String::as_str)).collect();
    let mut program = Program::start(&mut client("download", &path, &target, &more));
    let metrics = program.metrics_address();

    let (hurry, over, done) = (AtomicBool::new(false), AtomicBool::new(false), AtomicUsize::new(0));
    let (all, pieces) = ((&torrent, &payload[..]), torrent.layout.piece_count());
    let ends = thread::scope(|scope| {
        for (host, listener) in passers.iter().enumerate() {
            let (hurry, over, done, torrent) = (&hurry, &over, &done, &torrent);
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(host as u64);
                while !over.load(Ordering::Relaxed) {
                    let stream = accept(listener, torrent, random_id(&mut rng));
                    if let Ok(stream) = stream.and_then(|stream| let_down(stream, pieces, all, &mut rng)) {
                        vanish(stream, &mut rng);
                        let vanished = done.fetch_add(1, Ordering::Relaxed) + 1;
                        hurry.fetch_or(vanished >= VANISHINGS, Ordering::Relaxed);
                    }
                }
            });
        }
        let slow = scope.spawn(|| {
            let mut ends = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let most = if ends.is_empty() { 300 } else { usize::MAX };
                let stream = accept(&slow, &torrent, [9; 20]);
                ends.extend(stream.map(|stream| slow_seed(stream, all, most, &hurry).to_string()));
            }
            ends
        });
        let end = End { over: &over, addrs: &addrs };
        assert_eq!(program.until("completed")["downloaded"], len);
        drop(end);
        slow.join().unwrap()
    });
    println!("{} have vanished; the slow one's connections: {ends:?}", done.load(Ordering::Relaxed));
    assert!(std::fs::read(target.join("payload")).unwrap() == payload);
    assert!(done.into_inner() >= VANISHINGS, "they vanish until the others hurry");
    assert!(
        ends.len() == 2 && ends[0] == GOES,
        "it is dialled again, and stays until all is there: {ends:?}"
    );
    before.assert_back(&program, metrics);
}
