use super::{Info, file, string};
use crate::metainfo::path::{component, display_text, usable};
use crate::metainfo::{FileKind, PART_SUFFIX, TorrentError};
use proptest::prelude::*;
use std::collections::HashSet;

/// The paths that a torrent `temp` with these files has.
fn paths(files: &[&[&str]]) -> Vec<String> {
    let raw = files.iter().map(|path| file(&path.iter().map(|name| name.as_bytes()).collect::<Vec<_>>()));
    let torrent = Info::multi(raw).parse().unwrap();
    torrent.files.iter().map(|file| file.path.join("/")).collect()
}

#[test]
fn paths_stay_below_the_torrent() {
    assert_eq!(paths(&[&["/", "/", "bar"]]), ["temp/_/_/bar"]);
    assert_eq!(paths(&[&["\\", "\\", "bar"]]), ["temp/_/_/bar"]);
    assert_eq!(paths(&[&["abc/../../def", "/", "bar"]]), ["temp/abc....def/_/bar"]);
    assert_eq!(paths(&[&["/foobar"]]), ["temp/foobar"]);
    assert_eq!(paths(&[&["", ""]]), ["temp/_/_"]);
    assert_eq!(paths(&[&["..", "..", "bar"]]), ["temp/_/_/bar"]);
    assert_eq!(paths(&[&["foo/../../../bar", "bar"]]), ["temp/foo......bar/bar"]);
    assert_eq!(paths(&[&["f"], &["."]]), ["temp/f", "temp/_"]);
    assert_eq!(paths(&[&[".\u{200b}."]]), ["temp/_"]);
}

#[test]
fn a_name_that_cannot_be_used_becomes_the_info_hash() {
    for name in ["..", ".", "/", "\\/", "", "\0\0"] {
        let torrent = Info { name: string(name), ..Info::multi([file(&[b"a"])]) }.parse().unwrap();
        assert_eq!(torrent.name, torrent.info_hash.to_string(), "{name:?}");
        assert_eq!(torrent.files[0].path, [torrent.name, "a".into()]);
    }
    let torrent = Info { name: string("temp/../../abc"), ..Info::single() }.parse().unwrap();
    assert_eq!(torrent.name, "temp....abc");
    assert_eq!(Info { name: string("\\est2"), ..Info::single() }.parse().unwrap().name, "est2");
    assert_eq!(Info { name: string("foobar "), ..Info::single() }.parse().unwrap().name, "foobar ");
}

#[test]
fn utf8_twins_win_when_they_are_good() {
    let named = |twin: &[u8]| Info { extra: [b"10:name.utf-8", twin].concat(), ..Info::single() };
    assert_eq!(named(&string("../t")).parse().unwrap().name, "..t");
    assert_eq!(named(b"1:\xff").parse().unwrap().name, "temp");
    assert_eq!(named(b"i4e").parse().unwrap().name, "temp");
    let path = |twin: &str| {
        let entry = format!("d6:lengthi5e4:pathl3:olde10:path.utf-8{twin}e");
        Info::multi([entry]).parse().unwrap().files[0].path[1..].join("/")
    };
    assert_eq!(path("l2:..3:newe"), "_/new");
    for unusable in ["le", "li4ee", "i4e"] {
        assert_eq!(path(unusable), "old", "{unusable}");
    }
    let broken = b"d6:lengthi5e4:pathl3:olde10:path.utf-8l1:\xffee";
    assert_eq!(Info::multi([broken]).parse().unwrap().files[0].path[1], "old");
}

#[test]
fn broken_and_treacherous_characters_go() {
    assert_eq!(component(b"\x89est/MB"), "_estMB");
    assert_eq!(component(b"a\xc0\xaeb"), "a__b");
    assert_eq!(component(b"a\xed\xa0\x80b"), "a___b");
    assert_eq!(component("a\u{202e}txt.exe\u{feff}".as_bytes()), "atxt.exe");
    assert_eq!(component(b"a\0b\x1b[2J\x7f\xc2\x9bc"), "ab[2Jc");
    assert_eq!(component("naïve 文件.txt".as_bytes()), "naïve 文件.txt");
    assert_eq!(display_text(b"\x1b]0;x\x07\xff"), "]0;x \u{fffd}");
}

#[test]
fn long_names_are_cut_and_keep_a_short_extension() {
    assert_eq!(component(&[b'a'; 240]).len(), 240);
    let text = component(&[&[b'a'; 300][..], b".text"].concat());
    assert_eq!((text.len(), text.ends_with("a.text")), (240, true));
    let long = component(&[&b"a."[..], &[b'b'; 300]].concat());
    assert_eq!((long.len(), long.starts_with("a.b")), (240, true));
    let wide = component("€".repeat(100).as_bytes());
    assert_eq!(wide.len(), 240);
    let odd = component(["a", &"€".repeat(100)].concat().as_bytes());
    assert_eq!((odd.len(), odd.chars().count()), (238, 80));
}

#[test]
fn duplicates_get_a_number_before_the_extension() {
    let expected = ["temp/foo/bar.txt", "temp/foo/bar.1.txt", "temp/foo/bar.2.txt"];
    assert_eq!(paths(&[&["foo", "bar.txt"], &["foo", "bar.txt"], &["foo", "bar.txt"]]), expected);
    assert_eq!(paths(&[&["/", "foo"], &["\\", "foo"]]), ["temp/_/foo", "temp/_/foo.1"]);
    assert_eq!(paths(&[&[".rc"], &[".rc"]]), ["temp/.rc", "temp/.rc.1"]);
    assert_eq!(paths(&[&["a"], &["a.1"], &["a"]]), ["temp/a", "temp/a.1", "temp/a.2"]);
}

#[test]
fn a_file_gives_way_to_a_directory() {
    assert_eq!(paths(&[&["a"], &["a", "b"]]), ["temp/a.1", "temp/a/b"]);
    assert_eq!(paths(&[&["a", "b"], &["a"], &["a"]]), ["temp/a/b", "temp/a.1", "temp/a.2"]);
}

#[test]
fn no_file_takes_the_name_of_an_incomplete_one() {
    assert_eq!(paths(&[&["a"], &["a.part"]]), ["temp/a", "temp/a.1.part"]);
    assert_eq!(paths(&[&["a.part"], &["a"]]), ["temp/a.part", "temp/a.1"]);
    assert_eq!(paths(&[&["a.part", "b"], &["a"]]), ["temp/a.part/b", "temp/a.1"]);
    assert_eq!(paths(&[&["a"], &["b", "a.part"]]), ["temp/a", "temp/b/a.part"]);
}

#[test]
fn names_that_are_other_ones_here_are_counted() {
    let changed =
        |files: &[&[&[u8]]]| Info::multi(files.iter().map(|path| file(path))).parse().unwrap().changed_names;
    assert_eq!(changed(&[&[b"a", b"b"], &[b"a", b"c"]]), 0);
    assert_eq!(changed(&[&[b"..", b"b"], &[b"a\0", b"c"]]), 2);
    assert_eq!(changed(&[&[&[b'a'; 241]]]), 1, "too long");
    assert_eq!(changed(&[&[b"a"], &[b"a"], &[b"a"]]), 2, "taken");
    let named = |name: &str| Info { name: string(name), ..Info::multi([file(&[b"a"])]) }.parse();
    assert_eq!(
        [named("t"), named("a/b"), named("..")].map(|torrent| torrent.unwrap().changed_names),
        [0, 1, 1]
    );
}

#[test]
fn too_many_duplicates_are_refused() {
    let many = |n| Info::multi(std::iter::repeat_n(file(&[b"foo", b"bar.txt"]), n)).parse();
    assert!(many(30).is_ok());
    assert_eq!(many(100), Err(TorrentError::TooManyDuplicateNames));
}

#[test]
fn depth_and_length_of_paths_are_limited() {
    let deep = |n| Info::multi([file(&vec![&b"a"[..]; n])]).parse();
    assert_eq!(deep(99).unwrap().files[0].path.len(), 100);
    assert_eq!(deep(100), Err(TorrentError::PathTooDeep));
    let name = [b'a'; 240];
    let long = |last: usize| {
        let path = [vec![&name[..]; 16], vec![&name[..last]]].concat();
        Info::multi([file(&path)]).parse().map(|torrent| torrent.files[0].path.join("/").len())
    };
    // temp/ and sixteen times 241 bytes, then the last name.
    assert_eq!(long(229), Ok(4090));
    assert_eq!(long(230), Err(TorrentError::PathTooLong));
}

#[test]
fn the_work_does_not_grow_faster_than_the_torrent() {
    // With work that grows with the square, this would take hours.
    let same = Info::multi(std::iter::repeat_n(file(&[b"a"]), 400_000)).parse();
    assert_eq!(same, Err(TorrentError::TooManyDuplicateNames));
    let different = (0..300_000).map(|n| file(&[n.to_string().as_bytes()]));
    let info = Info { piece_length: b"i1500000e".into(), ..Info::multi(different) };
    assert_eq!(info.parse().unwrap().files.len(), 300_000);
}

/// Names that clash, climb and hide, and any bytes.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let tricks: Vec<&[u8]> = vec![
        b"a",
        b"b",
        b"a.1",
        b"a.part",
        b"a.1.part",
        b"a.part.part",
        b".part",
        b".",
        b"..",
        b"",
        b"/",
        b"\\",
        b"_",
        b"a/",
        b"a\0",
        b"\xff",
        b"a.txt",
        b"\xe2\x80\xae",
        b"/etc/passwd",
        b"_.1",
    ];
    prop_oneof![
        4 => prop::sample::select(tricks).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..300),
        1 => ".{0,200}".prop_map(String::into_bytes),
    ]
}

fn is_safe(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && !name.contains(|c: char| c == '/' || c == '\\' || c.is_control())
        && name.len() + PART_SUFFIX.len() <= 255
}

proptest! {
    #[test]
    fn every_component_is_safe(raw in name()) {
        prop_assert!(is_safe(&component(&raw)));
        prop_assert!(usable(&raw).is_none_or(|name| is_safe(&name) && name.len() <= 240));
    }

    #[test]
    fn every_torrent_has_safe_paths_that_do_not_clash(
        title in name(),
        raw in prop::collection::vec(prop::collection::vec(name(), 1..4), 1..25)
    ) {
        let entries = raw.iter().map(|path| file(&path.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        let torrent = Info { name: string(title), ..Info::multi(entries) }.parse().unwrap();
        prop_assert_eq!(torrent.files.len(), raw.len());
        let files: Vec<_> = torrent.files.iter().filter(|file| file.kind == FileKind::Regular).collect();
        let mut taken = HashSet::new();
        for file in &files {
            prop_assert!(file.path.iter().all(|name| is_safe(name)));
            prop_assert_eq!(&file.path[0], &torrent.name);
            prop_assert!(taken.insert(file.path.join("/")), "twice");
        }
        for file in &files {
            let path = file.path.join("/");
            let incomplete = path.clone() + PART_SUFFIX;
            prop_assert!(!taken.contains(&incomplete));
            for depth in 1..file.path.len() {
                let directory = file.path[..depth].join("/");
                prop_assert!(!taken.contains(&directory), "a file is a directory");
                let whole = directory.strip_suffix(PART_SUFFIX);
                prop_assert!(whole.is_none_or(|whole| !taken.contains(whole)), "a directory is in the way of a part");
            }
        }
    }
}
