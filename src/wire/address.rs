//! One host, one address: however it was written.

use std::net::SocketAddr;

/// The address in its plain form: of IPv4 also where it came mapped into IPv6. One that is good on one link only (`fe80::/10`) keeps
/// the number of that link, without which nobody can be reached there.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    if is_of_a_link(addr) { addr } else { SocketAddr::new(addr.ip().to_canonical(), addr.port()) }
}

/// Whether it is good on one link only.
pub fn is_of_a_link(addr: SocketAddr) -> bool {
    matches!(addr, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local())
}

/// Another port of the same host.
pub fn at_port(addr: SocketAddr, port: u16) -> SocketAddr {
    let mut addr = canonical(addr);
    addr.set_port(port);
    addr
}

/// Whether it is good on one link only and that is not known.
pub fn lacks_link(addr: SocketAddr) -> bool {
    is_of_a_link(addr) && matches!(addr, SocketAddr::V6(v6) if v6.scope_id() == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_address_and_keeps_its_link() {
        let plain = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(plain("[::ffff:1.2.3.4]:5"), "1.2.3.4:5");
        assert_eq!(plain("1.2.3.4:5"), "1.2.3.4:5");
        assert_eq!(plain("[2001:db8::1]:5"), "[2001:db8::1]:5");
        assert_eq!(plain("[fe80::1%7]:5"), "[fe80::1%7]:5");
        assert_eq!(at_port("[fe80::1%7]:5".parse().unwrap(), 6).to_string(), "[fe80::1%7]:6");
        assert_eq!(at_port("[::ffff:1.2.3.4]:5".parse().unwrap(), 6).to_string(), "1.2.3.4:6");
        let lacking = ["[fe80::1]:5", "[fe80::1%7]:5", "[2001:db8::1]:5", "169.254.0.1:5"];
        assert_eq!(lacking.map(|text| lacks_link(text.parse().unwrap())), [true, false, false, false]);
    }
}
