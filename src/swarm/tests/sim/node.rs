//! One core of one who takes part in a simulated world: a swarm, and the memory and disk that a shard would give it.

use super::fair::Watch;
use super::plan::{Has, NodePlan};
use crate::metainfo::{BLOCK_LEN, Block, Layout, PieceIndex};
use crate::swarm::{Commons, Greeting, Loss, PeerSlot, Priority, RUN_LEN, Selection, Settings, Swarm};
use crate::wire::PeerId;
use std::cell::Cell;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::{Bound, Range};
use std::rc::Rc;
use std::sync::Arc;

/// Most connections: more than there are nodes.
const MOST_PEERS: usize = 200;

/// Which end of which connection.
pub(crate) type EndId = (usize, usize);

/// Where the bytes in a block's place come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) end: EndId,
    pub(crate) bad: bool,
}

/// What a node remembers of a piece that it is fetching.
#[derive(Default)]
pub(crate) struct Fetched {
    hashed: usize,
    /// What was hashed so far is not right.
    lied: bool,
    /// The hash of the whole piece has come out wrong: before that nobody knows who lies.
    bad: bool,
    writing: BTreeSet<usize>,
}

/// What the cores of one who takes part have in common.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) number: usize,
    pub(crate) id: PeerId,
    pub(crate) commons: Arc<Commons>,
    /// Where bad blocks came from that made a piece fail.
    pub(crate) liars: Rc<RefCell<BTreeSet<EndId>>>,
    /// Pieces that are good and on disk.
    pub(crate) verified: Rc<RefCell<BTreeSet<PieceIndex>>>,
    /// When its download limit will have let in all that is here (microseconds).
    pub(crate) lets_in: Rc<Cell<u64>>,
}

impl Host {
    pub(crate) fn new(number: usize, plan: &NodePlan, layout: &Layout, rng: &mut fastrand::Rng) -> Self {
        let mut id = *b"-SM0001-            ";
        id[8..12].copy_from_slice(&(number as u32).to_be_bytes());
        id[12..].copy_from_slice(&rng.u64(..).to_be_bytes());
        let of = |skipped| {
            layout
                .files()
                .map(move |file| if file.as_usize() == skipped { Priority::Skip } else { Priority::Normal })
        };
        let all = Selection::all(layout.piece_count());
        let selection =
            plan.skips.map_or(all, |skipped| Selection::of_files(layout, &of(skipped).collect::<Vec<_>>()));
        let commons = Arc::new(Commons::of_selection(layout, selection, plan.cores));
        let mut has = |piece: &PieceIndex| match plan.has {
            Has::Nothing => false,
            Has::Everything => true,
            Has::Chance(chance) => rng.f64() < chance,
            Has::Only(number) => piece.get() == number,
            Has::AllBut(number) => piece.get() != number,
        };
        let verified: BTreeSet<_> = layout.pieces().filter(|piece| has(piece)).collect();
        verified.iter().for_each(|piece| commons.map.set_have(*piece));
        Self {
            number,
            id: PeerId(id),
            commons,
            verified: Rc::new(RefCell::new(verified)),
            liars: Rc::default(),
            lets_in: Rc::default(),
        }
    }
}

pub(crate) struct Node {
    pub(crate) plan: NodePlan,
    pub(crate) host: Host,
    pub(crate) core: usize,
    pub(crate) swarm: Swarm,
    pub(crate) layout: Arc<Layout>,
    /// Runs that have memory.
    pub(crate) slabs: BTreeSet<(PieceIndex, usize)>,
    /// What stands in the places of blocks.
    pub(crate) memory: HashMap<Block, Origin>,
    pub(crate) fetched: BTreeMap<PieceIndex, Fetched>,
    /// Bytes of pieces that became good and on disk.
    pub(crate) downloaded: u64,
    /// Bytes of blocks that came whole.
    pub(crate) received: u64,
    pub(crate) uploaded: u64,
    /// The ends of its connections, and whose turn it is to send.
    pub(crate) ends: BTreeMap<PeerSlot, EndId>,
    turn: Option<PeerSlot>,
    /// A block is on its link, going out; and when that will have brought in all that is on it.
    pub(crate) sending: bool,
    pub(crate) arrives: u64,
    /// It takes part just now.
    pub(crate) here: bool,
    /// Its disk has failed.
    pub(crate) failed: bool,
    /// When it had everything (microseconds).
    pub(crate) done: Option<u64>,
    /// Steps since all of it was checked.
    pub(crate) steps: u32,
    pub(crate) watch: Watch,
}

/// The run a block belongs to.
pub(crate) fn run_of(block: &Block) -> usize {
    (block.begin / RUN_LEN) as usize
}

impl Node {
    pub(crate) fn new(
        host: &Host,
        core: usize,
        plan: NodePlan,
        layout: &Arc<Layout>,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let settings = Settings {
            id: host.id,
            most_peers: MOST_PEERS,
            slots: plan.slots,
            seed_slots: plan.slots,
            hold: plan.hold,
            fetch: true,
            super_seed: plan.super_seed,
            sequential: plan.sequential,
            upload_limit: plan.told.then_some(plan.up),
            download_limit: plan.download_limit,
            greeting: Greeting { port: Some(6881), ..Greeting::default() },
            ..Settings::default()
        };
        let commons = Arc::clone(&host.commons);
        let done = commons.map.is_complete().then_some(0);
        let swarm = Swarm::new(Arc::clone(layout), commons, core, settings, rng.u64(..));
        Self {
            plan,
            host: host.clone(),
            core,
            swarm,
            layout: Arc::clone(layout),
            slabs: BTreeSet::new(),
            memory: HashMap::new(),
            fetched: BTreeMap::new(),
            downloaded: 0,
            received: 0,
            uploaded: 0,
            ends: BTreeMap::new(),
            turn: None,
            sending: false,
            arrives: 0,
            here: false,
            failed: false,
            done,
            steps: 0,
            watch: Watch::default(),
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.host.commons.map.is_complete()
    }

    /// Whether nobody waits for it any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_complete() || self.plan.is_liar() || !self.plan.stays() || self.failed
    }

    /// The next end whose turn it is to send, among those that `ready` says.
    pub(crate) fn next_end(&mut self, ready: impl Fn(EndId) -> bool) -> Option<EndId> {
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let later = self.ends.range((after, Bound::Unbounded));
        let (slot, end) = later.chain(&self.ends).find(|(_, end)| ready(**end))?;
        self.turn = Some(*slot);
        Some(*end)
    }

    pub(crate) fn free_slabs(&self) -> usize {
        self.plan.slabs - self.slabs.len()
    }

    pub(crate) fn open(&mut self, run: (PieceIndex, usize)) {
        assert!(self.slabs.insert(run), "{run:?} is opened twice");
        assert!(self.slabs.len() <= self.plan.slabs, "{run:?} is opened without memory");
    }

    /// Bytes of a block have been put into its place.
    pub(crate) fn store(&mut self, block: &Block, origin: Origin) {
        let run = (block.piece, run_of(block));
        assert!(self.slabs.contains(&run), "{block:?} is written where no slab is");
        self.memory.insert(*block, origin);
    }

    /// The run has been hashed: says whether it ends the piece, and then whether the piece is good.
    pub(crate) fn hash(&mut self, piece: PieceIndex, run: usize) -> Option<bool> {
        assert!(self.slabs.contains(&(piece, run)), "run {run} of {piece:?} is hashed without memory");
        let fetched = self.fetched.entry(piece).or_default();
        assert_eq!(fetched.hashed, run, "runs are hashed in order");
        fetched.hashed += 1;
        let per_run = (RUN_LEN / BLOCK_LEN) as usize;
        let blocks = self.layout.blocks_in(piece);
        for index in run * per_run..blocks.min((run + 1) * per_run) {
            let block = self.layout.nth_block(piece, index);
            fetched.lied |= self.memory.get(&block).expect("a run is hashed when it is full").bad;
        }
        let ends = (run + 1) * per_run >= blocks;
        fetched.bad |= ends && fetched.lied;
        ends.then_some(!fetched.lied)
    }

    /// What is to be sent is read; without what the disk does not give back. Says whether it has now lost that.
    pub(crate) fn read(&mut self, slot: PeerSlot, blocks: &mut VecDeque<Block>) -> bool {
        let loses = self.plan.loses;
        let is_bad = |block: &Block| loses == Some(block.piece.get());
        let (lost, good): (VecDeque<Block>, _) = blocks.drain(..).partition(is_bad);
        *blocks = good;
        let Some(first) = lost.front() else { return false };
        let loss = self.swarm.lose(first.piece);
        assert_ne!(loss, Loss::Grave, "it has others, and fetches none");
        self.swarm.cannot_send(slot, lost);
        loss == Loss::New
    }

    pub(crate) fn begin_write(&mut self, piece: PieceIndex, run: usize) {
        assert!(self.slabs.contains(&(piece, run)), "run {run} of {piece:?} is written without memory");
        let fetched = self.fetched.get_mut(&piece).expect("written after it is hashed");
        assert!(fetched.writing.insert(run) && run < fetched.hashed);
    }

    pub(crate) fn end_write(&mut self, piece: PieceIndex, run: usize) {
        assert!(self.slabs.remove(&(piece, run)));
        assert!(self.fetched.get_mut(&piece).is_some_and(|fetched| fetched.writing.remove(&run)));
    }

    /// The fingerprints of runs: bad blocks are bad each in its own way, if liars do not agree.
    pub(crate) fn prints(&self, piece: PieceIndex, runs: &Range<usize>) -> Vec<u64> {
        let per_run = (RUN_LEN / BLOCK_LEN) as usize;
        let indices = runs.start * per_run..self.layout.blocks_in(piece).min(runs.end * per_run);
        let blocks = indices.map(|index| self.layout.nth_block(piece, index));
        let alike = self.plan.alike;
        let own = |origin: &Origin| if alike { 0 } else { origin.end.0 as u64 };
        let print = |origin: &Origin| if origin.bad { 1 + own(origin) } else { 0 };
        blocks.map(|block| print(self.memory.get(&block).expect("all blocks are here"))).collect()
    }

    /// The piece is done with. When one peer alone sent it and it is bad, that one must have been dropped.
    pub(crate) fn settle(&mut self, piece: PieceIndex, good: bool) {
        let fetched = self.fetched.remove(&piece).unwrap_or_default();
        assert!(fetched.writing.is_empty(), "{piece:?} is settled while it is being written");
        self.slabs.retain(|(other, _)| *other != piece);
        let blocks = self.layout.blocks_in(piece);
        let indices = 0..blocks;
        let origins: Vec<Option<Origin>> =
            indices.map(|index| self.memory.remove(&self.layout.nth_block(piece, index))).collect();
        if !good && fetched.bad && origins.iter().all(Option::is_some) {
            let bad = origins.iter().flatten().filter(|origin| origin.bad);
            self.host.liars.borrow_mut().extend(bad.map(|origin| origin.end));
        }
        if good {
            assert!(!fetched.bad && origins.iter().all(|origin| origin.is_some_and(|origin| !origin.bad)));
            assert!(self.host.verified.borrow_mut().insert(piece));
            self.downloaded += u64::from(self.layout.piece_len(piece));
        } else if let Some(Some(first)) = origins.first().filter(|_| fetched.bad)
            && origins.iter().all(|origin| origin.is_some_and(|origin| origin.end == first.end))
        {
            let sender = self.ends.iter().find(|(_, end)| **end == first.end);
            let kept = sender.and_then(|(slot, _)| self.swarm.peers.get(*slot)).filter(|peer| !peer.dropped);
            assert!(kept.is_none(), "who alone sent bad {piece:?} is kept");
        }
    }
}
