"""`umbra balloon` and files that are not mere memory: disk images that a memory table
names, and files of a server that does not answer."""

import fcntl
import os
import socket
import struct
import tempfile
from pathlib import Path

import pytest

from bed import Frontend, SilentFiles
from bed.frontend import OK, MemoryFile, Refused, Region, Status, extent
from bed.wait import PATIENCE

MIB = 1 << 20
SIZE = 4 * MIB


@pytest.fixture
def disk(bed):
    """A folder on a file system of this machine that is not in memory."""
    for place in ("/var/tmp", "/tmp", Path(__file__).parent):
        with tempfile.TemporaryDirectory(prefix="umbra-", dir=place) as folder:
            with open(Path(folder) / "probe", "w") as probe:
                if not _is_memory(probe.fileno()):
                    yield Path(folder)
                    bed.stop()
                    return
    pytest.skip("there is no disk here, only memory")


def _is_memory(fd):
    try:
        fcntl.fcntl(fd, 1034)                   # F_GET_SEALS
        return True
    except OSError:
        return False


def image(folder, keep_name=True):
    """A filled file in that folder."""
    path = folder / "image"
    file = MemoryFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), SIZE)
    os.fsync(file.fd)
    if not keep_name:
        path.unlink()
    return file


def memory():
    return Region(0x40000000, SIZE, MemoryFile.memfd(SIZE))


def second(file):
    return Region(0x80000000, SIZE, file)


def region_of(balloon, region):
    return next(r for r in balloon.query()["regions"] if r["gpa"] == region.gpa)


def check_kept(bed, balloon, region, reason):
    """All of the region goes into the balloon, and stays what it was."""
    ram = memory()
    driver = Frontend(bed, balloon, [ram, region])
    before = os.fstat(region.file.fd).st_blocks
    assert driver.inflate(extent(region.pfn, 22)) == Status(SIZE // 4096, OK, 1)
    assert driver.inflate(extent(ram.pfn, 21)) == Status(512, OK, 1)
    assert len(region.file.intact()) == region.pages
    assert os.fstat(region.file.fd).st_blocks == before
    assert ram.file.held == SIZE - 2 * MIB
    query = balloon.query()
    assert query["ballooned"] == SIZE + 2 * MIB
    assert query["kept"] == SIZE and query["given-back"] == 2 * MIB
    assert query["discarding"] == "some" and reason in query["kept-reason"]
    shown = region_of(balloon, region)
    assert not shown["given-back"] and reason in shown["reason"]
    assert region_of(balloon, ram) == {"gpa": ram.gpa, "size": SIZE, "page-size": 4096,
                                       "given-back": True}


@pytest.mark.parametrize("keep_name", [True, False], ids=["named", "unlinked"])
def test_an_ordinary_file_keeps_its_content_and_the_query_says_why(bed, disk, keep_name):
    region = second(image(disk, keep_name))
    check_kept(bed, bed.balloon("--hide=reporting"), region, "whose content a discard would")


def test_a_file_in_memory_that_has_a_name_keeps_its_content(bed):
    region = second(image(Path(bed.directory)))
    assert _is_memory(region.file.fd), "the bed is not in memory"
    check_kept(bed, bed.balloon("--hide=reporting"), region, "1 name in a folder")


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_a_file_that_the_operator_names_is_given_back(bed, request, where):
    folder = request.getfixturevalue("disk") if where == "disk" else Path(bed.directory)
    # By another path than the front-end's, and before there is a file.
    other = folder / "by" / ".." / "image"
    (folder / "by").mkdir()
    balloon = bed.balloon("--hide=reporting", f"--discard-file={other}")
    region = second(image(folder))
    driver = Frontend(bed, balloon, [memory(), region])
    assert driver.inflate(extent(region.pfn, 21)) == Status(512, OK, 1)
    assert region.file.intact() == set(range(512, region.pages))
    query = balloon.query()
    assert query["discarding"] == "all" and query["kept"] == 0
    assert "kept-reason" not in query
    assert region_of(balloon, region)["given-back"]


# Files of others

@pytest.fixture
def silent(bed):
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no FUSE file system can be mounted here")
    return SilentFiles(bed, SIZE)


def silent_region(silent):
    """A region in the server's file; the server is silent from now on."""
    file = MemoryFile.memfd(SIZE)
    os.close(file.fd)
    file.fd = silent.open()
    silent.silence()
    return second(file)


def test_a_file_of_a_server_is_refused_without_asking_the_server(bed, silent):
    balloon = bed.balloon("--hide=reporting")
    ram = memory()
    driver = Frontend(bed, balloon, [ram])
    foreign = silent_region(silent)
    # Were the server asked, nothing would come back before the bed's patience ends.
    with pytest.raises(Refused):
        driver.add_region(foreign)
    assert "'fuse'" in balloon.process.output()
    # The thread that answered goes on, and so does the worker's.
    assert driver.inflate(extent(ram.pfn, 21)) == Status(512, OK, 1)
    assert balloon.query()["host-bytes"] == ram.file.held + driver.own_bytes
    # The kernel keeps the process until the server is gone: its file was closed.
    silent.process.kill()


class Talker(Frontend):
    """A front-end that only negotiates, with whatever device there is."""

    def connect(self):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(self.balloon.socket))
        self._ask(1)
        self._tell(16, struct.pack("<Q", 1 << 3))
        self.request(3)
        self.request(2, struct.pack("<Q", self._features))


def test_the_shadow_takes_no_file_of_a_server_either(bed, silent):
    shadow = bed.umbra(bed.backend())
    foreign = silent_region(silent)
    driver = Talker(bed, shadow, [], features=())
    with pytest.raises(Refused):
        driver.set_memory([foreign])
    assert "'fuse'" in shadow.process.output()
    # The connection lives.
    driver.set_memory([memory()])
    driver.disconnect()
    shadow.wait_state("waiting")
    silent.process.kill()


def test_a_query_is_answered_while_the_devices_thread_waits_for_a_peer(bed):
    """With what that thread saw last, and how long ago."""
    balloon = bed.balloon("--hide=reporting")
    ram = memory()
    driver = Frontend(bed, balloon, [ram])
    held = balloon.query()["host-bytes"]
    assert held == ram.file.held + driver.own_bytes
    half, rest = struct.pack("<II", 3, 1 | 8), struct.pack("<I", 0)
    driver._socket.sendall(half)
    query = balloon.qmp.execute("query-balloon")
    assert query["host-bytes"] == held and query["host-bytes-age-ms"] is not None
    driver._socket.sendall(rest)
    assert driver._answer(3) == bytes(8)
    assert balloon.query()["host-bytes-age-ms"] is not None
