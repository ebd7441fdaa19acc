"""The socket for the VM: whose it is, who may connect, and what a second VM hears."""

import contextlib
import grp
import os
import socket
import stat

import pytest
from bed.backend import listens
from bed.process import Process
from bed.wait import PATIENCE, wait_until
from simulated import run


class Program:
    """The real program; its back-end is nowhere, its socket made all the same."""

    def __init__(self, bed, command, *options, name="s0", umask=0o022):
        self.bed = bed
        self.socket = bed.path("vm")
        words = [bed.program, command, f"--socket-path={self.socket}", f"--name={name}", *options]
        if command == "shadow":
            words.append(f"--backend=unix:{bed.path('nowhere')}")
        before = os.umask(umask)
        try:
            self.process = bed.start(Process(name, words, bed.log(name)))
        finally:
            os.umask(before)
        self.wait_log("listening at")

    def wait_log(self, *parts):
        def line():
            return next((line for line in self.process.output().splitlines()
                         if all(part in line for part in parts)), None)
        return wait_until(line, f"{parts} in the log")

    def end(self):
        self.process.popen.terminate()
        assert self.process.wait() == 0


@pytest.fixture(params=["shadow", "balloon"])
def command(request, bed):
    return request.param


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    return contextlib.closing(client)


def test_the_socket_has_the_mode_and_the_group_that_were_asked_for(bed, command):
    """Whatever the umask is."""
    group = os.getgid() if os.getuid() else grp.getgrnam("nogroup").gr_gid
    program = Program(bed, command, "--socket-mode=660", f"--socket-group={group}", umask=0o077)
    assert mode(program.socket) == 0o660
    assert os.stat(program.socket).st_gid == group
    program.end()
    assert not program.socket.exists()


def test_a_group_has_a_name(bed, command):
    name = grp.getgrgid(os.getgid()).gr_name
    program = Program(bed, command, f"--socket-group={name}", umask=0o007)
    assert os.stat(program.socket).st_gid == os.getgid()
    assert mode(program.socket) == 0o770
    program.end()


@pytest.mark.parametrize("option, part", [
    ("--socket-mode=0", "octal, 1 to 777"), ("--socket-mode=888", "octal, 1 to 777"),
    ("--socket-mode=7777", "octal"), ("--socket-mode=-1", "octal"), ("--socket-mode=", "octal"),
    ("--socket-group=no-such-group-here", "there is no such group"),
    ("--socket-group=", "there is no such group"),
    ("--socket-group=99999999999", "a number from 0")])
def test_a_wrong_mode_or_group_is_named(bed, command, option, part):
    done = run(bed.program, command, "--socket-path=/nowhere/vm", "--backend=unix:/x"
               if command == "shadow" else "--target=1G", option)
    assert done.returncode == 2
    assert option.split("=")[0] in done.stderr and part in done.stderr


def test_a_mode_without_a_socket_is_refused(bed, command):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run(bed.program, command, f"--fd={ours.fileno()}", "--socket-mode=660",
                   *(["--backend=unix:/x"] if command == "shadow" else []),
                   pass_fds=[ours.fileno()])
    assert done.returncode == 2
    assert "--socket-mode and --socket-group are for the socket" in done.stderr


def test_the_end_leaves_a_successors_socket_alone(bed, command):
    """Even one whose inode has the number that the old one had, where the file system
    gives numbers again."""
    first = Program(bed, command)
    first.socket.unlink()
    second = Program(bed, command, name="s1")
    first.end()
    assert listens(second.socket) and second.socket.exists()
    with connect(second.socket):
        second.wait_log("a VMM has come: pid")
    second.end()
    assert not second.socket.exists()


def test_a_second_vmm_is_turned_away_and_the_log_says_so(bed, command):
    if command == "shadow":
        # One that takes a connection and does not answer is enough of a back-end.
        backend = socket.socket(socket.AF_UNIX)
        backend.bind(str(bed.path("nowhere")))
        backend.listen()
    program = Program(bed, command)
    with connect(program.socket):
        program.wait_log("a VMM has come: pid", str(os.getpid()))
        with connect(program.socket) as second:
            assert second.recv(1) == b""                # at once, not in its turn
        line = program.wait_log("another VMM", "turned away")
        assert line.count(f"pid {os.getpid()}, ") == 2
    # The next one is welcome.
    with connect(program.socket):
        wait_until(lambda: program.process.output().count("a VMM has come") == 2, "the next VMM")
    program.end()
    if command == "shadow":
        backend.close()


def test_the_log_says_where_it_listens(bed, command):
    program = Program(bed, command)
    program.wait_log(f"listening at {program.socket} for a VMM")
    program.end()


@pytest.mark.parametrize("options, part", [
    (["--socket-path=/tmp/vm", "--backend=unix:/tmp/vm"], "--socket-path"),
    (["--socket-path=/tmp/vm", "--backend=unix:/tmp/../tmp/./vm"], "--socket-path"),
    (["--socket-path=/tmp/vm", "--control=/tmp/ctl", "--backend=unix:/tmp/ctl"], "--control"),
    (["--socket-path=/tmp/vm", "--control=/tmp//vm", "--backend=unix:/x"], "--socket-path")])
def test_a_device_is_not_its_own_back_end(program, options, part):
    done = run(program, "shadow", *options)
    assert done.returncode == 2
    assert "the same" in done.stderr and part in done.stderr
