//! Who gets a place among the peers of a magnet link, and who gives way to whom when there is none left.

use crate::swarm::Service;
use std::cmp::Reverse;
use std::time::Duration;

/// Who has given nothing for so long gives way to a newcomer; one that came to us gives way to one that we go to sooner.
const SILENT: Duration = Duration::from_secs(5);
const SILENT_BEFORE_DIALS: Duration = Duration::from_secs(1);
/// Who has sent something, but not in time, gives way after so long also to one that was tried before. When all give, the
/// slowest of those that have been here for so long gives way to one that was never tried.
const TURN: Duration = Duration::from_secs(60);
/// Peers talked to at the same time, and how many of them may have come to us.
const MOST_PEERS: usize = 40;
const MOST_INCOMING: usize = 30;
/// So many places at least are for what was given, whoever has them; beyond, it is as good as what others have named.
const KEPT_FOR_GIVEN: usize = 10;

/// How a connected peer stands, for the question who gives way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    pub(super) number: u64,
    pub(super) outgoing: bool,
    /// The user or the link has named it.
    pub(super) given: bool,
    /// How long it has been here.
    pub(super) age: Duration,
    pub(super) service: Service,
}

/// Who is in want of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomer {
    /// A peer that came to us.
    Incoming,
    /// An address to dial that the user or the link has named,
    Given,
    /// one that was never dialled,
    Untried,
    /// and one that was.
    Tried,
}

/// Whether there is a place for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is.
    Free,
    /// There is when this one leaves.
    After(u64),
    /// There is not.
    Full,
}

/// Looks for a place. Who gives metadata in time keeps its own, but there are always some for what was given; and no crowd,
/// however useful it seems, can keep out those that nobody has tried.
pub(super) fn room_for(newcomer: Newcomer, peers: &[Standing]) -> Room {
    let given = peers.iter().filter(|peer| peer.given).count();
    let newcomer = match newcomer {
        Newcomer::Given if given >= KEPT_FOR_GIVEN => Newcomer::Tried,
        other => other,
    };
    let dialled = newcomer != Newcomer::Incoming;
    let incoming = peers.iter().filter(|peer| !peer.outgoing).count();
    if peers.len() < MOST_PEERS && (dialled || incoming < MOST_INCOMING) {
        return Room::Free;
    }
    let gives_way = |peer: &&Standing| {
        let patience = match newcomer {
            Newcomer::Tried if peer.service.sends => TURN,
            _ if dialled && !peer.outgoing => SILENT_BEFORE_DIALS,
            _ => SILENT,
        };
        !peer.service.gives && peer.age >= patience && (dialled || !peer.outgoing)
    };
    let least = |peer: &&Standing| {
        let favoured = peer.given && given <= KEPT_FOR_GIVEN;
        (!peer.outgoing, !favoured, !peer.service.sends, peer.age)
    };
    let slowness = |peer: &&Standing| (peer.service.gives, peer.service.rate, Reverse(peer.age));
    let others = || peers.iter().filter(|peer| !peer.given);
    let leaves = peers.iter().filter(gives_way).max_by_key(least).or_else(|| match newcomer {
        Newcomer::Given => others().min_by_key(slowness),
        Newcomer::Untried if peers.iter().all(|peer| peer.service.gives) => {
            others().filter(|peer| peer.age >= TURN).min_by_key(slowness)
        }
        _ => None,
    });
    leaves.map_or(Room::Full, |peer| Room::After(peer.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn crowd(outgoing: usize, incoming: usize, age: u64) -> Vec<Standing> {
        let one = |number| Standing {
            number: number as u64,
            outgoing: number < outgoing,
            given: false,
            age: seconds(age),
            service: Service::default(),
        };
        (0..outgoing + incoming).map(one).collect()
    }

    use Newcomer::{Given, Incoming, Tried, Untried};

    #[test]
    fn silent_strangers_give_way() {
        assert_eq!(room_for(Incoming, &crowd(5, MOST_INCOMING - 1, 0)), Room::Free);
        assert_eq!(room_for(Incoming, &crowd(5, MOST_INCOMING, 4)), Room::Full);
        assert_eq!(room_for(Tried, &crowd(5, MOST_INCOMING, 0)), Room::Free, "a place is kept for dials");
        let full = |age| crowd(MOST_PEERS - MOST_INCOMING, MOST_INCOMING, age);
        assert_eq!([Incoming, Tried, Untried].map(|who| room_for(who, &full(0))), [Room::Full; 3]);
        // Who came to us gives way first; whom we dialled never gives way to one that comes to us.
        assert!(matches!(room_for(Tried, &full(2)), Room::After(10..)));
        assert_eq!(room_for(Incoming, &full(2)), Room::Full);
        assert!(matches!(room_for(Incoming, &full(5)), Room::After(10..)));
        let ours = crowd(MOST_PEERS, 0, 9);
        assert_eq!(room_for(Incoming, &ours), Room::Full);
        assert!(matches!(room_for(Tried, &ours), Room::After(_)));
    }

    fn serving(age: u64, service: Service) -> Vec<Standing> {
        let mut peers = crowd(MOST_PEERS - MOST_INCOMING, MOST_INCOMING, age);
        peers.iter_mut().for_each(|peer| peer.service = service);
        peers
    }

    #[test]
    fn who_gives_stays_but_what_was_given_has_a_place_and_the_untried_have_one_after_a_while() {
        let giving = Service { sends: true, gives: true, rate: 2000 };
        let mut peers = serving(59, giving);
        peers[20].service = Service { sends: true, ..Service::default() };
        assert_eq!([Incoming, Untried, Given].map(|who| room_for(who, &peers)), [Room::After(20); 3]);
        peers[20].service = Service { rate: 1000, ..giving };
        assert_eq!([Incoming, Untried, Tried].map(|who| room_for(who, &peers)), [Room::Full; 3]);
        assert_eq!(room_for(Given, &peers), Room::After(20), "the slowest");
        peers[20].given = true;
        assert!(matches!(room_for(Given, &peers), Room::After(number) if number != 20));
        peers[20].given = false;
        peers.iter_mut().for_each(|peer| peer.age = TURN);
        assert_eq!(
            [Incoming, Untried, Tried].map(|who| room_for(who, &peers)),
            [Room::Full, Room::After(20), Room::Full]
        );
        // The places of the silent go round fast enough.
        peers[7].service = Service::default();
        peers[7].age = seconds(1);
        assert_eq!(room_for(Untried, &peers), Room::Full);
    }

    #[test]
    fn what_was_given_has_some_places_and_no_more_right_to_the_others() {
        let giving = Service { sends: true, gives: true, rate: 2000 };
        let mut peers = serving(20, giving);
        for peer in &mut peers[..KEPT_FOR_GIVEN] {
            (peer.given, peer.service) = (true, Service::default());
            peer.age = seconds(1);
        }
        assert_eq!(room_for(Given, &peers), Room::Full);
        assert!(matches!(room_for(Given, &peers[1..]), Room::Free));
        peers[0].given = false;
        assert!(matches!(room_for(Given, &peers), Room::After(number) if number == 0 || number >= 10));
        // Among those who keep silent, who was given goes last as long as it is few.
        let mut silent = crowd(MOST_PEERS, 0, 9);
        silent[..KEPT_FOR_GIVEN].iter_mut().for_each(|peer| peer.given = true);
        assert!(matches!(room_for(Untried, &silent), Room::After(10..)));
        silent[..35].iter_mut().for_each(|peer| peer.given = true);
        silent[3].age = seconds(10);
        assert_eq!(room_for(Untried, &silent), Room::After(3));
    }

    #[test]
    fn who_is_late_gives_way_to_the_untried_at_once_and_to_the_others_later() {
        let late = Service { sends: true, gives: false, rate: 500 };
        let mut peers = serving(20, late);
        assert_eq!(room_for(Tried, &peers), Room::Full);
        assert!(matches!(room_for(Untried, &peers), Room::After(10..)));
        peers[3].age = TURN;
        assert_eq!(room_for(Tried, &peers), Room::After(3));
    }
}
