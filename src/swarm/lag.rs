//! How far requests run ahead of this core itself.
//!
//! A window covers the moods of a peer and of its way, seconds of them. When this core is what is slow, all that comes at once and
//! waits in our socket: up to a whole window of each peer, memory of the kernel's that no limit of ours knows of, and which has left the
//! processor's cache when its turn comes. So while answers pile up there, the peer is asked for twice what its way holds (its rate
//! follows what it is asked for, and has to be able to grow), and a reserve that is received in a turn or two.

use super::peer::Peer;
use super::window::Window;
use super::{PeerSlot, Swarm};
use crate::metainfo::BLOCK_LEN;

/// More than this has to lie in the socket after a receive.
const PILE: u64 = 64 * 1024;
/// So many receives on end have to leave less before the peer's window is its own again: when all of it is asked for at once, all of
/// it comes at once.
const CALM: u32 = 32;
/// The reserve, in blocks: what one receive takes in, or two.
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

    /// Most requests to have open meanwhile, at this rate (bytes a second): those that have come and are not received are open, too.
    pub(super) fn most(&self, window: &Window, rate: u64) -> Option<usize> {
        let unread = usize::try_from(self.unread / u64::from(BLOCK_LEN)).unwrap_or(usize::MAX);
        (self.left > 0).then(|| (2 * window.on_the_way(rate)).saturating_add(unread).saturating_add(RESERVE))
    }
}

impl Peer {
    /// Most requests to keep open while this core lags behind it.
    pub(super) fn most_behind(&self) -> Option<usize> {
        self.lag.most(&self.requests, self.pace().unwrap_or(0.0) as u64)
    }
}

impl Swarm {
    /// A receive has left so many bytes of the peer in our socket, because this core has no time for them; none, when it has time. Not to
    /// be said under a limit of ours that holds them up ([`Swarm::lies_unread`]).
    pub fn piles_up(&mut self, slot: PeerSlot, unread: u64) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        self.totals.limits.lags += u64::from(peer.lag.received(unread));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lasts(lag: &Lag) -> bool {
        lag.most(&Window::default(), 0).is_some()
    }

    #[test]
    fn the_peer_is_asked_for_twice_what_its_way_holds_and_a_reserve() {
        let (mut lag, mut window) = (Lag::default(), Window::default());
        window.block_came(Duration::from_millis(1100), Some(Duration::from_secs(1)));
        let rate = 100 * u64::from(BLOCK_LEN);
        assert_eq!(lag.most(&window, rate), None);
        lag.received(7 * u64::from(BLOCK_LEN));
        assert_eq!(lag.most(&window, rate), Some(2 * 10 + 7 + RESERVE));
        lag.received(0);
        assert_eq!(lag.most(&window, rate), Some(2 * 10 + RESERVE));
    }

    #[test]
    fn it_lasts_until_so_many_receives_on_end_have_left_little() {
        let mut lag = Lag::default();
        assert!(!lag.received(PILE) && !lasts(&lag));
        assert!(lag.received(PILE + 1) && lasts(&lag));
        for _ in 1..CALM {
            assert!(!lag.received(PILE));
        }
        assert!(lasts(&lag));
        assert!(!lag.received(PILE + 1), "it has not ended");
        for _ in 0..CALM {
            assert!(lasts(&lag));
            lag.received(0);
        }
        assert!(!lasts(&lag));
        assert!(lag.received(PILE + 1));
    }
}
