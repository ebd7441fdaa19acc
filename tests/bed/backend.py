"""qemu-storage-daemon as the vhost-user-blk back-end."""

import signal

from .process import Process
from .wait import wait_until


def listens(path):
    """Is a program listening on this socket?  Looks without connecting, since
    a vhost-user back-end takes a connection for its front-end."""
    with open("/proc/net/unix") as sockets:
        for line in sockets:
            fields = line.split()
            # Num RefCount Protocol Flags Type St Inode Path; flag 0x10000
            # is SO_ACCEPTCON.
            if fields[-1] == str(path) and int(fields[3], 16) & 0x10000:
                return True
    return False


class Backend:
    """A disk.  The image file outlives the daemon, so that it can be
    restarted, or looked at from outside once it is stopped."""

    def __init__(self, bed, name="disk", size=64 << 20, queues=1, null=False):
        """With null, a disk that takes everything and returns zeroes."""
        self.bed = bed
        self.name = name
        self.queues = queues
        self.socket = bed.path(f"{name}.sock")
        if null:
            self.image = None
            self._blockdev = f"driver=null-co,size={size},read-zeroes=on"
        else:
            self.image = bed.path(f"{name}.img")
            with open(self.image, "wb") as image:
                image.truncate(size)
            self._blockdev = (f"driver=file,filename={self.image},"
                              "cache.direct=off,discard=unmap")
        self.process = None
        self.start()

    def start(self):
        """Start, or start again after kill() or stop()."""
        assert not self.process or not self.process.alive()
        self.socket.unlink(missing_ok=True)     # it does not remove its own
        self.process = self.bed.start(Process(
            self.name,
            ["qemu-storage-daemon",
             "--blockdev", f"{self._blockdev},node-name=node",
             "--export", "type=vhost-user-blk,id=export,node-name=node,"
                         f"writable=on,num-queues={self.queues},"
                         f"addr.type=unix,addr.path={self.socket}"],
            self.bed.log(self.name)))
        wait_until(self._ready, f"{self.socket} to listen")

    def _ready(self):
        assert self.process.alive(), \
            f"qemu-storage-daemon ended: {self.process.tail()}"
        return listens(self.socket)

    def kill(self):
        """A crash."""
        self.process.kill()

    def freeze(self):
        """A back-end that hangs."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)
