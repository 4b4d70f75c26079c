use super::{announce, canned, request, response, stub, stub_at};
use crate::discovery::names::Names;
use crate::discovery::tracker::counters::Counters;
use crate::discovery::tracker::http::{Http, Page};
use crate::discovery::tracker::reach::Reach;
use crate::discovery::tracker::tls::Tls;
use crate::discovery::tracker::udp_packet::Family;
use crate::discovery::tracker::url::HttpUrl;
use crate::discovery::tracker::{
    AnnounceResponse, Authorities, Count, EmbeddedTracker, EmbeddedTrackerConfig, HttpLimits, MAX_PEERS,
    ReplyError, TrackerClient, TrackerError, TrackerOptions, UrlError,
};
use crate::wire::Home;
use hyper::StatusCode;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Limits that a test can wait for.
fn limits() -> HttpLimits {
    HttpLimits {
        total: Duration::from_secs(3),
        connect: Duration::from_secs(1),
        idle: Duration::from_secs(1),
        body: 64 * 1024,
        redirects: 5,
    }
}

async fn ask(base: &str) -> Result<AnnounceResponse, TrackerError> {
    announce(&format!("{base}/announce"), &request(), &limits()).await
}

/// What comes of a server that sends these bytes.
async fn heard(bytes: impl Into<Vec<u8>>) -> Result<AnnounceResponse, TrackerError> {
    ask(&canned(bytes).await).await
}

#[tokio::test]
async fn the_embedded_tracker_answers() {
    for addr in ["127.0.0.1:0", "[::1]:0"] {
        let tracker =
            EmbeddedTracker::bind(addr.parse().unwrap(), EmbeddedTrackerConfig::default()).await.unwrap();
        let url = tracker.url();
        tokio::spawn(tracker.run());
        let reply = announce(&url, &request(), &HttpLimits::default()).await.unwrap();
        assert_eq!(reply.interval, Some(Duration::from_secs(1800)));
        assert_eq!((reply.complete, reply.incomplete), (Some(0), Some(1)));
        assert_eq!(reply.peers, []);
    }
}

#[tokio::test]
async fn a_host_name_is_looked_up() {
    let base = canned(response("200 OK", b"d8:intervali900ee")).await;
    let reply = ask(&base.replace("127.0.0.1", "localhost")).await.unwrap();
    assert_eq!(reply.interval, Some(Duration::from_secs(900)));
}

/// A server that hands on the head of each request, and has nothing to say.
async fn listening(heads: mpsc::Sender<String>) -> String {
    stub(move |head, mut stream| {
        let heads = heads.clone();
        async move {
            heads.send(head).await.unwrap();
            stream.write_all(&response("200 OK", b"de")).await.unwrap();
        }
    })
    .await
}

#[tokio::test]
async fn the_request_is_plain() {
    let (seen, mut head) = mpsc::channel(1);
    let base = listening(seen).await;
    announce(&format!("{base}/announce?passkey=7"), &request(), &limits()).await.unwrap();
    let head = head.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("get /announce?passkey=7&info_hash=%c3%c3"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", base.trim_start_matches("http://"))), "{head}");
    assert!(head.contains(&format!("\r\nuser-agent: seedring/{}\r\n", env!("CARGO_PKG_VERSION"))), "{head}");
    assert!(head.contains("\r\naccept-encoding: gzip\r\n"), "{head}");
}

/// One server redirects to itself, and then to another.
#[tokio::test]
async fn a_name_and_a_password_go_to_their_own_host_only() {
    let (seen, mut heads) = mpsc::channel(3);
    let other = listening(seen.clone()).await;
    let base = stub(move |head, mut stream| {
        let (seen, other) = (seen.clone(), other.clone());
        async move {
            let is_first = head.starts_with("GET /announce?");
            let next = if is_first { "/announce/again" } else { &format!("{other}/announce/last") };
            seen.send(head).await.unwrap();
            stream.write_all(redirect(next).as_bytes()).await.unwrap();
        }
    })
    .await;
    let url = format!("{}/announce", base.replace("http://", "http://me:secret@"));
    announce(&url, &request(), &limits()).await.unwrap();
    for (path, told) in [("/announce?", true), ("/announce/again ", true), ("/announce/last ", false)] {
        let head = heads.recv().await.unwrap();
        let says = head.to_lowercase().contains("\r\nauthorization: ") && head.contains("Basic bWU6c2VjcmV0");
        assert!(head.starts_with(&format!("GET {path}")) && says == told, "{head}");
    }
}

#[tokio::test]
async fn old_and_sloppy_servers_are_understood() {
    for bytes in [
        "HTTP/1.0 200 OK\r\n\r\nd8:intervali900ee",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali900ee\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nd8:in\r\n8\r\ntervali9\r\n4\r\n00ee\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 17\r\n\r\nd8:intervali900ee and more",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nd8:intervali900ee",
    ] {
        let reply = heard(bytes).await.unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
        assert_eq!(reply.interval, Some(Duration::from_secs(900)));
    }
}

#[tokio::test]
async fn a_refusal_counts_with_any_status() {
    for status in ["200 OK", "400 Bad Request", "403 Forbidden", "404 Not Found", "500 Oops"] {
        let error = heard(response(status, b"d14:failure reason7:go\x07awaye")).await.unwrap_err();
        let TrackerError::Reply(ReplyError::Refused { reason, .. }) = &error else {
            panic!("{status}: {error:?}")
        };
        assert_eq!(reason, "goaway");
    }
}

#[tokio::test]
async fn a_status_of_failure_is_a_failure() {
    for body in [&b""[..], b"<html>", b"d8:intervali900ee"] {
        let error = heard(response("503 Busy", body)).await.unwrap_err();
        assert!(matches!(error, TrackerError::Status(status, None) if status == 503), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_with_too_much_to_do_may_say_for_how_long() {
    let day = Some(24 * 60 * 60);
    for (status, retry_after, body, seconds) in [
        ("503 Busy", "120", "", Some(120)),
        ("429 Too Many Requests", " 7 ", "<html>", Some(7)),
        ("429 Too Many Requests", "9999999999", "", day),
        ("503 Busy", "0", "", None),
        ("503 Busy", "-1", "", None),
        ("503 Busy", "Fri, 31 Dec 1999 23:59:59 GMT", "", None),
        // Of other failures it would be news that they pass.
        ("404 Not Found", "120", "", None),
        // The longer counts.
        ("503 Busy", "120", "d14:failure reason4:busy8:retry ini1ee", Some(120)),
        ("503 Busy", "20", "d14:failure reason4:busy8:retry ini1ee", Some(60)),
        ("200 OK", "120", "d14:failure reason4:busye", None),
    ] {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nRetry-After: {retry_after}\r\n\r\n");
        let error = heard([head.as_bytes(), body.as_bytes()].concat()).await.unwrap_err();
        assert_eq!(error.wait(), seconds.map(Duration::from_secs), "{status}, {retry_after}, {body}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_replies_are_refused() {
    for body in [b"".to_vec(), b"<html>".to_vec(), b"d8:interval".to_vec(), b"l".repeat(60_000)] {
        let error = heard(response("200 OK", &body)).await.unwrap_err();
        assert!(matches!(error, TrackerError::Reply(ReplyError::NotBencode)), "{error:?}");
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    for bytes in [
        String::new(),
        "SSH-2.0-OpenSSH\r\n".into(),
        "d8:intervali900ee".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nd8:intervali900ee".into(),
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nde".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffffff\r\nde".into(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nd8:in".into(),
    ] {
        let error = heard(bytes.clone()).await.unwrap_err();
        assert!(matches!(error, TrackerError::Http(_)), "{:.60?}: {error:?}", bytes);
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_counts_as_such() {
    let limits = HttpLimits::default();
    for (head, fits) in [
        (format!("X: {}\r\n", "x".repeat(60_000)), true),
        (format!("X: {}\r\n", "x".repeat(200_000)), false),
        ("X: y\r\n".repeat(99), true),
        ("X: y\r\n".repeat(101), false),
    ] {
        let url = canned(format!("HTTP/1.1 200 OK\r\n{head}\r\nd8:intervali900ee")).await + "/announce";
        let client = TrackerClient::new(TrackerOptions { limits, ..TrackerOptions::default() });
        match client.announce(&url, &request()).await {
            Ok(_) => assert!(fits),
            Err(error) => assert!(!fits && matches!(error, TrackerError::HeadTooLarge), "{error:?}"),
        }
        let counts = [Count::TooLarge, Count::HttpFailed].map(|count| client.counts().get(count));
        assert_eq!(counts, [u64::from(!fits); 2]);
    }
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let base = stub(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nd5:peers99999999:").await.unwrap();
        while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
    })
    .await;
    let error = ask(&base).await.unwrap_err();
    assert!(matches!(error, TrackerError::TooLarge(65536)), "{error:?}");
    let huge = canned(response("200 OK", &b"x".repeat(65537))).await;
    assert!(matches!(ask(&huge).await, Err(TrackerError::TooLarge(65536))));
}

#[tokio::test]
async fn silence_is_not_waited_for() {
    for sent in ["", "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nd8:"] {
        let base = stub(move |_, mut stream| async move {
            stream.write_all(sent.as_bytes()).await.unwrap();
            let _ = stream.read_u8().await;
        })
        .await;
        let start = Instant::now();
        let error = ask(&base).await.unwrap_err();
        assert!(matches!(error, TrackerError::Timeout(_)), "{error:?}");
        assert!(start.elapsed() < Duration::from_secs(2), "idle is over after one second");
    }
    // Nor behind the door of an HTTPS tracker that says nothing: all of the time for an announce would be longer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = ask(&format!("https://{}", listener.local_addr().unwrap())).await.unwrap_err();
    assert!(matches!(error, TrackerError::Timeout("shake hands")), "{error:?}");
}

#[tokio::test]
async fn a_drip_is_not_listened_to_for_ever() {
    let base = stub(|_, mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
        while stream.write_all(b"1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let limits = HttpLimits { total: Duration::from_millis(700), ..limits() };
    let error = announce(&format!("{base}/announce"), &request(), &limits).await.unwrap_err();
    assert!(matches!(error, TrackerError::Timeout("answer")), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_said_with_the_address() {
    let free = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap();
    let error = ask(&format!("http://{free}")).await.unwrap_err();
    assert!(matches!(&error, TrackerError::Connect { addr, .. } if *addr == free), "{error:?}");
    assert!(error.to_string().contains(&free.to_string()));
}

/// A name with a label that is too long for DNS, so no resolver asks the network for it.
fn unknown_host() -> String {
    format!("{}.invalid", "x".repeat(64))
}

#[tokio::test]
async fn an_unknown_host_is_said_with_its_name() {
    let name = unknown_host();
    let error = ask(&format!("http://{name}")).await.unwrap_err();
    assert!(matches!(&error, TrackerError::Dns { host, .. } if *host == name), "{error:?}");
}

#[tokio::test]
async fn other_schemes_are_not_asked() {
    for url in ["wss://t.example/announce", "file:///etc/passwd"] {
        let error = announce(url, &request(), &limits()).await.unwrap_err();
        assert!(matches!(error, TrackerError::Url(UrlError::UnsupportedScheme(_))), "{error:?}");
    }
}

fn redirect(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_allowed() {
    for (hops, arrives) in [(1, true), (5, true), (6, false)] {
        let base = stub(move |head, mut stream| async move {
            let path = head.split(' ').nth(1).unwrap();
            let hop = path.strip_prefix("/announce/").map_or(0, |n| n.parse::<u32>().unwrap());
            let answer = match hop == hops {
                true => response("200 OK", b"d8:intervali900ee"),
                false => redirect(&format!("/announce/{}", hop + 1)).into_bytes(),
            };
            stream.write_all(&answer).await.unwrap();
        })
        .await;
        match ask(&base).await {
            Ok(reply) => assert!(arrives && reply.interval.is_some()),
            Err(TrackerError::TooManyRedirects(5)) => assert!(!arrives),
            Err(error) => panic!("{hops} hops: {error:?}"),
        }
    }
}

#[tokio::test]
async fn redirects_that_lead_nowhere_are_refused() {
    for (location, scheme) in [("udp://t.example:1/announce", "udp"), ("file:///etc/passwd", "file")] {
        let error = heard(redirect(location)).await.unwrap_err();
        let expected = UrlError::UnsupportedScheme(scheme.into());
        assert!(matches!(&error, TrackerError::Url(found) if *found == expected), "{error:?}");
    }
    let error = heard("HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n").await.unwrap_err();
    assert!(matches!(error, TrackerError::NoLocation), "{error:?}");
    let error = heard(redirect("http://[bad/")).await.unwrap_err();
    assert!(matches!(error, TrackerError::Url(UrlError::Malformed(_))), "{error:?}");
}

/// Asks with a notion of our own network.
async fn follow(url: &str, is_local: fn(IpAddr) -> bool) -> Result<Page, TrackerError> {
    let url = HttpUrl::parse(url).unwrap();
    let (limits, tls, counters) = (limits(), Tls::new(Authorities::default()), Counters::default());
    let reach = Reach { is_local, ..Reach::new(false) };
    let http = Http {
        limits: &limits,
        tls: &tls,
        names: &Names::new(2, limits.connect),
        counters: &counters,
        family: Family::V4,
        reach,
        home: Home::default(),
    };
    let addrs = vec![format!("{}:{}", url.host, url.port).parse().unwrap()];
    http.get(url, addrs).await
}

#[tokio::test]
async fn nobody_from_outside_sends_us_into_our_own_network() {
    let page = response("200 OK", b"de");
    let at = async |ip, bytes: Vec<u8>| {
        let base = stub_at(ip, move |_, mut stream| {
            let bytes = bytes.clone();
            async move { stream.write_all(&bytes).await.unwrap() }
        });
        format!("{}/announce", base.await)
    };
    // In this world 127.0.0.9 is our own network, and all else the internet.
    let own = |ip: IpAddr| ip == IpAddr::from([127, 0, 0, 9]);
    let inside = at("127.0.0.9", page.clone()).await;
    let outside = at("127.0.0.8", page).await;
    let to = |url: &str| redirect(url).into_bytes();
    let in_to_in = at("127.0.0.9", to(&inside)).await;
    let in_to_out = at("127.0.0.9", to(&outside)).await;
    let out_to_in = at("127.0.0.8", to(&inside)).await;
    let out_to_out_to_in = at("127.0.0.8", to(&out_to_in)).await;
    let in_to_out_to_in = at("127.0.0.9", to(&out_to_in)).await;
    for (url, last) in [(&inside, 9), (&outside, 8), (&in_to_in, 9), (&in_to_out, 8)] {
        let page = follow(url, own).await.unwrap();
        // Who answered in the end has named the peers.
        assert_eq!((page.status, page.from), (StatusCode::OK, Some([127, 0, 0, last].into())), "{url}");
    }
    for url in [&out_to_in, &out_to_out_to_in, &in_to_out_to_in] {
        let refused = follow(url, own).await;
        assert!(matches!(refused, Err(TrackerError::LocalRedirect(_))), "{url}: {refused:?}");
    }
}

#[tokio::test]
async fn of_several_addresses_one_that_answers_is_enough() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let live = listener.local_addr().unwrap();
    let url = HttpUrl::parse(&format!("http://{live}/announce")).unwrap();
    let (limits, tls, counters) = (limits(), Tls::new(Authorities::default()), Counters::default());
    let http = Http {
        limits: &limits,
        tls: &tls,
        names: &Names::new(2, limits.connect),
        counters: &counters,
        family: Family::V4,
        reach: Reach::new(false),
        home: Home::default(),
    };
    // The same port of another address of this machine, where nobody listens.
    let dead: SocketAddr = ([127, 0, 0, 7], live.port()).into();
    for addrs in [vec![dead, live], vec![live, dead], vec![dead, dead, live]] {
        assert_eq!(http.connect(&url, &addrs, false).await.unwrap().peer_addr().unwrap(), live);
    }
    let refused = http.connect(&url, &[dead], false).await;
    assert!(matches!(refused, Err(TrackerError::Connect { addr, .. }) if addr == dead), "{refused:?}");
    let refused = http.connect(&url, &[], false).await;
    assert!(matches!(refused, Err(TrackerError::Dns { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_crowd_of_peers_is_cut() {
    let list: String = (1..=2000).map(|port| format!("d2:ip7:1.2.3.44:porti{port}ee")).collect();
    let reply = heard(response("200 OK", format!("d5:peersl{list}ee").as_bytes())).await.unwrap();
    assert_eq!(reply.peers.len(), MAX_PEERS);
}

#[tokio::test]
async fn no_sentence_shows_the_passkey() {
    let limits = limits();
    for base in [
        canned(response("500 Oops", b"")).await,
        canned("nonsense").await,
        "wss://t.example".into(),
        "udp://127.0.0.1:1".into(),
        format!("http://{}", unknown_host()),
        "http://127.0.0.1:1".into(),
        "http://169.254.7.7".into(),
    ] {
        let error = announce(&format!("{base}/announce/secret"), &request(), &limits).await.unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
