"""A back-end that goes away and comes again under a running guest, which sees a pause and
nothing else."""

import os

import pytest

from bed import Fio
from bed.wait import wait_until

HOLDS = ["--reconnect", "--device-type=block"]
SIZE = 64 << 20

#: Requests that are with the back-end for a while, and such that are not.
DISKS = [pytest.param({}, id="fast"), pytest.param({"rate": 2000}, id="2000-a-second")]


@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_that_is_killed_is_replaced_under_a_verifying_guest(bed, disk):
    """Also one that hangs, when it is killed; and one that stays away until the guest has
    nothing more to ask."""
    backend = bed.backend(**disk)
    umbra = bed.umbra(backend, options=HOLDS)
    guest = bed.uml(umbra)
    load = Fio(guest).start().wait_progress()
    replayed = 0
    for death in range(9):
        if death % 3 == 1:
            backend.freeze()
        backend.kill()
        status = umbra.wait_state("held")
        assert status["reason"]
        if death % 3 == 2:
            wait_until(lambda: "attempts" in umbra.status()["reason"]
                       or "No such file" in umbra.status()["reason"]
                       or "refused" in umbra.status()["reason"], "umbra to say that none is there")
        replayed += umbra.status()["held-requests"]
        backend.start()
        umbra.wait_state("shadowed")
        load.wait_progress(200)
    load.stop()
    holds = umbra.vhost()["holds"]
    assert holds["count"] == 9
    assert holds["replayed"] == replayed > 0
    assert guest.poweroff() == 0


def test_a_disk_that_has_shrunk_is_refused_until_it_is_as_large_again(bed):
    backend = bed.backend(size=SIZE)
    umbra = bed.umbra(backend, options=HOLDS)
    guest = bed.uml(umbra)
    load = Fio(guest).start().wait_progress()
    backend.kill()
    umbra.wait_state("held")
    content = backend.image.read_bytes()
    os.truncate(backend.image, SIZE // 2)
    backend.start()
    wait_until(lambda: "65536 sectors, and the guest's had 131072" in umbra.status()["reason"],
               "umbra to say that the disk is too small")
    assert umbra.state() == "held"
    backend.kill()
    backend.image.write_bytes(content)
    backend.start()
    umbra.wait_state("shadowed")
    load.wait_progress(200).stop()
    assert guest.poweroff() == 0


def test_a_guest_that_has_gone_is_not_waited_for(bed):
    backend = bed.backend()
    umbra = bed.umbra(backend, options=HOLDS)
    guest = bed.uml(umbra)
    Fio(guest).start().wait_progress()
    backend.kill()
    umbra.wait_state("held")
    guest.kill()
    umbra.wait_state("waiting")
    backend.start()
    guest = bed.uml(umbra, name="next")
    Fio(guest, size="4M").once()
    # And one that ends while it is held ends in order.
    backend.kill()
    umbra.wait_state("held")
    umbra.terminate()


@pytest.mark.parametrize("mode, disk", [pytest.param("auto", {}, id="auto-fast"),
                                        pytest.param("on", {"rate": 2000}, id="on-2000-a-second")])
def test_a_disk_is_taken_down_by_hand_under_a_verifying_guest(bed, mode, disk):
    """Of a device that bears no loss: nothing is done twice, and nothing is lost."""
    backend = bed.backend(**disk)
    umbra = bed.umbra(backend, shadow=mode)
    guest = bed.uml(umbra)
    load = Fio(guest).start().wait_progress()
    runs = umbra.state()
    for times in range(1, 5):
        umbra.qmp.execute("hold")
        status = umbra.status()
        assert (status["state"], status["held-requests"]) == ("held", 0)
        backend.kill()
        if times % 2:
            umbra.qmp.execute("release")
            umbra.wait_held_up("attempts", "No such file", "refused")
            backend.start()
        else:
            backend.start()
            umbra.qmp.execute("release")
        umbra.wait_state(runs)
        load.wait_progress(200)
        if mode == "auto" and times % 2 == 0:
            umbra.shadow(runs != "shadowed")
            runs = umbra.state()
    load.stop()
    holds = umbra.vhost()["holds"]
    assert (holds["count"], holds["replayed"]) == (4, 0)
    assert guest.poweroff() == 0
