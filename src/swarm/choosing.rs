//! Which piece a peer is to fetch next, by the user's choice and by how far the download is.

use super::peer::Peer;
use super::{PeerSlot, Swarm};
use crate::metainfo::PieceIndex;
use std::time::Duration;

/// The first pieces are taken by chance: what is rare is slow to come, and there is nothing to trade until then. Not those
/// of seeds: of them the rarest come as fast, and are worth more to others.
const BY_CHANCE: u32 = 4;

/// With a limit of our own, so many seconds of it are asked for.
pub(super) const ASKED_AHEAD: u64 = 2;

/// With a limit of our own, so many seconds of it are pieces that are begun and not all here. (But one piece at least.)
const OPEN_AHEAD: u64 = 10;
/// So long a core looks for something to help others with before it begins a piece beyond that.
const HELP: Duration = Duration::from_secs(1);

impl Swarm {
    /// Whether so many pieces are begun that our own limit lets no more in soon: whoever can go on with one of them, does. Without
    /// a limit each peer has a piece of its own, for then a bad one says who sent it.
    pub(super) fn has_enough_open(&self) -> bool {
        let Some(most) = self.most_open() else { return false };
        let most = (most as usize / self.commons.cores()).max(1);
        self.active.len() >= most && self.active.values().filter(|active| active.is_filling()).count() >= most
    }

    /// Whether all cores together have begun enough, of fewer pieces than there are cores, so that this one is to help others
    /// instead of beginning one. It does not wait for long: there may be nothing that its peers can help with.
    pub(super) fn leaves_it_to_others(&mut self, now: Duration) -> bool {
        let missing = self.commons.map.missing_count();
        let begun = self.commons.map.left().saturating_sub(missing);
        let few = self.most_open().filter(|most| (*most as usize) < self.commons.cores());
        if missing == 0 || few.is_none_or(|most| begun < most) {
            return false;
        }
        let waits = now < *self.helps.get_or_insert(now) + HELP;
        self.helps = self.helps.filter(|_| waits);
        waits
    }

    /// Most pieces that are to be open on all cores together, when we have a limit.
    fn most_open(&self) -> Option<u32> {
        let ahead = self.settings.download_limit?.saturating_mul(OPEN_AHEAD);
        let pieces = (ahead / u64::from(self.layout.piece_length())).max(1);
        Some(u32::try_from(pieces).unwrap_or(u32::MAX))
    }

    /// How many of our peers have something for us.
    fn givers(&self) -> usize {
        self.peers.iter().filter(|(_, peer)| peer.gives()).count()
    }

    /// Peers that have something for us, and how many bytes a second are to be expected of each that has sent something.
    pub(super) fn paces(&self) -> impl Iterator<Item = (&Peer, f64)> {
        let givers = self.peers.iter().map(|(_, peer)| peer).filter(|peer| peer.gives());
        givers.filter_map(|giver| Some((giver, giver.pace()?)))
    }

    /// Says to all cores how many of our peers have something for us, and how fast they are.
    pub(super) fn tell_givers(&self) {
        let paces = self.paces().map(|(_, pace)| pace as u64);
        let (all, fastest) = paces.fold((0, 0), |(all, most), pace: u64| (all + pace, most.max(pace)));
        self.commons.tell_givers(self.core, self.givers());
        self.commons.tell_speed(self.core, all, fastest);
    }

    /// What one peer's share of the download limit is, in bytes a second: what is asked of it beyond that would only wait, and the
    /// peer with it.
    pub(super) fn fair_share(&self) -> Option<u64> {
        let limit = self.settings.download_limit?;
        Some(limit / u64::from(self.commons.givers().max(1)))
    }

    /// A piece for the peer to fetch, that nobody on this core fetches yet. Does not take it.
    pub(super) fn pick(&mut self, slot: PeerSlot) -> Option<PieceIndex> {
        let peer = self.peers.get_mut(slot)?;
        if peer.chokes_us {
            return self.picker.pick_any(peer.offered()?, &mut self.rng);
        }
        if self.settings.sequential {
            let next = self.next_in_order(slot);
            if next.is_some() {
                return next;
            }
        } else if self.have.count() < BY_CHANCE && !peer.has.is_full() {
            return self.picker.pick_any(&peer.has, &mut self.rng);
        }
        let peer = self.peers.get_mut(slot)?;
        self.picker.pick(&peer.has, peer.wanted, &mut peer.hint, &mut self.rng)
    }
}
