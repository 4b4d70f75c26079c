use super::client::{peer_v4, peer_v6, trackers_of_both_families};
use super::{request, stub_at};
use crate::discovery::tracker::url::TrackerUrl;
use crate::discovery::tracker::{PeerAddr, TrackerClient, TrackerOptions, UdpPatience};
use crate::wire::Home;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn home(listen: &str) -> Home {
    Home::new(Some(addr(listen)))
}

#[test]
fn trackers_hear_of_us_in_the_families_in_which_we_listen() {
    let [v4, v6] = ["198.51.100.1:80", "[2001:db8::1]:80"].map(addr);
    for (listen, asked) in [
        ("0.0.0.0:6881", [true, false]),
        ("192.0.2.5:6881", [true, false]),
        ("[::ffff:192.0.2.5]:6881", [true, false]),
        ("127.0.0.5:6881", [true, false]),
        ("[::]:6881", [true, true]),
        ("[2001:db8::5]:6881", [false, true]),
    ] {
        let suitable = home(listen).suitable(vec![v6, v4]);
        assert_eq!([v4, v6].map(|addr| suitable.contains(&addr)), asked, "{listen}");
        assert_eq!(home(listen).suitable(vec![v6, v6]), [v6, v6], "else it would tell us of nobody");
        assert_eq!(home(listen).suitable(vec![v4]), [v4]);
    }
    assert_eq!(Home::default().suitable(vec![v6, v4]), [v6, v4]);
}

#[test]
fn they_are_asked_from_where_we_listen() {
    for (listen, tracker, from) in [
        ("192.0.2.5:6881", "198.51.100.1:80", Some("192.0.2.5:0")),
        ("192.0.2.5:6881", "127.0.0.1:80", Some("192.0.2.5:0")),
        ("[::ffff:192.0.2.5]:6881", "198.51.100.1:80", Some("192.0.2.5:0")),
        ("[2001:db8::5]:6881", "[2001:db8::1]:80", Some("[2001:db8::5]:0")),
        ("127.0.0.5:6881", "127.0.0.1:80", Some("127.0.0.5:0")),
        // From there is no way.
        ("127.0.0.5:6881", "198.51.100.1:80", None),
        ("[::1]:6881", "[2001:db8::1]:80", None),
        ("[fe80::5%2]:6881", "[2001:db8::1]:80", None),
        ("169.254.1.5:6881", "198.51.100.1:80", None),
        ("[fd00::5]:6881", "[2001:db8::1]:80", None),
        ("169.254.1.5:6881", "169.254.1.9:80", Some("169.254.1.5:0")),
        ("[fd00::5]:6881", "[fd00::1]:80", Some("[fd00::5]:0")),
        ("[fe80::5%2]:6881", "[fe80::1%2]:80", Some("[fe80::5%2]:0")),
        ("192.0.2.5:6881", "[2001:db8::1]:80", None),
        ("[2001:db8::5]:6881", "198.51.100.1:80", None),
        // Whichever the kernel takes peers reach us at.
        ("0.0.0.0:6881", "198.51.100.1:80", None),
        ("[::]:6881", "[2001:db8::1]:80", None),
        ("[::]:6881", "198.51.100.1:80", None),
    ] {
        assert_eq!(home(listen).towards(addr(tracker)), from.map(addr), "{listen} {tracker}");
        let any = if addr(tracker).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        assert_eq!(home(listen).or_any(addr(tracker)), addr(from.unwrap_or(any)), "{listen} {tracker}");
    }
    assert_eq!(Home::default().towards(addr("198.51.100.1:80")), None);
}

/// Which peers a tracker at these places tells of who listens there.
async fn told(listen: &str, url: &str, places: &[SocketAddr]) -> Vec<PeerAddr> {
    let options = TrackerOptions { listen: Some(addr(listen)), ..TrackerOptions::default() };
    let (client, url) = (TrackerClient::new(options), TrackerUrl::parse(url).unwrap());
    let patience = UdpPatience { first_wait: Duration::from_millis(300), retries: 1 };
    let mut all =
        client.announce_at(&url, places.to_vec(), &request(), patience, &|_| ()).await.unwrap().peers;
    all.sort_by_key(|peer| *peer == peer_v6());
    all
}

/// Of each family it tells of another peer: by these it is seen which was asked.
#[tokio::test]
async fn a_tracker_of_both_families_is_not_told_of_us_where_nobody_listens() {
    for (url, [v4, v6]) in trackers_of_both_families().await {
        assert_eq!(told("0.0.0.0:6881", url, &[v6, v4]).await, [peer_v4()], "{url}");
        assert_eq!(told("127.0.0.1:6881", url, &[v6, v4]).await, [peer_v4()], "{url}");
        assert_eq!(told("[::1]:6881", url, &[v4, v6]).await, [peer_v6()], "{url}");
        assert_eq!(told("[::]:6881", url, &[v4, v6]).await, [peer_v4(), peer_v6()], "{url}");
        assert_eq!(told("0.0.0.0:6881", url, &[v6]).await, [peer_v6()], "{url}: there is no other");
    }
}

#[tokio::test]
async fn a_tracker_sees_the_address_that_we_listen_at() {
    let (seen, mut sees) = mpsc::channel(9);
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let http = {
        let seen = seen.clone();
        stub_at("127.0.0.1", move |_, stream| {
            let (seen, from) = (seen.clone(), stream.0.peer_addr().unwrap());
            async move {
                seen.send(from).await.unwrap();
                std::future::pending::<()>().await;
                drop(stream);
            }
        })
    };
    let urls = [format!("udp://{}/announce", udp.local_addr().unwrap()), format!("{}/announce", http.await)];
    tokio::spawn(async move {
        while let Ok((_, from)) = udp.recv_from(&mut [0; 2048]).await {
            seen.send(from).await.unwrap();
        }
    });
    for (listen, from) in [("127.0.0.9:6881", [127, 0, 0, 9]), ("0.0.0.0:6881", [127, 0, 0, 1])] {
        let options = TrackerOptions { listen: Some(addr(listen)), ..TrackerOptions::default() };
        let client = TrackerClient::new(options);
        for url in &urls {
            let request = request();
            let (asked, seen) = (client.announce(url, &request), sees.recv());
            // Nobody answers.
            let seen = tokio::select! {
                seen = timeout(Duration::from_secs(9), seen) => seen.unwrap().unwrap(),
                answer = asked => panic!("{answer:?}"),
            };
            assert_eq!(seen.ip(), std::net::IpAddr::from(from), "{listen} {url}");
        }
    }
}
