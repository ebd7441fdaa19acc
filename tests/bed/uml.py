"""User Mode Linux: a real Linux guest at native speed, and a generic
vhost-user front-end.

One CPU, and so one virtio-blk queue; queue size 256; split rings.  There is
no reconnect: a device whose back-end went away stays broken.  Its memory is
one unlinked file under TMPDIR.
"""

import os
import signal
from pathlib import Path

from . import generations, initramfs
from .guest import HOST_SETUP, Guest
from .procfs import pids_running
from .virtio_id import BLOCK, FS, NET
from .wait import wait_until

MODULES = Path("/usr/lib/uml/modules")

#: The guest's driver of each device.  A balloon's is for the test to choose.
DRIVERS = {NET: "virtio_net", BLOCK: "virtio_blk", FS: "virtiofs"}

SETUP = f"""
mount -t hostfs none /host -o ro
{HOST_SETUP}
"""


class Uml(Guest):
    # An unnamed file (O_TMPFILE), which the maps call "TMPDIR/#INODE (deleted)".
    memory_name = "/#"

    def __init__(self, bed, devices, name="uml", memory="512M", modules=(),
                 parameters=()):
        """A guest with these devices, each what its device_id says: a disk (vda,
        vdb, ...), a network card (eth0, ...), and so on.  Files of further modules lie in /modules, for a
        test to insert; parameters are words of the kernel's command line."""
        drivers = sorted({DRIVERS[device.device_id] for device in devices
                          if device.device_id in DRIVERS})
        image = initramfs.build(
            bed.cache, initramfs.module_files(MODULES, drivers), SETUP, modules,
            [generations.program(bed)])
        super().__init__(
            bed, name,
            ["linux.uml", f"mem={memory}", f"initrd={image}", "root=/dev/ram0",
             f"uml_dir={bed.path(name)}/", "con0=fd:0,fd:1", "con=null", "quiet",
             *(f"virtio_uml.device={device.socket}:{device.device_id}"
               for device in devices),
             *parameters],
            env={"TMPDIR": str(bed.memory_directory)})

    def kill(self):
        # The helpers may leave the process group, and each pins the whole
        # memory file: look for them by what they share with the main process.
        self.process.kill()
        for helper in self._helpers():
            try:
                os.kill(helper, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not self._helpers(), f"the helpers of {self.name} to end")
        self.console.close()

    def _helpers(self):
        return pids_running("linux.uml", f"uml_dir={self.bed.path(self.name)}/")
