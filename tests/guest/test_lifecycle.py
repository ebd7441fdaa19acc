"""Guests, back-ends and umbra itself come, go and crash; each in its own
right, and without harm to the others."""

import signal
import socket
import struct
import threading

import pytest

from bed import Fio, QmpError

MODES = ["passthrough", "shadowed"]


@pytest.mark.parametrize("mode", MODES)
def test_killed_guest_makes_room_for_the_next(bed, mode):
    umbra = bed.umbra(bed.backend())
    left_open = []
    for round in range(4):
        guest = bed.uml(umbra, name=f"uml{round}")
        umbra.enter(mode)
        Fio(guest).start().wait_progress()
        assert umbra.guest_mappings(guest)
        guest.kill()
        umbra.wait_state("waiting")
        assert not umbra.guest_mappings(guest), "umbra holds a dead guest's memory"
        left_open.append(umbra.fds())
    assert len(left_open[-1]) == len(left_open[0]), \
        f"fds leaked: first {left_open[0]}, at last {left_open[-1]}"


@pytest.mark.parametrize("mode", MODES)
def test_powered_off_guest_makes_room_for_the_next(bed, mode):
    umbra = bed.umbra(bed.backend())
    for round in range(2):
        guest = bed.uml(umbra, name=f"uml{round}")
        umbra.enter(mode)
        Fio(guest, size="4M").once()
        assert guest.poweroff() == 0
        umbra.wait_state("waiting")
        assert not umbra.guest_mappings(guest)


@pytest.mark.parametrize("mode", MODES)
def test_lost_backend_is_reported_and_its_successor_served(bed, mode):
    backend = bed.backend()
    umbra = bed.umbra(backend)
    guest = bed.uml(umbra, name="uml0")
    umbra.enter(mode)
    Fio(guest).start().wait_progress()
    backend.kill()
    status = umbra.wait_state("backend-lost")
    assert status["reason"]
    umbra.qmp.wait_event("SHADOW_STATE_CHANGE",
                         lambda data: data["to"] == "backend-lost"
                         and data["from"] == mode and data["reason"])
    guest.kill()
    backend.start()
    guest = bed.uml(umbra, name="uml1")
    umbra.enter(mode)
    Fio(guest).once()
    assert guest.poweroff() == 0


@pytest.mark.parametrize("mode", MODES)
def test_frozen_backend_fails_the_switch_and_not_the_guest(bed, mode):
    backend = bed.backend()
    umbra = bed.umbra(backend)
    guest = bed.uml(umbra)
    umbra.enter(mode)
    load = Fio(guest).start().wait_progress()
    failed = umbra.switches()["failed"]
    backend.freeze()
    try:
        with pytest.raises(QmpError) as refusal:
            umbra.shadow(mode != "shadowed")
        assert refusal.value.reason
    finally:
        backend.thaw()
    # It is back in its old mode as soon as the back-end lets it.
    umbra.wait_state(mode)
    assert umbra.switches()["failed"] == failed + 1
    load.wait_progress()
    # And it is not the worse for it.
    umbra.switch(20, load)
    load.stop()
    Fio(guest).once()
    assert guest.poweroff() == 0


# SIGTERM: exit status 0, within seconds, sockets removed.  Umbra.terminate()
# checks all three.

def test_sigterm_ends_it_while_waiting(bed):
    bed.umbra(bed.backend()).terminate()


def test_sigterm_ends_it_while_negotiating(bed):
    umbra = bed.umbra(bed.backend())
    with socket.socket(socket.AF_UNIX) as front_end:
        front_end.connect(str(umbra.socket))
        # GET_FEATURES, version 1, no payload; and nothing after it.
        front_end.sendall(struct.pack("=III", 1, 1, 0))
        assert front_end.recv(12)
        umbra.wait_state("negotiating")
        umbra.terminate()


@pytest.mark.parametrize("mode", MODES)
def test_sigterm_ends_it_under_load(bed, mode):
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.enter(mode)
    Fio(guest).start().wait_progress()
    umbra.terminate()


def test_sigterm_ends_it_while_switching(bed):
    backend = bed.backend()
    umbra = bed.umbra(backend)
    guest = bed.uml(umbra)
    Fio(guest).start().wait_progress()
    backend.freeze()            # so that the switch lasts
    watcher = bed.control_client(umbra)

    def ask():
        try:
            umbra.shadow(True)
        except (QmpError, ConnectionError):
            pass                # it may answer, or be gone

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        watcher.wait_event("SHADOW_STATE_CHANGE",
                           lambda data: data["to"] == "switching")
        umbra.terminate()
    finally:
        backend.thaw()
        asking.join()


def test_sigterm_ends_it_with_the_backend_lost(bed):
    backend = bed.backend()
    umbra = bed.umbra(backend)
    guest = bed.uml(umbra)
    umbra.enter("shadowed")
    backend.kill()
    umbra.wait_state("backend-lost")
    umbra.terminate()
    assert guest.alive()


def test_sigint_ends_it_like_sigterm(bed):
    umbra = bed.umbra(bed.backend())
    umbra.process.signal(signal.SIGINT)
    umbra.check_end()


def test_quit_ends_it_like_sigterm(bed):
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.enter("shadowed")
    umbra.qmp.execute("quit")
    umbra.check_end()
    assert guest.alive()


@pytest.mark.parametrize("mode", ["passthrough", "shadowed"])
def test_driver_bound_anew_finds_its_disk(bed, mode):
    """A driver that lets go of its device and comes back programs the rings
    anew, without a word about the old ones."""
    umbra = bed.umbra(bed.backend())
    guest = bed.uml(umbra)
    umbra.enter(mode)
    for _ in range(5):
        Fio(guest, size="2M").once()
        guest.check("cd /sys/bus/virtio/drivers/virtio_blk; d=$(echo virtio[0-9]*); "
                    "echo $d >unbind; echo $d >bind")
        assert umbra.state() == mode
    Fio(guest, size="2M").once()
    assert guest.poweroff() == 0
