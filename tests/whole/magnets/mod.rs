//! Magnet links with the whole program: what becomes of trackers, of what a link selects, and of whom the user shuns.

mod ways;

use crate::common;
use crate::common::payload::{BLOCK, noise, one_file, torrent_of};
use crate::common::peer::{hear_kind, message, try_hear_kind};
use crate::common::program::{Program, client, seedring};
use flate2::Compression;
use flate2::write::GzEncoder;
use seedring::metainfo::{InfoHash, Torrent};
use seedring::wire::extended::{Extension, MetadataMessage};
use sha1::{Digest, Sha1};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Kind of a message of the extension protocol.
const EXTENDED: u8 = 20;
/// What a program may have had that is told of more metadata than it holds: 96 MiB of it, and itself.
const MOST_MEMORY: u64 = 124 << 20;

pub(super) fn link(torrent: &Torrent, more: &str) -> String {
    format!("magnet:?xt=urn:btih:{}{more}", torrent.info_hash)
}

/// A tracker that names one peer to everybody, and remembers what it was told. Its answers are packed, as
/// those that come through a proxy often are.
pub(super) struct Tracker {
    pub(super) addr: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
}

impl Tracker {
    pub(super) fn naming(peer: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (addr, told) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&told);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = answer(&mut stream, peer, &kept);
            }
        });
        Self { addr, told }
    }

    fn url(&self) -> String {
        format!("&tr=http%3A%2F%2F{}%2Fannounce", self.addr.to_string().replace(':', "%3A"))
    }

    /// How often it was told this.
    fn heard(&self, word: &str) -> usize {
        self.told.lock().unwrap().iter().filter(|line| line.contains(word)).count()
    }

    /// What came after this in each announce.
    fn values(&self, key: &str) -> Vec<String> {
        let told = self.told.lock().unwrap();
        told.iter()
            .map(|line| line.split_once(key).unwrap().1.split(['&', ' ']).next().unwrap().to_owned())
            .collect()
    }
}

fn answer(stream: &mut TcpStream, peer: SocketAddr, told: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    let text = String::from_utf8_lossy(&request);
    told.lock().unwrap().push(text.lines().next().unwrap_or_default().to_owned());
    let SocketAddr::V4(peer) = peer else { panic!("one of IPv4") };
    let mut body = b"d8:intervali1800e5:peers6:".to_vec();
    body.extend([&peer.ip().octets()[..], &peer.port().to_be_bytes(), b"e"].concat());
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&body)?;
    let body = encoder.finish()?;
    let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length";
    let head = format!("{head}: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), &body].concat())
}

#[test]
fn trackers_are_told_that_we_have_gone_when_no_session_follows() {
    let (folder, torrent, parsed) = one_file(100_000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &["--no-trackers"]));
    let tracker = Tracker::naming(seeder.address());
    let with_tracker = |more: &str| link(&parsed, &format!("{}{more}", tracker.url()));
    let mut show = seedring();
    show.args(["show", &with_tracker(""), "--listen", "127.0.0.1:0"]);
    assert!(show.output().unwrap().status.success());
    assert_eq!((tracker.heard("event=started"), tracker.heard("event=stopped")), (1, 1));
    // A link that selects nothing that is there ends before the session begins.
    let mut nothing = client("download", Path::new(&with_tracker("&so=7")), &folder.path().join("into"), &[]);
    let output = nothing.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("selects only files"), "{said}");
    assert_eq!((tracker.heard("event=started"), tracker.heard("event=stopped")), (2, 2));
    // One that is stopped before the metadata is there.
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tracker = Tracker::naming(nobody.local_addr().unwrap());
    let name = link(&parsed, &tracker.url());
    let mut waiting = Program::start(&mut client("download", Path::new(&name), folder.path(), &[]));
    let dialled = nobody.accept().unwrap();
    assert_eq!(waiting.until("tracker")["peers"], 1);
    waiting.signal(rustix::process::Signal::TERM);
    assert!(!waiting.wait().success());
    drop(dialled);
    assert_eq!((tracker.heard("event=started"), tracker.heard("event=stopped")), (1, 1));
}

#[test]
fn who_announced_for_a_link_takes_it_back_whatever_becomes_of_the_session() {
    let (folder, torrent, parsed) = one_file(100_000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &["--no-trackers"]));
    let tracker = Tracker::naming(seeder.address());
    let name = link(&parsed, &tracker.url());
    let (into, empty) = (folder.path().join("into"), folder.path().join("empty"));
    fs::create_dir(&empty).unwrap();
    let run = |command, into: &Path| client(command, Path::new(&name), into, &[]).output().unwrap().status;
    // The session announces once more, by the same name from the same place, and leaves it as who came.
    assert!(run("download", &into).success());
    assert_eq!(["started", "completed", "stopped"].map(|event| tracker.heard(event)), [2, 1, 1]);
    let ports = tracker.values("port=");
    assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    // One with nothing left to fetch, one with nothing to give, and one that cannot begin do not announce.
    assert!(run("download", &into).success());
    assert!(!run("seed", &empty).success());
    assert!(!run("download", &into.join("payload")).success());
    assert_eq!(["started", "completed", "stopped"].map(|event| tracker.heard(event)), [5, 1, 4]);
}

/// The tracker before it is gone: the session ends before its turn comes again.
#[test]
fn who_was_told_for_a_link_hears_how_the_session_ended_though_it_was_not_asked_again() {
    let (folder, torrent, parsed) = one_file(100_000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &["--no-trackers"]));
    let tracker = Tracker::naming(seeder.address());
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = silent.local_addr().unwrap().to_string().replace(':', "%3A");
    std::thread::spawn(move || {
        // For the link it fails at once.
        drop(silent.accept());
        silent.incoming().collect::<Vec<_>>()
    });
    let name = link(&parsed, &format!("&tr=http%3A%2F%2F{addr}%2Fannounce{}", tracker.url()));
    let mut leech = client("download", Path::new(&name), &folder.path().join("into"), &[]);
    assert!(leech.output().unwrap().status.success());
    assert_eq!(["started", "completed", "stopped"].map(|event| tracker.heard(event)), [1, 1, 1]);
}

#[test]
fn a_link_selects_files_and_a_filter_holds_before_there_is_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("payload");
    fs::create_dir(&data).unwrap();
    for number in 0..3 {
        fs::write(data.join(number.to_string()), noise(2 * BLOCK as usize)).unwrap();
    }
    let (torrent, parsed) = torrent_of(&data, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &[]));
    let shunned = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    shunned.set_nonblocking(true).unwrap();
    let list = folder.path().join("list");
    fs::write(&list, "# a list\nnonsense\n127.0.0.2\n").unwrap();
    let (into, shun) = (folder.path().join("into"), shunned.local_addr().unwrap().to_string());
    let named = link(&parsed, &format!("&so=1,9&x.pe={shun}&x.pe={}", seeder.address()));
    let more = ["--ip-filter", list.to_str().unwrap(), "--peer", &shun];
    let mut leech = Program::start(&mut client("download", Path::new(&named), &into, &more));
    let done = leech.until("completed");
    assert!(leech.wait().success());
    assert_eq!((&done["left"], &done["skipped"]), (&0.into(), &(4 * BLOCK).into()));
    assert!(fs::read(into.join("payload/1")).unwrap() == noise(2 * BLOCK as usize));
    assert!(!into.join("payload/0").exists() && !into.join("payload/2").exists());
    assert_eq!(shunned.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it was dialled");
    // So it does for who only wants to see what is behind the link.
    let mut show = seedring();
    let shown = show.args(["show", "--listen", "127.0.0.1:0", &named]).args(more).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let marks: Vec<bool> = shown
        .lines()
        .filter(|line| line.contains("payload/"))
        .map(|line| !line.contains("not selected"))
        .collect();
    assert_eq!(marks, [false, true, false], "{shown}");
    assert_eq!(shunned.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "`show` has dialled it");
}

/// A peer that has the metadata, and gives it when it is asked.
fn give_metadata(listener: &TcpListener, metadata: &[u8], info_hash: &[u8]) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.read_exact(&mut [0; 68])?;
    stream.write_all(&[b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\0", info_hash, &[7; 20]].concat())?;
    let hello = format!("d1:md11:ut_metadatai1ee13:metadata_sizei{}ee", metadata.len());
    stream.write_all(&message(EXTENDED, &[], &[b"\0", hello.as_bytes()].concat()))?;
    // The first is its handshake.
    while hear_kind(&mut stream, EXTENDED)[0] != 1 {}
    let total_size = Some(metadata.len() as i64);
    let data = MetadataMessage::Data { block: 0, total_size, bytes: metadata }.encode();
    stream.write_all(&message(EXTENDED, &[], &[&[Extension::Metadata.id()], &data[..]].concat()))?;
    stream.read(&mut [0; 1]).map(|_| ())
}

#[test]
fn who_sends_wrong_metadata_is_banned_and_counted_and_another_of_its_host_is_heard() {
    let metadata = format!("d6:lengthi1e4:name1:n12:piece lengthi16384e6:pieces20:{}e", "h".repeat(20));
    let info_hash: [u8; 20] = Sha1::digest(&metadata).into();
    let peers = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let named = peers.each_ref().map(|peer| format!("--peer={}", peer.local_addr().unwrap()));
    std::thread::spawn(move || {
        let wrong = metadata.replace("hh", "hx");
        // The other one keeps silent until the liar is gone.
        let _ = give_metadata(&peers[0], wrong.as_bytes(), &info_hash);
        give_metadata(&peers[1], metadata.as_bytes(), &info_hash)
    });
    let link = format!("magnet:?xt=urn:btih:{}", InfoHash(info_hash));
    let mut show = seedring();
    show.args(["show", "--json", "--listen", "127.0.0.1:0"]).args(named).arg(link);
    let output = show.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    for count in ["wrong\":1", "liars\":1", "liar_hosts\":0", "\"bans\":0", "\"filtered\":0", "\"barred\":0"]
    {
        assert!(told.contains(count), "{count} is not in {told}");
    }
}

#[test]
fn metadata_that_breaks_a_limit_is_counted_and_the_error_says_which() {
    let (path, hash) = ("1:a".repeat(101), "h".repeat(20));
    let files = format!("5:filesld6:lengthi1e4:pathl{path}eee");
    let metadata = format!("d{files}4:name1:n12:piece lengthi16384e6:pieces20:{hash}e").into_bytes();
    let info_hash: [u8; 20] = Sha1::digest(&metadata).into();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = listener.local_addr().unwrap();
    std::thread::spawn(move || give_metadata(&listener, &metadata, &info_hash));
    let folder = tempfile::tempdir().unwrap();
    let link = format!("magnet:?xt=urn:btih:{}&x.pe={peer}", InfoHash(info_hash));
    let output = client("download", Path::new(&link), folder.path(), &[]).output().unwrap();
    let [told, said] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(!output.status.success() && said.contains("more than 100 components"), "{said}");
    assert!(told.contains("\"refused\":1"), "{told}");
}

/// A peer that says how long the metadata is, and then does as it likes, on one connection after the other.
fn liar(
    torrent: &Torrent,
    size: i64,
    conduct: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (addr, info_hash) = (listener.local_addr().unwrap(), torrent.info_hash.0);
    let hello = format!("d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee");
    let id = addr.port().to_be_bytes().repeat(10);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let greet = |stream: &mut TcpStream| {
                stream.read_exact(&mut [0; 68])?;
                stream.write_all(
                    &[b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\0", &info_hash[..], &id].concat(),
                )?;
                stream.write_all(&message(EXTENDED, &[], &[b"\0", hello.as_bytes()].concat()))
            };
            // However it ends, the next one may come.
            let _ = greet(&mut stream).and_then(|()| conduct(&mut stream));
        }
    });
    addr
}

/// The next block of the metadata that it is asked for.
fn asked(stream: &mut TcpStream) -> io::Result<u32> {
    loop {
        let said = try_hear_kind(stream, EXTENDED)?;
        if let Some(MetadataMessage::Request { block }) = MetadataMessage::parse(&said[1..])
            && said[0] == 1
        {
            return Ok(block);
        }
    }
}

fn extended(payload: &[u8]) -> Vec<u8> {
    message(EXTENDED, &[], &[&[Extension::Metadata.id()], payload].concat())
}

/// Zeros, as if they were that block of the metadata.
fn zeros(block: u32, size: i64, len: usize) -> Vec<u8> {
    extended(&MetadataMessage::Data { block, total_size: Some(size), bytes: &vec![0; len] }.encode())
}

/// Reads on until the program has enough of it.
fn keep_silent(stream: &mut TcpStream) -> io::Result<()> {
    loop {
        asked(stream)?;
    }
}

/// All who lie about metadata of which the right length is this, each in a way of its own; those who fill the memory do so
/// until it is `over`.
fn liars(torrent: &Torrent, right: i64, over: &Arc<AtomicBool>) -> Vec<SocketAddr> {
    let block = BLOCK as usize;
    let mut all: Vec<SocketAddr> =
        [-1, 0, 1 << 31, i64::MAX].into_iter().map(|size| liar(torrent, size, keep_silent)).collect();
    // Sizes of their own, so that nobody else sends what they are asked for.
    all.push(liar(torrent, 100, move |stream| {
        let block = asked(stream)?;
        stream.write_all(&zeros(block, 100, 100))?;
        keep_silent(stream)
    }));
    all.push(liar(torrent, right, move |stream| {
        stream.write_all(&zeros(7, right, block))?;
        keep_silent(stream)
    }));
    all.push(liar(torrent, 3 * i64::from(BLOCK), move |stream| {
        asked(stream)?;
        let middle = asked(stream)?;
        stream.write_all(&zeros(middle, 3 * i64::from(BLOCK), block - 1))?;
        keep_silent(stream)
    }));
    all.push(liar(torrent, 300, |stream| {
        stream.write_all(&extended(b"nonsense"))?;
        keep_silent(stream)
    }));
    all.push(liar(torrent, 400, |stream| {
        loop {
            let block = asked(stream)?;
            stream.write_all(&extended(&MetadataMessage::Reject { block }.encode()))?;
        }
    }));
    // One says nothing more, and one a byte now and then.
    all.push(liar(torrent, 500, keep_silent));
    all.push(liar(torrent, 600, |stream| {
        let block = asked(stream)?;
        for byte in zeros(block, 600, 600) {
            stream.write_all(&[byte])?;
            std::thread::sleep(Duration::from_millis(200));
        }
        keep_silent(stream)
    }));
    // Together, these have more than is held; none of them ever has all of it.
    for number in 0..4 {
        let (size, over) = ((32 << 20) - number, Arc::clone(over));
        all.push(liar(torrent, size, move |stream| {
            while !over.load(Ordering::Relaxed) {
                let block = asked(stream)?;
                if i64::from(block + 1) * i64::from(BLOCK) < size {
                    stream.write_all(&zeros(block, size, BLOCK as usize))?;
                }
            }
            keep_silent(stream)
        }));
    }
    all
}

#[test]
fn who_lies_about_metadata_is_counted_and_keeps_nobody_from_it() {
    // Long names make metadata of several blocks.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("payload");
    fs::create_dir(&data).unwrap();
    (0..200u8).for_each(|n| fs::write(data.join(format!("{n:0200}")), [n; 100]).unwrap());
    let (path, torrent) = torrent_of(&data, BLOCK);
    let right = torrent.metadata().len() as i64;
    assert!(right > 2 * i64::from(BLOCK), "{right} bytes are several blocks");
    let over = Arc::new(AtomicBool::new(false));
    let [honest, _] = common::peer::listener_pair().map(|listener| listener.local_addr().unwrap());
    let mut peers: Vec<String> =
        liars(&torrent, right, &over).iter().map(|addr| format!("--peer={addr}")).collect();
    peers.push(format!("--peer={honest}"));
    let into = folder.path().join("into");
    let name = link(&torrent, "");
    let more: Vec<&str> = peers.iter().map(String::as_str).collect();
    let mut leech = Program::start(&mut client("download", Path::new(&name), &into, &more));
    // At least so often; those who are dropped come again.
    let awaited = [
        ("sizes", 4),
        ("offences", 3),
        ("wrong", 1),
        ("overfull", 1),
        ("silent", 1),
        ("late", 1),
        ("rejects", 1),
    ];
    let deadline = Instant::now() + common::DEADLINE;
    loop {
        let told = leech.until("metadata");
        let limits = &told["limits"];
        over.fetch_or(limits["overfull"].as_u64() > Some(0), Ordering::Relaxed);
        if awaited.iter().all(|(limit, least)| limits[limit].as_u64().unwrap() >= *least) {
            let memory = leech.peak_memory();
            assert!(memory <= MOST_MEMORY, "{memory} bytes of memory");
            break;
        }
        assert!(Instant::now() < deadline, "{told}");
    }
    let mut command = seedring();
    command.args(["seed", "--json", "--listen", &honest.to_string()]).arg(&path).arg("-d").arg(folder.path());
    let _seeder = Program::start(&mut command);
    leech.until("completed");
    assert!(leech.wait().success());
    (0..200u8).for_each(|n| assert_eq!(fs::read(into.join(format!("payload/{n:0200}"))).unwrap(), [n; 100]));
}
