"""A back-end that is lost, hangs, is slow or lies at any step of a request, with umbra
between: what is completed to the guest is on the disk, nothing is completed twice, and
umbra says what has happened.

The disk is the project's own (bed/blk_back.py), a simulated peer, which is told at which
store it goes wrong; so is the VMM, whose test is the driver.
"""

import contextlib
import itertools
import random
import re
import subprocess

import pytest
from bed import BlkBack, DiskVmm, QmpError
from bed.blk_back import COMPLETING, EXECUTING, TAKING, points
from bed.peers import (GET_FEATURES, GET_PROTOCOL_FEATURES, GET_VRING_BASE, SET_FEATURES,
                       SET_MEM_TABLE, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL,
                       SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM)
from bed.wait import PATIENCE, wait_until

MODES = {"passed": "auto", "shadowed": "on"}
MANNERS = ["rust-vmm", "libvhost-user", "drain"]

#: How it is lost, and what its process is said to be then.
LOSSES = {"die": "ended", "close": "lives", "linger": "lives"}


class Ends:
    """What umbra makes of a loss: the front-end's connection ends, and the next one finds a
    device again."""

    options = ()

    @staticmethod
    def live_on(umbra, disk, vmm, ring, loss):
        vmm.wait_end()
        reason = umbra.wait_state("backend-lost")["reason"]
        assert reason == "back-end: closed the connection"
        assert [event["data"].get("reason") for event in umbra.qmp.events
                if event["data"].get("to") == "backend-lost"] == [reason]
        # A process that is killed hangs up a moment before it has ended.
        wait_until(lambda: umbra.vhost()["backend"]["process"]["state"] == LOSSES[loss],
                   f"the process to be said to be {LOSSES[loss]}")
        ring.collect_judged(disk)
        # On the guest's own ring a late completion is another request's; on umbra's it is
        # nobody's.
        shadowed = umbra.status()["shadow-wanted"]
        if loss == "linger" and not shadowed:
            disk.go()
        if loss == "die":
            disk.wait_death()
            disk.start()
        for each in vmm.rings:
            each.restart()
        vmm.move(umbra)
        if loss == "linger" and shadowed:
            disk.go()
            assert not ring.collect()


class Holds:
    """The other: the device is held, and the next back-end is given what the lost one had."""

    options = ["--reconnect", "--device-type=block"]

    @staticmethod
    def live_on(umbra, disk, vmm, ring, loss):
        umbra.qmp.wait_event("SHADOW_STATE_CHANGE", lambda data: data["to"] == "held")
        ring.collect_judged(disk)
        held = [sector for _, sector, _, _ in ring.flying.values()]
        since = len(disk.journal())
        if loss == "die":
            disk.wait_death()
            assert umbra.status()["held-requests"] == len(held)
            disk.start()
        elif held:
            umbra.wait_held_up(f"the back-end that was lost has {len(held)} requests")
            if loss == "close":
                disk.restart()
            else:
                disk.go()
                umbra.qmp.execute("backend-trust")
        umbra.wait_state("shadowed")
        ring.drain(disk)
        if disk.options.get("order") == "reverse":
            held.reverse()
        assert [line["sector"] for line in disk.at("before execute", since)
                if line["instance"] == disk.state()["instance"]] == held
        assert disk.state()["late"] == 0


#: Each is a kind of life after a loss: with what is passed through, only one can be.
OUTCOMES = [pytest.param(mode, outcome, id=f"{mode}-{outcome.__name__.lower()}")
            for mode, outcome in (("passed", Ends), ("shadowed", Ends), ("shadowed", Holds))]

#: What is written: never the same twice.
WORDS = itertools.count(1)


def lose(umbra, disk, vmm, ring, loss, place, outcome, in_flight):
    """One loss at one step, and the life after it."""
    ring.write(99, next(WORDS))         # so that the kick with which a ring begins is read
    ring.drain(disk)
    umbra.qmp.events.clear()
    disk.plan(f"{loss}@{place}")
    ring.burst([next(WORDS) for _ in range(in_flight)])
    disk.wait_did(loss)
    outcome.live_on(umbra, disk, vmm, ring, loss)
    ring.burst([next(WORDS) for _ in range(in_flight)])
    ring.drain(disk)


@pytest.mark.parametrize("mode, outcome", OUTCOMES)
def test_no_death_has_umbra_complete_what_the_disk_has_not_got(bed, mode, outcome):
    disk = BlkBack(bed, order="reverse", batch=2)
    umbra = bed.umbra(disk, shadow=MODES[mode], options=outcome.options)
    vmm = DiskVmm(bed, umbra).begin()
    ring = vmm.disk_ring().start()
    for number, place in enumerate(points(TAKING + EXECUTING + COMPLETING)):
        lose(umbra, disk, vmm, ring, "die", place, outcome, in_flight=(1, 2, 5)[number % 3])


@pytest.mark.parametrize("mode, outcome", OUTCOMES)
@pytest.mark.parametrize("loss", ["close", "linger"])
def test_a_hang_up_is_told_from_a_death(bed, mode, loss, outcome):
    disk = BlkBack(bed)
    umbra = bed.umbra(disk, shadow=MODES[mode], options=outcome.options)
    vmm = DiskVmm(bed, umbra).begin()
    ring = vmm.disk_ring().start()
    for place in ("before-take", "before-disk-write", "before-used-idx", "after-used-idx"):
        lose(umbra, disk, vmm, ring, loss, place, outcome, in_flight=2)


#: Messages that umbra sends, in this order, before the first ring runs.
SETUP = [GET_FEATURES, GET_PROTOCOL_FEATURES, SET_FEATURES, SET_MEM_TABLE, SET_VRING_NUM,
         SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_CALL, SET_VRING_KICK, SET_VRING_ENABLE]


@pytest.mark.parametrize("mode", MODES)
def test_a_death_in_the_midst_of_a_message_is_told_like_any_other(bed, mode):
    disk = BlkBack(bed)
    umbra = bed.umbra(disk, shadow=MODES[mode])
    for place in [f"{when}:{message}" for message in SETUP
                  for when in ("before-message", "after-message")]:
        umbra.qmp.events.clear()
        disk.plan(f"die@{place}")
        vmm = DiskVmm(bed, umbra)
        # The message may be answered with a failure before the connection ends.
        with contextlib.suppress(ConnectionError, AssertionError):
            vmm.begin().disk_ring().start()
        vmm.wait_end()
        reason = umbra.wait_state("backend-lost")["reason"]
        # With the message, where one was under way; reset: there was more that it had not read.
        assert re.search("back-end: (closed the connection|cannot .*: Connection reset by peer"
                         "|cannot .*: Broken pipe)$", reason), (place, reason)
        vmm.leave()
        disk.wait_death()
        disk.start()
    vmm = DiskVmm(bed, umbra).begin()
    ring = vmm.disk_ring().start()
    ring.write(1, 1)
    ring.drain(disk)


# A disk that stands still, for a while.

def other(mode):
    return mode == "passed"


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


@pytest.fixture(params=MANNERS)
def start(request, bed, mode):
    """(disk, umbra, ring): in a mode that can be switched, before a disk of each manner."""

    def start(deadline):
        disk = BlkBack(bed, manner=request.param, order="reverse", batch=2)
        umbra = bed.umbra(disk, options=[f"--switch-deadline={deadline}"])
        vmm = DiskVmm(bed, umbra).begin()
        ring = vmm.disk_ring().start()
        ring.write(1, 1)
        ring.drain(disk)
        switch_in_the_end(umbra, mode == "shadowed")
        return disk, umbra, ring
    return start


def switch_in_the_end(umbra, enable):
    """As often as it takes: a deadline that is short for a disk that hangs is that for a busy
    machine, too."""

    def is_switched():
        try:
            return umbra.shadow(enable) == {}
        except QmpError as error:
            assert re.search("has not answered|did not use them|under way", str(error)), error
    wait_until(is_switched, f"the shadow to be {'on' if enable else 'off'}")


def test_a_disk_that_hangs_fails_a_switch_and_nothing_else(start, mode):
    disk, umbra, ring = start(deadline=200)
    for number, place in enumerate(["before-take", "before-disk-write", "after-used-idx"]):
        disk.plan(f"hang@{place}")
        for sector in range(3):
            ring.write(sector, 100 + number, kick=sector == 2)
        disk.wait_did("hang")
        with pytest.raises(QmpError, match="has not answered|did not use them"):
            umbra.shadow(other(mode))
        ring.collect_judged(disk)
        disk.go()
        ring.drain(disk)
        umbra.wait_state("passthrough" if mode == "passed" else "shadowed")
        ring.write(9, number)
        ring.drain(disk)
    switch_in_the_end(umbra, other(mode))
    ring.write(9, 9)
    ring.drain(disk)


def test_a_slow_request_fails_a_switch_and_is_completed_once(start, mode):
    disk, umbra, ring = start(deadline=200)
    disk.plan("keep@before-execute:4")
    slots = [ring.write(sector, 7, kick=sector == 4) for sector in range(5)]
    disk.wait_did("keep")
    slow = slots[4 - 2]
    ring.wait_used(ring.seen + 4 & 0xffff)
    assert {slot for slot, *_ in ring.collect_judged(disk)} == set(slots) - {slow}
    with pytest.raises(QmpError, match="has not answered|did not use them"):
        umbra.shadow(other(mode))
    if disk.options["manner"] == "drain" and mode == "passed":
        # It is at a stop that it will not answer before: the device goes on then.
        assert umbra.state() == "switching"
        ring.write(9, 9)
        disk.go()
        assert ring.drain(disk)[0][0] == slow
    else:
        umbra.wait_state("passthrough" if mode == "passed" else "shadowed")
        ring.write(9, 9)
        ring.wait_used(ring.seen + 1 & 0xffff)
        ring.collect_judged(disk)
        disk.go()
        assert [slot for slot, *_ in ring.drain(disk)] == [slow]
    umbra.wait_state("passthrough" if mode == "passed" else "shadowed")
    switch_in_the_end(umbra, other(mode))
    ring.write(9, 10)
    ring.drain(disk)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("plain", [False, True], ids=["event-idx-indirect", "plain"])
def test_completion_in_any_order_survives_switching(bed, manner, plain):
    disk = BlkBack(bed, manner=manner, queues=2, batch=3, journal=False,
                   seed=random.getrandbits(32))
    umbra = bed.umbra(disk)
    words = ["--no-event-idx", "--no-indirect"] if plain else []
    done = subprocess.run(
        [bed.build / "tests/front/front", f"--socket={umbra.socket}",
         f"--control={umbra.control}", f"--name={umbra.name}", *words, "blk", "threads=2",
         "depth=8", "wait 100", "switch 10 20", "stop"],
        capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert umbra.switches()["failed"] == 0


# A disk that lies.

#: What is said of each lie, while shadowed: one request is in flight, by an id below 60.
LIES = {
    "lie=64@before-used-id": "used id 64, outside the ring of 64",
    "lie=60@before-used-id": "used id 60, which is not in flight",
    "lie=0xffffffff@before-used-id": "used id 4294967295, outside the ring of 64",
    "lie=+3@before-used-idx": "used 4 chains at once while 1 were in flight",
    "lie=-2@before-used-idx": "used 65535 chains at once while 1 were in flight",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_disk_that_lies_on_its_ring_breaks_that_ring_with_the_numbers(bed, lie):
    disk = BlkBack(bed, queues=2)
    umbra = bed.umbra(disk, shadow="on")
    vmm = DiskVmm(bed, umbra).begin()
    rings = [vmm.disk_ring(index).start() for index in range(2)]
    for ring in rings:
        for sector in range(2):
            ring.write(sector, 1)
            ring.drain(disk)
    disk.plan(lie)
    rings[0].write(5, 5)
    assert LIES[lie] in umbra.wait_state("broken")["reason"]
    faults = [queue.get("error", "") for queue in umbra.vhost()["queues"]]
    assert LIES[lie] in faults[0] and not faults[1]
    broken = umbra.qmp.wait_event("SHADOW_QUEUE_BROKEN", lambda data: data["queue"] == 0)
    assert LIES[lie] in broken["reason"]
    assert not rings[0].collect()
    rings[1].write(6, 6)
    rings[1].drain(disk)


@pytest.mark.parametrize("lie, said", [("0", 0), ("-1", 2), ("+1", 4)])
def test_a_disk_that_lies_of_where_it_stopped_breaks_that_ring_with_all_three_numbers(
        start, mode, lie, said):
    disk, umbra, ring = start(deadline=600000)
    for sector in range(2):
        ring.write(sector, 1)
        ring.drain(disk)
    disk.plan(f"lie={lie}@before-answer:{GET_VRING_BASE}")
    with pytest.raises(QmpError, match="queue 0 broke on the way"):
        umbra.shadow(other(mode))
    assert re.search(rf"stopped at index {said}, but the \S+ ring has used 3 and available 3",
                     umbra.wait_state("broken")["reason"])
