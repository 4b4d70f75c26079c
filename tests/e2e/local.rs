//! Local discovery (BEP 14): peers that nothing but the local network has brought together.

use crate::clients::Client;
use crate::clients::libtorrent::Libtorrent;
use crate::clients::seedring::{Seedring, number, transfer};
use crate::support::lan::Lan;
use crate::support::payload::{self, assert_same};
use crate::support::process::Process;
use crate::support::wait::until;
use crate::support::{Stage, Torrent};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Prints, as hexadecimal digits, what it hears of the group of a family.
const EAR: &str = r#"
import socket, struct, sys
if sys.argv[1] == "4":
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("0.0.0.0", 6771))
    group = socket.inet_aton("239.192.152.143") + socket.inet_aton(sys.argv[2])
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
else:
    ear = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("::", 6771))
    group = socket.inet_pton(socket.AF_INET6, "ff15::efc0:988f") + struct.pack("=I", socket.if_nametoindex("eth0"))
    ear.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
print("ready", flush=True)
while True:
    packet, source = ear.recvfrom(65536)
    print(source[0], packet.hex(), flush=True)
"#;

/// Somebody on a host who only listens.
struct Ear(Process);

impl Ear {
    fn start(stage: &Stage, lan: &Lan, host: usize, family: &str) -> Self {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", EAR, family, &Lan::v4(host)]);
        let process = Process::spawn(stage, "ear", &mut lan.on(host, &python));
        until("an ear is open", || process.said().contains("ready").then_some(()));
        Self(process)
    }

    /// Source and text of all that it has heard.
    fn heard(&self) -> Vec<(String, String)> {
        let said = self.0.said();
        let whole = said.lines().filter_map(|line| line.split_once(' '));
        whole.map(|(source, packet)| (source.to_owned(), text(packet))).collect()
    }

    /// Waits until somebody is heard who names that torrent.
    fn wait(&self, torrent: &Torrent) -> (String, String) {
        let wanted = payload::hex(&torrent.info_hash);
        until("a torrent is named", || {
            self.heard().into_iter().find(|(_, packet)| packet.to_lowercase().contains(&wanted))
        })
    }
}

fn text(hexadecimal: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&hexadecimal[at..at + 2], 16).expect("two digits");
    (0..hexadecimal.len() / 2).map(|n| char::from(byte(2 * n))).collect()
}

fn lay(stage: &Stage, name: &str) -> Torrent {
    let origin = stage.folder("origin");
    payload::file(&origin.join(name), 700_000, 3);
    Torrent::make(&stage.path(""), &origin, name, 32_768, None)
}

/// seedring on a host; nothing but the local network tells it of peers.
fn seedring(
    stage: &Stage,
    lan: &Lan,
    host: usize,
    what: &str,
    torrent: &Torrent,
    folder: &Path,
    more: &[&str],
) -> Seedring {
    let mut command = transfer(what, torrent, folder, more);
    command.env_remove("SEEDRING_NO_LSD");
    Seedring::start(stage, &mut lan.on(host, &command))
}

#[test]
fn seedring_finds_seedring() {
    for listen in ["0.0.0.0:6881", "[::]:6881"] {
        let (stage, lan) = (Stage::new(), Lan::new());
        let torrent = lay(&stage, "local");
        let copy = stage.folder("copy");
        let mut seed =
            seedring(&stage, &lan, 0, "seed", &torrent, &stage.path("origin"), &["--listen", listen]);
        seed.addr();
        let mut leech = seedring(&stage, &lan, 1, "download", &torrent, &copy, &["--listen", listen]);
        leech.wait_success();
        assert_same(&stage.path("origin"), &copy);
        assert!(seed.stop().success());
        assert!(seed.last("stopped", "uploaded") >= Some(torrent.length));
    }
}

#[test]
fn a_link_alone_leads_to_who_is_there() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let torrent = lay(&stage, "local");
    let copy = stage.folder("copy");
    let mut seed = seedring(&stage, &lan, 0, "seed", &torrent, &stage.path("origin"), &[]);
    seed.addr();
    seedring(&stage, &lan, 1, "download", &torrent.by_magnet(""), &copy, &[]).wait_success();
    assert_same(&stage.path("origin"), &copy);
    assert!(seed.stop().success());
}

#[test]
fn seedring_finds_seedring_by_ipv6_alone() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let torrent = lay(&stage, "local");
    let copy = stage.folder("copy");
    let listen = |host| format!("[{}]:6881", Lan::v6(host));
    let ear = Ear::start(&stage, &lan, 1, "6");
    let mut seed =
        seedring(&stage, &lan, 0, "seed", &torrent, &stage.path("origin"), &["--listen", &listen(0)]);
    let (source, packet) = ear.wait(&torrent);
    assert_eq!(source, Lan::v6(0), "it speaks from where it listens");
    assert!(packet.contains("\r\nHost: [ff15::efc0:988f]:6771\r\nPort: 6881\r\n"), "{packet}");
    let mut leech = seedring(&stage, &lan, 1, "download", &torrent, &copy, &["--listen", &listen(1)]);
    leech.wait_success();
    assert_same(&stage.path("origin"), &copy);
    assert!(seed.stop().success());
}

/// On a link where hosts have no addresses but those that IPv6 gives them for it alone.
#[test]
fn seedring_finds_seedring_on_a_link_without_routers() {
    let (stage, lan) = (Stage::new(), Lan::of_ipv6(2));
    for host in 0..2 {
        lan.shell(host, &format!("ip addr del {}/64 dev eth0", Lan::v6(host)));
        // Until the host knows that nobody else has its address.
        until("there is an address", || {
            lan.shell(host, "ip -6 addr show dev eth0 -tentative").contains("fe80:").then_some(())
        });
    }
    let torrent = lay(&stage, "local");
    let copy = stage.folder("copy");
    let listen = ["--listen", "[::]:6881"];
    let mut seed = seedring(&stage, &lan, 0, "seed", &torrent, &stage.path("origin"), &listen);
    let mut leech = seedring(&stage, &lan, 1, "download", &torrent, &copy, &listen);
    leech.wait_success();
    assert_same(&stage.path("origin"), &copy);
    assert!(seed.stop().success());
}

/// libtorrent, on a host, with its local discovery on.
fn libtorrent(stage: &Stage, lan: &Lan, host: usize, torrent: &Torrent, folder: &Path) -> Libtorrent {
    let listen = format!("{}:6882", Lan::v4(host)).parse().expect("an address");
    Libtorrent::start_with(stage, torrent, folder, listen, &["--lsd"], |command| lan.on(host, &command))
}

#[test]
fn seedring_finds_libtorrent() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let torrent = lay(&stage, "local");
    let copy = stage.folder("copy");
    // It has said what it wants before there was anybody to hear it, and will not do so again for minutes.
    let ear = Ear::start(&stage, &lan, 1, "4");
    let mut leech = seedring(&stage, &lan, 0, "download", &torrent, &copy, &[]);
    assert_eq!(ear.wait(&torrent).0, Lan::v4(0));
    let _seed = libtorrent(&stage, &lan, 1, &torrent, &stage.path("origin"));
    leech.wait_success();
    assert_same(&stage.path("origin"), &copy);
}

#[test]
fn libtorrent_finds_seedring() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let torrent = lay(&stage, "local");
    let copy = stage.folder("copy");
    let ear = Ear::start(&stage, &lan, 0, "4");
    let mut leech = libtorrent(&stage, &lan, 1, &torrent, &copy);
    ear.wait(&torrent);
    let mut seed = seedring(&stage, &lan, 0, "seed", &torrent, &stage.path("origin"), &[]);
    leech.wait_complete();
    assert_same(&stage.path("origin"), &copy);
    assert!(seed.stop().success());
}

/// The same torrent, which says that it is private.
fn private(stage: &Stage, name: &str) -> Torrent {
    let mut torrent = lay(stage, name);
    let bytes = fs::read(&torrent.file).expect("a torrent can be read");
    // Behind `pieces`, the last key of the info dictionary, which ends with the file.
    let (rest, end) = bytes.split_at(bytes.len() - 2);
    let bytes = [rest, b"7:privatei1e", end].concat();
    fs::write(&torrent.file, &bytes).expect("a torrent can be written");
    let info = &bytes[b"d4:info".len()..bytes.len() - 1];
    torrent.info_hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, info).as_ref().try_into().expect("20 bytes");
    torrent
}

#[test]
fn nothing_is_said_of_private_torrents_nor_where_it_is_switched_off() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let origin = stage.path("origin");
    let (secret, quiet, open) = (private(&stage, "secret"), lay(&stage, "quiet"), lay(&stage, "open"));
    let ear = Ear::start(&stage, &lan, 1, "4");
    let mut first = seedring(&stage, &lan, 0, "seed", &secret, &origin, &[]);
    let mut second = seedring(&stage, &lan, 0, "seed", &quiet, &origin, &["--no-lsd"]);
    first.addr();
    second.addr();
    // A progress tells that they were well under way.
    first.wait_event("progress", |_| true);
    second.wait_event("progress", |_| true);
    // They do not even listen.
    let sockets = lan.shell(0, "cat /proc/net/udp /proc/net/udp6");
    assert!(sockets.contains("local_address") && !sockets.contains(":1A73 "), "{sockets}");
    let mut third = seedring(&stage, &lan, 0, "seed", &open, &origin, &[]);
    ear.wait(&open);
    assert!(lan.shell(0, "cat /proc/net/udp").contains(":1A73 "), "port 6771");
    let heard = ear.heard();
    for silent in [&secret, &quiet] {
        let hash = payload::hex(&silent.info_hash);
        assert!(!heard.iter().any(|(_, packet)| packet.contains(&hash)), "{heard:?}");
    }
    [&mut first, &mut second, &mut third].into_iter().for_each(|seed| assert!(seed.stop().success()));
}

/// The page of metrics of a program on this host.
fn page(lan: &Lan, host: usize, metrics: &str) -> String {
    lan.shell(host, &format!("/usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{metrics}/metrics\").read().decode())'"))
}

/// What such a page says of one series, zero when nothing.
fn value(page: &str, series: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

#[test]
fn interfaces_beyond_the_twentieth_are_counted() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let torrent = lay(&stage, "local");
    // With `lo` and `eth0`, 26 of each family.
    let cables = "for n in $(seq 12); do ip link add a$n type veth peer name b$n; \
                  ip addr add 10.201.$n.1/24 dev a$n; ip link set a$n up; \
                  ip addr add 10.202.$n.1/24 dev b$n; ip link set b$n up; done";
    lan.shell(0, cables);
    let metrics = format!("{}:9000", Lan::v4(0));
    let more = ["--listen", "[::]:6881", "--metrics", &metrics];
    let mut seed = seedring(&stage, &lan, 0, "seed", &torrent, &stage.path("origin"), &more);
    seed.addr();
    until("the interfaces are counted", || {
        let hits = value(&page(&lan, 0, &metrics), "seedring_limit_hits_total{limit=\"local_interfaces\"}");
        (hits >= 12).then_some(())
    });
    assert!(seed.stop().success());
}

#[test]
fn a_flood_of_datagrams_is_counted_and_peers_are_found_all_the_same() {
    let (stage, lan) = (Stage::new(), Lan::new());
    let torrent = lay(&stage, "local");
    let copy = stage.folder("copy");
    let metrics = format!("{}:9000", Lan::v4(0));
    let mut leech = seedring(&stage, &lan, 0, "download", &torrent, &copy, &["--metrics", &metrics]);
    leech.wait_event("listening", |_| true);
    let flood = format!(
        r#"
import socket
mouth = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
mouth.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("{}"))
group = ("239.192.152.143", 6771)
search = b"BT-SEARCH * HTTP/1.1\r\nHost: 239.192.152.143:6771\r\nPort: %d\r\nInfohash: {}\r\n\r\n\r\n"
for n in range(3000):
    mouth.sendto(search % (10000 + n), group)
    mouth.sendto(b"x" * (n % 1500), group)
"#,
        Lan::v4(1),
        payload::hex(&torrent.info_hash)
    );
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", &flood]);
    assert!(lan.on(1, &python).status().expect("Python starts").success());
    let page = || page(&lan, 0, &metrics);
    until("the flood is counted", || {
        (value(&page(), "seedring_limit_hits_total{limit=\"local_discovery\"}") > 1000).then_some(())
    });
    let seen = page();
    assert!(value(&seen, "seedring_local_discovery_packets_total{event=\"heard\"}") > 0, "{seen}");
    assert!(value(&seen, "seedring_local_discovery_packets_total{event=\"unread\"}") > 0, "{seen}");
    let peers = value(&seen, "seedring_local_discovery_peers_total");
    assert!((1..1500).contains(&peers), "{peers} peers");
    let mut seed = seedring(&stage, &lan, 1, "seed", &torrent, &stage.path("origin"), &[]);
    leech.wait_success();
    assert_same(&stage.path("origin"), &copy);
    let completed = leech.wait_event("completed", |_| true);
    assert_eq!(number(&completed, "left"), 0);
    assert!(seed.stop().success());
}
