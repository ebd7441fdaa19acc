"""The command line: errors name the option, the value and what was expected."""

import json
import os
import socket

import pytest
from bed.wait import PATIENCE
from simulated import run

GOOD = ["--socket-path=/tmp/vm", "--backend=unix:/tmp/be"]
LONG = "/" + 120 * "x"

WRONG = [
    ([], ["--socket-path=PATH", "--connect=PATH", "--fd=N"]),
    (GOOD[:1], ["--backend=unix:PATH, listen:PATH or vdpa:PATH"]),
    (GOOD[1:], ["--socket-path=PATH"]),
    (["--fd=3", *GOOD], ["--fd=3", "no such file descriptor"]),
    (["--fd=0", GOOD[1]], ["--fd=0", "a number from 3"]),
    (["--fd=x", GOOD[1]], ["--fd=x", "a number from 3"]),
    (["--fd=-4", GOOD[1]], ["--fd=-4", "a number from 3"]),
    (["--fd=99999999999999999999", GOOD[1]], ["--fd=99999999999999999999", "a number"]),
    (["--fd=", GOOD[1]], ["--fd=", "a number"]),
    (["--socket-path=", GOOD[1]], ["--socket-path=", "path of a unix socket"]),
    ([f"--socket-path={LONG}", GOOD[1]], ["--socket-path=/xxx", "121 bytes", "at most 107"]),
    ([GOOD[0], "--backend=/tmp/be"], ["--backend=/tmp/be", "unix:PATH, listen:PATH or vdpa:PATH"]),
    ([GOOD[0], "--backend=unix:"], ["--backend=", "path of a unix socket"]),
    ([GOOD[0], f"--backend=unix:{LONG}"], ["--backend=/xxx", "at most 107"]),
    ([GOOD[0], "--backend=vdpa:"], ["--backend=vdpa:", "listen:PATH or vdpa:PATH"]),
    ([GOOD[0], "--backend=vdpa"], ["--backend=vdpa", "listen:PATH or vdpa:PATH"]),
    ([GOOD[0], "--backend=listen:"], ["--backend=", "path of a unix socket"]),
    ([GOOD[0], "--backend=listen:/tmp/vm"], ["--backend=listen:/tmp/vm", "--socket-path"]),
    ([*GOOD, "--connect=/tmp/qemu"], ["exclude each other"]),
    (["--connect=", GOOD[1]], ["--connect=", "path of a unix socket"]),
    (["--connect=/tmp/be", GOOD[1]], ["--backend=unix:/tmp/be", "--connect"]),
    (["--connect=/tmp/q", GOOD[1], "--control=/tmp/q"], ["--control=/tmp/q", "--connect"]),
    ([*GOOD, "--control="], ["--control=", "path of a unix socket"]),
    ([*GOOD, "--control=/tmp/vm"], ["--control=/tmp/vm", "--socket-path"]),
    ([*GOOD, "--shadow=maybe"], ["--shadow=maybe", "auto, on or off"]),
    ([*GOOD, "--shadow="], ["--shadow=", "auto, on or off"]),
    ([*GOOD, "--name="], ["--name=", "1 to 64"]),
    ([*GOOD, "--name=a b"], ["--name=a b", "letters, digits"]),
    ([*GOOD, "--name=" + 65 * "n"], ["--name=nnn", "1 to 64"]),
    ([*GOOD, "--switch-deadline=0"], ["--switch-deadline=0", "1 to 3600000"]),
    ([*GOOD, "--switch-deadline=5s"], ["--switch-deadline=5s", "1 to 3600000"]),
    ([*GOOD, "--switch-deadline= 5"], ["--switch-deadline= 5", "1 to 3600000"]),
    ([*GOOD, "--threads=0"], ["--threads=0", "1 to 64"]),
    ([*GOOD, "--threads=65"], ["--threads=65", "1 to 64"]),
    ([*GOOD, "--threads"], ["--threads", "a value is missing"]),
    ([*GOOD, "--table-max=0"], ["--table-max=0", "1 to 32768"]),
    ([*GOOD, "--table-max=32769"], ["--table-max=32769", "1 to 32768"]),
    ([*GOOD, "--shadow-memory=5000"], ["--shadow-memory=5000", "whole pages of 4096"]),
    ([*GOOD, "--shadow-memory=2T"], ["--shadow-memory=2T", "1T at most"]),
    ([*GOOD, "--shadow-memory=0"], ["--shadow-memory=0"]),
    ([*GOOD, "--reconnect"], ["--reconnect", "--device-type=block, scsi, net"]),
    ([*GOOD, "--device-type=floppy"], ["--device-type=floppy", "vsock", "or other"]),
    ([*GOOD, "--on-loss=pray"], ["--on-loss=pray", "replay, reset or hold"]),
    ([*GOOD, "--on-loss=hold"], ["--on-loss", "--reconnect", "both or none"]),
    ([*GOOD, "--verbose=1"], ["--verbose=1", "takes no value"]),
    ([*GOOD, "--frobnicate"], ["--frobnicate", "no such option"]),
    ([*GOOD, "--frobnicate=3"], ["--frobnicate=3", "no such option"]),
    ([*GOOD, "-x"], ["-x", "no such option"]),
    ([*GOOD, "--s"], ["--s", "no such option"]),
    ([*GOOD, "stray"], ["stray", "only options"]),
]


@pytest.mark.parametrize("words, parts", WRONG, ids=lambda case: " ".join(case)[:60])
def test_a_wrong_option_is_named_with_what_was_expected(program, words, parts):
    done = run(program, "shadow", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("umbra shadow: ")
    assert done.stderr.count("\n") == 1
    for part in parts:
        assert part in done.stderr


def test_socket_path_and_fd_exclude_each_other(program):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = run(program, "shadow", f"--fd={ours.fileno()}", *GOOD,
                   pass_fds=[ours.fileno()])
        assert done.returncode == 2
        assert "--socket-path, --connect and --fd exclude each other" in done.stderr


def test_fd_must_be_a_unix_stream_socket(program):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram, \
            socket.socket() as tcp, open(os.devnull) as device:
        for thing, part in ((datagram, "another kind"), (tcp, "another kind"),
                            (device, "non-socket")):
            done = run(program, "shadow", f"--fd={thing.fileno()}", GOOD[1],
                       pass_fds=[thing.fileno()])
            assert done.returncode == 2
            assert "expected a unix stream socket" in done.stderr
            assert part in done.stderr


CTL_WRONG = [
    ([], ["expected SOCKET and COMMAND"]),
    (["/tmp/ctl"], ["expected SOCKET and COMMAND"]),
    (["/tmp/ctl", "shadow"], ["shadow on", "shadow off"]),
    (["/tmp/ctl", "shadow", "up"], ["shadow up", "'shadow on'"]),
    (["/tmp/ctl", "shadow", "on", "off"], ["shadow on"]),
    (["/tmp/ctl", "events", "all"], ["events all"]),
    (["/tmp/ctl", "status", "--count=3"], ["--count=3", "events"]),
    (["/tmp/ctl", "events", "--count=0"], ["--count=0", "a number from 1"]),
    (["/tmp/ctl", "status", "--timeout=-1"], ["--timeout=-1", "0 to 86400"]),
    (["/tmp/ctl", "x", "name"], ["name: expected KEY=VALUE", "the command 'x'"]),
    (["/tmp/ctl", "shadwo", "on"], ["no command 'shadwo'", "did you mean 'shadow'?"]),
    (["/tmp/ctl", "ballon", "1G"], ["no command 'ballon'", "did you mean 'balloon'?"]),
    (["/tmp/ctl", "status", "u0"], ["u0: expected KEY=VALUE", "the command 'status'"]),
    (["/tmp/ctl", "stats", "now"], ["stats now: expected no more words"]),
    (["/tmp/ctl", "x", "=1"], ["=1: expected KEY=VALUE"]),
    (["/tmp/ctl", "x", "a=1", "a=2"], ["a: given twice"]),
    (["/tmp/ctl", "x", "a=[1"], ["a=[1", "begins like JSON"]),
    (["/tmp/ctl", "x", 'a="b'], ['a="b', "begins like JSON"]),
    (["/tmp/ctl", "x", b"a=\xff"], ["a: the value is not UTF-8"]),
    (["/tmp/ctl", "x", "--frob"], ["--frob", "no such option"]),
]


@pytest.mark.parametrize("words, parts", CTL_WRONG, ids=lambda case: repr(case)[:60])
def test_a_wrong_word_of_ctl_is_named_with_what_was_expected(program, words, parts):
    import subprocess
    done = subprocess.run([str(program), "ctl", *words], capture_output=True, timeout=PATIENCE)
    error = done.stderr.decode(errors="replace")
    assert done.returncode == 2, error
    assert error.startswith("umbra ctl: ")
    for part in parts:
        assert part in error


def test_help_is_on_standard_output(program):
    for words in (["--help"], ["-h"], ["help"], ["help", "shadow"], ["shadow", "--help"],
                  ["shadow", "-h"], ["help", "ctl"], ["ctl", "--help"]):
        done = run(program, *words)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: umbra ")
        assert done.stderr == ""


def test_the_version_is_on_standard_output(program, build):
    version = json.loads((build / "meson-info/intro-projectinfo.json").read_text())["version"]
    for word in ("--version", "-V"):
        assert run(program, word).stdout == f"umbra {version}\n"


def test_an_unknown_command_is_named(program):
    for words in (["frobnicate"], ["help", "frobnicate"], ["--frobnicate"]):
        done = run(program, *words)
        assert done.returncode == 2
        assert "frobnicate" in done.stderr


def test_no_command_is_an_error_with_help(program):
    done = run(program)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: umbra ")


def test_a_full_disk_behind_standard_output_is_an_error(program):
    with open("/dev/full", "w") as full:
        import subprocess
        done = subprocess.run([str(program), "--help"], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "standard output" in done.stderr
