//! What comes on a line: whole blocks in a coarse world; in a fine one parts of any length, received as a shard does it.

use super::node::{EndId, Origin};
use super::world::{Event, SECOND, World};
use crate::metainfo::Block;
use crate::swarm::{Completion, Place};
use crate::wire::{Item, Message, PieceHead};
use std::collections::BTreeMap;

/// Most bytes of one receive.
const RECEIVE: usize = 128 * 1024;
/// How often it is said what a limit has not let in, as a shard does it (microseconds).
const NAP: u64 = 250_000;

fn head(block: &Block) -> PieceHead {
    PieceHead { index: block.piece.get(), begin: block.begin, len: block.len }
}

/// A request that is heard has to be answered.
fn note_request(message: &Message<'_>, owed: &mut BTreeMap<[u32; 3], i32>) {
    if let Message::Request { index, begin, len } = message {
        *owed.entry([*index, *begin, *len]).or_default() += 1;
    }
}

impl World {
    pub(crate) fn heard(&mut self, id: EndId, bytes: Vec<u8>) -> usize {
        if self.is_fine() {
            return self.part(id, bytes, None);
        }
        let now = self.time();
        let end = &mut self.lines[id.0].ends[id.1];
        let number = end.node;
        let Some(slot) = end.slot.filter(|_| !end.closed) else { return number };
        let mut input = &bytes[..];
        while let Some(item) = end.reader.next(&mut input).expect("we speak well") {
            let Item::Message(message) = item else { unreachable!("blocks go another way") };
            note_request(&message, &mut end.owed);
            self.nodes[number].swarm.hear(now, slot, message);
        }
        number
    }

    pub(crate) fn arrived(&mut self, id: EndId, block: Block, bad: bool) -> usize {
        if self.is_fine() {
            return self.split(id, &block, bad);
        }
        let number = self.end(id).node;
        let node = &mut self.nodes[number];
        node.arrives = node.arrives.max(self.now) + u64::from(block.len) * SECOND / node.plan.down;
        let mut comes = node.arrives;
        if let Some(limit) = node.plan.download_limit {
            comes = node.host.lets_in.get().max(comes) + u64::from(block.len) * SECOND / limit;
            node.host.lets_in.set(comes);
            let end = self.end(id);
            end.unread += u64::from(block.len);
            if end.unread == u64::from(block.len) {
                self.after(0, Event::Unread(id));
            }
        }
        self.after(comes - self.now, Event::Came(id, block, bad));
        number
    }

    pub(crate) fn unread(&mut self, id: EndId) -> usize {
        let now = self.time();
        let end = self.end(id);
        let (number, bytes) = (end.node, end.unread);
        if let Some(slot) = end.slot.filter(|_| !end.closed && bytes > 0) {
            self.nodes[number].swarm.lies_unread(now, slot, bytes);
            self.after(NAP, Event::Unread(id));
        }
        number
    }

    /// A part of a slow block is here. (What else begins with a block, does so when it is whole.)
    pub(crate) fn trickled(&mut self, id: EndId, filled: u32) -> usize {
        let now = self.time();
        let end = self.end(id);
        let (number, slot) = (end.node, end.slot.filter(|_| !end.closed));
        if let Some(slot) = slot {
            self.nodes[number].swarm.trickled(now, slot, filled);
        }
        number
    }

    // ---- whole ----

    pub(crate) fn came(&mut self, id: EndId, block: Block, bad: bool) -> usize {
        let now = self.time();
        let behind = self.follow(id, block.len);
        if !behind.is_empty() {
            self.after(0, Event::Heard(id, behind));
        }
        let line = &mut self.lines[id.0];
        let sender = line.ends[1 - id.1].node;
        let end = &mut line.ends[id.1];
        end.unread = end.unread.saturating_sub(block.len.into());
        let number = end.node;
        if let Some(slot) = end.slot.filter(|_| !end.closed) {
            let node = &mut self.nodes[number];
            let PieceHead { index, begin, len } = head(&block);
            let (block, place) = node.swarm.begin(now, slot, [index, begin, len]).expect("we speak well");
            let taken = node.swarm.complete(now, slot, &block, place);
            node.swarm.returned(slot, None);
            let origin = Origin { end: id, bad };
            if let Completion::Handover(core, handover) = taken {
                let to = self.neighbour(number, core);
                self.soon(500, Event::HandIn(to, handover, origin));
            } else {
                node.received += u64::from(block.len);
                if taken == Completion::Taken {
                    node.store(&block, origin);
                }
            }
            self.serve(number);
        }
        self.send(sender);
        number
    }

    // ---- in parts ----

    /// A block comes at the line's own pace.
    fn split(&mut self, id: EndId, block: &Block, bad: bool) -> usize {
        let bandwidth = self.lines[id.0].bandwidth;
        let mut bytes = head(block).encode().to_vec();
        bytes.resize(bytes.len() + block.len as usize, u8::from(bad));
        let wait = self.end(id).arrives.saturating_sub(self.now);
        let mut sent = 0;
        while !bytes.is_empty() {
            let rest = bytes.split_off(self.rng.usize(1..=bytes.len()));
            sent += bytes.len() as u64;
            let part = std::mem::replace(&mut bytes, rest);
            let last = bytes.is_empty().then_some(block.len);
            self.after(wait + sent * 1000 / bandwidth, Event::Part(id, part, last));
        }
        self.end(id).arrives = self.now + wait + sent * 1000 / bandwidth;
        self.end(id).node
    }

    pub(crate) fn part(&mut self, id: EndId, mut bytes: Vec<u8>, last: Option<u32>) -> usize {
        let end = self.end(id);
        let whole = bytes.len() <= end.budget;
        bytes.truncate(end.budget);
        if end.budget != usize::MAX {
            end.budget -= bytes.len();
        }
        let number = end.node;
        end.inbox.extend(bytes);
        self.start_receive(id);
        if let Some(len) = last.filter(|_| whole) {
            // Before anything of the next block.
            let behind = self.follow(id, len);
            self.part(id, behind, None);
            let sender = self.end((id.0, 1 - id.1)).node;
            self.send(sender);
        }
        number
    }

    pub(crate) fn start_receive(&mut self, id: EndId) {
        if !self.is_fine() {
            return;
        }
        let most = self.rng.usize(1..=16);
        let end = &mut self.lines[id.0].ends[id.1];
        let Some(slot) = end.slot.filter(|_| !end.closed && !end.receiving && !end.inbox.is_empty()) else {
            return;
        };
        end.receiving = true;
        // As a shard does: what follows a block that does not go home is not guessed.
        let guessed = end.coming.is_none_or(|(_, place, _)| place == Place::Home);
        if guessed {
            let coming = end.coming.map(|(block, ..)| block);
            end.lent = self.nodes[end.node].swarm.lend(slot, coming, most);
        }
        self.soon(300, Event::Receive(id));
    }

    pub(crate) fn receive(&mut self, id: EndId) -> usize {
        let now = self.time();
        let end = &mut self.lines[id.0].ends[id.1];
        let node = &mut self.nodes[end.node];
        let Some(slot) = end.slot.filter(|_| !end.closed) else { return end.node };
        let rest = end.inbox.split_off(end.inbox.len().min(self.rng.usize(1..=RECEIVE)));
        let bytes = std::mem::replace(&mut end.inbox, rest);
        let mut input = &bytes[..];
        let mut handovers = Vec::new();
        loop {
            let item = end.reader.next(&mut input).expect("we speak well");
            let after = bytes.len() - input.len();
            match item {
                None => break,
                Some(Item::Message(message)) => {
                    note_request(&message, &mut end.owed);
                    node.swarm.hear(now, slot, message);
                }
                Some(Item::PieceHead(PieceHead { index, begin, len })) => {
                    let (block, place) =
                        node.swarm.begin(now, slot, [index, begin, len]).expect("nobody sends nonsense");
                    end.coming = Some((block, place, false));
                }
                Some(Item::Payload { len }) => {
                    let (block, place, bad) = end.coming.as_mut().expect("a head comes first");
                    *bad |= bytes[after - len..after].iter().any(|byte| *byte != 0);
                    let (block, place, bad) = (*block, *place, *bad);
                    let origin = Origin { end: id, bad };
                    if end.lent.contains(&block) || node.swarm.is_home(slot, &block) {
                        node.store(&block, origin);
                    }
                    if end.reader.payload_left() == 0 {
                        end.coming = None;
                        let completion = node.swarm.complete(now, slot, &block, place);
                        if let Completion::Handover(core, handover) = completion {
                            assert_eq!(place, Place::Aside);
                            handovers.push((core, handover, origin));
                            continue;
                        }
                        node.received += u64::from(block.len);
                        if completion == Completion::Taken && place == Place::Aside {
                            node.store(&block, origin);
                        }
                    }
                }
            }
        }
        if let Some((block, ..)) = end.coming {
            node.swarm.trickled(now, slot, block.len - end.reader.payload_left());
        }
        let home = end.coming.filter(|(_, place, _)| *place == Place::Home);
        node.swarm.returned(slot, home.map(|(block, ..)| block));
        end.lent.clear();
        end.receiving = false;
        let number = end.node;
        self.limit_requests(id);
        self.start_receive(id);
        for (core, handover, origin) in handovers {
            let to = self.neighbour(number, core);
            self.soon(500, Event::HandIn(to, handover, origin));
        }
        number
    }
}
