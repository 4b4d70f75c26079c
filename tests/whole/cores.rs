//! Several cores on one torrent: none is held up by the peers of another, and memory keeps within its limit.

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, one_file};
use crate::common::peer::{
    BITFIELD, HAVE, INTERESTED, Request, UNCHOKE, accept, bitfield, connect, handshake, hear_kind,
    listener_pair, message,
};
use crate::common::program::{Program, client, load};
use crate::common::until;
use rustix::thread::{CpuSet, sched_setaffinity};
use seedring::metainfo::Torrent;
use seedring::wire::mse::{Initiator, Methods, Randomness, Step};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

const CORES: [&str; 4] = ["--cores", "2", "--metrics", "127.0.0.1:0"];
/// Blocks of a piece.
const PIECE_BLOCKS: u32 = 16;
/// Blocks that the seed sends that then lets everybody down.
const ANSWERS: usize = 3;

/// How a seed lets everybody down.
#[derive(Clone, Copy, PartialEq)]
enum Lapse {
    /// It says nothing more.
    Stalls,
    /// It goes, in the middle of a block.
    Vanishes,
}

/// A seed that answers a few requests, tells so with the requests that it has heard, and lets everybody down once it
/// `may`.
fn unreliable(
    listener: TcpListener,
    torrent: Torrent,
    payload: Arc<Vec<u8>>,
    lapse: Lapse,
    may: Arc<AtomicBool>,
    tell: Sender<Vec<Request>>,
) {
    let mut stream = accept(&listener, &torrent, [1; 20]).unwrap();
    drop(listener);
    stream.write_all(&bitfield(&torrent, torrent.layout.piece_count())).unwrap();
    stream.write_all(&message(UNCHOKE, &[], &[])).unwrap();
    let mut heard = Vec::new();
    for _ in 0..ANSWERS {
        let request = Request::hear(&mut stream).unwrap();
        stream.write_all(&request.answer(&torrent, &payload)).unwrap();
        heard.push(request);
    }
    let next = Request::hear(&mut stream).unwrap();
    heard.push(next);
    tell.send(heard).unwrap();
    until(|| may.load(Ordering::Acquire).then_some(()).ok_or_else(|| "it may not go".to_owned()));
    if lapse == Lapse::Vanishes {
        stream.write_all(&next.answer(&torrent, &payload)[..5000]).unwrap();
        return;
    }
    // Until the program has no need of it any more.
    while Request::hear(&mut stream).is_ok() {}
}

/// A seed that does nothing before it may, and then all that it is asked for.
fn honest(listener: &TcpListener, torrent: &Torrent, payload: &[u8], may: &AtomicBool) {
    let mut stream = accept(listener, torrent, [2; 20]).unwrap();
    stream.write_all(&bitfield(torrent, torrent.layout.piece_count())).unwrap();
    until(|| may.load(Ordering::Acquire).then_some(()).ok_or_else(|| "it may not begin".to_owned()));
    stream.write_all(&message(UNCHOKE, &[], &[])).unwrap();
    while let Ok(request) = Request::hear(&mut stream) {
        if stream.write_all(&request.answer(torrent, payload)).is_err() {
            break;
        }
    }
}

/// A core's only peer has pieces claimed and lets it down; the only other peer is another core's.
fn pieces_are_not_stuck(lapse: Lapse) {
    let len = (12 * PIECE_BLOCKS * BLOCK) as usize;
    let (folder, path, torrent) = one_file(len, PIECE_BLOCKS * BLOCK);
    let payload = Arc::new(noise(len));
    let [first, second] = listener_pair();
    let peers = [&first, &second].map(|listener| format!("--peer={}", listener.local_addr().unwrap()));
    let (may_lapse, may_help) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (tell, told) = channel();
    thread::spawn({
        let (torrent, payload, may) = (torrent.clone(), Arc::clone(&payload), Arc::clone(&may_lapse));
        move || unreliable(first, torrent, payload, lapse, may, tell)
    });
    thread::spawn({
        let (payload, may) = (Arc::clone(&payload), Arc::clone(&may_help));
        move || honest(&second, &torrent, &payload, &may)
    });
    let target = folder.path().join("copy");
    let more = [&CORES[..], &["--seed", &peers[0], &peers[1]]].concat();
    let mut program = Program::start(&mut client("download", &path, &target, &more));
    let metrics = program.metrics_address();
    let heard = told.recv().unwrap();
    assert!(heard.iter().all(|request| request.piece == heard[0].piece), "one whole piece first: {heard:?}");

    // One peer a core, and only one core has begun anything.
    let holder = until(|| {
        let page = Samples::fetch(metrics);
        let sockets = page.by_core("seedring_sockets", &[]);
        let held = page.by_core("seedring_slabs", &["state=\"held\""]);
        let holders: Vec<usize> = (0..held.len()).filter(|core| held[*core] > 0).collect();
        match (&sockets[..], &holders[..]) {
            ([1, 1], [holder]) => Ok(*holder),
            _ => Err(format!("{sockets:?} sockets, {held:?} slabs held")),
        }
    });
    may_lapse.store(true, Ordering::Release);
    if lapse == Lapse::Vanishes {
        until(|| {
            let left = Samples::fetch(metrics).sum("seedring_peers", &[]);
            if left == 1 { Ok(()) } else { Err(format!("{left} peers")) }
        });
    }
    may_help.store(true, Ordering::Release);
    program.until("completed");
    assert!(*payload == std::fs::read(target.join("payload")).unwrap());

    // The rest of the piece that was begun came from the other core, by letter. Nobody else moves bytes on this one, but
    // for a few of the first blocks if they came in a way that was not guessed.
    let rest = u64::from((PIECE_BLOCKS - ANSWERS as u32) * BLOCK);
    let end = until(|| {
        let page = Samples::fetch(metrics);
        let sockets = page.by_core("seedring_sockets", &[]);
        let held = page.by_core("seedring_slabs", &["state=\"held\""]);
        let moved = page.by_core("seedring_moved_bytes_total", &[]);
        let done = sockets == [0, 0] && held == [0, 0] && moved[holder] >= rest;
        if done { Ok(page) } else { Err(format!("{sockets:?} sockets, {held:?} held, {moved:?} moved")) }
    });
    assert_eq!(end.sum("seedring_downloaded_bytes_total", &[]), len as u64);
    assert_eq!(end.sum("seedring_limit_hits_total", &["limit=\"letters\""]), 0);
    assert_eq!(
        end.by_core("seedring_moved_bytes_total", &[])[1 - holder],
        0,
        "letters take what has come as it is"
    );
}

#[test]
fn a_core_whose_only_peer_stalls_holds_nothing_up() {
    pieces_are_not_stuck(Lapse::Stalls);
}

#[test]
fn a_core_whose_only_peer_vanishes_holds_nothing_up() {
    pieces_are_not_stuck(Lapse::Vanishes);
}

/// The only peer of one core has all, that of the other core nothing: it is told of each piece as it is got.
#[test]
fn what_one_core_has_got_peers_of_the_other_are_told_of() {
    const PIECES: u32 = 40;
    let len = (PIECES * BLOCK) as usize;
    let (folder, path, torrent) = one_file(len, BLOCK);
    let payload = noise(len);
    let [first, second] = listener_pair();
    let peers = [&first, &second].map(|listener| format!("--peer={}", listener.local_addr().unwrap()));
    let may = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let (torrent, may) = (torrent.clone(), Arc::clone(&may));
        move || honest(&first, &torrent, &payload, &may)
    });
    let more = [&CORES[..], &["--seed", &peers[0], &peers[1]]].concat();
    let mut program = Program::start(&mut client("download", &path, &folder.path().join("copy"), &more));
    let metrics = program.metrics_address();
    let mut taker = accept(&second, &torrent, [3; 20]).unwrap();
    until(|| {
        let sockets = Samples::fetch(metrics).by_core("seedring_sockets", &[]);
        if sockets == [1, 1] { Ok(()) } else { Err(format!("{sockets:?} sockets")) }
    });
    may.store(true, Ordering::Release);
    let told = (0..PIECES).map(|_| hear_kind(&mut taker, HAVE));
    let told: BTreeSet<u32> = told.map(|body| u32::from_be_bytes(body.try_into().unwrap())).collect();
    assert!(told.into_iter().eq(0..PIECES));
}

/// Although the kernel spreads connections over the listeners by chance.
#[test]
fn peers_sit_on_the_core_where_their_packets_come_in() {
    let (folder, path, torrent) = one_file(1 << 20, PIECE_BLOCKS * BLOCK);
    let mut seed = Program::start(&mut client("seed", &path, folder.path(), &CORES));
    let (metrics, addr) = (seed.metrics_address(), seed.address());
    let (mut peers, processors) = (Vec::new(), thread::available_parallelism().unwrap().get());
    // One of the first four keeps the other core from being idle.
    for (core, wanted) in [[3, 1], [3, 5]].into_iter().enumerate() {
        let place: usize = seed.processors_of(&format!("shard-{core}"))[0].parse().unwrap();
        let mut here = CpuSet::new();
        here.set(place);
        sched_setaffinity(None, &here).unwrap();
        for _ in 0..4 {
            let mut stream = connect(addr, &torrent, [peers.len() as u8; 20]).unwrap();
            // It has its seat before the next one comes.
            hear_kind(&mut stream, BITFIELD);
            peers.push(stream);
        }
        // Where both cores are on one, only the end is known.
        if processors > 1 || core == 1 {
            until(|| {
                let sockets = Samples::fetch(metrics).by_core("seedring_sockets", &[]);
                if sockets == wanted { Ok(()) } else { Err(format!("{sockets:?}, not {wanted:?}")) }
            });
        }
    }
}

/// A peer that insists on encryption, and says that it is interested before it has heard anything.
fn hide_and_be_interested(addr: SocketAddr, torrent: &Torrent, number: u8) {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let random = Randomness { key: [number + 1; 20], first_pad: vec![], second_pad: vec![] };
    let methods = Methods { plaintext: false, rc4: true };
    let initial = [handshake(torrent, [number; 20]), message(INTERESTED, &[], &[])].concat();
    let mut out = Vec::new();
    let mut end = Initiator::new(random, methods, torrent.info_hash, initial, &mut out);
    let mut heard = [0; 1000];
    let mut receive = |stream: &mut TcpStream| {
        let len = stream.read(&mut heard).unwrap();
        assert!(len > 0, "it hangs up");
        heard[..len].to_vec()
    };
    let established = loop {
        stream.write_all(&out).unwrap();
        out.clear();
        match end.receive(&receive(&mut stream), &mut out).unwrap() {
            Step::More(more) => end = more,
            Step::Done(established) => break established,
        }
    };
    let (mut said, mut cipher) = (established.received, established.ciphers.unwrap().incoming);
    let unchoke = message(UNCHOKE, &[], &[]);
    while !said.windows(unchoke.len()).any(|part| part == unchoke) {
        let mut more = receive(&mut stream);
        cipher.apply(&mut more);
        said.extend(more);
    }
}

/// A peer that goes to another core takes along what it is encrypted by, and what it has said already.
#[test]
fn peers_are_heard_whichever_core_has_accepted_them() {
    let (folder, path, torrent) = one_file(1 << 20, PIECE_BLOCKS * BLOCK);
    let mut seed = Program::start(&mut client("seed", &path, folder.path(), &CORES));
    let addr = seed.address();
    (0..16).for_each(|number| hide_and_be_interested(addr, &torrent, number));
}

#[test]
fn long_pieces_from_many_peers_stay_within_the_memory_limit() {
    const MIB: u64 = 1 << 20;
    let len = 7 * 16 * MIB;
    let (folder, path, _) = one_file(len as usize, 16 * MIB as u32);
    let target = folder.path().join("copy");
    let more = [&CORES[..], &["--seed", "--memory-limit", "32M"]].concat();
    let mut program = Program::start(&mut client("download", &path, &target, &more));
    let addr = program.address();
    let mut load = Program::start(&mut load("upload", &path, folder.path(), addr, &["--connections", "100"]));
    let completed = program.until("completed");
    let summary = load.until("load");
    assert_eq!((&summary["ok"], &summary["connected"]), (&true.into(), &100.into()), "{summary}");
    let same = std::fs::read(target.join("payload")).unwrap() == noise(len as usize);
    assert!(same, "what has come is what was sent");
    let peak = program.peak_memory();
    assert!(peak <= (32 + 64) * MIB, "{} MiB at the most", peak / MIB);
    let wasted = completed["wasted"].as_u64().unwrap();
    assert!(wasted < len / 50, "{wasted} of {len} bytes came in vain");
    // Blocks that cores fetched for each other.
    let moved = completed["moved"].as_u64().unwrap();
    assert!(moved < len / 20, "{moved} of {len} bytes were copied");
}

#[test]
fn all_processors_are_used_unless_something_else_is_said() {
    let (folder, path, _) = one_file(100_000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &[]));
    seeder.address();
    let processors = thread::available_parallelism().unwrap().get();
    let threads = |core: usize| seeder.processors_of(&format!("shard-{core}")).len();
    assert_eq!((0..=processors).map(threads).collect::<Vec<_>>(), [vec![1; processors], vec![0]].concat());
}

#[test]
fn each_core_is_pinned_however_few_there_are() {
    let (folder, path, _) = one_file(100_000, BLOCK);
    for cores in [1, 2] {
        let options = ["--cores", &cores.to_string()];
        let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
        seeder.address();
        let mut places: Vec<String> =
            (0..cores).flat_map(|core| seeder.processors_of(&format!("shard-{core}"))).collect();
        assert!(
            places.len() == cores && places.iter().all(|place| place.parse::<usize>().is_ok()),
            "{places:?}"
        );
        places.sort();
        places.dedup();
        let processors = thread::available_parallelism().unwrap().get();
        assert_eq!(places.len(), cores.min(processors), "{places:?}");
    }
}
