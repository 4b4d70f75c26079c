//! A simulated world: swarms on links with latency and bandwidth, under virtual time. Everything that happens comes
//! from the seed.

use super::check;
use super::fair;
use super::lines::Line;
use super::node::{EndId, Host, Node, Origin};
use super::plan::{Grain, Plan};
use crate::metainfo::{Block, PieceIndex};
use crate::swarm::{HandIn, Handover, Source, Tag};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

pub(crate) const SECOND: u64 = 1_000_000;
/// In a coarse world, all of a node is checked once in so many of its steps.
const THOROUGH: u32 = 400;

#[derive(Debug)]
pub(crate) enum Event {
    Comes(usize),
    Goes(usize),
    Tick(usize),
    /// The swarm has named a deadline before the next tick.
    Deadline(usize),
    /// A core has dialled a host.
    Dialled {
        from: usize,
        to: usize,
    },
    CatchUp(usize),
    Evict(usize, Tag),
    Blame(usize, Tag, PieceIndex),
    HandIn(usize, Handover, Origin),
    /// One side of a handshake is done.
    Open(EndId),
    /// Small messages have come.
    Heard(EndId, Vec<u8>),
    /// A block has left its sender's link, has reached the receiver's, has come through it; whether it is bad.
    Left(EndId, Block),
    /// So much of a block that takes long is here, in a coarse world.
    Trickled(EndId, u32),
    Arrived(EndId, Block, bool),
    /// It is time to say what a download limit has not let in yet.
    Unread(EndId),
    Came(EndId, Block, bool),
    /// A part of a block has come, the last one of so many bytes.
    Part(EndId, Vec<u8>, Option<u32>),
    Receive(EndId),
    Pump(EndId),
    Hashed(usize, PieceIndex, Range<usize>),
    Written(usize, PieceIndex, usize),
    /// A write has failed: all cores of the host stop.
    Failed(usize),
    Printed(usize, PieceIndex, Range<usize>),
    /// The end learns that the connection has ended.
    Closed(EndId),
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) rng: fastrand::Rng,
    /// Microseconds.
    pub(crate) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    /// One a core; those of one host stand side by side.
    pub(crate) nodes: Vec<Node>,
    pub(crate) lines: Vec<Line>,
    /// Blocks that cores have fetched for one another.
    pub(crate) handed: usize,
    /// Blocks that the first node has sent to anybody.
    pub(crate) first_sent: BTreeSet<Block>,
    pub(crate) tally: Tally,
}

/// What went wrong, how often.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Dials that came to nothing.
    pub(crate) unreached: usize,
    /// Directions of lines that fell silent, and lines that broke.
    pub(crate) stalled: usize,
    pub(crate) cut: usize,
    /// Cores whose host left before its time, and those who were dropped for lies.
    pub(crate) gone: usize,
    pub(crate) banned: usize,
    /// Pieces that a disk did not give back.
    pub(crate) lost: usize,
}

/// Prints the seed when the world fails while it is alive.
struct Seed {
    number: u64,
    replay: String,
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this world is {}; {}", self.number, self.replay);
        }
    }
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let mut rng = fastrand::Rng::with_seed(plan.seed);
        let mut nodes = Vec::new();
        for (number, node) in plan.nodes.iter().enumerate() {
            let host = Host::new(number, node, &plan.layout, &mut rng);
            let core = |core| Node::new(&host, core, node.clone(), &plan.layout, &mut rng);
            nodes.extend((0..node.cores).map(core));
        }
        let mut world = Self {
            plan,
            rng,
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            nodes,
            lines: Vec::new(),
            handed: 0,
            first_sent: BTreeSet::new(),
            tally: Tally::default(),
        };
        for node in 0..world.nodes.len() {
            let (comes, goes) = (world.nodes[node].plan.comes, world.nodes[node].plan.goes);
            let early = world.rng.u64(..SECOND);
            world.after((comes * SECOND as f64) as u64 + early, Event::Comes(node));
            if goes.is_finite() {
                world.after((goes * SECOND as f64) as u64, Event::Goes(node));
            }
        }
        world
    }

    pub(crate) fn time(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    pub(crate) fn is_fine(&self) -> bool {
        self.plan.grain == Grain::Fine
    }

    pub(crate) fn after(&mut self, micros: u64, event: Event) {
        self.events += 1;
        self.queue.insert((self.now + micros, self.events), event);
    }

    pub(crate) fn soon(&mut self, most: u64, event: Event) {
        let micros = self.rng.u64(..most);
        self.after(micros, event);
    }

    /// By chance in a fine world, so that the order is any; always as long in a coarse one.
    pub(crate) fn later(&mut self, usual: u64, most: u64, event: Event) {
        if self.is_fine() { self.soon(most, event) } else { self.after(usual, event) }
    }

    /// Runs until everybody is done who is honest and stays. Time out is a failure.
    pub(crate) fn run(&mut self) {
        let _seed = Seed { number: self.plan.seed, replay: self.plan.replay.clone() };
        while !self.is_over() {
            self.step();
            assert!(self.time() < self.plan.limit, "not done in time: {}", self.state());
        }
        if self.is_fine() {
            // What was written to other cores arrives.
            let end = self.now + 5 * SECOND;
            while self.now < end {
                self.step();
            }
            for node in self.nodes.iter().filter(|node| node.is_complete()) {
                assert!(
                    node.plan.is_liar() || node.slabs.is_empty(),
                    "slabs are left over: {:?}",
                    node.slabs
                );
            }
        }
        (0..self.nodes.len()).for_each(|node| self.check_all(node));
        self.check_liars();
    }

    /// Whether everybody is done who is honest and stays.
    pub(crate) fn is_over(&self) -> bool {
        self.nodes.iter().all(Node::is_settled)
    }

    pub(crate) fn step(&mut self) {
        let ((at, _), event) = self.queue.pop_first().expect("ticks never end");
        self.now = at;
        let node = self.happen(event);
        self.serve(node);
        self.nodes[node].steps += 1;
        if self.is_fine() || self.nodes[node].steps >= THOROUGH {
            self.check_all(node);
        }
        check::always(&self.nodes[node]);
    }

    fn check_all(&mut self, node: usize) {
        let lines = &self.lines;
        let ends = self.nodes[node].ends.clone();
        self.nodes[node].steps = 0;
        check::node(&mut self.nodes[node], &self.plan, |slot| {
            ends.get(&slot).map(|(line, side)| &lines[*line].ends[*side])
        });
        check::claims(self.host_of(node));
    }

    /// What happens is one node's, and says whose.
    fn happen(&mut self, event: Event) -> usize {
        let now = self.time();
        match event {
            Event::Comes(node) => self.comes(node),
            Event::Goes(node) => {
                self.tally.gone += 1;
                self.goes(node)
            }
            Event::Tick(node) => self.tick(node),
            Event::Deadline(node) => {
                if self.nodes[node].here {
                    self.nodes[node].swarm.tick(now);
                }
                node
            }
            Event::Dialled { from, to } => self.dialled(from, to),
            Event::Open(end) => self.open(end),
            Event::Heard(end, bytes) => self.heard(end, bytes),
            Event::Left(end, block) => self.left(end, block),
            Event::Trickled(end, filled) => self.trickled(end, filled),
            Event::Arrived(end, block, bad) => self.arrived(end, block, bad),
            Event::Unread(end) => self.unread(end),
            Event::Came(end, block, bad) => self.came(end, block, bad),
            Event::Part(end, bytes, last) => self.part(end, bytes, last),
            Event::Receive(end) => self.receive(end),
            Event::Pump(end) => self.pump(end),
            Event::Closed(end) => self.closed(end),
            Event::Hashed(node, piece, runs) => {
                let verdict = runs.clone().filter_map(|run| self.nodes[node].hash(piece, run)).last();
                self.nodes[node].swarm.hashed(now, piece, runs, verdict);
                node
            }
            Event::Written(node, piece, run) => {
                self.nodes[node].end_write(piece, run);
                self.nodes[node].swarm.written(now, piece, run);
                self.note_done(node)
            }
            Event::Printed(node, piece, runs) => {
                let prints = self.nodes[node].prints(piece, &runs);
                self.nodes[node].swarm.fingerprinted(now, piece, runs, &prints);
                self.note_done(node)
            }
            Event::Failed(node) => self.fail(node),
            Event::CatchUp(node) => {
                self.nodes[node].swarm.catch_up(now);
                node
            }
            Event::Evict(node, tag) => {
                self.nodes[node].swarm.evict(tag);
                node
            }
            Event::Blame(node, tag, piece) => {
                self.nodes[node].swarm.blame(tag, piece);
                node
            }
            Event::HandIn(node, handover, origin) => self.hand_in(node, &handover, origin),
        }
    }

    fn note_done(&mut self, node: usize) -> usize {
        if self.nodes[node].is_complete() {
            self.nodes[node].done.get_or_insert(self.now);
        }
        node
    }

    /// A block comes that another core has fetched.
    fn hand_in(&mut self, to: usize, handover: &Handover, origin: Origin) -> usize {
        let now = self.time();
        let node = &mut self.nodes[to];
        node.received += u64::from(handover.block.len);
        self.handed += 1;
        let slabs = node.free_slabs();
        if let HandIn::Taken { opened } = node.swarm.hand_in(now, handover, slabs) {
            opened.for_each(|run| node.open((handover.block.piece, run)));
            node.store(&handover.block, origin);
        }
        to
    }

    // ---- who is here ----

    fn comes(&mut self, node: usize) -> usize {
        self.nodes[node].here = true;
        let (host, core, cores) = {
            let node = &self.nodes[node];
            (node.host.number, node.core, node.plan.cores)
        };
        if let Some(most) = self.plan.tracker {
            let here = self.nodes.iter().filter(|other| other.here && other.host.number != host);
            let mut others: Vec<usize> = here.map(|other| other.host.number).collect();
            self.rng.shuffle(&mut others);
            let found = others.into_iter().take(most);
            found.for_each(|other| {
                self.nodes[node].swarm.add_candidate(self.plan.addr(other), Source::Tracker)
            });
        } else {
            // Each address is one core's to dial.
            (0..self.plan.nodes.len())
                .filter(|other| *other != host && other % cores == core)
                .for_each(|other| self.nodes[node].swarm.add_candidate(self.plan.addr(other), Source::Given));
        }
        self.tick(node)
    }

    fn goes(&mut self, node: usize) -> usize {
        self.nodes[node].here = false;
        let ends: Vec<EndId> = self.nodes[node].ends.values().copied().collect();
        ends.into_iter().for_each(|end| self.hang_up(end));
        node
    }

    /// As a program whose torrent cannot go on: it leaves, and says so.
    fn fail(&mut self, node: usize) -> usize {
        let first = node - self.nodes[node].core;
        for core in first..first + self.nodes[node].plan.cores {
            self.nodes[core].failed = true;
            self.goes(core);
        }
        node
    }

    fn tick(&mut self, node: usize) -> usize {
        if !self.nodes[node].here {
            return node;
        }
        let now = self.time();
        self.nodes[node].swarm.tick(now);
        let next = self.nodes[node].swarm.next_deadline().saturating_sub(now);
        self.after(next.as_micros() as u64 + 1, Event::Tick(node));
        self.serve(node);
        let (core, cores) = (self.nodes[node].core, self.nodes[node].plan.cores);
        fair::watch(&mut self.nodes[node - core..][..cores], core, self.now);
        node
    }

    /// All cores of the host that the core belongs to.
    fn host_of(&self, node: usize) -> &[Node] {
        let first = node - self.nodes[node].core;
        &self.nodes[first..first + self.nodes[node].plan.cores]
    }

    /// Another core of the same host.
    pub(crate) fn neighbour(&self, node: usize, core: usize) -> usize {
        node - self.nodes[node].core + core
    }
}
