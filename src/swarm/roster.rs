//! Who is connected to a torrent, on whichever core: so that nobody is let in twice, or too many at all.

use super::Tag;
use super::networks::network;
use super::reached::reached;
use crate::wire::PeerId;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Peers remembered for a bad piece.
const MOST_BANNED: usize = 10_000;
/// Names under which one host may lie: then there is nobody we talk to there but whom the user names. One alone says little of the
/// others behind the same address.
const MOST_NAMES: u32 = 8;
/// So long whom the user names and a stranger of the same name are both in, at least. When they are one, the other side closes
/// one of the two connections meanwhile.
pub(super) const TOGETHER: Duration = Duration::from_secs(10);
/// After a stranger had to go, nobody else is let in beside whom the user names for so long. No longer: its connection may
/// break unnoticed, and then it may be itself that comes.
const ALONE: Duration = Duration::from_secs(120);

/// Connections under one id among which one peer is looked for: of more, liars make fun of us.
const MOST_KIN: usize = 8;

/// What tells peers apart. An id alone is no proof: a liar could take that of an honest peer.
pub(super) type Identity = (IpAddr, PeerId);

/// A connection that is in, or wants to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Member {
    pub(super) tag: Tag,
    pub(super) outgoing: bool,
    /// We dialled it where the user said.
    pub(super) given: bool,
    pub(super) since: Duration,
    /// When a stranger of its name had to go for it.
    pub(super) outlasted: Option<Duration>,
    /// Bytes of payload that it had given when that was noted last; only of those that we have dialled.
    pub(super) gave: u64,
}

impl Member {
    /// Of whom the user names: whether nobody is let in beside it now.
    fn is_alone(&self, now: Duration) -> bool {
        self.outlasted.is_some_and(|at| now < at + ALONE)
    }
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
    /// It is not: there are too many of its host.
    Crowd,
    /// Likewise, of its network.
    Network,
}

/// Most connections of one host, and of one network, beside those whom the user names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) of_host: usize,
    pub(super) of_network: usize,
}

/// All connected peers of a torrent, and who may not come back.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// By whether the user has named them: who comes under the name of such a one may be a stranger.
    members: HashMap<(Identity, bool), Member>,
    /// The same by their ids: where else each is in.
    by_id: HashMap<PeerId, Vec<(Identity, bool)>>,
    /// How many of them each host has, and each network.
    crowds: HashMap<IpAddr, usize>,
    networks: HashMap<IpAddr, usize>,
    /// How many of them have come to us.
    comers: usize,
    /// Hosts and ids that sent a bad piece.
    banned: HashSet<Identity>,
    /// Where such listen.
    addresses: HashSet<SocketAddr>,
    /// How many of these each host had.
    names: HashMap<IpAddr, u32>,
}

/// What stands for one host: of IPv6, everybody has a whole /64.
pub fn host(ip: IpAddr) -> IpAddr {
    match reached(ip) {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

impl Roster {
    /// Enters a connection. When both sides have dialled at once, both must keep the same one: that which the side with
    /// the greater id dialled; `keep_outgoing` says whether that is ours.
    ///
    /// Whom the user names is let in beside a stranger of its name, and also where its host has too many in: else strangers
    /// could keep it out, by an id that is greater than ours, or by their number. When both are one and the same, whoever has the
    /// greater id closes the connection that is not to stay: we here, at once; or the other side, for which we wait. When that
    /// closes none, the stranger goes: see [`Self::outstays`].
    pub(super) fn enter(&mut self, who: Identity, new: Member, keep_outgoing: bool, most: Most) -> Entry {
        let twin = |given| self.members.get(&(who, given)).copied();
        let (twin, namesake) = (twin(new.given), twin(!new.given));
        let loses = |to: &Member| to.outgoing == new.outgoing || to.outgoing == keep_outgoing;
        if twin.is_some_and(|twin| loses(&twin))
            || (!new.given && namesake.is_some_and(|given| loses(&given) || given.is_alone(new.since)))
        {
            return Entry::Duplicate;
        }
        if new.outgoing && self.gives_otherwise(&who, new.given) {
            return Entry::Duplicate;
        }
        let replaced = twin.or(namesake.filter(|stranger| new.given && !loses(stranger)));
        if let Some(replaced) = replaced {
            self.leave(who, replaced.tag);
        }
        let (host, network) = (host(who.0), network(who.0));
        let count = |of: &HashMap<IpAddr, usize>, key| of.get(key).copied().unwrap_or_default();
        // Who takes the place of another makes the crowd no greater.
        if !new.given && replaced.is_none() {
            if count(&self.crowds, &host) >= most.of_host {
                return Entry::Crowd;
            }
            if count(&self.networks, &network) >= most.of_network {
                return Entry::Network;
            }
        }
        *self.crowds.entry(host).or_default() += 1;
        *self.networks.entry(network).or_default() += 1;
        self.comers += usize::from(!new.outgoing);
        self.members.insert((who, new.given), new);
        self.by_id.entry(who.1).or_default().push((who, new.given));
        replaced.map_or(Entry::New, |replaced| Entry::Replaces(replaced.tag))
    }

    /// Connections that we have made to the same peer by the other family of addresses, as far as its id tells. For whom the user
    /// names, only others of whom that is true count.
    fn kin(&self, (ip, id): &Identity, given: bool) -> impl Iterator<Item = &Member> {
        let named = self.by_id.get(id).filter(|named| named.len() <= MOST_KIN).into_iter().flatten();
        let kin = named.filter(move |((other, _), other_given)| {
            other.is_ipv4() != ip.is_ipv4() && (*other_given || !given)
        });
        kin.map(|key| &self.members[key]).filter(|member| member.outgoing)
    }

    /// Whether a peer that we dial is in by the other family of addresses, and has given something there. Anybody may take an id,
    /// so who gives nothing keeps nobody out.
    pub(super) fn gives_otherwise(&self, who: &Identity, given: bool) -> bool {
        self.kin(who, given).any(|member| member.gave > 0)
    }

    /// Notes how much a peer that we have dialled has given. Says whether it gives more by the other family of addresses: then this
    /// connection is one too many, which takes a second slot of the peer's and has it counted twice.
    pub(super) fn is_outdone(&mut self, who: &Identity, given: bool, gave: u64) -> bool {
        if let Some(member) = self.members.get_mut(&(*who, given)) {
            member.gave = gave;
        }
        self.kin(who, given).any(|member| member.gave > gave)
    }

    /// The stranger who has to go: it has been in for long under the name of somebody whom the user names, beside that one, and
    /// that one, when it was last `heard`. So they are two, or the other side does not mind which connection goes. Where the
    /// connection to whom the user names has broken unnoticed, it may be itself that has come anew: then nothing is heard of the
    /// old connection, and in the end that falls for its silence.
    pub(super) fn outstays(&mut self, who: &Identity, heard: Duration) -> Option<Tag> {
        let stranger = *self.members.get(&(*who, false))?;
        let given = self.members.get_mut(&(*who, true))?;
        let long = heard >= given.since.max(stranger.since) + TOGETHER;
        long.then(|| given.outlasted = Some(heard)).map(|()| stranger.tag)
    }

    /// Takes a connection out, unless another has taken its place.
    pub(super) fn leave(&mut self, who: Identity, tag: Tag) {
        let of_tag = |given: &bool| self.members.get(&(who, *given)).is_some_and(|member| member.tag == tag);
        let Some(given) = [true, false].into_iter().find(of_tag) else { return };
        let left = self.members.remove(&(who, given));
        if let MapEntry::Occupied(mut named) = self.by_id.entry(who.1) {
            named.get_mut().retain(|key| *key != (who, given));
            if named.get().is_empty() {
                named.remove();
            }
        }
        self.comers -= usize::from(left.is_some_and(|member| !member.outgoing));
        for (of, key) in [(&mut self.crowds, host(who.0)), (&mut self.networks, network(who.0))] {
            let left = of.get(&key).map_or(0, |count| count - 1);
            _ = if left > 0 { of.insert(key, left) } else { of.remove(&key) };
        }
    }

    /// Keeps a liar out from now on; `false` when there are too many to remember this one too.
    pub(super) fn ban(&mut self, who: Identity) -> bool {
        let room = self.banned.len() < MOST_BANNED || self.banned.contains(&who);
        if room && self.banned.insert(who) {
            *self.names.entry(host(who.0)).or_default() += 1;
        }
        room
    }

    /// No core dials this address from now on; `false` when there are too many to remember this one too.
    pub(super) fn ban_address(&mut self, addr: SocketAddr) -> bool {
        let room = self.addresses.len() < MOST_BANNED || self.addresses.contains(&addr);
        if room {
            self.addresses.insert(addr);
        }
        room
    }

    /// Whether a liar listens at this address, or so many have lied at its host that nobody else is likely to. What was `given`
    /// the user knows better: it may have liars for neighbours.
    pub(super) fn is_banned_at(&self, addr: &SocketAddr, given: bool) -> bool {
        self.addresses.contains(addr) || (!given && self.is_crowded_with_liars(addr.ip()))
    }

    fn is_crowded_with_liars(&self, ip: IpAddr) -> bool {
        self.names.get(&host(ip)).is_some_and(|names| *names >= MOST_NAMES)
    }

    /// The connection of that peer: of the one whom the user names, or of who else has its name.
    pub(super) fn member(&self, who: &Identity, given: bool) -> Option<Tag> {
        self.members.get(&(*who, given)).map(|member| member.tag)
    }

    /// The connection to it that we have made, if not where the user said.
    pub(super) fn dialled(&self, who: &Identity) -> Option<Tag> {
        self.members.get(&(*who, false)).filter(|member| member.outgoing).map(|member| member.tag)
    }

    /// Whether it has lied, or so many others at its address that it is most likely the same one under a new name.
    pub(super) fn is_banned(&self, who: &Identity) -> bool {
        self.banned.contains(who) || self.is_crowded_with_liars(who.0)
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many have come to us.
    pub(super) fn comers(&self) -> usize {
        self.comers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_liar_who_takes_new_names_is_kept_out_by_its_address() {
        let who = |ip: &str, name: u8| (ip.parse().unwrap(), PeerId([name; 20]));
        let mut roster = Roster::default();
        for name in 1..8 {
            assert!(roster.ban(who("10.0.0.1", name)) && roster.ban(who("10.0.0.1", 1)), "one twice is one");
            assert!(roster.ban(who(&format!("2001:db8::{name}"), name)));
        }
        assert!(roster.is_banned(&who("10.0.0.1", 7)) && !roster.is_banned(&who("10.0.0.1", 99)));
        roster.ban(who("10.0.0.1", 8));
        roster.ban(who("2001:db8::8", 8));
        let strangers = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8::99", "10.0.0.2", "2001:db8:0:1::1"];
        let banned = strangers.map(|ip| roster.is_banned(&who(ip, 99)));
        assert_eq!(banned, [true, true, true, false, false]);
    }

    #[test]
    fn no_more_liars_are_remembered_than_fit() {
        let who = |number: u32| {
            let mut name = PeerId([0; 20]);
            name.0[..4].copy_from_slice(&number.to_be_bytes());
            (IpAddr::from([10, 0, (number >> 3) as u8, (number >> 11) as u8]), name)
        };
        let mut roster = Roster::default();
        assert!((0..MOST_BANNED as u32).all(|number| roster.ban(who(number))));
        assert!(!roster.ban(who(1 << 20)) && roster.ban(who(7)), "one that is known needs no room");
        assert_eq!(roster.banned.len(), MOST_BANNED);
    }

    const WHO: Identity = (IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)), PeerId([7; 20]));

    /// So many of one host, and three times that of a network.
    fn most(of_host: usize) -> Most {
        Most { of_host, of_network: 3 * of_host }
    }

    /// A connection that begins after so many seconds.
    fn comer(number: u64, (outgoing, given): (bool, bool)) -> Member {
        Member {
            tag: tag(number),
            outgoing,
            given,
            since: Duration::from_secs(number),
            outlasted: None,
            gave: 0,
        }
    }

    fn tag(number: u64) -> Tag {
        Tag { core: 0, number }
    }

    #[test]
    fn of_two_connections_to_one_peer_both_sides_keep_the_same() {
        let mut roster = Roster::default();
        let mut enter =
            |number, outgoing| roster.enter(WHO, comer(number, (outgoing, false)), false, most(9));
        assert_eq!(enter(1, true), Entry::New);
        assert_eq!(enter(2, true), Entry::Duplicate);
        assert_eq!(enter(2, false), Entry::Replaces(tag(1)));
        assert_eq!(enter(3, true), Entry::Duplicate);
        roster.leave(WHO, tag(1));
        assert_eq!(roster.len(), 1, "its place is the second's");
        roster.leave(WHO, tag(2));
        assert_eq!((roster.len(), roster.crowds.len(), roster.networks.len(), roster.comers()), (0, 0, 0, 0));
    }

    /// Who is in under a name, whether we dialled it and the user said where, and who comes.
    #[test]
    fn whom_the_user_names_is_in_beside_whoever_else_has_its_name() {
        let [came, dialled, given] = [(false, false), (true, false), (true, true)];
        for (first, second, keep_outgoing, entry) in [
            // The one with the greater id closes one of them.
            (came, given, false, Entry::New),
            (given, came, false, Entry::New),
            // That are we.
            (came, given, true, Entry::Replaces(tag(1))),
            (given, came, true, Entry::Duplicate),
            // Where it listens, too, as somebody else says.
            (dialled, given, false, Entry::New),
            (dialled, given, true, Entry::New),
            (given, dialled, false, Entry::Duplicate),
            (given, given, false, Entry::Duplicate),
        ] {
            let mut roster = Roster::default();
            assert_eq!(roster.enter(WHO, comer(1, first), keep_outgoing, most(9)), Entry::New);
            assert_eq!(
                roster.enter(WHO, comer(5, second), keep_outgoing, most(9)),
                entry,
                "{first:?} {second:?}"
            );
            let both = entry == Entry::New;
            assert_eq!((roster.len(), roster.crowds[&WHO.0]), if both { (2, 2) } else { (1, 1) });
            for number in [6, 7].into_iter().filter(|_| both) {
                let more =
                    roster.enter(WHO, comer(number, [came, given][number as usize - 6]), true, most(9));
                assert_eq!(more, Entry::Duplicate, "two are enough");
            }
            let stranger = tag(if first == given { 5 } else { 1 });
            let outstays = [14, 15].map(|heard| roster.outstays(&WHO, Duration::from_secs(heard)));
            assert_eq!(outstays, [None, Some(stranger).filter(|_| both)]);
            roster.leave(WHO, stranger);
            assert_eq!(roster.outstays(&WHO, Duration::from_secs(99)), None);
        }
    }

    #[test]
    fn a_peer_of_both_families_is_dialled_once_if_it_gives() {
        let [came, dialled, given] = [(false, false), (true, false), (true, true)];
        let other_family = ("2001:db8::1".parse().unwrap(), WHO.1);
        for (first, second, gave, entry) in [
            (dialled, dialled, 1, Entry::Duplicate),
            (given, dialled, 1, Entry::Duplicate),
            (given, given, 1, Entry::Duplicate),
            // Anybody may take an id: it keeps nobody out who comes, nor whom the user names, nor by giving nothing.
            (dialled, dialled, 0, Entry::New),
            (came, dialled, 1, Entry::New),
            (dialled, came, 1, Entry::New),
            (dialled, given, 1, Entry::New),
        ] {
            for (one, other) in [(WHO, other_family), (other_family, WHO)] {
                let mut roster = Roster::default();
                assert_eq!(roster.enter(one, comer(1, first), true, most(9)), Entry::New);
                if first.0 {
                    assert!(!roster.is_outdone(&one, first.1, gave));
                }
                let said = roster.enter(other, comer(2, second), true, most(9));
                assert_eq!(said, entry, "{first:?} {second:?} {gave}");
                let neighbour = (other.0, PeerId([8; 20]));
                assert_eq!(roster.enter(neighbour, comer(3, dialled), true, most(9)), Entry::New);
                roster.leave(one, tag(1));
                assert!(!roster.gives_otherwise(&other, second.1));
            }
        }
    }

    #[test]
    fn of_two_connections_to_a_peer_of_both_families_that_goes_which_gives_less() {
        let other_family = ("2001:db8::1".parse().unwrap(), WHO.1);
        let mut roster = Roster::default();
        for (number, who) in [(1, WHO), (2, other_family)] {
            assert_eq!(roster.enter(who, comer(number, (true, false)), true, most(9)), Entry::New);
        }
        assert!(!roster.is_outdone(&WHO, false, 0) && !roster.is_outdone(&other_family, false, 0));
        assert!(!roster.is_outdone(&WHO, false, 5) && roster.is_outdone(&other_family, false, 4));
        roster.leave(other_family, tag(2));
        assert!(!roster.is_outdone(&WHO, false, 5) && roster.gives_otherwise(&other_family, false));
        roster.leave(WHO, tag(1));
        assert!(roster.by_id.is_empty() && roster.members.is_empty());
    }

    #[test]
    fn a_crowd_at_its_host_keeps_nobody_out_whom_the_user_names() {
        let mut roster = Roster::default();
        let mut enter = |number, who| roster.enter(WHO, comer(number, who), false, most(1));
        assert_eq!(enter(1, (true, false)), Entry::New);
        assert_eq!(enter(2, (true, true)), Entry::New);
        assert_eq!(enter(3, (false, false)), Entry::Replaces(tag(1)), "there are no more than before");
        let neighbour = (WHO.0, PeerId([8; 20]));
        assert_eq!(roster.enter(neighbour, comer(4, (false, false)), false, most(1)), Entry::Crowd);
        roster.leave(WHO, tag(2));
        assert_eq!(roster.enter(neighbour, comer(5, (false, false)), false, most(1)), Entry::Crowd);
        assert_eq!(roster.enter(neighbour, comer(6, (true, true)), false, most(1)), Entry::New);
        assert_eq!((roster.len(), roster.crowds[&WHO.0]), (2, 2));
    }

    #[test]
    fn of_one_host_only_so_many_are_in_at_once() {
        let mut roster = Roster::default();
        let mut number = 0;
        let mut enter = |roster: &mut Roster, ip: &str, name: u8| {
            number += 1;
            let who = (ip.parse().unwrap(), PeerId([name; 20]));
            (roster.enter(who, comer(number, (false, false)), false, most(2)), who, tag(number))
        };
        let (first, who, tag) = enter(&mut roster, "10.0.0.1", 1);
        assert_eq!(first, Entry::New);
        // Neighbours of IPv6 are one host, and mapped addresses are IPv4.
        for (ip, name, entry) in [
            ("10.0.0.1", 1, Entry::Duplicate),
            ("::ffff:10.0.0.1", 2, Entry::New),
            ("10.0.0.1", 3, Entry::Crowd),
            ("64:ff9b::10.0.0.1", 3, Entry::Crowd),
            ("64:ff9b::10.0.0.2", 3, Entry::New),
            ("2001:db8::1", 1, Entry::New),
            ("2001:db8::2", 2, Entry::New),
            ("2001:db8::3", 3, Entry::Crowd),
            ("2001:db8:0:1::3", 3, Entry::New),
        ] {
            assert_eq!(enter(&mut roster, ip, name).0, entry, "{ip} {name}");
        }
        roster.leave(who, comer(99, (false, false)).tag);
        assert_eq!(enter(&mut roster, "10.0.0.1", 3).0, Entry::Crowd, "another connection has ended");
        roster.leave(who, tag);
        assert_eq!(enter(&mut roster, "10.0.0.1", 3).0, Entry::New);
        assert_eq!((roster.len(), roster.crowds.len()), (6, 4));
    }

    #[test]
    fn of_one_network_only_so_many_are_in_at_once() {
        let mut roster = Roster::default();
        let mut enter = |number: u64, ip: &str, given| {
            let family = if ip.contains(':') { 100 } else { 0 };
            let who = (ip.parse().unwrap(), PeerId([family + number as u8; 20]));
            roster.enter(who, comer(number, (given, given)), false, Most { of_host: 9, of_network: 3 })
        };
        for (network, beside) in [("8.8.8.", "8.8.9.1"), ("2600:0:0:", "2600:0:1::1")] {
            let host = |number: u64| {
                let rest = if network.contains(':') { "::1" } else { "" };
                format!("{network}{number}{rest}")
            };
            assert!((1..=3).all(|number| enter(number, &host(number), false) == Entry::New));
            assert_eq!(enter(4, &host(4), false), Entry::Network);
            assert_eq!(enter(5, &host(5), true), Entry::New, "the user knows better");
            assert_eq!(enter(6, beside, false), Entry::New);
        }
        assert_eq!((roster.comers(), roster.networks.len()), (8, 4));
    }
}
