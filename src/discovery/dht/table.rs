//! The routing table of one family (BEP 5): many nodes near us, few far away. Only nodes get in that have answered a
//! query of ours, so nobody can fill it with names alone.

use super::compact::Contact;
use super::id::{NodeId, is_local};
use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Nodes of a bucket, and of a reply.
pub(super) const K: usize = 8;
/// Most buckets: one for each bit that can be shared with another node.
const MAX_BUCKETS: usize = 160;
/// A node that was not heard of for so long is questionable; a bucket that did not change for so long is refreshed.
pub(super) const STALE: Duration = Duration::from_secs(15 * 60);
/// A node that has failed to answer so often in a row is bad, and leaves when there is another for its place; after so
/// often it leaves in any case.
const BAD: u8 = 2;
const GONE: u8 = 4;
/// A node is pinged at most this often.
const PING_PAUSE: Duration = Duration::from_secs(60);

/// A node that has answered.
#[derive(Clone, Debug)]
struct Node {
    contact: Contact,
    /// When it last answered, or asked us something.
    heard: Duration,
    pinged: Duration,
    failures: u8,
}

impl Node {
    fn is_good(&self, now: Duration) -> bool {
        self.failures == 0 && now.saturating_sub(self.heard) < STALE
    }

    fn is_secure(&self) -> bool {
        self.contact.id.fits(self.contact.addr.ip())
    }

    /// Whether the other one has its id elsewhere, or another port of its host: there is one place for both.
    fn is_rival(&self, other: Contact) -> bool {
        let ip = self.contact.addr.ip();
        self.contact != other && (self.contact.id == other.id || (ip == other.addr.ip() && !is_local(ip)))
    }

    fn is_neighbour(&self, other: &Self) -> bool {
        same_network(self.contact.addr.ip(), other.contact.addr.ip())
    }

    /// Whether it gives way for one that has answered, though there may be room for both.
    fn yields_to(&self, other: &Self) -> bool {
        self.is_rival(other.contact) || (self.failures > 0 && self.is_neighbour(other))
    }

    /// Whether it takes the other one's place in a full bucket: that of a bad one, or of one whose id does not follow from
    /// its address (BEP 42) if its own does.
    fn outdoes(&self, other: &Self) -> bool {
        other.failures >= BAD || (self.is_secure() && !other.is_secure())
    }
}

#[derive(Clone, Debug, Default)]
struct Bucket {
    nodes: Vec<Node>,
    /// Nodes that have answered when there was no room; the last one is the freshest.
    spares: Vec<Node>,
    /// When a node of it last answered, came or went.
    changed: Duration,
}

/// Nodes by how many leading bits of our id they share; the last bucket holds all that share more.
#[derive(Debug)]
pub(super) struct Table {
    own: NodeId,
    buckets: Vec<Bucket>,
}

impl Table {
    pub(super) fn new(own: NodeId, now: Duration) -> Self {
        Self { own, buckets: vec![Bucket { changed: now, ..Bucket::default() }] }
    }

    pub(super) fn own(&self) -> NodeId {
        self.own
    }

    /// Number of nodes, spares not counted.
    pub(super) fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.nodes.len()).sum()
    }

    /// All nodes, those heard of last first.
    pub(super) fn contacts(&self) -> Vec<Contact> {
        let mut nodes: Vec<_> = self.buckets.iter().flat_map(|bucket| &bucket.nodes).collect();
        nodes.sort_by_key(|node| (node.failures, Reverse(node.heard)));
        nodes.into_iter().map(|node| node.contact).collect()
    }

    /// The nodes closest to a target that do not fail to answer; the closest first.
    pub(super) fn closest(&self, target: NodeId, most: usize) -> Vec<Contact> {
        let nodes = self.buckets.iter().flat_map(|bucket| &bucket.nodes);
        let mut found: Vec<_> = nodes.filter(|node| node.failures == 0).map(|node| node.contact).collect();
        found.sort_by_cached_key(|contact| contact.id.distance(target));
        found.truncate(most);
        found
    }

    /// A node has answered a query of ours. It gets in when there is room, or when somebody gives way for it: a silent one with
    /// its id or of its host, one of its network that fails to answer, one that is worse. Nobody goes for one that does not
    /// get in.
    pub(super) fn answered(&mut self, now: Duration, contact: Contact) {
        if contact.id == self.own {
            return;
        }
        // Whoever answers there is not what was there.
        self.forget(|other| other.contact.addr == contact.addr && other.contact.id != contact.id);
        let rival = |other: &Node| other.is_rival(contact);
        if self.nodes().any(|other| rival(other) && other.is_good(now)) {
            return;
        }
        let node = Node { contact, heard: now, pinged: now, failures: 0 };
        loop {
            let at = self.bucket_of(contact.id);
            let splits = at + 1 == self.buckets.len() && self.buckets.len() < MAX_BUCKETS;
            let bucket = &mut self.buckets[at];
            if let Some(known) = bucket.nodes.iter_mut().find(|known| known.contact == contact) {
                (known.heard, known.failures) = (now, 0);
                // What is in it is fresh: there is nothing to look up (BEP 5).
                bucket.changed = now;
                return;
            }
            let Some(room) = bucket.room_for(&node) else { return };
            if room == 0 && splits {
                self.split(now);
                continue;
            }
            if room > 0 || bucket.nodes.iter().any(|other| node.outdoes(other)) {
                self.forget(rival);
                self.buckets[at].take(now, node);
            } else if !self.nodes().any(rival) {
                self.forget(rival);
                self.buckets[at].keep_spare(node);
            }
            return;
        }
    }

    /// A node has asked us something: if it is one of ours, it lives.
    /// `true` when it is not, and there would be room for it or a use of it.
    pub(super) fn asked(&mut self, now: Duration, contact: Contact) -> bool {
        let at = self.bucket_of(contact.id);
        let last = at + 1 == self.buckets.len();
        let bucket = &mut self.buckets[at];
        match bucket.nodes.iter_mut().find(|node| node.contact.id == contact.id) {
            Some(node) => {
                if node.contact.addr == contact.addr && node.failures == 0 {
                    node.heard = now;
                }
                false
            }
            None => {
                let known = |node: &Node| node.contact.id == contact.id;
                let room =
                    bucket.nodes.len() < K || last || bucket.nodes.iter().any(|node| !node.is_good(now));
                (room || bucket.spares.len() < K) && !bucket.spares.iter().any(known)
            }
        }
    }

    /// A node has not answered in time.
    pub(super) fn failed(&mut self, now: Duration, id: NodeId, addr: SocketAddr) {
        let at = self.bucket_of(id);
        let bucket = &mut self.buckets[at];
        bucket.spares.retain(|spare| spare.contact != Contact { id, addr });
        let Some(at) = bucket.nodes.iter().position(|node| node.contact == Contact { id, addr }) else {
            return;
        };
        let node = &mut bucket.nodes[at];
        node.failures = node.failures.saturating_add(1);
        if node.failures >= BAD {
            match bucket.take_spare(at) {
                Some(spare) => bucket.nodes[at] = spare,
                None if bucket.nodes[at].failures >= GONE => _ = bucket.nodes.swap_remove(at),
                None => return,
            }
            bucket.changed = now;
        }
    }

    /// Whoever answers there has another id than it had: it is not what it was.
    pub(super) fn mistaken(&mut self, id: NodeId, addr: SocketAddr) {
        let at = self.bucket_of(id);
        let other = |node: &Node| node.contact != Contact { id, addr };
        self.buckets[at].nodes.retain(other);
        self.buckets[at].spares.retain(other);
    }

    /// The questionable nodes that are to be pinged now, longest silent first.
    pub(super) fn doubtful(&mut self, now: Duration, most: usize) -> Vec<Contact> {
        let nodes = self.buckets.iter_mut().flat_map(|bucket| &mut bucket.nodes);
        let due = |node: &&mut Node| {
            !node.is_good(now) && (node.pinged == node.heard || now.saturating_sub(node.pinged) >= PING_PAUSE)
        };
        let mut doubtful: Vec<_> = nodes.filter(due).collect();
        doubtful.sort_by_key(|node| node.heard);
        doubtful.truncate(most);
        let ping = |node: &mut Node| {
            node.pinged = now;
            node.contact
        };
        doubtful.into_iter().map(ping).collect()
    }

    /// A bucket that did not change for long, as the number of bits that its nodes share with us. It counts as changed
    /// from now on.
    pub(super) fn stale_bucket(&mut self, now: Duration) -> Option<usize> {
        let stale = |bucket: &Bucket| now.saturating_sub(bucket.changed) >= STALE;
        let at = self.buckets.iter().position(stale)?;
        self.buckets[at].changed = now;
        Some(at)
    }

    /// Whether all that must hold of a table does.
    #[cfg(test)]
    pub(super) fn is_sound(&self) -> bool {
        let alone = |bucket: &Bucket, node: &Node| {
            let ip = node.contact.addr.ip();
            bucket.nodes.iter().filter(|other| same_network(other.contact.addr.ip(), ip)).count() <= 1
        };
        self.buckets.iter().enumerate().all(|(at, bucket)| {
            let own_place = |node: &Node| self.bucket_of(node.contact.id) == at;
            bucket.nodes.len() <= K
                && bucket.spares.len() <= K
                && bucket.nodes.iter().chain(&bucket.spares).all(own_place)
                && bucket.nodes.iter().all(|node| alone(bucket, node))
        })
    }

    fn bucket_of(&self, id: NodeId) -> usize {
        self.own.shared_bits(id).min(self.buckets.len() - 1)
    }

    fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.buckets.iter().flat_map(|bucket| &bucket.nodes)
    }

    /// Removes nodes and spares.
    fn forget(&mut self, which: impl Fn(&Node) -> bool) {
        for bucket in &mut self.buckets {
            bucket.nodes.retain(|node| !which(node));
            bucket.spares.retain(|spare| !which(spare));
        }
    }

    /// Splits the last bucket, the one that we are in ourselves.
    fn split(&mut self, now: Duration) {
        let bits = self.buckets.len() - 1;
        let own = self.own;
        let farther = |node: &Node| own.shared_bits(node.contact.id) == bits;
        let last = self.buckets.pop().expect("there is always one");
        let (nodes, near) = last.nodes.into_iter().partition(farther);
        let (spares, near_spares) = last.spares.into_iter().partition(farther);
        self.buckets.push(Bucket { nodes, spares, changed: last.changed });
        self.buckets.push(Bucket { nodes: near, spares: near_spares, changed: now });
    }
}

impl Bucket {
    /// How many places there are for a node, with those of nodes that give way for it in any case. `None` when one of its
    /// network stays.
    fn room_for(&self, node: &Node) -> Option<usize> {
        let stay: Vec<&Node> = self.nodes.iter().filter(|other| !other.yields_to(node)).collect();
        let alone = !stay.iter().any(|other| other.is_neighbour(node));
        alone.then(|| K.saturating_sub(stay.len()))
    }

    /// Takes a node for which there is room, or one that it outdoes.
    fn take(&mut self, now: Duration, node: Node) {
        self.nodes.retain(|other| !other.yields_to(&node));
        self.spares.retain(|spare| spare.contact.id != node.contact.id);
        self.changed = now;
        if self.nodes.len() < K {
            self.nodes.push(node);
        } else if let Some(worse) = self.nodes.iter_mut().find(|other| node.outdoes(other)) {
            *worse = node;
        }
    }

    /// A node for which there is no room may take the place of one that fails.
    fn keep_spare(&mut self, node: Node) {
        self.spares.retain(|other| other.contact.id != node.contact.id && !other.is_neighbour(&node));
        if self.spares.len() == K {
            self.spares.remove(0);
        }
        self.spares.push(node);
    }

    /// The freshest spare that may take the place of a node.
    fn take_spare(&mut self, place: usize) -> Option<Node> {
        let free = |spare: &Node| {
            let mut others = self.nodes.iter().enumerate().filter(|(at, _)| *at != place);
            !others.any(|(_, other)| same_network(other.contact.addr.ip(), spare.contact.addr.ip()))
        };
        let at = self.spares.iter().rposition(free)?;
        Some(self.spares.remove(at))
    }
}

/// Whether two addresses probably belong to one owner. In one's own house that says nothing.
pub(super) fn same_network(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        _ if is_local(a) || is_local(b) => false,
        (IpAddr::V4(a), IpAddr::V4(b)) => a.octets()[..3] == b.octets()[..3],
        (IpAddr::V6(a), IpAddr::V6(b)) => a.octets()[..8] == b.octets()[..8],
        _ => false,
    }
}
