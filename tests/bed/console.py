"""A guest's console: shell commands in, output and exit status out.

The other half is the init in initramfs.py.
"""

import base64
import re
from typing import NamedTuple

from .transcript import Ended, Transcript
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
        self._writer = writer
        self._transcript = Transcript(f"console of {name}", reader, log)

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
        self._transcript.close()

    def _take(self, pattern, limit):
        try:
            return self._transcript.take(pattern, limit)
        except Ended:
            raise GuestDied(f"{self.name} ended while waiting for "
                            f"{limit.what}") from None
