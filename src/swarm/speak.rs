//! What to say and to send on a connection that has room: decided at the last moment, from standing state.

use super::{PeerSlot, Swarm};
use crate::metainfo::{Block, PieceIndex};
use crate::wire::Message;
use std::time::Duration;

/// Small bytes put into one speech before the rest waits for the next (a bitfield may make it longer).
const SPEECH_LEN: usize = 16 * 1024;

/// What goes out to one peer, and what it takes.
#[derive(Debug)]
pub struct Speech<'a> {
    /// Where messages are appended, encoded.
    pub bytes: &'a mut Vec<u8>,
    /// Slabs that are free for runs to be asked for; counted down.
    pub slabs: usize,
    /// Runs that were opened: each needs a slab before its blocks come.
    pub opened: Vec<(PieceIndex, usize)>,
    /// Bytes of metadata that a limit on what is uploaded lets out; counted down.
    pub metadata: usize,
}

impl Speech<'_> {
    pub(super) fn say(&mut self, message: Message<'_>) {
        message.encode(self.bytes);
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= SPEECH_LEN
    }
}

/// The three numbers of a block, as messages name it.
fn numbers(block: Block) -> (u32, u32, u32) {
    (block.piece.get(), block.begin, block.len)
}

impl Swarm {
    /// Puts all that the peer should hear now into `speech`. Call it when nothing said before is still unsent.
    pub fn speak(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.woken = false;
        if peer.dropped {
            return;
        }
        let before = speech.bytes.len();
        if !peer.said_bitfield {
            peer.said_bitfield = true;
            self.say_pieces(slot, speech);
        }
        self.say_state(slot, speech);
        self.say_fast(slot, speech);
        self.say_extensions(now, slot, speech);
        self.say_losses(now, slot, speech);
        if self.peers.get(slot).is_none_or(|peer| peer.dropped) {
            return;
        }
        self.say_haves(now, slot, speech);
        self.say_requests(now, slot, speech);
        self.note_free(speech.slabs);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if speech.bytes.len() == before && now >= peer.last_said + super::KEEP_ALIVE {
            speech.say(Message::KeepAlive);
        }
        if speech.bytes.len() > before {
            peer.last_said = now;
        }
        if speech.is_full() {
            self.wake(slot);
        }
    }

    fn say_state(&mut self, slot: PeerSlot, speech: &mut Speech<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if std::mem::take(&mut peer.unsaid_choke) && peer.said_unchoked {
            peer.said_unchoked = false;
            speech.say(Message::Choke);
        }
        if peer.said_unchoked != peer.unchoked {
            peer.said_unchoked = peer.unchoked;
            speech.say(if peer.unchoked { Message::Unchoke } else { Message::Choke });
        }
        let interested = peer.wanted > 0;
        if peer.said_interested != interested {
            peer.said_interested = interested;
            speech.say(if interested { Message::Interested } else { Message::NotInterested });
        }
    }

    fn say_requests(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        for block in std::mem::take(&mut peer.cancels) {
            let (index, begin, len) = numbers(block);
            speech.say(Message::Cancel { index, begin, len });
        }
        while !speech.is_full() {
            let Some(block) = self.next_request(now, slot, speech) else { return };
            let (index, begin, len) = numbers(block);
            speech.say(Message::Request { index, begin, len });
        }
    }

    /// Takes the next requests of the peer to be served, up to `most` bytes (but at least one block).
    pub fn take_upload(&mut self, slot: PeerSlot, most: u32, out: &mut impl Extend<Block>) {
        if !self.is_put_off(slot) {
            self.prefer_new(slot);
            self.take_in_order(slot, most, out);
        }
    }

    /// As [`Self::take_upload`], of a peer that [has to wait for others](Self::waits_for_others): when these leave some of what
    /// a limit lets out.
    pub fn take_left_over(&mut self, slot: PeerSlot, most: u32, out: &mut impl Extend<Block>) {
        if self.waits_for_others(slot) {
            self.take_in_order(slot, most, out);
        }
    }

    fn take_in_order(&mut self, slot: PeerSlot, most: u32, out: &mut impl Extend<Block>) {
        let seeding = self.is_seeding();
        let is_new = self.is_next_new(slot);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let (mut len, mut done, mut shown) = (0, Vec::new(), false);
        while let Some(block) = peer.uploads.front() {
            let other = peer.serving.is_none_or(|(piece, _)| piece != block.piece);
            if other && peer.leaves.is_some() {
                // Whoever gets the rest of its piece elsewhere, or spreads its requests over pieces, has had its turn; but one who
                // gives us something may come back to its piece.
                peer.serving = peer.serving.filter(|_| !seeding && peer.trade > 0);
                break;
            }
            if len > 0 && len + block.len > most {
                break;
            }
            let before = peer.serving.filter(|_| !other).map_or(0, |(_, sent)| sent);
            let sent = before + u64::from(block.len);
            let whole = sent >= u64::from(self.layout.piece_len(block.piece));
            peer.serving = Some((block.piece, sent)).filter(|_| !whole);
            done.extend(whole.then_some(block.piece));
            shown |= peer.shown.as_mut().is_some_and(|shown| {
                shown.note_sent(block.piece, block.len, self.layout.piece_len(block.piece))
            });
            len += block.len;
            peer.leaving += u64::from(block.len);
            out.extend([block]);
            peer.uploads.pop();
            peer.put_off = if is_new || whole { 0 } else { peer.put_off };
            self.totals.requests.served += 1;
        }
        for piece in done {
            self.note_served(slot, piece);
        }
        if shown {
            self.note_shown_sent(slot);
        }
    }

    /// Whether requests of the peer are to be served now.
    pub fn has_uploads(&self, slot: PeerSlot) -> bool {
        self.peers.get(slot).is_some_and(|peer| !peer.uploads.is_empty()) && !self.is_put_off(slot)
    }

    /// Payload bytes a second that go to the peer of late.
    pub fn upload_rate(&self, slot: PeerSlot) -> u64 {
        self.peers.get(slot).map_or(0, |peer| peer.up.get())
    }

    /// Payload bytes have been sent to the peer.
    pub fn sent(&mut self, now: Duration, slot: PeerSlot, bytes: u64) {
        self.totals.uploaded += bytes;
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.count_sent(now, bytes);
        }
        if bytes > 0 {
            self.note_shown_left(slot);
        }
    }
}
