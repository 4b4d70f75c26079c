//! Disks that lose their power, or fail, under a program.

use crate::clients::seedring::{Ran, Seedring, binary, number, run_command, transfer};
use crate::disk::{LOOP, STRADDLING, image, with_mounts, xfs};
use crate::support::payload::{self, assert_same};
use crate::support::peer::{Conduct, Seeder};
use crate::support::process::program;
use crate::support::{Stage, Torrent};
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The file system of this folder takes and gives nothing more, and what it has not written is lost.
const CUT: &str = "xfs_io -x -c shutdown";

/// Its program is there.
fn assert_can_cut() {
    drop(program("xfs_io", "xfsprogs"));
}

/// Downloads onto a file system whose power is cut as soon as the program has ended well, and gives what is there afterwards.
fn download_before_a_cut(
    stage: &Stage,
    scratch: impl FnOnce(&Stage) -> PathBuf,
    torrent: &Torrent,
    more: &[&str],
) -> PathBuf {
    assert_can_cut();
    let (mount, arrived) = (stage.folder("mount"), stage.folder("arrived"));
    let seeder = Seeder::start(torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let peer = seeder.addr().to_string();
    let scratch = scratch(stage);
    let mounted = |what: &str, command: &Command| {
        let script = format!(r#"{LOOP}; folder="$1"; out="$3"; shift 3; "$@"; {what}; exit 0"#);
        with_mounts(&script, &[&mount, &scratch, &arrived], command)
    };
    let into = mount.join("new/folder");
    let command = transfer("download", torrent, &into, &[&["--peer", &peer], more].concat());
    let ran = run_command(stage, &mut mounted(&format!(r#"{CUT} "$folder""#), &command)).good();
    assert_eq!(number(ran.event("completed"), "left"), 0);
    let output = mounted(r#"cp -r "$folder/new/folder/set" "$out/""#, &Command::new("true")).output();
    assert!(output.expect("a shell starts").status.success());
    arrived
}

fn straddling(stage: &Stage) -> (PathBuf, Torrent) {
    let origin = stage.folder("origin");
    payload::files(&origin, &STRADDLING, 1);
    payload::files(&origin, &[("set/deep/er/last", 5), ("set/void/of/all", 0)], 2);
    let torrent = Torrent::make(&stage.path(""), &origin, "set", 256 << 10, None);
    (origin, torrent)
}

fn keeps_what_is_complete(scratch: impl FnOnce(&Stage) -> PathBuf) {
    let stage = Stage::new();
    let (origin, torrent) = straddling(&stage);
    assert_same(&origin, &download_before_a_cut(&stage, scratch, &torrent, &[]));
}

#[test]
fn what_was_selected_outlives_a_power_cut_with_what_lies_beside_it() {
    let stage = Stage::new();
    let (_, torrent) = straddling(&stage);
    let scratch = |stage: &Stage| image(stage, "mkfs.ext4", "e2fsprogs", 64 << 20);
    let arrived = download_before_a_cut(&stage, scratch, &torrent, &["--select", "0"]);
    let mut check = binary();
    let checked = check.args(["check", "--json"]).arg(&torrent.file).arg("-d").arg(&arrived).output();
    let said = checked.expect("it starts").stdout;
    let said = String::from_utf8_lossy(&said);
    let mut files = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let selected = files.find(|line| line["event"] == "file").expect("a first file");
    assert!(number(&selected, "pieces") > 0);
    assert_eq!(selected["good_pieces"], selected["pieces"], "{said}");
}

#[test]
fn what_is_complete_outlives_a_power_cut_on_ext4() {
    keeps_what_is_complete(|stage| image(stage, "mkfs.ext4", "e2fsprogs", 64 << 20));
}

#[test]
fn what_is_complete_outlives_a_power_cut_on_xfs() {
    keeps_what_is_complete(xfs);
}

/// A torrent of one file.
fn frail(stage: &Stage) -> (PathBuf, Torrent) {
    let origin = stage.folder("origin");
    payload::file(&origin.join("frail"), 24 << 20, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "frail", 256 << 10, None);
    (origin, torrent)
}

/// A seed gives a file slowly to who compares every block. In the middle of it, `fail` is called.
fn fails_in_the_middle(stage: &Stage, command: impl FnOnce(&Torrent, &Path) -> Command, fail: impl FnOnce()) {
    let (origin, torrent) = frail(stage);
    let mut seed = Seedring::start(stage, &mut command(&torrent, &origin));
    let peer = seed.addr().to_string();
    let mut load = binary();
    load.args(["load", "download", "--json", "--connections", "2", "--peer", &peer, "--timeout", "60"]);
    load.arg(&torrent.file).arg("-d").arg(&origin);
    let load = std::thread::spawn(move || load.output().expect("the generator starts"));
    seed.wait_event("progress", |event| number(event, "uploaded") > 0);
    fail();
    assert_eq!(seed.wait_end().code(), Some(1), "{}", seed.said());
    let error = seed.events("error").last().map(Value::to_string).unwrap_or_default();
    assert!(error.contains("frail"), "it names the file: {error}");
    let said = load.join().expect("the generator ends").stdout;
    let said = String::from_utf8_lossy(&said);
    let mut lines = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let summary = lines.find(|line| line["event"] == "load").expect("a summary");
    assert!(summary["bytes"].as_u64() > Some(0) && summary["bytes"].as_u64() < Some(48 << 20), "{summary}");
    assert_eq!(summary["bad_blocks"], 0, "{summary}");
}

const SLOW: [&str; 4] = ["--upload-limit", "4M", "--memory-limit", "16M"];

#[test]
fn a_file_that_is_cut_short_ends_its_seed() {
    let stage = Stage::new();
    let copy = stage.folder("copy");
    let command = |torrent: &Torrent, origin: &Path| {
        fs::copy(origin.join("frail"), copy.join("frail")).expect("a copy can be made");
        transfer("seed", torrent, &copy, &SLOW)
    };
    fails_in_the_middle(&stage, command, || {
        let file = fs::File::options().write(true).open(copy.join("frail")).expect("it is there");
        file.set_len(1 << 20).expect("it can be cut");
    });
}

/// A seed on a file system of its own, to which this happens when there is a file `now`.
fn seed_until(stage: &Stage, what: &str, torrent: &Torrent, origin: &Path) -> Command {
    let mount = stage.folder("mount");
    let image = image(stage, "mkfs.ext4", "e2fsprogs", 64 << 20);
    let script = format!(
        r#"{LOOP}; cp "$3/frail" "$1/"; umount "$1"; {LOOP}; (while [ ! -e "$4" ]; do sleep 0.05; done; {what}) >&2 & true"#
    );
    let paths = [&mount, &image, origin, &stage.path("now")];
    with_mounts(&script, &paths, &transfer("seed", torrent, &mount, &SLOW))
}

fn give_sign(stage: &Stage) {
    fs::write(stage.path("now"), "").expect("a sign can be given");
}

#[test]
fn a_disk_that_fails_ends_the_seed() {
    assert_can_cut();
    let stage = Stage::new();
    let command =
        |torrent: &Torrent, origin: &Path| seed_until(&stage, &format!(r#"{CUT} "$1""#), torrent, origin);
    fails_in_the_middle(&stage, command, || give_sign(&stage));
}

/// Of its image the last 2 MiB of the file are cut off.
#[test]
fn a_seed_goes_on_without_the_pieces_that_its_disk_has_lost() {
    drop(program("filefrag", "e2fsprogs"));
    let stage = Stage::new();
    let (origin, torrent) = frail(&stage);
    let cut = r#"last=$(filefrag -b4096 -v "$1/frail" | sed -En 's/^ *[0-9]+: +[0-9]+\.\. *[0-9]+: +[0-9]+\.\. *([0-9]+):.*/\1/p' | sort -n | tail -n 1)
        truncate -s $(((last - 512) * 4096)) "$2"; dd if="$1/frail" iflag=nocache count=0"#;
    let mut frail = Seedring::start(&stage, &mut seed_until(&stage, cut, &torrent, &origin));
    let whole = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::from_millis(10)));
    let peers = [frail.addr(), whole.addr()].map(|peer| peer.to_string());
    let folder = stage.folder("leech");
    let more = ["--peer", &peers[0], "--peer", &peers[1]];
    let mut leech = Seedring::start(&stage, &mut transfer("download", &torrent, &folder, &more));
    frail.wait_event("progress", |event| number(event, "uploaded") > 0);
    give_sign(&stage);
    let lost = frail.wait_event("piece_lost", |_| true);
    assert!(lost["reason"].as_str().is_some_and(|reason| reason.contains("frail")), "{lost}");
    leech.wait_success();
    assert_same(&origin, &folder);
    let dropped = leech.events("peer_dropped").into_iter().chain(frail.events("peer_dropped"));
    assert_eq!(dropped.collect::<Vec<_>>(), Vec::<Value>::new(), "nobody is to blame");
    let lost: Vec<u64> = frail.events("piece_lost").iter().map(|lost| number(lost, "piece")).collect();
    assert!(lost.iter().all(|piece| *piece >= 80) && lost.len() <= 10, "{lost:?}");
    assert_eq!(frail.events("error"), Vec::<Value>::new());
    // Who comes now never hears of them.
    let other = stage.folder("other");
    let more = ["--peer", &peers[0]];
    let mut other = Seedring::start(&stage, &mut transfer("download", &torrent, &other, &more));
    let most = other.wait_event("progress", |event| number(event, "good_pieces") >= 86);
    assert!(number(&most, "good_pieces") <= 96 - lost.len() as u64, "{most}");
    assert_eq!(frail.interrupt().code(), Some(0));
}

/// Runs a check and then a download on a file system of whose image, under the file, is cut off what lies behind a block: an expression
/// of the `first` and the `last` of the file. The disk cannot give that back. Gives what the check says of the file, too.
fn on_a_damaged_disk(behind: &str) -> (Value, Ran) {
    drop(program("filefrag", "e2fsprogs"));
    let stage = Stage::new();
    let (origin, mount) = (stage.folder("origin"), stage.folder("mount"));
    payload::file(&origin.join("frail"), 24 << 20, 1);
    // Several pieces are read together.
    let torrent = Torrent::make(&stage.path(""), &origin, "frail", 64 << 10, None);
    let image = image(&stage, "mkfs.ext4", "e2fsprogs", 64 << 20);
    let seeder = Seeder::start(&torrent, Ipv4Addr::LOCALHOST, Conduct::honest(Duration::ZERO));
    let peer = seeder.addr().to_string();
    let script = format!(
        r#"{LOOP}; cp "$3/frail" "$1/"; umount "$1"; {LOOP}
        blocks=$(filefrag -b4096 -v "$1/frail" | sed -En 's/^ *[0-9]+: +[0-9]+\.\. *[0-9]+: +([0-9]+)\.\. *([0-9]+):.*/\1\n\2/p' | sort -n)
        first=$(echo "$blocks" | head -n 1); last=$(echo "$blocks" | tail -n 1)
        truncate -s $((({behind}) * 4096)) "$2"
        "$4" check --json "$5" -d "$1" | sed 's/"event"/"check"/'"#
    );
    let tool = PathBuf::from(binary().get_program());
    let paths = [&mount, &image, &origin, &tool, &torrent.file].map(PathBuf::as_path);
    let download = transfer("download", &torrent, &mount, &["--peer", &peer]);
    let ran = run_command(&stage, &mut with_mounts(&script, &paths, &download));
    let file = ran.events.iter().find(|line| line["check"] == "file").expect("a line of the file").clone();
    assert!(file["fault"].as_str().is_some_and(|fault| fault.contains("Input/output error")), "{file}");
    (file, ran)
}

#[test]
fn what_a_disk_cannot_give_back_is_told_and_fetched_anew() {
    let (file, ran) = on_a_damaged_disk("last - 1500");
    let (good, pieces) = (number(&file, "good_pieces"), number(&file, "pieces"));
    assert!(
        (280..=300).contains(&good) && pieces == 384,
        "6 MB of 24 are lost, no piece beside them: {file}"
    );
    let ran = ran.good();
    assert_eq!(number(ran.event("checked"), "good_pieces"), good);
    assert_eq!(number(ran.event("completed"), "left"), 0);
}

/// Perhaps it is not the disk that is broken.
#[test]
fn a_disk_that_gives_nothing_back_is_not_written_to() {
    let (file, ran) = on_a_damaged_disk("first");
    assert_eq!(number(&file, "good_pieces"), 0);
    assert!(ran.refused().contains("frail"), "{ran:?}");
}
