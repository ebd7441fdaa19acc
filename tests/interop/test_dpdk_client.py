"""DPDK's back-end in client mode, which connects to umbra."""

import pytest

from bed.dpdk import DpdkFrontend, Testpmd
from bed.virtio_id import NET

MODES = ["passthrough", "shadowed"]


class ConnectingDpdk:
    """DPDK's vhost library with client=1: it connects, again and again."""

    device_id = NET

    def __init__(self, bed, name="vhost"):
        self.bed, self.name = bed, name
        self.socket = bed.path("listen.sock")
        self.address = f"listen:{self.socket}"
        self.testpmd = None

    def start(self):
        self.testpmd = Testpmd(self.bed, self.name,
                               f"net_vhost0,iface={self.socket},queues=1,client=1")
        self.bed.start(self.testpmd.process, stop=self.testpmd.kill)
        self.testpmd.wait_prompt()
        self.testpmd.do("set fwd mac", "start")


@pytest.mark.parametrize("mode", MODES)
def test_dpdk_connects_and_comes_back_after_its_end(bed, mode):
    backend = ConnectingDpdk(bed)
    umbra = bed.umbra(backend, shadow="on" if mode == "shadowed" else "off")
    backend.start()
    for number in range(2):
        driver = DpdkFrontend(bed, umbra, name=f"virtio-user{number}")
        umbra.wait_state(mode)
        driver.do("set fwd io", "start tx_first")
        driver.wait_progress()
        backend.testpmd.kill()
        umbra.wait_state("backend-lost")
        driver.kill()
        backend.start()
    assert umbra.vhost()["frontends"] == 2
