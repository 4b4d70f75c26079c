//! Fetching the info dictionary of a magnet link from peers (BEP 9), before there is a swarm.
//!
//! How long it is only peers say, and they may lie: each size that is named is tried beside the others, and holds no more
//! memory than what has come for it. When all of them hold too much, the largest begins anew. What does not have the right hash is thrown away. If it came from
//! several peers nobody can say who lied; from then on one peer alone sends that size, and who then sends a wrong one is
//! known.

use crate::metainfo::InfoHash;
use crate::wire::extended::METADATA_BLOCK_LEN;
use sha1::{Digest, Sha1};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest info dictionary that is fetched, in bytes.
const MAX_LEN: usize = 32 * 1024 * 1024;
/// Bytes that are held of all sizes together.
const MOST_HELD: usize = 3 * MAX_LEN;
/// Requests that one peer has open.
const MOST_ASKED: usize = 2;
/// A peer that has not sent a block for so long is left alone.
const PATIENCE: Duration = Duration::from_secs(15);
/// A block asked for so long ago may be asked of another peer.
const LATE: Duration = Duration::from_secs(5);

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
    size: usize,
    /// Blocks asked for, and when.
    asked: Vec<(u32, Duration)>,
    /// It has rejected a block, or sends nothing.
    useless: bool,
}

/// The blocks of one size.
#[derive(Debug, Default)]
struct Attempt {
    blocks: BTreeMap<u32, (Vec<u8>, u64)>,
    /// After a wrong hash one peer alone is asked.
    sole: bool,
    owner: Option<u64>,
}

/// See the module. Peers go by numbers of the caller's.
#[derive(Debug)]
pub struct MetadataFetch {
    info_hash: InfoHash,
    peers: BTreeMap<u64, Peer>,
    attempts: BTreeMap<usize, Attempt>,
    overfull: u64,
}

impl MetadataFetch {
    /// Nothing is here yet.
    pub fn new(info_hash: InfoHash) -> Self {
        Self { info_hash, peers: BTreeMap::new(), attempts: BTreeMap::new(), overfull: 0 }
    }

    /// A peer says how long the info dictionary is. `false` when it cannot be that: the peer is of no use (yet).
    pub fn offer(&mut self, peer: u64, size: Option<i64>) -> bool {
        let size =
            size.and_then(|size| usize::try_from(size).ok()).filter(|size| (1..=MAX_LEN).contains(size));
        let Some(size) = size else { return false };
        // It may not change its mind: what it was asked for would have another length.
        self.peers.entry(peer).or_insert(Peer { size, asked: Vec::new(), useless: false }).size == size
    }

    /// The peer is there no more.
    pub fn gone(&mut self, peer: u64) {
        let Some(left) = self.peers.remove(&peer) else { return };
        self.disown(left.size, peer);
        // Without peers it only takes a place that another size may need.
        if !self.peers.values().any(|other| other.size == left.size && !other.useless) {
            self.attempts.remove(&left.size);
        }
    }

    fn disown(&mut self, size: usize, peer: u64) {
        if let Some(attempt) = self.attempts.get_mut(&size).filter(|attempt| attempt.owner == Some(peer)) {
            attempt.owner = None;
            attempt.blocks.clear();
        }
    }

    /// The next block to ask the peer for; it counts as asked.
    pub fn next_request(&mut self, now: Duration, peer: u64) -> Option<u32> {
        let asker = self.peers.get(&peer).filter(|asker| !asker.useless && asker.asked.len() < MOST_ASKED)?;
        let size = asker.size;
        let attempt = self.attempts.entry(size).or_default();
        if attempt.sole && *attempt.owner.get_or_insert(peer) != peer {
            return None;
        }
        let asked = |block: u32| {
            let others = self.peers.values().filter(|other| other.size == size && !other.useless);
            others
                .flat_map(|other| &other.asked)
                .filter(|(other, _)| *other == block)
                .map(|(_, at)| *at)
                .max()
        };
        let mine = |block: u32| asker.asked.iter().any(|(other, _)| *other == block);
        let missing = (0..size.div_ceil(METADATA_BLOCK_LEN) as u32)
            .filter(|block| !attempt.blocks.contains_key(block) && !mine(*block));
        let free = missing.clone().find(|block| asked(*block).is_none());
        let late = |block: &u32| asked(*block).is_some_and(|at| now >= at + LATE);
        let block = free.or_else(|| missing.clone().find(late))?;
        self.peers.get_mut(&peer)?.asked.push((block, now));
        Some(block)
    }

    /// A block has come.
    pub fn data(&mut self, peer: u64, block: u32, total_size: Option<i64>, bytes: &[u8]) -> MetadataOutcome {
        let Some(sender) = self.peers.get_mut(&peer) else { return MetadataOutcome::Offence };
        let Some(at) = sender.asked.iter().position(|(asked, _)| *asked == block) else {
            return MetadataOutcome::Offence;
        };
        sender.asked.remove(at);
        let size = sender.size;
        let begin = block as usize * METADATA_BLOCK_LEN;
        let other_size = total_size.is_some_and(|total| usize::try_from(total) != Ok(size));
        if other_size || bytes.len() != METADATA_BLOCK_LEN.min(size - begin) {
            return MetadataOutcome::Offence;
        }
        let Some(attempt) = self.attempts.get_mut(&size) else { return MetadataOutcome::Wait };
        if attempt.sole && attempt.owner != Some(peer) {
            return MetadataOutcome::Wait;
        }
        attempt.blocks.entry(block).or_insert_with(|| (bytes.to_vec(), peer));
        if attempt.blocks.len() < size.div_ceil(METADATA_BLOCK_LEN) {
            self.make_room();
            return MetadataOutcome::Wait;
        }
        self.verify(size)
    }

    /// Throws away what has come of the size that holds most, when all of them hold too much: who names a size that
    /// nobody else has, and sends it slowly, must not be able to keep the others out.
    fn make_room(&mut self) {
        if self.held() > MOST_HELD
            && let Some(attempt) = self.attempts.values_mut().max_by_key(|attempt| attempt.blocks.len())
        {
            attempt.blocks.clear();
            self.overfull += 1;
        }
    }

    /// How often what had come of a size was thrown away, because all of them together held too much.
    pub fn overfull(&self) -> u64 {
        self.overfull
    }

    fn verify(&mut self, size: usize) -> MetadataOutcome {
        let Some(attempt) = self.attempts.get_mut(&size) else { return MetadataOutcome::Wait };
        let mut whole = Vec::with_capacity(size);
        let mut senders: Vec<u64> = Vec::new();
        for (bytes, sender) in std::mem::take(&mut attempt.blocks).into_values() {
            whole.extend_from_slice(&bytes);
            senders.push(sender);
        }
        if Sha1::digest(&whole)[..] == self.info_hash.0 {
            return MetadataOutcome::Done(whole);
        }
        senders.dedup();
        attempt.sole = true;
        attempt.owner = None;
        let liar = Some(senders[0]).filter(|_| senders.len() == 1);
        MetadataOutcome::Wrong { liar }
    }

    /// The peer will not send a block. Another is asked.
    pub fn rejected(&mut self, peer: u64) {
        let Some(sender) = self.peers.get_mut(&peer) else { return };
        sender.useless = true;
        sender.asked.clear();
        let size = sender.size;
        self.disown(size, peer);
    }

    /// Leaves those alone that have sent nothing for long; gives their numbers.
    pub fn tick(&mut self, now: Duration) -> Vec<u64> {
        let late = |peer: &Peer| peer.asked.iter().any(|(_, at)| now >= *at + PATIENCE);
        let late: Vec<u64> = self.peers.iter().filter(|(_, peer)| late(peer)).map(|(n, _)| *n).collect();
        late.iter().for_each(|peer| self.rejected(*peer));
        late
    }

    /// Bytes that have come and are held.
    pub fn held(&self) -> usize {
        let blocks = self.attempts.values().flat_map(|attempt| attempt.blocks.values());
        blocks.map(|(bytes, _)| bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Duration = Duration::from_secs(1);

    fn metadata(len: usize) -> (Vec<u8>, MetadataFetch) {
        let bytes: Vec<u8> = (0..len).map(|n| (n / 7) as u8).collect();
        let fetch = MetadataFetch::new(InfoHash(Sha1::digest(&bytes).into()));
        (bytes, fetch)
    }

    fn block(bytes: &[u8], number: u32) -> &[u8] {
        bytes.chunks(METADATA_BLOCK_LEN).nth(number as usize).unwrap()
    }

    /// Has the peer send all it is asked for, in turn.
    fn serve(fetch: &mut MetadataFetch, now: Duration, peer: u64, bytes: &[u8]) -> MetadataOutcome {
        while let Some(number) = fetch.next_request(now, peer) {
            match fetch.data(peer, number, Some(bytes.len() as i64), block(bytes, number)) {
                MetadataOutcome::Wait => {}
                end => return end,
            }
        }
        MetadataOutcome::Wait
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let (_, mut fetch) = metadata(10);
        let sizes = [
            None,
            Some(-1),
            Some(0),
            Some(MAX_LEN as i64 + 1),
            Some(1 << 31),
            Some(i64::MAX),
            Some(i64::MIN),
        ];
        assert!(sizes.into_iter().all(|size| !fetch.offer(1, size)));
        assert!(fetch.offer(1, Some(1)) && fetch.offer(2, Some(MAX_LEN as i64)));
        assert!(!fetch.offer(1, Some(2)), "no second thoughts");
        assert_eq!(fetch.held(), 0, "nothing is held for a claim");
    }

    #[test]
    fn blocks_of_several_peers_make_the_whole() {
        let (bytes, mut fetch) = metadata(5 * METADATA_BLOCK_LEN + 1);
        let size = Some(bytes.len() as i64);
        assert!(fetch.offer(1, size) && fetch.offer(2, size));
        let asked = [1, 1, 1, 2, 2, 2].map(|peer| fetch.next_request(START, peer));
        assert_eq!(asked, [Some(0), Some(1), None, Some(2), Some(3), None], "two at a time");
        for (peer, number) in [(2, 3), (1, 0), (1, 1), (2, 2)] {
            assert_eq!(fetch.data(peer, number, size, block(&bytes, number)), MetadataOutcome::Wait);
        }
        assert_eq!(serve(&mut fetch, START, 2, &bytes), MetadataOutcome::Done(bytes));
    }

    #[test]
    fn what_was_not_asked_or_has_a_wrong_length_is_an_offence() {
        let (bytes, mut fetch) = metadata(METADATA_BLOCK_LEN + 5);
        let size = Some(bytes.len() as i64);
        assert_eq!(fetch.data(1, 0, size, block(&bytes, 0)), MetadataOutcome::Offence, "who is that");
        for (total, len) in
            [(size, 3), (size, 0), (size, METADATA_BLOCK_LEN + 1), (Some(7), METADATA_BLOCK_LEN)]
        {
            fetch.gone(1);
            fetch.offer(1, size);
            assert_eq!(fetch.next_request(START, 1), Some(0));
            assert_eq!(fetch.data(1, 1, size, block(&bytes, 1)), MetadataOutcome::Offence, "not asked");
            assert_eq!(fetch.data(1, 0, total, &vec![0; len]), MetadataOutcome::Offence);
        }
        fetch.gone(1);
        fetch.offer(1, size);
        fetch.next_request(START, 1);
        assert_eq!(
            fetch.data(1, 0, None, block(&bytes, 0)),
            MetadataOutcome::Wait,
            "it need not say the size"
        );
        assert_eq!(fetch.data(1, 0, size, block(&bytes, 0)), MetadataOutcome::Offence, "twice");
    }

    #[test]
    fn of_several_senders_nobody_is_blamed_but_then_each_is_tried_alone() {
        let (bytes, mut fetch) = metadata(2 * METADATA_BLOCK_LEN);
        let lie = vec![9; bytes.len()];
        let size = Some(bytes.len() as i64);
        assert!(fetch.offer(1, size) && fetch.offer(2, size));
        assert_eq!(fetch.next_request(START, 1), Some(0));
        assert_eq!(fetch.next_request(START, 2), Some(1));
        assert_eq!(fetch.data(1, 0, size, block(&lie, 0)), MetadataOutcome::Wait);
        assert_eq!(fetch.data(2, 1, size, block(&bytes, 1)), MetadataOutcome::Wrong { liar: None });
        assert_eq!(fetch.next_request(START, 1), Some(0));
        assert_eq!(fetch.next_request(START, 2), None, "one alone");
        assert_eq!(fetch.data(1, 0, size, block(&lie, 0)), MetadataOutcome::Wait);
        assert_eq!(serve(&mut fetch, START, 1, &lie), MetadataOutcome::Wrong { liar: Some(1) });
        fetch.gone(1);
        assert_eq!(serve(&mut fetch, START, 2, &bytes), MetadataOutcome::Done(bytes));
    }

    #[test]
    fn liars_about_the_size_cannot_hold_up_the_others_for_ever() {
        let (bytes, mut fetch) = metadata(100);
        (1..=5).for_each(|n| assert!(fetch.offer(n, Some(MAX_LEN as i64 - n as i64))));
        (1..=5).for_each(|n| _ = fetch.next_request(START, n));
        assert_eq!(fetch.tick(START + PATIENCE), [1, 2, 3, 4, 5]);
        // Who sends now and then is no better.
        let dripped = |fetch: &mut MetadataFetch, n: u64| {
            let block = fetch.next_request(START, n).unwrap();
            fetch.data(n, block, None, &[0; METADATA_BLOCK_LEN])
        };
        (11..=15).for_each(|n| assert!(fetch.offer(n, Some(MAX_LEN as i64 - n as i64))));
        (11..=15).for_each(|n| assert_eq!(dripped(&mut fetch, n), MetadataOutcome::Wait));
        assert!(fetch.offer(9, Some(100)));
        assert_eq!(serve(&mut fetch, START, 9, &bytes), MetadataOutcome::Done(bytes));
    }

    #[test]
    fn what_liars_send_of_many_sizes_has_a_bound_and_an_honest_one_is_kept() {
        let (bytes, mut fetch) = metadata(3 * METADATA_BLOCK_LEN);
        assert!(fetch.offer(9, Some(bytes.len() as i64)));
        let first = fetch.next_request(START, 9).unwrap();
        assert_eq!(fetch.data(9, first, None, block(&bytes, first)), MetadataOutcome::Wait);
        (1..=5).for_each(|n| assert!(fetch.offer(n, Some(MAX_LEN as i64 - n as i64))));
        for n in (1..=5).cycle().take(5 * 2000) {
            let number = fetch.next_request(START, n).unwrap();
            assert_eq!(fetch.data(n, number, None, &[0; METADATA_BLOCK_LEN]), MetadataOutcome::Wait);
            assert!(fetch.held() <= MOST_HELD);
        }
        assert_eq!(serve(&mut fetch, START, 9, &bytes), MetadataOutcome::Done(bytes));
    }

    #[test]
    fn late_and_rejected_blocks_are_asked_of_others() {
        let (bytes, mut fetch) = metadata(100);
        let size = Some(100);
        (1..=3).for_each(|peer| assert!(fetch.offer(peer, size)));
        assert_eq!(fetch.next_request(START, 1), Some(0));
        assert_eq!(fetch.next_request(START, 2), None);
        assert_eq!(fetch.next_request(START + LATE, 2), Some(0));
        fetch.rejected(2);
        fetch.rejected(1);
        assert_eq!([1, 2].map(|peer| fetch.next_request(START + LATE, peer)), [None, None]);
        assert_eq!(serve(&mut fetch, START + LATE, 3, &bytes), MetadataOutcome::Done(bytes));
    }

    proptest! {
        /// Honest peers and liars of all kinds come and go: as long as an honest one is there, it ends, and never wrongly.
        #[test]
        fn it_ends_right_with_one_honest_peer(len in 1usize..70_000, liars in prop::collection::vec(0u8..4, 0..6), seed: u64) {
            let (bytes, mut fetch) = metadata(len);
            let mut rng = fastrand::Rng::with_seed(seed);
            let size = len as i64;
            let mut kinds: BTreeMap<u64, u8> = (1..).zip(liars).collect();
            kinds.insert(0, 0);
            for (peer, kind) in &kinds {
                fetch.offer(*peer, Some(if *kind == 3 { size + 1 + *peer as i64 } else { size }));
            }
            let mut now = START;
            for _ in 0..2000 {
                now += Duration::from_millis(500);
                for late in fetch.tick(now) {
                    fetch.gone(late);
                    kinds.remove(&late);
                }
                let peers: Vec<(u64, u8)> = kinds.iter().map(|(peer, kind)| (*peer, *kind)).collect();
                let (peer, kind) = peers[rng.usize(..peers.len())];
                let Some(number) = fetch.next_request(now, peer) else { continue };
                let outcome = match kind {
                    0 => fetch.data(peer, number, Some(size), block(&bytes, number)),
                    1 => fetch.data(peer, number, Some(size), &vec![1; block(&bytes, number).len()]),
                    2 => MetadataOutcome::Wait,
                    _ => MetadataOutcome::Offence,
                };
                match outcome {
                    MetadataOutcome::Done(whole) => {
                        prop_assert_eq!(whole, bytes);
                        return Ok(());
                    }
                    MetadataOutcome::Wrong { liar: Some(liar) } => {
                        prop_assert!(kinds[&liar] == 1, "an honest peer is blamed");
                        fetch.gone(liar);
                        kinds.remove(&liar);
                    }
                    MetadataOutcome::Offence => {
                        prop_assert!(kind != 0);
                        fetch.gone(peer);
                        kinds.remove(&peer);
                    }
                    _ => {}
                }
            }
            prop_assert!(false, "no end");
        }
    }
}
