"""The project's own disk (tests/blk_back) does wrong what it is told to, where it is told
to, and says so: what tests with it rest on.  No umbra; walk.c has its inside."""

import json
import os

import pytest
from bed import BlkBack, DiskVmm
from bed.blk_back import COMPLETING, EXECUTING, TAKING, TRACKING, points
from bed.peers import CONFIG_CHANGE, GET_CONFIG, GET_VRING_BASE, encode
from bed.wait import wait_until


@pytest.fixture
def disk(bed):
    return BlkBack(bed)


def test_each_death_leaves_an_in_flight_region_from_which_a_successor_goes_on(bed):
    disk = BlkBack(bed, inflight=True)
    vmm = DiskVmm(bed, disk, tracked=True).begin()
    ring = vmm.disk_ring(base=65533)
    ring.start()
    word = 0
    for place in points(TAKING + EXECUTING + COMPLETING + TRACKING):
        since = len(disk.journal())
        disk.plan(f"die@{place}")
        for sector in range(3):
            word += 1
            ring.write(sector, word, kick=sector == 2)
        disk.wait_death()
        back_before = ring.collect_judged(disk)
        disk.start()
        vmm.move(disk)
        back = back_before + ring.drain(disk)
        assert len(back) == 3, place
        heads = {}
        for line in disk.at("before execute", since):
            heads.setdefault(line["heads"][0], []).append(line["instance"])
        # Done again, but at most once and by the successor, and only what was not back.
        assert len(heads) == 3 and all(
            len(set(by)) == len(by) <= 2 for by in heads.values()), (place, heads)
        assert all(len(heads[3 * slot]) == 1 for slot, *_ in back_before), place


def test_each_queue_has_its_own_part_of_the_region(bed):
    disk = BlkBack(bed, inflight=True, queues=3)
    vmm = DiskVmm(bed, disk, queues=3, tracked=True).begin()
    rings = [vmm.disk_ring(index, base=65534 + index & 0xffff).start() for index in range(3)]
    disk.plan("keep@before-execute:*")
    for number, ring in enumerate(rings):
        for sector in range(number + 2):
            ring.write(10 * number + sector, 1, kick=sector == number + 1)
    wait_until(lambda: disk.state()["kept"] == 9, "all nine to be in flight")
    disk.restart()
    vmm.move(disk)
    for number, ring in enumerate(rings):
        assert len(ring.drain(disk)) == number + 2
    assert disk.state()["requests"] == 9


def test_what_hangs_goes_on_where_it_stood(bed, disk):
    ring = DiskVmm(bed, disk).begin().disk_ring().start()
    for place in ("before-disk-write", "before-used-idx", "after-used-idx"):
        disk.plan(f"hang@{place}")
        ring.write(7, 1)
        assert disk.wait_did("hang")["at"] == place.replace("-", " ", 1)
        assert disk.state()["hangs"]
        assert len(ring.collect_judged(disk)) == (place == "after-used-idx")
        assert not disk.go()["hangs"]
        ring.drain(disk)


def test_who_hangs_up_forgets_and_listens_again(bed, disk):
    vmm = DiskVmm(bed, disk).begin()
    ring = vmm.disk_ring().start()
    first = disk.plan("close@before-disk-write")["instance"]
    ring.write(7, 1)
    vmm.wait_end()
    assert disk.sector(7) == bytes(512)
    vmm.move(disk)
    ring.drain(disk)
    assert disk.state()["instance"] == first + 1


def test_a_late_write_of_one_that_was_taken_for_dead_is_noticed(bed, disk):
    vmm = DiskVmm(bed, disk).begin()
    ring = vmm.disk_ring().start()
    first = disk.plan("linger@before-disk-write")["instance"]
    ring.write(7, 1)
    vmm.wait_end()
    vmm.move(disk)
    ring.drain(disk)
    ring.write(7, 2)
    ring.drain(disk)
    assert disk.state()["late"] == 0
    assert disk.go()["lingering"] == 0
    late = wait_until(lambda: [line for line in disk.at("after disk-write") if "late" in line],
                      "the late write")
    assert late[0]["instance"] == first
    assert disk.state()["late"] == 1
    assert disk.sector(7)[0] == 1               # as bad as that


def test_a_slow_request_holds_up_no_other(bed, disk):
    ring = DiskVmm(bed, disk).begin().disk_ring().start()
    disk.plan("keep@before-execute:2")
    slots = [ring.write(sector, 1, kick=sector == 3) for sector in range(4)]
    ring.wait_used(3)
    assert {slot for slot, *_ in ring.collect_judged(disk)} == {slots[0], *slots[2:]}
    assert disk.state()["kept"] == 1
    disk.go()
    assert [slot for slot, *_ in ring.drain(disk)] == [slots[1]]


def test_a_ring_that_is_always_kicked_keeps_nobody_from_being_heard(bed):
    disk = BlkBack(bed, queues=2)
    vmm = DiskVmm(bed, disk, queues=2).begin()
    busy, other = vmm.disk_ring(0), vmm.disk_ring(1)
    always = os.eventfd(2**32 - 1, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    busy.start(kick=always)
    other.start()
    other.write(3, 1)
    other.drain(disk)
    os.close(always)


@pytest.mark.parametrize("order", ["in", "reverse", "random"])
def test_the_order_of_execution_is_a_matter_of_options_and_seed(bed, order):
    seen = []
    for number in range(2):
        disk = BlkBack(bed, name=f"disk{number}", order=order, seed=7)
        ring = DiskVmm(bed, disk).begin().disk_ring().start()
        for sector in range(8):
            ring.write(sector, 1, kick=sector == 7)
        ring.drain(disk)
        seen.append([line["requests"][0] for line in disk.at("before execute")])
    assert seen[0] == seen[1]
    assert sorted(seen[0]) == list(range(1, 9))
    assert (seen[0] == sorted(seen[0])) == (order == "in")
    assert (seen[0] == sorted(seen[0], reverse=True)) == (order == "reverse")


def test_it_lies_as_it_was_told(bed, disk):
    ring = DiskVmm(bed, disk).begin().disk_ring().start()
    disk.plan("lie=77@before-guest-status,lie=255@before-disk-write")
    ring.write(7, 0)
    ring.wait_used(1)
    (_, status, _, _), = ring.collect()
    assert status == 77 and disk.sector(7) == b"\xff" * 512
    disk.plan("skip@before-disk-write")
    ring.write(7, 0)
    ring.wait_used(2)
    (_, status, _, _), = ring.collect()
    assert status == 0 and disk.sector(7) == b"\xff" * 512
    disk.plan("lie=+5@before-used-idx")
    ring.write(7, 0)
    ring.wait_used(8)


def test_a_completion_of_what_the_disk_has_not_got_is_noticed(bed, disk):
    ring = DiskVmm(bed, disk).begin().disk_ring().start()
    disk.plan("skip@before-disk-write")
    ring.write(7, 1)
    ring.wait_used(1)
    with pytest.raises(AssertionError, match="sector 7 was completed, and is not on the disk"):
        ring.collect_judged(disk)


def test_it_lies_about_where_a_ring_stands(bed, disk):
    vmm = DiskVmm(bed, disk).begin()
    ring = vmm.disk_ring().start()
    ring.write(7, 1)
    ring.drain(disk)
    disk.plan(f"lie=-1@before-answer:{GET_VRING_BASE}")
    assert vmm.stop() == 0


def test_it_gets_smaller_and_says_so(bed, disk):
    vmm = DiskVmm(bed, disk).begin(channel=True)
    disk.ask("capacity 100")
    assert vmm.channel.recv(12) == encode(CONFIG_CHANGE)
    answer = vmm.ask(GET_CONFIG, bytes([0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]) + bytes(8))
    assert answer[12:] == (100).to_bytes(8, "little")


@pytest.mark.parametrize("text", [
    "explode@before-take", "die@take", "die@before-nothing", "die@#0", "lie=x@before-call",
    "keep@before-call", "skip@after-call", "die"])
def test_what_cannot_be_planned_is_refused(bed, disk, text):
    disk.process.popen.stdin.write(f"plan {text}\n".encode())
    assert "no such thing" in json.loads(disk.process.popen.stdout.readline())["error"]
