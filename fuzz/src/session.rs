//! Whole sessions: bytes become what peers say, what the disk answers, and how time goes, to a swarm that is checked
//! after each step.

use seedring::metainfo::{Block, Layout, PieceIndex};
use seedring::swarm::{
    Commons, Completion, Greeting, Introduction, PeerSlot, Place, RUN_LEN, Settings, Speech, Swarm, Wish,
};
use seedring::wire::extended::{ExtendedHandshake, Extension, MetadataMessage, PexMessage, parse_dont_have};
use seedring::wire::{Item, Limits, Message, PeerId, PieceHead, Reader, Reserved};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

#[path = "session_words.rs"]
mod words;

/// Payload is only counted: these bytes stand for all of it.
static PAYLOAD: [u8; 64 * 1024] = [0; 64 * 1024];
const BLOCK: u32 = 16 * 1024;
const MOST_PEERS: usize = 4;
/// Memory, in runs.
const SLABS: usize = 6;
/// Longest session, in steps.
const STEPS: usize = 400;

/// Plays the session that the input is.
pub fn session(input: &[u8]) {
    let Some((kind, mut script)) = input.split_first() else { return };
    let mut scene = Scene::new(*kind);
    for _ in 0..STEPS {
        let Some(step) = byte(&mut script) else { break };
        scene.step(step, &mut script);
        scene.check();
    }
}

fn byte(script: &mut &[u8]) -> Option<u8> {
    let (first, rest) = script.split_first()?;
    *script = rest;
    Some(*first)
}

/// A connection, as the shard keeps it.
struct Connection {
    slot: PeerSlot,
    reader: Reader,
    /// The block that is coming, where to, and how many bytes of it have come.
    coming: Option<(Block, Place, u32)>,
    /// What it was asked for and has not answered.
    asked: Vec<Block>,
    chokes_us: bool,
    unchoked: bool,
    has: BTreeSet<u32>,
    /// Both sides speak the fast extension (BEP 6): every request has an answer, and one alone.
    fast: bool,
    /// Pieces that it sends although it chokes us.
    allows: BTreeSet<u32>,
    /// Requests of the peer's that are to be answered, with how often it has said each.
    owed: BTreeMap<[u32; 3], u32>,
    /// Blocks of metadata that it has asked for less those that it was answered, and messages of PEX that it was sent.
    metadata: i64,
    greeted: bool,
}

impl Connection {
    /// A request of the peer's is answered.
    fn settle(&mut self, request: [u32; 3]) {
        if !self.fast {
            return;
        }
        let left = self.owed.get_mut(&request).filter(|left| **left > 0);
        *left.unwrap_or_else(|| panic!("{request:?} is answered that was not asked, or twice")) -= 1;
    }
}

struct Scene {
    swarm: Swarm,
    commons: Arc<Commons>,
    layout: Arc<Layout>,
    now: Duration,
    connections: Vec<Connection>,
    /// Runs that have memory.
    slabs: BTreeSet<(PieceIndex, usize)>,
    /// Disk and hash work under way.
    pending: Vec<Wish>,
    port: u16,
    private: bool,
    /// Bytes of pieces that came out good.
    good: u64,
    had: u32,
}

impl Scene {
    /// One of a few torrents: pieces of one block, of several blocks, of several runs; to be fetched, or half had.
    fn new(kind: u8) -> Self {
        let (piece_length, total) = match kind % 3 {
            0 => (64, 9 * 64 + 17),
            1 => (3 * BLOCK, u64::from(3 * BLOCK) * 4 + 100),
            _ => (40 * BLOCK, u64::from(40 * BLOCK) * 2 + 5),
        };
        let layout = Arc::new(Layout::new(piece_length.into(), [total]).expect("a good layout"));
        let commons = Arc::new(Commons::new(layout.piece_count(), 1));
        let had = if kind & 0x40 == 0 { kind.into() } else { layout.piece_count() };
        let had: Vec<PieceIndex> =
            layout.pieces().take(had as usize % (layout.piece_count() as usize + 1)).collect();
        had.iter().for_each(|piece| commons.map.set_have(*piece));
        let settings = Settings {
            id: PeerId([99; 20]),
            most_peers: MOST_PEERS,
            slots: 2,
            seed_slots: 2,
            hold: if kind & 0x20 == 0 { 1 << 20 } else { RUN_LEN },
            fetch: kind & 0x80 == 0,
            greeting: Greeting {
                metadata: vec![5; usize::from(kind & 0x1f) * 2000].into(),
                port: Some(6881),
                private: kind & 0x10 != 0,
                dht_port: Some(6881).filter(|_| kind & 8 != 0),
                ..Greeting::default()
            },
            super_seed: kind & 0x48 == 0x48,
            ..Settings::default()
        };
        let swarm = Swarm::new(Arc::clone(&layout), Arc::clone(&commons), 0, settings, kind.into());
        let now = Duration::from_secs(1000);
        let (connections, slabs, pending) = (Vec::new(), BTreeSet::new(), Vec::new());
        Self {
            swarm,
            commons,
            now,
            connections,
            slabs,
            pending,
            port: 1,
            private: kind & 0x10 != 0,
            good: 0,
            had: had.len() as u32,
            layout,
        }
    }

    /// One thing happens.
    fn step(&mut self, step: u8, script: &mut &[u8]) {
        let mut next = || byte(script).unwrap_or(0);
        if step.is_multiple_of(8) {
            let (number, outgoing) = (next(), next() % 2 == 1);
            return self.connect(number, outgoing);
        }
        if step % 8 == 4 {
            self.now += Duration::from_millis(500) * u32::from(next());
            self.swarm.tick(self.now);
            return;
        }
        if step % 8 == 6 {
            return self.grant(next());
        }
        if self.connections.is_empty() {
            return;
        }
        let at = usize::from(next()) % self.connections.len();
        match step % 8 {
            1 => {
                let len = usize::from(next()).min(script.len());
                let (bytes, rest) = script.split_at(len);
                *script = rest;
                self.receive(at, bytes);
            }
            2 => {
                let part = next();
                self.answer(at, part);
            }
            3 => {
                let mut numbers = [0; 3];
                let kind = next();
                numbers.fill_with(&mut next);
                self.say_to_us(at, kind, numbers);
            }
            5 => self.speak(at),
            7 if next() % 4 == 0 => self.hang_up(at),
            _ => self.upload(at),
        }
        self.drops();
    }

    fn connect(&mut self, number: u8, outgoing: bool) {
        self.port += 1;
        let addr = ([127, 0, 0, number % 3], self.port).into();
        let reserved = if number.is_multiple_of(2) { Reserved::ours(true) } else { Reserved::default() };
        let who = Introduction { addr, outgoing, id: PeerId([number; 20]), reserved };
        let connected = self.swarm.connect(self.now, who);
        self.drops();
        let Ok(slot) = connected else { return };
        self.connections.push(Connection {
            slot,
            reader: Reader::new(Limits::for_pieces(self.layout.piece_count())),
            coming: None,
            asked: Vec::new(),
            chokes_us: true,
            unchoked: false,
            has: BTreeSet::new(),
            fast: reserved.fast(),
            allows: BTreeSet::new(),
            owed: BTreeMap::new(),
            metadata: 0,
            greeted: false,
        });
    }

    /// Bytes come from a peer. Places are lent for them beforehand, as the shard does.
    fn receive(&mut self, at: usize, bytes: &[u8]) {
        let slot = self.connections[at].slot;
        let home = |connection: &Connection| {
            connection.coming.filter(|(_, place, _)| *place == Place::Home).map(|(block, ..)| block)
        };
        let elsewhere = self.connections[at].coming.is_some_and(|(_, place, _)| place != Place::Home);
        if !elsewhere {
            let lent = self.swarm.lend(slot, home(&self.connections[at]), 4);
            assert!(lent.len() <= 4);
        }
        let goes_on = self.digest(at, bytes);
        self.swarm.returned(slot, home(&self.connections[at]));
        if !goes_on {
            self.hang_up(at);
        }
    }

    /// Takes in bytes. `false` when the peer is to be closed for them.
    fn digest(&mut self, at: usize, bytes: &[u8]) -> bool {
        let connection = &mut self.connections[at];
        let mut input = bytes;
        loop {
            match connection.reader.next(&mut input) {
                Err(_) => return false,
                Ok(None) => return true,
                Ok(Some(Item::Message(message))) => {
                    match message {
                        Message::Choke => {
                            connection.chokes_us = true;
                            if !connection.fast {
                                connection.asked.clear();
                            }
                        }
                        Message::HaveAll => connection.has.extend(0..self.layout.piece_count()),
                        Message::AllowedFast(piece) => _ = connection.allows.insert(piece),
                        Message::Request { index, begin, len } => {
                            *connection.owed.entry([index, begin, len]).or_default() += 1;
                        }
                        Message::Reject { index, begin, len } => {
                            let rejected = |block: &Block| {
                                [block.piece.get(), block.begin, block.len] == [index, begin, len]
                            };
                            if let Some(at) = connection.asked.iter().position(rejected) {
                                connection.asked.remove(at);
                            }
                        }
                        Message::Extended { id, payload } if id == Extension::DontHave.id() => {
                            parse_dont_have(payload)
                                .iter()
                                .for_each(|piece| _ = connection.has.remove(piece));
                        }
                        Message::Extended { id, payload } if id == Extension::Metadata.id() => {
                            let asks = matches!(
                                MetadataMessage::parse(payload),
                                Some(MetadataMessage::Request { .. })
                            );
                            connection.metadata += i64::from(asks);
                        }
                        Message::Unchoke => connection.chokes_us = false,
                        Message::Have(piece) => _ = connection.has.insert(piece),
                        Message::Bitfield(bits) => connection.has.extend(
                            (0..self.layout.piece_count())
                                .filter(|n| bits[*n as usize / 8] & 0x80 >> (n % 8) != 0),
                        ),
                        _ => {}
                    }
                    self.swarm.hear(self.now, connection.slot, message);
                }
                Ok(Some(Item::PieceHead(head))) => {
                    let head = [head.index, head.begin, head.len];
                    let Ok((block, place)) = self.swarm.begin(self.now, connection.slot, head) else {
                        return false;
                    };
                    assert_eq!([block.piece.get(), block.begin, block.len], head);
                    connection.coming = Some((block, place, 0));
                }
                Ok(Some(Item::Payload { len })) => {
                    let (block, place, had) = connection.coming.as_mut().expect("payload follows a head");
                    *had += len as u32;
                    if *place == Place::Home && !self.swarm.is_home(connection.slot, block) {
                        *place = Place::Nowhere;
                    }
                    assert!(*had <= block.len);
                    if *had == block.len {
                        let (block, place) = (*block, *place);
                        connection.coming = None;
                        if let Some(at) = connection.asked.iter().position(|asked| *asked == block) {
                            connection.asked.remove(at);
                        }
                        let completion = self.swarm.complete(self.now, connection.slot, &block, place);
                        assert!(place != Place::Nowhere || completion == Completion::Vain);
                        assert!(!matches!(completion, Completion::Handover(..)), "there is one core");
                    }
                }
            }
        }
    }

    /// The peer sends of a block that it was asked for so many 255ths, or the rest of one that it has begun.
    fn answer(&mut self, at: usize, part: u8) {
        let connection = &self.connections[at];
        let left = connection.reader.payload_left();
        if left > 0 {
            let len = left as usize * usize::from(part) / 255;
            return self.receive(at, &PAYLOAD[..len.min(PAYLOAD.len())]);
        }
        if !connection.reader.at_boundary() {
            return;
        }
        let Some(block) = connection.asked.first() else { return };
        let head = PieceHead { index: block.piece.get(), begin: block.begin, len: block.len };
        let len = block.len as usize * usize::from(part) / 255;
        self.receive(at, &[&head.encode(), &PAYLOAD[..len]].concat());
    }

    /// What the peer is told makes sense.
    fn speak(&mut self, at: usize) {
        let mut bytes = Vec::new();
        let free = SLABS - self.slabs.len();
        let mut speech = Speech { bytes: &mut bytes, slabs: free, opened: Vec::new(), metadata: usize::MAX };
        self.swarm.speak(self.now, self.connections[at].slot, &mut speech);
        assert_eq!(free - speech.slabs, speech.opened.len(), "each opened run takes a slab");
        for run in speech.opened {
            assert!(self.slabs.insert(run), "{run:?} is opened twice");
        }
        let connection = &mut self.connections[at];
        let mut reader = Reader::new(Limits::for_pieces(self.layout.piece_count()));
        let mut input = &bytes[..];
        while let Some(item) = reader.next(&mut input).expect("we keep to the protocol") {
            let Item::Message(message) = item else { panic!("payload is not part of a speech") };
            match message {
                Message::Choke => connection.unchoked = false,
                Message::Unchoke => connection.unchoked = true,
                Message::Have(piece) => {
                    let piece = self.layout.piece(piece).expect("a piece of the torrent");
                    assert!(self.commons.map.has(piece), "we have what we say we have");
                }
                Message::Request { index, begin, len } => {
                    let block = self.layout.block(index, begin, len).expect("a block of the torrent");
                    let asks = !connection.chokes_us || connection.allows.contains(&index);
                    assert!(asks, "nothing is asked of those who choke us");
                    assert!(connection.has.contains(&index), "nobody is asked for what it does not have");
                    assert!(!self.commons.map.has(block.piece), "what we have is not asked for");
                    connection.asked.push(block);
                }
                Message::Reject { index, begin, len } => {
                    assert!(connection.fast);
                    connection.settle([index, begin, len]);
                }
                Message::AllowedFast(piece) => {
                    let piece = self.layout.piece(piece).expect("a piece of the torrent");
                    assert!(connection.fast && self.commons.map.has(piece), "what we allow we have");
                }
                Message::Extended { id: 0, payload } => {
                    let hello = ExtendedHandshake::parse(payload).expect("we keep to the protocol");
                    assert!(!std::mem::replace(&mut connection.greeted, true), "one greets once");
                    assert!(self.private || hello.ids[Extension::Pex as usize].is_some());
                    assert!(!self.private || hello.ids[Extension::Pex as usize].is_none());
                }
                Message::Extended { payload, .. } => {
                    assert!(connection.greeted, "one greets first");
                    // The peer's numbers for extensions may be the same for all of them.
                    match MetadataMessage::parse(payload) {
                        Some(MetadataMessage::Data { .. } | MetadataMessage::Reject { .. }) => {
                            connection.metadata -= 1;
                            assert!(connection.metadata >= 0, "metadata is sent to who asks for it");
                        }
                        _ if payload.len() == 1 => {}
                        _ => {
                            let pex = PexMessage::parse(payload).expect("there is nothing else that we say");
                            assert!(
                                !self.private && !pex.is_empty(),
                                "private torrents exchange no addresses"
                            );
                        }
                    }
                }
                Message::HaveAll => assert_eq!(self.commons.map.have_count(), self.layout.piece_count()),

                Message::Cancel { index, begin, len } => {
                    let block = self.layout.block(index, begin, len).expect("a block of the torrent");
                    if !connection.fast {
                        connection.asked.retain(|asked| *asked != block);
                    }
                }
                _ => {}
            }
        }
        assert!(reader.at_boundary(), "messages are whole");
    }

    /// What is sent to the peer is ours to send.
    fn upload(&mut self, at: usize) {
        let slot = self.connections[at].slot;
        let mut blocks: Vec<Block> = Vec::new();
        self.swarm.take_upload(slot, 2 * BLOCK, &mut blocks);
        for block in &blocks {
            assert!(self.commons.map.has(block.piece), "we have what we send");
            assert!((1..=BLOCK).contains(&block.len));
            let request = [block.piece.get(), block.begin, block.len];
            assert_eq!(self.layout.block(request[0], request[1], request[2]), Some(*block));
            self.connections[at].settle(request);
        }
        let bytes = blocks.iter().map(|block| u64::from(block.len)).sum();
        assert!(bytes <= u64::from(2 * BLOCK) || blocks.len() == 1);
        self.swarm.sent(self.now, slot, bytes);
    }

    fn hang_up(&mut self, at: usize) {
        let connection = self.connections.swap_remove(at);
        self.swarm.gone(self.now, connection.slot);
    }

    /// Takes in wishes; who is to be dropped is.
    fn drops(&mut self) {
        let mut wishes = Vec::new();
        self.swarm.fill(&mut wishes, usize::MAX);
        for wish in wishes {
            match wish {
                Wish::Drop(slot, _) => {
                    if let Some(at) = self.connections.iter().position(|connection| connection.slot == slot) {
                        self.hang_up(at);
                    }
                }
                Wish::Hash(..) | Wish::Write(..) => self.pending.push(wish),
                Wish::Done { piece, good } => {
                    self.slabs.retain(|(of, _)| *of != piece);
                    if good {
                        self.good += u64::from(self.layout.piece_len(piece));
                        self.had += 1;
                    }
                }
                Wish::Dial(addr) => self.swarm.dial_failed(self.now, addr),
                _ => {}
            }
        }
    }

    /// The disk or the hasher answers, one of what it has been asked, and well unless `choice` is at an edge.
    fn grant(&mut self, choice: u8) {
        self.drops();
        if self.pending.is_empty() {
            return;
        }
        match self.pending.remove(usize::from(choice) % self.pending.len()) {
            Wish::Hash(piece, runs) => {
                let all = self.layout.piece_len(piece).div_ceil(RUN_LEN) as usize;
                let verdict = (runs.end == all).then_some(choice % 16 != 3);
                self.swarm.hashed(self.now, piece, runs, verdict);
            }
            Wish::Write(piece, run) => {
                self.slabs.remove(&(piece, run));
                self.swarm.written(self.now, piece, run);
            }
            _ => {}
        }
        self.drops();
    }

    /// What must hold after every step.
    fn check(&mut self) {
        self.drops();
        let totals = self.swarm.totals();
        assert!(self.swarm.peers().count() <= MOST_PEERS && self.connections.len() <= MOST_PEERS);
        assert_eq!(totals.downloaded, self.good, "what is fetched is what was good");
        assert!(totals.downloaded + totals.wasted <= totals.received, "{totals:?}");
        assert_eq!(self.commons.map.have_count(), self.had, "we have what was good");
        assert!(self.slabs.len() <= SLABS);
    }
}
