//! A connection that downloads: what it asks for, and whether the answers are right.

use super::order::Rounds;
use super::run::World;
use crate::metainfo::Block;
use crate::wire::{Message, PieceHead};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After so long without an answer, requests are taken for lost and sent again.
const PATIENCE: Duration = Duration::from_secs(15);

/// The block that is arriving.
#[derive(Debug)]
struct Arriving {
    block: Block,
    /// Bytes that have come.
    at: u32,
    good: bool,
    asked_for: bool,
}

#[derive(Debug)]
pub(super) struct Downloader {
    rounds: Rounds,
    /// Bytes still to be asked for; `None` when all connections share a budget.
    budget: Option<u64>,
    /// Whether the client has a piece.
    has: Vec<bool>,
    has_count: usize,
    choked: bool,
    /// Requests in flight, oldest first.
    asked: VecDeque<Block>,
    /// To be asked for before anything new.
    again: Vec<Block>,
    arriving: Option<Arriving>,
    /// Good bytes of whole blocks.
    pub(super) received: u64,
    /// When an answer came, or requests were sent where none were in flight.
    last_answer: Instant,
}

impl Downloader {
    pub(super) fn new(rounds: Rounds, budget: Option<u64>, pieces: u32, now: Instant) -> Self {
        Self {
            rounds,
            budget,
            has: vec![false; pieces as usize],
            has_count: 0,
            choked: true,
            asked: VecDeque::new(),
            again: Vec::new(),
            arriving: None,
            received: 0,
            last_answer: now,
        }
    }

    /// Whether this connection has all that it alone was to get.
    pub(super) fn is_done(&self) -> bool {
        self.budget == Some(0) && self.asked.is_empty() && self.again.is_empty() && self.arriving.is_none()
    }

    pub(super) fn outstanding(&self) -> usize {
        self.asked.len()
    }

    pub(super) fn hear(&mut self, world: &mut World<'_>, message: Message<'_>) -> Result<(), &'static str> {
        match message {
            Message::Choke => {
                world.report.chokes += 1;
                self.choked = true;
                // Without the fast extension, a choke means that none of them will be answered.
                self.give_up(world);
            }
            Message::Unchoke => self.choked = false,
            Message::Have(piece) => match self.has.get_mut(piece as usize) {
                Some(has) if !*has => {
                    *has = true;
                    self.has_count += 1;
                }
                Some(_) => {}
                None => return Err("it has a piece that the torrent has not"),
            },
            Message::Bitfield(bits) => {
                for (number, has) in self.has.iter_mut().enumerate() {
                    *has = bits[number / 8] & 0x80 >> (number % 8) != 0;
                }
                self.has_count = self.has.iter().filter(|has| **has).count();
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes all requests for lost: they are asked for again, by whoever may.
    fn give_up(&mut self, world: &mut World<'_>) {
        world.report.repeated_requests += self.asked.len() as u64;
        self.again.extend(self.asked.drain(..));
        if self.budget.is_none() {
            world.give_back(self.again.drain(..).map(|block| u64::from(block.len)).sum());
        }
    }

    /// The connection has ended; says how many requests were in flight.
    pub(super) fn end(&mut self, world: &mut World<'_>) -> usize {
        let count = self.asked.len();
        if let Some(Arriving { block, asked_for: true, .. }) = self.arriving.take() {
            self.asked.push_front(block);
        }
        self.again.extend(self.asked.drain(..));
        if self.budget.is_none() {
            world.give_back(self.again.drain(..).map(|block| u64::from(block.len)).sum());
        }
        count
    }

    /// A block begins to arrive.
    pub(super) fn begin(&mut self, world: &mut World<'_>, head: PieceHead) -> Result<(), &'static str> {
        let block = world.payload.layout().block(head.index, head.begin, head.len);
        let block = block.ok_or("it sent a block that the torrent has not")?;
        let mut asked_for = false;
        if let Some(place) = self.asked.iter().position(|asked| *asked == block) {
            self.asked.remove(place);
            asked_for = true;
        } else if let Some(place) = self.again.iter().position(|again| *again == block) {
            // Sent before the choke reached it, or very late.
            self.again.swap_remove(place);
            asked_for = true;
        }
        self.arriving = Some(Arriving { block, at: 0, good: true, asked_for });
        Ok(())
    }

    /// Bytes of that block; says how many good ones it has when it is whole.
    pub(super) fn take(&mut self, world: &mut World<'_>, bytes: &[u8]) {
        let arriving = self.arriving.as_mut().expect("the reader gives payload behind its head only");
        let Arriving { block, at, good, asked_for } = arriving;
        *good &= world.payload.has(block.piece, block.begin + *at, bytes);
        *at += bytes.len() as u32;
        if *at < block.len {
            return;
        }
        let len = u64::from(block.len);
        if !*good {
            let what = format!("piece {} from byte {} on is not what it should be", block.piece, block.begin);
            world.report.bad_blocks += 1;
            world.report.fault(what);
        }
        if !*asked_for {
            world.report.unexpected_blocks += 1;
        } else {
            world.settled += len;
            if *good {
                world.report.bytes += len;
                world.report.blocks += 1;
                self.received += len;
            }
        }
        world.moved();
        self.last_answer = world.now;
        self.arriving = None;
    }

    /// Tops up the requests in flight.
    pub(super) fn ask(&mut self, world: &mut World<'_>, out: &mut Vec<u8>) {
        let missing = world.requests - self.asked.len();
        // Few large batches cost both sides less than many small ones.
        if self.choked || (missing * 4 < world.requests && !self.asked.is_empty()) {
            return;
        }
        if self.asked.is_empty() {
            self.last_answer = world.now;
        }
        for _ in 0..missing {
            let Some(block) = self.again.pop().or_else(|| self.pick(world)) else { break };
            let Block { piece, begin, len } = block;
            Message::Request { index: piece.get(), begin, len }.encode(out);
            world.report.requests += 1;
            self.asked.push_back(block);
        }
    }

    /// The next block that the client has, while the budget lasts.
    fn pick(&mut self, world: &mut World<'_>) -> Option<Block> {
        if *self.budget.as_ref().unwrap_or(&world.budget) == 0 || self.has_count == 0 {
            return None;
        }
        let block = (0..self.rounds.len())
            .map(|_| self.rounds.next(world.payload.layout()))
            .find(|block| self.has[block.piece.as_usize()])?;
        let budget = self.budget.as_mut().unwrap_or(&mut world.budget);
        *budget = budget.saturating_sub(block.len.into());
        Some(block)
    }

    /// Time has gone by.
    pub(super) fn tick(&mut self, world: &mut World<'_>, out: &mut Vec<u8>) {
        let silent = world.now.duration_since(self.last_answer) > PATIENCE;
        if !self.asked.is_empty() && silent {
            self.give_up(world);
        }
        self.ask(world, out);
    }
}
