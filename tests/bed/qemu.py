"""QEMU under software emulation, as a second front-end: virtio over PCI,
SeaBIOS before Linux, more than one CPU and queue.

Slow in computing, and honest in protocol.  Its memory is a memfd.
"""

from . import initramfs, kernel, tools
from .guest import HOST_SETUP, Guest
from .qmp import QmpClient
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


class Qemu(Guest):
    memory_name = "memory-backend-memfd"

    def __init__(self, bed, socket, name="qemu", cpus=1, queues=1, memory="256M",
                 from_disk=False):
        """With from_disk, the firmware starts what it finds on the disk, and
        no Linux is at hand."""
        payload = ["-serial", "stdio"] if from_disk else _linux(bed, name)
        self._monitor_path = bed.path(f"{name}.qmp")
        self._monitor = None
        super().__init__(
            bed, name,
            ["qemu-system-x86_64", "-machine", "q35,memory-backend=memory",
             "-accel", "tcg", "-cpu", "qemu64", "-smp", cpus, "-m", memory,
             "-object", f"memory-backend-memfd,id=memory,size={memory},share=on",
             "-nodefaults", "-display", "none",
             "-qmp", f"unix:{self._monitor_path},server=on,wait=off",
             "-chardev", f"socket,id=vhost,path={socket}",
             "-device", f"vhost-user-blk-pci,chardev=vhost,num-queues={queues},"
                        "bootindex=1",
             *payload],
            boot_deadline=90)

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

    def kill(self):
        super().kill()
        if self._monitor:
            self._monitor.close()


def _linux(bed, name):
    linux = kernel.fetch(bed.cache)
    modules = initramfs.module_files(
        linux.modules, ["virtio_pci", "virtio_blk", "virtio_console"])
    return ["-kernel", linux.image,
            "-initrd", initramfs.build(bed.cache, modules, SETUP),
            "-append", "console=ttyS0 quiet panic=-1 mitigations=off "
                       "bed_console=hvc0",
            # Under emulation the serial line loses characters of what we say
            # to the guest: that goes by virtio.
            "-serial", f"file:{bed.log(f'{name}-serial')}",
            "-device", "virtio-serial-pci",
            "-chardev", "stdio,id=console,signal=off",
            "-device", "virtconsole,chardev=console",
            "-drive", "if=none,id=tools,format=raw,readonly=on,"
                      f"file={tools.build(bed.cache)}",
            "-device", "virtio-blk-pci,drive=tools,serial=tools"]
