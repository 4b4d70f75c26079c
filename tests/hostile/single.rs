//! Cases that stand for themselves.

use crate::common::payload::{BLOCK, noise, one_file, torrent_of};
use crate::common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, connect_from, handshake, hear,
    hear_kind, message,
};
use crate::common::program::{Program, client, load, with_descriptors};
use seedring::metainfo::Torrent;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::process::Stdio;
use std::time::{Duration, Instant};

fn seed(torrent: &Path, folder: &Path) -> Program {
    Program::start(&mut client("seed", torrent, folder, &[]))
}

#[test]
fn messages_may_be_cut_anywhere() {
    let (folder, path, torrent) = one_file(100_000, 2 * BLOCK);
    let mut seeder = seed(&path, folder.path());
    let mut peer = connect(seeder.address(), &torrent, [1; 20]).unwrap();
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    let request = message(REQUEST, &[1, 5, 1000], &[]);
    for cut in 1..request.len() {
        peer.write_all(&request[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        peer.write_all(&request[cut..]).unwrap();
        let body = hear_kind(&mut peer, PIECE);
        let at = 2 * BLOCK as usize + 5;
        assert_eq!(body[8..], noise(100_000)[at..at + 1000], "cut after {cut} bytes");
    }
}

#[test]
fn those_who_say_nothing_keep_nobody_out() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let mut seeder = seed(&path, folder.path());
    let addr = seeder.address();
    let silent: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(addr).unwrap()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let mut honest = connect(addr, &torrent, [1; 20]).unwrap();
    assert_eq!(hear(&mut honest), (5, vec![0x80]));
    drop(silent);
}

#[test]
fn cancels_by_the_million_stop_nobody() {
    let (folder, path, torrent) = one_file(4 << 20, BLOCK * 16);
    let mut seeder = seed(&path, folder.path());
    let addr = seeder.address();
    let mut liar = connect(addr, &torrent, [1; 20]).unwrap();
    liar.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut liar, UNCHOKE);
    // It reads nothing, so that its requests wait.
    (0..3000u32).for_each(|n| liar.write_all(&message(REQUEST, &[n % 16, 0, BLOCK], &[])).unwrap());
    let cancels = message(8, &[3, 1, 1], &[]).repeat(1000);
    let began = Instant::now();
    (0..3000).for_each(|_| liar.write_all(&cancels).unwrap());
    let mut honest = connect(addr, &torrent, [2; 20]).unwrap();
    honest.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut honest, UNCHOKE);
    honest.write_all(&message(REQUEST, &[15, 0, BLOCK], &[])).unwrap();
    hear_kind(&mut honest, PIECE);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A peer that has everything: it answers what it is asked, when it is honest, else it only says that it is alive.
fn giver(torrent: &Torrent, number: u8, payload: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let torrent = torrent.clone();
    std::thread::spawn(move || {
        let mut stream = accept(&listener, &torrent, [number; 20]).unwrap();
        // The honest one comes last.
        std::thread::sleep(Duration::from_millis(if payload.is_some() { 500 } else { 0 }));
        let all = bitfield(&torrent, torrent.layout.piece_count());
        stream.write_all(&[all, message(UNCHOKE, &[], &[])].concat()).unwrap();
        while let Some(payload) = &payload {
            let request = Request::hear(&mut stream).unwrap();
            stream.write_all(&request.answer(&torrent, payload)).unwrap();
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
    let mut leecher = Program::start(&mut client("download", &path, &target, &peers));
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
    let few = |command: &Command| Program::start(&mut with_descriptors(command, 64, false));
    let mut seeder = few(&client("seed", &path, folder.path(), &[]));
    let peer = format!("--peer={}", seeder.address());
    let target = folder.path().join("copy");
    let mut leecher = few(&client("download", &path, &target, &[&peer]));
    leecher.until("completed");
    (0..300).for_each(|n| {
        let copy = std::fs::read_to_string(target.join("many").join(n.to_string()));
        assert_eq!(copy.unwrap(), n.to_string());
    });
}

/// A connection from an address of its own.
fn stranger(to: SocketAddr, number: usize) -> TcpStream {
    let from = [127, 1, (number / 250) as u8, 1 + (number % 250) as u8];
    connect_from(from.into(), to).unwrap()
}

#[test]
fn those_of_many_hosts_who_say_nothing_keep_nobody_out() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &["--cores", "1"]));
    let addr = seeder.address();
    let silent: Vec<TcpStream> = (0..400).map(|number| stranger(addr, number)).collect();
    let mut honest = connect(addr, &torrent, [1; 20]).unwrap();
    assert_eq!(hear(&mut honest), (5, vec![0x80]));
    drop(silent);
}

#[test]
fn a_want_of_descriptors_ends_no_torrent() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("many");
    std::fs::create_dir(&data).unwrap();
    (0..300).for_each(|n| std::fs::write(data.join(n.to_string()), noise(70_000 + n)).unwrap());
    let (path, torrent) = torrent_of(&data, 64 << 10);
    for (limit, idle, silent) in [(64, 0, 40), (128, 20, 100)] {
        let options = ["--cores", "2", "--memory-limit", "32M"];
        let seed = with_descriptors(&client("seed", &path, folder.path(), &options), limit, false);
        let (log, mut seed) = (folder.path().join("log"), seed);
        let mut seeder = Program::start(seed.stderr(std::fs::File::create(&log).unwrap()));
        let addr = seeder.address();
        let mut others: Vec<TcpStream> = (0..idle).map(|n| stranger(addr, n)).collect();
        let hello = |n: usize| handshake(&torrent, [n as u8 + 9; 20]);
        others.iter_mut().enumerate().for_each(|(n, peer)| peer.write_all(&hello(n)).unwrap());
        others.extend((0..silent).map(|n| stranger(addr, 100 + n)));
        let options = ["--connections", "4", "--order", "scattered"];
        let took =
            load("download", &path, folder.path(), addr, &options).stderr(Stdio::null()).output().unwrap();
        assert!(took.status.success(), "{}", String::from_utf8_lossy(&took.stdout));
        seeder.until("progress");
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.lines().filter(|line| line.contains("WARN")).count() <= 1, "{said}");
        drop(others);
    }
}
