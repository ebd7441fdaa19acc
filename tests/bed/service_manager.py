"""A simulated service manager: an fd store, and nothing else of systemd.

It listens where NOTIFY_SOCKET says, keeps what is sent with FDSTORE=1 under its FDNAME, drops
what FDSTOREREMOVE=1 names and what hangs up, takes two fds of one open file for one, and starts
a program with all that it has, as sd_listen_fds(3) says.
"""

import ctypes
import os
import platform
import select
import socket
import sys
import threading

from .wait import PATIENCE, wait_until

_KCMP = {"x86_64": 312, "aarch64": 272}[platform.machine()]
_FIRST_FD = 3
_libc = ctypes.CDLL(None, use_errno=True)

# Put the fds that are named to fd 3 and on, and become the program.
_STARTER = """
import os, sys
fds, program = [int(fd) for fd in sys.argv[1].split(",") if fd], sys.argv[2:]
high = [os.dup2(fd, 500 + at) for at, fd in enumerate(fds)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + len(high), 2000)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(program[0], program)
"""


def _is_same(a, b):
    return _libc.syscall(_KCMP, os.getpid(), os.getpid(), 0, a, b) == 0


class SimulatedServiceManager:
    def __init__(self, bed, name="manager"):
        self.path = bed.path(f"{name}.notify")
        self.store = []                 # [name, fd]
        self._lock = threading.Lock()
        self._ended = False
        self._wake, self._waker = os.pipe()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._thread = threading.Thread(target=self._serve, daemon=True, name=name)
        self._thread.start()
        bed.start(self, stop=self.stop)

    def stop(self):
        if self._ended:
            return
        self._ended = True
        os.write(self._waker, b"x")
        self._thread.join(PATIENCE)
        self._socket.close()
        self.clear()

    # What a test asks and does

    def names(self):
        self.settle()
        with self._lock:
            return sorted(name for name, _ in self.store)

    def read(self, name, offset, size):
        """Bytes of a file in the store."""
        self.settle()
        with self._lock:
            return os.pread(dict(map(tuple, self.store))[name], size, offset)

    def write(self, name, offset, data):
        self.settle()
        with self._lock:
            os.pwrite(dict(map(tuple, self.store))[name], data, offset)

    def clear(self):
        """As when the service is stopped for good."""
        with self._lock:
            for _, fd in self.store:
                os.close(fd)
            self.store = []

    def settle(self):
        """Until all that was sent is received, and what hung up is dropped."""
        wait_until(lambda: not select.select([self._socket], [], [], 0)[0],
                   "the service manager to read its messages")
        with self._lock:
            self._drop_hung_up()

    def start(self):
        """The program that is started next: (the words before its own, its environment)."""
        self.settle()
        with self._lock:
            fds = [fd for _, fd in self.store]
            env = {"NOTIFY_SOCKET": str(self.path)}
            if fds:
                env |= {"LISTEN_FDS": str(len(fds)),
                        "LISTEN_FDNAMES": ":".join(name for name, _ in self.store)}
            return [sys.executable, "-c", _STARTER, ",".join(map(str, fds))], env, fds

    # Its thread

    def _serve(self):
        while not self._ended:
            readable, _, _ = select.select([self._socket, self._wake], [], [])
            if self._wake in readable:
                return
            with self._lock:
                self._receive()

    def _receive(self):
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 4096, 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        said = dict(line.split("=", 1) for line in data.decode().split("\n") if line)
        name = said.get("FDNAME", "stored")
        if said.get("FDSTORE") == "1":
            for fd in fds:
                if any(_is_same(fd, kept) for _, kept in self.store):
                    os.close(fd)
                else:
                    self.store.append([name, fd])
            return
        for fd in fds:
            os.close(fd)
        if said.get("FDSTOREREMOVE") == "1":
            for entry in [entry for entry in self.store if entry[0] == name]:
                os.close(entry[1])
                self.store.remove(entry)

    def _drop_hung_up(self):
        for entry in list(self.store):
            poll = select.poll()
            poll.register(entry[1], 0)
            if any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0)):
                os.close(entry[1])
                self.store.remove(entry)
