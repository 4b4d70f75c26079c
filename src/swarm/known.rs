//! What all cores know together of the addresses in their books, so that no limit holds on each core for itself: how many are there by
//! the word of whom, where somebody is dialling, and how often that has failed.

use super::candidates::Source;
use super::networks::Counted;
use super::networks::Networks;
use super::reached::is_local;
use super::tellers::{Teller, Tellers};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Wait after the first failure, and until another look when another core is dialling; doubled by each further failure.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Ports of a host that are taken from peers as long as nobody knows whether somebody is there; and of these, by the word of one.
/// So one that names dead ports does not hide the right one that another names.
const MOST_TOLD: usize = 3;
const MOST_TOLD_BY_ONE: usize = 2;

/// An address that is in the book of some core.
#[derive(Debug, Default)]
struct Target {
    /// In how many books.
    books: usize,
    dialling: bool,
    /// That dial, if it counts against its network.
    counted: Option<Counted>,
    failures: u32,
    not_before: Duration,
    /// The peer that told of it, until somebody was met there or a better source has named it.
    teller: Option<Teller>,
    /// When it was dialled last.
    dialled: Option<Duration>,
    /// Whoever is there is said to have everything, to encrypt.
    seed: bool,
    encrypts: bool,
    /// The kind of handshake, encrypted or not, that it has not answered last.
    silent_at: Option<bool>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) tellers: Tellers,
    pub(super) networks: Networks,
    targets: BTreeMap<SocketAddr, Target>,
}

impl Known {
    /// A core takes the address into its book, by the word of that peer if nobody else has named it. Gives how many failures it
    /// begins with there.
    pub(super) fn enter(&mut self, addr: SocketAddr, teller: Option<Teller>) -> u32 {
        let target = self.targets.entry(addr).or_default();
        target.teller = if target.books == 0 { teller } else { target.teller.and(teller) };
        target.books += 1;
        target.failures
    }

    /// A core has it in its book no more. What has failed is forgotten with the last one.
    pub(super) fn leave(&mut self, addr: &SocketAddr) {
        let Some(target) = self.targets.get_mut(addr) else { return };
        target.books -= 1;
        if target.books == 0 {
            self.targets.remove(addr);
        }
    }

    /// The address is there by more than the word of a peer.
    pub(super) fn confirm(&mut self, addr: &SocketAddr) {
        self.targets.get_mut(addr).into_iter().for_each(|target| target.teller = None);
    }

    /// What is known of a host, whatever the port.
    fn of_host(&self, ip: IpAddr) -> impl Iterator<Item = &Target> {
        self.targets.range(SocketAddr::new(ip, 0)..=SocketAddr::new(ip, u16::MAX)).map(|(_, target)| target)
    }

    /// Whether an address of this host is in some book, whatever its port.
    #[cfg(test)]
    pub(super) fn knows_host(&self, ip: IpAddr) -> bool {
        self.of_host(ip).next().is_some()
    }

    /// Whether the address is in some book.
    pub(super) fn is_known(&self, addr: &SocketAddr) -> bool {
        self.targets.contains_key(addr)
    }

    /// Whether so many ports of a host were told of by peers, and by this one, that no more are taken. What has failed does not
    /// count, nor seeds that nobody would dial.
    pub(super) fn is_crowd(&self, ip: IpAddr, teller: Teller) -> bool {
        let open = self.of_host(ip).filter(|target| target.failures == 0 && !target.seed);
        let tellers: Vec<Teller> = open.filter_map(|target| target.teller).collect();
        let own = tellers.iter().filter(|other| **other == teller).count();
        tellers.len() >= MOST_TOLD || own >= MOST_TOLD_BY_ONE
    }

    /// Whoever is there is said to have everything. (What a better source than peers has named none of them can hide by that.)
    pub(super) fn is_told_seed(&mut self, addr: &SocketAddr) {
        let told = self.targets.get_mut(addr).filter(|target| target.teller.is_some());
        told.into_iter().for_each(|target| target.seed = true);
    }

    /// Whoever is there has shown that it has everything, or that it has not, whatever was said or shown before.
    pub(super) fn is_seed(&mut self, addr: &SocketAddr, seed: bool) {
        self.targets.get_mut(addr).into_iter().for_each(|target| target.seed = seed);
    }

    /// Whether that is known, or said.
    pub(super) fn has_all(&self, addr: &SocketAddr) -> bool {
        self.targets.get(addr).is_some_and(|target| target.seed)
    }

    /// Whoever is there is said to encrypt.
    pub(super) fn encrypts(&mut self, addr: &SocketAddr) {
        self.targets.get_mut(addr).into_iter().for_each(|target| target.encrypts = true);
    }

    /// Whoever is there has not answered a handshake of this kind.
    pub(super) fn is_silent_at(&mut self, addr: &SocketAddr, encrypted: bool) {
        self.targets.get_mut(addr).into_iter().for_each(|target| target.silent_at = Some(encrypted));
    }

    /// Whether it is best dialled with encryption: what is said holds until it is found to be wrong.
    pub(super) fn is_encrypting(&self, addr: &SocketAddr) -> bool {
        let Some(target) = self.targets.get(addr) else { return false };
        target.silent_at.map_or(target.encrypts, |encrypted| !encrypted)
    }

    /// Whether the host was dialled just before: where only peers say that somebody is, whoever has their victim dialled by many
    /// names of it has to wait.
    pub(super) fn rests(&self, addr: &SocketAddr, source: Source, now: Duration) -> bool {
        let lately = |target: &Target| target.dialled.is_some_and(|at| now < at + FIRST_WAIT);
        source == Source::Exchange && !is_local(addr.ip()) && self.of_host(addr.ip()).any(lately)
    }

    /// How often dials there have failed in a row, and when it may be dialled next. What was `given` to a core by the user need not wait
    /// as long as others have to.
    pub(super) fn standing(&self, addr: &SocketAddr, now: Duration, given: bool) -> (u32, Duration) {
        let Some(target) = self.targets.get(addr) else { return Default::default() };
        let waits = if given { Duration::ZERO } else { target.not_before };
        (target.failures, if target.dialling { now + FIRST_WAIT } else { waits })
    }

    /// A core dials it; `false` when another one does, the host rests, or its network has no room.
    pub(super) fn begin(&mut self, addr: &SocketAddr, source: Source, now: Duration) -> bool {
        if self.rests(addr, source, now) || !self.networks.has_room(addr.ip(), source, now) {
            return false;
        }
        let Some(target) = self.targets.get_mut(addr).filter(|target| !target.dialling) else { return false };
        (target.dialling, target.dialled) = (true, Some(now));
        target.counted = self.networks.count(addr.ip(), source, now);
        true
    }

    /// The dial is over; nobody was met if it was `in_vain`.
    pub(super) fn end(&mut self, addr: &SocketAddr, in_vain: bool) {
        let Some(target) = self.targets.get_mut(addr) else { return };
        target.dialling = false;
        if let Some(counted) = target.counted.take().filter(|_| !in_vain) {
            self.networks.take_back(counted);
        }
    }

    /// A dial has failed, or a connection has ended; one that was `useful` is a new start. Waits are no longer than `longest`.
    /// Gives how often it has failed and when it may be dialled next.
    pub(super) fn fails(
        &mut self,
        addr: &SocketAddr,
        now: Duration,
        useful: bool,
        longest: Duration,
    ) -> (u32, Duration) {
        let Some(target) = self.targets.get_mut(addr) else { return (0, now) };
        target.failures = if useful { 1 } else { target.failures + 1 };
        let doublings = (target.failures - 1).min(16);
        target.not_before = now + FIRST_WAIT.saturating_mul(1 << doublings).min(longest);
        (target.failures, target.not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{Candidates, Source};
    use super::*;
    use std::sync::{Arc, Mutex};

    fn addr(last: u8) -> SocketAddr {
        SocketAddr::from(([8, 8, 8, last], 1))
    }

    /// The books of so many cores.
    fn books(cores: usize) -> Vec<Candidates> {
        let known = Arc::<Mutex<Known>>::default();
        (0..cores).map(|_| Candidates::new(Arc::clone(&known))).collect()
    }

    #[test]
    fn an_address_that_all_cores_know_is_dialled_as_often_as_one_that_one_knows() {
        let dials = |cores| {
            let mut books = books(cores);
            books.iter_mut().for_each(|book| assert!(book.add(addr(1), Source::Tracker)));
            let mut dials = 0;
            for second in 0..20_000 {
                let now = Duration::from_secs(second);
                let due: Vec<bool> =
                    books.iter_mut().map(|book| !book.take_due(now, 9, false, |_| 0).is_empty()).collect();
                let at_once = due.iter().filter(|due| **due).count();
                assert!(at_once <= 1, "{at_once} cores dial at the same time");
                dials += at_once;
                let dialling = books.iter_mut().zip(due).filter(|(_, due)| *due);
                dialling.for_each(|(book, _)| book.ended(now, addr(1), false));
            }
            (dials, books.iter().map(Candidates::given_up).sum::<u64>(), books[0].knows_host(addr(1).ip()))
        };
        assert_eq!([dials(1), dials(4)], [(9, 1, false); 2]);
    }

    #[test]
    fn what_one_core_has_tried_in_vain_is_forgotten_when_none_has_it_in_its_book() {
        let mut books = books(2);
        books.iter_mut().for_each(|book| assert!(book.add(addr(1), Source::Tracker)));
        (0..9).for_each(|_| books[0].ended(Duration::ZERO, addr(1), false));
        assert!(books[0].add(addr(1), Source::Tracker));
        let late = Duration::from_secs(1000);
        assert_eq!(books[0].take_due(late, 9, false, |_| 0), [], "the other core would have it");
        assert_eq!(books[1].take_due(late, 9, false, |_| 0), []);
        assert!(books[1].add(addr(1), Source::Tracker));
        assert_eq!(books[1].take_due(late, 9, false, |_| 0), [addr(1)]);
    }

    #[test]
    fn what_the_user_gave_to_one_core_does_not_wait_as_what_others_were_told() {
        let mut books = books(2);
        assert!(books[0].add(addr(1), Source::Given) && books[1].add(addr(1), Source::Tracker));
        (0..8).for_each(|_| books[1].ended(Duration::ZERO, addr(1), false));
        let soon = Duration::from_secs(11);
        assert_eq!(books[1].take_due(soon, 9, false, |_| 0), []);
        assert_eq!(books[0].take_due(soon, 9, false, |_| 0), [addr(1)]);
    }

    #[test]
    fn what_is_said_of_encryption_holds_until_a_handshake_is_not_answered() {
        let mut book = books(1).remove(0);
        assert!(book.add(addr(1), Source::Tracker));
        let mut known = book.known();
        known.is_silent_at(&addr(2), false);
        assert!(!known.is_encrypting(&addr(1)) && !known.is_encrypting(&addr(2)));
        known.encrypts(&addr(1));
        assert!(known.is_encrypting(&addr(1)));
        known.is_silent_at(&addr(1), true);
        known.encrypts(&addr(1));
        assert!(!known.is_encrypting(&addr(1)), "whatever others say");
        known.is_silent_at(&addr(1), false);
        assert!(known.is_encrypting(&addr(1)));
    }

    #[test]
    fn a_dial_that_is_over_is_over_for_all() {
        let mut books = books(2);
        books.iter_mut().for_each(|book| assert!(book.add(addr(1), Source::Given)));
        let take = |book: &mut Candidates, now| book.take_due(Duration::from_secs(now), 9, false, |_| 0);
        assert_eq!(take(&mut books[0], 0), [addr(1)]);
        assert_eq!(take(&mut books[1], 1), []);
        books[0].connected(addr(1));
        // That somebody is connected there, all know by the roster.
        assert_eq!(take(&mut books[1], 9), [addr(1)]);
        books[1].postpone(Duration::from_secs(9), addr(1));
        books[0].ended(Duration::from_secs(9), addr(1), true);
        assert_eq!(take(&mut books[0], 11), [addr(1)]);
    }
}
