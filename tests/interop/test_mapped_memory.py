"""What a back-end maps of umbra's own, where it locks all that it maps."""

import os
import struct

import pytest
from bed import SimulatedVmm
from bed.peers import INDIRECT, PROTOCOL, VERSION_1
from bed.procfs import mappings

MIB = 1 << 20

#: Where umbra's own memory is beside a small guest.
_OWN = 1 << 46

_ADD_MEM_REG = 37


def _mapped(backend):
    """Bytes of umbra's own memory in the back-end's process, and how many of them are
    resident, which they are if it locks them."""
    found = [mapping for mapping in mappings(backend.testpmd.process.pid)
             if "memfd:umbra" in mapping.name]
    return sum(mapping.size for mapping in found), sum(mapping.resident for mapping in found)


def test_dpdk_which_says_128_queues_maps_little(bed):
    backend = bed.dpdk()
    umbra = bed.umbra(backend)
    frontend = bed.dpdk_frontend(umbra)
    backend.testpmd.do("set fwd io", "start")
    frontend.do("start tx_first")
    frontend.wait_progress()
    size, resident = _mapped(backend)
    assert 0 < size <= 8 * MIB and resident <= size
    for _ in range(5):
        umbra.enter("shadowed")
        frontend.wait_progress()
        umbra.enter("passthrough")
        frontend.wait_progress()
    assert _mapped(backend)[0] == size


@pytest.mark.parametrize("kind", ["libvhost-user", "rust-vmm"])
def test_a_region_more_is_borne_by(bed, kind):
    backend = bed.virtiofsd() if kind == "rust-vmm" else bed.backend(queues=2)
    # A mebibyte more for each ring than there is at first.
    umbra = bed.umbra(backend, options=["--table-max=32768"])
    vmm = SimulatedVmm(bed, umbra).negotiate(VERSION_1 | PROTOCOL | INDIRECT)
    for index in range(2):
        vmm.ring(index, size=1024).start()
    assert umbra.vhost()["memory"]["shadow-regions"] == 1
    for _ in range(10):
        umbra.enter("shadowed")
        umbra.enter("passthrough")
    assert umbra.vhost()["memory"]["shadow-regions"] == 2
    assert umbra.switches() | {"count": 20, "failed": 0} == umbra.switches()
    assert backend.process.alive()


@pytest.mark.parametrize("kind", ["libvhost-user", "rust-vmm"])
def test_memory_that_is_plugged_in_where_ours_is_makes_it_move(bed, kind):
    backend = bed.virtiofsd() if kind == "rust-vmm" else bed.backend()
    umbra = bed.umbra(backend)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    vmm.ring(0).start()
    plugged = os.memfd_create("plugged", os.MFD_CLOEXEC)
    os.ftruncate(plugged, MIB)
    vmm.request(_ADD_MEM_REG, struct.pack("<QQQQQ", 0, _OWN, MIB, _OWN, 0), [plugged])
    assert "moves" in umbra.process.output()
    for _ in range(5):
        umbra.enter("shadowed")
        umbra.enter("passthrough")
    # Where shadow rings run, they stay, and so does what the front-end has.
    umbra.enter("shadowed")
    assert vmm.refuses(_ADD_MEM_REG, struct.pack("<QQQQQ", 0, _OWN + (1 << 30), MIB,
                                                 _OWN + (1 << 30), 0), [plugged])
    os.close(plugged)
    umbra.enter("passthrough")
    assert backend.process.alive()
