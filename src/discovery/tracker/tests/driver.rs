use super::{canned, response, stub};
use crate::discovery::tracker::driver::supported;
use crate::discovery::tracker::{
    AnnouncerConfig, Announcing, Count, EmbeddedTracker, EmbeddedTrackerConfig, Event, Note, TorrentIdentity,
    Totals, TrackerClient, TrackerOptions, announce_key,
};
use crate::metainfo::InfoHash;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// A torrent being announced, with the ends the session holds.
pub(super) struct Torrent {
    pub(super) announcing: Announcing,
    pub(super) totals: Arc<Totals>,
    peers: mpsc::Receiver<Vec<SocketAddr>>,
    pub(super) notes: mpsc::Receiver<Note>,
}

pub(super) fn start(port: u16, left: u64, tiers: &[&str]) -> Torrent {
    start_with(TrackerOptions::default(), false, port, left, tiers)
}

/// A torrent of a client that asks so often.
fn start_as(
    client: Arc<TrackerClient>,
    config: AnnouncerConfig,
    port: u16,
    left: u64,
    tiers: &[&str],
) -> Torrent {
    let mut peer_id = *b"-SR0001-abcdefghijkl";
    peer_id[18..].copy_from_slice(&port.to_be_bytes());
    let tiers = tiers.iter().map(|url| vec![(*url).to_owned()]).collect();
    let torrent =
        TorrentIdentity { info_hash: InfoHash([1; 20]), peer_id, port, key: 1, tiers, told: Vec::new() };
    let totals = Arc::new(Totals::default());
    totals.left.store(left, Ordering::Relaxed);
    let (peers_out, peers) = mpsc::channel(16);
    let (notes_out, notes) = mpsc::channel(16);
    let announcing = Announcing::start(client, torrent, config, totals.clone(), peers_out, notes_out);
    Torrent { announcing, totals, peers, notes }
}

fn start_with(options: TrackerOptions, to_all: bool, port: u16, left: u64, tiers: &[&str]) -> Torrent {
    let config = AnnouncerConfig {
        to_all,
        shortest_interval: Duration::from_millis(200),
        shortest_min_interval: Duration::from_millis(200),
        default_min_interval: Duration::from_millis(200),
        first_retry: Duration::from_millis(200),
        ..AnnouncerConfig::default()
    };
    // The trackers of these tests have no path.
    let client = TrackerClient::new(TrackerOptions { any_address: true, ..options });
    start_as(Arc::new(client), config, port, left, tiers)
}

impl Torrent {
    async fn note(&mut self) -> Note {
        timeout(Duration::from_secs(10), self.notes.recv())
            .await
            .expect("a note in time")
            .expect("a running task")
    }

    pub(super) async fn announced(&mut self) -> (Option<Event>, Option<u64>, Option<u64>) {
        match self.note().await {
            Note::Announced { event, complete, incomplete, .. } => (event, complete, incomplete),
            other => panic!("{other:?}"),
        }
    }

    async fn found(&mut self) -> Vec<SocketAddr> {
        timeout(Duration::from_secs(10), self.peers.recv())
            .await
            .expect("peers in time")
            .expect("a running task")
    }
}

pub(super) async fn tracker(interval: u64) -> String {
    let config = EmbeddedTrackerConfig { interval: Duration::from_secs(interval), allowed: None };
    let tracker = EmbeddedTracker::bind(([127, 0, 0, 1], 0).into(), config).await.unwrap();
    let url = tracker.url();
    tokio::spawn(tracker.run());
    url
}

#[tokio::test]
async fn two_peers_meet_complete_and_part() {
    let url = tracker(1000).await;
    let mut seed = start(1001, 0, &[&url]);
    assert_eq!(seed.announced().await, (Some(Event::Started), Some(1), Some(0)));
    let mut leech = start(1002, 10, &[&url]);
    assert_eq!(leech.announced().await, (Some(Event::Started), Some(1), Some(1)));
    assert_eq!(leech.found().await, ["127.0.0.1:1001".parse().unwrap()]);

    leech.totals.left.store(0, Ordering::Relaxed);
    leech.announcing.completed();
    assert_eq!(leech.announced().await, (Some(Event::Completed), Some(2), Some(0)));

    seed.announcing.want_peers();
    assert_eq!(seed.announced().await, (None, Some(2), Some(0)));
    assert_eq!(seed.found().await, ["127.0.0.1:1002".parse().unwrap()]);

    leech.announcing.stop().await;
    let Note::Announced { event: Some(Event::Stopped), complete: Some(1), .. } =
        leech.notes.recv().await.unwrap()
    else {
        panic!("no goodbye")
    };
    seed.announcing.stop().await;
}

#[tokio::test]
async fn the_interval_of_the_tracker_is_kept() {
    let url = tracker(1).await;
    let mut torrent = start(1001, 0, &[&url]);
    torrent.announced().await;
    let start = Instant::now();
    assert_eq!(torrent.announced().await.0, None);
    let waited = start.elapsed().as_millis();
    assert!((900..3000).contains(&waited), "{waited} ms");
}

#[tokio::test]
async fn who_wishes_in_vain_waits_longer_until_there_were_peers() {
    let url = tracker(1000).await;
    let mut torrent = start(1001, 10, &[&url]);
    torrent.announced().await;
    let mut gaps = Vec::new();
    for gap in 0..4 {
        if gap == 3 {
            torrent.announcing.has_peers();
        }
        let start = Instant::now();
        loop {
            torrent.announcing.want_peers();
            match timeout(Duration::from_millis(20), torrent.announced()).await {
                Ok(_) => break,
                Err(_) => assert!(start.elapsed() < Duration::from_secs(10), "{gap}: {gaps:?}"),
            }
        }
        gaps.push(start.elapsed().as_millis());
    }
    // In between it is 400.
    assert!(gaps[0] < 400 && gaps[2] >= 750 && gaps[3] < 750, "{gaps:?}");
}

#[tokio::test]
async fn an_interval_that_is_not_kept_to_is_counted() {
    let long = canned(response("200 OK", b"d8:intervali100000e12:min intervali86401ee")).await + "/announce";
    for (url, clamped) in [(tracker(1).await, 1), (tracker(1000).await, 0), (long, 2)] {
        let client = Arc::new(TrackerClient::new(TrackerOptions::default()));
        let mut torrent = start_as(client.clone(), AnnouncerConfig::default(), 1001, 0, &[&url]);
        torrent.announced().await;
        assert_eq!(client.counts().get(Count::IntervalClamped), clamped, "{url}");
    }
}

#[tokio::test]
async fn a_dead_tracker_leads_to_the_next_tier() {
    let url = tracker(1000).await;
    let mut torrent = start(
        1001,
        0,
        &["wss://127.0.0.1:1/announce", "udp://127.0.0.1:1/announce", "http://127.0.0.1:1/announce", &url],
    );
    let Note::Failed { tracker, event: None, .. } = torrent.note().await else { panic!("not supported") };
    assert_eq!(tracker, "wss://127.0.0.1:1");
    let Note::Failed { tracker, .. } = torrent.note().await else { panic!("nobody is there") };
    assert_eq!(tracker, "udp://127.0.0.1:1");
    let Note::Failed { tracker, event, .. } = torrent.note().await else { panic!("nobody is there") };
    assert_eq!((tracker.as_str(), event), ("http://127.0.0.1:1", Some(Event::Started)));
    assert_eq!(torrent.announced().await.0, Some(Event::Started));
}

#[tokio::test]
async fn peers_given_by_name_are_looked_up() {
    let body = b"d8:intervali900e5:peersld2:ip9:192.0.2.14:porti7eed2:ip9:localhost4:porti8eed2:ip9:-.invalid4:porti9eeee";
    let base = canned(response("200 OK", body)).await;
    let mut torrent = start(1001, 0, &[&base]);
    assert_eq!(torrent.found().await, ["192.0.2.1:7".parse().unwrap()]);
    let named = torrent.found().await;
    assert!(!named.is_empty());
    assert!(named.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 8), "{named:?}");
}

#[tokio::test]
async fn a_silent_tracker_does_not_hold_up_the_end() {
    let base = stub(|head, mut stream| async move {
        if head.contains("event=started") {
            stream.write_all(&response("200 OK", b"d8:intervali900ee")).await.unwrap();
        }
        let _ = stream.read_u8().await;
    })
    .await;
    let mut torrent = start(1001, 0, &[&base]);
    torrent.announced().await;
    let start = Instant::now();
    torrent.announcing.stop().await;
    let waited = start.elapsed();
    assert!((Duration::from_secs(4)..Duration::from_secs(7)).contains(&waited), "{waited:?}");
}

#[tokio::test]
async fn who_wants_to_be_left_alone_is() {
    let (heard, mut times) = mpsc::channel(16);
    let busy = stub(move |_, mut stream| {
        let heard = heard.clone();
        async move {
            heard.send(Instant::now()).await.unwrap();
            let head = b"HTTP/1.1 503 Busy\r\nConnection: close\r\nRetry-After: 2\r\n\r\n";
            stream.write_all(head).await.unwrap();
        }
    })
    .await;
    // After another failure it would be asked again in a quarter of a second.
    let torrent = start(1001, 10, &[&busy]);
    let first = times.recv().await.unwrap();
    torrent.announcing.want_peers();
    let waited = times.recv().await.unwrap() - first;
    assert!(waited > Duration::from_millis(1900), "{waited:?}");
}

#[tokio::test]
async fn who_is_not_known_leaves_soon() {
    let silent = stub(|_, mut stream| async move {
        let _ = stream.read_u8().await;
    })
    .await;
    for tiers in [&[silent.as_str()][..], &[]] {
        let torrent = start(1001, 0, tiers);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let start = Instant::now();
        torrent.announcing.stop().await;
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}

/// A tracker over UDP that gives each address with its port a connection id of its own, and says nothing to whoever comes by
/// that of another. Returns its URL and the events that it hears of.
async fn choosy_tracker() -> (String, mpsc::Receiver<u8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let url = format!("udp://{}/announce", socket.local_addr().unwrap());
    let (heard, events) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut packet).await {
            let id = (0xffff_0000 | u64::from(from.port())).to_be_bytes();
            let head = [&packet[8..12], &packet[12..16]].concat();
            let rest: &[u8] = match packet[11] {
                0 => &id,
                _ if packet[..8] != id => continue,
                _ => &[900u32, 1, 0].map(u32::to_be_bytes).concat(),
            };
            if packet[11] == 1 {
                heard.send(packet[83]).await.unwrap();
            }
            socket.send_to(&[&head, rest].concat(), from).await.unwrap();
        }
    });
    (url, events)
}

#[tokio::test]
async fn a_udp_tracker_that_knows_each_port_by_an_id_of_its_own_hears_it_all() {
    let (url, mut events) = choosy_tracker().await;
    let mut torrent = start(1001, 10, &[&url]);
    torrent.announced().await;
    torrent.announcing.completed();
    assert_eq!(torrent.announced().await.0, Some(Event::Completed));
    torrent.announcing.stop().await;
    // As BEP 15 numbers them: started, completed, stopped.
    for event in [2, 1, 3] {
        assert_eq!(events.try_recv(), Ok(event));
    }
}

#[tokio::test]
async fn a_dropped_handle_ends_the_task() {
    let url = tracker(1).await;
    let mut torrent = start(1001, 0, &[&url]);
    torrent.announced().await;
    drop(torrent.announcing);
    let end = timeout(Duration::from_secs(5), async { while torrent.notes.recv().await.is_some() {} });
    end.await.expect("the task lets go of its channels");
}

/// A tracker that tells what it is asked. Returns its URL and the request lines.
async fn listening() -> (String, mpsc::Receiver<String>) {
    let (heard, lines) = mpsc::channel(16);
    let base = stub(move |head, mut stream| {
        let heard = heard.clone();
        async move {
            heard.send(head.lines().next().unwrap().to_owned()).await.unwrap();
            stream.write_all(&response("200 OK", b"d8:intervali900ee")).await.unwrap();
        }
    })
    .await;
    (format!("{base}/announce"), lines)
}

#[tokio::test]
async fn every_tracker_is_asked_by_choice() {
    let (first, mut heard_first) = listening().await;
    let (second, mut heard_second) = listening().await;
    let torrent =
        start_with(TrackerOptions::default(), true, 1001, 10, &[&first, "udp://127.0.0.1:1", &second]);
    let mut each = async |what: &str| {
        for heard in [&mut heard_first, &mut heard_second] {
            let line = heard.recv().await.unwrap();
            assert!(line.contains(what), "{what}: {line}");
        }
    };
    each("event=started").await;
    torrent.announcing.completed();
    each("event=completed").await;
    torrent.announcing.stop().await;
    each("event=stopped").await;
}

#[tokio::test]
async fn a_partial_seed_says_that_it_is_paused() {
    let (url, mut heard) = listening().await;
    let mut torrent = start(1001, 10, &[&url]);
    torrent.totals.paused.store(true, Ordering::Relaxed);
    assert!(heard.recv().await.unwrap().contains("event=started"));
    assert!(heard.recv().await.unwrap().contains("event=paused"), "unasked: it is no leech from the start");
    // Wishes count between two announces only.
    torrent.announced().await;
    torrent.announced().await;
    torrent.totals.left.store(0, Ordering::Relaxed);
    torrent.announcing.want_peers();
    assert!(!heard.recv().await.unwrap().contains("event="));
    torrent.announcing.stop().await;
}

#[tokio::test]
async fn the_host_name_is_told_when_there_is_one() {
    for (hostname, told) in [(Some("seed-1.local"), true), (None, false)] {
        let (url, mut heard) = listening().await;
        let options = TrackerOptions { hostname: hostname.map(str::to_owned), ..TrackerOptions::default() };
        let torrent = start_with(options, false, 1001, 0, &[&url]);
        let line = heard.recv().await.unwrap();
        assert_eq!(line.contains("&hostname=seed-1.local"), told, "{line}");
        assert_eq!(line.contains("hostname"), told, "{line}");
        torrent.announcing.stop().await;
    }
}

#[tokio::test]
async fn a_scrape_is_made_on_request() {
    let base = stub(|head, mut stream| async move {
        let body = if head.starts_with("GET /scrape?") {
            let torrent = "\u{1}".repeat(20);
            format!("d5:filesd20:{torrent}d8:completei5e10:downloadedi50e10:incompletei10eeee")
        } else {
            "d8:intervali900ee".into()
        };
        stream.write_all(&response("200 OK", body.as_bytes())).await.unwrap();
    })
    .await;
    let mut torrent = start(1001, 0, &[&format!("{base}/announce")]);
    torrent.announced().await;
    torrent.announcing.scrape();
    let Note::Scraped { tracker, result: Ok(Some(counts)) } = torrent.note().await else {
        panic!("no counts")
    };
    assert_eq!(tracker, base);
    assert_eq!((counts.complete, counts.downloaded, counts.incomplete), (Some(5), Some(50), Some(10)));
    torrent.announcing.stop().await;
}

#[tokio::test]
async fn the_word_and_the_vote_of_a_tracker_are_passed_on() {
    let body = b"d11:external ip4:\xc0\x00\x02\x018:intervali900e15:warning message7:be\x1bwaree";
    let base = canned(response("200 OK", body)).await;
    let mut torrent = start(1001, 0, &[&base]);
    let Note::Announced { warning, external_ip, .. } = torrent.note().await else { panic!("it failed") };
    assert_eq!(warning.as_deref(), Some("beware"));
    assert_eq!(external_ip, Some("192.0.2.1".parse().unwrap()));
}

#[test]
fn of_more_trackers_than_are_asked_the_last_are_left_out() {
    let tier = |scheme: &str| (1..=70).map(|port| format!("{scheme}://192.0.2.1:{port}/announce")).collect();
    let (client, (notes, _log)) = (TrackerClient::new(TrackerOptions::default()), mpsc::channel(16));
    let kept: Vec<Vec<String>> = supported(vec![tier("http"), tier("wss"), tier("udp")], &notes, &client);
    assert_eq!(kept.iter().map(Vec::len).collect::<Vec<_>>(), [70, 30]);
    assert_eq!(client.counts().get(Count::TrackerDropped), 40);
}

#[test]
fn a_tracker_that_is_named_twice_is_asked_as_one() {
    let tier = |urls: &[&str]| urls.iter().map(|url| format!("{url}/announce")).collect::<Vec<_>>();
    let (client, (notes, mut log)) = (TrackerClient::new(TrackerOptions::default()), mpsc::channel(16));
    let [a, b, other] = ["http://192.0.2.1", "udp://192.0.2.1:1", "wss://192.0.2.1"];
    let tiers = vec![tier(&[a, a, other]), tier(&[a, other]), tier(&[b, a]), tier(&[b])];
    assert_eq!(supported(tiers, &notes, &client), [tier(&[a]), tier(&[b])]);
    assert!(matches!(log.try_recv(), Ok(Note::Failed { .. })) && log.try_recv().is_err());
    assert_eq!(client.counts().get(Count::TrackerDropped), 0);
    // However it is written.
    let same = [
        "http://tracker.test/announce",
        "HTTP://Tracker.TEST/announce",
        "http://tracker.test:80/announce",
        "http://tracker.test:/announce",
    ];
    let others = [
        "https://tracker.test/announce",
        "udp://tracker.test:80/announce",
        "http://tracker.test:81/announce",
        "http://tracker.test/Announce",
        "http://tracker.test/announce?key=1",
        "http://user:word@tracker.test/announce",
    ];
    let tier = [&same[..], &others[..]].concat().into_iter().map(String::from).collect();
    assert_eq!(supported(vec![tier], &notes, &client)[0], [&same[..1], &others[..]].concat());
    // Nor does it take the place of another when there are many.
    let twice =
        (1..=60).flat_map(|port| [port, port]).map(|port| format!("udp://192.0.2.1:{port}")).collect();
    assert_eq!(supported(vec![twice], &notes, &client)[0].len(), 60);
}

#[test]
fn the_key_stays_and_is_of_one_torrent_and_one_id() {
    let (torrent, id) = (InfoHash([1; 20]), [2; 20]);
    let key = announce_key(torrent, id);
    assert_eq!(announce_key(torrent, id), key);
    // One in 2⁶⁴ times both are equal by chance.
    assert!([announce_key(InfoHash([3; 20]), id), announce_key(torrent, [3; 20])] != [key; 2]);
}
