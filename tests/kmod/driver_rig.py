"""The project's driver in a UML guest, against a simulated device."""

import contextlib

from bed import BalloonDriver, SimulatedBalloon
from bed.balloon_driver import module
from bed.simulated_balloon import PAGE_BITMAP

#: A warning of the kernel's ends the guest, and so the test.
WATCHFUL = ("panic_on_warn=1",)


class Rig:
    def __init__(self, bed, features=(PAGE_BITMAP,), memory="512M", parameters=()):
        self.device = SimulatedBalloon(bed, features)
        self.guest = bed.uml(self.device, memory=memory, modules=[module(bed)],
                             parameters=[*WATCHFUL, *parameters])
        self.driver = BalloonDriver(self.guest)

    def finish(self):
        self.driver.check_log()
        assert not self.device.complaints, self.device.complaints[:10]


@contextlib.contextmanager
def rig(bed, load=True, **options):
    """A guest with the driver, whose kernel must have nothing to say at the end.
    Options of the rig's, and parameters of the driver's with load."""
    made = Rig(bed, **options)
    if load is not False:
        made.driver.load(**(load if isinstance(load, dict) else {}))
    yield made
    made.finish()
