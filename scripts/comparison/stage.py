"""The payload on disk: made, cached or not, torrents of it, and whether a copy is the same."""

import ctypes
import filecmp
import mmap
import os
import random
import shutil
import subprocess

from .clients import LIBTORRENT, Libtorrent
from .processes import fail

MIB = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)


class Stage:
    """The payload in two copies, one for clients and one for the generator, and torrents of it."""

    def __init__(self, args, files, piece_length):
        self.args, self.work, self.program = args, args.work, args.program
        self.seedring_help, self.memory_limit = args.seedring_help, args.memory_limit
        self.files, self.piece_length = files, piece_length
        self.base = os.path.join(self.work, f"files-{files}")
        self.here, self.there = (os.path.join(self.base, side) for side in ("here", "there"))
        if not os.path.isdir(self.base):
            # Under another name until it is whole: a disk that is full fails this try, and the next begins anew.
            part = self.base + ".part"
            shutil.rmtree(part, ignore_errors=True)
            make_payload(os.path.join(part, "here"), files, args.size)
            shutil.copytree(os.path.join(part, "here"), os.path.join(part, "there"))
            os.sync()
            os.rename(part, self.base)
        self.payload = os.path.join(self.here, "payload")
        self.torrent = os.path.join(self.base, f"{piece_length}.torrent")
        self.resume = self.torrent + ".resume"
        if not os.path.exists(self.torrent):
            run_seedring([self.program, "create", self.payload, "-o", self.torrent, "--piece-length", str(piece_length)])

    def resume_data(self, folder):
        """libtorrent's word that all is there, so that it does not check, and maps no file, before it serves."""
        if not os.path.exists(self.resume):
            self.libtorrent_check("default", folder, "0")
        return self.resume

    def libtorrent_check(self, profile, folder, cores):
        client = Libtorrent(self, cores, 0)
        client.run(["/usr/bin/python3", LIBTORRENT, "check", profile, self.torrent, folder,
                    str(client.port), self.resume])
        told = client.until("checked")
        client.stop()
        if not told["good"]:
            fail("libtorrent does not find the payload right")
        return told

    def paths(self, side):
        for folder, _, names in os.walk(side):
            yield from (os.path.join(folder, name) for name in names)

    def warm(self, side):
        for path in self.paths(side):
            with open(path, "rb", buffering=0) as file:
                while file.read(MIB):
                    pass

    def chill(self):
        """Drops the clients' copy from the page cache."""
        for path in self.paths(self.here):
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def cached(self):
        """How much of the clients' copy is in the page cache, 0 to 1."""
        pages = [0, 0]
        for path in self.paths(self.here):
            length = os.path.getsize(path)
            if length == 0:
                continue
            with open(path, "r+b") as file, mmap.mmap(file.fileno(), length) as mapped:
                count = -(-length // mmap.PAGESIZE)
                there = (ctypes.c_ubyte * count)()
                address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
                if LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), there) != 0:
                    fail(f"mincore: {os.strerror(ctypes.get_errno())}")
                pages[0] += sum(page & 1 for page in there)
                pages[1] += count
        return pages[0] / max(1, pages[1])

    def assert_same(self, folder):
        for path in self.paths(self.here):
            other = os.path.join(folder, os.path.relpath(path, self.here))
            if not os.path.exists(other) or not filecmp.cmp(path, other, shallow=False):
                fail(f"{other} is not what was uploaded")


def make_payload(folder, files, total):
    """`payload`: one file, or a folder of files of unequal lengths."""
    rng = random.Random(7)
    os.makedirs(folder)
    if files == 1:
        lengths = {os.path.join(folder, "payload"): total}
    else:
        os.mkdir(os.path.join(folder, "payload"))
        cuts = sorted(rng.sample(range(1, total), files - 1))
        lengths = {os.path.join(folder, "payload", f"{number:05}"): end - begin
                   for number, (begin, end) in enumerate(zip([0, *cuts], [*cuts, total]))}
    for path, length in lengths.items():
        with open(path, "wb") as file:
            while length > 0:
                part = min(length, MIB)
                file.write(rng.randbytes(part))
                length -= part


def file_system(folder):
    best = ("", "unknown")
    with open("/proc/self/mounts") as file:
        for line in file:
            _, point, kind = line.split()[:3]
            inside = os.path.realpath(folder).startswith(point.rstrip("/") + "/")
            best = max(best, (point, kind)) if inside else best
    return best[1]


def run_seedring(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        fail(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
