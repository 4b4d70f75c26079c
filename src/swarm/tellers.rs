//! Which peers have told of the addresses in the books (BEP 11): none can fill them by itself, however often it tells and
//! whichever cores it tells.

use super::reached::is_local;
use super::roster::host;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Addresses in the books of all cores by the word of one peer, and of all on one host, as long as nobody was met there.
const MOST_OF_TELLER: usize = 50;
const MOST_OF_HOST: usize = 4 * MOST_OF_TELLER;

/// A peer that tells of others. A host is one, whatever its port: it could come again from another. In a network like ours
/// there may be many on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Teller(SocketAddr);

impl Teller {
    /// The peer at this address.
    pub fn new(addr: SocketAddr) -> Self {
        let port = if is_local(addr.ip()) { addr.port() } else { 0 };
        Self(SocketAddr::new(host(addr.ip()), port))
    }
}

/// How many addresses are in the books by whose word.
#[derive(Debug, Default)]
pub struct Tellers(BTreeMap<Teller, usize>);

impl Tellers {
    pub(super) fn count(&self, teller: &Teller) -> usize {
        self.0.get(teller).copied().unwrap_or(0)
    }

    /// Whether it has as many as it may have.
    pub fn has_all(&self, teller: &Teller) -> bool {
        self.count(teller) >= MOST_OF_TELLER || self.of_host(teller) >= MOST_OF_HOST
    }

    /// How many are there by the word of whoever is on the host of this one.
    fn of_host(&self, teller: &Teller) -> usize {
        let ports = [0, u16::MAX].map(|port| Teller(SocketAddr::new(teller.0.ip(), port)));
        self.0.range(ports[0]..=ports[1]).map(|(_, count)| count).sum()
    }

    /// One more by its word.
    pub fn add(&mut self, teller: Teller) {
        *self.0.entry(teller).or_default() += 1;
    }

    /// One less.
    pub fn remove(&mut self, teller: Teller) {
        let left = self.count(&teller).saturating_sub(1);
        _ = if left > 0 { self.0.insert(teller, left) } else { self.0.remove(&teller) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::{Candidates, Source};
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn teller(n: u8) -> Teller {
        Teller::new(SocketAddr::from(([8, 8, 8, n], 1)))
    }

    /// The addresses that a teller knows: each has its own.
    fn told(n: u8, numbers: std::ops::Range<u16>) -> impl Iterator<Item = SocketAddr> {
        numbers.map(move |number| SocketAddr::from(([n, 1, (number >> 8) as u8, number as u8], 1)))
    }

    /// How many addresses are remembered by the word of a peer.
    fn told_by(book: &Candidates, n: u8) -> usize {
        book.known.lock().unwrap().tellers.count(&teller(n))
    }

    /// Has a peer tell of addresses; gives how many are remembered.
    fn tell(book: &mut Candidates, n: u8, numbers: std::ops::Range<u16>) -> usize {
        told(n, numbers).filter(|addr| book.add_told(*addr, teller(n))).count()
    }

    #[test]
    fn a_peer_has_so_many_addresses_in_the_book_and_no_more_by_any_port() {
        let mut book = Candidates::default();
        assert_eq!((tell(&mut book, 1, 0..1000), book.outshared()), (50, 950));
        assert_eq!(Teller::new("8.8.8.1:2".parse().unwrap()), teller(1));
        let near = |port| Teller::new(SocketAddr::from(([10, 0, 0, 1], port)));
        assert_ne!(near(1), near(2), "in a network like ours");
        let mut home = Candidates::default();
        let mut by =
            |port: u16| told(port as u8, 0..500).filter(|addr| home.add_told(*addr, near(port))).count();
        assert_eq!([1, 2, 3, 4, 5].map(&mut by), [50, 50, 50, 50, 0], "however often it comes");
        assert_eq!(tell(&mut book, 2, 0..50), 50, "another is another");
        // Where somebody was met, or another source knows of somebody, it is not by the peer's word any more.
        let [met, named, dead] = [0, 1, 2].map(|number| told(1, number..number + 1).next().unwrap());
        book.take_due(Duration::ZERO, 1000, false, |_| 0);
        book.connected(met);
        assert!(book.add(named, Source::Tracker));
        assert_eq!(tell(&mut book, 1, 1000..1010), 2);
        // Where nobody is, it is until that is clear.
        for _ in 0..3 {
            book.ended(Duration::ZERO, dead, false);
            assert_eq!(tell(&mut book, 1, 2000..2010), 0);
        }
        book.ended(Duration::ZERO, dead, false);
        assert_eq!((tell(&mut book, 1, 2000..2010), book.given_up()), (1, 1));
    }

    #[test]
    fn a_peer_has_no_more_addresses_in_the_books_of_many_cores() {
        let known = Arc::default();
        let [mut one, mut other] = [0, 1].map(|_| Candidates::new(Arc::clone(&known)));
        assert_eq!((tell(&mut one, 1, 0..30), tell(&mut other, 1, 30..100)), (30, 20));
        assert_eq!((one.outshared(), other.outshared()), (0, 50));
        assert_eq!(tell(&mut other, 2, 0..60), 50, "another is another");
        // What is somebody else's word, too, leaves room for more on any core.
        assert!(told(1, 0..10).all(|addr| one.add(addr, Source::Tracker)));
        assert_eq!((tell(&mut other, 1, 100..200), told_by(&one, 1)), (10, 50));
        assert!(one.knows_host(told(2, 0..1).next().unwrap().ip()), "each core knows what all know");
    }

    #[test]
    fn who_tells_of_many_makes_way_for_who_tells_of_few_and_not_the_other_way_round() {
        let mut book = Candidates::default();
        assert_eq!(tell(&mut book, 100, 0..20), 20);
        (1..=11).for_each(|n| assert_eq!(tell(&mut book, n, 0..50), 50));
        // There is room for thirty, and then everybody has the same.
        assert_eq!((tell(&mut book, 12, 0..50), book.outshared()), (48, 18));
        assert_eq!(book.given_up(), 0);
        for n in 1..=11 {
            assert!(told_by(&book, n) >= 47, "{book:?}");
            tell(&mut book, n, 100..1000);
        }
        assert_eq!(told_by(&book, 100), 20);
        assert!(told(100, 0..20).all(|addr| book.knows_host(addr.ip())), "nothing of the honest one is gone");
        // Nor does what has failed there.
        let mut honest = told(100, 0..20);
        book.take_due(Duration::ZERO, 1000, false, |_| 0);
        honest.by_ref().take(10).for_each(|addr| book.ended(Duration::ZERO, addr, false));
        (1..=12).for_each(|n| _ = tell(&mut book, n, 2000..3000));
        assert_eq!(told_by(&book, 100), 20);
    }
}
