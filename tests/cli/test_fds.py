"""What peers make umbra hold is bounded, and its operator is not locked out."""

import resource
import socket

import pytest
from bed import QmpClient, SimulatedBackend, SimulatedVmm, procfs
from bed.peers import GET_FEATURES, SET_VRING_ERR, u64
from bed.wait import wait_until

QUEUES = 256


def start(bed, limit):
    """A back-end of many queues, and umbra with this soft limit of open files."""
    backend = SimulatedBackend(bed, queues=QUEUES)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Inherited by what is started, and set back at once.
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        umbra = bed.umbra(backend, shadow="on")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    return backend, umbra


def lower(umbra, limit):
    """From outside, for a process that has raised it: nothing above can be opened."""
    resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE, (limit, limit))


def start_rings(vmm, count=QUEUES):
    """All rings share one kick, call and error fd; umbra has one of each for each."""
    started = 0
    first = vmm.ring(0)
    for index in range(count):
        ring = vmm.ring(index, 8)
        ring.at = 0x1000 + 0x400 * index
        ring.avail_at, ring.used_at = ring.at + 128, ring.at + 256
        try:
            vmm.request(SET_VRING_ERR, u64(index), [first.call])
            ring.start(first.kick, first.call)
            started += 1
        except AssertionError:
            break
        finally:
            ring.close()
            vmm.rings.remove(ring)
    return started


def test_the_usual_soft_limit_is_raised_to_the_hard_one(bed):
    """It is for programs that use select(2); 256 queues need more."""
    _, umbra = start(bed, limit=256)
    soft, hard = resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE)
    assert soft == hard == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert start_rings(SimulatedVmm(bed, umbra).negotiate(), 45) == 45


def test_a_front_end_leaves_no_fd_behind(bed):
    backend, umbra = start(bed, limit=1024)
    before = len(umbra.fds())
    vmm = SimulatedVmm(bed, umbra).negotiate()
    start_rings(vmm, 32)
    assert len(umbra.fds()) >= before + 32 * 5
    vmm.leave()
    umbra.wait_state("waiting")
    assert len(umbra.fds()) == before


def test_a_front_end_that_uses_all_fds_locks_nobody_out(bed):
    """It is refused by name; operators still come in, and the next VMM is served."""
    backend, umbra = start(bed, limit=1024)
    lower(umbra, 256)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    assert 10 < start_rings(vmm) < QUEUES
    assert "limit of open files" in umbra.process.output()
    # With fds that cost umbra nothing but their number.
    for index in range(QUEUES - 1, 0, -1):
        if vmm.refuses(SET_VRING_ERR, u64(index), [vmm.fd]):
            break
    clients = [QmpClient(umbra.control) for _ in range(15)]
    for client in clients:
        assert client.execute("query-status")["state"]
        client.close()
    vmm.leave()
    umbra.wait_state("waiting")
    SimulatedVmm(bed, umbra).negotiate().ring(0).start()
    umbra.terminate()


@pytest.mark.parametrize("kind", ["shadow", "balloon"])
def test_a_vmm_that_cannot_be_accepted_is_left_to_wait(bed, kind):
    """accept(2) fails; the program goes on, and takes it in when it can."""
    if kind == "shadow":
        umbra = start(bed, limit=1024)[1]
    else:
        umbra = bed.balloon()
    before = resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE, (len(umbra.fds()), before[1]))
    vmm = SimulatedVmm(bed, umbra)
    wait_until(lambda: "cannot be taken in" in umbra.process.output(), "a word in the log")
    assert umbra.status()["state"] == "waiting"
    resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE, before)
    vmm.negotiate().ring(0).start()
    umbra.terminate()


def test_a_second_vmm_that_cannot_be_turned_away_keeps_nobody_awake(bed):
    backend, umbra = start(bed, limit=1024)
    vmm = SimulatedVmm(bed, umbra).negotiate()
    before = resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE, (len(umbra.fds()), before[1]))
    with socket.socket(socket.AF_UNIX) as second:
        second.connect(str(umbra.socket))
        wait_until(lambda: "cannot be taken in" in umbra.process.output(), "a word in the log")
        wait_until(lambda: set(procfs.thread_states(umbra.pid)) == {"S"},
                   "all threads to sleep")
        vmm.ask(GET_FEATURES)
    resource.prlimit(umbra.pid, resource.RLIMIT_NOFILE, before)
