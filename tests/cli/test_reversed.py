"""The other way round: a back-end that connects to umbra, and a VMM that umbra connects to.

Simulated peers, for what takes a real one (tests/interop) seconds: peers that come late,
go, come back, and hang up at once.
"""

import contextlib
import os
import socket

import pytest
from bed.peers import ConnectingBackend, ListeningVmm, SimulatedBackend, SimulatedVmm
from bed.wait import PATIENCE, wait_until


class Nowhere:
    """The address of a back-end that has not come."""

    def __init__(self, bed):
        self.socket = bed.path("late.sock")
        self.address = f"listen:{self.socket}"


def requests_pass(vmm, backend, ring, count):
    for _ in range(3):
        ring.offer()
        count += 1
        backend.serve_one()
        ring.wait_used(count)


def dial(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    return client


# --- a back-end that connects --------------------------------------------------


@pytest.mark.parametrize("shadow", ["off", "on"])
def test_a_back_end_that_connects_serves_the_vm(bed, shadow):
    backend = ConnectingBackend(bed)
    umbra = bed.umbra(backend, shadow=shadow)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    requests_pass(vmm, backend, vmm.ring().start(), 0)
    assert umbra.state() == ("shadowed" if shadow == "on" else "passthrough")
    assert umbra.vhost()["backend"]["address"] == str(backend.socket)
    umbra.terminate()
    assert not backend.socket.exists()


def test_a_vm_waits_for_its_back_end_and_the_status_says_so(bed):
    umbra = bed.umbra(Nowhere(bed))
    vmm = SimulatedVmm(bed, umbra)
    status = wait_until(lambda: "back-end" in (status := umbra.status())["reason"] and status,
                        "the status to say what is missing")
    assert status["state"] == "waiting"
    assert status["reason"] == \
        f"for a back-end that connects to {bed.path('late.sock')}; the VMM is there"
    assert "the front-end waits for one" in umbra.process.output()
    # Meanwhile the operator is served, and a second VMM turned away.
    umbra.shadow(True)
    with contextlib.closing(dial(umbra.socket)) as second:
        assert second.recv(1) == b""
    backend = ConnectingBackend(bed, "late")
    vmm.negotiate()
    requests_pass(vmm, backend, vmm.ring().start(), 0)
    assert umbra.state() == "shadowed"


def test_a_vm_that_gives_up_leaves_the_place_to_the_next(bed):
    umbra = bed.umbra(Nowhere(bed))
    SimulatedVmm(bed, umbra).leave()
    wait_until(lambda: "for a VMM that connects" in umbra.status()["reason"], "it to wait anew")
    vmm = SimulatedVmm(bed, umbra)
    ConnectingBackend(bed, "late")
    vmm.negotiate()


def test_a_back_end_that_went_away_while_it_waited_is_passed_over(bed):
    backend = Nowhere(bed)
    umbra = bed.umbra(backend)
    for _ in range(3):
        dial(backend.socket).close()
    backend = ConnectingBackend(bed, "late")
    wait_until(lambda: backend.connection, "the back-end to connect")
    vmm = SimulatedVmm(bed, umbra).negotiate()
    requests_pass(vmm, backend, vmm.ring().start(), 0)


def test_a_lost_back_end_is_followed_by_the_next_connection(bed):
    backend = ConnectingBackend(bed)
    umbra = bed.umbra(backend)
    for number in range(1, 4):
        vmm = SimulatedVmm(bed, umbra).negotiate()
        requests_pass(vmm, backend, vmm.ring().start(), 0)
        assert backend.connections == number
        backend.hang_up()
        vmm.wait_end()
        umbra.wait_state("backend-lost")
        vmm.leave()


def test_a_stand_by_takes_over(bed):
    first = ConnectingBackend(bed)
    umbra = bed.umbra(first)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    second = ConnectingBackend(bed, "simulated")
    wait_until(lambda: second.connection, "the stand-by to connect")
    first.leave()
    vmm.wait_end()
    vmm.leave()
    vmm = SimulatedVmm(bed, umbra).negotiate()
    requests_pass(vmm, second, vmm.ring().start(), 0)


# --- a VMM that listens ----------------------------------------------------------


def test_a_vmm_that_listens_is_connected_to_again_and_again(bed):
    path = bed.path("vmm.sock")
    backend = SimulatedBackend(bed)
    umbra = bed.umbra(backend, connect=path)
    for number in range(1, 4):
        vmm = ListeningVmm(bed, path).negotiate()
        requests_pass(vmm, backend, vmm.ring().start(), 0)
        assert umbra.vhost()["frontends"] == number
        vmm.leave()
        path.unlink()
    umbra.terminate()


def test_a_new_umbra_connects_to_the_vmm_of_the_one_that_died(bed):
    path = bed.path("vmm.sock")
    backend = SimulatedBackend(bed)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(PATIENCE)
        listener.bind(str(path))
        listener.listen(1)
        for name in ("u1", "u2"):
            umbra = bed.umbra(backend, name=name, connect=path)
            peer, _ = listener.accept()
            with peer:
                umbra.kill()
                assert peer.recv(1) == b""
        assert path.exists()


def test_the_status_says_how_connecting_goes(bed):
    path = bed.path("vmm.sock")
    umbra = bed.umbra(SimulatedBackend(bed), connect=path)
    wait_until(lambda: "the last pause 1000 ms" in umbra.status()["reason"],
               "the pauses to grow to a second")
    reason = umbra.status()["reason"]
    assert umbra.status()["state"] == "waiting"
    assert f"for a VMM that listens at {path} (No such file or directory; " in reason
    # 1 + 2 + 4 + ... + 512 ms: at the tenth pause and not before.
    assert int(reason.split("directory; ")[1].split()[0]) >= 11
    log = umbra.process.output()
    assert log.count("no VMM listens at") == 1
    ListeningVmm(bed, path).negotiate()
    umbra.wait_state("negotiating")


def test_a_balloon_connects_too(bed):
    path = bed.path("vmm.sock")
    balloon = bed.balloon(connect=path)
    assert "for a VMM that listens at" in balloon.status()["reason"]
    for _ in range(2):
        vmm = ListeningVmm(bed, path).negotiate()
        ring = vmm.ring(0).start()
        ring.offer(length=4)
        ring.wait_used(1)
        vmm.leave()
        os.unlink(path)
