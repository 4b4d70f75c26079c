//! Transmission's daemon, asked through its RPC.

use super::Client;
use crate::support::lan::Lan;
use crate::support::net::{free_port, http, own_loopback};
use crate::support::process::{Process, program};
use crate::support::wait::{until, until_true};
use crate::support::{Stage, Torrent};
use serde_json::{Value, json};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// A running transmission-daemon with one torrent.
pub(crate) struct Transmission<'a> {
    process: Process,
    rpc: SocketAddr,
    /// The host that it is on, when it is not this one.
    place: Option<(&'a Lan, usize)>,
}

impl Transmission<'static> {
    /// Starts a daemon on the payload in `folder`: a seed when it is all there.
    pub(crate) fn start(stage: &Stage, torrent: &Torrent, folder: &Path) -> Self {
        Self::start_with(stage, torrent, folder, 0)
    }

    /// The same with a mode of encryption: 0 plaintext preferred, 1 encryption preferred, 2 required.
    pub(crate) fn start_with(stage: &Stage, torrent: &Torrent, folder: &Path, encryption: u8) -> Self {
        let here = json!({"bind-address-ipv4": own_loopback(), "bind-address-ipv6": "::1", "encryption": encryption});
        Self::start_at(stage, torrent, folder, None, here)
    }

    /// The same, and where it can be dialled: itself it dials nobody on this machine whom it has not met.
    pub(crate) fn start_to_be_dialled(stage: &Stage, torrent: &Torrent, folder: &Path) -> (Self, SocketAddr) {
        let addr = SocketAddr::from((own_loopback(), free_port()));
        let here =
            json!({"bind-address-ipv4": addr.ip(), "bind-address-ipv6": "::1", "peer-port": addr.port()});
        (Self::start_at(stage, torrent, folder, None, here), addr)
    }
}

impl<'a> Transmission<'a> {
    /// Starts a daemon on a host, with some further settings.
    pub(crate) fn start_on(
        stage: &Stage,
        torrent: &Torrent,
        folder: &Path,
        place: (&'a Lan, usize),
        more: Value,
    ) -> Self {
        Self::start_at(stage, torrent, folder, Some(place), more)
    }

    fn start_at(
        stage: &Stage,
        torrent: &Torrent,
        folder: &Path,
        place: Option<(&'a Lan, usize)>,
        more: Value,
    ) -> Self {
        let rpc = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let config = settings(stage, rpc.port(), folder, more);
        let mut command = program("transmission-daemon", "transmission-daemon");
        command.arg("--foreground").arg("--config-dir").arg(config).arg("--log-info");
        if let Some((lan, host)) = place {
            command = lan.on(host, &command);
        }
        let mut daemon = Self { process: Process::spawn(stage, "transmission", &mut command), rpc, place };
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
        let request = head + &more + &body;
        match self.place {
            Some((lan, host)) => lan.http(host, addr, &request),
            None => http(addr, &request),
        }
    }
}

impl Client for Transmission<'_> {
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

/// Writes a configuration of its own and gives its folder. `more`: settings that come before those of all.
fn settings(stage: &Stage, rpc_port: u16, folder: &Path, more: Value) -> PathBuf {
    let config = stage.folder(format!("transmission-{rpc_port}"));
    let mut settings = json!({
        "peer-port": free_port(), "download-dir": folder,
        "rpc-bind-address": "127.0.0.1", "rpc-port": rpc_port, "rpc-whitelist-enabled": false,
        "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
        "port-forwarding-enabled": false, "encryption": 0, "umask": 18, "preallocation": 1,
    });
    let Value::Object(more) = more else { panic!("settings have names: {more}") };
    settings.as_object_mut().expect("made as an object").extend(more);
    fs::write(config.join("settings.json"), settings.to_string()).expect("settings can be written");
    config
}
