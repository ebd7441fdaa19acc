"""The program with its own device and a real back-end, before any VM comes."""

import json
import signal
import socket

import pytest
from bed.qmp import QmpError
from bed.wait import wait_until
from simulated import run


@pytest.fixture
def real(bed):
    return bed.umbra(bed.backend())


def test_it_waits_for_a_vm(real):
    status = real.status()
    assert status["name"] == "u0"
    assert status["state"] == "waiting"
    assert status["shadow"] == "auto"
    assert status["shadowed"] is False
    vhost = real.vhost()
    assert vhost["queues"] == []
    assert vhost["backend"]["kind"] == "vhost-user"
    assert vhost["backend"]["address"].endswith("disk.sock")
    assert real.switches()["count"] == 0


def test_a_wish_without_a_vm_is_remembered(real):
    assert real.shadow(True) == {}
    assert real.status()["shadow-wanted"] is True
    assert real.shadow(False) == {}
    assert real.status()["shadow-wanted"] is False


@pytest.mark.parametrize("mode, forbidden", [("on", False), ("off", True)])
def test_a_fixed_mode_cannot_be_switched(bed, mode, forbidden):
    umbra = bed.umbra(bed.backend(), shadow=mode)
    assert umbra.status()["shadow"] == mode
    with pytest.raises(QmpError) as refused:
        umbra.shadow(forbidden)
    assert refused.value.error_class == "GenericError"


def test_a_vm_that_comes_and_goes_is_an_event(real):
    with socket.socket(socket.AF_UNIX) as vm:
        vm.connect(str(real.socket))
        real.qmp.wait_event("SHADOW_STATE_CHANGE", lambda data: data["to"] == "negotiating")
    real.qmp.wait_event("SHADOW_STATE_CHANGE", lambda data: data["to"] == "waiting")
    assert real.vhost()["frontends"] == 1


def test_it_ends_at_once_when_asked(real):
    real.terminate(5)


def test_it_ends_at_once_with_a_vm_that_is_silent(real):
    with socket.socket(socket.AF_UNIX) as vm:
        vm.connect(str(real.socket))
        wait_until(lambda: real.state() != "waiting", "the VM to be taken")
        real.terminate(5)


def test_quit_ends_it(real):
    assert real.qmp.execute("quit") == {}
    real.check_end(10)


def test_ctl_shows_it(real, program):
    assert "waiting" in run(program, "ctl", real.control, "status").stdout
    assert json.loads(run(program, "ctl", "--json", real.control, "queues").stdout)["queues"] == []
    assert run(program, "ctl", real.control, "shadow", "on").returncode == 0


def test_the_process_of_a_lost_back_end_is_seen_to_end(bed, program):
    backend = bed.backend()
    umbra = bed.umbra(backend)
    assert "process" not in umbra.vhost()["backend"]
    with socket.socket(socket.AF_UNIX) as vm:
        vm.connect(str(umbra.socket))
        wait_until(lambda: umbra.state() == "negotiating", "the VM to be taken")
        process = umbra.vhost()["backend"]["process"]
        assert process["pid"] == backend.process.pid
        assert process["name"].startswith(f"pid {backend.process.pid}, qemu-storage")
        assert process["state"] == "lives"
        backend.kill()
        wait_until(lambda: umbra.vhost()["backend"].get("process") == {
            **process, "state": "ended"}, "umbra to have seen its end")
        assert "ended" in run(program, "ctl", umbra.control, "queues").stdout
    backend.start()
    with socket.socket(socket.AF_UNIX) as vm:
        vm.connect(str(umbra.socket))
        wait_until(lambda: umbra.vhost()["backend"]["process"]["pid"] == backend.process.pid,
                   "umbra to have met the next one")
    wait_until(lambda: "process" not in umbra.vhost()["backend"], "it to be let go")


def test_a_socket_in_use_is_an_early_failure(real):
    done = run(real.bed.program, "shadow", f"--socket-path={real.socket}",
               "--backend=unix:/nowhere")
    assert done.returncode == 1
    assert str(real.socket) in done.stderr
    assert real.status()["state"] == "waiting"


def test_its_files_are_its_own(real):
    real.process.signal(signal.SIGTERM)
    real.check_end()
