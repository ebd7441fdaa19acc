"""`umbra balloon` and messages that cost much: one of 64 KiB can name more than two
hundred thousand runs.  What else is wanted of the device is done in between; nothing here
is timed, what counts is what has been done when something else is answered."""

import mmap
import os
import struct

from bed import Frontend, wait_until
from bed.frontend import DEFLATE, INFLATE, OK, Region, Status, extent, message

GIB = 1 << 30
RECORDS = 1023
LARGE = message(*(struct.pack("<Q", (4 * GIB >> 12) + 448 * n | 12 << 52 | 56 << 58)
                  + struct.pack("<Q", 0x5555555555555555) * 7 for n in range(RECORDS)))
#: What becomes of it: every other page of 1.75 GiB.
PAGES = RECORDS * 224
#: Enough to be at it for long, in whatever turns.
COUNT = 4


class Sparse:
    """Memory of which nothing is touched."""

    def __init__(self, size):
        self.size = size
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.map = mmap.mmap(self.fd, size)

    @property
    def held(self):
        return os.fstat(self.fd).st_blocks * 512


def begin(bed, balloon):
    driver = Frontend(bed, balloon, [Region(4 * GIB, 2 * GIB, Sparse(2 * GIB))])
    driver.post(INFLATE, *[LARGE] * COUNT)
    wait_until(lambda: balloon.query()["discards"], "the device to be at work")
    return driver


def test_another_queue_is_stopped_while_one_is_at_work(bed):
    balloon = bed.balloon()
    driver = begin(bed, balloon)
    assert driver.stop(DEFLATE) == 0
    assert driver._used(INFLATE) < COUNT
    # And nothing is lost by it.
    assert driver.collect(INFLATE, COUNT, deadline=600) == [Status(PAGES, OK, RECORDS)] * COUNT
    assert balloon.query()["ballooned"] == PAGES * 4096


def test_a_queue_is_stopped_in_the_midst_of_its_messages_and_goes_on_there(bed):
    balloon = bed.balloon()
    driver = begin(bed, balloon)
    base = driver.stop(INFLATE)
    assert base == driver._used(INFLATE) < COUNT
    assert balloon.query()["messages"] == base


def test_the_program_ends_while_messages_wait(bed):
    balloon = bed.balloon()
    driver = begin(bed, balloon)
    balloon.terminate(deadline=60)
    assert driver._used(INFLATE) < COUNT


def test_a_long_run_is_cut_at_multiples_of_1_gib_of_its_file(bed):
    """Where no page goes on, however large."""
    balloon = bed.balloon()
    region = Region(4 * GIB, 2 * GIB, Sparse(3 * GIB), 1 << 20)
    driver = Frontend(bed, balloon, [region])
    region.file.map[GIB - 4096:GIB + 4096] = b"x" * 8192
    held = region.file.held
    assert driver.inflate(extent(region.pfn, 31)) == Status(2 * GIB // 4096, OK, 1)
    query = balloon.query()
    assert query["discards"] == 3 and query["discarded"] == query["ballooned"] == 2 * GIB
    assert held == 8192 and region.file.held == 0
