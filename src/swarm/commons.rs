//! What the cores that work on one torrent have in common.
//!
//! Nothing here is touched for a block. A piece costs one exchange in the [`PieceMap`]; a connection or an address that
//! comes or goes, a core that has run out of work, and of a piece that came out wrong each block that differs, cost a short lock each.

use super::evidence::Evidence;
use super::known::Known;
use super::losses::Losses;
use super::pex::Neighbours;
use super::roster::Roster;
use super::selection::Selection;
use super::sightings::Sightings;
use super::slots::Slots;
use super::spread::Spread;
use super::{PieceMap, Tag};
use crate::metainfo::{Block, Layout, PieceIndex};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shared by the swarms of all cores of one torrent.
#[derive(Debug)]
pub struct Commons {
    /// What is known of each piece.
    pub map: PieceMap,
    /// What is wanted.
    pub selection: Selection,
    desks: Box<[Desk]>,
    roster: Mutex<Roster>,
    evidence: Mutex<Evidence>,
    /// What is known of addresses to dial.
    pub(super) known: Arc<Mutex<Known>>,
    /// Upload slots.
    pub(super) slots: Slots,
    /// What peers have.
    pub(super) sightings: Arc<Sightings>,
    /// How many peers have each piece or were shown it, while super-seeding.
    pub(super) spread: Spread,
    neighbours: Mutex<Neighbours>,
    /// What was had and cannot be read any more.
    pub(super) losses: Losses,
}

/// What one core shows the others.
#[derive(Debug, Default)]
struct Desk {
    /// It has peers that could be asked for more than it knows to ask.
    idle: AtomicBool,
    /// What its pieces lack and others may fetch for it.
    lacking: Mutex<Vec<Lacking>>,
    /// Its peers that have not everything, while super-seeding.
    leeches: AtomicU32,
    /// Bytes a second that its peers send, and that the fastest of them sends.
    speed: AtomicU64,
    fastest: AtomicU64,
    /// Bytes that our download limit has to let in here soon, when there is one.
    ahead: AtomicU64,
    /// How many of its peers have something for us.
    givers: AtomicU32,
    /// Bytes a second that go to its peers, and whether one of them is to be sent what nobody has.
    up: AtomicU64,
    wanted: AtomicBool,
}

/// What a core shows the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    /// A block that it lacks; or the first one of a piece that it leaves to another.
    pub(super) block: Block,
    /// Whether it is the piece: all of it, and anew.
    pub(super) whole: bool,
    /// In what time it comes by the core's own peers, as far as is known.
    pub(super) wait: Duration,
}

/// A block that was fetched for another core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// Which block.
    pub block: Block,
    /// Who sent it.
    pub from: Tag,
}

impl Commons {
    /// All `pieces` missing, nobody connected.
    ///
    /// # Panics
    /// When there is no core.
    pub fn new(pieces: u32, cores: usize) -> Self {
        Self::with_all_missing(Selection::all(pieces), cores)
    }

    /// All pieces missing, some of them wanted.
    ///
    /// # Panics
    /// When there is no core.
    pub fn of_selection(layout: &Layout, selection: Selection, cores: usize) -> Self {
        let commons = Self::with_all_missing(selection, cores);
        let skipped = layout.pieces().filter(|piece| !commons.selection.wants(*piece));
        skipped.for_each(|piece| commons.map.skip(piece));
        commons
    }

    fn with_all_missing(selection: Selection, cores: usize) -> Self {
        let pieces = selection.pieces();
        assert!(cores > 0, "somebody has to work");
        let desks = (0..cores).map(|_| Desk::default()).collect();
        Self {
            map: PieceMap::new(pieces),
            selection,
            desks,
            roster: Mutex::default(),
            evidence: Mutex::default(),
            known: Arc::default(),
            slots: Slots::new(cores),
            sightings: Arc::new(Sightings::new(pieces)),
            spread: Spread::new(pieces),
            neighbours: Mutex::default(),
            losses: Losses::default(),
        }
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.desks.len()
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        unpoisoned(&self.roster)
    }

    pub(super) fn evidence(&self) -> MutexGuard<'_, Evidence> {
        unpoisoned(&self.evidence)
    }

    /// Those of whom peers may be told.
    pub(super) fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        unpoisoned(&self.neighbours)
    }

    /// Says whether a core is out of work; `true` when that is news.
    pub(super) fn set_idle(&self, core: usize, idle: bool) -> bool {
        let desk = &self.desks[core].idle;
        desk.load(Ordering::Relaxed) != idle && desk.swap(idle, Ordering::AcqRel) != idle
    }

    /// Whether another core is out of work.
    pub(super) fn others_idle(&self, core: usize) -> bool {
        let others = self.desks.iter().enumerate().filter(|(other, _)| *other != core);
        others.into_iter().any(|(_, desk)| desk.idle.load(Ordering::Acquire))
    }

    /// Whether a core has said that it is out of work.
    pub(super) fn is_idle(&self, core: usize) -> bool {
        self.desks[core].idle.load(Ordering::Acquire)
    }

    /// Shows what a core's pieces lack.
    pub(super) fn show_lacking(&self, core: usize, lacking: Vec<Lacking>) {
        unpoisoned(&self.desks[core].lacking).extend(lacking);
    }

    /// Takes away all that a core shows: what nobody has taken, and what was given back.
    pub(super) fn clear_lacking(&self, core: usize) -> Vec<Lacking> {
        std::mem::take(&mut unpoisoned(&self.desks[core].lacking))
    }

    /// Whether nothing of what a core has shown is left to take.
    pub(super) fn is_taken(&self, core: usize) -> bool {
        unpoisoned(&self.desks[core].lacking).is_empty()
    }

    /// Takes something that another core lacks and that suits, of all cores the one whose piece has the first `place`, with that core's
    /// number. It is shown no more until its holder finds that it is still lacking.
    pub(super) fn take_lacking<P: Ord>(
        &self,
        core: usize,
        suits: impl Fn(&Lacking) -> bool,
        place: impl Fn(PieceIndex) -> P,
    ) -> Option<(Lacking, usize)> {
        let others = self.desks.iter().enumerate().filter(|(other, _)| *other != core);
        let found = others.filter_map(|(other, desk)| {
            let board = unpoisoned(&desk.lacking);
            board.iter().find(|lacking| suits(lacking)).map(|lacking| (*lacking, other))
        });
        let (lacking, other) = found.min_by_key(|(lacking, _)| place(lacking.block.piece))?;
        self.withdraw(other, &lacking.block).then_some((lacking, other))
    }

    /// A core says how many of its peers have not everything.
    pub(super) fn tell_leeches(&self, core: usize, leeches: usize) {
        self.desks[core].leeches.store(u32::try_from(leeches).unwrap_or(u32::MAX), Ordering::Release);
    }

    /// Whether no more than one peer of all cores has not everything, as was last said: it has nobody to give anything to.
    pub(super) fn has_one_leech_at_most(&self) -> bool {
        let counts = self.desks.iter().map(|desk| desk.leeches.load(Ordering::Acquire));
        counts.fold(0, u32::saturating_add) < 2
    }

    /// A core says how many of its peers have something for us.
    pub(super) fn tell_givers(&self, core: usize, givers: usize) {
        self.desks[core].givers.store(u32::try_from(givers).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How many peers of all cores have something for us, as was last said.
    pub(super) fn givers(&self) -> u32 {
        let counts = self.desks.iter().map(|desk| desk.givers.load(Ordering::Relaxed));
        counts.fold(0, u32::saturating_add)
    }

    /// How many of other cores have.
    pub(super) fn givers_elsewhere(&self, core: usize) -> usize {
        let own = self.desks[core].givers.load(Ordering::Relaxed);
        self.givers().saturating_sub(own) as usize
    }

    /// A core says how many bytes a second its peers send, and the fastest of them.
    pub(super) fn tell_speed(&self, core: usize, speed: u64, fastest: u64) {
        self.desks[core].speed.store(speed, Ordering::Relaxed);
        self.desks[core].fastest.store(fastest, Ordering::Relaxed);
    }

    /// The same of all cores, as was last said.
    pub(super) fn speeds(&self) -> (u64, u64) {
        let speeds = self.desks.iter().map(|desk| desk.speed.load(Ordering::Relaxed));
        let fastest = self.desks.iter().map(|desk| desk.fastest.load(Ordering::Relaxed));
        (speeds.sum(), fastest.max().unwrap_or(0))
    }

    /// Bytes a second that the peers of other cores send, as was last said.
    pub(super) fn speed_elsewhere(&self, core: usize) -> u64 {
        self.speeds().0.saturating_sub(self.desks[core].speed.load(Ordering::Relaxed))
    }

    /// A core says how many bytes the download limit has to let in there soon.
    pub(super) fn tell_ahead(&self, core: usize, bytes: u64) {
        self.desks[core].ahead.store(bytes, Ordering::Relaxed);
    }

    /// The same of all cores, as was last said.
    pub(super) fn ahead(&self) -> u64 {
        self.desks.iter().map(|desk| desk.ahead.load(Ordering::Relaxed)).sum()
    }

    /// A core says how many bytes a second go to its peers.
    pub(super) fn tell_up(&self, core: usize, up: u64) {
        self.desks[core].up.store(up, Ordering::Relaxed);
    }

    /// The same of all cores, as was last said.
    pub(super) fn ups(&self) -> u64 {
        self.desks.iter().map(|desk| desk.up.load(Ordering::Relaxed)).sum()
    }

    /// A core of a seed says whether a peer of its is to be sent what nobody has.
    pub(super) fn tell_wanted(&self, core: usize, wanted: bool) {
        self.desks[core].wanted.store(wanted, Ordering::Relaxed);
    }

    /// Whether one of any core is, as was last said.
    pub(super) fn is_wanted(&self) -> bool {
        self.desks.iter().any(|desk| desk.wanted.load(Ordering::Relaxed))
    }

    /// A core takes back a block that it shows, for a peer of its own; `false` when another was faster.
    pub(super) fn withdraw(&self, core: usize, block: &Block) -> bool {
        let mut board = unpoisoned(&self.desks[core].lacking);
        let at = board.iter().position(|lacking| lacking.block == *block);
        at.map(|at| board.remove(at)).is_some()
    }

    /// A block that was taken for its holder cannot be fetched after all.
    pub(super) fn give_back(&self, holder: usize, block: Block) {
        self.show_lacking(holder, vec![Lacking { block, whole: false, wait: Duration::MAX }]);
    }
}

/// A panic aborts the program, so no lock is ever left by one; were it, the values are whole between statements.
pub(super) fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
