//! Whom a seed serves when not everybody can be served: peers on raw sockets see who has an upload slot.

mod common;

use common::DEADLINE;
use common::payload::{BLOCK, one_file};
use common::peer::{BITFIELD, INTERESTED, PIECE, REQUEST, UNCHOKE, connect, message, try_hear};
use common::program::{Program, client};
use seedring::metainfo::Torrent;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
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
