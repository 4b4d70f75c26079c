//! Disks that are full, closed, or laid as a trap.

use crate::clients::seedring::{Seedring, binary, number, run_command, transfer};
use crate::metrics::{metrics_addr, page, sum, sum_of};
use crate::support::payload::{self, assert_same, tree};
use crate::support::peer::{Conduct, Seeder};
use crate::support::process::program;
use crate::support::wait::until;
use crate::support::{Stage, Torrent};
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A command that runs after `script`, as root, where its mounts are its own and end with it.
pub(crate) fn with_mounts(script: &str, mounted: &[&Path], command: &Command) -> Command {
    let mut wrapper = match rustix::process::geteuid().is_root() {
        true => program("unshare", "util-linux"),
        false => {
            let mut sudo = program("sudo", "sudo");
            sudo.args(["-n", "--preserve-env", "unshare"]);
            sudo
        }
    };
    let count = mounted.len();
    let script = format!("set -e; {script}; shift {count}; exec \"$@\"");
    wrapper.args(["--mount", "sh", "-c", &script, "sh"]).args(mounted);
    wrapper.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(key, value),
            None => wrapper.env_remove(key),
        };
    }
    wrapper
}

fn run_to_success(mut command: Command) {
    let output = command.output().expect("a system tool starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn full_disk() {
    const SIZE: u64 = 12 << 20;
    let stage = Stage::new();
    let (origin, mount) = (stage.folder("origin"), stage.folder("mount"));
    payload::file(&origin.join("bulky"), SIZE, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "bulky", 128 << 10, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::from_millis(1)));
    let peer = seeder.addr().to_string();

    let image = stage.path("disk.img");
    fs::File::create(&image).and_then(|file| file.set_len(24 << 20)).expect("an image can be made");
    let mut format = program("mkfs.ext4", "e2fsprogs");
    format.args(["-q", "-m", "0"]).arg(&image);
    run_to_success(format);
    let mounted = |command: &Command| with_mounts(r#"mount -o loop "$1" "$2""#, &[&image, &mount], command);
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-ec", script, "sh"]).arg(&mount);
        run_to_success(mounted(&command));
    };
    let download = || mounted(&transfer("download", &torrent, &mount, &["--peer", &peer]));

    // The ballast leaves room for about a third of the payload.
    shell(r#"room=$(df --output=avail -B1 "$1" | tail -n 1); fallocate -l $((room - 4194304)) "$1/ballast""#);
    let ran = run_command(&stage, &mut download());
    let sentence = ran.refused();
    assert!(sentence.contains("disk is full"), "the cause: {sentence}");
    let last = ran.events.iter().rfind(|event| event["event"] == "progress");
    let reported = last.map_or(0, |event| number(event, "good_pieces"));
    let before: BTreeSet<u32> = seeder.take_served().into_iter().map(|(piece, _)| piece).collect();

    shell(r#"rm "$1/ballast""#);
    let mut again = Seedring::start(&stage, &mut download());
    again.wait_success();
    let kept = number(&again.wait_event("checked", |_| true), "good_pieces");
    assert!(kept >= reported, "{kept} pieces kept of {reported} reported");
    assert!(kept > 0 || before.is_empty(), "what was verified before the disk was full is kept");
    let asked: BTreeSet<u32> = seeder.take_served().into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(asked.len() as u64, u64::from(torrent.pieces()) - kept, "only what was lacking is fetched");

    let arrived = stage.folder("arrived");
    shell(&format!(r#"cp "$1/bulky" "{}""#, arrived.display()));
    assert_same(&origin, &arrived);
}

/// A small torrent and an honest seed of it.
fn small(stage: &Stage, files: &[(&str, u64)]) -> (Torrent, Seeder) {
    let origin = stage.folder("origin");
    payload::files(&origin, files, 1);
    let name = files[0].0.split('/').next().expect("a name");
    let torrent = Torrent::make(&stage.path(""), &origin, name, 16 << 10, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    (torrent, seeder)
}

fn download(torrent: &Torrent, seeder: &Seeder, folder: &Path) -> Command {
    transfer("download", torrent, folder, &["--peer", &seeder.addr().to_string()])
}

fn refused(stage: &Stage, torrent: &Torrent, seeder: &Seeder, folder: &Path) -> String {
    run_command(stage, &mut download(torrent, seeder, folder)).refused()
}

#[test]
fn read_only_disk() {
    let stage = Stage::new();
    let (torrent, seeder) = small(&stage, &[("solo", 50_000)]);
    let folder = stage.folder("closed");
    let command = download(&torrent, &seeder, &folder);
    let script = r#"mount --bind "$1" "$1"; mount -o remount,bind,ro "$1""#;
    let sentence = run_command(&stage, &mut with_mounts(script, &[&folder], &command)).refused();
    assert!(sentence.to_lowercase().contains("read-only"), "the cause: {sentence}");
    assert!(tree(&folder).is_empty());
}

/// What files take are blocks: these are half a megabyte of bytes, and would be two on the disk.
#[test]
fn many_small_files_that_have_no_room_are_refused_before_the_first_is_made() {
    let stage = Stage::new();
    let names: Vec<String> = (0..500).map(|n| format!("dust/{n}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    let (torrent, seeder) = small(&stage, &files);
    let mount = stage.folder("mount");
    let command = download(&torrent, &seeder, &mount);
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$1""#;
    let sentence = run_command(&stage, &mut with_mounts(script, &[&mount], &command)).refused();
    assert!(sentence.contains("cannot download to") && sentence.contains("disk is full"), "{sentence}");
    assert!(seeder.take_served().is_empty());
}

#[test]
fn a_file_where_the_folder_should_be() {
    let stage = Stage::new();
    let (torrent, seeder) = small(&stage, &[("solo", 50_000)]);
    let file = stage.path("file");
    fs::write(&file, "mine").expect("a file can be written");
    let sentence = refused(&stage, &torrent, &seeder, &file);
    assert!(sentence.contains("file") || sentence.contains("directory"), "{sentence}");
    assert_eq!(fs::read(&file).expect("the file is still there"), b"mine");
}

/// Lays a symbolic link to outside at `at` below the download folder; nothing may go through it.
fn trap(files: &[(&str, u64)], at: &str, outside_is_folder: bool) {
    let stage = Stage::new();
    let (torrent, seeder) = small(&stage, files);
    let (folder, outside) = (stage.folder("copy"), stage.folder("outside"));
    let target = if outside_is_folder { outside.clone() } else { outside.join("victim") };
    fs::write(outside.join("victim"), "untouched").expect("a file can be written");
    let link = folder.join(at);
    fs::create_dir_all(link.parent().expect("below the folder")).expect("folders can be made");
    symlink(target, &link).expect("a link can be made");
    let before = tree(&outside);
    let sentence = refused(&stage, &torrent, &seeder, &folder);
    assert!(sentence.contains("link") || sentence.contains("outside"), "the cause: {sentence}");
    assert_eq!(tree(&outside), before, "nothing outside is written");
}

#[test]
fn a_link_in_place_of_the_file() {
    trap(&[("solo", 50_000)], "solo", false);
}

#[test]
fn a_link_in_place_of_the_unfinished_file() {
    trap(&[("solo", 50_000)], "solo.part", false);
}

#[test]
fn a_link_in_place_of_the_top_folder() {
    trap(&[("set/sub/a", 20_000), ("set/sub/b", 30_000)], "set", true);
}

#[test]
fn a_link_in_place_of_a_folder() {
    trap(&[("set/sub/a", 20_000), ("set/sub/b", 30_000)], "set/sub", true);
}

#[test]
fn a_link_to_nowhere_is_not_made_real() {
    let stage = Stage::new();
    let (torrent, seeder) = small(&stage, &[("set/a", 20_000), ("set/b", 30_000)]);
    let folder = stage.folder("copy");
    let nowhere = stage.path("nowhere");
    fs::create_dir(folder.join("set")).expect("a folder can be made");
    symlink(&nowhere, folder.join("set/b.part")).expect("a link can be made");
    refused(&stage, &torrent, &seeder, &folder);
    assert!(!nowhere.exists(), "nothing outside is made");
}

/// The files of a torrent that lie in every way: pages and pieces begin and end in the middle of them.
pub(crate) const STRADDLING: [(&str, u64); 7] = [
    ("set/a", 300_001),
    ("set/b", 1 << 20),
    ("set/sub/c", 5),
    ("set/sub/d", 700_000),
    ("set/sub/e", 4096),
    ("set/f", 2_000_003),
    ("set/g", 65_536),
];

/// Downloads, in two goes, to a folder that `script` mounts (`$1`: the folder, `$2`: a folder or file for its use), and
/// checks what has arrived.
fn works_on(script: &str, scratch: impl FnOnce(&Stage) -> PathBuf) {
    let stage = Stage::new();
    let (origin, mount) = (stage.folder("origin"), stage.folder("mount"));
    payload::files(&origin, &STRADDLING, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "set", 256 << 10, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let peer = seeder.addr().to_string();
    let scratch = scratch(&stage);
    // What is mounted ends with the command: files are put in before it, and taken out after it.
    let arrived = stage.folder("arrived");
    let mounted = |after: &str, command: &Command| {
        let script = format!(
            r#"{script}; out="$3"; folder="$1"; rm -rf "$folder/set"; cp -r "$out/." "$folder/"; shift 3; "$@"; {after}; exit 0"#
        );
        with_mounts(&script, &[&mount, &scratch, &arrived], command)
    };
    let fetched = mounted(
        r#"cp -r "$folder/set" "$out/""#,
        &transfer("download", &torrent, &mount, &["--peer", &peer]),
    );
    let ran = run_command(&stage, &mut { fetched }).good();
    assert_eq!(number(ran.event("completed"), "left"), 0);
    assert_same(&origin, &arrived);
    let mut check = binary();
    check.env_remove("SEEDRING_LOG");
    check.arg("check").arg(&torrent.file).arg("-d").arg(&mount).arg("--json");
    let ran = run_command(&stage, &mut mounted(":", &check)).good();
    assert_eq!(number(ran.event("checked"), "good_pieces"), u64::from(torrent.pieces()));

    // A download that was interrupted: one file is a part with a hole in it.
    let damaged = fs::File::options().write(true).open(arrived.join("set/f")).expect("the copy opens");
    damaged.set_len(0).and_then(|()| damaged.set_len(2_000_003)).expect("the copy can be emptied");
    fs::rename(arrived.join("set/f"), arrived.join("set/f.part")).expect("it can be renamed");
    let again = mounted(
        r#"cp -r "$folder/set" "$out/"; rm "$out/set/f.part""#,
        &transfer("download", &torrent, &mount, &["--peer", &peer]),
    );
    seeder.take_served();
    run_command(&stage, &mut { again }).good();
    assert_same(&origin, &arrived);
    let asked: BTreeSet<u32> = seeder.take_served().into_iter().map(|(piece, _)| piece).collect();
    assert_eq!(asked, (5..=12).collect(), "the pieces that the emptied file lies in");
}

/// An image with a file system.
pub(crate) fn image(stage: &Stage, format: &str, package: &str, size: u64) -> PathBuf {
    let image = stage.path("disk.img");
    fs::File::create(&image).and_then(|file| file.set_len(size)).expect("an image can be made");
    let mut format = program(format, package);
    format.arg("-q").arg(&image);
    run_to_success(format);
    image
}

/// Mounts an image, which is the second path.
pub(crate) const LOOP: &str = r#"mount -o loop "$2" "$1""#;

pub(crate) fn xfs(stage: &Stage) -> PathBuf {
    image(stage, "mkfs.xfs", "xfsprogs", 320 << 20)
}

fn btrfs(stage: &Stage) -> PathBuf {
    image(stage, "mkfs.btrfs", "btrfs-progs", 128 << 20)
}

#[test]
fn on_xfs() {
    works_on(LOOP, xfs);
}

#[test]
fn on_btrfs() {
    works_on(LOOP, btrfs);
}

/// Sends what lies in a folder that `script` mounts, after the commands `before`: how often that was from the page cache.
fn sent_from(script: &str, scratch: impl FnOnce(&Stage) -> PathBuf, before: &str) -> u64 {
    let stage = Stage::new();
    let (origin, mount) = (stage.folder("origin"), stage.folder("mount"));
    payload::files(&origin, &STRADDLING, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "set", 256 << 10, None);
    let scratch = scratch(&stage);
    let script = format!(r#"{script}; cp -r "$3/." "$1/"; sync; {before}"#);
    let command = transfer("seed", &torrent, &mount, &["--metrics", "127.0.0.1:0"]);
    let mut seed = Seedring::start(&stage, &mut with_mounts(&script, &[&mount, &scratch, &origin], &command));
    let figures = metrics_addr(&mut seed);
    let (peer, copy) = (seed.addr().to_string(), stage.folder("copy"));
    run_command(&stage, &mut transfer("download", &torrent, &copy, &["--peer", &peer])).good();
    assert_same(&origin, &copy);
    let uploaded = "seedring_uploaded_bytes_total";
    let seen = until("all that was sent is told", || {
        Some(page(figures, "/metrics")).filter(|seen| sum(seen, uploaded) >= torrent.length)
    });
    seed.stop();
    sum(&seen, "seedring_page_cache_hits_total")
}

/// What was just written is in the page cache, and is sent from there.
fn is_sent_from(script: &str, scratch: impl Fn(&Stage) -> PathBuf) {
    assert!(sent_from(script, &scratch, ":") > 0);
    let let_go = r#"find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \;"#;
    println!("{} stretches from a page cache that was told to let go", sent_from(script, &scratch, let_go));
}

#[test]
fn what_lies_on_xfs_is_sent() {
    is_sent_from(LOOP, xfs);
}

#[test]
fn what_lies_on_btrfs_is_sent() {
    is_sent_from(LOOP, btrfs);
}

#[test]
fn what_lies_in_memory_is_sent() {
    is_sent_from(TMPFS, |stage| stage.folder("unused"));
}

/// What a download has written to a file system that `script` mounts, as for [`works_on`].
#[derive(Debug, PartialEq, Eq)]
struct Written {
    /// Writes past the page cache, and their bytes.
    direct: (u64, u64),
    /// Those through it.
    buffered: (u64, u64),
    /// Writes that the ring was given.
    of_ring: u64,
}

fn written_by_download(
    files: &[(&str, u64)],
    script: &str,
    scratch: impl FnOnce(&Stage) -> PathBuf,
) -> Written {
    let stage = Stage::new();
    let (origin, mount) = (stage.folder("origin"), stage.folder("mount"));
    payload::files(&origin, files, 1);
    let name = files[0].0.split('/').next().expect("a name");
    let torrent = Torrent::make(&stage.path(""), &origin, name, 256 << 10, None);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let scratch = scratch(&stage);
    let peer = seeder.addr().to_string();
    let more = ["--peer", &peer, "--seed", "--metrics", "127.0.0.1:0"];
    let command = transfer("download", &torrent, &mount, &more);
    let mut seedring = Seedring::start(&stage, &mut with_mounts(script, &[&mount, &scratch], &command));
    let figures = metrics_addr(&mut seedring);
    seedring.wait_event("completed", |_| true);
    let [writes, bytes] = ["writes", "written_bytes"].map(|what| format!("seedring_disk_{what}_total"));
    let seen = until("all that was written is told", || {
        Some(page(figures, "/metrics")).filter(|seen| sum(seen, &bytes) >= torrent.length)
    });
    seedring.stop();
    let [direct, buffered] = ["direct", "buffered"].map(|path| {
        let path = format!("path=\"{path}\"");
        (sum_of(&seen, &writes, &path), sum_of(&seen, &bytes, &path))
    });
    let of_ring = sum_of(&seen, "seedring_ring_operations_total", "operation=\"write\"");
    Written { direct, buffered, of_ring }
}

/// Runs are written whole: direct, by the ring, where that is possible; where it is not, the ring writes nothing: it would hand
/// it to a thread of its own each time. What btrfs keeps checksums of is such, and was since Linux 6.14 not even written
/// direct.
#[test]
fn runs_are_written_direct_or_beside_the_ring() {
    let cow = format!("{LOOP}; chattr +C \"$1\"");
    let runs = (16, 4 << 20);
    for (format, package, size, script, direct) in [
        ("mkfs.ext4", "e2fsprogs", 64 << 20, LOOP, true),
        ("mkfs.xfs", "xfsprogs", 320 << 20, LOOP, true),
        ("mkfs.btrfs", "btrfs-progs", 128 << 20, LOOP, false),
        ("mkfs.btrfs", "btrfs-progs", 128 << 20, &cow, true),
        ("", "", 0, TMPFS, false),
    ] {
        let disk = |stage: &Stage| match format {
            "" => stage.folder("unused"),
            _ => image(stage, format, package, size),
        };
        let told = written_by_download(&[("solo", 4 << 20)], script, disk);
        let expected = match direct {
            true => Written { direct: runs, buffered: (0, 0), of_ring: runs.0 },
            false => Written { direct: (0, 0), buffered: runs, of_ring: 0 },
        };
        assert_eq!(told, expected, "{format} {script}");
    }
}

/// The way to the layer below an overlay is that layer's: what goes direct there may.
#[test]
fn runs_are_written_whole_to_an_overlay() {
    let told = written_by_download(&[("solo", 4 << 20)], OVERLAY, |stage| stage.folder("layers"));
    let Written { direct, buffered, of_ring } = told;
    assert_eq!((direct.0 + buffered.0, direct.1 + buffered.1), (16, 4 << 20));
    assert_eq!(of_ring, direct.0, "the ring writes nothing that is buffered");
}

/// Of runs that straddle files, what is large enough goes direct, and what lies beside it not by the ring.
#[test]
fn parts_of_runs_that_straddle_files_are_written_direct() {
    let told =
        written_by_download(&STRADDLING, LOOP, |stage| image(stage, "mkfs.ext4", "e2fsprogs", 64 << 20));
    let total = STRADDLING.iter().map(|(_, len)| len).sum::<u64>();
    assert_eq!((told.direct.1 + told.buffered.1, told.of_ring), (total, told.direct.0), "{told:?}");
    // But for the ends of files, and files that are small.
    assert!(told.direct.1 > total / 2, "{told:?}");
}

const TMPFS: &str = r#"mount -t tmpfs -o size=64m tmpfs "$1""#;

#[test]
fn on_tmpfs() {
    works_on(TMPFS, |stage| stage.folder("unused"));
}

#[test]
fn on_ext4() {
    works_on(LOOP, |stage| image(stage, "mkfs.ext4", "e2fsprogs", 64 << 20));
}

const OVERLAY: &str = r#"mkdir -p "$2/lower" "$2/upper" "$2/work"; mount -t overlay -o "lowerdir=$2/lower,upperdir=$2/upper,workdir=$2/work" overlay "$1""#;

#[test]
fn on_an_overlay() {
    works_on(OVERLAY, |stage| stage.folder("layers"));
}

/// Of another user's files the kernel (6.13 and newer) does not tell what it has cached: they are read past the page cache.
#[test]
fn a_seed_of_files_that_are_not_its_own_says_so() {
    const NOBODY: u32 = 65_534;
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::files(&origin, &[("solo", 4 << 20)], 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "solo", 256 << 10, None);
    let own = transfer("seed", &torrent, &origin, &["--metrics", "127.0.0.1:0"]);
    // Where anybody may run it. Had we it open to be written, programs that other tests start just then would have it, too, for a
    // moment, and it could not be run.
    let client = stage.path("client");
    let mut cp = Command::new("cp");
    cp.arg(own.get_program()).arg(&client);
    run_to_success(cp);
    for (path, mode) in [("", 0o755), ("client", 0o755), ("origin", 0o755), ("origin/solo", 0o644)] {
        fs::set_permissions(stage.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut others = Command::new(client);
    others.args(own.get_args()).uid(NOBODY).gid(NOBODY);
    let mut seed = Seedring::start(&stage, &mut others);
    let figures = metrics_addr(&mut seed);
    let peer = seed.addr().to_string();
    run_command(&stage, &mut transfer("download", &torrent, &copy, &["--peer", &peer])).good();
    assert_same(&origin, &copy);
    let uploaded = "seedring_uploaded_bytes_total";
    let seen = until("all that was sent is told", || {
        Some(page(figures, "/metrics")).filter(|seen| sum(seen, uploaded) >= torrent.length)
    });
    let withheld = sum(&seen, "seedring_disk_withheld_files_total") > 0;
    let past = sum_of(&seen, "seedring_disk_read_bytes_total", "path=\"direct\"");
    let cached = sum(&seen, "seedring_page_cache_hits_total");
    // By the check, and to be sent. Older kernels tell everybody.
    assert!(if withheld { past >= 8 << 20 && cached == 0 } else { cached > 0 }, "{withheld} {past} {cached}");
    assert_eq!(seed.said().contains("only to the file's owner"), withheld, "{}", seed.said());
    seed.stop();
}

/// The kernel does not tell what an overlay has cached, so nothing is read past that.
#[test]
fn a_seed_on_an_overlay_reads_through_the_page_cache() {
    let stage = Stage::new();
    let (layers, mount) = (stage.folder("layers"), stage.folder("mount"));
    let origin = stage.folder("layers/lower");
    payload::files(&origin, &[("solo", 4 << 20)], 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "solo", 256 << 10, None);
    let command = transfer("seed", &torrent, &mount, &["--metrics", "127.0.0.1:0"]);
    let mut seed = Seedring::start(&stage, &mut with_mounts(OVERLAY, &[&mount, &layers], &command));
    let figures = metrics_addr(&mut seed);
    let peer = seed.addr().to_string();
    let copy = stage.folder("copy");
    run_command(&stage, &mut transfer("download", &torrent, &copy, &["--peer", &peer])).good();
    assert_same(&origin, &copy);
    let bytes = "seedring_disk_read_bytes_total";
    // By the check, and to be sent.
    let seen = until("all that was read is told", || {
        Some(page(figures, "/metrics")).filter(|seen| sum(seen, bytes) >= 8 << 20)
    });
    let past = sum_of(&seen, bytes, "path=\"direct\"");
    assert_eq!((past, sum(&seen, "seedring_page_cache_hits_total")), (0, 0));
    seed.stop();
}
