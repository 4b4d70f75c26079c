//! One core: its peers, its part of each torrent, and the tasks that turn the swarm's wishes into ring operations.
//!
//! A core is a thread of its own with a ring of its own. The control thread talks to it through two bounded
//! mailboxes: [`Command`]s in, [`Report`]s out. The cores of one torrent share what `crew` holds, and write to each
//! other; a peer stays on the core that dialled it, or on which `seats` has placed it when it connected to us.

mod allowance;
mod aside;
mod channel;
mod choices;
mod connection;
mod core;
mod crew;
mod failures;
#[cfg(test)]
pub(crate) mod faults;
mod fingerprint;
mod guess;
mod hashing;
mod listen;
mod load;
mod memory;
mod progress;
mod receive;
mod room;
mod seats;
mod secrecy;
mod send;
mod snapshot;
mod strain;
mod strangers;
mod thrift;
mod torrent;

use self::core::Work;
use connection::{accept, dial};
use crew::Crew;

pub use choices::Choices;
pub use failures::HandshakeFailures;
pub use progress::Progress;
pub use room::Room;
pub use secrecy::{Secrecy, randomness};
pub use snapshot::{Overhead, SlabStates, Snapshot};

use crate::metainfo::Torrent;
use crate::ring::{self, Config, ZeroCopySend};
use crate::storage::{CheckReport, Store};
use crate::swarm::Greeting;
use crate::swarm::Source;
use crate::wire::PeerId;
use crate::wire::mse::Encryption;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Reports that wait for the control thread; of those that only tell of something, further ones are dropped.
const MAILBOX: usize = 1024;

/// What the cores are to do.
pub struct Assignment {
    /// The torrent.
    pub torrent: Arc<Torrent>,
    /// Its files.
    pub store: Arc<Store>,
    /// Whether missing pieces are to be fetched; else the files are only read.
    pub download: bool,
    /// What we call ourselves.
    pub id: PeerId,
    /// What peers are told of us.
    pub greeting: Greeting,
    /// How many connections there may be.
    pub room: Room,
    /// Bytes of payload memory of each core.
    pub arena_len: usize,
    /// When payload is sent without a copy.
    pub zero_copy_send: ZeroCopySend,
    /// How connections are encrypted.
    pub encryption: Encryption,
    /// Where peers connect to: one listener a core, of the same address.
    pub listeners: Vec<TcpListener>,
    /// What the user wants of it.
    pub choices: Choices,
    /// Whether each core is to tell all that it counts, once a second and at its end.
    pub snapshots: bool,
}

/// What the control thread asks for.
#[derive(Debug)]
pub enum Command {
    /// Peers may be found here.
    Peers {
        /// Where.
        addrs: Vec<SocketAddr>,
        /// Who has named them.
        source: Source,
    },
    /// End, in order.
    Stop,
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
    /// Once a second and at the end of each core that has checked all, when asked for.
    Snapshot(Box<Snapshot>),
    /// A piece had the wrong hash.
    PieceFailed(u32),
    /// A piece that we had cannot be read any more, for this reason: a seed goes on without it.
    PieceLost(u32, String),
    /// A peer was dropped.
    PeerDropped {
        /// Where it was.
        addr: SocketAddr,
        /// Why, after "the peer".
        reason: String,
    },
    /// A peer says that a DHT node is here (BEP 5).
    DhtNode(SocketAddr),
    /// All is verified, written, and has its own name.
    Complete(Progress),
    /// The torrent cannot go on, for this reason.
    Failed(String),
}

impl Report {
    /// Whether somebody waits for it: it must arrive.
    fn is_awaited(&self) -> bool {
        matches!(self, Self::Checked(_) | Self::Complete(_) | Self::PieceLost(..) | Self::Failed(_))
    }
}

/// The running cores of a torrent, as the control thread sees them.
pub struct Shards {
    crew: Arc<Crew>,
    commands: Vec<mpsc::Sender<Command>>,
    /// What they have to tell. Closed when all have ended.
    pub reports: mpsc::Receiver<Report>,
}

impl Shards {
    /// Starts a core for each listener.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(mut job: Assignment) -> std::io::Result<Self> {
        let cpus: Vec<usize> = ring::next_cpus(job.listeners.len()).collect();
        let (crew, mail) = Crew::new(&job, &cpus);
        let listeners = std::mem::take(&mut job.listeners);
        let crew = Arc::new(crew);
        let (outbox, reports) = mpsc::channel(MAILBOX);
        let config = Config {
            zero_copy_send: job.zero_copy_send,
            cores: listeners.len(),
            ..Config::new(job.arena_len)
        };
        let mut shards = Self { crew, commands: Vec::new(), reports };
        for (core, ((listener, mail), cpu)) in listeners.into_iter().zip(mail).zip(cpus).enumerate() {
            let (commands, inbox) = mpsc::channel(64);
            let (crew, reports) = (Arc::clone(&shards.crew), outbox.clone());
            let work = Work { crew, core, room: job.room, listener, mail, commands: inbox, reports };
            shards.commands.push(commands);
            work.start(Config { cpu: Some(cpu), ..config })?;
        }
        Ok(shards)
    }

    /// Names addresses where peers may be: each is one core's to dial.
    pub async fn offer(&self, addrs: Vec<SocketAddr>, source: Source) {
        let cores = self.commands.len();
        let mut parts = vec![Vec::new(); cores];
        for addr in addrs {
            let mut hasher = DefaultHasher::new();
            addr.ip().hash(&mut hasher);
            // The ports of one host, one after the other, lie on one core after the other.
            let place = hasher.finish().wrapping_add(u64::from(addr.port()));
            parts[(place % cores as u64) as usize].push(addr);
        }
        for (core, addrs) in self.commands.iter().zip(parts).filter(|(_, addrs)| !addrs.is_empty()) {
            // A core that has ended is noticed where its reports are read.
            let _ = core.send(Command::Peers { addrs, source }).await;
        }
    }

    /// Tells all cores to end. They have when `reports` is closed.
    pub async fn stop(&self) {
        for core in &self.commands {
            let _ = core.send(Command::Stop).await;
        }
    }

    /// Whether all that is wanted is there; once it is checked.
    pub fn is_complete(&self) -> bool {
        self.crew.commons.map.is_complete()
    }

    /// Where the torrent stands, as the cores have last said; after they have ended, to the byte.
    pub fn progress(&self) -> Progress {
        self.crew.progress()
    }
}
