//! Peers that do not keep to the protocol: they are closed, and an honest transfer goes on beside them.

use crate::clients::seedring::Seedring;
use crate::support::payload::{self, assert_same};
use crate::support::peer::{
    BITFIELD, BLOCK, CHOKE, Conduct, HAVE, INTERESTED, PIECE, REQUEST, Seeder, UNCHOKE, Wire, bits_spare,
    full_bitfield, handshake, message, numbers,
};
use crate::support::{Stage, Torrent};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

const ID: &[u8; 20] = b"-XX0001-hostile-peer";

/// What is sent after a good handshake, and must get the connection closed.
fn offences(torrent: &Torrent) -> Vec<(&'static str, Vec<u8>)> {
    let pieces = torrent.pieces();
    let full = full_bitfield(pieces);
    let mut spare = full.clone();
    assert_ne!(bits_spare(pieces), 0, "the payload leaves spare bits");
    *spare.last_mut().expect("a bitfield") |= 1;
    let unasked_for = [numbers(&[0, 0]), vec![0; BLOCK as usize]].concat();
    let after_interest =
        |request: &[u32]| [message(INTERESTED, &[]), message(REQUEST, &numbers(request))].concat();
    vec![
        ("a message of 4 GiB", [&[0xff; 4][..], &[PIECE; 64]].concat()),
        ("a message of 2 MiB", [numbers(&[2 << 20]), vec![PIECE; 64]].concat()),
        ("a bitfield that is too short", message(BITFIELD, &full[1..])),
        ("a bitfield that is too long", message(BITFIELD, &[&full[..], &[0]].concat())),
        ("a bitfield with spare bits set", message(BITFIELD, &spare)),
        ("a have past the end", message(HAVE, &numbers(&[pieces]))),
        ("a have of the wrong length", message(HAVE, &[0; 3])),
        ("an unchoke with a payload", message(UNCHOKE, &[1])),
        ("a choke with a payload", message(CHOKE, &[1])),
        ("a request past the end", after_interest(&[pieces, 0, BLOCK])),
        ("a request across the end of a piece", after_interest(&[0, torrent.piece_length - 1, BLOCK])),
        ("a request of 2 GiB", after_interest(&[0, 0, 1 << 31])),
        ("a request whose end overflows", after_interest(&[0, u32::MAX, BLOCK])),
        ("a request that is too short", message(REQUEST, &[0; 11])),
        ("a piece that is too short", message(PIECE, &[0; 7])),
        ("a piece past the end", message(PIECE, &[numbers(&[pieces, 0]), unasked_for].concat())),
    ]
}

/// Everything that may come in place of a handshake.
fn false_starts(torrent: &Torrent) -> Vec<(&'static str, Vec<u8>)> {
    let mut wrong_hash = torrent.info_hash;
    wrong_hash[0] ^= 1;
    let mut wrong_name = handshake(&torrent.info_hash, ID);
    wrong_name[5] ^= 0x20;
    vec![
        ("garbage", fastrand::Rng::with_seed(9).lowercase().to_string().repeat(100).into_bytes()),
        ("a request for a web page", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(3)),
        ("the wrong info-hash", handshake(&wrong_hash, ID)),
        ("the wrong protocol", wrong_name),
        ("a protocol name of length 0", vec![0; 68]),
    ]
}

/// A downloader in the middle of a slow honest transfer, which goes on seeding afterwards.
struct Scene {
    stage: Stage,
    torrent: Torrent,
    seedring: Seedring,
    _seeder: Seeder,
}

impl Scene {
    fn start(more: &[SocketAddr]) -> Self {
        Self::of(Stage::new(), more)
    }

    fn of(stage: Stage, more: &[SocketAddr]) -> Self {
        let torrent = lay(&stage);
        let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::from_millis(10)));
        let peers: Vec<_> = [seeder.addr()].iter().chain(more).map(SocketAddr::to_string).collect();
        let peers: Vec<_> = peers.iter().flat_map(|peer| ["--peer", peer]).collect();
        let copy = stage.folder("copy");
        let seedring = Seedring::download(&stage, &torrent, &copy, &[&["--seed"], &peers[..]].concat());
        Self { stage, torrent, seedring, _seeder: seeder }
    }

    fn finish(mut self) {
        self.seedring.wait_event("completed", |_| true);
        assert_same(&self.stage.path("origin"), &self.stage.path("copy"));
        assert!(self.seedring.stop().success());
    }
}

fn lay(stage: &Stage) -> Torrent {
    let origin = stage.folder("origin");
    payload::file(&origin.join("contested"), 2_000_000, 1);
    Torrent::make(&stage.path(""), &origin, "contested", 65_536, None)
}

#[test]
fn offenders_who_dial_in_are_closed() {
    let mut scene = Scene::start(&[]);
    let addr = scene.seedring.addr();
    for (what, bytes) in offences(&scene.torrent) {
        println!("{what}");
        let mut wire = Wire::dial(addr);
        wire.shake(&scene.torrent.info_hash, ID).expect("a handshake is answered");
        // It may be closed before all is sent.
        let _ = wire.send(&bytes);
        wire.wait_closed();
    }
    scene.finish();
}

#[test]
fn false_starts_are_closed() {
    let mut scene = Scene::start(&[]);
    let addr = scene.seedring.addr();
    let begin = |(what, bytes): (_, Vec<u8>)| {
        println!("{what}");
        let mut wire = Wire::dial(addr);
        let _ = wire.send(&bytes);
        wire
    };
    // Some could be the beginning of an encrypted handshake: until the time for that is up, more may come.
    let wires: Vec<_> = false_starts(&scene.torrent).into_iter().map(begin).collect();
    wires.into_iter().for_each(Wire::wait_closed);
    scene.finish();
}

#[test]
fn those_who_never_shake_hands_are_closed() {
    let mut scene = Scene::start(&[]);
    let addr = scene.seedring.addr();
    let silent = Wire::dial(addr);
    let mut half = Wire::dial(addr);
    half.send(&handshake(&scene.torrent.info_hash, ID)[..40]).expect("half a handshake can be sent");
    silent.wait_closed();
    half.wait_closed();
    scene.finish();
}

#[test]
fn offenders_who_are_dialled_are_closed() {
    let stage = Stage::new();
    let torrent = lay(&stage);
    let mut all: Vec<_> = offences(&torrent)
        .into_iter()
        .map(|(what, bytes)| (what, [handshake(&torrent.info_hash, ID), bytes].concat()))
        .collect();
    all.extend(false_starts(&torrent));
    let mut peers = Vec::new();
    let mut threads = Vec::new();
    for (index, (what, bytes)) in (0..).zip(all) {
        let listener =
            TcpListener::bind((Ipv4Addr::new(127, 0, 3, index), 0)).expect("loopback can be bound");
        peers.push(listener.local_addr().expect("a bound address"));
        threads.push(thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("seedring dials");
            println!("{what}");
            let _ = stream.write_all(&bytes);
            Wire::new(stream).wait_closed();
        }));
    }
    let scene = Scene::of(stage, &peers);
    for thread in threads {
        thread.join().expect("an offender is closed");
    }
    scene.finish();
}

#[test]
fn blocks_that_nobody_asked_for_do_no_harm() {
    let mut scene = Scene::start(&[]);
    let mut wire = Wire::dial(scene.seedring.addr());
    wire.shake(&scene.torrent.info_hash, ID).expect("a handshake is answered");
    let junk = vec![0xaa; BLOCK as usize];
    for piece in 0..scene.torrent.pieces() - 1 {
        // It may be closed for that.
        let _ = wire.send_message(PIECE, &[numbers(&[piece, 0]), junk.clone()].concat());
    }
    scene.seedring.wait_event("completed", |_| true);
    assert_eq!(scene.seedring.events("piece_failed").len(), 0, "junk is not taken for payload");
    scene.finish();
}

#[test]
fn a_byte_at_a_time_is_served_all_the_same() {
    let stage = Stage::new();
    let torrent = lay(&stage);
    let mut seed = Seedring::seed(&stage, &torrent, &stage.path("origin"), &[]);
    let mut wire = Wire::dial(seed.addr());
    let drip = |wire: &mut Wire, bytes: Vec<u8>| {
        for byte in bytes {
            wire.send(&[byte]).expect("a byte can be sent");
            // Long enough for the other side to see this byte alone, most of the time.
            thread::sleep(Duration::from_millis(2));
        }
    };
    drip(&mut wire, [handshake(&torrent.info_hash, ID), message(INTERESTED, &[])].concat());
    wire.read_handshake().expect("a handshake is answered");
    wire.read_until(UNCHOKE).expect("an unchoke");
    for piece in 0..5 {
        drip(&mut wire, message(REQUEST, &numbers(&[piece, BLOCK, 1000])));
        let block = wire.read_until(PIECE).expect("a block");
        assert_eq!(block, [numbers(&[piece, BLOCK]), torrent.read(piece, BLOCK, 1000)].concat());
    }
    assert!(seed.stop().success());
}

#[test]
fn a_flood_of_connections_does_not_stop_the_transfer() {
    let mut scene = Scene::start(&[]);
    let addr = scene.seedring.addr();
    let flood: Vec<_> = (0..300).map(|_| Wire::dial(addr)).collect();
    scene.seedring.wait_event("completed", |_| true);
    drop(flood);
    scene.finish();
}
