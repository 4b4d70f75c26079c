//! Sessions of our own in one process, over real sockets and files, without a tracker.

use seedring::metainfo::Torrent;
use seedring::ring::ZeroCopySend;
use seedring::session::{
    self, AnnounceLimits, Choices, CreateOptions, Event, Goal, Job, Outcome, Progress, Snapshot,
    TrackerOptions,
};
use seedring::swarm::Priority;
use seedring::wire::mse::Encryption;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn job(torrent: &Arc<Torrent>, folder: &Path, goal: Goal, peers: Vec<SocketAddr>) -> Job {
    Job { peers, cores: 2, ..Job::alone(torrent, folder, goal) }
}

/// A session that says where it listens, and ends when told.
fn start(
    job: Job,
    stop: watch::Receiver<bool>,
) -> (impl Future<Output = Outcome>, oneshot::Receiver<SocketAddr>) {
    let (tell, addr) = oneshot::channel();
    let tell = Cell::new(Some(tell));
    let watch = move |event: Event| {
        if let Event::Listening(addr) = event {
            tell.take().map(|tell| tell.send(addr));
        }
    };
    let running = async move {
        let mut stop = stop;
        let told = async { drop(stop.wait_for(|stop| *stop).await) };
        session::run(job, watch, told).await.expect("the session works")
    };
    (running, addr)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Files of several sizes below `root`, reproducibly random.
fn make_payload(root: &Path) {
    let mut rng = fastrand::Rng::with_seed(7);
    for (name, len) in
        [("big", 5_000_001), ("dir/small", 3), ("dir/empty", 0), ("dir/deep/one", 1), ("z", 262_144)]
    {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
        fs::write(path, bytes).unwrap();
    }
}

fn same(a: &Path, b: &Path) {
    let files = |root| -> Vec<(Vec<String>, u64)> {
        let files = seedring::storage::scan(root).unwrap().files.into_iter();
        files.map(|(path, stamp)| (path, stamp.len)).collect()
    };
    assert_eq!(files(a), files(b));
    for (path, _) in files(a) {
        let path = path.join("/");
        assert!(fs::read(a.join(&path)).unwrap() == fs::read(b.join(&path)).unwrap(), "{path} differs");
    }
}

fn transfer(piece_length: u32) {
    transfer_with(piece_length, ZeroCopySend::Auto);
}

fn transfer_with(piece_length: u32, zero_copy_send: ZeroCopySend) {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed");
    make_payload(&seed.join("payload"));
    let options = CreateOptions { piece_length: Some(piece_length), ..CreateOptions::default() };
    let (_, torrent) = session::create(&seed.join("payload"), &options, 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    let (tell_stop, stop) = watch::channel(false);
    runtime().block_on(async {
        let seeder = Job { zero_copy_send, ..job(&torrent, &seed, Goal::Seed, vec![]) };
        let (seeding, addr) = start(seeder, stop.clone());
        let leeching = async {
            let addr = addr.await.unwrap();
            let leech = folder.path().join("leech");
            let (downloading, _) = start(job(&torrent, &leech, Goal::Download, vec![addr]), stop);
            let outcome = downloading.await;
            assert!(outcome.complete);
            assert_eq!(outcome.progress.downloaded, torrent.layout.total());
            same(&seed.join("payload"), &leech.join("payload"));
            tell_stop.send(true).unwrap();
        };
        let (seeded, ()) = tokio::join!(seeding, leeching);
        assert!(seeded.progress.uploaded >= torrent.layout.total());
    });
}

#[test]
fn pieces_smaller_than_a_run() {
    transfer(16 * 1024);
}

#[test]
fn pieces_of_several_runs() {
    transfer(1024 * 1024);
}

#[test]
fn one_piece_larger_than_all() {
    transfer(8 * 1024 * 1024);
}

#[test]
fn sends_without_a_copy() {
    for piece_length in [16 * 1024, 100_003, 1024 * 1024] {
        transfer_with(piece_length, ZeroCopySend::On);
    }
}

/// Takes the pages of files below `folder` that are mapped here from whoever follows their addresses, as it happens when
/// somebody cuts the files short. Says how many mappings there are.
#[expect(unsafe_code, reason = "no safe call takes pages away")]
fn take_mapped_pages(folder: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().filter(|line| line.contains(folder.to_str().unwrap()));
    let take = |line: &str| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [start, end] = [start, end].map(|hex| usize::from_str_radix(hex, 16).unwrap());
        let address = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: what is mapped of files only the kernel reads, which says so when it cannot.
        unsafe { rustix::mm::mprotect(address, end - start, rustix::mm::MprotectFlags::empty()) }.unwrap();
    };
    ours.map(take).count()
}

#[test]
fn what_cannot_be_sent_from_where_it_is_mapped_is_read() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let seed = folder.path().join("seed");
    make_payload(&seed.join("payload"));
    let (_, torrent) =
        session::create(&seed.join("payload"), &CreateOptions::default(), 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    let (tell_stop, stop) = watch::channel(false);
    runtime().block_on(async {
        let seeder = Job { cores: 1, ..job(&torrent, &seed, Goal::Seed, vec![]) };
        let (seeding, addr) = start(seeder, stop.clone());
        let leeching = async {
            let addr = addr.await.unwrap();
            for name in ["first", "second"] {
                let leech = folder.path().join(name);
                let (downloading, _) = start(job(&torrent, &leech, Goal::Download, vec![addr]), stop.clone());
                let downloaded = tokio::time::timeout(Duration::from_secs(60), downloading).await;
                assert!(downloaded.expect("it is served").complete);
                same(&seed.join("payload"), &leech.join("payload"));
                assert!(take_mapped_pages(&seed) >= 3, "all that is large was sent from there");
            }
            tell_stop.send(true).unwrap();
        };
        tokio::join!(seeding, leeching);
    });
}

/// All payload copied to be sent encrypted, and all that was uploaded, when the seeder is in this mode.
fn copied_by_a_seed(encryption: Encryption, leech: Encryption, piece_length: u32) -> (u64, u64) {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed");
    make_payload(&seed.join("payload"));
    let options = CreateOptions { piece_length: Some(piece_length), ..CreateOptions::default() };
    let (_, torrent) = session::create(&seed.join("payload"), &options, 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    let (tell_addr, addr) = oneshot::channel();
    let (tell_addr, last) = (Cell::new(Some(tell_addr)), RefCell::new(BTreeMap::new()));
    let watch = |event: Event| match event {
        Event::Listening(addr) => drop(tell_addr.take().map(|tell| tell.send(addr))),
        Event::Snapshot(snapshot) => drop(last.borrow_mut().insert(snapshot.core, snapshot.ring.copied)),
        _ => {}
    };
    let (tell_stop, stop) = watch::channel(false);
    let uploaded = runtime().block_on(async {
        let seeder = Job { encryption, snapshots: true, ..job(&torrent, &seed, Goal::Seed, vec![]) };
        let mut told = stop.clone();
        let seeding = session::run(seeder, watch, async move { drop(told.wait_for(|stop| *stop).await) });
        let leeching = async {
            let copy = folder.path().join("leech");
            let peers = vec![addr.await.unwrap()];
            let leech = Job { encryption: leech, ..job(&torrent, &copy, Goal::Download, peers) };
            assert!(start(leech, stop).0.await.complete);
            same(&seed.join("payload"), &copy.join("payload"));
            tell_stop.send(true).unwrap();
        };
        tokio::join!(seeding, leeching).0.unwrap().progress.uploaded
    });
    (last.into_inner().values().sum(), uploaded)
}

#[test]
fn encrypted_payload_is_copied_and_no_other() {
    for piece_length in [16 * 1024, 100_003, 1024 * 1024] {
        let (copied, uploaded) = copied_by_a_seed(Encryption::Required, Encryption::Required, piece_length);
        // What the send buffer does not take is encrypted again.
        assert!(copied >= uploaded && uploaded > 5_000_000, "{copied} of {uploaded}");
        let (copied, _) = copied_by_a_seed(Encryption::Required, Encryption::Allowed, piece_length);
        assert!(copied >= uploaded, "an allowing peer gives in");
        let (copied, _) = copied_by_a_seed(Encryption::Allowed, Encryption::Required, piece_length);
        assert!(copied >= uploaded, "and so it does when dialled");
    }
    for mode in [Encryption::Allowed, Encryption::Off] {
        assert_eq!(copied_by_a_seed(mode, Encryption::Allowed, 100_003).0, 0, "{mode:?}");
    }
}

#[test]
fn pieces_of_odd_length() {
    transfer(100_003);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let (seed, leech) = (folder.path().join("seed"), folder.path().join("leech"));
    make_payload(&seed.join("payload"));
    make_payload(&leech.join("payload"));
    let options = CreateOptions { piece_length: Some(65_536), ..CreateOptions::default() };
    let (_, torrent) = session::create(&seed.join("payload"), &options, 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    // Damage one byte: its piece is fetched again, nothing else.
    let damaged = leech.join("payload/big");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[1_000_000] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let (tell_stop, stop) = watch::channel(false);
    let checked = RefCell::new(None);
    runtime().block_on(async {
        let (seeding, addr) = start(job(&torrent, &seed, Goal::Seed, vec![]), stop);
        let leeching = async {
            let job = job(&torrent, &leech, Goal::Download, vec![addr.await.unwrap()]);
            let watch = |event: Event| {
                if let Event::Checked(report) = event {
                    *checked.borrow_mut() = Some(report);
                }
            };
            let outcome = session::run(job, watch, std::future::pending()).await.unwrap();
            assert_eq!(outcome.progress.downloaded, 65_536);
            tell_stop.send(true).unwrap();
        };
        tokio::join!(seeding, leeching);
    });
    assert_eq!(checked.take().unwrap().bad_pieces, [1_000_000 / 65_536]);
    same(&seed.join("payload"), &leech.join("payload"));
}

#[test]
fn what_is_there_is_told_before_it_is_said_to_be_complete() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path();
    fs::write(seed.join("payload"), [1; 100_000]).unwrap();
    let options = CreateOptions { piece_length: Some(16_384), ..CreateOptions::default() };
    let (_, torrent) = session::create(&seed.join("payload"), &options, 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    // Whichever core is the last to check, and the first to go on.
    for _ in 0..100 {
        let told = RefCell::new(Vec::new());
        let watch = |event: Event| match event {
            Event::Checked(report) => told.borrow_mut().push(("checked", report.good_pieces)),
            Event::Completed(progress) => told.borrow_mut().push(("completed", progress.good_pieces)),
            _ => {}
        };
        let job = Job { cores: 4, ..job(&torrent, seed, Goal::Download, vec![]) };
        let outcome = runtime().block_on(session::run(job, watch, std::future::pending())).unwrap();
        assert!(outcome.complete);
        assert_eq!(told.take(), [("checked", 7), ("completed", 7)]);
    }
}

#[test]
fn a_partial_seed_beside_a_full_one_serves_what_it_has_and_fetches_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (full, part) = (folder.path().join("full"), folder.path().join("part"));
    make_payload(&full.join("payload"));
    make_payload(&part.join("payload"));
    let options = CreateOptions { piece_length: Some(65_536), ..CreateOptions::default() };
    let (_, torrent) = session::create(&full.join("payload"), &options, 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    fs::remove_file(part.join("payload/z")).unwrap();
    let damaged = part.join("payload/big");
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[..1_000_000].fill(0);
    fs::write(&damaged, &bytes).unwrap();
    let (tell_stop, stop) = watch::channel(false);
    runtime().block_on(async {
        let (full_seeding, addr) = start(job(&torrent, &full, Goal::Seed, vec![]), stop.clone());
        let others = async {
            let full_addr = addr.await.unwrap();
            let (part_seeding, addr) = start(job(&torrent, &part, Goal::Seed, vec![full_addr]), stop);
            let leeching = async {
                let leech = folder.path().join("leech");
                let peers = vec![addr.await.unwrap(), full_addr];
                let (_keep, never) = watch::channel(false);
                let (downloading, _) = start(job(&torrent, &leech, Goal::Download, peers), never);
                assert!(downloading.await.complete);
                same(&full.join("payload"), &leech.join("payload"));
                tell_stop.send(true).unwrap();
            };
            tokio::join!(part_seeding, leeching).0
        };
        let (_, partial) = tokio::join!(full_seeding, others);
        assert_eq!(partial.progress.downloaded, 0);
        assert!(partial.progress.left > 0);
    });
    assert!(fs::read(&damaged).unwrap() == bytes && !part.join("payload/z").exists(), "only read");
}

#[test]
fn the_last_snapshots_of_all_cores_add_up_to_the_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed");
    make_payload(&seed.join("payload"));
    let options = CreateOptions { piece_length: Some(65_536), ..CreateOptions::default() };
    let (_, torrent) = session::create(&seed.join("payload"), &options, 2, |_, _| {}).unwrap();
    let torrent = Arc::new(torrent);
    let (tell_stop, stop) = watch::channel(false);
    runtime().block_on(async {
        let (seeding, addr) = start(job(&torrent, &seed, Goal::Seed, vec![]), stop);
        let leeching = async {
            let leech = folder.path().join("leech");
            let job =
                Job { snapshots: true, ..job(&torrent, &leech, Goal::Download, vec![addr.await.unwrap()]) };
            let last = RefCell::new(BTreeMap::new());
            let watch = |event: Event| {
                if let Event::Snapshot(snapshot) = event {
                    last.borrow_mut().insert(snapshot.core, snapshot);
                }
            };
            let outcome = session::run(job, watch, std::future::pending()).await.unwrap();
            tell_stop.send(true).unwrap();
            let last = last.into_inner();
            assert!(last.keys().eq(&[0, 1]), "{last:?}");
            let sum = |of: fn(&Snapshot) -> u64| last.values().map(|snapshot| of(snapshot)).sum::<u64>();
            let total = torrent.layout.total();
            assert_eq!(outcome.progress.downloaded, total);
            assert_eq!(sum(|snapshot| snapshot.progress.downloaded), total);
            assert_eq!(sum(|snapshot| snapshot.received), total + outcome.progress.wasted);
            let written =
                |snapshot: &Snapshot| snapshot.disk.direct_write_bytes + snapshot.disk.cached_write_bytes;
            assert_eq!(sum(written), total);
            for Progress { left, pieces, good_pieces, .. } in last.values().map(|last| last.progress) {
                assert_eq!((left, good_pieces), (0, pieces));
            }
        };
        tokio::join!(seeding, leeching);
    });
}

/// A tracker that answers each announce with an interval of a second and nobody's address: its URL, and what it is asked.
async fn tracker() -> (String, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            let _ = tell.send(line.clone());
            while !line.trim().is_empty() {
                line.clear();
                stream.read_line(&mut line).await.unwrap();
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\nd8:intervali1ee";
            stream.write_all(answer).await.unwrap();
        }
    });
    (url, told)
}

#[test]
fn who_has_all_that_is_wanted_of_a_torrent_is_paused_to_its_tracker() {
    let folder = tempfile::tempdir().unwrap();
    let seed = folder.path().join("seed");
    make_payload(&seed.join("payload"));
    let (_, mut torrent) =
        session::create(&seed.join("payload"), &CreateOptions::default(), 2, |_, _| {}).unwrap();
    runtime().block_on(async {
        let (url, mut told) = tracker().await;
        let (stop_all, stop) = watch::channel(false);
        let (seeding, addr) = start(job(&Arc::new(torrent.clone()), &seed, Goal::Seed, vec![]), stop.clone());
        torrent.trackers = vec![vec![url]];
        let wanted = |len| if len == 262_144 { Priority::Normal } else { Priority::Skip };
        let files = torrent.files.iter().map(|file| wanted(file.length)).collect();
        let leeching = async {
            let leech = folder.path().join("leech");
            let soon = Duration::from_millis(100);
            let announce =
                AnnounceLimits { shortest_interval: soon, shortest_min_interval: soon, ..Default::default() };
            let job = Job {
                announce,
                trackers: Some(TrackerOptions::default()),
                choices: Choices { files: Some(files), ..Choices::default() },
                ..job(&Arc::new(torrent), &leech, Goal::DownloadAndSeed, vec![addr.await.unwrap()])
            };
            start(job, stop).0.await
        };
        let listening = async {
            let first = told.recv().await.unwrap();
            assert!(first.contains("event=started") && first.contains("supportcrypto=1"), "{first}");
            loop {
                let line = told.recv().await.unwrap();
                assert!(!line.contains("event=completed"), "others would take it for a seed: {line}");
                if line.contains("event=paused") {
                    assert!(!line.contains("left=0"), "{line}");
                    break;
                }
            }
            stop_all.send(true).unwrap();
        };
        let (_, outcome, ()) = tokio::join!(seeding, leeching, listening);
        assert!(outcome.complete && outcome.progress.skipped > 0);
    });
}
