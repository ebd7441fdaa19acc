"""The project's front-end on the host: several threads and queues, memory in odd
layouts, and a control client of its own, on a real disk through umbra.  And what
it is worth: it notices a device that does not do as it says."""

import contextlib
import json
import subprocess

import pytest
from bed.wait import PATIENCE


def front(bed, umbra, *words):
    """(exit status, answers, complaints) of the front-end with these words."""
    done = subprocess.run(
        [bed.build / "tests/front/front", f"--socket={umbra.socket}",
         f"--control={umbra.control}", f"--name={umbra.name}", *words],
        capture_output=True, text=True, timeout=PATIENCE)
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]
    return done.returncode, answers, done.stderr


@contextlib.contextmanager
def running(bed, umbra, *words):
    """The front-end at work: a function that gives it a command, and returns its
    answer.  It is killed in the end."""
    with subprocess.Popen(
            [bed.build / "tests/front/front", f"--socket={umbra.socket}",
             f"--control={umbra.control}", f"--name={umbra.name}", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        def ask(command):
            print(command, file=process.stdin)
            return json.loads(process.stdout.readline())
        yield ask
        process.kill()


@pytest.mark.parametrize("words", [
    pytest.param([], id="one-region"),
    pytest.param(["--regions=5", "--gpa-gap=0x5000"], id="regions-apart"),
    # qemu-storage-daemon takes a segment across a border, in an indirect table, for
    # a loop.
    pytest.param(["--regions=7", "--one-file", "--no-indirect",
                  "--gpa-base=0x7f0000000000"], id="regions-adjoining"),
    pytest.param(["--no-indirect", "--no-event-idx", "--ring-size=16"], id="small-ring"),
])
def test_verified_load_on_four_queues_survives_switching(bed, words):
    umbra = bed.umbra(bed.backend(queues=4))
    status, answers, complaints = front(
        bed, umbra, *words, "blk", "threads=8", "depth=8", "wait 1000", "switch 300 50", "stop")
    assert status == 0, complaints
    assert [answer["command"] for answer in answers] == ["wait", "switch", "stop"]
    assert answers[1]["switches"] == 300
    assert answers[2]["reads"] > 0 and answers[2]["writes"] > 0
    assert umbra.switches()["count"] == 300 and umbra.switches()["failed"] == 0


@pytest.mark.parametrize("size", [16, 64])
def test_tables_longer_than_the_queue_survive_switching(bed, size):
    umbra = bed.umbra(bed.backend())
    with running(bed, umbra, f"--ring-size={size}", "--table-max=300", "blk", "threads=8",
                 "depth=8", "pieces=256") as ask:
        for command in ["wait 200", "switch 100 20", "shadow on", "wait 200"]:
            assert ask(command)["errors"] == 0
        # Noted for who looks, and said once.
        assert umbra.vhost()["queues"][0]["table-longest"] > 200
        assert ask("stop")["errors"] == 0
    assert umbra.switches()["failed"] == 0
    assert umbra.process.output().count("longer than the ring") == 1


def test_the_bound_on_tables_can_be_set_and_breaks_the_queue_with_both_numbers(bed):
    umbra = bed.umbra(bed.backend(), options=["--table-max=100"])
    with running(bed, umbra, "--ring-size=64", "--table-max=300", "blk", "pieces=256") as ask:
        assert ask("wait 200")["errors"] == 0
        ask("shadow on")
        assert "expected 100 at most" in umbra.wait_state("broken")["reason"]


def test_it_notices_a_disk_that_forgets(bed):
    umbra = bed.umbra(bed.backend(null=True))
    status, answers, complaints = front(bed, umbra, "blk", "wait 100", "stop")
    assert status == 1
    assert answers[-1]["errors"] > 0
    assert "word 0 is 0x0, not" in complaints


def test_it_notices_a_disk_that_hangs(bed):
    backend = bed.backend()
    umbra = bed.umbra(backend)
    with subprocess.Popen(
            [bed.build / "tests/front/front", f"--socket={umbra.socket}", "--patience=10", "blk"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, bufsize=1) as running:
        print("wait 100", file=running.stdin)
        assert json.loads(running.stdout.readline())["errors"] == 0
        backend.freeze()
        print("wait 1000000000", file=running.stdin)
        complaints = running.stderr.read()
        backend.thaw()
    assert running.returncode == 1
    assert "nothing has come back for 10 seconds" in complaints


def test_it_says_why_a_switch_was_refused(bed):
    umbra = bed.umbra(bed.backend(), shadow="off")
    status, answers, complaints = front(bed, umbra, "blk", "wait 10", "refused on", "wait 10",
                                        "switch 1", "stop")
    assert "off" in answers[1]["answer"]["error"]["desc"]
    assert status == 1 and "switch 1 of 1" in complaints
