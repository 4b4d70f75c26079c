//! Peer exchange (BEP 11): peers tell each other whom they are connected to.

use super::reached::{is_local, may_name, reached};
use super::speak::Speech;
use super::tellers::Teller;
use super::{DropReason, PeerSlot, Swarm, Tag};
use crate::wire::extended::{Extension, MAX_PEX_PEERS, PexFlags, PexMessage};
use crate::wire::{canonical, is_of_a_link};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Time between two messages to a peer, and the time in which so many are taken from one.
const INTERVAL: Duration = Duration::from_secs(60);
const MOST_IN_INTERVAL: usize = 6;
/// Time until the next look when nothing was new.
const LOOK: Duration = Duration::from_secs(5);
/// Peers that one peer is kept informed of.
const MOST_TOLD: usize = 200;

/// A connected peer, as others may be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    addr: SocketAddr,
    flags: PexFlags,
    /// It has sent us payload.
    gives: bool,
}

/// All connected peers of a torrent whose listening address is known, on whichever core.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    peers: BTreeMap<Tag, Neighbour>,
    /// The same by where they listen, but for what is good on one link only: nobody can dial that who is not told which.
    places: BTreeMap<(SocketAddr, Tag), PexFlags>,
    /// How often somebody has come, gone or changed: a look at them costs as much as there are.
    changes: u64,
}

impl Neighbours {
    fn insert(&mut self, tag: Tag, neighbour: Neighbour) {
        let before = self.peers.insert(tag, neighbour);
        if before == Some(neighbour) {
            return;
        }
        self.changes += 1;
        before.into_iter().for_each(|before| _ = self.places.remove(&(before.addr, tag)));
        if !is_of_a_link(neighbour.addr) {
            self.places.insert((neighbour.addr, tag), neighbour.flags);
        }
    }

    pub(super) fn remove(&mut self, tag: &Tag) {
        let Some(gone) = self.peers.remove(tag) else { return };
        self.changes += 1;
        self.places.remove(&(gone.addr, *tag));
    }

    /// Who listens there, of all but one.
    fn at(&self, addr: SocketAddr, but: Tag) -> Option<PexFlags> {
        let there = self.places.range((addr, Tag::FIRST)..).take_while(|((place, _), _)| *place == addr);
        there.filter(|((_, tag), _)| *tag != but).map(|(_, flags)| *flags).last()
    }

    /// Where all but one listen, in order, each place once.
    fn all(&self, but: Tag) -> impl Iterator<Item = (SocketAddr, PexFlags)> {
        let mut all = self.places.iter().filter(move |((_, tag), _)| *tag != but).peekable();
        std::iter::from_fn(move || {
            let ((addr, _), mut flags) = all.next()?;
            while let Some((_, later)) = all.next_if(|((other, _), _)| other == addr) {
                flags = later;
            }
            Some((*addr, *flags))
        })
    }

    /// Where they listen, and whether that is sure: we have met one there, or it gives us something. Else it is the word of somebody
    /// who has come to us.
    pub(super) fn addrs(&self) -> HashMap<SocketAddr, bool> {
        let mut addrs = HashMap::new();
        for neighbour in self.peers.values() {
            *addrs.entry(neighbour.addr).or_default() |=
                neighbour.gives || neighbour.flags.0 & PexFlags::REACHABLE != 0;
        }
        addrs
    }

    /// Whether one of them is neither on this machine nor in a network of its own.
    pub(super) fn reach_out(&self) -> bool {
        self.peers.values().any(|neighbour| !is_local(neighbour.addr.ip()))
    }
}

/// What has been exchanged with one peer.
#[derive(Debug, Default)]
pub(super) struct Pex {
    next: Duration,
    /// Whom it was told of, and whether as a seed.
    told: BTreeMap<SocketAddr, bool>,
    /// [`Neighbours::changes`] when there was nothing new for it.
    seen: Option<u64>,
    pace: PexPace,
}

/// How often a peer tells us of others: when its last messages came.
#[derive(Debug, Default)]
pub struct PexPace(VecDeque<Duration>);

impl PexPace {
    /// A message has come; `false` when too many have.
    pub fn take(&mut self, now: Duration) -> bool {
        let old = |at: &Duration| now >= *at + INTERVAL;
        while self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        let room = self.0.len() < MOST_IN_INTERVAL;
        if room {
            self.0.push_back(now);
        }
        room
    }
}

impl Pex {
    /// Whether it is time to tell the peer.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// What is new since the last message, of all but the peer itself.
    fn news(&mut self, neighbours: &Neighbours, itself: Tag, skip: usize) -> PexMessage {
        if self.seen == Some(neighbours.changes) {
            return PexMessage::default();
        }
        // Who is a seed no more is told of anew, by the next message: seeds would leave it alone for ever.
        let is_gone = |(addr, as_seed): &(&SocketAddr, &bool)| {
            neighbours.at(**addr, itself).is_none_or(|flags| **as_seed && !flags.is_seed())
        };
        let dropped: Vec<SocketAddr> =
            self.told.iter().filter(is_gone).take(MAX_PEX_PEERS).map(|(addr, _)| *addr).collect();
        dropped.iter().for_each(|addr| _ = self.told.remove(addr));
        let room = MAX_PEX_PEERS.min(MOST_TOLD - self.told.len());
        let is_new =
            |addr: &SocketAddr| !self.told.contains_key(addr) && dropped.binary_search(addr).is_err();
        // Who has heard of as many as it may costs no look at all there are.
        let mut added: Vec<(SocketAddr, PexFlags)> = match room {
            0 => Vec::new(),
            _ => neighbours.all(itself).filter(|(addr, _)| is_new(addr)).collect(),
        };
        // When there are too many, each peer hears of others first.
        if added.len() > room {
            let first = skip % added.len();
            added.rotate_left(first);
            added.truncate(room);
        }
        self.told.extend(added.iter().map(|(addr, flags)| (*addr, flags.is_seed())));
        let news = PexMessage { added, dropped, cut: false };
        self.seen = news.is_empty().then_some(neighbours.changes);
        news
    }
}

/// Whether it may make sense to dial what this sender has told.
pub fn is_usable(addr: SocketAddr, sender: IpAddr) -> bool {
    let ip = addr.ip();
    let nobody = match reached(ip) {
        IpAddr::V4(ip) => {
            // "This network", what is reserved, and what is for measuring networks.
            let [first, second, ..] = ip.octets();
            first == 0 || first >= 240 || ip.is_documentation() || (first == 198 && second & 0xfe == 18)
        }
        IpAddr::V6(_) => false,
    };
    !nobody && addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && may_name(sender, ip)
}

impl Swarm {
    /// Makes the peer known to all cores, once it is known where it listens: none dials it, and others are told of it.
    pub(super) fn make_known(&mut self, slot: PeerSlot) {
        let Some(addr) = self.listens_at(slot) else { return };
        let Some(peer) = self.peers.get(slot).filter(|peer| !peer.dropped) else { return };
        let flags = [
            (peer.encrypted, PexFlags::ENCRYPTION),
            (peer.gives_only(), PexFlags::SEED),
            (peer.who.outgoing, PexFlags::REACHABLE),
        ];
        let flags = flags.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, flag)| flags | flag);
        self.commons
            .neighbours()
            .insert(peer.tag, Neighbour { addr, flags: PexFlags(flags), gives: peer.downloaded > 0 });
    }

    /// The handshake of this peer was encrypted: others who are told of it are told that it does that.
    pub fn is_encrypted(&mut self, slot: PeerSlot) {
        if let Some(peer) = self.peers.get_mut(slot) {
            peer.encrypted = true;
        }
        self.make_known(slot);
    }

    /// The peer that was dialled there has not answered a handshake of this kind: it may wait for the other, and hang up on none.
    pub fn is_silent_at(&mut self, addr: &SocketAddr, encrypted: bool) {
        self.candidates.known().is_silent_at(addr, encrypted);
    }

    /// Whether the peer at this address is said to encrypt its connections: then it is best dialled so.
    pub fn may_encrypt(&self, addr: &SocketAddr) -> bool {
        self.candidates.known().is_encrypting(addr)
    }

    /// Whether the peer should be told who has come and gone.
    pub(super) fn owes_pex(&self, now: Duration, slot: PeerSlot) -> bool {
        self.settings.greeting.speaks_pex()
            && self.peers.get(slot).is_some_and(|peer| {
                peer.extended.ids.get(Extension::Pex).is_some() && peer.extended.pex.is_due(now)
            })
    }

    pub(super) fn say_pex(&mut self, now: Duration, slot: PeerSlot, speech: &mut Speech<'_>) {
        if !self.owes_pex(now, slot) {
            return;
        }
        let skip = self.rng.usize(..);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Some(id) = peer.extended.ids.get(Extension::Pex) else { return };
        let news = peer.extended.pex.news(&self.commons.neighbours(), peer.tag, skip);
        peer.extended.pex.next = now + if news.is_empty() { LOOK } else { INTERVAL };
        if !news.is_empty() {
            speech.say_extended(id, &news.encode());
            self.totals.exchange.said += 1;
        }
    }

    /// Whether an address that a peer tells of is new, and not one port of a host too many: whoever wants a host to be dialled
    /// over and over names many of them. In networks like ours any number may be on one.
    fn takes_told(&self, addr: SocketAddr, teller: Teller) -> bool {
        let known = self.candidates.known();
        is_local(addr.ip()) || !(known.is_known(&addr) || known.is_crowd(addr.ip(), teller))
    }

    pub(super) fn hear_pex(
        &mut self,
        now: Duration,
        slot: PeerSlot,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        if !self.settings.greeting.speaks_pex() {
            return Ok(());
        }
        let Some(peer) = self.peers.get_mut(slot) else { return Ok(()) };
        let (sender, teller) = (peer.who.addr.ip(), Teller::new(peer.who.addr));
        let counts = &mut self.totals.exchange;
        if !peer.extended.pex.pace.take(now) {
            counts.too_often += 1;
            return self.offend(slot);
        }
        let Some(message) = PexMessage::parse(payload) else {
            counts.unread += 1;
            return self.offend(slot);
        };
        counts.heard += 1;
        counts.peers += message.added.len() as u64;
        counts.too_long += u64::from(message.cut);
        self.totals.limits.addresses += u64::from(message.cut);
        for (addr, flags) in message.added {
            let addr = canonical(addr);
            let ourselves =
                self.settings.greeting.port == Some(addr.port()) && self.outside.ip(addr.ip()) == addr.ip();
            let useful = !ourselves && is_usable(addr, sender) && self.takes_told(addr, teller);
            self.totals.exchange.unused += u64::from(!useful);
            // What is known already nobody shall hide by saying that it is a seed.
            if useful && self.note_told(addr, teller) && flags.is_seed() && self.is_seeding() {
                self.candidates.known().is_told_seed(&addr);
            }
            // That it encrypts is heard of what is known, too.
            if flags.encrypts() {
                self.candidates.known().encrypts(&addr);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn neighbours(numbers: impl IntoIterator<Item = u16>) -> Neighbours {
        let one = |number: u16| {
            let neighbour = Neighbour { addr: addr(number), flags: PexFlags(0), gives: false };
            (Tag { core: 0, number: number.into() }, neighbour)
        };
        let mut neighbours = Neighbours::default();
        numbers.into_iter().map(one).for_each(|(tag, neighbour)| neighbours.insert(tag, neighbour));
        // Others differ in this too.
        neighbours.changes = neighbours.peers.keys().map(|tag| tag.number).sum();
        neighbours
    }

    fn addr(number: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], number))
    }

    #[test]
    fn first_all_then_what_has_changed_and_never_the_peer_itself() {
        let mut pex = Pex::default();
        let itself = Tag { core: 0, number: 3 };
        let first = pex.news(&neighbours(1..=4), itself, 7);
        assert_eq!(first.added.iter().map(|(a, _)| *a).collect::<Vec<_>>(), [1, 2, 4].map(addr));
        assert_eq!(first.dropped, []);
        assert!(pex.news(&neighbours(1..=4), itself, 7).is_empty());
        let next = pex.news(&neighbours([1, 3, 4, 9]), itself, 7);
        assert_eq!((next.added, next.dropped), (vec![(addr(9), PexFlags(0))], vec![addr(2)]));
    }

    #[test]
    fn who_is_a_seed_no_more_goes_and_comes_again() {
        let (mut pex, mut known) = (Pex::default(), neighbours(1..=2));
        let mut news = |flags: u8| {
            let one = Neighbour { addr: addr(1), flags: PexFlags(flags), gives: false };
            known.insert(Tag { core: 0, number: 1 }, one);
            pex.news(&known, Tag { core: 1, number: 1 }, 0)
        };
        assert_eq!(news(PexFlags::SEED).added.len(), 2);
        assert_eq!((news(0).dropped, news(0).added), (vec![addr(1)], vec![(addr(1), PexFlags(0))]));
        assert!(news(PexFlags::SEED).is_empty() && news(0).is_empty(), "it was told of as none");
    }

    #[test]
    fn two_at_one_place_are_one_until_both_have_gone_or_moved() {
        let (mut pex, mut known) = (Pex::default(), Neighbours::default());
        let one = |number| Neighbour { addr: addr(number), flags: PexFlags(0), gives: false };
        let [first, second, itself] = [1, 2, 3].map(|number| Tag { core: 0, number });
        let added = |news: &PexMessage| news.added.iter().map(|(addr, _)| *addr).collect::<Vec<_>>();
        [first, second, itself].into_iter().for_each(|tag| known.insert(tag, one(1)));
        assert_eq!(added(&pex.news(&known, itself, 0)), [addr(1)]);
        known.remove(&first);
        assert!(pex.news(&known, itself, 0).is_empty());
        known.insert(second, one(2));
        let news = pex.news(&known, itself, 0);
        assert_eq!((added(&news), news.dropped), (vec![addr(2)], vec![addr(1)]));
        known.remove(&second);
        assert_eq!(pex.news(&known, itself, 0).dropped, [addr(2)]);
        known.remove(&itself);
        assert!(known.places.is_empty());
    }

    #[test]
    fn what_is_good_on_one_link_only_is_not_told() {
        let mut known = neighbours(1..=2);
        let one = Neighbour { addr: "[fe80::1%7]:6881".parse().unwrap(), flags: PexFlags(0), gives: false };
        known.insert(Tag { core: 0, number: 9 }, one);
        let news = Pex::default().news(&known, Tag { core: 1, number: 1 }, 0);
        assert_eq!(news.added.iter().map(|(addr, _)| *addr).collect::<Vec<_>>(), [1, 2].map(addr));
    }

    #[test]
    fn a_message_holds_fifty_and_a_peer_is_told_of_two_hundred() {
        let mut pex = Pex::default();
        let itself = Tag { core: 1, number: 0 };
        let crowd = neighbours(1..=1000);
        let mut told = BTreeSet::new();
        for round in 0..8 {
            let news = pex.news(&crowd, itself, 900);
            assert_eq!(news.added.len(), if round < 4 { 50 } else { 0 });
            assert!(news.added.iter().all(|(addr, _)| told.insert(*addr)), "nobody is told twice");
        }
        let news = pex.news(&neighbours([]), itself, 0);
        assert_eq!((news.dropped.len(), pex.told.len()), (50, 150));
    }

    #[test]
    fn a_flood_of_messages_is_noticed_and_a_steady_peer_is_not() {
        let mut pace = PexPace::default();
        let taken = (0..100).filter(|n| pace.take(Duration::from_millis(*n))).count();
        assert_eq!(taken, MOST_IN_INTERVAL);
        assert!((2..100).all(|minute| pace.take(INTERVAL * minute)));
    }

    #[test]
    fn addresses_where_nobody_can_be_are_not_dialled() {
        let usable = |addr: &str, sender: &str| is_usable(addr.parse().unwrap(), sender.parse().unwrap());
        let (far, near) = ("8.8.8.8", "192.168.1.5");
        for addr in ["9.9.9.9:1", "[2600::1]:6881"] {
            assert!(usable(addr, far) && usable(addr, near), "{addr}");
        }
        for addr in [
            "10.1.1.1:1",
            "100.64.0.9:1",
            "127.0.0.1:80",
            "192.168.0.1:1",
            "169.254.1.1:1",
            "[fe80::1]:1",
            "[::1]:1",
        ] {
            assert!(!usable(addr, far) && usable(addr, near), "{addr}");
        }
        for addr in ["[::127.0.0.1]:1", "[64:ff9b::10.0.0.1]:1"] {
            assert!(!usable(addr, far), "{addr}");
        }
        let nowhere =
            ["240.0.0.1:1", "198.19.0.1:1", "255.255.255.255:1", "0.0.0.0:1", "0.1.2.3:1", "224.0.0.1:1"];
        for addr in nowhere.into_iter().chain(["9.9.9.9:0", "[ff02::1]:1"]) {
            assert!(!usable(addr, far) && !usable(addr, near), "{addr}");
        }
    }
}
