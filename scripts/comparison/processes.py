"""Programs that are started, watched and always ended."""

import os
import socket
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")
running = []


class Failed(Exception):
    """A run that gives no figure. The others go on."""


def die(text):
    sys.exit(f"scripts/compare: {text}")


def fail(text):
    raise Failed(text)


def start(command, cores, **more):
    child = subprocess.Popen(["taskset", "-c", cores, *command], stdin=subprocess.DEVNULL, **more)
    running.append(child)
    return child


def stop(child):
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    if child.stdout:
        child.stdout.close()
    running.remove(child)


def stop_all():
    for child in list(running):
        stop(child)


def cpu_of(child):
    """CPU seconds of all its threads, those that have ended included."""
    with open(f"/proc/{child.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def switches_of(child):
    """Context switches of all its threads that are alive."""
    count = 0
    for thread in os.listdir(f"/proc/{child.pid}/task"):
        with open(f"/proc/{child.pid}/task/{thread}/status") as file:
            count += sum(int(line.split(":")[1]) for line in file if "ctxt_switches" in line)
    return count


def memory_of(child):
    """Peak of its resident memory in MiB, and how much of it is its own, not that of mapped files, now."""
    with open(f"/proc/{child.pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    # Who has ended has none.
    kib = lambda name: int(fields.get(name, "0").split()[0]) / 1024
    return kib("VmHWM"), kib("RssAnon")


def wait_for(what, seconds, ready, child):
    until = time.monotonic() + seconds
    while not ready():
        if child.poll() is not None:
            fail(f"{what}: the program ended with {child.returncode}")
        if time.monotonic() > until:
            fail(f"{what}: not within {seconds} seconds")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
