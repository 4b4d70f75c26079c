//! The whole program over loopback, up and down: the release binary in a process of its own, the load generator in this
//! one. It shows changes of one machine; what other clients cost is for `scripts/compare`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seedring::load::{self, Goal, Meeting, Mode, Order, Plan, Report};
use seedring::metainfo::Torrent;
use seedring::session::{CreateOptions, create};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 3] = [1, 16, 200];

/// Whether everything is to run once only, as a test.
fn is_test() -> bool {
    let has = |flag| std::env::args().any(|arg| arg == flag);
    has("--test") || !has("--bench")
}

/// Bytes of the torrent.
fn len() -> usize {
    if is_test() { 8 << 20 } else { 128 << 20 }
}

/// What is taken from a seed.
fn taken() -> u64 {
    4 * len() as u64
}

/// The program at work; killed when dropped.
struct Program {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(command: &str, stage: &Stage, folder: &Path) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_seedring"));
        program
            .args([command, "--json", "--no-dht", "--no-lsd", "--listen", "127.0.0.1:0", "-d"])
            .arg(folder)
            .arg(&stage.file);
        let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    fn until(&mut self, event: &str) -> Value {
        let mut parsed = self.lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.expect("text")));
        let found = parsed.find_map(|line| line.ok().filter(|line| line["event"] == event));
        found.unwrap_or_else(|| panic!("the program ended without `{event}`"))
    }

    fn address(&mut self) -> SocketAddr {
        self.until("listening")["addr"].as_str().and_then(|addr| addr.parse().ok()).expect("an address")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder on the disk of the build, with a file and its torrent.
struct Stage {
    folder: tempfile::TempDir,
    file: PathBuf,
    torrent: Torrent,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let mut bytes = vec![0; len()];
        fastrand::Rng::with_seed(7).fill(&mut bytes);
        fs::create_dir(folder.path().join("seed")).expect("a folder");
        fs::write(folder.path().join("seed/payload"), bytes).expect("a file");
        let options = CreateOptions { piece_length: Some(1 << 20), ..CreateOptions::default() };
        let made = create(&folder.path().join("seed/payload"), &options, 1, |_, _| {});
        let (bytes, torrent) = made.expect("a torrent");
        let file = folder.path().join("payload.torrent");
        fs::write(&file, bytes).expect("a file");
        Self { folder, file, torrent }
    }

    fn load(&self, addr: SocketAddr, connections: usize, mode: Mode) -> Report {
        let plan = Plan {
            folder: self.folder.path().join("seed"),
            meeting: Meeting::Dial(addr),
            connections,
            allow_fewer: false,
            mode,
            duration: None,
            timeout: Duration::from_secs(300),
        };
        let report = load::run(&plan, &self.torrent, |_| {}).expect("a run");
        assert!(report.ok, "{:?}", report.problem);
        report
    }
}

fn seeding(c: &mut Criterion) {
    let stage = Stage::new();
    let mut seeder = Program::start("seed", &stage, &stage.folder.path().join("seed"));
    let addr = seeder.address();
    for order in [Order::Sequential, Order::Scattered] {
        let mut group = c.benchmark_group(format!("seeding/{order:?}").to_lowercase());
        group.throughput(Throughput::Bytes(taken()));
        for connections in CONNECTIONS {
            let mode = Mode::Download { goal: Goal::Together(taken()), order, requests: 40 };
            let once = || stage.load(addr, connections, mode).transfer_seconds;
            group.bench_function(BenchmarkId::from_parameter(format!("{connections}_connections")), |b| {
                b.iter_custom(|times| Duration::from_secs_f64((0..times).map(|_| once()).sum()));
            });
        }
        group.finish();
    }
}

/// Until the program says that all is verified and written.
fn downloading(c: &mut Criterion) {
    let stage = Stage::new();
    let mut group = c.benchmark_group("downloading");
    group.throughput(Throughput::Bytes(len() as u64));
    for connections in CONNECTIONS {
        let once = || {
            let folder = stage.folder.path().join("leech");
            let mut leech = Program::start("download", &stage, &folder);
            let addr = leech.address();
            let report = stage.load(addr, connections, Mode::Upload);
            let end = Instant::now();
            leech.until("completed");
            let spent = Duration::from_secs_f64(report.seconds) + end.elapsed();
            drop(leech);
            fs::remove_dir_all(folder).expect("the download can be removed");
            spent
        };
        group.bench_function(BenchmarkId::from_parameter(format!("{connections}_connections")), |b| {
            b.iter_custom(|times| (0..times).map(|_| once()).sum());
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(500));
    targets = seeding, downloading
}
criterion_main!(benches);
