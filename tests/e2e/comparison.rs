//! `scripts/compare`: that it measures, not what.

use crate::clients::seedring::binary;
use crate::support::Stage;
use crate::support::process::program;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const CLIENTS: [&str; 4] = ["seedring", "libtorrent", "libtorrent-hps", "transmission"];

/// One program on one core and on two, and two programs on a core each.
const SCALES: [&str; 5] = [
    "seedring --cores 1",
    "seedring --cores 2",
    "the same, one generator",
    "two seedrings --cores 1",
    "the same, taken from crosswise",
];

fn compare() -> Command {
    let mut compare = program("/usr/bin/python3", "python3");
    compare.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/compare"));
    compare
}

#[test]
fn what_fails_is_told_and_the_others_go_on() {
    let stage = Stage::new();
    let figures = stage.path("figures.json");
    let mut compare = compare();
    compare.args(["check", "download", "--clients", "seedring", "--size", "1M", "--rounds", "2"]);
    compare.args(["--connections", "1", "--program", "/bin/false"]);
    compare.arg("--work").arg(env!("CARGO_TARGET_TMPDIR")).arg("--json").arg(&figures);
    let output = compare.output().expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("Traceback"), "{said}");
    let figures = fs::read_to_string(figures).expect("figures are written");
    let figures: Value = serde_json::from_str(&figures).expect("they are JSON");
    let failures = figures["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 4, "{said}");
    let create =
        |failure: &Value| failure.as_str().is_some_and(|failure| failure.contains("/bin/false create"));
    assert!(failures.iter().all(create), "{said}");
}

#[test]
fn each_client_is_measured_each_way() {
    let stage = Stage::new();
    let mut compare = compare();
    compare.args([
        "seed",
        "download",
        "check",
        "scale",
        "--clients",
        &CLIENTS.join(","),
        "--connections",
        "2",
    ]);
    compare.args(["--cache", "cached,uncached", "--size", "8M", "--rounds", "1", "--program"]);
    compare.arg(binary().get_program()).arg("--work").arg(env!("CARGO_TARGET_TMPDIR"));
    let figures = stage.path("figures.json");
    let output = compare.arg("--markdown").arg("--json").arg(&figures).output().expect("python starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8_lossy(&output.stdout);
    for word in [
        "x the best other",
        "two cores = ",
        "two programs = ",
        "crosswise = ",
        "operations a MB",
        "| seed, 2",
    ] {
        assert!(table.contains(word), "no `{word}` in {table}");
    }
    let figures = fs::read_to_string(figures).expect("figures are written");
    let figures: Value = serde_json::from_str(&figures).expect("they are JSON");
    assert_eq!(figures["failures"].as_array().map(Vec::len), Some(0), "{said}");
    let scenarios = figures["scenarios"].as_array().expect("some were measured");
    let what: Vec<&str> = scenarios.iter().filter_map(|about| about["what"].as_str()).collect();
    assert_eq!(what, ["seed", "seed", "scale", "download", "check", "check"]);
    for about in scenarios {
        let clients = about["clients"].as_object().expect("some were measured");
        let expected = match about["what"].as_str() {
            Some("scale") => &SCALES[..],
            Some("check") => &["seedring", "libtorrent", "libtorrent, 2 hashing threads"],
            // High performance is for seeds.
            Some("download") => &["seedring", "libtorrent", "transmission"],
            _ => &CLIENTS,
        };
        let measured: BTreeSet<&str> = clients.keys().map(String::as_str).collect();
        assert_eq!(measured, expected.iter().copied().collect(), "{about}");
        for (client, told) in clients {
            let peak = told["peak_mib"]["median"].as_f64().expect("a number");
            assert!(peak > 0.0, "{client}: {told}");
            let speed = told["gb_per_second"]["median"].as_f64().expect("a number");
            let generator = &told["generator_cpu_seconds_per_gb"]["median"];
            assert!(speed > 0.0 && told["cpu_seconds_per_gb"]["median"].is_f64(), "{client}: {told}");
            assert_eq!(generator.is_f64(), about["what"] != "check", "{client}: {told}");
            let operations = &told["operations_per_mb"]["median"];
            assert!(
                operations.as_f64().is_some_and(|count| count > 0.0) == (about["what"] == "scale"),
                "{told}"
            );
        }
    }
}
