//! One row of the table, played: a program that is attacked, one beside it that is not, and the same honest work for both.
//!
//! Nothing is timed. The honest peers of both programs go at a pace of their own, which both could keep; when those of
//! the program that is left in peace have done their work, those of the other must have done four fifths of it. Who shares
//! the processors with the test matters all the same: under load one scene's blocks differ by half from another's. So when the
//! honest fall behind, it is the best of three scenes that counts: two of them have to go well.

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, one_file};
use crate::common::program::{Program, client};
use crate::common::until;
use crate::honest::Honest;
use seedring::metainfo::Torrent;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// The payload: its last piece, and the last block of that, are short. Long enough that honest peers have work left when
/// each attacker is asked for as much as anybody is asked for at once.
pub(crate) const LEN: usize = 400 * PIECE_LEN as usize + BLOCK as usize + 77;
pub(crate) const PIECE_LEN: u32 = 4 * BLOCK;
/// Blocks that honest peers move in a scene.
pub(crate) const BLOCKS: usize = 600;
/// Of these, the program that is attacked must have moved so many in a hundred.
pub(crate) const KEPT: usize = 80;
/// Set by who runs this under a sanitizer, which takes of each program what it likes: what is done counts then, and not how soon.
const ANY_PACE: &str = "HOSTILE_ANY_PACE";
/// More memory than the program in peace that it may have taken, in bytes.
const MORE_MEMORY: u64 = 48 << 20;
/// Sockets that it may have beside one an attacker: listeners, honest peers, metrics, and strangers who have not shaken
/// hands, a hundred a core.
const SOCKETS: usize = 20 + 2 * 100;

/// What the program is doing when it is attacked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Seed,
    /// A seed that is a node of the DHT, at the same port.
    Node,
    Download,
}

/// What has become of an attacker's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The program has closed it.
    Closed,
    /// It was up until the end.
    Kept,
}

/// A row of the table.
pub(crate) struct Misbehaviour {
    /// Whom it is done to.
    pub(crate) role: Role,
    /// How many do it at a time.
    pub(crate) attackers: usize,
    /// What one of them does, again and again until the scene is over.
    pub(crate) attack: fn(&Scene, usize) -> io::Result<Fate>,
    /// What must become of all of them; `None` where each may fare otherwise.
    pub(crate) fate: Option<Fate>,
    /// The figure that must have moved: a name, and a label.
    pub(crate) counted: Option<(&'static str, &'static str)>,
}

/// What attackers know.
pub(crate) struct Scene {
    pub(crate) addr: SocketAddr,
    pub(crate) torrent: Torrent,
    pub(crate) payload: Vec<u8>,
    over: AtomicBool,
    /// Attackers who are at it.
    begun: AtomicUsize,
}

impl Scene {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// An attacker is at it: honest work begins when all are.
    pub(crate) fn begun(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }
}

/// A program with its honest peer.
struct Side {
    program: Program,
    metrics: SocketAddr,
    addr: SocketAddr,
    honest: Honest,
}

impl Side {
    fn start(role: Role, path: &Path, folder: &Path, torrent: &Torrent, go: &Arc<AtomicBool>) -> Self {
        let options = ["--cores", "2", "--memory-limit", "128M", "--metrics", "127.0.0.1:0"];
        let run = |what, folder: &Path, more: &[&str]| {
            let mut command = client(what, path, folder, &[&options, more].concat());
            if role == Role::Node {
                command.env_remove("SEEDRING_NO_DHT");
            }
            let mut program = Program::start(&mut command);
            let metrics = program.metrics_address();
            let addr = program.address();
            (program, metrics, addr)
        };
        match role {
            Role::Seed | Role::Node => {
                // Nobody is behind this door, and nothing is kept.
                let state = folder.with_extension("state");
                let state = state.to_str().expect("UTF-8");
                let dht = ["--dht-bootstrap", "127.0.0.1:9", "--state", state];
                let more = if role == Role::Node { &dht[..] } else { &[] };
                let (program, metrics, addr) = run("seed", path.parent().unwrap(), more);
                Self { program, metrics, addr, honest: Honest::taker(addr, torrent, noise(LEN), go) }
            }
            Role::Download => {
                let (honest, peer) = Honest::giver(torrent, noise(LEN), go);
                let peer = format!("--peer={peer}");
                let (program, metrics, addr) = run("download", folder, &["--seed", &peer]);
                Self { program, metrics, addr, honest }
            }
        }
    }
}

/// What attackers have met with.
#[derive(Debug, Default)]
struct Tally {
    closed: usize,
    kept: usize,
    /// Could not even begin, or were not answered: no more than a matter of haste.
    failed: usize,
}

/// Honest peers of the attacked program have fallen behind: blocks that they moved.
struct Behind(usize);

/// Plays a row.
pub(crate) fn play(row: &Misbehaviour) {
    // One at a time: programs of other rows would take the time that these need.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Err(Behind(first)) = act(row) else { return };
    println!("{first} blocks under attack, {BLOCKS} in peace: the best of three counts");
    for _ in 1..3 {
        if let Err(Behind(moved)) = act(row) {
            panic!("{first} and {moved} blocks under attack, {BLOCKS} in peace");
        }
    }
}

fn act(row: &Misbehaviour) -> Result<(), Behind> {
    let (folder, path, torrent) = one_file(LEN, PIECE_LEN);
    let go = Arc::new(AtomicBool::new(false));
    let [attacked, peaceful] = ["attacked", "peaceful"]
        .map(|name| Side::start(row.role, &path, &folder.path().join(name), &torrent, &go));
    let scene = Scene {
        addr: attacked.addr,
        torrent,
        payload: noise(LEN),
        over: AtomicBool::new(false),
        begun: AtomicUsize::new(0),
    };
    let tally = Mutex::new(Tally::default());
    let sockets = thread::scope(|scope| {
        // However this ends, so do they.
        let _over = Over(&scene.over);
        for number in 0..row.attackers {
            let (scene, tally) = (&scene, &tally);
            scope.spawn(move || {
                while !scene.is_over() {
                    let fate = (row.attack)(scene, number);
                    let mut tally = tally.lock().unwrap();
                    match fate {
                        Ok(Fate::Closed) => tally.closed += 1,
                        Ok(Fate::Kept) => tally.kept += 1,
                        Err(_) => tally.failed += 1,
                    }
                }
            });
        }
        until(|| match scene.begun.load(Ordering::Relaxed) {
            begun if begun >= row.attackers => Ok(()),
            begun => Err(format!("{begun} attackers are at it; {:?}", tally.lock().unwrap())),
        });
        // Whoever is dialled last would otherwise begin last.
        until(|| match [&attacked, &peaceful].map(|side| side.honest.has_met()) {
            [true, true] => Ok(()),
            met => Err(format!("the honest are connected: {met:?}, attacked and in peace")),
        });
        go.store(true, Ordering::Relaxed);
        until(|| match peaceful.honest.moved() {
            moved if moved >= BLOCKS => Ok(()),
            moved => Err(format!("{moved} blocks moved in peace")),
        });
        let moved = attacked.honest.moved();
        let kept = if is_any_pace() { 1 } else { KEPT };
        if moved * 100 < BLOCKS * kept {
            Err(Behind(moved))
        } else {
            Ok(attacked.program.descriptors().sockets)
        }
    })?;
    judge(row, &attacked, &peaceful, &tally.into_inner().unwrap(), sockets);
    Ok(())
}

fn is_any_pace() -> bool {
    std::env::var_os(ANY_PACE).is_some()
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn judge(row: &Misbehaviour, attacked: &Side, peaceful: &Side, tally: &Tally, sockets: usize) {
    println!("{tally:?}, {sockets} sockets, {} blocks under attack", attacked.honest.moved());
    match row.fate {
        // A slow program is slow to see what is wrong, too.
        Some(Fate::Closed) if is_any_pace() => {}
        // The end of the scene comes upon each of them somewhere on its way.
        Some(Fate::Closed) => {
            let all = tally.closed >= row.attackers && tally.kept <= row.attackers;
            assert!(all, "all are closed: {tally:?}");
        }
        Some(Fate::Kept) => assert!(tally.kept > 0 && tally.closed == 0, "nobody is closed: {tally:?}"),
        None => {}
    }
    assert!(sockets <= SOCKETS + row.attackers, "{sockets} sockets");
    let (memory, usual) = (attacked.program.peak_memory(), peaceful.program.peak_memory());
    assert!(memory <= usual + MORE_MEMORY, "{memory} bytes of memory, {usual} in peace");
    if let Some((name, label)) = row.counted.filter(|_| !is_any_pace()) {
        until(|| match Samples::fetch(attacked.metrics).sum(name, &[label]) {
            0 => Err(format!("{name} with {label} has not moved")),
            _ => Ok(()),
        });
    }
    // The attackers have gone, and nothing of them is left.
    until(|| match [attacked, peaceful].map(|side| side.program.descriptors().sockets) {
        [now, usual] if now <= usual => Ok(()),
        sockets => Err(format!("{sockets:?} sockets, attacked and in peace")),
    });
    let before = attacked.honest.moved();
    until(|| {
        if attacked.honest.moved() > before || attacked.honest.is_done() {
            Ok(())
        } else {
            Err("no more blocks".into())
        }
    });
}
