//! What a peer's messages change (BEP 3; those of extensions: `fast`, `extended`).

use super::bitfield::Bitfield;
use super::fast::is_merely_long;
use super::lag::Lag;
use super::peer::Peer;
use super::{DropReason, PeerSlot, Swarm};
use crate::metainfo::Block;
use crate::wire::{self, Message, bitfield_len};
use std::sync::Arc;
use std::time::Duration;

/// Requests that wait for one peer; further ones are not taken.
const MOST_UPLOADS: usize = super::extended::REQQ as usize;
/// Bytes of a HAVE, and of a bitfield before its bits.
const HAVE_LEN: usize = 9;
const BITFIELD_HEAD_LEN: usize = 5;
/// Requests that come this long after we choked a peer, or told it that a piece is lost, may have crossed that on the way.
pub(super) const CROSSING: Duration = Duration::from_secs(30);

impl Swarm {
    /// A message has come. A bad one drops the peer.
    pub fn hear(&mut self, now: Duration, slot: PeerSlot, message: Message<'_>) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.dropped) else { return };
        peer.last_heard = now;
        let first = !peer.spoke;
        // Messages of extensions are not counted, nor what says nothing of pieces: some clients send them before their bitfield.
        peer.spoke |= !is_aside(&message);
        let heard = match message {
            Message::KeepAlive => Ok(()),
            Message::Unknown { id, .. } => self.hear_unknown(slot, id),
            Message::Port(port) => {
                self.hear_port(slot, port);
                Ok(())
            }
            Message::Suggest(_)
            | Message::HaveAll
            | Message::HaveNone
            | Message::Reject { .. }
            | Message::AllowedFast(_) => self.hear_fast(now, slot, first, message),
            Message::Extended { id, payload } => self.hear_extended(now, slot, id, payload),
            Message::Choke => self.hear_choke(now, slot),
            Message::Unchoke => {
                if std::mem::take(&mut peer.chokes_us) {
                    peer.requests.restart();
                    peer.lag = Lag::default();
                    peer.conduct.turn_begins(now);
                }
                self.wake(slot);
                Ok(())
            }
            Message::Interested => {
                self.hear_interest(now, slot, true);
                Ok(())
            }
            Message::NotInterested => {
                self.hear_interest(now, slot, false);
                Ok(())
            }
            Message::Have(number) => self.hear_have(now, slot, number),
            Message::Bitfield(bytes) if first => self.hear_bitfield(now, slot, bytes),
            Message::Bitfield(bytes) => self.hear_late_bitfield(now, slot, bytes),
            Message::Request { index, begin, len } => self.hear_request(now, slot, [index, begin, len]),
            Message::Cancel { index, begin, len } => self.hear_cancel(slot, [index, begin, len]),
        };
        if let Err(reason) = heard {
            self.drop_peer(slot, reason);
        }
    }

    /// A message that is not known may come, but one of an extension that is too long to be read should not.
    fn hear_unknown(&mut self, slot: PeerSlot, id: u8) -> Result<(), DropReason> {
        if id == wire::EXTENDED_ID { self.offend(slot) } else { Ok(()) }
    }

    fn hear_have(&mut self, now: Duration, slot: PeerSlot, number: u32) -> Result<(), DropReason> {
        let piece = self.layout.piece(number).ok_or(DropReason::NoSuchPiece(number))?;
        let wanted = self.wants(piece);
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        if !peer.has.insert(piece) {
            return Ok(());
        }
        if peer.is_counted() {
            self.picker.gain(piece, &mut peer.hint);
        } else {
            // From now on it counts as a seed: see `Picker`.
            self.layout.pieces().filter(|other| *other != piece).for_each(|piece| self.picker.lose(piece));
        }
        peer.fast.learn(&peer.has, self.layout.piece_count());
        peer.wanted += u32::from(wanted);
        if wanted {
            self.wake(slot);
        }
        self.note_got(now, slot);
        self.see_spread(now, slot, piece);
        self.note_spread(slot, piece);
        self.check_seed(slot)
    }

    fn hear_bitfield(&mut self, now: Duration, slot: PeerSlot, bytes: &[u8]) -> Result<(), DropReason> {
        let has = Bitfield::from_wire(bytes, self.layout.piece_count()).ok_or(DropReason::BadBitfield)?;
        self.take_bitfield(now, slot, has)
    }

    /// The peer's first word on what it has.
    pub(super) fn take_bitfield(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        has: Bitfield,
    ) -> Result<(), DropReason> {
        let held = || has.numbers().filter_map(|number| self.layout.piece(number));
        let wanted = match self.is_seeding() {
            true => 0,
            false if has.is_full() => self.left,
            false => held().filter(|piece| self.wants(*piece)).count() as u32,
        };
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        peer.wanted = wanted;
        if !has.is_full() {
            held().for_each(|piece| self.picker.gain(piece, &mut peer.hint));
        }
        if self.settings.super_seed {
            let layout = Arc::clone(&self.layout);
            let held = has.numbers().filter_map(|number| layout.piece(number));
            held.for_each(|piece| self.see_spread(now, slot, piece));
        }
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        peer.has = has;
        peer.fast.learn(&peer.has, self.layout.piece_count());
        self.wake(slot);
        self.recheck_seed(slot)
    }

    /// A bitfield should be the first message, but some clients (aria2) send one later where it is shorter than so many HAVEs. Of others
    /// not too many are taken: each costs more than it says.
    fn hear_late_bitfield(&mut self, now: Duration, slot: PeerSlot, bytes: &[u8]) -> Result<(), DropReason> {
        let has = Bitfield::from_wire(bytes, self.layout.piece_count()).ok_or(DropReason::BadBitfield)?;
        self.hear_late(now, slot, &has)
    }

    /// The same, in whatever words.
    pub(super) fn hear_late(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        has: &Bitfield,
    ) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get(slot) else { return Ok(()) };
        let new = has.count() - has.count_common(&peer.has);
        let saves = HAVE_LEN * new as usize >= BITFIELD_HEAD_LEN + bitfield_len(self.layout.piece_count());
        let layout = Arc::clone(&self.layout);
        let mut held = layout.pieces().filter(|piece| has.has(*piece));
        held.try_for_each(|piece| self.hear_have(now, slot, piece.get()))?;
        if saves { Ok(()) } else { self.offend(slot) }
    }

    /// Two seeds have nothing to say to each other.
    pub(super) fn check_seed(&mut self, slot: PeerSlot) -> Result<(), DropReason> {
        if !self.peers.get(slot).is_some_and(Peer::gives_only) {
            return Ok(());
        }
        self.note_seed(slot, true);
        if self.is_seeding() { Err(DropReason::BothSeeds) } else { Ok(()) }
    }

    /// The same where the peer may be no seed any more: then nobody shall pass it over, or be told so, for what it was.
    pub(super) fn recheck_seed(&mut self, slot: PeerSlot) -> Result<(), DropReason> {
        if self.peers.get(slot).is_some_and(|peer| !peer.gives_only()) {
            self.note_seed(slot, false);
        }
        self.check_seed(slot)
    }

    fn note_seed(&mut self, slot: PeerSlot, seed: bool) {
        let Some(peer) = self.peers.get(slot) else { return };
        self.candidates.is_seed(peer.who.addr, seed);
        self.make_known(slot);
    }

    fn hear_request(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        [index, begin, len]: [u32; 3],
    ) -> Result<(), DropReason> {
        let request = [index, begin, len];
        let Some(block): Option<Block> = self.layout.block(index, begin, len) else {
            let fast = self.peers.get(slot).is_some_and(|peer| peer.fast.on);
            if !fast || !is_merely_long(&self.layout, request) {
                return Err(DropReason::BadRequest { index, begin, len });
            }
            self.totals.requests.refused += 1;
            self.reject(slot, request)?;
            return self.offend(slot);
        };
        let Some(peer) = self.peers.get(slot) else { return Ok(()) };
        let (lost, just_lost) = (self.is_lost(block.piece), self.has_just_lost(now, peer, block.piece));
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let shown = peer.shown.as_ref().is_none_or(|shown| shown.has(block.piece));
        let has = self.have.has(block.piece) && shown && !lost;
        let crossing = has && !peer.unchoked && peer.choked_at.is_some_and(|at| now < at + CROSSING);
        let granted = has && peer.fast.grants(&block);
        let crowded = self.commons.slots.is_crowded();
        // What finds no room is not had.
        let full = peer.uploads.len() >= MOST_UPLOADS;
        if !has || !(peer.unchoked || (!crowded && if full { granted } else { peer.fast.spend(&block) })) {
            self.totals.requests.refused += 1;
            self.reject(slot, request)?;
            return if crossing || just_lost || (granted && crowded) { Ok(()) } else { self.offend(slot) };
        }
        if !full {
            peer.uploads.push(block);
            peer.last_asked = now;
            if peer.idles {
                self.alter(slot, |peer| peer.idles = false);
            }
            self.note_shown_asked(now, slot, block.piece);
            self.note_wanted(slot, block.piece);
            self.wake(slot);
            return Ok(());
        }
        self.totals.limits.requests += 1;
        self.totals.requests.refused += 1;
        self.reject(slot, request)
    }

    /// Counts a message that should not have come.
    pub(super) fn offend(&mut self, slot: PeerSlot) -> Result<(), DropReason> {
        self.offend_by(slot, 0)
    }

    /// The same, by that many bytes of payload.
    pub(super) fn offend_by(&mut self, slot: PeerSlot, len: u32) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        self.totals.limits.offences += 1;
        if peer.conduct.offend(len) { Err(DropReason::Offences) } else { Ok(()) }
    }
}

/// Whether the message says nothing of what the peer has, so that it may come before the one that does.
fn is_aside(message: &Message<'_>) -> bool {
    use Message::*;
    !matches!(
        message,
        Have(_) | Bitfield(_) | HaveAll | HaveNone | Request { .. } | Reject { .. } | Cancel { .. }
    )
}
