"""Every wait has one start, and hears everybody else meanwhile.

The device's thread waits for the back-end's answers, and for nobody else; what any
peer does with its other connection, or leaves undone, holds up itself alone.
"""

import contextlib
import threading

import pytest
from bed import QmpClient, QmpError, SimulatedBackend, SimulatedVmm
from bed.peers import (CONFIG_CHANGE, GET_FEATURES, GET_VRING_BASE, SET_VRING_ENABLE,
                       encode)
from bed.wait import PATIENCE, wait_until


@pytest.fixture
def backend(bed):
    return SimulatedBackend(bed)


@pytest.fixture
def umbra(bed, backend):
    return bed.umbra(backend, options=["--switch-deadline=1000"])


@pytest.fixture
def vmm(bed, umbra):
    """With one running ring, and a channel to umbra."""
    vmm = SimulatedVmm(bed, umbra).negotiate(channel=True)
    vmm.ring(0).start()
    return vmm


@contextlib.contextmanager
def flooding(backend, message):
    """All the time, on the back-end's own channel."""
    ends = threading.Event()

    def flood():
        while not ends.is_set():
            try:
                backend.channel.sendall(message)
            except OSError:
                return

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        backend.hang_up()
        thread.join(60)


def check_that_an_end_is_heard(umbra, vmm):
    """The front-end goes: that is noticed, and is not the back-end's fault."""
    vmm.leave()
    umbra.wait_state("waiting")
    states = [event["data"]["to"] for event in umbra.qmp.events
              if event["event"] == "SHADOW_STATE_CHANGE"]
    assert "backend-lost" not in states
    assert "error" not in umbra.process.output()
    assert "the front-end has gone, while the back-end had not answered" in \
        umbra.process.output()
    umbra.terminate()


def test_a_back_end_that_talks_and_does_not_answer_holds_off_no_deadline(umbra, backend, vmm):
    backend.holds.add(GET_VRING_BASE)
    with flooding(backend, encode(CONFIG_CHANGE)):
        with pytest.raises(QmpError, match="has not answered"):
            umbra.shadow(True)
        check_that_an_end_is_heard(umbra, vmm)


def test_a_vmm_that_leaves_a_mute_back_end_has_left(umbra, backend, vmm):
    backend.holds.add(SET_VRING_ENABLE)
    vmm.send(SET_VRING_ENABLE, bytes(8))
    backend.wait_seen(SET_VRING_ENABLE, 2)
    check_that_an_end_is_heard(umbra, vmm)


class Asked(threading.Thread):
    """A switch that is asked for on a connection of its own; `refused` says why it failed."""

    def __init__(self, umbra, enable):
        super().__init__(daemon=True)
        self.umbra, self.enable, self.refused = umbra, enable, None
        self.start()

    def run(self):
        with QmpClient(self.umbra.control) as qmp:
            try:
                qmp.execute("x-vhost-enable-shadow-vq",
                            {"name": self.umbra.name, "enable": self.enable})
            except QmpError as error:
                self.refused = error.reason


@pytest.mark.parametrize("why", ["stop", "switch"])
def test_a_vmm_that_leaves_rings_that_come_to_no_rest_has_left(bed, backend, why):
    umbra = bed.umbra(backend, options=["--switch-deadline=3600000"])
    vmm = SimulatedVmm(bed, umbra).negotiate()
    ring = vmm.ring(0).start()
    umbra.shadow(True)
    ring.offer()
    wait_until(lambda: backend.take(0), "the back-end to have a request")
    if why == "stop":
        vmm.send(GET_VRING_BASE, bytes(8))
    else:
        asked = Asked(umbra, False)
        umbra.wait_state("switching")
    vmm.leave()
    umbra.wait_state("waiting")
    assert "error" not in umbra.process.output()
    assert "the front-end has gone, while" in umbra.process.output()
    if why == "switch":
        asked.join(PATIENCE)
        assert "queue 0" in asked.refused
    umbra.terminate()


def test_an_operator_is_answered_while_a_message_waits_for_a_mute_back_end(
        umbra, backend, vmm):
    """The request has not begun when its deadline passes: it changes nothing."""
    backend.holds.add(SET_VRING_ENABLE)
    vmm.send(SET_VRING_ENABLE, bytes(8))
    backend.wait_seen(SET_VRING_ENABLE, 2)
    with pytest.raises(QmpError, match="nothing was changed"):
        umbra.shadow(True)
    backend.release()
    assert umbra.status()["shadow-wanted"] is False
    umbra.shadow(True)


def test_an_operator_is_answered_while_there_is_no_back_end_yet(bed, backend):
    backend.socket.unlink()
    umbra = bed.umbra(backend)
    vmm = SimulatedVmm(bed, umbra)
    vmm.send(GET_FEATURES)
    assert umbra.shadow(True) == {}
    assert umbra.status()["shadow-wanted"] is True
    vmm.leave()
    umbra.terminate()


def test_half_a_message_of_the_front_end_holds_nobody_up(umbra, vmm):
    whole = encode(GET_FEATURES)
    for cut in (3, 12):
        vmm.socket.sendall((whole + encode(GET_FEATURES))[:cut])
        for _ in range(2):
            umbra.shadow(umbra.state() != "shadowed")
        vmm.socket.sendall((whole + encode(GET_FEATURES))[cut:])
        for _ in range(2):
            vmm.answer()


def test_half_a_message_on_the_back_ends_channel_holds_nobody_up(umbra, backend, vmm):
    """Neither in between nor while an answer is waited for."""
    whole = encode(CONFIG_CHANGE)
    backend.channel.sendall(whole[:5])
    for _ in range(2):
        umbra.shadow(umbra.state() != "shadowed")
    vmm.channel.setblocking(False)
    with pytest.raises(BlockingIOError):
        vmm.channel.recv(12)
    vmm.channel.settimeout(PATIENCE)
    backend.channel.sendall(whole[5:])
    assert vmm.channel.recv(12) == whole


def test_half_an_answer_is_waited_for_like_none(umbra, backend, vmm):
    backend.holds.add(GET_VRING_BASE)
    done = threading.Thread(target=lambda: (
        backend.wait_seen(GET_VRING_BASE),
        backend.connection.sendall(encode(GET_VRING_BASE, bytes(8), 4)[:7])), daemon=True)
    done.start()
    with pytest.raises(QmpError, match="has not answered GET_VRING_BASE"):
        umbra.shadow(True)
    done.join(60)
    check_that_an_end_is_heard(umbra, vmm)


def test_questions_whose_answers_nobody_reads_cost_the_channel_alone(umbra, backend, vmm):
    with flooding(backend, encode(9, b"", 8) * 100):
        wait_until(lambda: "leaves answers unread" in umbra.process.output(),
                   "the channel to be closed")
        umbra.shadow(True)
        vmm.rings[0].offer()
        backend.serve_one(0)
        vmm.rings[0].wait_used(1)
    vmm.leave()


def test_a_front_end_that_reads_no_answers_holds_up_itself_alone(umbra, vmm):
    question = encode(GET_FEATURES)
    vmm.socket.setblocking(False)
    asked, rest = 0, b""
    with contextlib.suppress(BlockingIOError):
        while True:
            rest = rest or question
            rest = rest[vmm.socket.send(rest):]
            asked += not rest
    vmm.socket.setblocking(True)
    umbra.shadow(True)
    for _ in range(asked):
        vmm.answer()
    if rest:
        vmm.socket.sendall(rest)
        vmm.answer()
    umbra.shadow(False)
