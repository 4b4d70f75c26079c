//! Which address is meant by one that has another in it, and which are of networks that others do not reach.

use std::net::{IpAddr, Ipv4Addr};

/// The address that is reached. IPv4 written as IPv6: mapped, compatible (RFC 4291), translated (RFC 2765). Translators to
/// IPv4 (RFC 6052, and RFC 8215 within a network) lead to that in the last four bytes, 6to4 (RFC 3056) to that behind its
/// prefix.
pub fn reached(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip.to_canonical() else { return ip.to_canonical() };
    match v6.segments() {
        // Nothing, and the loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => v6.into(),
        [0, 0, 0, 0, 0, 0, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            Ipv4Addr::new(a, b, c, d).into()
        }
        _ => v6.into(),
    }
}

/// Whether an address belongs to this machine or a network of its own: nobody can prove anything about it from outside, and who
/// is there is no stranger.
pub fn is_local(ip: IpAddr) -> bool {
    match reached(ip) {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether it is one that carriers put their customers into (100.64/10), and overlay networks their hosts: who is there may be
/// anybody, but nobody outside can know of it.
fn is_shared(ip: IpAddr) -> bool {
    let IpAddr::V4(ip) = reached(ip) else { return false };
    let [first, second, ..] = ip.octets();
    first == 100 && second & 0xc0 == 64
}

/// Whether it is reached from inside only; 0/8 and the unspecified address of IPv6 mean this machine to some systems.
pub fn is_inside(ip: IpAddr) -> bool {
    let nowhere = match reached(ip) {
        IpAddr::V4(ip) => ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified(),
    };
    nowhere || is_local(ip) || is_shared(ip)
}

/// Whether `sender` can know of somebody at this address that we can reach, too: strangers must not have us talk to machines of our
/// own house.
pub fn may_name(sender: IpAddr, ip: IpAddr) -> bool {
    !is_inside(ip) || is_local(sender) || (is_shared(ip) && is_shared(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_our_own_are_known_however_they_are_written() {
        // Of our own; reached from inside only; to be named by a stranger, and by who is behind the same carrier.
        for (ip, known) in [
            ("127.0.0.1", [true, true, false, false]),
            ("10.9.9.9", [true, true, false, false]),
            ("172.31.0.1", [true, true, false, false]),
            ("172.32.0.1", [false, false, true, true]),
            ("192.168.1.1", [true, true, false, false]),
            ("169.254.1.1", [true, true, false, false]),
            ("0.1.2.3", [false, true, false, false]),
            ("100.64.0.1", [false, true, false, true]),
            ("100.127.255.255", [false, true, false, true]),
            ("100.128.0.1", [false, false, true, true]),
            ("100.63.0.1", [false, false, true, true]),
            ("8.8.8.8", [false, false, true, true]),
            ("::", [false, true, false, false]),
            ("::1", [true, true, false, false]),
            ("fd00::1", [true, true, false, false]),
            ("fe80::1", [true, true, false, false]),
            ("2001:db8::1", [false, false, true, true]),
            ("::ffff:10.0.0.1", [true, true, false, false]),
            ("64:ff9b::100.64.0.1", [false, true, false, true]),
            ("2002:808:808::1", [false, false, true, true]),
        ] {
            let ip = ip.parse().unwrap();
            let [stranger, neighbour, ours] =
                ["9.9.9.9", "100.99.0.1", "192.168.0.5"].map(|sender| may_name(sender.parse().unwrap(), ip));
            assert_eq!([is_local(ip), is_inside(ip), stranger, neighbour], known, "{ip}");
            assert!(ours, "{ip}");
        }
    }

    #[test]
    fn what_holds_an_address_is_that_address() {
        for (written, meant) in [
            ("1.2.3.4", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("::1.2.3.4", "1.2.3.4"),
            ("::ffff:0:1.2.3.4", "1.2.3.4"),
            ("64:ff9b::1.2.3.4", "1.2.3.4"),
            ("64:ff9b:1:2:3:4:1.2.3.4", "1.2.3.4"),
            ("2002:102:304:5::6", "1.2.3.4"),
            ("::", "::"),
            ("::1", "::1"),
            ("::2", "0.0.0.2"),
            ("64:ff9b:2::1.2.3.4", "64:ff9b:2::1.2.3.4"),
            ("2001:db8::1.2.3.4", "2001:db8::1.2.3.4"),
        ] {
            let [written, meant] = [written, meant].map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(reached(written), meant, "{written}");
        }
    }
}
