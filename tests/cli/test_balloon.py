"""`umbra balloon` and `umbra ctl ... balloon`, with a simulated device."""

import json
import os
import pty
import subprocess

import pytest

from bed.wait import wait_until
from simulated import run

GIB = 1 << 30


def wait_settled(client):
    """The data of the next BALLOON_SETTLED; answers and changes are passed over."""
    while (message := client.read()).get("event") != "BALLOON_SETTLED":
        assert "return" in message or message["event"] == "BALLOON_CHANGE"
    return message["data"]


def test_balloon_answers_at_once_and_events_tell_the_way(simulated_balloon):
    with simulated_balloon.talk() as client:
        assert client.ask("balloon", {"value": GIB // 4}) == {"return": {"target-id": 1}}
        data = wait_settled(client)
        assert data == {"name": "b0", "reached": True, "actual": GIB // 4,
                        "target": GIB // 4, "target-id": 1, "ballooned": GIB * 3 // 4}
        balloon = client.ask("query-balloon")["return"]
        assert balloon["actual"] == balloon["target"] == balloon["host-bytes"] == GIB // 4
        assert balloon["phase"] == "settled" and balloon["refused-records"] == 3
        assert "obstacle" not in balloon


def test_a_guest_that_stops_is_told_with_the_reason(simulated_balloon):
    simulated_balloon.knob("floor", str(GIB // 2))
    with simulated_balloon.talk() as client:
        client.ask("balloon", {"value": GIB // 4})
        data = wait_settled(client)
        assert not data["reached"] and data["actual"] == GIB // 2
        assert data["reason"] == "simulated: the guest needs it"
        assert client.ask("query-status")["return"]["phase"] == "stalled"


def test_a_new_target_takes_the_place_of_the_old(simulated_balloon):
    simulated_balloon.knob("floor", str(GIB // 2))
    with simulated_balloon.talk() as client:
        client.command("balloon", {"value": 1 << 20})
        client.command("balloon", {"value": GIB})
        data = wait_settled(client)
        while data["target"] != GIB:
            data = wait_settled(client)
        assert data["reached"] and data["ballooned"] == 0


@pytest.mark.parametrize("arguments, wrong", [
    ({"value": 0}, "bytes of memory"),
    ({"value": -5}, "bytes of memory"),
    ({"value": "1G"}, "expected an integer"),
    ({}, "expected either argument 'value'"),
    ({"value": 5, "take": 5}, "expected either argument 'value'"),
    ({"take": -1}, "bytes of memory that the guest shall give"),
    ({"value": 5, "force": 1}, "expected true or false"),
    ({"value": 5}, "below the floor"),
    ({"value": 5, "wait": True}, "argument 'wait' is unexpected"),
])
def test_a_wrong_value_is_refused(simulated_balloon, arguments, wrong):
    with simulated_balloon.talk() as client:
        answer = client.ask("balloon", arguments)
        assert wrong in answer["error"]["desc"]
        assert client.ask("query-balloon")["return"]["actual"] == GIB


def test_the_shadows_commands_are_not_a_balloons(simulated_balloon, simulated):
    with simulated_balloon.talk() as client:
        assert client.ask("query-vhost")["error"]["class"] == "CommandNotFound"
    with simulated.talk() as client:
        assert client.ask("query-balloon")["error"]["class"] == "CommandNotFound"


def test_an_unsupported_statistic_is_null_and_not_0(simulated_balloon):
    with simulated_balloon.talk() as client:
        stats = client.ask("query-balloon-stats")["return"]
        assert stats["age-ms"] is None              # none have come
        stats = client.ask("query-balloon-stats")["return"]
        assert stats["age-ms"] == 5
        assert len(stats["stats"]) == 16
        assert stats["stats"]["swap-in"] == 0
        assert stats["stats"]["free-memory"] == 1   # asked once before
        assert stats["stats"]["disk-caches"] is None


def test_a_broken_device_is_told(simulated_balloon):
    with simulated_balloon.talk() as client:
        simulated_balloon.knob("break", "queue 0: nonsense")
        message = client.read()
        assert message["event"] == "BALLOON_STATE_CHANGE"
        assert message["data"] == {"name": "b0", "state": "broken",
                                   "reason": "queue 0: nonsense"}


def test_ctl_follows_a_balloon_to_its_target(simulated_balloon):
    done = simulated_balloon.ctl(simulated_balloon.control, "balloon", "256M")
    assert done.returncode == 0
    assert "actual             256.0 MiB\n" in done.stdout
    assert "phase              settled\n" in done.stdout
    assert "[" not in done.stdout               # no bar into a file
    done = simulated_balloon.ctl("--json", simulated_balloon.control, "balloon", "all")
    assert json.loads(done.stdout)["actual"] == GIB


def test_ctl_fails_when_the_guest_does_not_get_there(simulated_balloon):
    simulated_balloon.knob("floor", str(GIB // 2))
    done = simulated_balloon.ctl(simulated_balloon.control, "balloon", "1M")
    assert done.returncode == 1
    assert "simulated: the guest needs it" in done.stderr
    assert "512.0 MiB" in done.stdout


def test_ctl_takes_so_much_from_a_guest_and_below_the_floor_only_by_force(simulated_balloon):
    def ctl(*words):
        return simulated_balloon.ctl(*words[:-2], simulated_balloon.control, *words[-2:])

    done = ctl("balloon", "take=256M")
    assert done.returncode == 0
    assert "target             768.0 MiB\n" in done.stdout
    assert "  to be taken      256.0 MiB\n" in done.stdout
    done = ctl("balloon", "4096")
    assert done.returncode == 1 and "below the floor" in done.stderr
    done = ctl("--force", "balloon", "4096")
    assert done.returncode == 0 and "actual             4.0 KiB\n" in done.stdout
    done = ctl("--force", "balloon", "value=4096")
    assert done.returncode == 2 and "--force: only" in done.stderr


def test_ctl_fails_when_another_client_sets_another_target(simulated_balloon):
    simulated_balloon.knob("floor", str(GIB // 2))
    first = subprocess.Popen(
        [simulated_balloon.program, "ctl", simulated_balloon.control, "balloon", "1M"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    wait_until(lambda: json.loads(simulated_balloon.ctl(
        "--json", simulated_balloon.control, "query-balloon").stdout)["target-id"],
        "the first one's target")
    simulated_balloon.ctl(simulated_balloon.control, "balloon", "768M")
    assert first.wait() == 1
    assert "another client has set another" in first.stderr.read()


def test_scans_and_reclaims_are_bytes_as_linux_sends_them(simulated_balloon):
    shown = simulated_balloon.ctl(simulated_balloon.control, "stats").stdout
    assert "async-scans        12.0 KiB\n" in shown


def test_ctl_shows_what_the_balloon_may_touch(simulated_balloon):
    shown = simulated_balloon.ctl(simulated_balloon.control, "balloon").stdout
    assert "  as said by       the VMM's memory table\n" in shown
    assert "region             0x0, 1.0 GiB in pages of 4.0 KiB\n" in shown
    assert "region             0x100000000, 4.0 KiB in pages of 4.0 KiB, not given back\n" in shown


def test_ctl_draws_a_bar_on_a_terminal(simulated_balloon):
    ours, theirs = pty.openpty()
    done = subprocess.Popen([simulated_balloon.program, "ctl", simulated_balloon.control,
                             "balloon", "512M"], stdout=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:
        pass                                    # the other end has closed
    os.close(ours)
    assert done.wait() == 0
    assert b"\r[" in shown and b"100 %" in shown and b"to be 512.0 MiB" in shown


def test_ctl_shows_and_asks(simulated_balloon):
    assert "memory             1.0 GiB" in \
        simulated_balloon.ctl(simulated_balloon.control, "balloon").stdout
    shown = simulated_balloon.ctl(simulated_balloon.control, "status").stdout
    assert "running" in shown and "shadow" not in shown
    # The command as the socket has it.
    assert simulated_balloon.ctl(simulated_balloon.control, "balloon",
                                 f"value={GIB}").returncode == 0


@pytest.mark.parametrize("words, wrong", [
    (["0"], "expected a number of bytes"), (["5X"], "expected a number of bytes"),
    (["-1"], "such option"), (["1G", "2G"], "no more words"),
    (["99999999999G"], "expected a number of bytes"), (["take="], "expected a number of bytes"),
    (["take=1G", "2G"], "no more words"),
])
def test_ctl_refuses_a_wrong_size_before_it_connects(program, words, wrong):
    done = run(program, "ctl", "/nowhere", "balloon", *words)
    assert done.returncode == 2
    assert wrong in done.stderr


@pytest.mark.parametrize("options, wrong", [
    ([], "expected --socket-path=PATH, --connect=PATH or --fd=N"),
    (["--socket-path=a", "--fd=3"], "--fd=3"),
    (["--socket-path=a", "--control=a"], "the same path"),
    (["--connect=a", "--control=a"], "--control=a: the same path as --connect"),
    (["--socket-path=a", "--target=0"], "--target=0: expected a number of bytes"),
    (["--socket-path=a", "--floor=0"], "--floor=0: expected a number of bytes"),
    (["--socket-path=a", "--memory=some"], "--memory=some: expected a number of bytes"),
    (["--socket-path=a", "--target=1M", "--floor=2M"], "expected at least --floor=2097152"),
    (["--socket-path=a", "--only-region=1G"], "--only-region=1G: expected FROM-TO"),
    (["--socket-path=a", "--only-region=2G-1G"], "expected FROM-TO"),
    (["--socket-path=a", "--only-region=0-0xffffffffffffffffffff"], "expected FROM-TO"),
    (["--socket-path=a", *["--only-region=0-1G"] * 17], "one more than 16"),
    (["--socket-path=a", "--stall=0"], "--stall=0: expected a number from 1"),
    (["--socket-path=a", "--hide=everything"], "expected must-tell-host, stats"),
    (["--socket-path=a", "--backend=unix:b"], "there is no such option"),
    (["--socket-path=a", "more"], "expected only options"),
])
def test_a_wrong_command_line_is_explained(program, options, wrong):
    done = run(program, "balloon", *options)
    assert done.returncode == 2
    assert wrong in done.stderr and done.stderr.startswith("umbra balloon: ")


def test_it_keeps_the_conventions_of_back_ends(program):
    capabilities = run(program, "balloon", "--socket-path=x", "--print-capabilities")
    assert json.loads(capabilities.stdout) == {"type": "balloon", "features": []}
    assert capabilities.returncode == 0


@pytest.mark.parametrize("knob, status", [("fail", 1), ("gone", 0)])
def test_it_ends_as_its_device_does(simulated_balloon, knob, status):
    simulated_balloon.knob(knob, "simulated: the end")
    simulated_balloon.check_end(status)
