"""Nothing is left behind: memory and descriptors, as valgrind sees them."""

import shutil
import signal
import subprocess

import pytest
from bed.backend import listens
from bed.process import Process
from bed.wait import PATIENCE, wait_until
from simulated import Conversation, switch

pytestmark = pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")

VALGRIND = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=9"]


@pytest.fixture(autouse=True)
def plain(build):
    program = build / "tests/cli/umbra-simulated"
    if b"__tsan_init" in (text := program.read_bytes()) or b"__asan_init" in text:
        pytest.skip("has a sanitizer")
    return program


def test_a_server_that_ends_amid_everything_leaves_nothing_behind(bed, plain):
    knobs, control = bed.path("knobs"), bed.path("ctl")
    knobs.mkdir()
    process = bed.start(Process(
        "valgrind", [*VALGRIND, plain, "shadow", f"--socket-path={bed.path('vm')}",
                     f"--backend=unix:{knobs}", f"--control={control}", "--name=u0"],
        bed.log("valgrind")))
    wait_until(lambda: listens(control), "the control socket")
    (knobs / "hold").touch()
    clients = [Conversation(control, negotiate=i != 5) for i in range(16)]
    refused = Conversation(control, negotiate=False)
    clients[0].send(switch(True) + '{"execute":"query-status"}')
    clients[1].send('{"execute":"query-vhost","id":[[[')
    clients[2].send(b"\xff}]nonsense")
    clients[3].send('{"execute":"query-vhost"}' * 5000)
    clients[4].send('{"execute":"query-status"}')
    clients[4].socket.close()
    assert clients[6].ask("query-vhost")["return"]
    (knobs / "flood").write_text("100")
    wait_until(lambda: not (knobs / "flood").exists(), "the events")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.output()
    for client in (*clients, refused):
        client.socket.close()


def test_a_client_leaves_nothing_behind(simulated, plain):
    for words, status in ((["queues"], 0), (["shadow", "on"], 0), (["nothing", "a=1"], 1),
                          (["nothing", "a=1", "a=2"], 2), (["status", "--frob"], 2)):
        done = subprocess.run([*VALGRIND, plain, "ctl", simulated.control, *words],
                              capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == status, done.stderr
