//! A swarm on the desk: peers are played by hand, and what is said to them is read back.

use crate::metainfo::{Block, Layout, PieceIndex};
use crate::swarm::rate::Speed;
use crate::swarm::window::Window;
use crate::swarm::{
    Commons, Completion, DropReason, Introduction, PeerSlot, Place, Settings, Speech, Swarm, Wish,
};
use crate::wire::{Item, Limits, Message, PeerId, Reader, Reserved, bitfield_len};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What was said, in a form to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Bitfield(Vec<u8>),
    Request(u32, u32),
    Cancel(u32, u32),
    HaveAll,
    HaveNone,
    Reject(u32, u32),
    AllowedFast(u32),
    Suggest(u32),
    Port(u16),
    Extended(u8, Vec<u8>),
}

pub(super) struct Desk {
    pub(super) swarm: Swarm,
    pub(super) layout: Arc<Layout>,
    pub(super) now: Duration,
    /// Free slabs at the next speech.
    pub(super) slabs: usize,
    /// Bytes of metadata that may still be given.
    pub(super) metadata: usize,
    /// Which blocks of a bad piece are bad, when several peers have sent it.
    pub(super) bad_blocks: Vec<u32>,
    next_port: u16,
    /// Requests to have open with a peer at first, when not as many as usual: a whole run.
    pub(super) window: Option<usize>,
    /// What the next peers know.
    pub(super) reserved: Reserved,
}

pub(super) const BLOCK: u32 = 16 * 1024;

impl Desk {
    /// A swarm that has the pieces `have` of a torrent.
    pub(super) fn new(piece_length: u32, pieces: u32, have: &[u32]) -> Self {
        let total = u64::from(piece_length) * u64::from(pieces);
        let layout = Arc::new(Layout::new(piece_length.into(), [total]).unwrap());
        let commons = Arc::new(Commons::new(pieces, 1));
        have.iter().for_each(|n| commons.map.set_have(layout.piece(*n).unwrap()));
        Self::on_core(layout, commons, 0)
    }

    /// One of several cores.
    pub(super) fn on_core(layout: Arc<Layout>, commons: Arc<Commons>, core: usize) -> Self {
        Self::with(layout, commons, core, Self::settings())
    }

    /// Small limits, so that they are met.
    pub(super) fn settings() -> Settings {
        let (id, hold) = (id(100), 1 << 20);
        Settings { id, most_peers: 4, slots: 2, seed_slots: 2, hold, ..Settings::default() }
    }

    pub(super) fn with(layout: Arc<Layout>, commons: Arc<Commons>, core: usize, settings: Settings) -> Self {
        let swarm = Swarm::new(Arc::clone(&layout), commons, core, settings, 1);
        Self {
            swarm,
            layout,
            now: Duration::from_secs(1000),
            slabs: 1000,
            metadata: usize::MAX,
            bad_blocks: Vec::new(),
            next_port: 1000,
            window: Some(16),
            reserved: Reserved::default(),
        }
    }

    pub(super) fn piece(&self, number: u32) -> PieceIndex {
        self.layout.piece(number).unwrap()
    }

    pub(super) fn block(&self, piece: u32, index: u32) -> Block {
        self.layout.nth_block(self.piece(piece), index as usize)
    }

    pub(super) fn connect(&mut self, outgoing: bool, number: u8) -> Result<PeerSlot, DropReason> {
        self.next_port += 1;
        let addr = SocketAddr::from(([127, 0, 0, 1], self.next_port));
        let reserved = self.reserved;
        self.swarm.connect(self.now, Introduction { addr, outgoing, id: id(number), reserved })
    }

    /// A peer that has these pieces and does not choke us.
    pub(super) fn giver(&mut self, number: u8, pieces: &[u32]) -> PeerSlot {
        let slot = self.connect(true, number).unwrap();
        self.hear(slot, Message::Bitfield(&bits(self.layout.piece_count(), pieces)));
        self.hear(slot, Message::Unchoke);
        if let (Some(window), Some(peer)) = (self.window, self.swarm.peers.get_mut(slot)) {
            peer.requests = Window::beginning(window);
        }
        slot
    }

    /// A peer that has nothing, is interested and unchoked.
    pub(super) fn taker(&mut self, number: u8) -> PeerSlot {
        let slot = self.connect(false, number).unwrap();
        self.hear(slot, Message::Interested);
        self.say(slot);
        slot
    }

    pub(super) fn hear(&mut self, slot: PeerSlot, message: Message<'_>) {
        self.swarm.hear(self.now, slot, message);
    }

    pub(super) fn ask(&mut self, slot: PeerSlot, [index, begin, len]: [u32; 3]) {
        self.hear(slot, Message::Request { index, begin, len });
    }

    /// Everything that is said to the peer now.
    pub(super) fn say(&mut self, slot: PeerSlot) -> Vec<Said> {
        let mut bytes = Vec::new();
        let metadata = self.metadata;
        let mut speech = Speech { bytes: &mut bytes, slabs: self.slabs, opened: Vec::new(), metadata };
        self.swarm.speak(self.now, slot, &mut speech);
        self.slabs = speech.slabs;
        self.metadata = speech.metadata;
        let mut reader = Reader::new(Limits::for_pieces(self.layout.piece_count()));
        let mut input = &bytes[..];
        let mut said = Vec::new();
        while let Some(item) = reader.next(&mut input).unwrap() {
            said.push(match item {
                Item::Message(Message::KeepAlive) => Said::KeepAlive,
                Item::Message(Message::Choke) => Said::Choke,
                Item::Message(Message::Unchoke) => Said::Unchoke,
                Item::Message(Message::Interested) => Said::Interested,
                Item::Message(Message::NotInterested) => Said::NotInterested,
                Item::Message(Message::Have(piece)) => Said::Have(piece),
                Item::Message(Message::Bitfield(bits)) => Said::Bitfield(bits.to_vec()),
                Item::Message(Message::Request { index, begin, .. }) => Said::Request(index, begin / BLOCK),
                Item::Message(Message::Cancel { index, begin, .. }) => Said::Cancel(index, begin / BLOCK),
                Item::Message(Message::HaveAll) => Said::HaveAll,
                Item::Message(Message::HaveNone) => Said::HaveNone,
                Item::Message(Message::Reject { index, begin, .. }) => Said::Reject(index, begin / BLOCK),
                Item::Message(Message::AllowedFast(piece)) => Said::AllowedFast(piece),
                Item::Message(Message::Suggest(piece)) => Said::Suggest(piece),
                Item::Message(Message::Port(port)) => Said::Port(port),
                Item::Message(Message::Extended { id, payload }) => Said::Extended(id, payload.to_vec()),
                other => panic!("said {other:?}"),
            });
        }
        said
    }

    /// The blocks asked of the peer now: piece and number.
    pub(super) fn requests(&mut self, slot: PeerSlot) -> Vec<(u32, u32)> {
        let said = self.say(slot).into_iter();
        said.filter_map(
            |said| if let Said::Request(piece, block) = said { Some((piece, block)) } else { None },
        )
        .collect()
    }

    /// What is lent for a receive from the peer, `coming` first.
    pub(super) fn lent(
        &mut self,
        slot: PeerSlot,
        coming: Option<(u32, u32)>,
        most: usize,
    ) -> Vec<(u32, u32)> {
        let coming = coming.map(|(piece, index)| self.block(piece, index));
        let lent = self.swarm.lend(slot, coming, most).into_iter();
        lent.map(|block| (block.piece.get(), block.begin / BLOCK)).collect()
    }

    /// A block comes whole; says where it went and whether it was taken.
    pub(super) fn block_comes(&mut self, slot: PeerSlot, (piece, index): (u32, u32)) -> (Place, bool) {
        let block = self.block(piece, index);
        let (begun, place) = self.swarm.begin(self.now, slot, [piece, block.begin, block.len]).unwrap();
        assert_eq!(begun, block);
        (place, self.swarm.complete(self.now, slot, &block, place) == Completion::Taken)
    }

    pub(super) fn wishes(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        self.swarm.fill(&mut wishes, usize::MAX);
        wishes
    }

    /// Why peers were dropped since the last look at wishes.
    pub(super) fn drops(&mut self) -> Vec<(PeerSlot, DropReason)> {
        let wishes = self.wishes().into_iter();
        wishes
            .filter_map(|wish| if let Wish::Drop(slot, why) = wish { Some((slot, why)) } else { None })
            .collect()
    }

    /// Grants hashes and writes until there are none; pieces in `bad` come out wrong.
    pub(super) fn settle(&mut self, bad: &[u32]) -> Vec<Wish> {
        let mut others = Vec::new();
        loop {
            let wishes = self.wishes();
            if wishes.is_empty() {
                return others;
            }
            for wish in wishes {
                match wish {
                    Wish::Hash(piece, runs) => {
                        let last = runs.end == self.layout.blocks_in(piece).div_ceil(16);
                        let verdict = last.then(|| !bad.contains(&piece.get()));
                        self.swarm.hashed(self.now, piece, runs, verdict);
                    }
                    Wish::Write(piece, run) => self.swarm.written(self.now, piece, run),
                    Wish::Fingerprint(piece, runs) => {
                        let all = self.layout.blocks_in(piece) as u32;
                        let blocks = runs.start as u32 * 16..all.min(runs.end as u32 * 16);
                        let bad = |block: &u32| bad.contains(&piece.get()) && self.bad_blocks.contains(block);
                        let prints: Vec<u64> = blocks.map(|block| u64::from(bad(&block))).collect();
                        self.swarm.fingerprinted(self.now, piece, runs, &prints);
                    }
                    other => others.push(other),
                }
            }
        }
    }

    /// Time passes, with a look at everything twice a second.
    pub(super) fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 2 {
            self.now += Duration::from_millis(500);
            self.swarm.tick(self.now);
        }
    }
}

/// Who is to be spoken to, if that is the wish.
pub(super) fn woken(wish: Wish) -> Option<PeerSlot> {
    if let Wish::Wake(slot) = wish { Some(slot) } else { None }
}

/// The peer has sent so many bytes a second of late.
pub(super) fn has_rate(desk: &mut Desk, slot: PeerSlot, rate: u64) {
    let peer = desk.swarm.peers.get_mut(slot).unwrap();
    peer.downloaded = peer.downloaded.max(1);
    peer.speed = Speed::steady(rate);
    desk.swarm.tell_givers();
}

/// Where it is to be dialled.
pub(super) fn dialled(wishes: Vec<Wish>) -> Vec<SocketAddr> {
    let dialled = |wish| if let Wish::Dial(addr) = wish { Some(addr) } else { None };
    wishes.into_iter().filter_map(dialled).collect()
}

/// What the swarm was told of itself: to be changed before anybody connects.
pub(super) fn own(desk: &mut Desk) -> &mut Settings {
    &mut desk.swarm.settings
}

pub(super) fn id(number: u8) -> PeerId {
    PeerId([number; 20])
}

/// The payload of a bitfield message.
pub(super) fn bits(count: u32, pieces: &[u32]) -> Vec<u8> {
    let mut bits = vec![0; bitfield_len(count)];
    pieces.iter().for_each(|n| bits[*n as usize / 8] |= 0x80 >> (n % 8));
    bits
}
