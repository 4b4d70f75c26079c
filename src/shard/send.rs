//! Sending to one peer: messages first, then blocks, many in one send.

use super::torrent::TorrentShard;
use crate::metainfo::Block;
use crate::ring::{Gather, Socket};
use crate::storage::StorageError;
use crate::swarm::{PeerSlot, RUN_LEN};
use crate::wire::{PIECE_HEAD_LEN, PieceHead};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use tokio::sync::Notify;

/// Payload that goes into one send.
const SEND_LEN: u32 = RUN_LEN;

/// The sending side of a connection.
pub(super) struct Sender {
    torrent: Rc<TorrentShard>,
    slot: PeerSlot,
    bell: Rc<Notify>,
    /// Messages, encoded, and how much of them is sent.
    messages: Vec<u8>,
    messages_sent: usize,
    /// Blocks that go out next, and how much of the first one (head and payload) is sent.
    blocks: VecDeque<Block>,
    block_sent: usize,
    /// Where the last request ended: who asks on from there will ask further.
    last: Option<Block>,
    ahead: bool,
}

impl Sender {
    pub(super) fn new(torrent: Rc<TorrentShard>, slot: PeerSlot, bell: Rc<Notify>) -> Self {
        Self {
            torrent,
            slot,
            bell,
            messages: Vec::new(),
            messages_sent: 0,
            blocks: VecDeque::new(),
            block_sent: 0,
            last: None,
            ahead: false,
        }
    }

    /// Sends until the connection ends.
    ///
    /// # Errors
    /// Why it ended.
    pub(super) async fn run(mut self, socket: &Socket) -> io::Result<()> {
        let mut gather = Gather::default();
        loop {
            self.gather_work();
            if self.messages.is_empty() && self.blocks.is_empty() {
                self.bell.notified().await;
                continue;
            }
            if let Err(error) = self.lay_out(&mut gather).await {
                self.torrent.report(super::Report::Failed(error.to_string()));
                return Err(io::Error::other(error));
            }
            let (result, back) = socket.send(gather).await;
            gather = back;
            gather.clear();
            match result {
                Ok(count) => self.count(count),
                // The slabs stay in the cache; nothing is pinned while the peer takes its time.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes what there is to say and to serve.
    fn gather_work(&mut self) {
        if self.messages.is_empty() {
            self.torrent.speak(self.slot, &mut self.messages);
        }
        if !self.blocks.is_empty() {
            return;
        }
        let mut batch = Vec::new();
        self.torrent.swarm.borrow_mut().take_upload(self.slot, SEND_LEN, &mut batch);
        if let (Some(first), Some(last)) = (batch.first(), batch.last()) {
            let follows =
                self.last.is_some_and(|last| last.piece == first.piece && last.end() == first.begin);
            self.ahead = follows || batch.len() > 1;
            self.last = Some(*last);
            self.blocks.extend(batch);
        }
    }

    /// Puts what is to be sent next in order: the rest of a block that was cut, messages, blocks.
    async fn lay_out(&mut self, gather: &mut Gather) -> Result<(), StorageError> {
        let cut = self.block_sent > 0;
        if cut {
            self.lay_block(gather, 0, self.block_sent).await?;
        }
        gather.push_small(&self.messages[self.messages_sent..]);
        for at in usize::from(cut)..self.blocks.len() {
            if !gather.has_room() {
                break;
            }
            self.lay_block(gather, at, 0).await?;
        }
        Ok(())
    }

    /// Adds a block, less its first `skip` bytes (head and payload).
    async fn lay_block(&self, gather: &mut Gather, at: usize, skip: usize) -> Result<(), StorageError> {
        let block = self.blocks[at];
        let head = PieceHead { index: block.piece.get(), begin: block.begin, len: block.len }.encode();
        gather.push_small(&head[skip.min(PIECE_HEAD_LEN)..]);
        let mut begin = block.begin + skip.saturating_sub(PIECE_HEAD_LEN) as u32;
        // A block as other clients may cut it can lie across two runs.
        while begin < block.end() {
            let end = block.end().min((begin / RUN_LEN + 1) * RUN_LEN);
            let part = Block { begin, len: end - begin, ..block };
            let (key, range) = TorrentShard::home(&part);
            let slab = self.torrent.load(key, range.clone(), self.ahead).await?;
            gather.push_payload(slab, range);
            begin = end;
        }
        Ok(())
    }

    /// `count` bytes of what was laid out have been sent.
    fn count(&mut self, mut count: usize) {
        let payload_before = self.block_sent.saturating_sub(PIECE_HEAD_LEN);
        let mut payload = 0;
        if self.block_sent > 0 {
            payload += self.count_block(&mut count).saturating_sub(payload_before);
        }
        if self.block_sent == 0 {
            let said = count.min(self.messages.len() - self.messages_sent);
            self.messages_sent += said;
            count -= said;
            if self.messages_sent == self.messages.len() {
                self.messages.clear();
                self.messages_sent = 0;
            }
        }
        while count > 0 {
            payload += self.count_block(&mut count);
        }
        self.torrent.swarm.borrow_mut().sent(self.slot, payload as u64);
    }

    /// Counts towards the first block; gives the payload bytes of it that are sent now.
    fn count_block(&mut self, count: &mut usize) -> usize {
        let whole = PIECE_HEAD_LEN + self.blocks[0].len as usize;
        let step = (*count).min(whole - self.block_sent);
        *count -= step;
        self.block_sent += step;
        let payload = self.block_sent.saturating_sub(PIECE_HEAD_LEN);
        if self.block_sent == whole {
            self.blocks.pop_front();
            self.block_sent = 0;
        }
        payload
    }
}
