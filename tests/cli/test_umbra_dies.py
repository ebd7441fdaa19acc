"""umbra is killed with requests in flight, and the next one is brought what the VMM kept of them:
nothing is lost, nothing is completed twice, and nothing is given to anybody while the back-end
of the dead umbra may be at it yet.

The disk is the project's own (bed/blk_back.py), a simulated peer; so is the VMM, whose test
is the driver.
"""

import itertools
import signal

import pytest
from bed import BlkBack, DiskVmm
from bed.wait import wait_until

OPTIONS = ["--reconnect", "--device-type=block"]

WORDS = itertools.count(1)


def begin(bed, base=0):
    disk = BlkBack(bed, order="in")
    umbra = bed.umbra(disk, shadow="on", options=OPTIONS)
    vmm = DiskVmm(bed, umbra, tracked=True).begin()
    ring = vmm.disk_ring(base=base).start()
    ring.write(99, next(WORDS))
    ring.drain(disk)
    assert umbra.vhost()["survives-death"]
    return disk, umbra, vmm, ring


def umbra_dies(disk, umbra, ring, in_flight):
    """With so many requests at the disk, which has done none of them."""
    disk.process.signal(signal.SIGSTOP)
    ring.burst([next(WORDS) for _ in range(in_flight)])
    wait_until(lambda: umbra.vhost()["queues"][0]["in-flight"] == in_flight,
               "umbra to have given them to the disk")
    umbra.kill()


@pytest.mark.parametrize("base", [0, 65533])
@pytest.mark.parametrize("in_flight", [1, 5])
def test_what_was_in_flight_is_done_once_after_both_have_died(bed, base, in_flight):
    disk, umbra, vmm, ring = begin(bed, base)
    umbra_dies(disk, umbra, ring, in_flight)
    disk.process.kill()
    disk.start()
    after = bed.umbra(disk, shadow="on", options=OPTIONS)
    vmm.move(after)
    ring.drain(disk)
    ring.write(98, next(WORDS))
    ring.drain(disk)
    assert after.vhost()["survives-death"]


def test_a_back_end_that_lives_on_is_waited_for_until_somebody_says_that_it_writes_no_more(bed):
    disk, umbra, vmm, ring = begin(bed)
    umbra_dies(disk, umbra, ring, 3)
    after = bed.umbra(disk, shadow="on", options=OPTIONS)
    disk.process.signal(signal.SIGCONT)
    vmm.move(after)
    after.wait_state("held")
    after.wait_held_up("the back-end that was lost has 3 requests")
    after.qmp.execute("backend-trust")
    ring.drain(disk)


def test_one_that_ends_later_is_waited_for_until_then(bed):
    disk, umbra, vmm, ring = begin(bed)
    umbra_dies(disk, umbra, ring, 3)
    after = bed.umbra(disk, shadow="on", options=OPTIONS)
    disk.process.signal(signal.SIGCONT)
    vmm.move(after)
    after.wait_held_up("the back-end that was lost has 3 requests")
    disk.process.kill()
    disk.start()
    ring.drain(disk)
    after.wait_state("shadowed")


def test_a_vmm_that_keeps_nothing_is_said_to_see_it(bed):
    disk = BlkBack(bed)
    umbra = bed.umbra(disk, shadow="on", options=OPTIONS)
    DiskVmm(bed, umbra).begin().disk_ring().start()
    umbra.wait_state("shadowed")
    assert umbra.vhost()["survives-death"] is False
    assert umbra.vhost()["death-reason"] == "the front-end keeps no in-flight region"
