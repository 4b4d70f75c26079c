//! What attackers do with encrypted handshakes (MSE).

use crate::attacks::hold;
use crate::attacks::wait_closed;
use crate::common::payload::{BLOCK, one_file};
use crate::common::peer::{connect_from, handshake};
use crate::common::program::{Program, client};
use crate::scene::{Fate, Scene};
use seedring::metainfo::{InfoHash, Torrent};
use seedring::wire::mse::{Established, Initiator, Methods, Randomness, Step};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const BOTH: Methods = Methods { plaintext: true, rc4: true };
/// Where the parts lie of what an initiator says at last: its two marks are 40 bytes long.
const CONSTANT: usize = 40;
const PROVIDED: usize = CONSTANT + 8;
const PAD_LEN: usize = PROVIDED + 4;

/// Connects from an address that nobody else has: of one address, only so many encrypted handshakes are taken.
fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let from =
        Ipv4Addr::from_bits(Ipv4Addr::new(127, 9, 0, 1).to_bits() + COUNT.fetch_add(1, Ordering::Relaxed));
    let stream = connect_from(from, to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(8)))?;
    Ok(stream)
}

fn random(pads: [usize; 2]) -> Randomness {
    Randomness { key: [0x5a; 20], first_pad: vec![0x11; pads[0]], second_pad: vec![0x22; pads[1]] }
}

/// Writes in parts, which arrive one by one when there are few.
fn write_cut(stream: &mut TcpStream, bytes: &[u8], cut: usize) -> io::Result<()> {
    let (first, rest) = bytes.split_at(cut.min(bytes.len()));
    stream.write_all(first)?;
    if !first.is_empty() && !rest.is_empty() {
        thread::sleep(Duration::from_micros(300));
    }
    stream.write_all(rest)
}

/// An initiator that has heard the other side's key, and what it says next.
fn offer(
    stream: &mut TcpStream,
    skey: InfoHash,
    pads: [usize; 2],
    initial: Vec<u8>,
    cut: usize,
) -> io::Result<(Initiator, Vec<u8>)> {
    let mut out = Vec::new();
    let mut end = Initiator::new(random(pads), BOTH, skey, initial, &mut out);
    write_cut(stream, &out, cut)?;
    out.clear();
    let mut buffer = [0; 700];
    while out.is_empty() {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match end.receive(&buffer[..len], &mut out).map_err(io::Error::other)? {
            Step::More(more) => end = more,
            Step::Done(_) => return Err(io::Error::other("it is done too soon")),
        }
    }
    Ok((end, out))
}

/// Shakes hands to the end. `cuts`: where each of what is said is cut.
fn shake(to: SocketAddr, torrent: &Torrent, pads: [usize; 2], cuts: [usize; 2]) -> io::Result<()> {
    let mut stream = dial(to)?;
    let ours = handshake(torrent, [0x77; 20]);
    let (mut end, out) = offer(&mut stream, torrent.info_hash, pads, ours, cuts[0])?;
    write_cut(&mut stream, &out, cuts[1])?;
    let mut buffer = [0; 700];
    let mut done: Established = loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match end.receive(&buffer[..len], &mut Vec::new()).map_err(io::Error::other)? {
            Step::More(more) => end = more,
            Step::Done(done) => break done,
        }
    };
    while done.received.len() < 68 {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done.received.extend_from_slice(&buffer[..len]);
    }
    assert_eq!(done.received[..20], *b"\x13BitTorrent protocol");
    Ok(())
}

#[test]
fn encrypted_handshakes_with_pads_of_every_length_and_cut_anywhere() {
    let (folder, path, torrent) = one_file(1000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &[]));
    let addr = seeder.address();
    for len in 0..=512 {
        shake(addr, &torrent, [len, 512 - len], [len % 97, len])
            .unwrap_or_else(|why| panic!("pads of {len} and {}: {why}", 512 - len));
    }
    // The key and the pad, then all that comes behind it.
    for cut in 0..=(96 + 7) {
        shake(addr, &torrent, [7, 9], [cut, 0]).unwrap_or_else(|why| panic!("the key, cut at {cut}: {why}"));
    }
    for cut in 0..=(PAD_LEN + 2 + 9 + 2 + 68) {
        shake(addr, &torrent, [7, 9], [0, cut])
            .unwrap_or_else(|why| panic!("the offer, cut at {cut}: {why}"));
    }
}

/// Says one thing that breaks the handshake on each connection.
pub(crate) fn wrong_encrypted_handshakes(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut prime = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74\
         020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f1437\
         4fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563"
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
        .collect::<Vec<u8>>();
    let mut number = |least: u8| {
        prime[95] = least;
        prime.clone()
    };
    let small = |least: u8| [&[0; 95][..], &[least]].concat();
    let keys = [
        ("a key of 0", small(0)),
        ("a key of 1", small(1)),
        ("a key of p - 1", number(0x62)),
        ("a key of p", number(0x63)),
        ("a key of 2^768 - 1", vec![0xff; 96]),
        ("a key, and no end of the pad", [&[5; 96][..], &[7; 512 + 20]].concat()),
        ("a page", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)),
    ];
    for (what, bytes) in keys {
        let mut stream = dial(scene.addr)?;
        let _ = stream.write_all(&bytes);
        wait_closed(&mut stream).unwrap_or_else(|why| panic!("not closed for {what}: {why}"));
    }
    // Where, and by which mask, what is right is made wrong.
    let changes: [(&str, usize, &[u8]); 8] = [
        ("another torrent", 20, &[1]),
        ("a constant that is none", CONSTANT, &[1]),
        ("a constant whose end is none", PROVIDED - 1, &[0x80]),
        ("nothing provided", PROVIDED, &[0, 0, 0, 3]),
        ("nothing known provided", PROVIDED, &[0xff, 0xff, 0xff, 0xff]),
        ("a pad of 513 bytes", PAD_LEN, &[2, 1]),
        ("a pad of 65,535 bytes", PAD_LEN, &[0xff, 0xff]),
        ("no handshake inside", PAD_LEN + 2 + 2, &[1]),
    ];
    for (what, at, mask) in changes {
        let mut stream = dial(scene.addr)?;
        let ours = handshake(&scene.torrent, [1; 20]);
        let (_, mut out) = offer(&mut stream, scene.torrent.info_hash, [0; 2], ours, 0)?;
        out[at..].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        // What comes where the other side still looks for the mark would keep it waiting.
        out.resize(out.len() + 700, 0x33);
        let _ = stream.write_all(&out);
        wait_closed(&mut stream).unwrap_or_else(|why| panic!("not closed for {what}: {why}"));
        if scene.is_over() {
            return Ok(Fate::Closed);
        }
    }
    scene.begun();
    Ok(Fate::Closed)
}

/// Begins encrypted handshakes as fast as it can, so that keys are agreed on, and goes.
pub(crate) fn encrypted_handshakes(scene: &Scene, _: usize) -> io::Result<Fate> {
    for number in 0..300u32 {
        let mut stream = TcpStream::connect(scene.addr)?;
        let key = [&number.to_be_bytes()[..], &[9; 92]].concat();
        let _ = stream.write_all(&key);
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let _ = stream.read(&mut [0; 96]);
    }
    scene.begun();
    Ok(Fate::Kept)
}

/// Begins many and goes on with none.
pub(crate) fn held_encrypted_handshakes(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut held = Vec::new();
    for number in 0..150 {
        let mut stream = dial(scene.addr)?;
        let _ = stream.write_all(&vec![0x61; 90 + number * 3]);
        held.push(stream);
    }
    hold(scene);
    drop(held);
    Ok(Fate::Kept)
}
