"""Programs that serve a vhost-user device, and the first of them:
qemu-storage-daemon, which serves a disk."""

import signal

from .process import Process
from .virtio_id import BLOCK
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


class BackendProgram:
    """A back-end's program and its socket.  Subclasses say what they serve by
    device_id, and how they are run by argv()."""

    #: The virtio device id.
    device_id = None

    def __init__(self, bed, name):
        self.bed = bed
        self.name = name
        self.socket = bed.path(f"{name}.sock")
        self.process = None
        self.start()

    def argv(self):
        """The words that run it."""
        raise NotImplementedError

    def start(self):
        """Start, or start again after kill() or stop()."""
        assert not self.process or not self.process.alive()
        self.socket.unlink(missing_ok=True)     # few remove their own
        self.process = self.bed.start(self.make_process(), stop=self.kill)
        wait_until(self._ready, f"{self.socket} to listen")

    def make_process(self):
        return Process(self.name, self.argv(), self.bed.log(self.name))

    def _ready(self):
        assert self.process.alive(), f"{self.name} ended: {self.process.tail()}"
        return listens(self.socket)

    def kill(self):
        """A crash."""
        self.process.kill()

    def freeze(self):
        """A back-end that hangs."""
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        self.process.signal(signal.SIGCONT)


class Backend(BackendProgram):
    """A disk.  The image file outlives the daemon, so that it can be
    restarted, or looked at from outside once it is stopped."""

    device_id = BLOCK

    def __init__(self, bed, name="disk", size=64 << 20, queues=1, null=False,
                 latency=0, rate=0):
        """With null, a disk that takes everything and returns zeroes, each
        request after so many nanoseconds of latency.  With a rate, a disk that
        does so many requests a second, and lets the others wait."""
        assert null or not latency, "only a null disk has a latency"
        self.queues = queues
        if null:
            self.image = None
            blockdev = (f"driver=null-co,size={size},read-zeroes=on,"
                        f"latency-ns={latency}")
        else:
            self.image = bed.path(f"{name}.img")
            with open(self.image, "wb") as image:
                image.truncate(size)
            blockdev = (f"driver=file,filename={self.image},"
                        "cache.direct=off,discard=unmap")
        if rate:
            self._node = [
                "--object", f"throttle-group,id=rate,x-iops-total={rate}",
                "--blockdev", f"{blockdev},node-name=fast",
                "--blockdev", "driver=throttle,throttle-group=rate,file=fast,"
                              "node-name=node"]
        else:
            self._node = ["--blockdev", f"{blockdev},node-name=node"]
        super().__init__(bed, name)

    def argv(self):
        return ["qemu-storage-daemon", *self._node,
                "--export", "type=vhost-user-blk,id=export,node-name=node,"
                            f"writable=on,num-queues={self.queues},"
                            f"addr.type=unix,addr.path={self.socket}"]
