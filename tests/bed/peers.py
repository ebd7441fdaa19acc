"""Simulated peers, for what real ones will not do: a VMM and a back-end that send
any bytes, hand over any fds, keep their answers to themselves, and change at any
time what they share with umbra.

There is no guest: a test is the driver of the VMM's rings, and the back-end only
does what it is told with the rings that it has.
"""

import mmap
import os
import select
import socket
import struct
import threading

from .wait import PATIENCE, wait_until

GET_FEATURES, SET_FEATURES, SET_OWNER, SET_MEM_TABLE = 1, 2, 3, 5
SET_VRING_NUM, SET_VRING_ADDR, SET_VRING_BASE, GET_VRING_BASE = 8, 9, 10, 11
SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 12, 13, 14
GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, GET_QUEUE_NUM = 15, 16, 17
SET_VRING_ENABLE, SET_BACKEND_REQ_FD, GET_CONFIG, GET_MAX_MEM_SLOTS = 18, 21, 24, 36
RESET_DEVICE, GET_STATUS = 34, 40
GET_INFLIGHT_FD, SET_INFLIGHT_FD = 31, 32

#: On the back-end's own channel.
CONFIG_CHANGE = 2

INDIRECT, EVENT_IDX, PROTOCOL, VERSION_1 = 1 << 28, 1 << 29, 1 << 30, 1 << 32

#: MQ, REPLY_ACK, BACKEND_REQ, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS.
PROTOCOL_FEATURES = 1 << 0 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 13 | 1 << 15
INFLIGHT_SHMFD = 1 << 12

_REPLY, _NEED_REPLY = 4, 8
_UVA = 0x7f0000000000


def u64(value):
    return struct.pack("<Q", value)


def encode(request, payload=b"", flags=0):
    return struct.pack("<III", request, 1 | flags, len(payload)) + payload


def eventfd():
    return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)


def spoil(fd):
    """What whoever shares an eventfd may do at any time: fill its counter, and have
    every further write to it wait."""
    os.set_blocking(fd, False)
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass
    os.set_blocking(fd, True)
    os.eventfd_write(fd, 2**64 - 2)


def _receive(sock, size):
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the other end has hung up")
        data += chunk
    return data


class VmmRing:
    """A split ring in the VMM's memory; the test is its driver."""

    def __init__(self, vmm, index, size=64):
        self.vmm, self.index, self.size = vmm, index, size
        self.at = 0x10000 * (index + 1)
        self.avail_at = self.at + 16 * size
        self.used_at = self.avail_at + 6 + 2 * size + 63 & ~63
        self.next = 0
        self.kick, self.call = eventfd(), eventfd()

    def start(self, kick=None, call=None):
        """Everything that starts a ring; returns self."""
        state = lambda value: struct.pack("<II", self.index, value)
        vmm = self.vmm
        vmm.request(SET_VRING_NUM, state(self.size))
        vmm.request(SET_VRING_BASE, state(self.next))
        vmm.request(SET_VRING_ADDR, struct.pack(
            "<IIQQQQ", self.index, 0, *(_UVA + at for at in (
                self.at, self.used_at, self.avail_at)), 0))
        vmm.request(SET_VRING_CALL, u64(self.index), [self.call if call is None else call])
        vmm.request(SET_VRING_KICK, u64(self.index), [self.kick if kick is None else kick])
        vmm.request(SET_VRING_ENABLE, state(1))
        return self

    def offer(self, head=0, address=0x400000, length=512, flags=0, kick=True):
        """Make one buffer of one descriptor available."""
        memory = self.vmm.memory
        struct.pack_into("<QIHH", memory, self.at + 16 * head, address, length, flags, 0)
        struct.pack_into("<H", memory, self.avail_at + 4 + 2 * (self.next % self.size), head)
        self.next = self.next + 1 & 0xffff
        struct.pack_into("<H", memory, self.avail_at + 2, self.next)
        if kick:
            os.eventfd_write(self.kick, 1)

    @property
    def used(self):
        return struct.unpack_from("<H", self.vmm.memory, self.used_at + 2)[0]

    def wait_used(self, count):
        wait_until(lambda: self.used == count, f"ring {self.index} to have used {count}")

    def close(self):
        os.close(self.kick)
        os.close(self.call)


class SimulatedVmm:
    """A front-end that says what a test wants."""

    def __init__(self, bed, program, size=8 << 20, connection=None):
        self.fd = os.memfd_create("guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, size)
        self.size, self.memory = size, mmap.mmap(self.fd, size)
        self.rings = []
        self.channel = None
        self.socket = connection or socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        if not connection:
            self.socket.connect(str(program.socket))
        bed.start(self, stop=self.leave)

    def leave(self):
        """The process ends: all its fds are closed."""
        self.socket.close()
        for ring in self.rings:
            ring.close()
        self.rings.clear()
        if self.channel:
            self.channel.close()
        self.channel = None
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1

    def negotiate(self, features=VERSION_1 | PROTOCOL, channel=False, wanted=PROTOCOL_FEATURES):
        """Up to the memory table; returns self."""
        offered, = struct.unpack("<Q", self.ask(GET_FEATURES))
        protocol, = struct.unpack("<Q", self.ask(GET_PROTOCOL_FEATURES))
        self.send(SET_PROTOCOL_FEATURES, u64(protocol & wanted))
        self.request(SET_OWNER)
        self.request(SET_FEATURES, u64(features & (offered | PROTOCOL)))
        if channel:
            self.channel, theirs = socket.socketpair()
            self.channel.settimeout(PATIENCE)
            self.request(SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
            theirs.close()
        self.request(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, 0, self.size, _UVA, 0),
                     [self.fd])
        return self

    def ring(self, index=0, size=64):
        ring = VmmRing(self, index, size)
        self.rings.append(ring)
        return ring

    def stop(self, index=0):
        """GET_VRING_BASE; where the device was."""
        return struct.unpack("<II", self.ask(GET_VRING_BASE, struct.pack("<II", index, 0)))[1]

    # Messages

    def send(self, request, payload=b"", fds=(), flags=0):
        socket.send_fds(self.socket, [encode(request, payload, flags)], list(fds))

    def answer(self):
        _, _, size = struct.unpack("<III", _receive(self.socket, 12))
        return _receive(self.socket, size)

    def ask(self, request, payload=b"", fds=()):
        self.send(request, payload, fds)
        return self.answer()

    def refuses(self, request, payload=b"", fds=()):
        """Send a request and wait until it has taken effect: was it refused?"""
        self.send(request, payload, fds, _NEED_REPLY)
        return struct.unpack("<Q", self.answer())[0] != 0

    def request(self, request, payload=b"", fds=()):
        assert not self.refuses(request, payload, fds), f"request {request} was refused"

    def wait_end(self):
        """Until umbra has hung up."""
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            pass


class SimulatedBackend:
    """A back-end that answers everything, and serves rings by hand.

    At a request in `holds` it falls silent, until release().  It reads its kicks, as
    every back-end does, until ignore_kicks(), and serves nothing by itself.
    """

    def __init__(self, bed, name="simulated", queues=4, features=VERSION_1 | PROTOCOL | INDIRECT,
                 protocol=PROTOCOL_FEATURES):
        self.socket = bed.path(f"{name}.sock")
        self.queues, self.features, self.protocol = queues, features, protocol
        self.holds, self._released = set(), threading.Event()
        self._reads_kicks = self._wants_kicks = True
        self.seen = []                  # requests
        self.after = lambda request: None   # called before each answer
        self.connection = self.channel = None
        self.connections = 0
        self._regions, self._rings = [], {}
        self._listener = self._listen()
        self._ends = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        bed.start(self, stop=self.leave)
        self._thread.start()

    def _listen(self):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.socket))
        listener.listen(4)
        return listener

    def leave(self):
        self._ends = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self.hang_up()
        self._thread.join(PATIENCE)
        self._listener.close()
        self._forget()

    def hang_up(self):
        self._released.set()
        if connection := self.connection:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def ignore_kicks(self):
        self._wants_kicks = False
        wait_until(lambda: not self._reads_kicks, "the last kick to be read")

    def wait_seen(self, request, count=1):
        wait_until(lambda: self.seen.count(request) >= count, f"request {request} to come")

    def release(self):
        self.holds.clear()
        self._released.set()

    # Rings, by hand

    def fd(self, index, request):
        """The eventfd that came with this request."""
        return self._rings[index][request]

    def has(self, index, request):
        return request in self._rings.get(index, {})

    def take(self, index=0):
        """The heads that are available and were not taken."""
        ring = self._rings[index]
        _, _, avail = ring[SET_VRING_ADDR]
        memory, at = self._find(avail)
        end, = struct.unpack_from("<H", memory, at + 2)
        taken = ring.setdefault("taken", ring[SET_VRING_BASE])
        heads = []
        while taken != end:
            heads.append(struct.unpack_from(
                "<H", memory, at + 4 + 2 * (taken % ring[SET_VRING_NUM]))[0])
            taken = taken + 1 & 0xffff
        ring["taken"] = taken
        return heads

    def use(self, head, index=0, length=0):
        ring = self._rings[index]
        _, used, _ = ring[SET_VRING_ADDR]
        memory, at = self._find(used)
        end, = struct.unpack_from("<H", memory, at + 2)
        struct.pack_into("<II", memory, at + 4 + 8 * (end % ring[SET_VRING_NUM]), head, length)
        struct.pack_into("<H", memory, at + 2, end + 1 & 0xffff)
        os.write(ring[SET_VRING_CALL], u64(1))

    def serve_one(self, index=0):
        """Wait for a chain, and complete it."""
        for head in wait_until(lambda: self.take(index), f"a chain on ring {index}"):
            self.use(head, index)

    def _find(self, address):
        for _, size, user, _, memory in self._regions:
            if user <= address < user + size:
                return memory, address - user
        raise LookupError(f"{address:#x} is in no region")

    # On its own thread

    def _serve(self):
        while not self._ends:
            try:
                self.connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                while True:
                    self._one()
            except OSError:
                self.connection.close()
                self._forget()

    def _forget(self):
        for ring in self._rings.values():
            for request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR):
                if request in ring:
                    os.close(ring[request])
        self._rings.clear()
        self._regions.clear()
        if self.channel:
            self.channel.close()
        self.channel = None

    def _wait_message(self):
        """Until there is one; reads kicks meanwhile."""
        while True:
            self._reads_kicks = self._wants_kicks
            kicks = [ring[SET_VRING_KICK] for ring in self._rings.values()
                     if self._reads_kicks and SET_VRING_KICK in ring]
            # Wakes up now and then for what a test wants meanwhile.
            ready = select.select([self.connection, *kicks], [], [], 0.1)[0]
            for kick in kicks:
                if kick in ready:
                    os.read(kick, 8)
            if self.connection in ready:
                return

    def _one(self):
        self._wait_message()
        header, fds, _, _ = socket.recv_fds(self.connection, 12, 32)
        if not header:
            raise ConnectionError
        request, flags, size = struct.unpack("<III", header)
        payload = _receive(self.connection, size)
        self.seen.append(request)
        reply = self._handle(request, payload, fds)
        if reply is None and flags & _NEED_REPLY:
            reply = u64(0)
        if request in self.holds:
            self._released.clear()
            self._released.wait()
        self.after(request)
        if reply is not None:
            self.connection.sendall(encode(request, reply, _REPLY))

    def _handle(self, request, payload, fds):
        answers = {GET_FEATURES: self.features, GET_PROTOCOL_FEATURES: self.protocol,
                   GET_QUEUE_NUM: self.queues, GET_MAX_MEM_SLOTS: 64, GET_STATUS: 0}
        if request in answers:
            return u64(answers[request])
        if request == GET_CONFIG:
            return payload
        if request == SET_BACKEND_REQ_FD:
            self.channel = socket.socket(fileno=fds.pop())
        if request == SET_MEM_TABLE:
            self._regions.clear()
            for number in range(struct.unpack_from("<I", payload)[0]):
                gpa, size, user, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * number)
                self._regions.append((gpa, size, user, offset,
                                      mmap.mmap(fds[number], size, offset=offset)))
        if request in (SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ENABLE):
            index, value = struct.unpack("<II", payload)
            self._rings.setdefault(index, {})[request] = value
        if request == SET_VRING_ADDR:
            self._rings.setdefault(struct.unpack_from("<I", payload)[0], {})[request] = \
                struct.unpack_from("<QQQ", payload, 8)
        if request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR) and fds:
            ring = self._rings.setdefault(payload[0], {})
            if request in ring:
                os.close(ring[request])
            ring[request] = fds.pop()
        for fd in fds:
            os.close(fd)
        if request == GET_VRING_BASE:
            index, = struct.unpack_from("<I", payload)
            ring = self._rings.get(index, {})
            return struct.pack("<II", index, ring.pop("taken", ring.get(SET_VRING_BASE, 0)))
        return None


class ListeningVmm(SimulatedVmm):
    """A VMM that makes the socket itself; umbra connects.  The program is one that was
    started with connect=, the path."""

    def __init__(self, bed, path, size=8 << 20):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.settimeout(PATIENCE)
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            listener.listen(1)
            connection, _ = listener.accept()
        super().__init__(bed, None, size, connection=connection)


class ConnectingBackend(SimulatedBackend):
    """A back-end that connects to umbra, again and again, as DPDK does in client mode."""

    @property
    def address(self):
        return f"listen:{self.socket}"

    def _listen(self):
        return _Dialler(self.socket)


class _Dialler:
    """Looks like a listener; what it accepts are connections that it makes."""

    def __init__(self, path):
        self._path, self._ends = path, threading.Event()

    def accept(self):
        while not self._ends.is_set():
            ours = socket.socket(socket.AF_UNIX)
            try:
                ours.connect(str(self._path))
                return ours, None
            except OSError:
                ours.close()
            self._ends.wait(0.01)
        raise OSError("it has ended")

    def shutdown(self, how):
        self._ends.set()

    def close(self):
        self._ends.set()
