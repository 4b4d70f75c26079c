"""The clients that are compared: how each is started, and how it tells that it is ready or done."""

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from .processes import fail, free_port, start, stop, wait_for

LIBTORRENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libtorrent_child.py")


class Client:
    """A client at work on one torrent. `child` is its process, `port` where peers connect."""

    def __init__(self, stage, cores, connections):
        self.stage, self.cores, self.connections = stage, cores, connections
        self.port = free_port()
        self.log = open(os.path.join(stage.work, "client.log"), "wb")

    def stop(self):
        stop(self.child)
        self.log.close()


class Lines(Client):
    """One that tells what happens by lines of JSON."""

    def run(self, command):
        self.child = start(command, self.cores, stdout=subprocess.PIPE, stderr=self.log, text=True)

    def until(self, event):
        for line in self.child.stdout:
            told = json.loads(line)
            if told.get("event") == event:
                return told
        fail(f"{self.name} ended without telling of `{event}`; see {self.log.name}")

    def wait_complete(self, seconds):
        # Polled elsewhere; here the client tells.
        signal.alarm(seconds)
        try:
            self.until("completed")
        finally:
            # Else it strikes one of the runs that follow.
            signal.alarm(0)


class Seedring(Lines):
    name, more = "seedring", []

    def begin(self, folder, complete):
        command = [self.stage.program, "seed"] if complete else [self.stage.program, "download", "--seed"]
        command += ["--json", "--listen", f"127.0.0.1:{self.port}", self.stage.torrent, "-d", folder]
        if "--cores" in self.stage.seedring_help:
            command += ["--cores", str(len(self.cores.split(",")))]
        if self.stage.memory_limit and "--memory-limit" in self.stage.seedring_help:
            command += ["--memory-limit", self.stage.memory_limit]
        # As with the others: no peers but the generator's.
        for option in ("--no-lsd", "--no-dht"):
            if option in self.stage.seedring_help:
                command.append(option)
        self.run(command + self.more)
        self.until("listening")


class Counted(Seedring):
    """One whose operations are counted."""

    def __init__(self, *args):
        super().__init__(*args)
        self.metrics = free_port()
        self.more = ["--metrics", f"127.0.0.1:{self.metrics}"]

    def counts(self):
        """Operations of all its rings, and batches of them."""
        # They are published once a second.
        time.sleep(1.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics") as page:
            lines = [line for line in page.read().decode().splitlines() if not line.startswith("#")]
        total = lambda name: sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"seedring_ring_{name}_total"))
        return {name: total(name) for name in ("operations", "submissions")}


class Libtorrent(Lines):
    name, profile = "libtorrent", "default"

    def begin(self, folder, complete):
        resume = self.stage.resume_data(folder) if complete else "-"
        mode = "seed" if complete else "download"
        self.run(["/usr/bin/python3", LIBTORRENT, mode, self.profile, self.stage.torrent,
                  folder, str(self.port), resume])
        self.until("ready")


class LibtorrentSeed(Libtorrent):
    name, profile = "libtorrent hps", "high_performance_seed"


class Http(Client):
    """One that is asked over HTTP."""

    def wait_complete(self, seconds):
        wait_for(f"{self.name} downloads", seconds, self.is_complete, self.child)


class Transmission(Http):
    name = "transmission"

    def begin(self, folder, complete):
        self.home = tempfile.mkdtemp(dir=self.stage.work)
        self.rpc, self.session = free_port(), ""
        peers = max(50, self.connections)
        settings = {
            "dht-enabled": False, "lpd-enabled": False, "pex-enabled": False, "utp-enabled": False,
            "port-forwarding-enabled": False, "peer-port": self.port, "bind-address-ipv4": "127.0.0.1",
            "rpc-port": self.rpc, "rpc-bind-address": "127.0.0.1", "download-dir": folder,
            "peer-limit-per-torrent": peers, "peer-limit-global": max(200, peers),
            "upload-slots-per-torrent": max(14, self.connections),
        }
        with open(os.path.join(self.home, "settings.json"), "w") as file:
            json.dump(settings, file)
        self.child = start(["transmission-daemon", "-f", "-g", self.home], self.cores, stdout=self.log, stderr=self.log)
        wait_for("transmission answers", 20, self.answers, self.child)
        self.ask("torrent-add", filename=self.stage.torrent)
        done = lambda: self.torrent()["status"] not in (1, 2) and self.torrent()["recheckProgress"] == 0
        wait_for("transmission checks", 600, self.is_complete if complete else done, self.child)

    def ask(self, method, **arguments):
        body = json.dumps({"method": method, "arguments": arguments}).encode()
        for _ in range(2):
            headers = {"X-Transmission-Session-Id": self.session}
            request = urllib.request.Request(f"http://127.0.0.1:{self.rpc}/transmission/rpc", body, headers)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)["arguments"]
            except urllib.error.HTTPError as error:
                self.session = error.headers.get("X-Transmission-Session-Id", "")
        fail("transmission refuses its RPC")

    def answers(self):
        try:
            return bool(self.ask("session-get"))
        except OSError:
            return False

    def torrent(self):
        fields = ["leftUntilDone", "status", "recheckProgress", "haveValid", "sizeWhenDone"]
        return self.ask("torrent-get", fields=fields)["torrents"][0]

    def is_complete(self):
        told = self.torrent()
        return told["status"] == 6 and told["haveValid"] == told["sizeWhenDone"] > 0


class Rqbit(Http):
    name = "rqbit"

    def begin(self, folder, complete):
        said = subprocess.run(["rqbit", "--help"], capture_output=True, text=True).stdout
        self.api = free_port()
        command = ["rqbit", "-v", "error", "--http-api-listen-addr", f"127.0.0.1:{self.api}", "--disable-dht"]
        # Options have changed over the years; what a version does not have it does not need.
        for option in ("--disable-upnp-port-forward", "--disable-lsd", "--disable-trackers"):
            command += [option] if option in said else []
        if "--listen-port" in said:
            command += ["--listen-port", str(self.port)]
        else:
            command += ["--tcp-min-port", str(self.port), "--tcp-max-port", str(self.port + 1)]
        if self.connections > 100 and "--peer-limit" in said:
            command += ["--peer-limit", str(self.connections)]
        command += ["server", "start", "--disable-persistence", folder]
        self.child = start(command, self.cores, stdout=self.log, stderr=self.log)
        wait_for("rqbit answers", 20, self.answers, self.child)
        with open(self.stage.torrent, "rb") as file:
            self.ask("/torrents?overwrite=true", file.read())
        live = lambda: self.ask("/torrents/0/stats/v1")["state"] == "live"
        wait_for("rqbit checks", 600, lambda: live() and (not complete or self.is_complete()), self.child)

    def ask(self, path, body=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.api}{path}", body, timeout=30) as answer:
            return json.load(answer)

    def answers(self):
        try:
            return bool(self.ask("/"))
        except OSError:
            return False

    def is_complete(self):
        return self.ask("/torrents/0/stats/v1")["finished"]


CLIENTS = {kind.name.replace(" ", "-"): kind for kind in (Seedring, Libtorrent, LibtorrentSeed, Transmission, Rqbit)}
