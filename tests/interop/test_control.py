"""The control socket is QMP: clients that know nothing of umbra work on it."""

import json
import subprocess

import pytest

from bed import QmpClient, QmpError
from bed.wait import PATIENCE


def _type(socket, *lines):
    """What a person with socat gets for these lines."""
    typed = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n"
                     for line in lines)
    done = subprocess.run(["socat", "-t5", "-", f"UNIX-CONNECT:{socket}"],
                          input=typed, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def test_qmp_can_be_typed_by_hand(bed):
    umbra = bed.umbra(bed.backend())
    greeting, capable, status, unknown = _type(
        umbra.control,
        '{"execute": "qmp_capabilities"}',
        '{"execute": "query-status", "id": "mine"}',
        '{"execute": "make-coffee", "id": 7}')
    assert "QMP" in greeting and "version" in greeting["QMP"]
    assert capable == {"return": {}}
    assert status["id"] == "mine"
    assert status["return"]["state"] == "waiting"
    assert status["return"]["name"] == "u0"
    assert unknown["id"] == 7
    assert unknown["error"]["class"] == "CommandNotFound"
    assert "make-coffee" in unknown["error"]["desc"]


def test_commands_need_the_negotiation_first(bed):
    umbra = bed.umbra(bed.backend())
    _, refused = _type(umbra.control, '{"execute": "query-status"}')
    assert refused["error"]["class"] == "CommandNotFound"
    assert "qmp_capabilities" in refused["error"]["desc"]


RUBBISH = {
    "stray-brace": "}",
    "array": "[]",
    "number": "42",
    "string": '"text"',
    "null": "null",
    "empty-object": "{}",
    "command-not-a-string": '{"execute": 5}',
    "arguments-not-an-object": '{"execute": "query-status", "arguments": []}',
    "arguments-missing": '{"execute": "x-vhost-enable-shadow-vq"}',
    "argument-of-wrong-type": '{"execute": "x-vhost-enable-shadow-vq", '
                              '"arguments": {"name": "u0", "enable": "yes"}}',
    "unknown-device": '{"execute": "x-vhost-enable-shadow-vq", '
                      '"arguments": {"name": "other", "enable": true}}',
    "not-utf-8": b"\x00\xff",
    "endless-name": '{"execute": "' + "x" * 100_000 + '"}',
    "endless-nesting": "[" * 100_000,
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_is_refused_and_harms_nobody(bed, rubbish):
    umbra = bed.umbra(bed.backend())
    answers = _type(umbra.control, '{"execute": "qmp_capabilities"}', rubbish)
    assert answers[-1]["error"]["desc"]
    assert umbra.state() == "waiting"


def test_half_a_command_harms_nobody(bed):
    umbra = bed.umbra(bed.backend())
    _type(umbra.control, '{"execute": "qmp_capabilities"}', '{"execute":')
    assert umbra.state() == "waiting"


def test_every_command_is_listed(bed):
    umbra = bed.umbra(bed.backend())
    names = {command["name"] for command in umbra.qmp.execute("query-commands")}
    assert {"qmp_capabilities", "query-commands", "query-version", "query-status",
            "query-vhost", "x-vhost-enable-shadow-vq", "quit"} <= names


def test_every_client_hears_of_each_change(bed):
    umbra = bed.umbra(bed.backend())
    with QmpClient(umbra.control) as one, QmpClient(umbra.control) as two:
        guest = bed.uml(umbra)
        umbra.enter("shadowed")
        umbra.enter("passthrough")
        guest.kill()
        for client in (one, two):
            for state in ("negotiating", "passthrough", "switching", "shadowed",
                          "switching", "passthrough", "waiting"):
                client.wait_event("SHADOW_STATE_CHANGE",
                                  lambda data: data["to"] == state
                                  and data["name"] == "u0")


def test_switch_without_a_guest_is_refused_or_remembered(bed):
    """Either is sound; what must not happen is silence, or a lie."""
    umbra = bed.umbra(bed.backend())
    try:
        umbra.shadow(True)
        expected = "shadowed"
    except QmpError as refusal:
        assert refusal.reason
        expected = "passthrough"
    guest = bed.uml(umbra)
    assert umbra.state() == expected
    assert guest.poweroff() == 0
