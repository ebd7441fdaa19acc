"""No thread is blocked for good by what a peer shares with it.

O_NONBLOCK belongs to the open file: whoever handed over an eventfd can take it
away at any time, and fill the counter.  Simulated peers, since no real one does.
"""

import pytest
from bed.peers import (SET_VRING_KICK, SimulatedBackend, SimulatedVmm, spoil)
from bed.wait import wait_until


def test_a_balloon_outlives_a_call_fd_that_blocks(bed):
    """Its queue is broken with that reason, the other one is served, the next VMM
    too, and SIGTERM ends it."""
    balloon = bed.balloon()
    vmm = SimulatedVmm(bed, balloon).negotiate()
    inflate, deflate = vmm.ring(0).start(), vmm.ring(1).start()
    inflate.offer(length=4)
    inflate.wait_used(1)
    spoil(inflate.call)
    inflate.offer(head=1, length=4)
    inflate.wait_used(2)
    wait_until(lambda: "made its call fd block" in balloon.process.output(),
               "the queue to be broken with that reason")
    deflate.offer(length=4)
    deflate.wait_used(1)
    vmm.leave()
    balloon.wait_state("waiting")
    SimulatedVmm(bed, balloon).negotiate().ring(0).start()
    balloon.terminate()


@pytest.fixture
def shadowed(bed):
    """A back-end, umbra with the shadow on, and a VMM with two running rings."""
    backend = SimulatedBackend(bed)
    umbra = bed.umbra(backend, shadow="on")
    vmm = SimulatedVmm(bed, umbra).negotiate()
    rings = [vmm.ring(index).start() for index in range(2)]
    for ring in rings:
        ring.offer()
        backend.serve_one(ring.index)
        ring.wait_used(1)
    return backend, umbra, vmm, rings


def wait_broken(umbra, reason):
    """Queue 0 is broken for this reason, and the control socket says so."""
    queue = wait_until(lambda: next(
        (q for q in umbra.vhost()["queues"] if q["index"] == 0 and q.get("error")), None),
        "queue 0 to be broken")
    assert reason in queue["error"]


def check_aftermath(bed, umbra, backend, vmm, other):
    """The other ring runs; the broken one is given back; the next VMM is served;
    umbra ends when it is asked to."""
    other.offer(head=1)
    backend.serve_one(other.index)
    other.wait_used(2)
    vmm.stop(0)
    vmm.leave()
    umbra.wait_state("waiting")
    ring = SimulatedVmm(bed, umbra).negotiate().ring(0).start()
    ring.offer()
    backend.serve_one(0)
    ring.wait_used(1)
    umbra.terminate()


def test_a_shadow_outlives_a_call_fd_that_blocks(bed, shadowed):
    backend, umbra, vmm, rings = shadowed
    rings[0].offer(head=1)
    heads = wait_until(lambda: backend.take(0), "a chain")
    spoil(rings[0].call)
    for head in heads:
        backend.use(head, 0)
    wait_broken(umbra, "the front-end made its call fd block")
    check_aftermath(bed, umbra, backend, vmm, rings[1])


def test_a_shadow_outlives_a_kick_fd_that_its_back_end_blocks(bed, shadowed):
    backend, umbra, vmm, rings = shadowed
    backend.ignore_kicks()
    spoil(backend.fd(0, SET_VRING_KICK))
    rings[0].offer(head=1)
    wait_broken(umbra, "the back-end made its kick fd block")
    check_aftermath(bed, umbra, backend, vmm, rings[1])


def test_many_queues_that_block_do_not_hold_up_the_end(bed):
    """Each of them is one call that blocks: SIGTERM waits for all, and not long."""
    backend = SimulatedBackend(bed, queues=64)
    umbra = bed.umbra(backend, shadow="on")
    vmm = SimulatedVmm(bed, umbra).negotiate()
    rings = [vmm.ring(index).start() for index in range(64)]
    backend.ignore_kicks()
    for ring in rings:
        spoil(backend.fd(ring.index, SET_VRING_KICK))
        ring.offer()
    umbra.terminate(60)
