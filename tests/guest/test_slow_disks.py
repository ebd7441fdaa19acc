"""Disks whose requests take their time: at a switch some are always with the
back-end, and there is no moment at which none is."""

import pytest

from bed import Fio


@pytest.mark.parametrize("disk", [
    pytest.param(dict(null=True, latency=2_500_000), id="latency-2.5-ms"),
    pytest.param(dict(rate=2000), id="2000-a-second"),
])
def test_verified_load_survives_a_thousand_switches(bed, disk):
    umbra = bed.umbra(bed.backend(**disk))
    guest = bed.uml(umbra)
    umbra.wait_state("passthrough")
    fio = Fio(guest, depth=8, zeroes="null" in disk).start().wait_progress()
    umbra.switch(1000, fio)
    moved = fio.stop()
    assert moved.reads > 0 and moved.writes > 0
    assert umbra.requests() > 0
    assert guest.poweroff() == 0
