"""The driver before a device that does not come back when the guest resumes, or does
not come at all.

The device is simulated, inside the guest (device/simulated_device.c): no real one
agrees to start and refuses to resume.  What is freed there is zeroes at once
(init_on_free), so that a driver which goes on using a queue that has ended meets
null pointers, and the guest ends.
"""

import contextlib
from pathlib import Path

import pytest

from bed import BalloonDriver, wait_until
from bed.balloon_driver import (MIB, Content, memory, module, settle_memory, vm_events,
                                wait_free)

from driver_rig import WATCHFUL

FOLDER = Path(__file__).parent / "device"
PLACE = "/sys/devices/platform/simulated_device"
REFUSALS = ("features", "queues", "half")


class Device:
    """The simulated device, by its attributes."""

    def __init__(self, guest):
        self.guest = guest
        guest.check("insmod /modules/simulated_device.ko")

    def write(self, name, value):
        status, _ = self.guest.run(f"echo {value} 2>/dev/null >{PLACE}/{name}")
        return status == 0

    def refuse(self, what="none"):
        assert self.write("refuse", what)

    def suspend(self):
        assert self.write("event", "suspend")

    def resume(self):
        """True if the device is back."""
        return self.write("event", "resume")

    def set_target(self, pages):
        assert self.write("target", pages)

    def inflate(self, pages):
        self.set_target(pages)
        self.wait(pages)

    def wait(self, pages):
        self.guest.check(f"until [ $(cat {PLACE}/actual) = {pages} ]; do usleep 10000; done")

    def pull(self):
        self.guest.check("rmmod simulated_device")


class Rig:
    def __init__(self, bed, linux):
        options = {"memory": "160M" if linux == "uml" else "256M",
                   "parameters": [*WATCHFUL, "init_on_free=1"],
                   "modules": [module(bed, linux), module(bed, linux, FOLDER)]}
        # QEMU must have something for a device.
        self.guest = (bed.uml(**options) if linux == "uml"
                      else bed.qemu("virtio-rng-pci", linux=linux, **options))
        self.driver = BalloonDriver(self.guest)
        self.free = settle_memory(self.guest)
        self.device = Device(self.guest)

    def is_bound(self):
        status, _ = self.guest.run("ls -d /sys/bus/virtio/drivers/umbra_balloon/virtio*/")
        return status == 0

    def fail_to_resume(self, refusal):
        """From any state into one that has no device, and every page."""
        self.device.suspend()
        assert self.driver.attribute("state") == "stopped"
        self.device.refuse(refusal)
        assert not self.device.resume()
        assert self.driver.attribute("state") == "stopped"
        assert self.driver.held() == 0

    def serves(self):
        """The driver and its device, which refuses nothing any more, do their work."""
        self.device.inflate(40 * MIB)
        assert self.driver.held() == 40 * MIB
        self.device.inflate(0)


@contextlib.contextmanager
def rig(bed, load=True, linux="uml"):
    made = Rig(bed, linux)
    if load:
        made.driver.load()
    yield made
    if "umbra_balloon" in made.guest.check("cat /proc/modules"):
        made.driver.unload()
    wait_free(made.guest, made.free - 2 * MIB)
    made.driver.check_log()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_driver_whose_device_did_not_resume_can_be_removed(bed, refusal):
    with rig(bed) as made:
        for _ in range(3):
            made.device.inflate(40 * MIB)
            made.fail_to_resume(refusal)
            made.driver.unload()
            made.device.refuse("none")
            made.driver.load()
            made.device.wait(40 * MIB)


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_driver_whose_device_did_not_resume_can_be_suspended_again(bed, refusal):
    with rig(bed) as made:
        made.device.inflate(40 * MIB)
        for _ in range(3):
            made.fail_to_resume(refusal)
        made.device.suspend()
        made.device.refuse("none")
        assert made.device.resume()
        # It asks what it was asked for, and gets it.
        made.device.wait(40 * MIB)
        made.serves()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_device_that_did_not_resume_can_be_pulled(bed, refusal):
    with rig(bed) as made:
        made.device.inflate(40 * MIB)
        made.fail_to_resume(refusal)
        made.device.pull()
        assert not made.is_bound()
        made.device = Device(made.guest)
        made.serves()


def test_nothing_touches_the_queues_of_a_device_that_did_not_resume(bed):
    with rig(bed) as made:
        guest = made.guest
        content = Content(guest).write(20).fragment()
        made.device.inflate(40 * MIB)
        for refusal in REFUSALS:
            made.fail_to_resume(refusal)
            # A change of the configuration, compaction, reporting of free pages, the
            # OOM notifier, the attributes.
            made.device.set_target(50 * MIB)
            guest.check("echo 1 >/proc/sys/vm/compact_memory")
            content.write(10, "more").remove("more")
            killed = vm_events(guest)["oom_kill"]
            guest.run("tail /dev/zero")
            assert vm_events(guest)["oom_kill"] > killed
            guest.check("cat /sys/bus/virtio/drivers/umbra_balloon/virtio*/balloon/*")
            content.verify()
        made.device.refuse("none")
        made.device.suspend()
        assert made.device.resume()
        made.device.wait(50 * MIB)
        content.verify()
        made.device.inflate(0)
        content.remove()


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_device_that_refuses_at_first_is_left_alone_and_taken_later(bed, refusal):
    with rig(bed, load=False) as made:
        made.device.refuse(refusal)
        for _ in range(10):
            made.driver.load()
            assert not made.is_bound()
            made.device.set_target(20 * MIB)
            made.driver.unload()
        unreclaimable = memory(made.guest)["SUnreclaim"]
        made.device.refuse("none")
        made.driver.load()
        made.serves()
        made.driver.unload()
        wait_until(lambda: memory(made.guest)["SUnreclaim"] < unreclaimable + 50,
                   f"less than {unreclaimable + 50} unreclaimable pages")


@pytest.mark.parametrize("linux", ["6.12", "newest"])
def test_a_driver_of_a_newer_kernel_outlives_a_device_that_did_not_resume(bed, linux):
    with rig(bed, linux=linux) as made:
        for refusal in ("features", "half"):
            made.device.inflate(10 * MIB)
            made.driver.check_counts()
            made.fail_to_resume(refusal)
            made.fail_to_resume(refusal)
            made.driver.unload()
            made.device.refuse("none")
            made.driver.load()
            made.device.wait(10 * MIB)
