"""What a front-end hands over as a kick, call or error fd is what it is meant to be.

What is always readable would keep a thread awake for ever, and the front-end's own
end of the vhost-user socket, held by umbra, would hide that the front-end has died.
"""

import contextlib
import os
import select
import socket
import subprocess

import pytest
from bed import SimulatedVmm, procfs
from bed.peers import (SET_BACKEND_REQ_FD, SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK,
                       u64)
from bed.wait import PATIENCE, wait_until

WHICH = {"kick": SET_VRING_KICK, "call": SET_VRING_CALL, "err": SET_VRING_ERR}


def serve(bed, umbra, ring):
    """One buffer on its way through the device."""
    before = ring.used
    ring.offer(head=ring.next % 8, length=4)
    if hasattr(bed, "disk"):
        bed.disk.serve_one(ring.index)
    ring.wait_used(before + 1)


@contextlib.contextmanager
def strangers():
    """Files that are none of what is expected, by what umbra calls them."""
    with contextlib.ExitStack() as stack:
        def own(fd):
            stack.callback(os.close, fd)
            return fd
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind("")
        listening.listen()
        poll = stack.enter_context(contextlib.closing(select.epoll()))
        yield {
            "eventpoll": poll.fileno(),
            "/etc/passwd": own(os.open("/etc/passwd", os.O_RDONLY)),
            "/dev/zero": own(os.open("/dev/zero", os.O_RDWR)),
            "memfd": own(os.memfd_create("a\n\x1b[2Jstranger")),
            "socket": listening.fileno(),
        }


@pytest.mark.parametrize("which", WHICH)
def test_a_stranger_is_refused_by_name_and_the_ring_runs_on(bed, umbra, which):
    vmm = SimulatedVmm(bed, umbra).negotiate()
    ring = vmm.ring(0).start()
    with strangers() as files:
        for name, fd in files.items():
            assert vmm.refuses(WHICH[which], u64(0), [fd])
            wait_until(lambda: name in umbra.process.output(), f"'{name}' in the log")
    assert "\x1b" not in umbra.process.output()
    serve(bed, umbra, ring)


@pytest.mark.parametrize("which", [*WHICH, "channel"])
def test_a_front_end_that_hands_over_its_own_socket_is_seen_to_die(bed, umbra, which):
    vmm = SimulatedVmm(bed, umbra).negotiate()
    vmm.ring(0).start()
    if which == "channel":
        assert vmm.refuses(SET_BACKEND_REQ_FD, b"", [vmm.socket.fileno()])
    else:
        assert vmm.refuses(WHICH[which], u64(0), [vmm.socket.fileno()])
    vmm.leave()
    umbra.wait_state("waiting")


def test_a_front_end_on_a_nameless_socket_is_seen_to_die(bed):
    """Started with --fd: neither end of the connection has a name."""
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([bed.program, "balloon", f"--fd={theirs.fileno()}"],
                               pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    theirs.close()
    try:
        vmm = SimulatedVmm(bed, None, connection=ours).negotiate()
        ring = vmm.ring(0).start()
        assert vmm.refuses(SET_VRING_CALL, u64(0), [vmm.socket.fileno()])
        left, right = socket.socketpair()
        vmm.request(SET_VRING_CALL, u64(0), [left.fileno()])
        ring.offer(length=4)
        assert right.recv(8) == u64(1)
        vmm.leave()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_call_socket_hides_no_fd_in_what_is_never_read(bed, umbra):
    """The front-end's end of the connection could lie there as a message."""
    vmm = SimulatedVmm(bed, umbra).negotiate()
    vmm.ring(0).start()
    left, right = socket.socketpair()
    socket.send_fds(right, [b"x"], [vmm.socket.fileno()])
    vmm.request(SET_VRING_CALL, u64(0), [left.fileno()])
    with pytest.raises(BrokenPipeError):
        socket.send_fds(right, [b"x"], [vmm.socket.fileno()])
    left.close()
    vmm.leave()
    umbra.wait_state("waiting")


def test_pipes_and_socketpairs_do_as_eventfds(bed, umbra):
    vmm = SimulatedVmm(bed, umbra).negotiate()
    ring = vmm.ring(0)
    reads, writes = os.pipe()
    left, right = socket.socketpair()
    ring.start(kick=reads, call=left.fileno())
    ring.offer(length=4, kick=False)
    os.write(writes, u64(1))
    if hasattr(bed, "disk"):
        bed.disk.serve_one(0)
    right.settimeout(PATIENCE)
    assert right.recv(8) == u64(1)
    assert vmm.refuses(SET_VRING_KICK, u64(0), [writes]), "it cannot be read"
    assert vmm.refuses(SET_VRING_CALL, u64(0), [reads]), "it cannot be written"
    vmm.leave()
    for fd in (reads, writes):
        os.close(fd)
    left.close()
    right.close()


def test_a_kick_pipe_without_a_writer_breaks_its_ring_and_keeps_nobody_awake(bed, umbra):
    vmm = SimulatedVmm(bed, umbra).negotiate()
    reads, writes = os.pipe()
    ring, other = vmm.ring(0), vmm.ring(1).start()
    ring.start(kick=reads)
    os.close(writes)
    wait_until(lambda: "the other end of its kick fd is closed" in umbra.process.output(),
               "the ring to be broken")
    serve(bed, umbra, other)
    # A thread that finds the pipe readable again and again never sleeps.
    wait_until(lambda: set(procfs.thread_states(umbra.pid)) == {"S"}, "all threads to sleep")
    os.close(reads)
