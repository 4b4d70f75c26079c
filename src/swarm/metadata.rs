//! Giving the info dictionary to peers that have only its hash (BEP 9). What we give is verified: without it there would
//! be no swarm.

use super::speak::Speech;
use super::{DropReason, PeerSlot, Swarm};
use crate::wire::extended::{Extension, METADATA_BLOCK_LEN, MetadataMessage};
use std::collections::VecDeque;

/// Requests for metadata of one peer that wait: as many as it has blocks, for there are peers that ask for all at once,
/// and at least so many. What is asked beyond that is an offence, and rejected; as many rejects wait, and then there is no answer.
const LEAST_WAITING: usize = 64;
/// A peer is sent the metadata so many times; from then on its requests are rejected.
const MOST_TIMES: usize = 3;

/// Requests of one peer for metadata.
#[derive(Debug, Default)]
pub(super) struct MetadataQueue {
    /// Number of the block, and whether it will be sent.
    waiting: VecDeque<(u32, bool)>,
    /// Blocks promised so far.
    given: usize,
}

impl Swarm {
    pub(super) fn hear_metadata(&mut self, slot: PeerSlot, payload: &[u8]) -> Result<(), DropReason> {
        let blocks = self.settings.greeting.metadata.len().div_ceil(METADATA_BLOCK_LEN);
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let answered = peer.extended.ids.get(Extension::Metadata).is_some();
        match MetadataMessage::parse(payload) {
            Some(MetadataMessage::Request { block }) if answered => {
                let queue = &mut peer.extended.metadata;
                let most = blocks.max(LEAST_WAITING);
                if queue.waiting.len() >= most {
                    if queue.waiting.len() < 2 * most {
                        queue.waiting.push_back((block, false));
                        self.wake(slot);
                    }
                    self.totals.limits.requests += 1;
                    return self.offend(slot);
                }
                let known = (block as usize) < blocks;
                let given = known && queue.given < MOST_TIMES * blocks;
                queue.given += usize::from(given);
                self.totals.limits.requests += u64::from(known && !given);
                queue.waiting.push_back((block, given));
                self.wake(slot);
                Ok(())
            }
            Some(MetadataMessage::Unknown) => Ok(()),
            // We ask for none here.
            _ => self.offend(slot),
        }
    }

    pub(super) fn say_metadata(&mut self, slot: PeerSlot, speech: &mut Speech<'_>) {
        let metadata = &self.settings.greeting.metadata;
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Some(id) = peer.extended.ids.get(Extension::Metadata) else { return };
        while !speech.is_full()
            && speech.metadata > 0
            && let Some((block, given)) = peer.extended.metadata.waiting.pop_front()
        {
            let bytes = metadata.chunks(METADATA_BLOCK_LEN).nth(block as usize).filter(|_| given);
            let total_size = Some(metadata.len() as i64);
            let message = match bytes {
                Some(bytes) => {
                    speech.metadata = speech.metadata.saturating_sub(bytes.len());
                    MetadataMessage::Data { block, total_size, bytes }
                }
                None => MetadataMessage::Reject { block },
            };
            speech.say_extended(id, &message.encode());
        }
    }
}
