"""The driver in a guest that is short of memory, or of whole blocks of it."""

import pytest

from bed.balloon_driver import MIB, Content, vm_events
from bed.simulated_balloon import DEFLATE_ON_OOM, MUST_TELL_HOST, PAGE_BITMAP

from driver_rig import rig


@pytest.mark.parametrize("features", [
    (PAGE_BITMAP, DEFLATE_ON_OOM),
    (PAGE_BITMAP, DEFLATE_ON_OOM, MUST_TELL_HOST),
    (DEFLATE_ON_OOM, MUST_TELL_HOST)], ids=["runs", "must-tell-host", "pfns"])
def test_a_guest_out_of_memory_takes_pages_back_and_kills_nobody(bed, features):
    with rig(bed, features=features) as made:
        content = Content(made.guest).write(64)
        made.device.inflate(800 * MIB)
        # By busybox, which is not on a disk: a program whose own pages can be
        # dropped and read again would crawl for long before the guest is out of
        # memory.
        made.guest.check("""
            cd /host/mnt
            for i in $(seq 18); do
                dd if=/dev/urandom bs=1M count=16 2>/dev/null | tee fill$i | md5sum
            done >/tmp/written
            cat /tmp/written | wc -l | grep -qx 18""", deadline=120)
        assert vm_events(made.guest)["oom_kill"] == 0
        assert made.driver.number("oom_pages") > 150 * MIB
        assert made.driver.attribute("state") == "given-up"
        made.device.wait(lambda: made.device.actual == made.device.ballooned
                         == made.driver.held(), "the books to agree")
        made.guest.check("""
            cd /host/mnt
            for i in $(seq 18); do md5sum <fill$i; done | cmp - /tmp/written
            rm fill*""", deadline=120)
        content.verify()
        # It does not take the pages again until it is told to.
        assert made.device.actual < 650 * MIB
        made.device.inflate(799 * MIB)
        content.verify()


def test_an_oom_does_not_wait_for_a_device_that_does_not_answer(bed):
    with rig(bed, features=(PAGE_BITMAP, DEFLATE_ON_OOM, MUST_TELL_HOST),
             load={"response_timeout_ms": 1000}) as made:
        made.device.inflate(800 * MIB)
        made.device.hold()
        # Memory of its own, which comes back when the OOM killer ends it.
        status, _ = made.guest.run("tail /dev/zero", deadline=120)
        assert status == 128 + 9
        assert vm_events(made.guest)["oom_kill"] > 0
        made.device.release()
        made.device.inflate(0)
        Content(made.guest).write(500).verify()


def test_compaction_moves_pages_of_the_balloon(bed):
    with rig(bed, memory="512M") as made:
        # Holes of 64 KiB all over: the balloon fills them with pieces.
        content = Content(made.guest).write(400).fragment()
        made.device.inflate(200 * MIB, deadline=120)
        assert made.driver.number("piece_pages") > 100 * MIB
        made.device.inflate(120 * MIB)
        made.guest.check("for i in 1 2 3; do echo 1 >/proc/sys/vm/compact_memory; done")
        moved = made.driver.number("migrated_pages")
        assert moved > 1000
        assert vm_events(made.guest)["balloon_migrate"] == moved
        made.driver.wait_state("settled")
        assert made.driver.held() == 120 * MIB
        made.device.wait(lambda: made.device.ballooned == 120 * MIB, "the model to agree")
        content.verify()
        made.device.inflate(0)
        content.verify()
        content.write(100, "more").verify("more")


def test_pages_that_compaction_moves_stay_counted_by_a_device_without_the_feature(bed):
    with rig(bed, features=(), memory="512M") as made:
        content = Content(made.guest).write(400).fragment()
        made.device.inflate(150 * MIB, deadline=120)
        made.guest.check("echo 1 >/proc/sys/vm/compact_memory")
        assert made.driver.number("migrated_pages") > 0
        made.device.wait(lambda: made.device.ballooned == 150 * MIB, "the model to agree")
        made.device.inflate(0)
        content.verify()
