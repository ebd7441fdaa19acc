"""`umbra balloon` with a front-end of our own: files of every kind, tables that
change, drivers that lie.  What is discarded are real pages of real files."""

import os
import random
import signal
import struct
import threading

import pytest

from bed import Frontend
from bed.frontend import (BAD_HEADER, BAD_LENGTH, BAD_RECORD, DEFLATE, INFLATE, OK, OUTSIDE,
                          PAGE, MemoryFile, Refused, Region, Status, bitmap, extent,
                          message, run)
from bed.simulated_balloon import PAGE_BITMAP

MIB = 1 << 20
HUGE = 512              # pages in a large page


@pytest.fixture
def balloon(bed):
    return bed.balloon("--stall=2000")


def two_regions():
    """With a hole between; neither is aligned to more than a page."""
    return [Region(0x40003000, 8 * MIB, MemoryFile.memfd(8 * MIB)),
            Region(0x80005000, 4 * MIB, MemoryFile.memfd(4 * MIB))]


def all_pages(region):
    return set(range(region.pages))


def check_account(balloon, pages):
    assert balloon.query()["ballooned"] == pages * PAGE


# Which pages

def test_the_first_and_the_last_page_of_each_region_go_alone(bed, balloon):
    regions = two_regions()
    driver = Frontend(bed, balloon, regions)
    for region in regions:
        for page in (0, region.pages - 1):
            assert driver.inflate(extent(region.pfn + page)) == Status(1, OK, 1)
        assert region.file.held == region.size - 2 * PAGE
        assert region.file.intact() == all_pages(region) - {0, region.pages - 1}
    check_account(balloon, 4)
    for region in regions:
        driver.deflate(extent(region.pfn), extent(region.pfn + region.pages - 1))
    check_account(balloon, 0)


def test_a_single_page_goes_whatever_its_number(bed, balloon):
    """Of 2016: a page whose number was a multiple of 64 was never sent."""
    region = two_regions()[0]
    driver = Frontend(bed, balloon, [region])
    first = -region.pfn % 64
    gone = set()
    for page in (first, first + 64, first + 1, first + 63, first + 512 + 64):
        record = extent if page % 2 else lambda pfn: bitmap(pfn, 1)
        assert driver.inflate(record(region.pfn + page)) == Status(1, OK, 1)
        gone.add(page)
        assert region.file.held == region.size - len(gone) * PAGE
    assert any((region.pfn + page) % 64 == 0 for page in gone)
    assert region.file.intact() == all_pages(region) - gone


def test_what_lies_beside_a_region_is_refused_and_the_rest_of_the_message_counts(bed, balloon):
    low, high = regions = two_regions()
    driver = Frontend(bed, balloon, regions)
    for record in (extent(low.pfn - 1), extent(low.pfn + low.pages), extent(high.pfn - 1),
                   extent(high.pfn + high.pages), extent(low.pfn - 1, 13),
                   extent(low.pfn + low.pages - 1, 13), extent(low.pfn, 31),
                   extent(0, 63), bitmap(low.pfn + low.pages - 1, 0b11),
                   bitmap(low.pfn, 0b11, 12 + 18), extent(0)):
        status = driver.inflate(extent(low.pfn + 1), record, extent(high.pfn + 1))
        assert status.code in (OUTSIDE, BAD_RECORD) and status.record == 1
        assert status.pages == 2
    for region in regions:
        assert region.file.held == region.size - PAGE
        assert region.file.intact() == all_pages(region) - {1}
    check_account(balloon, 2)
    assert balloon.query()["refused-records"] == 11


@pytest.mark.parametrize("data, code", [
    (message(extent((1 << 52) - 1, 12)), OUTSIDE),
    (message(extent((1 << 52) - 1, 13)), BAD_RECORD),
    (message(extent((1 << 52) - 1, 63)), BAD_RECORD),
    (message(extent(1, 63)), OUTSIDE),
    (message(bitmap((1 << 52) - 64, 1 << 63)), OUTSIDE),
    (message(bitmap((1 << 52) - 63, 1 << 63)), BAD_RECORD),
    (message(bitmap(0, 1 << 447, 63)), BAD_RECORD),
    (message(extent(0x40003, 11)), BAD_RECORD),
    (message(extent(0x40003, 0)), BAD_RECORD),
    (message(struct.pack("<Q", 0x40003 | 12 << 52 | 56 << 58)), BAD_RECORD),
    (message(struct.pack("<Q", 0x40003 | 12 << 52 | 63 << 58), bytes(64)), BAD_RECORD),
    (message(struct.pack("<Q", 0x40003 | 12 << 52 | 9 << 58), bytes(16)), BAD_RECORD),
    (struct.pack("<Q", 16 << 32) + extent(0x40003), BAD_LENGTH),
    (struct.pack("<Q", 0xfffffff8 << 32) + extent(0x40003), BAD_LENGTH),
    (struct.pack("<Q", 7 << 32) + extent(0x40003), BAD_LENGTH),
    (b"", BAD_LENGTH),
    (bytes(7), BAD_LENGTH),
    (struct.pack("<Q", 1 | 8 << 32) + extent(0x40003), BAD_HEADER),
    (struct.pack("<Q", 1 << 8 | 8 << 32) + extent(0x40003), BAD_HEADER),
    (struct.pack("<Q", 1 << 31 | 8 << 32) + extent(0x40003), BAD_HEADER),
], ids=lambda value: f"{value.hex() or 'empty':.32}" if isinstance(value, bytes) else None)
def test_a_message_that_lies_touches_nothing(bed, balloon, data, code):
    regions = two_regions()
    driver = Frontend(bed, balloon, regions)
    for queue in (INFLATE, DEFLATE):
        status, = driver.send(queue, data)
        assert status == Status(0, code, 0)
    for region in regions:
        assert region.file.held == region.size
    # And it goes on.
    assert driver.inflate(extent(regions[0].pfn)) == Status(1, OK, 1)
    query = balloon.query()
    assert query["refused-records"] + query["refused-messages"] == 2


# Pages larger than 4 KiB

def in_large_pages(flags, directory=None, count=8):
    size = count * HUGE * PAGE
    file = MemoryFile.temporary(directory, size) if directory else \
        MemoryFile.memfd(size, flags)
    assert file.held == size
    assert os.fstat(file.fd).st_blksize == HUGE * PAGE, "not in large pages"
    return Region(0x40000000, size, file)


@pytest.fixture(params=["hugetlbfs", "tmpfs"])
def large(request):
    """A region in large pages: 8 of 512 each."""
    if request.param == "hugetlbfs":
        return in_large_pages(request.getfixturevalue("reserved_pages"))
    return in_large_pages(0, request.getfixturevalue("huge_directory"))


def large_pages_of(region):
    return region.file.held // (HUGE * PAGE)


def test_a_large_page_goes_when_a_message_names_all_of_it(large, bed, balloon):
    driver = Frontend(bed, balloon, [large])
    assert driver.inflate(extent(large.pfn + HUGE, 21)) == Status(HUGE, OK, 1)
    assert large_pages_of(large) == 7
    # Two and two halves, which stay on hugetlbfs.
    assert driver.inflate(*run(large.pfn + 3 * HUGE + 256, 3 * HUGE)).pages == 3 * HUGE
    assert large_pages_of(large) <= 5
    named = set(range(HUGE, 2 * HUGE)) | set(range(3 * HUGE + 256, 6 * HUGE + 256))
    assert large.file.intact() >= all_pages(large) - named
    check_account(balloon, 4 * HUGE)
    assert balloon.query()["discard-errors"] == 0


def test_a_large_page_goes_when_the_last_of_several_messages_completes_it(large, bed, balloon):
    driver = Frontend(bed, balloon, [large])
    pieces = [large.pfn + 2 * HUGE + at for at in range(0, HUGE, 64)]
    random.Random(1).shuffle(pieces)
    for pfn in pieces[:-1]:
        assert driver.inflate(extent(pfn, 18)) == Status(64, OK, 1)
    # One that is taken back meanwhile: the last but one completes nothing.
    driver.deflate(extent(pieces[3]))
    assert driver.inflate(extent(pieces[-1], 18)).pages == 64
    assert large.file.intact() >= all_pages(large) - set(range(2 * HUGE, 3 * HUGE))
    driver.inflate(extent(pieces[3]))
    check_account(balloon, HUGE)
    # All of it, in whatever pieces it went.
    assert large.file.held <= 7 * HUGE * PAGE
    query = balloon.query()
    assert query["discard-errors"] == 0 and query["given-back"] >= HUGE * PAGE


def test_messages_that_wait_together_complete_a_large_page_together(large, bed, balloon):
    driver = Frontend(bed, balloon, [large])
    answers = driver.send(INFLATE, *(message(extent(large.pfn + 4 * HUGE + at, 16))
                                     for at in range(0, HUGE, 16)))
    assert answers == [Status(16, OK, 1)] * 32
    assert large_pages_of(large) == 7
    assert large.file.intact() == all_pages(large) - set(range(4 * HUGE, 5 * HUGE))


def test_a_driver_that_need_not_tell_keeps_what_an_earlier_message_named(
        reserved_pages, bed, balloon):
    """It may use those pages already: nothing but whole large pages of one batch
    may go."""
    region = in_large_pages(reserved_pages)
    driver = Frontend(bed, balloon, [region], features=(PAGE_BITMAP,))
    driver.inflate(extent(region.pfn, 20))
    driver.inflate(extent(region.pfn + 256, 20))
    assert large_pages_of(region) == 8
    assert region.file.intact() == all_pages(region)
    assert driver.inflate(extent(region.pfn + HUGE, 21)).pages == HUGE
    assert large_pages_of(region) == 7
    assert region.file.intact() == all_pages(region) - set(range(HUGE, 2 * HUGE))


def test_a_region_that_begins_within_a_large_page_leaves_the_rest_of_it_alone(
        reserved_pages, bed, balloon):
    """Two regions share a large page of one file."""
    file = in_large_pages(reserved_pages).file
    middle = 2 * HUGE * PAGE + 100 * PAGE
    low = Region(0x40000000, middle, file)
    high = Region(0x80000000, file.size - middle, file, middle)
    driver = Frontend(bed, balloon, [low, high])
    driver.inflate(*run(low.pfn, low.pages))
    assert file.held == 6 * HUGE * PAGE
    assert file.intact() >= set(range(low.pages, file.size // PAGE))
    driver.inflate(*run(high.pfn, high.pages))
    # The shared one is neither's alone.
    assert file.held <= 3 * HUGE * PAGE
    check_account(balloon, file.size // PAGE)
    assert balloon.query()["discard-errors"] == 0


# Files, and tables that change

def test_each_of_several_files_loses_its_own_pages(bed, balloon):
    files = [MemoryFile.memfd((4 + n) * MIB) for n in range(5)]
    regions = [Region((1 + n << 30) + n * PAGE, file.size, file)
               for n, file in enumerate(files)]
    # The last file has a second region, far from its first.
    regions[4:] = [Region(5 << 30, 3 * MIB, files[4], 5 * MIB),
                   Region(7 << 30, 2 * MIB, files[4], MIB)]
    driver = Frontend(bed, balloon, regions)
    status = driver.inflate(*(extent(region.pfn + 16 * n, 14 + n)
                              for n, region in enumerate(regions)))
    assert status == Status(sum(4 << n for n in range(6)), OK, 6)
    gone = {file: set() for file in files}
    for n, region in enumerate(regions):
        first = region.offset // PAGE + 16 * n
        gone[region.file] |= set(range(first, first + (4 << n)))
    for file in files:
        assert file.held == file.size - len(gone[file]) * PAGE
        assert file.intact() == set(range(file.size // PAGE)) - gone[file]
    query = balloon.query()
    assert query["given-back"] == query["ballooned"] == status.pages * PAGE
    assert query["memory"] == sum(r.size for r in regions) + driver.own_bytes


def test_the_account_follows_a_memory_table_that_changes(bed, balloon):
    low, high = two_regions()
    driver = Frontend(bed, balloon, [low, high])
    driver.inflate(*run(low.pfn + 5, 100), *run(high.pfn, 200))
    check_account(balloon, 300)
    # The same again, and one more.
    more = Region(1 << 33, 2 * MIB, MemoryFile.memfd(2 * MIB))
    driver.set_memory([high, low])
    driver.add_region(more)
    check_account(balloon, 300)
    driver.inflate(*run(more.pfn, 50))
    # One that goes takes its pages along.
    driver.remove_region(high)
    check_account(balloon, 150)
    assert driver.inflate(extent(high.pfn)).code == OUTSIDE
    # Back, it is new.
    driver.add_region(high)
    check_account(balloon, 150)
    driver.inflate(*run(high.pfn + 100, 200))
    check_account(balloon, 350)
    assert high.file.intact() == all_pages(high) - set(range(300))
    # Another file at the same place is other memory; so is another part of it.
    other = low._replace(file=MemoryFile.memfd(low.size))
    driver.set_memory([other, high, more])
    check_account(balloon, 250)
    assert driver.inflate(extent(low.pfn + 5)).pages == 1
    assert other.file.intact() == all_pages(other) - {5}
    driver.set_memory([other, high._replace(size=MIB, offset=MIB), more])
    check_account(balloon, 51)
    driver.deflate(*run(more.pfn, 50), extent(low.pfn + 5))
    check_account(balloon, 0)


def test_no_page_is_lost_when_the_table_changes_under_messages(bed, balloon):
    regions = two_regions()
    driver = Frontend(bed, balloon, regions)
    names = [region.pfn + page for region in regions for page in range(0, region.pages, 2)]
    messages = [message(*map(extent, names[at:at + 64])) for at in range(0, len(names), 64)]
    for _ in range(100):
        for queue, pages in ((INFLATE, len(names)), (DEFLATE, 0)):
            for at in range(0, len(messages), 32):
                batch = messages[at:at + 32]
                driver.post(queue, *batch)
                driver.set_memory(reversed(driver.regions))
                answers = driver.collect(queue, len(batch))
                assert {status.code for status in answers} == {OK}
            check_account(balloon, pages)


def test_a_table_that_cannot_be_leaves_the_one_before(bed, balloon):
    region = two_regions()[0]
    driver = Frontend(bed, balloon, [region])
    driver.inflate(extent(region.pfn, 16))
    with pytest.raises(Refused):
        driver.add_region(Region(region.gpa + MIB, MIB, MemoryFile.memfd(MIB)))
    with pytest.raises(Refused):
        driver.add_region(Region(1 << 35, 2 * MIB, MemoryFile.memfd(MIB)))
    check_account(balloon, 16)
    assert driver.inflate(extent(region.pfn + 16)).pages == 1
    check_account(balloon, 17)


def test_pages_that_compaction_moves_are_counted_once(bed, balloon):
    """New pages by one queue and old ones by the other, in either order."""
    region = two_regions()[0]
    driver = Frontend(bed, balloon, [region])
    driver.inflate(*run(region.pfn, 128))
    for at in range(0, 128, 16):
        new, old = run(region.pfn + 512 + at, 16), run(region.pfn + at, 16)
        if at % 32:
            driver.post(DEFLATE, message(*old))
            driver.inflate(*new)
            driver.collect(DEFLATE, 1)
        else:
            driver.inflate(*new)
            driver.deflate(*old)
        check_account(balloon, 128)
    driver.deflate(*run(region.pfn + 512, 128))
    check_account(balloon, 0)


# Who comes and goes

def test_a_front_end_that_comes_back_finds_its_account(bed, balloon):
    region = two_regions()[0]
    driver = Frontend(bed, balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    driver.inflate(extent(region.pfn + 1024))
    driver.disconnect()
    balloon.wait_state("waiting")
    check_account(balloon, 0)           # nobody's
    driver.reconnect()
    check_account(balloon, 257)
    driver.deflate(extent(region.pfn, 20))
    check_account(balloon, 1)


def test_a_new_driver_begins_with_an_empty_account(bed, balloon):
    region = two_regions()[0]
    driver = Frontend(bed, balloon, [region])
    for begin in (driver.reset, lambda: None):
        driver.inflate(extent(region.pfn, 20))
        check_account(balloon, 256)
        begin()
        driver.start()
        check_account(balloon, 0)
        # What it says it has is the driver's own business.
        driver.set_actual(0xffffffff)
        check_account(balloon, 0)


def test_a_device_that_was_killed_begins_anew_and_takes_what_it_is_told(bed, balloon):
    region = two_regions()[0]
    driver = Frontend(bed, balloon, [region])
    driver.inflate(extent(region.pfn, 20))
    driver.post(INFLATE, message(extent(region.pfn + 512, 20)))
    balloon.process.signal(signal.SIGKILL)
    assert balloon.process.wait() == -signal.SIGKILL
    balloon.ended = True
    held = region.file.held
    assert held <= region.size - 256 * PAGE
    # The next one, behind the same front-end, which has its rings still.
    driver.balloon = bed.balloon("--stall=2000", name="b1")
    driver.reconnect()
    query = driver.balloon.query()
    assert query["ballooned"] <= 256 * PAGE         # the message that was on its way
    driver.inflate(extent(region.pfn, 20), extent(region.pfn + 512, 20))
    check_account(driver.balloon, 512)
    driver.deflate(extent(region.pfn, 20), extent(region.pfn + 512, 20))
    check_account(driver.balloon, 0)
    gone = set(range(256)) | set(range(512, 768))
    assert region.file.intact() == all_pages(region) - gone


# All at once

def random_message(dice, regions):
    """Sense and nonsense; and the pages of all that a reader may take for sense."""
    region = dice.choice(regions)
    records = []
    for _ in range(dice.randrange(1, 20)):
        pfn = region.pfn + dice.randrange(region.pages)
        records.append(dice.choice((
            lambda: extent(pfn),
            lambda: extent(pfn, dice.randrange(12, 24)),
            lambda: bitmap(pfn, dice.getrandbits(64)),
            lambda: bitmap(pfn, dice.getrandbits(448), dice.choice((12, 12, 13, 16))),
            lambda: struct.pack("<Q", dice.getrandbits(64)),
            lambda: extent(dice.getrandbits(52), dice.randrange(64)),
        ))())
    data = bytearray(message(*records))
    for _ in range(dice.choice((0, 0, 0, 1, 5))):
        data[dice.randrange(len(data))] = dice.getrandbits(8)
    return bytes(data)


def test_a_driver_that_sends_anything_while_everything_else_changes(bed, balloon):
    """No answer is lost, nothing breaks, and the account is right at the end.  The one
    for the sanitizers."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    regions = two_regions()
    spare = Region(1 << 34, MIB, MemoryFile.memfd(MIB))
    driver = Frontend(bed, balloon, regions)
    done = threading.Event()

    def ask():
        other = bed.control_client(balloon)
        chance = random.Random(seed + 1)
        while not done.is_set():
            other.execute("query-balloon")
            other.execute("balloon", {"value": chance.randrange(1, 1 << 24), "force": True})
            other.execute("query-balloon-stats")

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for step in range(400):
            batches = {queue: [random_message(dice, regions)
                               for _ in range(dice.randrange(1, 32))]
                       for queue in (INFLATE, DEFLATE)}
            for queue, batch in batches.items():
                driver.post(queue, *batch)
            # While the worker is at it.
            dice.choice((
                lambda: driver.set_memory(dice.sample(regions, 2)),
                lambda: driver.add_region(spare) if spare not in driver.regions
                else driver.remove_region(spare),
                lambda: driver.set_call(dice.choice((INFLATE, DEFLATE))),
                lambda: (driver.enable(INFLATE, False), driver.enable(INFLATE)),
                lambda: driver.set_actual(dice.getrandbits(32)),
                lambda: None))()
            for queue, batch in batches.items():
                driver.collect(queue, len(batch))
    finally:
        done.set()
        asker.join()
    driver.deflate(*(record for region in regions
                     for record in run(region.pfn, region.pages)))
    if spare in driver.regions:
        driver.remove_region(spare)
    check_account(balloon, 0)
    assert balloon.query()["discard-errors"] == 0
