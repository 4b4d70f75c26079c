//! Which address is meant by one that has another in it.

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

#[cfg(test)]
mod tests {
    use super::*;

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
