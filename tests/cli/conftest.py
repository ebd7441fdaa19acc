"""Fixtures of the program's tests."""

import pytest

from bed import SimulatedBackend
from simulated import Simulated, SimulatedBalloon


@pytest.fixture
def simulated(bed):
    """A running program with a simulated device."""
    return Simulated(bed)


@pytest.fixture
def simulated_balloon(bed):
    """The same with a simulated balloon: a guest of 1 GiB."""
    return SimulatedBalloon(bed, "b0")


@pytest.fixture(params=["shadow", "balloon"])
def umbra(bed, request):
    """The program as either device; the shadow's back-end is bed.disk."""
    if request.param == "balloon":
        return bed.balloon()
    bed.disk = SimulatedBackend(bed)
    return bed.umbra(bed.disk, shadow="on")


@pytest.fixture(scope="session")
def build():
    from bed.bed import build_directory
    return build_directory()


@pytest.fixture(scope="session")
def program(build):
    """The real program; what needs no device works in the simulated one."""
    real = build / "src/cli/umbra"
    return real if real.exists() else build / "tests/cli/umbra-simulated"
