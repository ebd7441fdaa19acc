"""A program that is asked to end gives its guest what was done for it, waits no longer
than it was told, and says what it left.

Simulated peers: a test says when the back-end takes a request, and when it is done.
"""

import os
import signal

import pytest
from bed.peers import (GET_VRING_BASE, PROTOCOL_FEATURES, SimulatedBackend, SimulatedVmm)
from bed.wait import wait_until

#: A polling back-end has it, which answers a stop at once, and needs no kicks.
RARP = 1 << 2

MODES = {"passed": "auto", "shadowed": "on"}


@pytest.fixture(params=MODES)
def start(request, bed):
    """Umbra in one of the two modes, with a ring on which a request is in flight."""

    def start(*options):
        backend = SimulatedBackend(bed, protocol=PROTOCOL_FEATURES | RARP)
        umbra = bed.umbra(backend, shadow=MODES[request.param], options=options)
        vmm = SimulatedVmm(bed, umbra).negotiate()
        ring = vmm.ring().start()
        ring.offer(head=0, flags=2)
        backend.serve_one()
        ring.wait_used(1)
        ring.offer(head=1)
        backend.in_flight, = wait_until(backend.take, "a request in flight")
        return umbra, backend, ring
    return start


def signalled(umbra):
    umbra.process.signal(signal.SIGTERM)


def interrupted(umbra):
    umbra.process.signal(signal.SIGINT)


def quit_by_client(umbra):
    umbra.qmp.execute("quit")


def wait_said(umbra, words):
    wait_until(lambda: words in umbra.process.output(), f"the log to say {words}")


@pytest.mark.parametrize("ask", [signalled, interrupted, quit_by_client])
def test_a_request_in_flight_is_completed_before_the_end(start, ask):
    umbra, backend, ring = start("--switch-deadline=60000")
    os.eventfd_write(ring.call, 1)              # so that reading does not block
    os.eventfd_read(ring.call)
    ask(umbra)
    wait_said(umbra, ": ending")
    backend.use(backend.in_flight)
    umbra.check_end()
    assert ring.used == 2
    assert os.eventfd_read(ring.call) > 0       # and the guest is told
    assert "no request is left with the back-end" in umbra.process.output()
    assert backend.seen.count(GET_VRING_BASE) == 1


def test_a_request_that_was_not_taken_stays_on_the_guests_ring(start):
    umbra, backend, ring = start("--switch-deadline=300")
    backend.use(backend.in_flight)
    ring.wait_used(2)
    ring.offer(head=2)
    umbra.terminate()
    assert ring.used == 2
    assert "no request is left with the back-end" in umbra.process.output()


def test_a_backend_that_keeps_a_request_is_waited_for_so_long_and_no_longer(start):
    umbra, backend, ring = start("--switch-deadline=300")
    umbra.terminate()
    assert ring.used == 1
    output = umbra.process.output()
    assert "1 requests are left with the back-end" in output
    assert "no request is left" not in output


def test_a_backend_that_does_not_answer_is_waited_for_no_longer(start):
    umbra, backend, ring = start("--switch-deadline=300")
    backend.holds.add(GET_VRING_BASE)
    umbra.terminate()
    output = umbra.process.output()
    assert "were not brought to rest" in output
    assert "no request is left" not in output


def test_the_second_signal_ends_it_at_once(start):
    umbra, backend, ring = start("--switch-deadline=600000")
    umbra.ended = True
    signalled(umbra)
    wait_said(umbra, ": ending")
    signalled(umbra)
    assert umbra.process.wait(20) == -signal.SIGTERM


def test_the_second_quit_does_not_wait(start):
    umbra, backend, ring = start("--switch-deadline=600000")
    quit_by_client(umbra)
    wait_said(umbra, ": ending")
    quit_by_client(umbra)
    umbra.check_end()
    assert "no request is left" not in umbra.process.output()
