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

/// Whether an address belongs to this machine or a network of its own: others do not reach it, and nobody can prove anything about
/// it from outside.
pub fn is_local(ip: IpAddr) -> bool {
    match reached(ip) {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            // 0/8 is "this network", 100.64/10 what carriers put their customers into, and overlay networks their hosts.
            let shared = first == 100 && second & 0xc0 == 64;
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || first == 0 || shared
        }
        IpAddr::V6(ip) => {
            let own = ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local();
            own || ip.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_our_own_are_known_however_they_are_written() {
        for (ip, local) in [
            ("127.0.0.1", true),
            ("10.9.9.9", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.1.1", true),
            ("100.64.0.1", true),
            ("100.127.255.255", true),
            ("100.128.0.1", false),
            ("100.63.0.1", false),
            ("8.8.8.8", false),
            ("::1", true),
            ("fd00::1", true),
            ("fe80::1", true),
            ("2001:db8::1", false),
            ("::ffff:10.0.0.1", true),
            ("64:ff9b::100.64.0.1", true),
            ("2002:808:808::1", false),
        ] {
            assert_eq!(is_local(ip.parse().unwrap()), local, "{ip}");
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
