//! How many connections there may be, as far as the descriptors of the process go.

use crate::ring::{Descriptors, TooFewDescriptors};

/// Most connected peers of a torrent.
const MOST_PEERS: usize = 4000;
/// Most accepted connections of a core that have not said their handshake.
const MOST_STRANGERS: usize = 100;
/// Most dials of a core at a time.
const MOST_DIALS: usize = 60;
/// One place in so many is for them at most, and one in so many for dials.
const STRANGERS: usize = 4;
const DIALS: usize = 8;

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Connected peers, on all cores together.
    pub peers: usize,
    /// Accepted connections of each core that have not said their handshake.
    pub strangers: usize,
    /// Dials of each core at a time.
    pub dials: usize,
}

impl Room {
    /// The room for a torrent on so many cores, when what these need besides is set aside.
    ///
    /// # Errors
    /// When there is none for a single connection.
    pub fn of_process(cores: usize) -> Result<Self, TooFewDescriptors> {
        let descriptors = Descriptors::of_process();
        descriptors.set_aside(cores)?;
        Ok(Self::within(descriptors.sockets.all(), cores))
    }

    fn within(places: usize, cores: usize) -> Self {
        let strangers = (places / STRANGERS / cores.max(1)).clamp(1, MOST_STRANGERS);
        let peers = places.saturating_sub(strangers * cores + places / DIALS);
        let dials = (places / DIALS / cores.max(1)).clamp(1, MOST_DIALS);
        Self { peers: peers.clamp(1, MOST_PEERS), strangers, dials }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_strangers_and_dials_share_the_places() {
        assert_eq!(Room::within(1 << 20, 2), Room { peers: 4000, strangers: 100, dials: 60 });
        for (places, cores) in [(13, 2), (60, 1), (60, 4), (300, 2), (600, 2), (2000, 16)] {
            let room = Room::within(places, cores);
            let sum = room.peers + room.strangers * cores + places / DIALS;
            assert!(sum <= places && sum + cores >= places, "{room:?} of {places}");
            assert!(room.dials * cores <= (places / DIALS).max(cores), "{room:?} of {places}");
        }
        assert_eq!(Room::within(8, 64), Room { peers: 1, strangers: 1, dials: 1 });
    }
}
