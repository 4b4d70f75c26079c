//! The misbehaviours.

use crate::attacks::{
    ask_at_the_edge, bits, choke_when_asked, come_and_go, dial_as, drip_handshake, flood, flood_with,
    give_another, give_half, give_rubbish, give_rubbish_under_new_names, offend, read_slowly, say_nothing,
    unchoked, wait_closed, write_slowly,
};
use crate::common::payload::BLOCK;
use crate::common::peer::{INTERESTED, PIECE, REQUEST, UNCHOKE, bitfield, handshake, message};
use crate::datagrams::{dht_answers, dht_queries, dht_queries_of_many, dht_rubbish};
use crate::encrypted::{encrypted_handshakes, held_encrypted_handshakes, wrong_encrypted_handshakes};
use crate::extended::{
    deep_extended, greetings, late_have_alls, late_have_nones, lies_in_greetings, long_extended, losses,
    metadata_again, metadata_of_nowhere, metadata_requests, metadata_unasked, pex, pex_of_nobody, promises,
    reject_everything, rejects_unasked, rejects_unread, suggestions, unknown_extensions, wrong_fast_messages,
};
use crate::scene::{Fate, Misbehaviour, PIECE_LEN, Role, Scene, play};
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

const CHOKE: u8 = 0;
const NOT_INTERESTED: u8 = 3;
const HAVE: u8 = 4;
const CANCEL: u8 = 8;
const PORT: u8 = 9;
/// A kind that nobody has given a meaning.
const UNKNOWN: u8 = 99;

const fn limit(label: &'static str) -> Option<(&'static str, &'static str)> {
    Some(("seedring_limit_hits_total", label))
}

const fn figure(name: &'static str) -> Option<(&'static str, &'static str)> {
    Some((name, ""))
}

const fn dropped(label: &'static str) -> Option<(&'static str, &'static str)> {
    Some(("seedring_dht_dropped_total", label))
}

/// Each row: its name, whom it is done to, how many do it, how, what must become of them, and what must have counted it.
macro_rules! table {
    ($($name:ident: $role:ident, $attackers:expr, $attack:ident, $fate:expr, $counted:expr;)*) => {
        mod rows {
            use super::Fate::{Closed, Kept};
            use super::Role::{Download, Node, Seed};
            use super::{Misbehaviour, dropped, figure, limit, play};
            $(
                #[test]
                fn $name() {
                    let (role, attackers, attack) = ($role, $attackers, super::$attack);
                    play(&Misbehaviour { role, attackers, attack, fate: $fate, counted: $counted });
                }
            )*
        }
    };
}

table! {
    flood_of_keep_alives: Seed, 2, keep_alives, Some(Kept), None;
    flood_of_haves: Seed, 2, haves, Some(Kept), None;
    flood_of_chokes: Seed, 2, chokes, Some(Kept), None;
    flood_of_changes_of_interest: Seed, 2, changes_of_interest, Some(Kept), None;
    flood_of_cancels: Seed, 2, cancels, Some(Kept), None;
    flood_of_requests: Seed, 2, requests, Some(Kept), limit("limit=\"requests\"");
    flood_of_requests_while_choked: Seed, 2, requests_while_choked, Some(Closed), limit("limit=\"offences\"");
    flood_of_ports: Seed, 2, ports, Some(Kept), None;
    flood_of_unknown_messages: Seed, 2, unknown, Some(Kept), None;
    flood_of_questions_of_v2: Seed, 2, questions_of_v2, Some(Kept), None;
    flood_of_questions_of_v2_to_a_downloader: Download, 2, questions_of_v2, Some(Kept), None;
    flood_of_long_unknown_messages: Seed, 2, long_unknown, Some(Kept), None;
    flood_of_late_bitfields: Seed, 2, late_bitfields, Some(Closed), limit("limit=\"offences\"");
    flood_of_blocks_to_a_seed: Seed, 2, blocks, Some(Closed), limit("limit=\"offences\"");
    flood_of_blocks_to_a_downloader: Download, 2, blocks, Some(Closed), limit("limit=\"offences\"");
    flood_of_haves_to_a_downloader: Download, 2, haves, Some(Kept), None;
    // Whether anything was asked for between two chokes is chance.
    flood_of_chokes_to_a_downloader: Download, 2, chokes, None, None;

    wrong_lengths: Seed, 1, wrong_lengths, Some(Closed), limit("limit=\"messages\"");
    wrong_requests: Seed, 1, wrong_requests, Some(Closed), limit("limit=\"messages\"");
    wrong_haves: Seed, 1, wrong_haves, Some(Closed), limit("limit=\"messages\"");
    wrong_bitfields: Seed, 1, wrong_bitfields, Some(Closed), limit("limit=\"messages\"");
    wrong_blocks: Download, 1, wrong_blocks, Some(Closed), limit("limit=\"messages\"");
    wrong_handshakes: Seed, 1, wrong_handshakes, Some(Closed), None;
    wrong_fast_messages: Seed, 1, wrong_fast_messages, Some(Closed), limit("limit=\"messages\"");
    wrong_encrypted_handshakes: Seed, 1, wrong_encrypted_handshakes, Some(Closed), None;
    requests_at_the_edge: Seed, 2, ask_at_the_edge, Some(Kept), None;

    wrong_contents: Download, 2, give_rubbish, Some(Closed), figure("seedring_failed_pieces_total");
    wrong_contents_under_new_names: Download, 2, give_rubbish_under_new_names, Some(Closed), figure("seedring_failed_pieces_total");
    half_of_each_block: Download, 2, give_half, None, figure("seedring_wasted_bytes_total");
    blocks_of_another_piece: Download, 2, give_another, Some(Closed), limit("limit=\"offences\"");
    chokes_for_answers: Download, 2, choke_when_asked, Some(Closed), limit("limit=\"offences\"");

    handshakes_that_drip: Seed, 30, drip_handshake, Some(Closed), limit("limit=\"silent\"");
    slow_readers: Seed, 20, read_slowly, Some(Kept), None;
    slow_writers: Seed, 20, write_slowly, Some(Kept), None;
    strangers_who_say_nothing: Seed, 3, say_nothing, None, limit("limit=\"handshakes\"");
    strangers_who_come_and_go: Seed, 2, come_and_go, None, limit("limit=\"arrivals\"");
    encrypted_handshakes_by_the_hundred: Seed, 2, encrypted_handshakes, None, limit("limit=\"exchanges\"");
    encrypted_handshakes_held_open: Seed, 3, held_encrypted_handshakes, None, limit("limit=\"handshakes\"");

    lies_in_greetings: Seed, 1, lies_in_greetings, Some(Kept), limit("limit=\"offences\"");
    flood_of_greetings: Seed, 2, greetings, Some(Closed), limit("limit=\"offences\"");
    flood_of_unknown_extensions: Seed, 2, unknown_extensions, Some(Kept), None;
    flood_of_long_extended_messages: Seed, 2, long_extended, Some(Closed), limit("limit=\"offences\"");
    flood_of_deep_extended_messages: Seed, 2, deep_extended, Some(Closed), limit("limit=\"offences\"");
    flood_of_metadata_requests: Seed, 2, metadata_requests, Some(Closed), limit("limit=\"requests\"");
    metadata_asked_for_again_and_again: Seed, 1, metadata_again, Some(Kept), limit("limit=\"requests\"");
    metadata_of_blocks_that_are_none: Seed, 2, metadata_of_nowhere, Some(Closed), limit("limit=\"offences\"");
    metadata_that_nobody_asked_for: Seed, 2, metadata_unasked, Some(Closed), limit("limit=\"offences\"");
    flood_of_addresses: Seed, 2, pex, Some(Closed), limit("limit=\"addresses\"");
    flood_of_addresses_to_a_downloader: Download, 2, pex, Some(Closed), limit("limit=\"addresses\"");
    addresses_of_nobody: Seed, 1, pex_of_nobody, Some(Kept), None;
    flood_of_rejects: Seed, 2, rejects_unasked, Some(Closed), limit("limit=\"offences\"");
    flood_of_rejects_to_a_downloader: Download, 2, rejects_unasked, Some(Closed), limit("limit=\"offences\"");
    rejects_that_nobody_reads: Seed, 2, rejects_unread, Some(Closed), limit("limit=\"offences\"");
    nothing_behind_a_bitfield: Seed, 2, late_have_nones, Some(Closed), limit("limit=\"offences\"");
    everything_behind_a_bitfield: Download, 2, late_have_alls, Some(Closed), limit("limit=\"offences\"");
    flood_of_suggestions: Download, 2, suggestions, Some(Kept), None;
    flood_of_promises: Download, 2, promises, Some(Closed), limit("limit=\"offences\"");
    flood_of_lost_pieces: Download, 2, losses, Some(Closed), limit("limit=\"offences\"");
    rejects_for_answers: Download, 2, reject_everything, Some(Kept), None;

    flood_of_dht_queries: Node, 2, dht_queries, Some(Kept), dropped("reason=\"queries\"");
    flood_of_dht_queries_of_many: Node, 2, dht_queries_of_many, Some(Kept), dropped("reason=\"upload\"");
    flood_of_dht_answers: Node, 2, dht_answers, Some(Kept), dropped("reason=\"unsolicited\"");
    flood_of_dht_rubbish: Node, 2, dht_rubbish, Some(Kept), dropped("reason=\"malformed\"");
}

fn keep_alives(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_with(scene, &[], &[0; 64 * 1024])
}

fn haves(scene: &Scene, _: usize) -> io::Result<Fate> {
    // Not of all pieces: with another seed, a seed has nothing to talk about.
    let pieces = 0..scene.torrent.layout.piece_count() - 1;
    let all: Vec<u8> = pieces.flat_map(|piece| message(HAVE, &[piece], &[])).collect();
    flood_with(scene, &[], &all.repeat(20))
}

fn chokes(scene: &Scene, _: usize) -> io::Result<Fate> {
    let both = [message(CHOKE, &[], &[]), message(UNCHOKE, &[], &[])].concat();
    flood_with(scene, &bitfield(&scene.torrent, 3), &both.repeat(5000))
}

fn changes_of_interest(scene: &Scene, _: usize) -> io::Result<Fate> {
    let both = [message(INTERESTED, &[], &[]), message(NOT_INTERESTED, &[], &[])].concat();
    flood_with(scene, &[], &both.repeat(5000))
}

fn cancels(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut stream = unchoked(scene)?;
    (0..500).try_for_each(|n| stream.write_all(&message(REQUEST, &[n % 100, 0, BLOCK], &[])))?;
    let all: Vec<u8> = (0..100).flat_map(|piece| message(CANCEL, &[piece, 1, 1], &[])).collect();
    flood(scene, stream, &all.repeat(20))
}

fn requests(scene: &Scene, _: usize) -> io::Result<Fate> {
    let all: Vec<u8> = (0..100).flat_map(|piece| message(REQUEST, &[piece, 0, BLOCK], &[])).collect();
    flood(scene, unchoked(scene)?, &all.repeat(20))
}

fn requests_while_choked(scene: &Scene, _: usize) -> io::Result<Fate> {
    let all: Vec<u8> = (0..100).flat_map(|piece| message(REQUEST, &[piece, 0, BLOCK], &[])).collect();
    flood_with(scene, &[], &all.repeat(20))
}

fn ports(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_with(scene, &[], &message(PORT, &[], &[1, 2]).repeat(5000))
}

fn unknown(scene: &Scene, _: usize) -> io::Result<Fate> {
    let all: Vec<u8> = (0..20).flat_map(|len| message(UNKNOWN, &[], &vec![7; len])).collect();
    flood_with(scene, &[], &all.repeat(200))
}

fn long_unknown(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_with(scene, &[], &message(UNKNOWN, &[], &vec![7; (1 << 20) - 1]))
}

/// Says that it speaks all there is, and asks for hashes of v2 torrents (BEP 52), gives some, and refuses some.
fn questions_of_v2(scene: &Scene, _: usize) -> io::Result<Fate> {
    let stream = dial_as(scene, [0xff; 8])?;
    let numbers = [[0, 0, 2, 0], [u32::MAX; 4], [1, 512, 1 << 31, 40]];
    let about = numbers.map(|numbers| [vec![9; 32], numbers.map(u32::to_be_bytes).concat()].concat());
    let one = |about: &Vec<u8>| {
        let hashes = [&about[..], &[7; 32 * 512]].concat();
        [message(21, &[], about), message(22, &[], &hashes), message(23, &[], about)].concat()
    };
    let all: Vec<u8> = about.iter().flat_map(one).collect();
    flood(scene, stream, &all)
}

fn late_bitfields(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_with(scene, &message(HAVE, &[0], &[]), &bitfield(&scene.torrent, 3).repeat(100))
}

fn blocks(scene: &Scene, _: usize) -> io::Result<Fate> {
    flood_with(scene, &[], &message(PIECE, &[1, 0], &[0xaa; BLOCK as usize]).repeat(10))
}

fn wrong_lengths(scene: &Scene, _: usize) -> io::Result<Fate> {
    let prefix = |len: u32, id: u8| [&len.to_be_bytes()[..], &[id; 64]].concat();
    offend(
        scene,
        &[
            ("a message of 4 GiB", prefix(u32::MAX, UNKNOWN)),
            ("a message of 2 GiB", prefix(1 << 31, UNKNOWN)),
            ("a message that is a byte too long", prefix((1 << 20) + 1, UNKNOWN)),
            ("a block of 4 GiB", prefix(u32::MAX, PIECE)),
            ("a bitfield of 4 GiB", prefix(u32::MAX, 5)),
            ("a choke with a payload", message(CHOKE, &[], &[1])),
            ("an unchoke with a payload", message(UNCHOKE, &[], &[1])),
            ("an interest with a payload", message(INTERESTED, &[], &[1])),
            ("a have that is too short", message(HAVE, &[], &[0; 3])),
            ("a have that is too long", message(HAVE, &[], &[0; 5])),
            ("a request that is too short", message(REQUEST, &[], &[0; 11])),
            ("a request that is too long", message(REQUEST, &[], &[0; 13])),
            ("a cancel that is too short", message(CANCEL, &[], &[0; 11])),
            ("a port that is too long", message(PORT, &[], &[0; 3])),
            ("a block without numbers", message(PIECE, &[], &[0; 7])),
            ("a block without bytes", message(PIECE, &[0, 0], &[])),
            ("a block that is a byte too long", message(PIECE, &[0, 0], &[0; BLOCK as usize + 1])),
        ],
    )
}

fn wrong_requests(scene: &Scene, _: usize) -> io::Result<Fate> {
    let pieces = scene.torrent.layout.piece_count();
    let last = scene.torrent.layout.pieces().next_back().map(|piece| scene.torrent.layout.piece_len(piece));
    let last = last.unwrap();
    let numbers = [
        [pieces, 0, BLOCK],
        [1 << 31, 0, BLOCK],
        [u32::MAX, 0, BLOCK],
        [0, PIECE_LEN, 1],
        [0, PIECE_LEN - 1, 2],
        [0, PIECE_LEN - BLOCK + 1, BLOCK],
        [0, 1 << 31, BLOCK],
        [0, u32::MAX, 1],
        [0, u32::MAX, u32::MAX],
        [0, 0, 0],
        [0, 0, BLOCK + 1],
        [0, 0, 1 << 31],
        [0, 0, u32::MAX],
        [pieces - 1, last, 1],
        [pieces - 1, last - 1, 2],
        [pieces - 1, 2 * BLOCK, 1],
    ];
    let names: Vec<String> = numbers.iter().map(|numbers| format!("a request of {numbers:?}")).collect();
    let said = numbers
        .iter()
        .map(|numbers| [message(INTERESTED, &[], &[]), message(REQUEST, numbers, &[])].concat());
    let offences: Vec<(&str, Vec<u8>)> = names.iter().map(String::as_str).zip(said).collect();
    offend(scene, &offences)
}

fn wrong_haves(scene: &Scene, _: usize) -> io::Result<Fate> {
    let pieces = scene.torrent.layout.piece_count();
    let have = |piece| message(HAVE, &[piece], &[]);
    offend(
        scene,
        &[
            ("a have of the piece behind the last", have(pieces)),
            ("a have of piece 2^31", have(1 << 31)),
            ("a have of piece 2^32 - 1", have(u32::MAX)),
        ],
    )
}

fn wrong_bitfields(scene: &Scene, _: usize) -> io::Result<Fate> {
    let pieces = scene.torrent.layout.piece_count();
    let len = pieces.div_ceil(8) as usize;
    assert_ne!(pieces % 8, 0, "there are spare bits");
    let late = [message(HAVE, &[0], &[]), bits(len)].concat();
    offend(
        scene,
        &[
            ("a bitfield that is too short", bits(len - 1)),
            ("a bitfield that is too long", bits(len + 1)),
            ("a bitfield of nothing", bits(0)),
            ("a bitfield with spare bits", bits(len)),
            ("a late bitfield with spare bits", late),
        ],
    )
}

fn wrong_blocks(scene: &Scene, _: usize) -> io::Result<Fate> {
    let pieces = scene.torrent.layout.piece_count();
    let block = |piece, begin, len: usize| message(PIECE, &[piece, begin], &vec![0; len]);
    offend(
        scene,
        &[
            ("a block of the piece behind the last", block(pieces, 0, 1)),
            ("a block of piece 2^32 - 1", block(u32::MAX, 0, 1)),
            ("a block behind the end of its piece", block(0, PIECE_LEN, 1)),
            ("a block across the end of its piece", block(0, PIECE_LEN - 1, 2)),
            ("a block whose end overflows", block(0, u32::MAX, 2)),
            ("a block behind the end of the torrent", block(pieces - 1, 2 * BLOCK, 1)),
        ],
    )
}

/// What comes in place of a handshake. Only the protocol's name tells a plain handshake from an encrypted one, of which
/// the key, the longest pad and what ends it must be there before it is known for none.
fn wrong_handshakes(scene: &Scene, _: usize) -> io::Result<Fate> {
    let good = handshake(&scene.torrent, [1; 20]);
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        // It cannot be known for a wrong one before all of an encrypted one could be there.
        if at < 20 {
            bytes.resize(96 + 512 + 20, 9);
        }
        bytes
    };
    let starts = [
        ("another length of the name", changed(0)),
        ("another name", changed(19)),
        ("another torrent", changed(28)),
        ("another torrent at its end", changed(47)),
        ("zeros", vec![0; 96]),
        ("ones", vec![0xff; 96]),
        ("a page", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)),
    ];
    for (what, start) in starts {
        let mut stream = TcpStream::connect(scene.addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(8)))?;
        let _ = stream.write_all(&start);
        wait_closed(&mut stream).unwrap_or_else(|why| panic!("not closed for {what}: {why}"));
        if scene.is_over() {
            return Ok(Fate::Closed);
        }
    }
    scene.begun();
    Ok(Fate::Closed)
}
