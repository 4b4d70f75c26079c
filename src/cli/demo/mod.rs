//! `seedring demo`: a tracker, a seeder and some downloaders in one process, over real sockets and real files. The
//! peers know each other from the tracker only.

mod board;
mod payload;
mod place;

use super::args::{DemoArgs, cores};
use super::json::Line;
use super::metrics::Metrics;
use super::output::Output;
use super::progress::Steps;
use super::signals::{Signals, Stop};
use super::{Error, control_runtime};
use crate::discovery::tracker::{EmbeddedTracker, EmbeddedTrackerConfig};
use crate::metainfo::Torrent;
use crate::session::{
    self, AnnounceLimits, CreateOptions, Event, Goal, Job, Outcome, SessionError, TrackerOptions,
};
use board::Board;
use place::Place;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// The name of the shared file.
const FILE: &str = "random.bin";
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// Payload memory of all nodes together, and the least and most of one, in bytes.
const MEMORY: u64 = 512 * 1024 * 1024;
const MIN_MEMORY: u64 = 16 * 1024 * 1024;
const MAX_MEMORY: u64 = 64 * 1024 * 1024;
/// Nobody has minutes to wait for a demo: announces come every few seconds.
const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(5);
const MIN_ANNOUNCE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(args: &DemoArgs, out: &Output) -> Result<ExitCode, Error> {
    let copies = u64::from(args.leechers) + 1;
    let place = Place::new(args.dir.as_deref(), args.size.saturating_mul(copies))?;
    let runtime = control_runtime()?;
    let result = runtime.block_on(async {
        let signals = Signals::catch()?;
        let metrics = Metrics::start(&args.metrics, out).await?;
        let demo = Demo { args, out, place: &place, signals, metrics };
        demo.play().await
    });
    // Hashing that nobody waits for any more, after a signal, must not hold up the end.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
}

struct Demo<'a> {
    args: &'a DemoArgs,
    out: &'a Output,
    place: &'a Place,
    signals: Signals,
    metrics: Metrics,
}

/// A swarm that has done its work.
struct Finished<'a> {
    board: Board<'a>,
    /// From the start of the downloaders until the last one was complete.
    time: Duration,
}

impl Demo<'_> {
    async fn play(&self) -> Result<(), Error> {
        let names = self.names();
        let folders = names.iter().map(|name| self.place.add(name)).collect::<Result<Vec<_>, _>>()?;
        let sha256 = self.write_payload(folders[0].join(FILE)).await?;
        let torrent = self.start_tracker(folders[0].join(FILE)).await?;
        let finished = self.swarm(&torrent, &folders, &names).await?;
        self.verify(&folders[1..], &names[1..], sha256).await?;
        self.report(&finished, sha256);
        Ok(())
    }

    /// The nodes, the seeder first.
    fn names(&self) -> Vec<String> {
        let leechers = (1..=self.args.leechers).map(|number| format!("leecher-{number}"));
        std::iter::once("seeder".to_owned()).chain(leechers).collect()
    }

    async fn write_payload(&self, path: PathBuf) -> Result<[u8; 32], Error> {
        let size = self.args.size;
        self.step("writing", "MiB", move |seen| {
            payload::write_random(&path, size, |done| seen(mebibytes(done), mebibytes(size)))
        })
        .await
    }

    /// Starts the tracker, which runs as long as the runtime, and makes the torrent that names it.
    async fn start_tracker(&self, payload: PathBuf) -> Result<Arc<Torrent>, Error> {
        let config =
            EmbeddedTrackerConfig { interval: ANNOUNCE_INTERVAL, ..EmbeddedTrackerConfig::default() };
        let tracker = EmbeddedTracker::bind(LOOPBACK, config).await;
        let tracker = tracker.map_err(|cause| Error::Other(format!("cannot start the tracker: {cause}")))?;
        let options = CreateOptions { trackers: vec![vec![tracker.url()]], ..CreateOptions::default() };
        tokio::spawn(tracker.run());
        let create = move |seen: Seen| Ok(session::create(&payload, &options, cores(None), &seen)?);
        let (_, torrent) = self.step("hashing", "pieces", create).await?;
        Ok(Arc::new(torrent))
    }

    /// Runs all nodes until every downloader is complete; those that are go on to seed.
    async fn swarm(
        &self,
        torrent: &Arc<Torrent>,
        folders: &[PathBuf],
        names: &[String],
    ) -> Result<Finished<'_>, Error> {
        let mut nodes = Nodes::new(Arc::clone(torrent), folders.len(), self.metrics.wanted());
        let numbers: Vec<_> = names.iter().map(|name| self.metrics.add(Some(name), torrent)).collect();
        let mut board = Board::new(self.out, self.args.size, names.iter().cloned());
        let mut began = None;
        let mut time = None;
        let mut failure = None;
        let stopped = self.signals.stopped();
        tokio::pin!(stopped);
        nodes.start(0, &folders[0], Goal::Seed);
        while !nodes.sessions.is_empty() {
            tokio::select! {
                // All that a session tells is seen before its end.
                biased;
                Some((node, event)) = nodes.events.1.recv() => {
                    self.metrics.see(numbers[node], &event);
                    board.show(node, &event);
                    // The downloaders come when the tracker knows the seeder, so that nobody has to ask twice.
                    if began.is_none() && matches!(event, Event::Tracker { result: Ok(_), .. }) {
                        began = Some(Instant::now());
                        for (node, folder) in folders.iter().enumerate().skip(1) {
                            nodes.start(node, folder, Goal::DownloadAndSeed);
                        }
                    }
                    if board.is_complete() && time.is_none() {
                        time = began.map(|began| began.elapsed());
                        nodes.stop();
                    }
                    if self.out.is_closed() {
                        self.signals.stop(Stop::ReaderGone);
                    }
                }
                Some(ended) = nodes.sessions.join_next() => match ended.expect("a session panicked") {
                    (node, Ok(outcome)) => board.end(node, outcome.progress),
                    (_, Err(error)) => {
                        failure.get_or_insert(error);
                        nodes.stop();
                    }
                },
                () = &mut stopped, if !nodes.is_stopping() => nodes.stop(),
                else => {}
            }
        }
        board.clear();
        match (time, failure, self.signals.reason()) {
            (_, Some(error), _) => Err(error.into()),
            (Some(time), None, _) => Ok(Finished { board, time }),
            (None, None, Some(why)) => Err(Error::Stopped(why)),
            (None, None, None) => {
                Err(Error::Other("the demo has ended before every copy was complete".into()))
            }
        }
    }

    /// Compares every copy with the original.
    async fn verify(&self, folders: &[PathBuf], names: &[String], expected: [u8; 32]) -> Result<(), Error> {
        let copies: Vec<_> =
            names.iter().cloned().zip(folders.iter().map(|folder| folder.join(FILE))).collect();
        let size = self.args.size;
        self.step("comparing", "MiB", move |seen| {
            let all = mebibytes(size * copies.len() as u64);
            for (index, (name, path)) in copies.iter().enumerate() {
                let before = index as u64 * size;
                if payload::sha256(path, |done| seen(mebibytes(before + done), all))? != expected {
                    return Err(Error::Other(format!("the copy of {name} differs from the original")));
                }
            }
            Ok(())
        })
        .await
    }

    fn report(&self, finished: &Finished<'_>, sha256: [u8; 32]) {
        let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        let (uploaded_by_seeder, uploaded_by_leechers) = finished.board.uploaded();
        let seconds = finished.time.as_secs_f64();
        self.out.print(&finished.board.summary(finished.time, &sha256));
        if let Some(folder) = self.place.kept() {
            self.out.print(&format!("The files are in {}.\n", folder.display()));
        }
        let all = self.args.size * u64::from(self.args.leechers);
        self.out.emit(&Line::Demo {
            verified: true,
            leechers: self.args.leechers,
            bytes: self.args.size,
            seconds,
            bytes_per_second: (all as f64 / seconds.max(0.001)) as u64,
            uploaded_by_seeder,
            uploaded_by_leechers,
            sha256,
        });
    }

    /// Runs long work on another thread and shows how far it has come. Left to itself when a signal comes.
    async fn step<T: Send + 'static>(
        &self,
        what: &'static str,
        unit: &'static str,
        work: impl FnOnce(Seen) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let mut steps = Steps::new(self.out, what, unit);
        let (sender, mut seen) = watch::channel((0, 0));
        let seen_by_work: Seen = Box::new(move |done, all| _ = sender.send((done, all)));
        let mut worker = tokio::task::spawn_blocking(move || work(seen_by_work));
        let stopped = self.signals.stopped();
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                result = &mut worker => return result.expect("the work panicked"),
                () = &mut stopped => {
                    return Err(Error::Stopped(self.signals.reason().expect("there is one when stopped")));
                }
                Ok(()) = seen.changed() => {
                    let (done, all) = *seen.borrow_and_update();
                    steps.show(done, all);
                }
            }
        }
    }
}

/// Takes how far work has come: so many of all.
type Seen = Box<dyn Fn(u32, u32) + Send + Sync>;

fn mebibytes(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

/// What one of the nodes tells.
type Told = (usize, Event);

/// The sessions of the swarm.
struct Nodes {
    torrent: Arc<Torrent>,
    memory_limit: u64,
    snapshots: bool,
    sessions: JoinSet<(usize, Result<Outcome, SessionError>)>,
    /// A few events a second and node, taken at once: no bound is needed.
    events: (mpsc::UnboundedSender<Told>, mpsc::UnboundedReceiver<Told>),
    stop: watch::Sender<bool>,
}

impl Nodes {
    fn new(torrent: Arc<Torrent>, count: usize, snapshots: bool) -> Self {
        Self {
            torrent,
            memory_limit: (MEMORY / count as u64).clamp(MIN_MEMORY, MAX_MEMORY),
            snapshots,
            sessions: JoinSet::new(),
            events: mpsc::unbounded_channel(),
            stop: watch::channel(false).0,
        }
    }

    fn start(&mut self, node: usize, folder: &Path, goal: Goal) {
        let job = Job {
            // The nodes share the processors as they are.
            cores: 1,
            memory_limit: self.memory_limit,
            announce: AnnounceLimits {
                to_all: false,
                shortest_interval: MIN_ANNOUNCE_INTERVAL,
                shortest_min_interval: MIN_ANNOUNCE_INTERVAL,
                default_interval: ANNOUNCE_INTERVAL,
                default_min_interval: MIN_ANNOUNCE_INTERVAL,
                first_retry: MIN_ANNOUNCE_INTERVAL,
                longest_retry: ANNOUNCE_INTERVAL,
            },
            trackers: Some(TrackerOptions::default()),
            snapshots: self.snapshots,
            // They have a tracker of their own, and look for nobody elsewhere.
            ..Job::alone(&self.torrent, folder, goal)
        };
        let events = self.events.0.clone();
        let mut stop = self.stop.subscribe();
        self.sessions.spawn(async move {
            let watch = |event| _ = events.send((node, event));
            let stopped = async {
                let _ = stop.wait_for(|stop| *stop).await;
            };
            (node, session::run(job, watch, stopped).await)
        });
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }
}
