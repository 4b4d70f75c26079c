//! How exact the limits of bytes a second are, with real sockets on one core and on several: what goes in each of eight
//! seconds, and in all of them, compared with what the limit gives in the same time.
//!
//! What goes up is counted by the peers that get it. What comes down is what peers have sent, without what waits in the kernel
//! on both sides until the program takes it: that is as much as the kernel likes, and comes and goes in large steps.

#![allow(unsafe_code)]

mod common;

use common::payload::{BLOCK, noise, one_file};
use common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, hear_kind, message,
    try_hear_kind,
};
use common::program::{Program, client};
use seedring::metainfo::Torrent;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Peers that take, and that give: some for each core.
const TAKERS: u8 = 8;
const GIVERS: u8 = 4;
/// Bytes sent at a time: no more are under way uncounted.
const PART: usize = 2048;
/// Bytes before a block.
const HEAD: usize = 13;
/// Windows of a measurement, how many of them may be off, and how far.
const WINDOWS: usize = 8;
const SPOILED: usize = 2;
const MOST_OFF: f64 = 0.5;
const WINDOW: Duration = Duration::from_secs(1);
/// Measurements that a busy machine may spoil: it does not let the program or its peers run. A limit that is not exact
/// spoils all.
const TRIES: usize = 3;

/// Payload bytes that peers have seen.
type Counter = Arc<AtomicU64>;

/// A few measurements at a time: all of them would take the processors from each other.
struct Turn;

static TURNS: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

fn turn() -> Turn {
    let (free, changed) = &TURNS;
    let free = free.lock().unwrap();
    *changed.wait_while(free, |free| *free == 0).unwrap() -= 1;
    Turn
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TURNS.0.lock().unwrap() += 1;
        TURNS.1.notify_one();
    }
}

/// Asks for the first block of one of so many pieces after the other, a few at a time, as long as the connection is up.
fn take(addr: SocketAddr, torrent: &Torrent, number: u8, pieces: u32, counter: &Counter) {
    let (torrent, counter) = (torrent.clone(), Arc::clone(counter));
    thread::spawn(move || -> io::Result<()> {
        let mut stream = connect(addr, &torrent, [number; 20])?;
        stream.set_read_timeout(None)?;
        stream.write_all(&message(INTERESTED, &[], &[]))?;
        try_hear_kind(&mut stream, UNCHOKE)?;
        let mut chance = fastrand::Rng::with_seed(number.into());
        let mut request = || message(REQUEST, &[chance.u32(..pieces), 0, BLOCK], &[]);
        (0..8).try_for_each(|_| stream.write_all(&request()))?;
        // Bytes, not blocks: those of all peers come in step.
        let (mut bytes, mut missing) = (vec![0; BLOCK as usize], HEAD + BLOCK as usize);
        loop {
            let count = stream.read(&mut bytes[..missing.min(BLOCK as usize)])?;
            if count == 0 {
                return Ok(());
            }
            counter.fetch_add(count as u64, Ordering::Relaxed);
            missing -= count;
            if missing == 0 {
                stream.write_all(&request())?;
                missing = HEAD + BLOCK as usize;
            }
        }
    });
}

/// Has connections of a listener send small segments: of large ones the kernel acknowledges several at once, some time after
/// they came, and until then they wait on both sides.
fn send_small_segments(listener: &TcpListener) {
    let len: libc::c_int = 1400;
    // SAFETY: the kernel reads an integer that outlives the call.
    let result = unsafe {
        let (len, size) = ((&raw const len).cast(), size_of_val(&len) as libc::socklen_t);
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG, len, size)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// Listeners of ports that follow each other: each core dials as many of them.
fn listeners() -> Vec<TcpListener> {
    let local = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let row = || {
        let first = local(0)?;
        let port = first.local_addr()?.port();
        let rest = (1..GIVERS).map(|next| local(port.saturating_add(next.into())));
        std::iter::once(Ok(first)).chain(rest).collect::<io::Result<Vec<TcpListener>>>()
    };
    (0..100).find_map(|_| row().ok()).expect("ports that follow each other")
}

/// How a peer gives.
#[derive(Clone, Default)]
struct Manner {
    /// From then on.
    start: Option<Arc<Barrier>>,
    /// With such a pause after every part.
    pause: Option<Duration>,
}

/// A peer that has everything and answers. Gives its address.
fn give(
    torrent: &Torrent,
    payload: &Arc<Vec<u8>>,
    listener: TcpListener,
    counter: &Counter,
    Manner { start, pause }: Manner,
) -> SocketAddr {
    send_small_segments(&listener);
    let addr = listener.local_addr().unwrap();
    let (torrent, payload, counter) = (torrent.clone(), Arc::clone(payload), Arc::clone(counter));
    thread::spawn(move || -> io::Result<()> {
        let mut stream = accept(&listener, &torrent, [addr.port() as u8; 20])?;
        stream.set_read_timeout(None)?;
        stream.write_all(&bitfield(&torrent, torrent.layout.piece_count()))?;
        start.inspect(|start| _ = start.wait());
        stream.write_all(&message(UNCHOKE, &[], &[]))?;
        loop {
            let answer = Request::hear(&mut stream)?.answer(&torrent, &payload);
            for part in answer.chunks(PART) {
                stream.write_all(part)?;
                counter.fetch_add(part.len() as u64, Ordering::Relaxed);
                pause.inspect(|pause| thread::sleep(*pause));
            }
        }
    });
    addr
}

/// Bytes that wait in the kernel: sent from these ports and not received by this host's other end, and received there and not
/// read.
fn waiting(ports: &[u16]) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let waiting = table.lines().skip(1).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = |word: &str| u16::from_str_radix(word.rsplit(':').next().unwrap(), 16).unwrap();
        let (sent, received) = words[4].split_once(':').unwrap();
        let bytes = |word| u64::from_str_radix(word, 16).unwrap();
        match (words[3], ports.contains(&port(words[1])), ports.contains(&port(words[2]))) {
            // Of a listener the numbers are other ones.
            ("0A", ..) | (_, false, false) => 0,
            (_, true, _) => bytes(sent),
            (_, false, true) => bytes(received),
        }
    });
    waiting.sum()
}

/// What went in each window, and in all, as shares of what the limit gives.
#[derive(Debug)]
struct Shares {
    windows: Vec<f64>,
    whole: f64,
}

impl Shares {
    /// Whether the windows are exact within so much, most of them, and their median and the whole within less.
    fn are_exact(&self, within: f64) -> bool {
        let is_near = |share: f64, within: f64| (share - 1.0).abs() <= within;
        let off = self.windows.iter().filter(|share| !is_near(**share, within)).count();
        let none_far_off = self.windows.iter().all(|share| is_near(*share, MOST_OFF));
        let mut sorted = self.windows.clone();
        sorted.sort_by(f64::total_cmp);
        none_far_off && off <= SPOILED && is_near(sorted[WINDOWS / 2], 0.05) && is_near(self.whole, 0.03)
    }
}

/// Watches a count that can be read at any time.
fn watch(limit: u64, read: impl Fn() -> u64) -> Shares {
    let look = || (Instant::now(), read());
    let mut seen = vec![look()];
    for _ in 0..WINDOWS {
        thread::sleep(WINDOW);
        seen.push(look());
    }
    let rate = |from: (Instant, u64), to: (Instant, u64)| {
        (to.1 as f64 - from.1 as f64) / (to.0 - from.0).as_secs_f64() / limit as f64
    };
    let windows = seen.windows(2).map(|pair| rate(pair[0], pair[1]));
    Shares { windows: windows.collect(), whole: rate(seen[0], seen[WINDOWS]) }
}

/// Sees to it that a limit is exact in one measurement or another.
fn is_exact(within: f64, measure: impl Fn() -> Shares) {
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        let shares = measure();
        println!("{shares:?}");
        if shares.are_exact(within) {
            return;
        }
        seen.push(shares);
    }
    panic!("shares of the limit that went: {seen:#?}");
}

/// What is new has its own pace: connections are made, the first requests cross.
fn wait_for(counter: &Counter, bytes: u64) {
    while counter.load(Ordering::Relaxed) < bytes {
        thread::sleep(Duration::from_millis(10));
    }
}

fn an_upload_limit_is_exact(cores: usize, limit: u64) {
    an_upload_is_exact(cores, limit, &[format!("--upload-limit={limit}")], 256 * 1024);
}

/// A seed whose link is full has those wait who ask for what others have been given: not when nobody else takes what is left.
fn an_upload_limit_is_exact_when_few_want_what_is_new(cores: usize, limit: u64) {
    an_upload_is_exact(cores, limit, &[format!("--upload-limit={limit}")], BLOCK);
}

/// Of the program's limit and the torrent's own, the lower.
fn the_lower_upload_limit_is_exact(cores: usize, limit: u64) {
    let own = format!("--torrent-upload-limit={limit}");
    an_upload_is_exact(cores, limit, &[own, format!("--upload-limit={}", 2 * limit)], 256 * 1024);
}

/// Of pieces of so many bytes, of which each taker asks for one or another.
fn an_upload_is_exact(cores: usize, limit: u64, limits: &[String], piece: u32) {
    let _turn = turn();
    let (folder, path, torrent) = one_file(3 << 20, piece);
    let pieces = torrent.layout.piece_count();
    let cores = cores.to_string();
    let mut options = vec!["--cores", &cores];
    options.extend(limits.iter().map(String::as_str));
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
    let (addr, counter) = (seeder.address(), Counter::default());
    let began = Instant::now();
    (0..TAKERS).for_each(|number| take(addr, &torrent, number, pieces, &counter));
    wait_for(&counter, limit);
    is_exact(0.05, || watch(limit, || counter.load(Ordering::Relaxed)));
    is_within(limit, began, counter.load(Ordering::Relaxed));
}

fn a_download_limit_is_exact(cores: usize, limit: u64) {
    a_download_is_exact(cores, limit, 0, &[format!("--download-limit={limit}")]);
}

fn the_lower_download_limit_is_exact(cores: usize, limit: u64) {
    let own = format!("--torrent-download-limit={limit}");
    a_download_is_exact(cores, limit, 0, &[own, format!("--download-limit={}", 2 * limit)]);
}

/// Of slow peers little comes at a time: they leave the rest to others.
fn a_download_limit_is_exact_beside_slow_peers(cores: usize, limit: u64) {
    a_download_is_exact(cores, limit, 24, &[format!("--download-limit={limit}")]);
}

fn a_download_is_exact(cores: usize, limit: u64, slow: usize, limits: &[String]) {
    let _turn = turn();
    let len = limit as usize * (3 + TRIES * (WINDOWS + 2));
    let (folder, path, torrent) = one_file(len, 256 * 1024);
    let (payload, counter) = (Arc::new(noise(len)), Counter::default());
    let give = |listener, manner| give(&torrent, &payload, listener, &counter, manner);
    let mut addrs: Vec<SocketAddr> =
        listeners().into_iter().map(|one| give(one, Manner::default())).collect();
    let drip = Manner { start: None, pause: Some(Duration::from_millis(200)) };
    let listener = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    addrs.extend((0..slow).map(|_| give(listener(), drip.clone())));
    let peers: Vec<String> = addrs.iter().map(|addr| format!("--peer={addr}")).collect();
    let ports: Vec<u16> = addrs.iter().map(SocketAddr::port).collect();
    let cores = cores.to_string();
    let mut options = vec!["--cores", &cores];
    options.extend(limits.iter().chain(&peers).map(String::as_str));
    let _leech = Program::start(&mut client("download", &path, &folder.path().join("copy"), &options));
    wait_for(&counter, 2 * limit);
    // The table of what waits is no snapshot: bytes that move while it is made are there twice, or not at all.
    is_exact(0.1, || watch(limit, || counter.load(Ordering::Relaxed).saturating_sub(waiting(&ports))));
}

/// What passed since a moment is not more than the limit lets pass. Whoever is late has less: this holds on any machine.
fn is_within(limit: u64, began: Instant, bytes: u64) {
    let time = began.elapsed() + Duration::from_millis(50);
    assert!(bytes as f64 <= 1.05 * limit as f64 * time.as_secs_f64(), "{bytes} bytes in {time:?}");
}

/// Many who were served and then wanted nothing for a while, when they all want as much as they can get.
#[test]
fn whoever_pauses_saves_nothing_up() {
    let _turn = turn();
    let (limit, takers) = (4 << 20, 30);
    let (folder, path, torrent) = one_file(4 << 20, 256 * 1024);
    let options = ["--cores", "2", "--upload-limit", &limit.to_string()];
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
    let (addr, counter) = (seeder.address(), Counter::default());
    let mut streams: Vec<TcpStream> = (0..takers)
        .map(|number| {
            let mut stream = connect(addr, &torrent, [number; 20]).unwrap();
            stream.write_all(&message(INTERESTED, &[], &[])).unwrap();
            hear_kind(&mut stream, UNCHOKE);
            stream
        })
        .collect();
    let request = message(REQUEST, &[0, 0, BLOCK], &[]);
    for stream in &mut streams {
        stream.write_all(&request).unwrap();
        hear_kind(stream, PIECE);
    }
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    for mut stream in streams {
        stream.write_all(&request.repeat(40)).unwrap();
        let counter = Arc::clone(&counter);
        stream.set_read_timeout(None).unwrap();
        thread::spawn(move || {
            let mut bytes = vec![0; BLOCK as usize];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                counter.fetch_add(count as u64, Ordering::Relaxed);
            }
        });
    }
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        is_within(limit, began, counter.load(Ordering::Relaxed));
    }
    let bytes = counter.load(Ordering::Relaxed);
    assert!(bytes > limit, "{bytes} in two seconds");
}

/// Many who begin to send in the same moment.
#[test]
fn whoever_begins_gets_no_more_than_its_share() {
    let _turn = turn();
    let (limit, givers): (u64, u32) = (4 << 20, 40);
    let len = limit as usize * 12;
    let (folder, path, torrent) = one_file(len, 256 * 1024);
    let (payload, counter) = (Arc::new(noise(len)), Counter::default());
    let start = Arc::new(Barrier::new(givers as usize + 1));
    let manner = Manner { start: Some(Arc::clone(&start)), pause: None };
    let addrs: Vec<SocketAddr> = (0..givers)
        .map(|_| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            give(&torrent, &payload, listener, &counter, manner.clone())
        })
        .collect();
    let peers: Vec<String> = addrs.iter().map(|addr| format!("--peer={addr}")).collect();
    let ports: Vec<u16> = addrs.iter().map(SocketAddr::port).collect();
    let limit_option = format!("--download-limit={limit}");
    let mut options = vec![&*limit_option, "--cores", "2"];
    options.extend(peers.iter().map(String::as_str));
    let _leech = Program::start(&mut client("download", &path, &folder.path().join("copy"), &options));
    start.wait();
    let began = Instant::now();
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(200));
        // While the table of what waits is made, bytes move on.
        let waiting = waiting(&ports) + u64::from(givers) * PART as u64;
        is_within(limit, began, counter.load(Ordering::Relaxed).saturating_sub(waiting));
    }
    let bytes = counter.load(Ordering::Relaxed);
    assert!(bytes > limit, "{bytes} in two seconds");
}

macro_rules! limits {
    ($($name:ident: $which:ident, $cores:expr, $mib:expr;)*) => {
        $(
            #[test]
            fn $name() {
                $which($cores, $mib << 20);
            }
        )*
    };
}

limits! {
    upload_on_one_core: an_upload_limit_is_exact, 1, 6;
    upload_on_two_cores: an_upload_limit_is_exact, 2, 1;
    upload_on_four_cores: an_upload_limit_is_exact, 4, 1;
    upload_on_four_cores_at_a_higher_rate: an_upload_limit_is_exact, 4, 6;
    upload_on_two_cores_by_the_torrents_own_limit: the_lower_upload_limit_is_exact, 2, 1;
    upload_on_one_core_when_few_want_what_is_new: an_upload_limit_is_exact_when_few_want_what_is_new, 1, 1;
    download_on_one_core: a_download_limit_is_exact, 1, 4;
    download_on_two_cores: a_download_limit_is_exact, 2, 6;
    download_on_four_cores: a_download_limit_is_exact, 4, 4;
    download_on_two_cores_by_the_torrents_own_limit: the_lower_download_limit_is_exact, 2, 4;
    download_beside_slow_peers: a_download_limit_is_exact_beside_slow_peers, 1, 1;
}
