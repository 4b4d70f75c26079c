//! Fetching the info dictionary of a magnet link from peers (BEP 9), before there is a swarm.
//!
//! How long it is only peers say, and they may lie: each size that is named is tried beside the others, and holds no more
//! memory than what has come for it. When all of them hold too much, the largest begins anew. What does not have the right
//! hash is thrown away. If it came from several peers nobody can say who lied; from then on each peer sends all of that
//! size itself, several beside each other, and who then sends a wrong one is known. What has come stays when its sender
//! leaves: who is slow, or comes and goes, ends some day.

use crate::metainfo::InfoHash;
use crate::wire::extended::METADATA_BLOCK_LEN;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Longest info dictionary that is fetched, in bytes.
const MAX_LEN: usize = 32 * 1024 * 1024;
/// Bytes that are held of all sizes together, and how many of these peers may fill that are asked alone.
const MOST_HELD: usize = 3 * MAX_LEN;
const MOST_ALONE: usize = 2 * MAX_LEN;
/// A peer of which nothing has come for so long is left alone.
const PATIENCE: Duration = Duration::from_secs(15);
/// A peer that was asked for a block so long ago, or has sent the one before so long ago, has lost its standing, however
/// many bytes of it have come since: that is less than 1 KB/s. It may go on all the same.
const BLOCK_LIMIT: Duration = Duration::from_secs(20);
/// A peer that has rejected a block is asked nothing for so long; twice as long each time, until it sends one.
const FIRST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(60);
/// A block asked for so long ago may be asked of another peer.
const LATE: Duration = Duration::from_secs(5);
/// Who is asked alone and gets on worst gives way, when there is no room for others, after so long.
const TURN: Duration = Duration::from_secs(30);
/// Sizes without peers of which blocks are kept.
const MOST_LEFT: usize = 8;

/// What has become of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataOutcome {
    /// More is needed.
    Wait,
    /// All is here, and its hash is right.
    Done(Vec<u8>),
    /// All was here, and its hash was wrong. The peer is to be banned if it alone has sent it; else it is begun anew.
    Wrong {
        /// Who is to be banned.
        liar: Option<u64>,
    },
    /// Nobody asked for it, or it has a length that it must not have: its sender is to be dropped.
    Offence,
}

#[derive(Debug)]
struct Peer {
    who: SocketAddr,
    size: usize,
    /// The block that it was asked for, and when. Never two: rTorrent (libtorrent 0.13) answers the first of two requests that it reads
    /// together, and from then on nothing.
    asked: Option<(u32, Duration)>,
    /// When something of what it was asked for has come.
    heard: Option<Duration>,
    /// Since when it has been here, how many whole blocks it has sent, and when the last of them has come.
    since: Duration,
    blocks: usize,
    whole: Option<Duration>,
    /// The last block that it was to send did not come in time.
    late: bool,
    /// How often in a row it has rejected a block, and until when it is therefore asked for none.
    rejects: u32,
    rests_until: Duration,
    /// It sends nothing.
    useless: bool,
}

/// What a peer has done for the metadata so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// It has sent something of what it was asked for.
    pub sends: bool,
    /// And that in time, without rejecting anything lately.
    pub gives: bool,
    /// Bytes a second that have come as whole blocks.
    pub rate: u64,
}

impl Peer {
    /// Whether nothing has come for too long of what it was asked for.
    fn is_late(&self, now: Duration) -> bool {
        self.asked.is_some_and(|(_, at)| now >= self.heard.map_or(at, |heard| heard.max(at)) + PATIENCE)
    }

    /// Whether the block should have come by now.
    fn is_overdue(&self, now: Duration) -> bool {
        self.asked.is_some_and(|(_, at)| now >= self.whole.map_or(at, |whole| whole.max(at)) + BLOCK_LIMIT)
    }

    fn awaits(&self, block: u32) -> bool {
        self.asked.is_some_and(|(asked, _)| asked == block)
    }

    fn rests(&self, now: Duration) -> bool {
        now < self.rests_until
    }
}

/// Blocks, each with its sender.
type Blocks = BTreeMap<u32, (Vec<u8>, SocketAddr)>;

/// What one peer alone has sent.
#[derive(Debug)]
struct Alone {
    blocks: Blocks,
    since: Duration,
}

/// The blocks of one size.
#[derive(Debug, Default)]
struct Attempt {
    shared: Blocks,
    /// It came out wrong: from now on, nothing is shared.
    spoiled: bool,
    alone: BTreeMap<SocketAddr, Alone>,
}

impl Attempt {
    fn blocks(&self) -> impl Iterator<Item = &(Vec<u8>, SocketAddr)> {
        self.shared.values().chain(self.alone.values().flat_map(|alone| alone.blocks.values()))
    }

    fn held(&self) -> usize {
        self.blocks().map(|(bytes, _)| bytes.len()).sum()
    }
}

/// See the module. Peers go by numbers of the caller's, and by their address when they come back.
#[derive(Debug)]
pub struct MetadataFetch {
    info_hash: InfoHash,
    peers: BTreeMap<u64, Peer>,
    attempts: BTreeMap<usize, Attempt>,
    overfull: u64,
    late: u64,
    rejects: u64,
}

impl MetadataFetch {
    /// Nothing is here yet.
    pub fn new(info_hash: InfoHash) -> Self {
        let (peers, attempts) = (BTreeMap::new(), BTreeMap::new());
        Self { info_hash, peers, attempts, overfull: 0, late: 0, rejects: 0 }
    }

    /// A peer at the address `who` says how long the info dictionary is. `false` when it cannot be that: the peer is of
    /// no use (yet).
    pub fn offer(&mut self, now: Duration, peer: u64, who: SocketAddr, size: Option<i64>) -> bool {
        let size =
            size.and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=MAX_LEN).contains(size));
        let Some(size) = size else { return false };
        // It may not change its mind: what it was asked for would have another length.
        let fresh = Peer {
            who,
            size,
            asked: None,
            heard: None,
            since: now,
            blocks: 0,
            whole: None,
            late: false,
            rejects: 0,
            rests_until: Duration::ZERO,
            useless: false,
        };
        self.peers.entry(peer).or_insert(fresh).size == size
    }

    /// The peer is there no more. What it has sent stays, within bounds.
    pub fn gone(&mut self, peer: u64) {
        let Some(left) = self.peers.remove(&peer) else { return };
        if let Some(attempt) = self.attempts.get_mut(&left.size) {
            attempt.alone.retain(|who, alone| *who != left.who || !alone.blocks.is_empty());
        }
        let here = |size: usize| self.peers.values().any(|other| other.size == size && !other.useless);
        // Without peers it only takes a place that another size may need.
        self.attempts.retain(|size, attempt| here(*size) || attempt.held() > 0);
        let mut left: Vec<(usize, usize)> = self.attempts.iter().map(|(size, a)| (a.held(), *size)).collect();
        left.retain(|(_, size)| !here(*size));
        left.sort_unstable();
        let surplus = left.len().saturating_sub(MOST_LEFT);
        left.iter().take(surplus).for_each(|(_, size)| _ = self.attempts.remove(size));
    }

    /// The next block to ask the peer for; it counts as asked.
    pub fn next_request(&mut self, now: Duration, peer: u64) -> Option<u32> {
        let may_ask = |asker: &&Peer| !asker.useless && !asker.rests(now) && asker.asked.is_none();
        let asker = self.peers.get(&peer).filter(may_ask)?;
        let (who, size) = (asker.who, asker.size);
        let alone = self.attempts.entry(size).or_default().spoiled;
        if alone && !self.has_turn(now, who, size) {
            return None;
        }
        let attempt = self.attempts.get(&size)?;
        let held = if alone { &attempt.alone.get(&who)?.blocks } else { &attempt.shared };
        let asked = |block: u32| {
            let others = self.peers.values().filter(|other| other.size == size && !other.useless);
            others
                .flat_map(|other| &other.asked)
                .filter(|(other, _)| *other == block)
                .map(|(_, at)| *at)
                .max()
        };
        let missing = (0..size.div_ceil(METADATA_BLOCK_LEN) as u32).filter(|block| !held.contains_key(block));
        let free = missing.clone().find(|block| alone || asked(*block).is_none());
        let late = |block: &u32| asked(*block).is_some_and(|at| now >= at + LATE);
        let block = free.or_else(|| missing.clone().find(late))?;
        self.peers.get_mut(&peer)?.asked = Some((block, now));
        Some(block)
    }

    /// Whether this peer may send all of that size alone: there is room for it, or one that gets on badly gives way.
    fn has_turn(&mut self, now: Duration, who: SocketAddr, size: usize) -> bool {
        if self.attempts.get(&size).is_some_and(|attempt| attempt.alone.contains_key(&who)) {
            return true;
        }
        while self.promised() + size > MOST_ALONE {
            let Some((other, whose)) = self.slowest(now) else { return false };
            self.attempts.get_mut(&other).and_then(|attempt| attempt.alone.remove(&whose));
        }
        let alone = Alone { blocks: Blocks::new(), since: now };
        self.attempts.entry(size).or_default().alone.insert(who, alone);
        true
    }

    /// Bytes that those who are asked alone may fill.
    fn promised(&self) -> usize {
        self.attempts.iter().map(|(size, attempt)| size * attempt.alone.len()).sum()
    }

    /// Of those that are asked alone, one that has left or rests; else that which gets on worst, if it has had its turn.
    fn slowest(&self, now: Duration) -> Option<(usize, SocketAddr)> {
        let all = self
            .attempts
            .iter()
            .flat_map(|(size, attempt)| attempt.alone.iter().map(move |(who, alone)| (*size, *who, alone)));
        let rated = all.filter_map(|(size, who, alone)| {
            let here = self.peers.values().any(|peer| peer.who == who && !peer.useless && !peer.rests(now));
            let age = now.saturating_sub(alone.since);
            let part = alone.blocks.len() as f64 / size.div_ceil(METADATA_BLOCK_LEN) as f64;
            let rate = part / age.as_secs_f64().max(1.0);
            (!here || age >= TURN).then_some((here, rate, size, who))
        });
        let order = |a: &(bool, f64, usize, SocketAddr), b: &(bool, f64, usize, SocketAddr)| {
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        };
        rated.min_by(order).map(|(_, _, size, who)| (size, who))
    }

    /// A block has come.
    pub fn data(
        &mut self,
        now: Duration,
        peer: u64,
        (block, total_size): (u32, Option<i64>),
        bytes: &[u8],
    ) -> MetadataOutcome {
        let Some(sender) = self.peers.get_mut(&peer) else { return MetadataOutcome::Offence };
        if !sender.awaits(block) {
            return MetadataOutcome::Offence;
        }
        let (was_late, in_time) = (sender.late, !sender.is_overdue(now));
        sender.asked = None;
        let (who, size) = (sender.who, sender.size);
        let begin = block as usize * METADATA_BLOCK_LEN;
        let other_size = total_size.is_some_and(|total| usize::try_from(total) != Ok(size));
        if other_size || bytes.len() != METADATA_BLOCK_LEN.min(size - begin) {
            return MetadataOutcome::Offence;
        }
        (sender.heard, sender.whole, sender.late) = (Some(now), Some(now), !in_time);
        (sender.blocks, sender.rejects) = (sender.blocks + 1, 0);
        self.late += u64::from(!in_time && !was_late);
        let Some(attempt) = self.attempts.get_mut(&size) else { return MetadataOutcome::Wait };
        let held = match attempt.spoiled {
            true => attempt.alone.get_mut(&who).map(|alone| &mut alone.blocks),
            false => Some(&mut attempt.shared),
        };
        // Who has lost its turn meanwhile begins anew.
        let Some(held) = held else { return MetadataOutcome::Wait };
        held.entry(block).or_insert_with(|| (bytes.to_vec(), who));
        if held.len() < size.div_ceil(METADATA_BLOCK_LEN) {
            self.make_room();
            return MetadataOutcome::Wait;
        }
        self.verify(now, (peer, who), size)
    }

    /// A part of what the peer was asked for has come.
    pub fn heard(&mut self, now: Duration, peer: u64) {
        if let Some(peer) = self.peers.get_mut(&peer).filter(|peer| peer.asked.is_some()) {
            peer.heard = Some(now);
        }
    }

    /// What the peer has done so far; nothing, when it has not said how long the metadata is.
    pub fn service(&self, now: Duration, peer: u64) -> Service {
        let Some(peer) = self.peers.get(&peer) else { return Service::default() };
        let sends = peer.heard.is_some();
        let gives = sends && !peer.late && !peer.is_overdue(now) && !peer.rests(now);
        let age = now.saturating_sub(peer.since).as_secs().max(1);
        Service { sends, gives, rate: (peer.blocks * METADATA_BLOCK_LEN) as u64 / age }
    }

    /// Throws away what has come of the size that holds most, when all of them hold too much: who names a size that
    /// nobody else has, and sends it slowly, must not be able to keep the others out.
    fn make_room(&mut self) {
        if self.held() > MOST_HELD
            && let Some(attempt) = self.attempts.values_mut().max_by_key(|attempt| attempt.shared.len())
        {
            attempt.shared.clear();
            self.overfull += 1;
        }
    }

    /// How often a peer has lost its standing because a block did not come in time.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Blocks that were asked for and rejected.
    pub fn rejects(&self) -> u64 {
        self.rejects
    }

    /// How often what had come of a size was thrown away, because all of them together held too much.
    pub fn overfull(&self) -> u64 {
        self.overfull
    }

    /// All blocks of a size are here, the last from this peer.
    fn verify(&mut self, now: Duration, (peer, who): (u64, SocketAddr), size: usize) -> MetadataOutcome {
        let Some(attempt) = self.attempts.get_mut(&size) else { return MetadataOutcome::Wait };
        let blocks = match attempt.spoiled {
            true => attempt.alone.remove(&who).map(|alone| alone.blocks).unwrap_or_default(),
            false => std::mem::take(&mut attempt.shared),
        };
        let mut whole = Vec::with_capacity(size);
        blocks.values().for_each(|(bytes, _)| whole.extend_from_slice(bytes));
        if Sha1::digest(&whole)[..] == self.info_hash.0 {
            return MetadataOutcome::Done(whole);
        }
        attempt.spoiled = true;
        if blocks.values().all(|(_, sender)| *sender == who) {
            return MetadataOutcome::Wrong { liar: Some(peer) };
        }
        // Each goes on with what it has sent.
        for (block, (bytes, sender)) in blocks {
            let here =
                self.peers.values().any(|peer| peer.who == sender && peer.size == size && !peer.useless);
            if here
                && self.has_turn(now, sender, size)
                && let Some(alone) = self.attempts.get_mut(&size).and_then(|all| all.alone.get_mut(&sender))
            {
                alone.blocks.insert(block, (bytes, sender));
            }
        }
        MetadataOutcome::Wrong { liar: None }
    }

    /// The peer will not send a block now. Others are asked, and it is asked again after a while: it may be busy, or have no
    /// more of the metadata yet than its length. `false` when it was not asked for it.
    pub fn rejected(&mut self, now: Duration, peer: u64, block: u32) -> bool {
        let Some(sender) = self.peers.get_mut(&peer) else { return false };
        if !sender.awaits(block) {
            return false;
        }
        sender.asked = None;
        self.rejects += 1;
        let rest = FIRST_REST * 2u32.pow(sender.rejects.min(16));
        (sender.rests_until, sender.rejects) = (now + rest.min(LONGEST_REST), sender.rejects + 1);
        true
    }

    /// Leaves those alone that have sent nothing for long; gives their numbers. What they have sent stays. Notes whose blocks
    /// are late.
    pub fn tick(&mut self, now: Duration) -> Vec<u64> {
        for peer in self.peers.values_mut().filter(|peer| !peer.late && peer.is_overdue(now)) {
            peer.late = true;
            self.late += 1;
        }
        let late = self.peers.iter_mut().filter(|(_, peer)| peer.is_late(now));
        let leave = |(number, peer): (&u64, &mut Peer)| {
            peer.useless = true;
            peer.asked = None;
            *number
        };
        late.map(leave).collect()
    }

    /// Bytes that have come and are held.
    pub fn held(&self) -> usize {
        self.attempts.values().map(Attempt::held).sum()
    }
}
