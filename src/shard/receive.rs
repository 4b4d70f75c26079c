//! Receiving from one peer: payload lands where it belongs, everything else in a scratch buffer.
//!
//! The next blocks are known, for peers answer in the order they were asked. So one receive scatters: 13 bytes of
//! head into the scratch buffer, the payload into the block's place in its slab, the next head, and so on. If
//! the peer says something else in between, the bytes after it lie in the wrong places; they are moved, and counted, and
//! of this peer less is foreseen (see `guess`). Behind the last place that can be foreseen comes room for a head only: what
//! that says decides where its payload goes.

use super::allowance::Allowance;
use super::aside::Room;
use super::crew::Letter;
use super::guess::Guess;
use super::torrent::TorrentShard;
use crate::metainfo::Block;
use crate::ring::{MAX_LEASES, SLAB_LEN, Scatter, Socket};
use crate::swarm::{Completion, PeerSlot, Place};
use crate::wire::mse::Cipher;
use crate::wire::{Item, Limits, PIECE_HEAD_LEN, Reader, WireError};
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

/// What nobody has asked for waits until a limit leaves something over, and looks this often.
const NAP: Duration = Duration::from_millis(10);
/// So long it waits, each block.
const LONGEST_UNBIDDEN: Duration = Duration::from_secs(5);
/// What waits for its turn looks this often whether the torrent ends.
const LONGEST_NAP: Duration = Duration::from_millis(250);

/// A receive that could not have taken in much more.
const LARGE: usize = SLAB_LEN;

/// A block that is coming.
struct Coming {
    block: Block,
    place: Place,
    /// Bytes that have come.
    filled: usize,
    /// Room for all of it, when it is put aside: from its first byte on.
    aside: Vec<u8>,
    _room: Option<Room>,
    /// Until then it waits for what a limit leaves over, if nobody has asked for it.
    waits_until: Duration,
}

impl Coming {
    fn make_room(&mut self) {
        self.aside.resize(self.block.len as usize, 0);
    }
}

/// Where a stretch of one receive went.
enum Stretch {
    /// Into the scratch buffer.
    Scratch(Range<usize>),
    /// Into a block's home, from this byte of the block on.
    Home { block: Block, from: usize },
    /// Into the room of the block that is coming, so many bytes.
    Aside(usize),
}

/// The receiving side of a connection.
pub(super) struct Receiver {
    torrent: Rc<TorrentShard>,
    slot: PeerSlot,
    reader: Reader,
    coming: Option<Coming>,
    guess: Guess,
    /// For a peer that insists on encryption.
    cipher: Option<Cipher>,
    /// Payload bytes that have come.
    payload: u64,
    /// When the bytes were received that are taken in now.
    now: Duration,
    allowance: Allowance,
    /// Bytes that may be received now.
    most: usize,
}

impl Receiver {
    pub(super) fn new(torrent: Rc<TorrentShard>, slot: PeerSlot, cipher: Option<Cipher>) -> Self {
        let reader = Reader::new(Limits::for_pieces(torrent.crew.store.layout().piece_count()));
        let allowance = Allowance::new(torrent.crew.choices.download.clone());
        Self {
            torrent,
            slot,
            reader,
            coming: None,
            guess: Guess::default(),
            payload: 0,
            now: Duration::ZERO,
            cipher,
            allowance,
            most: 0,
        }
    }

    /// Receives until the connection ends. `ahead`: bytes that have come with the handshake, decrypted.
    ///
    /// # Errors
    /// Why it ended, unless the peer closed it in order.
    pub(super) async fn run(mut self, socket: &Socket, ahead: Vec<u8>) -> io::Result<()> {
        self.now = self.torrent.now();
        let goes_on = self.keep_on(|this| this.take(&ahead));
        drop(ahead);
        self.torrent.pump();
        if !goes_on {
            return Ok(());
        }
        let mut waits = true;
        loop {
            if waits {
                socket.readable().await?;
            }
            self.most = self.wait_for_turn(socket).await;
            if let Some(next) = self.next_block() {
                self.torrent.wait_for_room(&next).await;
            }
            let mut scatter = self.torrent.take_scatter();
            let plan = self.plan(&mut scatter);
            let room = scatter.capacity();
            debug_assert!(room > 0, "to receive nothing is how the end of a connection looks");
            let (result, mut scatter) = socket.recv(scatter).await;
            if let (Some(cipher), Ok(received)) = (&mut self.cipher, &result) {
                scatter.change(*received, |bytes| cipher.apply(bytes));
            }
            scatter.clear();
            if let Some(coming) = &mut self.coming {
                coming.aside = scatter.take_buffer();
            }
            let ended = match &result {
                Ok(received) => {
                    waits = *received < room;
                    self.now = self.torrent.now();
                    self.look_behind(socket, *received, room);
                    self.allowance.spend(self.now, *received as u64);
                    let before = self.payload;
                    let ended = *received == 0 || !self.digest(&plan, &scatter, *received);
                    let payload = self.payload - before;
                    self.torrent.gauges.count_overhead(0, (*received as u64).saturating_sub(payload));
                    if let Some(coming) = &self.coming {
                        self.torrent.swarm.borrow_mut().trickled(self.now, self.slot, coming.filled as u32);
                    }
                    ended
                }
                Err(error) => {
                    waits = true;
                    self.allowance.rest(self.torrent.now());
                    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
                }
            };
            let home = self.coming.as_ref().filter(|coming| coming.place == Place::Home);
            self.torrent.swarm.borrow_mut().returned(self.slot, home.map(|coming| coming.block));
            self.torrent.give_scatter(scatter);
            self.torrent.pump();
            if ended {
                return result.map(drop);
            }
        }
    }

    /// With a limit, waits until bytes may be received; those that are waiting stay in the kernel meanwhile, and the peer finds
    /// our socket full. Whom nothing is expected of is heard at once: its messages are short, and booked when they have come. Gives
    /// how many bytes.
    async fn wait_for_turn(&mut self, socket: &Socket) -> usize {
        let Some(quantum) = self.allowance.quantum() else { return usize::MAX };
        // What nobody has asked for takes nothing from others: they come first, as long as they want all that there is.
        // But not for ever: what comes behind it may be worth something, or the end of the connection.
        let latest = self.coming.as_ref().map(|coming| coming.waits_until);
        let is_unbidden = || latest.is_some() && self.torrent.swarm.borrow().is_unbidden(self.slot);
        while is_unbidden() && socket.unread() > 0 && !self.torrent.is_stopping() {
            let now = self.torrent.now();
            if latest.is_none_or(|latest| now >= latest) || self.allowance.is_idle(now) {
                break;
            }
            tokio::time::sleep(NAP).await;
        }
        let expected = self.coming.is_some() || self.torrent.swarm.borrow().expected(self.slot) > 0;
        while !self.torrent.is_stopping() {
            // Nothing may be unread but the end of the connection.
            let (now, unread) = (self.torrent.now(), socket.unread());
            let booked = expected && unread > 0;
            let allowed = if booked { self.allowance.get(now, unread) } else { 0 };
            if allowed > 0 {
                return usize::try_from(allowed).unwrap_or(usize::MAX);
            }
            let wait = self.allowance.wait(now);
            if wait.is_zero() && !booked {
                break;
            }
            if booked {
                self.torrent.swarm.borrow_mut().lies_unread(now, self.slot, unread);
            }
            tokio::time::sleep(wait.min(LONGEST_NAP)).await;
        }
        usize::try_from(quantum).unwrap_or(usize::MAX)
    }

    /// The block that is coming, if it has a place of its own, or else the one that is expected next.
    fn next_block(&self) -> Option<Block> {
        match &self.coming {
            Some(coming) => (coming.place == Place::Home).then_some(coming.block),
            None => self.torrent.swarm.borrow().next_of(self.slot),
        }
    }

    /// Tells how much a receive has left in the socket for want of time.
    fn look_behind(&self, socket: &Socket, received: usize, room: usize) {
        let is_full = received == room;
        // What a limit leaves there is its doing, and what a small one leaves says nothing: it was laid out for little.
        if self.allowance.quantum().is_some() || is_full && received < LARGE {
            return;
        }
        let is_late = is_full && self.torrent.is_strained(self.now);
        let unread = if is_late { socket.unread() } else { 0 };
        self.torrent.swarm.borrow_mut().piles_up(self.slot, unread);
    }

    /// Says where the next bytes go.
    fn plan(&mut self, scatter: &mut Scatter) -> Vec<Stretch> {
        let home = self.coming.as_ref().filter(|coming| coming.place == Place::Home);
        let at_home = home.map(|coming| (coming.block, coming.filled));
        let left = self.reader.message_left();
        let mut plan = match &mut self.coming {
            Some(coming) if coming.place == Place::Aside => Self::lay_aside(scatter, coming, self.most),
            _ if at_home.is_some() || left == 0 => self.lay_out(scatter, at_home),
            _ => Vec::new(),
        };
        if plan.is_empty() {
            // The rest goes elsewhere, and what follows it is not guessed.
            let room = if self.guess.is_chatter() { self.most } else { self.most.min(left + PIECE_HEAD_LEN) };
            plan.push(Stretch::Scratch(scatter.push_scratch(room)));
        }
        plan
    }

    /// The rest of the block that is coming goes into its own room; what follows it is not guessed.
    fn lay_aside(scatter: &mut Scatter, coming: &mut Coming, most: usize) -> Vec<Stretch> {
        coming.make_room();
        let left = coming.aside.len() - coming.filled;
        let len = left.min(most);
        scatter.push_buffer(std::mem::take(&mut coming.aside), coming.filled..coming.filled + len);
        let mut plan = vec![Stretch::Aside(len)];
        if len == left {
            plan.push(Stretch::Scratch(scatter.push_scratch(PIECE_HEAD_LEN)));
        }
        plan
    }

    /// Gives each block that is expected the place where it belongs, beginning with the one that is coming (and how much of it
    /// is there). Nothing when that one has lost its place.
    fn lay_out(&mut self, scatter: &mut Scatter, at_home: Option<(Block, usize)>) -> Vec<Stretch> {
        let mut plan = Vec::new();
        let most = self.most;
        // As much as the head of a piece message is held, and it is none: it is another kind of message.
        let mut head = PIECE_HEAD_LEN.saturating_sub(self.reader.head_held());
        if head == 0 {
            plan.push(Stretch::Scratch(scatter.push_scratch(most)));
            return plan;
        }
        let coming = at_home.map(|(block, _)| block);
        let begun = usize::from(coming.is_some());
        let most_blocks = begun + self.guess.ahead(MAX_LEASES - begun);
        let lent = self.torrent.swarm.borrow_mut().lend(self.slot, coming, most_blocks);
        for block in lent {
            let from = at_home.filter(|(home, _)| *home == block).map_or(0, |(_, filled)| filled);
            let room = most.saturating_sub(scatter.capacity());
            let end = |range: &Range<usize>| range.end.min((range.start + from).saturating_add(room));
            // What has no memory yet waits for it when it comes first.
            if room == 0 || !plan.is_empty() && self.torrent.is_short_of_room(&block) {
                break;
            }
            let lease =
                self.torrent.with_home(&block, |slab, range| slab.lease(range.start + from..end(&range)));
            let Some(lease) = lease.flatten() else { break };
            let cut = lease.len() < block.len as usize - from;
            if Some(block) != coming {
                plan.push(Stretch::Scratch(scatter.push_scratch(head)));
            }
            head = PIECE_HEAD_LEN;
            scatter.push_lease(lease);
            plan.push(Stretch::Home { block, from });
            if cut {
                return plan;
            }
        }
        if plan.is_empty() && coming.is_some() {
            return plan;
        }
        // When more blocks are to follow than were laid out, only the next one's head: its payload gets its place next time.
        let laid = plan.iter().filter(|stretch| matches!(stretch, Stretch::Home { .. })).count();
        let more = self.torrent.swarm.borrow().expected(self.slot) > laid;
        let only_head = more && !self.guess.is_chatter();
        let rest = if only_head { head } else { most.saturating_sub(scatter.capacity()).max(head) };
        let rest = scatter.push_scratch(rest);
        plan.push(Stretch::Scratch(rest));
        plan
    }

    /// Takes in what was received. `false` when the peer is to be dropped.
    fn digest(&mut self, plan: &[Stretch], scatter: &Scatter, received: usize) -> bool {
        let mut left = received;
        for (at, stretch) in plan.iter().enumerate() {
            let result = match stretch {
                Stretch::Scratch(range) => {
                    let len = range.len().min(left);
                    left -= len;
                    self.take(scatter.scratch(range.start..range.start + len))
                }
                Stretch::Home { block, from } => {
                    let len = (block.len as usize - from).min(left);
                    if !self.is_expected(block, *from, len) {
                        self.guess.missed();
                        let rest = self.collect(&plan[at..], scatter, left);
                        let before = self.payload;
                        let goes_on = self.keep_on(|this| this.take(&rest));
                        // Once out of the wrong places, and once more into the right ones, which `put` counts.
                        self.torrent.count_moved((self.payload - before) as usize);
                        return goes_on;
                    }
                    left -= len;
                    self.take_at_home(block, *from, len)
                }
                Stretch::Aside(len) => {
                    let len = (*len).min(left);
                    left -= len;
                    self.take_aside(len)
                }
            };
            if !self.keep_on(|_| result) {
                return false;
            }
            if left == 0 {
                break;
            }
        }
        true
    }

    /// Tells of a peer that breaks the protocol.
    fn keep_on(&mut self, step: impl FnOnce(&mut Self) -> Result<bool, WireError>) -> bool {
        step(self).unwrap_or_else(|error| {
            self.torrent.hits.borrow_mut().messages += 1;
            self.torrent.hang_up(self.slot, &error);
            false
        })
    }

    /// Whether the next `len` bytes of the stream are payload of that block from that byte on, so that they lie
    /// where they belong.
    fn is_expected(&self, block: &Block, from: usize, len: usize) -> bool {
        let coming = self.coming.as_ref();
        coming.is_some_and(|coming| {
            coming.block == *block
                && coming.place == Place::Home
                && coming.filled == from
                && self.reader.payload_left() as usize >= len
                && self.torrent.swarm.borrow().is_home(self.slot, block)
        })
    }

    /// Copies the rest of what was received, in the order of the stream, out of the places it went to.
    fn collect(&self, plan: &[Stretch], scatter: &Scatter, mut left: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(left);
        for stretch in plan {
            if left == 0 {
                break;
            }
            let len = match stretch {
                Stretch::Scratch(range) => {
                    let len = range.len().min(left);
                    bytes.extend_from_slice(scatter.scratch(range.start..range.start + len));
                    len
                }
                Stretch::Aside(_) => unreachable!("nothing but a head is laid out behind what goes aside"),
                Stretch::Home { block, from } => {
                    let len = (block.len as usize - from).min(left);
                    let at = |range: &Range<usize>| range.start + from..range.start + from + len;
                    let copied = self
                        .torrent
                        .with_home(block, |slab, range| bytes.extend_from_slice(slab.read(at(&range))));
                    copied.expect("a block that was lent has a home");
                    len
                }
            };
            left -= len;
        }
        bytes
    }

    /// Takes in payload that lies where it belongs. `false` when the peer is dropped.
    fn take_at_home(&mut self, block: &Block, from: usize, len: usize) -> Result<bool, WireError> {
        let reader = &mut self.reader;
        let item = self.torrent.with_home(block, |slab, range| {
            let mut input = slab.read(range.start + from..range.start + from + len);
            reader
                .next(&mut input)
                .map(|item| matches!(item, Some(Item::Payload { len: taken }) if taken == len))
        });
        let as_expected = item.expect("a block that was lent has a home")?;
        assert!(as_expected, "the reader agrees with `payload_left`");
        self.advance(len);
        Ok(true)
    }

    /// Takes in payload that lies in the room of its block.
    fn take_aside(&mut self, len: usize) -> Result<bool, WireError> {
        let coming = self.coming.as_ref().expect("it was coming when the receive was laid out");
        let mut input = &coming.aside[coming.filled..coming.filled + len];
        let item = self.reader.next(&mut input)?;
        assert!(matches!(item, Some(Item::Payload { len: taken }) if taken == len), "nothing else was left");
        self.advance(len);
        Ok(true)
    }

    /// Takes in bytes of the stream that lie anywhere. `false` when the peer is dropped.
    fn take(&mut self, bytes: &[u8]) -> Result<bool, WireError> {
        let mut input = bytes;
        let torrent = Rc::clone(&self.torrent);
        loop {
            match self.reader.next(&mut input)? {
                None => return Ok(true),
                Some(Item::Message(message)) => {
                    self.guess.heard();
                    torrent.swarm.borrow_mut().hear(self.now, self.slot, message);
                }
                Some(Item::PieceHead(head)) => {
                    let head = [head.index, head.begin, head.len];
                    let next = torrent.swarm.borrow().next_of(self.slot);
                    let begun = torrent.swarm.borrow_mut().begin(self.now, self.slot, head);
                    let Ok((block, place)) = begun else { return Ok(false) };
                    self.guess.begun(next == Some(block));
                    let (found, _room) = torrent.asides.find(place);
                    torrent.hits.borrow_mut().asides += u64::from(found != place);
                    let waits_until = self.now + LONGEST_UNBIDDEN;
                    let coming =
                        Coming { block, place: found, filled: 0, aside: Vec::new(), _room, waits_until };
                    self.coming = Some(coming);
                }
                Some(Item::Payload { len }) => {
                    let end = bytes.len() - input.len();
                    self.put(&bytes[end - len..end]);
                    self.advance(len);
                }
            }
        }
    }

    /// Puts payload that came elsewhere where it belongs.
    fn put(&mut self, bytes: &[u8]) {
        let coming = self.coming.as_mut().expect("payload follows a head");
        if coming.place == Place::Aside {
            self.torrent.count_moved(bytes.len());
            coming.make_room();
            coming.aside[coming.filled..coming.filled + bytes.len()].copy_from_slice(bytes);
        } else if coming.place == Place::Home {
            let home = self.torrent.swarm.borrow().is_home(self.slot, &coming.block);
            let write = |slab: &mut crate::ring::FillingSlab, range: Range<usize>| {
                slab.write(range.start + coming.filled, bytes);
            };
            if home && self.torrent.with_home(&coming.block, write).is_some() {
                self.torrent.count_moved(bytes.len());
            } else {
                coming.place = Place::Nowhere;
            }
        }
    }

    /// `len` bytes of the block have come; with the last one it is complete.
    fn advance(&mut self, len: usize) {
        let coming = self.coming.as_mut().expect("payload follows a head");
        coming.filled += len;
        self.payload += len as u64;
        if coming.filled < coming.block.len as usize {
            return;
        }
        let Some(Coming { block, place, aside, .. }) = self.coming.take() else { return };
        let torrent = &self.torrent;
        let completion = torrent.swarm.borrow_mut().complete(self.now, self.slot, &block, place);
        match completion {
            Completion::Taken if place == Place::Aside => {
                let put = torrent.with_home(&block, |slab, range| slab.write(range.start, &aside));
                put.expect("a block that is taken has a home");
                torrent.count_moved(aside.len());
            }
            Completion::Handover(core, handover) => {
                torrent.post(core, Letter::HandIn(handover, aside));
            }
            Completion::Taken | Completion::Vain => {}
        }
    }
}
