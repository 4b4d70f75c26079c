//! Cases that stand for themselves.

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, one_file, torrent_of};
use crate::common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, connect_from, handshake, hear,
    hear_kind, listener_pair, message, try_hear,
};
use crate::common::program::{Program, client, load, seedring, with_descriptors};
use crate::common::until;
use seedring::metainfo::Torrent;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
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
fn who_is_in_the_filter_takes_no_place_of_who_is_not() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let list = folder.path().join("list");
    std::fs::write(&list, "127.0.0.2").unwrap();
    let options = ["--cores", "1", "--metrics", "127.0.0.1:0", "--ip-filter", list.to_str().unwrap()];
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
    let (metrics, addr) = (seeder.metrics_address(), seeder.address());
    // More than may come at once of those who are let in, and fewer than of these.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..300).for_each(|_| drop(connect_from([127, 0, 0, 2].into(), addr).unwrap())));
        }
    });
    let mut honest = connect(addr, &torrent, [1; 20]).unwrap();
    assert_eq!(hear(&mut honest), (5, vec![0x80]));
    wait_hits(metrics, &[("filtered", 1200)]);
    let samples = Samples::fetch(metrics);
    assert_eq!(samples.sum("seedring_limit_hits_total", &["limit=\"arrivals\""]), 0);
}

#[test]
fn cancels_by_the_million_stop_nobody() {
    let (folder, path, torrent) = one_file(4 << 20, BLOCK * 16);
    let mut seeder = seed(&path, folder.path());
    let addr = seeder.address();
    // Until an honest peer is served behind cancels of what was never asked for, while so many requests wait.
    let time = |waiting: u32, id: u8| {
        let mut liar = connect(addr, &torrent, [id; 20]).unwrap();
        liar.write_all(&message(INTERESTED, &[], &[])).unwrap();
        hear_kind(&mut liar, UNCHOKE);
        // It reads nothing, so that its requests wait.
        let mut ask = |n: u32| liar.write_all(&message(REQUEST, &[n % 16, 0, BLOCK], &[])).unwrap();
        (0..waiting).for_each(&mut ask);
        let cancels = message(8, &[3, 1, 1], &[]).repeat(1000);
        let began = Instant::now();
        (0..3000).for_each(|_| liar.write_all(&cancels).unwrap());
        let mut honest = connect(addr, &torrent, [id + 1; 20]).unwrap();
        honest.write_all(&message(INTERESTED, &[], &[])).unwrap();
        hear_kind(&mut honest, UNCHOKE);
        honest.write_all(&message(REQUEST, &[15, 0, BLOCK], &[])).unwrap();
        hear_kind(&mut honest, PIECE);
        began.elapsed()
    };
    let (few, many) = (time(1, 1), time(3000, 3));
    assert!(many < few * 10, "{few:?} when one request waits, {many:?} when 3000 do");
}

/// A peer that has everything: it answers what it is asked, when it is honest, else it only says that it is alive.
fn giver(torrent: &Torrent, number: u8, payload: Option<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    give(listener, torrent, number, payload);
    addr
}

/// The same at a place that is known already.
fn give(listener: TcpListener, torrent: &Torrent, number: u8, payload: Option<Vec<u8>>) {
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
}

/// At the same address, under an id by which it is not the seed's connection that stays.
#[test]
fn a_stranger_under_the_name_of_a_seed_that_the_user_names_does_not_keep_it_out() {
    let len = 4 * BLOCK as usize;
    let (folder, path, torrent) = one_file(len, BLOCK);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (named, target) = (format!("--peer={}", listener.local_addr().unwrap()), folder.path().join("copy"));
    let mut leecher = Program::start(&mut client("download", &path, &target, &[&named]));
    let mut mute = connect(leecher.address(), &torrent, [0xfe; 20]).unwrap();
    mute.write_all(&[bitfield(&torrent, 4), message(UNCHOKE, &[], &[])].concat()).unwrap();
    hear_kind(&mut mute, REQUEST);
    give(listener, &torrent, 0xfe, Some(noise(len)));
    leecher.until("completed");
    assert_eq!(std::fs::read(target.join("payload")).unwrap(), noise(len));
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
        let options = ["--cores", "2", "--memory-limit", "32M", "--metrics", "127.0.0.1:0"];
        let seed = with_descriptors(&client("seed", &path, folder.path(), &options), limit, false);
        let (log, mut seed) = (folder.path().join("log"), seed);
        let mut seeder = Program::start(seed.stderr(std::fs::File::create(&log).unwrap()));
        let (metrics, addr) = (seeder.metrics_address(), seeder.address());
        let mut others: Vec<TcpStream> = (0..idle).map(|n| stranger(addr, n)).collect();
        let hello = |n: usize| handshake(&torrent, [n as u8 + 9; 20]);
        others.iter_mut().enumerate().for_each(|(n, peer)| peer.write_all(&hello(n)).unwrap());
        others.extend((0..silent).map(|n| stranger(addr, 100 + n)));
        let options = ["--connections", "4", "--order", "scattered"];
        let took =
            load("download", &path, folder.path(), addr, &options).stderr(Stdio::null()).output().unwrap();
        assert!(took.status.success(), "{}", String::from_utf8_lossy(&took.stdout));
        wait_hits(metrics, &[("descriptors", 1)]);
        let said = std::fs::read_to_string(&log).unwrap();
        assert!(said.lines().filter(|line| line.contains("WARN")).count() <= 1, "{said}");
        drop(others);
    }
}

#[test]
fn too_few_descriptors_for_a_single_connection_are_an_error_that_says_how_many_are_needed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("many");
    std::fs::create_dir(&data).unwrap();
    (0..200).for_each(|n| std::fs::write(data.join(n.to_string()), noise(20_000 + n)).unwrap());
    let (path, torrent) = torrent_of(&data, 16 << 10);
    let options = ["--cores", "2", "--memory-limit", "32M"];
    let seed = client("seed", &path, folder.path(), &options);
    let output = with_descriptors(&seed, 24, false).stderr(Stdio::piped()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("24 file descriptors leave no room") && said.contains("ulimit -n"), "{said}");
    let (_, needed) = said.split_once("at least ").unwrap();
    let needed = needed.split_once(' ').unwrap().0.parse().unwrap();
    let mut seeder = Program::start(with_descriptors(&seed, needed, false).stderr(Stdio::null()));
    let mut peer = connect(seeder.address(), &torrent, [1; 20]).unwrap();
    assert_eq!(hear(&mut peer).0, 5, "a bitfield");
    // Of every file.
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    let pieces = torrent.layout.pieces().map(|piece| (piece.get(), torrent.layout.piece_len(piece)));
    for (piece, len) in pieces {
        peer.write_all(&message(REQUEST, &[piece, 0, len], &[])).unwrap();
        hear_kind(&mut peer, PIECE);
    }
}

/// Waits until these limits have said no so often at least.
fn wait_hits(metrics: SocketAddr, limits: &[(&str, u64)]) {
    until(|| {
        let samples = Samples::fetch(metrics);
        let hits = |limit: &str| samples.sum("seedring_limit_hits_total", &[&format!("limit=\"{limit}\"")]);
        match limits.iter().find(|(limit, least)| hits(limit) < *least) {
            None => Ok(()),
            Some((limit, _)) => Err(format!("{limit}: {}", hits(limit))),
        }
    });
}

#[test]
fn who_does_not_answer_a_dial_or_a_handshake_is_given_up() {
    let (folder, path, _) = one_file(1000, BLOCK);
    // The kernel takes a few connections for who never accepts one, and then none.
    let [full, mute] = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    rustix::net::listen(&full, 0).unwrap();
    let [to_full, to_mute] = [&full, &mute].map(|listener| listener.local_addr().unwrap());
    let connect = || TcpStream::connect_timeout(&to_full, Duration::from_millis(200)).ok();
    let taken: Vec<TcpStream> = std::iter::from_fn(connect).take(50).collect();
    assert!(taken.len() < 50, "it takes all");
    let peers = format!("--peer={to_full},{to_mute}");
    let target = folder.path().join("copy");
    let mut program =
        Program::start(&mut client("download", &path, &target, &[&peers, "--metrics", "127.0.0.1:0"]));
    wait_hits(program.metrics_address(), &[("dials", 1), ("silent", 1)]);
}

#[test]
fn one_host_has_no_more_connections_than_the_user_says() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let options = ["--peers-per-host", "3", "--cores", "2", "--metrics", "127.0.0.1:0"];
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
    let (metrics, addr) = (seeder.metrics_address(), seeder.address());
    let mut come = |number: u8| {
        let mut stream = connect(addr, &torrent, [number; 20]).unwrap();
        // It hears what the seed has, or that it is one too many.
        try_hear(&mut stream).is_ok().then_some(stream)
    };
    let mut here: Vec<Option<TcpStream>> = (1..=8).map(&mut come).collect();
    assert_eq!(here.iter().flatten().count(), 3);
    wait_hits(metrics, &[("hosts", 5)]);
    here.clear();
    until(|| come(9).map(drop).ok_or_else(|| "there is still no room".into()));
}

/// A program that is not listened to; killed when dropped.
struct Unheard(Child);

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn who_is_not_listened_to_goes_on_and_counts_what_was_not_told() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let options = ["--cores", "1", "--metrics", "127.0.0.1:0"];
    let mut command = client("seed", &path, folder.path(), &options);
    command.env("SEEDRING_LOG", "info").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut seeder = Unheard(command.spawn().unwrap());
    let mut told = BufReader::new(seeder.0.stdout.take().unwrap());
    let mut log = seeder.0.stderr.take().unwrap();
    let mut address = |event: &str| -> SocketAddr {
        loop {
            let mut line = String::new();
            told.read_line(&mut line).unwrap();
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["event"] == event {
                return line["addr"].as_str().unwrap().parse().unwrap();
            }
        }
    };
    let (metrics, addr) = (address("metrics"), address("listening"));
    std::thread::spawn(move || std::io::copy(&mut told, &mut std::io::sink()));
    // It has a word to say about each of these. Its log takes some hundreds of them.
    for number in 0..4000u32 {
        let id = [&number.to_be_bytes()[..], &[7; 16]].concat().try_into().unwrap();
        let mut stranger = connect(addr, &torrent, id).unwrap();
        stranger.write_all(&message(4, &[u32::MAX], &[])).unwrap();
        while stranger.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
    }
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    wait_hits(metrics, &[("reports", 1), ("messages", 4000)]);
}

#[test]
fn who_comes_in_crowds_does_not_keep_a_magnet_link_from_its_peers() {
    let len = 4 * BLOCK as usize;
    let (folder, path, torrent) = one_file(len, BLOCK);
    // Nobody is there at first.
    let [ours, theirs] = listener_pair().map(|listener| listener.local_addr().unwrap());
    let hash: String = torrent.info_hash.0.iter().map(|byte| format!("{byte:02x}")).collect();
    let link = format!("magnet:?xt=urn:btih:{hash}");
    let target = folder.path().join("copy");
    let mut command = seedring();
    command.args([
        "download",
        "--json",
        "--seed",
        "--listen",
        &ours.to_string(),
        "--peer",
        &theirs.to_string(),
    ]);
    let mut leecher = Program::start(command.arg(&link).arg("-d").arg(&target));
    let crowd: Vec<TcpStream> =
        (0..60).map(|_| until(|| TcpStream::connect(ours).map_err(|why| why.to_string()))).collect();
    let mut command = seedring();
    command.args(["seed", "--json", "--listen", &theirs.to_string()]).arg(&path).arg("-d").arg(folder.path());
    let _seeder = Program::start(&mut command);
    let metadata = leecher.until("metadata");
    leecher.until("completed");
    let limit = |name: &str| metadata["limits"][name].as_u64().unwrap();
    assert!(limit("peers") + limit("displaced") >= 30, "{metadata}");
    assert_eq!(std::fs::read(target.join("payload")).unwrap(), noise(len));
    drop(crowd);
}
