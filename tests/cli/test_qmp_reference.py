"""The same conversation with QEMU's own QMP server gives the same kinds of
answers, and our client can talk to it."""

import json
import shutil

import pytest
from bed.backend import listens
from bed.process import Process
from bed.wait import wait_until
from simulated import Conversation, run

pytestmark = pytest.mark.skipif(not shutil.which("qemu-storage-daemon"),
                                reason="needs qemu-storage-daemon")


@pytest.fixture
def reference(bed):
    path = bed.path("reference.qmp")
    process = bed.start(Process(
        "reference",
        ["qemu-storage-daemon", "--chardev", f"socket,id=m,path={path},server=on,wait=off",
         "--monitor", "chardev=m"],
        bed.log("reference")))
    wait_until(lambda: process.alive() and listens(path), "qemu-storage-daemon to listen")
    return path


#: Sent one after the other, each answered before the next.
CONVERSATION = [
    '{"execute":"query-version"}',
    '{"execute":"quit","id":7}',
    '{ "execute": }',
    '{"execute":"query-version"\xff',
    '{"execute":"qmp_capabilities","arguments":{"enable":["nothing"]}}',
    '{"execute":"qmp_capabilities","arguments":{"enable":3}}',
    '{ "execute": "qmp_capabilities", "arguments": { "enable": [] } }',
    '{"execute":"qmp_capabilities"}',
    '[1]',
    '"x"',
    '{"execute":"foo","id":[1]}',
    '{"execute":"query-version","arguments":[]}',
    '{"execute":"query-version","arguments":{"a":1},"id":"x"}',
    '{"execute":"quit","foo":1,"id":{"a":null}}',
    '{"foo":1}',
    '{"execute":3,"id":7}',
    '{"execute":null}',
    '\xff',
    '\x01',
    '} ',
    '] ',
    '{"execute":"query-version"] ',
    '{"exec-oob":"query-version"}',
    '{"a":1,"a":2}',
    '{"execute":"query-version","id":1.5}',
    '{"execute":"query-version","id":"\u00e4\\u20ac\\n"}',
    "{'execute':'query-version','id':'a\\'b\"c'}",
    '{"execute":"query-version","arguments":{},"id":null}',
    '{"execute":"query-commands"}',
    'tru ',
]


def kind(message):
    """What a client depends on: the member, the class, the id."""
    if "error" in message:
        return ("error", message["error"]["class"], repr(message.get("id", "none")))
    return ("return", repr(message.get("id", "none")))


def encode(text):
    # \xff stands for the byte; all else is UTF-8.
    return b"\xff".join(part.encode() for part in text.split("\xff"))


def test_every_answer_is_of_the_same_kind(simulated, reference):
    with simulated.talk(negotiate=False) as ours, \
            Conversation(reference, negotiate=False) as theirs:
        assert set(ours.greeting["QMP"]) == set(theirs.greeting["QMP"])
        assert set(ours.greeting["QMP"]["version"]) == set(theirs.greeting["QMP"]["version"])
        for text in CONVERSATION:
            ours.send(encode(text))
            theirs.send(encode(text))
            assert kind(ours.read()) == kind(theirs.read()), text
        assert ours.is_silent()
        assert theirs.is_silent()


def test_answers_have_the_same_spelling(simulated, reference):
    """Where the content is the same, the bytes are."""
    with simulated.talk(negotiate=False) as ours, \
            Conversation(reference, negotiate=False) as theirs:
        for text in ('{"execute":"qmp_capabilities"}', '{"execute":"quit"}'):
            ours.send(text)
            theirs.send(text)
            line = ours.line()
            while b"event" in (other := theirs.line()):
                pass
            assert line == other


def test_our_client_speaks_to_it(simulated, reference):
    answer = run(simulated.program, "ctl", "--json", reference, "query-version")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["qemu"]["major"] >= 5
    answer = run(simulated.program, "ctl", reference, "qom-list", "path=/")
    assert {"name": "type", "type": "string"} in json.loads(answer.stdout)
    answer = run(simulated.program, "ctl", reference, "qom-list", "path=5")
    assert answer.returncode == 1
    assert "expected: string" in answer.stderr
    # A table of a server that has another query-status.
    answer = run(simulated.program, "ctl", reference, "status")
    assert answer.returncode in (0, 1)
