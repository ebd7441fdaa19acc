"""Nothing that a peer does again and again fills the log, and what the log says of it
is so."""

import re
import struct
import time

import pytest
from bed import QmpError, SimulatedBackend, SimulatedVmm
from bed.peers import GET_VRING_BASE, SET_VRING_KICK, encode
from bed.wait import wait_until

BURST = 10              # lines of a kind, then one a second
ROUNDS = 200


def nonsense(bed, umbra):
    vmm = SimulatedVmm(bed, umbra)
    vmm.socket.sendall(encode(99))
    vmm.wait_end()
    vmm.leave()


def broken_ring(bed, umbra, vmms={}):
    vmm = vmms.get(umbra) or vmms.setdefault(umbra, SimulatedVmm(bed, umbra).negotiate())
    ring = vmm.ring(0)
    ring.start()
    struct.pack_into("<H", vmm.memory, ring.avail_at + 2, 9999)
    ring.vmm.request(SET_VRING_KICK, struct.pack("<Q", 0), [ring.kick])
    vmm.stop(0)
    struct.pack_into("<H", vmm.memory, ring.avail_at + 2, 0)
    ring.close()
    vmm.rings.remove(ring)


@pytest.mark.parametrize("what", [nonsense, broken_ring])
def test_a_front_end_cannot_fill_the_log(bed, umbra, what):
    start = time.monotonic()
    for _ in range(ROUNDS):
        what(bed, umbra)
    seconds = time.monotonic() - start
    lines = umbra.process.output().splitlines()
    kinds = {}
    for line in lines:
        kind = re.sub(r"\d+", "#", line.partition(" umbra ")[2])
        kinds[kind] = kinds.get(kind, 0) + 1
    assert len(kinds) > 2
    assert max(kinds.values()) <= BURST + seconds + 1, kinds


def test_no_number_of_chains_is_said_that_a_ring_cannot_have(bed):
    """The back-end's used index runs past where it says that it stopped."""
    backend = SimulatedBackend(bed)
    umbra = bed.umbra(backend, options=["--switch-deadline=500"])
    vmm = SimulatedVmm(bed, umbra).negotiate()
    ring = vmm.ring(0).start()
    ring.offer()
    wait_until(lambda: backend.take(0), "a chain")

    def lie(request):
        """As soon as it has said where it stopped."""
        if GET_VRING_BASE in backend.seen and request != GET_VRING_BASE:
            struct.pack_into("<H", vmm.memory, ring.used_at + 2, 6)
    backend.after = lie
    with pytest.raises(QmpError) as refused:
        umbra.shadow(True)
    vmm.leave()
    umbra.wait_state("waiting")
    for text in (refused.value.reason, umbra.process.output()):
        assert not re.search(r"\d{5} (chains|requests)", text), text


def test_no_line_names_its_speaker_twice(bed):
    """What is wrong is said once, by whom it came."""
    backend = SimulatedBackend(bed)
    umbra = bed.umbra(backend)
    for ending in (encode(99), encode(1)[:5], struct.pack("<III", 1, 99, 0),
                   struct.pack("<III", 2, 1, 1 << 20)):
        vmm = SimulatedVmm(bed, umbra).negotiate(channel=True)
        vmm.socket.sendall(ending)
        vmm.leave()
        umbra.wait_state("waiting")
    for ending in (struct.pack("<III", 2, 99, 0), struct.pack("<III", 2, 1, 1 << 20)):
        vmm = SimulatedVmm(bed, umbra).negotiate(channel=True)
        backend.channel.sendall(ending)
        wait_until(lambda: "the channel is closed" in umbra.process.output(), "that")
        vmm.leave()
        umbra.wait_state("waiting")
    for line in umbra.process.output().splitlines()[1:]:
        for name in ("front-end:", "back-end's channel:", "back-end:"):
            assert line.count(name) < 2, line
