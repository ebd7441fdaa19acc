"""What a program says, as it says it.

A thread reads it into the log and into a buffer, so that the program never
blocks on a full pipe.
"""

import threading

from .wait import PATIENCE


class Ended(Exception):
    """The program closed its output while something was expected of it."""


class Transcript:
    def __init__(self, name, reader, log):
        self._reader = reader
        self._log = log
        self._buffer = b""
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._pump, daemon=True, name=name)
        self._thread.start()

    def take(self, pattern, limit):
        """What came before the first match of pattern, and the match."""
        with self._changed:
            searched = 0
            while not (match := pattern.search(self._buffer, searched)):
                if self._ended:
                    raise Ended
                # A match may straddle two chunks.
                searched = max(0, len(self._buffer) - 64)
                self._changed.wait(limit.left())
            before = self._buffer[:match.start()]
            self._buffer = self._buffer[match.end():]
            return before, match

    def close(self):
        """Once the program has ended."""
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
