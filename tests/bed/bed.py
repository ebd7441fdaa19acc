"""The bed itself: the folder of a test, and all that it started."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from .backend import Backend
from .dpdk import DpdkBackend, DpdkFrontend
from .passt import Passt
from .qemu import Qemu
from .qmp import QmpClient
from .uml import Uml
from .umbra import Umbra, UmbraBalloon
from .virtiofsd import Virtiofsd

REPOSITORY = Path(__file__).resolve().parents[2]


def build_directory():
    return Path(os.environ.get("UMBRA_BUILD", REPOSITORY / "build")).resolve()


class Bed:
    def __init__(self):
        self.build = build_directory()
        self.program = self.build / "src/cli/umbra"
        #: Things that are made once and kept: initramfs images, a kernel.
        self.cache = self.build / "bed"
        #: Where guest memory and disks live: in memory, if there is room.
        self.memory_directory = _roomy("/dev/shm", "/tmp")
        # A short path: a unix socket's must fit in 108 bytes.
        self.directory = Path(tempfile.mkdtemp(prefix="umbra-",
                                               dir=self.memory_directory))
        self._started = []
        self._logs = []
        self._closing = contextlib.ExitStack()

    # Paths

    def path(self, name):
        return self.directory / name

    def log(self, name):
        """The log file of a thing; things of one name share it."""
        path = self.path(f"{name}.log")
        if path not in self._logs:
            self._logs.append(path)
        return path

    # Things

    def start(self, process, stop=None):
        """Take charge of a started process; stop is how to end it."""
        self._started.append((process, stop or process.stop))
        return process

    def backend(self, **options):
        return Backend(self, **options)

    def virtiofsd(self, **options):
        return Virtiofsd(self, **options)

    def passt(self, **options):
        return Passt(self, **options)

    def dpdk(self, **options):
        return DpdkBackend(self, **options)

    def dpdk_frontend(self, device, **options):
        return DpdkFrontend(self, device, **options)

    def umbra(self, backend, **options):
        return Umbra(self, backend, **options)

    def balloon(self, *options, **more):
        """`umbra balloon` with these options of its command line."""
        return UmbraBalloon(self, *options, **more)

    def control_client(self, umbra):
        """A further client on umbra's control socket."""
        client = QmpClient(umbra.control)
        self._closing.callback(client.close)
        return client

    def uml(self, *devices, **options):
        """A UML guest, booted, with these devices (anything with a .socket)."""
        return Uml(self, devices, **options).wait_boot()

    def qemu(self, device, **options):
        """A QEMU guest, booted, with this device."""
        return Qemu(self, device, **options).wait_boot()

    # The end

    def report(self):
        """(title, last lines) of every log, for a failed test."""
        return [(path.name, "\n".join(
                    path.read_text(errors="replace").splitlines()[-60:]))
                for path in self._logs if path.exists()]

    def stop(self):
        """End everything, the last started first.  The first complaint is
        raised once all has ended."""
        complaint = None
        for _, stop in reversed(self._started):
            try:
                stop()
            except Exception as error:
                complaint = complaint or error
        self._started.clear()
        self._closing.close()
        if complaint:
            raise complaint

    def remove(self, keep_logs_in=None):
        if keep_logs_in:
            shutil.rmtree(keep_logs_in, ignore_errors=True)
            keep_logs_in.mkdir(parents=True)
            for path in self._logs:
                if path.exists():
                    shutil.copy(path, keep_logs_in)
        shutil.rmtree(self.directory, ignore_errors=True)


def _roomy(*candidates, needed=2 << 30):
    for path in candidates:
        if os.path.isdir(path):
            room = os.statvfs(path)
            if room.f_bavail * room.f_frsize >= needed:
                return Path(path)
    return Path(tempfile.gettempdir())
