"""The test bed: real guests, real back-ends, and umbra between them.

A test asks for the `bed` fixture and starts what it needs; each thing is one
file here:

	Backend		qemu-storage-daemon, a vhost-user-blk device
	Virtiofsd	a file system, by one of the rust-vmm family
	Passt		a network card whose back-end is made of sockets
	DpdkBackend	a network card whose back-end polls: DPDK's testpmd
	DpdkFrontend	the same as a front-end and driver, without a guest
	Umbra		the program under test, with its control socket
	UmbraBalloon	the same, as a balloon
	Uml		a User Mode Linux guest: native speed, one CPU
	Qemu		a QEMU guest under software emulation: firmware, PCI, two CPUs
	Fio		verified load on a guest's disk
	Generations	the same, by a program that notices a write which lands late
	Files		verified load on a guest's shared file system
	Stream		verified load on a guest's TCP connection to the host
	Ping		verified load on a guest's network, each packet counted
	Job		any program inside a guest
	SimulatedBalloon	a balloon device that checks the driver, and can misbehave
	BalloonDriver	the project's driver in a guest
	SilentFiles	a simulated file server that stops answering
	Frontend	a front-end and driver of our own, for the real balloon device
	SimulatedServiceManager	an fd store that outlives the program under test
	SimulatedVmm, SimulatedBackend	peers that do what real ones will not (peers.py)
	BlkBack, DiskVmm	a disk that goes wrong at a chosen step, and a driver for it

Rules of the house.  Nothing sleeps to synchronise: every wait names what it
waits for and has a deadline (wait.py).  Deadlines are generous, since they
cost nothing while all is well.  Whatever was started is ended by the bed, in
reverse order, and umbra must end well each time: a clean exit, its sockets
removed, nothing from a sanitizer in its log.
"""

from . import procfs
from .backend import Backend
from .balloon_driver import BalloonDriver
from .bed import Bed
from .blk_back import BlkBack, DiskVmm
from .dpdk import DpdkBackend, DpdkFrontend
from .files import Files
from .fio import Fio
from .frontend import Frontend
from .generations import Generations
from .passt import Passt
from .ping import Ping
from .peers import SimulatedBackend, SimulatedVmm
from .qemu import Qemu
from .qmp import QmpClient, QmpError
from .service_manager import SimulatedServiceManager
from .silent_files import SilentFiles
from .simulated_balloon import SimulatedBalloon
from .stream import Stream
from .uml import Uml
from .umbra import Umbra, UmbraBalloon
from .virtiofsd import Virtiofsd
from .wait import Deadline, TimedOut, wait_until

__all__ = [
    "Backend", "BalloonDriver", "Bed", "BlkBack", "Deadline", "DiskVmm",
    "DpdkBackend", "DpdkFrontend", "Files", "Fio", "Frontend", "Generations", "Passt", "Ping",
    "Qemu", "QmpClient", "QmpError", "SilentFiles", "SimulatedBackend",
    "SimulatedBalloon", "SimulatedServiceManager", "SimulatedVmm", "Stream",
    "TimedOut", "Umbra", "UmbraBalloon", "Uml", "Virtiofsd", "procfs", "wait_until",
]
