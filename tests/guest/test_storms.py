"""A guest whose disk's back-end dies again and again, in every manner, under a load that
verifies: nothing is lost, nothing is done late, and no I/O error reaches the guest.

Short here; `make soak` repeats each some hundreds of times (bed/soak.py)."""

import os
import random
import time

import pytest

from bed import Fio, Generations
from bed.soak import LONG, Storm
from bed.wait import wait_until

HOLDS = ["--reconnect", "--device-type=block"]

#: A slow disk has requests with it when it dies.
RATE = 3000


class Struck:
    """A guest under both loads, before a disk that is struck."""

    def __init__(self, bed, vmm):
        self.backend = bed.backend(rate=RATE)
        self.umbra = bed.umbra(self.backend, options=HOLDS)
        self.guest = getattr(bed, vmm)(self.umbra)
        # One after the other: fio does not hear a signal before it has begun.
        self.loads = [load.start().wait_progress(100) for load in (
            Fio(self.guest, size="8M"), Generations(self.guest, offset=32))]
        self.held = self.replayed = 0

    def progress(self, requests=100):
        self.guest.wait_disk_requests(requests, "vda")

    def go_down(self, hangs=False):
        if hangs:
            self.backend.freeze()
        self.backend.kill()
        self.umbra.wait_state("held")
        self.held += 1
        self.replayed += self.umbra.status()["held-requests"]

    def come_up(self):
        self.backend.start()
        self.umbra.wait_state("shadowed")
        self.progress()

    def come_up_for_a_moment(self):
        """It dies again, wherever the return is by then: that may count as one more."""
        self.backend.start()
        self.backend.kill()
        wait_until(lambda: self.umbra.state() == "held", "it to be held still, or again")

    def come_up_too_small(self):
        content = self.backend.image.read_bytes()
        os.truncate(self.backend.image, len(content) // 2)
        self.backend.start()
        wait_until(lambda: "sectors" in self.umbra.status()["reason"],
                   "umbra to say that the disk is too small")
        self.backend.kill()
        self.backend.image.write_bytes(content)

    def judge(self, storm):
        """Both loads end without an error, and the kernel has seen none; returns what umbra
        says of its holds."""
        writes = reads = 0
        for load in self.loads:
            done = load.stop()
            writes, reads = writes + done.writes, reads + done.reads
        _, log = self.guest.run("dmesg")
        assert "I/O error" not in log and "BUG:" not in log
        holds = self.umbra.vhost()["holds"]
        assert self.guest.poweroff() == 0
        storm.held(deaths=holds["count"], replayed=holds["replayed"], writes=writes,
                   reads=reads)
        return holds


@pytest.fixture
def struck(bed):
    return Struck(bed, "uml")


@pytest.mark.parametrize("vmm", ["uml", "qemu"])
def test_a_disk_that_is_killed(bed, vmm):
    storm = Storm(f"back-end killed, {vmm}", short=5, long=300)
    struck = Struck(bed, vmm)
    for _ in storm.rounds():
        struck.go_down()
        struck.come_up()
    holds = struck.judge(storm)
    assert holds["count"] == struck.held
    assert holds["replayed"] == struck.replayed > 0


def test_a_disk_that_hangs_and_is_killed_then(struck):
    storm = Storm("back-end stopped and killed, uml", short=3, long=100)
    for _ in storm.rounds():
        struck.go_down(hangs=True)
        struck.come_up()
    holds = struck.judge(storm)
    assert holds["count"] == struck.held
    assert holds["replayed"] == struck.replayed


def test_a_disk_that_stays_away(struck):
    """The guest has long nothing more to ask when it returns."""
    storm = Storm("back-end away for 90 s, uml", short=1, long=5)
    for _ in storm.rounds():
        struck.go_down()
        if LONG:
            time.sleep(90)
        struck.come_up()
    struck.judge(storm)


def test_a_disk_that_is_struck_in_any_manner(struck):
    storm = Storm("back-end struck at random, uml", short=4, long=200)
    seed = random.getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in storm.rounds():
        struck.go_down(hangs=chance.random() < 0.3)
        between = chance.random()
        if between < 0.3:
            struck.come_up_for_a_moment()
        elif between < 0.5:
            struck.come_up_too_small()
        struck.come_up()
    struck.judge(storm)
