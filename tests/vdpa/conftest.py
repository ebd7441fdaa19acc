"""One guest for all tests of vDPA: it is booted once, and anew after a failure,
since nobody knows what a failed test leaves behind."""

import pytest

from bed import Bed
from bed.vdpa import Front, GuestUmbra, VdpaGuest


@pytest.fixture(scope="session")
def bed(request):
    """The bed of the guest; the logs of failed tests are kept in the build folder,
    under bed/failed/."""
    bed, before = Bed(), request.session.testsfailed
    try:
        yield bed
    finally:
        kept = bed.cache / "failed" / "vdpa"
        try:
            bed.stop()
        except BaseException:
            bed.remove(keep_logs_in=kept)
            raise
        bed.remove(keep_logs_in=kept if request.session.testsfailed > before else None)


@pytest.fixture(scope="session")
def booted(bed):
    """The guest that runs, if one does."""
    return []


@pytest.fixture
def guest(request, bed, booted):
    before = request.session.testsfailed
    if not booted:
        booted.append(VdpaGuest(bed).wait_boot())
    yield booted[0]
    if request.session.testsfailed > before:
        booted.pop().kill()


@pytest.fixture
def add(request, guest):
    """Add a device of some kind, by its name in docs/vdpa.md."""
    before, devices = request.session.testsfailed, []

    def add(kind):
        make = {"VDUSE": guest.vduse, "vdpa_sim_blk": guest.sim_blk,
                "vdpa_sim_net": guest.sim_net, "vp_vdpa": guest.virtio_pci}[kind]
        devices.append(make())
        return devices[-1]

    yield add
    if request.session.testsfailed == before:
        for device in devices:
            guest.remove(device)


@pytest.fixture
def shadow(guest, add):
    """Start umbra in front of a new device, in the guest."""
    def start(kind, mode="auto"):
        umbra = GuestUmbra(guest, add(kind), mode)
        assert umbra.state() == "waiting"
        return umbra

    return start


@pytest.fixture
def load():
    """Start a load on a device: see bed.vdpa.Front."""
    return Front
