//! `seedring demo`: the README's first command.

use crate::clients::seedring::{number, run};
use crate::support::Stage;
use std::ffi::OsStr;

#[test]
fn demo_verifies_every_copy() {
    let stage = Stage::new();
    let folder = stage.folder("demo");
    let args = ["demo", "--size", "32M", "--leechers", "3", "-d"].map(OsStr::new);
    let ran = run(&stage, args.into_iter().chain([folder.as_os_str()])).good();
    let demo = ran.event("demo");
    assert_eq!(demo["verified"], true);
    assert_eq!((number(demo, "leechers"), number(demo, "bytes")), (3, 32 << 20));
    assert_eq!(demo["sha256"].as_str().map(str::len), Some(64));
    let given = number(demo, "uploaded_by_seeder") + number(demo, "uploaded_by_leechers");
    assert!(given >= 3 * (32 << 20), "three copies were given: {given} bytes");
}
