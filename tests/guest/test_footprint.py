"""What umbra costs while nothing happens."""

import time

import pytest

from bed import Fio, wait_until

#: Seconds for which to watch an idle process.
WINDOW = 3.0


@pytest.mark.parametrize("mode", ["passthrough", "shadowed"])
def test_idle_guest_wakes_nobody(bed, mode):
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.enter(mode)
    Fio(guest, size="4M").once()
    _wait_quiet(umbra)
    before = umbra.context_switches()
    time.sleep(WINDOW)          # not to synchronise: this is the measurement
    woken = umbra.context_switches() - before
    assert woken == 0, f"{woken} context switches in {WINDOW:g} idle seconds"
    # Idle, and not dead.
    Fio(guest, size="4M").once()
    assert guest.poweroff() == 0


def test_passed_through_requests_do_not_touch_umbra(bed):
    """Whatever a disk does, passed through it does it without umbra: not one
    thread of it runs."""
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.wait_state("passthrough")
    _wait_quiet(umbra)
    before = umbra.context_switches()
    load = Fio(guest, size="16M").once()
    assert load.reads == load.writes == 4096
    assert umbra.context_switches() == before
    assert guest.poweroff() == 0


def test_own_memory_stays_small(bed):
    umbra = bed.umbra(bed.backend())
    if umbra.is_sanitized():
        pytest.skip("a sanitizer's own memory is in the way")
    guest = bed.uml(umbra)
    umbra.enter("shadowed")
    Fio(guest, size="32M").once()
    own = umbra.own_resident(guest)
    assert own < 8 << 20, f"{own / (1 << 20):.1f} MiB resident"
    assert guest.poweroff() == 0


def _wait_quiet(umbra):
    """Until half a second has passed without a wake-up."""
    def quiet():
        before = umbra.context_switches()
        time.sleep(0.5)
        return umbra.context_switches() == before
    wait_until(quiet, "umbra to fall asleep")
