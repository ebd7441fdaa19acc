"""The driver takes and gives back what the host asks for."""

import random

import pytest

from bed.balloon_driver import MIB, Content, memory, settle_memory, wait_free
from bed.simulated_balloon import DEFLATE_ON_OOM, MUST_TELL_HOST, PAGE_BITMAP

from driver_rig import rig


def test_an_idle_guest_is_inflated_in_chunks_with_a_few_short_messages(bed):
    with rig(bed) as made:
        device, driver = made.device, made.driver
        before = settle_memory(made.guest)
        device.inflate(360 * MIB)
        assert driver.number("chunk_pages") == 360 * MIB
        assert driver.number("piece_pages") == 0
        assert len(device.messages) <= 4
        assert sum(message.size for message in device.messages) <= 2048
        assert device.punched == 360 * MIB
        assert memory(made.guest)["MemTotal"] < 140 * MIB
        device.inflate(0)
        assert len(device.messages) <= 8
        wait_free(made.guest, before - 4 * MIB)
        Content(made.guest).write(300).verify()


def test_actual_moves_while_the_guest_is_inflated(bed):
    with rig(bed, load={"message_mib": 16}) as made:
        made.device.inflate(128 * MIB)
        assert sorted(made.device.actuals) == made.device.actuals
        made.device.hold()
        made.device.set_target(300 * MIB)
        made.device.wait(lambda: made.device.held() == 8, "eight messages in flight")
        assert made.driver.number("inflating_pages") == 8 * 16 * MIB
        assert made.driver.held() == 128 * MIB
        made.device.release()
        made.device.wait(lambda: made.device.actual == 300 * MIB, "the target")


@pytest.mark.parametrize("features", [(), (MUST_TELL_HOST,), (DEFLATE_ON_OOM,)],
                         ids=["plain", "must-tell-host", "deflate-on-oom"])
def test_a_device_without_page_bitmap_gets_arrays_of_page_numbers(bed, features):
    with rig(bed, features=features) as made:
        made.device.inflate(300 * MIB + 3)
        assert not made.device.has(PAGE_BITMAP)
        assert max(message.size for message in made.device.messages) <= 1024
        made.device.inflate(1)
        made.device.inflate(0)
        Content(made.guest).write(300).verify()


def test_a_host_that_must_be_told_is_told_before_a_page_is_used(bed):
    with rig(bed, features=(PAGE_BITMAP, MUST_TELL_HOST)) as made:
        made.device.inflate(300 * MIB)
        free = memory(made.guest)["MemFree"]
        made.device.hold()
        made.device.set_target(0)
        made.device.wait(made.device.held, "a message to deflate")
        made.driver.wait_state("deflating")
        assert memory(made.guest)["MemFree"] < free + 50 * MIB
        made.device.release()
        made.device.wait(lambda: made.device.actual == 0, "the end")
        assert memory(made.guest)["MemFree"] > free + 250 * MIB


def test_the_feature_can_be_declined(bed):
    with rig(bed, load={"page_bitmap": 0}) as made:
        made.device.inflate(100 * MIB)
        assert not made.device.has(PAGE_BITMAP)


def test_every_page_counts(bed):
    """Targets that no chunk fits; a chunk is split when less is wanted."""
    with rig(bed) as made:
        for target in (1, 2, 64, 65, 1023, 1024, 1025, 256 * MIB, 256 * MIB - 1,
                       256 * MIB + 1, 64, 63, 1, 0):
            made.device.inflate(target)
            assert made.driver.held() == target
            made.driver.check_counts()


def test_a_single_page_with_a_number_that_is_a_multiple_of_64_is_sent(bed):
    """The driver of 2016 never sent one."""
    with rig(bed) as made:
        def sent():
            return any(run[0] % 64 == 0 and run[1] == 1 and len(message.runs) == 1
                       for message in made.device.messages for run in message.runs)
        while not sent():
            assert made.device.target < 4096
            made.device.inflate(made.device.target + 1)
        made.device.inflate(0)


@pytest.mark.parametrize("features", [(PAGE_BITMAP,), (PAGE_BITMAP, MUST_TELL_HOST), ()],
                         ids=["runs", "must-tell-host", "pfns"])
def test_a_fragmented_guest_keeps_its_content(bed, features):
    with rig(bed, features=features) as made:
        content = Content(made.guest).write(320).fragment()
        made.device.inflate(200 * MIB)
        if features:
            # Every other 64 KiB: bitmaps, far shorter than 8 bytes a hole.
            inflated = sum(message.size for message in made.device.messages)
            assert inflated < 200 * 16 * 8
        content.verify()
        made.device.inflate(0)
        content.verify()
        content.write(150, "more").verify("more")
        content.verify()


def test_kept_pages_keep_their_content_over_1000_random_steps(bed):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with rig(bed, features=(PAGE_BITMAP, dice.choice((MUST_TELL_HOST, DEFLATE_ON_OOM)))) as made:
        content = Content(made.guest).write(100).fragment()
        content.write(50, "whole")
        for step in range(1000):
            target = dice.choice((dice.randrange(280 * MIB), dice.randrange(2000),
                                  made.device.target ^ dice.randrange(1, 64)))
            if dice.random() < 0.3:
                made.device.set_target(target)          # and on at once
            else:
                made.device.inflate(target)
            if step % 100 == 50:
                made.guest.check("echo 1 >/proc/sys/vm/compact_memory")
            if step % 250 == 249:
                content.verify()
        made.device.inflate(0)
        content.verify()
        content.verify("whole")
        content.write(150, "new").verify("new")


def test_asking_for_more_than_the_guest_has_ends_gently(bed):
    with rig(bed, load={"retries": 2}) as made:
        content = Content(made.guest).write(100)
        made.device.set_target(1024 * MIB)
        made.driver.wait_state("given-up")
        sent = len(made.device.messages)
        assert made.device.actual > 280 * MIB
        assert made.device.actual == made.device.ballooned == made.driver.held()
        content.verify()
        assert "short of the target" in made.driver.kernel_log()
        assert "Out of memory" not in made.driver.kernel_log()
        assert memory(made.guest)["MemAvailable"] > 10 * MIB
        assert len(made.device.messages) == sent
        # A new target is a new start.
        made.device.inflate(200 * MIB)
        made.device.inflate(250 * MIB)
        content.verify()


def test_what_the_device_refuses_is_counted(bed):
    with rig(bed) as made:
        made.device.refuse()
        made.device.inflate(64 * MIB)
        assert made.driver.number("refused_pages") == 64 * MIB
        assert "refused" in made.driver.kernel_log()
        made.device.refuse(False)
        made.device.inflate(0)
        Content(made.guest).write(300).verify()
