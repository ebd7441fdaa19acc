"""umbra ctl: what a person and a script see."""

import json
import socket
import subprocess
import threading

import pytest
from bed.wait import PATIENCE, wait_until
from simulated import run


def test_status_is_a_short_table(simulated):
    done = simulated.ctl(simulated.control, "status")
    assert done.returncode == 0
    rows = dict(line.split(None, 1) for line in done.stdout.splitlines())
    assert rows["name"] == "u0"
    assert rows["state"] == "waiting"
    assert rows["shadow"] == "auto"
    assert rows["shadowed"] == "false"


def test_queues_are_a_table_that_fits_its_headings(simulated):
    done = simulated.ctl(simulated.control, "queues")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("queue "))
    names = lines[heading].split()
    cells = dict(zip(names, lines[heading + 1].split()))
    assert cells["size"] == "256"
    assert cells["requests"] == "1000001"
    assert cells["avail"] == "65535"
    assert len(lines[heading + 2].split()) == len(names)


def test_a_broken_queue_is_shown_with_its_reason(simulated):
    simulated.knob("break", "0 a used id is out of range")
    simulated.wait_done("break")
    assert "broken: a used id is out of range" in simulated.ctl(
        simulated.control, "queues").stdout


def test_queues_show_what_is_behind_the_device(simulated):
    lines = simulated.ctl(simulated.control, "queues").stdout.splitlines()
    rows = {line[:15].strip(): line[15:] for line in lines}
    assert rows["kind"] == "vhost-vdpa"
    assert rows["device"] == "block"
    assert rows["stopping"] == "with a simulated bang"
    assert rows["abilities"].startswith("0x17e VHOST_BACKEND_F_IOTLB_MSG_V2 ")
    assert "VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK" in rows["abilities"]
    assert rows["iova first"] == "0x1000"
    assert rows["iova last"] == "0xffffffffffffffff"
    assert rows["mapped bytes"] == str(1 << 33)
    assert rows["translated"] == "true"


def test_the_answers_say_what_is_behind_the_device(simulated):
    with simulated.talk() as client:
        assert client.ask("query-status")["return"]["backend"] == "vhost-vdpa"
        backend = client.ask("query-vhost")["return"]["backend"]
    assert backend["address"] == str(simulated.knobs)
    assert backend["device-id"] == 2
    assert backend["device-type"] == "block"
    assert backend["queues-max"] == 3
    assert backend["queue-size-max"] == 256
    assert backend["abilities"]["bits"] == "0x17e"
    assert backend["iova-range"] == {"first": "0x1000", "last": "0xffffffffffffffff"}
    assert backend["mapped"] == {"ranges": 4, "bytes": 1 << 33, "translated": True}


@pytest.mark.parametrize("word", ["status", "query-status", "queues", "query-vhost",
                                  "query-commands"])
def test_json_is_one_line_of_json(simulated, word):
    done = simulated.ctl("--json", simulated.control, word)
    assert done.stdout.count("\n") == 1
    json.loads(done.stdout)


def test_shadow_on_and_off_switch(simulated):
    simulated.knob("state", "passthrough")
    simulated.wait_done("state")
    done = simulated.ctl(simulated.control, "shadow", "on")
    assert done.returncode == 0
    assert "shadowed       true" in done.stdout
    done = simulated.ctl("--json", simulated.control, "shadow", "off")
    assert json.loads(done.stdout)["state"] == "passthrough"


def test_a_switch_that_fails_is_an_error_with_its_reason(simulated):
    simulated.knob("refuse", "110 queue 0: the back-end did not finish")
    done = simulated.ctl(simulated.control, "shadow", "on")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == "umbra ctl: queue 0: the back-end did not finish\n"


@pytest.mark.parametrize("word, hint", [
    ("statsu", "did you mean 'status'?"), ("staus", "did you mean 'status'?"),
    ("eventss", "did you mean 'events'?"), ("query-verson", "did you mean 'query-version'?"),
    ("name=u0", "a KEY=VALUE stands behind a COMMAND"), ("frobnicate", None)])
def test_a_mistyped_command_is_told_with_what_was_meant(simulated, word, hint):
    done = simulated.ctl(simulated.control, word)
    assert done.returncode == 1
    assert f"there is no command '{word}'" in done.stderr
    assert hint in done.stderr if hint else "did you mean" not in done.stderr


def test_any_command_can_be_sent_with_arguments(simulated):
    done = simulated.ctl(simulated.control, "x-vhost-enable-shadow-vq", "name=u0",
                         "enable=true")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {}
    done = simulated.ctl(simulated.control, "x-vhost-enable-shadow-vq", "name=u0",
                         'enable="true"')
    assert done.returncode == 1
    assert "'enable' is a string, expected true or false" in done.stderr


def test_values_are_json_or_else_strings(bed, simulated):
    """Asked of a server that tells what came."""
    listener = socket.socket(socket.AF_UNIX)
    path = bed.path("echo")
    listener.bind(str(path))
    listener.listen()

    def serve():
        peer, _ = listener.accept()
        with peer, peer.makefile("rwb", buffering=0) as stream:
            stream.write(b'{"QMP": {"version": {}, "capabilities": []}}\r\n')
            stream.readline()
            stream.write(b'{"event": "FIRST"}\r\n{"return": {}, "id": 1}\r\n')
            request = json.loads(stream.readline())
            stream.write(b'{"return": "to somebody else", "id": 77}\r\n')
            stream.write(json.dumps({"return": request["arguments"],
                                     "id": request["id"]}).encode() + b"\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    done = run(simulated.program, "ctl", "--json", path, "echo", "a=1", "b=true", "c=null",
               "d=text", 'e="1"', "f=[1, 2]", "g={\"h\": 1.5}", "i=", "j=a=b", "k=-3", "l=1x")
    thread.join()
    listener.close()
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "a": 1, "b": True, "c": None, "d": "text", "e": "1", "f": [1, 2], "g": {"h": 1.5},
        "i": "", "j": "a=b", "k": -3, "l": "1x"}


def test_events_are_printed_as_they_come(simulated):
    process = subprocess.Popen(
        [simulated.program, "ctl", simulated.control, "events", "--count=2"],
        stdout=subprocess.PIPE, text=True)
    with simulated.talk() as other:
        # Its connection is there before the event: a client more.
        wait_until(lambda: len(clients(simulated)) >= 2, "the follower to connect")
        while process.poll() is None:
            simulated.knob("state", "broken the reason")
            simulated.wait_done("state")
            assert other.read()["event"] == "SHADOW_STATE_CHANGE"
    lines = process.communicate(timeout=PATIENCE)[0].splitlines()
    assert process.returncode == 0
    assert len(lines) == 2
    assert "SHADOW_STATE_CHANGE name=u0 from=" in lines[0]
    assert lines[0].endswith("to=broken reason=the reason")


def clients(simulated):
    with open("/proc/net/unix") as sockets:
        return [line for line in sockets
                if line.split()[-1] == str(simulated.control) and line.split()[5] == "03"]


def test_events_end_with_the_program(simulated):
    process = subprocess.Popen(
        [simulated.program, "ctl", "--json", simulated.control, "events"],
        stdout=subprocess.PIPE, text=True)
    wait_until(lambda: clients(simulated), "the follower to connect")
    simulated.terminate()
    process.communicate(timeout=PATIENCE)
    # Ended while it was greeting, or later: an error, or the end of the events.
    assert process.returncode in (0, 1)


def test_quit_ends_the_program(simulated):
    assert simulated.ctl(simulated.control, "quit").returncode == 0
    simulated.check_end()


def test_no_server_is_an_error_that_names_the_socket(simulated, bed):
    done = simulated.ctl(bed.path("nobody"), "status")
    assert done.returncode == 1
    assert f"{bed.path('nobody')}: cannot connect: No such file" in done.stderr


def test_a_silent_server_is_given_up_after_the_timeout(simulated, bed):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bed.path("silent")))
        listener.listen()
        done = simulated.ctl("--timeout=1", bed.path("silent"), "status")
    assert done.returncode == 1
    assert "no answer within 1000 ms" in done.stderr


def test_a_switch_that_takes_too_long_is_given_up(simulated):
    simulated.knob("hold")
    done = simulated.ctl("--timeout=1", simulated.control, "shadow", "on")
    assert done.returncode == 1
    assert "no answer within 1000 ms" in done.stderr
    simulated.release("hold")


@pytest.mark.parametrize("greeting", [
    b"", b"HTTP/1.1 400 Bad Request\r\n", b"[]\r\n", b"{}\r\n", b'{"QMP": 1', b"\xff\n",
    b"\x00\x00\x00\n"], ids=repr)
def test_a_server_of_another_kind_is_an_error(simulated, bed, greeting):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bed.path("other")))
    listener.listen()

    def serve():
        peer, _ = listener.accept()
        with peer:
            peer.sendall(greeting)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    done = simulated.ctl(bed.path("other"), "status")
    thread.join()
    listener.close()
    assert done.returncode == 1
    assert str(bed.path("other")) in done.stderr


def test_what_a_server_says_cannot_steer_the_terminal(simulated, bed):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bed.path("evil")))
    listener.listen()

    def serve():
        for answer in (b'"error": {"class": "GenericError", "desc": "a\\u001b[2Jb\\u009bc"}',
                       b'"return": {"name": "a\\u001b[2J\\u007f\\n", "state": 5}'):
            peer, _ = listener.accept()
            with peer, peer.makefile("rwb", buffering=0) as stream:
                stream.write(b'{"QMP": {}}\r\n')
                stream.readline()
                stream.write(b'{"return": {}, "id": 1}\r\n')
                stream.readline()
                stream.write(b'{"id": 2, ' + answer + b"}\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    failed = simulated.ctl(bed.path("evil"), "status")
    shown = simulated.ctl(bed.path("evil"), "status")
    thread.join()
    listener.close()
    assert failed.stderr == "umbra ctl: a?[2Jb?c\n"
    assert shown.stdout.splitlines()[0] == "name           a?[2J??"
    assert shown.stdout.splitlines()[1] == "state          5"


def test_the_seventeenth_client_is_told_why_it_is_refused(simulated):
    others = [simulated.talk() for _ in range(16)]
    done = simulated.ctl(simulated.control, "status")
    for other in others:
        other.socket.close()
    assert done.returncode == 1
    assert "too many control clients" in done.stderr
