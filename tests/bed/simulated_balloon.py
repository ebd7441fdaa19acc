"""A simulated balloon device, for tests of the guest's driver.

Not umbra's: a small vhost-user device in Python that keeps a naive model of the
balloon (one byte a page), checks every message against it, and can misbehave on
demand: hold its answers back, or refuse.  It decodes by the letter of
docs/balloon-protocol.md, without umbra's codec.
"""

import array
import ctypes
import mmap
import os
import select
import socket
import struct
import threading
from typing import NamedTuple

from .virtio_id import BALLOON
from .wait import PATIENCE, Deadline

PAGE = 4096

# Feature bits.
MUST_TELL_HOST, STATS_VQ, DEFLATE_ON_OOM, PAGE_POISON, REPORTING = 0, 1, 2, 4, 5
PAGE_BITMAP = 50
_INDIRECT, _PROTOCOL, _VERSION_1 = 28, 30, 32

# Protocol features: REPLY_ACK, BACKEND_REQ, CONFIG.
_PROTOCOL_FEATURES = 1 << 3 | 1 << 5 | 1 << 9

_NEXT, _WRITE, _INDIRECT_FLAG = 1, 2, 4         # of a descriptor
_NO_INTERRUPT = 1                               # of the avail ring
_REPLY, _NEED_REPLY = 4, 8                      # of a message

_libc = ctypes.CDLL(None, use_errno=True)
_PUNCH = 3                                      # KEEP_SIZE | PUNCH_HOLE


class Message(NamedTuple):
    """What the driver sent on the inflate or deflate queue."""
    queue: str
    size: int
    runs: list                  # (pfn, pages)

    @property
    def pages(self):
        return sum(count for _, count in self.runs)


class _Region(NamedTuple):
    gpa: int
    size: int
    uva: int
    offset: int
    fd: int
    memory: mmap.mmap


class _Ring:
    def __init__(self):
        self.size = 0
        self.desc = self.avail = self.used = None
        self.last_avail = self.used_idx = 0
        self.kick = self.call = None
        self.enabled = False
        self.held = []          # heads that are not answered


class SimulatedBalloon:
    device_id = BALLOON

    def __init__(self, bed, features=(PAGE_BITMAP,), name="balloon"):
        self.socket = bed.path(f"{name}.sock")
        self.offered = sum(1 << bit for bit in (
            *features, _INDIRECT, _PROTOCOL, _VERSION_1))
        self.features = 0               # negotiated
        self.messages = []
        self.complaints = []            # what the driver did wrong
        self.actuals = []               # every value that it wrote
        self.target = 0                 # pages
        self.poison = None
        self.reports = 0                # pages reported as free
        self.statistics = []            # one dict for each answer
        self.asks_at_once = 0           # for statistics: so often as soon as they come
        self.punched = 0                # pages
        self._holding = False
        self._refusing = False
        self._ballooned = None
        self._first_page = 0
        self._regions = []
        self._rings = {}
        self._backend = None
        self._changed = threading.Condition(threading.RLock())
        self._wake, self._waker = os.pipe()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(1)
        self._ended = False
        self._thread = threading.Thread(target=self._serve, daemon=True, name=name)
        self._thread.start()
        bed.start(self, stop=self.stop)

    def stop(self):
        self._ended = True
        os.write(self._waker, b"x")
        self._thread.join(PATIENCE)
        self._listener.close()
        assert not self.complaints, self.complaints[:10]

    # What a test can ask and do

    def has(self, bit):
        return bool(self.features >> bit & 1)

    @property
    def running(self):
        """The rings in which the device may read and write: with the protocol features,
        those that are enabled, without them all that were ever started."""
        return [index for index, ring in sorted(self._rings.items())
                if ring.kick is not None and (ring.enabled or not self.has(_PROTOCOL))]

    @property
    def ballooned(self):
        """Pages that are in the balloon, by the model."""
        with self._changed:
            return self._ballooned.count(1) if self._ballooned else 0

    @property
    def actual(self):
        """Pages, as the driver says."""
        return self.actuals[-1] if self.actuals else 0

    def set_target(self, pages):
        with self._changed:
            self.target = pages
            # BACKEND_CONFIG_CHANGE_MSG
            if self._backend:
                self._backend.sendall(struct.pack("<III", 2, 1, 0))

    def inflate(self, pages, deadline=PATIENCE):
        """Set a target and wait until the driver says that it is there."""
        self.set_target(pages)
        self.wait(lambda: self.actual == pages and self.ballooned == pages,
                  f"the balloon to have {pages} pages", deadline)

    def hold(self):
        """Take messages, and do nothing with them."""
        with self._changed:
            self._holding = True

    def release(self):
        """Do all that was held, and behave again."""
        with self._changed:
            self._holding = False
            for index, ring in self._rings.items():
                heads, ring.held = ring.held, []
                for head in heads:
                    self._handle(index, ring, head)

    def refuse(self, refusing=True):
        """Refuse what the inflate queue brings."""
        self._refusing = refusing

    def held(self):
        with self._changed:
            return sum(len(ring.held) for ring in self._rings.values())

    def ask_statistics(self):
        """Return the buffer of the statistics queue; the driver refills it."""
        with self._changed:
            ring = self._rings[2]
            for head in ring.held:
                self._use(ring, head, 0)
            ring.held = []

    def wait(self, predicate, what, deadline=PATIENCE):
        limit = Deadline(deadline, what)
        with self._changed:
            while not predicate():
                self._changed.wait(min(limit.left(), 1))

    # vhost-user

    def _serve(self):
        connection = None
        while not self._ended:
            files = {self._wake: None, self._listener: None}
            if connection:
                files[connection] = None
                for index, ring in self._rings.items():
                    # UML forgets the protocol bit if the driver takes a feature
                    # back; rings are on from the start then.
                    if ring.kick is not None and (
                            ring.enabled or not self.has(_PROTOCOL)):
                        files[ring.kick] = index
            readable, _, _ = select.select(list(files), [], [])
            with self._changed:
                for file in readable:
                    if file is self._wake:
                        os.read(file, 1)
                    elif file is self._listener:
                        connection, _ = file.accept()
                    elif file is connection:
                        if not self._message(connection):
                            connection.close()
                            connection = None
                            self._forget()
                            break
                    else:
                        index = files[file]
                        if self._rings[index].kick == file:
                            os.read(file, 8)
                            self._take(index)
                self._changed.notify_all()
        if connection:
            connection.close()
        self._forget()

    def _forget(self):
        for region in self._regions:
            os.close(region.fd)
        self._regions = []
        for ring in self._rings.values():
            for fd in (ring.kick, ring.call):
                if fd is not None:
                    os.close(fd)
        self._rings = {}
        if self._backend:
            self._backend.close()
        self._backend = None

    def _message(self, connection):
        try:
            header, fds, _, _ = socket.recv_fds(connection, 12, 16)
        except ConnectionError:
            return False
        if len(header) < 12:
            return False
        request, flags, size = struct.unpack("<III", header)
        payload = b""
        while len(payload) < size:
            payload += connection.recv(size - len(payload))
        reply = self._requests.get(request, lambda *_: b"")(self, payload, fds)
        if reply:
            connection.sendall(struct.pack("<III", request, 1 | _REPLY, len(reply)) + reply)
        elif flags & _NEED_REPLY:
            connection.sendall(struct.pack("<IIIQ", request, 1 | _REPLY, 8, 0))
        return True

    def _get_features(self, payload, fds):
        return struct.pack("<Q", self.offered)

    def _set_features(self, payload, fds):
        features, = struct.unpack("<Q", payload)
        if features & ~self.offered:
            self.complaints.append(f"features {features & ~self.offered:#x} were not offered")
        self.features = features

    def _get_protocol_features(self, payload, fds):
        return struct.pack("<Q", _PROTOCOL_FEATURES)

    def _set_mem_table(self, payload, fds):
        for region in self._regions:
            os.close(region.fd)
        self._regions = []
        count, = struct.unpack_from("<I", payload)
        for number in range(count):
            gpa, size, uva, offset = struct.unpack_from("<QQQQ", payload, 8 + 32 * number)
            self._regions.append(_Region(gpa, size, uva, offset, fds[number],
                                         mmap.mmap(fds[number], size, offset=offset)))
        self._first_page = min(r.gpa for r in self._regions) // PAGE
        if not self._ballooned:
            end = max(r.gpa + r.size for r in self._regions) // PAGE
            self._ballooned = bytearray(end - self._first_page)

    def _ring(self, payload):
        index, value = struct.unpack_from("<II", payload)
        return self._rings.setdefault(index & 0xff, _Ring()), value

    def _set_vring_num(self, payload, fds):
        ring, ring.size = self._ring(payload)

    def _set_vring_addr(self, payload, fds):
        index, _, desc, used, avail = struct.unpack_from("<IIQQQ", payload)
        ring = self._rings.setdefault(index, _Ring())
        ring.desc, ring.used, ring.avail = map(self._at_uva, (desc, used, avail))
        ring.used_idx = struct.unpack_from("<H", *self._behind(ring.used, 2))[0]

    def _set_vring_base(self, payload, fds):
        ring, ring.last_avail = self._ring(payload)
        ring.held = []

    def _get_vring_base(self, payload, fds):
        ring, _ = self._ring(payload)
        ring.enabled = False
        return struct.pack("<II", payload[0], ring.last_avail)

    def _set_vring_kick(self, payload, fds):
        ring, _ = self._ring(payload)
        if ring.kick is not None:
            os.close(ring.kick)
        ring.kick = fds[0] if fds else None

    def _set_vring_call(self, payload, fds):
        ring, _ = self._ring(payload)
        if ring.call is not None:
            os.close(ring.call)
        ring.call = fds[0] if fds else None

    def _set_vring_enable(self, payload, fds):
        ring, enabled = self._ring(payload)
        ring.enabled = bool(enabled)
        if not enabled:
            ring.held = []      # the driver resets: what is not done never will be

    def _set_backend_req_fd(self, payload, fds):
        self._backend = socket.socket(fileno=fds[0])

    def _get_config(self, payload, fds):
        offset, size, flags = struct.unpack_from("<III", payload)
        config = struct.pack("<IIII", self.target, self.actual, 0, self.poison or 0)
        return struct.pack("<III", offset, size, flags) + \
            config.ljust(offset + size, b"\0")[offset:offset + size]

    def _set_config(self, payload, fds):
        offset, size, _ = struct.unpack_from("<III", payload)
        value, = struct.unpack_from("<I", payload, 12)
        if offset == 4:
            self.actuals.append(value)
        elif offset == 12:
            self.poison = value
        else:
            self.complaints.append(f"a write to the configuration at {offset}")

    _requests = {
        1: _get_features, 2: _set_features, 5: _set_mem_table, 8: _set_vring_num,
        9: _set_vring_addr, 10: _set_vring_base, 11: _get_vring_base,
        12: _set_vring_kick, 13: _set_vring_call, 15: _get_protocol_features,
        18: _set_vring_enable, 21: _set_backend_req_fd, 24: _get_config,
        25: _set_config,
    }

    # Memory: a place is a region and an offset in it

    def _at_uva(self, address):
        for region in self._regions:
            if region.uva <= address < region.uva + region.size:
                return region.memory, address - region.uva
        raise LookupError(f"no memory at {address:#x}")

    def _at(self, address):
        for region in self._regions:
            if region.gpa <= address < region.gpa + region.size:
                return region.memory, address - region.gpa
        raise LookupError(f"no memory at {address:#x}")

    @staticmethod
    def _behind(place, offset):
        return place[0], place[1] + offset

    def _punch(self, pfn, count):
        for region in self._regions:
            if region.gpa <= pfn * PAGE and (pfn + count) * PAGE <= region.gpa + region.size:
                offset = region.offset + pfn * PAGE - region.gpa
                assert _libc.fallocate(region.fd, _PUNCH, ctypes.c_long(offset),
                                       ctypes.c_long(count * PAGE)) == 0
                self.punched += count
                return
        self.complaints.append(f"pages {pfn:#x} to {pfn + count:#x} are no memory")

    # Rings

    def _take(self, index):
        ring = self._rings[index]
        while True:
            memory, start = ring.avail
            available, = struct.unpack_from("<H", memory, start + 2)
            if available == ring.last_avail & 0xffff:
                return
            slot = ring.last_avail % ring.size
            head, = struct.unpack_from("<H", memory, start + 4 + 2 * slot)
            ring.last_avail += 1
            # The statistics buffer is kept until it is asked for.
            if index == 2 and self.has(STATS_VQ):
                self._read_statistics(ring, head)
                if self.asks_at_once:
                    self.asks_at_once -= 1
                    self._use(ring, head, 0)
                else:
                    ring.held.append(head)
            elif self._holding:
                ring.held.append(head)
            else:
                self._handle(index, ring, head)

    def _chain(self, ring, head):
        """(readable, writable): lists of (address, length)."""
        parts = [], []
        table, index, flags = ring.desc, head, _NEXT
        while flags & _NEXT:
            address, length, flags, following = struct.unpack_from(
                "<QIHH", table[0], table[1] + 16 * index)
            if flags & _INDIRECT_FLAG:
                table, index, flags = self._at(address), 0, _NEXT
                continue
            parts[bool(flags & _WRITE)].append((address, length))
            index = following
        return parts

    def _use(self, ring, head, written):
        memory, start = ring.used
        struct.pack_into("<II", memory, start + 4 + 8 * (ring.used_idx % ring.size),
                         head, written)
        ring.used_idx = (ring.used_idx + 1) & 0xffff
        struct.pack_into("<H", memory, start + 2, ring.used_idx)
        flags, = struct.unpack_from("<H", *ring.avail)
        if not flags & _NO_INTERRUPT and ring.call is not None:
            os.write(ring.call, struct.pack("<Q", 1))

    def _read(self, parts):
        data = b""
        for address, length in parts:
            memory, start = self._at(address)
            data += memory[start:start + length]
        return data

    def _read_statistics(self, ring, head):
        data = self._read(self._chain(ring, head)[0])
        self.statistics.append(dict(struct.iter_unpack("<HQ", data)))

    def _handle(self, index, ring, head):
        readable, writable = self._chain(ring, head)
        if index > 1:
            for address, length in writable:
                self._punch(address // PAGE, length // PAGE)
                self.reports += length // PAGE
            self._use(ring, head, sum(length for _, length in writable))
            return
        queue = ("inflate", "deflate")[index]
        data = self._read(readable)
        runs, records = (self._decode(data) if self.has(PAGE_BITMAP)
                         else (self._pfns(data), 0))
        message = Message(queue, len(data), runs)
        self.messages.append(message)
        refused = self._refusing and queue == "inflate"
        for pfn, count in runs:
            self._model(queue, pfn, count, refused)
        written = 0
        if writable:
            memory, start = self._at(writable[0][0])
            memory[start:start + 16] = struct.pack(
                "<QII", 0 if refused else message.pages, 5 if refused else 0,
                0 if refused else records)
            written = 16
        self._use(ring, head, written)

    def _model(self, queue, pfn, count, refused):
        start = pfn - self._first_page
        pages = slice(start, start + count)
        inflating = queue == "inflate"
        if start < 0 or start + count > len(self._ballooned):
            self.complaints.append(f"{queue} of {count} pages at {pfn:#x}, outside")
            return
        if self._ballooned[pages].count(inflating):
            self.complaints.append(f"{queue} of {count} pages at {pfn:#x}, some of which "
                                   f"are {'' if inflating else 'not '}in the balloon")
        self._ballooned[pages] = bytes([inflating]) * count
        if inflating and not refused:
            self._punch(pfn, count)

    # Formats

    @staticmethod
    def _pfns(data):
        pfns = array.array("I", data)
        runs = []
        for pfn in pfns:
            if runs and sum(runs[-1]) == pfn:
                runs[-1] = runs[-1][0], runs[-1][1] + 1
            else:
                runs.append((pfn, 1))
        return runs

    def _decode(self, data):
        words = struct.unpack(f"<{len(data) // 8}Q", data)
        if words[0] & 0xffffffff or words[0] >> 32 != len(data) - 8:
            self.complaints.append(f"a header of {words[0]:#x} for {len(data)} bytes")
        runs, at, records = [], 1, 0
        while at < len(words):
            pfn = words[at] & (1 << 52) - 1
            pages = 1 << (words[at] >> 52 & 63) - 12
            bitmap = (words[at] >> 58) // 8
            at, records = at + 1, records + 1
            if not bitmap:
                runs.append((pfn, pages))
            for bit in range(64 * bitmap):
                if words[at + bit // 64] >> bit % 64 & 1:
                    runs.append((pfn + bit * pages, pages))
            at += bitmap
        return runs, records
