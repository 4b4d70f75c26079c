//! opentracker: the tracker of the tests.

use super::Partner;
use crate::support::net::{free_port, host, http};
use crate::support::process::{Process, program};
use crate::support::wait::{until, until_true};
use crate::support::{Stage, Torrent};
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// A running opentracker. Debian's build serves only torrents on its whitelist.
pub(crate) struct Opentracker {
    process: Process,
    addr: SocketAddr,
    whitelist: PathBuf,
}

impl Opentracker {
    pub(crate) fn start(stage: &Stage) -> Self {
        let port = free_port();
        // Started by root it locks itself into this folder and becomes `nobody`; so the list has a relative name.
        let folder = stage.folder("tracker");
        let whitelist = folder.join("whitelist");
        // An empty list is an error to it.
        fs::write(&whitelist, format!("{}\n", "0".repeat(40))).expect("the whitelist can be written");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = program("opentracker", "opentracker");
        let mut listen = |ip: Ipv4Addr| {
            let (ip, port) = (ip.to_string(), port.to_string());
            command.args(["-i", &ip, "-p", &port, "-P", &port]);
        };
        listen(Ipv4Addr::LOCALHOST);
        listen(host());
        command.args(["-w", "whitelist", "-d"]).arg(&folder);
        let mut process = Process::spawn(stage, "opentracker", &mut command);
        until_true("opentracker answers", || {
            assert_eq!(process.ended(), None, "opentracker stays up");
            http(addr, "GET /stats HTTP/1.0\r\n\r\n").is_ok()
        });
        Self { process, addr, whitelist }
    }

    /// Where everyone announces: peers get loopback addresses.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/announce", self.addr)
    }

    /// The same over UDP.
    pub(crate) fn udp_url(&self) -> String {
        format!("udp://{}/announce", self.addr)
    }

    /// Where everyone announces when this partner is to find peers: see [`host`].
    pub(crate) fn url_for(&self, partner: Partner) -> String {
        match partner {
            Partner::Transmission => format!("http://{}:{}/announce", host(), self.addr.port()),
            Partner::Libtorrent | Partner::Aria2 => self.url(),
        }
    }

    /// Lets the tracker serve a torrent.
    pub(crate) fn admit(&self, torrent: &Torrent) {
        let mut list = OpenOptions::new().append(true).open(&self.whitelist).expect("the whitelist opens");
        writeln!(list, "{}", torrent.info_hash_hex()).expect("the whitelist can be written");
        self.process.signal(Signal::HUP);
        until_true("the tracker knows the torrent", || self.announce_is_admitted(torrent));
    }

    /// Waits until so many complete peers have announced themselves.
    pub(crate) fn wait_seeds(&self, torrent: &Torrent, seeds: u64) {
        until_true(&format!("{seeds} seeds at the tracker"), || self.scrape(torrent, "complete") >= seeds);
    }

    /// Waits until exactly so many peers, complete or not, are known.
    pub(crate) fn wait_peers(&self, torrent: &Torrent, peers: u64) {
        until_true(&format!("{peers} peers at the tracker"), || {
            self.scrape(torrent, "complete") + self.scrape(torrent, "incomplete") == peers
        });
    }

    /// How often the tracker was told `completed`.
    pub(crate) fn completions(&self, torrent: &Torrent) -> u64 {
        self.scrape(torrent, "downloaded")
    }

    /// One count of the tracker's answer to a scrape.
    fn scrape(&self, torrent: &Torrent, key: &str) -> u64 {
        let body = until("a scrape", || self.get("scrape", torrent, "").ok());
        let text = String::from_utf8_lossy(&body);
        // A torrent that nobody announced yet is not in the answer.
        let Some((_, count)) = text.split_once(&format!("{}:{key}i", key.len())) else { return 0 };
        count.split('e').next().and_then(|count| count.parse().ok()).expect("a count")
    }

    /// Announces a departure, which leaves no trace in the swarm.
    fn announce_is_admitted(&self, torrent: &Torrent) -> bool {
        let departure =
            "&peer_id=-XX0000-000000000000&port=9&uploaded=0&downloaded=0&left=1&event=stopped&compact=1";
        self.get("announce", torrent, departure).is_ok_and(|body| body.windows(8).any(|at| at == b"interval"))
    }

    fn get(&self, what: &str, torrent: &Torrent, more: &str) -> std::io::Result<Vec<u8>> {
        let hash: String = torrent.info_hash.iter().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!("GET /{what}?info_hash={hash}{more} HTTP/1.0\r\n\r\n");
        http(self.addr, &request).map(|(_, body)| body)
    }
}
