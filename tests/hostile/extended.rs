//! What attackers do with extensions (BEP 6, 9, 10, 11).

use crate::attacks::{dial_as, flood, offend_by};
use crate::common::payload::BLOCK;
use crate::common::peer::{
    INTERESTED, PIECE, REQUEST, Request, UNCHOKE, bitfield, hear_kind, message, try_hear,
};
use crate::scene::{Fate, Scene};
use seedring::bencode;
use seedring::wire::extended::{Extension, MetadataMessage, PexFlags, PexMessage};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};

const NOT_INTERESTED: u8 = 3;
const HAVE: u8 = 4;
const SUGGEST: u8 = 13;
const HAVE_ALL: u8 = 14;
const HAVE_NONE: u8 = 15;
const REJECT: u8 = 16;
const ALLOWED_FAST: u8 = 17;
const EXTENDED: u8 = 20;
/// The bits of a handshake for extensions, and for those and the fast extension.
const EXTENSIONS: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0];
const ALL: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0x04];

/// A connection of somebody who speaks all extensions.
fn dial(scene: &Scene) -> io::Result<TcpStream> {
    dial_as(scene, ALL)
}

fn extended(id: u8, payload: &[u8]) -> Vec<u8> {
    message(EXTENDED, &[], &[&[id], payload].concat())
}

/// A greeting that wants to be told of metadata and peers.
fn hello() -> Vec<u8> {
    extended(0, b"d1:md11:ut_metadatai3e6:ut_pexi4eee")
}

/// A flood of what an extension says, behind a greeting.
fn flood_extended(scene: &Scene, id: u8, payload: &[u8], times: usize) -> io::Result<Fate> {
    let mut stream = dial(scene)?;
    stream.write_all(&[message(HAVE_NONE, &[], &[]), hello()].concat())?;
    flood(scene, stream, &extended(id, payload).repeat(times))
}

/// Greetings that no honest client says. Some real ones say as much; so each is let in, and served.
pub(crate) fn lies_in_greetings(scene: &Scene, _: usize) -> io::Result<Fate> {
    let deep = ["d1:m", &"l".repeat(90), &"e".repeat(90), "e"].concat();
    let long = format!("d1:v{}:{}e", 60_000, "\u{1b}".repeat(60_000));
    let many: String = (0..2000).map(|n| format!("5:x{n:04}i{n}e")).collect();
    let many = format!("d1:md{many}ee");
    let lies = [
        "de",
        "d4:reqqi0ee",
        "d4:reqqi-1ee",
        "d4:reqqi9223372036854775807ee",
        "d13:metadata_sizei0ee",
        "d13:metadata_sizei-1ee",
        "d13:metadata_sizei9223372036854775807ee",
        "d1:md11:upload_onlyi1e11:ut_metadatai1e6:ut_pexi1eee",
        "d1:md11:ut_metadatai256e6:ut_pexi-1eee",
        "d1:mi7ee",
        "d1:pi0ee",
        "d1:pi70000ee",
        "d6:yourip3:abce",
        "d4:ipv40:4:ipv61:x1:p1:ye",
        "d1:v0:e",
        &deep,
        &long,
        &many,
        // No dictionary at all: that is an offence, which is forgiven.
        "i7e",
        "not bencoding",
        "",
    ];
    for lie in lies {
        let mut stream = dial(scene)?;
        stream.write_all(&[extended(0, lie.as_bytes()), message(INTERESTED, &[], &[])].concat())?;
        stream.write_all(&message(REQUEST, &[3, 0, 100], &[]))?;
        hear_kind(&mut stream, UNCHOKE);
        stream.write_all(&message(REQUEST, &[3, 0, 100], &[]))?;
        hear_kind(&mut stream, PIECE);
    }
    scene.begun();
    Ok(Fate::Kept)
}

pub(crate) fn greetings(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood(scene, dial(scene)?, &hello().repeat(1000))
}

pub(crate) fn unknown_extensions(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_extended(scene, 200, &[b'd'; 300], 200)
}

/// Longer than any message of an extension that is read.
pub(crate) fn long_extended(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_extended(scene, Extension::Metadata.id(), &vec![b'l'; (1 << 20) - 2], 1)
}

/// Bencoding that is as deep, and then as long, as a message may be.
pub(crate) fn deep_extended(scene: &Scene, number: usize) -> io::Result<Fate> {
    let payload = if number == 0 { "l".repeat(60_000) } else { "0:".repeat(30_000) };
    flood_extended(scene, Extension::Pex.id(), payload.as_bytes(), 2)
}

pub(crate) fn metadata_requests(scene: &Scene, _: usize) -> io::Result<Fate> {
    let ask = |block| MetadataMessage::Request { block }.encode();
    flood_extended(scene, Extension::Metadata.id(), &ask(0), 5000)
}

/// Asks for metadata over and over, reads the answers, and wants too much: from then on it is refused.
pub(crate) fn metadata_again(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut stream = dial(scene)?;
    stream.write_all(&hello())?;
    let mut given = 0;
    for block in [0; 20].into_iter().chain([1, 1 << 14, 1 << 31, u32::MAX]) {
        let ask = MetadataMessage::Request { block }.encode();
        stream.write_all(&extended(Extension::Metadata.id(), &ask))?;
        loop {
            let body = hear_kind(&mut stream, EXTENDED);
            match MetadataMessage::parse(&body[1..]).filter(|_| body[0] == 3) {
                Some(MetadataMessage::Data { block: 0, .. }) => break given += 1,
                Some(MetadataMessage::Reject { block: other }) if other == block => break,
                _ => {}
            }
        }
    }
    assert_eq!(given, 3, "the metadata is given a few times");
    scene.begun();
    Ok(Fate::Kept)
}

/// Numbers that are none of a block.
pub(crate) fn metadata_of_nowhere(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_extended(scene, Extension::Metadata.id(), b"d8:msg_typei0e5:piecei-1ee", 5000)
}

pub(crate) fn metadata_unasked(scene: &Scene, _: usize) -> io::Result<Fate> {
    let data = MetadataMessage::Data { block: 0, total_size: Some(1 << 40), bytes: &[7; 16 * 1024] }.encode();
    flood_extended(scene, Extension::Metadata.id(), &data, 10)
}

/// Addresses by the ten thousand in each message.
pub(crate) fn pex(scene: &Scene, number: usize) -> io::Result<Fate> {
    let addr = |n: u32| SocketAddr::from((std::net::Ipv4Addr::from_bits(0x0a00_0000 + n), 1));
    let first = 100_000 * number as u32;
    let compact: Vec<u8> = (first..first + 10_000).flat_map(|n| compact(addr(n))).collect();
    let payload = bencode::write_dict(|dict| dict.bytes(b"added", &compact));
    flood_extended(scene, Extension::Pex.id(), &payload, 3)
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let message = PexMessage { added: vec![(addr, PexFlags(0))], ..PexMessage::default() }.encode();
    let dict = bencode::parse(&message).unwrap().root.dict().unwrap();
    dict.get(b"added").and_then(bencode::Value::bytes).unwrap().to_vec()
}

/// A message of peers now and then as it may be, of addresses where nobody is: the program itself, nobody's ports,
/// everybody's addresses.
pub(crate) fn pex_of_nobody(scene: &Scene, _: usize) -> io::Result<Fate> {
    let addrs =
        ["0.0.0.0:1", "255.255.255.255:1", "224.0.0.1:1", "127.0.0.1:0", "[::]:1", "[ff02::1]:1", "[::1]:0"];
    let mut added: Vec<_> = addrs.iter().map(|addr| (addr.parse().unwrap(), PexFlags(0))).collect();
    added.push((scene.addr, PexFlags(PexFlags::REACHABLE)));
    let said = PexMessage { dropped: added.iter().map(|(addr, _)| *addr).collect(), added, cut: false };
    let mut stream = dial(scene)?;
    stream.write_all(&hello())?;
    for _ in 0..6 {
        stream.write_all(&extended(Extension::Pex.id(), &said.encode()))?;
    }
    stream.write_all(&message(INTERESTED, &[], &[]))?;
    hear_kind(&mut stream, UNCHOKE);
    scene.begun();
    Ok(Fate::Kept)
}

pub(crate) fn rejects_unasked(scene: &Scene, _: usize) -> io::Result<Fate> {
    let all: Vec<u8> = (0..100).flat_map(|piece| message(REJECT, &[piece, 0, BLOCK], &[])).collect();
    flood(scene, dial(scene)?, &all.repeat(20))
}

pub(crate) fn late_have_nones(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut stream = dial(scene)?;
    stream.write_all(&bitfield(&scene.torrent, 3))?;
    flood(scene, stream, &message(HAVE_NONE, &[], &[]).repeat(5000))
}

pub(crate) fn late_have_alls(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut stream = dial(scene)?;
    stream.write_all(&bitfield(&scene.torrent, 3))?;
    flood(scene, stream, &message(HAVE_ALL, &[], &[]).repeat(5000))
}

pub(crate) fn suggestions(scene: &Scene, _: usize) -> io::Result<Fate> {
    let all: Vec<u8> = (0..100).flat_map(|piece| message(SUGGEST, &[piece], &[])).collect();
    flood(scene, dial(scene)?, &all.repeat(50))
}

pub(crate) fn promises(scene: &Scene, _: usize) -> io::Result<Fate> {
    let all: Vec<u8> = (0..400).flat_map(|piece| message(ALLOWED_FAST, &[piece], &[])).collect();
    flood(scene, dial(scene)?, &all.repeat(20))
}

/// Asks for as much as it may, says that it wants nothing, so that all is rejected, and reads none of that.
pub(crate) fn rejects_unread(scene: &Scene, _: usize) -> io::Result<Fate> {
    let asks: Vec<u8> = (0..2000).flat_map(|n| message(REQUEST, &[n % 100, 0, BLOCK], &[])).collect();
    let moods = [message(NOT_INTERESTED, &[], &[]), message(INTERESTED, &[], &[])].concat();
    let mut stream = dial(scene)?;
    stream.write_all(&[message(HAVE_NONE, &[], &[]), message(INTERESTED, &[], &[])].concat())?;
    hear_kind(&mut stream, UNCHOKE);
    flood(scene, stream, &[asks, moods].concat())
}

pub(crate) fn wrong_fast_messages(scene: &Scene, _: usize) -> io::Result<Fate> {
    let pieces = scene.torrent.layout.piece_count();
    let offences = [
        ("a suggestion of the piece behind the last", message(SUGGEST, &[pieces], &[])),
        ("a suggestion of piece 2^32 - 1", message(SUGGEST, &[u32::MAX], &[])),
        ("a promise of the piece behind the last", message(ALLOWED_FAST, &[pieces], &[])),
        ("a reject of the piece behind the last", message(REJECT, &[pieces, 0, BLOCK], &[])),
        ("a reject of 4 GiB", message(REJECT, &[0, 0, u32::MAX], &[])),
        ("a reject that is too short", message(REJECT, &[0, 0], &[])),
        ("a suggestion that is too long", message(SUGGEST, &[0, 0], &[])),
        ("a promise without a piece", message(ALLOWED_FAST, &[], &[])),
        ("a have-all with a payload", message(HAVE_ALL, &[], &[0])),
        ("a have-none with a payload", message(HAVE_NONE, &[0], &[])),
        ("a lost piece behind the last", extended(Extension::DontHave.id(), &pieces.to_be_bytes())),
    ];
    offend_by(scene, dial, &offences)?;
    let unspoken = [
        ("a have-none that was not agreed on", message(HAVE_NONE, &[], &[])),
        ("a suggestion that was not agreed on", message(SUGGEST, &[0], &[])),
    ];
    offend_by(scene, |scene| dial_as(scene, EXTENSIONS), &unspoken)
}

/// Has everything, keeps no request at all or says that it keeps as many as there can be, and answers what it is asked
/// by a reject.
pub(crate) fn reject_everything(scene: &Scene, number: usize) -> io::Result<Fate> {
    let reqq = if number == 0 { "d4:reqqi0ee" } else { "d4:reqqi4294967295ee" };
    let mut stream = dial(scene)?;
    let first = [message(HAVE_ALL, &[], &[]), extended(0, reqq.as_bytes()), message(UNCHOKE, &[], &[])];
    stream.write_all(&first.concat())?;
    scene.begun();
    stream.set_read_timeout(Some(std::time::Duration::from_millis(100)))?;
    while !scene.is_over() {
        match try_hear(&mut stream) {
            Ok((kind, body)) if Request::read(kind, &body).is_some() => {
                stream.write_all(&message(REJECT, &[], &body))?;
            }
            // Between messages this loses none.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Ok(Fate::Closed),
            _ => {}
        }
    }
    Ok(Fate::Kept)
}

/// Says again and again that it has lost a piece and has it again.
pub(crate) fn losses(scene: &Scene, _: usize) -> io::Result<Fate> {
    let lost = extended(Extension::DontHave.id(), &7u32.to_be_bytes());
    let both = [lost, message(HAVE, &[7], &[])].concat();
    let mut stream = dial(scene)?;
    stream.write_all(&bitfield(&scene.torrent, 20))?;
    flood(scene, stream, &both.repeat(2000))
}
