"""A disk that is lost under a device that is held, at any step of a request, and the next one
that is lost again at any message of its greeting: nothing is lost, nothing is completed
twice, all is executed in the guest's order, and nothing late is ever written after its replay.

The disk is the project's own (bed/blk_back.py), a simulated peer; so is the VMM, whose test
is the driver.  The simplest lives after a loss are in test_lost.py.
"""

import itertools
import struct
import subprocess

import pytest
from bed import BlkBack, DiskVmm, QmpError
from bed.blk_back import COMPLETING, EXECUTING, TAKING, points
from bed.peers import (CONFIG_CHANGE, GET_CONFIG, GET_FEATURES, GET_MAX_MEM_SLOTS,
                       GET_PROTOCOL_FEATURES, GET_QUEUE_NUM, RESET_DEVICE, SET_BACKEND_REQ_FD,
                       SET_FEATURES, SET_MEM_TABLE, SET_OWNER, SET_PROTOCOL_FEATURES,
                       SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE,
                       SET_VRING_ERR, SET_VRING_KICK, SET_VRING_NUM, encode)
from bed.wait import PATIENCE, wait_until

#: How it is lost, and what makes an end of it: an operator who kills it, or who says that it
#: writes no more, after it has written.
ENDS = {"die": None, "close": "kill", "linger": "kill", "hang": "kill",
        "close-trust": "trust", "linger-trust": "trust"}

#: What is written: never the same twice.
WORDS = itertools.count(1)


class Bench:
    """A disk, umbra, which holds, and a VMM with rings."""

    def __init__(self, bed, queues=1, base=0, channel=False, reads_config=False, **options):
        self.bed = bed
        self.disk = BlkBack(bed, queues=queues, **{"order": "in", **options})
        self.umbra = bed.umbra(self.disk, shadow="on",
                               options=["--reconnect", "--device-type=block"])
        self.vmm = DiskVmm(bed, self.umbra).begin(channel)
        if reads_config:
            assert self.sectors() == 131072
        self.rings = [self.vmm.disk_ring(index, base=base).start() for index in range(queues)]
        self.ring = self.rings[0]
        for ring in self.rings:         # so that the kick with which a ring begins is read
            ring.write(99, next(WORDS))
            ring.drain(self.disk)

    def another_vmm(self):
        """In the place of the one before, once umbra has seen that one go."""
        self.vmm.leave()
        self.umbra.wait_state("waiting", "backend-lost")
        self.vmm = DiskVmm(self.bed, self.umbra)
        return self.vmm

    def sectors(self):
        answer = self.vmm.ask(GET_CONFIG, struct.pack("<III", 0, 8, 0) + bytes(8))
        return struct.unpack("<Q", answer[12:])[0]

    def write(self, count, first=0):
        self.ring.burst([next(WORDS) for _ in range(count)], first)

    def lose(self, place, in_flight, loss="die"):
        """Until it is held; returns the sectors of what is not done, in the guest's order."""
        self.umbra.qmp.events.clear()
        self.disk.plan(f"{loss}@{place}")
        self.write(in_flight)
        self.disk.wait_did(loss)
        if loss == "die":
            self.disk.wait_death()
        if loss == "hang":
            self.disk.process.kill()
        self.wait_held()
        self.ring.collect_judged(self.disk)
        return [sector for _, sector, _, _ in self.ring.flying.values()]

    def wait_held(self):
        self.umbra.qmp.wait_event("SHADOW_STATE_CHANGE", lambda data: data["to"] == "held")

    def mark(self):
        """Where the journal is, for executed_since()."""
        return len(self.disk.journal())

    def executed_since(self, mark):
        """By the instance that serves now, and nobody else."""
        lines = self.disk.at("before execute", mark)
        assert {line["instance"] for line in lines} <= {self.disk.state()["instance"]}
        return [line["sector"] for line in lines]

    def go_on(self, held, mark):
        """Another one serves: what was held is done once more, in order, and no more."""
        self.umbra.wait_state("shadowed")
        self.ring.drain(self.disk)
        assert self.executed_since(mark) == held
        assert self.disk.state()["late"] == 0
        self.write(2, first=40)
        self.ring.drain(self.disk)


@pytest.mark.parametrize("end", ENDS)
def test_what_a_lost_disk_may_have_done_is_done_again_once_and_in_order(bed, end):
    bench = Bench(bed, base=65500)
    loss = end.split("-")[0]
    for number, place in enumerate(points(TAKING + EXECUTING + COMPLETING), list(ENDS).index(end)):
        held = bench.lose(place, (1, 2, 20)[number % 3], loss)
        if ENDS[end] and loss != "hang" and held:
            bench.umbra.wait_held_up(f"the back-end that was lost has {len(held)} requests")
            assert not bench.disk.state()["connected"]
            bench.write(1, first=50)    # the guest does not know
            held.append(50)
        if loss == "linger":
            assert bench.disk.state()["lingering"] == 1
            if ENDS[end] == "trust" or not held:
                bench.disk.go()
        mark = bench.mark()
        if ENDS[end] != "trust":
            bench.disk.process.kill()
            bench.disk.start()
        elif held:
            bench.umbra.qmp.execute("backend-trust")
        bench.go_on(held, mark)


#: Messages of a return, in their order, for a disk of one queue.
RETURN = [SET_OWNER, GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES,
          SET_BACKEND_REQ_FD, GET_CONFIG, SET_FEATURES, GET_MAX_MEM_SLOTS, SET_MEM_TABLE,
          SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_CALL, SET_VRING_ERR,
          SET_VRING_KICK, SET_VRING_ENABLE]


#: Of the first greeting, when its answers are not known yet, up to a ring that runs.
SETUP = [GET_FEATURES, GET_PROTOCOL_FEATURES, SET_PROTOCOL_FEATURES, *RETURN[6:]]


@pytest.mark.parametrize("loss", ["die", "close"])
def test_one_that_is_lost_in_its_greeting_is_as_if_it_had_never_come(bed, loss):
    bench = Bench(bed, base=65530, reads_config=True)
    for number, (message, when) in enumerate(itertools.product(RETURN, ("before", "after"))):
        held = bench.lose("before-execute", (1, 2, 20)[number % 3])
        mark = bench.mark()
        bench.disk.start(plan=f"{loss}@{when}-message:{message}")
        bench.disk.wait_did(loss)
        if loss == "die":
            bench.disk.wait_death()
            assert bench.umbra.status()["held-requests"] == len(held)
            bench.disk.start()
        bench.go_on(held, mark)
    assert bench.umbra.vhost()["holds"]["count"] == 2 * len(RETURN)


@pytest.mark.parametrize("queues", [1, 3])
def test_a_return_says_what_a_vmm_says_in_the_order_in_which_it_says_it(bed, queues):
    """Once each, but for GET_FEATURES, which has an answer to be waited for."""
    def said(disk, since=0):
        return [line["message"] for line in disk.at("before message", since)
                if line["message"] != GET_FEATURES]

    reference = BlkBack(bed, name="reference", queues=queues)
    vmm = DiskVmm(bed, reference).begin(channel=True)
    for index in range(queues):
        vmm.disk_ring(index).start()
    plain = said(reference)
    bench = Bench(bed, queues=queues, channel=True, reads_config=True)
    first = said(bench.disk)
    bench.lose("before-execute", 3)
    mark = bench.mark()
    bench.disk.start()
    bench.umbra.wait_state("shadowed")
    again = said(bench.disk, mark)
    # What was read of the disk is asked for again before the driver's features are said.
    asked = (GET_CONFIG, GET_QUEUE_NUM)
    assert again.index(GET_CONFIG) < again.index(SET_FEATURES)
    assert [word for word in again if word not in asked] == \
        [word for word in first if word not in asked]
    # From a plain one it differs in what that one does not ask, in the place of its own
    # channel, and in the order in which the settings of a ring come that has not started.
    assert again[0] == SET_OWNER
    assert again.index(SET_PROTOCOL_FEATURES) < again.index(SET_BACKEND_REQ_FD)
    assert again.index(SET_BACKEND_REQ_FD) < again.index(SET_MEM_TABLE)
    settings = {SET_VRING_NUM, SET_VRING_BASE, SET_VRING_ADDR, SET_VRING_CALL}

    def stages(words):
        return [stage for stage, _ in itertools.groupby(
            "settings" if word in settings else word for word in words
            if word not in (SET_OWNER, SET_BACKEND_REQ_FD, GET_CONFIG, GET_QUEUE_NUM,
                            GET_MAX_MEM_SLOTS, SET_VRING_ERR))]
    assert stages(again) == stages(plain)


def assert_pauses_grew(umbra, times):
    """Those that were told so far, up to the longest, which is a second; but one that stood for
    two has served."""
    umbra.status()                      # so that all events have come
    told = [(event["data"]["pause-ms"], event["timestamp"]["seconds"])
            for event in umbra.qmp.events if event["event"] == "SHADOW_BACKEND_SOUGHT"]
    assert len(told) >= times, told
    for before, after in itertools.pairwise(told):
        assert (after[0] > before[0] or after[0] == before[0] == 1000
                or after[1] - before[1] > 1), told


def test_one_that_hangs_up_as_soon_as_it_serves_is_sought_after_pauses_that_grow(bed):
    bench = Bench(bed)
    times = 7
    bench.umbra.qmp.events.clear()
    bench.disk.process.kill()
    bench.wait_held()
    bench.disk.start(plan=",".join(times * ["close@before-kick"]))
    for _ in range(times):
        bench.disk.wait_did("close")
    bench.umbra.wait_state("shadowed")
    bench.write(1)
    bench.ring.drain(bench.disk)
    assert_pauses_grew(bench.umbra, times)
    assert bench.umbra.vhost()["holds"]["count"] == times + 1
    # One that has served since is sought at once.
    bench.umbra.qmp.events.clear()
    bench.disk.process.kill()
    assert bench.umbra.qmp.wait_event("SHADOW_BACKEND_SOUGHT")["pause-ms"] == 1
    bench.umbra.wait_held_up("cannot connect")
    status = bench.umbra.status()
    assert status["attempts"] >= 1 and status["pause-ms"] >= 1


def test_a_request_that_kills_each_disk_is_given_again_after_pauses_that_grow(bed):
    bench = Bench(bed)
    bench.lose("before-execute", 2)
    bench.umbra.qmp.events.clear()
    for number in range(6):             # the other one is done, and is no proof of anything
        bench.disk.start(plan="die@before-execute:2")
        bench.disk.wait_did("die")
        bench.disk.wait_death()
        bench.write(1, first=30 + number)
    bench.disk.start()
    bench.umbra.wait_state("shadowed")
    bench.ring.drain(bench.disk)
    assert_pauses_grew(bench.umbra, 6)


# What the next one has.

def test_a_disk_that_has_shrunk_and_one_with_fewer_queues_are_refused(bed):
    bench = Bench(bed, queues=2, reads_config=True)
    held = bench.lose("before-execute", 3)
    mark = bench.mark()
    bench.disk.start(capacity=131071)
    bench.umbra.wait_held_up("its disk has 131071 sectors, and the guest's had 131072")
    bench.disk.restart(capacity=131072, queues=1)
    bench.umbra.wait_held_up("it has 1 queues, and the VMM uses 2")
    assert bench.umbra.status()["held-requests"] == 3
    bench.disk.process.kill()
    bench.disk.start(queues=2)
    bench.go_on(held, mark)
    bench.rings[1].write(7, next(WORDS))
    bench.rings[1].drain(bench.disk)


def test_the_number_of_queues_that_a_vmm_was_told_is_asked_for(bed):
    bench = Bench(bed, queues=2)
    assert bench.vmm.ask(GET_QUEUE_NUM) == struct.pack("<Q", 2)
    held = bench.lose("before-execute", 3)
    mark = bench.mark()
    bench.disk.start(queues=1)
    bench.umbra.wait_held_up("it has 1 queues, and the VMM was told of 2")
    bench.disk.restart(queues=2)
    bench.go_on(held, mark)


def test_a_disk_that_has_grown_is_told_once_whoever_dies_on_the_way(bed):
    bench = Bench(bed, channel=True, reads_config=True)
    held = bench.lose("before-execute", 3)
    mark = bench.mark()
    bench.disk.start(capacity=200000, plan=f"die@after-message:{SET_FEATURES}")
    bench.disk.wait_death()
    bench.umbra.wait_held_up("refused", "SET_")
    assert bench.sectors() == 131072        # as the guest was told
    bench.disk.start()
    bench.go_on(held, mark)
    assert bench.vmm.channel.recv(12) == encode(CONFIG_CHANGE)
    assert bench.sectors() == 200000


# A front-end that does not wait.

def state(index, value=0):
    return struct.pack("<II", index, value)


def test_a_ring_that_is_stopped_while_it_is_held_goes_on_where_it_stood(bed):
    bench = Bench(bed, base=65534)
    held = bench.lose("before-execute", 5)
    mark = bench.mark()
    ring = bench.ring
    assert bench.vmm.stop() == ring.next
    assert bench.umbra.state() == "held"
    ring.start()
    assert bench.umbra.status()["held-requests"] == len(held)
    bench.disk.start()
    bench.go_on(held, mark)
    assert bench.umbra.vhost()["holds"]["replayed"] == len(held)


def test_a_memory_table_that_changes_meanwhile_is_the_one_that_is_told(bed):
    bench = Bench(bed)
    held = bench.lose("before-execute", 5)
    mark = bench.mark()
    for size in (4 << 20, 8 << 20):
        bench.vmm.request(SET_MEM_TABLE, struct.pack("<IIQQQQ", 1, 0, 0, size, 0x7f0000000000, 0),
                          [bench.vmm.fd])
    bench.disk.start()
    bench.go_on(held, mark)


@pytest.mark.parametrize("loss", ["die", "close", "linger"])
def test_a_guest_that_resets_its_device_meanwhile_is_owed_nothing_and_is_not_hit_by_the_past(
        bed, loss):
    bench = Bench(bed)
    bench.lose("before-disk-write", 5, loss)
    ring = bench.ring
    bench.vmm.stop()
    bench.vmm.request(RESET_DEVICE)
    bench.vmm.request(SET_FEATURES, struct.pack("<Q", 1 << 32 | 1 << 30 | 1 << 29))
    ring.restart()
    ring.start()
    bench.write(5)                          # other words on the same sectors
    if loss != "die":
        bench.umbra.wait_held_up("the back-end that was lost has")
        assert not bench.disk.state()["connected"]
    if loss == "linger":
        bench.disk.go()
    mark = bench.mark()                     # before there is anybody who may execute
    if loss == "die":
        bench.disk.start()
    elif loss == "close":
        bench.disk.restart()
    else:
        bench.umbra.qmp.execute("backend-trust")
    bench.umbra.wait_state("shadowed")
    ring.drain(bench.disk)
    assert [line["sector"] for line in bench.disk.at("before execute", mark)] == list(range(5))
    assert bench.disk.state()["late"] == 0
    assert bench.umbra.vhost()["holds"]["replayed"] == 0


@pytest.mark.parametrize("end", ["kill", "trust"])
@pytest.mark.parametrize("loss", ["close", "linger"])
def test_the_next_front_end_waits_for_the_dead_as_well(bed, loss, end):
    """The old one may write to the disk that the next guest is about to use."""
    bench = Bench(bed)
    bench.lose("before-disk-write", 5, loss)
    for _ in range(2):                  # and one that does not wait changes nothing
        vmm = bench.another_vmm()
        wait_until(lambda: (status := bench.umbra.status())["state"] == "waiting"
                   and "the back-end that was lost has 5 requests" in status["reason"],
                   "the next VMM to wait for the dead")
        assert not bench.disk.state()["connected"]
    if loss == "linger":
        bench.disk.go()
    if end == "kill":
        bench.disk.restart()
    else:
        bench.umbra.qmp.execute("backend-trust")
    ring = vmm.begin().disk_ring().start()
    for sector in range(5):
        ring.write(sector, next(WORDS))
    ring.drain(bench.disk)
    assert bench.disk.state()["late"] == 0


def test_protocol_features_that_nobody_has_said_are_not_answered(bed):
    """To one who takes the silence for none, it would be a poorer disk for good."""
    bench = Bench(bed)
    vmm = bench.another_vmm()
    vmm.ask(GET_FEATURES)
    bench.disk.process.kill()
    bench.wait_held()
    with pytest.raises((ConnectionError, AssertionError)):
        vmm.ask(GET_PROTOCOL_FEATURES)
    vmm.wait_end()
    bench.disk.start()
    ring = bench.another_vmm().begin().disk_ring().start()
    ring.write(1, next(WORDS))
    ring.drain(bench.disk)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_loss_in_the_first_greeting_is_held_as_soon_as_there_is_something_to_answer(bed, when):
    bench = Bench(bed)
    for message in SETUP:
        bench.another_vmm()
        bench.disk.plan(f"die@{when}-message:{message}")
        if message == GET_FEATURES or (message, when) == (GET_PROTOCOL_FEATURES, "before"):
            with pytest.raises((ConnectionError, AssertionError)):
                bench.vmm.begin()
            bench.vmm.wait_end()
            bench.disk.wait_death()
            bench.disk.start()
            continue
        ring = bench.vmm.begin().disk_ring().start()
        bench.disk.wait_death()
        ring.write(1, next(WORDS))
        assert bench.umbra.status()["held-requests"] == 0
        bench.disk.start()
        ring.drain(bench.disk)


@pytest.mark.parametrize("message", RETURN)
def test_a_front_end_is_served_whatever_the_next_disk_does_not_answer(bed, message):
    bench = Bench(bed, reads_config=True)
    held = bench.lose("before-execute", 5)
    bench.disk.start(plan=f"hang@before-message:{message}")
    bench.disk.wait_did("hang")
    assert bench.vmm.stop() == bench.ring.next
    bench.ring.start()
    assert bench.umbra.state() == "held"
    assert bench.umbra.status()["held-requests"] == len(held)
    bench.disk.restart()
    bench.umbra.wait_state("shadowed")
    bench.ring.drain(bench.disk)
    assert bench.disk.state()["late"] == 0


@pytest.mark.parametrize("queues, message", [(1, message) for message in RETURN]
                         + [(3, SET_VRING_NUM), (3, SET_VRING_ENABLE)])
def test_a_front_end_that_speaks_drives_no_slow_disk_away(bed, queues, message):
    bench = Bench(bed, queues=queues, channel=True, reads_config=True)
    held = bench.lose("before-execute", 5)
    mark = bench.mark()
    bench.disk.start(plan=f"hang@before-message:{message}")
    bench.disk.wait_did("hang")
    for _ in range(2):
        assert bench.vmm.stop() == bench.ring.next
        bench.ring.start()
        assert bench.sectors() == 131072
    assert bench.umbra.state() == "held"
    assert bench.umbra.status()["held-requests"] == len(held)
    bench.disk.go()
    bench.go_on(held, mark)
    came = [line["message"] for line in bench.disk.at("before message", mark)]
    assert came.count(SET_OWNER) == 1           # it is the same connection
    for ring in bench.rings[1:]:
        ring.write(7, next(WORDS))
        ring.drain(bench.disk)


def test_an_operator_is_heard_beside_a_slow_disk(bed):
    bench = Bench(bed)
    bench.lose("before-execute", 5)
    bench.disk.start(plan=f"hang@before-message:{SET_MEM_TABLE}")
    bench.disk.wait_did("hang")
    bench.umbra.qmp.execute("backend-trust")
    assert bench.umbra.state() == "held"
    bench.umbra.terminate()


# One that hangs is not dead, and an operator can end it.

def ctl_status(bench):
    return subprocess.run([bench.bed.build / "src/cli/umbra", "ctl", bench.umbra.control, "status"],
                          check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def test_a_disk_that_hangs_is_shown_and_killed(bed):
    bench = Bench(bed, reads_config=True)
    bench.write(3)
    bench.ring.drain(bench.disk)
    mark = bench.mark()
    bench.disk.plan(f"hang@before-message:{GET_CONFIG}")
    bench.vmm.send(GET_CONFIG, struct.pack("<III", 0, 8, 0) + bytes(8))
    waits = wait_until(lambda: bench.umbra.status().get("unanswered"), "the hang to be shown")
    assert waits["message"] == "GET_CONFIG"
    said = ctl_status(bench)
    assert "has not answered GET_CONFIG for" in said and "backend-kill" in said
    bench.umbra.qmp.execute("backend-kill")
    bench.disk.wait_death()
    bench.wait_held()
    assert struct.unpack("<Q", bench.vmm.answer()[12:])[0] == 131072
    with pytest.raises(QmpError, match="has ended already"):
        bench.umbra.qmp.execute("backend-kill")
    bench.disk.start()
    bench.go_on([], mark)


def test_one_that_was_lost_and_lives_is_killed(bed):
    bench = Bench(bed)
    held = bench.lose("before-disk-write", 5, "close")
    bench.umbra.wait_held_up("the back-end that was lost has 5 requests")
    said = ctl_status(bench)
    assert "5 requests" in said and "backend-kill" in said and "backend-trust" in said
    mark = bench.mark()
    bench.umbra.qmp.execute("backend-kill")
    bench.disk.wait_death()
    bench.disk.start()
    bench.go_on(held, mark)
