//! How far requests run ahead of this core itself.
//!
//! A window covers the moods of a peer and of its way, seconds of them. When this core is what is slow, all that comes at once and
//! waits in our socket: up to a whole window of each peer, memory of the kernel's that no limit of ours knows of, and which has left the
//! processor's cache when its turn comes. So as long as answers pile up there, the peer is asked for what its way holds, and a reserve
//! that is received in a few turns.

use super::window::Window;
use super::{PeerSlot, Swarm};
use crate::metainfo::BLOCK_LEN;

/// More than this has to lie in the socket after a receive.
const PILE: u64 = 64 * 1024;
/// So many receives on end have to leave less before the peer's window is its own again.
const CALM: u32 = 32;
/// The reserve, in blocks: two receives.
const RESERVE: usize = 32;

/// Whether a peer sends more than this core takes in.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// Bytes that the last receive left in the socket.
    unread: u64,
    /// Receives that are still to leave little.
    left: u32,
}

impl Lag {
    /// A receive has left so many bytes. Gives whether they are the first that pile up.
    fn received(&mut self, unread: u64) -> bool {
        let begins = unread > PILE && self.left == 0;
        self.unread = unread;
        self.left = if unread > PILE { CALM } else { self.left.saturating_sub(1) };
        begins
    }

    /// Whether more has come of late than this core took in.
    pub(super) fn lasts(&self) -> bool {
        self.left > 0
    }

    /// Most requests to have open meanwhile, at this rate (bytes a second), beside what has come and is not received.
    pub(super) fn most(&self, window: &Window, rate: u64) -> Option<usize> {
        let unread = usize::try_from(self.unread / u64::from(BLOCK_LEN)).unwrap_or(usize::MAX);
        self.lasts().then(|| (2 * window.on_the_way(rate)).saturating_add(unread).saturating_add(RESERVE))
    }
}

impl Swarm {
    /// All was received from the peer that there was room for, and so many bytes of it still lie in our socket, because this core has
    /// no time for them; none when it has. Not to be said under a limit of ours that holds them up ([`Swarm::lies_unread`]).
    pub fn piles_up(&mut self, slot: PeerSlot, unread: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        self.totals.limits.lags += u64::from(peer.lag.received(unread));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_until_so_many_receives_on_end_have_left_little() {
        let mut lag = Lag::default();
        assert!(!lag.received(PILE) && !lag.lasts());
        assert!(lag.received(PILE + 1) && lag.lasts());
        for _ in 1..CALM {
            assert!(!lag.received(PILE));
        }
        assert!(lag.lasts());
        assert!(!lag.received(PILE + 1), "it has not ended");
        for _ in 0..CALM {
            assert!(lag.lasts());
            lag.received(0);
        }
        assert!(!lag.lasts());
        assert!(lag.received(PILE + 1));
    }
}
