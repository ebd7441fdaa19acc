"""What the control socket promises, whatever its clients do."""

import json
import os
import random
import socket
import stat

import pytest
from bed.qmp import QmpClient, QmpError
from bed.wait import PATIENCE, wait_until
from simulated import Conversation, Simulated, fds, switch

PING = '{"execute":"query-status","id":"ping"}'


def alive(simulated):
    """Another client is served as if nothing had happened."""
    with simulated.talk() as other:
        assert other.ask("query-status")["return"]["name"] == "u0"


def test_a_standard_client_can_use_it(simulated):
    with QmpClient(simulated.control) as client:
        assert client.greeting["QMP"]["capabilities"] == []
        assert client.greeting["QMP"]["version"] == client.execute("query-version")
        assert {"name": "query-vhost"} in client.execute("query-commands")
        with pytest.raises(QmpError) as refused:
            client.execute("x-vhost-enable-shadow-vq", {"name": "other", "enable": True})
        assert refused.value.error_class == "DeviceNotFound"


def test_only_its_owner_may_connect(simulated):
    mode = os.stat(simulated.control).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_half_a_message_waits_for_the_rest(simulated):
    with simulated.talk() as client:
        for byte in PING:
            assert not client.received
            client.send(byte)
        assert client.read()["id"] == "ping"


def test_many_commands_in_one_packet_are_answered_in_order(simulated):
    with simulated.talk() as client:
        count = 5000
        client.send("".join(f'{{"execute":"query-version","id":{i}}}' for i in range(count)))
        assert [client.read()["id"] for _ in range(count)] == list(range(count))


def test_answers_come_after_the_client_has_ended_its_half(simulated):
    with simulated.talk(negotiate=False) as client:
        client.send('{"execute":"qmp_capabilities"}' + PING)
        client.end()
        assert [list(message)[0] for message in client.rest()] == ["return", "return"]


def test_a_pending_answer_comes_after_the_client_has_ended_its_half(simulated):
    simulated.knob("hold")
    with simulated.talk() as client:
        client.send(switch(True) + PING)
        client.end()
        assert client.is_silent()
        simulated.release("hold")
        assert [message["id"] for message in client.rest()] == ["switch True", "ping"]


@pytest.mark.parametrize("garbage", [
    b"\xff", b"\xff" * 100, b"\x00", b"\x1b[2J ", b"}", b"]]]] ", b"nonsense ", b"1 ",
    b'{"execute":"query-status"] ', b"{'execute': \xff", b'{"execute":"\xc3\x28"}',
    b'{"unfinished string\n', b"[" * 100000 + b"]" * 100000, b'{"a":' * 70 + b"\xff",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", os.urandom(4096),
    b"\x80\x00\x00\x00" * 64], ids=lambda text: repr(text[:24]))
def test_after_garbage_the_next_command_is_answered(simulated, garbage):
    with simulated.talk() as client:
        client.send(garbage + b"\xff" + PING.encode())
        while "error" in (message := client.read()):
            assert message["error"]["class"] == "GenericError"
        assert message["id"] == "ping"
    alive(simulated)


def test_random_bytes_never_stop_it(simulated):
    seed = int(os.environ.get("UMBRA_SEED", random.randrange(1 << 32)))
    print("UMBRA_SEED", seed)
    chance = random.Random(seed)
    pieces = [PING.encode(), b"{", b"}", b"[", b"]", b'"', b"'", b"\\", b"\xff", b"\n", b":",
              b",", b'"execute"', b"query-vhost", b" ", b"\x80", b"null", b"1e9"]
    for _ in range(30):
        with simulated.talk() as client:
            client.send(b"".join(chance.choice(pieces) for _ in range(2000)) + b"\xff"
                        + PING.encode())
            while client.read().get("id") != "ping":
                pass
    alive(simulated)


def test_a_huge_message_is_an_error_and_the_end(simulated):
    with simulated.talk() as client:
        try:
            client.send(b'{"execute":"' + b"x" * (1 << 20) + b'"}')
        except (BrokenPipeError, ConnectionResetError):
            pass
        answers = client.rest()
        assert "larger than 1048576 bytes" in answers[0]["error"]["desc"]
        assert len(answers) == 1
    alive(simulated)


def test_a_large_message_is_answered(simulated):
    with simulated.talk() as client:
        text = "\u20ac" * 300000
        client.send(json.dumps({"execute": "query-version", "id": text}, ensure_ascii=False))
        assert client.read()["id"] == text


def test_a_client_that_never_reads_holds_up_nobody(simulated):
    with simulated.talk() as greedy:
        greedy.socket.setblocking(False)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += greedy.socket.send(b'{"execute":"query-vhost"}' * 100)
        except BlockingIOError:
            pass
        # Its commands stay in the socket as soon as its answers do.
        assert sent < 8 << 20
        alive(simulated)


def test_a_client_that_never_reads_gets_all_when_it_does(simulated):
    with simulated.talk() as late:
        count = 2000
        late.socket.setblocking(False)
        text = b"".join(b'{"execute":"query-vhost","id":%d}' % i for i in range(count))
        ids = []
        while text or len(ids) < count:
            try:
                text = text[late.socket.send(text):] if text else text
            except BlockingIOError:
                pass
            if not text or len(ids) < count // 2:
                late.socket.setblocking(True)
                ids.append(late.read()["id"])
                late.socket.setblocking(False)
        assert ids == list(range(count))


def test_a_client_that_ignores_events_is_disconnected(simulated):
    with simulated.talk() as deaf, simulated.talk() as other:
        for _ in range(300):
            simulated.knob("flood", "500")
            for _ in range(500):
                assert other.read()["event"]
            simulated.wait_done("flood")
            if "leaves" in simulated.log():
                break
        assert "bytes unread: disconnected" in simulated.log()
        assert all(message["event"] for message in deaf_rest(deaf))
    alive(simulated)


def deaf_rest(client):
    """What had been sent: whole messages, and perhaps a part of one."""
    client.socket.settimeout(PATIENCE)
    text = client.received
    while chunk := client.socket.recv(1 << 20):
        text += chunk
    return [json.loads(line) for line in text.split(b"\r\n")[:-1]]


def test_there_is_room_for_sixteen_clients(simulated):
    clients = [simulated.talk() for _ in range(16)]
    refused = Conversation(simulated.control, negotiate=False)
    assert "too many" in refused.greeting["error"]["desc"]
    assert refused.read() is None
    for client in clients:
        assert client.ask("query-status")["return"]
    clients.pop().socket.close()
    wait_until(lambda: "QMP" in Conversation(simulated.control, negotiate=False).greeting,
               "a place to be free")
    for client in clients:
        client.socket.close()


def test_clients_come_and_go_without_a_trace(simulated):
    with simulated.talk() as first:
        before = fds(simulated.process.pid)
        for i in range(500):
            client = simulated.talk(negotiate=bool(i % 2))
            client.send(PING[:i % len(PING)])
            client.socket.close()
        wait_until(lambda: fds(simulated.process.pid) == before, "all to be closed")
        assert first.ask("query-status")["return"]


def test_a_switch_is_answered_when_it_is_complete_and_others_go_on(simulated):
    simulated.knob("state", "passthrough")
    simulated.wait_done("state")
    simulated.knob("hold")
    with simulated.talk() as client, simulated.talk() as other:
        client.send(switch(True) + PING)
        assert client.is_silent()
        assert other.ask("query-status")["return"]["state"] == "passthrough"
        simulated.release("hold")
        messages = [client.read() for _ in range(3)]
        answers = [message for message in messages if "event" not in message]
        assert answers[0] == {"return": {}, "id": "switch True"}
        assert answers[1]["id"] == "ping"
        assert answers[1]["return"]["shadowed"] is True


def test_a_switch_that_fails_says_why(simulated):
    simulated.knob("refuse", "110 queue 0: 3 chains unfinished after 5000 ms")
    with simulated.talk() as client:
        client.send(switch(True))
        assert client.read()["error"] == {
            "class": "GenericError", "desc": "queue 0: 3 chains unfinished after 5000 ms"}
        assert client.ask("query-vhost")["return"]["switches"]["failed"] == 1


def test_a_second_switch_is_refused_while_one_is_under_way(simulated):
    simulated.knob("hold")
    with simulated.talk() as first, simulated.talk() as second:
        first.send(PING + switch(True))     # in one packet, so served in one go
        assert first.read()["id"] == "ping"
        refused = second.ask("x-vhost-enable-shadow-vq", {"name": "u0", "enable": False})
        assert "another switch is under way" in refused["error"]["desc"]
        simulated.release("hold")
        assert first.read()["return"] == {}


def test_a_client_may_leave_in_the_middle_of_a_switch(simulated):
    simulated.knob("hold")
    with simulated.talk() as client:
        client.send(switch(True))
        assert client.is_silent()
    alive(simulated)
    simulated.release("hold")
    wait_until(lambda: simulated.ctl(simulated.control, "status", "--json").stdout.find(
        '"shadow-wanted": true') > 0, "the switch to go on")


def test_the_end_of_the_program_answers_a_switch(simulated):
    simulated.knob("hold")
    with simulated.talk() as client:
        client.send(switch(True))
        assert client.is_silent()
        simulated.terminate()
        assert "stopped" in client.read()["error"]["desc"]
        assert client.read() is None


def test_events_reach_every_client_that_has_negotiated(simulated):
    with simulated.talk() as one, simulated.talk() as two, \
            simulated.talk(negotiate=False) as none:
        simulated.knob("state", "backend-lost the back-end closed the connection")
        simulated.wait_done("state")
        simulated.knob("break", "1 a used id is out of range")
        for client in (one, two):
            event = client.read()
            assert event["event"] == "SHADOW_STATE_CHANGE"
            assert event["data"] == {
                "name": "u0", "from": "waiting", "to": "backend-lost",
                "reason": "the back-end closed the connection"}
            assert set(event["timestamp"]) == {"seconds", "microseconds"}
            event = client.read()
            assert event["event"] == "SHADOW_QUEUE_BROKEN"
            assert event["data"] == {"name": "u0", "queue": 1,
                                     "reason": "a used id is out of range"}
        assert none.is_silent()
        status = one.ask("query-status")["return"]
        assert status["state"] == "backend-lost"
        assert status["reason"] == "the back-end closed the connection"
        assert one.ask("query-vhost")["return"]["queues"][0]["error"] == \
            "a used id is out of range"


def test_quit_is_answered_and_ends_the_program(simulated):
    with simulated.talk() as client:
        assert client.ask("quit", id=1) == {"return": {}, "id": 1}
        simulated.check_end()
        assert client.read() is None


def test_two_clients_may_quit_at_once(simulated):
    with simulated.talk() as one, simulated.talk() as two:
        one.command("quit")
        try:
            two.command("quit")
        except BrokenPipeError:
            pass                    # it was that fast
        simulated.check_end()


def test_it_still_serves_when_file_descriptors_run_out(bed):
    simulated = Simulated(bed)
    import resource
    used = fds(simulated.process.pid)
    resource.prlimit(simulated.process.pid, resource.RLIMIT_NOFILE, (used + 1, used + 20))
    first = simulated.talk()
    waiting = socket.socket(socket.AF_UNIX)
    waiting.connect(str(simulated.control))
    assert first.ask("query-status")["return"]
    wait_until(lambda: "cannot accept" in simulated.log(), "a word on it")
    resource.prlimit(simulated.process.pid, resource.RLIMIT_NOFILE, (used + 20, used + 20))
    waiting.settimeout(PATIENCE)
    assert waiting.recv(100).startswith(b'{"QMP"')
    waiting.close()
    first.socket.close()
