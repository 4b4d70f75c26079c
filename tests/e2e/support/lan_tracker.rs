//! A tracker on a network of its own, of both families: everybody gets the addresses of all others.

use super::lan::Lan;
use super::process::Process;
use super::stage::Stage;
use super::wait::until;
use std::process::Command;

/// Says a line of each announce: the address, and what has happened.
const SCRIPT: &str = r#"
import http.server, socket, socketserver, struct, urllib.parse

swarms = {}

def compact(family, peers):
    packed = [socket.inet_pton(family, ip) + struct.pack(">H", port) for ip, port in sorted(peers)]
    joined = b"".join(packed)
    return b"%d:%s" % (len(joined), joined)

class Tracker(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not self.path.startswith("/announce?"):
            return self.send_error(404)
        query = dict(pair.split("=", 1) for pair in self.path.partition("?")[2].split("&") if "=" in pair)
        swarm = swarms.setdefault(urllib.parse.unquote_to_bytes(query["info_hash"]), set())
        here = (self.client_address[0].removeprefix("::ffff:"), int(query["port"]))
        (swarm.discard if query.get("event") == "stopped" else swarm.add)(here)
        print("announce", *here, query.get("event", "-"), flush=True)
        others = swarm - {here}
        peers = compact(socket.AF_INET, {peer for peer in others if ":" not in peer[0]})
        peers6 = compact(socket.AF_INET6, {peer for peer in others if ":" in peer[0]})
        body = b"d8:intervali5e5:peers" + peers + b"6:peers6" + peers6 + b"e"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *what):
        pass

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self):
        # Not that of HTTP, which would look up a name.
        socketserver.TCPServer.server_bind(self)

server = Server(("::", 8000), Tracker)
print("ready", flush=True)
server.serve_forever()
"#;

/// See the module.
pub(crate) struct LanTracker {
    process: Process,
    ip: String,
}

impl LanTracker {
    /// Starts it on the switch.
    pub(crate) fn start(stage: &Stage, lan: &Lan, ip: &str) -> Self {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", SCRIPT]);
        let process = Process::spawn(stage, "tracker", &mut lan.on(lan.switch(), &python));
        until("the tracker listens", || process.said().contains("ready").then_some(()));
        Self { process, ip: ip.to_owned() }
    }

    /// Where to announce.
    pub(crate) fn url(&self) -> String {
        let host = if self.ip.contains(':') { format!("[{}]", self.ip) } else { self.ip.clone() };
        format!("http://{host}:8000/announce")
    }

    /// Waits until somebody of that address has announced itself.
    pub(crate) fn wait(&self, ip: &str) {
        until("an announce", || self.process.said().contains(&format!("announce {ip} ")).then_some(()));
    }
}
