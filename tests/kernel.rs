//! What is said when the kernel does not give what the program needs.
#![allow(unsafe_code)]

mod common;

use common::metrics::Samples;
use common::payload::{noise, one_file};
use common::program::{Program, client, seedring};
use common::stage::{Stage, beside_client};
use common::until;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// A torrent and a folder that match.
fn payload() -> (tempfile::TempDir, [String; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let (data, torrent) = (folder.path().join("data"), folder.path().join("t.torrent"));
    std::fs::write(&data, vec![1; 100_000]).unwrap();
    let options = seedring::session::CreateOptions::default();
    let (bytes, _) = seedring::session::create(&data, &options, 2, |_, _| {}).unwrap();
    std::fs::write(&torrent, bytes).unwrap();
    let [torrent, root] = [&torrent, folder.path()].map(|path| path.display().to_string());
    (folder, [torrent, "-d".into(), root])
}

fn check_after(prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Output {
    let (_folder, args) = payload();
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedring"));
    command.arg("check").args(args);
    // SAFETY: `prepare` only makes system calls, which is allowed between fork and exec.
    unsafe { command.pre_exec(prepare) }.output().unwrap()
}

/// From here on `io_uring_setup` fails with this error, in this process and its children.
fn refuse_io_uring(errno: i32) -> std::io::Result<()> {
    // Load the number of the system call; refuse that one, allow the others.
    let filter = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 },
        libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_io_uring_setup as u32 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | errno as u32 },
        libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW },
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: plain system calls; the filter outlives the call that copies it.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_kernel_that_refuses_io_uring_is_named_with_the_remedy() {
    for (errno, remedy) in [
        (libc::EPERM, "kernel.io_uring_disabled=0"),
        (libc::ENOSYS, "has no io_uring"),
        (libc::EINVAL, "Linux 6.1 or newer"),
        (libc::ENOMEM, "ulimit -l"),
    ] {
        let output = check_after(move || refuse_io_uring(errno));
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("seedring: error: cannot set up io_uring: ") && said.contains(remedy),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

/// The limit does not bind root, nor whoever may lock what they like: that right is given up as well. What is locked is
/// counted by user, over all processes, and of an ended process for a while: so root becomes, in name, a user that nobody
/// else is.
fn limit_locked_memory(bytes: u64) -> std::io::Result<()> {
    const CAP_IPC_LOCK: libc::c_ulong = 14;
    const FIRST_USER: u32 = 1 << 30;
    const SAME: libc::uid_t = libc::uid_t::MAX;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: plain system calls. The capability is dropped for whatever is executed next.
    let refused = unsafe {
        if libc::geteuid() == 0 {
            libc::setresuid(FIRST_USER + libc::getpid() as u32, SAME, SAME);
        }
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) != 0
            || libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0) != 0 && libc::geteuid() == 0
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn too_little_lockable_memory_for_the_arena_costs_speed_only() {
    let output = check_after(|| limit_locked_memory(1024 * 1024));
    let said = stderr(&output);
    assert!(said.contains("unregistered buffers") && said.contains("ulimit -l"), "{said}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}

#[test]
fn a_metric_shows_of_each_core_whether_payload_memory_is_registered_and_it_is_said_once() {
    for (limit, registered) in [(Some(1024 * 1024), 0), (None, 1)] {
        let (folder, [torrent, ..]) = payload();
        let more = ["--cores", "4", "--memory-limit", "64M", "--metrics", "127.0.0.1:0"];
        let mut command = client("seed", Path::new(&torrent), folder.path(), &more);
        let said = folder.path().join("said");
        command.stderr(std::fs::File::create(&said).unwrap());
        // SAFETY: as in `check_after`.
        unsafe { command.pre_exec(move || limit.map_or(Ok(()), limit_locked_memory)) };
        let mut seed = Program::start(&mut command);
        let addr = seed.metrics_address();
        until(|| {
            let shown = Samples::fetch(addr).by_core("seedring_arena_registered", &[]);
            if shown == [registered; 4] { Ok(()) } else { Err(format!("{shown:?}")) }
        });
        drop(seed);
        let said = std::fs::read_to_string(&said).unwrap();
        assert_eq!(said.matches("unregistered buffers").count(), usize::from(registered == 0), "{said}");
        assert_eq!(said.contains("ulimit -l"), registered == 0, "{said}");
    }
}

/// From here on that much memory may be locked, by a command with these options.
fn limited(mut command: Command, kib: u64, said: &Path) -> Program {
    command.stderr(std::fs::File::create(said).unwrap());
    // SAFETY: as in `check_after`.
    unsafe { command.pre_exec(move || limit_locked_memory(kib * 1024)) };
    Program::start(&mut command)
}

#[test]
fn the_usual_64_kib_of_lockable_memory_are_enough_for_the_rings_of_several_cores() {
    let (folder, torrent, _) = one_file(8 << 20, 64 * 1024);
    let said = folder.path().join("said");
    let assert_said = |what: &str| {
        let said = std::fs::read_to_string(&said).unwrap();
        assert_eq!(said.matches("unregistered buffers").count(), 1, "{what}: {said}");
        assert_eq!(said.matches("WARN").count(), 1, "{what}: {said}");
    };
    for kib in [64, 96, 256] {
        let mut check = seedring();
        check.args(["check", "--json", "--cores", "4"]).arg(&torrent).arg("-d").arg(folder.path());
        assert_eq!(limited(check, kib, &said).wait().code(), Some(0), "{kib} KiB");
        assert_said("check");
        let options = ["--cores", "4", "--memory-limit", "64M", "--metrics", "127.0.0.1:0"];
        let mut seed = limited(client("seed", &torrent, folder.path(), &options), kib, &said);
        let (metrics, addr) = (seed.metrics_address(), seed.address().to_string());
        assert_said("seed");
        until(|| {
            let shown = Samples::fetch(metrics).by_core("seedring_arena_registered", &[]);
            if shown == [0; 4] { Ok(()) } else { Err(format!("{shown:?}")) }
        });
        let into = folder.path().join(kib.to_string());
        let options = ["--cores", "4", "--memory-limit", "64M", "--peer", &addr];
        assert!(limited(client("download", &torrent, &into, &options), kib, &said).wait().success());
        assert_said("download");
        assert!(std::fs::read(into.join("payload")).unwrap() == noise(8 << 20), "{kib} KiB");
    }
}

/// An arena of 16 MiB grows by a quarter at a time: the first may be locked, the second not.
#[test]
fn too_little_lockable_memory_for_the_arena_to_grow_costs_speed_only() {
    let stage = Stage::with_pieces(&[48 << 20], 1 << 20);
    let (said, copy) = (stage.folder.path().join("said"), stage.folder.path().join("copy"));
    let options = ["--cores", "1", "--memory-limit", "16M", "--metrics", "127.0.0.1:0", "--seed"];
    let mut leech = limited(client("download", &stage.file, &copy, &options), 8 * 1024, &said);
    let (metrics, addr) = (leech.metrics_address(), leech.address().to_string());
    let shows = |registered: u64| {
        until(|| {
            let page = Samples::fetch(metrics);
            let shown = page.by_core("seedring_arena_registered", &[]);
            if shown == [registered] { Ok(page) } else { Err(format!("{shown:?}")) }
        })
    };
    let untouched = |page: &Samples| page.sum("seedring_slabs", &["state=\"untouched\""]);
    let before = untouched(&shows(1));
    let warnings = || std::fs::read_to_string(&said).unwrap();
    assert_eq!(warnings(), "", "all is well yet");
    // Each sends a run of its own: more than there are slabs in the first part.
    let (code, summary, complaint) = stage.run("upload", &["--peer", &addr, "--connections", "60"]);
    assert_eq!((code, complaint.as_str()), (Some(0), ""), "{summary}");
    leech.until("completed");
    assert!(untouched(&shows(0)) < before, "it has grown");
    stage.assert_same(&copy);
    let said = warnings();
    assert_eq!(
        (said.matches("unregistered buffers").count(), said.matches("WARN").count()),
        (1, 1),
        "{said}"
    );
    assert!(said.contains("ulimit -l"), "{said}");
}

#[test]
fn less_lockable_memory_than_all_rings_need_costs_cores() {
    let (folder, torrent, _) = one_file(8 << 20, 256 * 1024);
    let said = folder.path().join("said");
    let options = ["--cores", "4", "--memory-limit", "64M"];
    limited(client("seed", &torrent, folder.path(), &options), 24, &said).address();
    let said = std::fs::read_to_string(&said).unwrap();
    assert!(said.contains("working on 3 processors, not 4") && said.contains("ulimit -l"), "{said}");
}

#[test]
fn too_little_lockable_memory_for_a_ring_is_an_error() {
    let output = check_after(|| limit_locked_memory(0));
    let said = stderr(&output);
    assert!(said.contains("too little lockable memory (the limit is 0 KiB)"), "{said}");
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn too_little_lockable_memory_for_zero_copy_sends_costs_speed_only() {
    let folder = tempfile::tempdir().unwrap();
    let (data, torrent) = (folder.path().join("data"), folder.path().join("t.torrent"));
    let payload: Vec<u8> = (0..32 * 1024 * 1024_u32).map(|byte| (byte ^ byte >> 8) as u8).collect();
    std::fs::write(&data, &payload).unwrap();
    let options = seedring::session::CreateOptions { piece_length: Some(1024 * 1024), ..Default::default() };
    std::fs::write(&torrent, seedring::session::create(&data, &options, 1, |_, _| {}).unwrap().0).unwrap();
    let mut seeder = client("seed", &torrent, folder.path(), &["--zero-copy-send", "on"]);
    let said = folder.path().join("said");
    seeder.env("SEEDRING_LOG", "debug").stderr(std::fs::File::create(&said).unwrap());
    // The kernel charges what it sends from our memory to the same account as the ring: less than one run fits, and
    // runs are what it sends once the peer asks for enough.
    // SAFETY: only makes system calls, which is allowed between fork and exec.
    unsafe { seeder.pre_exec(|| limit_locked_memory(320 * 1024)) };
    let mut seeder = Program::start(&mut seeder);
    let addr = seeder.address().to_string();
    let leech = folder.path().join("leech");
    let download = Command::new(env!("CARGO_BIN_EXE_seedring"))
        .env("SEEDRING_NO_LSD", "1")
        .args(["download", "--listen", "127.0.0.1:0", "--peer", &addr])
        .arg(&torrent)
        .arg("-d")
        .arg(&leech)
        .output()
        .unwrap();
    assert!(download.status.success(), "{}", stderr(&download));
    assert!(std::fs::read(leech.join("data")).unwrap() == payload);
    drop(seeder);
    let said = std::fs::read_to_string(&said).unwrap();
    assert_eq!(said.matches("unregistered buffers").count(), 1, "{said}");
    assert!(said.contains("no room for a send without a copy"), "{said}");
}

/// From here on this process and its children may be so many threads together, whoever they are. As with locked memory, they are
/// counted by user.
fn limit_threads(threads: u64) -> std::io::Result<()> {
    const RIGHTS: [libc::c_ulong; 2] = [21, 24]; // CAP_SYS_ADMIN, CAP_SYS_RESOURCE
    const FIRST_USER: u32 = 1 << 30;
    const SAME: libc::uid_t = libc::uid_t::MAX;
    let limit = libc::rlimit { rlim_cur: threads, rlim_max: threads };
    // SAFETY: plain system calls. The capabilities are dropped for whatever is executed next.
    let refused = unsafe {
        libc::setresuid(FIRST_USER + libc::getpid() as u32, SAME, SAME) != 0
            || libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit) != 0
            || RIGHTS.iter().any(|right| libc::prctl(libc::PR_CAPBSET_DROP, *right, 0, 0, 0) != 0)
    };
    if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
fn a_limit_on_threads_costs_speed_only_or_is_named_at_the_start() {
    // Files of odd lengths: much goes through the page cache, and every file is synced.
    let lengths: Vec<usize> = (0..60).map(|n| 70_000 + 1234 * n).collect();
    let stage = Stage::with_pieces(&lengths, 64 * 1024);
    let mut seed = beside_client(&stage, "seed", &stage.here(), &[]);
    let addr = seed.address().to_string();
    let (mut refused, mut done) = (0, 0);
    // The program's own thread, one for names, two cores; then what works beside them, ours and the kernel's.
    for threads in 1..=8 {
        let copy = stage.folder.path().join(threads.to_string());
        let mut download = client("download", &stage.file, &copy, &["--cores", "2", "--peer", &addr]);
        // SAFETY: as in `check_after`.
        unsafe { download.pre_exec(move || limit_threads(threads)) };
        let output = download.output().unwrap();
        let said = stderr(&output);
        match output.status.code() {
            Some(0) => {
                stage.assert_same(&copy);
                done += 1;
            }
            code => {
                assert_eq!((code, done), (Some(1), 0), "{threads}: {said}");
                assert!(said.contains("cannot start a thread") && said.contains("TasksMax="), "{said}");
                assert_eq!(said.lines().count(), 1, "{said}");
                refused += 1;
            }
        }
    }
    assert!(refused >= 2 && done >= 4, "{refused} refused, {done} done");
}
