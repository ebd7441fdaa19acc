"""The driver comes and goes; the device does as it likes."""


import pytest

from bed import wait_until
from bed.balloon_driver import MIB, Content, memory, settle_memory, wait_free
from bed.simulated_balloon import (DEFLATE_ON_OOM, MUST_TELL_HOST, PAGE_BITMAP,
                                   PAGE_POISON, REPORTING, STATS_VQ)

from driver_rig import rig

EVERYTHING = (PAGE_BITMAP, MUST_TELL_HOST, STATS_VQ, DEFLATE_ON_OOM, REPORTING)


def test_100_loads_and_unloads_leave_nothing_behind(bed):
    with rig(bed, features=EVERYTHING, load=False) as made:
        made.device.target = 350 * MIB

        def cycle(times):
            made.guest.check(f"""
                for i in $(seq {times}); do
                    insmod /modules/umbra_balloon.ko
                    usleep $((i * 997 % 20000))
                    rmmod umbra_balloon
                done""")

        cycle(10)
        free, slab = settle_memory(made.guest), memory(made.guest)["SUnreclaim"]
        cycle(100)
        assert made.device.ballooned == 0
        assert made.device.actual == 0
        # A leak of one page for each cycle would be 100, and stays.
        wait_free(made.guest, free - 50)
        wait_until(lambda: memory(made.guest)["SUnreclaim"] < slab + 50,
                   f"less than {slab + 50} unreclaimable pages")
        Content(made.guest).write(350).verify()


def test_removal_gives_every_page_back_and_tells_the_host(bed):
    with rig(bed, features=EVERYTHING) as made:
        before = settle_memory(made.guest)
        made.device.inflate(380 * MIB)
        made.driver.unload()
        assert made.device.ballooned == 0
        assert made.device.actual == 0
        wait_free(made.guest, before)
        Content(made.guest).write(300).verify()


@pytest.mark.parametrize("kernel, parameters", [
    ((), {}),
    ((), {"page_bitmap": "N"}),
    (("init_on_free=1",), {}),
], ids=["plain", "declined", "poison"])
def test_removal_stops_every_ring_before_its_memory_is_freed(bed, kernel, parameters):
    with rig(bed, features=(*EVERYTHING, PAGE_POISON), load=parameters,
             parameters=kernel) as made:
        assert len(made.device.running) == 4        # inflate, deflate, statistics, reporting
        made.driver.unload()
        assert not made.device.running


def test_unbinding_and_binding_inflates_again(bed):
    with rig(bed) as made:
        made.device.inflate(300 * MIB)
        for _ in range(5):
            made.guest.check("cd /sys/bus/virtio/drivers/umbra_balloon; "
                             "basename virtio*/ >/tmp/name; cat /tmp/name >unbind")
            assert made.device.ballooned == 0
            made.guest.check("cat /tmp/name >/sys/bus/virtio/drivers/umbra_balloon/bind")
            made.device.wait(lambda: made.device.actual == 300 * MIB, "the target again")
        made.device.inflate(0)


def test_a_device_that_does_not_answer_holds_up_nothing(bed):
    with rig(bed, load={"response_timeout_ms": 300}) as made:
        made.device.inflate(100 * MIB)
        made.device.hold()
        made.device.set_target(250 * MIB)
        made.driver.wait_state("stalled")
        assert "has not answered" in made.driver.kernel_log()
        content = Content(made.guest).write(100)
        made.guest.check("echo 1 >/proc/sys/vm/compact_memory")
        # A late answer, and it goes on.
        made.device.release()
        made.device.wait(lambda: made.device.actual == 250 * MIB, "the target")
        assert "answers again" in made.driver.kernel_log()
        made.device.inflate(0)
        content.verify()


@pytest.mark.parametrize("when", ["inflating", "deflating"])
def test_a_device_that_does_not_answer_does_not_stop_the_removal(bed, when):
    with rig(bed, features=(PAGE_BITMAP, MUST_TELL_HOST),
             load={"response_timeout_ms": 500}) as made:
        before = settle_memory(made.guest)
        made.device.inflate(200 * MIB)
        made.device.hold()
        made.device.set_target((350 if when == "inflating" else 50) * MIB)
        made.device.wait(made.device.held, "a message in flight")
        made.driver.unload()
        wait_free(made.guest, before)
        Content(made.guest).write(350).verify()


def test_all_statistics_are_answered(bed):
    with rig(bed, features=(PAGE_BITMAP, STATS_VQ)) as made:
        device = made.device
        device.wait(lambda: device.statistics, "the first statistics")
        device.inflate(300 * MIB)
        device.ask_statistics()
        device.wait(lambda: len(device.statistics) == 2, "further statistics")
        first, second = device.statistics
        # All 16 but the two of huge pages, which this kernel does not have.
        assert set(second) >= set(range(16)) - {8, 9}
        assert first[4] - second[4] > 290 << 20         # free
        assert first[5] - second[5] == 300 << 20        # total
        assert second[6] < second[5]                    # available
        assert second[3] >= first[3] > 0                # minor faults
        assert second[10] == 0                          # OOM kills


def test_statistics_that_are_asked_for_at_once_are_not_lost(bed):
    with rig(bed, features=(PAGE_BITMAP, STATS_VQ), load=False) as made:
        for _ in range(20):
            made.device.statistics.clear()
            made.device.asks_at_once = 2
            made.driver.load()
            made.device.wait(lambda: len(made.device.statistics) == 3, "three answers")
            made.driver.unload()


def test_free_pages_are_reported(bed):
    with rig(bed, features=(PAGE_BITMAP, REPORTING)) as made:
        content = Content(made.guest).write(50)
        made.device.wait(lambda: made.device.reports > 250 * MIB, "free pages")
        content.verify()
        content.write(300, "more").verify("more")
        content.verify()


def test_a_report_that_is_not_answered_keeps_its_pages_until_removal(bed):
    with rig(bed, features=(PAGE_BITMAP, REPORTING), load=False) as made:
        made.device.hold()
        made.driver.load(response_timeout_ms=300)
        made.device.wait(made.device.held, "a report")
        Content(made.guest).write(100).verify()
        made.driver.unload()
        Content(made.guest).write(250, "more").verify("more")


def test_a_guest_that_clears_free_pages_says_what_they_hold(bed):
    with rig(bed, features=(PAGE_BITMAP, REPORTING, PAGE_POISON),
             parameters=["init_on_free=1"]) as made:
        assert made.device.has(PAGE_POISON)
        assert made.device.poison == 0
        made.device.inflate(300 * MIB)
        made.device.inflate(0)


def test_pages_that_must_hold_something_are_not_reported_to_a_host_that_does_not_know(bed):
    with rig(bed, features=(PAGE_BITMAP, REPORTING), parameters=["init_on_free=1"]) as made:
        assert not made.device.has(REPORTING)
        made.device.inflate(300 * MIB)
