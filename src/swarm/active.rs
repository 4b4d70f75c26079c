//! A piece that is being fetched: who was asked for which block, and how far its runs have come.

use super::evidence::Statement;
use super::votes::Votes;
use super::{PeerSlot, Tag};
use crate::metainfo::{BLOCK_LEN, Block, Layout, PieceIndex};
use std::ops::Range;
use std::time::Duration;

/// Bytes of a run: consecutive blocks of a piece that are hashed and written together.
pub const RUN_LEN: u32 = 256 * 1024;
pub(super) const BLOCKS_IN_RUN: usize = (RUN_LEN / BLOCK_LEN) as usize;

/// A block of an active piece.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockState {
    /// Number of peers that were asked and have not answered.
    pub(super) asked: u8,
    /// Who delivered it, once it is there.
    pub(super) from: Option<Tag>,
    /// Whose bytes are on their way into the block's place: nobody else's may go there.
    pub(super) writer: Option<PeerSlot>,
    /// Another core has taken it upon itself to fetch it.
    pub(super) away: bool,
}

impl BlockState {
    pub(super) fn is_received(&self) -> bool {
        self.from.is_some()
    }

    fn is_missing(&self) -> bool {
        self.asked == 0 && self.from.is_none() && self.writer.is_none() && !self.away
    }
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// This many blocks are still to come.
    Filling(u8),
    /// All blocks are there; hashed when the runs before it are.
    Full,
    /// The same, of a piece that is put to the vote: its fingerprints are being taken.
    Counting,
    /// They agree with others; hashed when the runs before it are.
    Counted,
    Hashing,
    Hashed,
    Writing,
    Written,
}

impl Stage {
    /// Whether something is being done to the run, which stays as it is until that is over.
    fn is_busy(&self) -> bool {
        matches!(self, Stage::Counting | Stage::Hashing | Stage::Writing)
    }
}

/// Who is asked for the blocks of a piece.
#[derive(Debug, Default)]
pub(super) enum Senders {
    #[default]
    All,
    /// The piece came out wrong before, and each block must come from another than then.
    Voters(Box<Votes>),
    /// The votes did not help: all but these, who have sent other blocks than those who are asked.
    AllBut(Box<[Tag]>),
    /// Only the owner, so that it must be clear who is to blame if the piece comes out wrong again.
    Owner,
}

#[derive(Debug)]
pub(super) struct ActivePiece {
    pub(super) piece: PieceIndex,
    pub(super) blocks: Box<[BlockState]>,
    pub(super) runs: Box<[Stage]>,
    /// Runs that have memory: the first so many. They are opened in order, so that the run to be hashed next always
    /// has its memory and pieces never wait for one another.
    pub(super) opened: usize,
    /// The peer that is asked for the rest of the piece, while it is fast enough.
    pub(super) owner: Option<PeerSlot>,
    pub(super) senders: Senders,
    /// Blocks that cannot be taken back any more are of a liar: nothing more is asked for, and it is given up soon.
    pub(super) spoiled: bool,
    /// Runs are written as soon as they are hashed, before the whole piece is known to be good.
    pub(super) streaming: bool,
    pub(super) verdict: Option<bool>,
    /// Since when it has waited in vain.
    stood: Option<Duration>,
    /// Its fingerprints are being taken: it stays as it is until they are there.
    pub(super) printing: bool,
    /// No block before this one is missing.
    first_missing: usize,
}

impl ActivePiece {
    pub(super) fn new(layout: &Layout, piece: PieceIndex, senders: Senders, streaming: bool) -> Self {
        let blocks = layout.blocks_in(piece);
        let runs = (0..blocks.div_ceil(BLOCKS_IN_RUN))
            .map(|run| Stage::Filling((blocks - run * BLOCKS_IN_RUN).min(BLOCKS_IN_RUN) as u8));
        Self {
            piece,
            blocks: vec![BlockState::default(); blocks].into(),
            runs: runs.collect(),
            opened: 0,
            owner: None,
            senders,
            spoiled: false,
            streaming,
            verdict: None,
            stood: None,
            printing: false,
            first_missing: 0,
        }
    }

    /// The first block that nobody was asked for.
    pub(super) fn next_missing(&mut self) -> Option<usize> {
        let found = self.blocks[self.first_missing..].iter().position(BlockState::is_missing);
        self.first_missing = found.map_or(self.blocks.len(), |n| self.first_missing + n);
        found.map(|_| self.first_missing)
    }

    /// The first block that nobody was asked for and that may come from this peer.
    pub(super) fn next_missing_of(&mut self, from: Tag) -> Option<usize> {
        let first = self.next_missing()?;
        if !self.is_choosy() {
            return Some(first);
        }
        self.missing().find(|index| self.hears(*index, from))
    }

    /// All blocks that nobody was asked for.
    pub(super) fn missing(&self) -> impl Iterator<Item = usize> {
        (self.first_missing..self.blocks.len()).filter(|index| self.blocks[*index].is_missing())
    }

    /// Whether a peer can be asked for a block with so many free slabs.
    pub(super) fn may_ask(&mut self, from: Tag, slabs: usize) -> bool {
        self.next_missing_of(from).is_some_and(|index| self.unopened(index).len() <= slabs)
    }

    /// Whether the block may come from a peer by what it has sent before.
    pub(super) fn hears(&self, index: usize, from: Tag) -> bool {
        !self.spoiled
            && match &self.senders {
                Senders::All | Senders::Owner => true,
                Senders::Voters(votes) => !votes.has_said(index, from),
                Senders::AllBut(_) => !self.bars(from),
            }
    }

    /// Whether a block may be for some to send and not for others, or nobody is asked.
    pub(super) fn is_choosy(&self) -> bool {
        self.spoiled || matches!(self.senders, Senders::Voters(_) | Senders::AllBut(_))
    }

    /// Whether there is something that may come from the peer.
    pub(super) fn is_for(&self, from: Tag) -> bool {
        let lacks = |index: &usize| !self.blocks[*index].is_received();
        (0..self.blocks.len()).filter(lacks).any(|index| self.hears(index, from))
    }

    /// Whether the peer is of another camp than those who are asked.
    pub(super) fn bars(&self, from: Tag) -> bool {
        matches!(&self.senders, Senders::AllBut(barred) if barred.contains(&from))
    }

    /// Whether its owner alone is asked.
    pub(super) fn is_sole(&self) -> bool {
        matches!(self.senders, Senders::Owner)
    }

    /// What it is voted on by, if it is.
    pub(super) fn votes(&self) -> Option<&Votes> {
        if let Senders::Voters(votes) = &self.senders { Some(votes) } else { None }
    }

    /// The same, to be changed.
    pub(super) fn votes_mut(&mut self) -> Option<&mut Votes> {
        if let Senders::Voters(votes) = &mut self.senders { Some(votes) } else { None }
    }

    /// Runs that have to be opened before the block can come: its own, and those before, which lack memory too when all their
    /// blocks come from other cores.
    fn unopened(&self, index: usize) -> Range<usize> {
        self.opened..self.opened.max(Self::run_of(index) + 1)
    }

    /// Opens the block's run, and gives those that need a slab now; or opens nothing, when so many slabs are too few.
    pub(super) fn open(&mut self, index: usize, slabs: usize) -> Option<Range<usize>> {
        let runs = self.unopened(index);
        (runs.len() <= slabs).then(|| {
            self.opened = runs.end;
            runs
        })
    }

    /// A block may be missing again.
    pub(super) fn reconsider(&mut self, index: usize) {
        self.first_missing = self.first_missing.min(index);
    }

    /// One peer less has to answer for the block.
    pub(super) fn release(&mut self, index: usize) {
        self.blocks[index].asked -= 1;
        self.reconsider(index);
    }

    /// Whether the block may come from this peer: it is not here, its run has memory, and the peer is of those who are to send it.
    pub(super) fn welcomes(&self, index: usize, slot: PeerSlot, from: Tag) -> bool {
        let opened = Self::run_of(index) < self.opened;
        let barred = self.is_sole() && self.owner != Some(slot);
        opened && !barred && !self.blocks[index].is_received() && self.hears(index, from)
    }

    /// The run a block belongs to.
    pub(super) fn run_of(index: usize) -> usize {
        index / BLOCKS_IN_RUN
    }

    /// The block is there.
    pub(super) fn receive(&mut self, index: usize, tag: Tag) {
        self.stood = None;
        let block = &mut self.blocks[index];
        debug_assert!(!block.is_received());
        (block.from, block.writer, block.away) = (Some(tag), None, false);
        let run = &mut self.runs[Self::run_of(index)];
        *run = match *run {
            Stage::Filling(1) => Stage::Full,
            Stage::Filling(n) => Stage::Filling(n - 1),
            other => unreachable!("a block came for a run that is {other:?}"),
        };
    }

    /// Takes back the blocks of a sender that has been found out, where they are not being hashed yet: they are missing
    /// again. (What is put to the vote is not believed of anybody.)
    pub(super) fn disown(&mut self, tag: Tag) {
        if self.votes().is_some() {
            return;
        }
        let mut kept = 0;
        for index in 0..self.blocks.len() {
            if self.blocks[index].from != Some(tag) {
                continue;
            }
            if matches!(self.runs[Self::run_of(index)], Stage::Filling(_) | Stage::Full) {
                self.take_back(index);
            } else {
                kept += 1;
            }
        }
        let lacks = self.lacks();
        self.spoiled |= kept > 0 && lacks > 0 && (self.is_suspect() || lacks > self.blocks.len() / 2);
    }

    /// A block that is here, of a run that is not being hashed, is missing again.
    pub(super) fn take_back(&mut self, index: usize) {
        self.blocks[index].from = None;
        let run = &mut self.runs[Self::run_of(index)];
        let left = if let Stage::Filling(left) = *run { left } else { 0 };
        *run = Stage::Filling(left + 1);
        self.reconsider(index);
    }

    /// Runs that are full and whose fingerprints are to be taken before they are hashed: of a piece that is put to the vote.
    pub(super) fn take_uncounted(&mut self) -> Vec<usize> {
        if self.votes().is_none() {
            return Vec::new();
        }
        let full: Vec<usize> = (0..self.runs.len()).filter(|run| self.runs[*run] == Stage::Full).collect();
        full.iter().for_each(|run| self.runs[*run] = Stage::Counting);
        full
    }

    /// The next runs to hash, if their turn has come: all that are left, or of a piece that is written run by run those
    /// that are full. (One long stretch of a piece costs a batch of hashes less than many short ones.)
    pub(super) fn next_to_hash(&mut self) -> Option<Range<usize>> {
        let hashed = |run: &Stage| matches!(run, Stage::Hashed | Stage::Writing | Stage::Written);
        let start = self.runs.iter().position(|run| !hashed(run))?;
        let ready = if self.votes().is_some() { Stage::Counted } else { Stage::Full };
        let full = self.runs[start..].iter().take_while(|run| **run == ready).count();
        let end = start + full;
        if full == 0 || (!self.streaming && end < self.runs.len()) {
            return None;
        }
        self.runs[start..end].fill(Stage::Hashing);
        Some(start..end)
    }

    /// Runs that are hashed and may be written now.
    pub(super) fn take_writable(&mut self) -> Vec<usize> {
        if self.verdict == Some(false) || (self.verdict.is_none() && !self.streaming) {
            return Vec::new();
        }
        let ready: Vec<usize> = (0..self.runs.len()).filter(|run| self.runs[*run] == Stage::Hashed).collect();
        ready.iter().for_each(|run| self.runs[*run] = Stage::Writing);
        ready
    }

    pub(super) fn is_written(&self) -> bool {
        self.runs.iter().all(|run| *run == Stage::Written)
    }

    /// Whether all is written but for this run.
    pub(super) fn lacks_only(&self, run: usize) -> bool {
        self.runs.iter().enumerate().all(|(at, stage)| at == run || *stage == Stage::Written)
    }

    pub(super) fn is_writing(&self) -> bool {
        self.runs.contains(&Stage::Writing)
    }

    /// Whether runs are being hashed or written, or fingerprints taken: it stays as it is until that is over.
    pub(super) fn is_settling(&self) -> bool {
        self.printing || self.verdict.is_some() || self.runs.iter().any(Stage::is_busy)
    }

    /// Runs that have memory and are not written.
    pub(super) fn runs_in_memory(&self) -> usize {
        self.runs[..self.opened].iter().filter(|run| **run != Stage::Written).count()
    }

    /// Whether blocks of it are still to come.
    pub(super) fn is_filling(&self) -> bool {
        self.runs.iter().any(|run| matches!(run, Stage::Filling(_)))
    }

    /// Whether it came out wrong before.
    pub(super) fn is_suspect(&self) -> bool {
        !matches!(self.senders, Senders::All)
    }

    /// Nobody brings what it lacks just now: says whether that was so before, and nothing has come for this long. (Who falls silent
    /// is asked again now and then, and who chokes us may unchoke us: that alone is no progress.)
    pub(super) fn stands(&mut self, now: Duration, patience: Duration) -> bool {
        now >= *self.stood.get_or_insert(now) + patience
    }

    /// Number of blocks that are still to come.
    pub(super) fn lacks(&self) -> usize {
        self.blocks.iter().filter(|block| !block.is_received()).count()
    }

    /// Whether nothing of it is under way: nobody was asked, nothing is coming, being hashed or written.
    pub(super) fn is_idle(&self) -> bool {
        !self.printing
            && self.blocks.iter().all(|block| block.asked == 0 && block.writer.is_none())
            && !self.runs.iter().any(Stage::is_busy)
    }

    /// Bytes received so far.
    pub(super) fn received_bytes(&self, layout: &Layout) -> u64 {
        let lens = self.blocks.iter().enumerate().filter(|(_, block)| block.is_received());
        lens.map(|(index, _)| u64::from(layout.nth_block(self.piece, index).len)).sum()
    }

    /// Who delivered which block, beside its fingerprint. All blocks are here.
    pub(super) fn signed(&self, prints: &[u64]) -> Vec<Statement> {
        let senders = self.blocks.iter().zip(0..).filter_map(|(block, index)| Some((index, block.from?)));
        let signed = senders.zip(prints);
        signed.map(|((index, from), print)| Statement { index, from, print: *print }).collect()
    }

    /// Who delivered every block, if one did.
    pub(super) fn sole_sender(&self) -> Option<Tag> {
        let first = self.blocks[0].from?;
        self.blocks.iter().all(|block| block.from == Some(first)).then_some(first)
    }
}

/// Whether a block is cut the way we ask for them: the only ones we take.
pub(super) fn is_whole(layout: &Layout, block: &Block) -> bool {
    block.begin.is_multiple_of(BLOCK_LEN) && *block == layout.nth_block(block.piece, block.index())
}
