"""What `umbra balloon` says of itself is so: its phase, before a front-end of our own
that does what it should not, or nothing."""

import fcntl
import os
import re
import signal
import subprocess

import pytest

from bed import Frontend, wait_until
from bed.frontend import DEFLATE, INFLATE, PAGE, MemoryFile, Region, extent, run
from bed.simulated_balloon import MUST_TELL_HOST, PAGE_BITMAP

MIB = 1 << 20
F_ADD_SEALS, F_SEAL_FUTURE_WRITE = 1033, 0x10
OURS = "--only-region=0-64G"            # not the front-end's own rings


@pytest.fixture
def region():
    return Region(1 << 30, 16 * MIB, MemoryFile.memfd(16 * MIB))


def ctl(bed, balloon, *words):
    return subprocess.run([bed.program, "ctl", str(balloon.control), *words],
                          capture_output=True, text=True)


def wait_phase(balloon, *phases):
    return wait_until(lambda: (query := balloon.query())["phase"] in phases and query,
                      f"a phase of {phases}")


def obey(driver, region):
    """Do what the device wants, as a driver does; how many pages it has then."""
    pages = driver.config()[0]
    driver.inflate(*run(region.pfn, pages))
    driver.set_actual(pages)
    return pages


def test_nothing_that_was_asked_for_is_idle_and_what_was_reached_is_settled(bed, region):
    balloon = bed.balloon(OURS)
    driver = Frontend(bed, balloon, [region])
    assert balloon.query()["phase"] == "idle"
    assert ctl(bed, balloon, "balloon", "all").returncode == 0
    assert balloon.query()["phase"] == "settled"
    balloon.take(4 * MIB)
    obey(driver, region)
    assert wait_phase(balloon, "settled")["unfreed"] == 0


def test_without_a_driver_no_target_is_settled(bed, region):
    balloon = bed.balloon(OURS)

    def no_driver(why):
        query = balloon.query()
        assert query["phase"] == "no-driver" and why in query["obstacle"]
        done = ctl(bed, balloon, "balloon", "all")
        assert done.returncode == 1 and why in done.stderr

    no_driver("no VMM is connected")
    driver = Frontend(bed, balloon, [region])
    assert ctl(bed, balloon, "balloon", "all").returncode == 0
    # A machine that is paused, or reboots.
    driver.stop(INFLATE)
    no_driver("no driver runs in the guest")
    driver.stop(DEFLATE)
    driver.start()
    assert ctl(bed, balloon, "balloon", "all").returncode == 0
    # User Mode Linux says no more than this when a driver leaves.
    driver.enable(INFLATE, False)
    driver.enable(DEFLATE, False)
    assert balloon.state() == "negotiating"
    no_driver("no driver runs in the guest")
    driver.disconnect()
    balloon.wait_state("waiting")
    no_driver("no VMM is connected")


def test_what_the_host_has_not_got_back_is_not_settled(bed):
    """The file is sealed, so that every discard fails."""
    region = Region(1 << 30, 16 * MIB, MemoryFile.memfd(16 * MIB, os.MFD_ALLOW_SEALING))
    balloon = bed.balloon(OURS)
    driver = Frontend(bed, balloon, [region])
    fcntl.fcntl(region.file.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
    balloon.qmp.events.clear()
    balloon.take(4 * MIB)
    obey(driver, region)
    data = balloon.qmp.wait_event("BALLOON_SETTLED")
    assert not data["reached"] and "4096 KiB of the 4096 KiB" in data["reason"]
    query = wait_phase(balloon, "unfreed")
    assert query["given-back"] == 0 and query["unfreed"] == query["ballooned"] == 4 * MIB
    assert "not permitted" in query["obstacle"]
    done = ctl(bed, balloon, "balloon", "take=4M")
    assert done.returncode == 1 and "has not got 4096 KiB" in done.stderr
    assert "discards have failed" in balloon.process.output()
    # What is taken back is nobody's loss.
    balloon.take(0)
    driver.deflate(extent(region.pfn, 22))
    driver.set_actual(0)
    assert wait_phase(balloon, "settled")["unfreed"] == 0


def test_parts_of_large_pages_are_not_settled_until_the_rest_has_come(
        reserved_pages, bed):
    large = Region(1 << 30, 8 * MIB, MemoryFile.memfd(8 * MIB, reserved_pages))
    balloon = bed.balloon(OURS, "--floor=1M")
    driver = Frontend(bed, balloon, [large])
    balloon.take(3 * MIB)
    obey(driver, large)
    query = wait_phase(balloon, "unfreed")
    assert query["unfreed"] == MIB and query["given-back"] == 2 * MIB
    balloon.take(4 * MIB)
    driver.inflate(extent(large.pfn + 3 * MIB // PAGE, 20))
    assert wait_phase(balloon, "settled")["unfreed"] == 0


def test_a_broken_queue_is_called_that(bed, region):
    balloon = bed.balloon(OURS, "--stall=1000")
    driver = Frontend(bed, balloon, [region])
    driver.violate(INFLATE)
    query = wait_phase(balloon, "broken")
    assert re.search(r"queue 0 is broken: .*5000 chains", query["obstacle"])
    done = ctl(bed, balloon, "balloon", "12M")
    assert done.returncode == 1 and "queue 0 is broken" in done.stderr
    assert "driver stopped" not in done.stderr


class Restarted:
    """A driver with 4 MiB in the balloon of a device that was killed, before the next."""

    def __init__(self, bed, region, *options):
        first = bed.balloon(OURS)
        self.driver = Frontend(bed, first, [region], (PAGE_BITMAP, MUST_TELL_HOST))
        first.take(4 * MIB)
        obey(self.driver, region)
        wait_phase(first, "settled")
        first.process.signal(signal.SIGKILL)
        assert first.process.wait() == -signal.SIGKILL
        first.ended = True
        self.balloon = self.driver.balloon = bed.balloon(OURS, *options, name="b1")
        self.driver.reconnect()


def test_after_a_restart_nothing_is_known_until_the_driver_says_it(bed, region):
    made = Restarted(bed, region)
    query = made.balloon.query()
    assert query["phase"] == "unknown" and "has not said" in query["obstacle"]
    # It gives a page of its own accord, and then says what it has.
    made.driver.inflate(extent(region.pfn + 4096 - 1))
    made.driver.set_actual(1025)
    query = made.balloon.query()
    assert query["phase"] == "settled"
    assert query["ballooned"] == query["driver-ballooned"] == query["take"] == 1025 * PAGE
    assert query["adopted"] == 4 * MIB
    assert made.driver.config()[0] == 1025
    assert "taken over" in made.balloon.process.output()
    # What goes back of it is not counted twice.
    made.balloon.take(2 * MIB)
    made.driver.deflate(extent(region.pfn, 21), extent(region.pfn + 4096 - 1))
    made.driver.set_actual(512)
    query = wait_phase(made.balloon, "settled")
    assert query["ballooned"] == query["adopted"] == 2 * MIB


def test_after_a_restart_a_driver_that_has_what_it_shall_have_is_made_to_say_so(bed, region):
    made = Restarted(bed, region, "--target=12M")
    # One page off, or it would have nothing to say.
    assert made.balloon.query()["phase"] == "inflating"
    told = made.driver.config()[0]
    assert told == 1023
    made.driver.deflate(extent(region.pfn + 1023))
    made.driver.set_actual(told)
    assert made.driver.config()[0] == 1024
    made.driver.inflate(extent(region.pfn + 1023))
    made.driver.set_actual(1024)
    query = wait_phase(made.balloon, "settled")
    assert query["ballooned"] == 4 * MIB and query["target"] == 12 * MIB


def test_after_a_restart_a_driver_that_says_nothing_is_not_settled(bed, region):
    made = Restarted(bed, region, "--stall=1000")
    done = ctl(bed, made.balloon, "balloon", "12M")
    assert done.returncode == 1 and "has not said" in done.stderr
    assert made.balloon.query()["phase"] == "unknown"


def test_the_next_guest_has_nothing_to_adopt(bed, region):
    made = Restarted(bed, region)
    made.driver.disconnect()
    made.driver.connect()
    query = made.balloon.query()
    assert query["phase"] == "idle"
    assert query["ballooned"] == query["adopted"] == 0
