"""QEMU as it runs before DPDK: it listens, and umbra connects to it."""

from types import SimpleNamespace

import pytest

from bed import Fio
from bed.backend import listens
from bed.virtio_id import BLOCK
from bed.wait import wait_until

MODES = ["passthrough", "shadowed"]


@pytest.mark.parametrize("mode", MODES)
def test_qemu_listens_and_outlives_umbra(bed, mode):
    path = bed.path("qemu.sock")
    backend = bed.backend()
    umbra = bed.umbra(backend, name="u1", connect=path)
    guest = bed.qemu(SimpleNamespace(socket=f"{path},server=on", device_id=BLOCK))
    umbra.enter(mode)
    load = Fio(guest, size="8M").start().wait_progress()
    umbra.kill()
    wait_until(lambda: listens(path), "QEMU to listen again")
    umbra = bed.umbra(backend, name="u2", connect=path)
    umbra.wait_state("passthrough", "shadowed")
    umbra.enter(mode)
    load.wait_progress()
    load.stop()
    assert guest.poweroff() == 0
