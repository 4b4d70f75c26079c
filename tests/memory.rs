//! What a program reads of disks, keeps in memory, and maps.

mod common;

use common::metrics::Samples;
use common::peer::{INTERESTED, PIECE, REQUEST, UNCHOKE, connect, hear_kind, message};
use common::program::{Program, client, with_descriptors};
use common::stage::{Stage, beside_client};
use seedring::digest::Engine;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

const BLOCK: usize = 16 * 1024;

/// A seed whose check is over, and how many bytes that has read. `cached`: the page cache still has them.
fn checked_seed(stage: &Stage, cached: bool, more: &[&str]) -> (Program, SocketAddr, u64) {
    let cores = if more.contains(&"--cores") { &[][..] } else { &["--cores", "1"] };
    let metrics = [cores, &["--metrics", "127.0.0.1:0"]].concat();
    let mut seeder = beside_client(stage, "seed", &stage.here(), &[&metrics[..], more].concat());
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
    // The first of several requests for a run may be for one block of it, which then is read alone.
    let most = stage.total() + stage.total() / 65_536 * BLOCK as u64;
    assert!((stage.total()..=most).contains(&read), "{read} bytes");
}

/// Bytes that the disk has given when 24 peers got all of a torrent that it had to be asked for, each beginning at another
/// place: so it comes to where others were long before.
fn read_for_many(stage: &Stage, order: &str, memory: &str, cores: &str) -> u64 {
    let more = ["--memory-limit", memory, "--cores", cores];
    let (mut seeder, figures, _) = checked_seed(stage, false, &more);
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
        let read = read_for_many(&stage, order, "512M", "1");
        // A run of which at first a single block is wanted is read whole when more of it is.
        let most = stage.total() + stage.total() / 65_536 * BLOCK as u64;
        assert!((stage.total()..=most).contains(&read), "{order}: {read} bytes");
    }
}

/// Cores have nothing of each other's memory: each reads once.
#[test]
fn two_cores_read_a_block_wanted_by_many_peers_twice_at_most() {
    let stage = Stage::new(&[12 << 20]);
    for order in ["sequential", "scattered"] {
        let read = read_for_many(&stage, order, "1G", "2");
        let most = 2 * (stage.total() + stage.total() / 65_536 * BLOCK as u64);
        assert!((stage.total()..=most).contains(&read), "{order}: {read} bytes");
    }
}

/// What is not in the page cache goes past it, and leaves no trace there.
#[test]
fn what_nobody_has_read_lately_is_read_past_the_page_cache() {
    const EXT4: u64 = 0xef53;
    let stage = Stage::new(&[12 << 20]);
    let system = rustix::fs::statfs(stage.here()).unwrap().f_type as u64;
    let (mut seeder, figures, _) = checked_seed(&stage, false, &[]);
    let direct = |page: &Samples| page.sum("seedring_disk_read_bytes_total", &["path=\"direct\""]);
    let before = direct(&Samples::fetch(figures));
    let addr = seeder.address().to_string();
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "1"]).0, Some(0));
    let past = direct(&when_sent(&stage, figures, 1)) - before;
    // Others may have no such way, or not tell what they have cached.
    if system == EXT4 {
        // The kernel keeps a page now and then of those that it is asked to give up, and more when others keep it busy.
        let (cached, total) = (stage.cached_bytes(), stage.total());
        assert!(
            past + total / 100 >= total && cached <= total / 10,
            "{past} bytes went past it, {cached} are in it"
        );
    }
}

/// What the socket did not take, or a limit did not let out, is looked up again for the next send: no block is a hit for that.
#[test]
fn where_a_block_was_found_is_counted_once() {
    let stage = Stage::new(&[12 << 20]);
    let (mut seeder, figures, _) = checked_seed(&stage, true, &["--upload-limit", "8M"]);
    let addr = seeder.address().to_string();
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "1"]).0, Some(0));
    let page = when_sent(&stage, figures, 1);
    let ends = ["cache_hits", "page_cache_hits", "cache_misses"];
    let seen: u64 = ends.iter().map(|end| page.sum(&format!("seedring_{end}_total"), &[])).sum();
    let (runs, blocks) = (stage.total() / 65_536, stage.total() / BLOCK as u64);
    assert!((runs..=blocks).contains(&seen), "{seen} lookups of {blocks} blocks in {runs} runs");
}

/// What has no room in our own memory and is read again stays in the page cache.
#[test]
fn a_block_for_which_there_is_no_memory_is_read_twice_at_most() {
    let stage = Stage::new(&[48 << 20]);
    let read = read_for_many(&stage, "sequential", "32M", "1");
    let most = 2 * stage.total() + stage.total() / 65_536 * BLOCK as u64;
    assert!((stage.total()..=most).contains(&read), "{read} bytes");
}

/// Bytes that may be read all the same: on a busy machine the kernel has been seen to say of a run that it is not all there.
const MISSED: u64 = 256 * 1024;

#[test]
fn what_the_page_cache_holds_is_not_read() {
    // Of a large file, and of small ones.
    for lengths in [vec![16 << 20], vec![40_000; 150]] {
        let stage = Stage::new(&lengths);
        let (mut seeder, figures, before) = checked_seed(&stage, true, &[]);
        let addr = seeder.address().to_string();
        assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "3"]).0, Some(0));
        let page = when_sent(&stage, figures, 3);
        let from_there = page.sum("seedring_page_cache_hits_total", &[]);
        let read = bytes_read(&page) - before;
        assert!(read <= MISSED && from_there > 0, "{read} bytes are read, {from_there} loads are not");
        // Not one by one: there is room to map all.
        assert_eq!(page.sum("seedring_file_sends_total", &[]), 0);
    }
}

/// Where too little memory is left to map it.
#[test]
fn what_is_not_worth_a_mapping_is_sent_without_a_read_all_the_same() {
    let stage = Stage::new(&[48 << 20]);
    let (mut seeder, figures, before) = checked_seed(&stage, true, &["--memory-limit", "16M"]);
    let addr = seeder.address().to_string();
    let scene = ["--peer", &addr, "--connections", "8", "--order", "scattered"];
    assert_eq!(stage.run("download", &scene).0, Some(0));
    let page = when_sent(&stage, figures, 8);
    let [calls, sent] =
        ["sends", "sent_bytes"].map(|name| page.sum(&format!("seedring_file_{name}_total"), &[]));
    let read = bytes_read(&page) - before;
    assert!(read <= MISSED && calls > 0 && sent >= stage.total() / 8, "{read} read, {sent} sent in {calls}");
}

/// Files that are kept open for a send and files that a read waits for do not wait for each other, however few may be open: some
/// of them are cached, with too little memory to map them.
#[test]
fn what_is_sent_from_open_files_waits_for_no_read() {
    let stage = Stage::with_pieces(&vec![40_000; 600], 1 << 18);
    let options = ["--cores", "1", "--memory-limit", "8M"];
    // Some descriptors more for who looks at the figures.
    for (limit, figures) in [(41, &[][..]), (56, &["--metrics", "127.0.0.1:0"])] {
        let seed = client("seed", &stage.file, &stage.here(), &[&options, figures].concat());
        let mut seeder = Program::start(&mut with_descriptors(&seed, limit, false));
        let figures = (!figures.is_empty()).then(|| seeder.metrics_address());
        let addr = seeder.address().to_string();
        stage.leave_page_cache_by(5);
        let scene = ["--peer", &addr, "--connections", "2", "--requests", "200", "--order", "scattered"];
        let (code, summary, said) = stage.run("download", &scene);
        assert_eq!((code, said.as_str()), (Some(0), ""), "{limit} descriptors: {summary}");
        if let Some(page) = figures.map(|figures| when_sent(&stage, figures, 2)) {
            let count = |what| page.sum(&format!("seedring_{what}_total"), &[]);
            assert!(count("file_sends") > 0 && count("cache_misses") > 0);
        }
    }
}

/// The program keeps no file on the disk that its owner has removed. What is put in the place of a file it does not send: that
/// was not checked.
#[test]
fn files_that_are_removed_are_let_go() {
    let stage = Stage::new(&[vec![2 << 20], vec![100_000; 40]].concat());
    let (mut seeder, figures, _) = checked_seed(&stage, true, &[]);
    let addr = seeder.address().to_string();
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "1"]).0, Some(0));
    when_sent(&stage, figures, 1);
    let file = |number: u32| stage.here().join(format!("set/{number:04}"));
    let count = |path: PathBuf| seeder.files().iter().filter(|there| **there == path).count();
    assert!((0..41).all(|number| count(file(number)) > 1), "open, and mapped");
    fs::write(stage.here().join("other"), vec![7; 2 << 20]).unwrap();
    fs::rename(stage.here().join("other"), file(0)).unwrap();
    (1..41).for_each(|number| fs::remove_file(file(number)).unwrap());
    let deleted = |number: u32| PathBuf::from(format!("{} (deleted)", file(number).display()));
    common::until(|| {
        let kept = (1..41).filter(|number| count(deleted(*number)) > 0).count();
        if kept == 0 { Ok(()) } else { Err(format!("{kept} are kept")) }
    });
    assert!(count(deleted(0)) > 1);
    // Every block is compared.
    let part = ["--peer", &addr, "--connections", "1", "--bytes", "1M"];
    let (code, summary, said) = stage.run("download", &part);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{summary}");
}

/// Neither does a core that opens such a file only then: it is not the one that was checked, and the seed ends, with the cause.
#[test]
fn what_replaces_a_file_is_served_by_no_core() {
    let stage = Stage::new(&vec![100_000; 40]);
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &["--cores", "2"]);
    let addr = seeder.address().to_string();
    for number in 0..40 {
        let other = stage.here().join("other");
        fs::write(&other, vec![7; 100_000]).unwrap();
        fs::rename(other, stage.here().join(format!("set/{number:04}"))).unwrap();
    }
    let many = ["--peer", &addr, "--connections", "16"];
    let (_, summary, _) = stage.run("download", &many);
    assert_eq!(summary["bad_blocks"], 0, "{summary}");
    let error = seeder.until("error").to_string();
    assert!(error.contains("another file is in the place of the one that was checked"), "{error}");
    assert_eq!(seeder.wait().code(), Some(1));
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

/// What a core has used to check what is there it does not leave to the others.
#[test]
fn a_core_that_nobody_asks_keeps_its_part_of_the_limit() {
    let stage = Stage::new(&[160 << 20]);
    let more = ["--cores", "2", "--memory-limit", "64M", "--metrics", "127.0.0.1:0"];
    let mut seeder = beside_client(&stage, "seed", &stage.here(), &more);
    let (figures, addr) = (seeder.metrics_address(), seeder.address().to_string());
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "1"]).0, Some(0));
    let taken = taken(&when_sent(&stage, figures, 1));
    assert!(taken <= 64 << 20, "{taken} bytes");
}

/// Bytes of slabs that are or were in use, and of what is mapped.
fn taken(page: &Samples) -> u64 {
    let touched = ["free", "held", "cached", "sent"];
    let touched = touched.map(|state| page.sum("seedring_slabs", &[&format!("state=\"{state}\"")]));
    touched.iter().sum::<u64>() * (256 << 10) + page.sum("seedring_mapped_bytes", &[])
}

/// However little memory there is: what the page cache holds is neither read nor beside the limit, and a download works.
#[test]
fn a_seed_with_little_memory_sends_from_the_page_cache() {
    let stage = Stage::new(&[48 << 20]);
    for (cores, mib) in [(1, 8), (1, 16), (2, 16), (4, 16), (2, 32)] {
        let (count, limit) = (cores.to_string(), format!("{mib}M"));
        let more = ["--cores", &count, "--memory-limit", &limit, "--metrics", "127.0.0.1:0"];
        let mut seeder = beside_client(&stage, "seed", &stage.here(), &more);
        let figures = seeder.metrics_address();
        let addr = seeder.address().to_string();
        let before = common::until(|| {
            let before = bytes_read(&Samples::fetch(figures));
            if before == stage.total() { Ok(before) } else { Err(format!("{before} bytes")) }
        });
        assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "8"]).0, Some(0));
        let page = when_sent(&stage, figures, 8);
        let read = bytes_read(&page) - before;
        // Now and then all that is mapped is being sent.
        assert!(read <= stage.total() / 4, "{cores} cores, {mib} MiB: {read} bytes are read again");
        let taken = taken(&page);
        assert!(taken <= mib << 20, "{cores} cores, {mib} MiB: {taken} bytes");
        drop(seeder);
        let leech = stage.folder.path().join(format!("leech-{cores}-{mib}"));
        let mut program = beside_client(&stage, "download", &leech, &more[..4]);
        let addr = program.address().to_string();
        assert_eq!(stage.run("upload", &["--peer", &addr, "--connections", "8"]).0, Some(0));
        assert_eq!(program.wait().code(), Some(0));
    }
}

/// A program of one core that has been sent a whole torrent by so many peers; where its figures are, and its peers connect.
fn fetched_from(stage: &Stage, connections: &str) -> (Program, SocketAddr, String) {
    let more = ["--cores", "1", "--memory-limit", "512M", "--metrics", "127.0.0.1:0", "--seed"];
    let mut program = beside_client(stage, "download", &stage.folder.path().join("leech"), &more);
    let (figures, addr) = (program.metrics_address(), program.address().to_string());
    assert_eq!(stage.run("upload", &["--peer", &addr, "--connections", connections]).0, Some(0));
    (program, figures, addr)
}

/// Everything goes its shortest way when one peer answers in the order it is asked: into its place, to the disk, and from
/// memory to whoever wants it next.
#[test]
fn what_is_downloaded_is_neither_copied_nor_read() {
    let stage = Stage::new(&[12 << 20]);
    let (mut program, figures, addr) = fetched_from(&stage, "1");
    assert_eq!(program.until("completed")["moved"], 0);
    assert_eq!(stage.run("download", &["--peer", &addr, "--connections", "2"]).0, Some(0));
    let page = when_sent(&stage, figures, 2);
    assert_eq!(page.sum("seedring_moved_bytes_total", &[]) + page.sum("seedring_copied_bytes_total", &[]), 0);
    assert_eq!(bytes_read(&page), 0);
    let [memory, elsewhere] =
        ["cache_hits", "page_cache_hits"].map(|name| page.sum(&format!("seedring_{name}_total"), &[]));
    assert!(memory > 0 && elsewhere == 0, "{memory} and {elsewhere} hits");
}

/// Files and pieces never begin at the same place. From sixteen peers side by side, each block comes into its place, but for
/// those that towards the end come from two of them at the same time.
#[test]
fn what_many_send_of_straddling_files_is_not_copied() {
    let lengths = [3_000_001, 5, 1 << 20, 70_000, 4096, 6_000_003, 65_536, 2_500_000];
    let stage = Stage::with_pieces(&lengths, 1 << 18);
    let (mut program, figures, _) = fetched_from(&stage, "16");
    let completed = program.until("completed");
    let [moved, wasted] = ["moved", "wasted"].map(|name| completed[name].as_u64().unwrap());
    println!("{moved} bytes moved, {wasted} wasted");
    // A block to each peer.
    assert!(moved <= 16 * BLOCK as u64, "{moved} of {} bytes", stage.total());
    assert_eq!(Samples::fetch(figures).sum("seedring_copied_bytes_total", &[]), 0);
    stage.assert_same(&stage.folder.path().join("leech"));
}

/// Pieces that come at about the same time are hashed side by side.
#[test]
fn pieces_of_many_seeds_are_hashed_in_batches() {
    let stage = Stage::new(&[8 << 20]);
    let (mut program, figures, _) = fetched_from(&stage, "16");
    program.until("completed");
    let page = common::until(|| {
        let page = Samples::fetch(figures);
        let hashed = page.sum("seedring_hash_batch_bytes_sum", &["kind=\"download\""]);
        if hashed == stage.total() { Ok(page) } else { Err(format!("{hashed} bytes are hashed")) }
    });
    are_batches(&page, "kind=\"download\"", u64::from(stage.torrent.layout.piece_count()));
}

/// So are those of a check.
#[test]
fn what_is_on_disk_is_hashed_in_batches() {
    let stage = Stage::new(&[32 << 20]);
    let (_seeder, figures, _) = checked_seed(&stage, true, &[]);
    let page = common::until(|| {
        let page = Samples::fetch(figures);
        let hashed = page.sum("seedring_hash_batch_bytes_sum", &["kind=\"verify\""]);
        if hashed == stage.total() { Ok(page) } else { Err(format!("{hashed} bytes are hashed")) }
    });
    // A run is several of these pieces.
    are_batches(&page, "kind=\"verify\"", stage.total() >> 18);
}

/// Half full at least; of lanes that are few each has its run at once.
fn are_batches(page: &Samples, kind: &str, runs: u64) {
    let [timed, sized] =
        ["seconds", "bytes"].map(|what| page.sum(&format!("seedring_hash_batch_{what}_count"), &[kind]));
    println!("{timed} batches of {runs} runs");
    let lanes = Engine::current().lanes() as u64;
    let most = if lanes == 1 { runs } else { runs * 2 / lanes };
    // No more than sixteen are read, or come, at a time.
    assert!(timed == sized && (runs / 16..=most).contains(&timed), "{timed} batches of {runs} runs");
}

/// Whoever goes on in order finds the next runs of the piece on their way, and nothing is read that nobody wants.
#[test]
fn runs_of_a_piece_that_is_wanted_in_order_are_read_together() {
    for (order, most) in [("sequential", 3), ("scattered", 100)] {
        let stage = Stage::with_pieces(&[32 << 20], 1 << 20);
        let (mut seeder, figures, before) = checked_seed(&stage, false, &[]);
        let addr = seeder.address().to_string();
        let four = ["--peer", &addr, "--connections", "4", "--order", order, "--bytes", "32M"];
        assert_eq!(stage.run("download", &four).0, Some(0));
        let page = when_sent(&stage, figures, 1);
        let runs = stage.total() / (1 << 18);
        let missed = page.sum("seedring_cache_misses_total", &[]);
        // One of four was not there; and where a peer leaves the order, or begins.
        assert!(missed <= runs * most / 8, "{order}: {missed} of {runs} runs were not on their way");
        let read = bytes_read(&page) - before;
        assert!(read <= stage.total() + stage.total() / 10, "{order}: {read} bytes of {}", stage.total());
    }
}

/// Who asks for a byte here and there has little read for it.
#[test]
fn what_is_read_for_short_requests_is_little() {
    let stage = Stage::with_pieces(&[32 << 20], 1 << 20);
    let (mut seeder, figures, before) = checked_seed(&stage, false, &[]);
    let mut peer = connect(seeder.address(), &stage.torrent, [7; 20]).unwrap();
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    for piece in 0..stage.torrent.layout.piece_count() {
        for run in 0..4 {
            for begin in [0, 1, 2, 100_000] {
                peer.write_all(&message(REQUEST, &[piece, run * (1 << 18) + begin, 1], &[])).unwrap();
                hear_kind(&mut peer, PIECE);
            }
        }
    }
    let read = common::until(|| {
        let page = Samples::fetch(figures);
        let sent = page.sum("seedring_uploaded_bytes_total", &[]);
        if sent == 32 * 16 { Ok(bytes_read(&page) - before) } else { Err(format!("{sent} bytes")) }
    });
    assert!(read <= 32 * 16 * 4096, "{read} bytes for {} requests of one", 32 * 16);
}

/// Requests that follow each other are one read of a run, and many blocks are one send.
#[test]
fn few_operations_move_many_blocks() {
    for (piece_length, cached) in [(1 << 16, true), (1 << 16, false), (1 << 20, false)] {
        let stage = Stage::with_pieces(&[32 << 20], piece_length);
        let blocks = stage.total() / BLOCK as u64;
        let (mut seeder, figures, _) = checked_seed(&stage, cached, &[]);
        let count = |page: &Samples, kind: &str| {
            page.sum("seedring_ring_operations_total", &[&format!("operation=\"{kind}\"")])
        };
        let before = Samples::fetch(figures);
        let addr = seeder.address().to_string();
        let one = ["--peer", &addr, "--connections", "1", "--requests", "250"];
        assert_eq!(stage.run("download", &one).0, Some(0));
        let page = when_sent(&stage, figures, 1);
        let [reads, sends] = ["read", "send"].map(|kind| count(&page, kind) - count(&before, kind));
        // What the send buffer has no room for takes another one.
        assert!(sends < blocks / 2, "{sends} sends for {blocks} blocks");
        let runs = if cached { 0 } else { stage.total() / u64::from(piece_length.min(1 << 18)) };
        assert!(reads <= runs + runs / 10, "{reads} reads of {runs} runs");
    }
}
