//! The loop: who is ready, who has gone, when it ends.

use super::connection::{Connection, Fault, Role};
use super::download::Downloader;
use super::net::{self, Poller};
use super::order::Rounds;
use super::payload::Payload;
use super::report::Report;
use super::upload::{Client, Uploader};
use super::{Goal, LoadError, MAX_CONNECTIONS, MAX_REQUESTS, Meeting, Mode, Plan};
use crate::metainfo::{InfoHash, Torrent};
use crate::wire::{Limits, bitfield_len};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// One buffer takes every receive: large enough to make few calls, small enough to stay in the processor's cache
/// until its blocks are compared.
const BUFFER_LEN: usize = 256 * 1024;
/// How often clocks are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Tokens of listeners begin here; below are connections.
const LISTENERS: u64 = 1 << 32;
/// When all is downloaded, connections that are still being made are given so long.
const MAKE_TIME: Duration = Duration::from_secs(5);
/// A client that waits to be met again is given so long to come back.
const RETURN_TIME: Duration = Duration::from_secs(10);

/// What all connections share.
pub(super) struct World<'a> {
    pub(super) payload: &'a Payload,
    pub(super) info_hash: InfoHash,
    pub(super) limits: Limits,
    /// That of a seed.
    pub(super) bitfield: Vec<u8>,
    pub(super) requests: usize,
    /// Bytes that may still be asked for, where all connections share them.
    pub(super) budget: u64,
    /// Bytes of blocks that came as asked, good or bad.
    pub(super) settled: u64,
    pub(super) client: Client,
    pub(super) report: Report,
    pub(super) now: Instant,
    /// When the first and the last payload was moved.
    transfer: Option<(Instant, Instant)>,
}

impl World<'_> {
    /// Payload was moved.
    pub(super) fn moved(&mut self) {
        let first = self.transfer.map_or(self.now, |(first, _)| first);
        self.transfer = Some((first, self.now));
    }

    /// So many bytes of the shared budget were asked for in vain.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.budget += bytes;
    }
}

/// Processor time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Does what the plan says. `listening` is told every address where the client is waited for.
///
/// # Errors
/// When the plan cannot be carried out: bad numbers, files missing, addresses taken, nobody to talk to. That a goal was
/// missed or a block was bad is told in the report.
pub fn run(
    plan: &Plan,
    torrent: &Torrent,
    mut listening: impl FnMut(SocketAddr),
) -> Result<Report, LoadError> {
    let within = |what: &str, count: usize, most: usize| match count {
        _ if (1..=most).contains(&count) => Ok(()),
        _ => Err(LoadError::Setup(format!("{what} must be 1 to {most}"))),
    };
    within("the number of connections", plan.connections, MAX_CONNECTIONS)?;
    if let Mode::Download { requests, .. } = plan.mode {
        within("the number of requests", requests, MAX_REQUESTS)?;
    }
    crate::ring::raise_limit();
    let payload = Payload::open(torrent, &plan.folder)?;
    let mut run = Run::new(plan, torrent, &payload).map_err(no_socket)?;
    match plan.meeting {
        Meeting::Dial(addr) => run.dial(addr)?,
        Meeting::Listen(addr) => run.listen(addr, &mut listening)?,
    }
    run.go().map_err(no_socket)
}

fn no_socket(cause: io::Error) -> LoadError {
    let remedy = match cause.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => "; raise the limit with `ulimit -n`",
        _ => "",
    };
    LoadError::Setup(format!("cannot use a socket: {cause}{remedy}"))
}

struct Run<'a> {
    plan: &'a Plan,
    world: World<'a>,
    poller: Poller,
    listeners: Vec<OwnedFd>,
    /// By number; `None` when it has ended.
    connections: Vec<Option<Connection>>,
    /// Numbers of connections that have something to do, each once.
    queue: VecDeque<usize>,
    queued: Vec<bool>,
    open: usize,
    /// Payload of each connection that has ended.
    totals: Vec<u64>,
    start: Instant,
    start_cpu: Duration,
    /// When the last connection ended.
    deserted: Instant,
    /// Connections that ended before their handshake was done because the client had what it wanted.
    unneeded: usize,
}

impl<'a> Run<'a> {
    fn new(plan: &'a Plan, torrent: &Torrent, payload: &'a Payload) -> io::Result<Self> {
        let (layout, now) = (payload.layout(), Instant::now());
        let pieces = layout.piece_count();
        let mut bitfield = vec![0; bitfield_len(pieces)];
        (0..pieces as usize).for_each(|piece| bitfield[piece / 8] |= 0x80 >> (piece % 8));
        let (mode, requests, budget) = match plan.mode {
            Mode::Download { goal: Goal::Together(bytes), requests, .. } => ("download", requests, bytes),
            Mode::Download { goal: Goal::Each(_), requests, .. } => ("download", requests, 0),
            Mode::Upload => ("upload", 0, 0),
        };
        let world = World {
            payload,
            info_hash: torrent.info_hash,
            limits: Limits::for_pieces(pieces),
            bitfield,
            requests,
            budget,
            settled: 0,
            client: Client::new(layout),
            report: Report { mode, connections: plan.connections, ..Report::default() },
            now,
            transfer: None,
        };
        Ok(Self {
            plan,
            world,
            poller: Poller::new()?,
            listeners: Vec::new(),
            connections: Vec::new(),
            queue: VecDeque::new(),
            queued: Vec::new(),
            open: 0,
            totals: Vec::new(),
            start: now,
            start_cpu: cpu_time(),
            deserted: now,
            unneeded: 0,
        })
    }

    fn dial(&mut self, addr: SocketAddr) -> Result<(), LoadError> {
        for number in 0..self.plan.connections {
            let fd = net::dial(number, addr).map_err(no_socket)?;
            self.add(fd).map_err(no_socket)?;
        }
        Ok(())
    }

    fn listen(&mut self, addr: SocketAddr, listening: &mut impl FnMut(SocketAddr)) -> Result<(), LoadError> {
        let listeners = net::listen(addr, self.plan.connections)
            .map_err(|cause| LoadError::Setup(format!("cannot listen at {addr} and after: {cause}")))?;
        for (number, (addr, fd)) in listeners.into_iter().enumerate() {
            self.poller.add_listener(&fd, LISTENERS + number as u64).map_err(no_socket)?;
            self.listeners.push(fd);
            listening(addr);
        }
        Ok(())
    }

    fn add(&mut self, fd: OwnedFd) -> io::Result<()> {
        let (number, connections) = (self.connections.len(), self.plan.connections);
        let layout = self.world.payload.layout();
        let role = match self.plan.mode {
            Mode::Upload => Role::Upload(Uploader::default()),
            Mode::Download { goal, order, .. } => {
                let budget = match goal {
                    Goal::Each(bytes) => Some(bytes),
                    Goal::Together(_) => None,
                };
                let rounds = Rounds::new(layout, order, number % connections, connections);
                Role::Download(Box::new(Downloader::new(
                    rounds,
                    budget,
                    layout.piece_count(),
                    self.world.now,
                )))
            }
        };
        self.poller.add_connection(&fd, number as u64)?;
        self.connections.push(Some(Connection::new(&self.world, fd, role)));
        self.queued.push(false);
        self.open += 1;
        Ok(())
    }

    fn go(mut self) -> io::Result<Report> {
        let mut buffer = vec![0; BUFFER_LEN];
        let mut next_tick = self.start + TICK;
        let problem = loop {
            self.wait()?;
            self.world.now = Instant::now();
            for _ in 0..self.queue.len() {
                let number = self.queue.pop_front().expect("as many as there were");
                self.queued[number] = false;
                self.turn(number, &mut buffer);
            }
            if self.world.now >= next_tick {
                next_tick = self.world.now + TICK;
                self.tick();
            }
            if let Some(end) = self.end() {
                break end.err();
            }
        };
        Ok(self.finish(problem))
    }

    /// Hears of what has happened; waits for it when there is nothing else to do.
    fn wait(&mut self) -> io::Result<()> {
        let limit = if self.queue.is_empty() { TICK } else { Duration::ZERO };
        let mut taken = Vec::new();
        for ready in self.poller.wait(limit)? {
            if ready.token >= LISTENERS {
                taken.push((ready.token - LISTENERS) as usize);
                continue;
            }
            let number = ready.token as usize;
            if let Some(connection) = &mut self.connections[number] {
                connection.ready(ready);
                if !std::mem::replace(&mut self.queued[number], true) {
                    self.queue.push_back(number);
                }
            }
        }
        for listener in taken {
            if let Some(fd) = net::accept(&self.listeners[listener])? {
                // More than were wanted at once are not served.
                if self.open < self.plan.connections {
                    self.add(fd)?;
                }
            }
        }
        Ok(())
    }

    fn turn(&mut self, number: usize, buffer: &mut [u8]) {
        let Some(connection) = &mut self.connections[number] else { return };
        match connection.turn(&mut self.world, buffer) {
            Ok(more) => {
                if matches!(&connection.role, Role::Download(downloader) if downloader.is_done()) {
                    self.close(number);
                } else if more && !std::mem::replace(&mut self.queued[number], true) {
                    self.queue.push_back(number);
                }
            }
            Err(fault) => self.lose(number, fault),
        }
    }

    fn tick(&mut self) {
        for number in 0..self.connections.len() {
            if let Some(connection) = &mut self.connections[number]
                && let Err(fault) = connection.tick(&mut self.world)
            {
                self.lose(number, fault);
            }
        }
    }

    /// Whether a client that downloads has all that it wants.
    fn is_client_content(&self) -> bool {
        self.plan.mode == Mode::Upload && self.world.client.is_covered()
    }

    /// Takes leave of a connection.
    fn close(&mut self, number: usize) {
        let Some(mut connection) = self.connections[number].take() else { return };
        if connection.is_open() {
            self.totals.push(connection.moved());
        } else {
            self.unneeded += usize::from(self.is_client_content());
        }
        let unanswered = match &mut connection.role {
            Role::Download(downloader) => downloader.end(&mut self.world),
            Role::Upload(uploader) => uploader.outstanding(),
        };
        self.world.report.outstanding_at_end += unanswered as u64;
        self.open -= 1;
        self.deserted = self.world.now;
    }

    /// A connection has ended before we ended it.
    fn lose(&mut self, number: usize, fault: Fault) {
        // A client that has what it wants is free to go.
        if !self.is_client_content() {
            self.world.report.closed_early += 1;
            self.world.report.fault(format!("connection {number}: {fault}"));
        }
        self.close(number);
    }

    /// Whether it is over, and how it went.
    fn end(&self) -> Option<Result<(), String>> {
        let spent = self.world.now.duration_since(self.start);
        if self.is_done() {
            return Some(Ok(()));
        }
        if self.is_deserted() {
            return Some(self.verdict("all connections have ended"));
        }
        if self.plan.duration.is_some_and(|duration| spent >= duration) {
            let none = self.world.report.bytes == 0;
            return Some(if none { Err("not one block was moved in the time set".into()) } else { Ok(()) });
        }
        let late = spent >= self.plan.timeout;
        late.then(|| self.verdict(&format!("{} seconds have gone by", self.plan.timeout.as_secs())))
    }

    fn is_done(&self) -> bool {
        match self.plan.mode {
            Mode::Download { goal: Goal::Together(bytes), .. } => {
                self.world.settled >= bytes && self.is_everybody_known()
            }
            Mode::Download { goal: Goal::Each(bytes), .. } => {
                self.open == 0
                    && self.totals.len() == self.plan.connections
                    && self.totals.iter().all(|total| *total >= bytes)
            }
            Mode::Upload => {
                let satisfied = |connection: &Connection| match &connection.role {
                    Role::Upload(uploader) => uploader.satisfied,
                    Role::Download(_) => false,
                };
                let client = &self.world.client;
                client.says_complete()
                    || client.is_covered() && self.connections.iter().flatten().all(satisfied)
            }
        }
    }

    /// Whether each connection that we dialled has been made, or has come to nothing; for who does not care, and some time
    /// after all else is done, it is enough as it is.
    fn is_everybody_known(&self) -> bool {
        let last = self.world.transfer.map_or(self.start, |(_, last)| last);
        self.plan.allow_fewer
            || matches!(self.plan.meeting, Meeting::Listen(_))
            || self.world.now.duration_since(last) >= MAKE_TIME
            || self.connections.iter().flatten().all(Connection::is_open)
    }

    /// Whether nobody is left, and nobody will come.
    fn is_deserted(&self) -> bool {
        let met = !self.connections.is_empty();
        let returns =
            !self.listeners.is_empty() && self.world.now.duration_since(self.deserted) < RETURN_TIME;
        self.open == 0 && met && !returns
    }

    /// What it means that it ends now for this reason.
    fn verdict(&self, why: &str) -> Result<(), String> {
        let report = &self.world.report;
        let pieces = self.world.payload.layout().piece_count();
        match self.plan.mode {
            Mode::Upload if self.world.client.is_covered() => Ok(()),
            Mode::Upload => {
                Err(format!("{why}, and the client has {} of {pieces} pieces", self.world.client.covered()))
            }
            Mode::Download { .. } if report.bad_blocks > 0 => Ok(()),
            Mode::Download { .. } => {
                Err(format!("{why} after {} bytes, before the goal was reached", report.bytes))
            }
        }
    }

    /// What is wrong with the connections, if that is not allowed.
    fn shortfall(&self, report: &Report) -> Option<String> {
        let (made, wanted, early) = (report.connected, report.connections, report.closed_early);
        // Whoever waits for a client that leaves and comes back meets more than are wanted at once.
        let few = made + self.unneeded < wanted;
        match (few, early) {
            _ if self.plan.allow_fewer => None,
            (true, 0) => Some(format!("only {made} of {wanted} connections were made")),
            (true, _) => {
                Some(format!("only {made} of {wanted} connections were made, and {early} ended early"))
            }
            (false, 0) => None,
            (false, _) => Some(format!("{early} of {wanted} connections ended before they were done")),
        }
    }

    fn finish(mut self, problem: Option<String>) -> Report {
        let cpu = cpu_time() - self.start_cpu;
        for number in 0..self.connections.len() {
            self.close(number);
        }
        let mut report = std::mem::take(&mut self.world.report);
        let bad = (report.bad_blocks > 0).then(|| match report.bad_blocks {
            1 => "a block was not what it should be".to_owned(),
            count => format!("{count} blocks were not what they should be"),
        });
        report.problem = bad.or(problem).or_else(|| self.shortfall(&report));
        if let (Some(problem), Some(fault)) = (&mut report.problem, report.faults.first()) {
            *problem += &format!(" ({fault})");
        }
        report.ok = report.problem.is_none();
        report.cpu_seconds = cpu.as_secs_f64();
        report.seconds = self.world.now.duration_since(self.start).as_secs_f64();
        let transfer = self.world.transfer.map_or(Duration::ZERO, |(first, last)| last - first);
        report.transfer_seconds = transfer.as_secs_f64();
        report.active = self.totals.iter().filter(|total| **total > 0).count();
        report.connection_bytes_min = self.totals.iter().copied().min().unwrap_or(0);
        report.connection_bytes_max = self.totals.iter().copied().max().unwrap_or(0);
        report.client_pieces = self.world.client.covered();
        report.finish();
        report
    }
}
