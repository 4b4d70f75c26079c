//! Addresses on the command line. One that is good on one link only (`fe80::/10`) leads nowhere without that link: it says which, by
//! number or by name.

use crate::wire::lacks_link;
use rustix::net::netdevice::{index_to_name, name_to_index};
use rustix::net::{AddressFamily, SocketType, socket};
use std::net::{SocketAddr, SocketAddrV6};
use std::os::fd::OwnedFd;

/// An address and a port, of IPv6 in brackets; for one of a link also `[fe80::1%2]:6881` or `[fe80::1%eth0]:6881`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let addr = match of_named_link(text) {
        Some((addr, link)) => SocketAddr::V6(SocketAddrV6::new(*addr.ip(), addr.port(), 0, number_of(link)?)),
        None => {
            text.parse().map_err(|_| "write an address and a port, as 10.0.0.1:6881 or [2001:db8::1]:6881")?
        }
    };
    if lacks_link(addr) {
        return Err(
            "it is good on one link only: say which, by its number or its name, as in [fe80::1%2]:6881 \
                    or [fe80::1%eth0]:6881"
                .into(),
        );
    }
    if let SocketAddr::V6(addr) = addr
        && addr.scope_id() != 0
    {
        link_by_number(addr.scope_id())?;
    }
    Ok(addr)
}

/// Likewise, of somebody to connect to: nobody listens at port 0.
pub(super) fn peer_address(text: &str) -> Result<SocketAddr, String> {
    let addr = address(text)?;
    if addr.port() == 0 { Err("nobody listens at port 0".into()) } else { Ok(addr) }
}

/// Takes apart an address of a link that is told by name.
fn of_named_link(text: &str) -> Option<(SocketAddrV6, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    let (ip, link) = host.strip_suffix(']')?.split_once('%')?;
    let addr: SocketAddrV6 = format!("{ip}]:{port}").parse().ok()?;
    let named = !link.bytes().all(|byte| byte.is_ascii_digit());
    (named && addr.ip().is_unicast_link_local()).then_some((addr, link))
}

/// The number of a link that has this name now.
fn number_of(link: &str) -> Result<u32, String> {
    any_socket()
        .and_then(|any| name_to_index(any, link))
        .map_err(|cause| format!("there is no link {link}: {cause}"))
}

/// Whether there is a link of this number now.
fn link_by_number(number: u32) -> Result<(), String> {
    let name = any_socket().and_then(|any| index_to_name(any, number));
    name.map(drop).map_err(|cause| format!("there is no link {number}: {cause}"))
}

fn any_socket() -> rustix::io::Result<OwnedFd> {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_link_says_which() {
        let said = |text: &str| address(text).map(|addr| addr.to_string());
        for text in ["10.0.0.1:1", "[2001:db8::1]:65535", "[fe80::1%1]:5"] {
            assert_eq!(said(text), Ok(text.to_owned()));
        }
        // Every machine has this link, and it is the first.
        assert_eq!(said("[fe80::1%lo]:5"), Ok("[fe80::1%1]:5".into()));
        assert!(said("[fe80::1%nolink]:5").unwrap_err().starts_with("there is no link nolink: "));
        assert!(said("[fe80::1%99999]:5").unwrap_err().starts_with("there is no link 99999: "));
        for text in ["[fe80::1]:5", "[fe80::1%0]:5", "[febf::1]:5"] {
            assert!(said(text).unwrap_err().contains("[fe80::1%eth0]"), "{text}");
        }
        let long = format!("[fe80::1%{}]:5", "x".repeat(500));
        for text in [
            "",
            "10.0.0.1",
            "host:5",
            "[fe80::1%]:5",
            "[2001:db8::1%lo]:5",
            "[fe80::1%lo]",
            "fe80::1%lo:5",
            &long,
        ] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(address("10.0.0.1:0").is_ok() && peer_address("10.0.0.1:0").is_err());
    }
}
