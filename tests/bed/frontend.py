"""A front-end of our own for `umbra balloon`, and the driver behind it.

No guest: the memory is real files of any kind, and the driver sends what a test
wants, right or wrong.  What the device does with the files is real.  Messages are
made by the letter of docs/balloon-protocol.md, without umbra's codec.
"""

import mmap
import os
import select
import socket
import struct
from typing import NamedTuple

from .simulated_balloon import MUST_TELL_HOST, PAGE, PAGE_BITMAP
from .wait import PATIENCE, Deadline

INFLATE, DEFLATE = 0, 1

OK, BAD_HEADER, BAD_LENGTH, BAD_RECORD, OUTSIDE, NOT_DISCARDED = range(6)

_PROTOCOL, _VERSION_1 = 30, 32

# Protocol features: REPLY_ACK, CONFIG, RESET_DEVICE, CONFIGURE_MEM_SLOTS.
_PROTOCOL_FEATURES = 1 << 3 | 1 << 9 | 1 << 13 | 1 << 15

_NEXT, _WRITE = 1, 2                            # of a descriptor
_REPLY, _NEED_REPLY = 4, 8                      # of a message

#: Rings and buffers lie in a file of their own, far above all memory of a test.
_ARENA = 1 << 40
_RING_SIZE = 64
_RING_BYTES = 4096
_BUFFER_BYTES = 65536 + 64
_SLOTS = _RING_SIZE // 2
_UVA = 0x7f0000000000


class Refused(Exception):
    """umbra has answered a request with a failure."""


class Status(NamedTuple):
    """What a message got; None where the device wrote nothing."""
    pages: int
    code: int
    record: int


class Region(NamedTuple):
    gpa: int
    size: int
    file: "MemoryFile"
    offset: int = 0

    @property
    def pfn(self):
        return self.gpa // PAGE

    @property
    def pages(self):
        return self.size // PAGE


class MemoryFile:
    """A file, mapped and filled: each page begins with its number in the file."""

    def __init__(self, fd, size):
        self.fd, self.size = fd, size
        os.ftruncate(fd, size)
        self.map = mmap.mmap(fd, size)
        self.fill()

    @classmethod
    def memfd(cls, size, flags=0):
        return cls(os.memfd_create("guest", os.MFD_CLOEXEC | flags), size)

    @classmethod
    def temporary(cls, directory, size):
        return cls(os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600), size)

    def fill(self, first=0, count=None):
        for page in range(first, self.size // PAGE if count is None else first + count):
            self.map[page * PAGE:page * PAGE + 8] = struct.pack("<Q", ~page & (1 << 64) - 1)

    def intact(self):
        """The pages that still hold what they were filled with.  Looking at a page
        that was given back brings it into being."""
        return {page for page in range(self.size // PAGE)
                if self.map[page * PAGE:page * PAGE + 8]
                == struct.pack("<Q", ~page & (1 << 64) - 1)}

    @property
    def held(self):
        """Bytes that the host holds for it."""
        return os.fstat(self.fd).st_blocks * 512

    def close(self):
        self.map.close()
        os.close(self.fd)


def extent(pfn, shift=12):
    """A record: 2^shift bytes from pfn on."""
    return struct.pack("<Q", pfn | shift << 52)


def bitmap(pfn, bits, shift=12, words=None):
    """A record: of the units from pfn on, those whose bits are set."""
    words = words or max(1, -(-bits.bit_length() // 64))
    return struct.pack("<Q", pfn | shift << 52 | 8 * words << 58) + \
        bits.to_bytes(8 * words, "little")


def message(*records):
    data = b"".join(records)
    return struct.pack("<Q", len(data) << 32) + data


def run(pfn, count):
    """The records of a run of pages."""
    records = []
    while count:
        order = count.bit_length() - 1
        records.append(extent(pfn, 12 + order))
        pfn += 1 << order
        count -= 1 << order
    return records


class _Ring:
    def __init__(self, base=0):
        self.avail = self.used = base
        self.kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.call = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def close(self):
        os.close(self.kick)
        os.close(self.call)


class Frontend:
    def __init__(self, bed, balloon, regions, features=(PAGE_BITMAP, MUST_TELL_HOST)):
        self.balloon = balloon
        self.regions = list(regions)
        self._features = sum(1 << bit for bit in (*features, _PROTOCOL, _VERSION_1))
        self._arena = MemoryFile.memfd(self.own_bytes)
        self._rings = {}
        self._socket = None
        bed.start(self, stop=self.disconnect)
        self.connect()

    # vhost-user

    #: Bytes of the memory table that are the front-end's own.
    own_bytes = 2 * _RING_BYTES + 2 * _SLOTS * _BUFFER_BYTES

    def connect(self, bases=(0, 0)):
        """Connect, and start the rings of a driver that is new; or, at other
        bases, of one that goes on."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(str(self.balloon.socket))
        offered, = struct.unpack("<Q", self._ask(1))
        assert not self._features & ~offered, f"{self._features & ~offered:#x} is not offered"
        self._tell(16, struct.pack("<Q", _PROTOCOL_FEATURES))
        self.request(3)
        self.request(2, struct.pack("<Q", self._features))
        self.set_memory(self.regions)
        self.start(bases)
        self.balloon.wait_driver()

    def disconnect(self):
        if self._socket:
            self._socket.close()
        self._socket = None

    def reconnect(self):
        """As a VMM does that has lost its device: the rings go on at the used
        index."""
        self.disconnect()
        self.connect([self._used(index) for index in (INFLATE, DEFLATE)])

    def set_memory(self, regions):
        """SET_MEM_TABLE"""
        self.regions = list(regions)
        table = [*self.regions, Region(_ARENA, self._arena.size, self._arena)]
        self.request(5, struct.pack("<II", len(table), 0) + b"".join(
            self._described(region) for region in table),
            [region.file.fd for region in table])

    def add_region(self, region):
        self.request(37, bytes(8) + self._described(region), [region.file.fd])
        self.regions.append(region)

    def remove_region(self, region):
        self.request(38, bytes(8) + self._described(region))
        self.regions.remove(region)

    def start(self, bases=(0, 0)):
        """Set the rings up, and start them."""
        for index, base in zip((INFLATE, DEFLATE), bases):
            if index in self._rings:
                self._rings[index].close()
            ring = self._rings[index] = _Ring(base)
            start = index * _RING_BYTES
            self._arena.map[start:start + _RING_BYTES] = bytes(_RING_BYTES)
            for part in (2048, 3072):
                struct.pack_into("<H", self._arena.map, start + part + 2, base)
            self.request(8, struct.pack("<II", index, _RING_SIZE))
            self.request(10, struct.pack("<II", index, base))
            self.request(9, struct.pack("<IIQQQQ", index, 0, *(
                _UVA + _ARENA + start + part for part in (0, 3072, 2048)), 0))
            self.set_call(index)
            self.request(12, struct.pack("<Q", index), [ring.kick])
            self.enable(index)

    def set_call(self, index):
        self.request(13, struct.pack("<Q", index), [self._rings[index].call])

    def enable(self, index, enabled=True):
        self.request(18, struct.pack("<II", index, enabled))

    def stop(self, index):
        """GET_VRING_BASE; where the device was."""
        return struct.unpack("<II", self._ask(11, struct.pack("<II", index, 0)))[1]

    def _used(self, index):
        return struct.unpack_from("<H", self._arena.map, index * _RING_BYTES + 3072 + 2)[0]

    def config(self):
        """(num_pages, actual): what the device wants, and has been told, in pages."""
        answer = self._ask(24, struct.pack("<III8x", 0, 8, 0))
        return struct.unpack("<II", answer[12:20])

    def set_actual(self, pages):
        self.request(25, struct.pack("<IIII", 4, 4, 0, pages))

    def reset(self):
        self.request(34)
        self.request(2, struct.pack("<Q", self._features))

    @staticmethod
    def _described(region):
        return struct.pack("<QQQQ", region.gpa, region.size, _UVA + region.gpa, region.offset)

    def request(self, number, payload=b"", fds=()):
        """Send one, and wait until it has taken effect."""
        self._tell(number, payload, fds, _NEED_REPLY)
        if struct.unpack("<Q", self._answer(number))[0]:
            raise Refused(f"request {number}")

    def _ask(self, number, payload=b""):
        self._tell(number, payload)
        return self._answer(number)

    def _tell(self, number, payload=b"", fds=(), flags=0):
        socket.send_fds(self._socket, [
            struct.pack("<III", number, 1 | flags, len(payload)) + payload], fds)

    def _answer(self, number):
        replied, flags, size = struct.unpack("<III", self._receive(12))
        assert (replied, flags) == (number, 1 | _REPLY)
        return self._receive(size)

    def _receive(self, size):
        data = b""
        while len(data) < size:
            chunk = self._socket.recv(size - len(data))
            if not chunk:
                raise ConnectionError("umbra has disconnected")
            data += chunk
        return data

    # The driver

    def inflate(self, *records, **how):
        return self.send(INFLATE, message(*records), **how)[0]

    def deflate(self, *records, **how):
        return self.send(DEFLATE, message(*records), **how)[0]

    def send(self, index, *messages, status=True, deadline=PATIENCE):
        """Make all of them available at once, and wait for the answers."""
        self.post(index, *messages, status=status)
        return self.collect(index, len(messages), status, deadline)

    def post(self, index, *messages, status=True):
        assert len(messages) <= _SLOTS
        ring = self._rings[index]
        memory, start = self._arena.map, index * _RING_BYTES
        for number, data in enumerate(messages):
            at = self._buffer(index, number)
            memory[at:at + len(data)] = data
            memory[at + 65536:at + 65552] = b"\xee" * 16
            head = 2 * number
            parts = [(_ARENA + at, len(data), 0)] if data else []
            parts += [(_ARENA + at + 65536, 16, _WRITE)] if status else []
            for part, (address, length, flags) in enumerate(parts):
                more = part + 1 < len(parts)
                struct.pack_into("<QIHH", memory, start + 16 * (head + part), address,
                                 length, flags | (_NEXT if more else 0), head + 1)
            struct.pack_into("<H", memory,
                             start + 2048 + 4 + 2 * ((ring.avail + number) % _RING_SIZE), head)
        ring.avail = ring.avail + len(messages) & 0xffff
        struct.pack_into("<H", memory, start + 2048 + 2, ring.avail)
        os.eventfd_write(ring.kick, 1)

    def violate(self, index):
        """Claim more chains than the ring can have."""
        ring = self._rings[index]
        struct.pack_into("<H", self._arena.map, index * _RING_BYTES + 2048 + 2,
                         ring.avail + 5000 & 0xffff)
        os.eventfd_write(ring.kick, 1)

    def collect(self, index, count, status=True, deadline=PATIENCE):
        limit = Deadline(deadline, f"answers on queue {index}")
        ring = self._rings[index]
        memory, start = self._arena.map, index * _RING_BYTES
        found = {}
        while len(found) < count:
            if self._used(index) == ring.used:
                if select.select([ring.call], [], [], limit.left())[0]:
                    os.eventfd_read(ring.call)
                continue
            head, length = struct.unpack_from(
                "<II", memory, start + 3072 + 4 + 8 * (ring.used % _RING_SIZE))
            ring.used = ring.used + 1 & 0xffff
            assert head % 2 == 0 and head // 2 < count and head // 2 not in found
            assert length == (16 if status else 0)
            found[head // 2] = Status(*struct.unpack_from(
                "<QII", memory, self._buffer(index, head // 2) + 65536)) if status else None
        return [found[number] for number in range(count)]

    @staticmethod
    def _buffer(index, number):
        return 2 * _RING_BYTES + (index * _SLOTS + number) * _BUFFER_BYTES
