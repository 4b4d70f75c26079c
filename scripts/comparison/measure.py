"""One measurement each: seeding, downloading, checking, on one core and on two."""

import json
import os
import subprocess
import tempfile
import threading
import time

from .clients import Counted
from .processes import cpu_of, fail, memory_of, running, start, switches_of

CLIENT_CORE, LOAD_CORE = "0", "1"


def start_load(stage, cores, arguments):
    """Starts the generator."""
    # Some clients take no more peers than they like: how many were there is told.
    command = [stage.program, "load", *arguments, "--allow-fewer", "--json", stage.torrent, "-d", stage.there]
    return start(command, cores, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end_load(child):
    """Waits for the generator and gives its summary."""
    out, said = child.communicate()
    running.remove(child)
    report = next((told for told in map(json.loads, out.splitlines()) if told["event"] == "load"), None)
    if report is None or not report["ok"]:
        fail(f"`{' '.join(child.args)}` failed: {said.strip()}")
    # All figures are by the byte.
    if report["bytes"] == 0:
        fail(f"`{' '.join(child.args)}` moved nothing")
    if report["connected"] < report["connections"] or report["closed_early"]:
        print(f"  {report['connected']} of {report['connections']} connections were made, {report['closed_early']} ended early",
              flush=True)
    return report


def load(stage, arguments):
    return end_load(start_load(stage, LOAD_CORE, arguments))


def taking(args, port, connections, order, amount, seconds):
    """For the generator to take so many bytes from a seed, or what it gets in so many seconds."""
    return ["download", "--peer", f"127.0.0.1:{port}", "--connections", str(connections), "--order", order,
            "--requests", str(args.requests), "--bytes", str(amount), "--seconds", str(seconds)]


def seed(stage, kind, connections, cache, order):
    args = stage.args
    os.sync()
    stage.warm(stage.there)
    client = kind(stage, CLIENT_CORE, connections)
    client.begin(stage.here, True)
    if cache == "cached":
        stage.warm(stage.here)
    else:
        stage.chill()
        left = stage.cached()
        if left > 0.02:
            fail(f"{client.name}: {left:.0%} of the file stays in the page cache")
    # More than the torrent has would come from the cache.
    amount = args.bytes if cache == "cached" else min(args.bytes, args.size)
    cpu = cpu_of(client.child)
    report = load(stage, taking(args, client.port, connections, order, amount, args.seconds))
    cpu = cpu_of(client.child) - cpu
    peak, own = memory_of(client.child)
    client.stop()
    return {"cpu_seconds_per_gb": cpu / report["bytes"] * 1e9, "gb_per_second": report["bytes_per_second"] / 1e9,
            "peak_mib": peak, "own_mib": own, "bytes": report["bytes"], "load": report,
            "generator_cpu_seconds_per_gb": report["cpu_seconds_per_gb"]}


def empty(folder):
    """Gives the room of the files back, and leaves their names until the end: ext4 without a journal passes over the inodes of
    files deleted in the last minutes, one by one, whenever a file is made, at the expense of the client that comes next."""
    for path, _, names in os.walk(folder):
        for name in names:
            os.truncate(os.path.join(path, name), 0)


def download(stage, kind, connections, *_):
    args = stage.args
    os.sync()
    stage.warm(stage.there)
    folder = tempfile.mkdtemp(dir=stage.work)
    client = kind(stage, CLIENT_CORE, connections)
    client.begin(folder, False)
    cpu = cpu_of(client.child)
    report = load(stage, [
        "upload", "--peer", f"127.0.0.1:{client.port}", "--connections", str(connections), "--timeout", str(args.timeout)])
    # From the first connection on: what the generator needs to map its files is no time of the client's.
    begin = time.monotonic() - report["seconds"]
    client.wait_complete(args.timeout)
    cpu, spent = cpu_of(client.child) - cpu, time.monotonic() - begin
    peak, own = memory_of(client.child)
    client.stop()
    stage.assert_same(folder)
    empty(folder)
    return {"cpu_seconds_per_gb": cpu / args.size * 1e9, "gb_per_second": args.size / spent / 1e9, "peak_mib": peak,
            "own_mib": own, "bytes": args.size, "load": report,
            "generator_cpu_seconds_per_gb": report["cpu_seconds_per_gb"]}


def watch_memory(child, ended, peaks):
    """Notes its peak memory until it has ended: what the kernel tells of children that have counts what their parents had."""
    while not ended.wait(0.02):
        peaks.append(memory_of(child)[0])


def check_seedring(stage, *_):
    child = start([stage.program, "check", "--json", stage.torrent, "-d", stage.here], first_cores(2), stdout=subprocess.DEVNULL)
    begin = time.monotonic()
    ended, peaks = threading.Event(), [memory_of(child)[0]]
    watch = threading.Thread(target=watch_memory, args=(child, ended, peaks))
    watch.start()
    # Not waited for yet: as long as the watch may look, nobody else gets its number.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    spent = time.monotonic() - begin
    ended.set()
    watch.join()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    running.remove(child)
    if child.returncode != 0:
        fail("seedring does not find the payload right")
    return {"seconds": spent, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": max(peaks)}


def check_libtorrent(profile):
    return lambda stage: stage.libtorrent_check(profile, stage.here, first_cores(2))


CHECKERS = {"seedring": check_seedring, "libtorrent": check_libtorrent("default"),
            "libtorrent, 2 hashing threads": check_libtorrent("two hashing threads")}


def check(stage, name, cache):
    if cache == "cached":
        stage.warm(stage.here)
    else:
        stage.chill()
    told = CHECKERS[name](stage)
    return {"cpu_seconds_per_gb": told["cpu"] / stage.args.size * 1e9,
            "gb_per_second": stage.args.size / told["seconds"] / 1e9, "peak_mib": told["peak_mib"]}


def first_cores(count):
    return ",".join(str(core) for core in range(count))


# One torrent on one core and on two, a generator on each of them; or one generator, of one thread, for both. And two programs that
# have nothing in common, on a core each, the generator of each on the same core, or on that of the other one. By the cores of each
# seed and its generators, which end at the same time.
SCALE_SECONDS = 4
SCALES = {
    "seedring --cores 1": [("0", ["0"])],
    "seedring --cores 2": [("0,1", ["0", "1"])],
    "the same, one generator": [("0,1", ["0,1"])],
    "two seedrings --cores 1": [("0", ["0"]), ("1", ["1"])],
    "the same, taken from crosswise": [("0", ["1"]), ("1", ["0"])],
}


def scale(stage, name, connections, order):
    """Seeds and generators have the same cores: so GB/s of one core and of two can be compared."""
    args, seeds = stage.args, [Counted(stage, cores, connections) for cores, _ in SCALES[name]]
    os.sync()
    stage.warm(stage.there)
    for client in seeds:
        client.begin(stage.here, True)
    stage.warm(stage.here)
    before = [(cpu_of(client.child), switches_of(client.child), client.counts()) for client in seeds]
    takers = [(client, cores) for client, (_, generators) in zip(seeds, SCALES[name]) for cores in generators]
    share = max(1, connections // len(takers))
    loads = [start_load(stage, cores, taking(args, client.port, share, order, 8 * args.bytes, SCALE_SECONDS))
             for client, cores in takers]
    reports = [end_load(child) for child in loads]
    moved = sum(report["bytes"] for report in reports)
    cpu, switches, operations, batches, peak = 0, 0, 0, 0, 0
    for client, (cpu_before, switches_before, counts_before) in zip(seeds, before):
        cpu += cpu_of(client.child) - cpu_before
        switches += switches_of(client.child) - switches_before
        counts = client.counts()
        operations += counts["operations"] - counts_before["operations"]
        batches += counts["submissions"] - counts_before["submissions"]
        peak += memory_of(client.child)[0]
        client.stop()
    return {"cpu_seconds_per_gb": cpu / moved * 1e9, "peak_mib": peak, "bytes": moved, "load": reports,
            "gb_per_second": moved / max(report["seconds"] for report in reports) / 1e9,
            "generator_cpu_seconds_per_gb": sum(report["cpu_seconds_per_gb"] * report["bytes"] for report in reports) / moved,
            "operations_per_mb": operations / moved * 1e6, "batches_per_mb": batches / moved * 1e6,
            "switches_per_mb": switches / moved * 1e6}
