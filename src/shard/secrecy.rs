//! Who is talked to under encryption, and who may begin to: an exchange of keys costs more than all else that a stranger
//! can ask for.

use crate::metainfo::InfoHash;
use crate::swarm::host;
use crate::wire::mse::{Encryption, Randomness, SkeyName, skey_name};
use ::ring::rand::{SecureRandom, SystemRandom};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One host may begin so many encrypted handshakes at once.
const BURST: u32 = 100;
/// And, in the long run, one in this time.
const INTERVAL: Duration = Duration::from_millis(50);
/// Hosts of which it is known.
const MOST_HOSTS: usize = 4096;
/// Our longest pads, in bytes: longer ones are allowed, but not every client takes them.
const PADS: (usize, usize) = (256, 64);
/// Addresses remembered because nothing but encryption works there.
const MOST_INSISTING: usize = 3000;

/// See the module.
pub struct Secrecy {
    mode: Encryption,
    torrents: HashMap<SkeyName, InfoHash>,
    insisting: HashSet<SocketAddr>,
    /// When each host will have paid, one [`INTERVAL`] each, for the exchanges that it began.
    debts: HashMap<IpAddr, Duration>,
    refused: u64,
}

impl Secrecy {
    /// For connections of one torrent.
    pub fn new(mode: Encryption, torrent: InfoHash) -> Self {
        Self {
            mode,
            torrents: HashMap::from([(skey_name(&torrent), torrent)]),
            insisting: HashSet::new(),
            debts: HashMap::new(),
            refused: 0,
        }
    }

    /// How connections are to be encrypted.
    pub fn mode(&self) -> Encryption {
        self.mode
    }

    /// Encrypted handshakes that were refused because there were too many.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The torrent that a peer asks for under encryption.
    pub fn find(&self, name: &SkeyName) -> Option<InfoHash> {
        self.torrents.get(name).copied()
    }

    /// Whether an address is to be dialled with encryption; and whether it is so, the other way, once more when the peer
    /// hangs up on the handshake. `hinted`: others say that this peer encrypts.
    pub fn tries(&self, addr: &SocketAddr, hinted: bool) -> (bool, Option<bool>) {
        match self.mode {
            Encryption::Off => (false, None),
            Encryption::Required => (true, None),
            Encryption::Allowed if self.insisting.contains(addr) => (true, None),
            Encryption::Allowed => (hinted, Some(!hinted)),
        }
    }

    /// How a dial with encryption has gone: the next one begins with what works.
    pub fn learn(&mut self, addr: SocketAddr, worked: bool) {
        if !worked {
            self.insisting.remove(&addr);
        } else if self.insisting.len() < MOST_INSISTING {
            self.insisting.insert(addr);
        }
    }

    /// Whether that host may begin another encrypted handshake with us; if so, it is counted.
    pub fn admit(&mut self, now: Duration, ip: IpAddr) -> bool {
        let host = host(ip);
        if self.debts.len() >= MOST_HOSTS && !self.debts.contains_key(&host) {
            self.debts.retain(|_, paid| *paid > now);
        }
        let paid = self.debts.get(&host).map_or(now, |paid| now.max(*paid));
        let known = self.debts.len() < MOST_HOSTS || self.debts.contains_key(&host);
        let admitted = known && paid < now + INTERVAL * BURST;
        if admitted {
            self.debts.insert(host, paid + INTERVAL);
        } else {
            self.refused += 1;
        }
        admitted
    }
}

/// The random numbers of an encrypted handshake.
pub fn randomness() -> Randomness {
    let pad = |most| (0..fastrand::usize(0..=most)).map(|_| fastrand::u8(..)).collect();
    let mut key = [0; 20];
    SystemRandom::new().fill(&mut key).expect("the system gives random bytes");
    Randomness { key, first_pad: pad(PADS.0), second_pad: pad(PADS.1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORRENT: InfoHash = InfoHash([9; 20]);

    fn ip(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_host_has_a_burst_and_then_a_rate() {
        let mut secrecy = Secrecy::new(Encryption::Allowed, TORRENT);
        let now = Duration::from_secs(7);
        let admitted = |secrecy: &mut Secrecy, now, ip| (0..1000).filter(|_| secrecy.admit(now, ip)).count();
        assert_eq!(admitted(&mut secrecy, now, ip(1)), BURST as usize);
        assert_eq!(secrecy.refused, 1000 - u64::from(BURST));
        assert!(secrecy.admit(now, ip(2)), "another host is another matter");
        assert_eq!(admitted(&mut secrecy, now + 3 * INTERVAL, ip(1)), 3);
        assert_eq!(
            admitted(&mut secrecy, now + Duration::from_secs(60), ip(1)),
            BURST as usize,
            "no more is saved up"
        );
    }

    #[test]
    fn neighbours_of_ipv6_are_one_host_and_mapped_addresses_are_ipv4() {
        let same = [("2001:db8::1", "2001:db8::ffff:1"), ("::ffff:10.0.0.1", "10.0.0.1")];
        for (one, other) in same {
            assert_eq!(host(one.parse().unwrap()), host(other.parse().unwrap()));
        }
        let apart: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "2001:db8:0:1::1".parse().unwrap()];
        assert_ne!(host(apart[0]), host(apart[1]));
    }

    #[test]
    fn hosts_that_have_paid_make_room_and_the_others_do_not() {
        let mut secrecy = Secrecy::new(Encryption::Allowed, TORRENT);
        let now = Duration::from_secs(7);
        assert!((0..MOST_HOSTS as u32).all(|number| secrecy.admit(now, ip(number))));
        assert!(!secrecy.admit(now, ip(1 << 20)));
        assert!(secrecy.admit(now, ip(1)), "known");
        assert!(secrecy.admit(now + INTERVAL, ip(1 << 20)));
        assert_eq!((secrecy.debts.len(), secrecy.refused), (2, 1));
    }

    #[test]
    fn what_works_at_an_address_is_tried_first_there() {
        let addr = SocketAddr::from(([10, 0, 0, 1], 1));
        let mut secrecy = Secrecy::new(Encryption::Allowed, TORRENT);
        assert_eq!(secrecy.tries(&addr, false), (false, Some(true)));
        assert_eq!(secrecy.tries(&addr, true), (true, Some(false)), "others say that it encrypts");
        secrecy.learn(addr, true);
        assert_eq!(secrecy.tries(&addr, false), (true, None));
        secrecy.learn(addr, false);
        assert_eq!(secrecy.tries(&addr, false), (false, Some(true)));
        (0..MOST_INSISTING as u16 + 5).for_each(|port| secrecy.learn(SocketAddr::new(ip(1), port), true));
        assert_eq!(secrecy.insisting.len(), MOST_INSISTING);
        let required = Secrecy::new(Encryption::Required, TORRENT);
        assert_eq!(required.tries(&addr, false), (true, None));
        assert_eq!(Secrecy::new(Encryption::Off, TORRENT).tries(&addr, true), (false, None));
    }

    #[test]
    fn torrents_are_found_by_name() {
        let secrecy = Secrecy::new(Encryption::Allowed, TORRENT);
        assert_eq!(secrecy.find(&skey_name(&TORRENT)), Some(TORRENT));
        assert_eq!(secrecy.find(&skey_name(&InfoHash([8; 20]))), None);
    }
}
