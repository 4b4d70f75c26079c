//! Sessions whose cores panic.

use super::*;
use crate::metainfo::Torrent;
use crate::shard::faults::{self, Place};
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Far more than an end takes, less than the limit of one that waits for what never comes.
const SOON: Duration = Duration::from_secs(8);

fn job(torrent: &Arc<Torrent>, folder: &Path, goal: Goal, cores: usize) -> Job {
    Job { cores, memory_limit: 16 << 20, ..Job::alone(torrent, folder, goal) }
}

/// A torrent like no other, with its files below `folder`.
fn torrent(folder: &Path) -> Arc<Torrent> {
    for name in ["first", "second", "third"] {
        let bytes: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1 << 20).collect();
        std::fs::create_dir_all(folder.join("payload")).unwrap();
        std::fs::write(folder.join("payload").join(name), bytes).unwrap();
    }
    let options = CreateOptions { piece_length: Some(1 << 16), ..CreateOptions::default() };
    Arc::new(create(&folder.join("payload"), &options, 1, |_, _| {}).unwrap().1)
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
            let hello =
                [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &torrent.info_hash.0[..], &[7; 20]].concat();
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
