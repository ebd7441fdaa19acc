"""A device that its operator holds: its back-end is let go of in order, taken down, and another
one goes on, while the VMM and its guest are served meanwhile.

The disk is the project's own (bed/blk_back.py), a simulated peer; so is the VMM, whose test
is the driver.  A back-end that is lost is in test_held.py.
"""

import itertools
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from bed import BlkBack, DiskVmm, QmpError
from bed.peers import GET_CONFIG, RESET_DEVICE, SET_FEATURES, SET_VRING_KICK
from bed.qmp import QmpClient
from bed.wait import PATIENCE, wait_until

MODES = {"passed": "auto", "shadowed": "on"}
RUNS = {"passed": "passthrough", "shadowed": "shadowed"}
MANNERS = ["rust-vmm", "libvhost-user", "drain"]
RECONNECT = ["--reconnect", "--device-type=block"]
BY_HAND = "by hand: the back-end may be taken down, nothing is with it"
FEATURES = 1 << 32 | 1 << 30 | 1 << 29

#: What is written: never the same twice.
WORDS = itertools.count(1)


class Bench:
    """A disk, umbra, and a VMM with a ring."""

    def __init__(self, bed, mode="shadowed", umbra=(), boots=True, **options):
        self.bed, self.mode = bed, mode
        self.disk = BlkBack(bed, **{"order": "in", **options})
        self.umbra = bed.umbra(self.disk, shadow=MODES[mode], options=umbra)
        if boots:
            self.boot()

    def boot(self):
        self.vmm = DiskVmm(self.bed, self.umbra).begin()
        assert self.sectors() == 131072
        self.ring = self.vmm.disk_ring().start()
        self.serves()

    def sectors(self):
        answer = self.vmm.ask(GET_CONFIG, struct.pack("<III", 0, 8, 0) + bytes(8))
        return struct.unpack("<Q", answer[12:])[0]

    def write(self, count, first=0):
        self.ring.burst([next(WORDS) for _ in range(count)], first)

    def serves(self):
        """Whoever it is does what it is asked."""
        self.write(2, 60)
        self.ring.drain(self.disk)

    def ctl(self, *words):
        done = subprocess.run([self.bed.program, "ctl", self.umbra.control, *words], check=True,
                              capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout

    def hold(self, **arguments):
        return self.umbra.qmp.execute("hold", arguments)

    def keep(self, count):
        """The first of these is kept by the disk, which goes on otherwise."""
        self.disk.plan("keep@before-execute")
        self.write(count)
        self.disk.wait_did("keep")

    def hold_slowly(self):
        """It is under way: what comes of it."""
        another = ThreadPoolExecutor()
        answer = another.submit(QmpClient(self.umbra.control).execute, "hold")
        another.shutdown(wait=False)
        status = self.umbra.wait_state("switching")
        assert status["reason"].startswith("to held: what is with the back-end is waited for")
        return answer

    def release(self):
        return self.umbra.qmp.execute("release")

    def is_held(self, reason=BY_HAND, requests=0):
        status = self.umbra.status()
        assert (status["state"], status["reason"]) == ("held", reason)
        assert status["held-by-hand"] is True
        assert status["held-requests"] == requests
        self.wait_closed()

    def wait_closed(self):
        """It is closed for good: the disk may see it a moment later."""
        wait_until(lambda: not self.disk.state()["connected"], "the connection to be closed")

    def goes_on(self, **options):
        """Another one has come."""
        self.umbra.wait_state(RUNS[self.mode])
        self.ring.drain(self.disk)
        assert self.disk.state()["late"] == 0
        assert "held-by-hand" not in self.umbra.status()
        self.serves()


@pytest.fixture(params=MODES)
def mode(request):
    return request.param


def refused(call, *says):
    with pytest.raises(QmpError) as refusal:
        call()
    for part in says:
        assert part in str(refusal.value)


@pytest.mark.parametrize("manner", MANNERS)
def test_a_disk_is_exchanged_in_order_and_each_request_is_done_once(bed, mode, manner):
    """No loss would be borne by this device."""
    bench = Bench(bed, mode, manner=manner)
    for times in range(1, 4):
        executed = len(bench.disk.at("before execute"))
        bench.write(10)
        bench.hold()
        bench.is_held()
        bench.write(5, first=20)            # the guest does not know
        assert bench.sectors() == 131072
        bench.disk.restart()
        bench.is_held()                     # it is there, and nobody wants it
        bench.release()
        bench.goes_on()
        assert [line["sector"] for line in bench.disk.at("before execute")[executed:]] == \
            [*range(10), *range(20, 25), 60, 61]
        holds = bench.umbra.vhost()["holds"]
        assert (holds["count"], holds["replayed"]) == (times, 0)


def test_what_is_said_of_a_hold_and_a_release(bed, mode):
    bench = Bench(bed, mode)
    said = bench.ctl("hold")
    assert "held" in said
    assert BY_HAND in said
    bench.umbra.qmp.wait_event("SHADOW_STATE_CHANGE", lambda data: data["to"] == "held")
    first = bench.umbra.status()["held-ms"]
    wait_until(lambda: bench.umbra.status()["held-ms"] > first, "the time to go on")
    refused(bench.hold, "the device is held by hand already")
    bench.disk.process.kill()
    said = bench.ctl("release")
    assert "held-by-hand" not in said or "held-by-hand   false" in said
    bench.umbra.wait_held_up("No such file", "refused")
    refused(bench.release, "the device is not held by hand: it is held")
    bench.disk.start()
    bench.goes_on()
    refused(bench.release, f"the device is not held by hand: it is {RUNS[mode]}")
    reasons = [event["data"].get("reason") for event in bench.umbra.qmp.events
               if event["data"].get("to") == "held"]
    assert reasons[-1] == "released: a back-end is looked for"


def test_a_disk_that_keeps_what_it_has_is_not_taken_away(bed, mode):
    bench = Bench(bed, mode, umbra=["--switch-deadline=300"])
    bench.keep(3)
    refused(bench.hold, "queue 0")
    assert bench.umbra.state() == RUNS[mode]
    bench.disk.go()
    bench.ring.drain(bench.disk)
    bench.serves()
    bench.hold()
    bench.is_held()


# By force.

def test_by_force_nothing_is_waited_for_and_nothing_is_given_to_another_before_it_is_dead(bed):
    bench = Bench(bed, umbra=RECONNECT)
    bench.disk.plan("hang@before-execute")
    bench.write(3)
    bench.disk.wait_did("hang")
    bench.ctl("hold", "--force")
    status = bench.umbra.status()
    assert status["held-requests"] == 3
    assert "it may have done 3 requests or not" in status["reason"]
    bench.release()
    bench.umbra.wait_held_up("the back-end that was lost has 3 requests")
    bench.disk.restart()
    bench.goes_on()
    assert bench.umbra.vhost()["holds"]["replayed"] == 3


def test_by_force_nothing_is_taken_away_that_may_not_be_done_twice(bed, mode):
    bench = Bench(bed, mode)
    bench.disk.plan("hang@before-execute")
    bench.write(3)
    bench.disk.wait_did("hang")
    refused(lambda: bench.hold(force=True),
            "queue 0 is passed through" if mode == "passed" else "3 requests are with")
    assert bench.umbra.state() == RUNS[mode]
    bench.disk.go()
    bench.ring.drain(bench.disk)
    bench.serves()


# A VMM that does not wait.

def test_a_vmm_that_stops_or_resets_meanwhile_is_served(bed, mode):
    bench = Bench(bed, mode)
    bench.hold()
    bench.write(3)
    assert bench.vmm.stop() == bench.ring.used  # nothing of it was taken meanwhile
    bench.ring.resume()
    bench.is_held()
    bench.disk.restart()
    bench.release()
    bench.goes_on()
    bench.hold()
    bench.vmm.stop()
    bench.vmm.request(RESET_DEVICE)
    bench.vmm.request(SET_FEATURES, struct.pack("<Q", FEATURES))
    bench.ring.restart()
    bench.ring.start()
    bench.write(2)
    bench.is_held()
    bench.release()
    bench.goes_on()


def test_a_hold_outlasts_the_vmm_and_the_next_one_waits(bed, mode):
    bench = Bench(bed, mode)
    bench.hold()
    bench.vmm.leave()
    status = bench.umbra.wait_state("waiting")
    assert status["held-by-hand"] is True
    bench.vmm = DiskVmm(bench.bed, bench.umbra)
    wait_until(lambda: bench.umbra.status()["reason"] ==
               "held by hand: no back-end is connected, and the VMM waits", "it to wait")
    bench.wait_closed()
    bench.disk.restart()
    bench.release()
    bench.vmm.begin()
    bench.ring = bench.vmm.disk_ring()
    bench.ring.restart()
    bench.ring.start()
    bench.goes_on()


def test_a_hold_before_there_is_a_vmm_keeps_every_back_end_away(bed, mode):
    bench = Bench(bed, mode, boots=False)
    bench.hold()
    assert bench.umbra.status()["reason"] == "held by hand: no back-end is connected, and no VMM"
    bench.disk.process.kill()
    vmm = DiskVmm(bed, bench.umbra)
    wait_until(lambda: "the VMM waits" in bench.umbra.status()["reason"], "it to wait")
    vmm.leave()
    wait_until(lambda: "no VMM" in bench.umbra.status()["reason"], "umbra to see it go")
    bench.disk.start()
    bench.release()
    bench.boot()
    bench.goes_on()


def test_a_vmm_that_leaves_while_its_disk_is_waited_for_leaves_it_held(bed, mode):
    bench = Bench(bed, mode, umbra=["--switch-deadline=20000"])
    bench.keep(3)
    answer = bench.hold_slowly()
    bench.vmm.leave()
    assert answer.result() == {}
    status = bench.umbra.wait_state("waiting")
    assert status["held-by-hand"] is True
    bench.disk.restart()
    bench.release()
    bench.boot()


# A back-end that does not do what it should.

def test_a_disk_with_less_is_refused_and_the_next_one_waited_for(bed, mode):
    bench = Bench(bed, mode, queues=1)
    bench.hold()
    bench.write(2)
    bench.disk.restart(no_event_idx=True)
    bench.release()
    bench.umbra.wait_held_up("it lacks the features 0x20000000 that the guest was promised")
    bench.disk.options.pop("no_event_idx")
    bench.disk.restart()
    bench.goes_on()


def test_a_disk_that_is_lost_while_it_is_waited_for_is_lost_as_ever(bed):
    bench = Bench(bed, umbra=[*RECONNECT, "--switch-deadline=20000"])
    bench.keep(3)
    answer = bench.hold_slowly()
    bench.disk.process.kill()
    assert answer.result() == {}
    status = bench.umbra.status()
    assert (status["state"], status["held-requests"]) == ("held", 1)
    assert status["held-by-hand"] is True
    bench.disk.start()
    assert bench.umbra.state() == "held"
    bench.release()
    bench.goes_on()


def test_a_next_one_that_dies_in_its_greeting_leaves_the_device_held(bed, mode):
    bench = Bench(bed, mode)
    bench.hold()
    bench.disk.process.kill()
    bench.disk.start(plan=f"die@before-message:{SET_VRING_KICK}")
    bench.release()
    bench.disk.wait_death()
    bench.umbra.wait_held_up("No such file", "refused", "closed")
    bench.disk.start()
    bench.goes_on()


# An end.

def test_a_limit_is_said_before_and_is_not_one_of_a_device_that_goes_on(bed, mode):
    bench = Bench(bed, mode, umbra=["--hold-limit=86400"])
    assert "hold-limit-ms" not in bench.umbra.status()
    bench.hold()
    assert bench.umbra.status()["hold-limit-ms"] == 86400000
    bench.disk.restart()
    bench.release()
    bench.goes_on()


@pytest.mark.parametrize("loss", [False, True])
def test_when_the_limit_is_over_it_is_as_if_nothing_had_been_held(bed, loss):
    bench = Bench(bed, umbra=[*RECONNECT, "--hold-limit=1"])
    bench.write(3)
    bench.disk.process.kill() if loss else bench.hold()
    bench.vmm.wait_end()
    status = bench.umbra.wait_state("backend-lost")
    assert status["reason"] == \
        "no back-end has come for 1 s, for which the device is held at most (--hold-limit)"
    if loss:
        assert "held-by-hand" not in status
        bench.disk.start()
    else:
        assert status["held-by-hand"] is True
        bench.vmm = DiskVmm(bed, bench.umbra)
        wait_until(lambda: "the VMM waits" in bench.umbra.status()["reason"], "it to wait")
        bench.vmm.leave()
        wait_until(lambda: "no VMM" in bench.umbra.status()["reason"], "umbra to see it go")
        bench.disk.restart()
        bench.release()
    bench.boot()
    bench.goes_on()
