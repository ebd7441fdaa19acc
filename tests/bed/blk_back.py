"""The project's own disk, which does wrong where it is told to: blk-back, a simulated
peer (tests/blk_back/main.c says what it can do), and a driver for it without a guest."""

import json
import os
import socket
import struct

from .backend import listens
from .peers import (EVENT_IDX, GET_INFLIGHT_FD, INFLIGHT_SHMFD, PROTOCOL, PROTOCOL_FEATURES,
                    SET_INFLIGHT_FD, VERSION_1, SimulatedVmm, VmmRing)
from .process import Process
from .wait import PATIENCE, wait_until

SECTOR = 512
IN, OUT, FLUSH = 0, 1, 4
OK = 0

#: Stores that a write makes, in the order in which it makes them; of a queue with EVENT_IDX
#: whose driver wants to be called (tests/blk_back/point.h).
TAKING = ["kick", "take", "avail-event"]
EXECUTING = ["execute", "disk-write", "disk-generation", "guest-status"]
COMPLETING = ["used-id", "used-len", "used-idx", "call"]
#: Those to an in-flight region.
TRACKING = ["flight-counter", "flight-set", "flight-next", "flight-batch", "flight-clear",
            "flight-used-idx"]


def points(stores):
    return [f"{when}-{store}" for store in stores for when in ("before", "after")]


class BlkBack:
    """With options of its command line by their names, as order="reverse".  Without a
    journal it is as fast as it can be."""

    def __init__(self, bed, name="disk", sectors=131072, plan="", journal=True, **options):
        self.bed, self.name = bed, name
        self.socket = bed.path(f"{name}.sock")
        self.image = bed.path(f"{name}.img")
        self.journal_path = bed.path(f"{name}.journal") if journal else None
        self.options = options
        with open(self.image, "wb") as image:
            image.truncate(sectors * SECTOR)
        self._read, self._lines, self._part, self._waited = 0, [], b"", {}
        bed.start(self, stop=lambda: self.process.kill())
        self.start(plan)

    def start(self, plan="", waits=True, **options):
        """A new process, on the same socket and disk; options from now on.  It is waited for
        until it listens, or has ended as it was told to, which may come before one looks."""
        self.options.update(options)
        words = [f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
                 for name, value in self.options.items()]
        self.process = Process(
            self.name,
            [self.bed.build / "tests/blk_back/blk-back", f"--socket={self.socket}",
             f"--disk={self.image}", f"--plan={plan}", *words,
             *([f"--journal={self.journal_path}"] if self.journal_path else [])],
            self.bed.log(self.name), console=True)
        if waits:
            wait_until(lambda: listens(self.socket) or not self.process.alive(),
                       f"{self.name} to listen")

    def restart(self, plan="", **options):
        """What an operator does with one that is not dead yet."""
        self.process.kill()
        self.start(plan, **options)

    def wait_death(self):
        assert self.process.wait() == -9

    # Commands

    def ask(self, command):
        self.process.popen.stdin.write(command.encode() + b"\n")
        answer = json.loads(self.process.popen.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def plan(self, text):
        return self.ask(f"plan {text}")

    def go(self):
        return self.ask("go")

    def state(self):
        return self.ask("state")

    # What it did

    def journal(self):
        """All lines so far, of all processes that had this disk."""
        with open(self.journal_path, "rb") as journal:
            journal.seek(self._read)
            data = journal.read()
        self._read += len(data)
        *whole, self._part = (self._part + data).split(b"\n")
        self._lines += [json.loads(line) for line in whole]
        return self._lines

    def wait_did(self, action):
        """Until that was done once more than it was waited for; returns the journal's line."""
        self._waited[action] = number = self._waited.get(action, 0) + 1
        return wait_until(
            lambda: len(did := [line for line in self.journal()
                                if line.get("did") == action]) >= number and did[number - 1],
            f"{self.name} to {action}")

    def at(self, place, since=0):
        """The journal's lines of one point, as "after disk-write"."""
        return [line for line in self.journal()[since:] if line["at"] == place]

    # What it has

    def sector(self, number):
        with open(self.image, "rb") as image:
            image.seek(number * SECTOR)
            return image.read(SECTOR)


class DiskRing(VmmRing):
    """A ring of a disk's driver: three descriptors a request, in slots."""

    def __init__(self, vmm, index=0, size=64, base=0):
        super().__init__(vmm, index, size)
        self.next = self.seen = base
        self.event_at = self.used_at + 4 + 8 * size     # avail_event; used_event:
        self.wish_at = self.avail_at + 4 + 2 * size
        self.free = list(range(size // 3))
        self.flying = {}
        for at in (self.avail_at, self.used_at):
            struct.pack_into("<HH", vmm.memory, at, 0, base)

    def restart(self):
        """As a new driver: an empty ring, which begins at 0; nothing is in flight."""
        for at in (self.avail_at, self.used_at):
            struct.pack_into("<HH", self.vmm.memory, at, 0, 0)
        self.next = self.seen = 0
        self.free = list(range(self.size // 3))
        self.flying = {}

    def resume(self):
        """On a new connection: all that was not used is available."""
        available, self.next = self.next, self.used
        self.start()
        self.next = available
        os.eventfd_write(self.kick, 1)

    def _buffer(self, slot):
        return 0x400000 + (self.index * 64 + slot) * 0x1000

    def _segment(self, descriptor, address, length, flags):
        struct.pack_into("<QIHH", self.vmm.memory, self.at + 16 * descriptor, address, length,
                         flags, descriptor + 1)

    def submit(self, kind, sector=0, data=b"", length=0, kick=True, offer=True):
        """Make a request available, or ready to be made so; returns its slot."""
        slot, memory = self.free.pop(0), self.vmm.memory
        at, head = self._buffer(slot), 3 * slot
        memory[at:at + 16] = struct.pack("<IIQ", kind, 0, sector)
        memory[at + 32:at + 32 + max(len(data), length)] = data or bytes(length)
        memory[at + 16] = 0xff
        self._segment(head, at, 16, 1)
        if kind == FLUSH:
            struct.pack_into("<QIHH", memory, self.at + 16 * head + 16, at + 16, 1, 2, 0)
        else:
            self._segment(head + 1, at + 32, len(data) or length, 1 if data else 3)
            struct.pack_into("<QIHH", memory, self.at + 16 * head + 32, at + 16, 1, 2, 0)
        struct.pack_into("<H", memory, self.avail_at + 4 + 2 * (self.next % self.size), head)
        self.next = self.next + 1 & 0xffff
        self.flying[slot] = kind, sector, data, length
        if offer:
            self._offer(kick)
        return slot

    def _offer(self, kick):
        # Each completion is to be told.
        struct.pack_into("<H", self.vmm.memory, self.wish_at, self.seen)
        struct.pack_into("<H", self.vmm.memory, self.avail_at + 2, self.next)
        if kick:
            os.eventfd_write(self.kick, 1)

    def write(self, sector, word, kick=True, sectors=1, offer=True):
        """Of sectors that are filled with a number."""
        return self.submit(OUT, sector, struct.pack("<Q", word) * (64 * sectors), kick=kick,
                           offer=offer)

    def burst(self, words, first=0):
        """Write these, from that sector on, all made available by one store."""
        for number, word in enumerate(words):
            self.write(first + number, word, offer=False)
        self._offer(kick=True)

    def read(self, sector, kick=True):
        return self.submit(IN, sector, length=SECTOR, kick=kick)

    def collect(self):
        """What has come back: [(slot, status, request, data read)]."""
        memory, done = self.vmm.memory, []
        while self.seen != self.used:
            head, _ = struct.unpack_from(
                "<II", memory, self.used_at + 4 + 8 * (self.seen % self.size))
            self.seen = self.seen + 1 & 0xffff
            slot, odd = divmod(head, 3)
            assert not odd and slot in self.flying, f"used id {head} is not in flight"
            at, request = self._buffer(slot), self.flying.pop(slot)
            self.free.append(slot)
            done.append((slot, memory[at + 16], request, memory[at + 32:at + 32 + request[3]]))
        struct.pack_into("<H", memory, self.wish_at, self.seen)
        return done

    def collect_judged(self, disk):
        """The same; each has succeeded, and each write is on the disk."""
        done = self.collect()
        for _, status, (kind, sector, data, _), _ in done:
            assert status == OK
            if kind == OUT:
                for number in range(len(data) // SECTOR):
                    assert disk.sector(sector + number) == \
                        data[SECTOR * number:SECTOR * (number + 1)], \
                        f"a write of sector {sector} was completed, and is not on the disk"
        return done

    def drain(self, disk):
        """Until nothing is in flight; what came back meanwhile."""
        done = []

        def is_drained():
            done.extend(self.collect_judged(disk))
            return not self.flying
        wait_until(is_drained, f"{len(self.flying)} requests to come back")
        return done


class DiskVmm(SimulatedVmm):
    """A VMM before a disk, or before an umbra before one; with tracked, it keeps an
    in-flight region for it."""

    def __init__(self, bed, program, queues=1, size=64, tracked=False, **options):
        super().__init__(bed, program, **options)
        self.queues, self.ring_size, self.tracked = queues, size, tracked
        self.region = None
        self.memory[0] = 1                      # as a guest that has booted

    def begin(self, channel=False):
        """Up to the rings, of which none is started; returns self."""
        self.negotiate(VERSION_1 | PROTOCOL | EVENT_IDX, channel,
                       PROTOCOL_FEATURES | (INFLIGHT_SHMFD if self.tracked else 0))
        if self.tracked:
            described = struct.pack("<QQHHI", 0, 0, self.queues, self.ring_size, 0)
            if self.region is None:
                self.send(GET_INFLIGHT_FD, described)
                header, (self.region,), _, _ = socket.recv_fds(self.socket, 12, 1)
                self.described = self.socket.recv(struct.unpack("<III", header)[2])
            self.request(SET_INFLIGHT_FD, self.described, [self.region])
        return self

    def disk_ring(self, index=0, base=0):
        ring = DiskRing(self, index, self.ring_size, base)
        self.rings.append(ring)
        return ring

    def move(self, program, channel=False):
        """To another connection, with memory, region and rings as they are: what a VMM does
        that has lost its device.  The rings go on at the used index, kicked once."""
        self.socket.close()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(program.socket))
        self.begin(channel)
        for ring in self.rings:
            ring.resume()
        return self

    def leave(self):
        super().leave()
        if self.region is not None:
            os.close(self.region)
        self.region = None
