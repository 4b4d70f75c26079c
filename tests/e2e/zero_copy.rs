//! `--zero-copy-send`: what is sent straight from the cache arrives whole, and is let go of.

use crate::clients::Client;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, transfer};
use crate::metrics::{Samples, metrics_addr, page, samples, sum};
use crate::support::lan::Lan;
use crate::support::payload::{self, assert_same};
use crate::support::wait::until;
use crate::support::{Stage, Torrent};
use std::path::PathBuf;

/// A payload of some MiB and an odd end, and a place for its copy.
fn lay(stage: &Stage) -> (Torrent, PathBuf, PathBuf) {
    let (origin, copy) = (stage.folder("origin"), stage.folder("copy"));
    payload::file(&origin.join("sent"), (8 << 20) + 12_345, 9);
    (Torrent::make(&stage.path(""), &origin, "sent", 256 << 10, None), origin, copy)
}

/// What a seed counts when so many bytes have gone out and the kernel reads none of them any more.
fn settled(least: u64, look: impl Fn() -> Samples) -> Samples {
    until("all is sent and let go of", || {
        let seen = look();
        let sends = sum(&seen, "seedring_zero_copy_sends_total");
        let quiet = event(&seen, "landed") == sends && sum(&seen, "seedring_zero_copy_slabs") == 0;
        (sum(&seen, "seedring_uploaded_bytes_total") >= least && quiet).then_some(seen)
    })
}

/// How often that became of a send, on all cores.
fn event(seen: &Samples, name: &str) -> u64 {
    let label = format!("event=\"{name}\"");
    let of_name = |key: &str| key.starts_with("seedring_zero_copy_events_total{") && key.contains(&label);
    seen.iter().filter(|(key, _)| of_name(key.as_str())).map(|(_, count)| *count as u64).sum()
}

/// libtorrent takes all from a seed on this host that copies nothing, with these options each. What the seed has counted.
fn taken(mode: &str, client: &[&str]) -> (Samples, Torrent) {
    let stage = Stage::new();
    let (torrent, origin, copy) = lay(&stage);
    let more = ["--zero-copy-send", "on", "--encryption", mode, "--metrics", "127.0.0.1:0"];
    let mut seed = Seedring::seed(&stage, &torrent, &origin, &more);
    let metrics = metrics_addr(&mut seed);
    let peer = seed.addr().to_string();
    Libtorrent::start(&stage, &torrent, &copy, &[client, &["--peer", &peer]].concat()).wait_complete();
    assert_same(&origin, &copy);
    let seen = settled(torrent.length, || page(metrics, "/metrics"));
    assert_eq!((event(&seen, "leaked"), event(&seen, "aborted")), (0, 0), "{seen:?}");
    assert!(seed.stop().success());
    (seen, torrent)
}

#[test]
fn libtorrent_is_sent_all_without_a_copy() {
    let (seen, torrent) = taken("off", &[]);
    let bytes = sum(&seen, "seedring_zero_copy_sent_bytes_total");
    // Without a fallback, all. What there was no room for at the time was copied: each time a send, which is a run at most and
    // the rest of a block that was cut. How often that is depends on how soon the peer reads.
    let copied = event(&seen, "fallback") * ((256 << 10) + (16 << 10));
    assert!(bytes + copied >= torrent.length, "{bytes} bytes, {seen:?}");
    assert!(sum(&seen, "seedring_zero_copy_sends_total") > 0, "{seen:?}");
    assert_eq!(sum(&seen, "seedring_copied_bytes_total"), 0);
}

#[test]
fn what_is_encrypted_is_a_copy_and_no_slab_is_held_for_it() {
    let (seen, torrent) = taken("required", &["--encryption", "rc4"]);
    assert!(sum(&seen, "seedring_copied_bytes_total") >= torrent.length, "{seen:?}");
    assert_eq!(sum(&seen, "seedring_zero_copy_sends_total"), 0, "{seen:?}");
}

/// Of its own accord it copies what goes to this host, by whatever address, and not what goes to another.
#[test]
fn peers_on_other_hosts_are_sent_to_without_a_copy() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let (torrent, origin, copy) = lay(&stage);
    let (listen, metrics) = (format!("{}:6881", Lan::v4(0)), format!("{}:9100", Lan::v4(0)));
    let more = ["--zero-copy-send", "auto", "--listen", &listen, "--metrics", &metrics];
    let mut seed = Seedring::start(&stage, &mut lan.on(0, &transfer("seed", &torrent, &origin, &more)));
    let server = metrics_addr(&mut seed);
    seed.addr();
    let look = || {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
        let (_, body) = lan.http(0, server, &request).expect("the program answers");
        samples(&String::from_utf8(body).expect("a page is UTF-8"))
    };

    let near = stage.folder("near");
    let leech = transfer("download", &torrent, &near, &["--peer", &listen]);
    Seedring::start(&stage, &mut lan.on(0, &leech)).wait_success();
    assert_same(&origin, &near);
    let seen = settled(torrent.length, look);
    assert_eq!(sum(&seen, "seedring_zero_copy_sends_total"), 0, "{seen:?}");

    let addr = format!("{}:6882", Lan::v4(1)).parse().expect("an address");
    let peer = ["--peer", &listen];
    let on_it = |command| lan.on(1, &command);
    Libtorrent::start_with(&stage, &torrent, &copy, addr, &peer, on_it).wait_complete();
    assert_same(&origin, &copy);
    let seen = settled(2 * torrent.length, look);
    assert!(sum(&seen, "seedring_zero_copy_sends_total") > 0, "{seen:?}");
    assert_eq!((event(&seen, "leaked"), event(&seen, "aborted")), (0, 0), "{seen:?}");
    assert!(seed.stop().success());
}
