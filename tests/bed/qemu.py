"""QEMU under software emulation, as a second front-end: virtio over PCI,
SeaBIOS before Linux, more than one CPU and queue.

Slow in computing, and honest in protocol.  Its memory is a memfd.  A disk gets
bookworm's QEMU, and any other device trixie's, which has a front-end of its own
for network cards and file systems, and a generic one.
"""

import os
import subprocess

from . import generations, initramfs, kernel, tools, trixie
from .guest import HOST_SETUP, Guest
from .procfs import allocated
from .qmp import QmpClient
from .virtiofsd import TAG
from .virtio_id import BALLOON, BLOCK, FS, NET
from .wait import wait_until

#: The tools disk is found by its serial number, since disks are named in the
#: order in which the guest happens to find them.
SETUP = f"""
for disk in vda vdb; do
	[ "$(cat /sys/block/$disk/serial)" = tools ] && tools=$disk
done
mount -t ext4 -o ro,noload /dev/$tools /host
{HOST_SETUP}
"""

GENERIC = "vhost-user-test-device-pci"

#: The generic front-end has to be told a device's shape, by its virtio id.
SHAPES = {BALLOON: {"num_vqs": 5, "vq_size": 256, "config_size": 16}}


class Qemu(Guest):
    memory_name = "memory-backend-memfd"

    def __init__(self, bed, device, name="qemu", cpus=1, queues=1, queue_size=128,
                 memory="256M",
                 from_disk=False, linux="bookworm", modules=(), parameters=(),
                 room=None, words=()):
        """The device: anything with a .socket, a disk or whatever its device_id
        says; or the text of one of QEMU's own, for bookworm's QEMU.  With
        from_disk, the firmware starts what it finds on the disk, and no Linux is
        at hand.  Otherwise linux is the kernel's name (kernel.py), files of
        further modules lie in /modules, for a test to insert, and parameters are
        words of the kernel's command line.  With room, so much memory may be plugged
        in, up to a sum like "8G"; words are more of QEMU's own command line."""
        shown = _shown(bed, device, queues, queue_size)
        payload = (["-serial", "stdio"] if from_disk
                   else _linux(bed, name, linux, shown.drivers, modules, parameters))
        self._monitor_path = bed.path(f"{name}.qmp")
        self._monitor = None
        super().__init__(
            bed, name,
            [*shown.program, "-machine", "q35,memory-backend=memory",
             "-accel", "tcg", "-cpu", "qemu64", "-smp", cpus,
             "-m", f"{memory},slots=4,maxmem={room}" if room else memory,
             "-object", f"memory-backend-memfd,id=memory,size={memory},share=on",
             "-nodefaults", "-display", "none",
             "-qmp", f"unix:{self._monitor_path},server=on,wait=off",
             *shown.words, *words, *payload],
            env=shown.env)

    @property
    def monitor(self):
        if not self._monitor:
            wait_until(self._monitor_path.exists, f"{self._monitor_path} to appear")
            self._monitor = QmpClient(self._monitor_path)
        return self._monitor

    def reboot(self):
        """From inside; returns when the guest is up again."""
        self.console.send("reboot -f")
        return self.wait_boot()

    def suspend(self):
        """To memory (S3), from inside; returns when the guest sleeps."""
        self.monitor.events.clear()
        self._sleeper = self.spawn(self.script("echo mem >/sys/power/state"))
        self.monitor.wait_event("SUSPEND")

    def wake(self):
        """Returns when the guest's kernel is back from suspend()."""
        self.monitor.execute("system_wakeup")
        status, output = self._sleeper.wait()
        assert status == 0, f"{self.name} failed to suspend: {output}"

    def unplug(self, name="vhost"):
        """Pull the device, and wait until the guest has let go of it.  Not a disk
        nor one of QEMU's own."""
        self.monitor.events.clear()
        self.monitor.execute("device_del", {"id": f"{name}-device"})
        self.monitor.wait_event("DEVICE_DELETED",
                                lambda data: data.get("device") == f"{name}-device")

    def plug(self, device, name):
        """A device in the place of an unplugged one, with a name of its own."""
        self.monitor.execute("chardev-add", {"id": name, "backend": {
            "type": "socket", "data": {"server": False, "addr": {
                "type": "unix", "data": {"path": str(device.socket)}}}}})
        self.monitor.execute("device_add", {"driver": GENERIC, **_Any.options(device, name)})

    def held(self):
        """Bytes that the host holds of the guest's memory."""
        return allocated(self.process.pid, self.memory_name)

    def kill(self):
        super().kill()
        if self._monitor:
            self._monitor.close()


class _Disk:
    """How bookworm's QEMU shows a disk to its guest."""

    program, env, drivers = ["qemu-system-x86_64"], None, []

    def __init__(self, socket, queues, queue_size):
        self.words = ["-chardev", f"socket,id=vhost,path={socket}",
                      "-device", "vhost-user-blk-pci,chardev=vhost,bootindex=1,"
                                 f"num-queues={queues},queue-size={queue_size}"]


class _Own:
    """A device of bookworm's QEMU itself."""

    program, env, drivers = _Disk.program, None, []

    def __init__(self, text):
        self.words = ["-device", text]


class _New:
    """What trixie's QEMU shows to its guest."""

    drivers = []

    def __init__(self, bed, device):
        self.tree = trixie.fetch(bed.cache, "qemu-system-x86")
        self.program = [*trixie.program(self.tree, "qemu-system-x86_64"),
                        "-L", self.tree / "usr/share/qemu",
                        "-L", self.tree / "usr/share/seabios"]
        self.env = {"QEMU_MODULE_DIR": str(self.tree / "usr/lib/x86_64-linux-gnu/qemu")}
        self.words = ["-chardev", f"socket,id=vhost,path={device.socket}"]


class _Net(_New):
    drivers = ["virtio_net"]

    def __init__(self, bed, device):
        super().__init__(bed, device)
        self.words += ["-netdev", "vhost-user,id=net,chardev=vhost",
                       "-device", "virtio-net-pci,netdev=net"]


class _Fs(_New):
    drivers = ["virtiofs"]

    def __init__(self, bed, device):
        super().__init__(bed, device)
        self.words += ["-device", f"vhost-user-fs-pci,chardev=vhost,tag={TAG}"]


class _Any(_New):
    """How trixie's QEMU shows any other device, in a slot of its own, from which
    it can be pulled."""

    SLOT = "slot9"

    def __init__(self, bed, device):
        super().__init__(bed, device)
        asked = subprocess.run([*self.program, "-device", f"{GENERIC},help"], text=True,
                               capture_output=True, env={**os.environ, **self.env})
        if asked.returncode != 0:
            raise FileNotFoundError(f"the newest QEMU on Debian's mirror, in {self.tree}, has no "
                                    f"{GENERIC}: {asked.stderr}")
        options = ",".join(f"{name}={value}" for name, value in self.options(device).items())
        self.words += ["-device", f"pcie-root-port,id={self.SLOT},slot=9",
                       "-device", f"{GENERIC},{options}"]

    @classmethod
    def options(cls, device, name="vhost"):
        return {"id": f"{name}-device", "bus": cls.SLOT, "chardev": name,
                "virtio-id": device.device_id, **SHAPES[device.device_id]}


def _shown(bed, device, queues, queue_size):
    if isinstance(device, str):
        return _Own(device)
    if device.device_id == BLOCK:
        return _Disk(device.socket, queues, queue_size)
    return {NET: _Net, FS: _Fs}.get(device.device_id, _Any)(bed, device)


def _linux(bed, name, linux, drivers, modules, parameters):
    found = kernel.fetch(bed.cache, linux)
    needed = initramfs.module_files(
        found.modules, ["virtio_pci", "virtio_blk", "virtio_console", *drivers])
    return ["-kernel", found.image,
            "-initrd", initramfs.build(bed.cache, needed, SETUP, modules,
                                       [generations.program(bed)]),
            "-append", " ".join(["console=ttyS0 quiet panic=-1 mitigations=off "
                                 "bed_console=hvc0", *parameters]),
            # Under emulation the serial line loses characters of what we say
            # to the guest: that goes by virtio.
            "-serial", f"file:{bed.log(f'{name}-serial')}",
            "-device", "virtio-serial-pci",
            "-chardev", "stdio,id=console,signal=off",
            "-device", "virtconsole,chardev=console",
            "-drive", "if=none,id=tools,format=raw,readonly=on,"
                      f"file={tools.build(bed.cache)}",
            "-device", "virtio-blk-pci,drive=tools,serial=tools"]
