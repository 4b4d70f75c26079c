//! One core: its peers, its part of each torrent, and the tasks that turn the swarm's wishes into ring operations.
//!
//! A core is a thread of its own with a ring of its own. The control thread talks to it through two bounded
//! mailboxes: [`Command`]s in, [`Report`]s out.

mod connection;
mod memory;
mod receive;
mod send;
mod torrent;

use connection::{accept, dial};
use memory::Memory;
use torrent::TorrentShard;

use crate::metainfo::{PieceIndex, Torrent};
use crate::ring::{self, Core, Listener, StartError, ZeroCopySend};
use crate::storage::{self, CheckReport, Folder, StorageError, Store};
use crate::swarm::{LimitHits, PieceMap, Settings, Swarm};
use crate::wire::PeerId;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Most connected peers of a torrent.
const MOST_PEERS: usize = 500;
/// Upload slots.
const SLOTS: usize = 32;
/// Pieces up to this length (bytes) are kept in memory until they are verified.
const HOLD: u32 = 4 * 1024 * 1024;
/// Reports that wait for the control thread; of those that only tell of something, further ones are dropped.
const MAILBOX: usize = 1024;

/// What a core is to do.
pub struct Assignment {
    /// The torrent.
    pub torrent: Arc<Torrent>,
    /// The download folder.
    pub folder: PathBuf,
    /// Whether missing pieces are to be fetched; else the folder is only read.
    pub download: bool,
    /// Where peers connect to.
    pub listener: TcpListener,
    /// What we call ourselves.
    pub id: PeerId,
    /// Bytes of payload memory.
    pub arena_len: usize,
    /// When payload is sent without a copy.
    pub zero_copy_send: ZeroCopySend,
}

/// What the control thread asks for.
#[derive(Debug)]
pub enum Command {
    /// Peers may be found here.
    Peers {
        /// Where.
        addrs: Vec<SocketAddr>,
        /// Whether the user named them.
        given: bool,
    },
    /// End, in order.
    Stop,
}

/// Where a torrent stands. Sums are payload bytes of this run; rates are bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Progress {
    /// Bytes that are still to be fetched and verified.
    pub left: u64,
    /// Fetched and verified.
    pub downloaded: u64,
    /// Sent to peers.
    pub uploaded: u64,
    /// Received in vain.
    pub wasted: u64,
    /// Moved in memory, because it came elsewhere than was guessed.
    pub moved: u64,
    /// Connected peers.
    pub peers: u32,
    /// From peers.
    pub download_rate: u64,
    /// To peers.
    pub upload_rate: u64,
    /// Number of pieces of the torrent.
    pub pieces: u32,
    /// Pieces verified and written.
    pub good_pieces: u32,
    /// How often a limit has said no.
    pub limits: LimitHits,
}

/// What a core tells the control thread.
#[derive(Debug)]
pub enum Report {
    /// So many pieces have been checked.
    Checking(u32),
    /// All pieces have been checked; peers are served from now on.
    Checked(CheckReport),
    /// Once a second.
    Progress(Progress),
    /// A piece had the wrong hash.
    PieceFailed(u32),
    /// A peer was dropped.
    PeerDropped {
        /// Where it was.
        addr: SocketAddr,
        /// Why, after "the peer".
        reason: String,
    },
    /// All is verified, written, and has its own name.
    Complete(Progress),
    /// The torrent cannot go on, for this reason.
    Failed(String),
    /// The core has ended.
    Ended(Progress),
}

impl Report {
    /// Whether somebody waits for it: it must arrive.
    fn is_awaited(&self) -> bool {
        matches!(self, Self::Checked(_) | Self::Complete(_) | Self::Failed(_) | Self::Ended(_))
    }
}

/// A running core, as the control thread sees it.
pub struct Shard {
    /// Its mailbox.
    pub commands: mpsc::Sender<Command>,
    /// What it has to tell. Closed when it has ended.
    pub reports: mpsc::Receiver<Report>,
}

impl Shard {
    /// Starts a core.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(assignment: Assignment) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel(64);
        let (outbox, reports) = mpsc::channel(MAILBOX);
        std::thread::Builder::new().name("shard-0".into()).spawn(move || {
            let mut config = ring::Config::new(assignment.arena_len);
            config.zero_copy_send = assignment.zero_copy_send;
            let tell = outbox.clone();
            let main = async |core| run(core, assignment, inbox, outbox).await;
            let problem = match ring::run(config, main) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(error @ StartError { .. }) => error.to_string(),
            };
            // The control thread waits for reports, so there is room sooner or later, or nobody to tell.
            let _ = tell.blocking_send(Report::Failed(problem));
        })?;
        Ok(Self { commands, reports })
    }
}

async fn run(
    core: Core,
    job: Assignment,
    mut commands: mpsc::Receiver<Command>,
    reports: mpsc::Sender<Report>,
) -> Result<(), StorageError> {
    let torrent = prepare(&core, &job, &reports, &mut commands).await?;
    let Some(torrent) = torrent else { return Ok(()) };
    ring::spawn(listen(Rc::clone(&torrent), job.listener));
    ring::spawn(keep_time(Rc::clone(&torrent)));
    while let Some(Command::Peers { addrs, given }) = commands.recv().await {
        addrs.into_iter().for_each(|addr| torrent.swarm.borrow_mut().add_candidate(addr, given));
    }
    torrent.stop().await;
    let _ = reports.send(Report::Ended(torrent.progress())).await;
    Ok(())
}

/// Checks what is on disk and makes ready to fetch the rest. `None` when told to stop meanwhile.
async fn prepare(
    core: &Core,
    job: &Assignment,
    reports: &mpsc::Sender<Report>,
    commands: &mut mpsc::Receiver<Command>,
) -> Result<Option<Rc<TorrentShard>>, StorageError> {
    let layout = Arc::new(job.torrent.layout.clone());
    let folder = Folder::open(&job.folder, job.download)?;
    let store = Rc::new(Store::new(folder, Arc::clone(&layout), &job.torrent.files)?);
    let mut given = Vec::new();
    let Some((report, good)) = check(core, job, &store, reports, commands, &mut given).await? else {
        return Ok(None);
    };
    let map = Arc::new(PieceMap::new(layout.piece_count()));
    layout.pieces().filter(|piece| good[piece.as_usize()]).for_each(|piece| map.set_have(piece));
    let left: Vec<u32> = report.files.iter().map(|file| file.pieces - file.good_pieces).collect();
    if job.download {
        store.prepare(|file| report.files[file.as_usize()].good_pieces)?;
        for file in layout.files().filter(|file| left[file.as_usize()] == 0) {
            store.finish(file).await?;
        }
    }
    let settings =
        Settings { id: job.id, most_peers: MOST_PEERS, slots: SLOTS, hold: HOLD, fetch: job.download };
    let mut swarm = Swarm::new(Arc::clone(&layout), Arc::clone(&map), settings, fastrand::u64(..));
    for (addrs, given) in given {
        addrs.into_iter().for_each(|addr| swarm.add_candidate(addr, given));
    }
    let memory = Memory::new(core);
    let torrent = TorrentShard::new(job, map, swarm, store, memory, left, reports.clone());
    let _ = reports.send(Report::Checked(report)).await;
    torrent.check_complete();
    Ok(Some(torrent))
}

/// Checks what is on disk; peers named meanwhile are kept in `given`. `None` when told to stop.
async fn check(
    core: &Core,
    job: &Assignment,
    store: &Rc<Store>,
    reports: &mpsc::Sender<Report>,
    commands: &mut mpsc::Receiver<Command>,
    given: &mut Vec<(Vec<SocketAddr>, bool)>,
) -> Result<Option<(CheckReport, Vec<bool>)>, StorageError> {
    let tell = reports.clone();
    // Only for the eye: when the mailbox is full, the next one will do.
    let seen = move |done| _ = tell.try_send(Report::Checking(done));
    let checking = storage::check(store, &core.arena, &job.torrent, seen);
    tokio::pin!(checking);
    loop {
        tokio::select! {
            checked = &mut checking => return checked.map(Some),
            command = commands.recv() => match command {
                Some(Command::Peers { addrs, given: by_user }) => given.push((addrs, by_user)),
                Some(Command::Stop) | None => return Ok(None),
            },
        }
    }
}

/// Accepts connections until the program ends.
async fn listen(torrent: Rc<TorrentShard>, listener: TcpListener) {
    let listener = match Listener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return torrent.report(Report::Failed(format!("cannot listen: {error}"))),
    };
    while !torrent.is_stopping() {
        match listener.accept().await {
            Ok((socket, addr)) => {
                let torrent = Rc::clone(&torrent);
                ring::spawn(async move { accept(&torrent, socket, addr).await });
            }
            Err(error) => {
                // Mostly want of descriptors: some will be free soon.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Calls the swarm at its deadlines, and tells of progress.
async fn keep_time(torrent: Rc<TorrentShard>) {
    let mut next_progress = Duration::ZERO;
    loop {
        let wait = torrent.swarm.borrow().next_deadline().saturating_sub(torrent.now());
        tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        torrent.swarm.borrow_mut().tick(torrent.now());
        torrent.pump();
        if torrent.now() >= next_progress {
            next_progress = torrent.now() + Duration::from_secs(1);
            torrent.report(Report::Progress(torrent.progress()));
        }
    }
}

/// Bytes of the pieces that are missing.
fn bytes_left(torrent: &Torrent, map: &PieceMap) -> u64 {
    let layout = &torrent.layout;
    let last: Option<PieceIndex> = layout.pieces().next_back();
    let missing = u64::from(layout.piece_count() - map.have_count());
    let short =
        last.filter(|last| !map.has(*last)).map_or(0, |last| layout.piece_length() - layout.piece_len(last));
    missing * u64::from(layout.piece_length()) - u64::from(short)
}
