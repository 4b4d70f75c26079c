//! The program against peers that mean harm: raw sockets that say what no honest client says.
#![allow(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use seedring::metainfo::Torrent;
use seedring::session::{CreateOptions, create};

const BLOCK: u32 = 16 * 1024;

/// A torrent of what lies at `data`, written beside it.
fn torrent_of(data: &Path, piece_length: u32) -> (std::path::PathBuf, Torrent) {
    let options = CreateOptions { piece_length: Some(piece_length), ..CreateOptions::default() };
    let (bytes, torrent) = create(data, &options, 2, |_, _| {}).unwrap();
    let path = data.with_extension("torrent");
    std::fs::write(&path, bytes).unwrap();
    (path, torrent)
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(7).fill(&mut bytes);
    bytes
}

/// The program at work; killed when dropped.
struct Program {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Program {
    fn start(command: &str, torrent: &Path, folder: &Path, more: &[&str], descriptors: Option<u64>) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_seedring"));
        program.args([command, "--json", "--listen", "127.0.0.1:0"]).args(more);
        program.arg(torrent).arg("-d").arg(folder).stdout(Stdio::piped());
        let limit = move || {
            let Some(most) = descriptors else { return Ok(()) };
            let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
            // SAFETY: a plain system call with a value that outlives it.
            match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: `limit` only makes a system call, which is allowed between fork and exec.
        let mut child = unsafe { program.pre_exec(limit) }.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Reads on until an event of that kind.
    fn until(&mut self, event: &str) -> serde_json::Value {
        let wanted = |line: &serde_json::Value| line["event"] == event;
        let mut parsed = self.lines.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap());
        parsed.find(wanted).unwrap_or_else(|| panic!("it ended without `{event}`"))
    }

    fn address(&mut self) -> SocketAddr {
        self.until("listening")["addr"].as_str().unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(id: u8, numbers: &[u32], body: &[u8]) -> Vec<u8> {
    let len = 1 + 4 * numbers.len() as u32 + body.len() as u32;
    let mut bytes = [&len.to_be_bytes()[..], &[id]].concat();
    numbers.iter().for_each(|number| bytes.extend(number.to_be_bytes()));
    bytes.extend(body);
    bytes
}

fn handshake(torrent: &Torrent, number: u8) -> Vec<u8> {
    [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &torrent.info_hash.0[..], &[number; 20]].concat()
}

/// A connection whose handshake is done.
fn connect(addr: SocketAddr, torrent: &Torrent, number: u8) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(8)))?;
    stream.write_all(&handshake(torrent, number))?;
    stream.read_exact(&mut [0; 68])?;
    Ok(stream)
}

/// The next message: its kind and what it says.
fn hear(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len).unwrap();
        let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut bytes).unwrap();
        if let Some((id, rest)) = bytes.split_first() {
            return (*id, rest.to_vec());
        }
    }
}

fn hear_kind(stream: &mut TcpStream, kind: u8) -> Vec<u8> {
    loop {
        let (id, body) = hear(stream);
        if id == kind {
            return body;
        }
    }
}

/// One file of that many bytes, its torrent, in a folder.
fn one_file(len: usize, piece_length: u32) -> (tempfile::TempDir, std::path::PathBuf, Torrent) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("payload");
    std::fs::write(&data, noise(len)).unwrap();
    let (path, torrent) = torrent_of(&data, piece_length);
    (folder, path, torrent)
}

#[test]
fn messages_may_be_cut_anywhere() {
    let (folder, path, torrent) = one_file(100_000, 2 * BLOCK);
    let mut seeder = Program::start("seed", &path, folder.path(), &[], None);
    let mut peer = connect(seeder.address(), &torrent, 1).unwrap();
    peer.write_all(&message(2, &[], &[])).unwrap();
    hear_kind(&mut peer, 1);
    let request = message(6, &[1, 5, 1000], &[]);
    for cut in 1..request.len() {
        peer.write_all(&request[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        peer.write_all(&request[cut..]).unwrap();
        let body = hear_kind(&mut peer, 7);
        let at = 2 * BLOCK as usize + 5;
        assert_eq!(body[8..], noise(100_000)[at..at + 1000], "cut after {cut} bytes");
    }
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let mut seeder = Program::start("seed", &path, folder.path(), &[], None);
    let addr = seeder.address();
    let silent: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(addr).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let mut honest = connect(addr, &torrent, 1).unwrap();
    assert_eq!(hear(&mut honest), (5, vec![0x80]));
    drop(silent);
}

#[test]
fn cancels_by_the_million_stop_nobody() {
    let (folder, path, torrent) = one_file(4 << 20, BLOCK * 16);
    let mut seeder = Program::start("seed", &path, folder.path(), &[], None);
    let addr = seeder.address();
    let mut liar = connect(addr, &torrent, 1).unwrap();
    liar.write_all(&message(2, &[], &[])).unwrap();
    hear_kind(&mut liar, 1);
    // It reads nothing, so that its requests wait.
    (0..3000u32).for_each(|n| liar.write_all(&message(6, &[n % 16, 0, BLOCK], &[])).unwrap());
    let cancels = message(8, &[3, 1, 1], &[]).repeat(1000);
    let began = Instant::now();
    (0..3000).for_each(|_| liar.write_all(&cancels).unwrap());
    let mut honest = connect(addr, &torrent, 2).unwrap();
    honest.write_all(&message(2, &[], &[])).unwrap();
    hear_kind(&mut honest, 1);
    honest.write_all(&message(6, &[15, 0, BLOCK], &[])).unwrap();
    hear_kind(&mut honest, 7);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A peer that has everything: it answers what it is asked, when it is honest, else it only says that it is alive.
fn giver(torrent: &Torrent, number: u8, payload: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let hello = handshake(torrent, number);
    let piece_length = torrent.layout.piece_length() as usize;
    let full = vec![0xff; torrent.layout.piece_count() as usize / 8];
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        // The honest one comes last.
        std::thread::sleep(Duration::from_millis(if payload.is_some() { 500 } else { 0 }));
        stream.write_all(&[hello, message(5, &[], &full), message(1, &[], &[])].concat()).unwrap();
        while let Some(payload) = &payload {
            let body = hear_kind(&mut stream, 6);
            let number = |at: usize| u32::from_be_bytes(*body[at..].first_chunk().unwrap());
            let at = number(0) as usize * piece_length + number(4) as usize;
            let block = &payload[at..at + number(8) as usize];
            stream.write_all(&message(7, &[number(0), number(4)], block)).unwrap();
        }
        while stream.write_all(&[0; 4]).is_ok() {
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    addr
}

#[test]
fn peers_that_never_answer_cannot_hold_the_last_blocks() {
    let len = 8 * 16 * BLOCK as usize;
    let (folder, path, torrent) = one_file(len, 16 * BLOCK);
    let liars = [1, 2, 3].map(|number| giver(&torrent, number, None));
    let honest = giver(&torrent, 9, Some(noise(len)));
    let peers: Vec<String> = liars.iter().chain([&honest]).map(|addr| format!("--peer={addr}")).collect();
    let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
    let target = folder.path().join("copy");
    let began = Instant::now();
    let mut leecher = Program::start("download", &path, &target, &peers, None);
    leecher.until("completed");
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(std::fs::read(target.join("payload")).unwrap(), noise(len));
}

#[test]
fn a_piece_of_many_files_needs_few_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("many");
    std::fs::create_dir(&data).unwrap();
    (0..300).for_each(|n| std::fs::write(data.join(n.to_string()), n.to_string()).unwrap());
    let (path, _) = torrent_of(&data, 1 << 20);
    let mut seeder = Program::start("seed", &path, folder.path(), &[], Some(64));
    let peer = format!("--peer={}", seeder.address());
    let target = folder.path().join("copy");
    let mut leecher = Program::start("download", &path, &target, &[&peer], Some(64));
    leecher.until("completed");
    (0..300).for_each(|n| {
        let copy = std::fs::read_to_string(target.join("many").join(n.to_string()));
        assert_eq!(copy.unwrap(), n.to_string());
    });
}
