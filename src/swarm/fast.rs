//! The fast extension (BEP 6): every request is answered, by a block or by a reject; and a peer that has nothing yet may
//! have some pieces although it is choked.

use super::bitfield::Bitfield;
use super::conduct::VainTurn;
use super::speak::Speech;
use super::{DropReason, PeerSlot, Swarm};
use crate::metainfo::{Block, InfoHash, Layout, PieceIndex};
use crate::wire::{Message, Reserved};
use sha1::{Digest, Sha1};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Pieces that a peer may have while choked.
const GRANTS: usize = 10;
/// How often it may have each of them that way.
const GRANT_TIMES: u64 = 3;
/// Rejects that wait to be told: a peer to which more are owed asks and does not read.
const MOST_REJECTS: usize = 4000;
/// Pieces that a peer may promise us while it chokes us, and suggestions that are remembered.
const MOST_PROMISED: usize = 64;
const MOST_SUGGESTED: usize = 16;
/// Requests of ours that a peer may reject between two looks at it, and without a block in between until it counts as one
/// that does not send.
const PATIENCE: u32 = 64;
const MOST_REJECTIONS: u32 = 256;

/// What stands between us and one peer by the fast extension.
#[derive(Debug)]
pub(super) struct Fast {
    /// Both sides speak it.
    pub(super) on: bool,
    /// Requests of the peer's that will not be served: to be told.
    rejects: VecDeque<[u32; 3]>,
    /// Pieces that it may have while choked, and bytes of each that it still may.
    granted: BTreeMap<PieceIndex, u64>,
    chose_grants: bool,
    /// Pieces that it has and sends while it chokes us.
    open: Option<Box<Bitfield>>,
    /// Pieces that it would send, had it them.
    promised: Vec<PieceIndex>,
    /// Pieces that it thinks good to ask for.
    suggested: VecDeque<PieceIndex>,
    /// Pieces to suggest to it.
    hints: VecDeque<PieceIndex>,
    /// Requests of ours that it has rejected since its last block; and that it may until we look again.
    rejections: u32,
    patience: u32,
}

impl Fast {
    pub(super) fn new(theirs: Reserved) -> Self {
        Self {
            on: theirs.fast(),
            rejects: VecDeque::new(),
            granted: BTreeMap::new(),
            chose_grants: false,
            open: None,
            promised: Vec::new(),
            suggested: VecDeque::new(),
            hints: VecDeque::new(),
            rejections: 0,
            patience: PATIENCE,
        }
    }

    /// The pieces that the peer sends while it chokes us.
    pub(super) fn open(&self) -> Option<&Bitfield> {
        self.open.as_deref().filter(|open| open.count() > 0)
    }

    /// Rejects that wait to be told.
    #[cfg(test)]
    pub(super) fn owed(&self) -> impl Iterator<Item = [u32; 3]> {
        self.rejects.iter().copied()
    }

    /// Suggests a piece to the peer.
    pub(super) fn suggest(&mut self, piece: PieceIndex) -> bool {
        self.hints.push_back(piece);
        true
    }

    /// Whether it makes sense to ask it for more just now.
    pub(super) fn is_patient(&self) -> bool {
        self.patience > 0
    }

    /// A look at the peer, twice a second.
    pub(super) fn tick(&mut self) {
        self.patience = if self.rejections < MOST_REJECTIONS { PATIENCE } else { 1 };
    }

    /// A block has come.
    pub(super) fn block_came(&mut self) {
        (self.rejections, self.patience) = (0, PATIENCE);
    }

    /// Whether the peer has said already that it sends the piece while it chokes us.
    fn is_allowed(&self, piece: PieceIndex) -> bool {
        self.promised.contains(&piece) || self.open().is_some_and(|open| open.has(piece))
    }

    /// The peer has new pieces: it may have promised some of them.
    pub(super) fn learn(&mut self, has: &Bitfield, pieces: u32) {
        if self.promised.is_empty() {
            return;
        }
        let open = self.open.get_or_insert_with(|| Box::new(Bitfield::new(pieces)));
        self.promised.extract_if(.., |piece| has.has(*piece)).for_each(|piece| _ = open.insert(piece));
    }

    /// The peer does not send the piece while it chokes us, or has it no more.
    pub(super) fn unlearn(&mut self, piece: PieceIndex) {
        self.open.iter_mut().for_each(|open| open.remove(piece));
    }

    /// We have the piece no more: the peer is promised and suggested it no more.
    pub(super) fn forget(&mut self, piece: PieceIndex) {
        self.granted.remove(&piece);
        self.hints.retain(|other| *other != piece);
    }

    /// Whether the block is of a piece that the peer may have while choked, and it has not had it too often.
    pub(super) fn grants(&self, block: &Block) -> bool {
        self.granted.get(&block.piece).is_some_and(|left| *left >= u64::from(block.len))
    }

    /// Whether a choked peer may have the block; it counts as had.
    pub(super) fn spend(&mut self, block: &Block) -> bool {
        let Some(left) = self.granted.get_mut(&block.piece) else { return false };
        let enough = *left >= u64::from(block.len);
        *left -= if enough { u64::from(block.len) } else { 0 };
        enough
    }

    /// A choked peer has taken back what counted as had so many times.
    fn give_back(&mut self, block: &Block, times: u32) {
        let left = self.granted.get_mut(&block.piece);
        left.into_iter().for_each(|left| *left += u64::from(block.len) * u64::from(times));
    }
}

/// The pieces that a peer at this address may have while choked: at most `count` of `pieces`, the same for whoever has
/// the torrent (BEP 6, "Allowed Fast Set Generation").
pub(super) fn allowed_fast(count: usize, pieces: u32, info_hash: &InfoHash, ip: Ipv4Addr) -> Vec<u32> {
    let [a, b, c, _] = ip.octets();
    let mut digest: Vec<u8> = [&[a, b, c, 0][..], &info_hash.0].concat();
    let mut set = Vec::new();
    // With more wanted than there are, this would never end.
    while set.len() < count.min(pieces as usize) {
        digest = Sha1::digest(&digest).to_vec();
        for word in digest.as_chunks::<4>().0 {
            let piece = u32::from_be_bytes(*word) % pieces;
            if set.len() < count && !set.contains(&piece) {
                set.push(piece);
            }
        }
    }
    set
}

impl Swarm {
    // ---- serving ----

    /// A request will not be served: under the fast extension the peer is told.
    pub(super) fn reject(&mut self, slot: PeerSlot, request: [u32; 3]) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get_mut(slot).filter(|peer| peer.fast.on) else { return Ok(()) };
        if peer.fast.rejects.len() >= MOST_REJECTS {
            self.totals.limits.offences += 1;
            return Err(DropReason::Offences);
        }
        peer.fast.rejects.push_back(request);
        self.wake(slot);
        Ok(())
    }

    /// Takes requests that wait out of the queue, and rejects them: all, or when the peer is being choked all but those
    /// that it may have all the same; these count as had from now on, as those do that it asks for while choked. (So does what was
    /// asked for before the last time that it had a slot, once more.) Who does not speak the fast extension is told by a choke,
    /// also when it has lost interest: it may find it again, and wait for its blocks.
    pub(super) fn clear_uploads(&mut self, slot: PeerSlot, all: bool) {
        let crowded = self.commons.slots.is_crowded();
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if !peer.fast.on {
            let dropped = peer.uploads.clear();
            self.totals.requests.dropped += dropped;
            if dropped > 0 {
                peer.unsaid_choke = true;
                self.wake(slot);
            }
            return;
        }
        let fast = &mut peer.fast;
        let taken = peer.uploads.drain(|block| !all && !crowded && fast.spend(block));
        self.totals.requests.dropped += taken.len() as u64;
        let rejects = taken.into_iter().map(|block| [block.piece.get(), block.begin, block.len]);
        // As many as fit in the queue of requests: that they are owed once is no offence.
        peer.fast.rejects.extend(rejects);
        if peer.fast.rejects.len() > MOST_REJECTS + super::extended::REQQ as usize {
            self.totals.limits.offences += 1;
            return self.drop_peer(slot, DropReason::Offences);
        }
        self.wake(slot);
    }

    /// The peer takes a request back.
    pub(super) fn hear_cancel(&mut self, slot: PeerSlot, request: [u32; 3]) -> Result<(), DropReason> {
        let [index, begin, len] = request;
        let Some(block) = self.layout.block(index, begin, len) else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        // What is being sent already is answered by that.
        let times = peer.uploads.cancel(&block);
        if !peer.unchoked {
            peer.fast.give_back(&block, times);
        }
        self.totals.requests.cancelled += u64::from(times);
        (0..times).try_for_each(|_| self.reject(slot, request))
    }

    /// The first message: what we have.
    pub(super) fn say_pieces(&mut self, slot: PeerSlot, speech: &mut Speech<'_>) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        // A super-seed pretends to have nothing (BEP 16).
        let hidden = peer.shown.is_some();
        let mut gives = Cow::Borrowed(&self.have);
        self.lost.iter().for_each(|piece| gives.to_mut().remove(piece));
        let count = if hidden { 0 } else { gives.count() };
        let short = match count {
            0 => Some(Message::HaveNone),
            _ if gives.is_full() => Some(Message::HaveAll),
            _ => None,
        };
        match short.filter(|_| peer.fast.on) {
            Some(message) => speech.say(message),
            None if count > 0 => speech.say(Message::Bitfield(&gives.to_wire())),
            None => {}
        }
        (peer.told, peer.told_lost) = (self.have.count(), self.lost.len());
    }

    /// Rejects, and the pieces that a peer with next to nothing may have while choked.
    pub(super) fn say_fast(&mut self, slot: PeerSlot, speech: &mut Speech<'_>) {
        self.choose_grants(slot, speech);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        peer.fast.hints.drain(..).for_each(|piece| speech.say(Message::Suggest(piece.get())));
        while !speech.is_full()
            && let Some([index, begin, len]) = peer.fast.rejects.pop_front()
        {
            speech.say(Message::Reject { index, begin, len });
        }
    }

    fn choose_grants(&mut self, slot: PeerSlot, speech: &mut Speech<'_>) {
        let spreads = self.spreads();
        let Some(peer) = self.peers.get_mut(slot) else { return };
        // What it has it says first.
        if !peer.fast.on || !peer.spoke || peer.fast.chose_grants {
            return;
        }
        // Who has a slot or gets one at once needs none of a seed. All of its network would ask for the same few first, and have
        // those from one another soon.
        if self.have.is_full() && (peer.unchoked || self.commons.slots.has_room()) {
            return;
        }
        peer.fast.chose_grants = true;
        let IpAddr::V4(ip) = peer.who.addr.ip().to_canonical() else { return };
        if peer.has.count() as usize >= GRANTS || peer.shown.is_some() || self.commons.slots.is_crowded() {
            return;
        }
        let info_hash = &self.settings.greeting.info_hash;
        for number in allowed_fast(GRANTS, self.layout.piece_count(), info_hash, ip) {
            let Some(piece) = self.layout.piece(number) else { continue };
            // What is rare a seed gives to one at a time.
            let is_free = !spreads || self.commons.sightings.is_seen(piece);
            if is_free && self.have.has(piece) && !self.lost.has(piece) && !peer.has.has(piece) {
                peer.fast.granted.insert(piece, GRANT_TIMES * u64::from(self.layout.piece_len(piece)));
                speech.say(Message::AllowedFast(number));
            }
        }
    }

    // ---- fetching ----

    /// A message of the fast extension has come.
    pub(super) fn hear_fast(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        first: bool,
        message: Message<'_>,
    ) -> Result<(), DropReason> {
        let pieces = self.layout.piece_count();
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        if !peer.fast.on {
            return Err(DropReason::NotNegotiated);
        }
        match message {
            Message::HaveAll if first => self.take_bitfield(now, slot, Bitfield::full(pieces)),
            Message::HaveNone if first => {
                self.wake(slot);
                self.recheck_seed(slot)
            }
            Message::HaveAll => self.hear_late(now, slot, &Bitfield::full(pieces)),
            // Out of place; what it says is not needed.
            Message::HaveNone => self.offend(slot),
            Message::Suggest(number) => {
                let piece = self.layout.piece(number).ok_or(DropReason::NoSuchPiece(number))?;
                if peer.fast.suggested.len() == MOST_SUGGESTED {
                    peer.fast.suggested.pop_front();
                }
                peer.fast.suggested.push_back(piece);
                Ok(())
            }
            Message::AllowedFast(number) => {
                let piece = self.layout.piece(number).ok_or(DropReason::NoSuchPiece(number))?;
                if self.have.has(piece) || peer.fast.is_allowed(piece) {
                    return Ok(());
                }
                let open = peer.fast.open().map_or(0, |open| open.count() as usize);
                if peer.fast.promised.len() + open >= MOST_PROMISED {
                    return self.offend(slot);
                }
                peer.fast.promised.push(piece);
                peer.fast.learn(&peer.has, pieces);
                self.wake(slot);
                Ok(())
            }
            Message::Reject { index, begin, len } => self.hear_reject(slot, [index, begin, len]),
            _ => Ok(()),
        }
    }

    /// The peer chokes us. Under the fast extension each request is still answered, by its block or by a reject: to ask
    /// others before that would be to ask twice.
    pub(super) fn hear_choke(&mut self, now: Duration, slot: PeerSlot) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let had_slot = !std::mem::replace(&mut peer.chokes_us, true);
        // They were for the slot.
        peer.fast.suggested.clear();
        let open = peer.asked.len() as u64;
        // What is open behind a choke that is said again has its answer on the way still.
        let vain = if had_slot && open > 0 { peer.conduct.turn_was_vain(now) } else { VainTurn::default() };
        peer.snubbed |= vain.snub;
        if peer.fast.on {
            self.disown_piece(slot);
        } else {
            self.totals.limits.unanswered += if vain.snub { open } else { 0 };
            self.release_all(slot);
        }
        if vain.offends { self.offend(slot) } else { Ok(()) }
    }

    fn hear_reject(&mut self, slot: PeerSlot, [index, begin, len]: [u32; 3]) -> Result<(), DropReason> {
        let bad = DropReason::BadRequest { index, begin, len };
        let block = self.layout.block(index, begin, len).ok_or(bad)?;
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let Some(at) = peer.asked.iter().position(|asked| asked.block == block) else {
            // It was taken back, and this is the answer to that; or it was never asked.
            return if peer.forgave(&block) { Ok(()) } else { self.offend(slot) };
        };
        peer.asked.remove(at);
        // One that comes with a choke goes without saying.
        let counts = u32::from(!peer.chokes_us || peer.offers(block.piece));
        peer.fast.rejections += counts;
        peer.fast.patience = peer.fast.patience.saturating_sub(counts);
        peer.snubbed |= peer.fast.rejections >= MOST_REJECTIONS;
        let snubbed = peer.snubbed;
        if peer.chokes_us {
            peer.fast.unlearn(block.piece);
        }
        if peer.current == Some(block.piece) {
            peer.current = None;
            if let Some(active) = self.active.get_mut(&block.piece) {
                active.owner = active.owner.filter(|owner| *owner != slot);
            }
        }
        self.release(&block);
        // Who sends nothing is asked for little, and each time others would look in vain: a tick wakes them soon.
        if !snubbed {
            self.wake_hungry();
        }
        Ok(())
    }

    /// A piece that the peer has suggested, of those of what it has that we want most; if the order is ours to choose.
    pub(super) fn hint(&self, slot: PeerSlot) -> Option<PieceIndex> {
        let peer = self.peers.get(slot).filter(|peer| !peer.fast.suggested.is_empty())?;
        if self.settings.sequential {
            return None;
        }
        let first = self.picker.first_class(&peer.has)?;
        let is_good = |piece: &PieceIndex| {
            self.picker.holds(*piece) && self.picker.class(*piece) == first && peer.offers(*piece)
        };
        peer.fast.suggested.iter().copied().find(is_good)
    }

    /// The same; from now on it does not count as suggested, nor does what is begun or had by now.
    pub(super) fn hinted(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let hint = self.hint(slot);
        let peer = self.peers.get_mut(slot)?;
        peer.fast.suggested.retain(|piece| hint != Some(*piece) && self.picker.holds(*piece));
        hint
    }
}

/// Whether a request asks for more than is served at once, of bytes that the torrent has.
pub(super) fn is_merely_long(layout: &Layout, [index, begin, len]: [u32; 3]) -> bool {
    let within = |piece| u64::from(begin) + u64::from(len) <= u64::from(layout.piece_len(piece));
    len > 0 && layout.piece(index).is_some_and(within)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_of_bep_6() {
        let ip = Ipv4Addr::new(80, 4, 4, 200);
        let set = |count| allowed_fast(count, 1313, &InfoHash([0xaa; 20]), ip);
        assert_eq!(set(7), [1059, 431, 808, 1217, 287, 376, 1188]);
        assert_eq!(set(9), [1059, 431, 808, 1217, 287, 376, 1188, 353, 508]);
        let neighbour = allowed_fast(7, 1313, &InfoHash([0xaa; 20]), Ipv4Addr::new(80, 4, 4, 1));
        assert_eq!(neighbour, set(7), "a network has one set");
    }

    #[test]
    fn of_few_pieces_all_are_allowed_and_of_none_none() {
        for pieces in 0..20 {
            let mut set = allowed_fast(10, pieces, &InfoHash([1; 20]), Ipv4Addr::LOCALHOST);
            set.sort();
            set.dedup();
            assert_eq!(set.len(), pieces.min(10) as usize);
        }
    }
}
