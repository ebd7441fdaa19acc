"""The program with a simulated device, and conversations with it."""

import json
import os
import re
import signal
import socket
import subprocess

from bed.backend import listens
from bed.process import Process
from bed.wait import PATIENCE, Deadline, TimedOut, wait_until

#: What a sanitizer says when it has found something.
FINDING = re.compile(r"Sanitizer|runtime error:")


def free_of_findings(output):
    assert not FINDING.search(output), f"a sanitizer found:\n{output}"


class Simulated:
    """umbra-simulated; see simulated_device.h for what the knobs do."""

    command = "shadow"

    def __init__(self, bed, name="u0", *options):
        self.bed = bed
        self.name = name
        self.program = bed.build / "tests/cli/umbra-simulated"
        assert self.program.exists(), f"{self.program} is not built"
        self.socket = bed.path(f"{name}.vm")
        self.control = bed.path(f"{name}.ctl")
        self.knobs = bed.path(f"{name}.vm.knobs")
        self.knobs.mkdir()
        self.process = bed.start(Process(
            name,
            [self.program, self.command, f"--socket-path={self.socket}",
             f"--control={self.control}", f"--name={name}", *self.backend(), *options],
            bed.log(name)), stop=self._finish)
        wait_until(self._ready, f"{name} to listen on its two sockets")

    def backend(self):
        return [f"--backend=unix:{self.knobs}"]

    def _ready(self):
        assert self.process.alive(), f"it ended: {self.process.tail()}"
        return listens(self.socket) and listens(self.control)

    def knob(self, name, text=""):
        """Turn it, whole or not at all."""
        written = self.knobs / f".{name}"
        written.write_text(text)
        written.rename(self.knobs / name)

    def release(self, name):
        (self.knobs / name).unlink()

    def wait_done(self, name):
        wait_until(lambda: not (self.knobs / name).exists(), f"knob {name} to be taken")

    def talk(self, negotiate=True):
        return Conversation(self.control, negotiate)

    def ctl(self, *words, **options):
        return run(self.program, "ctl", *map(str, words), **options)

    def log(self):
        return self.process.output()

    def terminate(self, number=signal.SIGTERM):
        self.process.signal(number)
        self.check_end()

    def check_end(self, status=0):
        assert self.process.wait() == status, self.process.tail()
        assert not self.socket.exists()
        assert not self.control.exists()
        free_of_findings(self.log())

    def _finish(self):
        try:
            if self.process.alive():
                self.terminate()
        finally:
            self.process.kill()


class SimulatedBalloon(Simulated):
    """The same as a balloon; see simulated_balloon.h."""

    command = "balloon"

    def backend(self):
        return []


def run(*words, **options):
    """A program that ends by itself."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True,
                          timeout=PATIENCE, **options)
    free_of_findings(done.stderr)
    return done


class Conversation:
    """A client that sees every byte."""

    def __init__(self, path, negotiate=True):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.received = b""
        self.greeting = self.read()
        if negotiate:
            assert self.ask("qmp_capabilities") == {"return": {}}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, text):
        self.socket.sendall(text if isinstance(text, bytes) else text.encode())

    def line(self, deadline=PATIENCE):
        """The next line, with its end; b"" at the end of the stream."""
        limit = Deadline(deadline, "a line")
        while b"\n" not in self.received:
            self.socket.settimeout(limit.left())
            try:
                chunk = self.socket.recv(1 << 20)
            except TimeoutError:
                raise TimedOut("waited in vain for a line") from None
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                assert not self.received, f"ended in the middle of {self.received!r}"
                return b""
            self.received += chunk
        line, _, self.received = self.received.partition(b"\n")
        return line + b"\n"

    def read(self, deadline=PATIENCE):
        """The next message; None at the end."""
        line = self.line(deadline)
        if not line:
            return None
        assert line.endswith(b"\r\n")
        assert line.isascii()
        return json.loads(line)

    def is_silent(self, seconds=0.05):
        """Nothing comes for a while."""
        self.socket.settimeout(seconds)
        try:
            self.received += self.socket.recv(1, socket.MSG_PEEK)[:0] or b""
            return False
        except TimeoutError:
            return not self.received

    def command(self, name, arguments=None, **members):
        message = {"execute": name, **members}
        if arguments is not None:
            message["arguments"] = arguments
        self.send(json.dumps(message))

    def ask(self, name, arguments=None, **members):
        self.command(name, arguments, **members)
        return self.read()

    def end(self):
        """No more from here; answers still come."""
        self.socket.shutdown(socket.SHUT_WR)

    def rest(self):
        """All messages up to the end."""
        messages = []
        while (message := self.read()) is not None:
            messages.append(message)
        return messages


def switch(enable, name="u0"):
    return json.dumps({"execute": "x-vhost-enable-shadow-vq", "id": f"switch {enable}",
                       "arguments": {"name": name, "enable": enable}})


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
