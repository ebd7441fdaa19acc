"""`umbra balloon` with the stock driver of a real guest: memory really goes back
to the host and comes again, and the account is right whatever happens."""

import random
import re
import time

import pytest

from bed import QmpError, wait_until
from bed.uml import MODULES

MIB = 1 << 20
GUEST = 1024 * MIB
STOCK = next(MODULES.rglob("virtio_balloon.ko"))
#: What a guest of a GiB needs for itself, generously.
LEAST = 160 * MIB


def boot(bed, balloon, insert=True, **options):
    guest = bed.uml(balloon, memory="1G", modules=(STOCK,), **options)
    guest.check("mount -t tmpfs -o size=100% tmpfs /mnt")
    if insert:
        guest.check("insmod /modules/virtio_balloon.ko")
        balloon.wait_driver()
    return guest


def touch(guest, mib):
    """Have the guest write to so much of its memory, and free it again."""
    guest.check(f"dd if=/dev/zero of=/mnt/touched bs=1M count={mib} 2>/dev/null; "
                "rm /mnt/touched")


def free_mib(guest):
    return int(re.search(r"MemFree: +(\d+) kB", guest.check("cat /proc/meminfo"))[1]) >> 10


def kept_by_the_kernel(query):
    """Bytes that a guest has, and does not say that it has."""
    return query["table"] - query["memory"]


@pytest.fixture
def stock(bed):
    """A device and a guest in which the stock driver runs.  Without reporting, so
    that memory comes back through the balloon alone."""
    balloon = bed.balloon("--hide=reporting", "--stall=2000")
    return balloon, boot(bed, balloon)


def test_what_is_inflated_the_host_has_back_and_deflating_gives_it_again(stock):
    balloon, guest = stock
    touch(guest, 700)
    touched = balloon.held_of(guest)
    assert touched > 700 * MIB
    query = balloon.reach(256 * MIB)
    assert query["base"] == "guest"
    assert query["ballooned"] == query["memory"] - 256 * MIB
    # The driver says so once it has our answer.
    wait_until(lambda: balloon.query()["driver-ballooned"] == query["ballooned"],
               "the driver to say the same")
    assert query["actual"] == query["target"] == 256 * MIB
    left = 256 * MIB + kept_by_the_kernel(query)
    assert balloon.agrees_on_held(guest) <= left
    assert query["given-back"] >= touched - left
    assert query["discard-errors"] == query["refused-records"] == 0
    assert free_mib(guest) < 256
    query = balloon.empty()
    assert query["ballooned"] == 0 and query["actual"] == query["memory"]
    assert free_mib(guest) > 800
    touch(guest, 700)
    assert balloon.held_of(guest) > 700 * MIB


def test_kept_pages_keep_their_contents_over_random_steps(stock):
    balloon, guest = stock
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    guest.check("for i in 1 2 3 4 5 6 7 8; do "
                "dd if=/dev/urandom of=/mnt/$i bs=1M count=16 2>/dev/null; done; "
                "md5sum /mnt/* >/tmp/sums")
    for step in range(40):
        balloon.reach(dice.randrange(LEAST + 128 * MIB, GUEST + 64 * MIB) & ~4095)
        if step % 8 == 0:
            # Pages that were taken back are usable, and are somebody's again.
            guest.check(f"md5sum -cs /tmp/sums && f=$(({step} / 8 % 8 + 1)) && rm /mnt/$f && "
                        "dd if=/dev/urandom of=/mnt/$f bs=1M count=16 2>/dev/null && "
                        "md5sum /mnt/* >/tmp/sums")
    guest.check("md5sum -c /tmp/sums")
    balloon.empty()
    guest.check("md5sum -c /tmp/sums")


def test_a_guest_that_cannot_reach_the_target_is_told_of_and_recovers(stock):
    balloon, guest = stock
    guest.check("dd if=/dev/zero of=/mnt/needed bs=1M count=400 2>/dev/null")
    data = balloon.settle(64 * MIB)
    assert not data["reached"]
    assert data["target"] == 64 * MIB < data["actual"]
    assert re.search(r"stopped at \d+ of \d+ MiB", data["reason"])
    status = balloon.status()
    assert status["phase"] == "stalled" and status["obstacle"]
    # A target that it can reach ends that.
    balloon.reach(900 * MIB)
    assert balloon.status()["phase"] == "settled"
    assert guest.check("stat -c %s /mnt/needed").strip() == str(400 * MIB)


def test_a_new_target_cancels_the_one_before(stock):
    balloon, guest = stock
    touch(guest, 600)
    balloon.qmp.events.clear()
    balloon.set(200 * MIB)
    wait_until(lambda: balloon.query()["ballooned"] > 16 * MIB, "the balloon to grow")
    balloon.set(GUEST)
    data = balloon.qmp.wait_event("BALLOON_SETTLED")
    assert data["reached"] and data["ballooned"] == 0


def test_changes_are_told_a_few_times_a_second(stock):
    balloon, guest = stock
    touch(guest, 700)
    balloon.qmp.events.clear()
    start = time.monotonic()
    balloon.set(200 * MIB)
    told = []
    while not told or told[-1]["event"] != "BALLOON_SETTLED":
        balloon.query()         # collects events on the way
        while balloon.qmp.events:
            told.append(balloon.qmp.events.popleft())
    seconds = time.monotonic() - start
    changes = [event["data"]["actual"] for event in told if event["event"] == "BALLOON_CHANGE"]
    assert changes == sorted(changes, reverse=True)
    assert 1 <= len(changes) <= 2 + 4 * seconds
    assert told[-1]["data"]["actual"] == 200 * MIB


def test_a_target_may_be_set_before_there_is_a_guest(bed):
    balloon = bed.balloon("--target=512M")
    assert balloon.status()["phase"] == "no-driver"
    assert balloon.query()["memory"] == 0
    guest = boot(bed, balloon)
    wait_until(lambda: balloon.query()["actual"] == 512 * MIB, "the guest to shrink")
    assert free_mib(guest) < 512


@pytest.mark.parametrize("how", ["poweroff", "kill"])
def test_the_next_guest_begins_with_an_empty_account(stock, bed, how):
    balloon, guest = stock
    balloon.reach(512 * MIB)
    if how == "poweroff":
        guest.poweroff()
    else:
        guest.kill()
    balloon.wait_state("waiting")
    query = balloon.query()
    assert query["memory"] == query["ballooned"] == query["host-bytes"] == 0
    # The target outlives the guest: the next one is told the same.
    guest = boot(bed, balloon, insert=False, name="next")
    assert balloon.query()["ballooned"] == 0
    guest.check("insmod /modules/virtio_balloon.ko")
    wait_until(lambda: balloon.query()["actual"] == 512 * MIB, "the next guest to shrink")
    query = balloon.query()
    assert query["ballooned"] == query["memory"] - 512 * MIB
    balloon.empty()


def test_a_guest_that_is_killed_while_it_inflates_leaves_nothing_behind(stock, bed):
    balloon, guest = stock
    touch(guest, 700)
    balloon.set(200 * MIB)
    wait_until(lambda: balloon.query()["ballooned"] > 64 * MIB, "the balloon to grow")
    guest.kill()
    balloon.wait_state("waiting")
    assert not balloon.guest_mappings(guest)
    assert not [t for t in balloon.fds().values() if guest.memory_name in t]


def test_a_driver_that_is_removed_and_comes_back_starts_anew(stock):
    balloon, guest = stock
    balloon.reach(600 * MIB)
    guest.check("rmmod virtio_balloon")
    assert balloon.query()["ballooned"] == 0
    guest.check("insmod /modules/virtio_balloon.ko")
    wait_until(lambda: balloon.query()["actual"] == 600 * MIB, "the driver to inflate again")
    balloon.empty()


def test_statistics_come_with_their_age_and_the_unsupported_are_null(bed):
    balloon = bed.balloon("--stats-interval=100")
    guest = boot(bed, balloon)
    stats = wait_until(
        lambda: (s := balloon.qmp.execute("query-balloon-stats"))["age-ms"] is not None and s,
        "the first statistics")
    assert len(stats["stats"]) == 16
    assert stats["stats"]["total-memory"] > 900 * MIB
    assert stats["stats"]["swap-in"] == 0                 # known, and nothing
    assert stats["stats"]["oom-kills"] is None            # this kernel does not tell
    before = stats["stats"]["free-memory"]
    guest.check("dd if=/dev/zero of=/mnt/x bs=1M count=300 2>/dev/null")
    wait_until(lambda: balloon.qmp.execute("query-balloon-stats")["stats"]["free-memory"]
               < before - 250 * MIB, "fresh statistics")
    wait_until(lambda: balloon.qmp.execute("query-balloon-stats")["age-ms"] < 10000,
               "statistics that are as fresh as was asked for")


def test_free_pages_that_the_guest_reports_go_back_without_a_balloon(bed):
    balloon = bed.balloon("--report")
    guest = boot(bed, balloon)
    touch(guest, 700)
    query = wait_until(lambda: (query := balloon.query())["host-bytes"] < 300 * MIB
                       and query["reported"] > 500 * MIB and query, "reported pages to go back")
    assert query["ballooned"] == 0
    touch(guest, 700)


def test_page_by_page_gives_back_the_same(bed):
    balloon = bed.balloon("--hide=reporting", "--single-pages")
    guest = boot(bed, balloon)
    touch(guest, 300)
    query = balloon.reach(700 * MIB)
    assert query["discards"] == query["ballooned"] // 4096
    assert query["discard-errors"] == 0
    balloon.empty()


def test_a_nonsense_value_is_refused(bed):
    balloon = bed.balloon()
    for value in (0, -1):
        with pytest.raises(QmpError, match="bytes of memory"):
            balloon.set(value)


def test_huge_pages_go_back_too_in_pieces_of_256_small_ones(huge_guests, bed):
    balloon = bed.balloon("--hide=reporting")
    guest = boot(bed, balloon)
    guest.check("dd if=/dev/urandom of=/mnt/kept bs=1M count=64 2>/dev/null; "
                "md5sum /mnt/kept >/tmp/sum")
    touch(guest, 700)
    assert balloon.held_of(guest) > 700 * MIB
    query = balloon.reach(300 * MIB)
    # Some are kept whole for the sake of a few pages in them.
    assert query["host-bytes"] < 400 * MIB + kept_by_the_kernel(query)
    guest.check("md5sum -c /tmp/sum")
    balloon.empty()
    touch(guest, 700)
    guest.check("md5sum -c /tmp/sum")
