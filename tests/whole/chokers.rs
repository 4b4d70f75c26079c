//! Whom we serve when not everybody can be served: peers on raw sockets see who has an upload slot.

use crate::common::DEADLINE;
use crate::common::payload::{BLOCK, noise, one_file};
use crate::common::peer::{
    BITFIELD, INTERESTED, PIECE, REQUEST, Request, UNCHOKE, connect, message, try_hear,
};
use crate::common::program::{Program, client};
use seedring::metainfo::Torrent;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const CHOKE: u8 = 0;
/// Pieces, of a block each.
const PIECES: u32 = 64;
const FIRST_HALF: Range<u32> = 0..PIECES / 2;
const NOTHING: Range<u32> = 0..0;
/// Worth four upload slots.
const UPLOAD_LIMIT: &str = "40K";
const SLOTS: usize = 4;
/// A turn is over after 30 seconds, which is seen in a round of 10.
const TURN: Duration = Duration::from_secs(44);

/// How much a peer asks for.
#[derive(Clone, Copy)]
enum Appetite {
    /// As much as it can get.
    Great,
    /// A few bytes each time that it is unchoked.
    Small,
}

/// A seed, and what its peers hear: who, and whether it is unchoked or choked.
struct Crowd {
    addr: SocketAddr,
    torrent: Torrent,
    tell: Sender<(u8, bool)>,
    heard: Receiver<(u8, bool)>,
    _seed: (Program, tempfile::TempDir),
}

impl Crowd {
    fn around(choker: &str) -> Self {
        let (folder, path, torrent) = one_file((PIECES * BLOCK) as usize, BLOCK);
        // What its peers do not have is seen by each core for itself.
        let options = ["--seed-choker", choker, "--upload-limit", UPLOAD_LIMIT, "--cores", "1"];
        let mut seed = Program::start(&mut client("seed", &path, folder.path(), &options));
        let (tell, heard) = channel();
        let crowd = Self { addr: seed.address(), torrent, tell, heard, _seed: (seed, folder) };
        // What nobody has is given out by other rules: here nothing is rare.
        for (number, has) in [(100, FIRST_HALF), (101, FIRST_HALF.end..PIECES)] {
            let mut stream = crowd.connect(number, has).unwrap();
            thread::spawn(move || while try_hear(&mut stream).is_ok() {});
        }
        crowd
    }

    /// A peer that has these pieces.
    fn connect(&self, number: u8, has: Range<u32>) -> io::Result<std::net::TcpStream> {
        let mut stream = connect(self.addr, &self.torrent, [number; 20])?;
        stream.set_read_timeout(None)?;
        let mut bits = [0; PIECES as usize / 8];
        has.for_each(|piece| bits[piece as usize / 8] |= 0x80 >> (piece % 8));
        stream.write_all(&message(BITFIELD, &[], &bits))?;
        Ok(stream)
    }

    /// One more peer is interested, and tells what it hears.
    fn join(&self, number: u8, has: Range<u32>, appetite: Appetite) {
        let mut stream = self.connect(number, has).unwrap();
        let tell = self.tell.clone();
        thread::spawn(move || -> io::Result<()> {
            stream.write_all(&message(INTERESTED, &[], &[]))?;
            let mut next = PIECES / 2;
            loop {
                let (kind, _) = try_hear(&mut stream)?;
                if [UNCHOKE, CHOKE].contains(&kind) {
                    let _ = tell.send((number, kind == UNCHOKE));
                }
                let (count, len) = match (appetite, kind) {
                    (Appetite::Great, UNCHOKE) => (32, BLOCK),
                    (Appetite::Great, PIECE) => (1, BLOCK),
                    (Appetite::Small, UNCHOKE) => (1, 16),
                    _ => continue,
                };
                for _ in 0..count {
                    stream.write_all(&message(REQUEST, &[next, 0, len], &[]))?;
                    next = PIECES / 2 + (next + 1) % (PIECES / 2);
                }
            }
        });
    }

    /// Listens until enough was heard.
    fn until(&self, mut enough: impl FnMut(u8, bool) -> bool) {
        loop {
            let (number, unchoked) = self.heard.recv_timeout(DEADLINE).unwrap();
            if enough(number, unchoked) {
                return;
            }
        }
    }
}

/// Two peers that take what they can, with as much of the torrent as `has` of the first says, and six that take next to
/// nothing, with as much as the second says.
fn two_fast_of_eight(choker: &str, has: [Range<u32>; 2]) -> Crowd {
    let crowd = Crowd::around(choker);
    let [fast, slow] = has;
    (1..=2).for_each(|number| crowd.join(number, fast.clone(), Appetite::Great));
    let mut served = BTreeSet::new();
    crowd.until(|number, unchoked| {
        assert!(unchoked);
        served.insert(number);
        served.len() == 2
    });
    (11..=16).for_each(|number| crowd.join(number, slow.clone(), Appetite::Small));
    crowd
}

#[test]
fn by_turns_the_fastest_have_to_wait_too() {
    let crowd = two_fast_of_eight("round-robin", [NOTHING, FIRST_HALF]);
    let mut waiting = BTreeSet::new();
    crowd.until(|number, unchoked| {
        if number <= 2 && !unchoked {
            waiting.insert(number);
        }
        waiting.len() == 2
    });
}

#[test]
fn the_fastest_keep_their_slots() {
    let crowd = two_fast_of_eight("fastest", [FIRST_HALF, NOTHING]);
    let (end, mut served) = (Instant::now() + TURN, BTreeSet::new());
    loop {
        match crowd.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((number, unchoked)) => {
                assert!(unchoked || number > 2, "peer {number} is choked");
                served.insert(number);
            }
            Err(RecvTimeoutError::Timeout) => break,
            Err(why) => panic!("{why}"),
        }
    }
    assert!(served.len() >= 2, "the others share what is left: {served:?}");
}

#[test]
fn against_leeches_those_at_the_start_come_before_those_in_the_middle() {
    let crowd = Crowd::around("anti-leech");
    (1..=8).for_each(|number| crowd.join(number, FIRST_HALF, Appetite::Great));
    let (mut middle, mut start) = (BTreeSet::new(), BTreeSet::new());
    crowd.until(|number, _| {
        middle.insert(number);
        middle.len() == SLOTS
    });
    (11..=13).for_each(|number| crowd.join(number, NOTHING, Appetite::Great));
    crowd.until(|number, unchoked| {
        if unchoked {
            _ = if number < 10 { middle.insert(number) } else { start.insert(number) };
        }
        start.len() == 3
    });
    // One slot goes by chance.
    assert!(middle.len() <= SLOTS + 1, "{middle:?} were served first");
}

/// Pieces of 4 MiB that take long; a download that has the first half of them.
const LONG: u32 = 4 << 20;
const LONG_PIECES: u32 = 8;
/// Worth 24 upload slots, of which four go by chance.
const LEECH_LIMIT: &str = "1M";
const GIVERS: u8 = 24;
const NEWCOMERS: Range<u8> = 100..120;
/// A slot that goes by chance is had for half a minute when it is no newcomer who has it: twice that, and a round.
const SOON: Duration = Duration::from_secs(60);

/// A download to be served by, and all that there is of it.
struct Leech {
    addr: SocketAddr,
    torrent: Torrent,
    payload: Vec<u8>,
    tell: Sender<(u8, bool)>,
}

impl Leech {
    /// One more peer is interested, asks for all it can get, and tells what it hears. One who `gives` has the second half, and
    /// sends a block every two seconds.
    fn join(self: &Arc<Self>, number: u8, gives: bool) {
        let mut stream = connect(self.addr, &self.torrent, [number; 20]).unwrap();
        stream.set_read_timeout(None).unwrap();
        let sends = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let send = move |message: &[u8]| sends.lock().unwrap().write_all(message);
        if gives {
            send(&message(BITFIELD, &[], &[0x0f])).unwrap();
            send(&message(UNCHOKE, &[], &[])).unwrap();
        }
        send(&message(INTERESTED, &[], &[])).unwrap();
        let (asked, asks) = channel::<Request>();
        let (leech, answer) = (Arc::clone(self), send.clone());
        thread::spawn(move || -> io::Result<()> {
            while let Ok(request) = asks.recv() {
                thread::sleep(Duration::from_secs(2));
                answer(&request.answer(&leech.torrent, &leech.payload))?;
            }
            Ok(())
        });
        let tell = self.tell.clone();
        thread::spawn(move || -> io::Result<()> {
            let mut next = 0;
            loop {
                let (kind, body) = try_hear(&mut stream)?;
                if [UNCHOKE, CHOKE].contains(&kind) {
                    let _ = tell.send((number, kind == UNCHOKE));
                }
                Request::read(kind, &body).into_iter().for_each(|request| _ = asked.send(request));
                let more = match kind {
                    UNCHOKE => 16,
                    PIECE => 1,
                    _ => 0,
                };
                for _ in 0..more {
                    send(&message(REQUEST, &[next / LONG, next % LONG, BLOCK], &[]))?;
                    next = (next + BLOCK) % (LONG * LONG_PIECES / 2);
                }
            }
        });
    }
}

#[test]
fn newcomers_among_many_who_give_are_served_soon_and_several_at_once() {
    let (folder, path, torrent) = one_file((LONG * LONG_PIECES) as usize, LONG);
    let payload = noise((LONG * LONG_PIECES) as usize);
    let part = folder.path().join("download");
    std::fs::create_dir(&part).unwrap();
    std::fs::write(part.join("payload.part"), &payload[..payload.len() / 2]).unwrap();
    let options = ["--upload-limit", LEECH_LIMIT, "--cores", "1"];
    let mut program = Program::start(&mut client("download", &path, &part, &options));
    let (tell, heard) = channel();
    let leech = Arc::new(Leech { addr: program.address(), torrent, payload, tell });
    let mut served = BTreeSet::new();
    (1..=GIVERS).for_each(|number| leech.join(number, true));
    while served.len() < GIVERS.into() {
        let (number, unchoked) = heard.recv_timeout(DEADLINE).unwrap();
        _ = if unchoked { served.insert(number) } else { served.remove(&number) };
    }
    NEWCOMERS.for_each(|number| leech.join(number, false));
    let end = Instant::now() + SOON;
    while served.iter().filter(|number| NEWCOMERS.contains(number)).count() < 2 {
        let news = heard.recv_timeout(end.saturating_duration_since(Instant::now()));
        let (number, unchoked) = news.expect("two newcomers have slots");
        _ = if unchoked { served.insert(number) } else { served.remove(&number) };
    }
}
