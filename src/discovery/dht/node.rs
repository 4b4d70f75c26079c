//! The whole node as one value.

use super::answers::Held;
use super::compact::{Contact, Family};
use super::counters::DhtCounters;
use super::external::External;
use super::id::NodeId;
use super::limits::Limits;
use super::lookup::Lookup;
use super::message::{Body, Message, Refusal, parse};
use super::state::{self, Kept};
use super::store::PeerStore;
use super::table::Table;
use super::tokens::Tokens;
use super::told::Told;
use super::{encode, table};
use crate::metainfo::InfoHash;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

/// How a node behaves.
#[derive(Clone, Copy, Debug)]
pub struct DhtConfig {
    /// Families that there is a socket for, in the order of [`Family::ALL`].
    pub families: [bool; 2],
    /// Asks, but does not answer (BEP 43).
    pub read_only: bool,
    /// Has the ids of the state. Else others, for another node may have those.
    pub keep_ids: bool,
    /// How long after a search the torrent is searched again.
    pub search_interval: Duration,
    /// At least so long after one, when more peers are wished for; longer and longer if that goes on.
    pub hungry_interval: Duration,
}

impl Default for DhtConfig {
    fn default() -> Self {
        Self {
            families: [true, true],
            read_only: false,
            keep_ids: true,
            search_interval: Duration::from_secs(15 * 60),
            hungry_interval: Duration::from_secs(20),
        }
    }
}

/// What is told to others about a torrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce {
    /// The TCP port that peers can dial.
    pub port: u16,
    /// Whether it is also the port that our packets come from: then what others see of that counts.
    pub implied: bool,
}

/// Peers of a torrent that is searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Addresses that were not told before in the same search.
    pub peers: Vec<SocketAddr>,
}

/// One family: a node of its own (BEP 32).
#[derive(Debug)]
pub(super) struct Network {
    pub(super) table: Table,
    pub(super) external: External,
    /// When the id last followed the address.
    pub(super) renamed: Option<Duration>,
    /// When we last looked for ourselves.
    pub(super) joined: Option<Duration>,
    /// Nodes to begin with while the table is empty: of the last run, or of the user.
    pub(super) doors: Vec<(Option<NodeId>, SocketAddr)>,
}

/// A torrent that peers are searched for.
#[derive(Debug)]
pub(super) struct Search {
    /// By family.
    pub(super) announce: [Option<Announce>; 2],
    pub(super) next: Duration,
    /// When it was last searched.
    pub(super) last: Option<Duration>,
    /// Whether anybody has answered in the last one, and how often in a row nobody has.
    pub(super) answered: bool,
    pub(super) vain: u32,
    /// How often in a row it was searched because more peers were wished for.
    pub(super) hurried: u32,
    /// Whether the next time is before its ordinary turn.
    pub(super) early: bool,
}

/// Why a lookup is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// To fill the table.
    Nodes,
    /// To find peers of a torrent, and to announce.
    Peers(InfoHash),
}

/// A lookup with its aim.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) family: Family,
    pub(super) aim: Aim,
    pub(super) lookup: Lookup,
    pub(super) told: Told,
}

/// Why a query is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To see whether a node lives.
    Ping,
    /// To see whether a stranger who asks is there.
    Proof,
    /// For the walk of this number.
    Walk(u64),
    /// To announce.
    Announce,
}

/// A query under way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) to: SocketAddr,
    /// Who is to answer, if that is known.
    pub(super) id: Option<NodeId>,
    pub(super) purpose: Purpose,
    pub(super) sent: Duration,
    pub(super) slow: bool,
}

/// A node of the DHT: datagrams in, datagrams out. Time is an argument everywhere: the time since any fixed moment.
///
/// ```
/// use seedring::discovery::dht::{Dht, DhtConfig, Found};
/// use seedring::metainfo::InfoHash;
/// use std::time::Duration;
///
/// let config = DhtConfig { families: [true, false], ..DhtConfig::default() };
/// let (here, there) = ("10.0.0.1:6881".parse().unwrap(), "10.0.0.2:6881".parse().unwrap());
/// let mut now = Duration::ZERO;
/// let mut nodes = [Dht::new(now, config, [1; 32], &[]), Dht::new(now, config, [2; 32], &[])];
/// nodes[0].add_node(now, there);
/// let hash = InfoHash([7; 20]);
/// nodes[0].search(now, hash, [None; 2]);
/// for _ in 0..100 {
///     for (me, (from, other)) in [(here, 1), (there, 0)].into_iter().enumerate() {
///         nodes[me].tick(now);
///         while let Some((_, bytes)) = nodes[me].take_outgoing() {
///             nodes[other].hear(now, from, &bytes);
///         }
///     }
///     now = nodes.iter().map(Dht::next_deadline).min().unwrap();
/// }
/// assert_eq!(nodes[0].counters().nodes_v4, 1);
/// assert_eq!(nodes[0].take_found(), None);
/// ```
#[derive(Debug)]
pub struct Dht {
    pub(super) config: DhtConfig,
    pub(super) networks: [Option<Network>; 2],
    pub(super) pending: HashMap<[u8; 4], Pending>,
    /// How many of them are proofs.
    pub(super) proofs: usize,
    /// How many queries were sent: transaction ids follow from it.
    pub(super) asked: u64,
    pub(super) walks: BTreeMap<u64, Walk>,
    pub(super) next_walk: u64,
    pub(super) searches: BTreeMap<InfoHash, Search>,
    /// Addresses that somebody has told us of, to be pinged.
    pub(super) hints: VecDeque<SocketAddr>,
    pub(super) tokens: Tokens,
    pub(super) store: PeerStore,
    pub(super) limits: Limits,
    /// Answers to strangers.
    pub(super) held: VecDeque<Held>,
    pub(super) outgoing: VecDeque<(SocketAddr, Vec<u8>)>,
    pub(super) found: VecDeque<Found>,
    pub(super) counted: DhtCounters,
    pub(super) upkeep_at: Duration,
    /// When anybody last answered: while nobody does, it is we who are cut off.
    pub(super) answered: Option<Duration>,
    pub(super) rng: fastrand::Rng,
    pub(super) transactions: ::ring::hmac::Key,
}

impl Dht {
    /// A node. `secret`: random bytes that nobody else knows. `state`: what [`state`](Self::state) has given in an
    /// earlier run; what of it cannot be read is left aside.
    pub fn new(now: Duration, config: DhtConfig, secret: [u8; 32], state: &[u8]) -> Self {
        let seed = u64::from_be_bytes(*secret.first_chunk().expect("32 bytes"));
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut kept = state::read(state);
        let networks = Family::ALL.map(|family| {
            let kept = kept[family as usize].take();
            config.families[family as usize].then(|| {
                let (id, nodes) = kept.map_or_else(Default::default, |kept| (Some(kept.id), kept.nodes));
                let id = id.filter(|_| config.keep_ids).unwrap_or_else(|| random_id(&mut rng));
                Network {
                    table: Table::new(id, now),
                    external: External::default(),
                    renamed: None,
                    joined: None,
                    doors: nodes.into_iter().map(|node| (Some(node.id), node.addr)).collect(),
                }
            })
        });
        Self {
            config,
            networks,
            pending: HashMap::new(),
            proofs: 0,
            asked: 0,
            walks: BTreeMap::new(),
            next_walk: 0,
            searches: BTreeMap::new(),
            hints: VecDeque::new(),
            tokens: Tokens::new(secret),
            store: PeerStore::default(),
            limits: Limits::new(rng.fork()),
            held: VecDeque::new(),
            outgoing: VecDeque::new(),
            found: VecDeque::new(),
            counted: DhtCounters::default(),
            upkeep_at: now,
            answered: None,
            rng,
            transactions: ::ring::hmac::Key::new(::ring::hmac::HMAC_SHA256, &secret),
        }
    }

    /// Takes a datagram.
    pub fn hear(&mut self, now: Duration, from: SocketAddr, datagram: &[u8]) {
        self.counted.datagrams_in += 1;
        self.counted.bytes_in += datagram.len() as u64;
        let Some(family) = self.family_of(from) else { return };
        match parse(datagram) {
            Ok(Message { transaction, body: Body::Query(query) }) => {
                if self.hears_query(now, from, datagram.len()) {
                    self.answer(now, (family, from), transaction, query);
                }
            }
            Ok(Message { transaction, body: Body::Reply(reply) }) => {
                self.counted.malformed += u64::from(reply.ragged);
                self.replied(now, (family, from), transaction, &reply);
            }
            Ok(Message { transaction, body: Body::Error }) => self.refused(now, from, transaction),
            Err(Refusal::Silent) => self.counted.malformed += 1,
            Err(Refusal::Error { transaction, code, text }) => {
                self.counted.malformed += 1;
                if self.hears_query(now, from, datagram.len()) {
                    let bytes = encode::error(transaction, from, code, text);
                    self.send_error(now, from, bytes);
                }
            }
        }
        self.advance(now);
    }

    /// Does what time has made due.
    pub fn tick(&mut self, now: Duration) {
        self.time_out(now);
        self.release(now, None);
        if now >= self.upkeep_at {
            self.upkeep(now);
        }
        self.search_due(now);
        self.advance(now);
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Duration {
        let pending = self.pending.values().map(Pending::deadline);
        let searches = self.searches.values().map(|search| search.next);
        let held = self.held.iter().map(|held| held.until);
        pending.chain(searches).chain(held).chain([self.upkeep_at]).min().expect("one at least")
    }

    /// The next datagram to send.
    pub fn take_outgoing(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.outgoing.pop_front()
    }

    /// The next peers found.
    pub fn take_found(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// Searches peers of a torrent from now on, again and again, and announces it in the families where there is
    /// something to announce.
    pub fn search(&mut self, now: Duration, info_hash: InfoHash, announce: [Option<Announce>; 2]) {
        let new =
            Search { announce, next: now, last: None, answered: false, vain: 0, hurried: 0, early: false };
        self.searches.entry(info_hash).or_insert(new).announce = announce;
    }

    /// Searches the torrent again as soon as that is decent: more peers are welcome. May be called at any rate. Whoever goes on
    /// wishing is heard ever more seldom, until there are [`enough`](Self::enough) or nobody has wished for a whole turn.
    pub fn hurry(&mut self, now: Duration, info_hash: InfoHash) {
        let pause = self.config.hungry_interval;
        if let Some(search) = self.searches.get_mut(&info_hash) {
            let pause = pause * 2u32.pow(search.hurried.min(5));
            let soonest = search.last.map_or(now, |last| (last + pause).max(now));
            if soonest < search.next {
                search.next = soonest;
                search.hurried = search.hurried.saturating_add(1);
                search.early = true;
            }
        }
    }

    /// There are peers enough: the next wish for more is heard as soon as the first was.
    pub fn enough(&mut self, info_hash: InfoHash) {
        if let Some(search) = self.searches.get_mut(&info_hash) {
            search.hurried = 0;
        }
    }

    /// Searches and announces the torrent no more.
    pub fn forget(&mut self, info_hash: InfoHash) {
        self.searches.remove(&info_hash);
        self.walks.retain(|_, walk| walk.aim != Aim::Peers(info_hash));
    }

    /// Somebody says that there is a node: a peer (PORT message of BEP 5), a torrent file, the user.
    pub fn add_node(&mut self, now: Duration, addr: SocketAddr) {
        const MOST: usize = 64;
        if self.family_of(addr).is_none() || !super::compact::usable(addr, addr.ip()) {
            return;
        }
        if self.hints.len() >= MOST {
            self.counted.over_queue_limit += 1;
        } else if !self.hints.contains(&addr) {
            self.hints.push_back(addr);
            self.upkeep_at = self.upkeep_at.min(now + Duration::from_millis(50));
        }
    }

    /// Number of nodes in the tables.
    pub fn nodes(&self) -> usize {
        self.networks.iter().flatten().map(|network| network.table.len()).sum()
    }

    /// Number of nodes to begin with that are known.
    pub fn doors(&self) -> usize {
        self.networks.iter().flatten().map(|network| network.doors.len()).sum()
    }

    /// What has been counted.
    pub fn counters(&self) -> DhtCounters {
        let nodes = |family: usize| self.networks[family].as_ref().map_or(0, |n| n.table.len() as u64);
        let (torrents, peers) = self.store.len();
        DhtCounters {
            nodes_v4: nodes(0),
            nodes_v6: nodes(1),
            stored_torrents: torrents as u64,
            stored_peers: peers as u64,
            over_address_limit: self.limits.displaced(),
            ..self.counted
        }
    }

    /// What the next run may begin with.
    pub fn state(&self) -> Vec<u8> {
        let kept = |network: &Network| {
            let mut nodes = network.table.contacts();
            // A run without a network must not lose what an earlier one has learned.
            let doors =
                network.doors.iter().filter_map(|(id, addr)| Some(Contact { id: (*id)?, addr: *addr }));
            if nodes.len() < table::K {
                let known = nodes.clone();
                nodes.extend(doors.filter(|door| known.iter().all(|node| node.addr != door.addr)));
            }
            Kept { id: network.table.own(), nodes }
        };
        state::write(&[0, 1].map(|family: usize| self.networks[family].as_ref().map(kept)))
    }

    /// The family of an address, if we have a socket for it.
    pub(super) fn family_of(&self, addr: SocketAddr) -> Option<Family> {
        Some(Family::of(addr)).filter(|family| self.networks[*family as usize].is_some())
    }

    pub(super) fn network(&mut self, family: Family) -> &mut Network {
        self.networks[family as usize].as_mut().expect("only families that are there are asked for")
    }
}

/// Random bytes, as an id.
pub(super) fn random_id(rng: &mut fastrand::Rng) -> NodeId {
    let mut bytes = [0; 20];
    rng.fill(&mut bytes);
    NodeId(bytes)
}
