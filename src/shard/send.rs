//! Sending to one peer: messages first, then blocks, many in one send.

use super::allowance::Allowance;
use super::load::{self, Asker, FEW_TAKERS, Loaded, Payload, ReadFailed, Stretch};
use super::torrent::TorrentShard;
use crate::metainfo::{BLOCK_LEN, Block};
use crate::ring::{Gather, Socket};
use crate::swarm::{PeerSlot, RUN_LEN};
use crate::wire::mse::Cipher;
use crate::wire::{PIECE_HEAD_LEN, PieceHead};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Payload that goes into one send.
const SEND_LEN: u32 = 2 * RUN_LEN;
/// The same where the page cache holds it, for that takes no memory of ours meanwhile, or where few peers are served. (A byte costs
/// the less the longer sends are, unless what was read for them has left the processor's cache before it is sent:
/// docs/measurements.md.)
const LONG_SEND_LEN: u32 = 4 * RUN_LEN;
/// Payload that goes into one encrypted send: what the send buffer does not take of it has been encrypted in vain.
const ENCRYPTED_SEND_LEN: u32 = 4 * BLOCK_LEN;

/// Payload that is taken to be sent to a peer whose speed is not known yet.
const FIRST_SEND_LEN: u64 = 4 * BLOCK_LEN as u64;
/// And to one that is slow.
const LEAST_SEND_LEN: u64 = BLOCK_LEN as u64;

/// How often a peer that waits for others looks whether they leave it something.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

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
    /// The block that was sent last.
    last: Option<Block>,
    /// What the blocks need, and where the bytes of the first of these stretches are.
    stretches: Vec<Stretch>,
    payloads: Vec<Payload>,
    /// Whether all that was laid out last is in the page cache.
    cached: bool,
    asker: Asker,
    /// For a peer that insists on encryption: it stands where the next byte goes out.
    cipher: Option<Cipher>,
    /// Bytes that may go out of blocks and metadata.
    allowance: Allowance,
    /// Bytes of metadata among the messages: upload, too.
    metadata: usize,
    /// Bytes that the kernel may hold of what it has not transmitted.
    unsent: u64,
}

impl Sender {
    pub(super) fn new(
        torrent: Rc<TorrentShard>,
        slot: PeerSlot,
        bell: Rc<Notify>,
        cipher: Option<Cipher>,
    ) -> Self {
        let allowance = Allowance::new(torrent.crew.choices.upload.clone());
        Self {
            allowance,
            torrent,
            slot,
            bell,
            messages: Vec::new(),
            messages_sent: 0,
            blocks: VecDeque::new(),
            block_sent: 0,
            last: None,
            stretches: Vec::new(),
            payloads: Vec::new(),
            cached: false,
            asker: Asker::new(slot, cipher.is_none()),
            cipher,
            metadata: 0,
            unsent: u64::MAX,
        }
    }

    /// Sends until the connection ends. Whoever ends it before holds `sends`: then no send is under way that would not be counted.
    ///
    /// # Errors
    /// Why it ended.
    pub(super) async fn run(mut self, socket: &Socket, sends: &Mutex<()>) -> io::Result<()> {
        let mut gather = Gather::default();
        loop {
            let now = self.torrent.now();
            self.gather_work(now);
            if self.torrent.swarm.borrow().has_losses() {
                self.drop_lost();
            }
            self.bound_unsent(socket);
            if self.messages.is_empty() && self.blocks.is_empty() {
                self.wait(now).await;
                continue;
            }
            let allowed = self.allowed(now);
            // In the middle of a block nothing else can be said.
            if allowed == 0 && (self.messages.is_empty() || self.block_sent > 0) {
                self.wait(now).await;
                continue;
            }
            if let Err(failed) = self.lay_out(&mut gather, allowed).await
                && !self.drop_lost()
            {
                return Err(io::Error::other(failed));
            }
            if gather.is_empty() {
                continue;
            }
            // From here on the gather holds them.
            let with_payload = !self.payloads.is_empty();
            if with_payload {
                self.cached = self.payloads.drain(..).all(|payload| matches!(payload, Payload::Cached(..)));
            }
            let len = gather.len();
            let result;
            (result, gather) = self.send(socket, gather, sends).await;
            // What one has held is enough for one other, as a rule; and each of them looks again by itself.
            if with_payload {
                self.torrent.sent.notify_one();
            }
            match result {
                // What is laid out, or encrypted, before there is room is so in vain.
                Ok(count) if count < len => {
                    self.rest();
                    socket.writable().await?;
                }
                Ok(_) => {}
                // The slabs stay in the cache; nothing is pinned while the peer takes its time.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.rest();
                    socket.writable().await?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EFAULT) && self.asker.stop_mapping() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what is laid out, and counts what the kernel takes of it; the gather is empty then.
    async fn send(
        &mut self,
        socket: &Socket,
        mut gather: Gather,
        sends: &Mutex<()>,
    ) -> (io::Result<usize>, Gather) {
        let _under_way = sends.lock().await;
        let result = match &mut self.cipher {
            Some(cipher) => send_encrypted(&self.torrent, socket, cipher, &mut gather).await,
            None => {
                let (result, back) = socket.send(gather).await;
                gather = back;
                result
            }
        };
        gather.clear();
        if let Ok(count) = result {
            self.count(count);
        }
        (result, gather)
    }

    /// The peer takes no more for the time being.
    fn rest(&mut self) {
        self.asker.rest();
        self.allowance.rest(self.torrent.now());
    }

    /// Waits until there is something to do, or more may be sent.
    async fn wait(&mut self, now: Duration) {
        self.asker.rest();
        self.allowance.rest(now);
        let wait = self.allowance.wait(now);
        if wait.is_zero() && self.hopes_for_left_overs() {
            return self.wait_for_left_overs().await;
        }
        if wait.is_zero() {
            return self.bell.notified().await;
        }
        tokio::select! {
            () = self.bell.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    /// Whether the peer waits for others, who may leave it some of what a limit lets out.
    fn hopes_for_left_overs(&self) -> bool {
        let is_limited = self.allowance.quantum().is_some();
        is_limited && self.blocks.is_empty() && self.torrent.swarm.borrow().waits_for_others(self.slot)
    }

    /// Waits until they do, or something else has happened.
    async fn wait_for_left_overs(&self) {
        while !self.allowance.is_idle(self.torrent.now()) {
            tokio::select! {
                () = self.bell.notified() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Takes what there is to say and to serve: no more than goes out soon. What is left in the queue can be cancelled, and
    /// refused when the peer loses its slot.
    fn gather_work(&mut self, now: Duration) {
        if self.messages.is_empty() {
            let metadata = if self.allowance.wait(now).is_zero() { usize::MAX } else { 0 };
            self.metadata += self.torrent.speak(self.slot, &mut self.messages, metadata);
            // What was asked for may have wishes of its own: for memory, or for the help of other cores.
            self.torrent.pump();
        }
        let mut swarm = self.torrent.swarm.borrow_mut();
        if !self.blocks.is_empty() {
            return;
        }
        let left_over = self.allowance.is_idle(now) && swarm.waits_for_others(self.slot);
        if left_over || swarm.has_uploads(self.slot) {
            let most = match self.cipher {
                Some(_) => ENCRYPTED_SEND_LEN,
                None if self.cached || swarm.takers() <= FEW_TAKERS => LONG_SEND_LEN,
                None => SEND_LEN,
            };
            let soon = soon(swarm.upload_rate(self.slot)).min(most.into());
            let soon = soon.min(self.allowance.get(now, soon)) as u32;
            self.asker.begin();
            match soon {
                0 => {}
                _ if left_over => swarm.take_left_over(self.slot, soon, &mut self.blocks),
                _ => swarm.take_upload(self.slot, soon, &mut self.blocks),
            }
        }
    }

    /// What the kernel takes of a slow peer's payload is decided: it cannot be cancelled any more, nor can what somebody else
    /// wants more go first. So it takes no more than goes out soon.
    fn bound_unsent(&mut self, socket: &Socket) {
        let wanted = soon(self.torrent.swarm.borrow().upload_rate(self.slot));
        let wanted = if wanted < SEND_LEN.into() { wanted } else { u32::MAX.into() };
        if wanted > self.unsent.saturating_mul(2) || wanted < self.unsent / 2 {
            self.unsent = wanted;
            socket.keep_unsent_below(wanted as u32);
        }
    }

    /// Payload bytes that may be sent of the blocks that were taken.
    fn allowed(&mut self, now: Duration) -> u64 {
        let (_, rest) = self.cut();
        let rest = rest.map_or(0, |rest| u64::from(rest.len));
        let whole = self.blocks.iter().skip(usize::from(self.block_sent > 0));
        let left = rest + whole.map(|block| u64::from(block.len)).sum::<u64>();
        if left == 0 { 0 } else { self.allowance.get(now, left) }
    }

    /// Puts what is to be sent next in order: the rest of a block that was cut, messages, blocks.
    /// Payload for as many bytes as are `allowed`, and when there is something to say only if it is there at once.
    async fn lay_out(&mut self, gather: &mut Gather, allowed: u64) -> Result<(), ReadFailed> {
        let mut left = usize::try_from(allowed).unwrap_or(usize::MAX);
        let (sent, rest) = self.cut();
        let layout = self.torrent.crew.store.layout();
        // The block that was cut is the first one.
        let blocks = self.blocks.iter().enumerate();
        let blocks = blocks.map(|(at, block)| rest.filter(|_| at == 0).unwrap_or(*block));
        let behind = load::stretches(layout, blocks, self.last, &mut self.stretches);
        let load = load::load(&self.torrent, (&self.stretches, behind), &mut self.asker, &mut self.payloads);
        let can_speak = self.block_sent == 0 && !self.messages.is_empty();
        // What is to be said, or comes to be, does not wait for the disk, nor for memory.
        let bell = (self.block_sent == 0).then_some(&*self.bell);
        let is_here = loaded_before_speech(load, can_speak, bell).await?;
        if !is_here {
            self.payloads.clear();
            left = 0;
        }
        let mut loaded = Loaded::new(&self.stretches, &self.payloads);
        if let Some(rest) = rest {
            gather.push_small(&head(&self.blocks[0])[self.block_sent.min(PIECE_HEAD_LEN)..]);
            if !lay_payload(gather, rest, &mut loaded, &mut left) {
                return Ok(());
            }
        }
        gather.push_small(&self.messages[self.messages_sent..]);
        for block in self.blocks.iter().skip(sent) {
            if !gather.has_room() || !begins_in(&mut loaded, *block) || left == 0 {
                break;
            }
            gather.push_small(&head(block));
            if !lay_payload(gather, *block, &mut loaded, &mut left) {
                break;
            }
        }
        Ok(())
    }

    /// Blocks of pieces that the disk has lost do not go out. Says whether there were some; but in the middle of one there is
    /// no way out.
    fn drop_lost(&mut self) -> bool {
        self.payloads.clear();
        let mut swarm = self.torrent.swarm.borrow_mut();
        let is_lost = |block: &Block| swarm.is_lost(block.piece);
        if self.block_sent > 0 && self.blocks.front().is_some_and(is_lost) {
            return false;
        }
        let blocks = std::mem::take(&mut self.blocks).into_iter();
        let (lost, kept): (VecDeque<Block>, VecDeque<Block>) = blocks.partition(is_lost);
        self.blocks = kept;
        let any = !lost.is_empty();
        swarm.cannot_send(self.slot, lost);
        any
    }

    /// How many blocks have been begun, at most one, and what of its payload is left.
    fn cut(&self) -> (usize, Option<Block>) {
        let begun = self.blocks.front().filter(|_| self.block_sent > 0);
        let rest = begun.map(|block| {
            let sent = self.block_sent.saturating_sub(PIECE_HEAD_LEN) as u32;
            Block { begin: block.begin + sent, len: block.len - sent, ..*block }
        });
        (usize::from(begun.is_some()), rest)
    }

    /// `count` bytes of what was laid out have been sent.
    fn count(&mut self, mut count: usize) {
        let (all, mut said) = (count, 0);
        let payload_before = self.block_sent.saturating_sub(PIECE_HEAD_LEN);
        let mut payload = 0;
        if self.block_sent > 0 {
            payload += self.count_block(&mut count).saturating_sub(payload_before);
        }
        if self.block_sent == 0 {
            said = count.min(self.messages.len() - self.messages_sent);
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
        self.torrent.gauges.count_overhead((all - payload) as u64, 0);
        let now = self.torrent.now();
        // Blocks with their heads, of short ones these are the most, and metadata.
        self.allowance.spend(now, (all - said + std::mem::take(&mut self.metadata)) as u64);
        self.torrent.swarm.borrow_mut().sent(now, self.slot, payload as u64);
    }

    /// Counts towards the first block; gives the payload bytes of it that are sent now.
    fn count_block(&mut self, count: &mut usize) -> usize {
        let whole = PIECE_HEAD_LEN + self.blocks[0].len as usize;
        let step = (*count).min(whole - self.block_sent);
        *count -= step;
        self.block_sent += step;
        let payload = self.block_sent.saturating_sub(PIECE_HEAD_LEN);
        if self.block_sent == whole {
            self.last = self.blocks.pop_front();
            self.block_sent = 0;
        }
        payload
    }
}

/// Waits for what is loaded, unless there is something to say, or the `bell` rings, first. Says whether it has come.
async fn loaded_before_speech<E>(
    load: impl Future<Output = Result<(), E>>,
    can_speak: bool,
    bell: Option<&Notify>,
) -> Result<bool, E> {
    let rings = async {
        match bell {
            Some(bell) => bell.notified().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        loaded = load => loaded.map(|()| true),
        () = std::future::ready(()), if can_speak => Ok(false),
        () = rings => Ok(false),
    }
}

/// Sends an encrypted copy of `gather`, for its slabs are shared with others. What the send buffer does not take is
/// forgotten, and encrypted anew when there is room: so no memory waits for a slow peer.
async fn send_encrypted(
    torrent: &TorrentShard,
    socket: &Socket,
    cipher: &mut Cipher,
    gather: &mut Gather,
) -> io::Result<usize> {
    let mut behind = cipher.clone();
    let mut copy = torrent.take_copy();
    copy.push_changed(gather, |bytes| behind.apply(bytes));
    gather.clear();
    let len = copy.len();
    let (result, mut copy) = socket.send(copy).await;
    copy.clear();
    torrent.give_copy(copy);
    let sent = result?;
    if sent == len {
        *cipher = behind
    } else {
        cipher.skip(sent)
    }
    Ok(sent)
}

/// Payload that goes out soon at so many bytes a second: in half a second.
fn soon(rate: u64) -> u64 {
    if rate == 0 { FIRST_SEND_LEN } else { (rate / 2).max(LEAST_SEND_LEN) }
}

fn head(block: &Block) -> [u8; PIECE_HEAD_LEN] {
    PieceHead { index: block.piece.get(), begin: block.begin, len: block.len }.encode()
}

/// Whether the first bytes of the block were loaded.
fn begins_in(loaded: &mut Loaded<'_, Payload>, block: Block) -> bool {
    load::parts(block).next().is_some_and(|(key, range)| loaded.find(key, &range).is_some())
}

/// Adds the payload of a block, of which so much is `left` to be sent. `false` when that, or what is loaded of it, is not
/// all: then nothing can follow.
fn lay_payload(
    gather: &mut Gather,
    block: Block,
    loaded: &mut Loaded<'_, Payload>,
    left: &mut usize,
) -> bool {
    for (key, range) in load::parts(block) {
        let Some(payload) = loaded.find(key, &range) else { return false };
        let part = range.start..range.end.min(range.start.saturating_add(*left));
        *left -= part.len();
        if !part.is_empty() {
            payload.push_to(gather, part.clone());
        }
        if part.end < range.end {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use tokio::time::timeout;

    /// What is loaded comes at once, or never.
    #[tokio::test]
    async fn what_is_to_be_said_does_not_wait_for_a_read_and_a_block_is_not_broken_into() {
        const LONG: Duration = Duration::from_millis(50);
        let bell = Notify::new();
        let here = |can_speak, bell| loaded_before_speech::<()>(ready(Ok(())), can_speak, bell);
        let read = |can_speak, bell| timeout(LONG, loaded_before_speech::<()>(pending(), can_speak, bell));
        assert_eq!(here(true, Some(&bell)).await, Ok(true), "it goes with the message");
        assert_eq!(read(true, Some(&bell)).await, Ok(Ok(false)), "the message goes alone");
        assert!(read(false, Some(&bell)).await.is_err(), "there is nothing to do but wait");
        bell.notify_one();
        assert_eq!(here(false, Some(&bell)).await, Ok(true));
        assert_eq!(read(false, Some(&bell)).await, Ok(Ok(false)), "somebody has rung meanwhile");
        bell.notify_one();
        assert!(read(false, None).await.is_err(), "nothing can be said amid a block");
        assert_eq!(read(false, Some(&bell)).await, Ok(Ok(false)), "and it is not forgotten then");
    }
}
