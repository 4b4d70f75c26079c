//! What a peer's messages change (BEP 3).

use super::bitfield::Bitfield;
use super::{DropReason, PeerSlot, Swarm};
use crate::metainfo::Block;
use crate::wire::Message;
use std::sync::Arc;
use std::time::Duration;

/// Requests that wait for one peer; further ones are not taken.
const MOST_UPLOADS: usize = 2000;
/// Messages out of place that one peer is forgiven: requests while choked or for pieces we lack, blocks unasked.
const MOST_OFFENCES: u32 = 300;
/// Requests that come this long after we choked a peer may have crossed our choke on the way.
const CROSSING: Duration = Duration::from_secs(30);

impl Swarm {
    /// A message has come. A bad one drops the peer.
    pub fn hear(&mut self, now: Duration, slot: PeerSlot, message: Message<'_>) {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| !peer.dropped) else { return };
        peer.last_heard = now;
        let first = !peer.spoke;
        // Messages of extensions are not counted: some clients send them before their bitfield.
        peer.spoke |= !matches!(message, Message::KeepAlive | Message::Port(_) | Message::Unknown { .. });
        let heard = match message {
            Message::KeepAlive | Message::Port(_) | Message::Unknown { .. } => Ok(()),
            Message::Choke => {
                peer.chokes_us = true;
                self.release_all(slot);
                Ok(())
            }
            Message::Unchoke => {
                peer.chokes_us = false;
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
            Message::Cancel { index, begin, len } => {
                if let Some(block) = self.layout.block(index, begin, len) {
                    peer.uploads.cancel(&block);
                }
                Ok(())
            }
        };
        if let Err(reason) = heard {
            self.drop_peer(slot, reason);
        }
    }

    fn hear_have(&mut self, now: Duration, slot: PeerSlot, number: u32) -> Result<(), DropReason> {
        let piece = self.layout.piece(number).ok_or(DropReason::NoSuchPiece(number))?;
        let wanted = self.wants(piece);
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        if !peer.has.insert(piece) {
            return Ok(());
        }
        if peer.has.is_full() {
            // From now on it counts as a seed: see `Picker`.
            self.layout.pieces().filter(|other| *other != piece).for_each(|piece| self.picker.lose(piece));
        } else {
            self.picker.gain(piece, &mut peer.hint);
        }
        peer.wanted += u32::from(wanted);
        if wanted {
            self.wake(slot);
        }
        self.see_spread(now, slot, piece);
        self.check_seed(slot)
    }

    fn hear_bitfield(&mut self, now: Duration, slot: PeerSlot, bytes: &[u8]) -> Result<(), DropReason> {
        let has = Bitfield::from_wire(bytes, self.layout.piece_count()).ok_or(DropReason::BadBitfield)?;
        let held = || self.layout.pieces().filter(|piece| has.has(*piece));
        let wanted = held().filter(|piece| self.wants(*piece)).count() as u32;
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        peer.wanted = wanted;
        if !has.is_full() {
            held().for_each(|piece| self.picker.gain(piece, &mut peer.hint));
        }
        if self.settings.super_seed {
            let layout = Arc::clone(&self.layout);
            layout
                .pieces()
                .filter(|piece| has.has(*piece))
                .for_each(|piece| self.see_spread(now, slot, piece));
        }
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        peer.has = has;
        self.wake(slot);
        self.check_seed(slot)
    }

    /// A bitfield should be the first message, but some clients send one later in the place of many HAVEs. It costs
    /// more than they do, so not too many are taken.
    fn hear_late_bitfield(&mut self, now: Duration, slot: PeerSlot, bytes: &[u8]) -> Result<(), DropReason> {
        let has = Bitfield::from_wire(bytes, self.layout.piece_count()).ok_or(DropReason::BadBitfield)?;
        let layout = Arc::clone(&self.layout);
        let mut held = layout.pieces().filter(|piece| has.has(*piece));
        held.try_for_each(|piece| self.hear_have(now, slot, piece.get()))?;
        self.offend(slot)
    }

    /// Two seeds have nothing to say to each other.
    pub(super) fn check_seed(&mut self, slot: PeerSlot) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get(slot).filter(|peer| peer.has.is_full()) else { return Ok(()) };
        self.candidates.is_seed(peer.who.addr);
        if self.is_seeding() { Err(DropReason::BothSeeds) } else { Ok(()) }
    }

    fn hear_request(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        [index, begin, len]: [u32; 3],
    ) -> Result<(), DropReason> {
        let bad = DropReason::BadRequest { index, begin, len };
        let block: Block = self.layout.block(index, begin, len).ok_or(bad)?;
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let shown = peer.shown.as_ref().is_none_or(|shown| shown.has(block.piece));
        let has = self.have.has(block.piece) && shown;
        if has && !peer.unchoked && now < peer.unchoked_since + CROSSING {
            return Ok(());
        }
        if !has || !peer.unchoked {
            return self.offend(slot);
        }
        if peer.uploads.len() < MOST_UPLOADS {
            peer.uploads.push(block);
            self.wake(slot);
        } else {
            self.totals.limits.requests += 1;
        }
        Ok(())
    }

    /// Counts a message that should not have come.
    pub(super) fn offend(&mut self, slot: PeerSlot) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        peer.offences += 1;
        self.totals.limits.offences += 1;
        if peer.offences > MOST_OFFENCES { Err(DropReason::Offences) } else { Ok(()) }
    }
}
