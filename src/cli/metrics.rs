//! `--metrics`: what sessions tell goes to a board, and an HTTP server shows it.

use super::Error;
use super::args::MetricsArgs;
use super::json::Line;
use super::output::Output;
use crate::api::Server;
use crate::metainfo::Torrent;
use crate::observe::{Board, Hosts, NodeNumber};
use crate::session::Event;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::task::JoinHandle;

/// The board and its server, which ends with this value; or nothing, when nobody asked for it.
#[derive(Default)]
pub(super) struct Metrics(Option<Shown>);

struct Shown {
    /// Sessions and server are on one thread: nobody ever waits.
    board: Arc<Mutex<Board>>,
    epoch: Instant,
    server: JoinHandle<()>,
}

impl Metrics {
    /// Starts the server, if asked for, and says where it is. Call on a tokio runtime.
    pub(super) async fn start(args: &MetricsArgs, out: &Output) -> Result<Self, Error> {
        let Some(addr) = args.metrics else { return Ok(Self::default()) };
        let server = Server::bind(addr).await;
        let server =
            server.map_err(|cause| Error::Other(format!("cannot serve metrics on {addr}: {cause}")))?;
        let addr = server.addr();
        out.note(&format!("metrics on http://{addr}/metrics and http://{addr}/metrics/peers"));
        out.emit(&Line::Metrics { addr });
        let hosts = if args.metrics_mask { Hosts::Masked } else { Hosts::Whole };
        let fold = args.metrics_fold;
        let board = Arc::new(Mutex::new(Board::new(args.metrics_peers.into(), hosts)));
        let shown = Arc::clone(&board);
        let page = move |path: &str| match path {
            "/metrics" if fold => {
                let board = lock(&shown);
                Some(board.metrics() + &board.peers())
            }
            "/metrics" => Some(lock(&shown).metrics()),
            "/metrics/peers" => Some(lock(&shown).peers()),
            _ => None,
        };
        let server = tokio::spawn(server.run(page));
        Ok(Self(Some(Shown { board, epoch: Instant::now(), server })))
    }

    /// Whether somebody wants to see.
    pub(super) fn wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a session; of several, each has a name. `None` when nobody wants to see it.
    pub(super) fn add(&self, name: Option<&str>, torrent: &Torrent) -> Option<NodeNumber> {
        self.0.as_ref().map(|shown| lock(&shown.board).add(name, torrent))
    }

    /// Takes in what a session tells.
    pub(super) fn see(&self, node: Option<NodeNumber>, event: &Event) {
        let (Some(shown), Some(node)) = (&self.0, node) else { return };
        match event {
            Event::Checking { done, .. } => lock(&shown.board).checked(node, *done),
            Event::Checked(report) => lock(&shown.board).checked(node, report.pieces),
            Event::Snapshot(snapshot) => {
                lock(&shown.board).take(shown.epoch.elapsed(), node, snapshot.as_ref().clone());
            }
            Event::TrackerCounts(counts) => lock(&shown.board).trackers(node, counts),
            Event::Local(counts) => lock(&shown.board).local(node, *counts),
            Event::DhtCounters(counters) => lock(&shown.board).dht(node, counters),
            _ => {}
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
