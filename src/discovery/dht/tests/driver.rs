//! Nodes on real sockets.

use crate::discovery::dht::encode::{self, Ask, Asker};
use crate::discovery::dht::keeper::Saves;
use crate::discovery::dht::message::{Body, parse};
use crate::discovery::dht::{DhtHandle, DhtNote, DhtSettings, DhtSockets, NodeId};
use crate::metainfo::InfoHash;
use crate::swarm::IpFilter;
use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep, timeout};

const HASH: InfoHash = InfoHash([5; 20]);
/// Only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(100);

struct Node {
    handle: DhtHandle,
    addr: SocketAddr,
    notes: mpsc::Receiver<DhtNote>,
    kept: usize,
    borrowed: bool,
    /// What went wrong at the start.
    problems: Vec<DhtNote>,
}

async fn next<T>(channel: &mut mpsc::Receiver<T>) -> T {
    timeout(DEADLINE, channel.recv()).await.expect("in time").expect("there is one more")
}

thread_local! {
    /// What nodes that are started from now on have nothing to do with.
    static FILTER: RefCell<Option<Arc<IpFilter>>> = const { RefCell::new(None) };
}

/// Each at an address of its own.
async fn start(last: u8, bootstrap: &[SocketAddr], state: Option<PathBuf>) -> Node {
    // A port that is free: else another is taken, which does just as well.
    let free =
        std::net::UdpSocket::bind(SocketAddr::from(([127, 0, 77, last], 0))).unwrap().local_addr().unwrap();
    let settings = DhtSettings {
        listen: free,
        bootstrap: bootstrap.iter().map(SocketAddr::to_string).collect(),
        state,
        read_only: false,
        filter: FILTER.with_borrow(Clone::clone),
    };
    let (tell, mut notes) = mpsc::channel(64);
    let handle = DhtHandle::start(settings, DhtSockets::bind(free), tell);
    let mut problems = Vec::new();
    loop {
        match next(&mut notes).await {
            DhtNote::Started { addrs, kept, borrowed } => {
                return Node { handle, addr: addrs[0], notes, kept, borrowed, problems };
            }
            other => problems.push(other),
        }
    }
}

async fn until(node: &mut Node, wanted: impl Fn(&DhtNote) -> bool) {
    while !wanted(&next(&mut node.notes).await) {}
}

#[tokio::test]
async fn two_nodes_find_a_peer_by_a_third() {
    let first = start(1, &[], None).await;
    let announcer = start(2, &[first.addr], None).await;
    let (tell, _none) = mpsc::channel(16);
    announcer.handle.search(HASH, tell);
    while announcer.handle.counters().announces_out == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut searcher = start(3, &[first.addr], None).await;
    let (tell, mut found) = mpsc::channel(16);
    searcher.handle.search(HASH, tell);
    let peers = loop {
        searcher.handle.want_peers(HASH);
        if let Ok(peers) = timeout(Duration::from_millis(500), next(&mut found)).await {
            break peers;
        }
    };
    // The searcher has announced itself as well, and may hear of that.
    assert!(peers.iter().all(|peer| [announcer.addr.ip(), searcher.addr.ip()].contains(&peer.ip())));
    until(&mut searcher, |note| matches!(note, DhtNote::Found { info_hash: HASH, .. })).await;
    for node in [first, announcer, searcher] {
        node.handle.stop().await;
    }
}

#[tokio::test]
async fn when_the_port_is_taken_both_families_have_another() {
    for ip in ["0.0.0.0", "::"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
        // A machine without IPv6 has nothing to take there.
        let Ok(other) = std::net::UdpSocket::bind((ip, 0)) else { continue };
        let taken = other.local_addr().unwrap().port();
        let sockets = DhtSockets::bind((Ipv4Addr::UNSPECIFIED, taken).into());
        let ports: Vec<u16> = sockets.addrs().iter().map(SocketAddr::port).collect();
        let port = sockets.port().unwrap();
        assert_ne!(port, taken);
        assert!(ports.iter().all(|other| *other == port), "{ports:?}");
        assert_eq!(ports.len() + sockets.problems.len(), 2);
    }
}

#[tokio::test]
async fn what_was_known_is_known_again() {
    let folder = tempfile::tempdir().unwrap();
    // In a folder that is not there yet.
    let path = folder.path().join("state/dht.dat");
    let first = start(11, &[], None).await;
    let mut second = start(12, &[first.addr], Some(path.clone())).await;
    until(&mut second, |note| matches!(note, DhtNote::Nodes(1))).await;
    second.handle.stop().await;
    let mut again = start(12, &[], Some(path.clone())).await;
    assert_eq!(again.kept, 1);
    until(&mut again, |note| matches!(note, DhtNote::Nodes(1))).await;
    again.handle.stop().await;
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dht.dat", "dht.dat.lock"]);
    // A damaged file is as good as none, and is replaced.
    std::fs::write(&path, b"d2:id20:damaged").unwrap();
    let mut anew = start(12, &[first.addr], Some(path.clone())).await;
    assert_eq!(anew.kept, 0);
    until(&mut anew, |note| matches!(note, DhtNote::Nodes(1))).await;
    anew.handle.stop().await;
    assert_eq!(start(12, &[], Some(path)).await.kept, 1);
}

#[tokio::test]
async fn what_cannot_be_had_is_said() {
    let (tell, mut notes) = mpsc::channel(64);
    // An address that this machine does not have.
    let listen = ([192, 0, 2, 1], 0).into();
    let settings = DhtSettings { listen, bootstrap: Vec::new(), state: None, read_only: false, filter: None };
    let handle = DhtHandle::start(settings, DhtSockets::bind(listen), tell);
    assert!(matches!(next(&mut notes).await, DhtNote::Failed(_)));
    handle.search(HASH, mpsc::channel(1).0);
    handle.stop().await;
    let folder = tempfile::tempdir().unwrap();
    // A folder in the place of the file.
    let path = folder.path().join("dht.dat");
    std::fs::create_dir(&path).unwrap();
    let mut node = start(21, &[], Some(path)).await;
    assert!(matches!(&node.problems[..], [DhtNote::State(_)]), "{:?}", node.problems);
    node.handle.bootstrap(vec!["no-such-host.invalid:1".into()]);
    until(&mut node, |note| *note == DhtNote::Unresolved("no-such-host.invalid:1".into())).await;
    node.handle.stop().await;
    // Nor is there a place for a lock: nothing is kept, and nobody's id is taken.
    std::fs::write(folder.path().join("file"), b"").unwrap();
    let node = start(22, &[], Some(folder.path().join("file/dht.dat"))).await;
    assert!(node.borrowed && node.problems.len() == 2, "{:?}", node.problems);
    node.handle.stop().await;
}

/// What a node calls itself.
async fn id_of(node: &Node) -> NodeId {
    let socket = tokio::net::UdpSocket::bind("127.0.78.1:0").await.unwrap();
    let me = Asker { id: NodeId([9; 20]), read_only: true, want: &[] };
    let ping = encode::query(b"id", &Ask::Ping, &me);
    socket.send_to(&ping, node.addr).await.unwrap();
    let mut bytes = [0; 1500];
    let (len, _) = timeout(DEADLINE, socket.recv_from(&mut bytes)).await.expect("in time").unwrap();
    match parse(&bytes[..len]).unwrap().body {
        Body::Reply(reply) => reply.id.unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn two_nodes_with_one_file_are_two_and_the_next_one_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dht.dat");
    // What an earlier run has left.
    let other = start(41, &[], None).await;
    let mut before = start(42, &[other.addr], Some(path.clone())).await;
    until(&mut before, |note| matches!(note, DhtNote::Nodes(1))).await;
    let id = id_of(&before).await;
    before.handle.stop().await;
    let first = start(42, &[], Some(path.clone())).await;
    let second = start(43, &[first.addr], Some(path.clone())).await;
    assert_eq!((first.borrowed, second.borrowed), (false, true));
    assert_eq!((first.kept, second.kept), (1, 1), "both begin with what is kept");
    assert_eq!(id_of(&first).await, id);
    assert_ne!(id_of(&second).await, id);
    // They come to know each other.
    while [&first, &second].iter().any(|node| node.handle.counters().nodes_v4 < 2) {
        second.handle.add_node(first.addr);
        sleep(Duration::from_millis(50)).await;
    }
    // Whoever does not have it writes nothing, whenever it ends.
    first.handle.stop().await;
    let written = std::fs::read(&path).unwrap();
    second.handle.stop().await;
    assert_eq!(std::fs::read(&path).unwrap(), written);
    let third = start(42, &[], Some(path)).await;
    assert_eq!((third.borrowed, third.kept, id_of(&third).await), (false, 2, id));
    third.handle.stop().await;
    other.handle.stop().await;
}

#[tokio::test]
async fn wishes_and_names_beyond_the_limits_are_counted() {
    let node = start(51, &[], None).await;
    // The node does not get to hear of any before we wait.
    (0..300).for_each(|_| node.handle.want_peers(HASH));
    assert_eq!(node.handle.counters().over_wish_limit, 300 - 256);
    while node.handle.counters().over_name_limit == 0 {
        // Nobody has to look these up.
        node.handle.bootstrap((1..=100).map(|port| format!("127.0.77.52:{port}")).collect());
        sleep(Duration::from_millis(1500)).await;
    }
    assert_eq!(node.handle.counters().over_name_limit % (100 - 64), 0);
    node.handle.stop().await;
}

#[tokio::test]
async fn what_a_torrent_does_not_take_waits_for_it_and_counts_when_it_is_taken() {
    let first = start(61, &[], None).await;
    let announcer = start(62, &[first.addr], None).await;
    announcer.handle.search(HASH, mpsc::channel(16).0);
    while announcer.handle.counters().announces_out == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    let mut searcher = start(63, &[first.addr], None).await;
    // One that is full.
    let (tell, mut found) = mpsc::channel(1);
    tell.try_send(Vec::new()).unwrap();
    searcher.handle.search(HASH, tell);
    while searcher.handle.counters().announces_out == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(searcher.handle.counters().peers_found, 0);
    while let Ok(note) = searcher.notes.try_recv() {
        assert!(!matches!(note, DhtNote::Found { .. }), "{note:?}");
    }
    assert_eq!(next(&mut found).await, []);
    let peers = next(&mut found).await;
    assert!(peers.iter().any(|peer| peer.ip() == announcer.addr.ip()), "{peers:?}");
    let told = DhtNote::Found { info_hash: HASH, peers: peers.len() };
    until(&mut searcher, |note| *note == told).await;
    while searcher.handle.counters().peers_found == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(searcher.handle.counters().over_outlet_limit, 0);
    for node in [first, announcer, searcher] {
        node.handle.stop().await;
    }
}

#[test]
fn what_is_found_at_last_is_kept_a_minute_later_and_then_every_five() {
    let begun = Instant::now();
    let mut saves = Saves::new(begun);
    let mut saved = Vec::new();
    for second in 0..1000 {
        let now = begun + Duration::from_secs(second);
        // From the hundredth on there are some, but for a moment.
        if [100, 503].contains(&second) {
            saves.hasten(now);
        }
        if saves.take_due(now) {
            saved.push(second);
        }
    }
    assert_eq!(saved, [160, 460, 563, 863]);
}

#[tokio::test]
async fn hosts_in_the_filter_are_not_heard_and_not_asked() {
    // Both ways: one that we know, and one that knows us.
    let shunned = start(31, &[], None).await;
    FILTER.set(Some(Arc::new(IpFilter::parse(b"127.0.77.31\n127.0.77.33").unwrap())));
    let node = start(32, &[shunned.addr], None).await;
    FILTER.set(None);
    let knocking = start(33, &[node.addr], None).await;
    let welcome = start(34, &[node.addr], None).await;
    timeout(DEADLINE, async {
        while node.handle.counters().queries_in == 0 || node.handle.counters().filtered < 2 {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("who is welcome is heard, and two are not");
    assert_eq!(shunned.handle.counters().datagrams_in, 0);
    assert_eq!(knocking.handle.counters().datagrams_in, 0);
    assert!(welcome.handle.counters().datagrams_in > 0);
    let counted = node.handle.counters();
    assert_eq!((counted.nodes_v4, counted.queries_in > 0), (1, true), "{counted:?}");
}
