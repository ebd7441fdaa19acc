"""Guest memory that its front-end takes away, while the device's own thread uses it."""

import contextlib
import os

from bed import SimulatedVmm
from bed.peers import GET_FEATURES
from bed.wait import wait_until


def is_hung_up_on(vmm):
    try:
        vmm.ask(GET_FEATURES)
    except ConnectionError:
        return True
    return False


def test_a_front_end_that_cuts_its_memory_is_disconnected(bed, umbra):
    """The process goes on: the next front-end is served."""
    vmm = SimulatedVmm(bed, umbra).negotiate()
    os.ftruncate(vmm.fd, 0)
    with contextlib.suppress(AssertionError, ConnectionError):
        vmm.ring(0).start()             # or refused, or disconnected at once
    wait_until(lambda: is_hung_up_on(vmm), "umbra to hang up")
    SimulatedVmm(bed, umbra).negotiate().ring(0).start()
    umbra.terminate()
