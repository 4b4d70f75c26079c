//! Private torrents (BEP 27), as the wire shows them: of the DHT, of local discovery and of peer exchange there is not a
//! packet; of a torrent that is not private the same scene shows all three.

use crate::clients::seedring::{Seedring, binary, run_command};
use crate::support::Stage;
use crate::support::lan::Lan;
use crate::support::payload::{self, assert_same};
use crate::support::process::{Process, program};
use crate::support::wait::until_true;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is looked for, as tshark has it.
const DHT: &str = "udp.port == 6881";
/// The end of both groups' addresses: in packets to them, and in reports of who listens to them.
const LOCAL: &str = "udp.port == 6771 || frame contains ef:c0:98:8f";
const EXCHANGE_OFFERED: &str = "tcp contains \"6:ut_pex\"";
const EXCHANGED: &str = "tcp contains \"5:added\"";
/// That something was seen at all.
const HANDSHAKES: &str = "tcp contains \"BitTorrent protocol\"";

/// All that passes the switch of a network, kept in a file.
struct Capture {
    dumpcap: Process,
    file: PathBuf,
}

impl Capture {
    fn start(stage: &Stage, lan: &Lan, name: &str) -> Self {
        let file = stage.path(name);
        let mut command = program("dumpcap", "wireshark-common");
        command.args(["-q", "-i", "any", "-s", "2000", "-w"]).arg(&file);
        let dumpcap = Process::spawn(stage, "dumpcap", &mut lan.on(lan.switch(), &command));
        until_true("dumpcap listens", || dumpcap.said().contains("File: "));
        Self { dumpcap, file }
    }

    /// Ends it.
    fn end(mut self) -> PathBuf {
        self.dumpcap.signal(Signal::INT);
        assert!(self.dumpcap.wait().success(), "dumpcap ends well");
        self.file
    }
}

/// The packets in a file that are as the filter says, a line each.
fn packets(file: &Path, filter: &str) -> Vec<String> {
    let mut tshark = program("tshark", "tshark");
    let output = tshark.arg("-n").arg("-r").arg(file).args(["-Y", filter]).output().expect("tshark starts");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// A session on a host, with all of it switched on.
fn session(
    stage: &Stage,
    lan: &Lan,
    host: usize,
    what: (&str, &Path),
    folder: &Path,
    peer: Option<usize>,
) -> Seedring {
    let (what, source) = what;
    let mut command = binary();
    for off in ["SEEDRING_NO_DHT", "SEEDRING_NO_LSD"] {
        command.env_remove(off);
    }
    command.arg(what).arg(source).arg("-d").arg(folder).arg("--json");
    command.args(["--listen", "0.0.0.0:6881", "--dht-bootstrap", &format!("{}:6881", Lan::v4(0))]);
    command.arg("--state").arg(stage.path(format!("state-{host}")));
    // So slow that all three are connected for some seconds, and have somebody to tell of.
    command.args(["--upload-limit", "100K"]).args((what == "download").then_some("--seed"));
    if let Some(peer) = peer {
        command.args(["--peer", &format!("{}:6881", Lan::v4(peer))]);
    }
    Seedring::start(stage, &mut lan.on(host, &command))
}

/// What the wire has shown.
struct Seen {
    file: PathBuf,
    /// When each of those who download had told that its session is under way, in seconds as tshark has them.
    since: Vec<(usize, f64)>,
}

/// A seed, one that downloads from it, and one that downloads from that one: by the torrent file, or by a bare link.
fn seen(private: bool, by_link: bool) -> Seen {
    let (stage, lan) = (Stage::new(), Lan::of(3));
    let origin = stage.folder("origin");
    payload::file(&origin.join("wire"), 400_000, 27);
    let file = stage.path("wire.torrent");
    let mut create = binary();
    create.args(["create", "--json"]).arg(origin.join("wire")).arg("-o").arg(&file);
    let created = run_command(&stage, create.args(private.then_some("--private"))).good();
    let hash = created.event("created")["info_hash"].as_str().expect("a hash").to_owned();
    let source = if by_link { format!("magnet:?xt=urn:btih:{hash}").into() } else { file.clone() };
    let capture = Capture::start(&stage, &lan, "wire.pcapng");
    let copies = [stage.folder("first"), stage.folder("second")];
    let mut all = vec![session(&stage, &lan, 0, ("seed", &file), &origin, None)];
    all[0].addr();
    let mut since = Vec::new();
    for (host, copy) in (1..).zip(&copies) {
        all.push(session(&stage, &lan, host, ("download", &source), copy, Some(host - 1)));
        all[host].addr();
        since.push((host, SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs_f64()));
        // Nor does one even listen.
        let sockets = lan.shell(host, "cat /proc/net/udp /proc/net/udp6");
        assert!(sockets.contains("local_address"), "{sockets}");
        assert_eq!(sockets.lines().count() == 2, private, "{sockets}");
    }
    for (session, copy) in all[1..].iter_mut().zip(&copies) {
        session.wait_event("completed", |_| true);
        assert_same(&origin, copy);
    }
    // Long enough for what is said in the first moments of a session; what is said at its end comes too.
    let begun = all[2].events("progress").len();
    until_true("some seconds have passed", || all[2].events("progress").len() >= begun + 4);
    all.iter_mut().for_each(|session| assert!(session.stop().success()));
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("wire-{private}-{by_link}.pcapng"));
    std::fs::copy(capture.end(), &kept).expect("a capture can be copied");
    Seen { file: kept, since }
}

#[test]
fn of_a_private_torrent_the_wire_shows_nothing_but_connections_to_peers() {
    let wire = seen(true, false).file;
    assert!(packets(&wire, HANDSHAKES).len() >= 4, "two connections, and what is said on them");
    for unwanted in [DHT, LOCAL, EXCHANGE_OFFERED, EXCHANGED, "udp"] {
        assert_eq!(packets(&wire, unwanted), Vec::<String>::new(), "{unwanted}");
    }
}

/// Before the metadata is there nobody knows that the torrent is private.
#[test]
fn of_a_link_to_a_private_torrent_it_shows_nothing_else_once_that_is_known() {
    let Seen { file, since } = seen(true, true);
    assert!(packets(&file, HANDSHAKES).len() >= 8, "two connections for the metadata, and two for the rest");
    assert_eq!(packets(&file, EXCHANGED), Vec::<String>::new());
    for (host, since) in since {
        let (before, after) = (format!("frame.time_epoch < {since}"), format!("frame.time_epoch >= {since}"));
        for way in ["udp && !icmp", EXCHANGE_OFFERED] {
            let seen = |time| packets(&file, &format!("{way} && ip.src == {} && {time}", Lan::v4(host)));
            assert_ne!(seen(&before), Vec::<String>::new(), "it has looked for peers: {way}");
            assert_eq!(seen(&after), Vec::<String>::new(), "host {host}: {way}");
        }
    }
}

#[test]
fn of_any_other_torrent_the_wire_shows_every_way_to_find_peers() {
    for by_link in [false, true] {
        let Seen { file, since } = seen(false, by_link);
        for wanted in [HANDSHAKES, DHT, LOCAL, EXCHANGE_OFFERED, EXCHANGED] {
            assert_ne!(packets(&file, wanted), Vec::<String>::new(), "{wanted}");
        }
        for (host, since) in since {
            let datagrams = format!("udp && ip.src == {} && frame.time_epoch >= {since}", Lan::v4(host));
            assert_ne!(packets(&file, &datagrams), Vec::<String>::new(), "host {host}");
        }
    }
}
