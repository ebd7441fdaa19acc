"""How the program starts and ends: vhost-user's program conventions."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from bed.process import Process
from bed.wait import wait_until
from simulated import Simulated, run

#: VHostUserBackendType and VHostUserBackendBlockFeature of QEMU's
#: docs/interop/vhost-user.json.
TYPES = ["9p", "balloon", "block", "caif", "console", "crypto", "gpu", "input", "net", "rng",
         "rpmsg", "rproc-serial", "scsi", "vsock", "fs"]
BLOCK_FEATURES = ["read-only", "blk-file"]


@pytest.mark.parametrize("words", [
    ["shadow", "--print-capabilities"], ["--print-capabilities"],
    ["shadow", "--fd=7", "--print-capabilities"],
    ["shadow", "--frobnicate", "--socket-path=/x", "--print-capabilities", "stray"]],
    ids=" ".join)
def test_capabilities_follow_the_schema(program, words):
    done = run(program, *words)
    assert done.returncode == 0
    assert done.stderr == ""
    capabilities = json.loads(done.stdout)
    assert set(capabilities) <= {"type", "features"}
    assert capabilities["type"] in TYPES
    assert set(capabilities["features"]) <= set(BLOCK_FEATURES)
    help_text = run(program, "help", "shadow").stdout
    for feature in capabilities["features"]:
        assert f"--{feature}" in help_text


def test_the_discovery_files_follow_the_schema(program, build):
    installed = json.loads((build / "meson-info/intro-install_plan.json").read_text())
    files = [path for kind in installed.values() for path in kind if path.endswith(".json")]
    assert len(files) == 2
    for path, command in zip(sorted(files), ("balloon", "shadow"), strict=True):
        found = json.loads(Path(path).read_text())
        assert set(found) <= {"description", "type", "binary", "tags"}
        said = run(program, command, "--print-capabilities").stdout
        assert found["type"] == json.loads(said)["type"]
        assert os.path.isabs(found["binary"])
        assert os.path.basename(found["binary"]) == f"umbra-{command}"


@pytest.mark.parametrize("name, options, wanted", [
    ("umbra-shadow", ["--socket-path=/tmp/vm"], "--backend=unix:PATH"),
    ("umbra-balloon", [], "--socket-path=PATH")])
def test_called_by_its_other_name_it_takes_options_at_once(program, bed, name, options, wanted):
    link = bed.path(name)
    link.symlink_to(program)
    assert json.loads(run(link, "--print-capabilities").stdout)["type"]
    done = run(link, *options)
    assert done.returncode == 2
    assert wanted in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
                         ids=lambda n: n.name)
def test_a_signal_ends_it_cleanly_while_a_client_is_there(simulated, number):
    with simulated.talk():
        simulated.terminate(number)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2], ids=lambda n: n.name)
def test_a_stray_signal_leaves_the_device_to_its_guest(simulated, number):
    simulated.process.signal(number)
    wait_until(lambda: f"{number.name} means nothing to this program" in simulated.log(),
               "a word on the signal")
    with simulated.talk() as client:
        assert client.ask("query-status")["return"]["name"] == "u0"
    simulated.terminate()


def test_a_terminal_that_goes_away_twice_is_one_end(simulated):
    """As one does; and systemd sends SIGHUP right after SIGTERM, if told to."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
        simulated.process.signal(number)
    simulated.check_end()


def test_without_hangups_it_goes_on_when_the_terminal_goes_away(bed):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)       # what nohup(1) does
    try:
        simulated = Simulated(bed)
    finally:
        signal.signal(signal.SIGHUP, before)
    simulated.process.signal(signal.SIGHUP)
    simulated.process.signal(signal.SIGUSR1)
    wait_until(lambda: "SIGUSR1 means nothing" in simulated.log(), "the later signal")
    assert "SIGHUP" not in simulated.log()
    simulated.terminate()


def test_a_signal_right_at_the_start_ends_it(bed):
    for i in range(20):
        knobs = bed.path(f"knobs{i}")
        knobs.mkdir()
        paths = [bed.path(f"early{i}.vm"), bed.path(f"early{i}.ctl")]
        process = bed.start(Process(
            f"early{i}", [bed.build / "tests/cli/umbra-simulated", "shadow",
                          f"--socket-path={paths[0]}", f"--backend=unix:{knobs}",
                          f"--control={paths[1]}"], bed.log("early")))
        wait_until(lambda: paths[1].exists() or not process.alive(), "the control socket")
        process.signal(signal.SIGTERM)
        # Between the socket's file and the handler there is nothing.
        assert process.wait() == 0
        assert not any(path.exists() for path in paths)


def test_a_signal_right_at_the_end_is_no_failure(bed):
    for i in range(20):
        simulated = Simulated(bed, f"late{i}")
        with simulated.talk() as client:
            assert client.ask("quit")["return"] == {}
        simulated.process.signal(signal.SIGTERM)
        simulated.check_end()


def test_an_error_of_the_device_ends_it_with_a_message(simulated):
    simulated.knob("fail", "vm.sock: accept: no more file descriptors")
    simulated.check_end(status=1)
    assert "error: vm.sock: accept: no more file descriptors" in simulated.log()


def test_a_device_that_is_done_ends_it_with_success(simulated):
    simulated.knob("gone")
    simulated.check_end()


def test_a_closed_pipe_does_not_end_it(simulated):
    simulated.process.signal(signal.SIGPIPE)
    with simulated.talk() as client:
        assert client.ask("query-status")["return"]


def test_a_socket_that_cannot_be_made_is_an_early_failure(program, bed):
    for option, path in (("--control", bed.path("missing/ctl")),
                         ("--socket-path", bed.path("missing/vm"))):
        options = {"--socket-path": bed.path("vm"), "--control": bed.path("ctl"),
                   "--backend": f"unix:{bed.path('backend')}", option: path}
        done = run(bed.build / "tests/cli/umbra-simulated", "shadow",
                   *(f"{name}={value}" for name, value in options.items()))
        assert done.returncode == 1
        assert str(path) in done.stderr
        assert not bed.path("vm").exists()
        assert not bed.path("ctl").exists()


def start_on(bed, control):
    return run(bed.build / "tests/cli/umbra-simulated", "shadow",
               f"--socket-path={bed.path('second.vm')}", f"--control={control}",
               f"--backend=unix:{bed.path('nowhere')}")


def test_a_live_control_socket_is_not_replaced(simulated, bed):
    done = start_on(bed, simulated.control)
    assert done.returncode == 1
    assert "another program listens on it" in done.stderr
    with simulated.talk() as client:
        assert client.ask("query-status")["return"]["name"] == "u0"


def test_a_file_that_is_no_socket_is_not_replaced(bed):
    path = bed.path("precious")
    path.write_text("data")
    done = start_on(bed, path)
    assert done.returncode == 1
    assert "is no socket" in done.stderr
    assert path.read_text() == "data"


def test_a_stale_control_socket_is_replaced(bed):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(bed.path("u0.ctl")))
    simulated = Simulated(bed)
    with simulated.talk() as client:
        assert client.ask("query-status")["return"]


def test_a_control_socket_of_somebody_else_stays_at_the_end(simulated):
    simulated.control.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(simulated.control))
        simulated.process.signal(signal.SIGTERM)
        assert simulated.process.wait() == 0
        assert simulated.control.exists()
    simulated.control.unlink()


def test_it_works_without_a_control_socket(bed):
    knobs = bed.path("knobs")
    knobs.mkdir()
    process = bed.start(Process(
        "plain", [bed.build / "tests/cli/umbra-simulated", "shadow",
                  f"--socket-path={bed.path('vm')}", f"--backend=unix:{knobs}"],
        bed.log("plain")))
    wait_until(lambda: bed.path("vm").exists(), "the socket")
    (knobs / "flood").write_text("100")
    wait_until(lambda: not (knobs / "flood").exists(), "events")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_flood_of_events_reaches_a_client_that_reads(simulated):
    with simulated.talk() as client:
        simulated.knob("flood", "500")
        events = [client.read() for _ in range(500)]
        assert all(event["event"] == "SHADOW_STATE_CHANGE" for event in events)
        assert [event["data"]["to"] for event in events[:2]] == ["negotiating", "waiting"]


def test_a_socket_by_fd_is_taken(bed):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        control = bed.path("ctl")
        process = subprocess.Popen(
            [bed.build / "tests/cli/umbra-simulated", "shadow", f"--fd={theirs.fileno()}",
             f"--backend=unix:{bed.path('nowhere')}", f"--control={control}"],
            pass_fds=[theirs.fileno()])
        try:
            wait_until(control.exists, "the control socket")
        finally:
            process.terminate()
            assert process.wait(60) == 0
