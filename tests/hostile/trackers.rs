//! The program against trackers that mean harm, over real sockets: all of them at once, beside a good one, by which alone
//! the only peer can be found.
//!
//! A row is a tracker: what it answers, and what the program must make of that. Behind those that drip there are more that
//! answer nothing than the program asks at once, so the others have to wait for their turn.

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, torrent_for};
use crate::common::program::{Program, client};
use crate::common::until;
use crate::honest::Honest;
use crate::scene;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

const LEN: usize = 60 * BLOCK as usize + 77;
/// Questions that the program asks at once over HTTP; and trackers that never answer, which are more.
const AT_ONCE: usize = 50;
const SILENT: usize = AT_ONCE + 5;
/// More memory than a program with one good tracker that it may take, in bytes.
const MORE_MEMORY: u64 = 48 << 20;
/// Sockets that it may have beside those: listeners, peers, thirty dials, metrics, and one for each UDP tracker.
const SOCKETS: usize = 60;

/// What an HTTP tracker does with a question.
enum Answer {
    /// Says this, and closes.
    Say(Vec<u8>),
    /// Says the first, and then the second over and over.
    Endless(&'static [u8], Vec<u8>),
    /// Says the first, and then a byte now and then.
    Drip(&'static [u8]),
}
use Answer::{Drip, Endless, Say};

/// What must become of a tracker.
#[derive(Clone, Copy)]
enum End {
    /// It has failed, for a reason that says this.
    Failed(&'static str),
    /// It has answered with so many peers.
    Answered(u64),
    /// It has not answered: it is still waited for, or that took too long. How soon the others are through is a matter of
    /// the machine.
    Waited,
}
use End::{Answered, Failed, Waited};

fn with_head(head: &str, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

fn redirect(to: &str) -> Answer {
    Say(with_head(&format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"), b""))
}

fn body(bytes: impl AsRef<[u8]>) -> Answer {
    Say(with_head("200 OK", bytes.as_ref()))
}

/// Peers on this machine, where nobody is.
fn peers(count: u32) -> Vec<u8> {
    let first = Ipv4Addr::new(127, 77, 0, 1).to_bits();
    let list: Vec<u8> =
        (first..first + count).flat_map(|ip| [&ip.to_be_bytes()[..], &[0, 1]].concat()).collect();
    [format!("d5:peers{}:", list.len()).as_bytes(), &list, b"e"].concat()
}

fn over_http() -> Vec<(&'static str, Answer, End)> {
    let late = Failed("did not answer in time");
    let no_http = Failed("does not speak proper HTTP");
    let long_head = Failed("the head of the tracker's answer is larger than");
    let no_bencode = Failed("not a bencoded dictionary");
    let deep = [b"d5:peers".as_slice(), &b"l".repeat(400_000), &b"e".repeat(400_000), b"e"].concat();
    let escapes = b"\x1b[2J\n".repeat(20_000);
    let text = |key: &str| [format!("d{}:{key}100000:", key.len()).as_bytes(), &escapes, b"e"].concat();
    let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0xed; 1000]].concat();
    vec![
        ("a head that drips", Drip(b"HTTP/1.1 200 OK\r\nX: "), late),
        ("a body that drips", Drip(b"HTTP/1.1 200 OK\r\n\r\nd"), Waited),
        ("a head without end", Endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n".repeat(1000)), long_head),
        ("a line without end", Endless(b"HTTP/1.1 200 OK\r\nX: ", vec![b'x'; 65_536]), long_head),
        (
            "a body without end",
            Endless(b"HTTP/1.1 200 OK\r\n\r\n", vec![b'1'; 65_536]),
            Failed("is larger than"),
        ),
        (
            "chunks without end",
            Endless(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                [b"8000\r\n".as_slice(), &[b'1'; 0x8000], b"\r\n"].concat(),
            ),
            Failed("is larger than"),
        ),
        (
            "a chunk of 2^64",
            Say(with_head("200 OK\r\nTransfer-Encoding: chunked", b"10000000000000000\r\nde")),
            no_http,
        ),
        ("nothing", Say(Vec::new()), no_http),
        ("rubbish", Say(noise(5000)), no_http),
        ("a page", body("<html>\x1b[2J"), no_bencode),
        ("a page of errors", Say(with_head("500 Oops", b"<html>")), Failed("HTTP status 500")),
        (
            "a bomb of gzip",
            Say(with_head("200 OK\r\nContent-Encoding: gzip", &gzip)),
            Failed("is compressed"),
        ),
        ("a redirect in circles", redirect("/announce"), Failed("redirects more than 5 times")),
        ("a redirect to a file", redirect("file:///etc/passwd"), Failed("file://")),
        (
            "a redirect to nowhere",
            Say(with_head("302 Found\r\nContent-Length: 0", b"")),
            Failed("without saying where"),
        ),
        ("deep nesting", body(deep), no_bencode),
        ("a length beyond the end", body("d5:peers99999999999:xe"), no_bencode),
        ("a length beyond all numbers", body("d5:peers99999999999999999999999:xe"), no_bencode),
        ("a million peers", body(peers(1_000_000)), Failed("is larger than")),
        ("many peers", body(peers(150_000)), Answered(200)),
        ("peers cut off", body("d5:peers5:abcdee"), Answered(0)),
        ("peers6 cut off", body("d6:peers617:aaaaaaaaaaaaaaaaae"), Answered(0)),
        ("peers as a number", body("d5:peersi1ee"), Answered(0)),
        ("an interval below zero", body("d8:intervali-900e5:peers0:e"), Answered(0)),
        ("an interval of 2^62", body("d8:intervali4611686018427387904e5:peers0:e"), Answered(0)),
        ("an interval of 2^63", body("d8:intervali9223372036854775808e5:peers0:e"), no_bencode),
        ("a reason with escapes", body(text("failure reason")), Failed("refused")),
        ("a reason of the wrong type", body("d14:failure reasonli1eee"), Failed("refused")),
        ("a warning with escapes", body(text("warning message")), Answered(0)),
    ]
}

/// What a UDP tracker sends for a datagram: through its own socket, or through that of a stranger.
type Datagrams = fn(question: &[u8], trap: SocketAddr) -> Vec<(bool, Vec<u8>)>;

/// An answer as it should be, of this kind.
fn reply(question: &[u8], action: u32, rest: &[u8]) -> Vec<u8> {
    [&action.to_be_bytes()[..], &question[12..16], rest].concat()
}

/// What a good tracker would say, with these peers.
fn answer(question: &[u8], interval: u32, peers: &[u8]) -> Vec<u8> {
    match question[11] {
        0 => reply(question, 0, &42u64.to_be_bytes()),
        _ => reply(question, 1, &[&[interval, 0, 0].map(u32::to_be_bytes).concat(), peers].concat()),
    }
}

fn compact(addr: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(addr) = addr else { panic!("the trap is IPv4") };
    [&addr.ip().octets()[..], &addr.port().to_be_bytes()].concat()
}

fn over_udp() -> Vec<(&'static str, Datagrams, End)> {
    vec![
        ("silence", |_, _| vec![], Waited),
        (
            "other transactions",
            |question, trap| {
                let mut answer = answer(question, 900, &compact(trap));
                let flip = |n: u8, answer: &mut Vec<u8>| {
                    answer[4..8].copy_from_slice(&question[12..16]);
                    answer[4 + usize::from(n % 4)] ^= 1 << (n % 8);
                    (false, answer.clone())
                };
                (0..200).map(|n| flip(n, &mut answer)).collect()
            },
            Waited,
        ),
        (
            "answers to what was not asked",
            |question, trap| {
                let rest = [&[900u32, 0, 0].map(u32::to_be_bytes).concat()[..], &compact(trap)].concat();
                [2, 4, 9, 1 << 31].map(|action| (false, reply(question, action, &rest))).into()
            },
            Waited,
        ),
        (
            "rubbish",
            |question, _| {
                let short = reply(question, question[11].into(), b"short");
                [vec![], vec![0; 7], vec![0xff; 60_000], short].map(|rubbish| (false, rubbish)).into()
            },
            Waited,
        ),
        ("a stranger", |question, trap| vec![(true, answer(question, 900, &compact(trap)))], Waited),
        (
            "a reason with escapes",
            |question, _| vec![(false, reply(question, 3, &b"\x1b[2J\n".repeat(2000)))],
            Failed("refused"),
        ),
        ("an interval below zero", |question, _| vec![(false, answer(question, u32::MAX, b""))], Answered(0)),
        ("half a peer", |question, _| vec![(false, answer(question, 900, &[127, 77, 0]))], Answered(0)),
        (
            "the longest datagram",
            |question, _| {
                let list = [[127, 77, 0, 1, 0, 1], [127, 77, 0, 2, 0, 1]].concat();
                vec![(false, answer(question, 900, &list.repeat(5000)))]
            },
            Answered(2),
        ),
    ]
}

/// How many connections all HTTP trackers have.
type Open = Arc<AtomicUsize>;

/// Starts an HTTP tracker, and says where it is. It runs as long as the test does.
fn serve_http(answer: Option<Answer>, open: &Open) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (answer, open) = (Arc::new(answer), Arc::clone(open));
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (answer, open) = (Arc::clone(&answer), Arc::clone(&open));
            open.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                respond(&mut stream, answer.as_ref().as_ref());
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    url
}

/// Answers one question, until the program has enough.
fn respond(stream: &mut TcpStream, answer: Option<&Answer>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    match answer {
        Some(Say(bytes)) => _ = stream.write_all(bytes),
        Some(Endless(first, more)) => {
            let mut said = stream.write_all(first);
            while said.is_ok() {
                said = stream.write_all(more);
            }
        }
        Some(Drip(first)) => {
            let mut said = stream.write_all(first);
            while said.is_ok() {
                thread::sleep(Duration::from_millis(100));
                said = stream.write_all(b"x");
            }
        }
        None => {}
    }
    if matches!(answer, Some(Say(_))) {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    // Until the other side closes.
    while matches!(stream.read(&mut byte), Ok(1)) {}
}

/// Starts a UDP tracker.
fn serve_udp(answer: Datagrams, trap: SocketAddr) -> String {
    let [own, stranger] = [0, 1].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let url = format!("udp://{}", own.local_addr().unwrap());
    thread::spawn(move || {
        let mut question = [0; 2048];
        while let Ok((len, from)) = own.recv_from(&mut question) {
            for (strange, datagram) in answer(&question[..len], trap) {
                let socket = if strange { &stranger } else { &own };
                let _ = socket.send_to(&datagram, from);
            }
        }
    });
    url
}

/// Scheme and host of a URL, which is all that the program tells of it.
fn label(url: &str) -> String {
    url.trim_end_matches("/announce").to_owned()
}

/// A whole download whose peer only the last of these trackers knows. `judge` looks at the program when that is done.
fn download(trackers: &[String], open: &Open, judge: impl FnOnce(&mut Program, SocketAddr)) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("payload");
    std::fs::write(&data, noise(LEN)).unwrap();
    let (_, torrent) = torrent_for(&data, BLOCK, Vec::new());
    let go = Arc::new(AtomicBool::new(true));
    let (honest, peer) = Honest::giver(&torrent, noise(LEN), &go);
    let list = compact(peer);
    let good = serve_http(Some(body([b"d8:intervali900e5:peers6:".as_slice(), &list, b"e"].concat())), open);
    let tiers = trackers.iter().chain([&good]).map(|url| vec![url.clone()]).collect();
    let (path, _) = torrent_for(&data, BLOCK, tiers);
    let copy = folder.path().join("copy");
    let options =
        ["--seed", "--announce-to-all", "--cores", "2", "--memory-limit", "64M", "--metrics", "127.0.0.1:0"];
    let mut program = Program::start(&mut client("download", &path, &copy, &options));
    let metrics = program.metrics_address();
    judge(&mut program, metrics);
    until(|| match std::fs::read(copy.join("payload")) {
        Ok(bytes) if bytes == noise(LEN) => Ok(()),
        other => Err(format!("{} blocks moved: {:?}", honest.moved(), other.map(|bytes| bytes.len()))),
    });
    program.peak_memory()
}

/// What the program has told of a tracker, against what it must tell.
fn check(name: &str, end: End, told: Option<&serde_json::Value>) {
    let reason = told.and_then(|told| told["reason"].as_str());
    if let Some(reason) = reason {
        assert!(reason.len() < 1000 && !reason.contains(['\x1b', '\n']), "{name}: {reason:?}");
    }
    match (end, told) {
        (Failed(word), Some(_)) => {
            assert!(reason.is_some_and(|told| told.contains(word)), "{name}: {told:?}")
        }
        (Answered(peers), Some(told)) => {
            assert_eq!(told["peers"], peers, "{name}: {told}");
            let warning = told["warning"].as_str().unwrap_or_default();
            assert!(warning.len() <= 1000 && !warning.contains(['\x1b', '\n']), "{name}: {told}");
        }
        (Waited, None) => {}
        (Waited, Some(_)) => assert!(reason.is_some_and(|told| told.contains("in time")), "{name}: {told:?}"),
        (Failed(_) | Answered(_), None) => panic!("{name}: nothing was told"),
    }
}

/// Blocks that an honest peer has given to a program whose trackers mean harm, when as many were given to one that asks nobody
/// as make a scene.
fn blocks_beside_trackers() -> usize {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (data, open) = (folder.path().join("payload"), Open::default());
    std::fs::write(&data, noise(scene::LEN)).unwrap();
    let trap = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut urls: Vec<String> =
        over_http().into_iter().map(|(_, answer, _)| serve_http(Some(answer), &open)).collect();
    urls.extend(over_udp().into_iter().map(|(_, answer, _)| serve_udp(answer, trap.local_addr().unwrap())));
    let go = Arc::new(AtomicBool::new(false));
    let [attacked, peaceful] = [("attacked", urls), ("peaceful", Vec::new())].map(|(name, urls)| {
        let (path, torrent) =
            torrent_for(&data, scene::PIECE_LEN, urls.into_iter().map(|url| vec![url]).collect());
        let own = path.with_extension(name);
        std::fs::rename(&path, &own).unwrap();
        let (honest, peer) = Honest::giver(&torrent, noise(scene::LEN), &go);
        let peer = format!("--peer={peer}");
        let options = ["--announce-to-all", "--cores", "2", "--memory-limit", "128M", &peer];
        let mut program = Program::start(&mut client("download", &own, &folder.path().join(name), &options));
        program.address();
        (program, honest)
    });
    go.store(true, Ordering::Relaxed);
    until(|| match peaceful.1.moved() {
        moved if moved >= scene::BLOCKS => Ok(()),
        moved => Err(format!("{moved} blocks moved in peace")),
    });
    attacked.1.moved()
}

#[test]
fn an_honest_peer_keeps_its_pace_while_trackers_mean_harm() {
    // As with peers that mean harm: who shares the processors with the test matters, so the best of three counts.
    let moved: Vec<usize> = (0..3).map(|_| blocks_beside_trackers()).collect();
    println!("{moved:?} blocks beside hostile trackers");
    assert!(moved.iter().any(|moved| moved * 100 >= scene::BLOCKS * scene::KEPT), "{moved:?} blocks");
}

#[test]
fn no_torrent_has_other_services_of_this_machine_asked_unless_the_user_says_so() {
    let service = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    service.set_nonblocking(true).unwrap();
    let url = format!("http://{}/any/path", service.local_addr().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("payload");
    std::fs::write(&data, noise(LEN)).unwrap();
    let tiers = [&url, "http://169.254.7.7/announce"].map(|url| vec![url.to_owned()]).to_vec();
    let (path, _) = torrent_for(&data, BLOCK, tiers);
    let seed = |more: &[&str]| {
        let options = [&["--announce-to-all", "--metrics", "127.0.0.1:0"], more].concat();
        Program::start(&mut client("seed", &path, folder.path(), &options))
    };
    let mut strict = seed(&[]);
    let metrics = strict.metrics_address();
    for _ in 0..2 {
        let failed = strict.until("tracker_failed");
        let reason = failed["reason"].as_str().unwrap();
        assert!(reason.contains("are not asked for this path"), "{failed}");
    }
    until(|| {
        let event = "event=\"address_refused\"";
        match Samples::fetch(metrics).sum("seedring_tracker_events_total", &[event]) {
            2.. => Ok(()),
            fewer => Err(format!("{fewer} are counted")),
        }
    });
    assert!(service.accept().is_err(), "it was asked");
    let _lax = seed(&["--any-tracker-address"]);
    until(|| service.accept().map(drop).map_err(|why| why.to_string()));
}

#[test]
fn hostile_trackers_harm_nobody() {
    let usual = download(&[], &Open::default(), |_, _| {});
    let open = Open::default();
    // Whoever dials this has believed what it should not.
    let trap = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let trapped = trap.local_addr().unwrap();
    let mut rows = BTreeMap::new();
    let mut urls = Vec::new();
    for (name, answer, end) in over_http() {
        if matches!(answer, Say(_) | Endless(..)) && urls.len() < SILENT {
            urls.extend((0..SILENT).map(|_| serve_http(None, &open)));
        }
        urls.push(serve_http(Some(answer), &open));
        rows.insert(label(urls.last().unwrap()), (format!("HTTP: {name}"), end));
    }
    for (name, answer, end) in over_udp() {
        urls.push(serve_udp(answer, trapped));
        rows.insert(label(urls.last().unwrap()), (format!("UDP: {name}"), end));
    }
    let memory = download(&urls, &open, |program, metrics| {
        until(|| match open.load(Ordering::SeqCst) {
            AT_ONCE.. => Ok(()),
            fewer => Err(format!("{fewer} trackers are being asked")),
        });
        // More would come at once, and stay. For a moment there may be more: one that the program has closed counts until its
        // tracker has seen that.
        let looks = (0..50).map(|_| {
            thread::sleep(Duration::from_millis(10));
            open.load(Ordering::SeqCst)
        });
        let fewest = looks.min().unwrap();
        assert!(fewest <= AT_ONCE, "{fewest} trackers are being asked at once");
        let mut told = BTreeMap::new();
        let awaited = |end: &End| !matches!(end, Waited);
        let mut left = rows.values().filter(|(_, end)| awaited(end)).count();
        let mut sockets = 0;
        // All of them have their turn, and the good one, which comes last.
        let mut completed = false;
        while left > 0 || !completed {
            let event = program.next();
            completed |= event["event"] == "completed";
            sockets = sockets.max(program.descriptors().sockets);
            let tracker = event["url"].as_str().unwrap_or_default().to_owned();
            if let Some((name, end)) = rows.get(&tracker)
                && !told.contains_key(&tracker)
            {
                println!("{name}: {event}");
                left -= usize::from(awaited(end));
                told.insert(tracker, event);
            }
        }
        rows.iter().for_each(|(url, (name, end))| check(name, *end, told.get(url)));
        let expected = [
            ("waited", (SILENT + over_http().len() + 1 - AT_ONCE) as u64),
            ("too_large", 5),
            ("too_slow", AT_ONCE as u64 - 1),
            ("redirect_refused", 1),
            ("datagram_ignored", 200),
            ("peer_dropped", 149_800),
            ("interval_clamped", 1),
        ];
        // The last that are too slow may be so after all others have been told.
        until(|| {
            let samples = Samples::fetch(metrics);
            let counted =
                |event: &str| samples.sum("seedring_tracker_events_total", &[&format!("event=\"{event}\"")]);
            let lacking = expected.iter().find(|(event, least)| counted(event) < *least);
            lacking.map_or(Ok(()), |(event, least)| Err(format!("{event}: {} of {least}", counted(event))))
        });
        assert!(sockets <= AT_ONCE + SOCKETS, "{sockets} sockets");
    });
    assert!(memory <= usual + MORE_MEMORY, "{memory} bytes of memory, {usual} with a good tracker");
    trap.set_nonblocking(true).unwrap();
    assert!(trap.accept().is_err(), "a peer that no tracker has named was dialled");
}
