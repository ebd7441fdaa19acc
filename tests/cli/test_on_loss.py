"""What becomes of the requests that a lost back-end had, by the kind of device and by the
operator's word.  The disk is the project's own (bed/blk_back.py), a simulated peer, whatever
umbra is told that it is; so is the VMM, whose test is the driver.
"""

import itertools

import pytest
from bed import BlkBack, DiskVmm, QmpError

#: What is written: never the same twice.
WORDS = itertools.count(1)

LOST = 3


class Bench:
    """A device that was lost with requests in flight, and is held."""

    def __init__(self, bed, *options):
        self.disk = BlkBack(bed, order="in")
        self.umbra = bed.umbra(self.disk, options=["--reconnect", *options])
        self.vmm = DiskVmm(bed, self.umbra).begin()
        self.ring = self.vmm.disk_ring().start()
        self.ring.write(99, next(WORDS))
        self.ring.drain(self.disk)
        self.disk.plan("die@before-execute")
        self.ring.burst([next(WORDS) for _ in range(LOST)])
        self.disk.wait_did("die")
        self.disk.wait_death()
        self.umbra.wait_state("held")
        self.since = len(self.disk.journal())

    def settle(self, how):
        self.umbra.qmp.execute("settle-loss", {"how": how})

    def executed(self):
        return len([line for line in self.disk.at("before execute", self.since)
                    if line["instance"] == self.disk.state()["instance"]])


def test_the_operator_has_them_given_to_the_next_one(bed):
    bench = Bench(bed, "--device-type=block", "--on-loss=hold")
    bench.disk.start()
    bench.umbra.wait_held_up(f"lost with {LOST} requests")
    with pytest.raises(QmpError) as refusal:
        bench.settle("throw")
    assert "'throw', expected 'replay' or 'reset'" in refusal.value.reason
    bench.settle("replay")
    bench.umbra.wait_state("shadowed")
    bench.ring.drain(bench.disk)
    assert bench.executed() == LOST
    with pytest.raises(QmpError) as refusal:
        bench.settle("replay")
    assert "no back-end is waited for: the device is shadowed" in refusal.value.reason


def check_reset(bench):
    """Nothing is done, and a driver that begins anew has a device again."""
    status = bench.umbra.wait_state("broken")
    assert f"lost with {LOST} requests of this queue" in status["reason"]
    assert bench.umbra.vhost()["queues"][0]["lost"] == LOST
    bench.vmm.stop()
    bench.ring.restart()
    bench.ring.start()
    bench.umbra.wait_state("shadowed")
    assert bench.executed() == 0
    bench.ring.burst([next(WORDS) for _ in range(2)])
    bench.ring.drain(bench.disk)


def test_the_operator_has_the_guest_reset_its_device(bed):
    bench = Bench(bed, "--device-type=block", "--on-loss=hold")
    bench.disk.start()
    bench.umbra.wait_held_up(f"lost with {LOST} requests")
    bench.settle("reset")
    check_reset(bench)


@pytest.mark.parametrize("options", [["--device-type=fs"], ["--device-type=other"],
                                     ["--device-type=block", "--on-loss=reset"]],
                         ids=" ".join)
def test_a_guest_whose_requests_cannot_be_given_to_another_resets_its_device(bed, options):
    bench = Bench(bed, *options)
    bench.umbra.qmp.wait_event("SHADOW_QUEUE_BROKEN", lambda data: data["queue"] == 0)
    bench.disk.start()
    check_reset(bench)


def test_a_type_is_overruled(bed):
    bench = Bench(bed, "--device-type=fs", "--on-loss=replay")
    bench.disk.start()
    bench.umbra.wait_state("shadowed")
    bench.ring.drain(bench.disk)
    assert bench.executed() == LOST
