//! An iterative lookup (BEP 5): asks the closest nodes it knows for closer ones, until the closest have all answered.
//! It always ends: each node is asked once, and only so many are.

use super::compact::Contact;
use super::id::{NodeId, is_local};
use super::table::K;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

/// Queries under way at once. Those that take long do not count.
const PARALLEL: usize = 4;
/// Most queries, most nodes remembered, and the longest time of a lookup.
const MAX_QUERIES: usize = 128;
const MAX_CANDIDATES: usize = 100;
const LONGEST: Duration = Duration::from_secs(60);
/// A lookup ends when so many of the closest have answered, or K of those whose id follows from their address (BEP 42):
/// whoever has a few addresses, and takes ids as near to the target as can be, is not all that it finds.
const ENOUGH: usize = 3 * K;
/// Most nodes that are believed of one reply. After so many of them did not answer, the others are not asked.
const MAX_NODES: usize = K;
const MAX_LIES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Fresh,
    Asked,
    /// Asked a while ago.
    Slow,
    Answered,
    Failed,
}

/// A node to ask. A bootstrap node's id is not known before it answers.
#[derive(Debug)]
struct Candidate {
    id: Option<NodeId>,
    addr: SocketAddr,
    standing: Standing,
    /// Who has named it.
    source: Option<SocketAddr>,
    token: Option<Vec<u8>>,
}

impl Candidate {
    /// Whether it was asked and may answer yet.
    fn waits(&self) -> bool {
        matches!(self.standing, Standing::Asked | Standing::Slow)
    }

    fn is_secure(&self) -> bool {
        self.id.is_some_and(|id| id.fits(self.addr.ip()))
    }
}

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Lookup {
    target: NodeId,
    /// Closest first; those without an id last.
    candidates: Vec<Candidate>,
    queries: usize,
    started: Duration,
    /// Of each source, how many of the nodes that it named are slow or have failed, less those that have answered.
    lies: HashMap<SocketAddr, u8>,
    hits: Hits,
}

/// How often limits of a lookup have said no.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// Nodes left out, that were not asked yet.
    pub(super) left_out: u64,
    /// Nodes that had named too many who did not answer.
    pub(super) liars: u64,
}

impl Lookup {
    pub(super) fn new(now: Duration, target: NodeId) -> Self {
        Self {
            target,
            candidates: Vec::new(),
            queries: 0,
            started: now,
            lies: HashMap::new(),
            hits: Hits::default(),
        }
    }

    pub(super) fn target(&self) -> NodeId {
        self.target
    }

    /// Begins also with a node of our own knowledge.
    pub(super) fn start_with(&mut self, id: Option<NodeId>, addr: SocketAddr) {
        self.add(id, addr, None);
    }

    /// The next node to ask, whose query is under way from now on.
    pub(super) fn next(&mut self, now: Duration) -> Option<(Option<NodeId>, SocketAddr)> {
        let under_way = self.candidates.iter().filter(|other| other.standing == Standing::Asked).count();
        if under_way >= PARALLEL || self.queries >= MAX_QUERIES || self.is_late(now) {
            return None;
        }
        let at = self.next_fresh()?;
        self.queries += 1;
        let candidate = &mut self.candidates[at];
        candidate.standing = Standing::Asked;
        Some((candidate.id, candidate.addr))
    }

    /// Whether nothing more is to come.
    pub(super) fn is_done(&self, now: Duration) -> bool {
        let more = self.queries < MAX_QUERIES && self.next_fresh().is_some();
        self.is_late(now) || (!more && !self.waits())
    }

    /// Whether there was more to do when it was done.
    pub(super) fn is_cut(&self) -> bool {
        self.waits() || self.next_fresh().is_some()
    }

    /// What limits have said no to, since the last time.
    pub(super) fn take_hits(&mut self) -> Hits {
        std::mem::take(&mut self.hits)
    }

    /// A node has answered, and has named others.
    pub(super) fn answered(&mut self, contact: Contact, nodes: &[Contact], token: Option<&[u8]>) {
        let Some(at) = self.position(contact.addr) else { return };
        let mut candidate = self.candidates.remove(at);
        candidate.standing = Standing::Answered;
        candidate.token = token.map(<[u8]>::to_vec);
        candidate.id = Some(contact.id);
        if let Some(lies) = candidate.source.and_then(|source| self.lies.get_mut(&source)) {
            *lies = lies.saturating_sub(1);
        }
        self.insert(candidate);
        self.hits.left_out += nodes.len().saturating_sub(MAX_NODES) as u64;
        for node in nodes.iter().take(MAX_NODES) {
            self.add(Some(node.id), node.addr, Some(contact.addr));
        }
    }

    /// A node takes long: another is asked beside it.
    pub(super) fn slow(&mut self, addr: SocketAddr) {
        if let Some(at) = self.position(addr) {
            self.doubt(at);
            self.candidates[at].standing = Standing::Slow;
        }
    }

    /// A node has not answered, or not as itself.
    pub(super) fn failed(&mut self, addr: SocketAddr) {
        let Some(at) = self.position(addr) else { return };
        if self.candidates[at].standing == Standing::Asked {
            self.doubt(at);
        }
        self.candidates[at].standing = Standing::Failed;
    }

    /// The closest nodes that have answered, with their tokens: K of them, and those that are needed to make K whose id
    /// follows from their address.
    pub(super) fn closest(&self) -> impl Iterator<Item = (Contact, Option<&[u8]>)> {
        let answered = self.candidates.iter().filter(|other| other.standing == Standing::Answered);
        let mut secure = 0;
        answered
            .enumerate()
            .filter(move |(at, other)| {
                secure += usize::from(other.is_secure());
                *at < K || (other.is_secure() && secure <= K)
            })
            .map(|(_, other)| other)
            .filter_map(|other| Some((Contact { id: other.id?, addr: other.addr }, other.token.as_deref())))
    }

    /// How many nodes have answered.
    pub(super) fn answers(&self) -> usize {
        self.candidates.iter().filter(|other| other.standing == Standing::Answered).count()
    }

    fn is_late(&self, now: Duration) -> bool {
        now.saturating_sub(self.started) >= LONGEST
    }

    fn position(&self, addr: SocketAddr) -> Option<usize> {
        self.candidates.iter().position(|other| other.addr == addr && other.waits())
    }

    /// Whether an answer is to come.
    fn waits(&self) -> bool {
        self.candidates.iter().any(Candidate::waits)
    }

    /// The closest node that was not asked yet, unless enough closer ones have answered.
    fn next_fresh(&self) -> Option<usize> {
        let (mut answered, mut secure) = (0, 0);
        for (at, candidate) in self.candidates.iter().enumerate() {
            match candidate.standing {
                Standing::Answered => {
                    answered += 1;
                    secure += usize::from(candidate.is_secure());
                }
                Standing::Fresh if !self.is_doubted(candidate) => return Some(at),
                _ => {}
            }
            if secure == K || answered == ENOUGH {
                return None;
            }
        }
        None
    }

    /// A node is not what its source has promised.
    fn doubt(&mut self, at: usize) {
        if let Some(source) = self.candidates[at].source {
            let lies = self.lies.entry(source).or_default();
            *lies = lies.saturating_add(1);
            self.hits.liars += u64::from(*lies == MAX_LIES);
        }
    }

    fn is_doubted(&self, candidate: &Candidate) -> bool {
        candidate.source.is_some_and(|source| self.lies.get(&source).is_some_and(|lies| *lies >= MAX_LIES))
    }

    fn add(&mut self, id: Option<NodeId>, addr: SocketAddr, source: Option<SocketAddr>) {
        let known = |other: &Candidate| {
            other.addr == addr
                || (other.addr.ip() == addr.ip() && !is_local(addr.ip()))
                || (id.is_some() && other.id == id)
        };
        if let Some(at) = self.candidates.iter().position(known) {
            // Somebody else vouches for it.
            if self.candidates[at].addr == addr && self.is_doubted(&self.candidates[at]) {
                self.candidates[at].source = source;
            }
        } else {
            self.insert(Candidate { id, addr, standing: Standing::Fresh, source, token: None });
        }
    }

    /// Puts it in its place. When there are too many, the farthest that waits for nothing goes.
    fn insert(&mut self, candidate: Candidate) {
        let target = self.target;
        let far = |id: Option<NodeId>| id.map_or([0xff; 20], |id| id.distance(target));
        let distance = far(candidate.id);
        let at = self.candidates.partition_point(|other| far(other.id) <= distance);
        self.candidates.insert(at, candidate);
        if self.candidates.len() > MAX_CANDIDATES
            && let Some(at) = self.candidates.iter().rposition(|other| !other.waits())
        {
            let gone = self.candidates.remove(at);
            self.hits.left_out += u64::from(gone.standing == Standing::Fresh);
        }
    }
}
