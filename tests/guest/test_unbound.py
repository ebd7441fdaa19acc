"""Rings that no driver has.

A driver that lets go of its device says no more than that its rings are disabled, and their memory
is the guest's to use for anything.
"""

import pytest

from bed import Fio

DRIVER = "/sys/bus/virtio/drivers/virtio_blk"


@pytest.mark.parametrize("refill", [False, True], ids=["left-as-it-was", "put-to-other-use"])
@pytest.mark.parametrize("mode", ["passthrough", "shadowed"])
def test_switch_while_no_driver_is_bound_finds_its_disk_again(bed, mode, refill):
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra, memory="256M")
    umbra.enter(mode)
    for _ in range(3):
        Fio(guest, size="2M").once()
        guest.check(f"cd {DRIVER}; d=$(echo virtio[0-9]*); echo $d >/tmp/device; "
                    "echo $d >unbind")
        if refill:
            # Nearly all of its memory, the old rings' among it.
            guest.check("mkdir -p /tmp/fill; mount -t tmpfs -o size=220m none /tmp/fill; "
                        "dd if=/dev/urandom of=/tmp/fill/file bs=1M count=150; "
                        "umount /tmp/fill", 300)
        wanted = mode != "shadowed"
        for shadowed in (wanted, not wanted, wanted):
            umbra.shadow(shadowed)
        guest.check(f"echo $(cat /tmp/device) >{DRIVER}/bind")
        mode = "shadowed" if wanted else "passthrough"
        assert umbra.wait_state(mode)
        Fio(guest, size="2M").once()
    assert not umbra.switches()["failed"]
    assert guest.poweroff() == 0
