"""What bench/balloon.py compares: a guest with its balloon, three ways, and the
kernel's own call on a file like the guest's memory."""

import contextlib
import ctypes
import mmap
import os
import re
import subprocess
import time
from collections import namedtuple
from pathlib import Path

from bed import BalloonDriver, Deadline
from bed.balloon_driver import module
from bed.uml import MODULES

GIB = 1 << 30
PIECE = 64 << 10        # of which every other one is in use in a fragmented guest
GUEST_BYTES = 8 * GIB
#: Left to the guest by what fills its memory, MiB.
SPARE_MIB = 100
PATIENCE = 300

#: name: the guest's driver, and options of the device
SIDES = {
    # As QEMU's: page by page, and no promise about pages that come back.
    "stock": ("virtio_balloon", ("--single-pages", "--hide=must-tell-host")),
    "merged": ("virtio_balloon", ()),
    "umbra": ("umbra_balloon", ()),
}

STAGES = ("allocate", "send", "translate", "discard")

#: Of one way to a target: milliseconds; bytes that the host held before and after
#: of the memory file, and the file's size; messages; discards; ms of each stage,
#: or None with a driver that does not tell.
Move = namedtuple("Move", "ms before after size messages discards stages")


class NotFreed(Exception):
    """The host holds memory that it should have got back."""


class NotHuge(Exception):
    """The host has no huge pages to give."""


#: Punches every other piece out of a file, in the guest.
_FRAGMENT = """
import ctypes, os, sys
name, piece = sys.argv[1], int(sys.argv[2])
file = os.open(name, os.O_RDWR)
fallocate = ctypes.CDLL(None, use_errno=True).fallocate
fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
for at in range(0, os.fstat(file).st_size, 2 * piece):
    if fallocate(file, 3, at, piece):
        raise OSError(ctypes.get_errno(), "fallocate")
"""


class Side:
    """A guest with a balloon, one of SIDES."""

    def __init__(self, bed, name):
        self.name = name
        driver, options = SIDES[name]
        # Without reporting: memory comes back through the balloon alone.
        self.balloon = bed.balloon("--hide=reporting", "--stall=60000", *options,
                                   name=name)
        stock = next(MODULES.rglob("virtio_balloon.ko"))
        self.guest = bed.uml(self.balloon, name=f"{name}-guest",
                             memory=f"{GUEST_BYTES >> 20}M",
                             modules=(stock, module(bed)))
        self.guest.check("mount -t tmpfs -o size=100% tmpfs /host/mnt && "
                         f"insmod /modules/{driver}.ko")
        self.balloon.wait_driver()
        self._driver = BalloonDriver(self.guest) if driver == "umbra_balloon" else None
        self._file = next(f"/proc/{self.balloon.pid}/fd/{fd}"
                          for fd, target in self.balloon.fds().items()
                          if self.guest.memory_name in target)

    def end(self):
        self.guest.poweroff()
        self.balloon.terminate()

    # What the guest does with its memory

    def leave(self):
        """Nothing."""

    def touch(self):
        """Write to all that is free, and free it again."""
        self._fill()
        self.guest.check("rm /host/mnt/filled")
        self._populate()

    def fragment(self):
        """The same, but keep every other piece."""
        self._fill()
        self.guest.check(self.guest.host_tool(
            "python3", "-ISc", _FRAGMENT, "/mnt/filled", PIECE), PATIENCE)
        self._populate()

    def _fill(self):
        free = re.search(r"MemFree: +(\d+) kB", self.guest.check("cat /proc/meminfo"))
        self.guest.check("dd if=/dev/zero of=/host/mnt/filled bs=1M "
                         f"count={(int(free[1]) >> 10) - SPARE_MIB} 2>/dev/null", PATIENCE)

    def _populate(self):
        """The rest, which the guest could not fill: so that the host holds every
        page, and must get back as much as goes into the balloon."""
        file = os.open(self._file, os.O_RDWR)
        try:
            os.posix_fallocate(file, 0, os.fstat(file).st_size)
        finally:
            os.close(file)

    def huge_bytes(self):
        """Of the guest's memory that is mapped as huge pages."""
        return huge_bytes(self.guest.process.pid)

    # Moving

    def move(self, bytes_):
        """To a balloon of this size; a Move."""
        stages = self._stages()
        query, before = self.balloon.query(), os.stat(self._file)
        begin = time.monotonic()
        data = self.balloon.settle(take=bytes_, force=True, deadline=PATIENCE)
        # The device's account; the driver may have to see it, or to free pages.
        if data["reached"]:
            limit = Deadline(PATIENCE, f"the driver of {self.name} to be done")
            while self.balloon.query()["driver-ballooned"] != bytes_:
                time.sleep(min(0.0002, limit.left()))
        ms = (time.monotonic() - begin) * 1000
        assert data["reached"], f"{self.name}: {data}"
        after, query_after = os.stat(self._file), self.balloon.query()
        stages = [(now - then) / 1e6 for now, then in zip(self._stages(), stages)]
        return Move(ms, before.st_blocks * 512, after.st_blocks * 512, after.st_size,
                    query_after["messages"] - query["messages"],
                    query_after["discards"] - query["discards"],
                    dict(zip(STAGES, stages)))

    def _stages(self):
        """ns of each so far."""
        if not self._driver:
            return ()
        query = self.balloon.query()
        return (self._driver.number("allocate_ns"), self._driver.number("send_ns"),
                query["translate-us"] * 1000, query["discard-us"] * 1000)


def check_freed(move, bytes_, was_held):
    """If the host held all memory, it got back as much as is in the balloon; if not,
    it holds nothing of that now."""
    if was_held and move.before - move.after < bytes_:
        raise NotFreed(
            f"{bytes_} bytes went into the balloon, and the host got "
            f"{move.before - move.after} back: it held {move.before}, now {move.after}")
    if not was_held and move.after > move.size - bytes_:
        raise NotFreed(
            f"{bytes_} bytes are in the balloon, and the host holds {move.after} of the "
            f"{move.size} bytes of the guest's memory file, expected at most "
            f"{move.size - bytes_}")


def huge_bytes(pid="self"):
    """Of shared memory that a process has mapped as huge pages."""
    return sum(int(kib) << 10 for kib in re.findall(
        r"^ShmemPmdMapped: +(\d+) kB", Path(f"/proc/{pid}/smaps").read_text(), re.M))


def check_huge(mapped, bytes_):
    """Tmpfs takes small pages where there are no huge ones, and says nothing."""
    if mapped < bytes_ * 0.95:
        raise NotHuge(f"{mapped} bytes are mapped as huge pages, expected about {bytes_}: "
                      "the machine's free memory is too little, or too fragmented")


def compact():
    """Have the host's kernel make huge pages of what is free."""
    Path("/proc/sys/vm/compact_memory").write_text("1")


# --- the limit ----------------------------------------------------------------

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_POPULATE_WRITE = 23            # madvise(2): as if each page had been written to


def _punch(file, starts, length):
    """Seconds for a hole of this length at each start."""
    fallocate, mode = _LIBC.fallocate, _KEEP_SIZE | _PUNCH_HOLE
    begin = time.monotonic()
    for start in starts:
        fallocate(file, mode, start, length)
    return time.monotonic() - begin


def raw_punch(directory, bytes_, populate, pieces=False, huge=False):
    """Milliseconds to punch so many bytes out of a file there, which is mapped like a
    guest's memory and, if populated, through the mapping.  By one call, or by one for
    every other piece."""
    starts, length = [0], bytes_
    if pieces:
        starts, length = range(0, 2 * bytes_, 2 * PIECE), PIECE
    size = 2 * bytes_ if pieces else bytes_
    file = os.open(directory, os.O_RDWR | os.O_TMPFILE)
    try:
        os.ftruncate(file, size)
        with mmap.mmap(file, size) as memory:
            if populate:
                memory.madvise(_POPULATE_WRITE)
            if huge:
                check_huge(huge_bytes(), size)
            before = os.fstat(file).st_blocks * 512
            # What the loop and the way into libc cost is not the kernel's.
            seconds = _punch(file, starts, length) - _punch(-1, starts, length)
            freed = before - os.fstat(file).st_blocks * 512
            if populate and freed != bytes_:
                raise NotFreed(f"fallocate freed {freed} bytes of a file, "
                               f"expected {bytes_}")
    finally:
        os.close(file)
    return seconds * 1000


@contextlib.contextmanager
def huge_memory(bed):
    """Guests that are started meanwhile have their memory in huge pages."""
    place, usual = bed.path("huge"), bed.memory_directory
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always,size=100%", "none",
                    place], check=True)
    try:
        bed.memory_directory = place
        yield
    finally:
        bed.memory_directory = usual
        # Lazily: what is still open, of guests that have not ended, goes with them.
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()
