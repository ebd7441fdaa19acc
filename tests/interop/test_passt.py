"""umbra between a guest and passt: a network whose back-end is made of sockets.

QEMU alone is in front: UML takes interrupts only from a back-end with a channel
of its own (BACKEND_REQ), which passt has not.
"""

import pytest

from bed import Passt, Stream


def connected(bed, umbra):
    guest = bed.qemu(umbra)
    Passt.configure(guest)
    return guest


@pytest.mark.parametrize("shadow", ["off", "on"])
def test_every_byte_comes_back_in_each_mode(bed, shadow):
    umbra = bed.umbra(bed.passt(), shadow=shadow)
    guest = connected(bed, umbra)
    stream = Stream(guest, Passt.HOST).start().wait_progress(20)
    assert stream.stop() > 0
    assert (umbra.requests() > 0) == (shadow == "on")
    assert guest.poweroff() == 0
