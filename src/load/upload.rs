//! A connection that is a seed: what it is asked for, and what it sends.

use super::run::World;
use crate::metainfo::{Block, Layout};
use crate::ring::{MAX_PARTS, Parts};
use crate::wire::{Message, PIECE_HEAD_LEN, PieceHead};
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

/// Requests that a client may have waiting. Transmission 3.00 asks for tens of thousands of blocks ahead.
const MAX_WAITING: usize = 1_000_000;
/// Blocks of one send.
const BATCH: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Uploader {
    waiting: VecDeque<Block>,
    /// Bytes of the first that have gone, its head included.
    gone: usize,
    interested: bool,
    /// It was interested, and now is not.
    pub(super) satisfied: bool,
    /// Bytes of blocks sent.
    pub(super) sent: u64,
}

impl Uploader {
    pub(super) fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a message may be sent now: not within a block.
    pub(super) fn at_boundary(&self) -> bool {
        self.gone == 0
    }

    pub(super) fn hear(
        &mut self,
        world: &mut World<'_>,
        message: Message<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        match message {
            Message::Interested => {
                if !self.interested {
                    Message::Unchoke.encode(out);
                }
                self.interested = true;
                self.satisfied = false;
            }
            Message::NotInterested => self.satisfied = self.interested,
            Message::Have(piece) => {
                world.client.has(piece).ok_or("it has a piece that the torrent has not")?
            }
            Message::Bitfield(bits) => {
                let set = |number: &u32| bits[*number as usize / 8] & 0x80 >> (number % 8) != 0;
                (0..world.payload.layout().piece_count()).filter(set).for_each(|piece| {
                    world.client.has(piece);
                });
            }
            Message::Request { index, begin, len } => {
                world.report.requests += 1;
                let block = world.payload.layout().block(index, begin, len);
                self.waiting.push_back(block.ok_or("it asked for a block that the torrent has not")?);
                if self.waiting.len() > MAX_WAITING {
                    return Err("it asks for more than anybody may");
                }
            }
            Message::Cancel { index, begin, len } => {
                let block = world.payload.layout().block(index, begin, len);
                // The first may be on its way already.
                let at = |waiting: &Block| Some(*waiting) == block;
                let found = self.waiting.iter().skip(1).position(at).map(|place| place + 1);
                found.map(|place| self.waiting.remove(place));
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends blocks while the socket takes them, at most a batch; says whether it may take more.
    pub(super) fn send(&mut self, world: &mut World<'_>, fd: &OwnedFd) -> io::Result<bool> {
        if self.waiting.is_empty() {
            return Ok(true);
        }
        world.report.outstanding(self.waiting.len());
        let mut heads = [[0; PIECE_HEAD_LEN]; BATCH];
        for (head, block) in heads.iter_mut().zip(&self.waiting) {
            let Block { piece, begin, len } = *block;
            *head = PieceHead { index: piece.get(), begin, len }.encode();
        }
        let mut parts = Parts::with_capacity(2 * BATCH);
        for (head, block) in heads.iter().zip(&self.waiting) {
            if parts.len() > MAX_PARTS / 2 {
                break;
            }
            parts.push(head);
            world.payload.gather(block, &mut parts);
        }
        parts.skip(self.gone);
        let offered = parts.offered();
        world.report.sends += 1;
        match parts.send(fd) {
            Ok(count) => {
                self.count(world, count);
                Ok(count == offered)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Notes that so many bytes have gone.
    fn count(&mut self, world: &mut World<'_>, count: usize) {
        self.gone += count;
        while let Some(block) = self.waiting.front() {
            let whole = PIECE_HEAD_LEN + block.len as usize;
            if self.gone < whole {
                break;
            }
            self.gone -= whole;
            self.sent += u64::from(block.len);
            world.report.bytes += u64::from(block.len);
            world.report.blocks += 1;
            world.client.was_sent(world.payload.layout(), block);
            self.waiting.pop_front();
        }
        world.moved();
    }
}

/// What the client has.
#[derive(Debug)]
pub(super) struct Client {
    pieces: Vec<Holding>,
    said: u32,
    covered: u32,
}

/// What the client has of a piece.
#[derive(Debug)]
struct Holding {
    /// It said that it has the piece.
    said: bool,
    /// One bit a block that it was sent.
    sent: Box<[u64]>,
    /// Blocks that it was not sent.
    missing: u32,
}

impl Client {
    pub(super) fn new(layout: &Layout) -> Self {
        let holding = |piece| {
            let blocks = layout.blocks_in(piece);
            Holding { said: false, sent: vec![0; blocks.div_ceil(64)].into(), missing: blocks as u32 }
        };
        Self { pieces: layout.pieces().map(holding).collect(), said: 0, covered: 0 }
    }

    /// The client says that it has a piece; `None` when there is no such.
    fn has(&mut self, piece: u32) -> Option<()> {
        let holding = self.pieces.get_mut(piece as usize)?;
        if !holding.said {
            holding.said = true;
            self.said += 1;
            self.covered += u32::from(holding.missing > 0);
        }
        Some(())
    }

    fn was_sent(&mut self, layout: &Layout, block: &Block) {
        // Clients ask for whole blocks; of one that does not, only what it says counts.
        if *block != layout.nth_block(block.piece, block.index()) {
            return;
        }
        let holding = &mut self.pieces[block.piece.as_usize()];
        let (word, bit) = (block.index() / 64, 1 << (block.index() % 64));
        if holding.sent[word] & bit == 0 {
            holding.sent[word] |= bit;
            holding.missing -= 1;
            self.covered += u32::from(holding.missing == 0 && !holding.said);
        }
    }

    /// Number of pieces that it said it has, or that it was sent.
    pub(super) fn covered(&self) -> u32 {
        self.covered
    }

    /// Whether those are all.
    pub(super) fn is_covered(&self) -> bool {
        self.covered as usize == self.pieces.len()
    }

    /// Whether it said that it has every piece.
    pub(super) fn says_complete(&self) -> bool {
        self.said as usize == self.pieces.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metainfo::BLOCK_LEN;

    #[test]
    fn whole_blocks_alone_count_as_sent() {
        let layout =
            Layout::new(u64::from(2 * BLOCK_LEN), [u64::from(BLOCK_LEN) + 100]).expect("it is sound");
        let mut client = Client::new(&layout);
        let block = |begin, len| layout.block(0, begin, len).expect("the torrent has it");
        for part in [block(0, BLOCK_LEN - 1), block(1, BLOCK_LEN), block(BLOCK_LEN, 99)] {
            client.was_sent(&layout, &part);
        }
        assert_eq!(client.pieces[0].missing, 2);
        client.was_sent(&layout, &block(0, BLOCK_LEN));
        client.was_sent(&layout, &block(BLOCK_LEN, 100));
        assert_eq!((client.pieces[0].missing, client.is_covered()), (0, true));
    }
}
