"""The driver in a guest that is short of memory, or of whole blocks of it."""

import pytest

from bed import wait_until
from bed.balloon_driver import MIB, Content, vm_events
from bed.simulated_balloon import DEFLATE_ON_OOM, MUST_TELL_HOST, PAGE_BITMAP

from driver_rig import rig


@pytest.mark.parametrize("features", [
    (PAGE_BITMAP, DEFLATE_ON_OOM),
    (PAGE_BITMAP, DEFLATE_ON_OOM, MUST_TELL_HOST),
    (DEFLATE_ON_OOM, MUST_TELL_HOST)], ids=["runs", "must-tell-host", "pfns"])
def test_a_guest_out_of_memory_takes_pages_back_and_kills_nobody(bed, features):
    with rig(bed, features=features) as made:
        content = Content(made.guest).write(32)
        made.device.inflate(400 * MIB)
        made.driver.run_out_of_memory(mib=16)
        assert vm_events(made.guest)["oom_kill"] == 0
        assert made.driver.attribute("state") == "given-up"
        # Not device.wait(): the guest may need the device to answer.
        wait_until(lambda: made.device.actual == made.device.ballooned
                   == made.driver.held(), "the books to agree")
        content.verify()
        # It does not take the pages again until it is told to.
        assert made.device.actual <= 384 * MIB
        made.device.inflate(390 * MIB)
        content.verify()


def test_an_oom_does_not_wait_for_a_device_that_does_not_answer(bed):
    with rig(bed, features=(PAGE_BITMAP, DEFLATE_ON_OOM, MUST_TELL_HOST),
             load={"response_timeout_ms": 1000}) as made:
        made.device.inflate(400 * MIB)
        made.device.hold()
        # Memory of its own, which comes back when the OOM killer ends it.
        status, _ = made.guest.run("tail /dev/zero")
        assert status == 128 + 9
        assert vm_events(made.guest)["oom_kill"] > 0
        made.device.release()
        made.device.inflate(0)
        Content(made.guest).write(250).verify()


#: Free pages all over, above pages of the balloon as well as below.
THIN_OUT = "cd /host/mnt/kept; rm *2 *6"


def test_compaction_moves_pages_of_the_balloon(bed):
    with rig(bed) as made:
        # Holes of 64 KiB all over: the balloon fills them with pieces.
        content = Content(made.guest).write(400).fragment()
        made.device.inflate(200 * MIB)
        assert made.driver.number("piece_pages") > 100 * MIB
        made.guest.check(THIN_OUT)
        assert made.driver.compact() > 0
        made.driver.wait_state("settled")
        assert made.driver.held() == 200 * MIB
        made.device.wait(lambda: made.device.ballooned == 200 * MIB, "the model to agree")
        made.driver.check_counts()
        content.verify()
        made.device.inflate(0)
        content.verify()
        content.write(100, "more").verify("more")


def test_pages_that_compaction_moves_stay_counted_by_a_device_without_the_feature(bed):
    with rig(bed, features=()) as made:
        content = Content(made.guest).write(400).fragment()
        made.device.inflate(150 * MIB)
        made.guest.check(THIN_OUT)
        assert made.driver.compact() > 0
        made.device.wait(lambda: made.device.ballooned == 150 * MIB, "the model to agree")
        made.driver.check_counts()
        made.device.inflate(0)
        made.driver.check_counts()
        content.verify()
