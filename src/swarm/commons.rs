//! What the cores that work on one torrent have in common.
//!
//! Nothing here is touched for a block. A piece costs one exchange in the [`PieceMap`]; a connection that comes or goes,
//! and a core that has run out of work, cost a short lock each.

use super::pex::Neighbours;
use super::roster::Roster;
use super::{PieceMap, Tag};
use crate::metainfo::Block;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by the swarms of all cores of one torrent.
#[derive(Debug)]
pub struct Commons {
    /// What is known of each piece.
    pub map: PieceMap,
    desks: Box<[Desk]>,
    roster: Mutex<Roster>,
    neighbours: Mutex<Neighbours>,
}

/// What one core shows the others.
#[derive(Debug, Default)]
struct Desk {
    /// It has peers that could be asked for more than it knows to ask.
    idle: AtomicBool,
    /// Peers that want an upload slot.
    contenders: AtomicU32,
    /// Blocks that its pieces lack and that others may fetch for it.
    lacking: Mutex<Vec<Block>>,
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
        assert!(cores > 0, "somebody has to work");
        let desks = (0..cores).map(|_| Desk::default()).collect();
        Self { map: PieceMap::new(pieces), desks, roster: Mutex::default(), neighbours: Mutex::default() }
    }

    /// Number of cores.
    pub fn cores(&self) -> usize {
        self.desks.len()
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        unpoisoned(&self.roster)
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

    /// Shows what a core's pieces lack; `true` when that is news.
    pub(super) fn show_lacking(&self, core: usize, blocks: Vec<Block>) -> bool {
        let mut board = unpoisoned(&self.desks[core].lacking);
        let news = *board != blocks;
        *board = blocks;
        news
    }

    /// Whether nothing of what a core has shown is left to take.
    pub(super) fn is_taken(&self, core: usize) -> bool {
        unpoisoned(&self.desks[core].lacking).is_empty()
    }

    /// Takes a block that another core lacks and that suits, with that core's number. It is shown no more until its
    /// holder finds that it is still lacking.
    pub(super) fn take_lacking(&self, core: usize, suits: impl Fn(&Block) -> bool) -> Option<(Block, usize)> {
        let others = self.desks.iter().enumerate().filter(|(other, _)| *other != core);
        others.into_iter().find_map(|(other, desk)| {
            let mut board = unpoisoned(&desk.lacking);
            let at = board.iter().position(&suits)?;
            Some((board.remove(at), other))
        })
    }

    /// A core's part of `slots` upload slots, by the number of its peers that want one; at least one.
    pub(super) fn share_of_slots(&self, core: usize, contenders: usize, slots: usize) -> usize {
        self.desks[core].contenders.store(contenders as u32, Ordering::Relaxed);
        let all: usize = self.desks.iter().map(|desk| desk.contenders.load(Ordering::Relaxed) as usize).sum();
        if all <= slots { slots } else { (slots * contenders).div_ceil(all).max(1) }
    }
}

/// A panic aborts the program, so no lock is ever left by one; were it, the values are whole between statements.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_shared_by_demand() {
        let commons = Commons::new(1, 2);
        assert_eq!(commons.share_of_slots(0, 3, 4), 4, "alone");
        assert_eq!(commons.share_of_slots(1, 1, 4), 4, "enough for all");
        assert_eq!(commons.share_of_slots(1, 9, 4), 3);
        assert_eq!(commons.share_of_slots(0, 3, 4), 1);
        assert_eq!(commons.share_of_slots(0, 0, 4), 1, "one is kept for whoever comes");
    }
}
