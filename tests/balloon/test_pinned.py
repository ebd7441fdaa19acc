"""`umbra balloon` beside devices that have guest memory pinned: what is pinned is not
given back, whether the operator says it or another process, and nothing is reported
unasked."""

import contextlib
import ctypes
import fcntl
import mmap
import os
import struct

import pytest

from bed import Frontend, wait_until
from bed.frontend import OK, PAGE, MemoryFile, Region, Status, extent, message, DEFLATE
from bed.simulated_balloon import PAGE_BITMAP, REPORTING

MIB = 1 << 20
SIZE = 4 * MIB

_SETUP, _ENTER, _REGISTER = 425, 426, 427       # io_uring, by system call number
_libc = ctypes.CDLL(None, use_errno=True)


def memory():
    return Region(0x40000000, SIZE, MemoryFile.memfd(SIZE))


class PinningDevice:
    """A device that reads guest memory by pages that it has pinned: io_uring with a
    registered buffer, which pins as VFIO and vDPA do (FOLL_LONGTERM)."""

    def __init__(self, region, length):
        self._out = os.memfd_create("device")
        parameters = ctypes.create_string_buffer(120)
        self._fd = _libc.syscall(_SETUP, 4, parameters)
        if self._fd < 0:
            pytest.skip(f"no io_uring: {os.strerror(ctypes.get_errno())}")
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(region.file.map))
        buffer = struct.pack("<QQ", self._address, length)
        if _libc.syscall(_REGISTER, self._fd, 0, buffer, 1):
            pytest.skip(f"nothing can be pinned: {os.strerror(ctypes.get_errno())}")
        entries, completions = struct.unpack_from("<II", parameters)
        self._sq_at = struct.unpack_from("<10I", parameters, 40)
        self._cq_at = struct.unpack_from("<10I", parameters, 80)
        self._sq = mmap.mmap(self._fd, self._sq_at[6] + 4 * entries, offset=0)
        self._cq = mmap.mmap(self._fd, self._cq_at[5] + 16 * completions, offset=0x8000000)
        self._sqes = mmap.mmap(self._fd, 64 * entries, offset=0x10000000)
        self._mask, self._cq_mask, self._tail = entries - 1, completions - 1, 0

    def read(self, offset, length):
        """The bytes that the device finds there."""
        at = self._tail & self._mask
        struct.pack_into("<BBHiQQIIQHHIQQ", self._sqes, 64 * at, 5, 0, 0, self._out, 0,
                         self._address + offset, length, 0, 1, 0, 0, 0, 0, 0)
        struct.pack_into("<I", self._sq, self._sq_at[6] + 4 * at, at)
        self._tail += 1
        struct.pack_into("<I", self._sq, self._sq_at[1], self._tail)
        assert _libc.syscall(_ENTER, self._fd, 1, 1, 1, None, 0) == 1
        head, = struct.unpack_from("<I", self._cq, self._cq_at[0])
        _, result, _ = struct.unpack_from("<QiI", self._cq,
                                          self._cq_at[5] + 16 * (head & self._cq_mask))
        struct.pack_into("<I", self._cq, self._cq_at[0], head + 1)
        assert result == length
        return os.pread(self._out, length, 0)


def test_a_device_that_has_memory_pinned_finds_what_the_guest_has_written(bed):
    balloon = bed.balloon("--pinned")
    ram = memory()
    driver = Frontend(bed, balloon, [ram])
    device = PinningDevice(ram, PAGE)
    assert device.read(0, 8) == ram.file.map[:8]
    assert driver.inflate(extent(ram.pfn)) == Status(1, OK, 1)
    driver.send(DEFLATE, message(extent(ram.pfn)))
    ram.file.map[:8] = b"anew got"
    assert device.read(0, 8) == b"anew got"


def test_pinned_gives_nothing_back_and_says_so(bed):
    balloon = bed.balloon("--pinned")
    assert balloon.query()["discarding"] == "none"
    ram = memory()
    driver = Frontend(bed, balloon, [ram])
    assert driver.inflate(extent(ram.pfn, 21)) == Status(512, OK, 1)
    assert ram.file.held == SIZE and len(ram.file.intact()) == ram.pages
    query = balloon.query()
    assert query["ballooned"] == query["kept"] == 2 * MIB
    assert query["given-back"] == query["discards"] == query["discard-errors"] == 0
    assert query["discarding"] == "none" and query["kept-reason"].startswith("--pinned")
    assert all(not region["given-back"] for region in query["regions"])


@contextlib.contextmanager
def pinned_by_another(file):
    """Another process's lock that says so, on a description of its own."""
    fd = os.open(f"/proc/self/fd/{file.fd}", os.O_RDONLY)
    try:
        fcntl.fcntl(fd, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET,
                                        0x756d627261000, 1, 0))     # F_OFD_SETLK
        yield
    finally:
        os.close(fd)


def test_a_balloon_that_comes_after_the_device_gives_nothing_back_and_says_why(bed):
    balloon = bed.balloon()
    ram, free = memory(), Region(0x80000000, SIZE, MemoryFile.memfd(SIZE))
    with pinned_by_another(ram.file):
        driver = Frontend(bed, balloon, [ram, free])
        query = balloon.query()
        assert query["discarding"] == "some"
        assert "a device may have its pages pinned" in query["kept-reason"]
        assert driver.inflate(extent(ram.pfn, 21), extent(free.pfn, 21)) == \
            Status(1024, OK, 2)
    assert ram.file.held == SIZE and free.file.held == 2 * MIB
    assert "a device may have its pages pinned" in balloon.process.output()
    # A table that is sent again is judged anew.
    driver.set_memory([ram, free])
    assert balloon.query()["discarding"] == "all"


def test_a_balloon_learns_of_a_device_that_comes_later(bed):
    balloon = bed.balloon()
    ram = memory()
    driver = Frontend(bed, balloon, [ram])
    assert driver.inflate(extent(ram.pfn, 20)) == Status(256, OK, 1)
    assert ram.file.held == 3 * MIB and balloon.query()["discarding"] == "all"
    with pinned_by_another(ram.file):
        assert driver.inflate(extent(ram.pfn + 512, 20)) == Status(256, OK, 1)
    assert ram.file.held == 3 * MIB
    query = balloon.query()
    assert query["given-back"] == query["kept"] == MIB
    assert wait_until(lambda: "pages pinned" in balloon.query().get("kept-reason", ""),
                      "the balloon to say why")


def test_free_pages_are_reported_only_if_that_is_asked_for(bed):
    ram = memory()
    for options, offered in ((["--report"], True), ([], False), (["--pinned"], False)):
        balloon = bed.balloon(*options, name=f"b{len(options)}{offered}")
        driver = Frontend(bed, balloon, [ram], features=(PAGE_BITMAP,))
        bits, = struct.unpack("<Q", driver._ask(1))
        assert bool(bits >> REPORTING & 1) == offered
