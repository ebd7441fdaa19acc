"""What the status and the log say while a device is on its way, and after its VMM has
gone.  Simulated peers, which stop at each step."""

import os
import struct

import pytest
from bed.peers import (GET_FEATURES, PROTOCOL, SET_FEATURES, SET_OWNER,
                       SET_VRING_ADDR, SET_VRING_KICK, SET_VRING_NUM,
                       VERSION_1, SimulatedBackend, SimulatedVmm, u64)
from bed.wait import wait_until

FORGOTTEN = "share=on is forgotten"


def wait_reason(umbra, text):
    return wait_until(lambda: text in (status := umbra.status()).get("reason", "") and status,
                      f"the status to say: {text}")


def test_the_status_says_what_a_device_waits_for(bed):
    umbra = bed.umbra(SimulatedBackend(bed))
    status = wait_reason(umbra, f"for a VMM that connects to {umbra.socket}")
    assert status["state"] == "waiting"
    vmm = SimulatedVmm(bed, umbra)
    assert wait_reason(umbra, "for the guest's driver")["state"] == "negotiating"
    vmm.send(SET_OWNER)
    vmm.ask(GET_FEATURES)
    vmm.send(SET_FEATURES, u64(VERSION_1 | PROTOCOL))
    wait_reason(umbra, "for the guest's memory: the front-end has shared none")
    vmm.negotiate()
    wait_reason(umbra, "for the guest's driver to set up a queue")
    vmm.request(SET_VRING_NUM, struct.pack("<II", 0, 64))
    wait_reason(umbra, "for the guest's driver to start queue 0")
    ring = vmm.ring().start()
    assert "reason" not in umbra.wait_state("passthrough")
    ring.close()
    vmm.rings.clear()


def test_memory_that_is_not_shared_is_told_in_those_words(bed):
    """What QEMU 7.2 does when its memory has no file: no table, and rings."""
    umbra = bed.umbra(SimulatedBackend(bed))
    vmm = SimulatedVmm(bed, umbra)
    vmm.ask(GET_FEATURES)
    vmm.send(SET_FEATURES, u64(VERSION_1))
    vmm.send(SET_VRING_NUM, struct.pack("<II", 0, 64))
    vmm.send(SET_VRING_ADDR, struct.pack("<IIQQQQ", 0, 0, 4096, 8192, 12288, 0))
    ring = vmm.ring()
    vmm.send(SET_VRING_KICK, u64(0), [ring.kick])
    wait_until(lambda: FORGOTTEN in umbra.process.output(), "the log to say so")
    assert "is share=on forgotten?" in wait_reason(umbra, "for the guest's memory")["reason"]


@pytest.mark.parametrize("kind", ["shadow", "balloon"])
@pytest.mark.parametrize("touched", [False, True])
def test_memory_that_the_vmm_never_writes_is_told(bed, kind, touched):
    """What a VMM shares that maps its memory's file privately: a file of holes."""
    device = bed.umbra(SimulatedBackend(bed)) if kind == "shadow" else bed.balloon()
    vmm = SimulatedVmm(bed, device)
    if touched:
        vmm.memory[0:4] = b"boot"
    assert bool(os.fstat(vmm.fd).st_blocks) == touched
    vmm.negotiate().ring().start()
    assert (FORGOTTEN in device.process.output()) != touched


def test_counters_outlive_the_vmm(bed):
    backend = SimulatedBackend(bed)
    umbra = bed.umbra(backend, shadow="on")
    for number in range(1, 4):
        vmm = SimulatedVmm(bed, umbra).negotiate()
        ring = vmm.ring(index=1).start()
        ring.offer()
        backend.serve_one(index=1)
        ring.wait_used(1)
        vmm.leave()
        umbra.wait_state("waiting")
        queue, = umbra.vhost()["queues"]
        assert queue["index"] == 1 and queue["requests"] == number
        assert queue["mode"] == "stopped" and queue["size"] == 0
        assert queue["in-flight"] == 0 and "error" not in queue


@pytest.mark.parametrize("shadow, mode", [("off", "passed through"), ("on", "shadowed")])
def test_the_log_has_a_line_for_each_step(bed, shadow, mode):
    umbra = bed.umbra(SimulatedBackend(bed), shadow=shadow)
    for number in range(2):
        vmm = SimulatedVmm(bed, umbra).negotiate()
        vmm.ring().start()
        umbra.wait_state("passthrough", "shadowed")
        vmm.leave()
        umbra.wait_state("waiting")
    umbra.terminate()
    lines = [line.split(f"umbra {umbra.name}: ")[1]
             for line in umbra.process.output().splitlines()[1:]]
    said = [f"listening at {umbra.socket} for a VMM",
            *2 * ["a VMM has come: pid ", f"the device is {mode}", "the VMM has gone"],
            "asked to end by a signal"]
    found = [line for line in lines if line.startswith(tuple(said))]
    assert [line[:len(text)] for line, text in zip(found, said, strict=True)] == said
