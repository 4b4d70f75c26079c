//! The program as a person types it: exit codes, messages, JSON lines.

use crate::common::payload::{BLOCK, noise, one_file};
use crate::common::peer::{Request, UNCHOKE, accept, bitfield, message};
use crate::common::program::{client, seedring};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

fn run<A: AsRef<OsStr>>(folder: &Path, args: impl IntoIterator<Item = A>) -> Output {
    seedring().current_dir(folder).args(args).output().expect("the program starts")
}

fn words<'a>(folder: &Path, line: &'a str) -> (Output, &'a str) {
    (run(folder, line.split(' ')), line)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

fn lines(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect()
}

#[track_caller]
fn good((output, line): (Output, &str)) -> Output {
    assert!(output.status.success(), "{line}: {output:?}");
    output
}

/// Asserts that the program failed with one sentence, and gives the sentence.
#[track_caller]
fn refused((output, line): (Output, &str)) -> String {
    assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
    let said = text(&output.stderr).trim_end();
    let sentence = said.strip_prefix("seedring: error: ").unwrap_or_else(|| panic!("{line}: {said}"));
    assert!(!sentence.contains('\n'), "{line}: {said}");
    sentence.to_owned()
}

/// A folder with `set/` (three files) in it.
fn payload() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("set/sub")).expect("a folder");
    fs::write(folder.path().join("set/a"), vec![7; 40_000]).expect("a file");
    fs::write(folder.path().join("set/empty"), "").expect("a file");
    fs::write(folder.path().join("set/sub/b"), vec![9; 20_000]).expect("a file");
    folder
}

#[test]
fn create_show_and_check_agree() {
    let folder = payload();
    let folder = folder.path();
    let line = "create set -o set.torrent --piece-length 16K --announce http://one.example/a --announce http://two.example/a --private --json";
    let created = lines(&good(words(folder, line))).remove(0);
    let hash = created["info_hash"].as_str().expect("an info-hash").to_owned();
    assert_eq!(
        created,
        json!({"event": "created", "file": "set.torrent", "name": "set", "info_hash": hash, "length": 60_000,
               "piece_length": 16_384, "pieces": 4, "files": 3})
    );

    let shown = lines(&good(words(folder, "show set.torrent --json"))).remove(0);
    assert_eq!((&shown["event"], &shown["info_hash"]), (&json!("torrent"), &created["info_hash"]));
    assert_eq!((&shown["private"], &shown["comment"]), (&json!(true), &json!(null)));
    assert_eq!(shown["trackers"], json!([["http://one.example/a"], ["http://two.example/a"]]));
    let file = |path, length| json!({"path": path, "length": length, "pad": false, "symlink": false, "selected": true});
    assert_eq!(
        shown["files"],
        json!([file("set/a", 40_000), file("set/empty", 0), file("set/sub/b", 20_000)])
    );
    let people = good(words(folder, "show set.torrent"));
    let people = text(&people.stdout);
    for part in ["set/sub/b", hash.as_str(), "58.6 KiB (60000 bytes)", "http://two.example/a"] {
        assert!(people.contains(part), "{part}: {people}");
    }

    let checked = lines(&good(words(folder, "check set.torrent -d . --json")));
    assert_eq!(checked.len(), 4);
    assert_eq!(
        checked[0],
        json!({"event": "file", "path": "set/a", "length": 40_000, "good": true, "pieces": 3, "good_pieces": 3})
    );
    assert_eq!(
        checked[3],
        json!({"event": "checked", "pieces": 4, "good_pieces": 4, "good_bytes": 60_000, "bad_pieces": []})
    );
}

#[test]
fn check_ends_badly_unless_all_is_good() {
    let folder = payload();
    let folder = folder.path();
    good(words(folder, "create set -o set.torrent --piece-length 16384"));
    fs::remove_file(folder.join("set/empty")).expect("a file");
    let (output, _) = words(folder, "check set.torrent -d .");
    assert_eq!(output.status.code(), Some(1), "an empty file is missing");
    assert!(text(&output.stdout).contains("BAD   set/empty"), "{output:?}");
    fs::write(folder.join("set/a"), vec![7; 39_999]).expect("a file");
    let (output, _) = words(folder, "check set.torrent -d . --json");
    assert_eq!(output.status.code(), Some(1));
    let files: Vec<_> = lines(&output).iter().map(|line| line["good"].clone()).collect();
    assert_eq!(files[..2], [json!(false), json!(false)]);
}

#[test]
fn check_goes_on_where_something_odd_is_in_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let (folder, set) = (folder.path(), folder.path().join("set"));
    let names = ["folder", "fifo", "loop", "sub/below", "parted", "good"];
    fs::create_dir_all(set.join("sub")).expect("a folder");
    names.iter().for_each(|name| fs::write(set.join(name), name.repeat(50_000)).expect("a file"));
    good(words(folder, "create set -o set.torrent --piece-length 16384"));
    names[..5].iter().for_each(|name| fs::remove_file(set.join(name)).expect("a file"));
    fs::remove_dir(set.join("sub")).expect("a folder");
    ["folder", "parted.part"].iter().for_each(|name| fs::create_dir(set.join(name)).expect("a folder"));
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, set.join("fifo"), rustix::fs::FileType::Fifo, mode, 0)
        .expect("a pipe");
    std::os::unix::fs::symlink("loop", set.join("loop")).expect("a link");
    fs::write(set.join("sub"), "not a folder").expect("a file");
    let (output, _) = words(folder, "check set.torrent -d . --json");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = lines(&output);
    for (name, fault) in [
        ("folder", "something that is not a file"),
        ("fifo", "something that is not a file"),
        ("loop", "a symbolic link is in the way"),
        ("sub/below", "Not a directory"),
        ("parted", "something that is not a file"),
    ] {
        let line = said.iter().find(|line| line["path"] == format!("set/{name}")).expect(name);
        assert!(line["fault"].as_str().is_some_and(|said| said.contains(fault)), "{line}");
        assert_eq!(line["good"], json!(false), "{line}");
    }
    let fine = said.iter().find(|line| line["path"] == "set/good").expect("a line");
    assert_eq!((&fine["fault"], &fine["pieces"]), (&json!(null), &json!(13)), "{fine}");
    // The first and the last one it shares with its neighbours.
    assert_eq!(fine["good_pieces"], json!(11), "{fine}");
    let people = words(folder, "check set.torrent -d .").0;
    assert!(
        text(&people.stdout).contains("BAD   set/fifo  (something that is not a file is in the way)"),
        "{people:?}"
    );
    // Who would have to write there, or serve it, says so and ends.
    for line in ["seed set.torrent -d .", "download set.torrent -d ."] {
        let sentence = refused(words(folder, line));
        assert!(sentence.contains("set/fifo: something that is not a file is in the way"), "{sentence}");
    }
}

#[test]
fn two_runs_write_the_same_bytes() {
    let folder = payload();
    let folder = folder.path();
    for name in ["one", "two"] {
        good(words(folder, &format!("create set -o {name} --announce http://t.example/a")));
    }
    assert_eq!(fs::read(folder.join("one")).expect("a file"), fs::read(folder.join("two")).expect("a file"));
}

#[test]
fn peers_of_a_network_link_are_not_passed_over_without_a_word() {
    let folder = payload();
    let folder = folder.path();
    good(words(folder, "create set -o set.torrent"));
    for (peer, part) in [("[fe80::1]:6881", "[fe80::1%eth0]:6881"), ("[fe80::1%nolink]:1", "no link nolink")]
    {
        let line = format!("seed set.torrent -d . --peer {peer}");
        let (output, _) = words(folder, &line);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(part), "{line}: {output:?}");
    }
    // A link is not given up for one peer that makes no sense.
    let link = format!("magnet:?xt=urn:btih:{}&x.pe=[fe80::1]:5&x.pe=[fe80::1%25nolink]:5", "0".repeat(40));
    let mut show = seedring();
    show.args(["show", &link, "--no-trackers", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped());
    let mut show = show.spawn().expect("the program starts");
    let mut said = BufReader::new(show.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    for part in
        ["peer [fe80::1]:5 is passed over: ", "peer [fe80::1%nolink]:5 is passed over: ", "looking for peers"]
    {
        let line = said.next().unwrap_or_default();
        assert!(line.contains(part), "{line}");
    }
    show.kill().and_then(|()| show.wait()).expect("it has gone on");
}

#[test]
fn every_fault_is_one_sentence_that_names_the_file() {
    let folder = payload();
    let folder = folder.path();
    good(words(folder, "create set -o good.torrent"));
    let bytes = fs::read(folder.join("good.torrent")).expect("a file");
    fs::write(folder.join("cut.torrent"), &bytes[..bytes.len() / 2]).expect("a file");
    fs::write(folder.join("empty.torrent"), "").expect("a file");
    let cases = [
        ("show none.torrent", "none.torrent"),
        ("show set", "set: it is a folder"),
        ("show cut.torrent", "cut.torrent: "),
        ("show empty.torrent", "empty.torrent: "),
        ("check none.torrent -d .", "none.torrent"),
        ("check good.torrent -d nowhere", "nowhere"),
        ("seed cut.torrent -d .", "cut.torrent"),
        ("download set -d .", "it is a folder"),
        ("create nothing -o x.torrent", "nothing"),
        ("create set -o set", "set: it is a folder"),
        ("create set -o none/x.torrent", "none"),
        ("create set -o set/a", "part of what the torrent is made of"),
        ("create set/empty -o x.torrent", "no bytes"),
        ("demo --size 1M -d good.torrent", "good.torrent"),
    ];
    for (line, part) in cases {
        let sentence = refused(words(folder, line));
        assert!(sentence.contains(part), "{line}: {sentence}");
        let output = words(folder, &format!("{line} --json")).0;
        let last = lines(&output).pop().expect("a line");
        assert_eq!((&last["event"], &last["message"]), (&json!("error"), &json!(sentence)), "{line}");
    }
    assert!(!folder.join("x.torrent").exists(), "a failed command leaves nothing behind");
    assert_eq!(fs::read(folder.join("set/a")).expect("a file"), vec![7; 40_000]);
}

#[test]
fn nothing_to_seed_is_an_error() {
    let folder = payload();
    let folder = folder.path();
    good(words(folder, "create set -o set.torrent"));
    fs::create_dir(folder.join("bare")).expect("a folder");
    let sentence = refused(words(folder, "seed set.torrent -d bare --listen 127.0.0.1:0 --json"));
    assert!(sentence.contains("nothing to seed"), "{sentence}");
    assert_eq!(fs::read_dir(folder.join("bare")).expect("a folder").count(), 0);
}

#[test]
fn bad_usage_ends_with_code_2() {
    let folder = payload();
    let folder = folder.path();
    let cases = [
        "no-such-command",
        "show",
        "show a b",
        "check a.torrent",
        "create set",
        "create set -o x --piece-length many",
        "create set -o x --piece-length 0",
        "create set -o x --piece-length 1G",
        "download a.torrent -d . --listen nowhere",
        "seed a.torrent -d . --peer 127.0.0.1",
        "demo --leechers 0",
        "demo --size 1.5G",
    ];
    for line in cases {
        let (output, _) = words(folder, line);
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(text(&output.stderr).contains("error: "), "{line}: {output:?}");
    }
    for line in ["--help", "--version", "download --help"] {
        good(words(folder, line));
    }
}

#[test]
fn the_environment_stands_in_for_options() {
    let folder = payload();
    let run = |args: &[&str], env: &[(&str, &str)]| {
        let output = seedring().current_dir(folder.path()).args(args).envs(env.iter().copied()).output();
        good((output.expect("the program starts"), "from the environment"))
    };
    let env = [
        ("SEEDRING_OUTPUT", "set.torrent"),
        ("SEEDRING_PIECE_LENGTH", "32K"),
        ("SEEDRING_ANNOUNCE", "http://one.example/a http://two.example/a"),
        ("SEEDRING_PRIVATE", "true"),
        ("SEEDRING_COMMENT", "some words"),
    ];
    run(&["create", "set"], &env);
    let shown = lines(&run(&["show", "set.torrent"], &[("SEEDRING_JSON", "1")])).remove(0);
    assert_eq!((&shown["piece_length"], &shown["comment"]), (&json!(32_768), &json!("some words")));
    assert_eq!((&shown["private"], shown["trackers"].as_array().map(Vec::len)), (&json!(true), Some(2)));
    run(&["check", "set.torrent"], &[("SEEDRING_DIR", "."), ("SEEDRING_JSON", "")]);
    for filter in ["a=b=c", "inof", "warn,nonsense", "seedring=loud"] {
        let output = seedring().args(["show", "x"]).env("SEEDRING_LOG", filter).output().expect("it starts");
        assert!(refused((output, filter)).contains("SEEDRING_LOG"));
    }
}

#[test]
fn digest_engines_are_chosen_by_the_environment() {
    let folder = payload();
    let create = |engine: &str| {
        let mut command = seedring();
        command.current_dir(folder.path()).args(["create", "set", "-o"]).arg(format!("{engine}.torrent"));
        command.env("SEEDRING_DIGEST", engine).output().expect("the program starts")
    };
    let sentence = refused((create("abacus"), "no such engine"));
    assert!(sentence.contains("SEEDRING_DIGEST") && sentence.contains("abacus"), "{sentence}");
    // The sentence ends with what this machine has.
    let (_, engines) = sentence.split_once("only ").expect("the engines");
    let engines: Vec<&str> = engines.split(", ").collect();
    assert_eq!(engines.last(), Some(&"portable"));
    let torrents = engines.iter().map(|engine| {
        good((create(engine), engine));
        fs::read(folder.path().join(format!("{engine}.torrent"))).expect("a torrent")
    });
    let torrents: Vec<Vec<u8>> = torrents.collect();
    assert!(torrents.iter().all(|torrent| *torrent == torrents[0]), "{engines:?}");
}

#[test]
fn a_reader_that_leaves_early_is_no_fault() {
    let folder = tempfile::tempdir().expect("a folder");
    let many = folder.path().join("many");
    fs::create_dir(&many).expect("a folder");
    for number in 0..3000 {
        fs::write(many.join(format!("a-file-with-a-name-of-some-length-{number}")), "x").expect("a file");
    }
    good(words(folder.path(), "create many -o many.torrent"));
    for args in [&["show", "many.torrent"][..], &["check", "many.torrent", "-d", ".", "--json"]] {
        let mut command = seedring();
        command.current_dir(folder.path()).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut first = String::new();
        BufReader::with_capacity(64, child.stdout.take().expect("piped"))
            .read_line(&mut first)
            .expect("a line");
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        assert!(child.wait().expect("it ends").success(), "{args:?}: {said}");
        assert_eq!(said, "", "{args:?}");
    }
}

#[test]
fn a_full_stdout_is_said() {
    let folder = payload();
    good(words(folder.path(), "create set -o set.torrent"));
    let full = fs::File::options().write(true).open("/dev/full").expect("Linux has it");
    let mut command = seedring();
    let output = command.current_dir(folder.path()).args(["show", "set.torrent"]).stdout(full).output();
    let sentence = refused((output.expect("the program starts"), "show > /dev/full"));
    assert!(sentence.contains("standard output"), "{sentence}");
}

#[test]
fn the_demo_verifies_every_copy_and_tells_who_gave() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = good(words(folder.path(), "demo --size 24M --leechers 2 -d swarm --json"));
    let lines = lines(&output);
    let demo = lines.last().expect("a last line");
    assert_eq!(
        (&demo["event"], &demo["verified"], &demo["leechers"]),
        (&json!("demo"), &json!(true), &json!(2))
    );
    assert_eq!(demo["bytes"], json!(24 << 20));
    let given = demo["uploaded_by_seeder"].as_u64().zip(demo["uploaded_by_leechers"].as_u64());
    let (by_seeder, by_leechers) = given.expect("counts");
    assert!(by_seeder >= 24 << 20 && by_seeder + by_leechers >= 48 << 20, "{demo}");
    for node in ["leecher-1", "leecher-2"] {
        let completed = |line: &&Value| line["event"] == "completed" && line["node"] == node;
        assert_eq!(lines.iter().filter(completed).count(), 1, "{node}");
        let copy = fs::read(folder.path().join("swarm").join(node).join("random.bin")).expect("a copy");
        assert_eq!(copy, fs::read(folder.path().join("swarm/seeder/random.bin")).expect("the original"));
    }
}

#[test]
fn signals_end_a_download_in_order() {
    let folder = payload();
    let folder = folder.path();
    good(words(folder, "create set -o set.torrent"));
    let cases = [
        ("download", Signal::INT, 130),
        ("download", Signal::TERM, 143),
        ("download", Signal::HUP, 129),
        ("seed", Signal::INT, 0),
    ];
    for (command, signal, code) in cases {
        let dir = if command == "seed" { "." } else { "fetched" };
        let mut child = seedring();
        child.current_dir(folder).args([
            command,
            "set.torrent",
            "-d",
            dir,
            "--listen",
            "127.0.0.1:0",
            "--json",
        ]);
        let mut child = child.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut events = Vec::new();
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let event: Value = serde_json::from_str(&line.expect("UTF-8")).expect("a JSON object");
            let event = event["event"].as_str().expect("a name").to_owned();
            if event == "listening" {
                kill_process(Pid::from_child(&child), signal).expect("the program runs");
            }
            events.push(event);
        }
        assert_eq!(child.wait().expect("it ends").code(), Some(code), "{command} {signal:?}: {events:?}");
        assert_eq!(events[..2], ["checked", "listening"]);
        assert_eq!(events.last().map(String::as_str), Some("stopped"));
    }
}

/// A signal that comes while the last piece is hashed and written: whatever is done when the program ends, it says so.
#[test]
fn a_signal_on_the_last_block_does_not_hide_that_the_download_is_complete() {
    const PIECES: u32 = 16;
    let (origin, path, torrent) = one_file((PIECES * 4 * BLOCK) as usize, 4 * BLOCK);
    let payload = noise((PIECES * 4 * BLOCK) as usize);
    for delay in 0..12 {
        let target = origin.path().join(format!("copy-{delay}"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = format!("--peer={}", listener.local_addr().unwrap());
        let mut child = client("download", &path, &target, &[&peer, "--cores", "2"]);
        let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
        let mut stream = accept(&listener, &torrent, [7; 20]).unwrap();
        let everything = [bitfield(&torrent, PIECES), message(UNCHOKE, &[], &[])].concat();
        stream.write_all(&everything).unwrap();
        for _ in 0..PIECES * 4 {
            let request = Request::hear(&mut stream).unwrap();
            stream.write_all(&request.answer(&torrent, &payload)).unwrap();
        }
        sleep(Duration::from_millis(delay));
        // It may have ended of itself.
        let _ = kill_process(Pid::from_child(&child), Signal::INT);
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        let code = child.wait().unwrap().code();
        let whole = fs::read(target.join("payload")).is_ok_and(|copy| copy == payload);
        assert_eq!(code, Some(if whole { 0 } else { 130 }), "after {delay} ms: {said}");
        assert_eq!(said.contains("\"completed\""), whole, "after {delay} ms: {said}");
    }
}
