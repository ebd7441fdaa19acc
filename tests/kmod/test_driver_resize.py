"""The driver takes and gives back what the host asks for."""

import random

import pytest

from bed.balloon_driver import MIB, Content, memory, settle_memory
from bed.simulated_balloon import DEFLATE_ON_OOM, MUST_TELL_HOST, PAGE_BITMAP

from driver_rig import rig


def test_an_idle_guest_is_inflated_in_chunks_with_a_few_short_messages(bed):
    with rig(bed) as made:
        device, driver = made.device, made.driver
        before = settle_memory(made.guest)
        device.inflate(700 * MIB)
        assert driver.number("chunk_pages") == 700 * MIB
        assert driver.number("piece_pages") == 0
        assert len(device.messages) <= 4
        assert sum(message.size for message in device.messages) <= 2048
        assert device.punched == 700 * MIB
        assert memory(made.guest)["MemTotal"] < 300 * MIB
        device.inflate(0)
        assert len(device.messages) <= 8
        assert settle_memory(made.guest) > before - 4 * MIB
        Content(made.guest).write(600).verify()


def test_actual_moves_while_the_guest_is_inflated(bed):
    with rig(bed, load={"message_mib": 16}) as made:
        made.device.inflate(512 * MIB)
        assert sorted(made.device.actuals) == made.device.actuals
        made.device.hold()
        made.device.set_target(800 * MIB)
        made.device.wait(lambda: made.device.held() == 8, "eight messages in flight")
        assert made.driver.number("inflating_pages") == 8 * 16 * MIB
        assert made.driver.held() == 512 * MIB
        made.device.release()
        made.device.wait(lambda: made.device.actual == 800 * MIB, "the target")


@pytest.mark.parametrize("features", [(), (MUST_TELL_HOST,), (DEFLATE_ON_OOM,)],
                         ids=["plain", "must-tell-host", "deflate-on-oom"])
def test_a_device_without_page_bitmap_gets_arrays_of_page_numbers(bed, features):
    with rig(bed, features=features) as made:
        made.device.inflate(500 * MIB + 3)
        assert not made.device.has(PAGE_BITMAP)
        assert max(message.size for message in made.device.messages) <= 1024
        made.device.inflate(1)
        made.device.inflate(0)
        Content(made.guest).write(600).verify()


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


@pytest.mark.parametrize("features", [(PAGE_BITMAP,), (PAGE_BITMAP, MUST_TELL_HOST), ()],
                         ids=["runs", "must-tell-host", "pfns"])
def test_a_fragmented_guest_keeps_its_content(bed, features):
    with rig(bed, features=features, memory="512M") as made:
        content = Content(made.guest).write(360).fragment()
        made.device.inflate(240 * MIB, deadline=120)
        if features:
            # Every other 64 KiB: bitmaps, far shorter than 8 bytes a hole.
            inflated = sum(message.size for message in made.device.messages)
            assert inflated < 240 * 16 * 8
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
        content = Content(made.guest).write(200).fragment()
        content.write(100, "whole")
        for step in range(1000):
            target = dice.choice((dice.randrange(600 * MIB), dice.randrange(2000),
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
        content.write(200, "new").verify("new")


def test_asking_for_more_than_the_guest_has_ends_gently(bed):
    with rig(bed, load={"retries": 2}) as made:
        content = Content(made.guest).write(100)
        made.device.set_target(2048 * MIB)
        made.driver.wait_state("given-up")
        sent = len(made.device.messages)
        assert made.device.actual > 700 * MIB
        assert made.device.actual == made.device.ballooned == made.driver.held()
        content.verify()
        assert "short of the target" in made.driver.kernel_log()
        assert "Out of memory" not in made.driver.kernel_log()
        assert memory(made.guest)["MemAvailable"] > 10 * MIB
        assert len(made.device.messages) == sent
        # A new target is a new start.
        made.device.inflate(300 * MIB)
        made.device.inflate(400 * MIB)
        content.verify()


def test_what_the_device_refuses_is_counted(bed):
    with rig(bed) as made:
        made.device.refuse()
        made.device.inflate(64 * MIB)
        assert made.driver.number("refused_pages") == 64 * MIB
        assert "refused" in made.driver.kernel_log()
        made.device.refuse(False)
        made.device.inflate(0)
        Content(made.guest).write(500).verify()
