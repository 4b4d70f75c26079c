//! Addresses that the user wants nothing to do with: read from the lists that are about, looked up by halving.

use super::reached::reached;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses in such lists from this level on are allowed.
const ALLOWED_LEVEL: u32 = 128;
/// How packed files begin.
const PACKED: [&[u8]; 5] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"];
/// Most ranges of a list.
const MOST_RANGES: usize = 4_000_000;

/// Why a list is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IpFilterError {
    /// A line is none of the known forms.
    #[error(
        "line {0} is no range of addresses: write `1.2.3.4 - 1.2.3.9 , 0 , name`, `name:1.2.3.4-1.2.3.9`, `1.2.3.0/24` or one address"
    )]
    Line(usize),
    /// It is a file of gzip, bzip2, xz, zip or zstd.
    #[error("it is compressed: unpack it first, as with `unzip` or `xz -d`")]
    Compressed,
    /// There are too many.
    #[error("there are more than {MOST_RANGES} ranges")]
    TooMany,
}

/// Lines of a list that say nothing we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadLines {
    /// How many.
    pub count: usize,
    /// The number of the first one, from 1.
    pub first: usize,
}

impl fmt::Display for UnreadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = if self.count == 1 { "line is" } else { "lines are" };
        let first = IpFilterError::Line(self.first);
        write!(f, "{} {lines} passed over, the first of them {first}", self.count)
    }
}

/// Ranges that do not touch, in order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct IpFilter {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl fmt::Debug for IpFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpFilter({} ranges)", self.len())
    }
}

impl IpFilter {
    /// Reads a list, [`parse_list`](Self::parse_list), of which every line must be good.
    ///
    /// # Errors
    /// When a line is none of the known forms, or there are too many.
    pub fn parse(text: &[u8]) -> Result<Self, IpFilterError> {
        match Self::parse_list(text)? {
            (_, Some(unread)) => Err(IpFilterError::Line(unread.first)),
            (filter, None) => Ok(filter),
        }
    }

    /// Reads a list, and tells which of its lines say nothing that can be read: those are passed over. Each line is a
    /// range as eMule writes it, with a level (`a - b , level , name`), as PeerGuardian does (`name:a-b`), a net
    /// (`a/bits`), or a single address; lines may be empty or begin with `#`, `;` or `//`.
    ///
    /// # Errors
    /// When no line is any of these although there are some, or there are too many.
    pub fn parse_list(text: &[u8]) -> Result<(Self, Option<UnreadLines>), IpFilterError> {
        if PACKED.iter().any(|packed| text.starts_with(packed)) {
            return Err(IpFilterError::Compressed);
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let (mut good, mut unread) = (0, None::<UnreadLines>);
        // Old systems end a line with a carriage return alone, others with both.
        let lines = text.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.flat_map(|(number, line)| {
            line.split(|byte| *byte == b'\r').enumerate().map(move |(part, line)| (number + part, line))
        });
        for (number, line) in lines {
            let line = String::from_utf8_lossy(line);
            let line = line.trim().trim_start_matches('\u{feff}');
            if line.is_empty() || line.starts_with(['#', ';']) || line.starts_with("//") {
                continue;
            }
            good += 1;
            match Entry::parse(line) {
                Some(Entry::Allowed) => {}
                Some(Entry::V4(first, last)) => v4.push((first, last)),
                Some(Entry::V6(first, last)) => v6.push((first, last)),
                None => {
                    good -= 1;
                    unread.get_or_insert(UnreadLines { count: 0, first: number + 1 }).count += 1;
                }
            }
            if v4.len() + v6.len() > MOST_RANGES {
                return Err(IpFilterError::TooMany);
            }
        }
        match unread {
            Some(UnreadLines { first, .. }) if good == 0 => Err(IpFilterError::Line(first)),
            unread => Ok((Self { v4: merged(v4, 1), v6: merged(v6, 1) }, unread)),
        }
    }

    /// Number of ranges, after those that touch have been made one.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the address is in one of the ranges. An IPv4 address is the same when it is written as IPv6, or reached through
    /// a translator.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let within = |addr| match addr {
            IpAddr::V4(addr) => holds(&self.v4, u32::from(addr)),
            IpAddr::V6(addr) => holds(&self.v6, u128::from(addr)),
        };
        within(addr) || within(reached(addr))
    }
}

fn holds<N: Ord + Copy>(ranges: &[(N, N)], number: N) -> bool {
    let before = ranges.partition_point(|(first, _)| *first <= number);
    before > 0 && ranges[before - 1].1 >= number
}

/// Sorts ranges and makes one of those that meet or touch.
fn merged<N>(mut ranges: Vec<(N, N)>, one: N) -> Box<[(N, N)]>
where
    N: Ord + Copy + std::ops::Sub<Output = N>,
{
    ranges.sort_unstable();
    let mut whole: Vec<(N, N)> = Vec::new();
    for (first, last) in ranges {
        match whole.last_mut() {
            Some((_, end)) if first <= *end || first - *end <= one => *end = last.max(*end),
            _ => whole.push((first, last)),
        }
    }
    whole.into()
}

/// What one line says.
enum Entry {
    Allowed,
    V4(u32, u32),
    V6(u128, u128),
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        if let Some((range, rest)) = line.split_once(',') {
            // A name in the other form may hold commas too.
            if let Some(entry) = Self::range(range) {
                let level = rest.split(',').next().unwrap_or("").trim();
                // Two columns of addresses are some other list's range.
                if address(level).is_some() {
                    return None;
                }
                let allowed = level.parse::<u32>().is_ok_and(|level| level >= ALLOWED_LEVEL);
                return Some(if allowed { Self::Allowed } else { entry });
            }
        }
        // The name ends with a colon, and may hold some; so does an IPv6 address.
        Self::range(line).or_else(|| {
            let named = line.match_indices(':').map(|(at, _)| (&line[..at], &line[at + 1..]));
            named.into_iter().find_map(|(name, range)| Self::named(name, range))
        })
    }

    /// `a-b` after a name. The first half of an IPv6 address is none: else what is wrong with a range of them would make
    /// quite another of it.
    fn named(name: &str, range: &str) -> Option<Self> {
        let entry = Self::range(range).filter(|_| range.contains('-'))?;
        let numbers = name.bytes().all(|byte| byte.is_ascii_hexdigit() || b": \t".contains(&byte));
        (!numbers || matches!(entry, Self::V4(..))).then_some(entry)
    }

    /// `a-b`, `a/bits` or `a`.
    fn range(text: &str) -> Option<Self> {
        if let Some((first, last)) = text.split_once('-') {
            return Self::between(address(first)?, address(last)?);
        }
        let (addr, bits) = match text.split_once('/') {
            Some((addr, bits)) => (addr, Some(bits.trim().parse::<u32>().ok()?)),
            None => (text, None),
        };
        let mapped = addr.contains(':');
        let addr = address(addr)?;
        // The bits of IPv4 written as IPv6 are counted as those of IPv6. Fewer than stand before IPv4 mean nothing.
        let bits = match bits {
            Some(bits) if mapped && addr.is_ipv4() => Some(bits.checked_sub(96)?),
            bits => bits,
        };
        match addr {
            IpAddr::V4(addr) => {
                let host = u32::MAX.checked_shr(bits.unwrap_or(32)).unwrap_or(0);
                (bits.unwrap_or(0) <= 32).then(|| Self::V4(u32::from(addr) & !host, u32::from(addr) | host))
            }
            IpAddr::V6(addr) => {
                let host = u128::MAX.checked_shr(bits.unwrap_or(128)).unwrap_or(0);
                (bits.unwrap_or(0) <= 128)
                    .then(|| Self::V6(u128::from(addr) & !host, u128::from(addr) | host))
            }
        }
    }

    fn between(first: IpAddr, last: IpAddr) -> Option<Self> {
        match (first, last) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a <= b).then(|| Self::V4(a.into(), b.into())),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a <= b).then(|| Self::V6(a.into(), b.into())),
            _ => None,
        }
    }
}

/// An address; lists fill the numbers of IPv4 up with zeros.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(|addr| IpAddr::V6(addr).to_canonical());
    }
    let mut numbers = text.split('.').map(|number| {
        let digits = (1..=3).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u8>().ok().filter(|_| digits)
    });
    let mut next = || numbers.next().flatten();
    let octets = [next()?, next()?, next()?, next()?];
    numbers.next().is_none().then_some(IpAddr::V4(Ipv4Addr::from(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contains(filter: &IpFilter, addr: &str) -> bool {
        filter.contains(addr.parse().unwrap())
    }

    #[test]
    fn all_forms_are_read() {
        let text = "# a comment\n\n// another\r\n\
            001.002.003.004 - 001.002.003.010 , 000 , Somebody, somewhere\r\n\
            5.0.0.0 - 5.0.0.255 , 200 , allowed\n\
            Some: name, with all:10.0.0.1-10.0.0.5\n\
            192.168.0.0/16\n\
            8.8.8.8\n\
            2001:db8::/32\n\
            v6 name:2002::1-2002::ff\n\
            2003::5 - 2003::7 , 10 , six\n\
            ::ffff:9.9.9.9\n\
            ::ffff:11.2.3.0/120\n\
            ::ffff:12.0.0.0/104";
        let filter = IpFilter::parse(text.as_bytes()).unwrap();
        for inside in [
            "1.2.3.4",
            "1.2.3.10",
            "10.0.0.1",
            "10.0.0.5",
            "192.168.255.255",
            "8.8.8.8",
            "2001:db8:ffff::1",
            "2002::80",
            "2003::6",
            "9.9.9.9",
            "::ffff:1.2.3.5",
            "11.2.3.0",
            "11.2.3.255",
            "::ffff:11.2.3.4",
            "12.255.255.255",
            "::9.9.9.9",
            "64:ff9b::9.9.9.9",
            "2002:909:909::1",
        ] {
            assert!(contains(&filter, inside), "{inside}");
        }
        for outside in [
            "1.2.3.3",
            "1.2.3.11",
            "5.0.0.1",
            "10.0.0.6",
            "192.167.255.255",
            "8.8.8.9",
            "11.2.2.255",
            "11.2.4.0",
            "13.0.0.0",
            "64:ff9b::9.9.9.8",
            "::",
            "::1",
            "2001:db9::",
            "2003::8",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            assert!(!contains(&filter, outside), "{outside}");
        }
        assert_eq!(filter.len(), 10);
    }

    #[test]
    fn ranges_that_meet_are_one() {
        let text =
            "1.0.0.5-1.0.0.9\n1.0.0.0-1.0.0.4\n1.0.0.7-1.0.0.8\n1.0.0.11-1.0.0.12\n0.0.0.0/0\n::/0\n::1";
        let some: Vec<&str> = text.lines().take(4).collect();
        assert_eq!(IpFilter::parse(some.join("\n").as_bytes()).unwrap().len(), 2);
        let all = IpFilter::parse(text.as_bytes()).unwrap();
        assert_eq!(all.len(), 2);
        assert!(contains(&all, "255.255.255.255") && contains(&all, "ffff::"));
    }

    #[test]
    fn lines_that_are_nothing_are_named() {
        for line in [
            "hello",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.4/33",
            "::/129",
            "::ffff:1.2.3.4/95",
            "::ffff:1.2.3.4/129",
            "::ffff:1.2.3.4/24",
            "5.0.0.0-4.0.0.0",
            "1.2.3.4-::5",
            "1.2.3.+4",
            "0001.2.3.4",
            "1.2.3.4/",
            "-",
            "1.2.3.4 -",
            "name:",
            "name:1.2.3.4",
            "2001:db8::5-2001:db8::1",
            "2001:db8::5 - 2001:db8::1 , 0 , backwards",
            "20012:db8::1-20012:db8::5",
            "2001:db8::12345",
            "1.2.3.4,1.2.3.9,two columns",
        ] {
            let text = format!("1.1.1.1\n{line}\n");
            assert_eq!(IpFilter::parse(text.as_bytes()), Err(IpFilterError::Line(2)), "{line}");
        }
        assert_eq!(IpFilter::parse(b"\xff\xfe"), Err(IpFilterError::Line(1)));
        assert!(IpFilter::parse(b"").unwrap().is_empty());
        assert_eq!(IpFilter::parse(b"\x1f\x8b\x08"), Err(IpFilterError::Compressed));
        assert_eq!(IpFilter::parse(b"PK\x03\x04\x14\0"), Err(IpFilterError::Compressed));
        let list = IpFilter::parse_list(b"; a remark\r\n1.1.1.1\r\n\r\nhello\r\n").unwrap();
        assert_eq!((list.0.len(), list.1), (1, Some(UnreadLines { count: 1, first: 4 })));
        assert_eq!(IpFilter::parse(b"1.1.1.1\r3.3.3.3\r").unwrap().len(), 2);
        let list = IpFilter::parse_list(b"\nhello\n1.1.1.1\n2001:db8::5-2001:db8::1\n2.2.2.2").unwrap();
        assert_eq!((list.0.len(), list.1), (2, Some(UnreadLines { count: 2, first: 2 })));
        assert_eq!(IpFilter::parse_list(b"#\nhello\nyou"), Err(IpFilterError::Line(2)));
        assert!(IpFilter::parse_list(b"hello\n1.1.1.1-1.1.1.2,200,allowed").unwrap().0.is_empty());
    }

    proptest! {
        #[test]
        fn lookups_agree_with_the_ranges(ranges: Vec<(u16, u16)>, probes: Vec<u16>) {
            let addr = |n: u16| Ipv4Addr::from(u32::from(n));
            let lines = ranges.iter().map(|(a, b)| format!("x:{}-{}", addr(*a.min(b)), addr(*a.max(b))));
            let filter = IpFilter::parse(lines.collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
            for probe in probes.iter().chain(ranges.iter().flat_map(|(a, b)| [a, b])) {
                let inside = ranges.iter().any(|(a, b)| (*a.min(b)..=*a.max(b)).contains(probe));
                prop_assert_eq!(filter.contains(addr(*probe).into()), inside);
            }
        }

        #[test]
        fn nothing_makes_it_panic(text: Vec<u8>) {
            let _ = IpFilter::parse(&text);
        }
    }
}
