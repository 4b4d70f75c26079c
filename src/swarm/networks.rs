//! How many dials each network has had in vain. Anybody can name addresses where nobody wants to hear of us: those of a whole
//! network as easily as the ports of one host. However many name them, and whichever they are, so many dials come to nothing
//! there and no more, until some are forgotten. Where somebody is met, the dial does not count. All sources share one count, of which
//! the better ones may use more: so liars at the DHT can keep what peers tell of a network waiting, not what trackers name.

use super::candidates::Source;
use super::reached::{is_local, reached};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Dials in vain, and those under way, that a network may have against it for one more: what is named by those who are easily
/// had must leave room for what others name. Trackers honestly name many of one network, of which many have gone.
const MOST_TOLD: u32 = 16;
const MOST_FOUND: u32 = 32;
const MOST_TRACKED: u32 = 64;
/// How long it takes until one is forgotten.
const FORGOTTEN_IN: Duration = Duration::from_secs(4);
/// Networks beyond which those are looked for that have nothing against them any more.
const MANY: usize = 1024;

/// What stands for the network of a host: of IPv4, a /24, the smallest that is routed by itself; of IPv6, a /48, which is what
/// a site has: a /64 there is one host (see [`host`](super::host)), and who names them has 65,536.
pub fn network(ip: IpAddr) -> IpAddr {
    match reached(ip) {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !0xff).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(u128::MAX >> 48)).into(),
    }
}

/// A dial that counts against its network.
#[derive(Debug)]
#[must_use]
pub struct Counted(IpAddr);

/// See the module. Times are on any clock that runs.
#[derive(Debug, Default)]
pub struct Networks {
    /// When all dials of a network will be forgotten: then it has none against it.
    clear_at: HashMap<IpAddr, Duration>,
}

impl Networks {
    /// Most dials in vain for an address of this source. What the user gave is dialled in any case, and so is our own network.
    fn most(ip: IpAddr, source: Source) -> Option<u32> {
        match source {
            _ if is_local(ip) => None,
            Source::Given => None,
            Source::Tracker | Source::Local => Some(MOST_TRACKED),
            Source::Dht => Some(MOST_FOUND),
            Source::Itself | Source::Exchange => Some(MOST_TOLD),
        }
    }

    /// Whether an address that this source has named may be dialled now.
    pub fn has_room(&self, ip: IpAddr, source: Source, now: Duration) -> bool {
        let Some(most) = Self::most(ip, source) else { return true };
        let left = self.clear_at.get(&network(ip)).map_or(Duration::ZERO, |at| at.saturating_sub(now));
        left + FORGOTTEN_IN <= FORGOTTEN_IN * most
    }

    /// It is dialled. Gives what to [take back](Self::take_back) when that counts.
    pub fn count(&mut self, ip: IpAddr, source: Source, now: Duration) -> Option<Counted> {
        Self::most(ip, source)?;
        if self.clear_at.len() >= MANY {
            self.clear_at.retain(|_, at| *at > now);
        }
        let network = network(ip);
        let at = self.clear_at.entry(network).or_default();
        *at = now.max(*at) + FORGOTTEN_IN;
        Some(Counted(network))
    }

    /// A dial was not in vain: somebody is there, or none was made.
    pub fn take_back(&mut self, Counted(network): Counted) {
        let at = self.clear_at.get_mut(&network);
        at.into_iter().for_each(|at| *at = at.saturating_sub(FORGOTTEN_IN));
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::Candidates;
    use super::super::tellers::Teller;
    use super::*;
    use std::net::SocketAddr;
    use std::sync::Arc;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Has twenty liars tell some cores of many addresses where nobody is, for so many seconds: gives what was dialled.
    fn dialled(cores: usize, lasts: u64, lie: impl Fn(u32) -> SocketAddr) -> Vec<SocketAddr> {
        let known = Arc::default();
        let mut books: Vec<_> = (0..cores).map(|_| Candidates::new(Arc::clone(&known))).collect();
        let (mut dialled, mut told) = (Vec::new(), 0);
        for now in (0..lasts).map(seconds) {
            for liar in 0..20 {
                let teller = Teller::new(SocketAddr::from(([9, 9, liar, 1], 1)));
                told += 1;
                books[usize::from(liar) % cores].add_told(lie(told), teller);
            }
            for book in &mut books {
                let due = book.take_due(now, 30, false, |_| 0);
                due.iter().for_each(|addr| book.ended(now, *addr, false));
                dialled.extend(due);
            }
        }
        let held_back: u64 = books.iter().map(Candidates::held_back).sum();
        assert_eq!(held_back > 0, dialled.len() < told as usize / 2, "{held_back}");
        dialled
    }

    #[test]
    fn however_many_liars_name_addresses_of_a_network_so_many_are_dialled() {
        let v4 = |n: u32| SocketAddr::from(([8, 8, 8, n as u8], 1 + n as u16));
        let v6 = |n: u32| SocketAddr::from(([0x2600, 0, 7, n as u16, 0, 0, 0, 1], 1));
        for cores in [1, 4] {
            for dialled in [dialled(cores, 60, v4), dialled(cores, 60, v6)] {
                assert!((16..=16 + 15).contains(&dialled.len()), "{} of {cores} cores", dialled.len());
            }
            // Of many networks there is no bound but those of each.
            let apart = dialled(cores, 60, |n| SocketAddr::from(([8, n as u8, (n >> 8) as u8, 1], 1)));
            assert!(apart.len() > 900, "{}", apart.len());
        }
    }

    #[test]
    fn what_peers_tell_leaves_room_for_better_sources_and_our_own_network_and_the_user_have_no_bound() {
        let sources = [Source::Exchange, Source::Dht, Source::Tracker, Source::Given];
        let mut book = Candidates::default();
        let mut dialled = |net: [u8; 3], source| {
            let [a, b, c] = net;
            (0..200).for_each(|n| assert!(book.add(SocketAddr::from(([a, b, c, n], 1)), source)));
            book.take_due(seconds(0), 1000, false, |_| 0).len()
        };
        assert_eq!(sources.map(|source| dialled([8, 8, source as u8], source)), [16, 32, 64, 200]);
        assert_eq!(dialled([192, 168, 0], Source::Exchange), 200);
        let mut networks = Networks::default();
        let mut fill = |source| {
            let ip = [8, 8, 8, 8].into();
            let mut dials = || {
                networks.has_room(ip, source, seconds(9)) && networks.count(ip, source, seconds(9)).is_some()
            };
            (0..1000).take_while(|_| dials()).count()
        };
        assert_eq!(sources[..3].iter().map(|source| fill(*source)).collect::<Vec<_>>(), [16, 16, 32]);
    }

    #[test]
    fn where_somebody_is_met_dials_do_not_count() {
        let mut book = Candidates::default();
        let crowd: Vec<_> = (1..=250).map(|n| SocketAddr::from(([8, 8, 8, n], 1))).collect();
        crowd.iter().for_each(|addr| assert!(book.add(*addr, Source::Exchange)));
        let mut met = 0;
        for now in (0..20).map(seconds) {
            let due = book.take_due(now, 30, false, |_| 0);
            due.iter().for_each(|addr| book.connected(*addr));
            met += due.len();
        }
        assert_eq!((met, book.held_back()), (250, 0));
        // Nor do those that turn out to be needless, and none is taken back twice.
        crowd.iter().for_each(|addr| book.ended(seconds(20), *addr, true));
        let due = book.take_due(seconds(60), 99, false, |_| 0);
        due.iter().for_each(|addr| book.postpone(seconds(60), *addr));
        due.iter().for_each(|addr| book.postpone(seconds(60), *addr));
        assert_eq!(due.len(), 16);
        assert_eq!(book.take_due(seconds(60), 99, false, |_| 0).len(), 16);
        for _ in 0..2 {
            assert_eq!(book.take_due(seconds(60), 99, false, |_| 0), []);
            assert_eq!(book.held_back(), 218, "each once");
        }
    }

    #[test]
    fn networks_are_what_sites_have_and_what_is_long_ago_is_forgotten() {
        for (one, other, same) in [
            ("8.8.8.8:1", "8.8.8.255:2", true),
            ("8.8.8.8:1", "8.8.9.8:1", false),
            ("[::ffff:8.8.8.8]:1", "8.8.8.1:1", true),
            ("[64:ff9b::8.8.8.8]:1", "8.8.8.1:1", true),
            ("[64:ff9b::8.8.8.8]:1", "[64:ff9b::8.8.9.8]:1", false),
            ("[2600:1:2:3::4]:1", "[2600:1:2:ffff::1]:1", true),
            ("[2600:1:2:3::4]:1", "[2600:1:3:3::4]:1", false),
        ] {
            assert_eq!(network(addr(one).ip()) == network(addr(other).ip()), same, "{one} {other}");
        }
        let mut networks = Networks::default();
        for n in 0..100_000_u32 {
            let now = Duration::from_millis(10 * u64::from(n));
            let counted =
                networks.count(Ipv4Addr::from_bits(0x0b00_0000 + (n << 8)).into(), Source::Dht, now);
            assert!(counted.is_some());
        }
        assert!(networks.clear_at.len() <= MANY + 400, "{}", networks.clear_at.len());
    }
}
