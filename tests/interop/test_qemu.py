"""QEMU as the front-end: firmware first, with fewer features; then Linux on
PCI, with more than one queue."""

import pytest

from bed import Fio

MODES = ["passthrough", "shadowed"]

#: A boot sector that says on the serial line what the bed waits for, and
#: halts: ds = 0; si = text; while (al = *si++) out(0x3f8, al); hlt.
BOOT_SECTOR = (bytes.fromhex("fa 31c0 8ed8 be167c baf803"
                             "ac 84c0 7403 ee ebf8 f4 ebfd")
               + b"\n<<ready>>\n\0").ljust(510, b"\0") + b"\x55\xaa"


@pytest.mark.parametrize("shadow", ["off", "on"])
def test_firmware_boots_from_the_disk(bed, shadow):
    backend = bed.backend()
    with open(backend.image, "r+b") as image:
        image.write(BOOT_SECTOR)
    umbra = bed.umbra(backend, shadow=shadow)
    bed.qemu(umbra, from_disk=True)
    assert (umbra.requests() > 0) == (shadow == "on")


def test_verified_load_survives_switching(bed):
    umbra = bed.umbra(bed.backend())
    guest = bed.qemu(umbra)
    load = Fio(guest, size="8M").start().wait_progress()
    umbra.switch(500, load)
    load.stop()
    assert umbra.requests() > 0
    assert guest.poweroff() == 0


def test_queue_shorter_than_the_requests_of_its_guest_survives_switching(bed):
    """Linux builds indirect tables of seg_max + 2 descriptors, whatever the queue."""
    umbra = bed.umbra(bed.backend(size=64 << 20))
    guest = bed.qemu(umbra, queue_size=64)
    disk = guest.check("cd /sys/block; [ $(cat vda/serial) = tools ] && echo vdb || echo vda").strip()
    assert int(guest.check(f"cat /sys/block/{disk}/queue/max_segments")) + 2 > 64
    for mode in ["shadowed", "passthrough", "shadowed"]:
        umbra.enter(mode)
        guest.check(f"dd if=/dev/{disk} of=/dev/null bs=512k count=32 iflag=direct")
        guest.check(f"dd if=/dev/zero of=/dev/{disk} bs=512k count=32 conv=fsync")
    assert umbra.vhost()["queues"][0]["table-longest"] > 64
    assert umbra.process.output().count("longer than the ring") == 1
    assert guest.poweroff() == 0


def test_two_queues_switch_at_once(bed):
    umbra = bed.umbra(bed.backend(queues=2))
    guest = bed.qemu(umbra, cpus=2, queues=2)
    # A queue for each CPU; one half of the disk each.
    loads = [Fio(guest, size="8M", offset=f"{32 * cpu}M", cpu=cpu).start()
             for cpu in range(2)]
    for load in loads:
        load.wait_progress()
    umbra.switch(300, loads[0])
    umbra.enter("shadowed")
    for load in loads:
        load.wait_progress()
    queues = umbra.vhost()["queues"]
    assert len(queues) == 2
    for queue in queues:
        assert queue["mode"] == "shadowed", queue
        assert queue["requests"] > 0, queue
    for load in loads:
        load.stop()
    assert guest.poweroff() == 0


@pytest.mark.parametrize("mode", MODES)
def test_rebooted_guest_goes_on(bed, mode):
    umbra = bed.umbra(bed.backend())
    guest = bed.qemu(umbra)
    umbra.enter(mode)
    Fio(guest, size="2M").once()
    guest.reboot()
    umbra.enter(mode)
    load = Fio(guest, size="8M").start().wait_progress()
    umbra.switch(50, load)
    load.stop()
    assert guest.poweroff() == 0


def test_killed_guest_makes_room_for_the_next(bed):
    umbra = bed.umbra(bed.backend())
    for round in range(2):
        guest = bed.qemu(umbra, name=f"qemu{round}")
        umbra.enter("shadowed")
        Fio(guest).start().wait_progress()
        guest.kill()
        umbra.wait_state("waiting")
        assert not umbra.guest_mappings(guest)
