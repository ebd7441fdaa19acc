"""umbra's own memory, which the back-end maps, before a real disk: how much it is, and
what a guest can do with it that names it as a buffer."""

import struct

import pytest
from bed import SimulatedBackend, SimulatedVmm
from bed.peers import GET_QUEUE_NUM, INDIRECT, PROTOCOL, VERSION_1
from bed.wait import wait_until

#: Where umbra puts it beside a small guest, as the back-end is told.
OWN = 1 << 46
MIB = 1 << 20

_NEXT, _WRITE = 1, 2
_HEADER, _STATUS, DATA = 0x600000, 0x600800, 0x400000


class Driver:
    """Reads from a virtio disk, one request at a time."""

    def __init__(self, ring):
        self.ring, self.done = ring, 0

    def begin(self, address, length, sector=0):
        memory, at = self.ring.vmm.memory, self.ring.at
        struct.pack_into("<IIQ", memory, _HEADER, 0, 0, sector)
        memory[_STATUS] = 0xff
        struct.pack_into("<QIHH", memory, at, address, length, _WRITE | _NEXT, 2)
        struct.pack_into("<QIHH", memory, at + 32, _STATUS, 1, _WRITE, 0)
        self.ring.offer(1, _HEADER, 16, _NEXT)

    def read(self, address, length, sector=0):
        """Its status."""
        self.begin(address, length, sector)
        self.done += 1
        self.ring.wait_used(self.done)
        return self.ring.vmm.memory[_STATUS]


@pytest.fixture
def disk(bed):
    disk = bed.backend()
    with open(disk.image, "r+b") as image:
        image.write(b"\xff" * MIB + bytes(range(256)) * (MIB // 256))
    return disk


def test_what_the_back_end_maps_of_it_is_small(bed, disk):
    umbra = bed.umbra(disk)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    Driver(vmm.ring(0).start()).read(DATA, 512)
    assert umbra.vhost()["memory"]["shadow-bytes"] == 2 * MIB
    umbra.enter("shadowed")
    assert umbra.vhost()["memory"]["shadow-bytes"] == 2 * MIB


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_many_long_queues_are_shadowed_without_a_word_of_the_operator(bed, mode):
    umbra = bed.umbra(SimulatedBackend(bed, queues=256), shadow=mode)
    vmm = SimulatedVmm(bed, umbra).negotiate(VERSION_1 | PROTOCOL | INDIRECT)
    vmm.ask(GET_QUEUE_NUM)
    for index in range(100):
        vmm.ring(index, size=1024).start()
    umbra.enter("shadowed")
    # The messages that start them have no answer.
    wait_until(lambda: [queue["mode"] for queue in umbra.vhost()["queues"]]
               == ["shadowed"] * 100, "all of them to be shadowed")
    assert 78 * MIB < umbra.vhost()["memory"]["shadow-bytes"] <= 256 * MIB


def test_a_passed_through_guest_that_names_it_harms_nobody(bed, disk):
    umbra = bed.umbra(disk)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    driver = Driver(vmm.ring(0).start())
    for _ in range(10):
        # The disk's ones go where the shadow ring was, and will be.
        for half in range(2):
            assert driver.read(OWN + half * MIB, MIB) == 0
        umbra.enter("shadowed")
        vmm.memory[DATA:DATA + MIB] = bytes(MIB)
        assert driver.read(DATA, MIB, sector=MIB // 512) == 0
        assert vmm.memory[DATA:DATA + MIB] == bytes(range(256)) * (MIB // 256)
        umbra.enter("passthrough")
    assert umbra.switches() | {"count": 20, "failed": 0} == umbra.switches()


def test_a_shadowed_guest_cannot_name_it(bed, disk):
    umbra = bed.umbra(disk)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    driver = Driver(vmm.ring(0).start())
    umbra.enter("shadowed")
    assert driver.read(DATA, 512) == 0
    driver.begin(OWN, 512)
    assert "outside the guest's memory" in umbra.wait_state("broken")["reason"]
