"""A guest's console: shell commands in, output and exit status out.

The other half is the init in initramfs.py.  A thread reads the console into
the log and into a buffer, so that a guest never blocks on a full pipe.
"""

import base64
import re
import threading
from typing import NamedTuple

from .wait import PATIENCE, Deadline

_READY = re.compile(rb"<<ready>>\r?\n")
_STATUS = re.compile(rb"\r?\n<<status (\d+)>>\r?\n")


class GuestDied(Exception):
    """The console ended while something was expected of it."""


class CommandFailed(AssertionError):
    """A command in the guest ended with a status that was not expected."""


class Result(NamedTuple):
    status: int
    output: str


class Console:
    def __init__(self, name, reader, writer, log):
        self.name = name
        self._reader, self._writer = reader, writer
        self._log = log
        self._buffer = b""
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._pump, daemon=True,
                                        name=f"console of {name}")
        self._thread.start()

    def wait_ready(self, deadline=PATIENCE):
        """Until the guest's init takes commands."""
        self._take(_READY, Deadline(deadline, f"{self.name} to boot"))

    def command(self, text, deadline=PATIENCE):
        """Run shell text in the guest; one command at a time."""
        self.send(text)
        output, status = self._take(
            _STATUS, Deadline(deadline, f"{self.name} to finish: {text}"))
        return Result(int(status[1]),
                      output.decode(errors="replace").replace("\r\n", "\n"))

    def send(self, text):
        """Give a command, and do not ask for its end."""
        self._writer.write(base64.b64encode(text.encode()) + b"\n")

    def close(self):
        self._writer.close()
        self._thread.join(PATIENCE)
        self._reader.close()

    def _pump(self):
        with open(self._log, "ab", buffering=0) as log:
            while chunk := self._reader.read(65536):
                log.write(chunk)
                with self._changed:
                    self._buffer += chunk
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _take(self, pattern, limit):
        """What came before the first match of pattern, and the match."""
        with self._changed:
            searched = 0
            while not (match := pattern.search(self._buffer, searched)):
                if self._ended:
                    raise GuestDied(f"{self.name} ended while waiting for "
                                    f"{limit.what}")
                # A match may straddle two chunks.
                searched = max(0, len(self._buffer) - 64)
                self._changed.wait(limit.left())
            before = self._buffer[:match.start()]
            self._buffer = self._buffer[match.end():]
            return before, match
