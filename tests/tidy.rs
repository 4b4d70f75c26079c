//! The rules of the house that a machine can hold: who may use whom, where `unsafe` and io_uring live, how long files
//! are, and that the map in `src/lib.rs` shows every room.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the top down; each may use only those after it.
const ROOMS: [&str; 14] = [
    "cli",
    "load",
    "api",
    "observe",
    "session",
    "discovery",
    "shard",
    "storage",
    "ring",
    "swarm",
    "digest",
    "wire",
    "metainfo",
    "bencode",
];
/// Rooms that do no I/O, read no clock and start no task.
const GROUND: [&str; 5] = ["swarm", "wire", "digest", "metainfo", "bencode"];
/// What they may not name. Addresses are values: `IpAddr` and its like are no I/O.
const IMPURE: [&str; 15] = [
    "std::fs",
    "std::thread",
    "std::env",
    "std::io",
    "std::process",
    "tokio",
    "rustix",
    "libc",
    "Instant::now",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "println!",
    "eprintln!",
];
/// The files beside those of the ring that may use `unsafe`: the kernels of the digests.
const KERNELS: [&str; 4] =
    ["src/digest/avx2.rs", "src/digest/avx512.rs", "src/digest/avx512vl.rs", "src/digest/shani.rs"];
/// Lines after which a file holds a second subject.
const LONGEST: usize = 500;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// Each source file of a room with its lines of code: comments, and tests at its end, are left out.
fn code(room: &str) -> Vec<(String, Vec<String>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(room);
    let mut files = Vec::new();
    for path in sources(&folder) {
        let name = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap().display().to_string();
        if name.contains("/tests/") || name.ends_with("/tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        files.push((name, lines.map(str::to_owned).collect()));
    }
    assert!(!files.is_empty(), "there is no room {room}");
    files
}

fn complaints(rooms: &[&str], wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for room in rooms {
        for (file, lines) in code(room) {
            found.extend(
                lines.iter().filter(|line| wrong(room, line)).map(|line| format!("{file}: {}", line.trim())),
            );
        }
    }
    found
}

#[test]
fn rooms_use_only_rooms_below() {
    let found = complaints(&ROOMS, |room, line| {
        let floor = ROOMS.iter().position(|other| *other == room).unwrap();
        ROOMS[..floor].iter().any(|above| line.contains(&format!("crate::{above}")))
    });
    assert!(found.is_empty(), "imports that run upward:\n{}", found.join("\n"));
}

#[test]
fn imports_are_written_so_that_they_can_be_seen() {
    // Grouped at the root, or climbing past their room, they would slip through the other tests.
    let found = complaints(&ROOMS, |_, line| {
        ["crate::{", "use std::{", "use crate::*", "super::super::super"]
            .iter()
            .any(|word| line.contains(word))
    });
    assert!(found.is_empty(), "write one import a line:\n{}", found.join("\n"));
}

#[test]
fn the_ground_floor_is_pure() {
    let found = complaints(&GROUND, |_, line| IMPURE.iter().any(|word| line.contains(word)));
    assert!(found.is_empty(), "I/O, clock or tasks on the ground floor:\n{}", found.join("\n"));
}

#[test]
fn unsafe_and_io_uring_stay_behind_their_door() {
    let others: Vec<&str> = ROOMS.into_iter().filter(|room| *room != "ring").collect();
    let mut found = complaints(&others, |_, line| {
        ["unsafe ", "unsafe{", "allow(unsafe_code)"].iter().any(|word| line.contains(word))
    });
    found.retain(|complaint| !KERNELS.iter().any(|kernel| complaint.starts_with(kernel)));
    found.extend(complaints(&others, |_, line| {
        ["tokio_uring", "io_uring::"].iter().any(|word| line.contains(word))
    }));
    assert!(found.is_empty(), "outside the ring:\n{}", found.join("\n"));
}

/// A read of the ring that is given up may still write into its buffer: so hardly anybody chooses between things that happen,
/// and none of these does between operations of a ring.
#[test]
fn who_gives_up_what_was_begun_is_known() {
    let mut found: Vec<String> = complaints(&["shard", "ring", "storage"], |_, line| {
        line.contains("select!") || line.contains("select_biased")
    })
    .into_iter()
    .map(|complaint| complaint.split(':').next().unwrap().to_owned())
    .collect();
    found.sort();
    found.dedup();
    let known = ["src/shard/core.rs", "src/shard/load.rs", "src/shard/send.rs"];
    assert_eq!(found, known, "is no operation of a ring given up there?");
}

/// What cores share of limits is counted by atomics: nobody waits while another thinks.
#[test]
fn limits_are_shared_without_locks() {
    for file in ["src/swarm/limiter.rs", "src/shard/allowance.rs"] {
        let (_, lines) =
            code(file.split('/').nth(1).unwrap()).into_iter().find(|(name, _)| name == file).unwrap();
        let locks: Vec<&String> =
            lines.iter().filter(|line| ["Mutex", "RwLock"].iter().any(|lock| line.contains(lock))).collect();
        assert!(locks.is_empty(), "{file}: {locks:?}");
    }
}

#[test]
fn a_file_has_one_subject() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let long: Vec<String> = sources(&src)
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{}: {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "longer than {LONGEST} lines:\n{}", long.join("\n"));
}

#[test]
fn the_map_shows_every_room() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let map = fs::read_to_string(src.join("lib.rs")).unwrap();
    for entry in fs::read_dir(&src).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        let room = entry.file_name().into_string().unwrap();
        assert!(ROOMS.contains(&room.as_str()), "{room} has no floor in this test");
        assert!(map.contains(&format!("| [`{room}`] |")), "{room} has no line in src/lib.rs");
        assert!(map.contains(&format!("pub mod {room};")), "{room} is not part of the crate");
    }
    for path in map.split('`').filter(|word| word.ends_with(".rs")) {
        let root = if path.starts_with("tests/") { src.parent().unwrap() } else { &src };
        assert!(root.join(path).exists(), "src/lib.rs names {path}, which is not there");
    }
}

/// What proves each limit is named beside it, and is there.
#[test]
fn the_table_of_limits_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let all = ["src", "tests", "fuzz"].iter().flat_map(|folder| sources(&root.join(folder)));
    let (mut code, mut files) = (String::new(), Vec::new());
    for path in all {
        code += &fs::read_to_string(&path).unwrap();
        files.push(path.file_stem().unwrap().to_string_lossy().into_owned());
    }
    let is_there = |name: &str| match name.strip_suffix('…') {
        Some(start) => code.contains(&format!("fn {start}")),
        None => code.contains(&format!("fn {name}(")) || files.iter().any(|file| file == name),
    };
    let table = fs::read_to_string(root.join("tests/hostile/main.rs")).unwrap();
    let rows = table.lines().filter(|line| line.starts_with("//! | ")).skip(1);
    let (mut named, mut missing) = (0, Vec::new());
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names = tests.split('`').skip(1).step_by(2);
        named += names.clone().count();
        missing.extend(names.filter(|name| !is_there(name)));
        // Those of the kit are rows of its own table.
        let kit = tests.split('*').skip(1).step_by(2);
        named += kit.clone().count();
        missing.extend(kit.filter(|name| !code.contains(&format!("\n    {name}: "))));
    }
    assert!(named > 100 && missing.is_empty(), "of {named} these are not there: {missing:?}");
}
