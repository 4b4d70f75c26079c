//! Transmission's daemon, asked through its RPC.

use super::Client;
use crate::support::net::{free_port, http, own_loopback};
use crate::support::process::{Process, program};
use crate::support::wait::{until, until_true};
use crate::support::{Stage, Torrent};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A running transmission-daemon with one torrent.
pub(crate) struct Transmission {
    process: Process,
    rpc: SocketAddr,
}

impl Transmission {
    /// Starts a daemon on the payload in `folder`: a seed when it is all there.
    pub(crate) fn start(stage: &Stage, torrent: &Torrent, folder: &Path) -> Self {
        Self::start_with(stage, torrent, folder, 0)
    }

    /// The same with a mode of encryption: 0 plaintext preferred, 1 encryption preferred, 2 required.
    pub(crate) fn start_with(stage: &Stage, torrent: &Torrent, folder: &Path, encryption: u8) -> Self {
        let rpc = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let config = settings(stage, rpc.port(), folder, encryption);
        let mut command = program("transmission-daemon", "transmission-daemon");
        command.arg("--foreground").arg("--config-dir").arg(config).arg("--log-info");
        let mut daemon = Self { process: Process::spawn(stage, "transmission", &mut command), rpc };
        until_true("transmission-daemon answers", || {
            assert_eq!(daemon.process.ended(), None, "transmission-daemon stays up");
            daemon.try_call(&json!({"method": "session-get"})).is_some()
        });
        daemon.call(json!({"method": "torrent-add", "arguments": {"filename": torrent.file}}));
        daemon
    }

    fn call(&self, request: Value) -> Value {
        let answer = self.try_call(&request).expect("transmission-daemon answers");
        assert_eq!(answer["result"], "success", "{request}");
        answer["arguments"].clone()
    }

    fn try_call(&self, request: &Value) -> Option<Value> {
        // The first answer only hands out the session id.
        let (head, _) = self.post(request, "").ok()?;
        let id = head.lines().find_map(|line| line.strip_prefix("X-Transmission-Session-Id: "))?.to_owned();
        let (_, body) = self.post(request, &id).ok()?;
        serde_json::from_slice(&body).ok()
    }

    fn post(&self, request: &Value, session: &str) -> std::io::Result<(String, Vec<u8>)> {
        let (body, addr) = (request.to_string(), self.rpc);
        let head = format!("POST /transmission/rpc HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
        let more = format!("Content-Length: {}\r\nX-Transmission-Session-Id: {session}\r\n\r\n", body.len());
        http(addr, &(head + &more + &body))
    }
}

impl Client for Transmission {
    fn wait_complete(&mut self) {
        until("Transmission has it all", || {
            let fields = json!({"fields": ["percentDone", "status", "error", "errorString"]});
            let answer = self.call(json!({"method": "torrent-get", "arguments": fields}));
            let torrent = &answer["torrents"][0];
            assert_ne!(torrent["error"], 3, "Transmission's own trouble: {torrent}");
            // 6: seeding, which comes after all is written and checked.
            (torrent["percentDone"].as_f64() == Some(1.0) && torrent["status"] == 6).then_some(())
        });
    }
}

/// Writes a configuration of its own and gives its folder.
fn settings(stage: &Stage, rpc_port: u16, folder: &Path, encryption: u8) -> PathBuf {
    let config = stage.folder(format!("transmission-{rpc_port}"));
    let settings = json!({
        "bind-address-ipv4": own_loopback(), "bind-address-ipv6": "::1", "peer-port": free_port(), "download-dir": folder,
        "rpc-bind-address": "127.0.0.1", "rpc-port": rpc_port, "rpc-whitelist-enabled": false,
        "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
        "port-forwarding-enabled": false, "encryption": encryption, "umask": 18, "preallocation": 1,
    });
    fs::write(config.join("settings.json"), settings.to_string()).expect("settings can be written");
    config
}
