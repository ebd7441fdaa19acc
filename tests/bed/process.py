"""A started program: its output in a log file, its end assured."""

import os
import signal
import subprocess

from .wait import PATIENCE, TimedOut


class Process:
    """A program in a process group of its own, so that it can be ended with
    all its children.  Standard output and standard error go to the log."""

    def __init__(self, name, argv, log, env=None, console=False, pass_fds=()):
        """With console, standard input and output are pipes for the caller,
        who is then also the one to write the log."""
        self.name = name
        self.argv = [str(word) for word in argv]
        self.log = log
        pipe = subprocess.PIPE if console else None
        with open(log, "ab") as sink:
            sink.write(f"$ {' '.join(self.argv)}\n".encode())
            sink.flush()
            self.popen = subprocess.Popen(
                self.argv,
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or sink,
                stderr=sink,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                pass_fds=pass_fds,
                bufsize=0)

    @property
    def pid(self):
        return self.popen.pid

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        """To the program itself, not to its children."""
        self.popen.send_signal(number)

    def wait(self, deadline=PATIENCE):
        """The exit status; negative for a signal."""
        try:
            return self.popen.wait(deadline)
        except subprocess.TimeoutExpired:
            raise TimedOut(f"waited {deadline:g} s in vain for the end of "
                           f"{self.name} (pid {self.pid})") from None

    def kill(self):
        """End it, with its children, at once; no harm if it has ended."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.wait()

    def stop(self):
        """What the bed does at the end of a test."""
        self.kill()

    def output(self):
        return self.log.read_text(errors="replace")

    def tail(self, lines=40):
        return "\n".join(self.output().splitlines()[-lines:])
