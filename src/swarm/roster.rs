//! Who is connected to a torrent, on whichever core: so that nobody is let in twice, or too many at all.

use super::Tag;
use crate::wire::PeerId;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

/// Peers remembered for a bad piece.
const MOST_BANNED: usize = 10_000;

/// What tells peers apart. An id alone is no proof: a liar could take that of an honest peer.
pub(super) type Identity = (IpAddr, PeerId);

#[derive(Clone, Copy, Debug)]
struct Member {
    tag: Tag,
    outgoing: bool,
}

/// How a new connection gets on with the roster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is in.
    New,
    /// It is in; the connection of this tag, to the same peer, has to go.
    Replaces(Tag),
    /// It is not: the other connection to the same peer stays.
    Duplicate,
}

/// All connected peers of a torrent, and who may not come back.
#[derive(Debug, Default)]
pub(super) struct Roster {
    members: HashMap<Identity, Member>,
    /// Hosts and ids that sent a bad piece: they may not dial us.
    banned: HashSet<Identity>,
}

impl Roster {
    /// Enters a connection. When both sides have dialled at once, both must keep the same one: that which the side with
    /// the greater id dialled; `keep_outgoing` says whether that is ours.
    pub(super) fn enter(&mut self, who: Identity, tag: Tag, outgoing: bool, keep_outgoing: bool) -> Entry {
        let twin = self.members.get(&who).copied();
        if twin.is_some_and(|twin| twin.outgoing == outgoing || twin.outgoing == keep_outgoing) {
            return Entry::Duplicate;
        }
        self.members.insert(who, Member { tag, outgoing });
        twin.map_or(Entry::New, |twin| Entry::Replaces(twin.tag))
    }

    /// Takes a connection out, unless another has taken its place.
    pub(super) fn leave(&mut self, who: Identity, tag: Tag) {
        if self.members.get(&who).is_some_and(|member| member.tag == tag) {
            self.members.remove(&who);
        }
    }

    /// Keeps a liar out from now on; `false` when there are too many to remember this one too.
    pub(super) fn ban(&mut self, who: Identity) -> bool {
        let room = self.banned.len() < MOST_BANNED || self.banned.contains(&who);
        if room {
            self.banned.insert(who);
        }
        room
    }

    /// The connection of that peer.
    pub(super) fn member(&self, who: &Identity) -> Option<Tag> {
        self.members.get(who).map(|member| member.tag)
    }

    pub(super) fn is_banned(&self, who: &Identity) -> bool {
        self.banned.contains(who)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_connections_to_one_peer_both_sides_keep_the_same() {
        let who = (IpAddr::from([10, 0, 0, 1]), PeerId([7; 20]));
        let [first, second, third] = [1, 2, 3].map(|number| Tag { core: 0, number });
        let mut roster = Roster::default();
        assert_eq!(roster.enter(who, first, true, false), Entry::New);
        assert_eq!(roster.enter(who, second, true, false), Entry::Duplicate);
        assert_eq!(roster.enter(who, second, false, false), Entry::Replaces(first));
        assert_eq!(roster.enter(who, third, true, false), Entry::Duplicate);
        roster.leave(who, first);
        assert_eq!(roster.len(), 1, "its place is the second's");
        roster.leave(who, second);
        assert_eq!(roster.len(), 0);
    }
}
