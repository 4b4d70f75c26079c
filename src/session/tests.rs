//! Sessions whose cores panic, and what is said at the end.

use super::*;
use crate::metainfo::Torrent;
use crate::shard::faults::{self, Place};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;

/// Far more than an end takes, less than the limit of one that waits for what never comes.
const SOON: Duration = Duration::from_secs(8);

fn job(torrent: &Arc<Torrent>, folder: &Path, goal: Goal, cores: usize) -> Job {
    Job { cores, memory_limit: 16 << 20, ..Job::alone(torrent, folder, goal) }
}

/// A torrent like no other, with its files below `folder`.
fn torrent(folder: &Path) -> Arc<Torrent> {
    torrent_with(folder, Vec::new())
}

/// The same, with trackers in tiers.
fn torrent_with(folder: &Path, trackers: Vec<Vec<String>>) -> Arc<Torrent> {
    for name in ["first", "second", "third"] {
        let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1 << 20).collect();
        std::fs::create_dir_all(folder.join("payload")).unwrap();
        std::fs::write(folder.join("payload").join(name), bytes).unwrap();
    }
    let options = CreateOptions { piece_length: Some(1 << 16), trackers, ..CreateOptions::default() };
    Arc::new(create(&folder.join("payload"), &options, 1, |_, _| {}).unwrap().1)
}

/// One file of `len` bytes in `folder`, in pieces of 1 MiB.
fn large_torrent(folder: &Path, len: usize) -> Arc<Torrent> {
    let seeded = folder.join("payload");
    std::fs::write(&seeded, vec![7; len]).unwrap();
    let options = CreateOptions { piece_length: Some(1 << 20), ..CreateOptions::default() };
    Arc::new(create(&seeded, &options, 1, |_, _| {}).unwrap().1)
}

fn hello(torrent: &Torrent) -> Vec<u8> {
    [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &torrent.info_hash.0[..], &[7; 20]].concat()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Runs a session until it is struck, which ends it soon.
async fn struck(job: Job, meet: impl FnOnce(SocketAddr)) -> Result<Outcome, SessionError> {
    tokio::time::timeout(SOON, run_on(job, meet)).await.expect("nothing hangs")
}

/// Runs a session that nobody stops; `meet` gets its address.
async fn run_on(job: Job, meet: impl FnOnce(SocketAddr)) -> Result<Outcome, SessionError> {
    let mut meet = Some(meet);
    let watch = move |event: Event| {
        if let Event::Listening(addr) = event {
            meet.take().into_iter().for_each(|meet| meet(addr));
        }
    };
    run(job, watch, std::future::pending()).await
}

fn assert_struck(result: Result<Outcome, SessionError>, core: Option<usize>, place: Place) {
    let said = result.expect_err("a core has panicked").to_string();
    let rest = said.strip_prefix("core ").and_then(|rest| rest.split_once(' ')).expect(&said);
    assert_eq!(rest.1, format!("has failed: struck in its {place:?}; this is a bug of seedring"));
    assert!(core.is_none_or(|core| rest.0 == core.to_string()), "{said}: core {core:?}");
}

#[test]
fn a_core_that_panics_ends_the_session_with_a_sentence_wherever_it_does() {
    for cores in [1, 2] {
        for (core, place) in [
            (None, Place::Check),
            (Some(cores - 1), Place::Root),
            (Some(cores - 1), Place::Clock),
            (None, Place::Connection),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let torrent = torrent(folder.path());
            faults::plan(torrent.info_hash, core, place);
            let mut peers = Vec::new();
            let hello = hello(&torrent);
            let meet = |addr| {
                // Others may have ended by now.
                let peer =
                    TcpStream::connect(addr).and_then(|mut peer| peer.write_all(&hello).map(|()| peer));
                peers.extend(peer);
            };
            let result = block_on(struck(job(&torrent, folder.path(), Goal::Seed, cores), meet));
            assert_struck(result, core, place);
            for mut peer in peers {
                peer.set_read_timeout(Some(SOON)).unwrap();
                let end = peer.read_to_end(&mut Vec::new());
                assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "hung up");
            }
        }
    }
}

/// What a fast seed sends lies in the socket of a core that has no time for it, sooner or later.
#[test]
fn a_core_that_has_no_time_asks_a_fast_seed_for_less_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = large_torrent(folder.path(), 64 << 20);
    let lags = async |peer: SocketAddr, round: u32| {
        let into = folder.path().join(round.to_string());
        let fetching = Job { peers: vec![peer], ..job(&torrent, &into, Goal::Download, 1) };
        let outcome = run_on(fetching, |_| {}).await.unwrap();
        assert!(outcome.complete);
        outcome.progress.limits.lags
    };
    block_on(async {
        let (tell, addr) = oneshot::channel();
        let seeding = run_on(job(&torrent, folder.path(), Goal::Seed, 1), |addr| tell.send(addr).unwrap());
        let fetching = async {
            let addr = addr.await.unwrap();
            faults::plan(torrent.info_hash, None, Place::Strain);
            for round in 0..8 {
                if lags(addr, round).await > 0 {
                    return;
                }
            }
            panic!("nothing has piled up in eight downloads");
        };
        tokio::select! {
            ended = seeding => panic!("the seed has ended: {ended:?}"),
            () = fetching => {}
        }
    });
}

/// Of a disk that takes its time there is much to write soon.
#[test]
fn what_comes_waits_a_moment_for_memory_that_is_being_written_and_then_gets_more() {
    let folder = tempfile::tempdir().unwrap();
    let torrent = large_torrent(folder.path(), 40 << 20);
    let (waits, untouched) = block_on(async {
        let (tell, addr) = oneshot::channel();
        let seeding = run_on(job(&torrent, folder.path(), Goal::Seed, 1), |addr| tell.send(addr).unwrap());
        let fetching = async {
            let into = folder.path().join("fetched");
            let peers = vec![addr.await.unwrap()];
            // More than an eighth of it: a torrent of less stays in memory.
            let fetch = Job {
                peers,
                memory_limit: 128 << 20,
                snapshots: true,
                ..job(&torrent, &into, Goal::Download, 1)
            };
            faults::plan(torrent.info_hash, None, Place::Disk);
            let (mut waits, mut untouched) = (0, 0);
            let watch = |event: Event| {
                if let Event::Snapshot(snapshot) = event {
                    (waits, untouched) = (snapshot.memory_waits, snapshot.slabs.untouched);
                }
            };
            assert!(run(fetch, watch, std::future::pending()).await.unwrap().complete);
            (waits, untouched)
        };
        tokio::select! {
            ended = seeding => panic!("the seed has ended: {ended:?}"),
            seen = fetching => seen
        }
    });
    assert!((1..=4).contains(&waits), "{waits}: once for each time that the arena grew, at the most");
    // It grows by 63 of its 512 slabs; the first 64 that are written are no reason to wait.
    assert!(untouched <= 512 - 3 * 63, "{untouched}");
}

/// The end waits for disk work; this never says that it is done.
#[test]
fn disk_work_that_panics_ends_a_download_and_what_is_there_is_gone_on_with() {
    for cores in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let (seeded, fetched) = (folder.path().join("seed"), folder.path().join("leech"));
        let torrent = torrent(&seeded);
        block_on(async {
            let (tell, addr) = oneshot::channel();
            let seeding = job(&torrent, &seeded, Goal::Seed, cores);
            let seeding = run_on(seeding, |addr| tell.send(addr).unwrap());
            let fetching = async {
                let peers = vec![addr.await.unwrap()];
                let fetch = |goal| Job { peers: peers.clone(), ..job(&torrent, &fetched, goal, cores) };
                faults::plan(torrent.info_hash, None, Place::Work);
                assert_struck(struck(fetch(Goal::Download), |_| {}).await, None, Place::Work);
                let left = std::thread::scope(|scope| {
                    scope.spawn(|| check(&torrent, &fetched, 1, |_, _| {}).unwrap()).join().unwrap()
                });
                assert!(left.good_pieces > 0, "a file was whole");
                let outcome = run_on(fetch(Goal::Download), |_| {}).await.unwrap();
                assert!(outcome.complete);
                let again = u64::from(torrent.layout.piece_count() - left.good_pieces) << 16;
                assert_eq!(outcome.progress.downloaded, again, "what was written is not fetched again");
            };
            tokio::select! {
                ended = seeding => panic!("the seed has ended: {ended:?}"),
                () = fetching => {}
            }
        });
        for name in ["first", "second", "third"] {
            let [here, there] =
                [&seeded, &fetched].map(|root| std::fs::read(root.join("payload").join(name)));
            assert!(here.unwrap() == there.unwrap(), "{name} differs");
        }
    }
}

/// The URL of a tracker that knows nobody, and the head of each announce.
fn tracker() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\nd8:intervali900ee").unwrap();
            if tell.send(String::from_utf8(head).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, told)
}

/// Reads messages until one of that kind.
fn await_kind(stream: &mut TcpStream, kind: u8) {
    loop {
        let mut len = [0; 4];
        stream.read_exact(&mut len).unwrap();
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        stream.read_exact(&mut message).unwrap();
        if message.first() == Some(&kind) {
            return;
        }
    }
}

/// Takes a block from a seed.
fn take_block(seed: SocketAddr, torrent: &Torrent) -> TcpStream {
    const BLOCK: u32 = 1 << 14;
    let (interested, unchoke, request, piece) = (2, 1, 6, 7);
    let mut stream = TcpStream::connect(seed).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(&hello(torrent)).unwrap();
    stream.read_exact(&mut [0; 68]).unwrap();
    stream.write_all(&[0, 0, 0, 1, interested]).unwrap();
    await_kind(&mut stream, unchoke);
    let numbers = [0, 0, BLOCK].map(u32::to_be_bytes).concat();
    stream.write_all(&[&[0, 0, 0, 13, request], &numbers[..]].concat()).unwrap();
    await_kind(&mut stream, piece);
    stream
}

/// What is reported once a second is too old for that.
#[test]
fn the_goodbye_tells_what_has_been_sent_up_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (url, told) = tracker();
    let torrent = torrent_with(folder.path(), vec![vec![url]]);
    let job = job(&torrent, folder.path(), Goal::Seed, 1);
    let job = Job { trackers: Some(TrackerOptions::default()), ..job };
    let (stop, stopped) = oneshot::channel();
    let mut meet = Some(move |addr| {
        std::thread::spawn(move || {
            // A tracker that does not know of us is not told that we go.
            assert!(told.recv_timeout(SOON).unwrap().contains("uploaded=0&"));
            let peer = take_block(addr, &torrent);
            stop.send(()).unwrap();
            let goodbye = told.recv_timeout(SOON).unwrap();
            drop(peer);
            goodbye
        })
    });
    let mut peer = None;
    let watch = |event: Event| {
        if let Event::Listening(addr) = event {
            peer = meet.take().map(|meet| meet(addr));
        }
    };
    // Dropped or told, it ends.
    let outcome = block_on(run(job, watch, async { _ = stopped.await })).unwrap();
    let goodbye = peer.expect("it has begun").join().unwrap();
    assert_eq!(outcome.progress.uploaded, 1 << 14);
    assert!(goodbye.contains("event=stopped") && goodbye.contains("uploaded=16384&"), "{goodbye}");
}

#[test]
fn who_only_seeds_fetches_nothing_whatever_is_missing() {
    let fetched = [Goal::Download, Goal::DownloadAndSeed, Goal::Seed].map(|goal| goal.fetches(5));
    assert_eq!(fetched, [5, 5, 0], "else trackers and the DHT would be asked for peers all the time");
    assert_eq!(Goal::Download.fetches(0), 0);
}
