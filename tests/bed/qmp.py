"""A small QMP client: one socket, replies by id, events kept in order."""

import collections
import json
import socket

from .wait import PATIENCE, Deadline, TimedOut


class QmpError(Exception):
    """The other side answered with an error; .reason is its description."""

    def __init__(self, command, error):
        self.error_class = error.get("class")
        self.reason = error.get("desc", "")
        super().__init__(f"{command}: {self.reason} ({self.error_class})")


class QmpClosed(ConnectionError):
    """The other side closed the connection."""


class QmpClient:
    def __init__(self, path, deadline=PATIENCE):
        """Connect and leave the negotiation mode."""
        self.path = path
        self.events = collections.deque()
        self._received = b""
        self._next_id = 1
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(deadline)
            self._socket.connect(str(path))
            self.greeting = self._read(Deadline(deadline, f"the greeting of {path}"))
            self.execute("qmp_capabilities", deadline=deadline)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._socket.close()

    def execute(self, command, arguments=None, deadline=PATIENCE):
        """What the command returns; raises QmpError for an error."""
        request = {"execute": command, "id": self._next_id}
        if arguments is not None:
            request["arguments"] = arguments
        self._next_id += 1
        limit = Deadline(deadline, f"the answer to {command} on {self.path}")
        self._socket.settimeout(limit.left())
        self._socket.sendall(json.dumps(request).encode() + b"\r\n")
        while True:
            message = self._read(limit)
            if "event" in message:
                self.events.append(message)
                continue
            assert message.get("id") == request["id"], \
                f"an answer to something else: {message}"
            if "error" in message:
                raise QmpError(command, message["error"])
            return message["return"]

    def wait_event(self, name, matches=lambda data: True, deadline=PATIENCE):
        """The data of the next event of that name that matches.

        Events before it, of any name, are dropped."""
        limit = Deadline(deadline, f"event {name} on {self.path}")
        while True:
            if self.events:
                event = self.events.popleft()
            else:
                event = self._read(limit)
            if event.get("event") == name and matches(event.get("data", {})):
                return event.get("data", {})

    def _read(self, limit):
        while b"\n" not in self._received:
            self._socket.settimeout(limit.left())
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                raise TimedOut(f"waited {limit.seconds:g} s in vain for "
                               f"{limit.what}") from None
            if not chunk:
                raise QmpClosed(f"{self.path} closed while waiting for {limit.what}")
            self._received += chunk
        line, self._received = self._received.split(b"\n", 1)
        return json.loads(line)
