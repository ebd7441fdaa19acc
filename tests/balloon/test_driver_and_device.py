"""The project's driver in a real guest, `umbra balloon` behind it: neither is told
anything that the other has not said, and the host's memory shows the truth.

The guests run under panic_on_warn, and their kernel must have nothing to say at
the end.
"""

import contextlib
import random
import re
import signal

import pytest

from bed import BalloonDriver, wait_until
from bed.balloon_driver import Content, memory, module, settle_memory, vm_events, wait_free

MIB = 1 << 20
PAGES = 256             # in a MiB

class Rig:
    """A device and a guest with the driver; more guests, if it has to be."""

    def __init__(self, bed, *options, load=None, memory="512M",
                 parameters=("panic_on_warn=1",)):
        self.bed = bed
        self.balloon = bed.balloon("--stall=3000", *options)
        self.guest = None
        self.boot(load=load, memory=memory, parameters=parameters)

    def boot(self, name="uml", load=None, memory="512M", parameters=("panic_on_warn=1",)):
        self.guest = self.bed.uml(self.balloon, name=name, memory=memory,
                                  modules=[module(self.bed)], parameters=parameters)
        self.driver = BalloonDriver(self.guest)
        self.driver.load(**(load or {}))
        self.balloon.wait_driver()
        return self.guest

    @property
    def whole(self):
        """Bytes that the guest's memory file can have."""
        return self.balloon.query()["table"]

    @property
    def held(self):
        """Bytes that the host holds of the guest's memory."""
        return self.balloon.held_of(self.guest)

    def ballooned(self, mib):
        """Make the balloon so large, in MiB; what the device says then."""
        return self.balloon_pages(mib * PAGES)

    def balloon_pages(self, pages):
        self.balloon.take(pages * 4096)
        wait_until(lambda: (query := self.balloon.query())["ballooned"]
                   == query["driver-ballooned"] == pages * 4096,
                   f"a balloon of {pages} pages")
        return self.balloon.query()

    def check_books(self):
        """Driver and device must agree to the page, once nothing moves."""
        def agree():
            query = self.balloon.query()
            return (query["ballooned"] == query["driver-ballooned"]
                    == self.driver.held() * 4096)
        wait_until(agree, "the driver's books and the device's to agree")
        query = self.balloon.query()
        assert query["refused-records"] == query["refused-messages"] == 0
        assert query["discard-errors"] == 0
        return query


@contextlib.contextmanager
def rig(bed, *options, **more):
    made = Rig(bed, *options, **more)
    yield made
    made.check_books()
    made.driver.check_log()


#: The ways in which the two can talk.
WAYS = pytest.mark.parametrize("hidden", [
    ("reporting",),
    ("reporting", "must-tell-host"),
    ("reporting", "deflate-on-oom", "must-tell-host"),
    ("reporting", "page-bitmap"),
], ids=["runs", "runs-untold", "runs-unneeded", "pfns"])


def hide(*features):
    return [f"--hide={feature}" for feature in features]


@WAYS
def test_what_the_driver_gives_the_host_has_and_unloading_gives_it_back(bed, hidden):
    with rig(bed, *hide(*hidden)) as made:
        free = settle_memory(made.guest)
        Content(made.guest).write(300).remove()
        touched = made.held
        assert touched > 300 * MIB
        query = made.ballooned(400)
        assert made.balloon.agrees_on_held(made.guest) <= made.whole - 400 * MIB
        assert query["given-back"] >= touched - (made.whole - 400 * MIB)
        if "page-bitmap" not in hidden:
            assert query["messages"] < 10
        # In part, and then all.
        made.ballooned(150)
        made.check_books()
        made.driver.unload()
        query = made.balloon.query()
        assert query["ballooned"] == 0
        # But for what module and caches take.
        wait_free(made.guest, free - 4 * PAGES)
        Content(made.guest).write(300).verify()
        assert made.held > 300 * MIB
        made.driver.load()
        made.balloon.wait_driver()


def test_kept_pages_keep_their_content_over_1000_random_steps(bed):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with rig(bed, *hide("reporting", dice.choice(("must-tell-host", "deflate-on-oom")))) as made:
        content = Content(made.guest).write(120).fragment()
        content.write(60, "whole")
        target = 0
        for step in range(1000):
            target = dice.choice((dice.randrange(280 * PAGES), dice.randrange(2000),
                                  target ^ dice.randrange(1, 64)))
            if dice.random() < 0.5:
                made.balloon.take(target * 4096)                # and on at once
            else:
                made.balloon_pages(target)
            if step % 50 == 25:
                made.guest.check("echo 1 >/proc/sys/vm/compact_memory")
            if step % 250 == 249:
                # Pages that were taken back are usable, and are somebody's again.
                made.ballooned(100)
                content.write(80, "taken").verify("taken").verify().remove("taken")
        made.balloon.empty()
        content.verify().verify("whole")
        content.write(120, "new").verify("new")


@WAYS
def test_a_fragmented_guest_keeps_its_content_and_gives_all_its_holes(bed, hidden):
    with rig(bed, *hide(*hidden)) as made:
        content = Content(made.guest).write(320).fragment()
        made.ballooned(200)
        # Much of it lies in the holes.
        assert made.driver.number("piece_pages") >= 40 * PAGES
        assert made.held <= made.whole - 200 * MIB
        made.check_books()
        content.verify()
        made.balloon.empty()
        content.write(120, "more").verify("more")
        content.verify()


def test_every_page_counts_on_both_sides(bed):
    """One page at a time, many times: some have a number that is a multiple of 64."""
    with rig(bed, *hide("reporting")) as made:
        for pages in (*range(1, 130), 65536, 65537, 65535, 1025, 1024, 64, 63, 1, 0):
            made.balloon_pages(pages)
        made.check_books()


def test_compaction_moves_pages_of_the_balloon_and_the_device_follows(bed):
    with rig(bed, *hide("reporting")) as made:
        content = Content(made.guest).write(320).fragment()
        made.ballooned(200)
        # Free pages all over, above pages of the balloon as well as below.
        made.guest.check("cd /host/mnt/kept; rm *2 *6")
        assert made.driver.compact() > 0
        assert made.check_books()["ballooned"] == 200 * MIB
        # What moved away is the guest's again, what it moved to is not.
        content.verify()
        content.write(100, "more").verify("more")
        made.balloon.empty()
        content.verify()


@pytest.mark.parametrize("hidden", [("reporting",), ("reporting", "must-tell-host")],
                         ids=["must-tell-host", "untold"])
def test_a_guest_out_of_memory_takes_pages_back_and_the_device_knows(bed, hidden):
    with rig(bed, *hide(*hidden)) as made:
        content = Content(made.guest).write(40)
        made.ballooned(390)
        made.driver.run_out_of_memory(mib=8)
        assert vm_events(made.guest)["oom_kill"] == 0
        query = made.check_books()
        assert 0 < query["ballooned"] < 390 * MIB
        content.verify()
        # A new target, and it gives again.
        made.ballooned(300)
        content.verify()


def test_more_than_the_guest_has_ends_gently_and_the_device_says_how_far_and_why(bed):
    with rig(bed, *hide("reporting"), load={"retries": 2}) as made:
        content = Content(made.guest).write(150)
        most = made.balloon.query()["memory"] // MIB
        data = made.balloon.settle(1 * MIB, force=True)
        assert not data["reached"]
        far = made.balloon.query()["ballooned"] // MIB
        assert 200 < far < 350
        assert re.search(rf"stopped at {far} of {most - 1} MiB", data["reason"])
        made.driver.wait_state("given-up")
        assert "short of the target" in made.driver.kernel_log()
        assert vm_events(made.guest)["oom_kill"] == 0
        assert memory(made.guest)["MemAvailable"] > 8 * PAGES
        content.verify()
        made.check_books()
        made.ballooned(100)
        content.verify()


def test_statistics_come_all_and_fresh(bed):
    with rig(bed, "--stats-interval=100", *hide("reporting")) as made:
        def stats(fresh=lambda stats: True):
            def answer():
                told = made.balloon.qmp.execute("query-balloon-stats")
                return told["age-ms"] is not None and fresh(told["stats"]) and told["stats"]
            return wait_until(answer, "statistics")

        before = stats()
        assert len(before) == 16
        # Huge pages are the one thing that this kernel does not have.
        assert {name for name, value in before.items() if value is None} == \
            {"hugetlb-allocations", "hugetlb-failures"}
        assert before["oom-kills"] == 0 and before["total-memory"] > 400 * MIB
        made.ballooned(300)
        after = stats(lambda stats: stats["free-memory"] < before["free-memory"] - 290 * MIB)
        assert after["minor-faults"] >= before["minor-faults"]
        assert after["available-memory"] < before["available-memory"] - 250 * MIB


@pytest.mark.parametrize("parameters", [("panic_on_warn=1",),
                                        ("panic_on_warn=1", "init_on_free=1")],
                         ids=["plain", "cleared"])
def test_free_pages_are_reported_and_the_balloon_counts_none_of_them(bed, parameters):
    """A guest that clears free pages says what they hold, and so may report."""
    with rig(bed, "--report", parameters=parameters) as made:
        Content(made.guest).write(300).verify().remove()
        wait_until(lambda: made.balloon.query()["reported"] > 150 * MIB
                   and made.held < 250 * MIB, "reported pages to go back")
        query = made.balloon.query()
        assert query["ballooned"] == 0
        made.ballooned(200)
        content = Content(made.guest).write(150, "more").verify("more")
        made.balloon.empty()
        content.verify("more")


def test_a_guest_whose_device_is_killed_lives_on_and_the_next_pair_starts_anew(bed):
    # UML's transport itself warns when its device is gone; nothing else may.
    made = Rig(bed, *hide("reporting"), load={"response_timeout_ms": 500}, parameters=())
    content = Content(made.guest).write(100)
    made.ballooned(200)
    made.balloon.process.signal(signal.SIGKILL)
    assert made.balloon.process.wait() == -signal.SIGKILL
    made.balloon.ended = True
    content.verify()
    # It gets its pages back without the device.
    made.driver.unload()
    content.write(200, "more").verify("more").verify()
    log = made.driver.kernel_log()
    said = re.findall(r"(?:WARNING|BUG|Oops|Bad page).*", log)
    assert not [line for line in said if "virtio_uml.c" not in line], said
    made.guest.poweroff()
    made.balloon = bed.balloon("--stall=3000", "--hide=reporting", name="b1")
    made.boot(name="next")
    query = made.balloon.query()
    assert query["ballooned"] == query["driver-ballooned"] == 0
    made.ballooned(300)
    assert made.held <= made.whole - 300 * MIB
    made.check_books()
    made.driver.check_log()


def test_a_guest_that_is_killed_leaves_nothing_to_the_next(bed):
    with rig(bed, *hide("reporting")) as made:
        Content(made.guest).write(300).remove()
        made.ballooned(100)
        made.balloon.take(400 * MIB)                    # and on the way there
        made.guest.kill()
        made.balloon.wait_state("waiting")
        assert not made.balloon.guest_mappings(made.guest)
        query = made.balloon.query()
        assert query["memory"] == query["ballooned"] == query["host-bytes"] == 0
        made.balloon.set(1 << 62)
        made.boot(name="next")
        assert made.balloon.query()["ballooned"] == 0
        made.ballooned(300)
        made.check_books()


def test_a_driver_that_leaves_and_comes_back_starts_anew(bed):
    with rig(bed) as made:
        for _ in range(3):
            made.ballooned(250)
            made.driver.unload()
            assert made.balloon.query()["ballooned"] == 0
            made.driver.load()
            wait_until(lambda: made.balloon.query()["ballooned"] == 250 * MIB,
                       "the driver to inflate again")
            made.check_books()
        made.balloon.empty()


def test_huge_pages_go_back_whole(huge_guests, bed):
    with rig(bed, *hide("reporting")) as made:
        content = Content(made.guest).write(40)
        content.write(300, "gone").remove("gone")
        assert made.held > 340 * MIB
        query = made.ballooned(380)
        # Chunks are 4 MiB, and memory begins anywhere: hardly anything is cut.
        assert made.held <= made.whole - 360 * MIB
        assert query["discard-errors"] == 0
        content.verify()
        made.balloon.empty()
        content.write(250, "again").verify("again").verify()
