//! `seedring load`, the generator that measures others: against the program itself, and against raw sockets that serve
//! badly.

mod common;

use common::metrics::Samples;
use common::program::{Program, client, seedring, with_descriptors};
use seedring::metainfo::Torrent;
use seedring::session::{CreateOptions, create};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const BLOCK: usize = 16 * 1024;

/// A program that runs beside the test and is not heard on stderr.
fn beside(command: &mut Command) -> Program {
    Program::start(command.stderr(Stdio::null()))
}

/// `seed` or `download`, listening at some port.
fn beside_client(stage: &Stage, name: &str, folder: &Path, more: &[&str]) -> Program {
    beside(&mut client(name, &stage.file, folder, more))
}

/// A folder with a torrent, and its payload twice: in `here` for the client, in `there` for the generator.
struct Stage {
    folder: tempfile::TempDir,
    file: PathBuf,
    torrent: Torrent,
}

impl Stage {
    /// Files of these lengths, 64 KiB pieces.
    fn new(lengths: &[usize]) -> Self {
        // On a file system with a disk behind it.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut rng = fastrand::Rng::with_seed(5);
        for (number, len) in lengths.iter().enumerate() {
            let mut bytes = vec![0; *len];
            rng.fill(&mut bytes);
            for side in ["here", "there"] {
                fs::create_dir_all(folder.path().join(side).join("set")).unwrap();
                fs::write(folder.path().join(side).join(format!("set/{number:04}")), &bytes).unwrap();
            }
        }
        let options = CreateOptions { piece_length: Some(65_536), ..CreateOptions::default() };
        let (bytes, torrent) = create(&folder.path().join("here/set"), &options, 1, |_, _| {}).unwrap();
        let file = folder.path().join("set.torrent");
        fs::write(&file, bytes).unwrap();
        Self { folder, file, torrent }
    }

    fn here(&self) -> PathBuf {
        self.folder.path().join("here")
    }

    fn there(&self) -> PathBuf {
        self.folder.path().join("there")
    }

    /// Has the kernel forget the files' bytes, as if nobody had read them for long.
    fn leave_page_cache(&self) {
        for file in &self.torrent.files {
            let file = fs::File::open(self.here().join(file.path.join("/"))).unwrap();
            file.sync_all().unwrap();
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        }
    }

    fn total(&self) -> u64 {
        self.torrent.layout.total()
    }

    fn load(&self, mode: &str, more: &[&str]) -> Command {
        let mut command = seedring();
        command.args(["load", mode, "--timeout", "120", "-d"]).arg(self.there());
        command.args(more).arg(&self.file);
        command
    }

    /// Runs the generator; its exit code, its summary and what it said on stderr.
    fn run(&self, mode: &str, more: &[&str]) -> (Option<i32>, Value, String) {
        Self::told(&mut self.load(mode, more))
    }

    fn told(command: &mut Command) -> (Option<i32>, Value, String) {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        let summary = serde_json::from_slice(&stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
        (status.code(), summary, stderr)
    }

    fn assert_same(&self, other: &Path) {
        for file in &self.torrent.files {
            let path = file.path.join("/");
            assert!(
                fs::read(self.here().join(&path)).unwrap() == fs::read(other.join(&path)).unwrap(),
                "{path}"
            );
        }
    }
}

/// A seed whose check is over, and how many bytes that has read. `cached`: the page cache still has them.
fn checked_seed(stage: &Stage, cached: bool, more: &[&str]) -> (Program, SocketAddr, u64) {
    let metrics = ["--cores", "1", "--metrics", "127.0.0.1:0"];
    let mut seeder = beside_client(stage, "seed", &stage.here(), &[&metrics, more].concat());
    let figures = seeder.metrics_address();
    let before = common::until(|| {
        let before = bytes_read(&Samples::fetch(figures));
        if before >= stage.total() { Ok(before) } else { Err(format!("{before} bytes")) }
    });
    if !cached {
        stage.leave_page_cache();
    }
    (seeder, figures, before)
}

fn bytes_read(page: &Samples) -> u64 {
    page.sum("seedring_disk_read_bytes_total", &[])
}

/// The figures when the whole torrent has been sent so often.
fn when_sent(stage: &Stage, figures: SocketAddr, times: u64) -> Samples {
    common::until(|| {
        let page = Samples::fetch(figures);
        let sent = page.sum("seedring_uploaded_bytes_total", &[]);
        if sent == times * stage.total() { Ok(page) } else { Err(format!("{sent} bytes")) }
    })
}

#[test]
fn what_peers_ask_for_side_by_side_is_read_once() {
    let stage = Stage::new(&[48 << 20]);
    // So slow that none is far ahead of the others.
    let (mut seeder, figures, before) = checked_seed(&stage, false, &["--upload-limit", "64M"]);
    let addr = seeder.address().to_string();
    let mut loads: Vec<_> =
        (0..3).map(|_| stage.load("download", &["--peer", &addr, "--connections", "1"])).collect();
    let running: Vec<_> = loads.iter_mut().map(|load| load.stdout(Stdio::null()).spawn().unwrap()).collect();
    running.into_iter().for_each(|mut load| assert!(load.wait().unwrap().success()));
    let read = bytes_read(&when_sent(&stage, figures, 3)) - before;
    // The first of several requests for a run may be for one block of it.
    let most = stage.total() + 64 * 65_536;
    assert!((stage.total()..=most).contains(&read), "{read} bytes");
}

/// Bytes that the disk has given when 24 peers got all of a torrent that it had to be asked for, each beginning at another
/// place: so it comes to where others were long before.
fn read_for_many(stage: &Stage, order: &str, memory: &str) -> u64 {
    let (mut seeder, figures, _) = checked_seed(stage, false, &["--memory-limit", memory]);
    let before = seeder.disk_reads();
    let addr = seeder.address().to_string();
    let (code, summary, said) =
        stage.run("download", &["--peer", &addr, "--connections", "24", "--order", order]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
    when_sent(stage, figures, 24);
    seeder.disk_reads() - before
}

#[test]
fn a_block_wanted_by_many_peers_is_read_once() {
    let stage = Stage::new(&[12 << 20]);
    for order in ["sequential", "scattered"] {
        // Runs of 64 KiB, each in a slab of its own: an eighth of the memory holds them all.
        let read = read_for_many(&stage, order, "512M");
        // A run of which at first a single block is wanted is read whole when more of it is.
        let most = stage.total() + stage.total() / 65_536 * BLOCK as u64;
        assert!((stage.total()..=most).contains(&read), "{order}: {read} bytes");
    }
}

/// What has no room in our own memory and is read again stays in the page cache.
#[test]
fn a_block_for_which_there_is_no_memory_is_read_twice_at_most() {
    let stage = Stage::new(&[48 << 20]);
    let read = read_for_many(&stage, "sequential", "32M");
    let most = 2 * stage.total() + stage.total() / 65_536 * BLOCK as u64;
    assert!((stage.total()..=most).contains(&read), "{read} bytes");
}

#[test]
fn what_the_page_cache_holds_is_not_read() {
    let stage = Stage::new(&[16 << 20]);
    let (mut seeder, figures, before) = checked_seed(&stage, true, &[]);
    let addr = seeder.address().to_string();
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "3"]).0, Some(0));
    let page = when_sent(&stage, figures, 3);
    let (read, from_there) = (bytes_read(&page) - before, page.sum("seedring_page_cache_hits_total", &[]));
    assert!(read == 0 && from_there > 0, "{read} bytes are read, {from_there} loads are not");
}

/// The program keeps no file on the disk that its owner has removed or replaced, and sends what has the name now.
#[test]
fn files_that_are_gone_are_let_go() {
    let stage = Stage::new(&[2 << 20, 1 << 20, 300_000]);
    let (mut seeder, figures, _) = checked_seed(&stage, true, &[]);
    let addr = seeder.address().to_string();
    let all = ["--peer", addr.as_str()];
    assert_eq!(stage.run("download", &all).0, Some(0));
    let file = |number: u32| stage.here().join(format!("set/{number:04}"));
    assert!(seeder.files().iter().filter(|path| **path == file(0)).count() > 1, "open, and mapped");
    // The same bytes in another file, and a file that is there no more.
    fs::copy(file(0), stage.here().join("copy")).unwrap();
    fs::rename(stage.here().join("copy"), file(0)).unwrap();
    fs::remove_file(file(1)).unwrap();
    common::until(|| {
        let gone = |path: &PathBuf| path.to_str().unwrap().ends_with("(deleted)");
        let kept: Vec<_> = seeder.files().into_iter().filter(gone).collect();
        if kept.is_empty() { Ok(()) } else { Err(format!("{kept:?}")) }
    });
    let hits = |page: Samples| page.sum("seedring_page_cache_hits_total", &[]);
    let before = hits(Samples::fetch(figures));
    let part = ["--peer", &addr, "--bytes", "1M"];
    let (code, summary, said) = stage.run("download", &part);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
    common::until(|| if hits(Samples::fetch(figures)) > before { Ok(()) } else { Err("no hit".to_owned()) });
    assert!(seeder.files().contains(&file(0)));
}

/// What nobody has asked for takes no memory: each core begins with as much as its arena grows by.
#[test]
fn a_seed_begins_with_little_memory() {
    const CHUNK: u64 = 63;
    let stage = Stage::new(&[96 << 20]);
    for cores in [1, 4] {
        let count = cores.to_string();
        let more = ["--cores", &count, "--memory-limit", "1G", "--metrics", "127.0.0.1:0"];
        let mut seeder = beside_client(&stage, "seed", &stage.here(), &more);
        let figures = seeder.metrics_address();
        seeder.address();
        let room = |page: &Samples| {
            ["free", "held", "cached", "sent"]
                .map(|state| page.sum("seedring_slabs", &[&format!("state=\"{state}\"")]))
                .into_iter()
                .sum::<u64>()
        };
        let room = common::until(|| {
            let page = Samples::fetch(figures);
            let told = page.by_core("seedring_slabs", &["state=\"untouched\""]).len() == cores as usize;
            if told { Ok(room(&page)) } else { Err("a core has not told".to_owned()) }
        });
        assert_eq!(room, cores * CHUNK, "{cores} cores");
    }
}

/// Pages of files that are sent from where they are count as our memory while they are mapped.
#[test]
fn what_is_sent_from_the_page_cache_stays_within_the_limit() {
    let stage = Stage::new(&[160 << 20]);
    let more = ["--cores", "1", "--memory-limit", "48M", "--metrics", "127.0.0.1:0"];
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &more);
    let figures = seeder.metrics_address();
    let addr = seeder.address().to_string();
    let (code, summary, _) = stage.run("download", &["--peer", &addr, "--connections", "4"]);
    assert_eq!(code, Some(0), "{summary}");
    let mapped = common::until(|| {
        let page = Samples::fetch(figures);
        let told = page.sum("seedring_uploaded_bytes_total", &[]) == 4 * stage.total();
        if told { Ok(page.sum("seedring_mapped_bytes", &[])) } else { Err("it has not told".to_owned()) }
    });
    assert!(mapped > 16 << 20, "it is sent from where it is");
    assert!(mapped <= 48 << 20, "{mapped} bytes");
    // Many that want something of everywhere at the same time.
    let many = ["--peer", &addr, "--connections", "100", "--order", "scattered", "--bytes", "200M"];
    let (code, summary, _) = stage.run("download", &many);
    assert_eq!(code, Some(0), "{summary}");
    let peak = seeder.peak_memory();
    assert!(peak <= (48 + 64) << 20, "{peak} bytes");
}

#[test]
fn a_seeder_is_downloaded_from_by_many() {
    let stage = Stage::new(&[3_000_000, 0, 1, 100_000, 20_000]);
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &[]);
    let addr = seeder.address().to_string();
    for order in ["sequential", "scattered"] {
        let (code, summary, said) =
            stage.run("download", &["--peer", &addr, "--connections", "20", "--order", order]);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
        assert_eq!(summary["event"], "load");
        assert_eq!(summary["mode"], "download");
        assert_eq!(summary["ok"], true);
        for (name, value) in [
            ("bytes", 20 * stage.total()),
            ("connection_bytes_min", stage.total()),
            ("connection_bytes_max", stage.total()),
            ("connected", 20),
            ("bad_blocks", 0),
            ("unexpected_blocks", 0),
            ("outstanding_at_end", 0),
        ] {
            assert_eq!(summary[name], value, "{name} of {summary}");
        }
        let blocks = stage.total().div_ceil(BLOCK as u64) * 20;
        assert_eq!(summary["blocks"], blocks);
        assert!(summary["requests"].as_u64().unwrap() >= blocks);
        assert!(summary["cpu_seconds"].as_f64().unwrap() > 0.0);
        assert!(summary["seconds"].as_f64().unwrap() >= summary["transfer_seconds"].as_f64().unwrap());
        assert!(summary["outstanding_max"].as_u64().unwrap() <= 40);
    }
}

#[test]
fn a_goal_may_be_less_or_more_than_the_torrent() {
    let stage = Stage::new(&[1_000_000]);
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &[]);
    let addr = seeder.address().to_string();
    let each = ["--peer", &addr, "--connections", "3", "--requests", "200", "--bytes-per-connection", "3M"];
    let (code, summary, said) = stage.run("download", &each);
    assert_eq!(code, Some(0), "{said}");
    assert!(summary["connection_bytes_min"].as_u64().unwrap() >= 3 << 20);
    assert!(summary["connection_bytes_max"].as_u64().unwrap() < (3 << 20) + BLOCK as u64);
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--bytes", "320K"]);
    assert_eq!(code, Some(0), "{said}");
    // The last block of the torrent is short, so a few more may be needed.
    let bytes = summary["bytes"].as_u64().unwrap();
    assert!((320 << 10..(320 << 10) + 2 * BLOCK as u64).contains(&bytes), "{summary}");
}

#[test]
fn a_downloader_is_uploaded_to_by_many() {
    let stage = Stage::new(&[2_000_000, 5, 0, 700_000]);
    let leech = stage.folder.path().join("leech");
    let mut downloader = beside_client(&stage, "download", &leech, &[]);
    let addr = downloader.address().to_string();
    let (code, summary, said) = stage.run("upload", &["--peer", &addr, "--connections", "8"]);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
    assert!(summary["bytes"].as_u64().unwrap() >= stage.total(), "{summary}");
    assert_eq!(summary["client_pieces"], stage.torrent.layout.piece_count());
    downloader.until("completed");
    downloader.until("stopped");
    stage.assert_same(&leech);
}

#[test]
fn a_downloader_that_dials_is_waited_for() {
    let stage = Stage::new(&[1_500_000]);
    let mut load = stage.load("upload", &["--listen", "127.0.0.2:0", "--connections", "4", "--json"]);
    let mut load = beside(&mut load);
    let peers: Vec<String> = (0..4).map(|_| load.address().to_string()).collect();
    let hosts: Vec<_> =
        peers.iter().map(|peer| peer.parse::<SocketAddr>().unwrap().ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"]);
    let leech = stage.folder.path().join("leech");
    let mut downloader = beside_client(&stage, "download", &leech, &["--peer", &peers.join(",")]);
    downloader.until("completed");
    downloader.until("stopped");
    let summary = load.until("load");
    assert_eq!(summary["ok"], true, "{summary}");
    assert!(load.wait().success());
    stage.assert_same(&leech);
}

#[test]
fn a_block_that_differs_from_the_files_is_found() {
    let stage = Stage::new(&[500_000]);
    let path = stage.there().join("set/0000");
    let mut bytes = fs::read(&path).unwrap();
    bytes[300_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &[]);
    let (code, summary, said) =
        stage.run("download", &["--peer", &seeder.address().to_string(), "--connections", "2"]);
    assert_eq!(code, Some(1), "{summary}");
    assert!(said.contains("2 blocks were not what they should be (piece 4 from byte 32768 on"), "{said}");
    assert_eq!((&summary["ok"], &summary["bad_blocks"]), (&Value::from(false), &Value::from(2)));
    assert_eq!(summary["bytes"], 2 * (stage.total() - BLOCK as u64));
}

#[test]
fn what_stands_in_the_way_is_named() {
    let stage = Stage::new(&[10_000]);
    let refused = |mode: &str, more: &[&str]| {
        let output = stage.load(mode, more).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused("download", &[]).contains("name the client with --peer"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap().to_string();
    drop(listener);
    assert!(refused("download", &["--peer", &closed]).contains("Connection refused"));
    fs::write(stage.there().join("set/0000"), "short").unwrap();
    let said = refused("download", &["--peer", &closed]);
    assert!(said.contains("set/0000: it has 5 bytes where the torrent says 10000"), "{said}");
    fs::remove_file(stage.there().join("set/0000")).unwrap();
    assert!(refused("upload", &["--peer", &closed]).contains("cannot open"));
}

#[test]
fn it_is_hidden_from_the_short_help_but_explains_itself() {
    let help = |args: &[&str]| String::from_utf8(seedring().args(args).output().unwrap().stdout).unwrap();
    assert!(!help(&["--help"]).contains("\n  load "));
    assert!(help(&["--help"]).contains("\n  download "));
    assert!(help(&["load", "--help"]).contains("--bytes-per-connection"));
}

/// A seed written by hand: one connection, and what it answers to each request.
fn serve(stage: &Stage, script: impl FnOnce(Served) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (hash, pieces) = (stage.torrent.info_hash, stage.torrent.layout.piece_count());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        let hello = [b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0", &hash.0[..], &[7; 20]].concat();
        stream.write_all(&hello).unwrap();
        let mut served = Served(stream);
        let mut bits = vec![0xff; pieces.div_ceil(8) as usize];
        *bits.last_mut().unwrap() <<= (8 - pieces % 8) % 8;
        served.say(5, &bits);
        script(served);
    });
    addr
}

struct Served(TcpStream);

impl Served {
    fn say(&mut self, id: u8, body: &[u8]) {
        let head = [&(body.len() as u32 + 1).to_be_bytes()[..], &[id]].concat();
        self.0.write_all(&[&head, body].concat()).unwrap();
    }

    /// The body of the next message of that kind; none when the other side has closed.
    fn hear(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let mut len = [0; 4];
            self.0.read_exact(&mut len).ok()?;
            let mut bytes = vec![0; u32::from_be_bytes(len) as usize];
            self.0.read_exact(&mut bytes).ok()?;
            if bytes.first() == Some(&kind) {
                return Some(bytes.split_off(1));
            }
        }
    }

    /// Answers a request with these bytes of the whole torrent.
    fn answer(&mut self, request: &[u8], torrent: &[u8]) {
        let number = |at: usize| u32::from_be_bytes(request[at..at + 4].try_into().unwrap()) as usize;
        let at = number(0) * 65_536 + number(4);
        self.say(7, &[&request[..8], &torrent[at..at + number(8)]].concat());
    }
}

#[test]
fn one_wrong_byte_of_one_block_is_found() {
    let stage = Stage::new(&[200_000]);
    let mut bytes = fs::read(stage.here().join("set/0000")).unwrap();
    bytes[199_999] ^= 0x80;
    let addr = serve(&stage, move |mut served| {
        served.say(1, &[]);
        while let Some(request) = served.hear(6) {
            served.answer(&request, &bytes);
        }
    });
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!((code, &summary["bad_blocks"]), (Some(1), &Value::from(1)), "{said}");
    assert!(said.contains("piece 3 from byte 0 on is not what it should be"), "{said}");
}

#[test]
fn what_a_choke_threw_away_is_asked_for_again() {
    let stage = Stage::new(&[400_000]);
    let bytes = fs::read(stage.here().join("set/0000")).unwrap();
    let addr = serve(&stage, move |mut served| {
        served.say(1, &[]);
        for round in 0.. {
            let Some(request) = served.hear(6) else { break };
            // Every block that the torrent has was asked for by now. None of those behind the third is answered.
            if round == 3 {
                served.say(0, &[]);
                (0..21).for_each(|_| drop(served.hear(6)));
                served.say(1, &[]);
            } else {
                served.answer(&request, &bytes);
            }
        }
    });
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!((&summary["bytes"], &summary["chokes"]), (&Value::from(400_000), &Value::from(1)));
    assert_eq!(summary["repeated_requests"], 22, "{summary}");
}

#[test]
fn a_seed_that_goes_early_fails_the_run() {
    let stage = Stage::new(&[400_000]);
    let bytes = fs::read(stage.here().join("set/0000")).unwrap();
    let addr = serve(&stage, move |mut served| {
        served.say(1, &[]);
        let request = served.hear(6).unwrap();
        served.answer(&request, &bytes);
        // The rest is read, so that the end is no reset.
        (0..24).for_each(|_| drop(served.hear(6)));
    });
    let (code, summary, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!((code, &summary["closed_early"]), (Some(1), &Value::from(1)), "{said}");
    assert!(
        said.contains("all connections have ended after 16384 bytes, before the goal was reached"),
        "{said}"
    );
    assert_eq!(summary["outstanding_at_end"], 24);
}

#[test]
fn nonsense_ends_the_connection() {
    let stage = Stage::new(&[100_000]);
    let addr = serve(&stage, |mut served| {
        served.say(4, &99u32.to_be_bytes());
        drop(served.hear(99));
    });
    let (code, _, said) = stage.run("download", &["--peer", &addr, "--connections", "1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("it has a piece that the torrent has not"), "{said}");
}

#[test]
fn a_burst_of_dials_is_let_in_whole() {
    let stage = Stage::new(&[1_000_000]);
    for cores in ["1", "2"] {
        let mut seeder = beside_client(&stage, "seed", &stage.here(), &["--cores", cores]);
        let addr = seeder.address().to_string();
        // More than a core lets shake hands at once, several times over; and with a limit that is raised for it.
        let burst = ["--peer", &addr, "--connections", "700", "--bytes-per-connection", "64K"];
        let load = stage.load("download", &burst);
        let (code, summary, said) = Stage::told(&mut with_descriptors(&load, 256, true));
        assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
        let figures = ["connected", "closed_early", "active"].map(|name| summary[name].as_u64().unwrap());
        assert_eq!(figures, [700, 0, 700]);
    }
}

#[test]
fn a_connection_that_ends_early_or_never_comes_fails_the_run() {
    let stage = Stage::new(&[400_000]);
    let bytes = fs::read(stage.here().join("set/0000")).unwrap();
    // It takes one connection, and serves that; the listener goes with it.
    let served = |bytes: Vec<u8>| {
        serve(&stage, move |mut served| {
            served.say(1, &[]);
            while let Some(request) = served.hear(6) {
                served.answer(&request, &bytes);
            }
        })
    };
    let addr = served(bytes.clone());
    let (code, summary, said) =
        stage.run("download", &["--peer", &addr, "--connections", "3", "--bytes", "256K"]);
    assert_eq!((code, &summary["ok"]), (Some(1), &Value::from(false)), "{said}");
    assert!(summary["connected"] == 1 && summary["bytes"].as_u64() >= Some(256 << 10), "{summary}");
    assert!(said.contains("only 1 of 3 connections were made"), "{said}");
    let addr = served(bytes);
    let few = ["--peer", &addr, "--connections", "3", "--bytes", "256K", "--allow-fewer"];
    let (code, summary, said) = stage.run("download", &few);
    assert_eq!(
        (code, &summary["ok"], &summary["connected"]),
        (Some(0), &Value::from(true), &Value::from(1)),
        "{said}"
    );
}
