"""A guest with vDPA devices: a kernel's own vhost-vdpa, and umbra inside.

QEMU under software emulation runs Debian's 6.12 kernel.  In it are
qemu-storage-daemon for VDUSE, the kernel's simulators and vp_vdpa (built by
scripts/build-vdpa-sim), the program under test, and the project's own
front-end (tests/front), so that nothing of what a vDPA device sees is made up.

The image of the guest comes in two parts: what seldom changes is built once;
the programs under test are put behind it for each guest.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from . import initramfs, kernel
from .guest import Guest
from .umbra import FINDING
from .wait import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]

#: Of the kernel's package, in the order in which to insert them; then ours.
PACKAGED = ["irqbypass", "vhost_iotlb", "vdpa", "vhost", "vhost_vdpa", "vduse"]
BUILT = ["vringh", "vdpa_sim", "vdpa_sim_blk", "vdpa_sim_net", "vp_vdpa"]

HOST_PROGRAMS = ["qemu-storage-daemon", "vdpa"]
OWN_PROGRAMS = ["src/cli/umbra", "tests/front/front", "tests/front/vdpa-probe"]

PCI_SLOT = 0x10         # of the disk for vp_vdpa
PCI_ADDRESS = f"0000:00:{PCI_SLOT:02x}.0"

#: A module that is built in, or inserted before another needs it, is no trouble;
#: a device driver that took vp_vdpa's disk already has to give it back.
SETUP = f"""
mkdir -p /dev/vduse
cd /sys/bus/pci/devices/{PCI_ADDRESS}
echo vp-vdpa >driver_override
[ ! -e driver ] || echo {PCI_ADDRESS} >driver/unbind
echo {PCI_ADDRESS} >/sys/bus/pci/drivers_probe
cd /
"""


class VdpaDevice(NamedTuple):
    kind: str
    name: str
    path: str               # /dev/vhost-vdpa-N, in the guest

    @property
    def backend(self):
        return f"vdpa:{self.path}"


class GuestUmbra:
    """`umbra shadow` inside of a guest, in front of a device.

    What umbra.py is to a program on the host; by `umbra ctl`, since the control
    socket is in the guest."""

    def __init__(self, guest, device, shadow="auto", name="u0"):
        self.guest, self.name = guest, name
        self.socket, self.control = f"/tmp/{name}.vm", f"/tmp/{name}.ctl"
        self.job = guest.spawn(
            f"umbra shadow --socket-path={self.socket} --control={self.control} "
            f"--name={name} --shadow={shadow} --backend={device.backend}")
        status, _ = guest.run(f"""
            until [ -S {self.socket} ] && [ -S {self.control} ]; do
                [ ! -e {self.job.ended} ] || exit 1
                usleep 10000
            done""")
        assert status == 0, "umbra ended: status {}: {}".format(*self.job.wait())

    def execute(self, command, *arguments):
        """What a command returns."""
        return json.loads(self.guest.check(shlex.join(
            ["umbra", "ctl", "--json", self.control, command, *arguments])))

    def status(self):
        return self.execute("query-status")

    def state(self):
        return self.status()["state"]

    def vhost(self):
        return self.execute("query-vhost")

    def requests(self):
        """Requests that went through shadow rings so far."""
        return sum(queue["requests"] for queue in self.vhost()["queues"])

    def switches(self):
        return self.vhost()["switches"]

    def output(self):
        return self.job.output()

    def terminate(self, deadline=PATIENCE):
        """SIGTERM, and its consequences: exit status 0, sockets removed, a log
        without findings of a sanitizer."""
        self.job.terminate()
        status, output = self.job.wait(deadline)
        assert status == 0, f"umbra ended with status {status}:\n{output}"
        assert not FINDING.search(output), f"a sanitizer found:\n{output}"
        self.guest.check(f"[ ! -e {self.socket} ] && [ ! -e {self.control} ]")


class Front:
    """The project's front-end (tests/front/main.c) in a guest: a load that
    verifies all that it gets, and executes commands meanwhile."""

    def __init__(self, umbra, workload, *options):
        """The workload, "blk" or "net", may have options: "blk threads=2"."""
        self.umbra, self.guest = umbra, umbra.guest
        self._base = "/tmp/front"
        words = shlex.join(["front", f"--socket={umbra.socket}", f"--control={umbra.control}",
                            f"--name={umbra.name}", *options, *workload.split()])
        self.guest.check(f"rm -f {self._base}.*; mkfifo {self._base}.in {self._base}.out")
        # When it ends, whoever waits for an answer is told.
        self.job = self.guest.spawn(self.guest.script(f"""
            status=0
            {{ touch {self._base}.open; {words}; }} 0<>{self._base}.in 1<>{self._base}.out || status=$?
            touch {self._base}.over
            echo ended 1<>{self._base}.out
            exit $status"""))
        # What is written to a pipe that nobody has open is gone.
        self.guest.check(f"until [ -e {self._base}.open ]; do usleep 10000; done")

    def do(self, command, deadline=PATIENCE):
        """Have a command executed, and return its answer, a dictionary.  A failure
        of the front-end, and any byte that was not right, fails the test."""
        # The pipe of answers is held open before anything is written to it, since
        # what is in it goes with its last user.
        status, line = self.guest.run(f"""{{
            [ ! -e {self._base}.over ] || exit 1
            echo {shlex.quote(command)} 1<>{self._base}.in
            read -r line
            echo "$line"
            }} 0<>{self._base}.out""", deadline)
        try:
            answer = json.loads(line) if status == 0 else None
        except json.JSONDecodeError:
            answer = None
        assert answer and not answer["errors"], \
            f"'{command}': {line.strip()}\n{self.job.output()}\numbra: {self.umbra.output()}"
        return answer

    def stop(self, deadline=PATIENCE):
        """End the load, verify all that was written, disconnect; the last answer."""
        answer = self.do("stop", deadline)
        status, output = self.job.wait(deadline)
        assert status == 0, f"front ended with status {status}:\n{output}"
        return answer


class VdpaGuest(Guest):
    memory_name = "memory-backend-memfd"

    def __init__(self, bed, name="vdpa", memory="512M"):
        linux = kernel.fetch(bed.cache, "6.12")
        self.disk = bed.path(f"{name}.disk")
        with open(self.disk, "wb") as disk:
            disk.truncate(64 << 20)
        image = bed.path(f"{name}.initramfs")
        image.write_bytes(_lasting_part(bed, linux).read_bytes() + _own_part(bed))
        super().__init__(
            bed, name,
            ["qemu-system-x86_64",
             "-machine", "q35,memory-backend=memory", "-accel", "tcg",
             "-cpu", "qemu64", "-smp", 1, "-m", memory,
             "-object", f"memory-backend-memfd,id=memory,size={memory},share=on",
             "-nodefaults", "-display", "none",
             # vp_vdpa takes only a device behind an IOMMU.
             "-device", "intel-iommu,device-iotlb=on",
             "-drive", f"if=none,id=disk,format=raw,cache=unsafe,file={self.disk}",
             "-device", "virtio-blk-pci,drive=disk,disable-legacy=on,"
                        f"iommu_platform=on,ats=on,num-queues=1,addr={PCI_SLOT:#x}",
             "-kernel", linux.image, "-initrd", image,
             "-append", "console=ttyS0 quiet panic=-1 mitigations=off "
                        "intel_iommu=on bed_console=hvc0",
             "-serial", f"file:{bed.log(f'{name}-serial')}",
             # The console, as in qemu.py.
             "-device", "virtio-serial-pci",
             "-chardev", "stdio,id=console,signal=off",
             "-device", "virtconsole,chardev=console"])
        self.serial = bed.log(f"{name}-serial")

    # Devices

    def vduse(self, name="vb0", queues=1, size=64 << 20):
        """A disk that qemu-storage-daemon serves through VDUSE."""
        self.check(f"""
            truncate -s {size} /tmp/{name}.disk
            qemu-storage-daemon --blockdev driver=file,filename=/tmp/{name}.disk,node-name=disk \\
                --export type=vduse-blk,id=export,node-name=disk,name={name},writable=on,\\
num-queues={queues},queue-size=128 >/tmp/{name}.log 2>&1 &
            echo $! >/tmp/{name}.pid
            until [ -e /dev/vduse/{name} ]; do
                kill -0 $! || {{ cat /tmp/{name}.log; exit 1; }}
                usleep 10000
            done""")
        return self._add("vduse", name, "vduse")

    def sim_blk(self, name="sb0"):
        """The kernel's simulated disk, 128 MiB of memory."""
        return self._add("vdpasim_blk", name, "vdpasim_blk")

    def sim_net(self, name="sn0", mac="52:54:11:12:34:56"):
        """The kernel's simulated network card, which sends to itself.  No byte
        of an address may be 0: it compares them as strings."""
        return self._add("vdpasim_net", name, "vdpasim_net", f"mac {mac}")

    def virtio_pci(self, name="vp0"):
        """QEMU's virtio disk, through vp_vdpa."""
        return self._add("vp_vdpa", name, f"pci/{PCI_ADDRESS}")

    def _add(self, kind, name, management, words=""):
        self.check(f"vdpa dev add name {name} mgmtdev {management} {words}")
        path = self.check(f"""
            cd /sys/bus/vdpa/devices/{name}
            until node=$(ls -d vhost-vdpa-* 2>/dev/null) && [ -c /dev/$node ]; do
                usleep 10000
            done
            echo /dev/$node""").strip()
        return VdpaDevice(kind, name, path)

    def remove(self, device):
        self.check(f"""
            vdpa dev del {device.name}
            if [ -e /tmp/{device.name}.pid ]; then
                kill $(cat /tmp/{device.name}.pid)
                while [ -e /dev/vduse/{device.name} ]; do usleep 10000; done
                rm /tmp/{device.name}.*
            fi""")


def _lasting_part(bed, linux):
    built = subprocess.run(
        [REPOSITORY / "scripts/build-vdpa-sim", linux.version],
        env=_environment(bed), stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    modules = [*initramfs.module_files(linux.modules, PACKAGED),
               *(Path(built, f"{name}.ko") for name in BUILT)]
    programs = [(f"usr/bin/{name}", _which(name)) for name in HOST_PROGRAMS]
    libraries = _libraries([path for _, path in programs]
                           + [bed.build / name for name in OWN_PROGRAMS])
    return initramfs.build(bed.cache, modules, SETUP, files=[
        *programs, *((path.lstrip("/"), Path(path)) for path in libraries)])


def _own_part(bed):
    return initramfs.archive([(f"usr/bin/{Path(name).name}", (bed.build / name).read_bytes())
                              for name in OWN_PROGRAMS])


def _environment(bed):
    return {**os.environ, "BED": str(bed.cache)}


def _which(name):
    # Some live in sbin, which not everybody's PATH has.
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    assert path, f"no program {name} on this machine"
    return Path(path)


def _libraries(programs):
    listing = subprocess.run(["ldd", *programs], check=True, capture_output=True,
                             text=True).stdout
    return sorted(set(re.findall(r"(?:=> |^\s+)(/\S+) \(", listing, re.M)))
