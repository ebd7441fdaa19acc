"""umbra between a guest and passt: a network whose back-end is made of sockets.

QEMU alone is in front: UML takes interrupts only from a back-end with a channel
of its own (BACKEND_REQ), which passt has not.
"""

import pytest

from bed import Passt, QmpError, Stream


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


def test_a_switch_that_would_end_passt_is_refused_and_every_byte_comes_back(bed):
    umbra = bed.umbra(bed.passt())
    guest = connected(bed, umbra)
    assert umbra.state() == "passthrough"
    stream = Stream(guest, Passt.HOST).start().wait_progress(20)
    for _ in range(100):
        with pytest.raises(QmpError) as refusal:
            umbra.shadow(True)
        assert "would end at a kick" in refusal.value.reason
    assert umbra.state() == "passthrough"
    stream.wait_progress(20)
    assert stream.stop() > 0
    assert guest.poweroff() == 0
