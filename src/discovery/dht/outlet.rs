//! The way of found peers to a torrent.

use std::net::SocketAddr;
use tokio::sync::mpsc;

/// Most peers that wait until the torrent takes them.
const MAX_WAITING: usize = 1000;

/// Where the peers of one search go. What there is no room for waits.
#[derive(Debug)]
pub(super) struct Outlet {
    out: mpsc::Sender<Vec<SocketAddr>>,
    waiting: Vec<SocketAddr>,
}

impl Outlet {
    pub(super) fn new(out: mpsc::Sender<Vec<SocketAddr>>) -> Self {
        Self { out, waiting: Vec::new() }
    }

    /// Peers were found. Says how many are left out because too many wait.
    pub(super) fn put(&mut self, peers: Vec<SocketAddr>) -> usize {
        let mut left_out = 0;
        for peer in peers {
            if self.waiting.contains(&peer) {
                continue;
            }
            if self.waiting.len() < MAX_WAITING {
                self.waiting.push(peer);
            } else {
                left_out += 1;
            }
        }
        left_out
    }

    /// Hands on all that wait, if there is room for them now. Says how many.
    pub(super) fn hand_on(&mut self) -> usize {
        match self.out.try_reserve() {
            Ok(place) if !self.waiting.is_empty() => {
                let peers = std::mem::take(&mut self.waiting);
                let count = peers.len();
                place.send(peers);
                count
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_waits_and_is_handed_on_later() {
        let peers = |range: std::ops::Range<u16>| -> Vec<SocketAddr> {
            range.map(|port| SocketAddr::from(([9, 9, 9, 9], 1 + port))).collect()
        };
        let (tell, mut found) = mpsc::channel(1);
        let mut outlet = Outlet::new(tell);
        assert_eq!((outlet.put(peers(0..3)), outlet.hand_on()), (0, 3));
        assert_eq!((outlet.put(peers(3..5)), outlet.hand_on()), (0, 0));
        assert_eq!((outlet.put(peers(4..7)), outlet.hand_on()), (0, 0));
        assert_eq!(found.try_recv(), Ok(peers(0..3)));
        assert_eq!(outlet.hand_on(), 4);
        assert_eq!(found.try_recv(), Ok(peers(3..7)));
        assert_eq!(outlet.hand_on(), 0, "there is nothing");
        assert!(found.try_recv().is_err());
        assert_eq!(outlet.put(peers(0..1200)), 200);
        assert_eq!(outlet.hand_on(), 1000);
    }
}
