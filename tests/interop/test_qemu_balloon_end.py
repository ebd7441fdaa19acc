"""What becomes of a guest under trixie's QEMU when its balloon ends: the manual says it,
and these keep it true.  (tests/balloon has the same for User Mode Linux.)"""

import signal

from bed import kernel, wait_until

MIB = 1 << 20


def boot(bed, balloon):
    stock = next(kernel.fetch(bed.cache, "6.12").modules.rglob("virtio_balloon.ko"))
    guest = bed.qemu(balloon, linux="6.12", memory="256M", modules=[stock],
                     parameters=("init_on_alloc=0",))
    guest.check("mount -t tmpfs -o size=100% tmpfs /mnt; insmod /modules/virtio_balloon.ko")
    balloon.wait_driver()
    return guest


def test_a_balloon_whose_device_is_pulled_first_can_end_and_the_next_be_plugged_in(bed):
    balloon = bed.balloon("--stall=60000")
    guest = boot(bed, balloon)
    balloon.reach(take=32 * MIB)
    balloon.empty()
    guest.unplug()
    balloon.terminate()
    guest.check("dd if=/dev/zero of=/mnt/x bs=1M count=64 && rm /mnt/x")
    balloon = bed.balloon("--stall=60000", name="b1")
    guest.plug(balloon, "next")
    balloon.wait_driver()
    assert balloon.reach(take=32 * MIB)["ballooned"] == 32 * MIB


def test_qemu_aborts_when_linuxs_driver_writes_to_a_balloon_that_has_ended(bed):
    """A fault of QEMU's.  When this fails, README and manual have to say something else."""
    balloon = bed.balloon("--stall=60000")
    guest = boot(bed, balloon)
    assert balloon.query()["ballooned"] == 0        # the driver waits for no answer
    balloon.terminate()
    guest.spawn(guest.script("rmmod virtio_balloon"))
    wait_until(lambda: guest.process.popen.poll() is not None, "QEMU to end")
    assert guest.process.popen.returncode == -signal.SIGABRT
    assert "vhost_dev_set_config: Assertion" in guest.process.output()
