"""A simulated file server that falls silent: a FUSE file system with one file.

No real server stops answering when a test wants it to, so this one is simulated.
Whoever asks a silent server waits until it is killed.
"""

import ctypes
import os
import struct
import subprocess
import sys

try:
    from .process import Process
    from .wait import wait_until
except ImportError:                             # run as the server
    Process = wait_until = None

# Requests, by the numbers of linux/fuse.h.
(_LOOKUP, _FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC,
 _FLUSH, _INIT, _OPENDIR, _ACCESS, _DESTROY, _BATCH_FORGET) = (
    1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 27, 34, 38, 42)


class SilentFiles:
    """The file system, mounted; .open() opens its file, .silence() is its end."""

    def __init__(self, bed, size):
        self.size = size
        self.mount = bed.path("silent")
        self.mount.mkdir()
        self._silence = bed.path("silent.now")
        self.process = bed.start(Process(
            "silent-files", [sys.executable, __file__, self.mount, size, self._silence],
            bed.log("silent-files")), stop=self._stop)
        wait_until(self._mounted, "the file system to be mounted")

    def _mounted(self):
        assert self.process.alive(), self.process.tail()
        return os.path.ismount(self.mount)

    def open(self):
        return os.open(self.mount / "memory", os.O_RDWR | os.O_CLOEXEC)

    def silence(self):
        """From now on nothing is answered."""
        self._silence.touch()

    def _stop(self):
        # The connection ends with the server, and whoever waits is let go.
        self.process.kill()
        subprocess.run(["umount", "-l", self.mount])


def _attributes(node, size):
    is_folder = node == 1
    return struct.pack("<QQQQQQIIIIIIIIII", node, 4096 if is_folder else size, size // 512,
                       0, 0, 0, 0, 0, 0, 0o40755 if is_folder else 0o100644, 1, 0, 0, 0,
                       4096, 0)


def _answer(request, node, data, size):
    """(errno, bytes), or None where none is wanted."""
    if request == _INIT:
        return 0, struct.pack("<IIIIHHIIHHI7I", 7, 31, 65536, 0, 16, 12, 65536, 1, 0, 0, 0,
                              *[0] * 7)
    if request == _LOOKUP:
        return 0, struct.pack("<QQQQII", 2, 0, 1000, 0, 0, 0) + _attributes(2, size)
    if request in (_GETATTR, _SETATTR):
        return 0, struct.pack("<QII", 0, 0, 0) + _attributes(node, size)
    if request in (_OPEN, _OPENDIR):
        return 0, struct.pack("<QII", 1, 0, 0)
    if request == _READ:
        return 0, bytes(struct.unpack_from("<QQI", data)[2])
    if request == _WRITE:
        return 0, struct.pack("<II", struct.unpack_from("<QQI", data)[2], 0)
    if request == _STATFS:
        return 0, struct.pack("<QQQQQIIII6I", 1000, 1000, 1000, 10, 10, 4096, 255, 4096, 0,
                              *[0] * 6)
    if request in (_FORGET, _BATCH_FORGET):
        return None
    if request in (_RELEASE, _FSYNC, _FLUSH, _ACCESS, _DESTROY):
        return 0, b""
    return -38, b""                             # ENOSYS


def _serve(mount, size, silence):
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if libc.mount(b"fuse", mount.encode(), b"fuse", 0, options.encode()):
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    while True:
        message = os.read(device, 1 << 20)
        _, request, number, node = struct.unpack_from("<IIQQ", message)
        print("request", request, flush=True)
        if os.path.exists(silence):
            continue
        if answer := _answer(request, node, message[40:], size):
            code, data = answer
            os.write(device, struct.pack("<IiQ", 16 + len(data), code, number) + data)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), sys.argv[3])
