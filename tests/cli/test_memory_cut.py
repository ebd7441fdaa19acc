"""Guest memory that its front-end takes away, while the device's own thread uses it."""

import os

import pytest
from bed import SimulatedBackend, SimulatedVmm


@pytest.mark.parametrize("kind", ["shadow", "balloon"])
def test_a_front_end_that_cuts_its_memory_is_disconnected(bed, kind):
    """The process goes on: the next front-end is served."""
    if not bed.program.exists():
        pytest.skip(f"{bed.program} is not built")
    umbra = bed.balloon() if kind == "balloon" else \
        bed.umbra(SimulatedBackend(bed), shadow="on")
    vmm = SimulatedVmm(bed, umbra).negotiate()
    os.ftruncate(vmm.fd, 0)
    try:
        vmm.ring(0).start()
    except (ConnectionError, AssertionError):
        pass                            # told so, or disconnected at once
    vmm.wait_end()
    SimulatedVmm(bed, umbra).negotiate().ring(0).start()
    umbra.terminate()
