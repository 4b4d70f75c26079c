use super::{canned, request, response};
use crate::discovery::tracker::reach::{Reach, is_own};
use crate::discovery::tracker::{Count, TrackerClient, TrackerError, TrackerOptions};
use crate::swarm::is_inside;
use std::net::SocketAddr;

#[test]
fn own_networks_are_told_from_the_internet() {
    for (ip, local) in [
        ("127.0.0.1", true),
        ("10.1.2.3", true),
        ("192.168.0.1", true),
        ("169.254.169.254", true),
        ("0.0.0.0", true),
        ("::1", true),
        ("fe80::1", true),
        ("fd00::1", true),
        ("::ffff:127.0.0.1", true),
        ("0.1.2.3", true),
        ("100.64.0.1", true),
        ("100.128.0.1", false),
        ("64:ff9b::127.0.0.1", true),
        ("64:ff9b::8.8.8.8", false),
        ("64:ff9b:1::127.0.0.1", true),
        ("64:ff9b:1:2::10.0.0.1", true),
        ("2002:7f00:1::1", true),
        ("2002:808:808::1", false),
        ("::127.0.0.1", true),
        ("::8.8.8.8", false),
        ("192.0.2.1", false),
        ("8.8.8.8", false),
        ("2001:db8::1", false),
    ] {
        assert_eq!(is_inside(ip.parse().unwrap()), local, "{ip}");
    }
}

#[test]
fn a_torrent_sends_us_to_nothing_but_trackers() {
    for (ip, path, asked) in [
        ("127.0.0.1", "/announce", true),
        ("127.0.0.1", "/announce.php?passkey=7", true),
        ("127.0.0.1", "/announce/7", true),
        ("127.0.0.1", "", true),
        ("127.0.0.1", "/", false),
        ("127.0.0.1", "/?/announce", false),
        ("127.0.0.1", "/any/announce", false),
        ("127.0.0.1", "/announce/../admin", false),
        ("127.0.0.1", "/announce/%2E%2e/admin", false),
        ("127.0.0.1", "/announce/.%2e/admin", false),
        ("127.0.0.1", "/announce/%252e%252E/admin", false),
        ("127.0.0.1", "/announce/%25252e%25252e/admin", false),
        ("127.0.0.1", "/announce%2f%2E./admin", false),
        ("127.0.0.1", "/announce%252f/admin", false),
        ("127.0.0.1", "/announce/%2%35e%2%35e/admin", false),
        ("127.0.0.1", "/announce/%c0%ae%c0%ae/admin", false),
        ("127.0.0.1", "/announce\\.%5c/admin", false),
        ("127.0.0.1", "/announce/%2", false),
        ("127.0.0.1", "/announce/%7Euser/a.b?passkey=%2e%2e%25", true),
        ("192.0.2.1", "/announce/%252e%252e/admin", true),
        ("127.255.1.2", "/admin", false),
        ("0.0.0.0", "/admin", false),
        ("::1", "/admin", false),
        ("::1", "/announce", true),
        ("::", "/admin", false),
        ("::ffff:127.0.0.1", "/admin", false),
        ("64:ff9b::127.0.0.1", "/admin", false),
        ("::127.0.0.1", "/admin", false),
        ("::169.254.169.254", "/announce", false),
        ("64:ff9b:1::127.0.0.1", "/admin", false),
        ("2002:7f00:1::1", "/admin", false),
        ("2002:a9fe:a9fe::1", "/announce", false),
        ("169.254.169.254", "/announce", false),
        ("169.254.1.1", "", false),
        ("::ffff:169.254.169.254", "/announce", false),
        ("64:ff9b::169.254.169.254", "/announce", false),
        ("fe80::1", "/announce", false),
        ("fd00:ec2::254", "/announce", false),
        ("fd20:ce::254", "/announce", false),
        ("100.100.100.200", "/announce", false),
        ("10.1.2.3", "/any/path", true),
        ("fd00::1", "/any/path", true),
        ("192.0.2.1", "/any/path", true),
        ("2001:db8::1", "/any/path", true),
    ] {
        let addr = SocketAddr::new(ip.parse().unwrap(), 80);
        let permitted = Reach::new(false).permitted(vec![addr], path);
        assert_eq!(permitted.is_ok(), asked, "{ip} {path}: {permitted:?}");
        assert_eq!(Reach::new(true).permitted(vec![addr], path).unwrap(), [addr]);
    }
}

#[test]
fn every_address_of_this_machine_is_asked_for_trackers_only() {
    let addr = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
    let reach = Reach { is_own: |ip| ip == addr_of("10.1.2.3"), ..Reach::new(false) };
    for (ip, path, asked) in [
        ("10.1.2.3", "/announce", true),
        ("10.1.2.3", "/admin", false),
        ("::ffff:10.1.2.3", "/admin", false),
        ("64:ff9b::10.1.2.3", "/admin", false),
        ("10.1.2.4", "/admin", true),
    ] {
        assert_eq!(reach.permitted(vec![addr(ip)], path).is_ok(), asked, "{ip} {path}");
    }
    for (ip, own) in [("127.0.0.1", true), ("::1", true), ("192.0.2.1", false), ("2001:db8::1", false)] {
        assert_eq!(is_own(addr_of(ip)), own, "{ip}");
    }
}

fn addr_of(ip: &str) -> std::net::IpAddr {
    ip.parse().unwrap()
}

#[test]
fn of_several_addresses_the_others_are_asked() {
    let [bad, good] = ["127.0.0.1:80", "192.0.2.1:80"].map(|addr| addr.parse::<SocketAddr>().unwrap());
    assert_eq!(Reach::new(false).permitted(vec![bad, good], "/x").unwrap(), [good]);
    assert_eq!(Reach::new(false).permitted(Vec::new(), "/x").unwrap(), []);
}

#[tokio::test]
async fn what_else_listens_on_this_machine_hears_nothing_unless_it_is_allowed() {
    let base = canned(response("200 OK", b"d8:intervali900ee")).await;
    let path = format!("{base}/any/announce");
    let by_udp = path.replace("http:", "udp:");
    for url in [&path, &by_udp, "http://169.254.7.7/announce", "udp://169.254.7.7:80"] {
        let client = TrackerClient::new(TrackerOptions::default());
        let error = client.announce(url, &request()).await.unwrap_err();
        assert!(matches!(error, TrackerError::Forbidden(_)), "{url}: {error:?}");
        assert_eq!(client.counts().get(Count::AddressRefused), 1);
        let error = client.scrape(url, &[request().info_hash]).await.unwrap_err();
        assert!(matches!(error, TrackerError::Forbidden(_) | TrackerError::Url(_)), "{url}: {error:?}");
        assert_eq!(client.counts().get(Count::BytesSent), 0);
    }
    let options = TrackerOptions { any_address: true, ..TrackerOptions::default() };
    TrackerClient::new(options).announce(&path, &request()).await.unwrap();
}

#[tokio::test]
async fn a_redirect_leads_no_further_on_this_machine() {
    let target = canned(response("200 OK", b"d8:intervali900ee")).await;
    for (path, asked) in [("/announce", true), ("/admin", false)] {
        let location = format!("HTTP/1.1 302 Found\r\nLocation: {target}{path}\r\nContent-Length: 0\r\n\r\n");
        let mut url = format!("{}/announce", canned(location).await);
        // The rule is the same at the first hop and at the third.
        for hops in 1..=3 {
            let result = TrackerClient::new(TrackerOptions::default()).announce(&url, &request()).await;
            assert_eq!(
                matches!(result, Err(TrackerError::Forbidden(_))),
                !asked,
                "{path}, {hops}: {result:?}"
            );
            assert_eq!(result.is_ok(), asked);
            let further = format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n");
            url = format!("{}/announce", canned(further).await);
        }
    }
}
