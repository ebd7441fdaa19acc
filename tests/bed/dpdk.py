"""DPDK's testpmd, as the vhost-user-net back-end (net_vhost) and as a front-end
(virtio-user): both poll, and count each packet.

It needs no huge pages: with --no-huge, DPDK's memory is one memfd.  Commands go
to its console; what it has counted is asked of its telemetry socket, since what
it prints comes when it likes.
"""

import json
import os
import re
import socket
from typing import NamedTuple

from . import trixie
from .backend import BackendProgram
from .process import Process
from .transcript import Ended, Transcript
from .virtio_id import NET
from .wait import PATIENCE, Deadline, wait_until

PACKAGE = "dpdk-dev"

#: Drivers, which DPDK loads by their names.
DRIVERS = ("bus_vdev", "mempool_ring", "net_vhost", "net_virtio")

_PROMPT = re.compile(rb"testpmd> ")


class Counters(NamedTuple):
    """What a port has received and sent so far, and what went wrong."""
    received: int
    sent: int
    errors: int


class Testpmd:
    """The program with one port, a virtual device."""

    __test__ = False            # no matter what pytest thinks of the name

    def __init__(self, bed, name, vdev):
        """Start it; it does not forward yet."""
        self.bed, self.name = bed, name
        tree = trixie.fetch(bed.cache, PACKAGE)
        libraries = tree / "usr/lib/x86_64-linux-gnu"
        # One thread for commands and one that polls, on any processor.
        cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        log = bed.log(name)
        self.process = Process(
            name,
            [*trixie.program(tree, "dpdk-testpmd",
                             libraries=libraries.glob("dpdk/pmds-*")),
             *(word for driver in DRIVERS for word in ("-d", f"librte_{driver}.so")),
             f"--lcores=0@({cpus}),1@({cpus})", f"--file-prefix={name}", "--no-shconf",
             "--no-pci", "--no-huge", "-m", 128, "--vdev", vdev,
             "--", "--total-num-mbufs=4096", "--interactive"],
            log, env={"RUNTIME_DIRECTORY": str(bed.directory)}, console=True)
        self._transcript = Transcript(f"console of {name}", self.process.popen.stdout, log)

    def wait_prompt(self, deadline=PATIENCE):
        """Until it takes commands; what it has said before."""
        limit = Deadline(deadline, f"{self.name} to be ready for commands")
        try:
            return self._transcript.take(_PROMPT, limit)[0]
        except Ended:
            raise AssertionError(f"{self.name} ended: {self.process.tail()}") from None

    def do(self, *commands):
        """Execute commands.  A wrong one shows in the log only."""
        for command in commands:
            self.process.popen.stdin.write(command.encode() + b"\n")
            self.wait_prompt()

    def counters(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as telemetry:
            telemetry.settimeout(PATIENCE)
            telemetry.connect(str(self.bed.path(f"dpdk/{self.name}/dpdk_telemetry.v2")))
            telemetry.recv(65536)               # who it is
            telemetry.send(b"/ethdev/stats,0")
            stats = json.loads(telemetry.recv(65536))["/ethdev/stats"]
        return Counters(stats["ipackets"], stats["opackets"],
                        stats["imissed"] + stats["ierrors"] + stats["rx_nombuf"])

    def wait_progress(self, packets=500, deadline=PATIENCE):
        """Until it has received that many more."""
        goal = self.counters().received + packets
        wait_until(lambda: self.counters().received >= goal,
                   f"{self.name} to receive {packets} more packets", deadline)
        return self

    def kill(self):
        self.process.kill()
        self._transcript.close()


class DpdkBackend(BackendProgram):
    """A network card whose back-end polls.  What it forwards, and how, is for the
    test to say: see testpmd.do()."""

    device_id = NET

    def __init__(self, bed, name="vhost"):
        self.testpmd = None
        super().__init__(bed, name)

    def make_process(self):
        self.testpmd = Testpmd(self.bed, self.name,
                               f"net_vhost0,iface={self.socket},queues=1")
        return self.testpmd.process

    def start(self):
        super().start()
        self.testpmd.wait_prompt()

    def kill(self):
        self.testpmd.kill()


class DpdkFrontend(Testpmd):
    """A guest's driver without a guest: virtio-user."""

    def __init__(self, bed, device, name="virtio-user"):
        super().__init__(bed, name, f"net_virtio_user0,path={device.socket},queues=1")
        bed.start(self.process, stop=self.kill)
        self.wait_prompt()
