//! `create`, `show` and `check`, against what Transmission and libtorrent make of the same files.

use crate::clients::libtorrent;
use crate::clients::seedring::{Ran, number, run};
use crate::support::payload::{self, tree};
use crate::support::process::program;
use crate::support::torrent::Value;
use crate::support::{Stage, Torrent};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const SET: [(&str, u64); 5] =
    [("set/a", 100_001), ("set/b/one", 0), ("set/b/two", 1), ("set/c", 33_000), ("set/d", 65_536)];

fn create(stage: &Stage, payload: &Path, out: &Path, more: &[&str]) -> Ran {
    let args = [OsStr::new("create"), payload.as_os_str(), OsStr::new("-o"), out.as_os_str()];
    run(stage, args.into_iter().chain(more.iter().map(OsStr::new))).good()
}

#[test]
fn the_same_payload_gives_the_same_torrent() {
    let stage = Stage::new();
    payload::files(&stage.folder("origin"), &SET, 1);
    // The same files, made in another order.
    let mut reversed = SET;
    reversed.reverse();
    let again = stage.folder("again");
    for (path, _) in reversed {
        fs::create_dir_all(again.join(path).parent().expect("a folder")).expect("folders can be made");
        fs::copy(stage.path("origin").join(path), again.join(path)).expect("a copy can be made");
    }
    let options = ["--announce", "http://one.example/announce", "--announce", "http://two.example/announce"];
    let (one, two) = (stage.path("one.torrent"), stage.path("two.torrent"));
    create(&stage, &stage.path("origin/set"), &one, &options);
    create(&stage, &again.join("set"), &two, &options);
    assert_eq!(fs::read(&one).expect("a torrent"), fs::read(&two).expect("a torrent"));
}

#[test]
fn others_make_the_same_torrent() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::files(&origin, &SET, 1);
    payload::file(&origin.join("solo"), 1_000_000, 2);
    for name in ["set", "solo"] {
        let out = stage.path(format!("{name}.ours"));
        let ran = create(&stage, &origin.join(name), &out, &["--piece-length", "32768"]);
        let created = ran.event("created");
        // The referee of these tests.
        let made = Torrent::make(&stage.path(""), &origin, name, 32_768, None);
        assert_eq!(created["info_hash"], made.info_hash_hex());
        assert_eq!(number(created, "length"), made.length);
        assert_eq!(number(created, "pieces"), u64::from(made.pieces()));
        assert_eq!(number(created, "piece_length"), 32_768);
        assert_eq!(created["name"], name);
        // libtorrent, told the order of the files.
        let files =
            if name == "set" { SET.iter().map(|(path, _)| path[4..].to_owned()).collect() } else { vec![] };
        let libtorrent = libtorrent::create(&stage, &origin.join(name), 32_768, &files);
        assert_eq!(created["info_hash"], libtorrent["info_hash"]);
        // Transmission adds a key of its own to the dictionary, so the pieces are compared.
        let theirs = stage.path(format!("{name}.theirs"));
        let mut transmission = program("transmission-create", "transmission-cli");
        transmission.args(["-s", "32", "-o"]).arg(&theirs).arg(origin.join(name));
        assert!(transmission.output().expect("transmission-create starts").status.success());
        assert_eq!(pieces(&out), pieces(&theirs));
    }
}

/// The string behind the key `pieces`.
fn pieces(torrent: &Path) -> Vec<u8> {
    let bytes = fs::read(torrent).expect("a torrent");
    let at = bytes.windows(8).position(|at| at == b"6:pieces").expect("a key") + 8;
    let colon = at + bytes[at..].iter().position(|&byte| byte == b':').expect("a colon");
    let length: usize = String::from_utf8_lossy(&bytes[at..colon]).parse().expect("a length");
    bytes[colon + 1..][..length].to_vec()
}

#[test]
fn piece_length_is_chosen_from_the_size() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    let mut last = 0;
    for length in [1, 1 << 20, 64 << 20, 4 << 30] {
        payload::sparse(&origin.join("sized"), length, &[], 0);
        let ran = create(&stage, &origin.join("sized"), &stage.path("sized.torrent"), &[]);
        let chosen = number(ran.event("created"), "piece_length");
        assert!(chosen.is_power_of_two() && (16 << 10..=16 << 20).contains(&chosen), "{chosen}");
        assert!(chosen >= last, "more bytes, no shorter pieces");
        assert!(length / chosen < 5000, "{} pieces", length / chosen);
        last = chosen;
    }
}

#[test]
fn show_agrees_with_libtorrent() {
    let stage = Stage::new();
    let origin = stage.folder("origin");
    payload::files(&origin, &SET, 1);
    payload::file(&origin.join("solo"), 50_000, 2);
    let options = [
        &["--private", "--comment", "a word, ü"][..],
        &["--announce", "http://one.example/announce", "--announce", "http://two.example:6969/announce"],
        &[],
    ];
    for (index, more) in options.into_iter().enumerate() {
        for name in ["set", "solo"] {
            let file = stage.path(format!("{name}-{index}.torrent"));
            create(&stage, &origin.join(name), &file, more);
            let ran = run(&stage, [OsStr::new("show"), file.as_os_str()]).good();
            let (ours, theirs) = (ran.event("torrent"), libtorrent::show(&stage, &file));
            for key in ["name", "info_hash", "length", "piece_length", "pieces", "private"] {
                assert_eq!(ours[key], theirs[key], "{key}");
            }
            assert_eq!(ours["comment"].as_str().unwrap_or_default(), theirs["comment"]);
            assert_eq!(ours["created_by"].as_str().unwrap_or_default(), theirs["created_by"]);
            assert!(ours["creation_date"].is_null());
            let tiers = ours["trackers"].as_array().expect("tiers").iter().enumerate();
            let flat: Vec<_> = tiers
                .flat_map(|(tier, urls)| {
                    urls.as_array().expect("URLs").iter().map(move |url| json!([tier, url]))
                })
                .collect();
            assert_eq!(json!(flat), theirs["trackers"]);
            let files = |view: &serde_json::Value| {
                let list = view["files"].as_array().expect("files").clone();
                list.iter().map(|file| (file["path"].clone(), file["length"].clone())).collect::<Vec<_>>()
            };
            assert_eq!(files(ours), files(&theirs));
        }
    }
}

/// Everything about the files below a folder that a reader must leave alone.
fn state(folder: &Path) -> Vec<(String, u64, i64, i64)> {
    let mut folders = vec![String::new()];
    folders.extend(tree(folder).into_keys());
    let of = |name: String| {
        let about = fs::metadata(folder.join(&name)).expect("a file");
        (name, about.len(), about.mtime(), about.mtime_nsec())
    };
    folders.into_iter().map(of).collect()
}

#[test]
fn check_tells_good_from_bad_and_writes_nothing() {
    let stage = Stage::new();
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::files(&origin, &SET, 1);
    let torrent = Torrent::make(&stage.path(""), &origin, "set", 32_768, None);
    let check = || {
        let before = state(&copy);
        let args = [OsStr::new("check"), torrent.file.as_os_str(), OsStr::new("-d"), copy.as_os_str()];
        let ran = run(&stage, args);
        assert_eq!(state(&copy), before, "check is read-only");
        let checked = ran.event("checked").clone();
        let good = |event: &&serde_json::Value| event["event"] == "file" && event["good"] == true;
        let path = |event: &serde_json::Value| event["path"].as_str().expect("a path").to_owned();
        let files: Vec<_> = ran.events.iter().filter(good).map(path).collect();
        assert_eq!(number(&checked, "pieces"), u64::from(torrent.pieces()));
        (ran.code, number(&checked, "good_pieces"), checked["bad_pieces"].clone(), files.join(" "))
    };
    let all = u64::from(torrent.pieces());
    assert_eq!(all, 7);
    let everything = (0..all).collect::<Vec<_>>();
    let (code, good, bad, _) = check();
    assert_eq!((code, good, bad), (Some(1), 0, json!(everything)), "nothing is there");

    fs::create_dir_all(copy.join("set/b")).expect("folders can be made");
    for (path, _) in SET {
        fs::copy(origin.join(path), copy.join(path)).expect("a copy can be made");
    }
    let (code, good, bad, files) = check();
    assert_eq!((code, good, bad), (Some(0), all, json!([])));
    assert_eq!(files.split(' ').count(), SET.len());

    // A byte of `set/d`, whose first piece also holds bytes of `set/c`.
    let mut bytes = fs::read(copy.join("set/d")).expect("a file");
    bytes[60_000] ^= 1;
    fs::write(copy.join("set/d"), &bytes).expect("a file can be written");
    let (code, good, bad, files) = check();
    assert_eq!((code, good, bad), (Some(1), all - 1, json!([5])));
    assert!(!files.contains("set/d") && files.contains("set/a") && files.contains("set/c"), "{files}");

    // Longer than it should be: the payload is there, the file is not as it should be.
    bytes[60_000] ^= 1;
    bytes.push(0);
    fs::write(copy.join("set/d"), &bytes).expect("a file can be written");
    let (code, good, ..) = check();
    assert_eq!((code, good), (Some(1), all));

    fs::remove_file(copy.join("set/d")).expect("a file can be removed");
    let (code, good, bad, files) = check();
    assert_eq!((code, good, bad), (Some(1), 4, json!([4, 5, 6])));
    assert!(files.contains("set/b/two"), "{files}");
}

#[test]
fn bad_torrents_are_refused_with_a_sentence() {
    let stage = Stage::new();
    let info = |name: &str, pieces: usize, length: i64, piece_length: i64| {
        Value::dict([
            ("length", Value::Int(length)),
            ("name", Value::text(name)),
            ("piece length", Value::Int(piece_length)),
            ("pieces", Value::Bytes(vec![7; pieces])),
        ])
    };
    let whole = |info: Value| Value::dict([("info", info)]).encode();
    let good = whole(info("fine", 20, 16_384, 16_384));
    let mut cases = vec![
        ("empty", Vec::new()),
        ("no bencode", b"this is no torrent".to_vec()),
        ("a list", b"le".to_vec()),
        ("no info", b"d8:announce3:urle".to_vec()),
        ("hashes cut short", whole(info("a", 19, 16_384, 16_384))),
        ("too few hashes", whole(info("a", 20, 16_385, 16_384))),
        ("too many hashes", whole(info("a", 40, 16_384, 16_384))),
        ("a negative length", whole(info("a", 20, -1, 16_384))),
        ("a piece length of 0", whole(info("a", 20, 16_384, 0))),
        ("a negative piece length", whole(info("a", 20, 16_384, -16_384))),
        ("a length that overflows", whole(info("a", 20, i64::MAX, i64::MAX))),
        ("a deep nest", [b"l".repeat(100_000), b"e".repeat(100_000)].concat()),
        ("a string of 4 GiB", b"4294967295:abc".to_vec()),
    ];
    cases.extend((1..good.len()).step_by(7).map(|end| ("cut short", good[..end].to_vec())));
    let file = stage.path("case.torrent");
    fs::write(&file, &good).expect("a torrent can be written");
    run(&stage, [OsStr::new("show"), file.as_os_str()]).good();
    for (what, bytes) in cases {
        fs::write(&file, &bytes).expect("a torrent can be written");
        let sentence = run(&stage, [OsStr::new("show"), file.as_os_str()]).refused();
        println!("{what} ({} bytes): {sentence}", bytes.len());
    }
    let folder = stage.folder("copy");
    for command in ["check", "download", "seed"] {
        let args = [OsStr::new(command), file.as_os_str(), OsStr::new("-d"), folder.as_os_str()];
        run(&stage, args).refused();
    }
    let args = [OsStr::new("show"), OsStr::new("/no/such/file.torrent")];
    assert!(run(&stage, args).refused().contains("/no/such/file.torrent"), "the file is named");
    assert!(tree(&folder).is_empty());
}

#[test]
fn names_that_lead_outside_are_confined() {
    let stage = Stage::new();
    let folder = stage.folder("deep/copy");
    let body = b"x".repeat(100);
    let pieces = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &body);
    let paths =
        [&["..", "..", "escaped"][..], &["/etc/escaped"], &["a/../../../escaped"], &["..", "escaped"]];
    for (index, path) in paths.into_iter().enumerate() {
        let parts = path.iter().map(|part| Value::text(part)).collect();
        let entry = Value::dict([("length", Value::Int(100)), ("path", Value::List(parts))]);
        let info = Value::dict([
            ("files", Value::List(vec![entry])),
            ("name", Value::text("..")),
            ("piece length", Value::Int(16_384)),
            ("pieces", Value::Bytes(pieces.as_ref().to_vec())),
        ]);
        let file = stage.path(format!("{index}.torrent"));
        fs::write(&file, Value::dict([("info", info)]).encode()).expect("a torrent can be written");
        let ran = run(&stage, [OsStr::new("show"), file.as_os_str()]).good();
        let files = ran.event("torrent")["files"].as_array().expect("files").clone();
        for file in files {
            let path = file["path"].as_str().expect("a path").to_owned();
            assert!(
                !path.starts_with('/') && path.split('/').all(|part| part != ".." && !part.is_empty()),
                "{path}"
            );
        }
        let args = [OsStr::new("check"), file.as_os_str(), OsStr::new("-d"), folder.as_os_str()];
        assert_eq!(run(&stage, args).code, Some(1), "nothing is there to be good");
    }
}

#[test]
fn bad_command_lines() {
    let stage = Stage::new();
    let file = stage.path("any.torrent");
    payload::file(&stage.path("solo"), 1, 1);
    create(&stage, &stage.path("solo"), &file, &[]);
    let file = file.to_str().expect("UTF-8");
    let usage = [
        &["no-such-command"][..],
        &["show"],
        &["show", file, "--no-such-option"],
        &["download", file, "-d", "x", "--listen", "nowhere"],
        &["download", file, "-d", "x", "--peer", "127.0.0.1"],
        &["download", file, "-d", "x", "--peer", "127.0.0.1:99999"],
        &["create", "x", "-o", "y", "--piece-length", "many"],
        &["demo", "--size", "huge"],
    ];
    for args in usage {
        let ran = run(&stage, args);
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains("error: "), "{ran:?}");
    }
    let path = stage.path("y.torrent");
    let out = path.to_str().expect("UTF-8");
    let solo = stage.path("solo");
    let solo = solo.to_str().expect("UTF-8");
    for args in
        [&["create", "/no/such/payload", "-o", out][..], &["create", solo, "-o", "/no/such/folder/file"]]
    {
        run(&stage, args).refused();
    }
}
